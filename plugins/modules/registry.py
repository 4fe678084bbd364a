#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the registry's container on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry
short_description: Run an image registry as a Docker container
version_added: 0.1.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - Runs the registry of the distribution project (version 3) as a container of the node's Docker daemon.
  - Renders its configuration file, creates its container, and waits until it answers.
  - The container is created again only when its image, its configuration or another of these options changes.
    What the registry stores is a directory of the node and stays, whatever happens to the container.
  - A container of this name that the module did not make is taken over, or removed, only when its images are in
    O(storage_path). Otherwise it is left as it is, and the task fails and names both directories.
notes:
  - The Docker daemon has to be that of the node the task runs on, since the configuration file and the storage are
    directories of this node and the registry is asked at C(127.0.0.1). A O(docker_host) elsewhere is refused.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.registry.docker
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(started) creates, starts or unpauses the container as needed, and waits until the registry answers.
      - V(stopped) stops the container, also a paused one, and keeps it. A container that does not exist is left so.
      - V(absent) removes the container and its configuration file. The stored images are kept.
    type: str
    choices: [started, stopped, absent]
    default: started
  name:
    description: Name of the container.
    type: str
    default: registry
  image:
    description: Reference of the registry's image in the Docker daemon. It is never pulled.
    type: str
    default: lumen-airgap/registry:3.1.2
  archive:
    description:
      - Path, on the node, of a tar made by C(docker save) that holds O(image).
      - It is loaded when the Docker daemon does not have O(image), since there is no registry yet to pull it from.
    type: path
  port:
    description: TCP port of the node on which the registry answers, from 1 to 65535.
    type: int
    default: 5000
  storage_path:
    description: Absolute path of the node's directory with the stored images. It is made when it does not exist.
    type: path
    default: /var/lib/registry
  config_path:
    description: Absolute path of the node's configuration file, written by this module and mounted read-only.
    type: path
    default: /etc/docker-registry/config.yml
  log_level:
    description: How much the registry logs.
    type: str
    choices: [error, warn, info, debug]
    default: info
  restart_policy:
    description: When Docker starts the container again by itself.
    type: str
    choices: ["no", on-failure, always, unless-stopped]
    default: always
  wait_timeout:
    description:
      - Seconds to wait for the registry to answer on C(http://127.0.0.1:<port>/v2/) of the node, more than 0.
    type: float
    default: 30.0
requirements:
  - PyYAML
  - requests (Python library)
seealso:
  - module: lumen.airgap.registry_image
"""

EXAMPLES = r"""
- name: Run the registry, loading its image the first time
  lumen.airgap.registry:
    archive: /opt/lumen-airgap/images/registry-3.1.2.tar

- name: Run it with more to read in its log
  lumen.airgap.registry:
    log_level: debug

- name: Stop it for maintenance of its storage
  lumen.airgap.registry:
    state: stopped
"""

RETURN = r"""
actions:
  description:
    - What was done, in order; in check mode what would be.
    - One of C(load image), C(write configuration), C(remove), C(create), C(start), C(unpause), C(stop),
      C(remove configuration).
  returned: success
  type: list
  elements: str
  sample: [write configuration, remove, create, start]
container:
  description: The container; null when there is none. In check mode as it is before the run.
  returned: success, and on failure when the container does not become healthy
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: registry
    id:
      description: Its ID.
      type: str
      sample: 9f0a3c6b1de2
    image:
      description: The image it runs.
      type: str
      sample: lumen-airgap/registry:3.1.2
    status:
      description: Docker's word for its state.
      type: str
      sample: running
    exit_code:
      description: Exit code of its last run.
      type: int
      sample: 0
    error:
      description: Docker's reason why it could not be started, or an empty string.
      type: str
      sample: ""
    started_at:
      description: When it was last started.
      type: str
      sample: "2026-03-01T09:30:00.123456789Z"
    restarts:
      description: How often Docker started it again by itself.
      type: int
      sample: 0
log:
  description: The last twenty lines that the container wrote.
  returned: when the container does not become healthy
  type: list
  elements: str
  sample: ["configuration error: error parsing /etc/distribution/config.yml"]
last_answer:
  description: What came of the last attempt to reach the registry.
  returned: when the container does not become healthy
  type: str
  sample: "the registry http://127.0.0.1:5000 cannot be reached: Connection refused."
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.docker import DEFAULT_HOST, DOCKER_TRACEBACK, Docker, is_local
from ..module_utils.adapters.node import Node
from ..module_utils.adapters.registry import REQUESTS_TRACEBACK
from ..module_utils.entry import missing, run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import ABSOLUTE, PORT, SECONDS, check_ranges
from ..module_utils.services.registry import YAML_TRACEBACK, RegistryContainer, Settings
from ..module_utils.times import SystemClock

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "name": {"type": "str", "default": "registry"},
    "image": {"type": "str", "default": "lumen-airgap/registry:3.1.2"},
    "archive": {"type": "path"},
    "port": {"type": "int", "default": 5000},
    "storage_path": {"type": "path", "default": "/var/lib/registry"},
    "config_path": {"type": "path", "default": "/etc/docker-registry/config.yml"},
    "log_level": {"type": "str", "choices": ["error", "warn", "info", "debug"], "default": "info"},
    "restart_policy": {
        "type": "str",
        "choices": ["no", "on-failure", "always", "unless-stopped"],
        "default": "always",
    },
    "wait_timeout": {"type": "float", "default": 30.0},
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
}
RANGES = {"port": PORT, "storage_path": ABSOLUTE, "config_path": ABSOLUTE, "wait_timeout": SECONDS}


def settings(params: dict[str, Any]) -> Settings:
    """The options as the service takes them; paths as Docker will report them."""
    return Settings(
        name=params["name"],
        image=params["image"],
        archive=params["archive"],
        port=params["port"],
        storage_path=os.path.normpath(params["storage_path"]),
        config_path=os.path.normpath(params["config_path"]),
        log_level=params["log_level"],
        restart_policy=params["restart_policy"],
        wait_timeout=params["wait_timeout"],
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    missing(module, "requests", REQUESTS_TRACEBACK)
    missing(module, "docker", DOCKER_TRACEBACK)
    missing(module, "PyYAML", YAML_TRACEBACK)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        host = module.params["docker_host"]
        if not is_local(host):
            raise AirgapError(
                f"docker_host is {host}, a daemon of another machine: the configuration file, the storage and the "
                "health check are this node's. Run the task on the node that the daemon is on"
            )
        docker = Docker.connect(host)
        container = RegistryContainer(settings(module.params), docker, Node(), SystemClock(), module.check_mode)
        return container.ensure(module.params["state"])

    run_module(module, call)


if __name__ == "__main__":
    main()

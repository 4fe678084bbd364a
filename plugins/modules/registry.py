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
  - The container is created again, once, when its image, its configuration, its certificate or another of these
    options changes, and only then. Requests under way get some seconds to end, and an upload goes on afterwards.
  - What the registry stores is a directory of the node and stays, whatever happens to the container.
  - A container of this name that the module did not make is taken over, or removed, only when its images are in
    O(storage_path). Otherwise it is left as it is, and the task fails and names both directories.
notes:
  - The Docker daemon has to be that of the node the task runs on, since the configuration file and the storage are
    directories of this node and the registry is asked at C(127.0.0.1). A O(docker_host) elsewhere is refused.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.progress
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
      - V(absent) removes the container, its configuration file and its users. The stored images are kept unless
        O(purge) is set.
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
    description:
      - Absolute path of the node's configuration file, written by this module and mounted read-only.
      - It holds the secret that the registry signs uploads with, made once and kept, so its mode is 0600.
      - The file with O(users) is in a directory beside it, C(config.auth/htpasswd) with the default, mode 0600 too.
    type: path
    default: /etc/docker-registry/config.yml
  tls:
    description:
      - The registry's certificate. Without it the registry speaks plain HTTP.
      - Before anything is changed, the pair is tried as a client would; one that has expired is refused.
      - The registry is made again when another certificate is at the same path.
    type: dict
    suboptions:
      certificate:
        description:
          - Absolute path, on the node, of the certificate in PEM form, with those between it and its CA behind it.
        type: path
        required: true
      key:
        description: Absolute path, on the node, of its key in PEM form, without a passphrase.
        type: path
        required: true
  users:
    description:
      - Who may use the registry, with all rights. When there are none, everybody may.
      - They are everybody there is; a user that is not in the list is removed. Passwords are kept as bcrypt hashes,
        and the hash of a password that has not changed stays as it is.
      - The registry takes up a change of users at once, it is not restarted.
      - Without O(tls) passwords can be read on the network.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user, without a colon or a space.
        type: str
        required: true
      password:
        description: The user's password, from 1 to 72 bytes.
        type: str
        required: true
  delete_enabled:
    description:
      - Whether images can be deleted.
      - The default is V(true), since an airgapped node's disk ends and M(lumen.airgap.registry_image) cannot keep only
        the last images otherwise. Who may push can replace every tag in any case; O(users) and O(read_only) are
        what protects images.
    type: bool
    default: true
  read_only:
    description: Whether the registry takes no images and deletes none.
    type: bool
    default: false
  memory:
    description:
      - Memory that the container may use, in bytes or with a unit (V(512M), V(1G)), at least V(6M).
      - Garbage is collected within this limit. No limit when it is not set.
    type: bytes
  cpus:
    description: How many CPUs' worth of time the container may use, at least V(0.01). No limit when it is not set.
    type: float
  garbage_collect:
    description:
      - Whether to free what no image refers to any more, once the registry runs as it should. Only with
        O(state=started).
      - Looks first, while the registry works; when there is nothing to free, nothing else is done. Otherwise the
        registry is made read-only, collects, and is made again as it should be, also when collecting fails. When the
        module is killed in between, its next run, with or without this option, does that.
      - Every manifest stays, tagged or not, with all it refers to, so the children of an index do. Delete images
        with M(lumen.airgap.registry_image) first.
      - A push that is under way meanwhile fails and can be run again.
    type: bool
    default: false
  garbage_collect_timeout:
    description: Seconds that looking for garbage, and then freeing it, may take, more than 0.
    type: float
    default: 1800.0
  purge:
    description:
      - Whether to remove the stored images too. Only with O(state=absent).
      - Removes what a registry wrote under O(storage_path), and that directory when nothing else is in it.
    type: bool
    default: false
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
      - With O(tls) it has to show the certificate it was given, whatever name is in that. With O(users) it has to ask
        for a password.
    type: float
    default: 30.0
requirements:
  - PyYAML
  - bcrypt (Python library), when there are O(users)
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

- name: Run it with TLS and users
  lumen.airgap.registry:
    tls:
      certificate: /etc/docker-registry/tls/registry.crt
      key: /etc/docker-registry/tls/registry.key
    users:
      - name: ci
        password: "{{ vault_registry_ci }}"
      - name: nodes
        password: "{{ lookup('ansible.builtin.file', '~/lumen-airgap/secrets/registry-nodes') }}"

- name: Free what was deleted
  lumen.airgap.registry:
    garbage_collect: true
  register: registry

- name: Stop it for maintenance of its storage
  lumen.airgap.registry:
    state: stopped

- name: Remove it with all images
  lumen.airgap.registry:
    state: absent
    purge: true
"""

RETURN = r"""
actions:
  description:
    - What was done, in order; in check mode what would be.
    - One of C(load image), C(write users), C(write configuration), C(remove), C(create), C(start), C(unpause),
      C(remove users), C(switch to read-only), C(collect), C(switch back), C(stop), C(remove configuration), C(purge).
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
garbage:
  description:
    - What was freed; in check mode what would be.
    - In check mode null when the registry does not run on its storage as it should, and cannot be asked.
  returned: when O(garbage_collect) is set
  type: dict
  contains:
    blobs:
      description: Number of blobs.
      type: int
      sample: 12
    bytes:
      description: What the storage holds less. In check mode the bytes in those blobs.
      type: int
      sample: 104857600
log:
  description: The last twenty lines that the container wrote, or its collector.
  returned: when the container does not become healthy, and when the collection of garbage fails
  type: list
  elements: str
  sample: ["configuration error: error parsing /etc/distribution/config.yml"]
last_answer:
  description: What came of the last attempt to reach the registry.
  returned: when the container does not become healthy
  type: str
  sample: "http://127.0.0.1:5000/v2/ cannot be reached: Connection refused"
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.docker import DEFAULT_HOST, DOCKER_TRACEBACK, Docker, is_local
from ..module_utils.adapters.htpasswd import BCRYPT_TRACEBACK, User
from ..module_utils.adapters.node import Node
from ..module_utils.entry import missing, run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import ABSOLUTE, PORT, PROGRESS_OPTIONS, SECONDS, Range, check_ranges
from ..module_utils.progress import progress_to
from ..module_utils.services.registry import YAML_TRACEBACK, RegistryContainer, Settings, Tls
from ..module_utils.services.registry_garbage import Collection
from ..module_utils.times import SystemClock

ARGUMENT_SPEC = {
    **PROGRESS_OPTIONS,
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "name": {"type": "str", "default": "registry"},
    "image": {"type": "str", "default": "lumen-airgap/registry:3.1.2"},
    "archive": {"type": "path"},
    "port": {"type": "int", "default": 5000},
    "storage_path": {"type": "path", "default": "/var/lib/registry"},
    "config_path": {"type": "path", "default": "/etc/docker-registry/config.yml"},
    "tls": {
        "type": "dict",
        "options": {"certificate": {"type": "path", "required": True}, "key": {"type": "path", "required": True}},
    },
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
        },
    },
    "delete_enabled": {"type": "bool", "default": True},
    "read_only": {"type": "bool", "default": False},
    "memory": {"type": "bytes"},
    "cpus": {"type": "float"},
    "garbage_collect": {"type": "bool", "default": False},
    "garbage_collect_timeout": {"type": "float", "default": 1800.0},
    "purge": {"type": "bool", "default": False},
    "log_level": {"type": "str", "choices": ["error", "warn", "info", "debug"], "default": "info"},
    "restart_policy": {
        "type": "str",
        "choices": ["no", "on-failure", "always", "unless-stopped"],
        "default": "always",
    },
    "wait_timeout": {"type": "float", "default": 30.0},
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
}
_MEBIBYTE = 1024 * 1024
RANGES = {
    "port": PORT,
    "storage_path": ABSOLUTE,
    "config_path": ABSOLUTE,
    "tls.certificate": ABSOLUTE,
    "tls.key": ABSOLUTE,
    "memory": Range("at least 6 MiB, Docker's own limit", lambda value: value >= 6 * _MEBIBYTE),
    "cpus": Range("at least 0.01 (Docker's own limit) and at most 1024", lambda value: 0.01 <= value <= 1024),
    "wait_timeout": SECONDS,
    "garbage_collect_timeout": SECONDS,
}


def settings(params: dict[str, Any]) -> Settings:
    """The options as the service takes them; paths as Docker will report them."""
    tls = params["tls"]
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
        tls=tls and Tls(os.path.normpath(tls["certificate"]), os.path.normpath(tls["key"])),
        users=tuple(User(user["name"], user["password"]) for user in params["users"]),
        delete_enabled=params["delete_enabled"],
        read_only=params["read_only"],
        memory=params["memory"],
        cpus=params["cpus"],
        purge=params["purge"],
    )


def check_state(params: dict[str, Any]) -> None:
    """Refuse what goes with another state, rather than leave it undone in silence."""
    for option, state in (("garbage_collect", "started"), ("purge", "absent")):
        if params[option] and params["state"] != state:
            raise AirgapError(f"The option {option} goes with state {state}, not with {params['state']}")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    missing(module, "docker", DOCKER_TRACEBACK)
    missing(module, "PyYAML", YAML_TRACEBACK)
    if module.params["users"]:
        missing(module, "bcrypt", BCRYPT_TRACEBACK)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        check_state(module.params)
        host = module.params["docker_host"]
        if not is_local(host):
            raise AirgapError(
                f"docker_host is {host}, a daemon of another machine: the configuration file, the storage and the "
                "health check are this node's. Run the task on the node that the daemon is on"
            )
        docker = Docker.connect(host)
        node, wanted = Node(), settings(module.params)

        def ensure(settings: Settings) -> dict[str, Any]:
            container = RegistryContainer(settings, docker, node, SystemClock(), module.check_mode)
            return container.ensure(module.params["state"])

        if not module.params["garbage_collect"]:
            return ensure(wanted)
        timeout = module.params["garbage_collect_timeout"]
        progress = progress_to(module.params["progress_path"])
        return Collection(wanted, ensure, docker, node, timeout, module.check_mode, progress).run()

    run_module(module, call)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A runner of Gitea's actions in the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: act_runner
short_description: Run a runner of Gitea's actions in the cluster, on one node
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - A Deployment with one pod on the node O(node), which runs jobs in containers of that node's Docker.
  - The registration token is minted through Gitea's API and kept in a Secret. The runner reads it from a file; it is on
    no command line and in no log.
  - Returns when Gitea itself reports the runner online with its labels. A pod that cannot start, such as on a node that
    does not exist, is told within seconds.
  - The state of the runner is on its node, so a new pod is the same runner and leaves no dead record. Records of its
    name that are offline are removed; nobody else's are.
  - Without any record in Gitea, and with another O(instance_url), O(scope) or O(runner_name), it registers anew. A
    record in another scope stays there.
  - V(absent) lets the runner finish its jobs first.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.gitea
  - lumen.airgap.progress
attributes:
  check_mode:
    support: full
    details:
      - The registration token is not asked for, since that may make one.
  diff_mode:
    support: full
    details:
      - What the Secret holds is hidden.
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) has the runner online.
      - V(absent) disables it in Gitea, waits until it is not busy, and removes its objects and its record.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the Deployment, its ConfigMap and its Secret, and the label C(app) of the pod.
    type: str
    default: act-runner
  namespace:
    description: Namespace of the objects. It has to exist.
    type: str
    default: gitea
  image:
    description: Image of the runner, C(gitea/runner) or its predecessor C(gitea/act_runner).
    type: str
    default: 192.168.2.2:5000/gitea/runner:1.0.8
  binary:
    description:
      - The program in the image.
      - Default is V(act_runner) for an image whose name ends in C(/act_runner), V(gitea-runner) for others.
    type: str
  node:
    description: The node, by its label C(kubernetes.io/hostname), whose Docker runs the jobs.
    type: str
    default: node-1
  scope:
    description:
      - Whose jobs it runs, V(owner/repository), the name of an organization, or V(instance) for all.
      - O(gitea.token) needs the scope C(write:repository), C(write:organization) or C(write:admin) for it, and its
        owner has to own the repository or the organization, or be an administrator.
    type: str
    required: true
  runner_name:
    description: Its name in Gitea. Default is O(name).
    type: str
  labels:
    description: >-
      What C(runs-on) of a job may name, each as C(name:docker://image) or C(name:host). C(docker) jobs run in a
      container of that image.
    type: list
    elements: str
    default: ['ubuntu-latest:docker://192.168.2.2:5000/lumen-api:builder']
  instance_url:
    description:
      - The URL that the runner registers with. It becomes C(GITHUB_SERVER_URL) in jobs, whose containers are beside
        the cluster, so it has to be that of Gitea's NodePort. Names of the cluster's DNS are refused.
      - Default is O(gitea.url).
    type: str
  capacity:
    description: How many jobs it runs at once, at least 1.
    type: int
    default: 1
  job_timeout:
    description: How long a job may take, in seconds.
    type: int
    default: 3600
  drain_timeout:
    description:
      - How long jobs that run may take to end before the runner is removed, in seconds. After that the task fails, and
        the runner stays, disabled.
      - A pod that is replaced, because an option changed, also waits so long for them; then they are cancelled.
    type: int
    default: 600
  wait_timeout:
    description: How long until the runner has to be online, in seconds.
    type: int
    default: 180
  state_path:
    description: Directory of the node for the runner's state. It is made.
    type: str
    default: /var/lib/act-runner
  trivy_cache:
    description: Directory of the node with the databases of Trivy. Jobs have it under the same path.
    type: str
    default: /var/cache/trivy
  network:
    description: Docker network of the jobs. Without it each job has one of its own.
    type: str
    default: ''
requirements:
  - Gitea 1.26 or newer
seealso:
  - module: lumen.airgap.gitea_repository
"""

EXAMPLES = r"""
- name: A runner for one repository
  lumen.airgap.act_runner:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    scope: lumen/lumen
    node: node-1
    labels:
      - ubuntu-latest:docker://192.168.2.2:5000/lumen-api:builder

- name: No runner any more
  lumen.airgap.act_runner:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    scope: lumen/lumen
    state: absent
"""

RETURN = r"""
runner:
  description: The runner as Gitea reports it. Empty when there is none, and in check mode when there is none yet.
  returned: success
  type: dict
  contains:
    id:
      description: Its number in Gitea.
      type: int
      sample: 3
    name:
      description: Its name in Gitea.
      type: str
      sample: act-runner
    status:
      description: Whether Gitea hears of it, V(online) or V(offline).
      type: str
      sample: online
    labels:
      description: Names of its labels.
      type: list
      elements: str
      sample: [ubuntu-latest]
pruned:
  description: Numbers of the records that were removed from Gitea, or would be.
  returned: success
  type: list
  elements: int
  sample: [1]
changes:
  description: What was done to each object, or would be.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      sample: Deployment
    namespace:
      description: Its namespace.
      type: str
      sample: gitea
    name:
      description: Its name.
      type: str
      sample: act-runner
    action:
      description: V(created), V(updated), V(unchanged) or V(deleted).
      type: str
      sample: created
    verified:
      description: Whether the API server was asked. Not in check mode when the namespace is not there yet.
      type: bool
      sample: true
runners:
  description: The runners of its name as Gitea reported them last.
  returned: when it did not come online, or did not end its jobs
  type: list
  elements: dict
  sample:
    - id: 3
      name: act-runner
      status: offline
      labels: [ubuntu-latest]
waiting:
  description: What the pod's objects said last.
  returned: when its pod does not become ready
  type: list
  elements: dict
  sample:
    - kind: Deployment
      namespace: gitea
      name: act-runner
      message: 0 of 1 updated, 0 available
"""

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.gitea import Gitea, Scope
from ..module_utils.adapters.kube.session import Session
from ..module_utils.engines.actions.runner import Runner, RunnerError, default_binary
from ..module_utils.entry import run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import (
    ABSOLUTE,
    GITEA_OPTIONS,
    GITEA_RANGES,
    KUBE_OPTIONS,
    PROGRESS_OPTIONS,
    SECONDS,
    Range,
    check_ranges,
)
from ..module_utils.progress import progress_to
from ..module_utils.services.act_runner import ActRunner
from ..module_utils.times import Clock, SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **GITEA_OPTIONS,
    **PROGRESS_OPTIONS,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "name": {"type": "str", "default": "act-runner"},
    "namespace": {"type": "str", "default": "gitea"},
    "image": {"type": "str", "default": "192.168.2.2:5000/gitea/runner:1.0.8"},
    "binary": {"type": "str"},
    "node": {"type": "str", "default": "node-1"},
    "scope": {"type": "str", "required": True},
    "runner_name": {"type": "str"},
    "labels": {
        "type": "list",
        "elements": "str",
        "default": ["ubuntu-latest:docker://192.168.2.2:5000/lumen-api:builder"],
    },
    "instance_url": {"type": "str"},
    "capacity": {"type": "int", "default": 1},
    "job_timeout": {"type": "int", "default": 3600},
    "drain_timeout": {"type": "int", "default": 600},
    "wait_timeout": {"type": "int", "default": 180},
    "state_path": {"type": "str", "default": "/var/lib/act-runner"},
    "trivy_cache": {"type": "str", "default": "/var/cache/trivy"},
    "network": {"type": "str", "default": ""},
}
RANGES = {
    **GITEA_RANGES,
    "capacity": Range("at least 1", lambda value: value >= 1),
    "job_timeout": SECONDS,
    "drain_timeout": SECONDS,
    "wait_timeout": SECONDS,
    "state_path": ABSOLUTE,
    "trivy_cache": ABSOLUTE,
}


def run(
    params: dict[str, Any],
    session: Session,
    gitea: Gitea,
    clock: Clock,
    progress: Callable[[str], None] = lambda line: None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    runner = Runner(
        name=params["name"],
        namespace=params["namespace"],
        image=params["image"],
        binary=params["binary"] or default_binary(params["image"]),
        node=params["node"],
        instance_url=(params["instance_url"] or params["gitea"]["url"]).rstrip("/"),
        runner_name=params["runner_name"] or params["name"],
        labels=params["labels"],
        capacity=params["capacity"],
        job_timeout=params["job_timeout"],
        drain_timeout=params["drain_timeout"],
        state_path=params["state_path"],
        trivy_cache=params["trivy_cache"],
        network=params["network"],
        insecure=not params["gitea"]["validate_certs"],
    )
    try:
        service = ActRunner(session, gitea, Scope(params["scope"]), runner, clock, progress, dry_run)
    except RunnerError as error:
        raise AirgapError(str(error)) from error
    if params["state"] == "absent":
        return service.absent(params["drain_timeout"])
    return service.present(params["wait_timeout"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        session = Session.connect(module.params["kubeconfig"], module.params["context"])
        gitea = Gitea.connect(module.params["gitea"])
        progress = progress_to(module.params["progress_path"])
        return run(module.params, session, gitea, SystemClock(), progress, module.check_mode)

    run_module(module, call)


if __name__ == "__main__":
    main()

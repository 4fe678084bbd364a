#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts as they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_info
short_description: Show Rollouts as data, and as the kubectl plugin prints them
version_added: 0.4.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Reads Rollouts of any strategy with their ReplicaSets, pods, Experiments and AnalysisRuns.
  - RV(rollouts[].tree) is the text of C(kubectl argo rollouts get rollout), colours aside.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.kube.patience
attributes:
  check_mode:
    support: full
    details:
      - It only reads.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description: Name of a Rollout.
    type: str
  names:
    description: Names of several Rollouts. Without O(name) and O(names), all of the namespace.
    type: list
    elements: str
  namespace:
    description: Namespace of the Rollouts.
    type: str
    required: true
  query:
    description: A JMESPath expression, applied to the result and returned in RV(query_result).
    type: str
requirements:
  - jmespath (Python library, for O(query))
seealso:
  - module: lumen.airgap.rollout
"""

EXAMPLES = r"""
- name: Look at a Rollout
  lumen.airgap.rollout_info:
    name: lumen-api
    namespace: lumen
  register: found

- name: Show it
  ansible.builtin.debug:
    msg: "{{ found.rollouts[0].tree.splitlines() }}"

- name: Names of what is not well
  lumen.airgap.rollout_info:
    namespace: lumen
    query: rollouts[?phase!='Healthy'].name
"""

RETURN = r"""
rollouts:
  description: The Rollouts that are there, in the order of O(names).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: lumen-api
    namespace:
      description: Its namespace.
      type: str
      sample: lumen
    phase:
      description: V(Healthy), V(Paused), V(Progressing) or V(Degraded), as a client of Argo Rollouts says it.
      type: str
      sample: Degraded
    message:
      description: What is said about the phase.
      type: str
      sample: 'RolloutAborted: Rollout aborted update to revision 3'
    strategy:
      description: V(Canary) or V(BlueGreen).
      type: str
      sample: Canary
    step:
      description: Index of the step in progress, from 0, and how many there are. Null without steps.
      type: dict
      sample:
        index: 1
        count: 5
    set_weight:
      description: Weight in force, in percent. Null for V(BlueGreen).
      type: int
      sample: 20
    actual_weight:
      description: Share of the canary in the available pods, or what the router has, in percent. Null for V(BlueGreen).
      type: int
      sample: 33
    images:
      description: Images of the ReplicaSets that have pods, each with what they are.
      type: list
      elements: dict
      sample:
        - image: 192.168.2.2:5000/lumen-api:v1.1.0
          tags: [stable]
    replicas:
      description: Numbers of pods.
      type: dict
      sample:
        desired: 2
        current: 3
        updated: 1
        ready: 3
        available: 3
    hash:
      description: Hash of the newest pod template.
      type: str
      sample: 64bdf7c984
    stable_hash:
      description: Hash of the pod template that is stable.
      type: str
      sample: b67698557
    newest_images:
      description: Images of the newest pod template, whether it has pods or not.
      type: list
      elements: str
      version_added: 0.5.0
      sample: ["192.168.2.2:5000/lumen-api:v1.2.0"]
    stable_images:
      description: Images of the pod template that is stable.
      type: list
      elements: str
      version_added: 0.5.0
      sample: ["192.168.2.2:5000/lumen-api:v1.1.0"]
    revision:
      description: Its revision.
      type: str
      sample: "3"
    observed:
      description: Whether the controller has looked at the newest generation. The rest is of an older one until then.
      type: bool
      sample: true
    aborted:
      description: Whether an abort was asked for.
      type: bool
      sample: false
    pauses:
      description: Why it is paused.
      type: list
      elements: str
      sample: [CanaryPauseStep]
    created:
      description: When it was made, RFC 3339 in UTC. Parts of it have the same field.
      type: str
      sample: "2026-01-01T00:00:00Z"
    replica_sets:
      description: Its ReplicaSets with their pods, the newest revision first.
      type: list
      elements: dict
      sample:
        - name: lumen-api-b67698557
          revision: 2
          hash: b67698557
          phase: Healthy
          roles: [stable]
          template: ""
          replicas: 1
          available: 1
          images: ["192.168.2.2:5000/lumen-api:v1.1.0"]
          scale_down_deadline: ""
          created: "2026-01-01T00:00:00Z"
          pods:
            - name: lumen-api-b67698557-nvpjd
              phase: Running
              ready: 1
              containers: 1
              restarts: 0
              created: "2026-01-01T00:00:00Z"
    experiments:
      description: Its Experiments, with ReplicaSets and AnalysisRuns of their own.
      type: list
      elements: dict
      sample: []
    analysis_runs:
      description:
        - Its AnalysisRuns with the numbers of their measurements, the newest revision first.
        - A run that was terminated says C(Successful) whatever it has measured, and has not C(passed).
      type: list
      elements: dict
      sample:
        - name: lumen-api-64bdf7c984-3-1
          revision: 3
          step: 1
          phase: Successful
          message: Run Terminated
          terminated: true
          passed: false
          successful: 2
          failed: 1
          inconclusive: 0
          error: 0
          created: "2026-01-01T00:00:00Z"
          jobs: []
    tree:
      description: What the kubectl plugin prints.
      type: str
      sample: "Name:            lumen-api\nNamespace:       lumen\nStatus:          ✔ Healthy\n"
missing:
  description: Those of O(names) that are not there.
  returned: always
  type: list
  elements: str
  sample: []
query_result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: [lumen-api]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.patience import Patience
from ..module_utils.adapters.kube.session import Session
from ..module_utils.entry import Task, run_task
from ..module_utils.options import KUBE_OPTIONS, PATIENCE_OPTIONS, PATIENCE_RANGES, check_ranges
from ..module_utils.query import QUERY_OPTIONS, compile_query
from ..module_utils.services.rollout import statuses
from ..module_utils.times import Clock, SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **PATIENCE_OPTIONS,
    **QUERY_OPTIONS,
    "name": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "namespace": {"type": "str", "required": True},
}
MUTUALLY_EXCLUSIVE = [("name", "names")]
SPEC: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC, "mutually_exclusive": MUTUALLY_EXCLUSIVE}


def rollout_info(params: dict[str, Any], session: Session, clock: Clock) -> dict[str, Any]:
    """What the module returns, for its validated parameters."""
    names = [params["name"]] if params["name"] else params["names"]
    # An empty list of names asks for none of them.
    found = [] if names == [] else statuses(session, params["namespace"], names or [], clock.time())
    there = {status["name"] for status in found}
    return {"changed": False, "rollouts": found, "missing": [name for name in names or () if name not in there]}


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    check_ranges(task.params, PATIENCE_RANGES)
    shape = compile_query(task.params["query"])
    clock = SystemClock()
    patience = Patience(clock, task.params["patience"], task.tell, task.check)
    session = Session.connect(task.params["kubeconfig"], task.params["context"]).patient(patience)
    return shape(rollout_info(task.params, session, clock))


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

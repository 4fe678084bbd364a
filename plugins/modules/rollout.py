#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action rollout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Promote, abort, retry or restart Rollouts, and wait for what comes of it
version_added: 0.4.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Does to a Rollout, or to several, what the kubectl plugin of Argo Rollouts does, with the same patches. What is done
    already, or has nothing to be done to, changes nothing.
  - Waits until each has come to a phase, a step or the end of its change, and prints its steps, pods, measurements and
    verdicts while it waits. One watch of each kind serves all of them.
  - A wait believes a phase only when the controller has looked at the newest generation and at the last verb. For some
    200 ms after a change a Rollout says C(Healthy) of the version before.
  - A wait ends at once when a Rollout is aborted meanwhile, unless that is what it waits for.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.action
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
attributes:
  check_mode:
    support: full
    details:
      - Refuses what a run would refuse. Nothing is waited for but the controller's look at the present generation.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A second V(promote) promotes the next step, unless O(at_step) says which one is meant.
      - V(restart) restarts again, unless O(restart_at) says when.
options:
  name:
    description: Name of the Rollout. One of O(name) and O(names) is needed.
    type: str
  names:
    description:
      - Names of several Rollouts.
      - When O(verb) is refused for one of them, it is done to none.
    type: list
    elements: str
  namespace:
    description: Namespace of the Rollouts.
    type: str
    required: true
  verb:
    description:
      - What to do. One of O(verb), O(wait) and O(wait_step) is needed at least.
      - V(promote) ends a pause, or skips the rest of the step in progress, an analysis too, as
        RV(rollouts[].skipped_steps) says. A Rollout that was paused by hand goes on as well, which changes its spec.
      - V(promote_full) skips all steps that are left.
      - V(abort) takes the canary back. Its version stays in the template, and in Git.
      - V(retry) starts an aborted version again from its first step. It does not bring stable back.
      - V(restart) restarts all pods, without a new version. It sets C(spec.restartAt).
      - An aborted Rollout is neither promoted nor restarted, for any touch of its spec may start the bad version again.
    type: str
    choices: [promote, promote_full, abort, retry, restart]
  at_step:
    description:
      - Promote only when the Rollout is at the step with this index, from 0.
      - When it is past it, nothing changes. When it has not come to it yet, the task fails. Only with O(verb=promote).
    type: int
  restart_at:
    description:
      - Restart the pods that are older than this, as in RFC 3339.
      - Without it, all that are there now. Only with O(verb=restart).
    type: str
  wait:
    description:
      - What to wait for, after the verb. One of them is enough.
      - V(Healthy) is resting on its newest template, whichever it is, V(promoted) the same by the way of its steps. An
        aborted Rollout that Git takes back becomes V(Healthy), and a wait for V(promoted) fails at once.
      - V(aborted) is V(Degraded) by an abort. V(Paused) is at a step C(pause) or after an inconclusive analysis.
      - An abort that finds nothing in progress waits for nothing, healthy or not.
    type: list
    elements: str
    choices: [Healthy, Paused, Progressing, Degraded, aborted, promoted]
    default: []
  wait_step:
    description:
      - Wait until the step with this index, from 0, has begun or is over.
      - Beside O(wait), one of them is enough.
    type: int
  image:
    description:
      - Image that a container of the template must have as well, for what has been waited for to count.
      - With it, a change that Git has not brought yet is waited for too.
    type: str
  timeout:
    description: How long to wait, in seconds. As long is an API server waited for that is away while a verb is done.
    type: float
    default: 300.0
  quiet:
    description: Whether to print nothing while it runs.
    type: bool
    default: false
  query:
    description: A JMESPath expression, applied to the result and returned in RV(query_result).
    type: str
requirements:
  - jmespath (Python library, for O(query))
seealso:
  - module: lumen.airgap.rollout_info
  - module: lumen.airgap.canary
"""

EXAMPLES = r"""
- name: Promote the canary at its first pause, and wait for the second
  lumen.airgap.rollout:
    name: lumen-api
    namespace: lumen
    verb: promote
    at_step: 1
    wait: [Paused]

- name: Abort it
  lumen.airgap.rollout:
    name: lumen-api
    namespace: lumen
    verb: abort
    wait: [aborted]

- name: Wait for all of them
  lumen.airgap.rollout:
    names: [lumen-api, lumen-web, lumen-worker]
    namespace: lumen
    wait: [promoted]
    timeout: 1800

- name: Restart its pods
  lumen.airgap.rollout:
    name: lumen-api
    namespace: lumen
    verb: restart
    wait: [Healthy]
"""

RETURN = r"""
rollouts:
  description: What was done to each, and what is there now.
  returned: always
  type: list
  elements: dict
  contains:
    changed:
      description: Whether it was changed.
      type: bool
      sample: true
    message:
      description: What was done, or why nothing was. Empty without O(verb).
      type: str
      sample: skips step 2/5 analysis
    skipped_steps:
      description: Steps that the verb has not let run to their end, with the AnalysisRun that it ended.
      type: list
      elements: dict
      sample:
        - index: 1
          kind: analysis
          run: lumen-api-64bdf7c984-3-1
    status:
      description: The Rollout, as RV(lumen.airgap.rollout_info#module:rollouts).
      type: dict
      sample:
        name: lumen-api
        namespace: lumen
        phase: Progressing
        message: more replicas need to be updated
        step:
          index: 2
          count: 5
        set_weight: 80
        actual_weight: 33
waiting:
  description: Names of the Rollouts that are not what was waited for.
  returned: when that is why it failed
  type: list
  elements: str
  sample: [lumen-api]
query_result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: Healthy
"""

#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action canary."""

from __future__ import annotations

DOCUMENTATION = r"""
module: canary
short_description: Release an app by a canary that promotes itself or rolls itself back
version_added: 0.1.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Follows a canary of Argo Rollouts live, with its steps, set and actual weights, pods and every measurement of its
    AnalysisRuns, and prints a line for each.
  - Changes the image itself when O(image) is given; otherwise it follows the change in progress, made by Git for
    example.
  - Runs its own gate at each step C(pause) without a duration, and promotes or aborts by its verdict.
  - Lints the Rollout and its analyses before anything is changed, with the rules of M(lumen.airgap.rehearsal). Errors
    are refused, warnings are printed and returned in RV(lint).
  - When the canary fails it is aborted, the stable image is restored if O(image) was given, and it is verified that
    only stable pods are left behind the Services. Where an Application of Argo CD keeps the Rollout, its spec is never
    touched; RV(advice) says that Git has to go back. A pod that cannot start ends the release within seconds, and each
    step has a deadline.
  - A run that was killed is taken up by the next one with the same O(release), at the same pod template hash, step and
    AnalysisRun.
  - With O(driver=deployment) there is no controller. The app is a plain Deployment, and the steps are done here, by a
    second Deployment beside it.
  - Steps V(setCanaryScale), V(setHeaderRoute) and V(setMirrorRoute), and C(trafficRouting), are refused. Steps
    V(experiment) and V(plugin) are waited for; a Deployment cannot have them.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.action
  - lumen.airgap.attributes.cluster
  - lumen.airgap.gate.suboptions
  - lumen.airgap.kube
  - lumen.airgap.prometheus
attributes:
  check_mode:
    support: partial
    details:
      - Refuses what a run would refuse, and returns the steps with their pod counts. The verdict is not predicted.
      - Touches nothing and takes no Lease.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - An image that is running already and healthy is not released again.
options:
  name:
    description: Name of the Rollout, or of the Deployment.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    required: true
  driver:
    description:
      - What moves the pods.
      - V(rollout) follows the controller of Argo Rollouts.
      - V(deployment) does O(steps) by itself. It makes a Deployment C(NAME-canary) with the same pods but for O(image),
        behind the same Service, and shifts replicas between the two, within C(maxSurge) and C(maxUnavailable) of the
        Deployment. When all steps are over, the Deployment gets O(image) and its replicas back, and the canary goes.
        When anything fails, the canary goes, and the template is as it was.
      - V(deployment) refuses a Deployment that Argo CD tracks, that an autoscaler scales, that is paused, that is still
        rolling out another change, or that has the strategy V(Recreate).
    type: str
    choices: [rollout, deployment]
    default: rollout
    version_added: 0.4.0
  steps:
    description:
      - The steps, in the form of a Rollout's C(spec.strategy.canary.steps) with C(setWeight), C(pause) and C(analysis).
      - Required with O(driver=deployment). A release that is taken up goes on with the steps that it began with.
      - With O(driver=rollout) the controller does the Rollout's own. Steps that are given and are not the same are
        refused.
    type: list
    elements: dict
    version_added: 0.4.0
  analysis:
    description:
      - An analysis beside the steps, in the form of a Rollout's C(spec.strategy.canary.analysis) with C(templates),
        C(args) and C(startingStep). It ends with the promotion.
      - With O(driver=rollout) it has to be the Rollout's own.
    type: dict
    version_added: 0.4.0
  image:
    description:
      - Image to release, as it is to stand in the container.
      - Without it, the change in progress is followed and nothing in the Rollout's template is touched.
      - With O(driver=deployment), a change in progress is one that a run before this one has begun.
    type: str
  container:
    description:
      - Name of the container whose image is released.
      - Without it, the only container, or the one named like the app.
    type: str
  digest:
    description:
      - Digest that all pods must run, for example V(sha256:4bc4...).
      - A canary whose first ready pods run another one is taken back at once.
    type: str
  service:
    description:
      - Name of the common Service, that sends to stable and canary pods alike.
      - Without it, the Service named like the app, if there is one.
    type: str
  step_deadline:
    description:
      - How long one step may take, in seconds, more than 0. A pause has its duration on top.
      - The controller's reaction to a change and the way back have the same time each.
      - An analysis or a O(gate) that takes longer when all is well is refused before anything is changed.
    type: float
    default: 900.0
  scrape_interval:
    description:
      - Seconds between two scrapes of the app's metrics, more than 0. The lint wants windows of at least two.
      - The default is that of kube-prometheus-stack.
    type: float
    default: 30.0
    version_added: 0.4.0
  on_failure:
    description: Whether a canary that failed is taken back (V(rollback)), or left as it is (V(leave)).
    type: str
    choices: [rollback, leave]
    default: rollback
  on_inconclusive:
    description:
      - What an inconclusive analysis of the controller, or an inconclusive gate, means.
      - V(abort) takes the canary back, for a release that runs by itself has nobody to ask.
      - V(pause) is what Argo Rollouts does. The canary stays paused, and O(step_deadline) begins anew for somebody to
        promote it or to abort it, for example with M(lumen.airgap.rollout).
    type: str
    choices: [abort, pause]
    default: abort
    version_added: 0.4.0
  consecutive_failure_limit:
    description:
      - Take the canary back as soon as a metric has failed so often in a row within one AnalysisRun of the controller,
        whatever the run itself would still allow. V(0) is no such limit.
      - Argo Rollouts has none; its C(failureLimit) counts all failures. An error neither counts nor ends the row, a
        success and an inconclusive measurement end it, and metrics in dry run do not count.
      - A gate has a limit of its own.
    type: int
    default: 0
    version_added: 0.4.0
  promote_full:
    description:
      - Skip all steps of the Rollout as soon as the controller has looked at the change. Analyses among them are not
        waited for, and nothing is measured.
      - For going back to a version that is known to be good.
    type: bool
    default: false
    version_added: 0.5.0
  release:
    description:
      - The release that this belongs to, from M(lumen.airgap.release_record). Its Lease is renewed all the time, and
        its journal says to the next run how far this one came.
      - Without it, nothing keeps two releases apart but a look at the Rollout.
    type: dict
    suboptions:
      id:
        description: Id of the release.
        type: str
        required: true
      run:
        description: Id of the run.
        type: str
        required: true
  quiet:
    description: Whether to print nothing while it runs.
    type: bool
    default: false
  query:
    description: A JMESPath expression, applied to the result and returned in RV(query_result).
    type: str
requirements:
  - google-re2 (Python library, for dry runs)
  - jmespath (Python library, for O(query))
  - requests (Python library, for O(prometheus.url))
seealso:
  - module: lumen.airgap.analysis
  - module: lumen.airgap.rehearsal
  - module: lumen.airgap.rollout
  - module: lumen.airgap.release_record
"""

EXAMPLES = r"""
- name: Release v1.1.0
  lumen.airgap.canary:
    name: lumen-api
    namespace: lumen
    image: 192.168.2.2:5000/lumen-api:v1.1.0
    release:
      id: "{{ record.release.id }}"
      run: "{{ record.release.run }}"

- name: Follow what Git has changed, and gate its pauses
  lumen.airgap.canary:
    name: lumen-api
    namespace: lumen
    gate:
      template: success-rate-canary
      args:
        pod-hash:
          valueFrom:
            podTemplateHashValue: Latest

- name: Release a plain Deployment, by steps that this task does
  lumen.airgap.canary:
    name: lumen-api
    namespace: lumen
    image: 192.168.2.2:5000/lumen-api:v1.1.0
    driver: deployment
    steps:
      - setWeight: 20
      - analysis: &analysis
          templates:
            - templateName: success-rate-canary
          args:
            - name: canary-hash
              valueFrom:
                podTemplateHashValue: Latest
      - setWeight: 80
      - analysis: *analysis

- name: Show the steps and their pods
  lumen.airgap.canary:
    name: lumen-api
    namespace: lumen
    image: 192.168.2.2:5000/lumen-api:v1.1.0
  check_mode: true
"""

RETURN = r"""
outcome:
  description:
    - V(promoted), V(rolled_back) (stable is back and verified) or V(failed).
    - The task fails unless it is V(promoted).
  returned: not in check mode
  type: str
  sample: promoted
driver:
  description: What moved the pods.
  returned: always
  type: str
  sample: rollout
reason:
  description: Why it ended so.
  returned: not in check mode
  type: str
  sample: 'Metric "success-rate" assessed Failed due to failed (4) > failureLimit (3)'
stable_hash:
  description: Pod template hash that is stable now.
  returned: when something was followed
  type: str
  sample: b67698557
canary_hash:
  description:
    - Pod template hash of the canary. Empty when there was none.
    - Pods of a Deployment that was promoted have another one, which RV(stable_hash) says.
  returned: when something was followed
  type: str
  sample: 64bdf7c984
revision:
  description: Revision of the Rollout, or of the Deployment.
  returned: when something was followed
  type: str
  sample: "3"
image:
  description: The image that was released.
  returned: when nothing was refused
  type: str
  sample: 192.168.2.2:5000/lumen-api:v1.1.0
started_at:
  description: When this run began, RFC 3339 in UTC.
  returned: when something was followed
  type: str
  sample: "2026-01-01T00:00:00Z"
finished_at:
  description: When this run ended, RFC 3339 in UTC.
  returned: when something was followed
  type: str
  sample: "2026-01-01T00:02:10Z"
steps:
  description:
    - Each step as it went. Times are null when nobody watched, and the cluster does not tell them either.
    - The result is V(completed), the phase of the step's analysis or gate, V(skipped), V(passed) (before anybody
      looked), V(aborted), V(superseded) or V(running).
    - C(by_hand) tells a step that somebody promoted, and neither a gate of ours nor O(promote_full).
  returned: when something was followed
  type: list
  elements: dict
  sample:
    - index: 0
      kind: setWeight
      weight: 20
      started_at: "2026-01-01T00:00:01Z"
      actual_weight: 33
      finished_at: "2026-01-01T00:00:04Z"
      result: completed
      by_hand: false
measurements:
  description: Every measurement of the canary's AnalysisRuns and of our gates, each once, with values as text.
  returned: when something was followed
  type: list
  elements: dict
  sample:
    - run: lumen-api-64bdf7c984-3-1
      metric: success-rate
      at: "2026-01-01T00:00:05Z"
      value: "[0.982]"
      phase: Successful
lint:
  description:
    - What the lint found odd in the Rollout and its analyses, as RV(lumen.airgap.rehearsal#module:lint). What it finds
      wrong is refused.
  returned: when nothing was refused, or when the lint refused
  type: list
  elements: dict
  sample:
    - rule: initial-delay-too-short
      severity: warning
      object: AnalysisTemplate lumen/success-rate
      where: spec.metrics[0].initialDelay
      line: null
      column: null
      metric: success-rate
      reason: "no initialDelay with a window of 120 s: the first measurements look at the time before the canary"
      corrected: "initialDelay: 2m"
conditions:
  description: The C(successCondition) of each metric that was measured.
  returned: when something was followed
  type: dict
  sample:
    success-rate: len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95
pods:
  description: How many pods were ready, whenever that changed.
  returned: when something was followed
  type: list
  elements: dict
  sample:
    - at: "2026-01-01T00:00:03Z"
      canary: 1
      stable: 3
timeline:
  description: What was printed.
  returned: when something was followed
  type: list
  elements: dict
  sample:
    - at: "2026-01-01T00:00:04Z"
      text: "setWeight 20 → 1 canary / 2 stable (33 % actual)"
verified:
  description:
    - What was found at the end. C(hash) is the only pod template hash left, C(endpoints) the pods behind each Service,
      C(digests) what their containers run, C(missing) what was not as it should be.
    - C(hash) and C(endpoints) are empty when they could not be verified.
  returned: when something was followed
  type: dict
  sample:
    hash: b67698557
    endpoints:
      lumen-api:
        - lumen-api-b67698557-nvpjd
    digests:
      - sha256:4bc453b53cb3d914b45f4b250294236adba2c0e09ff6f03793949e7e39fd4cc1
    missing: []
advice:
  description:
    - What is left to do after the canary was taken back, when the template is not this task's to restore. Empty when
      nothing is.
  returned: not in check mode
  type: str
  sample: >-
    Git still has 192.168.2.2:5000/lumen-api:v1.4.0-bad (Application lumen-app): revert the commit that brought it.
    Nothing else may touch the Rollout's spec before, for that starts the aborted version again
planned:
  description: The steps with the pods that each leads to.
  returned: in check mode
  type: list
  elements: dict
  sample:
    - index: 0
      kind: setWeight
      weight: 20
      canary: 1
      stable: 2
      actual_weight: 33
query_result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: promoted
"""

#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lints an analysis and rehearses a canary with it on a virtual clock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearsal
short_description: Lint an analysis, and rehearse a canary with it on a virtual clock
version_added: 0.4.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - Runs an analysis, and the steps of a canary around it when they are given, with measurements that were scripted,
    recorded, or that Prometheus has of a past time. It takes milliseconds, and says what a release would have done. The
    verdict, when each measurement would have been made, and how many pods there would have been.
  - The engine is the one that M(lumen.airgap.analysis) and M(lumen.airgap.canary) run, which counts, schedules and
    judges as Argo Rollouts 1.8.
  - Lints the analysis and the Rollout first. Without O(series) it does nothing else. A finding is an V(error) when
    Argo's run would be an Error, or its verdict could not change. It is a V(warning) when it does something, and hardly
    what was meant.
  - Needs no cluster unless a template, a Rollout or history is read from one. With O(expect) it is a test of templates
    for a pipeline.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.gate
  - lumen.airgap.kube
  - lumen.airgap.prometheus
attributes:
  check_mode:
    support: full
    details:
      - Changes nothing, so that check mode is no different.
  diff_mode:
    support: none
    details:
      - This module changes nothing.
  idempotent:
    support: full
options:
  namespace:
    description: Namespace of O(template) and O(rollout).
    type: str
  rollout:
    description:
      - Name of a Rollout whose canary strategy is linted and rehearsed, in O(file) or else in the cluster.
      - Its analyses are looked for in O(file), and then in the cluster.
      - O(template) and O(metrics) are then what runs at each C(pause) without a duration, as the gate of
        M(lumen.airgap.canary); so is the only template of O(file) when the Rollout has no analysis of its own. Without
        any, somebody is taken to promote the canary at once.
    type: str
  steps:
    description:
      - Steps of a canary, in the form of C(spec.strategy.canary.steps), instead of O(rollout).
    type: list
    elements: dict
  replicas:
    description:
      - Pods of the app.
      - Without it, those of O(rollout), or 1.
    type: int
  max_surge:
    description:
      - Pods, or percentage of them, that there may be beyond O(replicas).
      - Without it, that of O(rollout), or V(25%).
    type: str
  max_unavailable:
    description:
      - Pods, or percentage of them, that may be lacking.
      - Without it, that of O(rollout), or V(25%).
    type: str
  pod_ready_seconds:
    description: How long a pod takes until it is ready, in seconds.
    type: float
    default: 0.0
  series:
    description:
      - Where measurements come from. Without it, there is a lint and no verdict.
    type: dict
    suboptions:
      scripted:
        description:
          - Answers by name of the metric, used up in order, one a measurement. The last repeats. Those to the query of
            O(min_samples) stand under C(NAME.min_samples), NAME being the metric's.
          - >-
            A number (also as text), V(NaN), V(+Inf) or V(-Inf) is a vector with this one value, and a list of them a
            vector with several. V([]) or V(empty) is a vector without any. C({value: 0.98}) is a scalar, V(error) or
            C({error: reason}) a query that failed.
        type: dict
      recorded:
        description:
          - Path of a JSON file with measurements. JSON lines C({metric, at, value}) or C({metric, at, error}), with
            C(at) in seconds or RFC 3339; a report of M(lumen.airgap.evidence); or AnalysisRuns, as
            C(kubectl get analysisruns -o json) prints them.
          - The first one is what the first measurement finds; from there on, the one nearest in time. Lines without
            C(at) are used up in order.
        type: path
      history:
        description:
          - The time that is replayed. The queries are asked of O(prometheus), with the answers of that time.
          - An argument that is a pod template hash is best given in O(args); those of O(rollout) are the ones of now.
        type: dict
        suboptions:
          start:
            description: When the canary begins, RFC 3339, for example V(2026-01-06T14:00:00Z).
            type: str
            required: true
          end:
            description:
              - Until when there are answers. After it every query gives an empty vector.
              - Without it, as long as a good canary takes and two minutes more.
            type: str
          step:
            description:
              - Seconds between two samples, more than 0. A measurement takes the nearest.
              - Without it, a quarter of the shortest interval, at most 15.
            type: float
  scrape_interval:
    description:
      - Seconds between two scrapes of the app's metrics, more than 0. The lint wants windows of at least two.
      - The default is that of kube-prometheus-stack.
    type: float
    default: 30.0
  fail_on:
    description: Which findings of the lint fail the task. Nothing is rehearsed then.
    type: str
    choices: [error, warning, never]
    default: error
  expect:
    description: The verdict that is expected. The task fails when it is another one.
    type: str
    choices: [Successful, Failed, Error, Inconclusive]
  query:
    description: A JMESPath expression, applied to the result and returned in RV(query_result).
    type: str
requirements:
  - google-re2 (Python library, for dry runs)
  - jmespath (Python library, for O(query))
  - PyYAML (Python library, for O(file))
  - requests (Python library, for O(prometheus.url))
seealso:
  - module: lumen.airgap.analysis
  - module: lumen.airgap.canary
"""

EXAMPLES = r"""
- name: Lint every manifest of the repository
  lumen.airgap.rehearsal:
    file: manifests/lumen-api.yaml
    rollout: lumen-api
    fail_on: warning

- name: Make sure that a version with one bad minute is promoted, and one with two is not
  lumen.airgap.rehearsal:
    file: manifests/analysis-template.yaml
    series:
      scripted:
        success-rate: "{{ item.values }}"
    expect: "{{ item.expect }}"
  loop:
    - values: [0.99, 0.4, 0.99]
      expect: Successful
    - values: [0.99, 0.4, 0.4]
      expect: Failed

- name: Ask what the template would have said of last Tuesday's release
  lumen.airgap.rehearsal:
    template: success-rate-canary
    namespace: lumen
    rollout: lumen-api
    args:
      canary-hash: 64bdf7c984
    pod_ready_seconds: 5
    series:
      history:
        start: "2026-01-06T14:00:00Z"
    query: verdict.phase
  register: tuesday
"""

RETURN = r"""
lint:
  description:
    - What was found, by object and line. The rules are explained in the guide, under Rehearsal.
    - C(object) is where it stands, C(where) the path in it, C(line) and C(column) are known for O(file) alone.
      C(corrected) is YAML, the fields to write instead. It is empty when only a person can know.
  returned: always
  type: list
  elements: dict
  sample:
    - rule: type-mismatch
      severity: error
      object: AnalysisTemplate success-rate in manifests/analysis-template.yaml
      where: spec.metrics[0].successCondition
      line: 11
      column: 25
      metric: success-rate
      reason: "the query gives a vector, which is a list, and the condition is written for another type"
      corrected: 'successCondition: "len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95"'
verdict:
  description:
    - C(phase) is V(Successful), V(Failed), V(Error) or V(Inconclusive), C(message) the limit that was violated, in
      Argo's words.
    - Null without O(series).
  returned: always
  type: dict
  sample:
    phase: Failed
    message: 'Metric "success-rate" assessed Failed due to failed (2) > failureLimit (1)'
outcome:
  description:
    - What became of the canary. V(promoted), V(aborted), or V(paused) when Argo would wait for somebody.
    - V(analysed) when there are no steps.
  returned: with O(series)
  type: str
  sample: aborted
duration:
  description: Seconds of virtual time until then.
  returned: with O(series)
  type: float
  sample: 125.0
timeline:
  description:
    - What happened, with C(at) in seconds of virtual time.
    - The event is V(step), V(pods), V(measurement), V(analysis), V(pause) or V(end).
  returned: with O(series)
  type: list
  elements: dict
  sample:
    - at: 5.0
      event: measurement
      text: "check 1/3 success-rate 0.4 ✖"
pods:
  description: The pods whenever their numbers change, with the weight they are meant for.
  returned: with O(series)
  type: list
  elements: dict
  sample:
    - at: 0.0
      weight: 20
      canary: 1
      stable: 3
      actual_weight: 25
metrics:
  description: The metrics of every analysis that has ended, with phases and counts as in M(lumen.airgap.analysis).
  returned: with O(series)
  type: list
  elements: dict
  sample:
    - analysis: success-rate in manifests/analysis-template.yaml
      name: success-rate
      phase: Failed
      dry_run: false
      count: 2
      successful: 0
      failed: 2
      inconclusive: 0
      error: 0
      message: ""
measurements:
  description: Every measurement. The value is text, as Argo writes it, and null when there was none.
  returned: with O(series)
  type: list
  elements: dict
  sample:
    - analysis: success-rate in manifests/analysis-template.yaml
      metric: success-rate
      at: 5.0
      value: "[0.4]"
      phase: Failed
      message: ""
query_result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: Failed
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters import prometheus
from ..module_utils.adapters.kube.session import Session
from ..module_utils.entry import run_module
from ..module_utils.options import (
    GATE_CONSTRAINTS,
    GATE_OPTIONS,
    KUBE_OPTIONS,
    NOT_NEGATIVE,
    PROMETHEUS_OPTIONS,
    PROMETHEUS_RANGES,
    SECONDS,
    check_ranges,
)
from ..module_utils.query import QUERY_OPTIONS, compile_query
from ..module_utils.services.rehearsal import Rehearsal

ARGUMENT_SPEC: dict[str, Any] = {
    **GATE_OPTIONS,
    "namespace": {"type": "str"},
    "rollout": {"type": "str"},
    "steps": {"type": "list", "elements": "dict"},
    "replicas": {"type": "int"},
    "max_surge": {"type": "str"},
    "max_unavailable": {"type": "str"},
    "pod_ready_seconds": {"type": "float", "default": 0.0},
    "series": {
        "type": "dict",
        "options": {
            "scripted": {"type": "dict"},
            "recorded": {"type": "path"},
            "history": {
                "type": "dict",
                "options": {
                    "start": {"type": "str", "required": True},
                    "end": {"type": "str"},
                    "step": {"type": "float"},
                },
            },
        },
        "mutually_exclusive": [["scripted", "recorded", "history"]],
        "required_one_of": [["scripted", "recorded", "history"]],
    },
    "scrape_interval": {"type": "float", "default": 30.0},
    "fail_on": {"type": "str", "choices": ["error", "warning", "never"], "default": "error"},
    "expect": {"type": "str", "choices": ["Successful", "Failed", "Error", "Inconclusive"]},
    **QUERY_OPTIONS,
    **KUBE_OPTIONS,
    **PROMETHEUS_OPTIONS,
}
CONSTRAINTS: dict[str, Any] = {
    "required_one_of": [["template", "file", "metrics", "rollout"]],
    "mutually_exclusive": [*GATE_CONSTRAINTS["mutually_exclusive"], ["rollout", "steps"]],
    "required_by": {"expect": ["series"]},
}
_RANGES = {
    "pod_ready_seconds": NOT_NEGATIVE,
    "scrape_interval": SECONDS,
    "series.history.step": SECONDS,
    **PROMETHEUS_RANGES,
}


def rehearsal(params: dict[str, Any]) -> dict[str, Any]:
    """Arguments to rehearsal, rehearsal to result."""
    check_ranges(params, _RANGES)
    shape = compile_query(params["query"])
    history = (params["series"] or {}).get("history")
    session = _session(params, bool(history))
    query_range = prometheus.connect(params["prometheus"], session).query_range if history else None
    return shape(Rehearsal(session, params, query_range).run())


def _session(params: dict[str, Any], history: bool) -> Session | None:
    """A cluster, when something of it is needed: what is not in a file, or its Prometheus."""
    in_cluster = (params["template"] or params["rollout"]) and not params["file"]
    through_proxy = history and not params["prometheus"]["url"]
    if not (in_cluster or through_proxy or (params["file"] and params["kubeconfig"])):
        return None
    return Session.connect(params["kubeconfig"], params["context"])


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    run_module(module, lambda: rehearsal(module.params))


if __name__ == "__main__":
    main()

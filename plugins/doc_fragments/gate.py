# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of one analysis as a gate (argument spec: GATE_OPTIONS), for itself and as suboptions of ``gate``."""

from __future__ import annotations

from textwrap import indent

_OPTIONS = r"""
template:
  description:
    - Name of an AnalysisTemplate in O(namespace).
    - With O(@file), the one to take when the file holds several.
    - Templates that it refers to in C(spec.templates) are merged with it, as Argo does.
  type: str
cluster_template:
  description: Whether O(@template) is a ClusterAnalysisTemplate.
  type: bool
  default: false
file:
  description:
    - Path of a YAML file with an AnalysisTemplate or ClusterAnalysisTemplate, where C(ansible-playbook) runs.
    - Templates that it refers to are looked for in the file first, and then in the cluster.
  type: path
metrics:
  description:
    - Metrics in the form of an AnalysisTemplate's C(spec.metrics), with a C(prometheus) provider.
    - Of the provider only C(query) and C(rangeQuery) are used, O(prometheus) says where Prometheus is and how it is
      spoken to. Of the times of C(rangeQuery), V(now(\)) and durations from it are read.
    - A metric may have O(@consecutive_failure_limit), O(@on_empty), O(@on_nan) and O(@min_samples) among its fields.
  type: list
  elements: dict
args:
  description:
    - Values of the template's arguments, by name. They go before what the template says.
    - >-
      C({valueFrom: {podTemplateHashValue: Latest}}) takes the canary's pod template hash, V(Stable) the stable one.
    - >-
      C({valueFrom: {fieldRef: {fieldPath: "metadata.labels['team']"}}}) takes a field of the app, read as Argo reads
      that of a Rollout.
    - >-
      C({valueFrom: {secretKeyRef: {name: prometheus, key: token}}}) takes a value of a Secret in O(namespace), which is
      read only when it is needed, and masked in everything that is said.
    - A template's own arguments may have the same.
  type: dict
  default: {}
dry_run:
  description: >-
    Regular expressions over metric names, unanchored and in Go's syntax. The metrics they match are measured, and do
    not decide. Each must match one. They are added to the template's own.
  type: list
  elements: str
  default: []
consecutive_failure_limit:
  description:
    - A metric fails at so many failed measurements in a row, whatever its C(failureLimit), which counts them all.
      V(0) is off. Argo has no such limit; messages say C((ours)).
    - An error neither counts nor ends the row, since the same check is measured again. A success and an inconclusive
      measurement end it.
    - C(failureLimit) holds as well, so that its default of 0 ends a metric at the first failure.
  type: int
  version_added: 0.4.0
on_empty:
  description:
    - What an empty result means, before any condition is asked. An extension of Argo's; messages say C((ours)).
    - Without it, the conditions decide.
  type: str
  choices: [pass, fail, inconclusive, error]
  version_added: 0.4.0
on_nan:
  description:
    - What a result with a NaN in it means, before any condition is asked. 0/0, which is no traffic, gives one.
      An extension of Argo's; messages say C((ours)).
    - Without it, the conditions decide.
  type: str
  choices: [pass, fail, inconclusive, error]
  version_added: 0.4.0
min_samples:
  description:
    - A companion query that is asked with each measurement, and tells how much there is to judge by. With too little
      the measurement is inconclusive, whatever the value; C(inconclusiveLimit) says how often that may be.
    - A companion query that fails makes the measurement an error. An extension of Argo's; messages say C((ours)).
  type: dict
  version_added: 0.4.0
  suboptions:
    query:
      description: A query, in which arguments are replaced. Its values are summed.
      type: str
      required: true
    at_least:
      description: How many samples are enough, more than 0.
      type: float
      required: true
extensions:
  description:
    - >-
      O(@consecutive_failure_limit), O(@on_empty), O(@on_nan) and O(@min_samples) for single metrics, by name, as in
      C({success-rate: {on_nan: inconclusive}}).
    - They go before what the metric has itself, and that before the options that hold for all metrics.
  type: dict
  default: {}
  version_added: 0.4.0
"""

_GATE = """
options:
  gate:
    description:
      - The gate to run at each C(pause) without a duration, as an analysis of M(lumen.airgap.analysis).
      - Without it, somebody else has to promote the canary there before O(step_deadline).
    type: dict
    suboptions:
"""


class ModuleDocFragment:
    """Fragments ``lumen.airgap.gate`` and ``lumen.airgap.gate.suboptions``."""

    DOCUMENTATION = "options:\n" + indent(_OPTIONS.replace("O(@", "O("), "  ")
    SUBOPTIONS = _GATE + indent(_OPTIONS.replace("O(@", "O(gate."), "      ")

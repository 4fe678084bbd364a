#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action analysis."""

from __future__ import annotations

DOCUMENTATION = r"""
module: analysis
short_description: Run one Prometheus-gated analysis
version_added: 0.1.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Measures the metrics of an analysis as Argo Rollouts 1.8 would, with its limits, intervals and conditions, and
    fails the task unless the analysis is V(Successful).
  - The analysis is an AnalysisTemplate or ClusterAnalysisTemplate in the cluster, one in a file, or inline
    O(metrics). It is checked before anything is measured. A condition that cannot be read, can never be a boolean or
    divides by zero, an argument that is left open, a limit that Argo refuses or that is no number, and a metric that
    never ends are errors.
  - Prints one line for each measurement while it runs.
  - Argo's condition language is read as a whole, and judges as it does there, types and constants included. Left out
    are the functions C(now) and C(date); and C(matches) needs the Python library C(google-re2). A condition that uses
    what is left out is refused before anything is measured.
    Note that C(default) and C(isNil) look at the whole result in Argo, and so they do here.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.action
  - lumen.airgap.attributes.cluster
  - lumen.airgap.gate
  - lumen.airgap.kube
  - lumen.airgap.prometheus
attributes:
  check_mode:
    support: partial
    details:
      - Checks the analysis and asks each query once. There is no verdict, and nothing is waited for.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Changes nothing.
options:
  namespace:
    description: Namespace of O(template), O(rollout), O(deployment), and of Secrets that arguments name.
    type: str
  rollout:
    description:
      - Name of the Rollout that gives the pod template hashes V(Latest) and V(Stable), and the fields that arguments
        ask for.
    type: str
  deployment:
    description: Name of the Deployment that gives the fields that arguments ask for, in place of O(rollout).
    type: str
    version_added: 0.4.0
  deadline:
    description:
      - How long the analysis may take, in seconds, more than 0.
      - One that cannot be Successful by then is refused at once. One that is not finished then, for example because
        queries failed in between, ends in V(Error) with what was measured last.
    type: float
    default: 3600.0
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
  - module: lumen.airgap.canary
"""

EXAMPLES = r"""
- name: Gate on the success rate of the canary's pods
  lumen.airgap.analysis:
    template: success-rate-canary
    namespace: lumen
    rollout: lumen-api
    args:
      pod-hash:
        valueFrom:
          podTemplateHashValue: Latest

- name: Gate on an inline metric, and keep the lowest value
  lumen.airgap.analysis:
    metrics:
      - name: success-rate
        interval: 1m
        count: 5
        failureLimit: 1
        successCondition: len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95
        provider:
          prometheus:
            query: >-
              sum(rate(http_requests_total{app="lumen-api",status!~"5.."}[2m]))
              / sum(rate(http_requests_total{app="lumen-api"}[2m]))
    query: min(measurements[].value)
  register: gate

- name: Fail at three failures in a row, and do not judge by nothing
  lumen.airgap.analysis:
    template: success-rate
    namespace: lumen
    consecutive_failure_limit: 3
    on_nan: inconclusive
    extensions:
      success-rate:
        min_samples:
          query: sum(increase(http_requests_total{app="lumen-api"}[2m]))
          at_least: 50

- name: Gate on a Prometheus behind TLS and a token
  lumen.airgap.analysis:
    file: analysis/success-rate.yaml
    prometheus:
      url: https://prometheus.example:9090
      ca_path: /etc/ssl/certs/inside.pem
      token_path: /run/secrets/prometheus
"""

RETURN = r"""
name:
  description: Where the analysis came from.
  returned: always
  type: str
  sample: AnalysisTemplate lumen/success-rate
phase:
  description: V(Successful), V(Failed), V(Error) or V(Inconclusive). Null in check mode.
  returned: always
  type: str
  sample: Failed
message:
  description: Which limit of which metric was violated, in Argo's words, or that O(deadline) has passed. Else empty.
  returned: not in check mode
  type: str
  sample: 'Metric "success-rate" assessed Failed due to failed (4) > failureLimit (3)'
started_at:
  description: When the first measurement was begun, RFC 3339 in UTC.
  returned: not in check mode
  type: str
  sample: "2026-01-01T00:00:00Z"
finished_at:
  description: When the verdict fell, RFC 3339 in UTC.
  returned: not in check mode
  type: str
  sample: "2026-01-01T00:03:00Z"
metrics:
  description:
    - The metrics that were measured, with their phases and counts. Errors are not in C(count). The C(consecutive_)
      counts are of the row at the end.
  returned: not in check mode
  type: list
  elements: dict
  sample:
    - name: success-rate
      phase: Failed
      dry_run: false
      count: 4
      successful: 0
      failed: 4
      inconclusive: 0
      error: 0
      consecutive_error: 0
      consecutive_failure: 4
      consecutive_success: 0
      message: ""
measurements:
  description:
    - Every measurement, in the order they were made.
    - The value is text, as Argo writes it, and null when the query gave none. The message says why it is an error, or
      which extension decided.
  returned: not in check mode
  type: list
  elements: dict
  sample:
    - metric: success-rate
      at: "2026-01-01T00:00:00Z"
      value: "[0.432]"
      phase: Failed
      message: ""
answers:
  description: The present answer to each query, companion queries included.
  returned: in check mode
  type: list
  elements: dict
  sample:
    - metric: success-rate
      query: vector(1)
      value: "[1]"
query_result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: "[0.432]"
"""

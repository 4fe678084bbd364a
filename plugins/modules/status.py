#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action status."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Show what the releases of an app are doing, once or live
version_added: 0.5.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Prints one screen with the release that is in progress or ended last, who holds it, the Application of Argo CD, the
    releases before, the chain of evidence, measurements that are being taken, and the Rollout with its pods as the
    kubectl plugin prints it, or the Deployment with its canary.
  - With O(watch) it goes on with a line for each thing that happens, until the release has ended.
  - It only reads. The identity of releases suffices, and a release that runs meanwhile is not disturbed.
  - Whatever cannot be read is named in RV(problems), and does not keep it from the rest.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.action
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
attributes:
  check_mode:
    support: full
    details:
      - It looks once, also with O(watch).
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  app:
    description: Name of the app, which is that of its Rollout or Deployment.
    type: str
    required: true
  namespace:
    description: Namespace of the app.
    type: str
    required: true
  argocd_namespace:
    description:
      - Namespace of Argo CD. The Application is the one that the Rollout or Deployment says it belongs to.
      - Empty, and it is not looked at.
    type: str
    default: argocd
  directory:
    description: Where M(lumen.airgap.evidence) writes. Without it, the evidence is not looked at.
    type: path
  host:
    description: The name of this control host, as for M(lumen.airgap.evidence_info).
    type: str
  watch:
    description:
      - Whether to follow the release until it has ended. With none in progress, the next one is waited for.
      - A release whose run was killed is followed on, for another run may take it up.
    type: bool
    default: false
  deadline:
    description: How long to follow at most, in seconds, more than 0. Reaching it is no failure.
    type: float
    default: 3600.0
  quiet:
    description: Whether to print nothing, and only return.
    type: bool
    default: false
seealso:
  - module: lumen.airgap.release_record
  - module: lumen.airgap.rollout_info
  - module: lumen.airgap.evidence_info
  - module: lumen.airgap.doctor
"""

EXAMPLES = r"""
- name: Look
  lumen.airgap.status:
    app: lumen-api
    namespace: lumen
    directory: /var/lib/airgap/reports

- name: Follow the release until it has ended
  lumen.airgap.status:
    app: lumen-api
    namespace: lumen
    watch: true
"""

RETURN = r"""
app:
  description: The app.
  returned: success
  type: str
  sample: lumen-api
namespace:
  description: Its namespace.
  returned: success
  type: str
  sample: lumen
text:
  description: The screen as lines, after O(watch) the last one.
  returned: success
  type: list
  elements: str
  sample: ["lumen-api in lumen", "  release   v1.1.0 (lumen-api-v1.1.0-2) promoted 4m ago"]
ended:
  description: Whether a release has ended while it was followed.
  returned: success
  type: bool
  sample: false
release:
  description:
    - The release that is in progress, or ended last. Null when it could not be read.
    - C(state) is V(none), V(running), V(ended), or, of one that has not ended and nobody works on, V(expired), V(dead)
      or V(open).
  returned: success
  type: dict
  sample:
    id: lumen-api-v1.1.0-2
    version: v1.1.0
    state: running
    phase: step 2/5 analysis
    phase_at: '2026-01-01T10:01:15Z'
    started_at: '2026-01-01T10:00:00Z'
    finished_at: null
    outcome: null
    reason: null
    holder: {run: 1f0c2d3e, host: control-1, pid: 4711, renewed: 1767261675.2, expires: 1767261735.2}
previous:
  description: The releases before, newest first.
  returned: success
  type: list
  elements: dict
  sample:
    - id: lumen-api-v1.0.0-1
      version: v1.0.0
      outcome: promoted
      reason: ""
      started_at: '2026-01-01T09:00:00Z'
      finished_at: '2026-01-01T09:04:12Z'
rollout:
  description: The Rollout, as RV(lumen.airgap.rollout_info#module:rollouts). Null without one.
  returned: success
  type: dict
  sample: {name: lumen-api, phase: Healthy}
deployments:
  description: Without a Rollout, the Deployment and its canary.
  returned: success
  type: list
  elements: dict
  sample:
    - name: lumen-api
      role: stable
      replicas: 2
      available: 2
      updated: 2
      images: ["192.168.2.2:5000/lumen-api:v1.1.0"]
      step: null
      pods: []
checks:
  description: Measurements of the analyses that run, as lines.
  returned: success
  type: list
  elements: str
  sample: ["10:01:15  check 1/5 success-rate 0.998 ✔"]
application:
  description: The Application of Argo CD, and its state in a line. Null without one.
  returned: success
  type: dict
  sample: {name: lumen-app, text: "Synced at 0b9f7c02, Healthy"}
evidence:
  description: The chain of evidence, as M(lumen.airgap.evidence_info) returns it. Null without O(directory).
  returned: success
  type: dict
  sample: {intact: true, line: "intact: 2 of 2 documents here fit, the newest is lumen-api-v1.1.0-2.json"}
problems:
  description: What could not be read, and why.
  returned: success
  type: list
  elements: str
  sample: []
"""

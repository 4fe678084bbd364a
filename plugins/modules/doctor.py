#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds what holds up a release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor
short_description: Find what holds up a release, and say what to do
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Looks at the Rollout of an app, its pods and analyses, at Argo CD, at the registry, and at the tag, the runs and the
    runner in Gitea, and tells what it finds as cause, evidence and remedy. A cluster on which all is well gives no
    findings.
  - It only reads. Whatever cannot be read is a finding as well, and does not keep it from the rest. Each request has a
    timeout, and whoever does not answer is not asked again.
  - The codes of findings are listed in RV(findings[].code).
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.prometheus
  - lumen.airgap.registry
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - This module changes nothing.
  idempotent:
    support: full
options:
  app:
    description: Name of the app, which is that of its Rollout.
    type: str
    required: true
  namespace:
    description: Namespace of the app.
    type: str
    required: true
  version:
    description:
      - The tag that should have been released, such as V(v1.1.0).
      - Without it, the newest version among the tags in Gitea.
    type: str
  image_repository:
    description: The repository of its image in the registry. Without it, the name of the app.
    type: str
  gitea:
    description:
      - The Gitea with the app's repository, and as whom it is asked. Without it, tags, runs and the runner are not
        looked at.
      - It takes the scopes C(read:repository) and C(read:organization), and where none of their runners is online also
        C(read:admin).
    type: dict
    suboptions:
      url:
        description: Its address, as in V(http://192.168.2.2:30300), without a user or a password in it.
        type: str
        required: true
      token:
        description: An access token.
        type: str
      username:
        description: User to log in as. Together with O(gitea.password).
        type: str
      password:
        description: Password of O(gitea.username), in place of O(gitea.token).
        type: str
      ca_path:
        description: PEM file of the CAs that may have signed Gitea's certificate. Without it, the machine's.
        type: path
      validate_certs:
        description: Whether to check the certificate of an C(https) address.
        type: bool
        default: true
      timeout:
        description: How long one request may take, in seconds, more than 0.
        type: float
        default: 10.0
  repository:
    description: The app's repository in Gitea, as C(owner/name).
    type: str
    default: lumen/lumen
  runner_scope:
    description:
      - Where the runner is registered, V(instance), an organization or C(owner/name).
      - Without it, the repository and its owner are asked, and the whole Gitea if none of theirs is online. Gitea does
        not tell which of its runners serve another repository.
    type: str
  branch:
    description: The branch that Argo CD follows.
    type: str
    default: main
  manifest:
    description: Path in the repository of the manifest that names the app's image. Empty, and Git is not compared.
    type: str
    default: 03-airgap-zone/manifests/app/03-lumen-api.yaml
  argocd_namespace:
    description: Namespace of Argo CD and its Applications. Empty, and they are not looked at.
    type: str
    default: argocd
  rollouts_namespace:
    description: Namespace of the Rollouts controller. Empty, and it is not looked at.
    type: str
    default: argo-rollouts
  gitea_namespace:
    description: Namespace of Gitea and the runner. Empty, and their pods are not looked at.
    type: str
    default: gitea
  fail_on:
    description:
      - Fail when there is a finding of this severity or a worse one.
      - The findings are returned then too.
    type: str
    choices: [never, error, warning, info]
    default: never
seealso:
  - module: lumen.airgap.release_identity
"""

EXAMPLES = r"""
- name: Find what holds up the release
  lumen.airgap.doctor:
    app: lumen-api
    namespace: lumen
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
  register: examined

- name: Show it
  ansible.builtin.debug:
    msg: "{{ examined.text }}"

- name: Stop here unless all is well
  lumen.airgap.doctor:
    app: lumen-api
    namespace: lumen
    version: v1.1.0
    fail_on: error
"""

RETURN = r"""
findings:
  description: What was found, the worst first; empty when all is well.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description:
        - What kind of cause it is, for programs.
        - Of images and pods V(image-missing), V(image-unreachable), V(image-unknown), V(image-elsewhere),
          V(pod-cannot-start), V(pods-refused), V(workload-down),
          V(policy-blocks-prometheus).
        - Of the pipeline V(runner-offline), V(runner-labels), V(tag-missing), V(tag-skip-ci), V(tag-no-workflow),
          V(tag-not-picked-up), V(pipeline-failed), V(pipeline-waiting), V(actions-off).
        - Of Argo CD V(crd-missing), V(sync-failed), V(ignore-differences-missing), V(out-of-sync), V(not-synced),
          V(not-pruned), V(sync-stuck), V(application-error), V(git-ahead).
        - Of the Rollout V(rollout-paused), V(rollout-stopped), V(aborted-not-reverted), V(abort-revert-pending),
          V(restarted-after-abort), V(rollout-unseen), V(rollout-absent), V(rollouts-missing).
        - Of its analysis V(analysis-failed), V(analysis-no-traffic), V(analysis-unreachable), V(analysis-error),
          V(analysis-inconclusive).
        - Of the release itself V(release-open), V(identity-ends).
        - Of the doctor V(not-reached), V(not-allowed), V(not-understood).
      type: str
      sample: image-missing
    severity:
      description: V(error) when something is broken, V(warning) when it will be, V(info) when somebody is waited for.
      type: str
      sample: error
    title:
      description: The finding in a few words.
      type: str
      sample: An image is not in the registry
    subject:
      description: What it was found at.
      type: str
      sample: Pod lumen/lumen-api-5f6c9d7b8-x2x7k
    cause:
      description: Why it is so.
      type: str
      sample: The registry 192.168.2.2:5000 has no lumen-api:v1.1.0. Of lumen-api it has v1.0.0.
    evidence:
      description: What was seen that shows it.
      type: list
      elements: str
      sample: ["pod lumen-api-5f6c9d7b8-x2x7k, container lumen-api: ImagePullBackOff"]
    remedy:
      description: What to do. Commands are on lines of their own that begin with C($).
      type: list
      elements: str
      sample: ["Push it from the registry's node:\n$ docker push 192.168.2.2:5000/lumen-api:v1.1.0"]
worst:
  description: The worst severity that was found, V(none) without a finding.
  returned: always
  type: str
  sample: error
looked_at:
  description: What could be looked at.
  returned: always
  type: list
  elements: str
  sample: [Rollout lumen/lumen-api, Pods in lumen]
text:
  description: All of it as lines to read on a terminal.
  returned: always
  type: list
  elements: str
  sample: ["lumen-api in lumen (https://192.168.2.2:6443): nothing is wrong"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters import prometheus
from ..module_utils.adapters.gitea import REQUESTS_IMPORT_ERROR, Gitea
from ..module_utils.adapters.kube.session import Session
from ..module_utils.adapters.node import Node
from ..module_utils.adapters.registry import Registry
from ..module_utils.engines.doctor.facts import SEVERITIES
from ..module_utils.entry import Task, need, run_task
from ..module_utils.errors import AirgapError
from ..module_utils.options import (
    GITEA_OPTIONS,
    GITEA_RANGES,
    KUBE_OPTIONS,
    PROMETHEUS_OPTIONS,
    PROMETHEUS_RANGES,
    REGISTRY_OPTIONS,
    check_ranges,
)
from ..module_utils.services.doctor import Doctor, Report, Wanted, token_of
from ..module_utils.times import SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **PROMETHEUS_OPTIONS,
    **REGISTRY_OPTIONS,
    "gitea": {**GITEA_OPTIONS["gitea"], "required": False},
    "app": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "version": {"type": "str"},
    "image_repository": {"type": "str"},
    "repository": {"type": "str", "default": "lumen/lumen"},
    "runner_scope": {"type": "str"},
    "branch": {"type": "str", "default": "main"},
    "manifest": {"type": "str", "default": "03-airgap-zone/manifests/app/03-lumen-api.yaml"},
    "argocd_namespace": {"type": "str", "default": "argocd"},
    "rollouts_namespace": {"type": "str", "default": "argo-rollouts"},
    "gitea_namespace": {"type": "str", "default": "gitea"},
    "fail_on": {"type": "str", "choices": ["never", *SEVERITIES], "default": "never"},
}
SPEC: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC}


def examine(params: dict[str, Any]) -> Report:
    """What the module does, with its validated parameters."""
    asked = params["prometheus"]
    wanted = Wanted(
        app=params["app"],
        namespace=params["namespace"],
        registry=params["registry"]["host"],
        version=params["version"] or "",
        rollouts_namespace=params["rollouts_namespace"],
        argocd_namespace=params["argocd_namespace"],
        gitea_namespace=params["gitea_namespace"],
        repository=params["repository"],
        runner_scope=params["runner_scope"] or "",
        branch=params["branch"],
        manifest=params["manifest"],
        image_repository=params["image_repository"] or "",
        prometheus=("", "", 0) if asked.get("url") else (asked["namespace"], asked["service"], int(asked["port"])),
    )
    gitea = params["gitea"]
    return Doctor(
        lambda: Session.connect(params["kubeconfig"], params["context"]),
        SystemClock(),
        wanted,
        prometheus=lambda session: prometheus.connect(params["prometheus"], session).query,
        registry=lambda: Registry.connect(params["registry"]),
        gitea=(lambda: Gitea.connect(gitea)) if gitea else None,
        token=token_of(params["kubeconfig"], params["context"], Node().read),
    ).examine()


def result_of(report: Report, fail_on: str) -> dict[str, Any]:
    """What the module returns; raises AirgapError with the same in its details when it is to fail."""
    found = [finding.severity for finding in report.findings]
    worst = min(found, key=SEVERITIES.index, default="none")
    result = {
        "findings": [finding.as_dict() for finding in report.findings],
        "worst": worst,
        "looked_at": report.looked_at,
        "text": report.lines,
    }
    if worst != "none" and fail_on != "never" and SEVERITIES.index(worst) <= SEVERITIES.index(fail_on):
        titles = "; ".join(finding.title for finding in report.findings)
        raise AirgapError(f"{report.lines[0]}: {titles}", **result)
    return {"changed": False, **result}


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    need("requests", REQUESTS_IMPORT_ERROR)
    check_ranges(task.params, {**PROMETHEUS_RANGES, **GITEA_RANGES})
    return result_of(examine(task.params), task.params["fail_on"])


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

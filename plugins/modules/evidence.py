#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence of a release as a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Write what a release did into a JSON file and a page
version_added: 0.1.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Writes one JSON document for a release, with outcome, steps, measurements and timeline, and returns the timeline as
    lines to read.
  - The file is named after the release. A name is never used twice; when it is taken, the next free number is.
  - A page of HTML beside it shows the same with charts of the measurements and of the pods. It needs no other file.
  - With O(chain), each document names the one before by its hash, and the cluster keeps number and hash of the newest,
    so that M(lumen.airgap.evidence_info) can tell when one is missing or was edited.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.kube.patience
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - The same document is not written twice. A release that has not ended gets the present time as its end, which
        makes another document each time.
      - With O(chain), a release has one document whatever is said of it later, and that one is returned, unless its
        outcome is another one by then.
options:
  directory:
    description: Where the file goes. Made when it does not exist.
    type: path
    required: true
  release:
    description:
      - The RV(lumen.airgap.release_record#module:release) that M(lumen.airgap.release_record) returned last, or one of
        its RV(lumen.airgap.release_record#module:abandoned).
      - Its journal tells the image, the scan and the course of the canary where no other option does.
    type: dict
    required: true
  result:
    description:
      - What M(lumen.airgap.canary) returned, or the result of the task that failed before it.
      - Without it nothing is known but the journal of O(release).
    type: dict
    default: {}
  outcome:
    description:
      - Overrides the outcome that O(result) and O(release) tell.
      - Without it, a rollback whose O(result) does not show that the stable version was verified counts as V(failed),
        and so does everything without an outcome.
    type: str
    choices: [promoted, rolled_back, failed]
  image:
    description: The image that was released. Default is that of O(result).
    type: str
  digest:
    description: Digest of the image in the registry.
    type: str
  commit:
    description: The commit that the image was built from.
    type: str
  page:
    description: Whether to write the page.
    type: bool
    default: true
    version_added: 0.4.0
  who:
    description: Who releases.
    type: dict
    default: {}
    version_added: 0.5.0
    suboptions:
      user:
        description: The user. Without it, the one that this module runs as.
        type: str
      host:
        description: The control host. Without it, the name of the one that this module runs on.
        type: str
  scan:
    description:
      - What a scan of the image has found, as RV(lumen.airgap.trivy_scan#module:counts).
      - Of one that could not be done, C(failed) with the reason.
    type: dict
    default: {}
    version_added: 0.5.0
  chain:
    description:
      - Whether to put the document into the chain of the app's evidence, whose end is kept in the ConfigMap
        C(<app>-evidence) in the namespace of the app.
      - Without it no cluster is asked.
    type: bool
    default: false
    version_added: 0.5.0
requirements:
  - kubernetes (Python library, for O(chain))
seealso:
  - module: lumen.airgap.evidence_info
  - module: lumen.airgap.release_record
  - module: lumen.airgap.canary
"""

EXAMPLES = r"""
- name: Write the evidence, whatever happened
  lumen.airgap.evidence:
    directory: /var/lib/airgap/reports
    release: "{{ finished.release }}"
    result: "{{ canary }}"
    image: 192.168.2.2:5000/lumen-api:v1.1.0
    commit: 4be01c9
    scan: "{{ scan.counts }}"
    chain: true
  register: evidence

- name: Print the timeline
  ansible.builtin.debug:
    var: evidence.text
"""

RETURN = r"""
path:
  description: The file. Empty where the chain has a document of this release and it is not here.
  returned: success
  type: str
  sample: /var/lib/airgap/reports/lumen-api-v1.1.0-1.json
page:
  description: The page. Empty without O(page).
  returned: success
  type: str
  sample: /var/lib/airgap/reports/lumen-api-v1.1.0-1.html
text:
  description: The timeline as lines, with minutes and seconds since the start.
  returned: success
  type: list
  elements: str
  sample:
    - "lumen-api v1.1.0: promoted after 4:12 (lumen-api-v1.1.0-1)"
    - "  0:00  acquired"
    - "  1:07  pushed"
evidence:
  description: The document.
  returned: success
  type: dict
  contains:
    release:
      description: Identifies the release.
      type: str
      sample: lumen-api-v1.1.0-1
    app:
      description: Name of the app.
      type: str
      sample: lumen-api
    namespace:
      description: Namespace of the app.
      type: str
      sample: lumen
    version:
      description: The version.
      type: str
      sample: v1.1.0
    outcome:
      description:
        - V(promoted); V(rolled_back), the stable version is back and verified; V(failed), the version never reached the
          cluster or the stable version could not be verified; V(abandoned), another release was put in its place.
      type: str
      sample: promoted
    reason:
      description: Why it ended so.
      type: str
      sample: ''
    driver:
      description: What shifted the pods, V(rollout) or V(deployment).
      type: str
      sample: rollout
    started_at:
      description: RFC 3339, UTC.
      type: str
      sample: '2026-01-01T10:00:00Z'
    finished_at:
      description: RFC 3339, UTC.
      type: str
      sample: '2026-01-01T10:04:12Z'
    image:
      description: The image.
      type: str
      sample: 192.168.2.2:5000/lumen-api:v1.1.0
    digest:
      description: Its digest.
      type: str
      sample: sha256:4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
    commit:
      description: The commit that it was built from.
      type: str
      sample: 4be01c9
    pipeline:
      description: The run that made the image, as RV(lumen.airgap.pipeline#module:run). Empty where none did.
      type: dict
      sample:
        url: http://192.168.2.2:30300/lumen/lumen/actions/runs/7
    git:
      description: The commits of the manifest, C(bump) and C(revert), each if there was one.
      type: dict
      sample:
        bump: 90b4b4447d1c2a3e5f60718293a4b5c6d7e8f901
    before:
      description: What was stable when its canary began, C(image) and C(hash). Empty when none did.
      type: dict
      sample: {image: '192.168.2.2:5000/lumen-api:v1.0.0', hash: c9b8cf989}
    who:
      description: Who released, and where.
      type: dict
      sample: {user: deploy, host: control-1}
    scan:
      description: How many findings of each severity a scan of the image had.
      type: dict
      sample: {CRITICAL: 0, HIGH: 1}
    steps:
      description:
        - The steps of the canary, as M(lumen.airgap.canary) returned them.
        - C(weight) is what was set, C(actual_weight) the share of the pods that it has led to, in percent.
        - C(by_hand) tells a step that somebody promoted, and no gate of the release.
      type: list
      elements: dict
      sample:
        - index: 0
          kind: setWeight
          weight: 20
          actual_weight: 25
          started_at: '2026-01-01T10:01:10Z'
          finished_at: '2026-01-01T10:01:14Z'
          result: completed
          by_hand: false
    by_hand:
      description:
        - The steps that somebody promoted by hand, each with C(index), C(kind) and C(what). V(skipped), such as an
          analysis that came to no verdict; V(ended), a pause.
      type: list
      elements: dict
      sample:
        - index: 1
          kind: analysis
          what: skipped
    measurements:
      description: All measurements, as M(lumen.airgap.canary) returned them.
      type: list
      elements: dict
      sample:
        - run: lumen-api-5d4f-2-1
          metric: success-rate
          at: '2026-01-01T10:01:15Z'
          value: '[0.998]'
          phase: Successful
    conditions:
      description: The condition that each metric passed by, as M(lumen.airgap.canary) returned them.
      type: dict
      sample:
        success-rate: result[0] >= 0.95
    pods:
      description: Ready pods whenever their number changed, as M(lumen.airgap.canary) returned them.
      type: list
      elements: dict
      sample:
        - at: '2026-01-01T10:01:12Z'
          canary: 1
          stable: 3
    timeline:
      description: What happened, oldest first.
      type: list
      elements: dict
      sample:
        - at: '2026-01-01T10:00:00Z'
          text: acquired
    verified:
      description: What was verified at the end, as M(lumen.airgap.canary) returned it.
      type: dict
      sample: {}
    chain:
      description:
        - Identity of the chain, number of this document in it, hash and name of the file before, and the API server
          whose cluster keeps the chain. Empty without O(chain).
        - The hash is the SHA-256 of the bytes of the file.
      type: dict
      sample:
        id: 0d4f6b9e1c7a4f0f9b1f2a3c4d5e6f70
        number: 4
        previous: 4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
        previous_name: lumen-api-v1.0.0-3.json
        cluster: https://192.168.2.1:6443
"""

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.patience import Patience
from ..module_utils.adapters.kube.session import Session
from ..module_utils.entry import Task, run_task
from ..module_utils.errors import AirgapError
from ..module_utils.options import KUBE_OPTIONS, PATIENCE_OPTIONS, PATIENCE_RANGES, check_ranges
from ..module_utils.services.evidence import build, ran_by, text, write, write_page
from ..module_utils.services.evidence_chain import Store, Written, append
from ..module_utils.services.release_record import OUTCOMES
from ..module_utils.times import SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **PATIENCE_OPTIONS,
    "directory": {"type": "path", "required": True},
    "release": {"type": "dict", "required": True},
    "result": {"type": "dict", "default": {}},
    "outcome": {"type": "str", "choices": list(OUTCOMES)},
    "image": {"type": "str"},
    "digest": {"type": "str"},
    "commit": {"type": "str"},
    "page": {"type": "bool", "default": True},
    "who": {"type": "dict", "default": {}, "options": {"user": {"type": "str"}, "host": {"type": "str"}}},
    "scan": {"type": "dict", "default": {}},
    "chain": {"type": "bool", "default": False},
}
SPEC: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC}


def evidence(
    params: dict[str, Any], now: float, dry_run: bool, connect: Callable[[], Session] | None = None
) -> dict[str, Any]:
    """What the module does, with its validated parameters and the present time in epoch seconds."""
    release = params["release"]
    lacking = {"id", "app", "namespace", "version"} - release.keys()
    if lacking:
        raise AirgapError(f"The option release lacks {', '.join(sorted(lacking))}: give what release_record returned.")
    document = build(
        release,
        params["result"],
        now,
        outcome=params["outcome"],
        image=params["image"],
        digest=params["digest"],
        commit=params["commit"],
        who=ran_by(params["who"]),
        scan=params["scan"],
    )
    if params["chain"] and connect is not None:
        store = Store(connect(), release["namespace"], release["app"])
        made = append(store, params["directory"], document, document["who"]["host"], dry_run)
    else:
        path, changed = write(params["directory"], document, dry_run)
        made = Written(document, path, changed)
    page, drawn = write_page(made.path, made.document, dry_run) if params["page"] and made.path else ("", False)
    result = {"changed": made.changed or drawn, "path": made.path, "page": page, "text": text(made.document)}
    return {**result, "evidence": made.document, **({"warnings": made.warnings} if made.warnings else {})}


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    check_ranges(task.params, PATIENCE_RANGES)
    clock = SystemClock()
    patience = Patience(clock, task.params["patience"], task.tell, task.check)
    result = evidence(
        task.params,
        clock.time(),
        task.check_mode,
        lambda: Session.connect(task.params["kubeconfig"], task.params["context"]).patient(patience),
    )
    for said in result.pop("warnings", ()):
        task.warn(said)
    return result


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

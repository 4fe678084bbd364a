#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Lease and the journal of a release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_record
short_description: Keep the lock and the journal of a release
version_added: 0.1.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - One release of an app at a time. A Lease C(<app>-release) in the namespace of the app says which run works on which
    release; a ConfigMap of the same name remembers what was done.
  - A run that was killed is taken up by the next run of the same version, once the Lease has expired, or at once when
    the C(ansible-playbook) that holds it was running on this machine and is dead.
  - Another version is refused as long as a release has not ended, also when its Lease has expired.
  - A version that was promoted, and after it no other one, is returned with that outcome, and nothing is written, so
    that a play can stop early. One that was promoted before another one is refused, for that is going back.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
attributes:
  check_mode:
    support: full
    details:
      - O(state=acquired) reads, decides and refuses as always, and does not take the Lease.
      - O(state=renewed), O(state=noted) and O(state=finished) do not ask whether the Lease is held, because in check
        mode nobody took it. They refuse a release that has ended, and one that O(state=acquired) would not name now.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - O(state=noted) adds an entry each time.
options:
  patience:
    description:
      - For how long a request is made again, in seconds, while the API server does not answer, as when it restarts. In
        check mode too.
      - O(state=acquired) fails at once until it has had its first answer. What is wrong then may be the address.
      - V(0) fails at once.
    type: float
    default: 60
    version_added: 0.5.0
  app:
    description: Name of the app, in general that of its Rollout.
    type: str
    required: true
  namespace:
    description: Namespace of the app, where the Lease and the ConfigMap are kept.
    type: str
    required: true
  state:
    description:
      - V(acquired) begins the release of O(version) or takes it up again.
      - V(renewed) holds the Lease for another O(lease_seconds).
      - V(noted) appends O(phase) to the journal and renews the Lease.
      - V(reported) drops the journal of O(abandoned), of which the evidence is written by then.
      - V(finished) writes O(outcome) and gives the Lease back.
      - V(read) returns the latest release, whoever works on it.
    type: str
    choices: [acquired, renewed, noted, reported, finished, read]
    default: acquired
  version:
    description:
      - The version to release. Needed for O(state=acquired).
      - Letters, digits, C(.), C(_) and C(-).
    type: str
  run:
    description:
      - Identifies this run in O(state=acquired).
      - Without it, a new one is made up, or the one that this C(ansible-playbook) already has for the release is kept.
    type: str
  release:
    description:
      - The release that was acquired. Needed for the states V(renewed), V(noted), V(reported) and V(finished).
    type: dict
    suboptions:
      id:
        description: RV(release.id) of O(state=acquired).
        type: str
        required: true
      run:
        description: RV(release.run) of O(state=acquired).
        type: str
        required: true
  phase:
    description: What has been reached, for O(state=noted), for example V(built).
    type: str
  data:
    description:
      - What belongs to O(phase). Kept beside it in the journal.
      - C(text), if there, is how reports tell it.
    type: dict
  abandoned:
    description: RV(abandoned[].id) of a release that has its evidence, for O(state=reported).
    type: str
    version_added: 0.5.0
  outcome:
    description:
      - How the release ended, for O(state=finished).
      - V(promoted) when the new version is everywhere, V(rolled_back) when the stable version is back and verified,
        V(failed) when it never reached the cluster or the stable version could not be verified.
    type: str
    choices: [promoted, rolled_back, failed]
  reason:
    description: Why it ended so, in one sentence.
    type: str
    default: ''
  lease_seconds:
    description:
      - How long the Lease lasts without being renewed, in seconds, more than 0.
      - Make it longer before a step that does not renew it, such as a build, by the deadline of that step.
    type: int
    default: 60
  retry:
    description:
      - Release a version again that was rolled back the last time that it reached the cluster.
      - A version that was promoted before is released again too, instead of being returned as it is.
    type: bool
    default: false
  unmeasured:
    description:
      - Its canary is to skip its analyses, for O(state=acquired).
      - A version is refused then that has reached the cluster and was never promoted there. One that nobody remembers
        is taken.
    type: bool
    default: false
    version_added: 0.5.0
  force_unlock:
    description:
      - Take the Lease from whoever holds it. Its release, if it is another one, is given up, and returned as one of
        RV(abandoned).
      - Make sure that the other run does not work any more; a run that lost its Lease stops at its next tick.
    type: bool
    default: false
seealso:
  - module: lumen.airgap.canary
  - module: lumen.airgap.evidence
"""

EXAMPLES = r"""
- name: Begin the release, or take it up where a killed run has left it
  lumen.airgap.release_record:
    app: lumen-api
    namespace: lumen
    version: v1.1.0
    lease_seconds: 900
  register: record

- name: Stop here when there is nothing to do
  ansible.builtin.meta: end_host
  when: record.release.outcome == 'promoted'

- name: Remember that the image is in the registry
  lumen.airgap.release_record:
    app: lumen-api
    namespace: lumen
    state: noted
    release:
      id: "{{ record.release.id }}"
      run: "{{ record.release.run }}"
    phase: pushed
    data:
      digest: "{{ push.images[0].digest }}"

- name: Write the outcome and give the Lease back
  lumen.airgap.release_record:
    app: lumen-api
    namespace: lumen
    state: finished
    release:
      id: "{{ record.release.id }}"
      run: "{{ record.release.run }}"
    outcome: promoted
"""

RETURN = r"""
release:
  description: The release. Empty for O(state=read) when the app was never released.
  returned: success
  type: dict
  contains:
    id:
      description: Identifies the release; its number counts the releases of the app.
      type: str
      sample: lumen-api-v1.1.0-1
    run:
      description: Identifies the run that works on it, or did last.
      type: str
      sample: 6f1c2a90
    app:
      description: Name of the app.
      type: str
      sample: lumen-api
    namespace:
      description: Namespace of the app.
      type: str
      sample: lumen
    version:
      description: The version that is released.
      type: str
      sample: v1.1.0
    started_at:
      description: When it began. RFC 3339, UTC.
      type: str
      sample: '2026-01-01T10:00:00Z'
    finished_at:
      description: When it ended. RFC 3339, UTC. Null while it goes on.
      type: str
      sample: '2026-01-01T10:04:12Z'
    resumed:
      description: Whether this run took the release up from another one.
      type: bool
      sample: false
    phase:
      description: The last phase of the journal.
      type: str
      sample: pushed
    outcome:
      description:
        - V(promoted), V(rolled_back), V(failed), or V(abandoned) when O(force_unlock) put another one in its place.
        - Null while it goes on.
      type: str
      sample: promoted
    reason:
      description: Why it ended so.
      type: str
      sample: ''
    journal:
      description: What was done, oldest first. Each entry has C(phase), C(at) (RFC 3339, UTC), C(run), and its data.
      type: list
      elements: dict
      sample:
        - phase: acquired
          at: '2026-01-01T10:00:00Z'
          run: 6f1c2a90
        - phase: pushed
          at: '2026-01-01T10:01:07Z'
          run: 6f1c2a90
          digest: sha256:4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
    progress:
      description: How far it has come, by its journal.
      type: dict
      version_added: 0.5.0
      contains:
        unmeasured:
          description: Whether it was taken, or taken up, with O(unmeasured).
          type: bool
          sample: false
        building:
          description: Whether its image was begun.
          type: bool
          sample: true
        image:
          description: The journal's entry about the image that is in the registry. Empty before.
          type: dict
          sample:
            phase: pushed
            at: '2026-01-01T10:01:07Z'
            run: 6f1c2a90
            digest: sha256:4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
        scan:
          description: What was found in it, a number for each severity, or C(failed) with the reason. Empty before.
          type: dict
          sample:
            HIGH: 1
        failing:
          description: Why it is on its way back, where that was decided before a canary began.
          type: str
          sample: ''
        canary:
          description: Whether its canary has C(begun) and C(ended), with which C(outcome), and what moves it.
          type: dict
          sample:
            begun: true
            ended: false
            outcome: ''
            driver: rollout
        stable:
          description: C(image) and C(hash) of what was stable when the canary began. Empty before.
          type: dict
          sample:
            image: 192.168.2.2:5000/lumen-api:v1.0.0
            hash: b67698557
        git:
          description: The commits of its C(bump) and its C(revert), each if there is one.
          type: dict
          sample:
            bump: 0f2c2f6e9d0f5f1e3f0e6a1c4f2d9a7b8c5e4d3a
abandoned:
  description:
    - Releases that were given up by O(force_unlock) and have no evidence yet, oldest first, the last five at most.
    - Each is as RV(release), with journal and progress as its last run left it. They are returned until
      O(state=reported) drops them.
  returned: for O(state=acquired)
  type: list
  elements: dict
  contains:
    id:
      description: Identifies it, for O(abandoned).
      type: str
      sample: lumen-api-v1.0.9-7
holder:
  description: Who holds the Lease, when that is why the task failed.
  returned: when the Lease belongs to another run
  type: str
  sample: lumen-api-v1.0.9-7/91bb03d2
renewed_at:
  description: When it was renewed last. RFC 3339, UTC.
  returned: when the Lease belongs to another run
  type: str
  sample: '2026-01-01T09:59:48Z'
expires_at:
  description: When it expires. RFC 3339, UTC.
  returned: when the Lease belongs to another run
  type: str
  sample: '2026-01-01T10:00:48Z'
"""

import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.patience import Patience
from ..module_utils.adapters.kube.session import Session
from ..module_utils.entry import Task, run_task
from ..module_utils.options import KUBE_OPTIONS, PATIENCE_OPTIONS, PATIENCE_RANGES, SECONDS, check_ranges
from ..module_utils.services import process
from ..module_utils.services.release_record import OUTCOMES, LeaseLost, Record
from ..module_utils.times import Clock, SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **PATIENCE_OPTIONS,
    "app": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["acquired", "renewed", "noted", "reported", "finished", "read"],
        "default": "acquired",
    },
    "version": {"type": "str"},
    "run": {"type": "str"},
    "release": {
        "type": "dict",
        "options": {"id": {"type": "str", "required": True}, "run": {"type": "str", "required": True}},
    },
    "phase": {"type": "str"},
    "data": {"type": "dict"},
    "abandoned": {"type": "str"},
    "outcome": {"type": "str", "choices": list(OUTCOMES)},
    "reason": {"type": "str", "default": ""},
    "lease_seconds": {"type": "int", "default": 60},
    "retry": {"type": "bool", "default": False},
    "unmeasured": {"type": "bool", "default": False},
    "force_unlock": {"type": "bool", "default": False},
}
REQUIRED_IF = [
    ("state", "acquired", ["version"]),
    ("state", "renewed", ["release"]),
    ("state", "noted", ["release", "phase"]),
    ("state", "reported", ["release", "abandoned"]),
    ("state", "finished", ["release", "outcome"]),
]
SPEC: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC, "required_if": REQUIRED_IF}
RANGES = {"lease_seconds": SECONDS, **PATIENCE_RANGES}


def record(params: dict[str, Any], session: Session, clock: Clock, dry_run: bool) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    where = (session, clock, params["namespace"], params["app"])
    if params["state"] == "acquired":
        acquired = Record.acquire(
            *where,
            params["version"],
            params["run"] or uuid.uuid4().hex[:8],
            process.find(),
            force_unlock=params["force_unlock"],
            lease_seconds=params["lease_seconds"],
            retry=params["retry"],
            unmeasured=params["unmeasured"],
            dry_run=dry_run,
        )
        return {"changed": acquired.changed, "release": acquired.as_dict(), "abandoned": acquired.abandoned}
    latest = Record.read(*where)
    release = latest.as_dict() if latest else {}
    if params["state"] == "read":
        return {"changed": False, "release": release}
    if dry_run:
        return {"changed": _predict(params, latest), "release": release}
    try:
        held = Record.attach(*where, params["release"]["id"], params["release"]["run"])
    except LeaseLost:
        if latest is None or not _ended_so(latest, params):
            raise
        return {"changed": False, "release": release}
    changed = _advance(held, params)
    return {"changed": changed, "release": held.as_dict()}


def _ended_so(latest: Record, params: dict[str, Any]) -> bool:
    """Whether this release was finished in the same way before: it has given its Lease back."""
    asked = (params["state"], params["release"]["id"], params["outcome"])
    return asked == ("finished", latest.release_id, latest.outcome)


def _predict(params: dict[str, Any], latest: Record | None) -> bool:
    """Check mode: whether a run would change something; refuses what it would refuse."""
    wanted = params["release"]["id"]
    if latest is not None and _ended_so(latest, params):
        return False
    if latest is not None and latest.release_id == wanted:
        if latest.outcome:
            raise LeaseLost(f"The release {wanted} has ended already: {latest.outcome}.")
        return params["state"] != "renewed"
    # In check mode nothing was acquired: the name of the next release is one that a run would have by now.
    number = int(latest.release_id.rpartition("-")[2]) if latest else 0
    if not (wanted.startswith(f"{params['app']}-") and wanted.endswith(f"-{number + 1}")):
        raise LeaseLost(f"There is no release {wanted} of {params['app']}.")
    return params["state"] != "renewed"


def _advance(held: Record, params: dict[str, Any]) -> bool:
    if params["state"] == "renewed":
        held.renew(params["lease_seconds"])
        return False  # a heartbeat leaves nothing behind
    if params["state"] == "noted":
        held.note(params["phase"], **(params["data"] or {}))
        return True
    if params["state"] == "reported":
        return held.reported(params["abandoned"])
    return held.finish(params["outcome"], params["reason"])


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    check_ranges(task.params, RANGES)
    clock = SystemClock()
    # A release begins with this: an API server that does not answer then is none to wait for.
    known = task.params["state"] != "acquired"
    patience = Patience(clock, task.params["patience"], task.tell, task.check, known)
    session = Session.connect(task.params["kubeconfig"], task.params["context"]).patient(patience)
    return record(task.params, session, clock, task.check_mode)


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

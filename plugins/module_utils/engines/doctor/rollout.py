# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Rollout itself: missing, paused, aborted and left so, or on its way again with a version that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone

from ..canary.objects import REVISION_ANNOTATION, RolloutView, RunView, read_rollout, read_run
from ..canary.steps import Step, StepError, read_steps
from .facts import ERROR, INFO, WARNING, Facts, Finding, Object, how, refresh

_UNSEEN_SECONDS = 30.0
"""How long the controller may take to look at a change: a new leader needs some 20 s after the old one died."""
_FAILED = ("Failed", "Error")
#: kubectl alone has no verbs for Rollouts.
PROMOTE = "ansible-playbook -i INVENTORY lumen.airgap.promote"


def check_rollout(facts: Facts) -> Iterator[Finding]:
    """Everything that the Rollout's own status says."""
    if not facts.looked:
        return
    if not facts.rollouts_known:
        yield Finding(
            "rollouts-missing",
            ERROR,
            "The cluster does not know Rollouts",
            "CustomResourceDefinition rollouts.argoproj.io",
            "Argo Rollouts is not installed, so that nothing can be released by a canary.",
            [],
            [how("Install it:", "ansible-playbook -i INVENTORY lumen.airgap.site --tags argo_rollouts")],
        )
        return
    if facts.rollout is None:
        yield Finding(
            "rollout-absent",
            ERROR,
            "The app has no Rollout",
            f"Rollout {facts.namespace}/{facts.app}",
            "It is not in the cluster. Argo CD makes it from the manifest in Git, if its Application is synced.",
            [],
            [
                how(
                    "See the Application's state, and whether this is the app's name:",
                    "kubectl get applications -n argocd",
                )
            ],
        )
        return
    view = read_rollout(facts.rollout)
    yield from _unseen(facts, view)
    yield from _paused(facts, view)
    if view.aborted:
        # Until the controller has looked at a change, what it says is about the spec before.
        if view.observed and view.hash != view.stable:
            yield _aborted(facts, view)
    else:
        yield from _restarted(facts, view)


def title(facts: Facts) -> str:
    """What findings call the Rollout."""
    return f"Rollout {facts.namespace}/{facts.app}"


def runs_of(facts: Facts, view: RolloutView) -> list[RunView]:
    """The AnalysisRuns of the version in the spec, oldest first."""
    found = [read_run(each) for each in facts.runs if _owner(each) in ("", facts.app)]
    return sorted((run for run in found if run.hash and run.hash == view.hash), key=lambda run: (run.created, run.name))


def _owner(run: Object) -> str:
    for each in run["metadata"].get("ownerReferences") or ():
        if each.get("kind") == "Rollout":
            return str(each.get("name", ""))
    return ""


def _unseen(facts: Facts, view: RolloutView) -> Iterator[Finding]:
    if view.observed or facts.rollout is None:
        return
    changed = last_spec_change(facts.rollout)
    if changed is None or facts.now - changed[1] < _UNSEEN_SECONDS:
        return
    yield Finding(
        "rollout-unseen",
        ERROR,
        "The Rollouts controller does not react",
        title(facts),
        "The Rollout was changed, and its status still speaks of the spec before: the controller is away, or busy "
        "becoming leader.",
        [
            f"generation {facts.rollout['metadata'].get('generation')}, seen by the controller: "
            f"{(facts.rollout.get('status') or {}).get('observedGeneration')}",
            *_by_whom(facts.rollout),
        ],
        [
            how(
                "See what the controller says:",
                "kubectl get pods -n argo-rollouts",
                "kubectl logs -n argo-rollouts deployment/argo-rollouts --tail=50",
            )
        ],
    )


def _paused(facts: Facts, view: RolloutView) -> Iterator[Finding]:
    rollout = facts.rollout or {}
    abort = f"To take it back instead, revert its commit in Git; then it goes back to {facts.stable_image or 'stable'}."
    if (rollout.get("spec") or {}).get("paused"):
        yield Finding(
            "rollout-stopped",
            ERROR,
            "The Rollout was paused by hand",
            title(facts),
            "spec.paused is true: no step is taken, whatever the analysis says.",
            _by_whom(rollout),
            # A promotion would skip the step that it stands at.
            [how("Let it go on:", _patch(facts, "merge", {"spec": {"paused": False}})), abort],
        )
    if "InconclusiveAnalysisRun" in view.pauses:
        return  # told with its numbers
    if "CanaryPauseStep" not in view.pauses or view.phase != "Paused":
        return
    step = _current_step(rollout, view)
    if step is not None and not step.indefinite:
        return  # it goes on by itself
    where = f"step {step.index + 1}, " if step is not None else ""
    application = facts.application()
    shown = f"{application['metadata']['name']} " if application else ""
    suspended = (((application or {}).get("status") or {}).get("health") or {}).get("status") == "Suspended"
    yield Finding(
        "rollout-paused",
        INFO,
        "The canary waits for somebody to promote it",
        title(facts),
        f"It is at {where}a pause without an end. That is as it should be: the step is written so in Git.",
        [
            f"{view.updated} of {view.replicas} pods run {facts.container_image}",
            *_since(view, rollout),
            *([f"Argo CD shows the Application {shown}as Suspended, its word for a pause"] if suspended else []),
        ],
        [how("Promote it:", PROMOTE), abort],
    )


def _since(view: RolloutView, rollout: Object) -> list[str]:
    for each in (rollout.get("status") or {}).get("pauseConditions") or ():
        if each.get("startTime"):
            return [f"paused since {each['startTime']}"]
    return []


def _current_step(rollout: Object, view: RolloutView) -> Step | None:
    canary = (((rollout.get("spec") or {}).get("strategy") or {}).get("canary")) or {}
    try:
        steps = read_steps(canary)
    except StepError:
        return None
    return steps[view.index] if view.index is not None and view.index < len(steps) else None


def _aborted(facts: Facts, view: RolloutView) -> Finding:
    wanted, stable = facts.container_image, facts.stable_image
    application, pipeline = facts.application(), facts.pipeline
    in_git = pipeline.manifest_image if pipeline else ""
    # What the analysis said of it is told with the analysis.
    said = view.message.partition(": Metric ")[0]
    evidence = [f"{view.phase}: {said}", f"the spec has {wanted}, stable pods run {stable or view.stable}"]
    status = (facts.rollout or {}).get("status") or {}
    if status.get("abortedAt"):
        evidence.insert(0, f"aborted at {status['abortedAt']}")
    if in_git:
        evidence.append(f"Git has {in_git} in {pipeline.manifest_path if pipeline else ''}")
    if in_git and in_git != wanted:
        # Git is right again, and the cluster has not taken it over yet.
        return Finding(
            "abort-revert-pending",
            WARNING,
            "Git is back, and the cluster does not know yet",
            title(facts),
            "The version that was aborted is no longer in Git; Argo CD has not synced that commit.",
            evidence,
            [how("Let Argo CD look at Git now:", refresh(application))] if application else ["Apply the manifest."],
        )
    commit = (pipeline.manifest_commit.partition(" ")[0] if pipeline else "") or "<commit>"
    if pipeline and pipeline.manifest_commit:
        evidence.append(f"that was brought by {pipeline.manifest_commit}")
    revision = (((application or {}).get("status") or {}).get("sync") or {}).get("revision", "")
    if application is None and not in_git:
        remedy = [
            how(
                "Bring the stable image back (no Application owns this Rollout, so nothing reverts that):",
                _patch(facts, "json", [_replaced_image(facts, stable or "<stable image>")]),
            )
        ]
    else:
        if application is not None and revision:
            name = application["metadata"]["name"]
            evidence.append(f"Application {name} is synced to {revision[:7]}: selfHeal sees no difference")
        remedy = [
            how(
                "Revert the commit that brought the version, with a message of its own: the default repeats [skip ci], "
                "and a tag on that commit would start nothing.",
                f"git revert --no-commit {commit}",
                f"git commit -m 'Take {wanted.rpartition('/')[2] or facts.app} back' && git push",
            ),
            "Leave the Rollout alone until then: any change of its spec by hand starts the bad version again, and so "
            "does retry.",
            how(
                "Then let Argo CD look at Git, which it does by itself every few minutes. Stable is back within "
                "seconds, without an analysis.",
                *([refresh(application)] if application else []),
            ),
        ]
    return Finding(
        "aborted-not-reverted",
        ERROR,
        "An aborted version is still what is asked for",
        title(facts),
        "The canary was aborted and stable serves everything, but the version that was aborted is still "
        f"{'in Git' if application is not None or in_git else 'in the spec'}. An abort changes neither.",
        evidence,
        remedy,
    )


def _patch(facts: Facts, kind: str, patch: object) -> str:
    """With kubectl alone: its plugin for Rollouts need not be there."""
    return f"kubectl patch rollout {facts.app} -n {facts.namespace} --type={kind} -p '{json.dumps(patch)}'"


def _replaced_image(facts: Facts, image: str) -> dict[str, str]:
    containers = (facts.rollout or {})["spec"]["template"]["spec"]["containers"]
    named = [index for index, each in enumerate(containers) if each.get("name") == facts.app]
    path = f"/spec/template/spec/containers/{named[0] if named else 0}/image"
    return {"op": "replace", "path": path, "value": image}


def _restarted(facts: Facts, view: RolloutView) -> Iterator[Finding]:
    """A version whose analysis has failed is on its way again."""
    if not view.observed or view.hash == view.stable or not view.stable or facts.rollout is None:
        return
    failed = [run for run in runs_of(facts, view) if run.phase in _FAILED]
    if not failed:
        return
    last = failed[-1]
    if _number(last.revision) > _number(view.revision) or _taken_back_between(facts, view, last):
        return  # it was taken back, and is released once more on purpose
    touched = last_spec_change(facts.rollout)
    ended = _ended(facts, last.name)
    again = _number(last.revision) < _number(view.revision)
    # Both are told in whole seconds. Within the same one, the touch came after: a version that is measured was asked
    # for some seconds before.
    by_hand = again or (touched is not None and ended is not None and touched[1] >= ended)
    if not by_hand and ended is not None and facts.now - ended < _UNSEEN_SECONDS:
        return  # the controller is about to abort it
    evidence = [
        f"AnalysisRun {last.name} ended {last.phase}: {last.message}",
        f"now revision {view.revision}, {view.phase} at step {(view.index or 0) + 1}, with the same pods ({view.hash})",
        *(_by_whom(facts.rollout) if by_hand else []),
    ]
    if by_hand:
        cause = (
            "Its spec was touched while it was aborted. A change of the template or of the steps clears the abort, "
            "and the controller starts the canary of what the spec has: the version that failed."
        )
    else:
        cause = "Somebody called retry: it clears the abort and starts the canary of the same version again."
    yield Finding(
        "restarted-after-abort",
        ERROR if by_hand else WARNING,
        "A version that failed is being rolled out again",
        title(facts),
        cause,
        evidence,
        [
            how("Stop it, and take it back in Git:", "ansible-playbook -i INVENTORY lumen.airgap.abort"),
            "Change nothing by hand until that is done. Where no Git asks for it, set the stable image again then.",
        ],
    )


def _taken_back_between(facts: Facts, view: RolloutView, failed: RunView) -> bool:
    """Whether stable was what the spec asked for since: its ReplicaSet then has a revision in between."""
    for each in facts.replica_sets:
        labels = each["metadata"].get("labels") or {}
        if labels.get("rollouts-pod-template-hash") == view.stable:
            revision = (each["metadata"].get("annotations") or {}).get(REVISION_ANNOTATION, "")
            return _number(failed.revision) < _number(revision) < _number(view.revision)
    return False


def _ended(facts: Facts, name: str) -> float | None:
    for each in facts.runs:
        if each["metadata"]["name"] == name:
            status = each.get("status") or {}
            return moment(status.get("completedAt") or "")
    return None


def last_spec_change(rollout: Object) -> tuple[str, float] | None:
    """Who wrote into the spec last, and when; None when the API server does not tell."""
    found: list[tuple[float, str]] = []
    for entry in rollout["metadata"].get("managedFields") or ():
        at = moment(entry.get("time") or "")
        if at is not None and not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {}):
            found.append((at, entry.get("manager") or "somebody"))
    if not found:
        return None
    at, manager = max(found)
    return manager, at


def _by_whom(rollout: Object) -> list[str]:
    change = last_spec_change(rollout)
    if change is None:
        return []
    at = datetime.fromtimestamp(change[1], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [f"its spec was last written by {change[0]} at {at}"]


def moment(text: str) -> float | None:
    """Epoch seconds of an RFC 3339 time; None for what is none."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Deployment and the canary Deployment beside it: what they say, and how the second is made of the first.

What the canary has to remember stands in an annotation of the canary Deployment, so that it goes with it. To whoever
follows, the pair is shown as the Rollout and the AnalysisRuns that Argo Rollouts would have made of it: the story of a
release is told by the same code, whatever moved its pods.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .machine import BACKGROUND, Place, Verdict
from .objects import HASH_LABEL, REVISION_ANNOTATION, STEP_LABEL, Object
from .replicas import Scale

POD_HASH = "pod-template-hash"
"""The Deployment controller's label of pods and ReplicaSets."""
DEPLOYMENT_REVISION = "deployment.kubernetes.io/revision"
CANARY_LABEL = "lumen.airgap/canary"
"""Of the canary Deployment, its selector and its pods alone: the name of the Deployment beside it."""
MEMORY_ANNOTATION = "lumen.airgap/canary"
ALLOW_ANNOTATION = "lumen.airgap/promote"
"""Of the canary Deployment, by hand: the number of the step, from 1, whose pause is over."""
REPLICAS_ANNOTATION = "lumen.airgap/replicas"
"""Of the Deployment, while its canary has some of them: how many replicas are its own."""

_KEPT = 10
"""Measurements of each metric that are remembered in the cluster, as many as an AnalysisRun keeps."""
_VALUE, _MESSAGE = 200, 300
"""How many characters of a measured value, and of what is said of it, are remembered in the cluster."""
_MOST = 200_000
"""Bytes of the annotation: an object takes no more than 256 KiB of them all (TotalAnnotationSizeLimitB)."""
_COPIED = ("minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit")


class StateError(ValueError):
    """The annotation of a canary Deployment is not one of ours."""


@dataclass
class Memory:
    """What the next run has to know. Times are epoch seconds."""

    container: str
    image: str
    stable_image: str
    stable_hash: str
    revision: str
    replicas: int
    """Of the Deployment, before the canary took some of them over."""
    steps: list[dict[str, Any]]
    analysis: dict[str, Any] | None
    started: float
    index: int = 0
    since: float = 0.0
    aborted: bool = False
    reason: str = ""
    allowed: int = 0
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    """The analyses that have ended, as `analysis_run` makes them."""

    def place(self, canary: Object | None) -> Place:
        """For the step machine. ``canary``: its Deployment, where somebody may have let the step in progress pass."""
        text = ((canary or {}).get("metadata", {}).get("annotations") or {}).get(ALLOW_ANNOTATION, "")
        by_hand = int(text) if text.isdecimal() else 0
        return Place(self.index, self.since, self.aborted, frozenset({self.allowed, by_hand}) - {0}, self.verdicts)

    def advance(self, at: float) -> None:
        """The step in progress is over. What was inconclusive beside it was let pass with it, and is measured anew."""
        self.index, self.since = self.index + 1, at
        if BACKGROUND in self.verdicts and self.verdicts[BACKGROUND].phase == "Inconclusive":
            del self.verdicts[BACKGROUND]

    def as_text(self) -> str:
        """For the annotation. What would not fit any more are the measurements of the oldest analyses."""
        runs = [_trimmed(run) for run in self.runs]
        text = self._as_text(runs)
        for number, run in enumerate(runs):
            if len(text.encode()) <= _MOST:
                break
            runs[number] = _trimmed(run, kept=0)
            text = self._as_text(runs)
        return text

    def _as_text(self, runs: Sequence[Mapping[str, Any]]) -> str:
        verdicts = {str(index): [phase, message[:_MESSAGE]] for index, (phase, message) in self.verdicts.items()}
        return json.dumps({**self.__dict__, "verdicts": verdicts, "runs": runs}, sort_keys=True, ensure_ascii=False)


def read_memory(canary: Object) -> Memory:
    """From a canary Deployment. Raises StateError when somebody else has made it."""
    text = (canary["metadata"].get("annotations") or {}).get(MEMORY_ANNOTATION, "")
    try:
        found = json.loads(text)
        verdicts = {int(index): Verdict(*verdict) for index, verdict in found.pop("verdicts").items()}
        return Memory(**found, verdicts=verdicts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"its annotation {MEMORY_ANNOTATION} is missing or not readable ({error})") from error


def _trimmed(run: Mapping[str, Any], kept: int = _KEPT) -> dict[str, Any]:
    status = run["status"]
    results = [
        {**each, "measurements": [_short(made) for made in each["measurements"][-kept:]] if kept else []}
        for each in status["metricResults"]
    ]
    return {**run, "status": {**status, "message": status["message"][:_MESSAGE], "metricResults": results}}


def _short(made: Mapping[str, Any]) -> dict[str, Any]:
    value = made["value"]
    return {**made, "value": value and value[:_VALUE], "message": (made["message"] or "")[:_MESSAGE]}


# -- the two Deployments -----------------------------------------------------------------------------------------


def canary_name(name: str) -> str:
    """Of the canary Deployment."""
    return f"{name}-canary"


def containers(deployment: Object) -> list[dict[str, Any]]:
    """Of its pod template."""
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return found


def image_of(deployment: Object, container: str) -> str:
    """The image of one container in the template; empty when there is no such container any more."""
    return next((str(each.get("image", "")) for each in containers(deployment) if each["name"] == container), "")


def canary_of(stable: Object, memory: Memory) -> dict[str, Any]:
    """The canary Deployment, without pods yet. It goes with the Deployment that it belongs to."""
    meta, spec = stable["metadata"], stable["spec"]
    mark = {CANARY_LABEL: meta["name"]}
    template = copy.deepcopy(dict(spec["template"]))
    template["metadata"] = {**(template.get("metadata") or {})}
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **mark}
    for each in template["spec"]["containers"]:
        if each["name"] == memory.container:
            each["image"] = memory.image
    selector = copy.deepcopy(dict(spec["selector"]))
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **mark}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": canary_name(meta["name"]),
            "namespace": meta["namespace"],
            "labels": mark,
            "annotations": {MEMORY_ANNOTATION: memory.as_text()},
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": 0,
            "selector": selector,
            "template": template,
            **{key: spec[key] for key in _COPIED if key in spec},
        },
    }


def is_canary_of(canary: Object, name: str) -> bool:
    """Whether a Deployment was made by `canary_of`."""
    return (canary["metadata"].get("labels") or {}).get(CANARY_LABEL) == name


def same_but_image(stable: Object, canary: Object, container: str) -> bool:
    """Whether nothing but the image of the released container tells the two templates apart."""
    return _bare(stable, container) == _bare(canary, container)


def _bare(deployment: Object, container: str) -> dict[str, Any]:
    template = copy.deepcopy(dict(deployment["spec"]["template"]))
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key != CANARY_LABEL}
    for each in template["spec"]["containers"]:
        if each["name"] == container:
            each["image"] = ""
    return {**template, "metadata": meta}


def scale_of(deployment: Object | None) -> Scale:
    """Its pods, asked for and available; none without a Deployment."""
    if deployment is None:
        return Scale(0, 0)
    return Scale(replicas_of(deployment), (deployment.get("status") or {}).get("availableReplicas") or 0)


def replicas_of(deployment: Object) -> int:
    """How many pods it asks for."""
    return int(deployment["spec"].get("replicas", 1))


def full_replicas(deployment: Object) -> int:
    """How many pods it asks for when no canary has any of them. A mark that was left behind takes none away."""
    text, now = mark_of(deployment), replicas_of(deployment)
    return max(int(text), now) if text.isdecimal() else now


def mark_of(deployment: Object) -> str:
    """What `REPLICAS_ANNOTATION` says; empty while no canary has any of its pods."""
    return str((deployment["metadata"].get("annotations") or {}).get(REPLICAS_ANNOTATION, ""))


def is_observed(deployment: Object) -> bool:
    """Whether its status speaks of the spec beside it."""
    status = deployment.get("status") or {}
    return int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)


def is_settled(deployment: Object | None) -> bool:
    """Whether no pod of another template, and none beyond what is asked for, is left."""
    if deployment is None:
        return True
    status = deployment.get("status") or {}
    there, updated = status.get("replicas") or 0, status.get("updatedReplicas") or 0
    return is_observed(deployment) and there == updated <= replicas_of(deployment)


def is_complete(deployment: Object) -> bool:
    """Whether all its pods are there, of its template, and available."""
    wanted = replicas_of(deployment)
    there = (deployment.get("status") or {}).get("replicas") or 0
    return is_settled(deployment) and there == wanted and scale_of(deployment).available >= wanted


def hash_of(deployment: Object | None, replica_sets: Iterable[Object]) -> str:
    """The pod template hash of a Deployment's template now; empty while its ReplicaSet has not been seen."""
    if deployment is None or not is_observed(deployment):
        return ""
    uid, revision = deployment["metadata"].get("uid"), _revision(deployment)
    for each in replica_sets:
        owners = [owner.get("uid") for owner in each["metadata"].get("ownerReferences") or ()]
        if uid in owners and _revision(each) == revision:
            return str((each["metadata"].get("labels") or {}).get(POD_HASH, ""))
    return ""


def _revision(obj: Object) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(DEPLOYMENT_REVISION, ""))


def next_revision(deployment: Object) -> str:
    """The revision that the Deployment will have with another template."""
    text = _revision(deployment)
    return str(int(text) + 1) if text.isdecimal() else "1"


# -- shown as Argo Rollouts' objects -----------------------------------------------------------------------------


def labelled(obj: Object, aliases: Mapping[str, str]) -> dict[str, Any]:
    """A pod or ReplicaSet with its hash under the name that a Rollout's has; ``aliases`` maps hashes to others."""
    labels = dict(obj["metadata"].get("labels") or {})
    hash = labels.get(POD_HASH, "")
    labels[HASH_LABEL] = aliases.get(hash, hash)
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


@dataclass(frozen=True)
class Look:
    """What of the pair is shown. ``phase`` and ``message`` as a Rollout says them; ``pauses`` its reasons to pause."""

    hash: str
    stable: str
    revision: str
    index: int
    phase: str
    canary: Scale
    rest: Scale
    """The Deployment itself."""
    message: str = ""
    aborted: bool = False
    pauses: Sequence[str] = ()
    since: str = ""
    """When the step in progress began."""
    run: str = ""
    """Name of the analysis of the step in progress."""


def as_rollout(name: str, steps: Sequence[Mapping[str, Any]], look: Look, version: int) -> dict[str, Any]:
    """A Rollout that says the same; ``version`` grows with each."""
    status: dict[str, Any] = {
        "observedGeneration": "1",
        "currentPodHash": look.hash,
        "stableRS": look.stable,
        "currentStepIndex": look.index,
        "phase": look.phase,
        "message": look.message,
        "abort": look.aborted,
        "pauseConditions": [{"reason": reason, "startTime": look.since} for reason in look.pauses],
        "canary": {"currentStepAnalysisRunStatus": {"name": look.run}} if look.run else {},
        "replicas": look.canary.spec + look.rest.spec,
        "updatedReplicas": look.canary.spec,
        "availableReplicas": look.canary.available + look.rest.available,
    }
    return {
        "metadata": {
            "name": name,
            "uid": f"canary of {name}",
            "generation": 1,
            "resourceVersion": str(version),
            "annotations": {REVISION_ANNOTATION: look.revision},
        },
        "spec": {"strategy": {"canary": {"steps": list(steps)}}},
        "status": status,
    }


def _metric(name: str, count: int, condition: str) -> dict[str, Any]:
    return {
        "name": name,
        **({"count": count} if count else {}),
        **({"successCondition": condition} if condition else {}),
    }


def analysis_run(
    app: str,
    hash: str,
    revision: str,
    index: int | None,
    created: str,
    metrics: Sequence[tuple[str, int, str]],
    again: int = 0,
) -> dict[str, Any]:
    """An AnalysisRun without measurements; ``metrics`` are names, counts (0: without one) and success conditions.

    ``again``: how many there were of it before; they are told apart as by CreateWithCollisionCounter of Argo Rollouts.
    """
    step = "" if index is None else str(index)
    return {
        "metadata": {
            "name": f"{app}-{hash}-{revision}" + (f"-{step}" if step else "") + (f".{again}" if again else ""),
            "labels": {HASH_LABEL: hash, STEP_LABEL: step},
            "annotations": {REVISION_ANNOTATION: revision},
            "creationTimestamp": created,
            "ownerReferences": [{"kind": "Rollout", "name": app}],
        },
        "spec": {"metrics": [_metric(*metric) for metric in metrics]},
        "status": {"phase": "Running", "message": "", "metricResults": []},
    }


def add_measurement(run: dict[str, Any], metric: str, dry_run: bool, measurement: Mapping[str, Any]) -> None:
    """``measurement``: phase, value, finishedAt and message as in an AnalysisRun."""
    results = run["status"]["metricResults"]
    result = next((each for each in results if each["name"] == metric), None)
    if result is None:
        result = {"name": metric, "dryRun": dry_run, "count": 0, "error": 0, "measurements": []}
        results.append(result)
    result["measurements"].append(dict(measurement))
    result["error" if measurement["phase"] == "Error" else "count"] += 1

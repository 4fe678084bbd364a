# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Rollout with all that belongs to it, as data (`describe`) and as ``kubectl argo rollouts get rollout`` prints it.

Equal to the plugin of Argo Rollouts 1.8 (pkg/kubectl-argo-rollouts/info and cmd/get), colours aside. The data say more
where the plugin's text misleads: an AnalysisRun that was terminated is Successful there whatever it has measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .objects import HASH_LABEL, REVISION_ANNOTATION, Object, read_rollout, read_run
from .phase import client_phase, epoch

OK, BAD, WARNING, UNKNOWN, PROGRESSING, PAUSED, WAITING, NEUTRAL = "✔", "✖", "⚠", "?", "◌", "॥", "◷", "•"
_ROLLOUT, _REVISION, _REPLICA_SET, _POD, _JOB, _EXPERIMENT, _ANALYSIS = "⟳", "#", "⧉", "□", "⊞", "Σ", "α"

_ROLLOUT_ICONS = {
    "Progressing": PROGRESSING,
    "Error": WARNING,
    "InvalidSpec": WARNING,
    "Paused": PAUSED,
    "Healthy": OK,
    "Degraded": BAD,
    "Unknown": UNKNOWN,
    "ScaledDown": NEUTRAL,
}
_REPLICA_SET_ICONS = {"Progressing": PROGRESSING, "Healthy": OK, "ReplicaFailure": BAD, "ScaledDown": NEUTRAL}
_POD_ICONS = {
    **dict.fromkeys(("Pending", "Terminating", "ContainerCreating"), PROGRESSING),
    **dict.fromkeys(("Running", "Completed"), OK),
    **dict.fromkeys(("Failed", "InvalidImageName", "CrashLoopBackOff"), BAD),
    **dict.fromkeys(("ImagePullBackOff", "RegistryUnavailable"), WARNING),
    "Unknown": UNKNOWN,
}
_ANALYSIS_ICONS = {
    "Successful": OK,
    "Inconclusive": UNKNOWN,
    "Failed": BAD,
    "Error": WARNING,
    "Running": PROGRESSING,
    "Pending": WAITING,
}
_COUNTED = (("successful", OK), ("failed", BAD), ("inconclusive", UNKNOWN), ("error", WARNING))
_TEMPLATE_NAME = "experiment.argoproj.io/template-name"
_SCALE_DOWN = "scale-down-deadline"
_NODE_LOST = "NodeLost"
_NEVER = "292y"
"""The age of what has not begun: the longest that Go can count."""

Data = dict[str, Any]


class Parts(NamedTuple):
    """Objects of the Rollout's namespace; what is not its own is passed over."""

    replica_sets: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    analysis_runs: Sequence[Object] = ()
    experiments: Sequence[Object] = ()


# -- data --------------------------------------------------------------------------------------------------------------


def describe(rollout: Object, parts: Parts) -> Data:
    """The status of a Rollout: counts and weights as numbers, times as RFC 3339, names of phases as Argo writes them.

    ``set_weight`` and ``actual_weight`` (percent) and ``step`` are None without spec.strategy.canary.
    """
    meta, spec, status = rollout["metadata"], rollout["spec"], rollout.get("status") or {}
    strategy = spec.get("strategy") or {}
    canary, view, phase = strategy.get("canary"), read_rollout(rollout), client_phase(rollout)
    uid = meta.get("uid") or ""
    sets = _replica_sets(uid, parts, rollout)
    experiments = _experiments(uid, parts)
    return {
        "name": meta["name"],
        "namespace": meta.get("namespace") or "",
        "phase": phase.phase,
        "message": phase.message,
        "strategy": "Canary" if canary is not None else "BlueGreen" if strategy.get("blueGreen") is not None else "",
        "step": _step(canary, status),
        "set_weight": None if canary is None else _set_weight(canary, status),
        "actual_weight": None if canary is None else _actual_weight(canary, status, sets),
        "images": _images(sets, experiments),
        "replicas": {
            "desired": 1 if spec.get("replicas") is None else spec["replicas"],
            "current": status.get("replicas") or 0,
            "updated": status.get("updatedReplicas") or 0,
            "ready": status.get("readyReplicas") or 0,
            "available": status.get("availableReplicas") or 0,
        },
        "hash": view.hash,
        "stable_hash": view.stable,
        "newest_images": _images_of(sets, view.hash),
        "stable_images": _images_of(sets, view.stable),
        "revision": view.revision,
        "observed": view.observed,
        "aborted": view.aborted,
        "pauses": list(view.pauses),
        "created": meta.get("creationTimestamp") or "",
        "replica_sets": sets,
        "experiments": experiments,
        "analysis_runs": _analysis_runs(uid, parts.analysis_runs),
    }


def _step(canary: Object | None, status: Object) -> Data | None:
    steps = (canary or {}).get("steps") or ()
    if not steps or status.get("currentStepIndex") is None:
        return None
    return {"index": status["currentStepIndex"], "count": len(steps)}


def _most(canary: Object) -> int:
    most = (canary.get("trafficRouting") or {}).get("maxTrafficWeight")
    return 100 if most is None else int(most)


def _position(canary: Object, status: Object) -> int | None:
    """Index of the step in progress; None without one."""
    index = int(status.get("currentStepIndex") or 0)
    return index if index < len(canary.get("steps") or ()) else None


def _set_weight(canary: Object, status: Object) -> int:
    index = _position(canary, status)
    if status.get("abort"):
        return 0
    if index is None:
        return _most(canary)
    weights = [step["setWeight"] for step in canary["steps"][: index + 1] if step.get("setWeight") is not None]
    return int(weights[-1]) if weights else 0


def _actual_weight(canary: Object, status: Object, sets: Sequence[Data]) -> int:
    available = status.get("availableReplicas") or 0
    if _position(canary, status) is None:
        return _most(canary)
    if available <= 0:
        return 0
    if canary.get("trafficRouting"):
        weights = (status.get("canary") or {}).get("weights")
        return int(((weights or {}).get("canary") or {}).get("weight") or 0) if weights else _set_weight(canary, status)
    shares = [each["available"] * _most(canary) // available for each in sets if "canary" in each["roles"]]
    return shares[-1] if shares else 0


def _replica_sets(owner: str, parts: Parts, rollout: Object | None) -> list[Data]:
    found = [_replica_set(obj, parts.pods, rollout) for obj in parts.replica_sets if _owned(obj, owner)]
    return sorted(found, key=lambda each: (-each["revision"], each["name"]))


def _replica_set(obj: Object, pods: Sequence[Object], rollout: Object | None) -> Data:
    meta, status = obj["metadata"], obj.get("status") or {}
    annotations = meta.get("annotations") or {}
    hash = (meta.get("labels") or {}).get(HASH_LABEL) or ""
    mine = [pod_summary(pod) for pod in pods if _owned(pod, meta.get("uid") or "")]
    return {
        "name": meta["name"],
        "revision": _revision(obj),
        "hash": hash,
        "phase": _replica_set_health(obj),
        "roles": _roles(hash, rollout) if rollout is not None else [],
        "template": annotations.get(_TEMPLATE_NAME) or "",
        "replicas": status.get("replicas") or 0,
        "available": status.get("availableReplicas") or 0,
        "images": [each.get("image") or "" for each in obj["spec"]["template"]["spec"].get("containers") or ()],
        "scale_down_deadline": annotations.get(_SCALE_DOWN) or "",
        "created": meta.get("creationTimestamp") or "",
        "pods": sorted(mine, key=lambda pod: (pod["created"], pod["name"])),
    }


def _roles(hash: str, rollout: Object) -> list[str]:
    strategy, status = rollout["spec"].get("strategy") or {}, rollout.get("status") or {}
    stable, current = status.get("stableRS") or "", status.get("currentPodHash") or ""
    if strategy.get("canary") is not None:
        role = "stable" if hash == stable else "canary" if hash == current else ""
        if not role or strategy["canary"].get("pingPong") is None:
            return [role] if role else []
        stable_is_ping = (status.get("canary") or {}).get("stablePingPong") == "ping"
        return [role, "ping" if (role == "stable") == stable_is_ping else "pong"]
    if strategy.get("blueGreen") is not None:
        selectors = status.get("blueGreen") or {}
        roles = ["stable"] if hash == stable else []
        if hash == (selectors.get("activeSelector") or ""):
            return [*roles, "active"]
        return [*roles, "preview"] if hash == (selectors.get("previewSelector") or "") else roles
    return []


def _replica_set_health(obj: Object) -> str:
    status, wanted = obj.get("status") or {}, obj["spec"].get("replicas")
    if (obj["metadata"].get("generation") or 0) > (status.get("observedGeneration") or 0):
        return "Progressing"
    failure = next((c for c in status.get("conditions") or () if c.get("type") == "ReplicaFailure"), None)
    if failure is not None and failure.get("status") == "True":
        return "ReplicaFailure"
    if wanted is not None and (status.get("availableReplicas") or 0) < wanted:
        return "Progressing"
    return "ScaledDown" if wanted == 0 else "Healthy"


def pod_summary(pod: Object) -> Data:
    """A pod as kubectl shows it: name, phase, containers that are ready, restarts."""
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or ""
    initial, restarts = _initializing(spec, status)
    ready = 0
    if initial:
        reason = initial
    else:
        reason, ready, restarts = _containers(status, reason)
    if meta.get("deletionTimestamp"):
        reason = "Unknown" if status.get("reason") == _NODE_LOST else "Terminating"
    return {
        "name": meta["name"],
        "phase": reason,
        "ready": ready,
        "containers": len(spec.get("containers") or ()),
        "restarts": restarts,
        "created": meta.get("creationTimestamp") or "",
    }


def _initializing(spec: Object, status: Object) -> tuple[str, int]:
    """What a pod whose init containers have not ended is called, empty when they have; and their restarts."""
    containers = spec.get("initContainers") or ()
    sidecars = {each["name"] for each in containers if each.get("restartPolicy") == "Always"}
    restarts = 0
    for number, each in enumerate(status.get("initContainerStatuses") or ()):
        restarts += each.get("restartCount") or 0
        state = each.get("state") or {}
        ended, waiting = state.get("terminated"), (state.get("waiting") or {}).get("reason") or ""
        if ended is not None and not ended.get("exitCode"):
            continue
        if ended is not None:
            return f"Init:{_ended(ended)}", restarts
        if each.get("name") in sidecars and each.get("started"):
            if each.get("ready"):
                continue
            return "", restarts
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}", restarts
        return f"Init:{number}/{len(containers)}", restarts
    return "", restarts


def _ended(state: Object) -> str:
    if state.get("reason"):
        return str(state["reason"])
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode') or 0}"


def _containers(status: Object, reason: str) -> tuple[str, int, int]:
    """What a pod is called by its containers, how many of them are ready, and their restarts."""
    ready = restarts = 0
    for each in reversed(status.get("containerStatuses") or ()):
        restarts += each.get("restartCount") or 0
        state = each.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif state.get("terminated") is not None:
            reason = _ended(state["terminated"])
        elif each.get("ready") and state.get("running") is not None:
            ready += 1
    return ("Running" if reason == "Completed" and ready else reason), ready, restarts


def _analysis_runs(owner: str, runs: Sequence[Object]) -> list[Data]:
    found = [_analysis_run(obj) for obj in runs if _owned(obj, owner)]
    # Newest revision first, oldest run of it first, and of one second the last name first.
    found.sort(key=lambda each: each["name"], reverse=True)
    return sorted(found, key=lambda each: (-each["revision"], each["created"]))


def _analysis_run(obj: Object) -> Data:
    status, run = obj.get("status") or {}, read_run(obj)
    results = status.get("metricResults") or ()
    return {
        "name": run.name,
        "revision": _revision(obj),
        "step": run.step,
        "phase": run.phase,
        "message": run.message,
        "terminated": run.terminated,
        "passed": run.passed,
        **{key: sum(result.get(key) or 0 for result in results) for key, _icon in _COUNTED},
        "created": run.created,
        "jobs": [job for result in results for job in _jobs(result)],
    }


def _jobs(result: Object) -> list[Data]:
    return [
        {"name": each["metadata"]["job-name"], "phase": each.get("phase") or "", "created": each.get("startedAt") or ""}
        for each in result.get("measurements") or ()
        if (each.get("metadata") or {}).get("job-name")
    ]


def _experiments(owner: str, parts: Parts) -> list[Data]:
    found = [_experiment(obj, parts) for obj in parts.experiments if _owned(obj, owner)]
    return sorted(found, key=lambda each: (-each["revision"], each["created"]))


def _experiment(obj: Object, parts: Parts) -> Data:
    meta, status = obj["metadata"], obj.get("status") or {}
    uid = meta.get("uid") or ""
    return {
        "name": meta["name"],
        "revision": _revision(obj),
        "phase": status.get("phase") or "",
        "message": status.get("message") or "",
        "created": meta.get("creationTimestamp") or "",
        "replica_sets": _replica_sets(uid, parts, None),
        "analysis_runs": _analysis_runs(uid, parts.analysis_runs),
    }


def _images(sets: Iterable[Data], experiments: Iterable[Data]) -> list[Data]:
    tags: dict[str, list[str]] = {}
    templates = [(each, _template_tags(each)) for experiment in experiments for each in experiment["replica_sets"]]
    for each, roles in [*((each, each["roles"]) for each in sets), *templates]:
        for image in each["images"] if each["replicas"] > 0 else ():
            tags[image] = sorted({*tags[image], *roles}) if image in tags else list(roles)
    return [{"image": image, "tags": tags[image]} for image in sorted(tags)]


def _images_of(sets: Iterable[Data], hash: str) -> list[str]:
    """Of the template with this hash, whether it has pods or not."""
    return [image for each in sets if each["hash"] == hash != "" for image in each["images"]]


def _template_tags(replica_set: Data) -> list[str]:
    return [f"{_EXPERIMENT}:{replica_set['template']}"] if replica_set["template"] else []


def _owned(obj: Object, owner: str) -> bool:
    return bool(owner) and any(each.get("uid") == owner for each in obj["metadata"].get("ownerReferences") or ())


def _revision(obj: Object) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION_ANNOTATION) or ""
    return int(text) if text.isdigit() else 0


# -- text --------------------------------------------------------------------------------------------------------------


def render(status: Mapping[str, Any], now: float) -> str:
    """What the plugin prints of `describe`'s answer at ``now`` (epoch seconds), with a line end."""
    icon = _ROLLOUT_ICONS.get(status["phase"], " ")
    lines = [
        _field("Name:", status["name"]),
        _field("Namespace:", status["namespace"]),
        _field("Status:", f"{icon} {status['phase']}"),
    ]
    if status["message"]:
        lines.append(_field("Message:", status["message"]))
    lines.append(_field("Strategy:", status["strategy"]))
    if status["strategy"] == "Canary":
        step = status["step"]
        lines.append(_field("  Step:", f"{step['index']}/{step['count']}" if step else ""))
        lines.append(_field("  SetWeight:", status["set_weight"]))
        lines.append(_field("  ActualWeight:", status["actual_weight"]))
    for number, each in enumerate(status["images"]):
        tags = f" ({', '.join(each['tags'])})" if each["tags"] else ""
        lines.append(_field("" if number else "Images:", each["image"] + tags))
    lines.append("Replicas:")
    lines += [_field(f"  {name.capitalize()}:", count) for name, count in status["replicas"].items()]
    return "\n".join([*lines, "", *_table(_rows(status, icon, now))]) + "\n"


def _field(name: str, value: object) -> str:
    return f"{name:<17}{value}"


class _Row(NamedTuple):
    name: str
    kind: str
    status: str
    age: str
    info: str = ""


def _table(rows: Sequence[_Row]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(4)]
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths)) + row.info for row in rows]


def _rows(status: Mapping[str, Any], icon: str, now: float) -> list[_Row]:
    rows = [
        _Row("NAME", "KIND", "STATUS", "AGE", "INFO"),
        _Row(f"{_ROLLOUT} {status['name']}", "Rollout", f"{icon} {status['phase']}", _age(status["created"], now)),
    ]
    groups = [status[key] for key in ("replica_sets", "experiments", "analysis_runs")]
    revisions = sorted({each["revision"] for group in groups for each in group}, reverse=True)
    for prefix, below, revision in _branches("", revisions):
        rows.append(_Row(f"{prefix}{_REVISION} revision:{revision}", "", " ", ""))
        children = [each for group in groups for each in group if each["revision"] == revision]
        rows += _children(below, children, now)
    return rows


def _children(below: str, children: Sequence[Data], now: float) -> list[_Row]:
    rows: list[_Row] = []
    for prefix, under, each in _branches(below, children):
        if "roles" in each:
            rows += _replica_set_rows(prefix, under, each, now)
        elif "jobs" in each:
            rows += _analysis_rows(prefix, under, each, now)
        else:
            icon = _ANALYSIS_ICONS.get(each["phase"], " ")
            rows.append(_row(prefix, _EXPERIMENT, each, "Experiment", icon, now))
            rows += _children(under, [*each["replica_sets"], *each["analysis_runs"]], now)
    return rows


def _branches(below: str, items: Sequence[Any]) -> list[tuple[str, str, Any]]:
    """Each item with what stands before it, and before what is below it."""
    last = len(items) - 1
    return [
        (below + ("└──" if number == last else "├──"), below + ("   " if number == last else "│  "), item)
        for number, item in enumerate(items)
    ]


def _row(prefix: str, sign: str, each: Data, kind: str, icon: str, now: float, info: Sequence[str] = ()) -> _Row:
    name = f"{prefix}{sign} {each['name']}"
    return _Row(name, kind, f"{icon} {each['phase']}", _age(each["created"], now), ",".join(info))


def _replica_set_rows(prefix: str, below: str, each: Data, now: float) -> list[_Row]:
    info = list(each["roles"])
    if each["scale_down_deadline"]:
        info.append(f"delay:{_delay(each['scale_down_deadline'], now)}")
    icon = _REPLICA_SET_ICONS.get(each["phase"], " ")
    rows = [_row(prefix, _REPLICA_SET, each, "ReplicaSet", icon, now, info)]
    for pod_prefix, _below, pod in _branches(below, each["pods"]):
        said = [f"ready:{pod['ready']}/{pod['containers']}"]
        if pod["restarts"] > 0:
            said.append(f"restarts:{pod['restarts']}")
        rows.append(_row(pod_prefix, _POD, pod, "Pod", _pod_icon(pod["phase"]), now, said))
    return rows


def _pod_icon(phase: str) -> str:
    if phase.startswith("Init:"):
        return PROGRESSING
    if phase.startswith(("Signal:", "ExitCode:")):
        return BAD
    if phase.endswith("Error") or phase.startswith("Err"):
        return WARNING
    return _POD_ICONS.get(phase, " ")


def _analysis_rows(prefix: str, below: str, each: Data, now: float) -> list[_Row]:
    info = [f"{icon} {each[key]}" for key, icon in _COUNTED if each[key] > 0]
    icon = _ANALYSIS_ICONS.get(each["phase"], " ")
    rows = [_row(prefix, _ANALYSIS, each, "AnalysisRun", icon, now, info)]
    for job_prefix, _below, job in _branches(below, each["jobs"]):
        rows.append(_row(job_prefix, _JOB, job, "Job", _ANALYSIS_ICONS.get(job["phase"], " "), now))
    return rows


def _age(created: str, now: float) -> str:
    return human_duration(now - epoch(created)) if created else _NEVER


def _delay(deadline: str, now: float) -> str:
    try:
        left = epoch(deadline) - now
    except ValueError:
        return ""
    return "passed" if left < 0 else human_duration(left)


def human_duration(duration: float) -> str:
    """Seconds as ``52s``, ``3m51s``, ``8h``, ``7d`` (HumanDuration in k8s.io/apimachinery/pkg/util/duration)."""
    seconds = int(duration)
    minutes, hours = int(duration / 60), int(duration / 3600)
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(0, seconds)}s"
    if minutes < 180:
        return _two(minutes, "m", seconds % 60 if minutes < 10 else 0, "s")
    if hours < 48:
        return _two(hours, "h", minutes % 60 if hours < 8 else 0, "m")
    days = hours // 24
    if days < 365 * 2:
        return _two(days, "d", hours % 24 if hours < 24 * 8 else 0, "h")
    return _two(days // 365, "y", days % 365 if hours < 24 * 365 * 8 else 0, "d")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")

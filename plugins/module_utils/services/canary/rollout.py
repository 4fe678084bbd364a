# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver for Argo Rollouts: the controller does the steps, we follow it, promote, abort and restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...adapters.kube.kinds import (
    ANALYSIS_RUN,
    ANALYSIS_TEMPLATE,
    CLUSTER_ANALYSIS_TEMPLATE,
    ENDPOINT_SLICE,
    EVENT,
    POD,
    REPLICA_SET,
    ROLLOUT,
    SERVICE,
)
from ...adapters.kube.session import Conflict, Session
from ...adapters.kube.watcher import Observation, Subscription
from ...engines.canary.follow import PAUSE_STEP, SUPERSEDED, Change, Entry, Follower, State
from ...engines.canary.objects import HASH_LABEL, Problem, RolloutView, read_rollout
from ...engines.canary.replicas import DEFAULT_FENCEPOST, ReplicaError
from ...engines.canary.steps import Planned, StepError, plan, read_steps
from ...errors import AirgapError
from ..analysis import load_gate
from .driver import Situation, Verification

_ATTEMPTS = 5


class RolloutDriver:
    """Drives one Rollout. ``container``: whose image is released (default: the only one, or the one named like the
    Rollout). ``service``: the common Service (default: the one named like the Rollout, if there is one)."""

    name = "rollout"

    def __init__(
        self, session: Session, namespace: str, name: str, container: str | None = None, service: str | None = None
    ) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._container = container
        self._service = service
        self._rollout: dict[str, Any] = {}
        self._follower = Follower(name)
        self._hash = self._hash_before = ""

    @property
    def _title(self) -> str:
        return f"Rollout {self._namespace}/{self._name}"

    # -- before --------------------------------------------------------------------------------------------------

    def inspect(self) -> Situation:
        """See `Driver`."""
        rollout = self._session.find(ROLLOUT, self._name, self._namespace)
        if rollout is None:
            raise AirgapError(f"{self._title} does not exist.")
        self._rollout = rollout
        self._refuse(rollout)
        view, container = read_rollout(rollout), self._find_container(rollout)
        return Situation(
            container=container["name"],
            image=container.get("image", ""),
            stable_image=self._stable_image(view, container),
            hash=view.hash,
            stable_hash=view.stable,
            revision=view.revision,
            observed=view.observed,
            healthy=view.phase == "Healthy",
            aborted=view.aborted,
            message=view.message,
            planned=self._plan(rollout),
        )

    def _refuse(self, rollout: Mapping[str, Any]) -> None:
        spec = rollout["spec"]
        strategy = spec.get("strategy") or {}
        if "blueGreen" in strategy:
            raise AirgapError(f"{self._title} has the strategy blueGreen; only spec.strategy.canary is supported.")
        if "canary" not in strategy:
            raise AirgapError(f"{self._title} has no spec.strategy.canary.")
        if "template" not in spec:
            raise AirgapError(f"{self._title} takes its template from spec.workloadRef, which is not supported.")
        if spec.get("paused"):
            raise AirgapError(f"{self._title} was paused by hand. Set spec.paused to false first.")

    def _plan(self, rollout: Mapping[str, Any]) -> list[Planned]:
        canary = rollout["spec"]["strategy"]["canary"] or {}
        replicas = rollout["spec"].get("replicas", 1)
        surge = canary.get("maxSurge", DEFAULT_FENCEPOST)
        try:
            return plan(read_steps(canary), replicas, surge, canary.get("maxUnavailable", DEFAULT_FENCEPOST))
        except (StepError, ReplicaError) as error:
            raise AirgapError(f"{self._title}: {error}.") from error

    def _find_container(self, rollout: Mapping[str, Any]) -> dict[str, Any]:
        containers: list[dict[str, Any]] = rollout["spec"]["template"]["spec"]["containers"]
        wanted = self._container or (containers[0]["name"] if len(containers) == 1 else self._name)
        for container in containers:
            if container["name"] == wanted:
                return container
        names = ", ".join(container["name"] for container in containers)
        raise AirgapError(f"{self._title} has no container '{wanted}'; it has {names}. Say which with 'container'.")

    def _stable_image(self, view: RolloutView, container: Mapping[str, Any]) -> str:
        if not view.stable:
            return ""
        if view.stable == view.hash and view.observed:
            return str(container.get("image", ""))
        found = self._session.list(REPLICA_SET, self._namespace, label_selector=f"{HASH_LABEL}={view.stable}").items
        for replica_set in found:
            for each in replica_set["spec"]["template"]["spec"]["containers"]:
                if each["name"] == container["name"]:
                    return str(each.get("image", ""))
        raise AirgapError(f"{self._title}: the ReplicaSet of its stable hash {view.stable} is gone: no way back.")

    def lint(self, situation: Situation) -> None:
        """See `Driver`. Every template of inline and background analyses is read and checked."""
        canary = self._rollout["spec"]["strategy"]["canary"] or {}
        analyses = [step["analysis"] for step in canary.get("steps") or () if step.get("analysis")]
        if canary.get("analysis"):
            analyses.append(canary["analysis"])
        hashes = {"Latest": situation.hash or "latest", "Stable": situation.stable_hash or "stable"}
        for analysis in analyses:
            for template in analysis.get("templates") or ():
                self._lint_template(template, analysis.get("args") or (), hashes)

    def _lint_template(
        self, template: Mapping[str, Any], args: Sequence[Mapping[str, Any]], hashes: Mapping[str, str]
    ) -> None:
        cluster = bool(template.get("clusterScope"))
        options = {"template": template["templateName"], "cluster_template": cluster}
        kind, where = (CLUSTER_ANALYSIS_TEMPLATE, None) if cluster else (ANALYSIS_TEMPLATE, self._namespace)
        found = (self._session.find(kind, options["template"], where) or {}).get("spec") or {}
        if any("prometheus" not in (metric.get("provider") or {}) for metric in found.get("metrics") or ()):
            return  # the controller may measure in ways that we do not know
        # Templates of one step share its arguments: each is checked with those it declares.
        declared = {arg.get("name") for arg in found.get("args") or ()}
        supplied = {arg["name"]: _lint_value(arg) for arg in args if arg["name"] in declared}
        try:
            load_gate(self._session, {**options, "args": supplied}, self._namespace, hashes)
        except AirgapError as error:
            raise AirgapError(f"{self._title}: {error.message}", **error.details) from error

    # -- following -----------------------------------------------------------------------------------------------

    def subscriptions(self) -> list[Subscription]:
        """See `Driver`."""
        labels = (self._rollout["spec"].get("selector") or {}).get("matchLabels") or {}
        pods = ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or None
        return [
            Subscription(ROLLOUT, self._namespace, field_selector=f"metadata.name={self._name}"),
            Subscription(ANALYSIS_RUN, self._namespace),
            Subscription(REPLICA_SET, self._namespace, label_selector=pods),
            Subscription(POD, self._namespace, label_selector=pods),
            Subscription(EVENT, self._namespace, field_selector="involvedObject.kind=Pod"),
        ]

    def follow(self, target: str, revision: str = "") -> None:
        """See `Driver`."""
        self._follower = Follower(self._name, target, revision)
        self._hash, self._hash_before = target, read_rollout(self._rollout).hash

    def see(self, observation: Observation) -> list[Entry]:
        """See `Driver`."""
        kind, deleted = observation.kind.kind, observation.type == "DELETED"
        if kind == ROLLOUT.kind and deleted:
            raise AirgapError(f"{self._title} was deleted during the release.")
        try:
            entries = self._follower.see(kind, observation.object, observation.at, deleted)
        except StepError as error:
            raise AirgapError(f"{self._title} was changed during the release: {error}.") from error
        if kind == ROLLOUT.kind:
            self._rollout = observation.object
        change = self._follower.change
        if not self._hash and change is not None and change.hash != self._hash_before:
            self._hash = change.hash
        return entries

    @property
    def _change(self) -> Change | None:
        """Ours: the one that was to be followed, or the first that is not from before."""
        return next((change for change in reversed(self._follower.changes) if change.hash == self._hash), None)

    def state(self) -> State:
        """See `Driver`."""
        state, ours = self._follower.state(), self._change
        if ours is self._follower.change:
            return state
        if ours is None:
            return State("waiting", None, "", state.stable_hash)
        return State(SUPERSEDED, None, ours.hash, state.stable_hash, "bad", ours.reason, ours.revision)

    def arrived(self, image: str) -> bool:
        """See `Driver`."""
        view = read_rollout(self._rollout)
        there = bool(view.hash) and view.observed and view.hash == view.stable and view.phase == "Healthy"
        return there and self._find_container(self._rollout).get("image") == image

    def problem(self, now: float) -> Problem | None:
        """See `Driver`."""
        return self._follower.problem(now) if self._change is self._follower.change else None

    def marker(self) -> tuple[Any, ...]:
        """See `Driver`."""
        change = self._change
        return (change.hash, change.revision, change.attempt, len(change.steps)) if change else ()

    def last_seen(self) -> str:
        """See `Driver`."""
        view = read_rollout(self._rollout)
        counts = f"{view.updated} canary of {view.replicas} pods, {view.available} available"
        return "; ".join([f"{view.phase} {view.message}".strip(), counts, *self._follower.warnings()])

    # -- verbs ---------------------------------------------------------------------------------------------------

    def set_image(self, image: str) -> None:
        """See `Driver`. Tests what it replaces, so that a change of somebody else is not overwritten."""
        rollout = self._session.get(ROLLOUT, self._name, self._namespace)
        container = self._find_container(rollout)
        if container.get("image") == image:
            return
        position = rollout["spec"]["template"]["spec"]["containers"].index(container)
        path = f"/spec/template/spec/containers/{position}"
        patch = [
            {"op": "test", "path": f"{path}/name", "value": container["name"]},
            {"op": "test", "path": f"{path}/image", "value": container.get("image")},
            {"op": "replace", "path": f"{path}/image", "value": image},
        ]
        self._session.patch(ROLLOUT, self._name, self._namespace, patch, patch_type="json")

    def promote(self, index: int) -> bool:
        """See `Driver`. The resource version makes sure that only this pause is ended, and only once."""
        for _attempt in range(_ATTEMPTS):
            rollout = self._session.get(ROLLOUT, self._name, self._namespace)
            view = read_rollout(rollout)
            if view.index != index or PAUSE_STEP not in view.pauses:
                return False
            version = {"resourceVersion": rollout["metadata"]["resourceVersion"]}
            body = {"metadata": version, "status": {"pauseConditions": None}}
            try:
                self._session.patch(ROLLOUT, self._name, self._namespace, body, subresource="status")
                return True
            except Conflict:
                continue
        raise AirgapError(f"{self._title} changes all the time; its pause at step {index + 1} could not be ended.")

    def abort(self) -> None:
        """See `Driver`."""
        view = read_rollout(self._session.get(ROLLOUT, self._name, self._namespace))
        if not view.aborted and view.hash != view.stable:
            body = {"status": {"abort": True}}
            self._session.patch(ROLLOUT, self._name, self._namespace, body, subresource="status")

    # -- after ---------------------------------------------------------------------------------------------------

    def verify(self, hash: str, restored: bool, digest: str = "") -> Verification:
        """See `Driver`."""
        rollout = self._session.get(ROLLOUT, self._name, self._namespace)
        pods = [pod for pod in self._pods_of(hash) if not pod["metadata"].get("deletionTimestamp")]
        missing = _status_missing(self._title, rollout, hash, restored)
        wanted = rollout["spec"].get("replicas", 1)
        if len(pods) < wanted:
            missing.append(f"{len(pods)} of {wanted} pods of {hash} exist.")
        endpoints = self._endpoints(rollout, {pod["metadata"]["name"] for pod in pods}, wanted, missing)
        digests = _digests(pods, self._find_container(rollout)["name"])
        if digest and any(each != digest for each in digests):
            missing.append(f"Pods run the digest {', '.join(digests)}, not {digest}.")
        return Verification(hash, endpoints, digests, missing)

    def _pods_of(self, hash: str) -> list[dict[str, Any]]:
        return self._session.list(POD, self._namespace, label_selector=f"{HASH_LABEL}={hash}").items

    def _endpoints(
        self, rollout: Mapping[str, Any], pods: set[str], wanted: int, missing: list[str]
    ) -> dict[str, list[str]]:
        canary = rollout["spec"]["strategy"]["canary"] or {}
        found: dict[str, list[str]] = {}
        for service in dict.fromkeys([canary.get("stableService"), canary.get("canaryService"), self._common()]):
            if not service:
                continue
            sent_to = self._sends_to(service)
            found[service] = sorted(sent_to)
            foreign = sorted(sent_to - pods)
            if foreign:
                missing.append(f"Service {service} still sends to {', '.join(foreign)}.")
            # After an abort the canary Service may keep the selector of pods that are gone.
            if not sent_to and wanted and service != canary.get("canaryService"):
                missing.append(f"Service {service} sends to no pod.")
        return found

    def _common(self) -> str | None:
        if self._service:
            return self._service
        return self._name if self._session.find(SERVICE, self._name, self._namespace) else None

    def _sends_to(self, service: str) -> set[str]:
        selector = f"kubernetes.io/service-name={service}"
        slices = self._session.list(ENDPOINT_SLICE, self._namespace, label_selector=selector).items
        return {
            (endpoint.get("targetRef") or {}).get("name") or ", ".join(endpoint.get("addresses") or ())
            for piece in slices
            for endpoint in piece.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
        }

    def steps(self) -> list[dict[str, Any]]:
        """See `Driver`."""
        change = self._change
        return [
            {
                "index": record.step.index,
                "kind": record.step.kind,
                "weight": record.step.weight,
                "started_at": record.started_at,
                "finished_at": record.finished_at,
                "result": self._follower.result(record),
            }
            for record in (change.steps if change else ())
        ]

    def measurements(self) -> list[dict[str, Any]]:
        """See `Driver`."""
        change = self._change
        return [
            {"run": each.run, "metric": each.metric, "at": each.at, "value": each.value, "phase": each.phase}
            for each in (change.measurements if change else ())
        ]


def _lint_value(arg: Mapping[str, Any]) -> Any:
    source = arg.get("valueFrom") or {}
    if "fieldRef" in source:
        return source["fieldRef"].get("fieldPath", "")  # the controller reads it from the Rollout; any text will do
    return {"valueFrom": source} if source else arg.get("value")


def _status_missing(title: str, rollout: Mapping[str, Any], hash: str, restored: bool) -> list[str]:
    view = read_rollout(rollout)
    said = f"{view.phase} {view.message}".strip()
    if view.stable != hash:
        return [f"{title}: the stable hash is {view.stable}, not {hash}."]
    if restored:
        there = view.observed and view.hash == hash and view.phase == "Healthy"
        return [] if there else [f"{title} is {said}, with the hash {view.hash}."]
    gone = view.updated == 0 and view.available >= rollout["spec"].get("replicas", 1)
    return [] if gone or view.hash == hash else [f"{title} still has {view.updated} canary pods ({said})."]


def _digests(pods: Sequence[Mapping[str, Any]], container: str) -> list[str]:
    found = {
        str(status.get("imageID", "")).rpartition("@")[2]
        for pod in pods
        for status in (pod.get("status") or {}).get("containerStatuses") or ()
        if status.get("name") == container and status.get("imageID")
    }
    return sorted(found)

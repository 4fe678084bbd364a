# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver for Argo Rollouts: the controller does the steps, we follow it, promote, abort and restore."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...adapters.kube.kinds import (
    ANALYSIS_RUN,
    EVENT,
    POD,
    REPLICA_SET,
    ROLLOUT,
)
from ...adapters.kube.session import Conflict, Invalid, KubeError, NotFound, Session
from ...adapters.kube.watcher import Observation, Subscription
from ...engines.analysis.findings import Finding
from ...engines.analysis.lint import DEFAULT_SCRAPE_INTERVAL
from ...engines.argo.ownership import keeper
from ...engines.canary.follow import SUPERSEDED, Entry, Follower, State
from ...engines.canary.objects import HASH_LABEL, PAUSE_STEP, RolloutView, read_rollout
from ...engines.canary.replicas import DEFAULT_FENCEPOST, ReplicaError
from ...engines.canary.steps import ANALYSIS, Planned, StepError, plan, read_steps
from ...engines.workloads.problems import Problem
from ...errors import AirgapError
from ..lint import lint_release, refuse_errors
from ..reaction import Reaction
from .driver import THE_APPS_OWN, Deleted, Expected, NotOurs, Situation, Strategy, Verification, refuse_owned
from .followed import Followed
from .seen import digest_missing, digests_of, hashes_of, is_ready, pods_missing, sends_to, version_of
from .stepped import load_analysis

_ATTEMPTS = 5


class RolloutDriver(Followed):
    """Drives one Rollout. ``container``: whose image is released (default: the only one, or the one named like the
    Rollout). ``service``: the common Service (default: the one named like the Rollout, if there is one). ``strategy``
    has to be the Rollout's own, if it says anything. ``failures_in_a_row``: our own limit for the controller's
    analyses, 0 for none."""

    name = "rollout"
    moves_pods = False

    def __init__(
        self,
        session: Session,
        namespace: str,
        name: str,
        container: str | None = None,
        service: str | None = None,
        failures_in_a_row: int = 0,
        scrape_interval: float = DEFAULT_SCRAPE_INTERVAL,
        strategy: Strategy = THE_APPS_OWN,
    ) -> None:
        self._session = session
        self._scrape_interval = scrape_interval
        self._strategy = strategy
        self._namespace = namespace
        self._name = name
        self._container = container
        self._service = service
        self._failures_in_a_row = failures_in_a_row
        self._rollout: dict[str, Any] = {}
        self._follower = Follower(name)
        self._reaction = Reaction(session, namespace, name)
        self._hash = self._hash_before = self._image = ""

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
            planned=self._planned(),
            kept_by=keeper(rollout),
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

    def _plan(self) -> list[Planned]:
        canary = self._rollout["spec"]["strategy"]["canary"] or {}
        replicas = self._rollout["spec"].get("replicas", 1)
        surge = canary.get("maxSurge", DEFAULT_FENCEPOST)
        try:
            return plan(read_steps(canary), replicas, surge, canary.get("maxUnavailable", DEFAULT_FENCEPOST))
        except (StepError, ReplicaError) as error:
            raise AirgapError(f"{self._title}: {error}.") from error

    def _find_container(self, rollout: Mapping[str, Any]) -> dict[str, Any]:
        return self._released_of(rollout["spec"]["template"]["spec"]["containers"])

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

    def lint(self, situation: Situation) -> list[Finding]:
        """See `Driver`. Every template of inline and background analyses is read and checked."""
        if self._rollout["spec"].get("paused"):
            raise AirgapError(f"{self._title} was paused by hand. Set spec.paused to false first.")
        refuse_owned(self._title, self._rollout)
        self._refuse_another_strategy()
        findings = lint_release(self._session, self._namespace, self._rollout, self._title, self._scrape_interval)
        refuse_errors(findings)
        self._plan()
        return findings

    def longest_analysis(self, situation: Situation) -> tuple[float, str]:
        """See `Driver`."""
        steps = (self._rollout["spec"]["strategy"]["canary"] or {}).get("steps") or ()
        found = [
            (self._shortest(step[ANALYSIS], hashes_of(situation)), f"spec.strategy.canary.steps[{index}]")
            for index, step in enumerate(steps)
            if step.get(ANALYSIS)
        ]
        return max(found, default=(0.0, ""))

    def _shortest(self, analysis: Mapping[str, Any], hashes: Mapping[str, str]) -> float:
        try:
            where = (self._session, self._namespace, self._name)
            return load_analysis(*where, analysis, hashes, kind=ROLLOUT).shortest
        except KubeError as error:
            if error.passing:
                raise
        except AirgapError:
            pass  # the controller can do more than our own gate
        return 0.0

    def _refuse_another_strategy(self) -> None:
        canary = self._rollout["spec"]["strategy"]["canary"] or {}
        for key in ("steps", "analysis"):
            wanted = getattr(self._strategy, key)
            if wanted is not None and wanted != canary.get(key):
                raise AirgapError(
                    f"{self._title} has other {key} than were asked for, and the controller runs its own. Write them "
                    f"into spec.strategy.canary.{key}, or ask for none."
                )

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

    def follow(self, target: str, revision: str, image: str) -> None:
        """See `Driver`."""
        self._follower = Follower(self._name, target, revision, self._failures_in_a_row)
        self._hash, self._hash_before, self._image = target, read_rollout(self._rollout).hash, image

    def see(self, observation: Observation) -> list[Entry]:
        """See `Driver`."""
        kind, deleted = observation.kind.kind, observation.type == "DELETED"
        if kind == ROLLOUT.kind and deleted:
            raise self._deleted()
        entries = self._follower.see(kind, observation.object, observation.at, deleted)
        if kind == ROLLOUT.kind:
            self._keep(observation.object)
        return entries

    def refresh(self, at: float) -> list[Entry]:
        """See `Driver`."""
        return [*self.see(Observation(ROLLOUT, "MODIFIED", self._fresh(), at)), *self.work(at)]

    def _keep(self, rollout: dict[str, Any]) -> None:
        if version_of(rollout) < version_of(self._rollout):
            return  # the watch is behind what was read meanwhile
        self._rollout = rollout
        self._reaction.see(rollout)
        change, view = self._follower.change, read_rollout(rollout)
        new = change is not None and view.observed and change.hash == view.hash != self._hash_before
        if not self._hash and new and self._image_of(rollout) == self._image:
            self._hash = view.hash

    def _deleted(self) -> Deleted:
        return Deleted(f"{self._title} was deleted during the release.")

    def _fresh(self) -> dict[str, Any]:
        try:
            return self._session.get(ROLLOUT, self._name, self._namespace)
        except NotFound as error:
            raise self._deleted() from error

    def _image_of(self, rollout: Mapping[str, Any]) -> str:
        return str(self._find_container(rollout).get("image", ""))

    @property
    def busy(self) -> bool:
        """See `Driver`. Until the controller has looked at what was told to it."""
        return self._reaction.awaited

    def work(self, at: float) -> list[Entry]:
        """See `Driver`. The steps are the controller's."""
        self._reaction.insist(at)
        return []

    def rest(self, at: float) -> float:
        """See `Driver`."""
        return math.inf

    def state(self) -> State:
        """See `Driver`."""
        state, ours, newest = self._follower.state(), self._change, self._follower.change
        if ours is newest or newest is None:
            return state
        if ours is None and newest.hash == self._hash_before:
            return State("waiting", None, "", state.stable_hash)
        if ours is None:
            other = f"the Rollout was changed to {self._image_of(self._rollout)}, hash {newest.hash}"
            return State(SUPERSEDED, None, "", state.stable_hash, "bad", other, newest.revision)
        return State(SUPERSEDED, None, ours.hash, state.stable_hash, "bad", ours.reason, ours.revision)

    def arrived(self, image: str) -> bool:
        """See `Driver`."""
        view = read_rollout(self._rollout)
        there = bool(view.hash) and view.observed and view.hash == view.stable and view.phase == "Healthy"
        return there and self._image_of(self._rollout) == image

    def problem(self, now: float) -> Problem | None:
        """See `Driver`."""
        return self._follower.problem(now) if self._change is self._follower.change else None

    def digests(self) -> list[str]:
        """See `Driver`."""
        if self._change is not self._follower.change:
            return []
        ready = [pod for pod in self._follower.canary_pods() if is_ready(pod)]
        return digests_of(ready, self._find_container(self._rollout)["name"])

    def last_seen(self) -> str:
        """See `Driver`."""
        view = read_rollout(self._rollout)
        counts = f"{view.updated} canary of {view.replicas} pods, {view.available} available"
        return "; ".join([f"{view.phase} {view.message}".strip(), counts, *self._follower.warnings()])

    # -- verbs ---------------------------------------------------------------------------------------------------

    def _demand(self, rollout: Mapping[str, Any], expected: Expected) -> RolloutView:
        image, view = self._image_of(rollout), read_rollout(rollout)
        if image not in expected.images:
            raise NotOurs(f"the Rollout was changed to {image} meanwhile")
        if view.observed and expected.hashes and view.hash not in expected.hashes:
            raise NotOurs(f"the Rollout was changed to {view.hash} meanwhile")
        return view

    def set_image(self, image: str, expected: Expected) -> None:
        """See `Driver`. The resource version makes sure that nothing is overwritten that was not looked at."""
        refused: KubeError | None = None
        for _attempt in range(_ATTEMPTS):
            rollout = self._fresh()
            container = self._find_container(rollout)
            if container.get("image") == image:
                return
            self._demand(rollout, expected)
            position = rollout["spec"]["template"]["spec"]["containers"].index(container)
            version = rollout["metadata"]["resourceVersion"]
            patch = [
                {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
                {"op": "replace", "path": f"/spec/template/spec/containers/{position}/image", "value": image},
            ]
            try:
                self._session.patch(ROLLOUT, self._name, self._namespace, patch, patch_type="json")
                return
            except (Conflict, Invalid) as error:
                refused = error
        raise AirgapError(f"{self._title}: the image {image} could not be set: {refused}") from refused

    def promote(self, index: int, expected: Expected) -> bool:
        """See `Driver`. The resource version makes sure that only this pause is ended, and only once."""
        for _attempt in range(_ATTEMPTS):
            rollout = self._fresh()
            view = self._demand(rollout, expected)
            if not view.observed or view.index != index or PAUSE_STEP not in view.pauses:
                return False
            if self._patch_status(rollout, {"pauseConditions": None}):
                return True
        raise AirgapError(f"{self._title} changes all the time; its pause at step {index + 1} could not be ended.")

    def promote_fully(self, expected: Expected) -> bool:
        """See `Driver`."""
        for _attempt in range(_ATTEMPTS):
            rollout = self._fresh()
            view = self._demand(rollout, expected)
            if not view.observed or view.aborted:
                return False
            if view.full or view.hash == view.stable or self._patch_status(rollout, {"promoteFull": True}):
                return True
        raise AirgapError(f"{self._title} changes all the time; it could not be promoted fully.")

    def abort(self, expected: Expected) -> None:
        """See `Driver`."""
        for _attempt in range(_ATTEMPTS):
            rollout = self._fresh()
            view = self._demand(rollout, expected)
            if view.aborted or view.hash == view.stable or self._patch_status(rollout, {"abort": True}):
                return
        raise AirgapError(f"{self._title} changes all the time; it could not be aborted.")

    def _patch_status(self, rollout: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
        """False when somebody wrote since ``rollout`` was read."""
        body = {"metadata": {"resourceVersion": rollout["metadata"]["resourceVersion"]}, "status": status}
        try:
            self._reaction.expect(self._session.patch(ROLLOUT, self._name, self._namespace, body, subresource="status"))
        except Conflict:
            return False
        return True

    # -- after ---------------------------------------------------------------------------------------------------

    def verify(self, hash: str, restored: bool, digest: str = "", image: str = "") -> Verification:
        """See `Driver`."""
        rollout = self._fresh()
        pods = [pod for pod in self._pods_of(hash) if not pod["metadata"].get("deletionTimestamp")]
        missing = _status_missing(self._title, rollout, hash, restored)
        if image and self._image_of(rollout) != image:
            missing.append(f"{self._title} has the image {self._image_of(rollout)}, not {image}.")
        wanted = rollout["spec"].get("replicas", 1)
        ready = [pod for pod in pods if is_ready(pod)]
        missing += pods_missing(ready, wanted, hash)
        endpoints = self._endpoints(rollout, {pod["metadata"]["name"] for pod in pods}, wanted, missing)
        digests = digests_of(ready, self._find_container(rollout)["name"])
        missing += digest_missing(digests, digest if wanted else "")
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
            sent_to = sends_to(self._session, self._namespace, service)
            found[service] = sorted(sent_to)
            foreign = sorted(sent_to - pods)
            if foreign:
                missing.append(f"Service {service} still sends to {', '.join(foreign)}.")
            # After an abort the canary Service may keep the selector of pods that are gone.
            if not sent_to and wanted and service != canary.get("canaryService"):
                missing.append(f"Service {service} sends to no pod.")
        return found


def _status_missing(title: str, rollout: Mapping[str, Any], hash: str, restored: bool) -> list[str]:
    view = read_rollout(rollout)
    said = f"{view.phase} {view.message}".strip()
    if view.stable != hash:
        return [f"{title}: the stable hash is {view.stable}, not {hash}."]
    if not view.observed:
        return [f"{title} was changed, and the controller has not looked at it yet ({said})."]
    if restored or view.hash == hash:
        there = view.hash == hash and view.phase == "Healthy"
        return [] if there else [f"{title} is {said}, with the hash {view.hash}."]
    if view.updated:
        return [f"{title} still has {view.updated} canary pods ({said})."]
    wanted = rollout["spec"].get("replicas", 1)
    return [] if view.available >= wanted else [f"{title} has {view.available} of {wanted} pods available ({said})."]

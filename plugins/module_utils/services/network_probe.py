# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the cluster's network enforces policies at all: proved with two pods of our own and two ports.

A server with the labels of a flow's target listens on a port that the flow allows and on one that nothing allows, and a
client with the labels of its source asks for both. Enforced: the first answers and the second does not. The same pods
at the same time, so that nothing but the policies makes the difference.

The pods belong to Jobs. So no ReplicaSet or DaemonSet adopts them for their labels, and they end and are removed by the
cluster itself when whoever started them dies. They never become ready, so that no Service sends them anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

from ..adapters.kube.kinds import EVENT, JOB, Kind
from ..adapters.kube.kinds import POD as POD_KIND
from ..adapters.kube.session import KubeError, NotFound, Session
from ..engines.netpol.flows import MANAGED_BY, POD, End, Flow
from ..engines.netpol.prediction import Prediction
from ..engines.workloads.problems import pod_problem
from ..errors import AirgapError
from ..times import Clock
from .apply import MANAGER

ENFORCED, NOT_ENFORCED, UNKNOWN = "enforced", "not_enforced", "unknown"
PROBE_LABEL = "lumen.airgap/probe"

_PACE = 0.5
#: Seconds until a connection that is allowed must have been made; the kernel tries again after 1, 3, 7 and 15.
_OPEN_TIMEOUT = 20
#: The same for one that must fail, once the other has been made: tried again after 1 and 3.
_CLOSED_TIMEOUT = 4
#: Seconds until the pods are gone.
_GONE = 30.0
#: Ports that hardly any policy allows; the first that this one does not is taken.
_CLOSED_PORTS = (18080, 28080, 38080, 48080, 58080)

Object = dict[str, Any]


class Finding(NamedTuple):
    """What one pair of probes showed. ``verdict`` is enforced, not_enforced or unknown, ``message`` says why."""

    flow: str
    verdict: str
    message: str


@dataclass(frozen=True)
class Pair:
    """Two ports of one target, as one source sees them."""

    flow: str
    source: tuple[str, Mapping[str, str]]
    """Namespace and labels."""
    target: tuple[str, Mapping[str, str]]
    open_port: int
    closed_port: int


def choose(flows: Sequence[Flow], names: Sequence[str]) -> list[Flow]:
    """The flows to prove: those named, or the first that can be. Raises AirgapError for one that cannot be."""
    if not names:
        return [flow for flow in flows if _ports(flow)][:1]
    by_name = {flow.name: flow for flow in flows}
    for name in names:
        if name not in by_name:
            raise AirgapError(f"probe_flows has {name}, which is no flow of this set")
        if not _ports(by_name[name]):
            raise AirgapError(
                f"probe_flows has {name}, which cannot be proved: that takes pods at both ends and a TCP port by number"
            )
    return [by_name[name] for name in names]


def probe(
    session: Session,
    clock: Clock,
    prediction: Prediction,
    flows: Sequence[Flow],
    image: str,
    deadline: float,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """One finding for each flow; each may take ``deadline`` seconds. Leaves nothing in the cluster."""
    findings = []
    for flow in flows:
        pair = _pair(prediction, flow)
        finding = pair if isinstance(pair, Finding) else _Probe(session, clock, pair, image, deadline).run()
        progress(f"probe of {finding.flow}: {finding.verdict}: {finding.message}")
        findings.append(finding)
    return findings


def overall(findings: Sequence[Finding]) -> str:
    """The worst of the verdicts; unknown when there is none."""
    verdicts = {finding.verdict for finding in findings} or {UNKNOWN}
    return next(verdict for verdict in (NOT_ENFORCED, UNKNOWN, ENFORCED) if verdict in verdicts)


def _ports(flow: Flow) -> tuple[End, End, int] | None:
    """A source, a target and a port that HTTP can be spoken over between pods."""
    ports = [port.port for port in flow.ports if port.protocol == "TCP" and isinstance(port.port, int)]
    source = next((end for end in flow.sources if end.kind == POD), None)
    target = next((end for end in flow.targets if end.kind == POD), None)
    port = ports[0] if ports else None if flow.ports else 8080
    return (source, target, port) if source and target and port else None


def _pair(prediction: Prediction, flow: Flow) -> Pair | Finding:
    chosen = _ports(flow)
    if chosen is None:
        return Finding(flow.name, UNKNOWN, "it has no pods at both ends, or no TCP port by number")
    source, target, port = chosen
    client = prediction.stand_in(source.namespace, source.selector)
    server = prediction.stand_in(target.namespace, target.selector)
    world = prediction.world
    if not world.allows(client, server, port):
        return Finding(flow.name, UNKNOWN, "the policies do not allow it to pods that have just the labels it names")
    closed = next((each for each in _CLOSED_PORTS if each != port and not world.allows(client, server, each)), None)
    if closed is None:
        return Finding(flow.name, UNKNOWN, "the policies deny nothing between its ends, so there is nothing to prove")
    return Pair(
        flow.name,
        (source.namespace, prediction.labels(client)),
        (target.namespace, prediction.labels(server)),
        port,
        closed,
    )


class _Stopped(Exception):
    """Nothing was found out, for this reason."""


class _Probe:
    """One pair of pods, from their start until they are gone."""

    def __init__(self, session: Session, clock: Clock, pair: Pair, image: str, deadline: float) -> None:
        self._session = session
        self._clock = clock
        self._pair = pair
        self._image = image
        self._deadline = deadline
        self._until = clock.monotonic() + deadline
        self._id = f"airgap-probe-{uuid.uuid4().hex[:8]}"

    def run(self) -> Finding:
        """Start, look, remove."""
        try:
            verdict, message = self._prove()
        except _Stopped as stopped:
            verdict, message = UNKNOWN, str(stopped)
        except KubeError as error:
            verdict, message = UNKNOWN, error.message
        finally:
            left = self._clean_up()
        return Finding(self._pair.flow, verdict, message + left)

    def _prove(self) -> tuple[str, str]:
        pair = self._pair
        namespace, labels = pair.target
        ports = (pair.open_port, pair.closed_port)
        containers = [self._container(f"port-{port}", "serve", f":{port}") for port in ports]
        self._start("server", namespace, labels, {"containers": containers})
        server = self._wait("server", namespace, _serving)
        address = server["status"]["podIP"]
        host = f"[{address}]" if ":" in address else address
        asks = [
            self._container(name, "get", f"http://{host}:{port}", f"{timeout}s")
            for name, port, timeout in zip(("open", "closed"), ports, (_OPEN_TIMEOUT, _CLOSED_TIMEOUT))
        ]
        namespace, labels = pair.source
        self._start("client", namespace, labels, {"initContainers": asks[:1], "containers": asks[1:]})
        client = self._wait("client", namespace, _ended)
        where = f"from {client['spec'].get('nodeName')} to {server['spec'].get('nodeName')}"
        return self._judge(client, where)

    def _judge(self, client: Object, where: str) -> tuple[str, str]:
        pair = self._pair
        opened = _terminated(client, "initContainerStatuses") or {}
        if opened.get("exitCode") != 0:
            said = (opened.get("message") or "").strip()
            return UNKNOWN, f"port {pair.open_port}, which is allowed, did not answer {where}: {said}"
        closed = _terminated(client, "containerStatuses") or {}
        if closed.get("exitCode") == 0:
            return NOT_ENFORCED, (
                f"port {pair.closed_port}, which no policy allows, answered {where}: "
                "the cluster's network does not enforce NetworkPolicies"
            )
        server = self._pod("server", pair.target[0])
        if server is None or not _serving(server):
            return UNKNOWN, f"the server ended before port {pair.closed_port} was asked"
        return ENFORCED, f"port {pair.open_port} answered and port {pair.closed_port} did not, {where}"

    def _start(self, role: str, namespace: str, labels: Mapping[str, str], spec: Object) -> None:
        own = {MANAGED_BY: MANAGER, PROBE_LABEL: self._id}
        pod_spec = {
            **spec,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # Nobody ever sets this condition.
            "readinessGates": [{"conditionType": "lumen.airgap/never"}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [self._apart()]}},
        }
        self._session.create(
            {
                "apiVersion": JOB.api_version,
                "kind": JOB.kind,
                "metadata": {"name": f"{self._id}-{role}", "namespace": namespace, "labels": own},
                "spec": {
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": int(self._deadline) + 10,
                    "ttlSecondsAfterFinished": 30,
                    "template": {"metadata": {"labels": {**labels, **own}}, "spec": pod_spec},
                },
            }
        )

    def _apart(self) -> Object:
        """Client and server on two nodes, where there are two: that is the longer way."""
        term = {
            "labelSelector": {"matchLabels": {PROBE_LABEL: self._id}},
            "namespaceSelector": {},
            "topologyKey": "kubernetes.io/hostname",
        }
        return {"weight": 100, "podAffinityTerm": term}

    def _container(self, name: str, *args: str) -> Object:
        own_ports = (self._pair.open_port, self._pair.closed_port)
        user = {"runAsNonRoot": True, "runAsUser": 65532} if min(own_ports) >= 1024 else {}
        return {
            "name": name,
            "image": self._image,
            "args": list(args),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
            "securityContext": {
                **user,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"], **({} if user else {"add": ["NET_BIND_SERVICE"]})},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }

    def _wait(self, role: str, namespace: str, done: Callable[[Object], bool]) -> Object:
        """The pod once it is as it should be. Raises _Stopped when it cannot become so, or not in time."""
        last = "it was not created"
        while True:
            try:
                pod = self._pod(role, namespace)
                if pod is not None and done(pod):
                    return pod
                last = self._state(role, namespace, pod)
            except KubeError as error:
                if not error.passing:
                    raise
                last = error.message
            if self._clock.monotonic() >= self._until:
                raise _Stopped(f"the {role} in {namespace} was not ready after {self._deadline:g} s: {last}")
            self._clock.sleep(_PACE)

    def _state(self, role: str, namespace: str, pod: Object | None) -> str:
        """What a pod that is not there yet waits for. Raises _Stopped when waiting does not help."""
        if pod is None:
            job = f"{self._id}-{role}"
            events = self._session.list(EVENT, namespace, None, f"involvedObject.name={job}").items
            said = [event.get("message") or "" for event in events if event.get("type") == "Warning"]
            if said:
                raise _Stopped(f"the {role} in {namespace} was not created: {said[-1]}")
            return "it was not created yet"
        problem = pod_problem(pod)
        if problem is not None and problem.patience == 0:
            raise _Stopped(f"the {role} in {namespace} does not start: {problem}")
        phase = (pod.get("status") or {}).get("phase")
        if role == "server" and phase in ("Failed", "Succeeded"):
            ended = _terminated(pod, "containerStatuses") or {}
            raise _Stopped(f"the {role} in {namespace} ended: {(ended.get('message') or '').strip()}")
        return str(problem) if problem else f"its pod is {phase}"

    def _pod(self, role: str, namespace: str) -> Object | None:
        pods = self._session.list(POD_KIND, namespace, f"job-name={self._id}-{role}").items
        return pods[0] if pods else None

    def _clean_up(self) -> str:
        """Remove what was started, and wait until it is gone; what is left, as the end of a message."""
        spaces = sorted({self._pair.source[0], self._pair.target[0]})
        until = self._clock.monotonic() + _GONE
        while True:
            try:
                left = [
                    f"{kind.kind} {space}/{obj['metadata']['name']}"
                    for space in spaces
                    for kind in (JOB, POD_KIND)
                    for obj in self._removing(kind, space)
                ]
            except KubeError as error:
                left = [f"what {PROBE_LABEL}={self._id} selects ({error.message})"]
            if not left:
                return ""
            if self._clock.monotonic() >= until:
                return f"; not removed yet: {', '.join(left)}; the cluster does that by itself within two minutes"
            self._clock.sleep(_PACE)

    def _removing(self, kind: Kind, namespace: str) -> list[Object]:
        found = self._session.list(kind, namespace, f"{PROBE_LABEL}={self._id}").items
        for obj in found:
            if not obj["metadata"].get("deletionTimestamp"):
                try:
                    self._session.delete(kind, obj["metadata"]["name"], namespace)
                except NotFound:
                    continue
        return found


def _statuses(pod: Mapping[str, Any], key: str) -> list[Object]:
    found: list[Object] = (pod.get("status") or {}).get(key) or []
    return found


def _serving(pod: Object) -> bool:
    """Whether both ports are listened on."""
    states = [(status.get("state") or {}) for status in _statuses(pod, "containerStatuses")]
    return bool((pod.get("status") or {}).get("podIP")) and len(states) == 2 and all("running" in s for s in states)


def _ended(pod: Object) -> bool:
    """Whether both ports were asked, or the first in vain."""
    first = _terminated(pod, "initContainerStatuses")
    return first is not None and (first["exitCode"] != 0 or _terminated(pod, "containerStatuses") is not None)


def _terminated(pod: Object, key: str) -> Object | None:
    for status in _statuses(pod, key):
        ended: Object | None = (status.get("state") or {}).get("terminated")
        if ended is not None:
            return ended
    return None

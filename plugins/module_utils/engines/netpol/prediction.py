# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a set of policies would do to a cluster, told before it is applied: what would break, open, or lose its DNS.

Where nothing runs yet, a pod with the labels that are asked for stands in, so that an empty cluster is judged, too.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .flows import ANYWHERE, API_SERVER, BLOCK, DNS, NODES, POD, End, Flow, FlowError, Port, Surroundings
from .reachability import World

#: Stands for everything outside the cluster: an address of a block that is kept for documentation.
OUTSIDE = "203.0.113.1"
#: Where the pods that stand in have their addresses: a block that is kept for benchmarks.
_STAND_INS = ipaddress.ip_address("198.18.0.1")
_STAND_IN = "stand-in-"
#: Labels that tell the pods of one workload apart.
_OF_ONE_POD = (
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)
_APP_LABELS = ("app.kubernetes.io/name", "app", "k8s-app")

#: Policies that the text of a violation names.
_NAMED = 3
#: Violations of which it is found out which policies allow them.
_EXPLAINED = 20

REQUIRED, FORBIDDEN = "required", "forbidden"

Object = Mapping[str, Any]


class Violation(NamedTuple):
    """One flow between two endpoints that is not as it has to be. ``rule`` is required, forbidden or dns."""

    rule: str
    flow: str
    source: str
    target: str
    port: int
    protocol: str
    direction: str
    policies: tuple[str, ...]

    def __str__(self) -> str:
        path = f"{self.source} → {self.target}:{self.port}/{self.protocol}"
        more = f" and {len(self.policies) - _NAMED} more" if len(self.policies) > _NAMED else ""
        by = f" by {', '.join(self.policies[:_NAMED])}{more}" if self.policies else ""
        if self.rule == FORBIDDEN:
            return f"forbidden flow {self.flow} would be open: {path}" + (
                f", allowed{by}" if by else ", no policy denies it"
            )
        name = "DNS" if self.rule == DNS else f"required flow {self.flow}"
        return f"{name} would be cut: {path}, {self.direction} denied{by}"


class Prediction:
    """A cluster with its policies as they will be.

    ``pods`` are those of the cluster; what is not a party to policies (the node's own network, ended) is left out.
    """

    def __init__(
        self,
        namespaces: Iterable[Object],
        pods: Iterable[Object],
        policies: Sequence[Object],
        surroundings: Surroundings,
    ) -> None:
        self._surroundings = surroundings
        self._policies = policies
        self._pods: dict[str, dict[str, Any]] = {}
        self._fixed: list[Object] = list(namespaces)
        self._world: World | None = None
        self._next = 0
        for pod in pods:
            if is_party(pod):
                self._add(pod)

    @property
    def world(self) -> World:
        """Judges flows between endpoints."""
        if self._world is None:
            self._world = World.of([*self._fixed, *self._pods.values(), *self._policies])
        return self._world

    def stand_in(self, namespace: str, selector: Object) -> str:
        """A pod that a selector picks and that need not exist; its endpoint."""
        labels = dict(selector.get("matchLabels") or {})
        for entry in selector.get("matchExpressions") or ():
            if entry["operator"] == "In":
                labels[entry["key"]] = entry["values"][0]
            elif entry["operator"] == "Exists":
                labels.setdefault(entry["key"], "")
        self._next += 1
        metadata = {"name": f"{_STAND_IN}{self._next}", "namespace": namespace, "labels": labels}
        self._world = None
        return self._add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})

    def labels(self, endpoint: str) -> dict[str, str]:
        """The labels of a pod, by its endpoint."""
        return dict(self._pods[endpoint]["metadata"].get("labels") or {})

    def pods(self, namespace: str, selector: Object | None = None) -> list[str]:
        """Endpoints of the pods there are, without those that stand in."""
        return [
            name
            for name, pod in self._pods.items()
            if pod["metadata"]["namespace"] == namespace
            and not pod["metadata"]["name"].startswith(_STAND_IN)
            and selects(selector or {}, pod["metadata"].get("labels") or {})
        ]

    def violations(self, rule: str, flows: Iterable[Flow]) -> list[Violation]:
        """Where flows are not as the rule (required or forbidden) wants them. Raises FlowError."""
        # All endpoints come first: one that stands in makes the world anew.
        questions = [(flow, *question) for flow in flows for question in self._questions(flow)]
        found: list[Violation] = []
        for flow, source, target, port in questions:
            verdict = self.world.explain(source, target, int(port.port or 0), port.protocol)
            if verdict.allowed == (rule == FORBIDDEN):
                policies: Iterable[str] = verdict.policies
                if verdict.allowed and len(found) < _EXPLAINED:
                    policies = self._allowing(source, target, port)
                found.append(self._violation(rule, flow.name, source, target, port, verdict.direction, policies))
        return found

    def cut_off(self, namespaces: Sequence[str], ours: Iterable[str]) -> list[Violation]:
        """Pods of these namespaces that could not ask the cluster's DNS, with a policy of ours among the reasons."""
        mine = set(ours)
        sources = [name for space in namespaces for name in self.pods(space) or [self.stand_in(space, {})]]
        servers = self._endpoints(self._surroundings.dns) if sources else []
        port = Port(53, "UDP")
        found = []
        for source in sources:
            verdicts = [self.world.explain(source, server, 53, "UDP") for server in servers]
            if all(not verdict.allowed and mine.intersection(verdict.policies) for verdict in verdicts):
                found.append(
                    self._violation(DNS, "dns", source, servers[0], port, verdicts[0].direction, verdicts[0].policies)
                )
        return found

    def matrix(self, namespaces: Sequence[str]) -> list[dict[str, Any]]:
        """Who reaches the declared ports of the pods in these namespaces, by groups ``namespace/app``.

        ``some`` are groups of which not all pods reach all.
        """
        groups: dict[str, dict[tuple[Any, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
        for name, pod in self._pods.items():
            if not pod["metadata"]["name"].startswith(_STAND_IN):
                groups[group(pod)][_alike(pod)].append(name)
        # Two that are alike answer for all of them, and whether they reach each other.
        sources = {
            name: [member for members in kinds.values() for member in members[:2]]
            for name, kinds in sorted(groups.items())
        }
        sources["outside"] = [OUTSIDE]
        rows = []
        for name, members in sources.items():
            if name.partition("/")[0] in namespaces:
                for port in _declared(self._pods[member] for member in members):
                    rows.append(self._row(name, members, port, sources))
        return rows

    def _row(self, name: str, targets: list[str], port: Port, sources: Mapping[str, list[str]]) -> dict[str, Any]:
        row: dict[str, Any] = {"to": name, "port": port.port, "protocol": port.protocol, "from": [], "some": []}
        for source, members in sources.items():
            answers = {
                self.world.allows(member, target, int(port.port or 0), port.protocol)
                for member in members
                for target in targets
                if member != target
            }
            if True in answers:
                row["some" if False in answers else "from"].append(source)
        return row

    def _questions(self, flow: Flow) -> list[tuple[str, str, Port]]:
        found = []
        for target in flow.targets:
            ports = self._surroundings.ports_of(flow, target)
            if not ports or not all(isinstance(port.port, int) and port.end_port is None for port in ports):
                raise FlowError(f"flow {flow.name}: each port of a required or forbidden flow is one number")
            for source in flow.sources:
                for one in self._endpoints(source):
                    for other in self._endpoints(target):
                        found += [(one, other, port) for port in ports if one != other]
        return found

    def _endpoints(self, end: End) -> list[str]:
        if end.kind == DNS:
            return self._endpoints(self._surroundings.dns)
        if end.kind == POD:
            return self.pods(end.namespace, end.selector) or [self._known_stand_in(end)]
        if end.kind == BLOCK:
            block = ipaddress.ip_network(end.cidr)
            return list(dict.fromkeys([str(block[0]), str(block[-1])]))
        if end.kind == ANYWHERE:
            return [*self._pods, OUTSIDE]
        addresses = {API_SERVER: self._surroundings.api_server, NODES: self._surroundings.nodes}[end.kind]
        if not addresses:
            raise FlowError(f"no address is known for {end.kind}")
        return list(addresses)

    def _known_stand_in(self, end: End) -> str:
        for name, pod in self._pods.items():
            metadata = pod["metadata"]
            if metadata["namespace"] == end.namespace and selects(end.selector, metadata.get("labels") or {}):
                return name
        return self.stand_in(end.namespace, end.selector)

    def _violation(
        self, rule: str, flow: str, source: str, target: str, port: Port, direction: str, policies: Iterable[str]
    ) -> Violation:
        ends = (self._shown(source), self._shown(target))
        return Violation(rule, flow, *ends, int(port.port or 0), port.protocol, direction, tuple(policies))

    def _allowing(self, source: str, target: str, port: Port) -> Iterable[str]:
        """The policies that let a flow through: each is asked alone, with its rules and without them."""
        pods = [self._pods[name] for name in (source, target) if name in self._pods]
        spaces = {pod["metadata"]["namespace"] for pod in pods}
        for policy in self._policies:
            spec, metadata = policy["spec"], policy["metadata"]
            for direction, rules in (("Egress", spec.get("egress")), ("Ingress", spec.get("ingress"))):
                types = spec.get("policyTypes") or [direction]
                if rules and direction in types and metadata["namespace"] in spaces:
                    variants = (_only(policy, direction, rules), _only(policy, direction, []))
                    worlds = [World.of([*self._fixed, *pods, variant]) for variant in variants]
                    asked = (source, target, int(port.port or 0), port.protocol)
                    if worlds[0].allows(*asked) and not worlds[1].allows(*asked):
                        yield f"{metadata['namespace']}/{metadata['name']} ({direction.lower()})"

    def _shown(self, endpoint: str) -> str:
        pod = self._pods.get(endpoint)
        if pod is None:
            return "outside" if endpoint == OUTSIDE else endpoint
        metadata = pod["metadata"]
        if not metadata["name"].startswith(_STAND_IN):
            return endpoint
        labels = ",".join(f"{key}={value}" for key, value in sorted(metadata["labels"].items()))
        return f"{metadata['namespace']}/({labels or 'any pod'})"

    def _add(self, pod: Object) -> str:
        """Take a pod in; one that has no address yet gets one of its own."""
        metadata, status = pod["metadata"], pod.get("status") or {}
        endpoint = f"{metadata['namespace']}/{metadata['name']}"
        address = status.get("podIP") or str(_STAND_INS + len(self._pods))
        self._pods[endpoint] = {**pod, "status": {"podIP": address}}
        return endpoint


def is_party(pod: Object) -> bool:
    """Whether policies decide what a pod reaches: it has a network of its own, and has not ended."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    return not spec.get("hostNetwork") and status.get("phase") not in ("Succeeded", "Failed")


def group(pod: Object) -> str:
    """What a pod belongs to, as ``namespace/app``."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    app = next((labels[key] for key in _APP_LABELS if labels.get(key)), None)
    return f"{metadata['namespace']}/{app or metadata['name']}"


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector picks these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(entry, labels) for entry in selector.get("matchExpressions") or ())


def _holds(entry: Object, labels: Mapping[str, str]) -> bool:
    key, operator, values = entry["key"], entry["operator"], entry.get("values") or ()
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) == (operator == "Exists")


def _alike(pod: Object) -> tuple[Any, ...]:
    """What pods have in common that policies do not tell apart, but for their address."""
    labels = {key: value for key, value in (pod["metadata"].get("labels") or {}).items() if key not in _OF_ONE_POD}
    return tuple(sorted(labels.items())), tuple(_declared([pod]))


def _only(policy: Object, direction: str, rules: Sequence[Object]) -> Object:
    """A policy of one direction, with these rules."""
    spec = {
        "podSelector": policy["spec"].get("podSelector") or {},
        "policyTypes": [direction],
        direction.lower(): rules,
    }
    return {**policy, "spec": spec}


def _declared(pods: Iterable[Object]) -> list[Port]:
    """The ports that pods declare, each once."""
    found = {
        Port(port["containerPort"], port.get("protocol") or "TCP")
        for pod in pods
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
    }
    return sorted(found, key=lambda port: (port.port, port.protocol))

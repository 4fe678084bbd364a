# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A set of NetworkPolicies, declared as flows and manifests: judged on the cluster as it would be, then applied.

Nothing is written when a required flow would be cut, a forbidden one open, pods cut off from DNS, or a policy belongs
to somebody else.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.basic import missing_required_lib

from ..adapters.kube.kinds import ENDPOINT_SLICE, NAMESPACE, NETWORK_POLICY, NODE, POD, Kind
from ..adapters.kube.session import Conflict, Session
from ..engines.netpol.flows import (
    API_SERVER,
    NODES,
    SET_LABEL,
    Flow,
    FlowError,
    Rendered,
    Surroundings,
    labels,
    parse_flows,
    render,
    uses,
)
from ..engines.netpol.prediction import FORBIDDEN, REQUIRED, Prediction, Violation
from ..engines.netpol.reachability import NetpolError
from ..engines.workloads.ownership import is_applied, stamped
from ..errors import AirgapError
from .apply import MANAGER, Outcome, Prune, apply

YAML_IMPORT_ERROR: str | None = None
try:
    import yaml
except ImportError:
    YAML_IMPORT_ERROR = traceback.format_exc()

_SHOWN = 5
"""Violations that a message names; all of them are in its details."""

Object = dict[str, Any]
Identity = tuple[str, str]


@dataclass(frozen=True)
class PolicySet:
    """What is wanted, checked as far as it can be without a cluster."""

    name: str
    namespaces: Sequence[str] = ()
    flows: Sequence[Flow] = ()
    manifests: Sequence[Object] = ()
    required: Sequence[Flow] = ()
    forbidden: Sequence[Flow] = ()
    surroundings: Surroundings = field(default_factory=Surroundings)
    """What is left empty is looked up in the cluster."""
    create_namespaces: bool = False
    allow_dns_cut: bool = False
    force: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        flows: Sequence[Mapping[str, Any]] = (),
        required: Sequence[Mapping[str, Any]] = (),
        forbidden: Sequence[Mapping[str, Any]] = (),
        **others: Any,
    ) -> PolicySet:
        """A set of flows as users write them. Raises AirgapError."""
        try:
            return cls(name, flows=parse_flows(flows), required=parse_flows(required), forbidden=parse_flows(forbidden),
                       **others)  # fmt: skip
        except FlowError as error:
            raise AirgapError(str(error)) from None


@dataclass
class Applied:
    """What was done, or would be, and what it makes of the cluster."""

    outcome: Outcome
    policies: int
    unused: list[str]
    reachability: list[dict[str, Any]]
    lost: list[Violation]
    """Pods that cannot ask the DNS because of the set."""
    prediction: Prediction
    surroundings: Surroundings


def ensure(
    session: Session,
    wanted: PolicySet,
    present: bool = True,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Applied:
    """Bring the set into the cluster, or out of it. Raises AirgapError, with ``violations`` in its details."""
    there = _Cluster(session)
    try:
        if not present:
            wanted = replace(wanted, namespaces=(), flows=(), manifests=())
        wanted = replace(wanted, surroundings=_looked_up(session, wanted))
        rendered = _rendered(wanted)
        missing = there.missing(rendered.policies)
        if missing and not (dry_run or wanted.create_namespaces):
            raise AirgapError(
                f"There is no namespace {', '.join(missing)} on {session.server}: create it, or set "
                "create_namespaces=true"
            )
        prediction, lost = _judged(there, wanted, rendered.policies)
        reachability = prediction.matrix(_spaces(rendered.policies))
    except (FlowError, NetpolError) as error:
        raise AirgapError(str(error)) from None
    namespaces = [_namespace(name) for name in missing] if wanted.create_namespaces else []
    _refuse_conflicts(session, there, wanted, rendered.policies)
    opened = there.opened(rendered.policies)
    for policy, more in opened if not dry_run else ():
        session.patch(NETWORK_POLICY, policy["metadata"]["name"], policy["metadata"]["namespace"], _without(more))
    prune = Prune([NETWORK_POLICY], _selector(wanted.name))
    outcome = apply(
        session,
        [*namespaces, *rendered.policies],
        force=wanted.force,
        dry_run=dry_run,
        prune=prune,
        progress=progress,
    )
    for policy, more in opened:
        outcome.updated(policy, {**policy, "spec": {k: v for k, v in policy["spec"].items() if k not in more}})
    return Applied(
        outcome, len(rendered.policies), rendered.unused, reachability, lost, prediction, wanted.surroundings
    )


def read_manifests(definitions: Sequence[Any], sources: Sequence[str]) -> list[Object]:
    """NetworkPolicies out of objects and files; of a directory its ``*.yaml`` and ``*.yml``. Raises AirgapError."""
    if sources and YAML_IMPORT_ERROR is not None:
        raise AirgapError(missing_required_lib("PyYAML"))
    found = [
        policy for number, entry in enumerate(definitions, 1) for policy in _policies(entry, f"definition {number}")
    ]
    for source in sources:
        for path in _files(Path(source)):
            found += [policy for document in _documents(path) for policy in _policies(document, str(path))]
    return found


class _Cluster:
    """What is there, each kind read once."""

    def __init__(self, session: Session) -> None:
        self.namespaces = session.list(NAMESPACE).items
        self.pods = session.list(POD).items
        self.policies = {_identity(policy): policy for policy in session.list(NETWORK_POLICY).items}

    def missing(self, policies: Sequence[Object]) -> list[str]:
        """Namespaces that the policies need and that are not there."""
        there = {space["metadata"]["name"] for space in self.namespaces}
        return [name for name in _spaces(policies) if name not in there]

    def opened(self, policies: Sequence[Object]) -> list[tuple[Object, list[str]]]:
        """Policies as they are, and the rules that somebody has put beside ours: an apply leaves those there."""
        known = ((policy.get("spec") or {}, self.policies.get(_identity(policy))) for policy in policies)
        found = ((live, _added(spec, live["spec"])) for spec, live in known if live)
        return [(live, more) for live, more in found if more]

    def after(self, wanted: PolicySet, policies: Sequence[Object]) -> list[Object]:
        """All policies as they will be: those of others, and this set."""
        ours = {_identity(policy): policy for policy in policies}
        others = [
            policy for key, policy in self.policies.items() if key not in ours and not _belongs(policy, wanted.name)
        ]
        return [*others, *ours.values()]


def _looked_up(session: Session, wanted: PolicySet) -> Surroundings:
    """The addresses that words in the flows stand for, asked for only when they are needed."""
    around = wanted.surroundings
    flows = [*wanted.flows, *wanted.required, *wanted.forbidden]
    if uses(flows, API_SERVER) and not around.api_server:
        addresses, ports = _api_server(session)
        around = replace(around, api_server=addresses, api_server_ports=ports or around.api_server_ports)
    if uses(flows, NODES) and not around.nodes:
        nodes = session.list(NODE).items
        found = [
            address["address"]
            for node in nodes
            for address in (node.get("status") or {}).get("addresses") or ()
            if address["type"] == "InternalIP"
        ]
        if not found:
            raise AirgapError(f"No node of {session.server} has an address yet: wait for one, or give node_addresses")
        around = replace(around, nodes=sorted(set(found)))
    return around


def _api_server(session: Session) -> tuple[list[str], list[int]]:
    """Where the API servers listen: what stands behind the Service default/kubernetes."""
    slices = session.list(ENDPOINT_SLICE, "default", "kubernetes.io/service-name=kubernetes").items
    addresses = {
        address for part in slices for endpoint in part.get("endpoints") or () for address in endpoint["addresses"]
    }
    ports = {port["port"] for part in slices for port in part.get("ports") or () if port.get("port")}
    if not addresses:
        raise AirgapError(
            f"The Service default/kubernetes of {session.server} has no endpoints, so the address of the API server is "
            "not known: give apiserver_addresses"
        )
    return sorted(addresses), sorted(ports)


def _rendered(wanted: PolicySet) -> Rendered:
    policies, unused = render(wanted.name, wanted.namespaces, wanted.flows, wanted.surroundings)
    return Rendered([*(_labelled(policy, wanted.name) for policy in wanted.manifests), *reversed(policies)], unused)


def _judged(there: _Cluster, wanted: PolicySet, policies: Sequence[Object]) -> tuple[Prediction, list[Violation]]:
    """The cluster as it would be, and what pods lose that they may. Raises AirgapError for what must not happen."""
    prediction = Prediction(there.namespaces, there.pods, there.after(wanted, policies), wanted.surroundings)
    lost = prediction.cut_off(_spaces(policies), ["/".join(_identity(policy)) for policy in policies])
    refused = prediction.violations(REQUIRED, wanted.required) + prediction.violations(FORBIDDEN, wanted.forbidden)
    if not wanted.allow_dns_cut:
        refused += lost
    if refused:
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        advice = ". Add a flow to dns, or set allow_dns_cut=true" if lost and not wanted.allow_dns_cut else ""
        raise AirgapError(
            f"Nothing was applied. {'; '.join(map(str, refused[:_SHOWN]))}{more}{advice}",
            violations=[violation._asdict() for violation in refused],
        )
    return prediction, lost


def _refuse_conflicts(session: Session, there: _Cluster, wanted: PolicySet, policies: Sequence[Object]) -> None:
    """Find what belongs to others before the first write: half a set of policies cuts off what the other half allows.

    What is not there yet cannot belong to anybody, and what is as it should be is not applied.
    """
    known = ((policy, there.policies.get(_identity(policy))) for policy in policies)
    different = [policy for policy, live in known if live and not is_applied(stamped(policy), live, MANAGER)]
    for policy in different:
        live = there.policies[_identity(policy)]
        if (live["metadata"].get("labels") or {}).get(SET_LABEL, wanted.name) != wanted.name:
            raise AirgapError(
                f"NetworkPolicy {'/'.join(_identity(live))} is of the set {live['metadata']['labels'][SET_LABEL]}: two "
                "sets cannot have the same policy; give the flow, or one of the sets, another name"
            )
    apply(session, different, force=wanted.force, dry_run=True)
    for live, more in there.opened(policies) if not wanted.force else ():
        fields = ", ".join(f".spec.{key} ({_owner(live, key)})" for key in more)
        raise Conflict(
            f"NetworkPolicy {'/'.join(_identity(live))}: others have added {fields}, which would stay and open it. "
            "Take them out, or let force=true do it if whoever owns them has stopped writing them.",
            status=409,
            reason="Conflict",
            conflicts=[{"manager": _owner(live, key), "field": f".spec.{key}"} for key in more],
        )


def _added(spec: Object, live: Object) -> list[str]:
    """Fields that are there and were not asked for. What the API server fills in is no addition of somebody's."""
    defaults = {"policyTypes": ["Ingress", *(["Egress"] if spec.get("egress") else [])]}
    return [key for key, value in live.items() if value and key not in spec and value != defaults.get(key)]


def _owner(live: Object, key: str) -> str:
    for entry in live["metadata"].get("managedFields") or ():
        if f"f:{key}" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}):
            return str(entry.get("manager"))
    return "nobody"


def _without(keys: Sequence[str]) -> Object:
    return {"spec": dict.fromkeys(keys)}


def _policies(entry: Any, where: str) -> list[Object]:
    """The policies in a document, which may be a list of them."""
    if entry is None:
        return []
    if not isinstance(entry, dict):
        raise AirgapError(f"{where} is not an object of Kubernetes, but {str(entry)[:100]!r}")
    if entry.get("kind") in ("List", "NetworkPolicyList"):
        return [policy for item in entry.get("items") or () for policy in _policies(item, where)]
    metadata = entry.get("metadata")
    if not isinstance(metadata, dict) or "kind" not in entry or "apiVersion" not in entry or not metadata.get("name"):
        raise AirgapError(f"{where} has an object without apiVersion, kind or metadata.name")
    name = f"{entry['kind']} {metadata['name']}"
    if Kind.of(entry) != NETWORK_POLICY:
        raise AirgapError(
            f"{where}: {name} of {entry['apiVersion']} is no NetworkPolicy of {NETWORK_POLICY.api_version}, and other "
            "kinds are not applied here"
        )
    if not metadata.get("namespace"):
        raise AirgapError(f"{where}: {name} has no namespace: write it into the manifest")
    return [entry]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml"))
    if not found:
        raise AirgapError(f"There is no *.yaml or *.yml in {path}")
    return found


def _documents(path: Path) -> list[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader))
    except (OSError, UnicodeDecodeError) as error:
        raise AirgapError(f"Could not read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise AirgapError(f"{path} is not YAML: {error}") from None


def _labelled(policy: Object, set_name: str) -> Object:
    metadata = policy["metadata"]
    return {**policy, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels(set_name)}}}


def _selector(set_name: str) -> str:
    return ",".join(f"{key}={value}" for key, value in labels(set_name).items())


def _belongs(policy: Object, set_name: str) -> bool:
    found = policy["metadata"].get("labels") or {}
    return all(found.get(key) == value for key, value in labels(set_name).items())


def _identity(policy: Object) -> Identity:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]


def _spaces(policies: Sequence[Object]) -> list[str]:
    return sorted({policy["metadata"]["namespace"] for policy in policies})


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster in memory, with the methods of ``Session``.

Resource versions conflict, merge patches follow RFC 7386, status is a subresource where Kubernetes makes it one, and
every change is an event that ``watch`` replays. Nothing else happens by itself: a test plays the controllers, with
``put``, ``edit`` and ``remove``, at once or later through ``FakeClock.at``.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ADMISSION_POLICY,
    ADMISSION_POLICY_BINDING,
    CLUSTER_ANALYSIS_TEMPLATE,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    NAMESPACE,
    POD,
    REPLICA_SET,
    ROLLOUT,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.patience import Patience
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Event,
    Gone,
    KubeError,
    Listing,
    NotFound,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.transport import Trust
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH
from ansible_collections.lumen.airgap.tests.unit.fakes.tokens import token

Key = tuple[Kind, str | None, str]

#: An AnalysisRun has no status subresource: its controller writes the whole object.
STATUS_SUBRESOURCE = {DEPLOYMENT, POD, REPLICA_SET, ROLLOUT, SERVICE}
CLUSTER_SCOPED = {
    CLUSTER_ANALYSIS_TEMPLATE,
    CUSTOM_RESOURCE_DEFINITION,
    NAMESPACE,
    Kind("rbac.authorization.k8s.io/v1", "ClusterRole"),
    Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ADMISSION_POLICY,
    ADMISSION_POLICY_BINDING,
}


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


class FakeWatch:
    """Events that have already happened; ends after the last."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def close(self) -> None:
        self._events = []


class FakeSession:
    """See the module. ``calls`` lists every request as (method, kind, namespace, name); ``bodies`` what was sent."""

    server = "https://fake:6443"

    def __init__(self, *objects: Mapping[str, Any]) -> None:
        self.calls: list[tuple[str, Kind | None, str | None, str]] = []
        self.bodies: list[Any] = []
        self.unknown_kinds: set[Kind] = set()
        #: What containers have written, for ``pod_log``.
        self.logs: dict[tuple[str, str], list[str]] = {}
        #: The namespaces there are, for ``apply``; None: every namespace is there.
        self.namespaces: set[str] | None = None
        #: Answers ``service_proxy``: (namespace, service, port, path, query) -> body; may raise.
        self.proxy: Callable[..., bytes] = _no_service
        #: Answers ``ask``: the object -> the object with its status; may raise.
        self.answer: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
        #: Answers ``request_token``: (user, uid of the ServiceAccount, seconds) -> token.
        self.issue: Callable[[str, str, float], str] = lambda user, uid, seconds: token(user, uid, EPOCH + seconds)
        self.trust = Trust()
        self._objects: dict[Key, dict[str, Any]] = {}
        self._events: list[tuple[int, Key, Event]] = []
        self._failures: dict[str, list[BaseException]] = defaultdict(list)
        self._lost: dict[Kind, list[BaseException]] = defaultdict(list)
        self._version = 0
        self._oldest = 0
        for body in objects:
            self.put(body)

    # What a test does to the cluster

    def fail_next(self, method: str, error: BaseException, times: int = 1) -> None:
        """The next ``times`` calls of ``method`` (get, list, replace, ...) raise ``error`` and change nothing."""
        self._failures[method] += [error] * times

    def lose_next(self, kind: Kind, error: BaseException) -> None:
        """The next ``create`` or ``replace`` of a kind is done, and raises ``error``: its answer is lost."""
        self._lost[kind].append(error)

    def put(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create or replace an object as it is, status included."""
        key = self._key(body)
        return self._store(key, copy.deepcopy(dict(body)), None)

    def edit(self, kind: Kind, name: str, namespace: str | None, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge ``patch`` into an object, status included: what a controller does."""
        key = (kind, namespace, name)
        return self._store(key, merge(self._objects[key], patch), self._objects[key])

    def remove(self, kind: Kind, name: str, namespace: str | None) -> None:
        """Delete an object."""
        key = (kind, namespace, name)
        self._version += 1
        gone = self._objects.pop(key)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, key, Event("DELETED", gone)))

    def compact(self) -> None:
        """Forget the events so far: a watch from before is answered with ``Gone``."""
        self._oldest = self._version
        self._events.clear()

    # What Session does

    def patient(self, patience: Patience) -> PatientSession:
        return PatientSession(self, patience)

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any]:
        self._call("get", kind, namespace, name)
        return copy.deepcopy(self._existing("get", kind, namespace, name))

    def find(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        self._call("find", kind, namespace, name)
        try:
            return self.get(kind, name, namespace)
        except NotFound as error:
            if error.reason == "UnknownKind":
                raise
            return None

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Listing:
        self._call("list", kind, namespace, "")
        items = [
            copy.deepcopy(body)
            for key, body in sorted(self._objects.items(), key=lambda entry: (entry[0][1] or "", entry[0][2]))
            if self._matches(key, body, kind, namespace, label_selector, field_selector)
        ]
        return Listing(items, str(self._version))

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        key = self._key(body)
        self._call("create", *key, body=body)
        if key in self._objects:
            raise Conflict(f"create {key[0].kind} {key[1]}/{key[2]}: it exists", status=409, reason="AlreadyExists")
        fresh = copy.deepcopy(dict(body))
        if key[0] in STATUS_SUBRESOURCE:
            fresh.pop("status", None)
        return self._answered(key[0], self._store(key, fresh, None))

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any]:
        key = self._key(body)
        self._call("replace", *key, body=body)
        current = self._existing("replace", *key)
        version = body["metadata"].get("resourceVersion")
        if version and version != current["metadata"]["resourceVersion"]:
            raise Conflict(
                f"replace {key[0].kind} {key[1]}/{key[2]}: the object has been modified", status=409, reason="Conflict"
            )
        fresh = copy.deepcopy(dict(body))
        if key[0] in STATUS_SUBRESOURCE:
            fresh.pop("status", None)
            fresh = merge(fresh, {"status": current["status"]}) if "status" in current else fresh
        return self._answered(key[0], self._store(key, fresh, current))

    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        body: Mapping[str, Any] | Sequence[Any],
        patch_type: str = "merge",
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        self._call("patch", kind, namespace, name, body=body)
        current = self._existing("patch", kind, namespace, name)
        if subresource == "status" and kind not in STATUS_SUBRESOURCE:
            raise NotFound(f"patch {kind.kind} {namespace}/{name}: no such subresource", status=404, reason="NotFound")
        changed = merge(current, body) if patch_type == "merge" else _json_patch(current, body)
        if kind in STATUS_SUBRESOURCE:
            if subresource == "status":
                changed = {**copy.deepcopy(current), "status": changed.get("status")}
            else:
                changed = {**changed, "status": current.get("status")}
            if changed["status"] is None:
                del changed["status"]
        wanted = changed["metadata"].get("resourceVersion")
        if wanted != current["metadata"]["resourceVersion"]:
            raise Conflict(f"patch {kind.kind} {namespace}/{name}: modified", status=409, reason="Conflict")
        return copy.deepcopy(changed) if dry_run else self._store((kind, namespace, name), changed, current)

    def apply(
        self, body: Mapping[str, Any], manager: str, force: bool = False, dry_run: bool = False
    ) -> tuple[dict[str, Any], bool]:
        """Server-side apply with lists as whole values; a field that another manager applied or ``owns`` conflicts."""
        key = self._key(body)
        kind, namespace, name = key
        self._call("apply", *key, body=body)
        if namespace is not None and self.namespaces is not None and namespace not in self.namespaces:
            raise NotFound(f'apply {kind.kind} {namespace}/{name}: namespaces "{namespace}" not found', 404, "NotFound")
        current = self._objects.get(key)
        wanted = copy.deepcopy({k: v for k, v in body.items() if k != "status" or kind not in STATUS_SUBRESOURCE})
        entries = copy.deepcopy((current or {}).get("metadata", {}).get("managedFields") or [])
        before = next((e["fieldsV1"] for e in entries if _is_apply(e, manager)), {})
        others = [entry for entry in entries if not _is_apply(entry, manager)]
        changing = [path for path in _leaves(wanted) if _at(current or {}, path) != _at(wanted, path)]
        owners = [(e["manager"], path) for e in others for path in changing if path in _paths(e["fieldsV1"])]
        if owners and not force:
            conflicts = [{"manager": owner, "field": "".join(f".{part}" for part in path)} for owner, path in owners]
            raise Conflict(f"apply {kind.kind} {namespace}/{name}: conflict", 409, "Conflict", conflicts=conflicts)
        for entry in others:
            entry["fieldsV1"] = _fields([p for p in _paths(entry["fieldsV1"]) if (entry["manager"], p) not in owners])
        changed = copy.deepcopy(current or {})
        kept = {path for entry in others for path in _paths(entry["fieldsV1"])}
        for path in _paths(before):
            if path not in kept:
                _remove(changed, path)
        changed = merge(changed, wanted)
        mine = {"manager": manager, "operation": "Apply", "fieldsV1": _fields(_leaves(wanted))}
        changed["metadata"]["managedFields"] = [*others, mine]
        if dry_run:
            return copy.deepcopy(changed), current is None
        return self._store(key, changed, current), current is None

    def owns(self, manager: str, kind: Kind, name: str, namespace: str | None, patch: Mapping[str, Any]) -> None:
        """Another manager changes fields: they are its own from now on."""
        obj = self.edit(kind, name, namespace, patch)
        entries = copy.deepcopy(obj["metadata"].get("managedFields") or [])
        taken = _leaves(patch)
        for entry in entries:
            entry["fieldsV1"] = _fields([path for path in _paths(entry["fieldsV1"]) if path not in taken])
        entries.append({"manager": manager, "operation": "Update", "fieldsV1": _fields(taken)})
        self._store((kind, namespace, name), {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}, obj)

    def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
        only: Mapping[str, Any] | None = None,
    ) -> None:
        self._call("delete", kind, namespace, name)
        found = self._existing("delete", kind, namespace, name)["metadata"]
        if only and any(found[key] != only["metadata"][key] for key in ("uid", "resourceVersion")):
            raise Conflict(f"delete {kind.kind} {namespace}/{name}: modified", status=409, reason="Conflict")
        if not dry_run:
            self.remove(kind, name, namespace)

    def namespaced(self, kind: Kind) -> bool:
        if kind in self.unknown_kinds:
            raise NotFound(f"{self.server} does not know the kind {kind.kind}", status=404, reason="UnknownKind")
        return kind not in CLUSTER_SCOPED

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        resource_version: str = "",
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout: float = 60,
    ) -> FakeWatch:
        self._call("watch", kind, namespace, "")
        since = int(resource_version or 0)
        if since < self._oldest:
            raise Gone(f"watch {kind.kind}: too old resource version", status=410, reason="Expired")
        return FakeWatch(
            [
                copy.deepcopy(event)
                for version, key, event in self._events
                if version > since and self._matches(key, event.object, kind, namespace, label_selector, field_selector)
            ]
        )

    def pod_log(self, namespace: str, pod: str, container: str, lines: int, previous: bool = False) -> Sequence[str]:
        self._call("pod_log", POD, namespace, pod)
        return self.logs.get((pod, container), [])[-lines:]

    def service_proxy(
        self,
        namespace: str,
        service: str,
        port: int,
        path: str,
        query: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
    ) -> bytes:
        self._call("service_proxy", None, namespace, service)
        return self.proxy(namespace, service, port, path, dict(query or {}))

    def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._call("ask", Kind.of(body), None, "")
        return self.answer(body)

    def request_token(self, account: str, namespace: str, seconds: float) -> str:
        self._call("request_token", SERVICE_ACCOUNT, namespace, account)
        there = self._existing("request a token of", SERVICE_ACCOUNT, namespace, account)
        return self.issue(f"system:serviceaccount:{namespace}:{account}", there["metadata"]["uid"], seconds)

    # Inside

    def _call(self, method: str, kind: Kind | None, namespace: str | None, name: str, body: Any = None) -> None:
        if method != "find":
            self.calls.append((method, kind, namespace, name))
        if body is not None:
            self.bodies.append(copy.deepcopy(body))
        if self._failures[method]:
            raise self._failures[method].pop(0)
        if kind in self.unknown_kinds:
            raise NotFound(f"{self.server} does not know the kind {kind.kind}", status=404, reason="UnknownKind")

    def _answered(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        if self._lost[kind]:
            raise self._lost[kind].pop(0)
        return body

    def _key(self, body: Mapping[str, Any]) -> Key:
        kind = Kind.of(body)
        namespace = None if kind in CLUSTER_SCOPED else body["metadata"].get("namespace")
        return kind, namespace, body["metadata"]["name"]

    def _existing(self, verb: str, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        try:
            return self._objects[(kind, namespace, name)]
        except KeyError:
            message = f'{verb} {kind.kind} {namespace}/{name}: {self.server} answered 404 NotFound: "{name}" not found'
            raise NotFound(message, status=404, reason="NotFound") from None

    def _store(self, key: Key, body: dict[str, Any], current: dict[str, Any] | None) -> dict[str, Any]:
        current = current or self._objects.get(key)
        if current is not None and _content(body) == _content(current):
            return copy.deepcopy(current)  # as the real one: a change of nothing makes no new version
        self._version += 1
        old = current["metadata"] if current else {}
        metadata = body.setdefault("metadata", {})
        metadata["uid"] = old.get("uid") or metadata.get("uid") or f"uid-{self._version}"
        metadata.setdefault("generation", old.get("generation", 1))
        if current is not None and body.get("spec") != current.get("spec"):
            metadata["generation"] = old["generation"] + 1
        metadata["resourceVersion"] = str(self._version)
        self._objects[key] = body
        kind = "MODIFIED" if current else "ADDED"
        self._events.append((self._version, key, Event(kind, copy.deepcopy(body))))
        return copy.deepcopy(body)

    @staticmethod
    def _matches(
        key: Key,
        body: Mapping[str, Any],
        kind: Kind,
        namespace: str | None,
        label_selector: str | None,
        field_selector: str | None,
    ) -> bool:
        if key[0] != kind or (namespace is not None and key[1] != namespace):
            return False
        labels = body["metadata"].get("labels") or {}
        return _selected(label_selector, labels.get) and _selected(field_selector, lambda path: _field(body, path))


class PatientSession:
    """A ``FakeSession`` whose requests are made again, each as ``Session.patient`` does it."""

    def __init__(self, session: FakeSession, patience: Patience) -> None:
        self._session = session
        self._patience = patience
        self.server = session.server

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._session, name)
        return lambda *args, **kwargs: self._patience.insist(lambda: method(*args, **kwargs))


Path = tuple[str, ...]


def _leaves(value: Any, path: Path = ()) -> list[Path]:
    """The paths of an object's values; a list is one value. What names the object is nobody's."""
    if isinstance(value, Mapping) and (value or not path):
        return [leaf for key, each in value.items() for leaf in _leaves(each, (*path, key))]
    unowned = path[0] in ("apiVersion", "kind") or path in (("metadata", "name"), ("metadata", "namespace"))
    return [] if unowned or path[:2] == ("metadata", "managedFields") else [path]


def _fields(paths: Sequence[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for part in path:
            node = node.setdefault(f"f:{part}", {})
    return tree


def _paths(fields: Mapping[str, Any], path: Path = ()) -> list[Path]:
    if not fields and path:
        return [path]
    return [leaf for key, node in fields.items() for leaf in _paths(node, (*path, key.removeprefix("f:")))]


def _at(body: Any, path: Path) -> Any:
    for part in path:
        body = body.get(part) if isinstance(body, Mapping) else None
    return body


def _remove(body: dict[str, Any], path: Path) -> None:
    *parents, last = path
    for part in parents:
        body = body.get(part) or {}
    body.pop(last, None)


def _is_apply(entry: Mapping[str, Any], manager: str) -> bool:
    return entry["manager"] == manager and entry["operation"] == "Apply"


def _selected(selector: str | None, value: Callable[[str], Any]) -> bool:
    """Equality-based selectors: ``a=b,c!=d,e``."""
    for term in (selector or "").split(","):
        if not term:
            continue
        if "!=" in term:
            name, wanted = term.split("!=")
            if value(name) == wanted:
                return False
        elif "=" in term:
            name, wanted = term.replace("==", "=").split("=")
            if value(name) != wanted:
                return False
        elif value(term) is None:
            return False
    return True


def _field(body: Any, path: str) -> Any:
    for part in path.split("."):
        body = (body or {}).get(part)
    return body


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in body.get("metadata", {}).items() if key not in _SERVER_SET}
    return {**body, "metadata": metadata}


_SERVER_SET = {"resourceVersion", "uid", "generation"}


def _json_patch(target: Mapping[str, Any], operations: Any) -> dict[str, Any]:
    """RFC 6902: add, replace, remove, test."""
    document: Any = copy.deepcopy(dict(target))
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        node = document
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        _one_operation(node, last, operation)
    return dict(document)


def _one_operation(node: Any, last: str, operation: Mapping[str, Any]) -> None:
    key: Any = (len(node) if last == "-" else int(last)) if isinstance(node, list) else last
    name = operation["op"]
    if name == "test":
        if node[key] != operation["value"]:
            raise KubeError(f"patch: test of {operation['path']} failed", status=422, reason="Invalid")
    elif name == "remove":
        del node[key]
    elif name == "add" and isinstance(node, list):
        node.insert(key, copy.deepcopy(operation["value"]))
    else:
        node[key] = copy.deepcopy(operation["value"])


def _no_service(namespace: str, service: str, *_rest: Any) -> bytes:
    raise NotFound(f'proxy Service {namespace}/{service}: services "{service}" not found', 404, "NotFound")

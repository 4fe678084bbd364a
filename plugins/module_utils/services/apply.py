# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A batch of objects brought into the cluster by server-side apply: one session, one answer, one diff.

What is there already as it should be is found by reading alone (one LIST of a kind for many objects). The rest is
applied side by side, in the order in which objects need each other. A dry run asks the API server what each apply would
do; of an object whose namespace or kind is not there yet it can only say that it would be created.
"""

from __future__ import annotations

import base64
import copy
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from ..adapters.kube.kinds import CUSTOM_RESOURCE_DEFINITION, NAMESPACE, SECRET, Kind
from ..adapters.kube.session import Conflict, Forbidden, KubeError, NotFound, Session
from ..engines.workloads.ownership import is_applied, stamped
from ..errors import AirgapError
from ..times import Clock, SystemClock
from .parallel import each
from .waiting import wait_ready

CREATED, UPDATED, UNCHANGED, DELETED = "created", "updated", "unchanged", "deleted"
MANAGER = "lumen.airgap"

_WORKERS = 4
#: From this many objects of a kind on, one LIST is cheaper than asking for each.
_LIST_FROM = 4
#: Seconds until definitions are Established: the API server does that by itself, in less than one.
_ESTABLISHED = 60.0
#: What others need comes first. What is not named comes in between, what needs kinds of this batch at the end.
_FIRST = (
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
)
_LATE = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
_LAST = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
#: What the API server keeps about an object; no part of what anybody wants it to be.
_SERVER_SET = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
_HIDDEN = "(hidden)"

Object = dict[str, Any]


class Change(NamedTuple):
    """``action`` is created, updated, unchanged or deleted.

    ``verified`` is False for what a dry run could not ask the API server, since its namespace or kind is not there yet.
    """

    kind: str
    namespace: str | None
    name: str
    action: str
    verified: bool = True

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name} {self.action}{'' if self.verified else ' (unverified)'}"


@dataclass(frozen=True)
class Prune:
    """Delete what matches and is not among the objects applied. Without namespaces: in all of them."""

    kinds: Sequence[Kind]
    label_selector: str
    namespaces: Sequence[str] | None = None


@dataclass
class Outcome:
    """What was done, or would be."""

    changes: list[Change] = field(default_factory=list)
    pairs: list[tuple[Change, Object | None, Object | None]] = field(default_factory=list)
    """Before and after of each object that changed."""

    @property
    def changed(self) -> bool:
        """Whether anything is different from before."""
        return any(change.action != UNCHANGED for change in self.changes)

    @property
    def diff(self) -> list[dict[str, str]]:
        """As Ansible shows it, one entry for each object that changed; what a Secret holds is hidden."""
        return [
            {
                "before_header": str(change),
                "after_header": str(change),
                "before": _shown(before, after),
                "after": _shown(after, before, "(hidden, changed)"),
            }
            for change, before, after in self.pairs
        ]

    def as_list(self) -> list[dict[str, Any]]:
        """The changes as a module returns them."""
        return [change._asdict() for change in self.changes]

    def updated(self, before: Object, after: Object) -> None:
        """Note that something else than an apply has changed an object, or would."""
        change = _change(before, UPDATED)
        same = [
            c for c in self.changes if (c.kind, c.namespace, c.name) == (change.kind, change.namespace, change.name)
        ]
        self.changes = [each for each in self.changes if each not in same]
        self.pairs = [pair for pair in self.pairs if pair[0] not in same]
        self.add(change, _cleaned(before), _cleaned(after))

    def add(self, change: Change, before: Object | None = None, after: Object | None = None) -> None:
        """Note one object."""
        self.changes.append(change)
        if change.action != UNCHANGED:
            self.pairs.append((change, before, after))


def apply(
    session: Session,
    objects: Iterable[Mapping[str, Any]],
    *,
    manager: str = MANAGER,
    force: bool = False,
    dry_run: bool = False,
    prune: Prune | None = None,
    progress: Callable[[str], None] = lambda line: None,
    clock: Clock | None = None,
    workers: int = _WORKERS,
) -> Outcome:
    """Apply ``objects`` as the field manager ``manager``, then delete what ``prune`` finds beside them.

    ``force`` takes fields over from other managers; without it such an object stops the batch with ``Conflict``, whose
    message names the owner of each field. Definitions are waited for until they are Established. Raises ``KubeError``
    with ``applied`` (what was done before, as ``Outcome.as_list``) in its details.
    """
    batch = _Batch(session, manager, force, dry_run, progress, clock or SystemClock(), workers)
    wanted = [_prepared(obj) for obj in objects]
    _refuse_twice(wanted)
    try:
        for stage in _stages(wanted):
            batch.apply(stage)
        if prune:
            batch.prune(prune, wanted)
    except KubeError as error:
        error.details["applied"] = [c for c in batch.outcome.as_list() if c["action"] != UNCHANGED and not dry_run]
        raise
    return batch.outcome


def remove(
    session: Session,
    objects: Iterable[Mapping[str, Any]],
    *,
    dry_run: bool = False,
    propagation: str = "Background",
) -> Outcome:
    """Delete ``objects`` where they are there, in the order opposite to that of ``apply``. Does not wait."""
    outcome = Outcome()
    for stage in reversed(_stages([_prepared(obj) for obj in objects])):
        for obj in reversed(stage):
            _delete(session, outcome, obj, dry_run, propagation)
    return outcome


class _Batch:
    def __init__(
        self,
        session: Session,
        manager: str,
        force: bool,
        dry_run: bool,
        progress: Callable[[str], None],
        clock: Clock,
        workers: int,
    ) -> None:
        self.outcome = Outcome()
        self._done: list[Change] = []
        self._session = session
        self._manager = manager
        self._force = force
        self._dry_run = dry_run
        self._progress = progress
        self._clock = clock
        self._workers = workers

    def apply(self, objects: Sequence[Object]) -> None:
        """One stage: read what is there, apply what differs side by side, wait for definitions."""
        live = _Live(self._session, objects)
        different = []
        for obj in objects:
            there = live.find(obj)
            if there is not None and is_applied(obj, there, self._manager):
                self.outcome.add(_change(obj, UNCHANGED))
            else:
                different.append((obj, there))
        try:
            for change, before, after in each(self._workers, self._apply_one, different):
                self.outcome.add(change, before, after)
        except KubeError:
            # Those beside the one that failed have been applied all the same.
            for change in self._done:
                self.outcome.add(change)
            raise
        self._done.clear()
        definitions = [obj for obj, _there in different if Kind.of(obj) == CUSTOM_RESOURCE_DEFINITION]
        if definitions and not self._dry_run:
            wait_ready(self._session, definitions, self._clock, _ESTABLISHED, self._progress)

    def _apply_one(self, pair: tuple[Object, Object | None]) -> tuple[Change, Object | None, Object | None]:
        obj, there = pair
        try:
            if not obj["metadata"].get("namespace") and self._session.namespaced(Kind.of(obj)):
                raise AirgapError(f"{obj['kind']} {obj['metadata']['name']} has no namespace, and needs one")
            result, created = self._session.apply(obj, self._manager, self._force, self._dry_run)
        except NotFound:
            if not self._dry_run:
                raise
            return _change(obj, CREATED, verified=False), None, _cleaned(obj)
        except Conflict as conflict:
            raise _explained(conflict) from conflict
        # The API server says 201 to a dry run, too.
        before, after = None if created or there is None else _cleaned(there), _cleaned(result)
        change = _change(obj, CREATED if before is None else UNCHANGED if before == after else UPDATED)
        if change.action != UNCHANGED and not self._dry_run:
            self._done.append(change)
            self._progress(str(change))
        return change, before, after

    def prune(self, prune: Prune, wanted: Sequence[Object]) -> None:
        """Delete what is labelled as ours and is not wanted any more."""
        kept = {_key(obj) for obj in wanted}
        for kind in prune.kinds:
            for namespace in prune.namespaces or (None,):
                try:
                    found = self._session.list(kind, namespace, prune.label_selector).items
                except NotFound:  # the kind itself is not there
                    continue
                for obj in found:
                    if _key(obj) not in kept and not obj["metadata"].get("deletionTimestamp"):
                        _delete(self._session, self.outcome, obj, self._dry_run, "Background")


class _Live:
    """The objects of a stage as they are, read with few requests."""

    def __init__(self, session: Session, objects: Sequence[Object]) -> None:
        self._found: dict[tuple[Kind, str | None, str], Object] = {}
        by_kind: dict[Kind, list[Object]] = defaultdict(list)
        for obj in objects:
            by_kind[Kind.of(obj)].append(obj)
        for kind, members in by_kind.items():
            try:
                self._read(session, kind, members)
            except NotFound:  # the kind is not there, so none of its objects is
                continue

    def find(self, obj: Object) -> Object | None:
        return self._found.get(_key(obj))

    def _read(self, session: Session, kind: Kind, members: Sequence[Object]) -> None:
        namespaces = sorted({obj["metadata"].get("namespace") or "" for obj in members})
        if len(members) < _LIST_FROM:
            found = [session.find(kind, obj["metadata"]["name"], obj["metadata"].get("namespace")) for obj in members]
            self._keep([obj for obj in found if obj is not None])
        elif len(namespaces) == 1:
            self._keep(session.list(kind, namespaces[0] or None).items)
        else:
            try:
                self._keep(session.list(kind).items)
            except Forbidden:  # who may not read all namespaces may read these
                for namespace in namespaces:
                    self._keep(session.list(kind, namespace).items)

    def _keep(self, objects: Iterable[Object]) -> None:
        self._found.update({_key(obj): obj for obj in objects})


def _prepared(obj: Mapping[str, Any]) -> Object:
    """What is sent: without a status, with data in place of ``stringData``, with its digest."""
    body = copy.deepcopy({key: value for key, value in obj.items() if key != "status"})
    try:
        metadata = body["metadata"]
        Kind.of(body), metadata["name"]
    except (KeyError, TypeError):
        raise AirgapError(f"not an object with apiVersion, kind and metadata.name: {str(obj)[:200]}") from None
    try:
        for name in _SERVER_SET:
            metadata.pop(name, None)
        if Kind.of(body) == SECRET and "stringData" in body:
            texts = body.pop("stringData") or {}
            encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in texts.items()}
            body["data"] = {**(body.get("data") or {}), **encoded}
        if Kind.of(body) == CUSTOM_RESOURCE_DEFINITION:
            str(body["spec"]["group"])
        return stamped(body)
    except (AttributeError, KeyError, TypeError) as error:
        # Such as a date that is not quoted, which YAML does not read as text.
        raise AirgapError(f"{body['kind']} {metadata['name']} is no valid object: {error!r}") from None


def _refuse_twice(objects: Sequence[Object]) -> None:
    seen = set()
    for obj in objects:
        key = _key(obj)
        if key in seen:
            raise AirgapError(
                f"{_change(obj, 'is').kind} {key[1] or ''}/{key[2]} comes twice among what is to be applied"
            )
        seen.add(key)


def _stages(objects: Sequence[Object]) -> list[list[Object]]:
    """The objects in the order in which they need each other, those of one stage beside each other."""
    own_groups = {obj["spec"]["group"] for obj in objects if Kind.of(obj) == CUSTOM_RESOURCE_DEFINITION}
    stages: dict[int, list[Object]] = defaultdict(list)
    for obj in objects:
        stages[_rank(Kind.of(obj), own_groups)].append(obj)
    return [stages[rank] for rank in sorted(stages)]


def _rank(kind: Kind, own_groups: set[str]) -> int:
    if kind in (NAMESPACE, CUSTOM_RESOURCE_DEFINITION):
        return 0
    if kind.kind in _FIRST:
        return 1
    if kind.kind in _LAST:
        return 5
    if kind.api_version.partition("/")[0] in own_groups:
        return 4
    return 3 if kind.kind in _LATE else 2


def _delete(session: Session, outcome: Outcome, obj: Object, dry_run: bool, propagation: str) -> None:
    kind, namespace, name = _key(obj)
    try:
        there = session.find(kind, name, namespace)
        if there is None:
            return
        session.delete(kind, name, namespace, propagation, dry_run)
    except NotFound:  # the kind is gone, or somebody was faster
        return
    outcome.add(_change(obj, DELETED), _cleaned(there), None)


def _explained(conflict: Conflict) -> Conflict:
    owners = conflict.details.get("conflicts")
    if not owners:
        return conflict
    fields = ", ".join(f"{owner['field']} ({owner['manager']})" for owner in owners)
    return Conflict(
        f"{conflict.message.partition(': ')[0]}: others own fields that would change: {fields}. "
        "Leave them out, or take them over with force=true if whoever owns them has stopped writing them.",
        conflict.status,
        conflict.reason,
        **conflict.details,
    )


def _key(obj: Mapping[str, Any]) -> tuple[Kind, str | None, str]:
    metadata = obj["metadata"]
    return Kind.of(obj), metadata.get("namespace") or None, metadata["name"]


def _change(obj: Object, action: str, verified: bool = True) -> Change:
    metadata = obj["metadata"]
    return Change(obj["kind"], metadata.get("namespace") or None, metadata["name"], action, verified)


def _cleaned(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_SET}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def _shown(obj: Object | None, other: Object | None, changed: str = _HIDDEN) -> str:
    """An object as text; of a Secret the names of what it holds."""
    if obj is None:
        return ""
    if Kind.of(obj) == SECRET:
        others = (other or {}).get("data") or {}
        data = {k: _HIDDEN if k in others and others[k] == v else changed for k, v in (obj.get("data") or {}).items()}
        obj = {**obj, "data": data}
    return json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

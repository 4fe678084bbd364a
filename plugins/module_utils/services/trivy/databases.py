# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trivy's databases: brought into a cache, looked after there, taken back, and packed for the way across the gap."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

from ...engines.trivy import database
from ...engines.trivy.database import KINDS, Age, DatabaseError, Gate, Kind, Metadata
from ...errors import AirgapError
from ...times import Clock, rfc3339, rfc3339_micro
from ..bundle.meter import Meter
from ..bundle.state import remove_tree
from .cache import Cache, Version
from .content import Content
from .sources import Source, Tools, open_source


class Wanted(NamedTuple):
    """A database that is asked for, with the options that were given for it."""

    kind: Kind
    options: Mapping[str, Any]
    gate: Gate
    schema: int


def wanted(params: Mapping[str, Any]) -> list[Wanted]:
    """Of the options ``db`` and ``java_db`` those that are given. Raises AirgapError for impossible thresholds."""
    found = []
    for key, kind in KINDS.items():
        options = params.get(key)
        if options is None:
            continue
        gate = Gate(options["warn_days"], options["fail_days"])
        try:
            database.check_gate(gate, key)
        except DatabaseError as error:
            raise AirgapError(str(error)) from None
        found.append(Wanted(kind, options, gate, options.get("schema") or kind.schema))
    return found


def judged(item: Wanted, metadata: Metadata, where: str, now: float) -> Age:
    """The age of a database; raises AirgapError for another schema than Trivy reads."""
    try:
        database.check_schema(item.kind, metadata, item.schema)
    except DatabaseError as error:
        raise AirgapError(f"{where} {error}") from None
    return database.age(item.kind, metadata, now, item.gate)


def describe(kind: Kind, metadata: Metadata, age: Age, path: str, size: int, **about: str) -> dict[str, Any]:
    """A database as the modules return it."""
    times = {"updated_at": metadata.updated_at, "next_update": metadata.next_update}
    return {
        "kind": kind.name,
        "path": path,
        "schema": metadata.version,
        **{key: None if moment is None else database.text(moment) for key, moment in times.items()},
        "age_days": None if age.days is None else round(age.days, 2),
        "verdict": age.verdict,
        "size": size,
        **{key: about.get(key) or None for key in ("sha256", "digest", "source", "delivered_at")},
    }


def describe_version(version: Version, age: Age) -> dict[str, Any]:
    """A version of the cache as the modules return it."""
    return describe(
        *(version.kind, version.metadata, age, version.path, version.size),
        sha256=version.sha256,
        digest=version.digest,
        source=version.source,
        delivered_at=version.delivered_at,
    )


def usable(cache: Cache, item: Wanted, now: float, deep: bool = False) -> tuple[Version, Age]:
    """The version that Trivy would read, fit for use. Raises AirgapError when there is none or it is too old."""
    path = cache.present(item.kind)
    if path is None:
        raise AirgapError(
            f"there is no {item.kind.name} in {cache.path}: bring it there with the module lumen.airgap.trivy_db "
            "(state: delivered), or the role trivy"
        )
    version = cache.version(item.kind, path, deep)
    age = judged(item, version.metadata, version.file, now)
    if database.refused(age, item.gate):
        raise AirgapError(age.reason, databases={item.kind.key: describe_version(version, age)})
    return version, age


def verified(cache: Cache, items: Sequence[Wanted], clock: Clock) -> dict[str, Any]:
    """Read every byte of the databases in the cache. Raises AirgapError for the first that is not fit for use."""
    found = [(item, usable(cache, item, clock.time(), deep=True)) for item in items]
    return {
        "changed": False,
        "databases": {item.kind.key: describe_version(version, age) for item, (version, age) in found},
        "reasons": [age.reason for _item, (_version, age) in found if age.reason],
    }


@dataclass
class _Delivery:
    """What becomes of one database: ``target`` is there already, or ``source`` is brought."""

    item: Wanted
    source: Source
    before: Version | None
    kept: list[Version]
    target: Version | None
    content: Content | None = None
    draft: str = ""
    age: Age | None = None

    @property
    def changed(self) -> bool:
        return self.target is None or self.before is None or self.target.path != self.before.path


class Delivering:
    """Brings databases into a cache: all of them are read and judged before the first takes its place."""

    def __init__(
        self,
        cache: Cache,
        tools: Tools,
        clock: Clock,
        progress: Callable[[str], None],
        force: bool = False,
        keep_previous: bool = True,
    ) -> None:
        """``force`` also takes what is too old, or older than what is there, and reads every byte of what is there.
        ``keep_previous`` keeps one version."""
        self._cache = cache
        self._tools = tools
        self._clock = clock
        self._progress = progress
        self._force = force
        self._keep = keep_previous
        self._reasons: list[str] = []

    def deliver(self, items: Sequence[Wanted], check_mode: bool = False) -> dict[str, Any]:
        """Returns what is there afterwards; with ``check_mode`` what would be, having read all of it and written
        nothing. Raises AirgapError before anything has changed for Trivy."""
        with nullcontext() if check_mode else self._cache.locked(_holder(self._clock)):
            plans = [self._plan(item) for item in items]
            try:
                for plan in plans:
                    self._read(plan, check_mode)
                for plan in plans:
                    self._judge(plan)
                found = {plan.item.kind.key: self._settle(plan, check_mode) for plan in plans}
            finally:
                for plan in plans:
                    if plan.draft:
                        remove_tree(plan.draft)
        return {
            "changed": any(plan.changed for plan in plans),
            "databases": found,
            "reasons": self._reasons,
            "diff": {
                "before": {plan.item.kind.key: _shown(plan.before) for plan in plans},
                "after": {plan.item.kind.key: _shown_as(found[plan.item.kind.key]) for plan in plans},
            },
        }

    def _plan(self, item: Wanted) -> _Delivery:
        source = open_source(item.kind, item.options, self._tools)
        before = self._present(item.kind)
        kept = self._cache.kept(item.kind, deep=self._force)
        known = [version for version in kept if source.digest and version.digest == source.digest]
        return _Delivery(item, source, before, kept, known[-1] if known else None)

    def _present(self, kind: Kind) -> Version | None:
        path = self._cache.present(kind)
        if path is None:
            return None
        try:
            return self._cache.version(kind, path, deep=self._force)
        except AirgapError as error:
            self._progress(f"what is there is replaced: {error}")
            return None

    def _read(self, plan: _Delivery, check_mode: bool) -> None:
        if plan.target is not None:
            return
        kind, source = plan.item.kind, plan.source
        self._progress(f"reading {kind.name} from {source.where}")
        meter = Meter(f"reading {kind.name}", source.size, self._progress, self._clock)
        if not check_mode:
            plan.draft = self._cache.draft(kind)
        plan.content = source.read(plan.draft or None, lambda count: meter.add(count, "unpacked"))
        # The same content from another source: a directory has no digest, and an archive may be packed anew.
        same = [version for version in plan.kept if version.identity == plan.content.identity]
        plan.target = same[-1] if same else None

    def _judge(self, plan: _Delivery) -> None:
        metadata = plan.target.metadata if plan.target else plan.content.metadata if plan.content else None
        if metadata is None:  # never: one of the two is known
            return
        age = judged(plan.item, metadata, plan.source.where, self._clock.time())
        plan.age = age
        if database.refused(age, plan.item.gate):
            self._refuse(age.reason)
        elif age.reason:
            self._reasons.append(age.reason)
        before = plan.before
        if plan.changed and before is not None:
            was, will = before.metadata.updated_at, metadata.updated_at
            if was is not None and (will is None or will < was):
                made = "at an unknown time" if will is None else f"at {database.text(will)}"
                self._refuse(
                    f"{plan.source.where} was made {made}, and the {plan.item.kind.name} that is there at "
                    f"{database.text(was)}: it would go back"
                )

    def _refuse(self, reason: str) -> None:
        if not self._force:
            raise AirgapError(f"{reason}. Nothing was changed; force takes it all the same")
        self._reasons.append(reason)

    def _settle(self, plan: _Delivery, check_mode: bool) -> dict[str, Any]:
        """Let the database take its place; returns what there is afterwards."""
        kind, age = plan.item.kind, plan.age or Age(None, "unknown", "")
        version = plan.target
        if version is None and plan.content is not None:
            digest, source, now = plan.source.digest, plan.source.where, rfc3339_micro(self._clock.time())
            path = self._cache.planned(kind, plan.content)
            if not check_mode:
                self._cache.keep(kind, plan.draft, plan.content, digest=digest, source=source, delivered_at=now)
                plan.draft = ""
            found = plan.content
            version = Version(
                *(kind, path, found.metadata, found.size, found.sha256, found.identity, digest, source, now)
            )
        if version is None:  # never: it is there, or was read
            raise AirgapError(f"{plan.source.where} was not read")
        if not check_mode:
            if plan.changed:
                self._cache.switch(kind, version.path)
                self._progress(f"{kind.name} of {_made(version)} is in its place")
            self._prune(plan, version)
        return describe_version(version, age)

    def _prune(self, plan: _Delivery, version: Version) -> None:
        keep = {version.path}
        if self._keep:
            others = [other.path for other in self._cache.kept(plan.item.kind) if other.path != version.path]
            before = [plan.before.path] if plan.before and plan.before.path in others else []
            keep.update((before or others)[-1:])
        self._cache.prune(plan.item.kind, keep)


def roll_back(cache: Cache, items: Sequence[Wanted], clock: Clock, check_mode: bool = False) -> dict[str, Any]:
    """Let Trivy read the version before the last delivery. It stays at that when it is asked for again.

    Raises AirgapError, before anything has changed, when a database has no version before.
    """
    with nullcontext() if check_mode else cache.locked(_holder(clock)):
        changes = []
        for item in items:
            versions = cache.kept(item.kind)
            if len(versions) < 2:
                raise AirgapError(
                    f"{cache.path} has no {item.kind.name} of before the last delivery: one is kept unless "
                    "keep_previous is off. Bring the one that you want with state: delivered and force"
                )
            before, age = cache.present(item.kind), judged(item, versions[-2].metadata, versions[-2].file, clock.time())
            changes.append((item, before, versions[-2], age))
        for item, before, version, _age in changes:
            if not check_mode and before != version.path:
                cache.switch(item.kind, version.path)
    return {
        "changed": any(before != version.path for _item, before, version, _age in changes),
        "databases": {item.kind.key: describe_version(version, age) for item, _before, version, age in changes},
        "reasons": [age.reason for *_rest, age in changes if age.reason],
        "diff": {
            "before": {item.kind.key: before and os.path.basename(before) for item, before, *_rest in changes},
            "after": {item.kind.key: os.path.basename(version.path) for item, _before, version, _age in changes},
        },
    }


def _holder(clock: Clock) -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, since {rfc3339(clock.time())}"


def _made(version: Version) -> str:
    moment = version.metadata.updated_at
    return "an unknown time" if moment is None else database.text(moment)


def _shown(version: Version | None) -> str | None:
    return None if version is None else f"{os.path.basename(version.path)} of {_made(version)}"


def _shown_as(found: Mapping[str, Any]) -> str:
    return f"{os.path.basename(found['path'])} of {found['updated_at'] or 'an unknown time'}"

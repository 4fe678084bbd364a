# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evidence documents in a chain whose head the cluster keeps, and the chain looked at.

The ledger is the ConfigMap ``<app>-evidence`` in the app's namespace. A document is written in three steps, and a run
that is killed between any two of them is taken up by the next one of the same release:

1. ``.<release>.<chain's key>.pending`` in the directory, whole and on the disk, with the link to the head as it was
   read;
2. the ledger, by compare-and-swap: from here on the document is the chain's;
3. the file gets its name.

So no file ever has its name without being in the chain. What a kill before 2 leaves is adopted when its link still
fits and the release has not ended otherwise since, and is written anew if not; what a kill before 3 leaves gets its
name from the ledger.

Clusters that release together share the ids of their releases, and may share the directory. The key keeps their pending
files apart, and the name that the ledger is going to say is reserved until the file has it: ``.<name>.reserved``, a
symbolic link to the pending file, which one cluster alone can make.
"""

from __future__ import annotations

import glob
import hashlib
import os
import uuid
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..adapters.kube.session import Conflict, NotFound, Session
from ..adapters.node import Node
from ..engines.evidence_chain import (
    ERROR,
    UNREACHED,
    Entry,
    File,
    Finding,
    Ledger,
    LedgerError,
    Report,
    fits,
    of_cluster,
    read_file,
    read_ledger,
    verify,
)
from ..errors import AirgapError
from .evidence import as_bytes, checked_id, names
from .own_config_map import OwnConfigMap

_ATTEMPTS = 10


class Store:
    """The ledger in its ConfigMap."""

    def __init__(self, session: Session, namespace: str, app: str) -> None:
        self._config_map = OwnConfigMap(session, namespace, f"{app}-evidence")
        #: What documents say of where their chain is kept.
        self.cluster = session.server.rstrip("/")
        #: Tells the chain from those of others before it has an identity, in the names of files.
        self.key = hashlib.sha256("\n".join((self.cluster, namespace, app)).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """For messages."""
        return self._config_map.title

    def read(self) -> Ledger | None:
        """None where there is none yet. Raises LedgerError when it is not one of ours, and KubeError."""
        data = self._config_map.read()
        return None if data is None else read_ledger(data)

    def write(self, ledger: Ledger) -> None:
        """Raises ``Conflict`` when somebody else has written since ``read``."""
        self._config_map.write(ledger.as_data())


@dataclass
class Written:
    """What has become of a document. ``path`` is empty where it is on another host, or gone."""

    document: dict[str, Any]
    path: str = ""
    changed: bool = False
    warnings: list[str] = field(default_factory=list)


def append(store: Store, directory: str, evidence: Mapping[str, Any], host: str, dry_run: bool = False) -> Written:
    """Put the document of a release at the end of the chain, once.

    A release that the ledger has already with this outcome is left as it is: what stands in its file is returned,
    whatever else ``evidence`` says. With another outcome, as of a release that was taken up after its failure was
    written, it gets a document more. Raises AirgapError when the ledger cannot be read, or the directory not written.
    """
    return _Writer(store, os.path.abspath(directory), evidence, host).run(dry_run)


class _Writer:
    """One document on its way into the chain."""

    def __init__(self, store: Store, directory: str, evidence: Mapping[str, Any], host: str) -> None:
        self._store = store
        self._directory = directory
        self._evidence = evidence
        self._release = checked_id(evidence)
        self._outcome = str(evidence.get("outcome") or "")
        self._host = host
        self._own = f".{self._release}.{store.key}.pending"
        self._pending = os.path.join(directory, self._own)

    def run(self, dry_run: bool) -> Written:
        """See ``append``."""
        for _attempt in range(_ATTEMPTS):
            ledger = self._ledger()
            entry = ledger.of(self._release) if ledger else None
            if ledger is not None and entry is not None:
                recorded = self._recorded(ledger, entry, dry_run)
                if entry.outcome in ("", self._outcome):
                    return recorded
            if dry_run:
                return Written(self._linked(ledger or Ledger("")), self._free(), changed=True)
            begun_anew = self._begun_anew() if ledger is None else []
            document = self._prepared(ledger)
            name = os.path.basename(self._reserved())
            entry = Entry(document.number, name, document.sha256, self._release, self._host, _outcome(document))
            ledger = (ledger or Ledger(str(document.chain["id"]))).appended(entry)
            try:
                self._store.write(ledger)
            except (Conflict, NotFound):
                continue  # somebody was faster: the link is to another document now
            written = self._recorded(ledger, entry, dry_run)
            return Written(written.document, written.path, written.changed, [*begun_anew, *written.warnings])
        raise AirgapError(f"{self._store.title}: others change it all the time; try again.")

    def _ledger(self) -> Ledger | None:
        try:
            return self._store.read()
        except LedgerError as error:
            raise AirgapError(
                f"{self._store.title} does not say where the chain of evidence ends: {error}. Restore it from a "
                "backup; deleted, it lets a chain begin anew, and the documents of this one are told to be of another."
            ) from error

    def _prepared(self, ledger: Ledger | None) -> File:
        """The document with its link, on the disk: the one that a killed run has left, or a new one."""
        left = _file(self._pending)
        if left is not None and _outcome(left) == self._outcome and fits(left.chain, ledger):
            return left
        content = as_bytes(self._linked(ledger or Ledger(uuid.uuid4().hex)))
        try:
            os.makedirs(self._directory, exist_ok=True)
            Node().write(self._pending, content.decode())
            _sync(self._pending)
            _sync(self._directory)
        except OSError as error:
            raise self._unwritten(error) from error
        return read_file(self._pending, content)

    def _linked(self, ledger: Ledger) -> dict[str, Any]:
        return {**self._evidence, "chain": {**ledger.link(), "cluster": self._store.cluster}}

    def _unwritten(self, error: OSError) -> AirgapError:
        return AirgapError(f"The evidence cannot be written to {self._directory}: {error}")

    def _begun_anew(self) -> list[str]:
        evidence = self._evidence
        found = documents(self._directory, evidence["app"], evidence["namespace"])
        before = [file.name for file in of_cluster(found, None, self._store.cluster) if file.chain]
        if not before:
            return []
        return [
            f"{self._store.title} is not there, and {self._directory} has documents of a chain ({before[-1]}): a new "
            "chain begins. Whether those are complete cannot be told any more"
        ]

    def _free(self) -> str:
        """A name that no file has, and no other document is going to have."""
        for path in names(self._directory, self._release):
            # In this order: a file has its name before the reservation goes.
            if _holder(path) in ("", self._own) and not os.path.lexists(path):
                return path
        raise AssertionError("numbers do not end")

    def _reserved(self) -> str:
        """A free name, and nobody else's from here on."""
        while True:
            path = self._free()
            try:
                if _holder(path) != self._own:
                    os.symlink(self._own, _reservation(path))
                _sync(self._directory)
            except FileExistsError:
                continue  # somebody was faster
            except OSError as error:
                raise self._unwritten(error) from error
            if not os.path.lexists(path):
                return path
            Node().remove(_reservation(path))  # somebody was faster, and is done

    def _recorded(self, ledger: Ledger, entry: Entry, dry_run: bool) -> Written:
        """The ledger has it: see that its file has its name."""
        path = os.path.join(self._directory, entry.name)
        file = _file(path)
        there = file is not None and file.sha256 == entry.sha256
        left = None if there else self._left(entry)
        if left is not None:
            if not dry_run:
                self._publish(left.name, path)
            return Written(dict(left.content or {}), path, changed=True)
        if not dry_run:
            self._clear()  # killed between the name and the end
        if file is not None and there:
            return Written(dict(file.content or {}), path)
        return self._lacking(ledger, entry, path if file is not None else "")

    def _left(self, entry: Entry) -> File | None:
        """The pending file that is to have the entry's name, with its path.

        Known by its bytes, whatever it is called: the key changes with the cluster's address, and there was none once.
        """
        for path in glob.glob(os.path.join(glob.escape(self._directory), f".{self._release}.*pending")):
            file = _file(path)
            if file is not None and file.sha256 == entry.sha256:
                return file._replace(name=path)
        return None

    def _publish(self, pending: str, path: str) -> None:
        try:
            os.link(pending, path)  # unlike a renaming, it never takes the place of another file
            _sync(self._directory)
        except OSError as error:
            raise AirgapError(
                f"The evidence is at {pending} and in the chain, but cannot be named {path}: {error}. "
                "Make room for it, and run this again."
            ) from error
        Node().remove(pending)
        self._clear()

    def _clear(self) -> None:
        """Nothing waits for a name any more."""
        for mark in glob.glob(os.path.join(glob.escape(self._directory), _reservation("*"))):
            if _target(mark) == self._own:
                Node().remove(mark)
        Node().remove(self._pending)

    def _lacking(self, ledger: Ledger, entry: Entry, path: str) -> Written:
        """It is not written a second time."""
        if path:
            said = f"{path} is not as it was written: its SHA-256 has to be {entry.sha256}"
        elif entry.host != self._host:
            said = f"The document of {self._release} is on {entry.host}, which has written it as {entry.name}"
        else:
            said = f"The document of {self._release} was written as {entry.name}, and is not there any more"
        chain = {"id": ledger.id, "number": entry.number, "cluster": self._store.cluster}
        return Written({**self._evidence, "chain": chain}, warnings=[said])


def inspect(
    directory: str, app: str, namespace: str, store: Store | None, host: str
) -> tuple[Report, list[dict[str, Any]]]:
    """The chain as it is, and its documents in short, oldest first. Without a ``store`` no cluster is asked."""
    asked, ledger, trouble = store is not None, None, []
    if store is not None:
        try:
            ledger = store.read()
        except LedgerError as error:
            asked = False
            what = "Restore it from a backup; the files were held against each other alone"
            trouble = [Finding("head-unreadable", ERROR, store.title, str(error), what)]
        except AirgapError as error:
            asked = False
            what = "See why, and look again: the files were held against each other alone. Who releases may read it"
            what += " once the role release_identity has run"
            trouble = [Finding(UNREACHED, ERROR, store.title, error.message, what)]
    named = {entry.name for entry in ledger.entries} if ledger else set()
    files = documents(directory, app, namespace, named)
    if store is not None:
        files = of_cluster(files, ledger, store.cluster)
    report = verify(ledger, files, host, asked)
    if trouble:
        report.findings = [*trouble, *(each for each in report.findings if each.code != "head-unknown")]
    return report, [_short(file, report.states[file.name]) for file in sorted(files, key=_order)]


def documents(directory: str, app: str, namespace: str, named: Container[str] = ()) -> list[File]:
    """The files of a directory that are evidence of this app, are ``named``, or cannot be read and seem to be."""
    directory = os.path.abspath(directory)
    try:
        found = sorted(name for name in os.listdir(directory) if name.endswith(".json") and not name.startswith("."))
        files = [_file(os.path.join(directory, name)) for name in found]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AirgapError(f"The evidence in {directory} cannot be read: {error}") from error
    return [file for file in files if file is not None and (file.name in named or _is_of(file, app, namespace))]


def _is_of(file: File, app: str, namespace: str) -> bool:
    if file.content is None:
        return file.name.startswith(f"{app}-")
    content = file.content
    # Two apps of two namespaces may share their name, and a directory.
    return content.get("app") == app and (not namespace or content.get("namespace") == namespace)


def _file(path: str) -> File | None:
    """None when there is no file."""
    try:
        with open(path, "rb") as file:
            return read_file(os.path.basename(path), file.read())
    except (FileNotFoundError, IsADirectoryError):
        return None


def _reservation(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.reserved")


def _holder(path: str) -> str:
    """The pending file that is to have the name, in the same directory; empty when none is."""
    return _target(_reservation(path))


def _target(mark: str) -> str:
    try:
        return os.readlink(mark)
    except FileNotFoundError:
        return ""
    except OSError:
        return mark  # no link, and so none of ours


def _outcome(file: File) -> str:
    return str((file.content or {}).get("outcome") or "")


def _sync(path: str) -> None:
    """What the cluster will know of has to outlast a power failure here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _order(file: File) -> tuple[str, str]:
    return str((file.content or {}).get("finished_at") or ""), file.name


def _short(file: File, state: str) -> dict[str, Any]:
    content = file.content or {}
    told = {key: content.get(key) for key in ("release", "version", "outcome", "started_at", "finished_at")}
    return {"name": file.name, "number": file.number, "sha256": file.sha256, "state": state, **told}

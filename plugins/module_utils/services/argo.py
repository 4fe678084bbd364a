# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argo CD or Argo Rollouts from published manifests: rendered for the site, installed, taken over, handed on, removed.

The order is what makes a failure harmless: the manifests are read, every image is looked up in the registry, and who
owns what is there is asked, before anything is written.
"""

from __future__ import annotations

import base64
import secrets
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ..adapters.kube.kinds import (
    APPLICATION,
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    NETWORK_POLICY,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Kind,
)
from ..adapters.kube.session import Conflict, NotFound, Session
from ..adapters.node import Node
from ..adapters.registry import Registry
from ..engines.argo import images as image_plan
from ..engines.argo import manifests, ownership
from ..engines.argo.application import default_project
from ..engines.argo.images import ImageError, Planned
from ..engines.argo.manifests import ManifestError, Object
from ..errors import AirgapError
from ..times import Clock
from .apply import MANAGER, Change, Outcome, Prune, apply, remove
from .parallel import each
from .waiting import wait_ready

try:
    import yaml
except ImportError:
    YAML_TRACEBACK: str | None = traceback.format_exc()
else:
    YAML_TRACEBACK = None

ARGOCD, ROLLOUTS = "argocd", "rollouts"
NAMESPACES = {ARGOCD: "argocd", ROLLOUTS: "argo-rollouts"}
#: Says on an object of which installation it is, ``lumen.airgap/<component>: <namespace>``, so that one which no
#: manifest has any more can be pruned.
_LABEL = "lumen.airgap"

_RBAC = "rbac.authorization.k8s.io/v1"
# Definitions are never pruned: with one go all objects of its kind.
_PRUNED = (
    DEPLOYMENT,
    STATEFUL_SET,
    DAEMON_SET,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    NETWORK_POLICY,
    Kind(_RBAC, "Role"),
    Kind(_RBAC, "RoleBinding"),
    Kind(_RBAC, "ClusterRole"),
    Kind(_RBAC, "ClusterRoleBinding"),
    Kind("traefik.io/v1alpha1", "IngressRoute"),
)
# What others may use as well, and outlives an installation.
_KEPT = ("Namespace", "CustomResourceDefinition")
_TAKEN_OVER = (*ownership.KUBECTL, ownership.ARGO_CD)
_SIGNING_KEY = "server.secretkey"
_WORKERS = 4
_ATTEMPTS = 5
_ESTABLISHED = 60.0

Progress = Callable[[str], None]


class Image(NamedTuple):
    """``source`` as the manifests name it, ``image`` as it is pulled here."""

    source: str
    image: str
    digest: str


class Rendered(NamedTuple):
    """What is to be applied, and the images in it."""

    objects: list[Object]
    images: list[Image]


def read(paths: Sequence[str], texts: Sequence[str]) -> list[Object]:
    """The objects of manifest files and of manifests given as text. Raises AirgapError."""
    node = Node()
    sources: list[tuple[str, str]] = []
    for path in paths:
        text = node.read(path)
        if text is None:
            raise AirgapError(f"there is no manifest {path}")
        sources.append((path, text))
    sources += [(f"content[{index}]", text) for index, text in enumerate(texts)]
    documents = [(name, document) for name, text in sources for document in _parsed(name, text)]
    try:
        found = manifests.objects(documents)
    except ManifestError as error:
        raise AirgapError(str(error)) from error
    if not found:
        raise AirgapError(f"there is no object in {', '.join(name for name, _text in sources) or 'no manifest'}")
    return found


def placed(items: Sequence[Object], changes: Sequence[Any], namespace: str) -> list[Object]:
    """The objects in their namespace and order, with the changes of the site merged in. Raises AirgapError."""
    try:
        checked = manifests.objects(("objects", change) for change in changes)
    except ManifestError as error:
        raise AirgapError(str(error)) from error
    moved = manifests.in_namespace([*items, *checked], namespace)
    return manifests.ordered(manifests.overlaid(moved[: len(items)], moved[len(items) :]))


def render(items: Sequence[Object], mapping: Mapping[str, str], registry: Registry, pin: bool) -> Rendered:
    """Every image rewritten to the registry and, with ``pin``, pinned by the digest that it has there.

    Raises AirgapError that names all images that the registry lacks, with the places that want them.
    """
    try:
        planned = image_plan.plan(items, mapping, registry.host)
    except ImageError as error:
        raise AirgapError(str(error)) from error

    def look_up(entry: Planned) -> str | None:
        return registry.manifest_digest(entry.target.repository, entry.reference)

    digests = each(_WORKERS, look_up, list(planned.values()))
    found = dict(zip(planned, digests))
    missing = {text: planned[text] for text, digest in found.items() if digest is None}
    if missing:
        wanted = "; ".join(f"{entry.target} (for {text}: {entry.places[0]})" for text, entry in missing.items())
        raise AirgapError(
            f"The registry {registry.host} does not have {wanted}. Nothing was applied. Bring what is missing in "
            "with a bundle, or say with the option images what it is called there",
            missing=[
                {"image": str(entry.target), "source": text, "places": list(entry.places)}
                for text, entry in missing.items()
            ],
        )
    references = {
        text: str(entry.target._replace(digest=found[text])) if pin else str(entry.target)
        for text, entry in planned.items()
    }
    seen = [Image(text, references[text], found[text] or "") for text in planned]
    return Rendered(image_plan.rewrite(items, references), seen)


def as_text(rendered: Sequence[Object]) -> str:
    """The objects as YAML, always the same for the same objects."""
    text: str = yaml.dump_all(
        rendered, Dumper=_dumper(), sort_keys=False, allow_unicode=True, explicit_start=True, width=4096
    )
    return text


def write(text: str, path: str, dry_run: bool) -> tuple[bool, list[dict[str, str]]]:
    """Write rendered manifests to a file; whether it changed, and the diff."""
    node = Node()
    before = node.read(path)
    if before == text:
        return False, []
    if not dry_run:
        node.write(path, text)
    return True, [{"before_header": path, "after_header": path, "before": before or "", "after": text}]


def install(
    session: Session,
    component: str,
    namespace: str,
    rendered: Rendered,
    clock: Clock,
    deadline: float,
    dry_run: bool,
    progress: Progress,
    replaces: str | None = None,
) -> tuple[Outcome, bool]:
    """Apply everything and wait until it is Available; the outcome, and whether somebody else's was taken over.

    An Application that owns the component is in the way, but for the one that a dry run ``replaces``. What kubectl or a
    removed Application has left is taken over: its fields become ours first, so that pods go on and nothing of it is
    left over.
    """
    items = rendered.objects
    until = clock.monotonic() + deadline
    foreign = _foreign(session, component, items, replaces if dry_run else None)
    label, own = f"{_LABEL}/{component}", _additions(session, component, namespace, items)
    objects = [_labelled(item, label, namespace) for item in [*items, *own]]
    if not any(item["kind"] == "Namespace" and item["metadata"]["name"] == namespace for item in objects):
        objects.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    if foreign and not dry_run:
        _take(session, objects, _TAKEN_OVER, MANAGER, progress)
    early = [item for item in objects if item["kind"] in _KEPT]
    late = [item for item in objects if item not in early]
    options: dict[str, Any] = {"dry_run": dry_run, "progress": progress, "clock": clock, "force": foreign and dry_run}
    outcome = apply(session, early, **options)
    definitions = manifests.definitions(early)
    if definitions and not dry_run:
        # Also when they were there: one that is not Established has to be said before its objects are refused.
        wait_ready(session, definitions, clock, min(_ESTABLISHED, until - clock.monotonic()), progress)
    prune = Prune(_PRUNED, f"{label}={namespace}")
    _add(outcome, apply(session, late, prune=prune, **options))
    if not dry_run:
        wait_ready(session, manifests.workloads(late), clock, max(1.0, until - clock.monotonic()), progress)
    return outcome, foreign


def uninstall(
    session: Session,
    component: str,
    items: Sequence[Object],
    purge_definitions: bool,
    dry_run: bool,
    replaces: str | None = None,
) -> Outcome:
    """Delete the objects, and the definitions with everything of their kinds if asked for. The namespace stays."""
    _foreign(session, component, items, replaces if dry_run else None)
    kept = ("Namespace",) if purge_definitions else _KEPT
    return remove(session, [item for item in items if item["kind"] not in kept], dry_run=dry_run)


def release(session: Session, items: Sequence[Object], dry_run: bool, progress: Progress) -> Outcome:
    """Hand what we or kubectl have applied to Argo CD: its next sync finds its own fields, and no pod restarts."""
    objects = [item for item in items if item["kind"] != "Namespace"]
    outcome = Outcome()
    for item in _take(session, objects, (MANAGER, *ownership.KUBECTL), ownership.ARGO_CD, progress, dry_run):
        metadata = item["metadata"]
        change = Change(item["kind"], metadata.get("namespace"), metadata["name"], "updated")
        outcome.add(change, _owned_by(item, *ownership.managers(item)), _owned_by(item, ownership.ARGO_CD))
    return outcome


def _foreign(session: Session, component: str, items: Iterable[Object], replaces: str | None = None) -> bool:
    """Whether kubectl or Argo CD has applied what runs; refuses when an Application still does.

    The workloads speak for the rest. They are taken over last, so that a run that was killed is taken up.
    """
    foreign = False
    for item in manifests.workloads(items):
        live = _find(session, item)
        if live is None:
            continue
        tracked = ownership.application_of(live)
        owner = _application(session, tracked) if tracked else None
        if owner is not None and owner != replaces:
            raise AirgapError(
                f"{manifests.title(live)} belongs to the Application {owner}, which would put back what is changed "
                f"here. {component} has one owner: leave it to the Application, or remove that with "
                "lumen.airgap.argo_application, state=absent and cascade=false, and run this again",
                application=owner,
            )
        foreign = foreign or any(manager in _TAKEN_OVER for manager in ownership.managers(live))
    return foreign


def _application(session: Session, tracked: str) -> str | None:
    """The Application of a tracking id, ``namespace/name``, when it exists."""
    try:
        found = session.list(APPLICATION).items
    except NotFound:  # without Argo CD there are none
        return None
    for item in found:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        # One outside Argo CD's own namespace has that in its id.
        if tracked in (name, f"{namespace}_{name}"):
            return f"{namespace}/{name}"
    return None


def _additions(session: Session, component: str, namespace: str, items: Sequence[Object]) -> list[Object]:
    """What argocd-server makes at its first start, where a core installation has none."""
    if component != ARGOCD or any(item["metadata"]["name"] == "argocd-server" for item in manifests.workloads(items)):
        return []
    for item in items:
        if item["kind"] == "Secret" and item["metadata"]["name"] == "argocd-secret":
            live = _find(session, item)
            there = ((live or {}).get("data") or {}).get(_SIGNING_KEY)
            key = there or base64.b64encode(secrets.token_urlsafe(32).encode()).decode()
            item["data"] = {**(item.get("data") or {}), _SIGNING_KEY: key}
    project = default_project(namespace)
    live = _find(session, project)
    ours = live is None or MANAGER in ownership.managers(live)
    return [project] if ours else []


def _take(
    session: Session,
    objects: Sequence[Object],
    sources: Sequence[str],
    target: str,
    progress: Progress,
    dry_run: bool = False,
) -> list[Object]:
    """Make ``target`` the owner of what ``sources`` have applied; the objects that were theirs, as they were."""
    rest = [item for item in objects if item not in manifests.workloads(objects)]

    def one(item: Object) -> Object | None:
        for _attempt in range(_ATTEMPTS):
            live = _find(session, item)
            patch = ownership.transfer(live, sources, target) if live else None
            if live is None or patch is None:
                return None
            metadata = live["metadata"]
            if dry_run:
                return live
            try:
                session.patch(Kind.of(live), metadata["name"], metadata.get("namespace"), patch, patch_type="json")
            except (Conflict, NotFound):  # somebody wrote in between: read again
                continue
            return live
        raise AirgapError(f"{manifests.title(item)}: others change it all the time; try again")

    taken = [*each(_WORKERS, one, rest), *each(_WORKERS, one, manifests.workloads(objects))]
    found = [item for item in taken if item is not None]
    if found and not dry_run:
        progress(f"{len(found)} objects of {', '.join(_owners(found, sources))} are those of {target} now")
    return found


def _owners(items: Iterable[Object], sources: Sequence[str]) -> list[str]:
    return sorted({manager for item in items for manager in ownership.managers(item) if manager in sources})


def _find(session: Session, item: Mapping[str, Any]) -> Object | None:
    metadata = item["metadata"]
    try:
        return session.find(Kind.of(item), metadata["name"], metadata.get("namespace"))
    except NotFound:  # the kind itself is not there
        return None


def _labelled(item: Object, label: str, namespace: str) -> Object:
    if item["kind"] in _KEPT:
        return item
    metadata = item["metadata"]
    return {**item, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), label: namespace}}}


def _owned_by(item: Object, *managers: str) -> Object:
    metadata = item["metadata"]
    named = {key: metadata[key] for key in ("name", "namespace") if metadata.get(key)}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": {**named, "managers": list(managers)}}


def _add(outcome: Outcome, more: Outcome) -> None:
    outcome.changes += more.changes
    outcome.pairs += more.pairs


def _parsed(name: str, text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise AirgapError(f"{name} is not YAML: {' '.join(str(error).split())}") from error


def _dumper() -> Any:
    return getattr(yaml, "CSafeDumper", yaml.SafeDumper)

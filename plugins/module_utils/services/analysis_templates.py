# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where analysis templates come from: a cluster or a file, and with each the templates that it refers to."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from ansible.module_utils.basic import missing_required_lib

from ..adapters.kube.kinds import ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE, Kind
from ..adapters.kube.session import Session
from ..engines.analysis.metric import TemplateError
from ..engines.analysis.template import references
from ..errors import AirgapError

YAML_IMPORT_ERROR: str | None = None
try:
    import yaml
except ImportError:
    YAML_IMPORT_ERROR = traceback.format_exc()

_KINDS = {kind.kind: kind for kind in (ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE)}


class Template(NamedTuple):
    """One template. ``title`` is how messages name it; ``spec`` is as it was found, of whatever shape."""

    title: str
    spec: Any


class Place(NamedTuple):
    """Where in a cluster a template is; ``title`` is how messages name it."""

    kind: Kind
    namespace: str | None
    title: str


def place_of(name: str, cluster: bool, namespace: str | None) -> Place:
    """Of a ClusterAnalysisTemplate, or of an AnalysisTemplate in ``namespace``."""
    kind, where = (CLUSTER_ANALYSIS_TEMPLATE, None) if cluster else (ANALYSIS_TEMPLATE, namespace)
    return Place(kind, where, f"{kind.kind} {where}/{name}" if where else f"{kind.kind} {name}")


Find = Callable[[str, bool], Template]
"""The template of a name; the second argument: whether it is a ClusterAnalysisTemplate. Raises AirgapError."""


def collect(find: Find, wanted: Sequence[tuple[str, bool]]) -> list[Template]:
    """The templates of these names and all that they refer to, each once, in the order in which Argo merges them.

    That is AnalysisTemplates before ClusterAnalysisTemplates (getAnalysisTemplatesFromRefs of Argo Rollouts 1.8). A
    circle of references ends where it closes. Raises AirgapError.
    """
    found: dict[tuple[str, bool], Template] = {}
    ahead = list(reversed(wanted))
    while ahead:
        reference = ahead.pop()
        if reference in found:
            continue
        template = found[reference] = find(*reference)
        try:
            ahead += reversed(references(template.spec))
        except TemplateError as problem:
            raise AirgapError(f"Analysis {template.title}: {problem}") from problem
    return [template for (_name, cluster), template in sorted(found.items(), key=lambda item: item[0][1])]


def in_cluster(session: Session | None, namespace: str | None) -> Find:
    """Templates of a cluster, AnalysisTemplates those of ``namespace``."""

    def find(name: str, cluster: bool) -> Template:
        if session is None:
            raise AirgapError(f"The template {name!r} is in a cluster: give a kubeconfig, or a file")
        if not cluster and not namespace:
            raise AirgapError(f"The AnalysisTemplate {name!r} needs a namespace")
        place = place_of(name, cluster, namespace)
        body = session.find(place.kind, name, place.namespace)
        if body is None:
            raise AirgapError(f"{place.title} does not exist.")
        return Template(place.title, body.get("spec"))

    return find


class TemplateFile:
    """The templates of a YAML file; others than analysis templates may be in it, and are left aside."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: dict[str, tuple[Kind, Any]] = {}
        for number, document in enumerate(_documents(path), 1):
            if not isinstance(document, dict) or document.get("kind") not in _KINDS:
                continue
            metadata = document.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            if not isinstance(name, str):
                raise AirgapError(f"The file {path}, document {number} ({document['kind']}): metadata.name is missing")
            self._found[name] = (_KINDS[document["kind"]], document.get("spec"))

    def choose(self, name: str | None) -> tuple[str, bool]:
        """The reference to the template of that name, or to the only one. Raises AirgapError."""
        if name is None and len(self._found) == 1:
            name = next(iter(self._found))
        if name is None:
            raise AirgapError(
                f"The file {self._path} holds {len(self._found)} analysis templates: name one with template"
            )
        if name not in self._found:
            there = ", ".join(self._found) or "none"
            raise AirgapError(f"The file {self._path} has no analysis template {name!r} (it has {there})")
        return name, self._found[name][0] is CLUSTER_ANALYSIS_TEMPLATE

    def find(self, elsewhere: Find) -> Find:
        """Templates of the file, and those of ``elsewhere`` that are not in it."""

        def find(name: str, cluster: bool) -> Template:
            kind = CLUSTER_ANALYSIS_TEMPLATE if cluster else ANALYSIS_TEMPLATE
            if name in self._found and self._found[name][0] is kind:
                return Template(f"{name} in {self._path}", self._found[name][1])
            return elsewhere(name, cluster)

        return find


def _documents(path: str) -> list[Any]:
    if YAML_IMPORT_ERROR:
        raise AirgapError(missing_required_lib("PyYAML"), exception=YAML_IMPORT_ERROR)
    try:
        with open(path, encoding="utf-8") as stream:
            return list(yaml.safe_load_all(stream))
    except OSError as error:
        raise AirgapError(f"Cannot read the file {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a time such as 2026-13-01 is a ValueError
        raise AirgapError(f"The file {path} is not YAML: {error}") from error

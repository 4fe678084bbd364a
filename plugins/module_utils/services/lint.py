# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the objects that are linted come from: a cluster, a file with its lines and comments, or options.

The controller can do more than our own gate (endless background analyses, arguments from Secrets, range queries,
templates of templates): what only it can know is not checked.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ..adapters.kube.kinds import ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE, ROLLOUT
from ..adapters.kube.session import Session
from ..engines.analysis.extensions import FIELDS
from ..engines.analysis.findings import ERROR, Document, Finding, Path
from ..engines.analysis.lint import Context, lint_template
from ..engines.canary.lint import Reference, analyses, lint_rollout, referenced
from ..errors import AirgapError
from .analysis_templates import place_of

YAML_IMPORT_ERROR: str | None = None
try:
    import yaml
except ImportError:
    YAML_IMPORT_ERROR = traceback.format_exc()

TEMPLATE_KINDS = (ANALYSIS_TEMPLATE.kind, CLUSTER_ANALYSIS_TEMPLATE.kind)
_COMMENT = re.compile(r"\s*#\s?(.*)")


def read_documents(path: str) -> list[Document]:
    """The templates and Rollouts of a YAML file, with the lines of all values. Raises AirgapError."""
    if YAML_IMPORT_ERROR:
        raise AirgapError(missing_required_lib("PyYAML"), exception=YAML_IMPORT_ERROR)
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        loader = yaml.SafeLoader(text)
        try:
            return list(_documents(path, loader, text.splitlines()))
        finally:
            loader.dispose()
    except OSError as error:
        raise AirgapError(f"Cannot read the file {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a time such as 2026-13-01 is a ValueError
        raise AirgapError(f"The file {path} is not YAML: {error}") from error


def _documents(path: str, loader: Any, lines: Sequence[str]) -> Iterable[Document]:
    while loader.check_node():
        node = loader.get_node()
        body = loader.construct_document(node)
        if not isinstance(body, dict) or body.get("kind") not in (*TEMPLATE_KINDS, ROLLOUT.kind):
            continue
        places: dict[Path, tuple[int, int]] = {}
        comments: dict[Path, str] = {}
        _place(node, (), lines, places, comments)
        metadata = body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        yield Document(f"{body['kind']} {name} in {path}", body, places, comments)


def _place(
    node: Any, path: Path, lines: Sequence[str], places: dict[Path, tuple[int, int]], comments: dict[Path, str]
) -> None:
    """Note where a node and all in it begin, and the comments beside and above its scalars."""
    mark = node.start_mark
    places[path] = (mark.line + 1, mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _place(value, (*path, str(key.value)), lines, places, comments)
    elif isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            _place(item, (*path, place), lines, places, comments)
    elif node.end_mark.line == mark.line:
        beside = _COMMENT.fullmatch(lines[mark.line][node.end_mark.column :])
        above = _COMMENT.fullmatch(lines[mark.line - 1]) if mark.line else None
        texts = [found[1].strip() for found in (above, beside) if found]
        if texts:
            comments[path] = " ".join(texts)


def file_templates(documents: Iterable[Document]) -> dict[Reference, Document]:
    """The templates among the documents of a file, as a Rollout refers to them."""
    found: dict[Reference, Document] = {}
    for document in documents:
        if document.body["kind"] in TEMPLATE_KINDS:
            cluster = document.body["kind"] == CLUSTER_ANALYSIS_TEMPLATE.kind
            found[Reference(str(document.get(("metadata", "name"))), cluster)] = document
    return found


def cluster_templates(session: Session, namespace: str, rollout: Document) -> dict[Reference, Document]:
    """The templates in a cluster that a Rollout's analyses refer to, and those that they refer to; what is there."""
    found: dict[Reference, Document] = {}
    waiting = [reference for path in analyses(rollout) for reference in referenced(rollout.get(path))]
    while waiting:
        reference = waiting.pop(0)
        if reference in found:
            continue
        place = place_of(reference.name, reference.cluster, namespace)
        body = session.find(place.kind, reference.name, place.namespace)
        if body is not None:
            found[reference] = Document(place.title, body)
            waiting += referenced(body.get("spec"))
    return found


def lint_release(
    session: Session, namespace: str, rollout: Mapping[str, Any], title: str, scrape_interval: float
) -> list[Finding]:
    """The findings in a Rollout of a cluster and in the templates that it refers to."""
    document = Document(title, rollout)
    return lint_rollout(document, cluster_templates(session, namespace, document), scrape_interval)


def gate_context(options: Mapping[str, Any], scrape_interval: float) -> Context:
    """What the options of a gate (GATE_OPTIONS) say of its template: nobody else gives it arguments."""
    return Context(
        options["args"],
        complete=True,
        scrape_interval=scrape_interval,
        extensions={name: options[name] for name in FIELDS},
        dry_run=options["dry_run"],
    )


def lint_gate(
    session: Session | None, options: Mapping[str, Any], namespace: str | None, context: Context
) -> list[Finding]:
    """The findings in one analysis, given by the options of `services.analysis.load_gate`."""
    return lint_template(gate_document(session, options, namespace), context)


def gate_document(session: Session | None, options: Mapping[str, Any], namespace: str | None) -> Document:
    """The analysis that the options of a gate mean. Raises AirgapError when it is not there."""
    template = options.get("template")
    if options.get("metrics") is not None:
        return Document("Analysis (inline)", {"spec": {"metrics": options["metrics"]}})
    if options.get("file"):
        found = file_templates(read_documents(options["file"]))
        named = [document for reference, document in found.items() if template in (None, reference.name)]
        if len(named) != 1:
            raise AirgapError(
                f"The file {options['file']} has {len(named)} analysis templates"
                + (f" {template!r}" if template else ": name one with template")
            )
        return named[0]
    if session is None or not template:
        raise AirgapError("An analysis needs a template in a cluster, a file or inline metrics")
    place = place_of(template, bool(options.get("cluster_template")), namespace)
    body = session.find(place.kind, template, place.namespace)
    if body is None:
        raise AirgapError(f"{place.title} does not exist.")
    return Document(place.title, body)


def _corrected(finding: Finding) -> str:
    return f" (corrected: {'; '.join(finding.corrected.splitlines())})" if finding.edits else ""


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raise AirgapError for the findings that are errors, all of them in its message and all findings in ``lint``."""
    errors = [finding for finding in findings if finding.severity == ERROR]
    if not errors:
        return
    told = "; ".join(f"{error}{_corrected(error)}" for error in errors)
    raise AirgapError(f"The lint refuses {told}", lint=[finding.as_dict() for finding in findings])

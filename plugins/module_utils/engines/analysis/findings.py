# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a lint finds in an object: where, why, and the text that puts it right."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

ERROR, WARNING = "error", "warning"

# The keys and list indices from an object's root to a value.
Path = tuple[Union[str, int], ...]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*|[0-9]+(?:ms|s|m|h)")
_WORDS_OF_YAML = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")


@dataclass(frozen=True)
class Document:
    """An object with what is known of its text: line and column of values, and the comments beside them."""

    name: str
    """For people: ``AnalysisTemplate lumen/success-rate``."""
    body: Mapping[str, Any]
    places: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    comments: Mapping[Path, str] = field(default_factory=dict)
    """Comment on the line of a value, or on the line above it."""

    def place(self, path: Path) -> tuple[int | None, int | None]:
        """Line and column, from 1, of a value, or of the nearest around it that is there."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (None, None))

    def get(self, path: Path) -> Any:
        """The value at a path; None where there is none."""
        value: Any = self.body
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


class Edit(NamedTuple):
    """A value to put at a path of a document; None takes away what is there."""

    document: str
    path: Path
    value: Any


@dataclass(frozen=True)
class Finding:
    """One thing that a lint has found. ``edits`` put it right; none when only a person can."""

    rule: str
    severity: str
    document: str
    path: Path
    reason: str
    edits: tuple[Edit, ...] = ()
    metric: str = ""
    line: int | None = None
    column: int | None = None

    @property
    def where(self) -> str:
        """The path as it is written: ``spec.metrics[0].successCondition``."""
        return path_text(self.path)

    @property
    def corrected(self) -> str:
        """The edits as YAML, each a field with its new value; a comment says which object when it is another."""
        lines = []
        for edit in self.edits:
            if edit.path[:-1] != self.path[:-1] or edit.document != self.document:
                parent = path_text(edit.path[:-1])
                lines.append(f"# {parent}" if edit.document == self.document else f"# {edit.document}, {parent}")
            lines.append(_field(edit))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """What modules and actions return."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "object": self.document,
            "where": self.where,
            "line": self.line,
            "column": self.column,
            "metric": self.metric or None,
            "reason": self.reason,
            "corrected": self.corrected,
        }

    def __str__(self) -> str:
        """One line: ``nan-unguarded: AnalysisTemplate lumen/x, line 9, spec.metrics[0].successCondition: reason``."""
        line = f", line {self.line}" if self.line else ""
        return f"{self.rule}: {self.document}{line}, {self.where}: {self.reason}"


def path_text(path: Path) -> str:
    """``('spec', 'metrics', 0, 'name')`` as ``spec.metrics[0].name``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.lstrip(".")


def _field(edit: Edit) -> str:
    key = edit.path[-1]
    if edit.value is None:
        return f"# without {path_text(edit.path[-2:]) if isinstance(key, int) else key}"
    if isinstance(edit.value, str) and "\n" in edit.value.rstrip("\n"):
        block = "\n".join(f"  {line}".rstrip() for line in edit.value.rstrip("\n").split("\n"))
        return f"{key}: |\n{block}"
    shown = _flow(edit.value.rstrip("\n") if isinstance(edit.value, str) else edit.value)
    return f"- {shown}" if isinstance(key, int) else f"{key}: {shown}"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    return json.dumps(value, ensure_ascii=False)


def apply(documents: Iterable[Document], edits: Iterable[Edit]) -> list[Document]:
    """The documents with the edits made; comments beside what was edited go, as in a line that is written anew."""
    found = {document.name: document for document in documents}
    for edit in edits:
        document = found[edit.document]
        comments = {path: text for path, text in document.comments.items() if path != edit.path}
        body = _edited(document.body, edit.path, edit.value)
        found[edit.document] = dataclasses.replace(document, body=body, comments=comments)
    return list(found.values())


def _edited(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        items = list(value or [])
        items[key : key + 1] = [] if new is None and not rest else [_edited(items[key], rest, new)]
        return items
    fields = dict(value or {})
    if new is None and not rest:
        fields.pop(key, None)
    else:
        fields[key] = _edited(fields.get(key), rest, new)
    return fields

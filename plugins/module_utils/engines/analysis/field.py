# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arguments with ``valueFrom.fieldRef``: a field of the Rollout, or of the Deployment, as text.

Copies ExtractFieldPathAsString of Kubernetes 1.34 (pkg/fieldpath) for paths that begin with ``metadata``, and
extractValueFromRollout of Argo Rollouts 1.8 (utils/analysis/factory.go) for all others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .golang import quote
from .shapes import TemplateError

_SUBSCRIPTED = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)
_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*/)?(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_MAX_NAME = 63
_EXPONENT_FROM = 6  # of a number's shortest form, in Go's %v
_SEPARATORS = re.compile(r"[.\[\]]+")


def read_field(obj: Mapping[str, Any], path: str) -> str:
    """The field of a Kubernetes object. A label or an annotation that is not there is empty.

    Raises TemplateError for a path that Argo cannot read, or that is not there.
    """
    return _metadata(obj.get("metadata") or {}, path) if path.startswith("metadata") else _any_field(obj, path)


def _metadata(metadata: Mapping[str, Any], path: str) -> str:
    subscripted = _SUBSCRIPTED.fullmatch(path)
    maps = {"metadata.annotations": "annotations", "metadata.labels": "labels"}
    if subscripted:
        where, key = subscripted[1], subscripted[2]
        if where not in maps:
            raise TemplateError(f"fieldPath {path!r} does not support subscript")
        # Only names of annotations are compared in small letters.
        if not _is_qualified(key.lower() if where == "metadata.annotations" else key):
            raise TemplateError(f"invalid key subscript in {path}")
        return str((metadata.get(maps[where]) or {}).get(key, ""))
    if path in maps:
        entries = metadata.get(maps[path]) or {}
        return "\n".join(f"{key}={quote(str(entries[key]))}" for key in sorted(entries))
    if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata.get(path.partition(".")[2], ""))
    raise TemplateError(f"unsupported fieldPath: {path}")


def _is_qualified(key: str) -> bool:
    parts = _KEY.fullmatch(key)
    name = parts[1] if parts else ""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def _any_field(obj: Mapping[str, Any], path: str) -> str:
    value: Any = obj
    for section in filter(None, _SEPARATORS.split(path)):
        if isinstance(value, Mapping):
            value = value.get(section)
        elif isinstance(value, list):
            value = _element(value, section)
        else:
            raise TemplateError(f"invalid path {path} in the object")
    if value is None:
        raise TemplateError(f"invalid path {path} in the object")
    if isinstance(value, (Mapping, list)):
        raise TemplateError(f"path {path} must end in a primitive value")
    return _text(value)


def _element(values: list[Any], section: str) -> Any:
    if not re.fullmatch(r"[0-9]+", section):
        raise TemplateError(f"invalid index {section!r}")
    if int(section) >= len(values):
        raise TemplateError(f"index {section} out of range")
    return values[int(section)]


def _text(value: Any) -> str:
    """As Go prints what it has read from JSON, where every number is a float."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (int, float)):
        return str(value)
    number = Decimal(repr(float(value))).normalize()
    power = number.adjusted()
    if not number or -4 <= power < _EXPONENT_FROM:
        return format(number, "f")
    mantissa = format(number.scaleb(-power).normalize(), "f")
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shapes of what YAML gives: a value of the expected kind, or a TemplateError that says where it is another.

``path`` is where the value stands in the template, such as ``spec.dryRun[0]``. What is absent is empty, as in
Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 60


class TemplateError(ValueError):
    """An analysis template or its arguments are wrong: Argo would answer with a run in Error."""


def mapping(value: Any, path: str, hint: str = "") -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(value, path, f"a mapping{hint}")
    return value


def sequence(value: Any, path: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise _wrong(value, path, "a list")
    return list(value)


def text(value: Any, path: str) -> str:
    """A string that has to be there."""
    if not isinstance(value, str):
        raise _wrong(value, path, "a string")
    return value


def named(value: Any, path: str, key: str) -> list[Mapping[str, Any]]:
    """A list of mappings that each have a string under ``key``."""
    entries = sequence(value, path)
    for place, entry in enumerate(entries):
        where = f"{path}[{place}]"
        if not isinstance(entry, Mapping) or key not in entry:
            raise _wrong(entry, where, f"a mapping with {key}")
        text(entry[key], f"{where}.{key}")
    return entries


def _wrong(value: Any, path: str, wanted: str) -> TemplateError:
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return TemplateError(f"{path} must be {wanted}, not {shown}")

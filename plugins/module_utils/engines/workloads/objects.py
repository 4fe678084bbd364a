# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in any workload, whatever makes its pods, and in any object of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]

#: The label of what the collection has made.
MANAGED: Mapping[str, str] = {"app.kubernetes.io/managed-by": "lumen.airgap"}


def images_of(workload: Object) -> tuple[str, ...]:
    """Of the containers of its template; none where it has no template of its own."""
    template = ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}
    return tuple(str(each.get("image") or "") for each in template.get("containers") or ())


def owner_of(obj: Object, kind: str) -> str:
    """Name of the owner of this kind; empty when it has none."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(owner["name"]) for owner in owners if owner.get("kind") == kind), "")

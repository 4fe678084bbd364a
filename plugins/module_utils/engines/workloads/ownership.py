# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether applying an object server-side would change anything, told from the object that is there.

The API server notes for each field manager which fields its last apply set (``metadata.managedFields``), and takes a
field away from it when somebody else changes the value. So nothing is to do when the object carries the digest of what
is to be applied, and this manager still owns every field of it. Neither defaults nor a kind's schema need be known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: The annotation that carries the digest.
DIGEST = "lumen.airgap/applied"

Object = Mapping[str, Any]


def digest(desired: Object) -> str:
    """The digest of an object as it is to be applied, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(desired, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def stamped(desired: Object) -> dict[str, Any]:
    """A copy of the object with its digest among its annotations."""
    metadata = desired["metadata"]
    annotations = {**(metadata.get("annotations") or {}), DIGEST: digest(desired)}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def is_applied(stamped_desired: Object, live: Object, manager: str) -> bool:
    """Whether ``live`` is what the last apply of this very object left, and nobody has changed a field of it since."""
    annotations = live["metadata"].get("annotations") or {}
    if annotations.get(DIGEST) != stamped_desired["metadata"]["annotations"][DIGEST]:
        return False
    fields = _applied_fields(live, manager)
    content = {key: value for key, value in stamped_desired.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: value for key, value in stamped_desired["metadata"].items() if key not in ("name", "namespace")}
    return fields is not None and _owns(fields, {**content, "metadata": metadata})


def _applied_fields(live: Object, manager: str) -> Object | None:
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Object = entry.get("fieldsV1") or {}
            return fields
    return None


def _owns(fields: Object, value: Any) -> bool:
    """Whether a node of ``fieldsV1`` covers a value. A node with nothing below it stands for the whole value."""
    if not fields:
        return True
    if isinstance(value, Mapping):
        return all(
            each is None or (f"f:{key}" in fields and _owns(fields[f"f:{key}"], each)) for key, each in value.items()
        )
    if isinstance(value, list):
        return all(_owns_item(fields, item) for item in value)
    return True


def _owns_item(nodes: Object, item: Any) -> bool:
    """An item of a list that has an identity: ``k:{"name":"x"}`` for its keys, ``v:"x"`` for a value of a set."""
    for label, node in nodes.items():
        form, _colon, text = label.partition(":")
        if form not in ("k", "v"):
            continue
        identity = json.loads(text)
        if form == "v" and identity == item:
            return True
        if form == "k" and _is(identity, item) and _owns(node, item):
            return True
    return False


def _is(identity: Object, item: Any) -> bool:
    # Keys that the item leaves out got their default from the server, such as a port's protocol.
    return isinstance(item, Mapping) and all(item.get(key, each) == each for key, each in identity.items())

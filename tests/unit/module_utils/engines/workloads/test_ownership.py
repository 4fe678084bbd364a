# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an apply would change anything, from ``managedFields`` as an API server (1.34) writes them."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.engines.workloads.ownership import (
    DIGEST,
    digest,
    is_applied,
    stamped,
)

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "api", "namespace": "lumen", "labels": {"app": "api"}, "finalizers": ["lumen.example/keep"]},
    "spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "api"}},
}
FIELDS = {
    "f:metadata": {
        "f:annotations": {f"f:{DIGEST}": {}},
        "f:finalizers": {'v:"lumen.example/keep"': {}},
        "f:labels": {"f:app": {}},
    },
    "f:spec": {
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}}},
        "f:selector": {},
    },
}


def live(fields: dict[str, Any] = FIELDS, manager: str = "us", **entry: Any) -> dict[str, Any]:
    body = copy.deepcopy(stamped(SERVICE))
    body["metadata"]["managedFields"] = [
        {"manager": "kubectl", "operation": "Update", "fieldsV1": {}},
        {"manager": manager, "operation": "Apply", "fieldsV1": fields, **entry},
    ]
    body["spec"]["ports"][0]["protocol"] = "TCP"
    body["spec"]["clusterIP"] = "10.43.0.7"
    return body


def without(*path: str) -> dict[str, Any]:
    """The fields without one of them: a map goes with the last that was owned in it."""
    fields: dict[str, Any] = copy.deepcopy(FIELDS)
    nodes = [fields]
    for part in path[:-1]:
        nodes.append(nodes[-1][part])
    for node, part in zip(reversed(nodes), reversed(path), strict=True):
        del node[part]
        if node:
            break
    return fields


def test_what_was_applied_and_is_still_owned_is_left_alone() -> None:
    assert is_applied(stamped(SERVICE), live(), "us")


def test_other_content_is_applied() -> None:
    changed = copy.deepcopy(SERVICE)
    changed["spec"]["selector"] = {"app": "other"}  # type: ignore[index]
    assert not is_applied(stamped(changed), live(), "us")


def test_what_somebody_else_applied_is_applied() -> None:
    assert not is_applied(stamped(SERVICE), live(manager="them"), "us")
    assert not is_applied(stamped(SERVICE), live(operation="Update"), "us")
    assert not is_applied(stamped(SERVICE), live(subresource="status"), "us")


def test_a_field_that_was_taken_over_is_applied_again() -> None:
    port = 'k:{"port":80,"protocol":"TCP"}'
    for path in (
        ("f:metadata", "f:labels", "f:app"),
        ("f:metadata", "f:labels"),
        ("f:spec", "f:selector"),
        ("f:spec", "f:ports", port),
        ("f:spec", "f:ports", port, "f:targetPort"),
    ):
        assert not is_applied(stamped(SERVICE), live(without(*path)), "us"), path
    emptied = without("f:metadata", "f:labels", "f:app")
    emptied["f:metadata"]["f:labels"] = {".": {}}
    assert not is_applied(stamped(SERVICE), live(emptied), "us")
    other = copy.deepcopy(FIELDS)
    other["f:metadata"]["f:finalizers"] = {'v:"lumen.example/other"': {}}  # type: ignore[assignment]
    assert not is_applied(stamped(SERVICE), live(other), "us")


def test_what_was_never_applied_by_anybody_is_applied() -> None:
    body = live()
    del body["metadata"]["managedFields"]
    assert not is_applied(stamped(SERVICE), body, "us")
    assert not is_applied(stamped(SERVICE), {"metadata": {"name": "api"}}, "us")


def test_the_digest_is_of_the_content_alone() -> None:
    reordered = dict(reversed(list(SERVICE.items())))
    assert digest(SERVICE) == digest(reordered)
    assert stamped(SERVICE)["metadata"]["annotations"] == {DIGEST: digest(SERVICE)}
    assert "annotations" not in SERVICE["metadata"]  # type: ignore[operator]

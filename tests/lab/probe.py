# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tags of the lab's probe, which stand for versions of an app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry

REGISTRY = "192.168.2.2:5000"


@contextmanager
def tagged(*tags: str) -> Iterator[None]:
    """While they are there. A module has names of its own, for it takes them away from under all others."""
    registry = Registry.connect({"host": REGISTRY, "scheme": "http"})
    manifest = registry.manifest("probe", "lab")
    assert manifest is not None
    for tag in tags:
        registry.put_manifest("probe", tag, manifest)
    try:
        yield
    finally:
        for tag in tags:
            registry.delete_tag("probe", tag)

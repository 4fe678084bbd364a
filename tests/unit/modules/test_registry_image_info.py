# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module registry_image_info through its arguments and results."""

from __future__ import annotations

from ansible_collections.lumen.airgap.plugins.modules import registry_image_info
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry, digest_of
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run


def test_registry_image_info(run: Run, fake_registry: FakeRegistry) -> None:
    digest = fake_registry.add_image("app", "v1.0.0", [b"layer"], Labels={"a": "b"})
    result = run(registry_image_info, registry={"host": HOST}, names=["app:v1.0.0", "app:v2.0.0"])
    assert not result["changed"]
    assert [(image["exists"], image["digest"]) for image in result["images"]] == [(True, digest), (False, None)]


def test_registry_image_info_verifies(run: Run, fake_registry: FakeRegistry) -> None:
    fake_registry.add_image("app", "v1.0.0", [b"layer"])
    assert run(registry_image_info, registry={"host": HOST}, names=["app:v1.0.0"])["images"][0]["corrupt"] is None
    fake_registry.blobs["app"][digest_of(b"layer")] = b"other"
    (image,) = run(registry_image_info, registry={"host": HOST}, names=["app:v1.0.0"], verify=True)["images"]
    assert image["corrupt"] == [{"digest": digest_of(b"layer"), "reason": f"has the content {digest_of(b'other')}"}]

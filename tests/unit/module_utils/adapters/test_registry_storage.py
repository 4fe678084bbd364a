# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directory in which a registry keeps its blobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry_storage import RegistryStorage
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import digest_of

DATA = b"content"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = Path(tmp_path, "docker/registry/v2/blobs/sha256", digest_of(DATA)[7:9], digest_of(DATA)[7:], "data")
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return path


def test_only_what_is_damaged_is_removed(file: Path, tmp_path: Path) -> None:
    storage = RegistryStorage(str(tmp_path))
    assert storage.path(digest_of(DATA)) == str(file)
    assert (storage.state(digest_of(DATA)), storage.state(digest_of(b"other"))) == ("whole", "missing")
    assert not storage.remove_damaged(digest_of(DATA))
    assert file.exists()
    file.write_bytes(DATA[:-1])
    assert storage.state(digest_of(DATA)) == "damaged"
    assert storage.remove_damaged(digest_of(DATA))
    assert not file.exists()
    assert not storage.remove_damaged(digest_of(DATA))


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match=r"is not the storage of a registry.*on the registry's node"):
        RegistryStorage(str(tmp_path))

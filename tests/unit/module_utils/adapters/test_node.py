# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and ports, under a temporary directory and on the loopback address."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node, NodeError


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yml"
    assert Node().read(str(path)) is None
    Node().write(str(path), "one\n")
    Node().write(str(path), "two\n")
    assert Node().read(str(path)) == "two\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in path.parent.iterdir()] == ["config.yml"]
    Node().remove(str(path))
    Node().remove(str(path))
    assert not Node().exists(str(path))


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xff")
    for call in (
        lambda: Node().write(f"{file}/config.yml", "x"),
        lambda: Node().write(str(tmp_path), "x"),
        lambda: Node().make_directory(str(file)),
        lambda: Node().remove(str(tmp_path)),
        lambda: Node().read(str(file)),
        lambda: Node().read(str(tmp_path)),
    ):
        with pytest.raises(NodeError, match=str(tmp_path)):
            call()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file"]


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not Node().port_free(port)
    assert Node().port_free(port)

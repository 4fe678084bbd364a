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


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert Node().mode(str(path)) is None
    Node().write(str(path), "x", 0o600)
    assert Node().mode(str(path)) == "0600"
    Node().make_directory(str(tmp_path / "private"), 0o700)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def test_a_tree_is_measured_and_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    assert Node().size(str(tree)) == 0
    Node().write(str(tree / "a" / "b"), "12345")
    Node().write(str(tree / "c"), "12")
    (tree / "loop").symlink_to(tree)
    assert Node().size(str(tree / "c")) == 2
    assert Node().size(str(tree)) == 7 + len(str(tree))
    Node().remove_empty(str(tree))
    assert tree.exists()
    Node().remove_tree(str(tree))
    Node().remove_tree(str(tree))
    assert not tree.exists()
    Node().remove_empty(str(tmp_path))
    assert not tmp_path.exists()


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xff")
    for call in (
        lambda: Node().write(f"{file}/config.yml", "x"),
        lambda: Node().write(str(tmp_path), "x"),
        lambda: Node().make_directory(str(file)),
        lambda: Node().remove(str(tmp_path)),
        lambda: Node().remove_tree(str(file)),
        lambda: Node().mode(f"{file}/config.yml"),
        lambda: Node().size(f"{file}/config.yml"),
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

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of the users, read and written as the registry takes it."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import htpasswd
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.htpasswd import User
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError


def test_what_is_written_is_read_again() -> None:
    text = htpasswd.render([User("ci", "one"), User("alice", "two")], {"alice": "kept"})
    found = htpasswd.parse(text)
    assert found["alice"] == "kept"
    assert found["ci"].startswith("$2b$10$")
    assert htpasswd.matches(found["ci"], "one")
    assert not htpasswd.matches(found["ci"], "two")


def test_what_others_wrote() -> None:
    text = "# ours\n\n  ci:$2y$05$a:b  \nnothing\n"
    assert htpasswd.parse(text) == {"ci": "$2y$05$a:b"}
    assert not htpasswd.matches("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password")


@pytest.mark.parametrize("name", ["", "a:b", "a b", "#a", "a\n"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(AirgapError, match="no colon and no space"):
        htpasswd.check([User(name, "one")])


@pytest.mark.parametrize("password", ["", "x" * 73, "é" * 37, "a\0b"])
def test_passwords_that_cannot_be(password: str) -> None:
    with pytest.raises(AirgapError, match="password of the user ci has to have from 1 to 72 bytes") as error:
        htpasswd.check([User("ci", password)])
    assert not password or password not in str(error.value)


def test_a_user_named_twice() -> None:
    htpasswd.check([User("ci", "x" * 72), User("alice", "two")])
    with pytest.raises(AirgapError, match="names ci twice"):
        htpasswd.check([User("ci", "one"), User("ci", "two")])

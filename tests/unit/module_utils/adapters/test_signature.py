# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures by the real ssh-keygen."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import signature
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.signature import SignatureError
from ansible_collections.lumen.airgap.tests.unit.fakes.keys import Key, make_key

BODY = b'{"schema": 1}\n'


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("key"), "release@lumen")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("other"), "other@lumen")


def test_an_allowed_signer_is_named(key: Key, other: Key, tmp_path: Path) -> None:
    signed = signature.sign(BODY, key.private)
    assert signature.verify(BODY, signed, other.allowed + key.allowed, "bundle.json") == "release@lumen"
    file = tmp_path / "allowed_signers"
    file.write_text(key.allowed)
    assert signature.verify(BODY, signed, str(file), "bundle.json", "*@lumen") == "release@lumen"


def test_another_content(key: Key) -> None:
    signed = signature.sign(BODY, key.private)
    with pytest.raises(SignatureError, match=r"signature of bundle\.json is wrong: .*incorrect signature"):
        signature.verify(BODY + b" ", signed, key.allowed, "bundle.json")


def test_an_unknown_key(key: Key, other: Key) -> None:
    with pytest.raises(SignatureError, match=r"bundle\.json is by a key that is not among the allowed signers"):
        signature.verify(BODY, signature.sign(BODY, other.private), key.allowed, "bundle.json")


@pytest.mark.parametrize("damaged", [b"", b"no signature", b"-----BEGIN SSH SIGNATURE-----\nU1NI\n"])
def test_no_signature_at_all(key: Key, damaged: bytes) -> None:
    with pytest.raises(SignatureError, match="or it is damaged: "):
        signature.verify(BODY, damaged, key.allowed, "bundle.json")


def test_a_signature_for_something_else(key: Key) -> None:
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-f", key.private, "-n", "git"]
    signed = subprocess.run(argv, input=BODY, capture_output=True, check=True, timeout=20).stdout
    with pytest.raises(SignatureError, match="signed for something else than lumen-airgap-bundle"):
        signature.verify(BODY, signed, key.allowed, "bundle.json")


def test_an_allowed_signer_who_is_not_the_wanted_one(key: Key) -> None:
    with pytest.raises(SignatureError, match=r"is signed by release@lumen, an allowed signer, but prod@\* is wanted"):
        signature.verify(BODY, signature.sign(BODY, key.private), key.allowed, "bundle.json", "prod@*")


def test_one_key_with_several_names(key: Key) -> None:
    allowed = key.allowed.replace("release@lumen", "a@lumen,b@lumen")
    assert signature.verify(BODY, signature.sign(BODY, key.private), allowed, "x", "b@*") == "b@lumen"


def test_a_signer_whose_time_is_over(key: Key) -> None:
    allowed = key.allowed.replace(" ", ' valid-before="20200101" ', 1)
    with pytest.raises(SignatureError, match=r"allowed signers|is wrong"):
        signature.verify(BODY, signature.sign(BODY, key.private), allowed, "bundle.json")


def test_without_ssh_keygen(key: Key) -> None:
    with pytest.raises(SignatureError, match=r"is not installed here.*openssh-client"):
        signature.sign(BODY, key.private, program="/nonexistent/ssh-keygen")
    with pytest.raises(SignatureError, match=r"is not installed here.*openssh-client"):
        signature.verify(BODY, b"", key.allowed, "x", program="/nonexistent/ssh-keygen")


def test_a_program_that_does_not_answer(key: Key, tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(SignatureError, match="did not answer within"):
        signature.sign(BODY, key.private, program=str(program), deadline=0.05)


def test_what_ssh_keygen_says_ends_with_one_full_stop(key: Key, other: Key) -> None:
    with pytest.raises(SignatureError, match=r"[^.]\. Was the bundle built with another key"):
        signature.verify(BODY, signature.sign(BODY, other.private), key.allowed, "x")


def test_a_key_of_somebody_else(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SignatureError, match="key cannot be read by this user"):
        signature.sign(BODY, key.private)


def test_no_key_and_no_allowed_signers(key: Key, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="there is no signing key at /none: ssh-keygen -t ed25519"):
        signature.sign(BODY, "/none")
    with pytest.raises(SignatureError, match="there is no allowed signers file at /none"):
        signature.verify(BODY, b"", "/none", "x")
    with pytest.raises(SignatureError, match="'files/allowed' is neither the path of an allowed signers file"):
        signature.verify(BODY, b"", "files/allowed", "x")
    (tmp_path / "empty").write_text("")
    os.chmod(tmp_path / "empty", 0o600)
    with pytest.raises(SignatureError, match=r"made no signature: .*ssh-add"):
        signature.sign(BODY, str(tmp_path / "empty"))

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What OpenSSL says of certificates and keys, before a registry has to."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.tls import CertificateError, check_pair
from ansible_collections.lumen.airgap.tests.unit.fakes import certificates

NAME = "registry.lumen.example"


def test_a_pair_that_a_server_can_use(tmp_path: Path) -> None:
    check_pair(*certificates.make(tmp_path, NAME))


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"no client would take .*server\.crt: certificate has expired"):
        check_pair(*certificates.make(tmp_path, NAME, days=-1))


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    one, two = certificates.make(tmp_path / "one", NAME), certificates.make(tmp_path / "two", NAME)
    with pytest.raises(CertificateError, match=r"one/server\.crt .* two/server\.key|do not belong together"):
        check_pair(one.certificate, two.key)


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"server\.key is encrypted"):
        check_pair(*certificates.make(tmp_path, NAME, passphrase=b"secret"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("text", "holds no certificate in PEM form"),
        ("é", "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate that can be read"),
    ],
)
def test_a_certificate_that_is_none(tmp_path: Path, content: str | None, words: str) -> None:
    files = certificates.make(tmp_path, NAME)
    certificate = Path(files.certificate)
    certificate.unlink()
    if content is not None:
        certificate.write_text(content, encoding="utf-8")
    with pytest.raises(CertificateError, match=rf"server\.crt.* {words}"):
        check_pair(*files)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    files = certificates.make(tmp_path, NAME)
    Path(files.key).unlink()
    with pytest.raises(CertificateError, match=r"the key .*server\.key cannot be read"):
        check_pair(*files)

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several images in one archive, which Docker's SDK has no call for."""

from __future__ import annotations

import io
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import Docker, DockerError


class Client:
    """The parts of ``docker.APIClient`` that are used."""

    base_url = "http+docker://localhost"
    api_version = "1.41"

    def __init__(self, status: int = 200, body: bytes = b"", fault: Exception | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._status, self._body, self._fault = status, body, fault

    def get(self, url: str, **request: Any) -> requests.Response:
        if self._fault:
            raise self._fault
        self.asked.append((url, request))
        response = requests.Response()
        response.status_code, response.raw = self._status, io.BytesIO(self._body)
        return response


def test_all_names_are_asked_for_at_once_and_read_in_chunks() -> None:
    client = Client(body=b"x" * (3 << 20))
    chunks = list(Docker(client, "unix:///s").save(["a:1", "b:1"]))
    assert [len(chunk) for chunk in chunks] == [1 << 20] * 3
    ((url, request),) = client.asked
    assert url == "http+docker://localhost/v1.41/images/get"
    assert request["params"] == {"names": ["a:1", "b:1"]}
    assert request["stream"]
    assert request["timeout"]


def test_what_docker_says_when_it_refuses() -> None:
    docker = Docker(Client(404, b'{"message":"reference does not exist"}'), "unix:///s")
    with pytest.raises(DockerError, match=r"refused to save a:1, b:1: .*reference does not exist"):
        list(docker.save(["a:1", "b:1"]))


def test_a_daemon_that_goes_away() -> None:
    docker = Docker(Client(fault=requests.exceptions.ConnectionError("gone")), "unix:///s")
    with pytest.raises(DockerError, match="the Docker daemon at unix:///s went away: gone"):
        list(docker.save(["a:1"]))

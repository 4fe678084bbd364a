# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action registry_mirrors: options to settings, and a node reached by Ansible's modules."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.action import registry_mirrors as action
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.mirrors import ENDPOINT, REGISTRY


def validated(**given: Any) -> dict[str, Any]:
    entry = {"registry": REGISTRY, "endpoints": [ENDPOINT], **given.pop("mirror", {})}
    result = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC).validate({"mirrors": [entry], **given})
    if result.error_messages:
        raise AirgapError("; ".join(result.error_messages))
    parameters: dict[str, Any] = result.validated_parameters
    return parameters


class FakeAction:
    """Answers to modules by name, and the calls."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def _execute_module(self, module_name: str, module_args: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.calls.append((module_name, module_args))
        return self.answers[module_name.rpartition(".")[2]]


def node(**answers: dict[str, Any]) -> tuple[action.ModuleNode, FakeAction]:
    fake = FakeAction(**answers)
    return action.ModuleNode(fake, {}), fake  # type: ignore[arg-type]


def test_defaults_are_the_places_of_the_field() -> None:
    settings = action.settings_of(validated())
    assert settings.certs_path == "/etc/containerd/certs.d"
    assert (settings.runtime, settings.present, settings.restart) == ("auto", True, True)
    assert settings.mirrors[0].endpoints == (ENDPOINT,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mirror": {"username": "u"}}, "required together"),
        ({"mirror": {"client_key_path": "/k"}}, "required together"),
        ({"mirror": {"ca_path": "/a", "ca_content": "b"}}, "mutually exclusive"),
        ({"mirror": {"registry": "a/b"}}, "is no registry"),
        ({"certs_path": "certs.d"}, "certs_path must be an absolute path"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AirgapError, match=message):
        action.settings_of(validated(**given))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action, "TOMLKIT_IMPORT_ERROR", ImportError("no"))
    with pytest.raises(AirgapError, match="tomlkit"):
        action.settings_of(validated())


def test_files_are_read_by_modules() -> None:
    reached, fake = node(
        stat={"stat": {"exists": True, "mode": "0640"}}, slurp={"content": base64.b64encode("ä".encode()).decode()}
    )
    assert reached.mode("/f") == 0o640
    assert reached.read("/f") == "ä"
    assert [name for name, _args in fake.calls] == ["ansible.builtin.stat", "ansible.builtin.slurp"]
    assert node(stat={"stat": {"exists": False}})[0].mode("/f") is None


def test_the_unit_that_is_installed() -> None:
    both = [{"path": "/lib/systemd/system/k3s-agent.service"}, {"path": "/etc/systemd/system/k3s.service"}]
    reached, fake = node(find={"files": both})
    assert reached.unit(("k3s", "k3s-agent")) == "k3s"
    assert len(fake.calls) == 1
    assert node(find={"files": both[:1]})[0].unit(("k3s", "k3s-agent")) == "k3s-agent"
    assert node(find={"files": []})[0].unit(("k3s",)) is None


def test_what_is_known_is_not_asked_again_until_it_is_written() -> None:
    reached, fake = node(stat={"stat": {"exists": False}}, file={})
    for _ in range(2):
        assert reached.mode("/d") is None
    assert [name for name, _args in fake.calls] == ["ansible.builtin.stat"]
    reached.make_directory("/d", 0o755)
    reached.mode("/d")
    reached.remove("/d")
    reached.mode("/d")
    assert [name.rpartition(".")[2] for name, _args in fake.calls] == ["stat", "file", "stat", "file", "stat"]


def test_what_failed_on_the_node_is_named() -> None:
    reached, fake = node(systemd_service={"failed": True, "msg": "Job failed"})
    with pytest.raises(AirgapError, match="systemd_service failed for containerd on the node: Job failed"):
        reached.restart("containerd")
    assert fake.calls[0][1]["state"] == "restarted"


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(AirgapError, match="not text in UTF-8"):
        node(slurp={"content": base64.b64encode(b"\xff").decode()})[0].read("/f")

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module release_identity through its arguments and results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import granted
from ansible_collections.lumen.airgap.plugins.modules import release_identity as module
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.tokens import token
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

ARGUMENTS: dict[str, Any] = {"kubeconfig": "/admin", "app": "api", "namespace": "lumen"}


@pytest.fixture(autouse=True)
def cluster(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """All that is granted is allowed, and nothing else: the service's own test looks at that in detail."""
    allowed = [
        {key: value for key, value in each.items() if value}
        for each in granted(module.wanted_of({**defaults(), **ARGUMENTS}))
    ]

    def review(body: Any) -> dict[str, Any]:
        asked = dict(body["spec"]["resourceAttributes"])
        if "subresource" in asked:
            asked["resource"] += "/" + asked.pop("subresource")
        return {"status": {"allowed": asked in allowed}}

    for name in ("lumen", "monitoring"):
        session.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    session.answer = review
    session.issue = lambda user, uid, seconds: token(user, uid, time.time() + seconds)
    monkeypatch.setattr(module.Session, "connect", lambda kubeconfig=None, context=None: session)
    monkeypatch.setattr(module.Identities.__init__, "__defaults__", (lambda path: session,))
    return session


def defaults() -> dict[str, Any]:
    prometheus = {name: option.get("default") for name, option in module.ARGUMENT_SPEC["prometheus"]["options"].items()}
    return {
        **{name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()},
        "prometheus": prometheus,
    }


def test_it_says_what_it_granted_and_never_the_token(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "release"
    foreseen = run(module, check=True, path=str(path), **ARGUMENTS)
    assert (foreseen["changed"], foreseen["verified"], foreseen["expires_at"]) == (True, False, None)
    result = run(module, path=str(path), **ARGUMENTS)
    assert result["changed"]
    assert result["verified"]
    assert result["user"] == "system:serviceaccount:lumen:airgap-release"
    proxy = next(right for right in result["rights"] if right["resources"] == ["services/proxy"])
    assert (proxy["namespace"], proxy["names"]) == ("monitoring", ["kube-prometheus-stack-prometheus:9090"])
    assert [each["after_header"] for each in foreseen["diff"]] == [each["after_header"] for each in result["diff"]]
    assert ".signature" in path.read_text()
    assert ".signature" not in str(result)
    again = run(module, path=str(path), **ARGUMENTS)
    assert (again["changed"], again["diff"]) == (False, [])


def test_a_prometheus_with_a_url_needs_no_service_proxy(run: Run, tmp_path: Path) -> None:
    result = run(module, path=str(tmp_path / "r"), prometheus={"url": "http://192.168.2.2:30090"}, **ARGUMENTS)
    assert "services/proxy" not in str(result["rights"])


def test_absent(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "release"
    run(module, path=str(path), **ARGUMENTS)
    result = run(module, path=str(path), state="absent", **ARGUMENTS)
    assert result["changed"]
    assert not path.exists()
    assert "rights" not in result


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "relative"}, "The option path must be an absolute path"),
        ({"token_seconds": 60}, "The option token_seconds must be from 600"),
        ({"renew_seconds": 0}, "The option renew_seconds must be more than 0"),
        ({"token_seconds": 3600, "renew_seconds": 3600}, "renew_seconds must be less than token_seconds"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str, run: Run, session: FakeSession) -> None:
    result = run(module, **{"path": "/nowhere/release", **ARGUMENTS, **options})
    assert result["failed"]
    assert says in result["msg"]
    assert session.calls == []

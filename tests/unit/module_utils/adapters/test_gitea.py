# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of Gitea, and what its bad answers become."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import gitea as adapter
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import (
    Gitea,
    GiteaError,
    NotFound,
    Refused,
    Scope,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import PASSWORD, TOKEN, URL, FakeGitea

LUMEN = Scope("lumen/lumen")


@pytest.fixture
def fake() -> FakeGitea:
    return FakeGitea()


def connect(fake: FakeGitea, **options: Any) -> Gitea:
    return Gitea.connect({"url": URL, "token": TOKEN, **options}, fake.session())


@pytest.mark.parametrize(
    ("text", "path"),
    [("instance", "/admin"), ("lumen", "/orgs/lumen"), ("lumen/lumen", "/repos/lumen/lumen")],
)
def test_scopes(text: str, path: str, fake: FakeGitea) -> None:
    gitea = connect(fake)
    assert gitea.registration_token(Scope(text)) == gitea.registration_token(Scope(text))
    assert fake.written == [("POST", f"{path}/actions/runners/registration-token")] * 2


@pytest.mark.parametrize("text", ["", "a/b/c", "../x", "a b", "a/"])
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(AirgapError, match="is no scope"):
        Scope(text)


def test_a_list_is_read_to_its_end(fake: FakeGitea) -> None:
    for _number in range(120):
        fake.add_runner()
    assert len({runner["id"] for runner in connect(fake).runners(LUMEN)}) == 120
    assert len(fake.requests) == 3


def test_a_full_last_page_is_not_the_last(fake: FakeGitea) -> None:
    for _number in range(50):
        fake.add_runner()
    assert len(connect(fake).runners(LUMEN)) == 50
    assert len(fake.requests) == 2


def test_the_token_goes_in_a_header_and_the_password_as_basic_authentication(fake: FakeGitea) -> None:
    connect(fake).repository("lumen", "lumen")
    assert fake.headers[-1]["Authorization"] == f"token {TOKEN}"
    connect(fake, token=None, username="admin", password=PASSWORD).repository("lumen", "lumen")
    assert fake.headers[-1]["Authorization"].startswith("Basic ")


def test_tokens_are_made_with_the_token_as_a_password(fake: FakeGitea) -> None:
    made = connect(fake).create_token("lumen-ci", "x 1", ["write:repository"])
    assert len(made["sha1"]) == 40
    assert fake.headers[-1]["Authorization"].startswith("Basic ")
    shown = ("id", "name", "scopes", "token_last_eight")
    assert connect(fake).tokens("lumen-ci") == [{key: made[key] for key in shown}]
    assert connect(fake).delete_token("lumen-ci", made["id"])
    assert not connect(fake).delete_token("lumen-ci", made["id"])


def test_a_missing_scope_is_named(fake: FakeGitea) -> None:
    fake.owners[TOKEN] = ("admin", {"read:repository"})
    with pytest.raises(Refused, match=r"refuses to give the registration token .* lacks the scope write:repository\."):
        connect(fake).registration_token(LUMEN)


def test_a_missing_right_is_told_in_gitea_s_words(fake: FakeGitea) -> None:
    fake.break_with("POST", "registration-token", (403, {"message": "user should be the owner of the repo"}))
    with pytest.raises(Refused, match="the token's owner lacks the right: user should be the owner of the repo"):
        connect(fake).registration_token(LUMEN)


def test_a_wrong_token_and_a_wrong_password(fake: FakeGitea) -> None:
    with pytest.raises(Refused, match=r"does not take the token, when asked to read the repository lumen/lumen"):
        connect(fake, token="b" * 40).repository("lumen", "lumen")
    with pytest.raises(Refused, match="does not take the password of admin"):
        connect(fake, token=None, username="admin", password="wrong").repository("lumen", "lumen")


def test_a_repository_that_is_not_there(fake: FakeGitea) -> None:
    with pytest.raises(NotFound, match=r"there is no repository lumen/none, or the token's owner may not see it"):
        connect(fake).repository("lumen", "none")
    with pytest.raises(NotFound, match="there is no repository lumen/none"):
        connect(fake).runners(Scope("lumen/none"))


def test_nobody_there(fake: FakeGitea) -> None:
    refused = requests.ConnectionError("HTTPConnectionPool(host='x'): Max retries: [Errno 111] Connection refused")
    fake.break_with("GET", "", refused)
    with pytest.raises(Unreachable, match=rf"Gitea \({URL}\) does not answer: \[Errno 111\] Connection refused\.") as e:
        connect(fake).repository("lumen", "lumen")
    assert e.value.passing


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (requests.ReadTimeout("x"), "does not answer: no answer in time"),
        (requests.ConnectTimeout("x"), "does not answer: no connection in time"),
        (requests.exceptions.SSLError("certificate verify failed"), "is not trusted or does not speak TLS"),
        ((503, "starting"), "cannot read the repository lumen/lumen now: HTTP 503: starting"),
        ((500, {"message": ""}), "now: HTTP 500"),
    ],
)
def test_what_may_pass(fault: Any, message: str, fake: FakeGitea) -> None:
    fake.break_with("GET", "", fault)
    with pytest.raises(Unreachable, match=message) as error:
        connect(fake).repository("lumen", "lumen")
    assert error.value.passing


def test_a_redirect_is_not_followed(fake: FakeGitea) -> None:
    fake.break_with("GET", "", (301, ""))
    with pytest.raises(GiteaError, match=r"sends elsewhere, to https://elsewhere.test/: use that URL"):
        connect(fake).repository("lumen", "lumen")
    assert len(fake.requests) == 1


def test_something_that_is_no_gitea(fake: FakeGitea) -> None:
    fake.break_with("GET", "", (200, "<html>welcome</html>"))
    with pytest.raises(GiteaError, match=r"did not answer with JSON .* is it a Gitea. It says: <html>welcome"):
        connect(fake).repository("lumen", "lumen")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
def test_no_error_repeats_a_secret(status: int, fake: FakeGitea) -> None:
    said = f"you sent {TOKEN} and {PASSWORD} and value-of-the-secret"
    fake.break_with("PUT", "", (status, {"message": said}))
    for options in ({}, {"token": None, "username": "admin", "password": PASSWORD}):
        with pytest.raises(GiteaError) as error:
            connect(fake, **options).put_secret("lumen", "lumen", "CI_TOKEN", "value-of-the-secret", "")
        used = PASSWORD if options else TOKEN
        assert used not in error.value.message
        assert "value-of-the-secret" not in error.value.message


@pytest.mark.parametrize("url", ["http://admin:secret@gitea.test", "https://token@gitea.test"])
def test_a_url_with_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(AirgapError, match="credentials do not belong into a URL") as error:
        Gitea.connect({"url": url})
    assert "secret" not in error.value.message.replace("has a user or a password", "")


@pytest.mark.parametrize("url", ["gitea.test:30300", "ftp://gitea.test", "http://"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(AirgapError, match="must be http://host or https://host"):
        Gitea.connect({"url": url})


def test_certificates(fake: FakeGitea, tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match=r"there is no file .*ca\.pem"):
        connect(fake, ca_path=str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("")
    assert connect(fake, ca_path=str(tmp_path / "ca.pem"))._verify == str(tmp_path / "ca.pem")
    assert connect(fake, validate_certs=False)._verify is False
    paths = ssl.get_default_verify_paths()
    assert connect(fake)._verify == (paths.cafile or paths.capath or True)


def test_contents(fake: FakeGitea) -> None:
    gitea = connect(fake)
    assert gitea.content("lumen", "lumen", ".gitea/workflows/ci.yaml", "main") is None
    first = gitea.put_content("lumen", "lumen", ".gitea/workflows/ci.yaml", "main", "é\n".encode(), "one", None)
    there = gitea.content("lumen", "lumen", ".gitea/workflows/ci.yaml", "main")
    assert there is not None
    assert there.data == "é\n".encode()
    second = gitea.put_content("lumen", "lumen", ".gitea/workflows/ci.yaml", "main", b"two", "two", there.sha)
    assert first != second
    with pytest.raises(GiteaError, match="HTTP 422: sha does not match") as error:
        gitea.put_content("lumen", "lumen", ".gitea/workflows/ci.yaml", "main", b"x", "x", there.sha)
    assert error.value.status == 422


def test_what_is_not_there_is_deleted_already(fake: FakeGitea) -> None:
    gitea = connect(fake)
    assert not gitea.delete_runner(LUMEN, 7)
    assert not gitea.delete_secret("lumen", "lumen", "CI_TOKEN")
    assert not gitea.remove_collaborator("lumen", "lumen", "nobody")
    assert gitea.user("nobody") is None


def test_the_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "REQUESTS_IMPORT_ERROR", "Traceback")
    with pytest.raises(AirgapError, match="requests"):
        Gitea(URL)


def test_a_tag_its_commit_and_its_runs(fake: FakeGitea) -> None:
    repository = fake.repositories["lumen/lumen"]
    repository["tags"] = {"v1.0.1": {"sha": "b" * 40, "message": "bump\n\n[skip ci]"}, "v1.0.0": {"sha": "a" * 40}}
    repository["runs"] = [
        {"id": 1, "head_sha": "b" * 40, "status": "completed"},
        {"id": 2, "head_sha": "a" * 40, "status": "queued"},
    ]
    repository["jobs"] = {1: [{"id": 5, "name": "test"}]}
    repository["logs"] = {5: "FAIL\n"}
    repository["branches"]["b" * 40] = {".gitea/workflows/ci.yaml": b"on: push"}
    gitea = connect(fake)
    assert [tag["name"] for tag in gitea.tags("lumen", "lumen")] == ["v1.0.1", "v1.0.0"]
    assert (gitea.tag("lumen", "lumen", "v1.0.1") or {})["commit"]["sha"] == "b" * 40
    assert gitea.tag("lumen", "lumen", "v9") is None
    assert "[skip ci]" in gitea.commit_message("lumen", "lumen", "b" * 40)
    assert [run["id"] for run in gitea.runs("lumen", "lumen", {"head_sha": "b" * 40})] == [1]
    assert [run["id"] for run in gitea.runs("lumen", "lumen", {"status": "queued"})] == [2]
    assert [job["id"] for job in gitea.run_jobs("lumen", "lumen", 1)] == [5]
    assert gitea.job_log("lumen", "lumen", 5) == "FAIL\n"
    assert gitea.files("lumen", "lumen", ".gitea/workflows", "b" * 40) == ["ci.yaml"]
    assert gitea.files("lumen", "lumen", ".gitea/workflows", "main") == []
    with pytest.raises(NotFound, match="no job 6"):
        gitea.job_log("lumen", "lumen", 6)


def test_the_last_commit_of_a_file(fake: FakeGitea) -> None:
    gitea = connect(fake)
    assert gitea.last_commit("lumen", "lumen", "main", "a.yaml") is None
    gitea.put_content("lumen", "lumen", "a.yaml", "main", b"x", "bump [skip ci]", None)
    assert (gitea.last_commit("lumen", "lumen", "main", "a.yaml") or {})["commit"]["message"] == "bump [skip ci]"


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_token_is_refused_before_anything_is_asked(token: str | None) -> None:
    with pytest.raises(AirgapError, match=r"gitea\.token is empty"):
        Gitea.connect({"url": URL, "token": token})

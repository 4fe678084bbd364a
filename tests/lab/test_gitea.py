# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's Gitea: what it holds, who gets in, and that it outlives its pod."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, command, eventually

URL = "http://192.168.2.2:30300"
TOKEN = ROOT / ".lab" / "gitea" / "token"
MANIFESTS = "03-airgap-zone/manifests"


def api(path: str, authorization: str | None = None) -> Any:
    headers = {"Authorization": authorization or f"token {TOKEN.read_text()}"}
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/api/v1{path}", headers=headers), timeout=20) as answer:
        return json.load(answer)


def text_of(repository: str, path: str) -> str:
    return base64.b64decode(api(f"/repos/{repository}/contents/{path}")["content"]).decode()


def paths_of(repository: str) -> set[str]:
    tree = api(f"/repos/{repository}/git/trees/main?recursive=true&per_page=1000")["tree"]
    return {entry["path"] for entry in tree if entry["type"] == "blob"}


def test_the_token_is_the_admins_and_for_its_owner_alone() -> None:
    from driver.cluster import kubectl

    assert TOKEN.stat().st_mode & 0o777 == 0o600
    assert api("/user")["is_admin"] is True
    secret = json.loads(kubectl("get", "secret", "gitea-admin", "-n", "gitea", "-o", "json"))["data"]
    pair = b":".join(base64.b64decode(secret[name]) for name in ("username", "password"))
    basic = f"Basic {base64.b64encode(pair).decode()}"
    assert api("/user", basic)["login"] == base64.b64decode(secret["username"]).decode()


@pytest.mark.parametrize(
    ("path", "authorization", "code"),
    [("/user", "token nobodys", 401), ("/user", "Basic bHVtZW46bHVtZW4=", 401), ("/repos/lumen/lumen", None, 404)],
)
def test_nobody_else_gets_in(path: str, authorization: str | None, code: int) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{URL}/api/v1{path}", headers=headers), timeout=20)
    with refused.value as answer:
        assert answer.code == code


def test_the_applications_repository_has_the_seeds_layout() -> None:
    repository = api("/repos/lumen/lumen")
    assert (repository["has_actions"], repository["default_branch"], repository["private"]) == (True, "main", True)
    paths = paths_of("lumen/lumen")
    source = {
        str(path.relative_to(ROOT / "lab" / "app")) for path in (ROOT / "lab" / "app").rglob("*") if path.is_file()
    }
    assert {path.removesuffix(".j2") for path in source} <= paths
    assert not [path for path in paths if path.endswith(".j2")]
    for part in ("app", "argo-rollouts", "argocd", "network-policies"):
        assert [path for path in paths if path.startswith(f"{MANIFESTS}/{part}/")]
    assert "v1.0.0" in {tag["name"] for tag in api("/repos/lumen/lumen/tags")}


def test_its_manifests_name_images_of_the_registry() -> None:
    (rollout,) = yaml.safe_load_all(text_of("lumen/lumen", f"{MANIFESTS}/app/03-lumen-api.yaml"))
    image = rollout["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("192.168.2.2:5000/lumen-api:v")
    install = yaml.safe_load_all(text_of("lumen/lumen", f"{MANIFESTS}/argo-rollouts/install.yaml"))
    images = {
        container["image"]
        for document in install
        if document and document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
    }
    assert len(images) == 1
    assert images.pop().startswith("192.168.2.2:5000/argo-rollouts")


def test_the_action_that_checks_out_is_fetched_without_a_token() -> None:
    done = command(["git", "ls-remote", f"{URL}/actions/checkout.git", "refs/tags/v4"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("refs/tags/v4\n")
    assert yaml.safe_load(text_of("actions/checkout", "action.yml"))["runs"]["using"] == "composite"


def test_pods_reach_it_by_its_service(namespace: str) -> None:
    from driver.cluster import kubectl

    url = "http://gitea-http.gitea.svc.cluster.local:3000/api/healthz"
    kubectl(
        "run", "probe", "-n", namespace, "--image=192.168.2.2:5000/probe:lab", "--restart=Never", "--", "get", url, "9s"
    )

    def done() -> bool:
        return kubectl("get", "pod", "probe", "-n", namespace, "-o", "jsonpath={.status.phase}") == "Succeeded"

    eventually("a pod has asked Gitea", done, 60)


@pytest.mark.alone
def test_it_outlives_its_pod() -> None:
    from driver.cluster import gitea_silent, kubectl

    before = api("/repos/lumen/lumen/commits?limit=1")[0]["sha"]
    pod = kubectl("get", "pods", "-n", "gitea", "-l", "app=gitea", "-o", "name").strip()
    kubectl("delete", "-n", "gitea", pod, timeout=90)
    eventually("Gitea answers again", lambda: gitea_silent() is None, 90)
    assert api("/repos/lumen/lumen/commits?limit=1")[0]["sha"] == before
    assert api("/user")["is_admin"] is True


def test_its_playbook_has_nothing_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    playbook = Path(sys.executable).with_name("ansible-playbook")
    monkeypatch.setenv("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(ROOT / "build"))
    done = command([str(playbook), "-i", str(ROOT / "inventories" / "lab"), str(ROOT / "lab/playbooks/gitea.yml")], 180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert "failed=0" in done.stdout

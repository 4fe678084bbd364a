# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The finished site: a second run changes nothing, an empty cluster is predicted, a tag becomes a canary.

And its runner goes away and comes back, here because a tag and a second run need it.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Finding
from ansible_collections.lumen.airgap.plugins.module_utils.services.doctor import Doctor, Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .api_server import ApiServer
from .conftest import ROOT, eventually
from .test_doctor_pipeline import URL, only, token

CLUSTER_TAGS = "network_policies,argocd,argo_rollouts,applications,release_identity"
MANIFEST = "03-airgap-zone/manifests/app/03-lumen-api.yaml"


def site(*words: str, deadline: float = 400) -> str:
    """Run site.yml on the lab; its output."""
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab", "site.yml", *words]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    return done.stdout


def changed(output: str) -> dict[str, int]:
    """What the recap says of each host."""
    found = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)
    assert found, output
    return {host: int(count) for host, count in found}


def test_the_second_run_changes_nothing() -> None:
    site()  # what other tests have left is put right
    output = site()
    assert set(changed(output).values()) == {0}, re.findall(r"^changed: .*$", output, re.MULTILINE)


def test_check_mode_with_diff_of_the_finished_site_shows_nothing() -> None:
    output = site("--check", "--diff")
    assert set(changed(output).values()) == {0}, re.findall(r"^changed: .*$", output, re.MULTILINE)
    assert not re.search(r"^(---|\+\+\+) ", output, re.MULTILINE)


def test_an_empty_cluster_is_predicted_and_not_touched(tmp_path: Path) -> None:
    from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import NAMESPACE

    server = ApiServer(tmp_path)
    try:
        server.start()
        session = Session.connect(str(server.kubeconfig()))
        before = {obj["metadata"]["name"] for obj in session.list(NAMESPACE).items}
        words = ["--check", "--diff", "--tags", CLUSTER_TAGS]
        variables = {
            "airgap_kubeconfig": str(server.kubeconfig()),
            "airgap_release_kubeconfig": str(tmp_path / "release-kubeconfig"),
            # A cluster knows these; this API server has neither nodes nor an address that pods could reach.
            "network_policies_apiserver_addresses": ["192.168.2.2"],
            "network_policies_node_addresses": ["192.168.2.2", "192.168.2.3"],
        }
        output = site(*words, "-e", json.dumps(variables))
        assert {obj["metadata"]["name"] for obj in session.list(NAMESPACE).items} == before
    finally:
        server.stop()
    assert changed(output)["lab"] >= 4
    assert "(unverified)" in output
    assert not (tmp_path / "release-kubeconfig").exists()


def gitea(method: str, path: str, **body: Any) -> Any:
    """One request to the API of the lab's Gitea, about the site's repository."""
    answer = requests.request(
        method,
        f"{URL}/api/v1/repos/lumen/lumen/{path}",
        headers={"Authorization": f"token {token()}"},
        json=body or None,
        timeout=20,
    )
    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


def kubectl_json(*words: str) -> Any:
    from driver.cluster import kubectl

    return json.loads(kubectl(*words, "-o", "json"))


def next_version() -> str:
    """One that has no tag yet."""
    tags = [each["name"] for each in gitea("GET", "tags?limit=50")]
    minors = [int(found[1]) for tag in tags if (found := re.fullmatch(r"v1\.(\d+)\.0", tag))]
    return f"v1.{max(minors, default=0) + 1}.0"


def in_git() -> str:
    """The image that the manifest on the branch names."""
    manifest = base64.b64decode(gitea("GET", f"contents/{MANIFEST}?ref=main")["content"]).decode()
    rollout = next(each for each in yaml.safe_load_all(manifest) if each and each["kind"] == "Rollout")
    return str(rollout["spec"]["template"]["spec"]["containers"][0]["image"])


def run_of(version: str) -> dict[str, Any]:
    """The run that its tag has started; empty without one."""
    runs = gitea("GET", "actions/runs?limit=50")["workflow_runs"]
    return next((each for each in runs if str(each["path"]).endswith(f"refs/tags/{version}")), {})


def test_the_token_of_releases_reaches_their_repository_alone() -> None:
    headers = {"Authorization": f"token {(ROOT / '.lab' / 'release-gitea-token').read_text().strip()}"}

    def ask(path: str) -> requests.Response:
        return requests.get(f"{URL}/api/v1/{path}", headers=headers, timeout=20)

    body = {"name": f"secret-{int(time.time())}", "private": True}
    admin = {"Authorization": f"token {token()}"}
    made = requests.post(f"{URL}/api/v1/user/repos", headers=admin, json=body, timeout=20).json()["full_name"]
    try:
        rights = ask("repos/lumen/lumen").json()["permissions"]
        assert (rights["push"], rights["admin"]) == (True, False)
        assert ask(f"repos/{made}").status_code == 404
        assert ask("repos/lumen/lumen/actions/secrets").status_code == 403
        assert ask("admin/users").status_code == 403
        assert (ROOT / ".lab" / "release-gitea-token").stat().st_mode & 0o777 == 0o600
    finally:
        requests.delete(f"{URL}/api/v1/repos/{made}", headers=admin, timeout=20)


def test_a_tag_becomes_an_image_a_commit_and_a_canary() -> None:
    """The chain of the seed: tag → pipeline → image → manifest in Git → sync → canary, promoted by what it measures."""
    version = next_version()
    # A commit of its own: on one that says [skip ci], as every bump does, a tag would start no run.
    content = {"message": f"Begin {version}", "branch": "main", "content": ""}
    gitea("POST", f"contents/releases/{version}-{int(time.time())}", **content)
    gitea("POST", "tags", tag_name=version, target="main")
    pipeline = functools.partial(run_of, version)
    wait(f"the pipeline of {version}", lambda: pipeline().get("status") == "completed", pipeline, 420)
    assert pipeline()["conclusion"] == "success", pipeline()

    image = f"192.168.2.2:5000/lumen-api:{version}"
    head = gitea("GET", "commits?limit=1&sha=main")[0]
    assert "[skip ci]" in head["commit"]["message"]
    assert in_git() == image

    from driver.cluster import kubectl

    kubectl("annotate", "application", "lumen-app", "-n", "argocd", "argocd.argoproj.io/refresh=normal", "--overwrite")

    def application() -> dict[str, Any]:
        status: dict[str, Any] = kubectl_json("get", "application", "lumen-app", "-n", "argocd")["status"]
        return status

    wait("the sync", lambda: application()["sync"].get("revision") == head["sha"], lambda: application()["sync"], 60)

    def released() -> dict[str, Any]:
        obj: dict[str, Any] = kubectl_json("get", "rollout", "lumen-api", "-n", "lumen")
        return {"image": obj["spec"]["template"]["spec"]["containers"][0]["image"], **obj["status"]}

    def promoted() -> bool:
        now = released()
        return (now["image"], now.get("phase")) == (image, "Healthy") and now["stableRS"] == now["currentPodHash"]

    wait("the promotion", promoted, lambda: {key: released().get(key) for key in ("image", "phase", "message")}, 240)


def runner_findings(version: str = "") -> list[Finding]:
    """What is found of the site's own runner."""
    from driver.cluster import KUBECONFIG

    wanted = Wanted(
        "lumen-api",
        "lumen",
        "192.168.2.2:5000",
        version,
        rollouts_namespace="",
        argocd_namespace="",
        repository="lumen/lumen",
        runner_scope="lumen/lumen",
    )
    asked = Gitea.connect({"url": URL, "token": token()})
    report = Doctor(lambda: Session.connect(str(KUBECONFIG)), SystemClock(), wanted, gitea=lambda: asked).examine()
    print("\n".join(report.lines))
    return [finding for finding in report.findings if finding.code in ("runner-offline", "pod-cannot-start")]


def test_the_runner_itself_is_away_and_comes_back() -> None:
    """Its Deployment is scaled to nothing, then pinned to a node that nobody is; Gitea notices after a minute."""
    from driver.cluster import kubectl

    where = ("-n", "gitea", "deployment", "act-runner")
    assert runner_findings() == [], "the site's runner is not online: site.yml first"
    selector = json.loads(kubectl("get", *where, "-o", "json"))["spec"]["template"]["spec"].get("nodeSelector")
    try:
        kubectl("scale", *where, "--replicas=0")
        eventually("Gitea calls it offline", lambda: bool(runner_findings()), 120)
        found = only(runner_findings())
        assert "offline: none has asked for work in the last minute" in found.cause
        assert found.remedy == [
            "Its Deployment is scaled to 0:\n$ kubectl scale -n gitea deployment act-runner --replicas=1"
        ]

        nowhere = {"spec": {"replicas": 1, "template": {"spec": {"nodeSelector": {"doctor": "nowhere"}}}}}
        kubectl("patch", *where, "--type=merge", "-p", json.dumps(nowhere))
        eventually("no node takes it", lambda: len(runner_findings()) == 2, 60)
        offline, pod = runner_findings()
        assert offline.remedy == ["Its pod does not start: see that finding."]
        assert "didn't match" in pod.cause
    finally:
        back = {"spec": {"replicas": 1, "template": {"spec": {"nodeSelector": {"doctor": None, **(selector or {})}}}}}
        kubectl("patch", *where, "--type=merge", "-p", json.dumps(back))
    eventually("it is back", lambda: runner_findings() == [], 120)


def wait(what: str, probe: Callable[[], bool], seen: Callable[[], Any], deadline: float) -> None:
    """As ``eventually``, with what was seen last."""
    try:
        eventually(what, probe, deadline)
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {seen()}") from error

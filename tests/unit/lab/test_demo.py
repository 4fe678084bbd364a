# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo: which versions it takes, and that only the right endings pass."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

SOURCE = Path(__file__).parents[3] / "lab" / "demo.py"


@pytest.fixture(name="demo")
def load_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REPORTS", tmp_path)
    return module


@pytest.mark.parametrize(
    ("tags", "versions"),
    [
        ([], ("v1.1.0", "v1.2.0")),
        (["v1.0.0"], ("v1.1.0", "v1.2.0")),
        (["v1.10.0", "v1.9.0", "v1.0.0"], ("v1.11.0", "v1.12.0")),
        (["v2.7.0", "v1.3.1", "v1.9.0-rc.1", "latest"], ("v1.4.0", "v1.5.0")),
    ],
)
def test_next_versions_are_the_two_after_the_newest(
    demo: ModuleType, tags: list[str], versions: tuple[str, str]
) -> None:
    assert demo.next_versions(tags) == versions


def test_the_newest_report_of_a_version_counts(demo: ModuleType, tmp_path: Path) -> None:
    for age, name in enumerate(["lumen-api-v1.1.0-2", "lumen-api-v1.1.0-1", "lumen-api-v1.10.0-1"]):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"name": name}))
        os.utime(path, (1000 - age, 1000 - age))
    path, report = demo.report_of("v1.1.0")
    assert (path.name, report) == ("lumen-api-v1.1.0-2.json", {"name": "lumen-api-v1.1.0-2"})


def test_a_missing_report_is_an_error(demo: ModuleType) -> None:
    with pytest.raises(demo.DemoError, match=r"no report of v1\.1\.0"):
        demo.report_of("v1.1.0")


@pytest.mark.parametrize(
    ("journal", "version"),
    [
        ("", ""),
        ('{"current": null}', ""),
        ('{"current": {"version": "v1.1.0", "outcome": "promoted"}}', ""),
        ('{"current": {"version": "v1.1.0", "outcome": null}}', "v1.1.0"),
    ],
)
def test_a_release_without_an_outcome_is_unfinished(demo: ModuleType, journal: str, version: str) -> None:
    assert demo.unfinished(journal) == version


@pytest.mark.parametrize(
    ("expected", "code", "outcome", "passes"),
    [
        ("promoted", 0, "promoted", True),
        ("promoted", 2, "promoted", False),
        ("promoted", 2, "rolled_back", False),
        ("rolled_back", 2, "rolled_back", True),
        ("rolled_back", 0, "rolled_back", False),
        ("rolled_back", 2, "failed", False),
        ("rolled_back", 0, "promoted", False),
    ],
)
def test_exit_code_and_outcome_both_have_to_be_right(
    demo: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: str,
    code: int,
    outcome: str,
    passes: bool,
) -> None:
    def play(playbook: str, app: Any, **variables: str) -> int:
        if playbook != "playbooks/release.yml":
            return 0
        report = {"outcome": outcome, "timeline": [], "reason": "", "driver": app.driver}
        path = tmp_path / f"lumen-api-{variables['version']}-1.json"
        path.write_text(json.dumps(report))
        path.with_suffix(".html").touch()
        return code

    monkeypatch.setattr(demo, "play", play)
    release = demo.Release("v1.1.0", "0.5", expected)
    for app in demo.APPS.values():
        if passes:
            assert demo.deliver(app, release)[1]["outcome"] == outcome
        else:
            with pytest.raises(demo.DemoError, match=r"v1\.1\.0 had to be"):
                demo.deliver(app, release)


def test_another_driver_than_asked_for_does_not_pass(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"outcome": "promoted", "timeline": [], "reason": "", "driver": "rollout"}
    (tmp_path / "lumen-api-v1.1.0-1.json").write_text(json.dumps(report))
    monkeypatch.setattr(demo, "play", lambda *_args, **_variables: 0)
    with pytest.raises(demo.DemoError, match="rollout moved the pods, not deployment"):
        demo.deliver(demo.APPS["deployment"], demo.Release("v1.1.0", "0", "promoted"))


def test_a_report_without_a_page_does_not_pass(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"outcome": "promoted", "timeline": [], "reason": "", "driver": "rollout"}
    (tmp_path / "lumen-api-v1.1.0-1.json").write_text(json.dumps(report))
    monkeypatch.setattr(demo, "play", lambda *_args, **_variables: 0)
    with pytest.raises(demo.DemoError, match="no page beside it"):
        demo.deliver(demo.APPS["rollout"], demo.Release("v1.1.0", "0", "promoted"))


def test_a_version_with_a_tag_a_report_or_a_place_in_the_journal_is_taken(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = {"current": {"version": "v1.5.0", "outcome": "failed"}, "previous": [{"version": "v1.4.0"}]}
    pages = {"tags?limit=50&page=1": [{"name": "v1.0.0"}, {"name": "v1.2.0"}], "tags?limit=50&page=2": []}
    monkeypatch.setattr(demo, "kubectl", lambda *_words: json.dumps(journal))
    monkeypatch.setattr(demo, "gitea", lambda path: json.dumps(pages[path]))
    for name in ["lumen-api-v1.7.0-12.json", "lumen-api-v1.6.0-3-2.json", "something-else.json", "x-v1.9.0-1.html"]:
        (tmp_path / name).touch()
    taken = {"v1.0.0", "v1.2.0", "v1.4.0", "v1.5.0", "v1.6.0", "v1.7.0"}
    assert demo.taken(demo.APPS["rollout"]) == taken
    assert demo.next_versions(taken) == ("v1.8.0", "v1.9.0")


@pytest.mark.parametrize("journal", ["", "{}", '{"current": null, "previous": []}'])
def test_a_journal_without_releases_takes_no_version(demo: ModuleType, journal: str) -> None:
    assert demo.recorded(journal) == set()


def rollout(image: str = "192.168.2.2:5000/lumen-api:v1.1.0", **status: str) -> dict[str, Any]:
    healthy = {"phase": "Healthy", "stableRS": "75f5d96676", "currentPodHash": "75f5d96676"}
    return {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}, "status": {**healthy, **status}}


MANIFEST = "  image: 192.168.2.2:5000/lumen-api:v1.1.0\n"


@pytest.mark.parametrize(
    ("manifest", "running", "fault"),
    [
        (MANIFEST, rollout(), ""),
        ("  image: '192.168.2.2:5000/lumen-api:v1.1.0'\n", rollout(), ""),
        ("  image: 192.168.2.2:5000/loadgen:v1.1.0\n", rollout(), "names no image"),
        (MANIFEST.replace("v1.1.0", "v1.1.0@sha256:12"), rollout("r:5000/lumen-api:v1.1.0@sha256:12"), ""),
        (MANIFEST.replace("v1.1.0", "v1.2.0"), rollout(), r"in Git names v1\.2\.0, not v1\.1\.0"),
        (MANIFEST + MANIFEST.replace("v1.1.0", "v1.2.0"), rollout(), r"names v1\.1\.0, v1\.2\.0, not"),
        (MANIFEST, rollout("r:5000/lumen-api:v1.2.0"), r"asks for r:5000/lumen-api:v1\.2\.0, not v1\.1\.0"),
        (MANIFEST, rollout(phase="Degraded", message="aborted"), "is Degraded: aborted"),
        (MANIFEST, rollout(stableRS="64bdf7c984"), "is on 64bdf7c984, and 75f5d96676"),
    ],
)
def test_git_and_the_rollout_have_to_be_on_the_good_version(
    demo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    manifest: str,
    running: dict[str, Any],
    fault: str,
) -> None:
    monkeypatch.setattr(demo, "gitea", lambda _path: manifest)
    monkeypatch.setattr(demo, "kubectl", lambda *_words: json.dumps(running))
    app = demo.APPS["rollout"]
    if fault:
        with pytest.raises(demo.DemoError, match=fault):
            demo.check_version(app, "v1.1.0")
    else:
        demo.check_version(app, "v1.1.0")


@pytest.mark.parametrize("driver", ["rollout", "deployment"])
def test_what_is_shown_at_the_end_can_be_typed(demo: ModuleType, driver: str) -> None:
    text = demo.closing(demo.APPS[driver], "v1.1.0", "v1.2.0")
    assert "release.yml -e version=v1.3.0" in text
    assert ("demo-deployment.yml" in text) == (driver == "deployment")
    assert "{" not in text


def inventory(name: str) -> dict[str, Any]:
    path = SOURCE.parents[1] / "inventories/lab/group_vars" / f"{name}.yml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_the_app_in_git_is_that_of_the_inventory(demo: ModuleType) -> None:
    app, variables = demo.APPS["rollout"], inventory("all")
    gitea = variables["airgap_gitea"]
    assert app.in_git
    assert app.namespace == variables["airgap_app_namespace"]
    assert variables["airgap_release_by"] == "pipeline"
    assert variables["airgap_gitops_manifest"] == demo.MANIFEST
    assert f"{gitea['url']}/api/v1/repos/{gitea['owner']}/{gitea['repository']}" == demo.REPOSITORY


def test_the_deployment_has_an_app_of_its_own(demo: ModuleType) -> None:
    app = demo.APPS["deployment"]
    variables = yaml.safe_load((SOURCE.parents[1] / app.variables).read_text(encoding="utf-8"))
    assert not app.in_git
    assert variables["airgap_app_namespace"] == variables["airgap_app_image_repository"] == app.namespace
    assert variables["airgap_app_repository"] == f"/srv/git/{app.namespace}.git"
    assert variables["driver"] == "deployment"
    assert variables["airgap_release_by"] == "direct"
    assert variables["airgap_gitops_manifest"] == ""


@pytest.mark.parametrize("driver", ["rollout", "deployment"])
def test_prometheus_scrapes_each_app(demo: ModuleType, driver: str) -> None:
    namespace = demo.APPS[driver].namespace
    assert namespace in inventory("clusters")["network_policies_scraped_namespaces"]
    prometheus = (SOURCE.parent / "manifests" / "prometheus" / "02-config.yaml").read_text(encoding="utf-8")
    assert f"lumen-api-pods.{namespace}.svc.cluster.local." in prometheus

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
        (tmp_path / f"lumen-api-{variables['version']}-1.json").write_text(json.dumps(report))
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


@pytest.mark.parametrize("driver", ["rollout", "deployment"])
def test_each_app_is_its_own(demo: ModuleType, driver: str) -> None:
    app = demo.APPS[driver]
    variables = yaml.safe_load((SOURCE.parents[1] / app.variables).read_text(encoding="utf-8"))
    assert variables["airgap_app_namespace"] == variables["airgap_app_image_repository"] == app.name
    assert variables["airgap_app_repository"] == f"/srv/git/{app.name}.git"
    assert variables.get("driver", "rollout") == driver
    inventory = yaml.safe_load((SOURCE.parents[1] / "inventories/lab/group_vars/clusters.yml").read_text("utf-8"))
    assert app.name in inventory["network_policies_scraped_namespaces"]
    prometheus = (SOURCE.parent / "manifests" / "prometheus" / "02-config.yaml").read_text(encoding="utf-8")
    assert f"lumen-api-pods.{app.name}.svc.cluster.local." in prometheus

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's driver where it can be tested without a lab: build cache, waits, steps, content."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "lab"))

from driver import build, cluster, host, images, nodes, paths, report, shell, space  # noqa: E402


@dataclass(frozen=True)
class Row:
    """A program that is made by writing a file, and counts how often."""

    name: str
    text: str = "1"
    fails: bool = False
    made: list[str] = field(default_factory=list, compare=False)
    component: str = "kubernetes"

    def make(self, target: Path) -> None:
        self.made.append(self.name)
        (target / self.name).write_text(self.text)
        if self.fails:
            raise report.LabError("the compiler said no")

    def recipe(self) -> str:
        return self.text


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "CACHE", tmp_path)
    return tmp_path


def need(row: Row) -> Path:
    builder = build.Builder((row,))  # type: ignore[arg-type]
    try:
        return builder.need(row.name)
    finally:
        builder.stop()


def test_a_program_is_built_once_for_one_recipe() -> None:
    row = Row("etcd")
    assert need(row).read_text() == "1"
    assert need(row) == need(row)
    assert row.made == ["etcd"]


def test_another_recipe_is_another_program() -> None:
    assert need(Row("etcd", "1")) != need(Row("etcd", "2"))


def test_a_failed_build_leaves_nothing_that_looks_built(cache: Path) -> None:
    row = Row("etcd", fails=True)
    for _run in range(2):
        with pytest.raises(report.LabError, match="the compiler said no"):
            need(row)
    assert list((cache / "programs").iterdir()) == []


def test_what_a_killed_build_left_is_removed(cache: Path) -> None:
    draft = cache / "programs" / ".etcd-draft"
    draft.mkdir(parents=True)
    need(Row("etcd"))
    assert not draft.exists()


def test_a_terminated_driver_ends_the_build_and_removes_its_draft(cache: Path) -> None:
    begun = threading.Event()

    class Endless(Row):
        def make(self, target: Path) -> None:
            process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            shell._running.add(process)  # type: ignore[arg-type]
            begun.set()
            if process.wait(60):
                raise report.LabError("ended")

    builder = build.Builder((Endless("etcd"),))  # type: ignore[arg-type]
    assert begun.wait(10)
    builder.stop()
    shell._running.clear()
    assert list((cache / "programs").iterdir()) == []


@pytest.fixture
def disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """A disk with so many GiB free, and so many more once a program of another version is gone."""

    def prepare(free: float, freed: float) -> None:
        other = cache / "programs" / "etcd-0123"
        other.mkdir(parents=True)
        monkeypatch.setattr(space, "CACHE", cache)
        monkeypatch.setattr(space, "_free", lambda: int((free + (0 if other.exists() else freed)) * space.GIB))

    return prepare


@pytest.mark.parametrize(
    ("missing", "nodes_too", "free"), [(0, False, 0), (0, True, 16), (1, False, 26), (1, True, 42)]
)
def test_a_lab_that_has_room_removes_nothing(
    cache: Path, disk: Callable[[float, float], None], missing: float, nodes_too: bool, free: float
) -> None:
    disk(free, 0)
    space.demand(missing, nodes_too, [])
    assert (cache / "programs" / "etcd-0123").exists()


def test_what_other_versions_of_the_lab_have_left_makes_room(
    cache: Path, disk: Callable[[float, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    disk(15, 2)
    mine = cache / "programs" / "etcd-4567"
    mine.mkdir()
    space.demand(0, True, [mine])
    assert list((cache / "programs").iterdir()) == [mine]
    assert "etcd-0123, of another version of the lab, is removed" in capsys.readouterr().out


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(disk: Callable[[float, float], None]) -> None:
    disk(20, 1)
    with pytest.raises(report.LabError, match=r"21\.0 GiB are free on the disk of .*, and the lab needs 42\.0"):
        space.demand(1, True, [])


def test_a_stranger_with_a_nodes_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, "running \n", "")
    monkeypatch.setattr(nodes, "attempt", lambda argv, timeout=0: answer)
    with pytest.raises(report.LabError, match="a container node-1 on this machine that is not the lab's"):
        nodes.remove_nodes()


def test_a_route_to_the_labs_addresses_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    table = "default via 10.0.0.1 dev eth0\n192.168.0.0/16 via 10.0.0.7 dev eth0\n"
    monkeypatch.setattr(host, "run", lambda argv: table)
    with pytest.raises(report.LabError, match=r"reaches 192\.168\.0\.0/16 by another way"):
        host.prepare()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"RegistryConfig": {}, "Driver": "overlay2"}, "would speak TLS"),
        ({"RegistryConfig": {"IndexConfigs": {host.REGISTRY: {}}}, "Driver": "vfs"}, "stores by vfs"),
    ],
)
def test_an_engine_that_cannot_serve_the_lab_is_refused(
    info: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "docker", lambda *argv: json.dumps(info))
    with pytest.raises(report.LabError, match=words):
        host._check_foreign_engine()


def test_every_row_is_pinned() -> None:
    """Each component has go.mod and go.sum, and go.mod names the version of what is built."""
    names = [row.name for row in build.PROGRAMS]
    assert len(set(names)) == len(names)
    for row in (*build.PROGRAMS, build.CRANE):
        if not isinstance(row, build.Own):
            assert build.version_of(row.component).startswith("v")
            assert (paths.LAB / "build" / row.component / "go.sum").stat().st_size > 0


def test_every_image_is_made_of_programs_in_the_table() -> None:
    names = {row.name for row in build.PROGRAMS}
    for image in images.IMAGES:
        assert set(image.programs) <= names
        assert image.folder or image.programs


def test_the_content_of_the_lab_is_named_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lab" / "build"
    (folder / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (folder / "go.mod").write_text("1")
    before = paths.content_hash()
    (folder / "__pycache__" / "build.pyc").write_text("1")
    assert paths.content_hash() == before
    (folder / "go.mod").write_text("2")
    assert paths.content_hash() != before


@pytest.mark.parametrize("name", paths.CONTENT)
def test_what_the_lab_is_made_of_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_tags_and_c_are_part_of_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(build, "run", lambda argv, env, **_rest: calls.append((argv, env)))
    monkeypatch.setattr(build, "_go_version", lambda: "go1")
    plain = build.Program("gitea", "gitea", "code.gitea.io/gitea", "main.Version={number}")
    special = build.Program("gitea", "gitea", "code.gitea.io/gitea", "main.Version={number}", "sqlite x", cgo=True)
    for row in (plain, special):
        row.make(tmp_path)
    (argv, env), (special_argv, special_env) = calls
    assert (env["CGO_ENABLED"], special_env["CGO_ENABLED"]) == ("0", "1")
    assert special_argv[special_argv.index("-tags") + 1] == "sqlite x"
    assert argv[argv.index("-ldflags") + 1] == "-s -w -X main.Version=" + build.version_of("gitea")[1:]
    assert plain.recipe() != special.recipe()


def test_folders_of_a_module_are_taken_and_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "module"
    (module / "templates").mkdir(parents=True)
    (module / "templates" / "home.tmpl").write_text("1")
    (module / "templates").chmod(0o555)
    (module / "VERSION").write_text("2")
    monkeypatch.setattr(build, "module_dir", lambda _component: module)
    target = tmp_path / "target"
    target.mkdir()
    build.Files("static", "gitea", "templates VERSION").make(target)
    assert (target / "templates" / "home.tmpl").read_text() == "1"
    assert (target / "VERSION").read_text() == "2"
    assert (target / "templates").stat().st_mode & 0o200
    with pytest.raises(report.LabError, match="gitea has no file options"):
        build.Files("static", "gitea", "options").make(target)


def test_the_application_starts_with_the_version_of_the_inventory() -> None:
    settings = yaml.safe_load((ROOT / "inventories" / "lab" / "group_vars" / "all.yml").read_text())
    assert settings["lab_first_version"] == images.FIRST_VERSION


def test_the_first_version_is_the_same_commit_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    commit = images.first_commit()
    assert len(commit) == 40
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody else")
    assert images.first_commit() == commit


def test_the_manifests_of_the_lab_name_images_of_its_bundle() -> None:
    titles = {image.reference() for image in images.IMAGES}
    documents = [
        document
        for path in (paths.LAB / "manifests").rglob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
    ]
    named = {
        container["image"]
        for document in documents
        if document["kind"] in ("Deployment", "DaemonSet")
        for container in document["spec"]["template"]["spec"]["containers"]
    }
    assert f"{host.REGISTRY}/gitea:{build.version_of('gitea')[1:]}" in named
    assert named <= titles


def test_a_site_bundles_every_image_that_has_a_dockerfile() -> None:
    listed = yaml.safe_load((ROOT / "inventories" / "airgap" / "bundle.yml").read_text())["images"]
    assert [(image["daemon"], image.get("name", image["daemon"])) for image in listed] == [
        (image.site_name(), image.title()) for image in images.SITE_IMAGES
    ]


@pytest.mark.parametrize(
    ("namespace", "pod", "ours"),
    [
        ("kube-system", "etcd-node-1", True),
        ("gitea", "gitea-7d9c5b7f4-abcde", True),
        ("gitea", "act-runner-5d7f-abcde", False),
        ("lumen", "lumen-api-5d7f-abcde", False),
    ],
)
def test_only_pods_of_the_lab_itself_make_it_live(namespace: str, pod: str, ours: bool) -> None:
    assert cluster._is_ours(namespace, pod) is ours


@pytest.mark.parametrize(
    ("labels", "found"), [({"lumen.airgap/complete": "true"}, True), ({}, False)], ids=["complete", "cut off"]
)
def test_a_clone_takes_the_token_of_a_complete_gitea(
    labels: dict[str, str], found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"metadata": {"labels": labels}, "data": {"token": base64.b64encode(b"t0ken").decode()}}
    path = tmp_path / "gitea" / "token"
    monkeypatch.setattr(cluster, "GITEA_TOKEN", path)
    monkeypatch.setattr(cluster, "kubectl", lambda *_words: json.dumps(secret))
    assert cluster._take_token() is found
    assert path.exists() is found
    if found:
        assert (path.read_text(), path.stat().st_mode & 0o777) == ("t0ken", 0o600)
    monkeypatch.setattr(cluster, "kubectl", lambda *_words: "")
    assert cluster._take_token() is False


def test_a_wait_ends_at_its_deadline_with_what_it_saw_last(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count(0, 10)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    answers = iter(["one pod", "two pods", "two pods", "two pods"])
    with pytest.raises(report.LabError, match="the pods: still not there after 25 s; last seen: two pods"):
        report.wait_for("the pods", lambda: next(answers), deadline=25)


def test_a_failed_step_says_which_and_what_its_unit_logged() -> None:
    with (
        pytest.raises(report.LabError, match="step «join» failed: no route\nkubelet: cannot"),
        report.step("join", lambda: "kubelet: cannot"),
    ):
        raise report.LabError("no route")


def test_a_failed_command_says_its_last_lines() -> None:
    with pytest.raises(report.LabError, match="exited 3:\nlast words"):
        shell.run([sys.executable, "-c", "import sys; print('last words'); sys.exit(3)"])


def test_a_missing_command_says_what_installs_it() -> None:
    with pytest.raises(report.LabError, match="make lab"):
        shell.run(["no-such-command"])


def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "kubeconfig"
    shell.write_atomically(path, "one", 0o600)
    shell.write_atomically(path, "two", 0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o600)
    assert [entry.name for entry in path.parent.iterdir()] == ["kubeconfig"]

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module trivy_scan, with a small program in Trivy's place, and with Docker in memory."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import trivy as adapter
from ansible_collections.lumen.airgap.plugins.module_utils.services.trivy import scan as service
from ansible_collections.lumen.airgap.plugins.modules import trivy_scan as module
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.trivy import DB, JAVA_DB, bolt, directory, metadata

from .conftest import Run

TRIVY_IMAGE = "192.168.2.2:5000/trivy:0.58.2"


def ago(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86400))


def vulnerability(identity: str, severity: str, fixed: str = "") -> dict[str, Any]:
    return {
        "VulnerabilityID": identity,
        "PkgName": "demo",
        "InstalledVersion": "1.0",
        "FixedVersion": fixed,
        "Severity": severity,
    }


def report(*vulnerabilities: dict[str, Any]) -> str:
    results = [{"Target": "app:v1 (debian 12)", "Type": "debian", "Vulnerabilities": list(vulnerabilities)}]
    return json.dumps({"SchemaVersion": 2, "ArtifactName": "app:v1", "Metadata": {}, "Results": results})


BAD = report(
    vulnerability("CVE-0000-0001", "HIGH", "2.0"),
    vulnerability("CVE-0000-0002", "CRITICAL"),
    vulnerability("CVE-0000-0003", "LOW", "2.0"),
)
GOOD = report()

# Writes down how it was called, then does what the test says.
PROGRAM = """\
#!{python}
import json, os, sys, time
arguments = sys.argv[1:]
output = arguments[arguments.index("--output") + 1]
cache = arguments[arguments.index("--cache-dir") + 1]
with open({called!r}, "w") as file:
    names = [name for name in sorted(os.listdir(cache)) if os.path.isdir(os.path.join(cache, name))]
    found = {{name: sorted(os.listdir(os.path.join(cache, name))) for name in names}}
    json.dump({{"argv": arguments, "env": dict(os.environ), "cwd": os.getcwd(), "cache": found}}, file)
print("2026-01-01T00:00:00Z\\tINFO\\t[vuln] Vulnerability scanning is enabled", file=sys.stderr, flush=True)
exec({action!r})
"""


class Program:
    def __init__(self, path: Path) -> None:
        self.path = path / "trivy"
        self._called = path / "called.json"
        self.does(GOOD)

    def does(self, text: str = GOOD, action: str = "") -> None:
        """Write ``text`` as the report, after ``action``."""
        action = f"{action}\nopen(output, 'w').write({text!r})"
        body = PROGRAM.format(python=sys.executable, called=str(self._called), action=action)
        self.path.write_text(body)
        self.path.chmod(0o755)

    def fails(self, message: str, code: int = 1) -> None:
        self.does(action=f"print({message!r}, file=sys.stderr); sys.exit({code})")

    @property
    def called(self) -> dict[str, Any]:
        return json.loads(self._called.read_text())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory(tmp_path / "cache" / "db", updated=ago(2))
    return tmp_path / "cache"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setattr(adapter, "SCRATCH", str(path))
    return path


@pytest.fixture
def program(tmp_path: Path, scratch: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def options(cache: Path, program: Program) -> dict[str, Any]:
    return {
        "cache_path": str(cache),
        "trivy_binary": str(program.path),
        "image": "app:v1",
        "registry": {"host": "registry.test:5000"},
    }


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda _module, text: texts.append(text))
    return texts


# --- what is found


def test_a_scan_that_is_let_through(
    run: Run, options: dict[str, Any], program: Program, tmp_path: Path, scratch: Path, warned: list[str]
) -> None:
    program.does(BAD)
    lines = tmp_path / "lines"
    result = run(module, progress_path=str(lines), **options)
    assert not result.get("failed")
    assert not result["changed"]
    assert result["counts"] == {"CRITICAL": 1, "HIGH": 1, "MEDIUM": 0, "LOW": 1, "UNKNOWN": 0}
    assert [item["id"] for item in result["findings"]] == ["CVE-0000-0002", "CVE-0000-0001", "CVE-0000-0003"]
    assert [item["fixed_version"] for item in result["findings"]] == [None, "2.0", "2.0"]
    assert (result["gate"], result["refused"], result["scanned"]) == ("off", [], True)
    assert result["databases"]["db"]["verdict"] == "fresh"
    about = yaml.safe_load(module.RETURN)
    assert set(result) - {"changed", "warnings", "invocation"} == set(about) - {"log", "rc"}
    assert set(result["findings"][0]) == set(about["findings"]["sample"][0])
    assert "INFO [vuln] Vulnerability scanning is enabled" in lines.read_text()
    assert "found 1 CRITICAL, 1 HIGH, 1 LOW; gate off" in lines.read_text()
    assert list(scratch.iterdir()) == [], "nothing is left"
    assert warned == []
    assert not run(module, check=True, **options).get("failed"), "check mode scans as well"


def test_how_trivy_is_called(
    run: Run, options: dict[str, Any], program: Program, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVY_SEVERITY", "LOW")
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere")
    directory(cache / "java-db", JAVA_DB, updated=ago(2))
    registry = {"host": "registry.test:5000", "username": "ci", "password": "s3cret"}
    run(module, **{**options, "registry": registry, "timeout": 77})
    called = program.called
    arguments = called["argv"]
    assert arguments[0] == "image"
    assert arguments[-3:] == ["--image-src", "remote", "registry.test:5000/app:v1"]
    for flag in ("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--insecure", "--no-progress"):
        assert flag in arguments
    assert arguments[arguments.index("--timeout") + 1] == "77s"
    assert arguments[arguments.index("--cache-backend") + 1] == "memory"
    assert arguments[arguments.index("--cache-dir") + 1] != str(cache), "it could remove what is in there"
    ignored = Path(arguments[arguments.index("--ignorefile") + 1])
    assert ignored.parent == Path(arguments[arguments.index("--cache-dir") + 1])
    assert called["cache"] == {"db": ["metadata.json", "trivy.db"], "java-db": ["metadata.json", "trivy-java.db"]}
    environment = {key for key in called["env"] if not key.startswith(("LC_", "__"))}
    assert environment == {"PATH", "HOME", "TMPDIR", "TRIVY_USERNAME", "TRIVY_PASSWORD"}
    assert "s3cret" not in json.dumps(arguments)


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({"image": "local:v1", "image_source": "docker"}, ["--image-src", "docker", "local:v1"]),
        ({"image": None, "input": "/srv/app.tar"}, ["--input", "/srv/app.tar"]),
    ],
)
def test_other_images(
    more: dict[str, Any], end: list[str], run: Run, options: dict[str, Any], program: Program
) -> None:
    wanted = {key: value for key, value in {**options, **more}.items() if value is not None}
    run(module, **wanted)
    assert program.called["argv"][-len(end) :] == end
    assert "--insecure" not in program.called["argv"]
    assert program.called["env"].get("DOCKER_HOST") == ("unix:///var/run/docker.sock" if "image" in wanted else None)


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({}, ["CVE-0000-0002", "CVE-0000-0001"]),
        ({"fixable_only": True}, ["CVE-0000-0001"]),
        ({"severities": ["LOW"]}, ["CVE-0000-0003"]),
        ({"severities": ["MEDIUM"]}, []),
    ],
)
def test_the_gate(
    more: dict[str, Any], refused: list[str], run: Run, options: dict[str, Any], program: Program, scratch: Path
) -> None:
    program.does(BAD)
    result = run(module, gate=True, **{**options, **more})
    assert bool(result.get("failed")) == bool(refused)
    assert result["refused"] == refused
    assert len(result["findings"]) == 3
    if refused:
        assert f"registry.test:5000/app:v1 is refused for {len(refused)} finding" in result["msg"]
        assert refused[0] in result["msg"]
    assert list(scratch.iterdir()) == []


# --- waivers


def test_waivers(run: Run, options: dict[str, Any], program: Program, tmp_path: Path, warned: list[str]) -> None:
    program.does(BAD)
    path = tmp_path / ".trivyignore"
    path.write_text("# known\nCVE-0000-0001 exp:2999-12-31\nCVE-0000-0009\n")
    inline = [{"id": "CVE-0000-0002", "expired_at": "2020-01-01", "statement": "was fine in 2019"}]
    result = run(module, gate=True, waivers=inline, waivers_path=str(path), **options)
    assert result["failed"]
    assert result["refused"] == ["CVE-0000-0002"], "what has expired does not waive"
    assert [item["id"] for item in result["waived"]] == ["CVE-0000-0001"]
    assert result["waived"][0]["waiver"]["expired_at"] == "2999-12-31T00:00:00Z"
    assert [(item["id"], item["findings"]) for item in result["waivers_expired"]] == [("CVE-0000-0002", 1)]
    assert [item["id"] for item in result["waivers_unused"]] == ["CVE-0000-0009"]
    assert len(warned) == 1
    assert "the waiver of CVE-0000-0002 has expired at 2020-01-01T00:00:00Z" in warned[0]
    path.write_text("CVE-0000-0001 exp:2999-12-31\nCVE-0000-0002\n")
    assert run(module, gate=True, waivers_path=str(path), **options)["gate"] == "passed"


def test_waivers_in_yaml(run: Run, options: dict[str, Any], program: Program, tmp_path: Path) -> None:
    program.does(BAD)
    path = tmp_path / ".trivyignore.yaml"
    path.write_text(
        "vulnerabilities:\n"
        "  - {id: CVE-0000-0002, expired_at: 2999-12-31, statement: not reachable}\n"
        "  - {id: CVE-0000-0001, paths: ['app:v1 (debian*']}\n"
    )
    result = run(module, gate=True, waivers_path=str(path), **options)
    assert result["gate"] == "passed"
    assert result["waived"][0]["waiver"]["statement"] == "not reachable"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (".trivyignore", "CVE-1 exp:soon", "line 1: 'soon' is not a date"),
        (".trivyignore.yaml", "vulnerabilities: [", "is not YAML"),
        (".trivyignore.yaml", "vulnerabilities: [{id: C, package: zlib}]", "the key package is not known"),
        (".trivyignore", None, "cannot be read"),
        (".trivyignore", "x" * 2_000_000, "it is no list of waivers"),
    ],
)
def test_waivers_that_are_none(
    name: str, text: str | None, says: str, run: Run, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    message = run(module, waivers_path=str(path), **options)["msg"]
    assert says in message
    assert str(path) in message


def test_an_inline_waiver_that_is_none(run: Run, options: dict[str, Any]) -> None:
    result = run(module, waivers=[{"id": "C", "expired_at": "soon"}], **options)
    assert "waivers[0]: expired_at is 'soon'" in result["msg"]


# --- databases that are not fit for a scan


def test_no_database(run: Run, options: dict[str, Any], tmp_path: Path) -> None:
    result = run(module, **{**options, "cache_path": str(tmp_path / "none")})
    assert "there is no trivy-db in" in result["msg"]
    assert "lumen.airgap.trivy_db" in result["msg"]


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("trivy.db", b"", "trivy.db is empty: Trivy would find nothing vulnerable"),
        ("trivy.db", bolt()[:-1], "trivy.db is cut short"),
        ("trivy.db", bolt(pages=4), "trivy.db holds nothing"),
        ("metadata.json", b"{", "metadata.json is not JSON"),
        ("metadata.json", metadata(ago(1), version=1), "has schema 1, but Trivy reads schema 2"),
        ("metadata.json", metadata(ago(365)), "365.0 days ago, and may have 90"),
    ],
)
def test_databases_that_are_not_fit(
    name: str, body: bytes, says: str, run: Run, options: dict[str, Any], cache: Path, program: Program
) -> None:
    (cache / "db" / name).write_bytes(body)
    result = run(module, **options)
    assert says in result["msg"]
    assert not (program.path.parent / "called.json").exists(), "Trivy was not even started"


def test_an_aging_database_is_a_warning(run: Run, options: dict[str, Any], cache: Path, warned: list[str]) -> None:
    (cache / "db" / "metadata.json").write_bytes(metadata(ago(40)))
    result = run(module, **options)
    assert result["databases"]["db"]["verdict"] == "aging"
    assert "a newer one is due after 30" in warned[0]


def test_the_java_database_counts_when_it_is_asked_for(run: Run, options: dict[str, Any], cache: Path) -> None:
    assert "there is no trivy-java-db" in run(module, **options, java_db={})["msg"]
    directory(cache / "java-db", JAVA_DB, updated=ago(200))
    assert not run(module, **options).get("failed"), "nobody asked how old it is"
    assert "may have 90" in run(module, **options, java_db={})["msg"]


# --- what goes wrong in a scan


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "2026-01-01T00:00:00Z\tFATAL\tFatal error\tGET http://x/v2/app/manifests/v1: MANIFEST_UNKNOWN",
            "was it pushed",
        ),
        ("2026-01-01T00:00:00Z\tFATAL\tFatal error\tdial tcp: connection refused", "did not answer"),
        ("2026-01-01T00:00:00Z\tFATAL\tFatal error\tfailed to open db: invalid database", "The database is damaged"),
        ("2026-01-01T00:00:00Z\tFATAL\tFatal error\tthe version of DB schema doesn't match", "another schema"),
        ("2026-01-01T00:00:00Z\tFATAL\tFatal error\tJava DB update failed", "java_db"),
        ("2026-01-01T00:00:00Z\tFATAL\tFatal error\tcontext deadline exceeded", "needs more time (timeout)"),
        ("panic: runtime error", "panic: runtime error"),
        ("", "INFO [vuln] Vulnerability scanning is enabled"),
    ],
)
def test_trivy_fails(
    message: str, says: str, run: Run, options: dict[str, Any], program: Program, scratch: Path
) -> None:
    program.fails(message, 1)
    result = run(module, **options)
    assert result["msg"].startswith("Trivy could not scan registry.test:5000/app:v1: ")
    assert says in result["msg"]
    assert result["rc"] == 1
    assert any("Vulnerability scanning" in line for line in result["log"])
    assert list(scratch.iterdir()) == []


def test_trivy_takes_too_long(
    run: Run, options: dict[str, Any], program: Program, monkeypatch: pytest.MonkeyPatch, scratch: Path, cache: Path
) -> None:
    monkeypatch.setattr(service, "_GRACE", 0.1)
    program.does(action="time.sleep(60)")
    with open(cache / "db" / "trivy.db", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = run(module, timeout=0.4, **options)
    assert "Trivy has not ended within 0.4 s and was killed" in result["msg"]
    assert "another Trivy has it open" in result["msg"]
    assert "It last said: INFO [vuln] Vulnerability scanning is enabled" in result["msg"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("os.remove(f'{cache}/db/trivy.db'); open(f'{cache}/db/trivy.db', 'w').close()", "went on with an empty one"),
        ("open(f'{cache}/db/trivy.db', 'ab').write(b'x')", "was written to during the scan"),
    ],
)
def test_trivy_damages_the_database(
    action: str, says: str, run: Run, options: dict[str, Any], program: Program, cache: Path
) -> None:
    program.does(action=action)
    assert says in run(module, **options)["msg"]
    assert (cache / "db" / "trivy.db").stat().st_size >= len(bolt()), "the cache itself still has it"


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_report_that_is_none(text: str, run: Run, options: dict[str, Any], program: Program) -> None:
    program.does(text)
    assert "Trivy's report" in run(module, **options)["msg"]


def test_no_report(run: Run, options: dict[str, Any], program: Program) -> None:
    program.does(action="sys.exit(0)")
    assert "Trivy has written no report" in run(module, **options)["msg"]


def test_no_program(run: Run, options: dict[str, Any]) -> None:
    result = run(module, **{**options, "trivy_binary": "/nowhere/trivy"})
    assert "Trivy cannot be started as /nowhere/trivy: No such file" in result["msg"]


def test_a_time_limit_that_makes_no_sense(run: Run, options: dict[str, Any]) -> None:
    assert "The option timeout must be more than 0" in run(module, **options, timeout=0)["msg"]


def test_a_task_that_is_interrupted_leaves_nothing(
    options: dict[str, Any], program: Program, tmp_path: Path, scratch: Path
) -> None:
    started = tmp_path / "started"
    program.does(action=f"open({str(started)!r}, 'w').close(); time.sleep(60)")
    body = f"""
import json, sys
sys.path.insert(0, {str(Path(module.__file__).parents[5])!r})
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import trivy
from ansible_collections.lumen.airgap.plugins.modules import trivy_scan
from ansible.module_utils.testing import patch_module_args
trivy.SCRATCH = {str(scratch)!r}
with patch_module_args({options!r}):
    trivy_scan.main()
"""
    with subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE) as process:
        end = time.monotonic() + 20
        while not started.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 143
    assert list(scratch.iterdir()) == []


# --- in a container


@pytest.fixture
def contained(options: dict[str, Any], fake_docker: FakeDockerClient) -> dict[str, Any]:
    del options["trivy_binary"]
    fake_docker.build(TRIVY_IMAGE, [b"trivy"])

    def start(container: dict[str, Any]) -> None:
        (place,) = [mount["Source"] for mount in container["Mounts"] if mount["Destination"] == "/scan"]
        Path(place, "report.json").write_text(BAD)
        container["State"] = {"Status": "exited", "ExitCode": 0}
        seen.append(container)

    seen: list[dict[str, Any]] = []
    fake_docker.on_start = start
    fake_docker.log = b"2026-01-01T00:00:00Z\tINFO\t[vuln] Detecting\n"
    options["seen"] = seen
    return options


def test_in_a_container(run: Run, contained: dict[str, Any], fake_docker: FakeDockerClient, cache: Path) -> None:
    seen = contained.pop("seen")
    result = run(module, **contained)
    assert result["counts"]["CRITICAL"] == 1
    (container,) = seen
    assert container["Config"]["Cmd"][-3:] == ["--image-src", "remote", "registry.test:5000/app:v1"]
    assert (container["network"], container["user"]) == ("host", "0")
    mounts = {mount["Destination"]: (mount["Source"], mount["RW"]) for mount in container["Mounts"]}
    del mounts["/scan"]
    assert mounts == {
        "/scan/cache/db/trivy.db": (str(cache / "db" / "trivy.db"), True),
        "/scan/cache/db/metadata.json": (str(cache / "db" / "metadata.json"), False),
    }
    assert fake_docker.containers_by_name == {}, "it is removed"
    assert "pull" not in fake_docker.calls


@pytest.mark.parametrize("source", ["docker", "input"])
def test_no_network_where_there_is_no_registry(
    source: str, run: Run, contained: dict[str, Any], fake_docker: FakeDockerClient
) -> None:
    seen = contained.pop("seen")
    if source == "docker":
        run(module, **{**contained, "image_source": "docker"})
    else:
        del contained["image"]
        run(module, **contained, input="/srv/app.tar")
    (container,) = seen
    assert container["network"] == "none"
    mounts = {mount["Destination"]: mount["Source"] for mount in container["Mounts"]}
    assert ("/var/run/docker.sock" in mounts) == (source == "docker")
    assert mounts.get("/input") == ("/srv/app.tar" if source == "input" else None)


def test_trivy_is_pulled_when_it_is_not_there(
    run: Run, contained: dict[str, Any], fake_docker: FakeDockerClient
) -> None:
    contained.pop("seen")
    del fake_docker.images[TRIVY_IMAGE]
    registry = {"host": "registry.test:5000", "username": "ci", "password": "s3cret"}
    assert f"Docker could not pull {TRIVY_IMAGE}: manifest for" in run(module, **contained)["msg"]
    foreseen = run(module, check=True, **contained)
    assert (foreseen["scanned"], foreseen["databases"]["db"]["verdict"]) == (False, "fresh")
    fake_docker.pullable.add(TRIVY_IMAGE)
    assert run(module, **{**contained, "registry": registry})["scanned"]
    assert fake_docker.auth_config is None, "the user of one registry is nothing to another"


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"Status": "exited", "ExitCode": 1}, "Trivy could not scan"),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, "had no more memory"),
        (None, "somebody has removed it"),
    ],
)
def test_a_container_ends_badly(
    state: dict[str, Any] | None,
    says: str,
    run: Run,
    contained: dict[str, Any],
    fake_docker: FakeDockerClient,
    scratch: Path,
) -> None:
    contained.pop("seen")

    def start(container: dict[str, Any]) -> None:
        if state is None:
            fake_docker.containers_by_name.clear()
        else:
            container["State"] = state

    fake_docker.on_start = start
    assert says in run(module, **contained)["msg"]
    assert fake_docker.containers_by_name == {}
    assert list(scratch.iterdir()) == []


def test_what_a_killed_run_has_left_is_removed(
    run: Run, contained: dict[str, Any], fake_docker: FakeDockerClient
) -> None:
    contained.pop("seen")
    fake_docker.containers_by_name["left"] = {
        "State": {"Status": "exited"},
        "Config": {"Labels": {"lumen-airgap": "trivy-scan"}},
    }
    fake_docker.containers_by_name["other"] = {"State": {"Status": "exited"}, "Config": {"Labels": {}}}
    assert not run(module, **contained).get("failed")
    assert list(fake_docker.containers_by_name) == ["other"]


def test_a_container_that_cannot_be_made(
    run: Run, contained: dict[str, Any], fake_docker: FakeDockerClient, scratch: Path
) -> None:
    contained.pop("seen")
    fake_docker.refuse("create_container", "no space left on device")
    assert "no space left on device" in run(module, **contained)["msg"]
    assert list(scratch.iterdir()) == []
    assert os.listdir(scratch) == []


def test_the_kinds_are_those_of_the_options() -> None:
    assert {DB.key, JAVA_DB.key} <= set(module.ARGUMENT_SPEC)
    for kind in (DB, JAVA_DB):
        assert module.ARGUMENT_SPEC[kind.key]["options"]["schema"]["default"] == kind.schema

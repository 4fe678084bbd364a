# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real Trivy on small images and databases in its own format: what it does with bad ones, and that we do better.

Trivy and the program that writes the databases run here as processes; nothing of the lab is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.trivy import Job, ProgramRun
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy.database import KINDS, Gate
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
from ansible_collections.lumen.airgap.plugins.module_utils.services.trivy import scan as service
from ansible_collections.lumen.airgap.plugins.module_utils.services.trivy.cache import Cache
from ansible_collections.lumen.airgap.plugins.module_utils.services.trivy.databases import Delivering, Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.services.trivy.packing import pack
from ansible_collections.lumen.airgap.plugins.module_utils.services.trivy.sources import Tools
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .registry_process import RegistryProcess

pytestmark = pytest.mark.loopback

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "molecule" / "trivy" / "files"))

CLOCK = SystemClock()


def program(name: str) -> str:
    from driver import build

    row = next(row for row in build.PROGRAMS if row.name == name)
    path = build._folder(row) / name
    assert path.exists(), f"{path} is not built: `make lab` builds it"
    return str(path)


def make(
    path: Path, days: float = 0, *arguments: str, content: dict[str, Any] | None = None, now: float | None = None
) -> Path:
    """A cache as Trivy has it, made so many days ago, or before ``now``."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now or time.time()) - days * 86400))
    more = list(arguments)
    if content is not None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "content.json").write_text(json.dumps(content))
        more += ["-content", str(path / "content.json")]
    subprocess.run([program("trivydb"), "-cache", str(path), "-updated", at, *more], check=True, timeout=30)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import make_images

    path = tmp_path_factory.mktemp("images")
    make_images.main(path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make(tmp_path / "cache")


def wanted(*keys: str, **options: Any) -> list[Wanted]:
    return [Wanted(KINDS[key], options, Gate(30, 90), KINDS[key].schema) for key in keys or ("db",)]


def scan(cache: Path, job: Job, start: Callable[[Job], Any] | None = None, **more: Any) -> dict[str, Any]:
    request = service.Request(job, Cache(str(cache)), more.pop("wanted", wanted()), **more)
    begin = start or (lambda job: ProgramRun(program("trivy"), job))
    return service.scan(request, begin, CLOCK, lambda line: None)


def archive(images: Path, name: str, timeout: float = 60) -> Job:
    return Job((), timeout, input=str(images / f"{name}.tar"))


def deliver(cache: Path, source: Path, *keys: str) -> dict[str, Any]:
    delivering = Delivering(Cache(str(cache)), Tools(lambda: pytest.fail("no registry")), CLOCK, lambda line: None)
    return delivering.deliver(wanted(*keys, directory=str(source)))


def bare(cache: Path, image: Path) -> tuple[int, int | None]:
    """What Trivy by itself says: its exit code, and how many findings."""
    argv = [program("trivy"), "image", "--cache-dir", str(cache), "--skip-db-update", "--skip-java-db-update"]
    argv += ["--offline-scan", "--cache-backend", "memory", "--scanners", "vuln", "--format", "json", "--quiet"]
    done = subprocess.run([*argv, "--input", str(image)], capture_output=True, timeout=60, check=False)
    if done.returncode:
        return done.returncode, None
    results = json.loads(done.stdout).get("Results", [])
    return 0, sum(len(result.get("Vulnerabilities", [])) for result in results)


# --- findings


def test_a_known_finding_and_none(cache: Path, images: Path) -> None:
    found = scan(cache, archive(images, "finding"))
    assert [(item["id"], item["severity"], item["fixed_version"]) for item in found["findings"]] == [
        ("CVE-0000-0002", "CRITICAL", None),
        ("CVE-0000-0001", "HIGH", "2.0-1"),
    ]
    assert (found["os"], found["packages_in"]) == ("debian 12.8", ["debian"])
    assert found["findings"][0]["purl"].startswith("pkg:deb/debian/lumen-demo@1.0-1")
    clean = scan(cache, archive(images, "clean"))
    assert clean["findings"] == []
    assert sum(clean["counts"].values()) == 0


def test_the_gate_refuses_what_can_be_mended(cache: Path, images: Path) -> None:
    gate = service.Gate(True, ("HIGH", "CRITICAL"), fixable_only=True)
    with pytest.raises(AirgapError, match=r"is refused for 1 finding .*CVE-0000-0001 lumen-demo 1.0-1"):
        scan(cache, archive(images, "finding"), gate=gate)
    assert scan(cache, archive(images, "unfixed"), gate=gate)["gate"] == "passed"


@pytest.mark.parametrize(("day", "verdict"), [("2999-12-31", "passed"), ("2020-01-01", "refused")])
def test_a_waiver_holds_until_its_day_here_as_in_trivy(
    day: str, verdict: str, cache: Path, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / ".trivyignore"
    path.write_text(f"CVE-0000-0002 exp:{day}\n")
    gate = service.Gate(True, ("CRITICAL",))
    try:
        result = scan(cache, archive(images, "unfixed"), gate=gate, waivers=service.read_waivers(str(path)))
    except AirgapError as error:
        result = error.details
    assert result["gate"] == verdict
    argv = [program("trivy"), "image", "--cache-dir", str(cache), "--skip-db-update", "--skip-java-db-update"]
    argv += ["--offline-scan", "--cache-backend", "memory", "--scanners", "vuln", "--quiet", "--exit-code", "7"]
    own = subprocess.run(
        [*argv, "--ignorefile", str(path), "--input", str(images / "unfixed.tar")],
        stdout=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert own.returncode == (0 if verdict == "passed" else 7), "Trivy itself takes the same day"


def test_a_go_program_of_the_lab_has_a_finding(cache: Path, tmp_path: Path) -> None:
    import make_images

    (tmp_path / "go.tar").write_bytes(make_images.image("go", {"registry": Path(program("registry")).read_bytes()}))
    found = scan(cache, Job((), 120, input=str(tmp_path / "go.tar")))
    assert [(item["id"], item["package"], item["target"]) for item in found["findings"]] == [
        ("CVE-0000-0003", "github.com/beorn7/perks", "registry")
    ]


def test_a_jar_needs_the_java_database(cache: Path, images: Path) -> None:
    found = scan(cache, archive(images, "java"), wanted=wanted("db", "java_db"))
    assert [(item["id"], item["package"], item["path"]) for item in found["findings"]] == [
        ("CVE-0000-0004", "org.lumen:demo", "opt/app.jar")
    ]
    (cache / "java-db").rename(cache / "elsewhere")
    with pytest.raises(AirgapError, match=r"needs the Java database \(java_db\) for them"):
        scan(cache, archive(images, "java"))
    assert scan(cache, archive(images, "clean"))["findings"] == [], "without a jar nobody needs it"


# --- databases that Trivy should not be given


@pytest.mark.parametrize(
    ("size", "says"),
    [(0, "is empty"), (12_000, "is cut short"), (20_000, "is cut short")],
)
def test_trivy_calls_an_image_clean_by_a_damaged_database_and_we_do_not(
    size: int, says: str, cache: Path, images: Path, tmp_path: Path
) -> None:
    os.truncate(cache / "db" / "trivy.db", size)
    with pytest.raises(AirgapError, match=says):
        scan(cache, archive(images, "finding"))
    with pytest.raises(AirgapError, match=says):
        deliver(tmp_path / "inside", cache)
    # What we refuse it for; should a later Trivy fail instead, this can go.
    assert bare(cache, images / "finding.tar") == (0, 0)


def test_a_damaged_first_page(cache: Path, images: Path) -> None:
    with open(cache / "db" / "trivy.db", "r+b") as file:
        file.write(os.urandom(200))
    with pytest.raises(AirgapError, match="first pages are damaged"):
        scan(cache, archive(images, "finding"))
    assert bare(cache, images / "finding.tar") == (0, 0), "bbolt went back to an earlier state"


def test_damage_in_the_middle_is_found_by_the_hash(images: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    deliver(inside, make(tmp_path / "made"))
    with open(inside / "db" / "trivy.db", "r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(6 * 4096))
    with pytest.raises(AirgapError, match="is not what was brought there"):
        scan(inside, archive(images, "finding"))


@pytest.mark.parametrize(("schema", "says"), [("1", "bring a database of the schema"), ("3", "bring a newer Trivy")])
def test_another_schema(schema: str, says: str, images: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "cache", 0, "-schema", schema)
    with pytest.raises(AirgapError, match=says):
        scan(made, archive(images, "finding"))
    assert bare(made, images / "finding.tar")[0] == 1, "which Trivy says as well, in its own words"


def test_a_year_old(images: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "cache", 365)
    with pytest.raises(AirgapError, match=r"365[.]0 days ago, and may have 90"):
        scan(made, archive(images, "finding"))
    with pytest.raises(AirgapError, match=r"365[.]0 days ago"):
        deliver(tmp_path / "inside", made)
    assert bare(made, images / "finding.tar") == (0, 2), "which Trivy does not mind"


# --- one database after another


@contextlib.contextmanager
def held(cache: Path) -> Iterator[None]:
    """What keeps a scan at its beginning: Trivy waits for its lock on the database."""
    with open(cache / "db" / "trivy.db", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_scan_under_way_keeps_the_database_it_began_with(images: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    deliver(inside, make(tmp_path / "old", 5), "db", "java_db")
    results: list[dict[str, Any]] = []
    started = threading.Event()

    def start(job: Job) -> ProgramRun:
        run = ProgramRun(program("trivy"), job)
        started.set()
        return run

    with held(inside):
        scanning = threading.Thread(target=lambda: results.append(scan(inside, archive(images, "finding"), start)))
        scanning.start()
        assert started.wait(10)
        deliver(inside, make(tmp_path / "new", 1, content={"Advisories": [OTHER], "Jars": []}), "db")
    scanning.join(30)
    assert [item["id"] for item in results[0]["findings"]] == ["CVE-0000-0002", "CVE-0000-0001"]
    after = scan(inside, archive(images, "finding"))
    assert [item["id"] for item in after["findings"]] == ["CVE-0000-0009"]


OTHER = {
    "ID": "CVE-0000-0009",
    "Bucket": "debian 12",
    "Source": "debian",
    "Package": "lumen-demo",
    "Severity": "LOW",
    "Title": "found since",
    "Fixed": "9",
}


def test_replaced_again_and_again_while_scans_run(images: Path, tmp_path: Path) -> None:
    """Trivy by itself, as the pipeline runs it, on a cache in which the database changes all the time."""
    inside, now = tmp_path / "inside", time.time()  # one moment for all, for none that is older is taken
    contents = {name: {"Advisories": [{**OTHER, "ID": name}], "Jars": []} for name in "abcd"}
    made = [make(tmp_path / name, 5, content=content, now=now) for name, content in contents.items()]
    deliver(inside, made[0])
    found: list[tuple[int, int | None]] = []
    end = time.monotonic() + 120

    def scans() -> None:
        while len(found) < 8:
            found.append(bare(inside, images / "finding.tar"))

    scanning = threading.Thread(target=scans)
    scanning.start()
    deliveries = 0
    while scanning.is_alive() and time.monotonic() < end:
        deliveries += 1
        assert deliver(inside, made[deliveries % len(made)])["changed"]
    scanning.join(60)
    assert deliveries > 8
    assert found == [(0, 1)] * 8, "each had one database, whole"


def test_two_scans_wait_for_each_other_and_a_time_limit_says_so(
    cache: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_GRACE", 0.5)
    with held(cache), pytest.raises(AirgapError, match=r"was killed .*another Trivy has it open"):
        scan(cache, archive(images, "finding", timeout=1))
    assert len(scan(cache, archive(images, "finding"))["findings"]) == 2


# --- through a registry


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    process = RegistryProcess(tmp_path)
    process.start()
    yield process
    process.stop()


def session(registry: RegistryProcess) -> Registry:
    return Registry.connect({"host": registry.host, "scheme": "http"})


def test_across_the_gap_as_artifacts(registry: RegistryProcess, cache: Path, images: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    nothing = Tools(lambda: pytest.fail("no registry"))
    packed = pack(str(layout), wanted("db", "java_db", directory=str(cache)), nothing, CLOCK, lambda line: None)
    assert packed["changed"]
    entries = [
        {"source": {"layout": str(layout), "ref": f"{name}:{tag}"}, "repository": name, "tags": [tag]}
        for name, tag in (("trivy-db", "2"), ("trivy-java-db", "1"))
    ]
    publish(entries, session(registry), lambda: pytest.fail("no Docker"))
    inside = Cache(str(tmp_path / "inside"))
    delivering = Delivering(inside, Tools(lambda: session(registry)), CLOCK, lambda line: None)
    assert delivering.deliver(wanted("db", "java_db"))["changed"]
    assert not delivering.deliver(wanted("db", "java_db"))["changed"]
    assert len(scan(Path(inside.path), archive(images, "finding"))["findings"]) == 2
    # And Trivy itself takes them for what they are.
    argv = [program("trivy"), "image", "--download-db-only", "--cache-dir", str(tmp_path / "own"), "--quiet"]
    own = [*argv, "--db-repository", f"{registry.host}/trivy-db:2", "--insecure"]
    subprocess.run(own, check=True, timeout=60, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert (tmp_path / "own/db/trivy.db").read_bytes() == (cache / "db/trivy.db").read_bytes()


def test_an_image_of_a_registry(registry: RegistryProcess, cache: Path, tmp_path: Path) -> None:
    import make_images
    from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder

    builder = LayoutBuilder(tmp_path / "layout")
    layer = make_images.tar(make_images.debian("1.0-1"))
    digest = builder.blob(layer)["digest"]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": builder.blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [builder.blob(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    builder.add("app:v1", builder.blob(json.dumps(manifest).encode(), manifest["mediaType"]))  # type: ignore[arg-type]
    entry = {"source": {"layout": str(builder.path), "ref": "app:v1"}, "repository": "app", "tags": ["v1"]}
    publish([entry], session(registry), lambda: pytest.fail("no Docker"))
    job = Job((), 60, image=f"{registry.host}/app:v1", source="remote", insecure=True)
    assert len(scan(cache, job)["findings"]) == 2
    with pytest.raises(AirgapError, match="was it pushed"):
        scan(cache, job._replace(image=f"{registry.host}/app:v9"))
    with pytest.raises(AirgapError, match="was it pushed"):
        scan(cache, job._replace(image=f"{registry.host}/none:v1"))
    registry.stop()
    with pytest.raises(AirgapError, match="did not answer"):
        scan(cache, job)

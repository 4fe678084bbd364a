# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chain of evidence on the real API server, by the identity of releases: raced, killed, tampered with.

And the status of releases, once.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import CONFIG_MAP
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden, Session
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.engines.evidence_chain import Report
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import Wanted as Identity
from ansible_collections.lumen.airgap.plugins.module_utils.services.evidence_chain import (
    Store,
    Written,
    append,
    inspect,
)
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import Identities
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record
from ansible_collections.lumen.airgap.plugins.module_utils.services.status import Status, Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .conftest import ROOT
from .test_release_identity import app

APP, HOST = "lumen-api", "control-1"
DAY = 86400.0
WRITERS, EACH, KILLS = 2, 8, 15
# What a release does with its evidence, as a process of its own that can be killed.
_PROCESS = """
import sys
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.services.evidence_chain import Store, append
kubeconfig, namespace, app, directory, release, host = sys.argv[1:]
store = Store(Session.connect(kubeconfig), namespace, app)
store.read()
print("ready", flush=True)
append(store, directory, {"release": release, "app": app, "namespace": namespace, "reason": "killed"}, host)
"""


class Site:
    """The evidence of an app in a namespace of this test's own, written with the rights that releases have."""

    def __init__(self, kubeconfig: str, namespace: str, path: Path) -> None:
        self.kubeconfig, self.namespace, self.path = kubeconfig, namespace, path
        self.session = Session.connect(kubeconfig)

    def append(self, name: str, directory: Path | None = None, host: str = HOST) -> Written:
        evidence = {"release": f"{APP}-{name}", "app": APP, "namespace": self.namespace, "reason": ""}
        store = Store(Session.connect(self.kubeconfig), self.namespace, APP)
        return append(store, str(directory or self.path), evidence, host)

    def found(self, directory: Path | None = None, host: str = HOST) -> Report:
        where = str(directory or self.path)
        return inspect(where, APP, self.namespace, Store(self.session, self.namespace, APP), host)[0]


@pytest.fixture
def site(namespace: str, tmp_path: Path) -> Iterator[Site]:
    from driver.cluster import KUBECONFIG

    identities = Identities(Session.connect(str(KUBECONFIG)), Node(), SystemClock())
    wanted, path = Identity(APP, namespace), str(tmp_path / "kubeconfig")
    assert identities.present(wanted, path, 90 * DAY, 30 * DAY).verified
    yield Site(path, namespace, tmp_path / "reports")
    identities.absent(wanted, path)


def codes(report: Report) -> list[tuple[str, str]]:
    return [(finding.code, finding.where) for finding in report.findings]


def test_two_control_hosts_at_once(site: Site, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def write(host: int) -> None:
        try:
            for number in range(EACH):
                site.append(f"v{host}.{number}-1", tmp_path / str(host), f"control-{host}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(host,)) for host in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    for host in range(WRITERS):
        report = site.found(tmp_path / str(host), f"control-{host}")
        assert report.intact
        assert report.top == WRITERS * EACH
        assert {finding.code for finding in report.findings} == {"elsewhere"}
        assert len(report.findings) == WRITERS * EACH - EACH
    everything = tmp_path / "both"
    everything.mkdir()
    for host in range(WRITERS):
        for file in (tmp_path / str(host)).iterdir():
            (everything / file.name).write_bytes(file.read_bytes())
    assert codes(site.found(everything)) == []


def test_what_is_tampered_with_is_told_by_name(site: Site) -> None:
    for number in range(1, 6):
        site.append(f"v1.{number}.0-{number}")
    assert codes(site.found()) == []
    files = {number: site.path / f"{APP}-v1.{number}.0-{number}.json" for number in range(1, 6)}
    kept = {number: file.read_bytes() for number, file in files.items()}

    files[2].write_bytes(kept[2].replace(b'"reason": ""', b'"reason": "fine"'))
    assert codes(site.found()) == [("edited", files[2].name)]
    files[2].write_bytes(kept[2])

    files[3].unlink()
    assert codes(site.found()) == [("missing", files[3].name)]
    files[3].write_bytes(kept[3])

    files[5].unlink()
    assert codes(site.found()) == [("newest-removed", files[5].name)]
    files[4].unlink()
    assert codes(site.found()) == [("newest-removed", files[5].name), ("missing", files[4].name)]
    for number in (4, 5):
        files[number].write_bytes(kept[number])

    (site.path / f"{APP}-v1.3.0-9.json").write_bytes(kept[3].replace(b'"reason": ""', b'"reason": "x"'))
    assert codes(site.found()) == [("fork", f"{APP}-v1.3.0-9.json")]
    (site.path / f"{APP}-v1.3.0-9.json").unlink()
    assert codes(site.found()) == []


def test_sha256sum_and_jq_find_the_same(site: Site) -> None:
    """What the guide tells an auditor to do."""
    for number in range(1, 4):
        site.append(f"v1.{number}.0-{number}")
    said = subprocess.run(["sha256sum", *sorted(map(str, site.path.iterdir()))], capture_output=True, check=True)
    hashes = [line.split()[0] for line in said.stdout.decode().splitlines()]
    links = [json.loads(path.read_text())["chain"] for path in sorted(site.path.iterdir())]
    assert [link["previous"] for link in links] == ["", *hashes[:-1]]
    data = site.session.get(CONFIG_MAP, f"{APP}-evidence", site.namespace)["data"]
    assert json.loads(data["head"])["sha256"] == hashes[-1]


def test_killed_anywhere_there_is_one_document_for_each_release(site: Site) -> None:
    chance, environment = random.Random(7), {**os.environ, "PYTHONPATH": str(ROOT / "build")}
    ended = 0
    for number in range(KILLS):
        release = f"v1.{number}.0-{number + 1}"
        argv = [sys.executable, "-c", _PROCESS, site.kubeconfig, site.namespace, APP, str(site.path)]
        with subprocess.Popen([*argv, f"{APP}-{release}", HOST], stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
        ended += process.returncode == 0
        made = site.append(release)
        assert made.document["chain"]["number"] == number + 1
        assert Path(made.path).name == f"{APP}-{release}.json"
    assert ended < KILLS, "every process was faster than its end"
    assert codes(site.found()) == []
    # Killed while it writes, a process can leave a hidden file that nobody reads.
    shown = [path for path in site.path.iterdir() if not path.name.startswith(".")]
    assert sorted(path.suffix for path in shown) == [".json"] * KILLS


def test_the_identity_writes_the_end_of_the_chain_and_no_other_map(site: Site) -> None:
    site.append("v1.0.0-1")
    other: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "other-evidence", "namespace": site.namespace},
    }
    made = site.session.create(other)
    with pytest.raises(Forbidden):
        site.session.replace(made)


def test_status_once_by_the_identity_of_releases(site: Site) -> None:
    from driver.cluster import kubectl

    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(app(site.namespace)))
    clock = SystemClock()
    held = Record.acquire(site.session, clock, site.namespace, APP, "v1.0.0", "r1", {})
    held.note("building", text="the image is next")
    site.append("v1.0.0-1")
    wanted = Wanted(APP, site.namespace, directory=str(site.path), host=HOST)
    found = Status(site.session, clock, wanted).look()
    assert found["problems"] == []
    assert found["release"]["state"] == "running"
    assert found["rollout"]["name"] == APP
    assert f"  release   v1.0.0 ({APP}-v1.0.0-1) in progress" in found["text"]
    assert f"  evidence  intact: 1 of 1 documents here fit, the newest is {APP}-v1.0.0-1.json" in found["text"]
    (site.path / f"{APP}-v1.0.0-1.json").unlink()
    found = Status(site.session, clock, wanted).look()
    assert any(line.startswith(f"  evidence  BROKEN: {APP}-v1.0.0-1.json") for line in found["text"])


def test_the_playbook_shows_the_lab_and_changes_nothing() -> None:
    argv = ["ansible-playbook", "-i", "inventories/lab", "playbooks/status.yml"]
    shown = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0, shown.stdout
    assert "\nlumen-api in lumen\n  release " in shown.stdout
    assert "changed=0" in shown.stdout

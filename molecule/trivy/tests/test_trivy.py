# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the scenario left on node-1, seen without our own modules."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host

testinfra_hosts = ["docker://node-1"]

CACHE = "/var/cache/molecule-trivy"
TRIVY = "192.168.2.2:5000/trivy:0.58.2"


def test_the_databases_are_where_trivy_looks_for_them(host: Host) -> None:
    for directory, name in (("db", "trivy.db"), ("java-db", "trivy-java.db")):
        link = host.file(f"{CACHE}/{directory}")
        assert link.is_symlink
        assert not host.check_output("readlink %s", link.path).startswith("/")
        assert host.file(f"{CACHE}/{directory}/{name}").mode == 0o644
        assert host.file(f"{CACHE}/{directory}/metadata.json").is_file


def test_no_more_than_two_versions_are_kept(host: Host) -> None:
    assert len(host.file(f"{CACHE}/.versions/db").listdir()) <= 2


def test_the_hash_is_the_one_of_the_delivery(host: Host) -> None:
    record = json.loads(host.file(f"{CACHE}/db/delivery.json").content_string)
    assert host.file(f"{CACHE}/db/trivy.db").sha256sum == record["sha256"]
    assert record["source"].endswith("/trivy-db:2")


def test_nothing_is_left_of_the_scans(host: Host) -> None:
    assert host.check_output("docker ps --all --quiet --filter label=lumen-airgap=trivy-scan") == ""
    assert host.check_output("find /var/tmp -maxdepth 1 -name 'lumen-airgap-trivy-*'") == ""
    assert not host.file(f"{CACHE}/fanal").exists


def scan(host: Host, *more: str) -> Any:
    """As the pipeline runs Trivy, without any network."""
    arguments = " ".join(more)
    return host.run(
        f"docker run --rm --network none -v {CACHE}:{CACHE} -v /var/run/docker.sock:/var/run/docker.sock {TRIVY} "
        f"image --cache-dir {CACHE} --skip-db-update --offline-scan --cache-backend memory --scanners vuln --quiet "
        f"--image-src docker --format json {arguments}"
    )


def test_the_pipelines_own_way_to_scan_finds_the_same(host: Host) -> None:
    done = scan(host, "--skip-java-db-update", "molecule-trivy:finding")
    assert done.rc == 0, done.stderr
    (result,) = json.loads(done.stdout)["Results"]
    assert {item["VulnerabilityID"] for item in result["Vulnerabilities"]} == {"CVE-0000-0001", "CVE-0000-0002"}


def test_both_skip_flags_are_needed_for_java(host: Host) -> None:
    assert scan(host, "--skip-java-db-update", "molecule-trivy:java").rc == 0


def test_node_1_has_no_way_out(host: Host) -> None:
    assert host.check_output("ip route show default") == ""

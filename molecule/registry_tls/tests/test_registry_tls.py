# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry with TLS and users, seen without our own modules: through openssl's verdict in curl, and containerd."""

from __future__ import annotations

import json

import testinfra
from testinfra.host import Host

ADDRESS = "192.168.2.2:5004"
CA = "/etc/docker-registry/tls/ca.crt"


def node(number: int) -> Host:
    return testinfra.get_host(f"docker://node-{number}")


def test_nobody_enters_without_a_user() -> None:
    answer = node(1).check_output("curl -sS --cacert %s -o /dev/null -w %s https://%s/v2/", CA, "%{http_code}", ADDRESS)
    assert answer == "401"


def test_it_does_not_speak_http() -> None:
    assert node(1).run("curl -fsS http://%s/v2/", ADDRESS).rc != 0


def test_secrets_are_for_root_alone() -> None:
    host = node(1)
    for path in ("/etc/docker-registry/tls/registry.key", "/etc/docker-registry/tls.yml"):
        assert host.file(path).mode == 0o600
    users = host.check_output("cat /etc/docker-registry/tls.auth/htpasswd")
    assert users.startswith("ci:$2")
    assert "molecule" not in users


def test_the_key_of_the_ca_never_came_here() -> None:
    assert node(1).run("grep -rl 'PRIVATE KEY' /etc/docker-registry/tls").stdout.split() == [
        "/etc/docker-registry/tls/registry.key"
    ]


def test_the_container_has_its_limits() -> None:
    found = json.loads(node(1).check_output("docker inspect registry-tls"))[0]["HostConfig"]
    assert (found["Memory"], found["NanoCpus"]) == (256 * 1024 * 1024, 1_000_000_000)


def test_node_2_pulls_with_the_ca_and_the_user_of_its_mirror() -> None:
    host = node(2)
    for image in ("probe:v1.0.0", "pushed:one"):
        host.check_output(
            "timeout 60 ctr --namespace k8s.io images pull --hosts-dir /etc/containerd/certs.d %s",
            f"{ADDRESS}/{image}",
        )
    assert host.file(f"/etc/containerd/certs.d/{ADDRESS}/hosts.toml").mode == 0o600

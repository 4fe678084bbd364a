# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner's objects, and its start script run by a shell."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.actions.runner import (
    Runner,
    RunnerError,
    default_binary,
    objects,
)

TOKEN = "registration-token-secret"
RUNNER = Runner(
    name="act-runner",
    namespace="gitea",
    image="192.168.2.2:5000/gitea/runner:1.0.8",
    binary="gitea-runner",
    node="node-1",
    instance_url="http://192.168.2.2:30300",
    runner_name="node-1-runner",
    labels=("ubuntu-latest:docker://192.168.2.2:5000/lumen-api:builder", "plain:host"),
    capacity=2,
    job_timeout=3600,
    drain_timeout=600,
    state_path="/var/lib/act-runner",
    trivy_cache="/var/cache/trivy",
    network="",
    insecure=False,
)


def made(runner: Runner = RUNNER, registration: str = "0001") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    secret, config_map, deployment = objects(runner, {"token": TOKEN, "registration": registration})
    return secret, config_map, deployment


def test_the_token_is_in_the_secret_and_nowhere_else() -> None:
    secret, config_map, deployment = made()
    assert secret["stringData"]["token"] == TOKEN
    assert TOKEN not in json.dumps([config_map, deployment])
    (volume,) = [v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "token"]
    assert volume["secret"] == {
        "secretName": "act-runner",
        "defaultMode": 0o400,
        "items": [{"key": "token", "path": "token"}],
    }


def test_the_deployment_is_on_its_node_with_docker_and_trivy() -> None:
    spec = made()[2]["spec"]
    pod = spec["template"]["spec"]
    assert spec["selector"]["matchLabels"] == {"app": "act-runner"} == spec["template"]["metadata"]["labels"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}
    assert pod["terminationGracePeriodSeconds"] > RUNNER.drain_timeout
    host = {volume["hostPath"]["path"]: volume["hostPath"]["type"] for volume in pod["volumes"] if "hostPath" in volume}
    assert host == {
        "/var/lib/act-runner": "DirectoryOrCreate",
        "/var/run/docker.sock": "Socket",
        "/var/cache/trivy": "DirectoryOrCreate",
    }


def test_the_configuration() -> None:
    config = json.loads(made()[1]["data"]["config.yaml"])
    assert config["runner"] == {
        "file": "/data/registration-0001.json",
        "capacity": 2,
        "timeout": "3600s",
        "shutdown_timeout": "600s",
        "insecure": False,
        "labels": list(RUNNER.labels),
    }
    assert config["container"]["valid_volumes"] == ["/var/cache/trivy"]


def test_another_registration_or_label_makes_another_pod_and_the_token_does_not() -> None:
    def hash_of(runner: Runner = RUNNER, registration: str = "0001") -> Any:
        return made(runner, registration)[2]["spec"]["template"]["metadata"]["annotations"]

    assert hash_of() == hash_of()
    assert hash_of(registration="0002") != hash_of()
    assert hash_of(dataclasses.replace(RUNNER, labels=("other:host",))) != hash_of()
    secret, config_map, deployment = objects(RUNNER, {"token": "another", "registration": "0001"})
    assert (config_map, deployment) == made()[1:]
    assert secret != made()[0]


@pytest.mark.parametrize(
    ("image", "binary"),
    [
        ("192.168.2.2:5000/gitea/runner:1.0.8", "gitea-runner"),
        ("192.168.2.2:5000/gitea-runner:1.0.8", "gitea-runner"),
        ("192.168.2.2:5000/gitea/act_runner:0.2.11", "act_runner"),
        ("gitea/act_runner@sha256:00", "act_runner"),
        ("act_runner", "act_runner"),
    ],
)
def test_the_program_by_its_image(image: str, binary: str) -> None:
    assert default_binary(image) == binary
    runner = dataclasses.replace(RUNNER, image=image, binary=binary)
    (container,) = made(runner)[2]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert {"name": "RUNNER_BINARY", "value": binary} in container["env"]
    # Neither image's own start script is used: they take other variables.
    assert container["command"][:2] == ["/bin/sh", "/etc/act-runner/start.sh"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "labels is empty"),
        (("a:b",), "'a:b' in labels is none"),
        (("a:docker://",), "'a:docker://' in labels"),
        (("a b",), "'a b' in labels"),
        (("a,b:host",), "in labels"),
        (("a:host", "a:docker://x"), "labels names a twice"),
    ],
)
def test_labels_that_are_none(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(RunnerError, match=message):
        dataclasses.replace(RUNNER, labels=labels).check()


@pytest.mark.parametrize(
    "url",
    [
        "http://gitea-http.gitea.svc.cluster.local:3000",
        "http://gitea-http.gitea.svc:3000",
        "http://localhost:30300",
        "http://127.0.0.1:30300",
        "http://gitea-http.gitea.svc.cluster.local.:3000",
        "http://gitea-http.gitea.svc.:3000",
        "http://gitea-http:3000",
        "http://localhost.:30300",
        "http://[::1]:3000",
    ],
)
def test_a_url_that_no_job_reaches_is_refused(url: str) -> None:
    with pytest.raises(RunnerError, match="becomes GITHUB_SERVER_URL in the job's container"):
        dataclasses.replace(RUNNER, instance_url=url).check()


@pytest.mark.parametrize("url", ["http://192.168.2.2:30300", "http://[fd00::2]:30300", "https://git.example.org/git"])
def test_a_url_that_jobs_may_reach(url: str) -> None:
    dataclasses.replace(RUNNER, instance_url=url).check()


# --- the start script ------------------------------------------------------------------------------------------------

FAKE_RUNNER = """\
#!/bin/sh
echo "$@" >>"{there}/calls"
case $1 in
    register)
        read -r url; read -r token; read -r name
        echo "$url|$token|$name" >>"{there}/inputs"
        [ -e "{there}/gitea-is-up" ] || exit 1
        echo "{{}}" >"{there}/data/registration-0001.json" ;;
    daemon)
        trap 'echo finished >>"{there}/calls"; exit 0' TERM
        touch "{there}/running"
        while [ ! -e "{there}/crash" ]; do sleep 0.02; done
        rm "{there}/crash"
        exit 1 ;;
esac
"""


class Started:
    """The script as a process, in a directory that stands for the pod's paths."""

    def __init__(self, there: Path) -> None:
        self.there = there
        for name in ("data", "token"):
            (there / name).mkdir(exist_ok=True)
        (there / "token" / "token").write_text(TOKEN)
        binary = there / "runner"
        binary.write_text(FAKE_RUNNER.format(there=there))
        binary.chmod(0o755)
        script = made()[1]["data"]["start.sh"]
        for path, real in (
            ("/etc/act-runner-token", there / "token"),
            ("/data", there / "data"),
            ("/tmp/ready", there / "ready"),
        ):
            script = script.replace(path, str(real))
        # Nobody waits for seconds here.
        script = script.replace("sleep 5", "sleep 0.05").replace("sleep 2", "sleep 0.05")
        (there / "start.sh").write_text(script)
        environment = {
            "PATH": "/usr/bin:/bin",
            "RUNNER_BINARY": str(binary),
            "CONFIG_FILE": "/config",
            "GITEA_INSTANCE_URL": "http://192.168.2.2:30300",
            "GITEA_RUNNER_NAME": "node-1-runner",
        }
        self.process = subprocess.Popen(
            ["/bin/sh", str(there / "start.sh"), str(there / "data" / "registration-0001.json")],
            env=environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def lines(self, name: str) -> list[str]:
        file = self.there / name
        return file.read_text().splitlines() if file.exists() else []

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, (self.lines("calls"), self.lines("inputs"))
            time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Started]]:
    started: list[Started] = []

    def call() -> Started:
        started.append(Started(tmp_path))
        return started[-1]

    yield call
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)  # the runner that it has started, too
        each.process.wait()


def test_it_registers_once_gitea_is_up_and_the_token_is_no_argument(start: Any, tmp_path: Path) -> None:
    run = start()
    run.until(lambda: len(run.lines("inputs")) >= 2)
    (tmp_path / "gitea-is-up").touch()
    run.until((tmp_path / "ready").exists)
    assert set(run.lines("inputs")) == {f"http://192.168.2.2:30300|{TOKEN}|node-1-runner"}
    assert set(run.lines("calls")) == {"register --config /config", "daemon --config /config"}
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(20) == 0
    assert run.lines("calls")[-1] == "finished"


def test_one_that_is_registered_is_not_registered_again(start: Any, tmp_path: Path) -> None:
    state = tmp_path / "data"
    state.mkdir()
    (state / "registration-0001.json").write_text("{}")
    (state / "registration-0000.json").write_text("{}")
    run = start()
    run.until((tmp_path / "ready").exists)
    assert run.lines("calls") == ["daemon --config /config"]
    assert [file.name for file in state.iterdir()] == ["registration-0001.json"]


def test_a_runner_that_ends_is_started_again(start: Any, tmp_path: Path) -> None:
    (tmp_path / "gitea-is-up").touch()
    run = start()
    run.until((tmp_path / "ready").exists)
    (tmp_path / "crash").touch()
    run.until(lambda: run.lines("calls").count("daemon --config /config") == 2)
    run.until((tmp_path / "ready").exists)


def test_it_can_be_stopped_while_it_waits_for_gitea(start: Any) -> None:
    run = start()
    run.until(lambda: run.lines("inputs"))
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(20) == 0

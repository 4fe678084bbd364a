# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The start script of the image gitea/runner, with a program in gitea-runner's place that says how it was called."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[3] / "images" / "runner" / "run"
# Notes its arguments and what it is given; registers unless it is told to fail that often; as a daemon it ends at
# once that often, and then stays until it is stopped.
RUNNER = """#!/bin/sh
echo "$*" >>calls
env | grep -c TOKEN >>tokens_in_environment || true
count=$(cat "$1.failures" 2>/dev/null || echo 0)
if [ "$count" -gt 0 ]; then echo $((count - 1)) >"$1.failures"; exit 1; fi
if [ "$1" = register ]; then cat >input; echo registered >"${RUNNER_STATE_FILE:-.runner}"; exit 0; fi
[ ! -e leave ] || exit 0
trap 'exit 7' TERM
touch up
while true; do sleep 0.02; done
"""


class Runner:
    def __init__(self, place: Path) -> None:
        self.data = place / "data"
        self.data.mkdir()
        programs = place / "bin"
        programs.mkdir()
        (programs / "gitea-runner").write_text(RUNNER)
        (programs / "gitea-runner").chmod(0o755)
        self.env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RUNNER_HOME": str(self.data),
            "RUN_PAUSE": "0",
            "GITEA_INSTANCE_URL": "http://192.168.2.2:30300",
            "GITEA_RUNNER_NAME": "act-runner",
            "GITEA_RUNNER_LABELS": "ubuntu-latest:docker://lumen-api:builder,self-hosted",
            "GITEA_RUNNER_REGISTRATION_TOKEN": "s3cret",
        }

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(RUN)],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_until_up(self) -> int:
        """Start it, wait for its daemon, stop it; its exit code."""
        with self.start() as process:
            end = time.monotonic() + 20
            while not (self.data / "up").exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < end, self.calls()
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            return process.wait(10)

    def calls(self) -> list[str]:
        return (self.data / "calls").read_text().splitlines()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_the_token_is_read_and_is_no_argument(runner: Runner) -> None:
    assert runner.run_until_up() == 7, "it ends as its runner does"
    assert runner.calls() == [
        "register --instance http://192.168.2.2:30300 --name act-runner "
        "--labels ubuntu-latest:docker://lumen-api:builder,self-hosted",
        "daemon",
    ]
    assert (runner.data / "input").read_text() == "s3cret\n\n"
    assert (runner.data / "tokens_in_environment").read_text().split() == ["0", "0"]


def test_the_token_of_a_file_the_configuration_and_one_job(runner: Runner) -> None:
    token = runner.data / "token"
    token.write_text("from-a-file")
    del runner.env["GITEA_RUNNER_REGISTRATION_TOKEN"], runner.env["GITEA_RUNNER_LABELS"]
    runner.env["GITEA_RUNNER_REGISTRATION_TOKEN_FILE"] = str(token)
    runner.env["CONFIG_FILE"] = "/etc/runner/config.yaml"
    runner.env["GITEA_RUNNER_EPHEMERAL"] = runner.env["GITEA_RUNNER_ONCE"] = "1"
    (runner.data / "leave").touch()
    with runner.start() as process:
        assert process.wait(10) == 0
    assert runner.calls() == [
        "register --config /etc/runner/config.yaml --instance http://192.168.2.2:30300 --name act-runner --ephemeral",
        "daemon --config /etc/runner/config.yaml --once",
    ]
    assert (runner.data / "input").read_text() == "from-a-file\n\n"


def test_a_registered_runner_is_not_registered_again(runner: Runner) -> None:
    (runner.data / ".runner").write_text("registered")
    runner.run_until_up()
    assert runner.calls() == ["daemon"]


def test_it_outlives_a_gitea_that_is_away(runner: Runner) -> None:
    (runner.data / ".runner").touch()  # what a registration that was cut off leaves
    (runner.data / "register.failures").write_text("2")
    (runner.data / "daemon.failures").write_text("3")
    runner.run_until_up()
    assert [call.split()[0] for call in runner.calls()] == ["register"] * 3 + ["daemon"] * 4


def test_it_gives_up_registering(runner: Runner) -> None:
    (runner.data / "register.failures").write_text("9")
    runner.env["GITEA_MAX_REG_ATTEMPTS"] = "2"
    with runner.start() as process:
        _out, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "attempt 2 to register ended with 1" in err
    assert "not registered, giving up" in err
    assert "s3cret" not in err

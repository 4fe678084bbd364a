#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole site on the lab, then two releases: a good version, which is promoted, and a bad one, which is rolled back.

Run it by `make demo`, which brings the lab up first; `make demo DRIVER=deployment` takes a plain Deployment in place of
a Rollout. It exits 0 only when both ended as they should. The releases have namespaces of their own: what Argo CD keeps
in `lumen` is changed in Git alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The virtual environment's, beside the Python that runs this.
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
INVENTORY = "inventories/lab"
REPORTS = ROOT / ".lab" / "reports"
KUBECONFIG = ROOT / ".lab" / "kubeconfig"
KUBECTL = ROOT / ".lab" / "bin" / "kubectl"
# Debian's client: another one in PATH may not fit Debian's engine.
DOCKER = "/usr/bin/docker"


class DemoError(Exception):
    """Something is not as it should be; the message says what to do."""


@dataclass(frozen=True)
class App:
    """The application as the demo's own. ``name`` is that of its namespace and of its repository on node-1."""

    driver: str
    name: str
    variables: str

    @property
    def workload(self) -> str:
        return f"{self.driver}s"


APPS = {
    "rollout": App("rollout", "lumen-demo", "lab/playbooks/vars/demo.yml"),
    "deployment": App("deployment", "lumen-demo-deployment", "lab/playbooks/vars/demo-deployment.yml"),
}


@dataclass(frozen=True)
class Release:
    """What one release of the demo is and how it has to end."""

    version: str
    error_rate: str
    outcome: str

    @property
    def succeeds(self) -> bool:
        return self.outcome == "promoted"


def next_versions(tags: list[str]) -> tuple[str, str]:
    """The two minor versions after the newest of v1: v1.1.0 and v1.2.0 on a new lab."""
    minors = [int(found[1]) for tag in tags if (found := re.fullmatch(r"v1\.(\d+)\.\d+", tag))]
    newest = max(minors, default=0)
    return f"v1.{newest + 1}.0", f"v1.{newest + 2}.0"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Release a good version and a bad one on the lab.")
    parser.add_argument("--driver", choices=list(APPS), default="rollout", help="what moves the pods")
    try:
        demo(APPS[parser.parse_args(argv).driver])
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the next run takes the release up where it was", file=sys.stderr)
        return 130
    return 0


def demo(app: App) -> None:
    if not KUBECONFIG.exists():
        raise DemoError("the lab is not up: run `make lab` first")
    must_play("site.yml")
    must_play("lab/playbooks/app.yml", app)
    finish_interrupted(app)
    good, bad = next_versions(tags(app))
    releases = [Release(good, "0", "promoted"), Release(bad, "0.5", "rolled_back")]
    reports = [deliver(app, release) for release in releases]
    for release, (path, report) in zip(releases, reports, strict=True):
        heading(f"{release.version}, error rate {release.error_rate}: {report['outcome']}")
        print("\n".join(timeline(report)))
        print(f"report: {path.relative_to(ROOT)}")
    shown = {"namespace": app.name, "workload": app.workload, "variables": app.variables, "driver": app.driver}
    print(CLOSING.format(next=next_versions([bad])[0], good=good, **shown))


def finish_interrupted(app: App) -> None:
    """Take up a release that was killed: until it has ended, no other version may begin."""
    argv = [str(KUBECTL), f"--kubeconfig={KUBECONFIG}", f"--namespace={app.name}"]
    argv += ["get", "configmap", "lumen-api-release", "--ignore-not-found", "--output=jsonpath={.data.journal}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise DemoError(f"the cluster does not answer: {done.stderr.strip()}; `make lab` repairs the lab")
    version = unfinished(done.stdout)
    if version:
        heading(f"{version} was interrupted: taken up again")
        play("playbooks/release.yml", app, version=version)


def unfinished(journal: str) -> str:
    """The version of the release that has not ended, from the journal in the cluster; empty when all have."""
    current = json.loads(journal or "{}").get("current") or {}
    return "" if current.get("outcome") else str(current.get("version", ""))


def deliver(app: App, release: Release) -> tuple[Path, dict[str, Any]]:
    """Commit a version, release it, and check that it ended as it should; returns its report."""
    heading(f"{release.version}: error rate {release.error_rate}, has to be {release.outcome.replace('_', ' ')}")
    must_play("lab/playbooks/demo-version.yml", app, version=release.version, error_rate=release.error_rate)
    begin = time.monotonic()
    code = play("playbooks/release.yml", app, version=release.version)
    print(f"release.yml: exit code {code} after {time.monotonic() - begin:.0f} s")
    path, report = report_of(release.version)
    if report["outcome"] != release.outcome or (code == 0) != release.succeeds:
        raise DemoError(
            f"{release.version} had to be {release.outcome}, but release.yml exited {code} and {path} says "
            f"{report['outcome']}: {report.get('reason') or 'no reason given'}"
        )
    if report["driver"] != app.driver:
        raise DemoError(f"{path} says that {report['driver']} moved the pods, not {app.driver}")
    return path, report


def report_of(version: str) -> tuple[Path, dict[str, Any]]:
    """The newest report of a version."""
    paths = sorted(REPORTS.glob(f"*-{version}-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not paths:
        raise DemoError(f"there is no report of {version} in {REPORTS}")
    report: dict[str, Any] = json.loads(paths[-1].read_text(encoding="utf-8"))
    return paths[-1], report


def timeline(report: dict[str, Any]) -> list[str]:
    """One line for each thing that happened."""
    return [f"  {entry['at']}  {entry['text']}" for entry in report["timeline"]]


def tags(app: App) -> list[str]:
    """The versions in the application's repository on node-1."""
    argv = [DOCKER, "exec", "node-1", "git", f"--git-dir=/srv/git/{app.name}.git", "tag", "--list"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise DemoError(f"node-1 does not answer: {done.stderr.strip()}; `make lab` repairs the lab")
    return done.stdout.split()


def must_play(playbook: str, app: App | None = None, **variables: str) -> None:
    code = play(playbook, app, **variables)
    if code != 0:
        raise DemoError(f"{playbook} failed with exit code {code}; what it printed says why")


def play(playbook: str, app: App | None = None, **variables: str) -> int:
    """Run a playbook (for the demo's own application), its output to the terminal; returns its exit code."""
    argv = [str(ANSIBLE_PLAYBOOK), "-i", INVENTORY, playbook]
    if app:
        argv += ["-e", f"@{app.variables}"]
    for name, value in variables.items():
        argv += ["-e", f"{name}={value}"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
    print(f"$ ansible-playbook {' '.join(argv[1:])}", flush=True)
    return subprocess.run(argv, cwd=ROOT, env=environment, check=False).returncode


def heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


CLOSING = """
The lab stays up. What to try next:
  make lab-status                                   nodes, pods and addresses
  .lab/bin/kubectl -n {namespace} get {workload},pods
                                                    the application
  make demo DRIVER={driver}                         two more versions, from {next} on
A release of your own, here one that fails every tenth request:
  play=".venv/bin/ansible-playbook -i inventories/lab -e @{variables}"
  $play lab/playbooks/demo-version.yml -e version={next} -e error_rate=0.1
  $play playbooks/release.yml -e version={next}
A version that is released already is not released again:
  $play playbooks/release.yml -e version={good}"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

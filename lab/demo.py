#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole site on the lab, then two releases: a good version, which is promoted, and a bad one, which is rolled back.

Run it by `make demo`, which brings the lab up first. The application is the one in `lumen`, which Argo CD keeps as it
stands in Gitea; a tag there and its pipeline release it. `make demo DRIVER=deployment` takes a plain Deployment in a
namespace of its own, which has no part in Git. It exits 0 only when both ended as they should, in the report, in Git
and in the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
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
TOKEN = ROOT / ".lab" / "gitea" / "token"
REPOSITORY = "http://192.168.2.2:30300/api/v1/repos/lumen/lumen"
MANIFEST = "03-airgap-zone/manifests/app/03-lumen-api.yaml"
# Debian's client: another one in PATH may not fit Debian's engine.
DOCKER = "/usr/bin/docker"


class DemoError(Exception):
    """Something is not as it should be; the message says what to do."""


@dataclass(frozen=True)
class App:
    """What is released. ``variables`` is the file that makes the inventory's application this one; empty: as it is."""

    driver: str
    namespace: str
    variables: str

    @property
    def in_git(self) -> bool:
        """Whether its manifest is in Gitea, and Argo CD brings what stands there."""
        return not self.variables


APPS = {
    "rollout": App("rollout", "lumen", ""),
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


def next_versions(taken: Iterable[str]) -> tuple[str, str]:
    """The two minor versions after the newest of v1: v1.1.0 and v1.2.0 on a new lab."""
    minors = [int(found[1]) for version in taken if (found := re.fullmatch(r"v1\.(\d+)\.\d+", version))]
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
    if not app.in_git:
        must_play("lab/playbooks/app.yml", app)
    finish_interrupted(app)
    good, bad = next_versions(taken(app))
    releases = [Release(good, "0", "promoted"), Release(bad, "0.5", "rolled_back")]
    reports = []
    for release in releases:
        reports.append(deliver(app, release))
        if app.in_git:
            # Of a release that was rolled back, the version before.
            check_version(app, good)
    for release, (path, report) in zip(releases, reports, strict=True):
        heading(f"{release.version}, error rate {release.error_rate}: {report['outcome']}")
        print("\n".join(timeline(report)))
        print(f"report: {path.relative_to(ROOT)}")
        print(f"page:   {page_of(path).relative_to(ROOT)}")
    print(closing(app, good, bad))


def finish_interrupted(app: App) -> None:
    """Take up a release that was killed: until it has ended, no other version may begin."""
    version = unfinished(journal(app))
    if version:
        heading(f"{version} was interrupted: taken up again")
        play("playbooks/release.yml", app, version=version)


def journal(app: App) -> str:
    """What the cluster remembers of the application's releases, as JSON; empty when there was none."""
    return kubectl(
        app, "get", "configmap", "lumen-api-release", "--ignore-not-found", "--output=jsonpath={.data.journal}"
    )


def unfinished(journal: str) -> str:
    """The version of the release that has not ended, from the journal in the cluster; empty when all have."""
    current = json.loads(journal or "{}").get("current") or {}
    return "" if current.get("outcome") else str(current.get("version", ""))


def taken(app: App) -> set[str]:
    """The versions that cannot be released anew: they have a tag, a report, or a place in the journal."""
    return set(tags(app)) | reported() | recorded(journal(app))


def recorded(journal: str) -> set[str]:
    """The versions of the releases in the journal."""
    content = json.loads(journal or "{}")
    releases = [content.get("current"), *(content.get("previous") or [])]
    return {str(release["version"]) for release in releases if release}


def reported() -> set[str]:
    """The versions that have a report, which is named after application, version and number of the release."""
    found = (re.search(r"-(v\d+\.\d+\.\d+)-\d+", path.stem) for path in REPORTS.glob("*.json"))
    return {match[1] for match in found if match}


def tags(app: App) -> list[str]:
    """The versions in the application's repository: Gitea's, or that on node-1 of what is not in Git."""
    if app.in_git:
        return gitea_tags()
    argv = [DOCKER, "exec", "node-1", "git", f"--git-dir=/srv/git/{app.namespace}.git", "tag", "--list"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise DemoError(f"node-1 does not answer: {done.stderr.strip()}; `make lab` repairs the lab")
    return done.stdout.split()


def gitea_tags() -> list[str]:
    names: list[str] = []
    for page in range(1, 100):
        found = json.loads(gitea(f"tags?limit=50&page={page}"))
        if not found:
            break
        names += [tag["name"] for tag in found]
    return names


def deliver(app: App, release: Release) -> tuple[Path, dict[str, Any]]:
    """Commit a version, release it, and check that it ended as it should; returns its report."""
    heading(f"{release.version}: error rate {release.error_rate}, has to be {release.outcome.replace('_', ' ')}")
    must_play("lab/playbooks/demo-version.yml", app, version=release.version, error_rate=release.error_rate)
    code = play("playbooks/release.yml", app, version=release.version)
    path, report = report_of(release.version)
    if report["outcome"] != release.outcome or (code == 0) != release.succeeds:
        raise DemoError(
            f"{release.version} had to be {release.outcome}, but release.yml exited {code} and {path} says "
            f"{report['outcome']}: {report.get('reason') or 'no reason given'}"
        )
    if report["driver"] != app.driver:
        raise DemoError(f"{path} says that {report['driver']} moved the pods, not {app.driver}")
    if not page_of(path).exists():
        raise DemoError(f"{path} has no page beside it")
    return path, report


def check_version(app: App, version: str) -> None:
    """That Git and the cluster are on one version, and nothing of another is in progress."""
    named = set(re.findall(r"image: *[\"']?\S+/lumen-api:([^\s@\"']+)", gitea(f"raw/{MANIFEST}?ref=main")))
    if named != {version}:
        raise DemoError(f"{MANIFEST} in Git names {', '.join(sorted(named)) or 'no image'}, not {version}")
    fault = fault_of(json.loads(kubectl(app, "get", "rollout", "lumen-api", "--output=json")), version)
    if fault:
        raise DemoError(f"Rollout {app.namespace}/lumen-api {fault}")
    print(f"Git names {version}, and the Rollout is Healthy on it")


def fault_of(rollout: dict[str, Any], version: str) -> str:
    """Why a Rollout is not Healthy on a version; empty when it is."""
    status = rollout.get("status", {})
    image = rollout["spec"]["template"]["spec"]["containers"][0]["image"]
    if image.partition("@")[0].rpartition(":")[2] != version:
        return f"asks for {image}, not {version}"
    if status.get("phase") != "Healthy":
        return f"is {status.get('phase') or 'without a phase'}: {status.get('message') or 'no message'}"
    if status.get("stableRS") != status.get("currentPodHash"):
        return f"is on {status.get('stableRS')}, and {status.get('currentPodHash')} is what it asks for"
    return ""


def report_of(version: str) -> tuple[Path, dict[str, Any]]:
    """The newest report of a version."""
    paths = sorted(REPORTS.glob(f"*-{version}-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not paths:
        raise DemoError(f"there is no report of {version} in {REPORTS}")
    report: dict[str, Any] = json.loads(paths[-1].read_text(encoding="utf-8"))
    return paths[-1], report


def page_of(report: Path) -> Path:
    """The same for a browser."""
    return report.with_suffix(".html")


def timeline(report: dict[str, Any]) -> list[str]:
    """One line for each thing that happened."""
    return [f"  {entry['at']}  {entry['text']}" for entry in report["timeline"]]


def kubectl(app: App, *words: str) -> str:
    """What kubectl prints, in the application's namespace."""
    argv = [str(KUBECTL), f"--kubeconfig={KUBECONFIG}", f"--namespace={app.namespace}", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise DemoError(f"the cluster does not answer: {done.stderr.strip()}; `make lab` repairs the lab")
    return done.stdout


def gitea(path: str) -> str:
    """What Gitea's API says of the application's repository."""
    headers = {"Authorization": f"token {TOKEN.read_text(encoding='utf-8').strip()}"}
    # The lab is on this machine: a proxy of its user's has no part in it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(f"{REPOSITORY}/{path}", headers=headers), timeout=30) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, TimeoutError) as error:
        raise DemoError(f"Gitea does not answer: {error}; `make lab` repairs the lab") from error


def must_play(playbook: str, app: App | None = None, **variables: str) -> None:
    code = play(playbook, app, **variables)
    if code != 0:
        raise DemoError(f"{playbook} failed with exit code {code}; what it printed says why")


def play(playbook: str, app: App | None = None, **variables: str) -> int:
    """Run a playbook (for the demo's own application), its output to the terminal; returns its exit code."""
    argv = [str(ANSIBLE_PLAYBOOK), "-i", INVENTORY, playbook]
    if app and app.variables:
        argv += ["-e", f"@{app.variables}"]
    for name, value in variables.items():
        argv += ["-e", f"{name}={value}"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
    print(f"$ ansible-playbook {' '.join(argv[1:])}", flush=True)
    begin = time.monotonic()
    code = subprocess.run(argv, cwd=ROOT, env=environment, check=False).returncode
    print(f"{playbook}: exit code {code} after {time.monotonic() - begin:.0f} s", flush=True)
    return code


def heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def closing(app: App, good: str, bad: str) -> str:
    """What to try next, after both releases."""
    following = next_versions([bad])[0]
    again = "make demo" if app.in_git else f"make demo DRIVER={app.driver}"
    play = f".venv/bin/ansible-playbook -i {INVENTORY}" + (f" -e @{app.variables}" if app.variables else "")
    text = CLOSING.format(
        namespace=app.namespace,
        kind=f"{app.driver}s",
        again=f"{again:<50}",
        next=following,
        good=good,
        play=play,
    )
    return text + (CLOSING_IN_GIT if app.in_git else "")


CLOSING = """
The lab stays up. What to try next:
  make lab-status                                   nodes, pods and addresses
  .lab/bin/kubectl -n {namespace} get {kind},pods
                                                    the application
  {again}two more versions, from {next} on
A release of your own, here one that fails every tenth request:
  play="{play}"
  $play lab/playbooks/demo-version.yml -e version={next} -e error_rate=0.1
  $play playbooks/release.yml -e version={next}
A version that is released already is not released again:
  $play playbooks/release.yml -e version={good}"""
CLOSING_IN_GIT = """
What is released, and what holds a release up:
  $play playbooks/status.yml
  $play playbooks/doctor.yml
Gitea: http://192.168.2.2:30300/lumen/lumen, its admin's password is in the Secret gitea/gitea-admin"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One screen of an app's releases, made of what was read. No clock, no client.

What it is made of is what the action ``status`` returns; parts that could not be read are None and named in
``problems``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .canary.phase import epoch
from .canary.tree import human_duration

Data = Mapping[str, Any]

_STATES = {
    "running": "in progress",
    "expired": "NOT in progress: its Lease has expired; run the same release again to end it",
    "dead": "NOT in progress: the process that held it is dead; run the same release again to end it",
    "open": "NOT in progress: nobody holds it; run the same release again to end it",
}
_LAST = 5
_CHECKS = 6


def screen(status: Data, now: float) -> list[str]:
    """The lines."""
    rows = [
        *_release(status.get("release"), now),
        *_application(status.get("application")),
        ("evidence", str((status.get("evidence") or {}).get("line") or "not looked at")),
        *_before(status.get("previous") or ()),
        *(("not read", problem) for problem in status.get("problems") or ()),
    ]
    width = max(len(name) for name, _text in rows)
    lines = [f"{status['app']} in {status['namespace']}"]
    lines += [f"  {name:<{width}}  {text}" for name, text in rows]
    return [*lines, *_checks(status.get("checks") or ()), "", *_workload(status)]


def _release(release: Data | None, now: float) -> Iterable[tuple[str, str]]:
    if release is None:
        return
    if release["state"] == "none":
        yield "release", "none yet"
        return
    told = f"{release['version']} ({release['id']})"
    if release["state"] == "ended":
        yield "release", f"{told} {ended_text(release, _ago(release.get('finished_at') or '', now))}"
        return
    yield "release", f"{told} {_STATES[release['state']]}"
    yield "phase", f"{release['phase']}, {_ago(release['phase_at'], now)}; begun {_ago(release['started_at'], now)}"
    holder = release.get("holder") or {}
    if holder:
        where = f", process {holder['pid']} on {holder['host']}" if holder.get("pid") else ""
        left = holder["expires"] - now
        until = f"for another {left:.0f} s" if left > 0 else f"expired {-left:.0f} s ago"
        yield "held by", f"run {holder['run']}{where}, renewed {now - holder['renewed']:.0f} s ago, {until}"


def ended_text(release: Data, when: str = "") -> str:
    """``promoted``, ``rolled back 4m ago: why``."""
    outcome = " ".join(part for part in (str(release.get("outcome") or "").replace("_", " "), when) if part)
    return f"{outcome}: {release['reason']}" if release.get("reason") else outcome


def _application(application: Data | None) -> Iterable[tuple[str, str]]:
    if application:
        yield "Argo CD", f"Application {application['name']}: {application['text']}"


def _before(previous: Sequence[Data]) -> Iterable[tuple[str, str]]:
    for number, release in enumerate(previous[:_LAST]):
        at = _moment(release.get("finished_at") or release.get("started_at") or "")
        yield "before" if number == 0 else "", f"{at}  {release['version']}  {ended_text(release)}"


def _checks(checks: Sequence[str]) -> list[str]:
    hidden = len(checks) - _CHECKS
    more = [f"    … {hidden} before"] if hidden > 0 else []
    return ["  measured", *more, *(f"    {check}" for check in checks[-_CHECKS:])] if checks else []


def _workload(status: Data) -> list[str]:
    rollout = status.get("rollout")
    if rollout:
        return [str(line) for line in rollout["tree"].rstrip("\n").splitlines()]
    deployments = status.get("deployments") or ()
    if not deployments:
        known = ", as far as could be read" if status.get("problems") else ""
        return [f"No Rollout and no Deployment {status['app']} in {status['namespace']}{known}."]
    return [line for deployment in deployments for line in _deployment(deployment)]


def _deployment(deployment: Data) -> Iterable[str]:
    step = deployment.get("step")
    at = f", step {step['index'] + 1}/{step['count']}" if step else ""
    counts = f"{deployment['available']}/{deployment['replicas']} available, {deployment['updated']} updated"
    yield f"Deployment {deployment['name']} ({deployment['role']}{at}): {counts}"
    yield f"  {', '.join(deployment['images'])}"
    for pod in deployment["pods"]:
        restarts = f", restarts:{pod['restarts']}" if pod["restarts"] else ""
        yield f"  pod {pod['name']}  {pod['phase']}  ready:{pod['ready']}/{pod['containers']}{restarts}"


def pods_line(status: Data) -> str:
    """How far a canary of plain Deployments is, in one line; empty for a Rollout."""
    told = []
    for each in status.get("deployments") or ():
        step = each.get("step")
        at = f" at step {step['index'] + 1}/{step['count']}" if step else ""
        told.append(f"{each['role']}{at} {each['available']}/{each['replicas']}")
    return f"pods available: {', '.join(told)}" if told else ""


def _ago(text: str, now: float) -> str:
    return f"{human_duration(now - epoch(text))} ago" if text else ""


def _moment(text: str) -> str:
    return text.replace("T", " ").replace("Z", "")

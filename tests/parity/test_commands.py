# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parity commands as others call them: JSON lines in, one line out for each, in order, by plain Python."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def ask(command: str, cases: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    """The answers to the cases, from another directory than the checkout and without its environment."""
    ended = subprocess.run(
        [sys.executable, str(HERE / command)],
        input="".join(json.dumps(case) + "\n" for case in cases),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"LC_ALL": "C"},
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


METRIC = {
    "name": "m",
    "interval": "1m",
    "count": 5,
    "failureLimit": 3,
    "successCondition": "result[0] >= 0.95",
}
GOOD, BAD = {"value": [0.99]}, {"value": [0.4]}


@pytest.mark.parametrize(
    ("results", "phase", "finished_at"),
    [
        ([GOOD], "Successful", 240.0),
        ([BAD], "Failed", 180.0),  # the fourth failure is the first above the limit
        ([BAD, BAD, BAD, GOOD], "Successful", 240.0),  # three in a row are not above it
        ([{"error": "timeout"}], "Error", 40.0),  # the fifth error, ten seconds apart
        ([{"value": []}], "Error", 40.0),  # nothing to index
        ([{"value": ["NaN"]}], "Failed", 180.0),
    ],
)
def test_verdict_of_the_usual_analysis(
    results: list[dict[str, Any]], phase: str, finished_at: float, tmp_path: Path
) -> None:
    (verdict,) = ask("verdicts.py", [{"id": "c", "metrics": [METRIC], "results": {"m": results}}], tmp_path)
    assert (verdict["id"], verdict["phase"], verdict["finishedAt"]) == ("c", phase, finished_at)
    assert verdict["metrics"]["m"]["phase"] == phase
    assert (
        len(verdict["metrics"]["m"]["measurements"])
        == verdict["metrics"]["m"]["count"] + verdict["metrics"]["m"]["error"]
    )


def test_invalid_specification_is_an_answer(tmp_path: Path) -> None:
    invalid = {"id": "i", "metrics": [{**METRIC, "count": 2}], "results": {"m": [GOOD]}}  # fewer than failureLimit
    first, second = ask("verdicts.py", [invalid, {"id": "v", "metrics": [METRIC], "results": {"m": [GOOD]}}], tmp_path)
    assert (first["id"], first["phase"], first["finishedAt"]) == ("i", "Error", None)
    assert first["message"]
    assert (second["id"], second["phase"]) == ("v", "Successful")


@pytest.mark.parametrize(
    ("replicas", "weight", "canary", "stable"),
    [
        # The default surge at the weights of the usual steps.
        *[(n, 20, c, s) for n, c, s in [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 1, 4), (10, 2, 8)]],
        *[(n, 80, c, s) for n, c, s in [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1), (5, 4, 1), (10, 8, 2)]],
        (2, 100, 2, 0),
        (2, 0, 0, 2),
    ],
)
def test_replicas_of_the_usual_steps(replicas: int, weight: int, canary: int, stable: int, tmp_path: Path) -> None:
    case = {"id": "r", "replicas": replicas, "weight": weight}
    assert ask("replicas.py", [case], tmp_path) == [{"id": "r", "canary": canary, "stable": stable}]


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "status": {"podIP": "10.0.0.1"}}
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "n", "namespace": "a"},
    "spec": {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]}],
    },
}
FLOWS = [
    {"from": "203.0.113.7", "to": "a/p", "port": 443},
    {"from": "203.0.113.7", "to": "a/p", "port": 443, "protocol": "UDP"},
    {"from": "a/p", "to": "203.0.113.7", "port": 443, "protocol": "TCP"},
    {"from": "a/p", "to": "10.0.0.1", "port": 1, "protocol": None},
]
REACHABILITY = {"resources": [POD, DENY], "flows": FLOWS}
ANSWER = ["allow", "deny", "deny", "allow"]


def test_reachability_of_a_pod_that_is_closed_but_for_one_port(tmp_path: Path) -> None:
    assert ask("reachability.py", [{"id": "n", **REACHABILITY}], tmp_path) == [{"id": "n", "verdicts": ANSWER}]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"flows": [{"from": "a/no", "to": "a/p", "port": 443}]}, "there is no pod a/no"),
        ({"flows": [*FLOWS, {"from": "a/p", "to": "a/p", "port": 0}]}, "port"),
        ({"flows": [{"from": "a/p", "to": "a/p"}]}, "None is no port"),
        ({"flows": ["a/p"]}, "a flow is a mapping"),
        ({"flows": {}}, "flows is no list"),
        ({"resources": {"kind": "List"}}, "resources is no list"),
        ({"resources": [POD, {**DENY, "spec": {"policyTypes": ["ingress"]}}]}, "spec.policyTypes"),
        ({"resources": [POD, POD]}, "twice"),
        ({"resources": [None]}, "object 1"),
        # No flow asks for it, and still nothing is decided.
        ({"resources": [POD, {**DENY, "spec": {"ingress": [{"from": [{}]}]}}], "flows": []}, "spec.ingress[0].from[0]"),
    ],
)
def test_a_case_that_is_wrong_has_no_verdicts_and_ends_nothing(
    wrong: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    cases = [{"id": "w", **REACHABILITY, **wrong}, {"id": "n", **REACHABILITY}]
    first, second = ask("reachability.py", cases, tmp_path)
    assert (first["id"], first["verdicts"], set(first)) == ("w", [], {"id", "verdicts", "error"})
    assert reason in first["error"]
    assert second == {"id": "n", "verdicts": ANSWER}


@pytest.mark.parametrize("line", [b"x", b"[]", b"\xff", b"[" * 100_000, b'{"flows": ' + b"9" * 5000 + b"}"])
def test_a_line_that_is_no_case_does_not_end_the_stream(line: bytes) -> None:
    good = json.dumps({"id": "n", **REACHABILITY}).encode()
    command = [sys.executable, str(HERE / "reachability.py")]
    done = subprocess.run(command, input=line + b"\n" + good, capture_output=True, check=True, timeout=60)
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["id"], first["verdicts"], set(first)) == (None, [], {"id", "verdicts", "error"})
    assert second == {"id": "n", "verdicts": ANSWER}


@pytest.mark.parametrize(
    ("command", "case"),
    [
        ("reachability.py", REACHABILITY),
        ("verdicts.py", {"metrics": [METRIC], "results": {"m": [GOOD, BAD]}}),
        ("replicas.py", {"replicas": 10, "weight": 20, "maxSurge": "25%", "maxUnavailable": 1}),
    ],
)
def test_thousands_in_seconds_and_in_order(command: str, case: dict[str, Any], tmp_path: Path) -> None:
    before = time.monotonic()
    answers = ask(command, [{"id": str(number), **case} for number in range(2000)], tmp_path)
    assert [answer["id"] for answer in answers] == [str(number) for number in range(2000)]
    assert time.monotonic() - before < 20


def test_reachability_of_flows(tmp_path: Path) -> None:
    def pod(name: str, ip: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "status": {"podIP": ip}}

    deny = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"}, "spec": {}}
    flows = [
        {"from": "default/a", "to": "default/b", "port": 80},
        {"from": "default/a", "to": "192.0.2.1", "port": 53, "protocol": "UDP"},
        {"from": "192.0.2.1", "to": "10.0.0.2", "port": 80},
    ]
    resources = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), deny]
    cases = [
        {"id": "n1", "resources": resources, "flows": flows},
        {"id": "n2", "resources": resources, "flows": [{"from": "default/c", "to": "default/b", "port": 80}]},
        {"id": "n3", "resources": [{"apiVersion": "v1", "kind": "Pod", "metadata": {}}], "flows": []},
        {"id": "n4", "resources": resources[:2], "flows": flows},
    ]
    first, second, third, fourth = ask("reachability.py", cases, tmp_path)
    assert first == {"id": "n1", "verdicts": ["deny", "allow", "deny"]}
    assert (second["id"], second["verdicts"]) == ("n2", [])
    assert "default/c" in second["error"]
    assert third["error"]
    assert fourth == {"id": "n4", "verdicts": ["allow", "allow", "allow"]}


@pytest.mark.parametrize("broken", [False, True])
def test_a_long_line_is_answered_as_short_ones_are(broken: bool, tmp_path: Path) -> None:
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}} for number in range(40)]
    only = {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n"}, "spec": only}
    flows = [
        {"from": f"default/p{one}", "to": f"default/p{other}", "port": 80 if broken and one == 39 else 81}
        for one in range(40)
        for other in range(40)
    ] * 15
    if broken:
        flows[-1] = {"from": "default/p0", "to": "default/]", "port": 80}
    cases = [
        {"id": 1, "resources": [*pods, policy], "flows": flows},
        {"id": 2, "resources": [*pods, policy], "flows": flows[:50]},
    ]
    assert len(json.dumps(cases[0])) > 1 << 20
    long, short = ask("reachability.py", cases, tmp_path)
    if broken:
        assert (long["id"], long["verdicts"]) == (1, [])
        assert "default/]" in long["error"]
    else:
        assert len(long["verdicts"]) == len(flows)
        assert long["verdicts"][:50] == short["verdicts"]
        assert long["verdicts"].count("allow") == 40 * 15

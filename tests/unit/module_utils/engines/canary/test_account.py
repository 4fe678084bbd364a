# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the journal keeps of a canary."""

from __future__ import annotations

from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.account import LIMIT, Account, beyond


def test_what_is_kept_has_an_end() -> None:
    account = Account([{"phase": "canary_step", "seen": {"hash": "h", "pods": [{"at": "x"}] * (LIMIT - 1)}}])
    news = account.news("h", [], [{"at": "x"}] * (LIMIT + 5), [{"run": "r", "at": "y"}] * (LIMIT + 5), {})
    assert (len(news["pods"]), len(news["measurements"])) == (1, LIMIT)


def test_only_what_is_new_is_kept() -> None:
    step = {"index": 0, "kind": "setWeight", "weight": 20, "actual_weight": 25, "result": "completed"}
    running = {"index": 1, "kind": "analysis", "weight": 20, "actual_weight": None, "result": "running"}
    made = {"run": "r", "metric": "m", "at": "x", "value": "[1]", "phase": "Successful"}
    news = Account([]).news("h", [step, running], [{"at": "x"}], [made, made], {"m": "result > 0"})
    assert news == {
        "hash": "h",
        "steps": [step],
        "pods": [{"at": "x"}],
        "measurements": [made, made],
        "conditions": {"m": "result > 0"},
    }
    account = Account([{"phase": "canary_step", "seen": news}])
    assert account.news("h", [step, running], [{"at": "x"}], [made, made], {"m": "result > 0"}) == {}
    assert account.steps("h") == {0: step}
    assert account.steps("other") == {}
    assert beyond([made], [made, made]) == [made]


def test_what_was_written_twice_because_its_answer_was_lost_counts_once() -> None:
    seen = {"hash": "h", "pods": [{"at": "x"}], "measurements": [{"run": "r", "at": "x", "value": "[1]"}]}
    account = Account([{"phase": "canary_step", "seen": seen}, {"phase": "canary_step", "seen": dict(seen)}])
    assert (account.pods, account.measurements) == (seen["pods"], seen["measurements"])


def test_an_abort_tells_all_steps() -> None:
    aborted = [{"index": 0, "result": "completed"}, {"index": 1, "result": "aborted"}]
    entries = [
        {"phase": "canary_step", "seen": {"hash": "h", "steps": aborted[:1]}},
        {"phase": "canary_aborting", "steps": aborted},
    ]
    assert Account(entries[:1]).all_steps() == aborted[:1]
    assert Account(entries).all_steps() == aborted

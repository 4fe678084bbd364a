# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long an API server that does not answer is asked again, and what is not asked again at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import (
    Conflict,
    Forbidden,
    KubeError,
    NotFound,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.patience import Patience
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream

AWAY = Unreachable("get Lease: no answer", reason="NoAnswer", seen=1)


def until(clock: FakeClock, seconds: float, error: KubeError = AWAY) -> Callable[[], Any]:
    """It answers so many seconds after the start."""

    def ask() -> str:
        if clock.monotonic() < seconds:
            raise error
        return "answer"

    return ask


def test_a_server_that_restarts_is_waited_for_and_told_of_once(clock: FakeClock, stream: FakeStream) -> None:
    patience = Patience(clock, 60.0, stream.line, stream.check)
    assert patience.insist(until(clock, 40)) == "answer"
    assert clock.monotonic() == 40
    assert stream.lines == ["get Lease: no answer; it is asked again for up to 60 s"]


def test_one_request_that_failed_is_not_worth_a_line(clock: FakeClock, stream: FakeStream) -> None:
    assert Patience(clock, 60.0, stream.line).insist(until(clock, 1)) == "answer"
    assert stream.lines == []


def test_it_is_not_waited_for_longer_than_was_said(clock: FakeClock) -> None:
    with pytest.raises(Unreachable, match=r"no answer \(asked again for 60 s\)") as caught:
        Patience(clock, 60.0).insist(until(clock, 1000))
    assert clock.monotonic() == 60
    assert (caught.value.reason, caught.value.details) == ("NoAnswer", {"seen": 1})


@pytest.mark.parametrize("error", [NotFound("no", 404), Conflict("no", 409), Forbidden("no", 403), KubeError("what?")])
def test_what_is_an_answer_is_not_waited_for(clock: FakeClock, error: KubeError) -> None:
    with pytest.raises(type(error), match=error.message):
        Patience(clock, 60.0).insist(until(clock, 1000, error))
    assert clock.monotonic() == 0


def test_one_that_has_just_started_may_refuse_everybody(clock: FakeClock) -> None:
    errors: list[KubeError] = [AWAY, Forbidden("who are you?", 401), Forbidden("no roles yet", 403)]

    def ask() -> str:
        if errors:
            raise errors.pop(0)
        return "answer"

    assert Patience(clock, 60.0).insist(ask) == "answer"


def test_without_a_time_nothing_is_waited_for(clock: FakeClock) -> None:
    with pytest.raises(Unreachable, match=r"no answer$"):
        Patience(clock, 0.0).insist(until(clock, 1000))
    assert clock.monotonic() == 0


def test_one_that_nobody_knows_is_waited_for_once_it_has_answered(clock: FakeClock) -> None:
    patience = Patience(clock, 60.0, known=False)
    with pytest.raises(Unreachable):
        patience.insist(until(clock, 30))
    assert clock.monotonic() == 0
    assert patience.insist(lambda: "answer") == "answer"
    assert patience.insist(until(clock, 30)) == "answer"


def test_nothing_is_asked_again_for_a_parent_that_is_gone(clock: FakeClock, stream: FakeStream) -> None:
    clock.at(10, stream.die)
    asked: list[float] = []

    def ask() -> None:
        asked.append(clock.monotonic())
        raise AWAY

    with pytest.raises(Exception, match="process 1000"):
        Patience(clock, 60.0, stream.line, stream.check).insist(ask)
    assert asked[-1] == 9

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All checks over all facts, and the result as text. One check that fails does not keep the others from being made."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from .analysis import check_analysis
from .application import check_applications
from .facts import ERROR, INFO, SEVERITIES, WARNING, Facts, Finding, how
from .pipeline import check_git, check_pipeline
from .pods import check_pods, check_replica_sets, check_workloads
from .policies import check_policies
from .rollout import check_rollout

_DAY = 86400.0
_IDENTITY_SECONDS = 7 * _DAY


def check_unreached(facts: Facts) -> Iterator[Finding]:
    """What could not be looked at is a finding as well: nothing is known of it."""
    for each in facts.unreached:
        yield Finding(
            "not-allowed" if each.forbidden else "not-reached",
            ERROR,
            f"{each.part} could not be looked at",
            each.part,
            each.why,
            [],
            [
                "Give the identity the right (role release_identity), or name another kubeconfig or token."
                if each.forbidden
                else "See that it runs, and that its address is the right one. The other findings do not depend on it."
            ],
        )


def check_release(facts: Facts) -> Iterator[Finding]:
    """A release that nobody works on any more."""
    record = facts.record
    if not record or record.get("outcome") or facts.lease_expires >= facts.now:
        return
    yield Finding(
        "release-open",
        WARNING,
        "A release was begun and not ended",
        f"Release {record.get('id')}",
        "Its run has stopped renewing the Lease: it was killed, or its machine went away. Another version is refused "
        "until it has ended.",
        [f"its last phase is {record.get('phase')}, its run {record.get('run')}"],
        [
            how(
                "Run it again, it is taken up where it was:",
                f"ansible-playbook -i INVENTORY lumen.airgap.release -e version={record.get('version')}",
            )
        ],
    )


def check_identity(facts: Facts) -> Iterator[Finding]:
    """The token that releases run with is near its end."""
    left = facts.identity_expires - facts.now
    if facts.identity_expires and left < _IDENTITY_SECONDS:
        yield Finding(
            "identity-ends",
            WARNING,
            "The kubeconfig of releases is near its end",
            "Token in the kubeconfig",
            f"Its token ends in {left / _DAY:.1f} days. After that every release is refused with 401.",
            [],
            [
                how(
                    "Renew it, with an administrator's kubeconfig:",
                    "ansible-playbook -i INVENTORY lumen.airgap.site --tags release_identity",
                )
            ],
        )


CHECKS: Sequence[Callable[[Facts], Iterator[Finding]]] = (
    check_unreached,
    check_pipeline,
    check_applications,
    check_git,
    check_pods,
    check_replica_sets,
    check_analysis,
    check_rollout,
    check_workloads,
    check_policies,
    check_release,
    check_identity,
)


def diagnose(facts: Facts, checks: Sequence[Callable[[Facts], Iterator[Finding]]] = CHECKS) -> list[Finding]:
    """Everything that is found, the worst first, otherwise in the order in which a release meets it."""
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(facts)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            found.append(
                Finding(
                    "not-understood",
                    WARNING,
                    "Something has a shape that is not understood",
                    check.__name__,
                    f"{type(error).__name__}: {error}. The other findings do not depend on it.",
                    [],
                    ["Please report it, with the object."],
                )
            )
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


_MARKS = {ERROR: "\u2716", WARNING: "\u26a0", INFO: "\u2139"}
_NAMES = {ERROR: ("error", "errors"), WARNING: ("warning", "warnings"), INFO: ("note", "notes")}
_WIDTH = 110


def text(head: str, findings: Sequence[Finding], looked_at: Sequence[str]) -> list[str]:
    """Lines for a terminal."""
    counts = [(severity, sum(each.severity == severity for each in findings)) for severity in SEVERITIES]
    summary = ", ".join(f"{count} {_NAMES[severity][count != 1]}" for severity, count in counts if count)
    lines = [f"{head}: {summary or 'nothing is wrong'}"]
    for each in findings:
        lines += ["", f"{_MARKS[each.severity]} {each.title}  [{each.code}]"]
        lines += _part("", each.subject) if each.subject not in each.title else []
        lines += _part("cause", each.cause)
        lines += _items("seen", [f"- {item}" for item in each.evidence], 2)
        ways = [f"{number}. {item}" for number, item in enumerate(each.remedy, 1)]
        lines += _items("do", ways if len(ways) > 1 else each.remedy, 3 if len(ways) > 1 else 0)
    return [*lines, "", *_wrapped("looked at: ", ", ".join(looked_at) or "nothing")]


def _part(label: str, content: str) -> list[str]:
    return _wrapped(f"  {label:<6}", content)


def _items(label: str, items: Sequence[str], indent: int) -> list[str]:
    lines: list[str] = []
    for item in items:
        content, *commands = item.split("\n$ ")
        lines += _wrapped(f"  {'' if lines else label:<6}", content, indent)
        lines += [f"{'':<{8 + indent}}$ {command}" for command in commands]
    return lines


def _wrapped(first: str, content: str, indent: int = 0) -> list[str]:
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(
        " ".join(content.split()),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * (len(first) + indent),
        **options,
    ) or [first.rstrip()]

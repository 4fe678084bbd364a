# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conditions looked at before anything is measured: do they fit what is measured, and how would they be right.

``{{args.x}}`` whose value is not known stands for a number here, which it is nearly always.
"""

from __future__ import annotations

import re

from . import gotypes
from .expression import SCALAR, VECTOR, Condition, ExpressionError, Value, compile_condition
from .gotypes import Type
from .lexer import BRACKET, NAME, NUMBER, OPERATOR, Token, tokenize
from .metric import ERROR, Metric

_TAG = re.compile(r"\{\{.*?\}\}", re.DOTALL)
# Numbers that nobody writes, one for each argument.
_MASK = 7_130_071
_MASKED = re.compile(r"\b71300([0-9]{2})\b")
# What reads the whole vector, so that `result` in it is right as it is.
_WHOLE = ("len", "all", "any", "none", "one", "filter", "map", "count", "sum", "max", "min", "mean", "median", "isNil")


# Of the condition that is shown where nothing tells which was meant: the success rate that the seed asks for.
_THRESHOLD = 0.95


# Results that a condition which is right at all has a verdict on, one of them at least.
_SCALARS: tuple[Value, ...] = (0.5, 0.0, 1.0, 100.0)
_VECTORS: tuple[Value, ...] = ([0.5], [0.0], [1.0], [100.0], [0.5] * 10, [0.0] * 10, [])


class Masked:
    """A condition whose arguments are numbers for now; ``unmask`` puts them back into a text made of it."""

    def __init__(self, text: str) -> None:
        self.tags = _TAG.findall(text)
        numbers = iter(range(_MASK, _MASK + len(self.tags)))
        self.text = _TAG.sub(lambda _tag: str(next(numbers)), text)

    def unmask(self, text: str) -> str:
        """A text made of ``text``, with its arguments again."""
        return _MASKED.sub(lambda number: self.tags[int(number[0]) - _MASK], text)


def problem_with(text: str, kind: Type) -> ExpressionError | None:
    """Why a condition is an error over every result of a kind (VECTOR or SCALAR), by its types and over samples."""
    try:
        condition = compile_condition(text, kind)
    except ExpressionError as problem:
        return problem
    if condition.type not in (gotypes.BOOL, gotypes.ANY):
        return ExpressionError(f"expected bool, but got {gotypes.shown(condition.type)}")
    problems = [_tried(condition, value) for value in (_VECTORS if kind == VECTOR else _SCALARS)]
    return problems[0] if all(problems) else None


def _tried(condition: Condition, value: Value) -> ExpressionError | None:
    try:
        condition.evaluate(value)
    except ExpressionError as problem:
        return problem
    return None


def mentions(text: str, name: str) -> bool:
    """Whether a name is in a condition."""
    return any(token.kind == NAME and token.text == name for token in _tokens(text))


def verdict(success: str, failure: str, value: Value) -> str:
    """The phase that the two conditions give one measurement."""
    try:
        return Metric("", success_condition=success, failure_condition=failure).judge(value)
    except ExpressionError:
        return ERROR


def zero_division(text: str) -> tuple[int, int] | None:
    """Where ``/ 0`` or ``% 0`` stands in a condition, sign and number."""
    tokens = _tokens(text)
    for sign, number in zip(tokens, tokens[1:]):
        if sign.kind == OPERATOR and sign.text in ("/", "%") and number.kind == NUMBER and _is_zero(number.text):
            return sign.at, number.at + len(number.text)
    return None


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False


def fitted(text: str, kind: Type) -> str:
    """A condition rewritten for results of a kind; empty when no rewriting helps.

    On a vector ``result`` and ``default(result, …)`` become ``result[0]``, on a scalar ``result[0]`` becomes
    ``result`` and what asks for the length goes. A number alone is compared with 0.
    """
    renamed = _renamed(text, kind)
    for candidate in (renamed, f"{renamed} > 0", _bare_comparison(text, kind)):
        if candidate and problem_with(candidate, kind) is None:
            return candidate
    return ""


def _renamed(text: str, kind: Type) -> str:
    text = re.sub(r"default\(\s*(result(?:\[0\])?)\s*,[^()]*\)", r"\1", text)
    text = re.sub(r"(?<![=!<>])=(?!=)", "==", text)
    if kind == SCALAR:
        text = re.sub(r"len\(result\)\s*(?:==|>|>=|!=)\s*\d+\s*(?:\|\||&&|or|and)\s*", "", text)
        return re.sub(r"\bresult\[\d+\]", "result", text)
    edits = [token.at for token in _result_tokens(text)]
    for at in reversed(edits):
        text = f"{text[:at]}result[0]{text[at + len('result') :]}"
    return text


def _result_tokens(text: str) -> list[Token]:
    """Every ``result`` that is compared whole."""
    tokens = _tokens(text)
    found = []
    for place, token in enumerate(tokens):
        if token.kind != NAME or token.text != "result":
            continue
        after = tokens[place + 1]
        in_call = place > 1 and tokens[place - 1].is_(BRACKET, "(") and tokens[place - 2].text in _WHOLE
        if not (in_call or after.is_(BRACKET, "[") or after.is_(OPERATOR, ".")):
            found.append(token)
    return found


def _bare_comparison(text: str, kind: Type) -> str:
    """What is left of a condition when only its last comparison with a number is understood."""
    found = re.findall(r"(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?)", text)
    operand = "result[0]" if kind == VECTOR else "result"
    return f"{operand} {found[-1][0]} {found[-1][1]}" if found else ""


def example(kind: Type, failure: bool = False) -> str:
    """A condition to begin with, where nothing tells which was meant."""
    operand = "result[0]" if kind == VECTOR else "result"
    return guarded(f"{operand} {'<' if failure else '>='} {_THRESHOLD}", kind, failure)


def guarded(text: str, kind: Type, failure: bool) -> str:
    """A condition that also says what no data and NaN mean: they do not pass."""
    if kind == SCALAR:
        checks = ["isNaN(result)"]
    elif re.search(r"\bresult\[0\]", text):
        checks = ["len(result) == 0", "isNaN(result[0])"]
    else:
        checks = ["len(result) == 0", "any(result, isNaN(#))"]
    text = _without_length(text) or text
    inner = f"({text})" if re.search(r"\|\||&&|\bor\b|\band\b|\?|\bnot\b", text) else text
    if failure:
        return " || ".join([*checks, inner])
    negated = {"len(result) == 0": "len(result) > 0"}
    return " && ".join([*(negated.get(check, f"!{check}") for check in checks), inner])


def _without_length(text: str) -> str:
    """Without a leading ``len(result) == 0 ||`` or ``len(result) > 0 &&``, which the guard says better."""
    return re.sub(r"^\s*len\(result\)\s*(?:==\s*0\s*(?:\|\||or\b)|(?:>|!=)\s*0\s*(?:&&|and\b))\s*", "", text)


def _tokens(text: str) -> list[Token]:
    try:
        return tokenize(text)
    except ExpressionError:
        return []

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conditions looked at before anything is measured: do they fit what is measured, and how would they be right.

``{{args.x}}`` whose value is not known stands for a number here, which it is nearly always.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import gotypes
from .expression import SCALAR, VECTOR, Condition, ExpressionError, Value, compile_condition
from .gotypes import Type
from .lexer import BRACKET, NAME, NUMBER, OPERATOR, Token, tokenize
from .metric import ERROR, SUCCESSFUL, Metric

_TAG = re.compile(r"\{\{.*?\}\}", re.DOTALL)
# Numbers that nobody writes, one for each argument.
_MASK = 7_130_071
_MASKED = re.compile(r"\b71300([0-9]{2})\b")
# What reads the whole vector, so that `result` in it is right as it is.
_WHOLE = ("len", "all", "any", "none", "one", "filter", "map", "count", "sum", "max", "min", "mean", "median", "isNil")

# A predicate over the elements; of a scalar there is one.
_EACH = re.compile(r"\b(?:all|any|one)\(\s*result\s*,\s*((?:[^()]|\([^()]*\))*)\)")
# A name (no call, no arithmetic), a comparison and a number, behind which an operator may be left over.
_BARE = re.compile(r"[^<>=!&|?:+*/%,()-]*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?)\s*(?:&&|\|\||and|or)?\s*")

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


def passes(success: str, failure: str, kind: Type) -> bool:
    """Whether some measurement is Successful: of the usual ones, and those near to the numbers in the conditions."""
    numbers = [float(token.text) for text in (success, failure) for token in _tokens(text) if _is_number(token)]
    near = [number + step for number in numbers for step in (-1.0, 0.0, 1.0)]
    samples = [*_VECTORS, *([each] for each in near)] if kind == VECTOR else [*_SCALARS, *near]
    return any(verdict(success, failure, sample) == SUCCESSFUL for sample in samples)


def _is_number(token: Token) -> bool:
    return token.kind == NUMBER and re.fullmatch(r"[\d.]+(?:[eE][+-]?\d+)?", token.text) is not None


def only_length(texts: Iterable[str]) -> bool:
    """Whether all that conditions ask of the result is how many elements it has."""
    return not any(mentions(re.sub(r"\blen\(\s*result\s*\)", "", text), "result") for text in texts)


def without_zero_divisions(text: str) -> str:
    """A condition without any ``/ 0`` and ``% 0``."""
    while place := zero_division(text):
        text = text[: place[0]].rstrip() + text[place[1] :]
    return text


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
    renamed, plain = _renamed(text, kind), _plain(text)
    for candidate in (renamed, f"{renamed} > 0", _renamed(plain, kind), _bare_comparison(plain, kind)):
        if candidate and problem_with(candidate, kind) is None:
            return candidate
    return ""


def compares(text: str) -> bool:
    """Whether a condition names a threshold, so that no other may be made up for it."""
    return re.search(r"[<>=≥≤]\s*-?\s*[.\d]", _without_length(text)) is not None


def _plain(text: str) -> str:
    """With ASCII signs and decimal points. ``1,000`` stays: whether it is one or a thousand is not known."""
    text = text.replace("≥", ">=").replace("≤", "<=")
    return re.sub(r"\b(?:(0),(\d+)|(\d+),(\d{1,2}|\d{4,}))(?![\d.,])", _with_point, text)


def _with_point(number: re.Match[str]) -> str:
    whole, fraction = (part for part in number.groups() if part is not None)
    return f"{whole}.{fraction}"


def _renamed(text: str, kind: Type) -> str:
    text = re.sub(r"default\(\s*(result(?:\[0\])?)\s*,[^()]*\)", r"\1", text)
    text = re.sub(r"(?<![=!<>])=(?!=)", "==", text)
    if kind == SCALAR:
        text = _EACH.sub(lambda each: f"({each[1].replace('#', 'result')})", text)
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
    """A comparison of one operand, whatever it is called, with a number; empty when the condition says more."""
    found = _BARE.fullmatch(_without_length(text))
    operand = "result[0]" if kind == VECTOR else "result"
    return f"{operand} {found[1]} {found[2]}" if found else ""


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
    inner = f"({text})" if re.search(r"[|&?;]|\b(?:or|and|not|in|let)\b", text) else text
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

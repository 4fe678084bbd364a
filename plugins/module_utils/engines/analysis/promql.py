# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a PromQL query says of itself: the type of its answer, its windows, its selectors and its divisions.

Not a whole parser: it follows the grammar of Prometheus 3 (promql/parser) as far as these four need it, and takes an
argument of a template (``{{args.x}}``) wherever a name or a number may stand. Offsets are places in the query's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

VECTOR, SCALAR, MATRIX, STRING = "vector", "scalar", "matrix", "string"

NUMBER, DURATION, NAME, TEXT, TAG, SIGN = "number", "duration", "name", "text", "tag", "sign"

_TOKEN = re.compile(
    r"""
      (?P<skip>\s+|\#[^\n]*)
    | (?P<tag>\{\{[^{}]*\}\})
    | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
    | (?P<duration>(?:[0-9]+(?:ms|[smhdwy]))+(?![A-Za-z0-9_]))
    | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_:]*)
    | (?P<sign>==|!=|=~|!~|>=|<=|[-+*/%^<>=@(){}\[\],:])
    """,
    re.VERBOSE,
)
_PART = re.compile(r"([0-9]+)(ms|[smhdwy])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_SCALARS = ("scalar", "time", "pi")
_ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
_SETS = ("and", "or", "unless")
# From what binds least to what binds most.
_LEVELS = (("or",), ("and", "unless"), _COMPARISONS, ("+", "-"), ("*", "/", "%", "atan2"), ("^",))
_TURNED = str.maketrans("<>", "><")
# Functions whose answer over nothing, or over too little, is NaN.
_NAN_FUNCTIONS = frozenset(
    (
        *("histogram_quantile", "histogram_fraction", "histogram_avg", "histogram_stddev", "histogram_stdvar"),
        *("quantile", "quantile_over_time", "scalar", "stddev", "stdvar", "sqrt", "ln", "log2", "log10"),
    )
)
# What counts: never zero where it is there, and never NaN.
_COUNTS = frozenset(("count", "count_over_time", "group", "absent", "absent_over_time", "present_over_time"))
_GROUPING = ("on", "ignoring", "group_left", "group_right", "by", "without")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
# A number may also be written as a word.
_WORD_NUMBERS = ("inf", "nan")
#: How deep brackets may stand in each other; Python's own limit is not far above.
MAX_DEPTH = 100


class QueryError(ValueError):
    """A query that Prometheus would refuse; ``at`` is where in its text."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Token(NamedTuple):
    """A token, and where it begins and ends in the query."""

    kind: str
    text: str
    at: int
    end: int


class Matcher(NamedTuple):
    """One ``label="value"`` of a selector; the value without its quotes."""

    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """A metric with its matchers. Another matcher may be put in at ``at``, behind ``joint``: ``{`` (and a ``}`` after
    it) where there are no braces yet, ``,`` behind other matchers, or nothing."""

    name: str
    matchers: tuple[Matcher, ...]
    at: int
    joint: str


class Window(NamedTuple):
    """``[2m]``: its seconds (None when an argument that is not known gives them), and where its text stands.

    Of a subquery ``[10m:1m]`` it is the first, over which the steps are taken."""

    seconds: float | None
    text: str
    at: int
    end: int
    subquery: bool


class Division(NamedTuple):
    """``a / b`` or ``a % b``. ``constant``: the divisor if it is a number; ``at`` and ``end`` hold sign and number."""

    constant: float | None
    at: int
    end: int


class Query(NamedTuple):
    """What is known of a query."""

    type: str
    windows: tuple[Window, ...]
    selectors: tuple[Selector, ...]
    divisions: tuple[Division, ...]
    functions: frozenset[str]
    """Names of functions and aggregations in it."""
    may_be_nan: bool
    """Whether NaN can be in its answer: of a division whose divisor may be zero, or of a function that gives it."""

    @property
    def reach(self) -> float:
        """Seconds that it looks back at most: its longest window, inside its longest subquery; 0 without any."""
        plain, steps = (
            max((window.seconds or 0.0 for window in self.windows if window.subquery is subquery), default=0.0)
            for subquery in (False, True)
        )
        return plain + steps


class _Operand(NamedTuple):
    """What is known of a part of a query while it is read."""

    type: str
    text: str = ""
    """Its tokens, without brackets around all of them: operands of the same text are the same."""
    constant: float | None = None
    zero: bool = True
    """Whether it may be zero where it is there."""
    nan: frozenset[str] = frozenset()
    """What makes it NaN: the texts of divisors that may be zero, and the names of functions."""
    nonzero: frozenset[str] = frozenset()
    """Texts of what is not zero wherever it is there."""
    zeros: frozenset[str] = frozenset()
    """Texts of what is zero wherever it is there."""


def tokenize(text: str) -> list[Token]:
    """The tokens of a query, without spaces and comments. Raises QueryError."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            what = "a string without an end" if text[at] in "\"'`" else f"the character {text[at]!r}"
            raise QueryError(f"{what} is not PromQL", at)
        if found.lastgroup != "skip":
            tokens.append(Token(str(found.lastgroup), found.group(), at, found.end()))
        at = found.end()
    return tokens


def seconds_of(text: str) -> float | None:
    """Seconds of a PromQL duration such as ``1h30m``, or of a plain number; None for anything else."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def duration_text(seconds: float) -> str:
    """Seconds as a duration that PromQL and Go both read: ``2m``, ``90s``."""
    whole = max(1, round(seconds))
    return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"


def read_query(text: str, args: Mapping[str, str] | None = None) -> Query:
    """Read a query; ``args`` gives the values of the arguments that are known. Raises QueryError."""
    return _Reader(text, args or {}).query()


def _binds(before: str, sign: str) -> bool:
    """Whether the operator before an operand takes it, and not the one behind it."""
    if sign == "^":
        return False
    return _precedence(before) >= _precedence(sign)


def _precedence(sign: str) -> int:
    sign = sign.partition(" ")[0].lower()
    return next(level for level, signs in enumerate(_LEVELS) if sign in signs)


def _join(operands: list[_Operand], signs: list[str]) -> None:
    right, left, sign = operands.pop(), operands.pop(), signs.pop()
    type_ = SCALAR if left.type == right.type == SCALAR else VECTOR
    operands.append(_joined(left, sign, right)._replace(type=type_, text=f"{left.text} {sign} {right.text}"))


def _joined(left: _Operand, sign: str, right: _Operand) -> _Operand:
    nan = left.nan | right.nan
    if sign.endswith(" bool"):
        return _Operand(VECTOR)
    if sign in ("and", "unless"):
        known = right.nonzero if sign == "and" else right.zeros
        return left._replace(nan=left.nan - known, zero=left.zero and left.text not in known, constant=None)
    if sign == "or":
        return _Operand(VECTOR, zero=left.zero or right.zero, nan=nan)
    if sign in _COMPARISONS:
        return _kept(left, sign, right)
    if sign in ("/", "%"):
        unsure = right.constant is None and right.zero and (left.zero or sign == "%")
        return _Operand(VECTOR, zero=left.zero, nan=nan | {right.text} if unsure else nan)
    if sign == "+":
        return _Operand(VECTOR, zero=not any((each.constant or 0) > 0 for each in (left, right)), nan=nan)
    return _Operand(VECTOR, zero=sign != "*" or left.zero or right.zero, nan=nan)


def _kept(left: _Operand, sign: str, right: _Operand) -> _Operand:
    """What a comparison keeps: the values of its left side, or of the right one when the left is a number."""
    kept, limit = (right, left.constant) if left.type == SCALAR else (left, right.constant)
    if left.type == SCALAR:
        sign = sign.translate(_TURNED)
    nan = left.nan | right.nan if sign == "!=" else frozenset()  # NaN is not equal to anything, nor less, nor more
    if limit is None:
        return kept._replace(nan=nan)
    apart = (sign in (">", "!=") and limit == 0) or (sign in (">", ">=", "==") and limit > 0)
    same = sign in ("==", "<=") and limit == 0
    return kept._replace(
        zero=kept.zero and not apart,
        nan=nan,
        nonzero=kept.nonzero | {kept.text} if apart else kept.nonzero,
        zeros=kept.zeros | {kept.text} if same else kept.zeros,
    )


def _called(name: str, given: Sequence[_Operand]) -> _Operand:
    """The answer of a function or an aggregation over its arguments."""
    type_ = SCALAR if name in _SCALARS else VECTOR
    if name in _COUNTS:
        return _Operand(type_, zero=False)
    nan = frozenset[str]().union(*(each.nan for each in given))
    if name in _NAN_FUNCTIONS:
        nan |= {name}
    zero = True
    if name == "vector" and given:
        zero = given[0].zero
    elif name in ("clamp_min", "clamp") and len(given) > 1:
        zero = (given[1].constant or 0) <= 0
    return _Operand(type_, zero=zero, nan=nan)


def _number(value: float | None) -> _Operand:
    return _Operand(SCALAR, constant=value, zero=value == 0)


def _float(text: str) -> float:
    return float(int(text, 16)) if text[:2].lower() == "0x" else float(text)


class _Reader:
    def __init__(self, text: str, args: Mapping[str, str]) -> None:
        self.args = args
        self.tokens = tokenize(text)
        self.size = len(text)
        self.place = 0
        self.depth = 0
        self.windows: list[Window] = []
        self.selectors: list[Selector] = []
        self.divisions: list[Division] = []
        self.functions: set[str] = set()

    def query(self) -> Query:
        read = self.expression()
        if self.place < len(self.tokens):
            raise self.unexpected()
        found = (tuple(self.windows), tuple(self.selectors), tuple(self.divisions))
        return Query(read.type, *found, frozenset(self.functions), bool(read.nan))

    # -- tokens --

    def peek(self, ahead: int = 0) -> Token:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else Token("", "", self.size, self.size)

    def take(self) -> Token:
        token = self.peek()
        self.place += 1
        return token

    def at(self, *texts: str) -> bool:
        token = self.peek()
        return token.kind in (SIGN, NAME) and token.text.lower() in texts

    def accept(self, *texts: str) -> Token | None:
        return self.take() if self.at(*texts) else None

    def expect(self, text: str) -> Token:
        if not self.at(text):
            raise self.unexpected(f", {text} is expected")
        return self.take()

    def unexpected(self, hint: str = "") -> QueryError:
        token = self.peek()
        found = f"{token.text!r} is not expected here" if token.kind else "it ends early"
        return QueryError(f"{found}{hint}", token.at)

    # -- grammar --

    def expression(self) -> _Operand:
        """Operands and what joins them."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise QueryError(f"it is nested more than {MAX_DEPTH} deep", self.peek().at)
        operands = [self.operand()]
        signs: list[str] = []
        while self.at(*_ARITHMETIC, *_COMPARISONS, *_SETS):
            sign = self.take()
            keeps = sign.text not in _COMPARISONS or not self.accept("bool")
            self.matching()
            if sign.text in ("/", "%"):
                self.divisions.append(self.division(sign))
            operand = self.operand()
            # What binds tighter than this sign is joined first.
            while signs and _binds(signs[-1], sign.text):
                _join(operands, signs)
            signs.append(sign.text.lower() if keeps else f"{sign.text} bool")
            operands.append(operand)
        while signs:
            _join(operands, signs)
        self.depth -= 1
        return operands[0]

    def matching(self) -> None:
        while self.at(*_GROUPING):
            self.take()
            if self.at("("):
                self.labels()

    def labels(self) -> None:
        self.expect("(")
        while not self.accept(")"):
            if self.take().kind not in (NAME, TEXT, TAG):
                self.place -= 1
                raise self.unexpected(", a label is expected")
            if not self.at(")"):
                self.expect(",")

    def division(self, sign: Token) -> Division:
        token = self.peek()
        value = self.tag_value(token) if token.kind == TAG else token.text if token.kind == NUMBER else None
        try:
            constant = float(value) if value is not None else None
        except ValueError:
            constant = None
        return Division(constant, sign.at, token.end)

    def tag_value(self, token: Token) -> str | None:
        return self.args.get(token.text[2:-2].strip().partition(".")[2])

    def operand(self) -> _Operand:
        while self.accept("-", "+"):
            pass
        first = self.place
        read = self.primary()
        type_ = self.suffixes(read.type)
        text = " ".join(token.text for token in self.tokens[first : self.place])
        return read._replace(type=type_, text=read.text or text)

    def primary(self) -> _Operand:
        token = self.peek()
        if token.kind in (NUMBER, DURATION):
            self.take()
            return _number(seconds_of(token.text) if token.kind == DURATION else _float(token.text))
        if token.kind == TEXT:
            self.take()
            return _Operand(STRING)
        if token.kind == TAG:
            return self.argument()
        if self.accept("("):
            read = self.expression()
            self.expect(")")
            return read
        if self.at("{"):
            self.selector("")
            return _Operand(VECTOR)
        if token.kind != NAME:
            raise self.unexpected()
        return self.named()

    def argument(self) -> _Operand:
        """An argument of the template in the place of an operand: a number, or the name of a metric."""
        token = self.take()
        value = self.tag_value(token)
        if value is not None and seconds_of(value) is not None:
            return _number(seconds_of(value))
        self.selector(token.text)
        return _Operand(VECTOR)

    def named(self) -> _Operand:
        name = self.take().text
        if name.lower() in _WORD_NUMBERS:
            return _Operand(SCALAR, zero=False)
        if not self.at("(", "by", "without"):
            self.selector(name)
            return _Operand(VECTOR)
        self.functions.add(name.lower())
        self.grouping()
        self.expect("(")
        given: list[_Operand] = []
        while not self.accept(")"):
            given.append(self.expression())
            if not self.at(")"):
                self.expect(",")
        self.grouping()
        return _called(name.lower(), given)

    def grouping(self) -> None:
        if self.accept("by", "without"):
            self.labels()

    def selector(self, name: str) -> None:
        after_name = self.tokens[self.place - 1].end if name else self.peek().at
        if not self.accept("{"):
            self.selectors.append(Selector(name, (), after_name, "{"))
            return
        matchers: list[Matcher] = []
        while not self.at("}"):
            label = self.take()
            if label.kind == TEXT and self.at(",", "}"):
                name = label.text[1:-1]  # {"a name in quotes", …}
            elif label.kind == TAG and self.at(",", "}"):
                pass  # whole matchers in an argument
            elif label.kind in (NAME, TEXT, TAG) and self.at("=", "!=", "=~", "!~"):
                operator, value = self.take(), self.take()
                if value.kind not in (TEXT, TAG):
                    self.place -= 1
                    raise self.unexpected(", a label's value is expected")
                matchers.append(Matcher(label.text.strip("\"'`"), operator.text, value.text.strip("\"'`")))
            else:
                self.place -= 1
                raise self.unexpected(", a matcher is expected")
            if not self.at("}"):
                self.expect(",")
        joint = "" if self.tokens[self.place - 1].text in ("{", ",") else ","
        self.selectors.append(Selector(name, tuple(matchers), self.take().at, joint))

    def suffixes(self, type_: str) -> str:
        while True:
            if self.at("["):
                type_ = self.window(type_)
            elif self.accept("offset"):
                self.accept("-", "+")
                if self.take().kind not in (DURATION, NUMBER, TAG):
                    self.place -= 1
                    raise self.unexpected(", a duration is expected")
            elif self.accept("@"):
                self.accept("-", "+")
                if self.take().kind == NAME and self.accept("("):
                    self.expect(")")
            else:
                return type_

    def window(self, type_: str) -> str:
        opening = self.take()
        first = self.take()
        if first.kind not in (DURATION, NUMBER, TAG):
            self.place -= 1
            raise self.unexpected(", a duration such as 2m is expected")
        subquery = self.accept(":") is not None
        if subquery and self.peek().kind in (DURATION, NUMBER, TAG):
            self.take()
        if type_ != VECTOR and not subquery:
            raise QueryError("a window belongs behind the name of a metric", opening.at)
        self.expect("]")
        text = self.tag_value(first) if first.kind == TAG else first.text
        self.windows.append(Window(seconds_of(text or ""), text or first.text, first.at, first.end, subquery))
        return MATRIX

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types, folds and compiles a condition while the parser reads it, bottom-up.

Argo compiles a condition against the type of the value it has just measured (checker/checker.go of
expr-lang 1.15.5), folds constants (optimizer/fold.go) and only then runs it. Each method here does
these three for one construct. Types carry Go's names, so that messages read like Argo's.
"""

from __future__ import annotations

from typing import Any, Callable

from . import machine
from .lexer import ExpressionError, NotSupportedError, Token, error_at

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

NIL = "<nil>"
BOOL = "bool"
INT = "int"
FLOAT = "float64"
STRING = "string"
ANY = "interface {}"
VECTOR = "[]float64"

_CONSTANT_TYPES = {bool: BOOL, int: INT, float: FLOAT, str: STRING, type(None): NIL}
_NUMBERS = (INT, FLOAT)

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": machine.add,
    "-": machine.subtract,
    "*": machine.multiply,
    "/": machine.divide,
    "%": machine.modulo,
    "**": machine.power,
    "^": machine.power,
    "==": machine.equal,
    "!=": machine.unequal,
    "<": machine.less,
    ">": machine.more,
    "<=": machine.less_or_equal,
    ">=": machine.more_or_equal,
}
# What each operator takes, if both sides are known to be of one of these; and what it gives.
_ORDERABLE = (*_NUMBERS, STRING)
_FUNCTIONS: dict[str, tuple[tuple[str, ...], str, Callable[..., Any]]] = {
    "isNaN": ((FLOAT,), BOOL, machine.is_nan),
    "isInf": ((FLOAT,), BOOL, machine.is_inf),
    "isNil": ((ANY,), BOOL, machine.is_nil),
    "default": ((ANY, ANY), ANY, machine.default),
}
LOOPS = frozenset(["all", "any"])
# The rest of the language's names, so that they are told apart from a misspelling.
LATER_LOOPS = frozenset(
    [
        "none",
        "one",
        "filter",
        "map",
        "count",
        "find",
        "findIndex",
        "findLast",
        "findLastIndex",
        "groupBy",
        "reduce",
        "sortBy",
    ]
)
_LATER_FUNCTIONS = frozenset(
    [
        "type",
        "abs",
        "ceil",
        "floor",
        "round",
        "int",
        "float",
        "string",
        "trim",
        "trimPrefix",
        "trimSuffix",
        "upper",
        "lower",
        "split",
        "splitAfter",
        "replace",
        "repeat",
        "join",
        "indexOf",
        "lastIndexOf",
        "hasPrefix",
        "hasSuffix",
        "max",
        "min",
        "sum",
        "mean",
        "median",
        "toJSON",
        "fromJSON",
        "toBase64",
        "fromBase64",
        "now",
        "duration",
        "date",
        "first",
        "last",
        "get",
        "take",
        "keys",
        "values",
        "toPairs",
        "fromPairs",
        "sort",
        "asInt",
        "asFloat",
        "$env",
    ]
)


class Node:
    """One typed piece of a condition.

    ``constant`` tells that the piece has been folded to ``value``. ``literal`` tells that an int in
    it comes from a literal, which Argo turns into a float where a function wants one.
    """

    __slots__ = ("code", "constant", "literal", "type", "value")

    def __init__(self, type_: str, code: machine.Code) -> None:
        self.type = type_
        self.code = code
        self.constant = False
        self.value: Any = None
        self.literal = False


def constant(value: Any, literal: bool = False) -> Node:
    """A literal, or what a fold gave."""
    node = Node(_CONSTANT_TYPES[type(value)], [(machine.PUSH, value)])
    node.constant = value is not None
    node.value = value
    node.literal = literal
    return node


def _known(node: Node, *values: bool) -> bool:
    return node.constant and type(node.value) is bool and node.value in values


class Builder:
    """Builds one condition against ``result_type`` (VECTOR or FLOAT)."""

    def __init__(self, source: str, result_type: str) -> None:
        self._source = source
        self._result_type = result_type
        self._loops: list[str] = []

    @property
    def in_loop(self) -> bool:
        """Whether ``#`` means something here."""
        return bool(self._loops)

    def error(self, token: Token, reason: str) -> ExpressionError:
        """An error at a token."""
        return error_at(self._source, token.at, reason)

    def not_supported(self, token: Token, what: str) -> NotSupportedError:
        """An error for what Argo knows and this engine does not, yet."""
        problem = self.error(token, f"{what} is not supported yet")
        return NotSupportedError(problem.reason, problem.line, problem.column)

    def name(self, token: Token) -> Node:
        """A name that is not called."""
        if token.text == "result":
            return Node(self._result_type, [(machine.RESULT, None)])
        self._refuse_later(token)
        raise self.error(token, f"unknown name {token.text}")

    def _refuse_later(self, token: Token) -> None:
        name = token.text
        if name in LOOPS or name in LATER_LOOPS or name in _LATER_FUNCTIONS or name in _FUNCTIONS or name == "len":
            raise self.not_supported(token, name)

    def pointer(self, token: Token) -> Node:
        """The element ``#`` of the innermost loop."""
        collection = self._loops[-1]
        return Node(FLOAT if collection == VECTOR else ANY, [(machine.POINTER, None)])

    def unary(self, token: Token, node: Node) -> Node:
        """A sign, ``!`` or ``not``."""
        operator = token.text
        if operator in ("!", "not"):
            if node.type not in (BOOL, ANY):
                raise self._mismatch(token, node)
            if _known(node, True, False):
                return constant(not node.value)
            return self._extended(node, BOOL, (machine.UNARY, machine.invert))
        if node.type not in (*_NUMBERS, ANY):
            raise self._mismatch(token, node)
        if node.constant:
            return constant(machine.negate(node.value) if operator == "-" else node.value, node.literal)
        if operator == "-":
            self._extended(node, node.type, (machine.UNARY, machine.negate))
        return node

    @staticmethod
    def _extended(node: Node, type_: str, *steps: tuple[int, Any]) -> Node:
        """``node`` with more code behind it. In place: a long chain is one growing list."""
        node.code.extend(steps)
        node.type = type_
        return node

    def _mismatch(self, token: Token, *nodes: Node) -> ExpressionError:
        types = " and ".join(node.type for node in nodes)
        return self.error(token, f"invalid operation: {token.text} (mismatched type{'s' * (len(nodes) > 1)} {types})")

    def binary(self, token: Token, left: Node, right: Node) -> Node:
        """``left`` and ``right`` around an operator."""
        operator = token.text
        type_ = self._binary_type(operator, left.type, right.type)
        if not type_:
            raise self._mismatch(token, left, right)
        if operator in ("and", "&&", "or", "||"):
            return self._logical(operator in ("or", "||"), left, right)
        literal = operator in ("+", "-", "*") and (left.literal or right.literal)
        if left.constant and right.constant and self._folds(operator, left.type, right.type):
            try:
                return constant(_BINARY[operator](left.value, right.value), literal)
            except ExpressionError as problem:
                raise self.error(token, problem.reason) from None
        compute = _BINARY[operator]
        if operator == "==" and left.type == right.type and left.type in (INT, STRING):
            compute = machine.equal_typed(int if left.type == INT else str)
        left.code.extend(right.code)
        left.code.append((machine.BINARY, compute))
        left.type = type_
        left.constant = False
        left.literal = literal
        return left

    @staticmethod
    def _folds(operator: str, left: str, right: str) -> bool:
        if operator == "==":
            return left == right and left in (INT, STRING, BOOL)
        if operator == "%":
            return True
        if operator in ("+", "-", "*", "/", "**", "^"):
            return left != STRING or operator == "+"
        return False

    @staticmethod
    def _binary_type(operator: str, left: str, right: str) -> str:
        """The type of ``left operator right``, or "" when they do not fit (checker.BinaryNode)."""

        def either(*kinds: str) -> bool:
            allowed = (*kinds, ANY)
            return ANY in (left, right) and left in allowed and right in allowed

        numbers = left in _NUMBERS and right in _NUMBERS
        if operator in ("==", "!="):
            comparable = NIL in (left, right) or ANY in (left, right) or left == right or numbers
            return BOOL if comparable else ""
        if operator in ("and", "&&", "or", "||"):
            return BOOL if left == right == BOOL or either(BOOL) else ""
        if operator in ("<", ">", "<=", ">="):
            return BOOL if numbers or left == right == STRING or either(*_ORDERABLE) else ""
        if operator == "%":
            if left == right == INT:
                return INT
            return ANY if either(INT) else ""
        if operator in ("/", "**", "^"):
            return FLOAT if numbers or either(*_NUMBERS) else ""
        if numbers:
            return INT if left == right == INT else FLOAT
        if operator == "+":
            if left == right == STRING:
                return STRING
            return ANY if either(*_ORDERABLE) else ""
        return ANY if either(*_NUMBERS) else ""

    def _logical(self, is_or: bool, left: Node, right: Node) -> Node:
        if _known(left, not is_or):
            kept = right
        elif _known(right, not is_or):
            kept = left
        elif _known(left, is_or) or _known(right, is_or):
            return constant(is_or)
        else:
            jump = machine.JUMP_IF_TRUE if is_or else machine.JUMP_IF_FALSE
            left.code.append((jump, len(right.code) + 1))
            left.code.append((machine.POP, None))
            left.code.extend(right.code)
            kept = left
            kept.constant = False
        kept.type = BOOL
        return kept

    def conditional(self, token: Token, condition: Node, then: Node | None, otherwise: Node) -> Node:
        """``condition ? then : otherwise``; without ``then`` (``?:``) the condition's own value."""
        if condition.type not in (BOOL, ANY):
            raise self.error(token, f"non-bool expression (type {condition.type}) used as condition")
        code = condition.code
        then_type = then.type if then else condition.type
        if then:
            code.append((machine.JUMP_IF_FALSE, len(then.code) + 2))
            code.append((machine.POP, None))
            code.extend(then.code)
            code.append((machine.JUMP, len(otherwise.code) + 1))
        else:
            code.append((machine.JUMP_IF_TRUE, len(otherwise.code) + 1))
        code.append((machine.POP, None))
        code.extend(otherwise.code)
        if NIL in (then_type, otherwise.type):
            type_ = otherwise.type if then_type == NIL else then_type
        else:
            type_ = then_type if otherwise.type in (then_type, ANY) else ANY
        return Node(type_, code)

    def index(self, token: Token, base: Node, index: Node) -> Node:
        """``base[index]``."""
        if base.type == VECTOR:
            if index.type not in (INT, ANY):
                raise self.error(token, f"array elements can only be selected using an integer (got {index.type})")
            type_ = FLOAT
        elif base.type == ANY:
            type_ = ANY
        else:
            raise self.error(token, f"type {base.type}[{index.type}] is undefined")
        base.code.extend(index.code)
        return self._extended(base, type_, (machine.BINARY, machine.fetch))

    def open_loop(self, token: Token, collection: Node) -> None:
        """Enter the predicate of all or any over ``collection``."""
        if collection.type not in (VECTOR, ANY):
            raise self.error(token, f"builtin {token.text} takes only array (got {collection.type})")
        self._loops.append(collection.type)

    def close_loop(self, token: Token, collection: Node, predicate: Node) -> Node:
        """The whole all or any, its predicate read."""
        self._loops.pop()
        if predicate.type not in (BOOL, ANY):
            raise self.error(token, f"predicate should return boolean (got {predicate.type})")
        for_all = token.text == "all"
        body = len(predicate.code)
        code = collection.code
        code.append((machine.LOOP, None))
        code.append((machine.JUMP_IF_END, body + 4))
        code.extend(predicate.code)
        code.append((machine.JUMP_IF_FALSE if for_all else machine.JUMP_IF_TRUE, 4))
        code.append((machine.POP, None))
        code.append((machine.NEXT, None))
        code.append((machine.JUMP, -(body + 5)))
        code.append((machine.PUSH, for_all))
        return self._extended(collection, BOOL, (machine.END_LOOP, None))

    def call(self, token: Token, arguments: list[Node]) -> Node:
        """A function of Argo or of the language over its arguments."""
        name = token.text
        if name == "len":
            return self._len(token, arguments)
        if name not in _FUNCTIONS:
            self._refuse_later(token)
            if name == "result":
                raise self.error(token, f"{self._result_type} is not callable")
            raise self.error(token, f"unknown name {name}")
        parameters, type_, function = _FUNCTIONS[name]
        if len(arguments) != len(parameters):
            amount = "too many" if len(arguments) > len(parameters) else "not enough"
            raise self.error(token, f"{amount} arguments to call {name}")
        code: machine.Code = []
        for parameter, argument in zip(parameters, arguments):
            if parameter == FLOAT:
                self._accept_float(token, argument)
            code.extend(argument.code)
        code.append((machine.CALL, (function, len(arguments))))
        return Node(type_, code)

    def _accept_float(self, token: Token, argument: Node) -> None:
        if argument.type == INT:
            # Argo rewrites the int literals it finds under + - * and signs; other ints fail at run time.
            if argument.literal:
                self._extended(argument, FLOAT, (machine.UNARY, float))
        elif argument.type not in (FLOAT, ANY, NIL):
            raise self.error(token, f"cannot use {argument.type} as argument (type {FLOAT}) to call {token.text}")

    def _len(self, token: Token, arguments: list[Node]) -> Node:
        if len(arguments) != 1:
            raise self.error(token, f"invalid number of arguments (expected 1, got {len(arguments)})")
        argument = arguments[0]
        if argument.type not in (VECTOR, STRING, ANY):
            raise self.error(token, f"invalid argument for len (type {argument.type})")
        node = self._extended(argument, INT, (machine.UNARY, machine.length))
        node.constant = node.literal = False
        return node

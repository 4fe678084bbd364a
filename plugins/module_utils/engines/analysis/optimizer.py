# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rewrites a checked condition before it is compiled (optimizer/ of expr-lang 1.15.5), which its verdict can show.

A folded piece is not run, so that it cannot fail, and it has lost the type that the checker gave it.
"""

from __future__ import annotations

from typing import Any, Callable

from . import gotypes, operators, tree
from .gotypes import FLOAT, INT, kind
from .lexer import ExpressionError, error_at
from .tree import Node, rewritten
from .values import Map, Slice

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# Longer ranges are left to the machine, and to its budget.
_MAX_CONSTANT_RANGE = 1_000_000

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operators.add,
    "-": operators.subtract,
    "*": operators.multiply,
    "/": operators.divide,
    "**": operators.power,
    "^": operators.power,
}


def optimize(root: Node, source: str) -> Node:
    """The tree that Argo compiles. Raises ExpressionError for a ``%`` of constants by zero."""
    if "in" in source:
        root = rewritten(root, _in_list)
    folding = _Folding(source)
    while True:
        folding.applied = False
        root = rewritten(root, folding.fold)
        if not folding.applied:
            break
    for word, rewrites in _REWRITES.items():
        if word in source:
            for rewrite in rewrites:
                root = rewritten(root, rewrite)
    return root


def _value(node: Node | None, *kinds: type) -> Any:
    """The value of a literal of one of these kinds, else None."""
    return node.value if isinstance(node, tree.Literal) and type(node.value) in kinds else None


class _Folding:
    def __init__(self, source: str) -> None:
        self.source = source
        self.applied = False

    def fold(self, node: Node) -> Node:
        """What fold.go makes of a node, its children folded."""
        new: Node | None = None
        if isinstance(node, tree.Binary):
            new = self.binary(node)
        elif isinstance(node, tree.Unary):
            new = _folded_unary(node)
        elif isinstance(node, tree.ListOf):
            new = _folded_list(node)
        elif isinstance(node, tree.Builtin) and node.name == "filter":
            new = _folded_filter(node)
        if new is None:
            return node
        self.applied = True
        new.at = node.at
        return new

    def binary(self, node: tree.Binary) -> Node | None:
        operator = node.operator
        if operator in ("and", "&&", "or", "||"):
            return _folded_logical(node, is_or=operator in ("or", "||"))
        if operator == "==":
            return _folded_equal(node)
        if operator == "%":
            left, right = _value(node.left, int), _value(node.right, int)
            if left is None or right is None:
                return None
            try:
                return tree.Literal(node.at, operators.modulo(left, right))
            except ExpressionError as problem:
                raise error_at(self.source, node.at, problem.reason) from None
        if operator not in _ARITHMETIC:
            return None
        left, right = _value(node.left, int, float), _value(node.right, int, float)
        if left is not None and right is not None:
            return _number(node.at, _ARITHMETIC[operator](left, right))
        left, right = _value(node.left, bytes), _value(node.right, bytes)
        if operator == "+" and left is not None and right is not None:
            return tree.Literal(node.at, left + right)
        return None


def _number(at: int, value: Any) -> Node:
    made = tree.Literal(at, value)
    made.type = FLOAT if type(value) is float else INT
    return made


def _folded_unary(node: tree.Unary) -> Node | None:
    if node.operator in ("!", "not"):
        truth = _value(node.node, bool)
        return None if truth is None else tree.Literal(node.at, not truth)
    number = _value(node.node, int, float)
    if number is None:
        return None
    return _number(node.at, operators.negate(number) if node.operator == "-" else number)


def _folded_logical(node: tree.Binary, is_or: bool) -> Node | None:
    left, right = _value(node.left, bool), _value(node.right, bool)
    if left is (not is_or):
        return node.right
    if right is (not is_or):
        return node.left
    return tree.Literal(node.at, is_or) if is_or in (left, right) else None


def _folded_equal(node: tree.Binary) -> Node | None:
    for each in (int, bytes, bool):
        left, right = _value(node.left, each), _value(node.right, each)
        if left is not None and right is not None:
            return tree.Literal(node.at, left == right)
    return None


def _folded_list(node: tree.ListOf) -> Node | None:
    values = [_value(each, int, float, bytes, bool) for each in node.nodes]
    if not values or None in values:
        return None
    return tree.Constant(node.at, Slice(values, gotypes.ARRAY))


def _filtered(node: Node) -> tree.Builtin | None:
    """The node, if it is a filter."""
    return node if isinstance(node, tree.Builtin) and node.name == "filter" else None


def _folded_filter(node: tree.Builtin) -> Node | None:
    """A filter of a filter is one."""
    inner = _filtered(node.arguments[0])
    if inner is None:
        return None
    both = tree.Binary(node.at, "&&", inner.arguments[1], node.arguments[1])
    return tree.Builtin(node.at, "filter", [inner.arguments[0], both])


def _in_list(node: Node) -> Node:
    """``in`` a list of int literals, if it is an int, or of string literals: the keys of a map."""
    if not (isinstance(node, tree.Binary) and node.operator == "in" and isinstance(node.right, tree.ListOf)):
        return node
    for each, type_ in ((int, gotypes.INT_SET), (bytes, gotypes.STRING_SET)):
        values = [_value(item, each) for item in node.right.nodes]
        if values and None not in values and (each is bytes or kind(node.left.type) == "int"):
            keys = tree.Constant(node.right.at, Map(type_, ((value, True) for value in values)))
            return tree.Binary(node.at, "in", node.left, keys)
    return node


def _range(node: Node) -> tuple[int, int] | None:
    """The ends of a range of literals."""
    if not (isinstance(node, tree.Binary) and node.operator == ".."):
        return None
    first, last = _value(node.left, int), _value(node.right, int)
    return None if first is None or last is None else (first, last)


def _in_range(node: Node) -> Node:
    if isinstance(node, tree.Binary) and node.operator == "in" and kind(node.left.type) == "int":
        ends = _range(node.right)
        if ends:
            return tree.InRange(node.at, node.left, *ends)
    return node


def _constant_range(node: Node) -> Node:
    ends = _range(node)
    if ends is None:
        return node
    first, last = ends
    size = operators.wrap(last - first + 1)
    if size > _MAX_CONSTANT_RANGE:
        return node
    return tree.ConstantRange(node.at, range(first, first + max(size, 0)))


def _filter_map(node: Node) -> Node:
    """A map of a filter is a filter that maps."""
    if isinstance(node, tree.Builtin) and node.name == "map" and isinstance(node.arguments[1], tree.Closure):
        inner = _filtered(node.arguments[0])
        if inner is not None and inner.mapped is None:
            return tree.Builtin(node.at, "filter", inner.arguments, mapped=node.arguments[1].node)
    return node


def _filter_len(node: Node) -> Node:
    """The length of a filter is a count, which does not map."""
    inner = _only_filter(node, "len")
    return tree.Builtin(node.at, "count", inner.arguments) if inner else node


def _only_filter(node: Node, name: str) -> tree.Builtin | None:
    """The filter that is the only argument of a function."""
    if isinstance(node, tree.Builtin) and node.name == name and len(node.arguments) == 1:
        return _filtered(node.arguments[0])
    return None


def _filter_last(node: Node) -> Node:
    return _found(node, "findLast", "last", -1)


def _filter_first(node: Node) -> Node:
    return _found(node, "find", "first", 0)


def _found(node: Node, search: str, function: str, place: int) -> Node:
    """One element of a filter is searched for; an index fails where there is none, a function gives nil."""
    if isinstance(node, tree.Member) and not node.optional and _value(node.index, int) == place:
        inner = _filtered(node.node)
        if inner is not None:
            return tree.Builtin(node.at, search, inner.arguments, inner.mapped, throws=True)
    inner = _only_filter(node, function)
    return tree.Builtin(node.at, search, inner.arguments, inner.mapped) if inner else node


# What is rewritten at the end, in order, where the source has this in it.
_REWRITES = {
    "..": (_in_range, _constant_range),
    "filter": (_filter_map, _filter_len, _filter_last, _filter_first),
}

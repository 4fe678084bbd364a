# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Code of a condition for the machine, step for step what compiler/compiler.go of expr-lang 1.15.5 emits.

That includes what its loops leave behind on the stack: ``1 + findLast(…)`` adds to that, and fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import functions, machine, operators, tree
from .lexer import error_at
from .tree import Node, Visit
from .values import Map

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "==": operators.equal,
    "<": operators.less,
    ">": operators.more,
    "<=": operators.less_or_equal,
    ">=": operators.more_or_equal,
    "+": operators.add,
    "-": operators.subtract,
    "*": operators.multiply,
    "/": operators.divide,
    "%": operators.modulo,
    "**": operators.power,
    "^": operators.power,
    "in": operators.contained,
    "matches": operators.matches,
    "contains": operators.contains,
    "startsWith": operators.starts_with,
    "endsWith": operators.ends_with,
}
_JUMPS = {
    "or": machine.JUMP_IF_TRUE,
    "||": machine.JUMP_IF_TRUE,
    "and": machine.JUMP_IF_FALSE,
    "&&": machine.JUMP_IF_FALSE,
    "??": machine.JUMP_IF_NOT_NIL,
}
_TYPED_EQUAL = {"int": operators.equal_ints, "string": operators.equal_strings}
_SEARCHES = frozenset(["find", "findIndex", "findLast", "findLastIndex"])


def compile_tree(root: Node, source: str) -> machine.Program:
    """The program of an optimized tree. Raises ExpressionError."""
    compiler = _Compiler(source)
    tree.walk(compiler.visit, root)
    return machine.Program(source, compiler.code, compiler.places, compiler.variables)


class _Compiler:
    def __init__(self, source: str) -> None:
        self.source = source
        self.code: machine.Code = []
        self.places: list[int] = []
        self.variables = 0
        self.scopes: list[tuple[str, int]] = []
        self.chains: list[list[int]] = []
        self.zero: float | None = None
        self.visits: dict[type, Any] = {
            tree.Nil: lambda node: self.emit(node, machine.PUSH, None),
            tree.Literal: self.literal,
            tree.Constant: lambda node: self.emit(node, machine.PUSH, node.value),
            tree.ConstantRange: lambda node: self.emit(node, machine.CONSTANT_RANGE, node.values),
            tree.Name: self.name,
            tree.Unary: self.unary,
            tree.Binary: self.binary,
            tree.InRange: self.in_range,
            tree.Chain: self.chain,
            tree.Member: self.member,
            tree.Cut: self.cut,
            tree.Call: self.call,
            tree.Builtin: self.builtin,
            tree.Closure: self.closure,
            tree.Pointer: self.pointer,
            tree.Let: self.let,
            tree.Conditional: self.conditional,
            tree.ListOf: self.list_of,
            tree.MapOf: self.map_of,
        }

    def visit(self, node: Node) -> Any:
        return self.visits[type(node)](node)

    def emit(self, node: Node, op: int, argument: Any = None) -> None:
        self.code.append((op, argument))
        self.places.append(node.at)

    def jump(self, node: Node, op: int) -> int:
        """A jump to a place that is not known yet."""
        self.emit(node, op)
        return len(self.code)

    def land(self, jump: int) -> None:
        """Let a jump lead here."""
        self.code[jump - 1] = (self.code[jump - 1][0], len(self.code) - jump)

    def back(self, node: Node, op: int, to: int) -> None:
        self.emit(node, op, len(self.code) + 1 - to)

    # --- operands -------------------------------------------------------------------------------------------------

    def literal(self, node: tree.Literal) -> None:
        value = node.value
        if type(value) is float and value == 0:
            # Argo keeps each constant once, and takes the zeros of both signs for the same.
            if self.zero is None:
                self.zero = value
            value = self.zero
        self.emit(node, machine.PUSH, value)

    def name(self, node: tree.Name) -> None:
        for name, slot in reversed(self.scopes):
            if name == node.name:
                self.emit(node, machine.LOAD, slot)
                return
        if node.name == functions.RESULT:
            self.emit(node, machine.RESULT)
        elif node.name == functions.ENVIRONMENT:
            self.emit(node, machine.ENVIRONMENT)
        else:
            # A builtin that is not called is nil.
            self.emit(node, machine.PUSH, functions.HELPERS.get(node.name))

    def let(self, node: tree.Let) -> Visit:
        yield node.value
        slot = self.variables
        self.variables += 1
        self.emit(node, machine.STORE, slot)
        self.scopes.append((node.name, slot))
        yield node.node
        self.scopes.pop()

    def pointer(self, node: tree.Pointer) -> None:
        ops = {"": machine.POINTER, "index": machine.GET_INDEX, "acc": machine.GET_ACC}
        if node.name not in ops:
            raise error_at(self.source, node.at, f"unknown pointer {node.name}")
        self.emit(node, ops[node.name])

    def list_of(self, node: tree.ListOf) -> Visit:
        yield from node.nodes
        self.emit(node, machine.PUSH, len(node.nodes))
        self.emit(node, machine.ARRAY)

    def map_of(self, node: tree.MapOf) -> Visit:
        yield from node.nodes
        self.emit(node, machine.MAP, len(node.nodes) // 2)

    # --- operators ------------------------------------------------------------------------------------------------

    def unary(self, node: tree.Unary) -> Visit:
        yield node.node
        if node.operator in ("!", "not"):
            self.emit(node, machine.LIGHT, operators.invert)
        elif node.operator == "-":
            self.emit(node, machine.LIGHT, operators.negate)

    def binary(self, node: tree.Binary) -> Visit:
        yield node.left
        operator = node.operator
        if operator in _JUMPS:
            end = self.jump(node, _JUMPS[operator])
            self.emit(node, machine.POP)
            yield node.right
            self.land(end)
            return
        if node.pattern is not None:
            self.emit(node, machine.UNARY, operators.matches_constant(node.pattern))
            return
        if operator == "in" and isinstance(node.right, tree.Constant) and isinstance(node.right.value, Map):
            keys = node.right.value
            self.emit(node, machine.LIGHT, lambda value: operators.contained(value, keys))
            return
        yield node.right
        if operator == "!=":
            self.emit(node, machine.BINARY, operators.equal)
            self.emit(node, machine.LIGHT, operators.invert)
        elif operator == "..":
            self.emit(node, machine.RANGE)
        else:
            if operator == "matches":
                self.emit(node, machine.SPEND, machine.PATTERN_STEPS)
            self.emit(node, machine.BINARY, self.equal(node) if operator == "==" else _BINARY[operator])

    @staticmethod
    def equal(node: tree.Binary) -> Callable[[Any, Any], bool]:
        """What compares two that are known to be ints, or strings, fails where they are not."""
        left, right = node.left.type, node.right.type
        if left is None or right is None or left.named or right.named or left.kind != right.kind:
            return operators.equal
        return _TYPED_EQUAL.get(left.kind, operators.equal)

    def in_range(self, node: tree.InRange) -> Visit:
        yield node.left
        first, last = node.first, node.last

        def inside(value: Any) -> bool:
            return operators.more_or_equal(value, first) and operators.less_or_equal(value, last)

        self.emit(node, machine.LIGHT, inside)

    def conditional(self, node: tree.Conditional) -> Visit:
        yield node.condition
        if node.then is None:
            # Argo computes the condition twice; it is the same again.
            end = self.jump(node, machine.JUMP_IF_TRUE)
            self.emit(node, machine.POP)
        else:
            otherwise = self.jump(node, machine.JUMP_IF_FALSE)
            self.emit(node, machine.POP)
            yield node.then
            end = self.jump(node, machine.JUMP)
            self.land(otherwise)
            self.emit(node, machine.POP)
        yield node.otherwise
        self.land(end)

    # --- members and calls ----------------------------------------------------------------------------------------

    def chain(self, node: tree.Chain) -> Visit:
        self.chains.append([])
        yield node.node
        for jump in self.chains.pop():
            self.land(jump)

    def member(self, node: tree.Member) -> Visit:
        yield node.node
        if node.optional:
            self.chains[-1].append(self.jump(node, machine.JUMP_IF_NIL))
        yield node.index
        self.emit(node, machine.FETCH)

    def cut(self, node: tree.Cut) -> Visit:
        yield node.node
        if node.end is None:
            self.emit(node, machine.LENGTH)
        else:
            yield node.end
        if node.start is None:
            self.emit(node, machine.PUSH, 0)
        else:
            yield node.start
        self.emit(node, machine.CALL, (operators.cut, 3))

    def call(self, node: tree.Call) -> Visit:
        yield from node.arguments
        count = len(node.arguments)
        if node.function is not None:
            self.function(node, node.function, count)
            return
        helper = self.helper(node.callee)
        if helper is not None and count == len(helper.type.ins):
            self.emit(node, machine.HELPER, (helper.call, count))
            return
        yield node.callee
        self.emit(node, machine.CALL_VALUE, count)

    def helper(self, callee: Node) -> functions.Function | None:
        """The function of Argo's that a call names."""
        if isinstance(callee, tree.Name) and all(name != callee.name for name, _slot in self.scopes):
            return functions.HELPERS.get(callee.name)
        return None

    def function(self, node: Node, builtin: functions.Builtin, count: int) -> None:
        """A builtin on the last values; one that is called through a variable has to be no fast one, and no loop."""
        if builtin.call is None or (builtin.fast and isinstance(node, tree.Call)):
            self.emit(node, machine.FAIL, "invalid memory address or nil pointer dereference")
        elif builtin.fast:
            self.emit(node, machine.LIGHT if builtin.light else machine.UNARY, builtin.call)
        else:
            self.emit(node, machine.LIGHT_CALL if builtin.light else machine.CALL, (builtin.call, count))

    def builtin(self, node: tree.Builtin) -> Visit:
        if node.name in functions.LOOPS:
            yield from self.loop(node)
            return
        yield from node.arguments
        self.function(node, functions.BUILTINS[node.name], len(node.arguments))

    # --- loops ----------------------------------------------------------------------------------------------------

    def closure(self, node: tree.Closure) -> Visit:
        yield node.node

    def loop(self, node: tree.Builtin) -> Visit:
        yield node.arguments[0]
        self.emit(node, machine.BEGIN)
        if node.name in _SEARCHES:
            yield from self.search(node)
        elif node.name in ("all", "none", "any"):
            yield from self.quantifier(node)
        elif node.name == "reduce":
            yield from self.reduce(node)
        elif node.name in ("map", "groupBy"):
            yield from self.mapping(node)
        else:
            yield from self.counting(node)

    def begin(self, node: Node) -> tuple[int, int]:
        """The start of a pass from the first element on: where it starts, and the jump out of it."""
        return len(self.code), self.jump(node, machine.JUMP_IF_END)

    def end(self, node: Node, loop: tuple[int, int]) -> None:
        self.back(node, machine.NEXT, loop[0])
        self.land(loop[1])

    def quantifier(self, node: tree.Builtin) -> Visit:
        loop = self.begin(node)
        yield node.arguments[1]
        if node.name == "none":
            self.emit(node, machine.LIGHT, operators.invert)
        out = self.jump(node, machine.JUMP_IF_TRUE if node.name == "any" else machine.JUMP_IF_FALSE)
        self.emit(node, machine.POP)
        self.end(node, loop)
        self.emit(node, machine.PUSH, node.name != "any")
        self.land(out)
        self.emit(node, machine.END)

    def counting(self, node: tree.Builtin) -> Visit:
        """one, count and filter."""
        loop = self.begin(node)
        yield node.arguments[1]
        skip = self.jump(node, machine.JUMP_IF_FALSE)
        self.emit(node, machine.POP)
        self.emit(node, machine.COUNT)
        if node.mapped is not None:
            yield node.mapped
        elif node.name == "filter":
            self.emit(node, machine.POINTER)
        done = self.jump(node, machine.JUMP)
        self.land(skip)
        self.emit(node, machine.POP)
        self.land(done)
        self.end(node, loop)
        self.emit(node, machine.GET_COUNT)
        if node.name == "one":
            self.emit(node, machine.PUSH, 1)
            self.emit(node, machine.BINARY, operators.equal)
        self.emit(node, machine.END)
        if node.name == "filter":
            self.emit(node, machine.ARRAY)

    def mapping(self, node: tree.Builtin) -> Visit:
        loop = self.begin(node)
        yield node.arguments[1]
        if node.name == "groupBy":
            self.emit(node, machine.SPEND, machine.GROUP_STEPS)
            self.emit(node, machine.GROUP)
        self.end(node, loop)
        self.emit(node, machine.GET_LENGTH if node.name == "map" else machine.GET_GROUPS)
        self.emit(node, machine.END)
        if node.name == "map":
            self.emit(node, machine.ARRAY)

    def reduce(self, node: tree.Builtin) -> Visit:
        if len(node.arguments) == 3:
            yield node.arguments[2]
        else:
            self.emit(node, machine.POINTER)
            self.emit(node, machine.INCREMENT)
        self.emit(node, machine.SET_ACC)
        loop = self.begin(node)
        yield node.arguments[1]
        self.emit(node, machine.SET_ACC)
        self.end(node, loop)
        self.emit(node, machine.GET_ACC)
        self.emit(node, machine.END)

    def search(self, node: tree.Builtin) -> Visit:
        """find and its likes; those from the end leave a truth for each pass, and one more, on the stack."""
        backwards = "Last" in node.name
        if backwards:
            self.emit(node, machine.LAST)
            start = len(self.code)
            self.emit(node, machine.STARTED)
            end = self.jump(node, machine.JUMP_IF_FALSE)
        else:
            start, end = self.begin(node)
        yield node.arguments[1]
        skip = self.jump(node, machine.JUMP_IF_FALSE)
        self.emit(node, machine.POP)
        if node.name.endswith("Index"):
            self.emit(node, machine.GET_INDEX)
        elif node.mapped is not None:
            yield node.mapped
        else:
            self.emit(node, machine.POINTER)
        out = self.jump(node, machine.JUMP)
        self.land(skip)
        self.emit(node, machine.POP)
        self.back(node, machine.PREVIOUS if backwards else machine.NEXT, start)
        self.land(end)
        if node.throws:
            self.emit(node, machine.FAIL, "reflect: slice index out of range")
        else:
            self.emit(node, machine.PUSH, None)
        self.land(out)
        self.emit(node, machine.END)

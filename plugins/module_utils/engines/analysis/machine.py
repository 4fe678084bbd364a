# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a compiled condition: a stack, jumps and loops, no recursion (vm/vm.go of expr-lang 1.15.5).

What Go's machine panics on raises ExpressionError. Its memory budget is here as it is there; the budget of steps is
ours, and so are the depth of values and the length of strings: Argo would be busy for hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import functions, gotypes, operators
from .lexer import ExpressionError, error_at
from .values import Function, Map, Pair, Slice, Uint8, is_nil, type_name

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# A condition costs some ten steps, one over a thousand series some ten thousand.
MAX_STEPS = 10_000_000
# Elements of all lists and maps that a run makes, as in Argo.
MEMORY_BUDGET = 1_000_000
# How deep lists and maps may nest to be compared, or written as text.
MAX_DEPTH = 200

(
    PUSH,
    RESULT,
    FETCH,
    BINARY,
    LIGHT,
    JUMP_IF_FALSE,
    JUMP_IF_TRUE,
    POP,
    JUMP,
    JUMP_IF_END,
    POINTER,
    NEXT,
    CALL_VALUE,
    BEGIN,
    END,
    UNARY,
    CALL,
    LIGHT_CALL,
    LOAD,
    STORE,
    ARRAY,
    COUNT,
    GET_COUNT,
    GET_INDEX,
    GET_LENGTH,
    GET_ACC,
    SET_ACC,
    INCREMENT,
    GROUP,
    GET_GROUPS,
    LAST,
    STARTED,
    PREVIOUS,
    JUMP_IF_NIL,
    JUMP_IF_NOT_NIL,
    LENGTH,
    RANGE,
    CONSTANT_RANGE,
    MAP,
    ENVIRONMENT,
    FAIL,
    HELPER,
    SPEND,
) = range(43)

Code = list[tuple[int, Any]]


class Program(NamedTuple):
    """Compiled code; ``places`` has the offset in the source that each step comes from."""

    source: str
    code: Code
    places: list[int]
    variables: int


# What an operation takes longer for, the more there is of it.
_WEIGHTY = frozenset([bytes, Slice, Pair, Map])
_FLAT = (gotypes.FLOATS, gotypes.INTS)
# Operators pass over a string much faster than functions do.
_OPERATOR_SHIFT = 6
# What it costs to read a regular expression, and to put an element into a group.
PATTERN_STEPS = 2_000
GROUP_STEPS = 20


class _Loop:
    """A loop that is under way; a map has a length, too, but no elements."""

    __slots__ = ("acc", "count", "groups", "index", "size", "values")

    def __init__(self, values: Any) -> None:
        self.size = operators.length(values)
        self.values: Any = values
        if type(values) is bytes:
            self.values = [Uint8(byte) for byte in values]
        elif isinstance(values, Map):
            self.values = ()
        self.index = 0
        self.count = 0
        self.acc: Any = None
        self.groups: Map | None = None

    def group(self, key: Any) -> None:
        if self.groups is None:
            self.groups = Map(gotypes.GROUPS)
        entry = self.groups.find(key)
        if entry is None:
            self.groups.put(key, Slice([self.values[self.index]], gotypes.ARRAY))
        else:
            entry[1].append(self.values[self.index])


class Budget:
    """The steps that a run may still take."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise ExpressionError(f"the condition takes more than {MAX_STEPS} steps over this result")

    def weigh(self, values: Sequence[Any], shift: int = 0) -> None:
        """Spend steps for what is in values, and in what is in them; a string costs its bytes ``>> shift``.

        Raises ExpressionError when they nest too deep.
        """
        waiting = [(value, 1) for value in values if type(value) in _WEIGHTY]
        while waiting:
            value, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise ExpressionError(f"a value nested more than {MAX_DEPTH} deep")
            if type(value) is bytes:
                self.spend(len(value) >> shift)
            elif type(value) is Slice and value.type in _FLAT:
                self.spend(len(value))
            else:
                self.spend(4 * len(value) + 4)
                inner = value
                if isinstance(value, Map):
                    inner = [each for entry in value.entries.values() for each in entry]
                waiting.extend((each, depth + 1) for each in inner if type(each) in _WEIGHTY)


def run(program: Program, result: Any) -> Any:
    """Execute a program over ``result``, a value as values.py has them, and return its value."""
    code = program.code
    stack: list[Any] = []
    loops: list[_Loop] = []
    variables: list[Any] = [None] * program.variables
    budget = Budget()
    environment: Map | None = None
    memory = 0
    at = 0
    size = len(code)
    try:
        while at < size:
            op, arg = code[at]
            at += 1
            if op == PUSH:
                stack.append(arg)
            elif op == RESULT:
                stack.append(result)
            elif op == FETCH:
                right = stack.pop()
                left = stack[-1]
                if type(right) is int and type(left) is Slice and 0 <= right < len(left):
                    stack[-1] = left[right]
                else:
                    stack[-1] = operators.fetch(left, right)
            elif op == BINARY:
                right = stack.pop()
                left = stack[-1]
                if type(left) in _WEIGHTY or type(right) in _WEIGHTY:
                    budget.weigh((left, right), _OPERATOR_SHIFT)
                stack[-1] = arg(left, right)
            elif op == LIGHT:
                stack[-1] = arg(stack[-1])
            elif op == JUMP_IF_FALSE:
                left = stack[-1]
                if left is False or not (left is True or operators.boolean(left)):
                    at += arg
            elif op == JUMP_IF_TRUE:
                left = stack[-1]
                if left is True or (left is not False and operators.boolean(left)):
                    at += arg
            elif op == POP:
                stack.pop()
            elif op == JUMP:
                at += arg
            elif op == POINTER:
                loop = loops[-1]
                stack.append(loop.values[loop.index])
            elif op == JUMP_IF_END:
                loop = loops[-1]
                if loop.index >= loop.size:
                    at += arg
            elif op == NEXT:
                # Back to behind the JUMP_IF_END that the pass began with, or on to where that leads.
                loop = loops[-1]
                loop.index += 1
                if loop.index < loop.size:
                    budget.spend(arg)
                    at -= arg - 1
            elif op == HELPER:
                function, count = arg
                stack.append(function(result, stack.pop()) if count == 1 else function(result, *_taken(stack, count)))
            elif op == BEGIN:
                loops.append(_Loop(stack.pop()))
            elif op == END:
                loops.pop()
            elif op == UNARY:
                budget.weigh((stack[-1],))
                stack[-1] = arg(stack[-1])
            elif op in (CALL, LIGHT_CALL):
                function, count = arg
                arguments = _taken(stack, count)
                if op == CALL:
                    budget.weigh(arguments)
                stack.append(function(*arguments))
            elif op == CALL_VALUE:
                callee = stack.pop()
                stack.append(_called(callee, result, _taken(stack, arg)))
            elif op == LOAD:
                stack.append(variables[arg])
            elif op == STORE:
                variables[arg] = stack.pop()
            elif op == ARRAY:
                count = stack.pop()
                memory = _grown(memory, count)
                stack.append(Slice(_taken(stack, count), gotypes.ARRAY))
            elif op == MAP:
                memory = _grown(memory, arg)
                entries = _taken(stack, 2 * arg)
                stack.append(_map(entries))
            elif op == RANGE:
                last = operators.to_int(stack.pop())
                first = operators.to_int(stack.pop())
                count = max(operators.wrap(last - first + 1), 0)
                memory = _grown(memory, count)
                stack.append(Slice(range(first, first + count), gotypes.INTS))
            elif op == CONSTANT_RANGE:
                budget.spend(len(arg))
                stack.append(Slice(arg, gotypes.INTS))
            elif op == JUMP_IF_NIL:
                if is_nil(stack[-1]):
                    at += arg
            elif op == JUMP_IF_NOT_NIL:
                if not is_nil(stack[-1]):
                    at += arg
            elif op == LENGTH:
                stack.append(operators.length(stack[-1]))
            elif op == ENVIRONMENT:
                environment = environment or functions.environment(result)
                stack.append(environment)
            elif op == FAIL:
                raise ExpressionError(arg)
            elif op == PREVIOUS:
                loops[-1].index -= 1
                budget.spend(arg)
                at -= arg
            elif op == SPEND:
                budget.spend(arg)
            elif op == SET_ACC:
                loops[-1].acc = stack.pop()
            else:
                _in_loop(op, loops[-1], stack)
        return stack.pop() if stack else None
    except ExpressionError as problem:
        raise error_at(program.source, program.places[at - 1], problem.reason) from None
    except IndexError:
        raise error_at(program.source, program.places[at - 1], "index out of range") from None


def _in_loop(op: int, loop: _Loop, stack: list[Any]) -> None:
    """What only loops do, and seldom."""
    if op == COUNT:
        loop.count += 1
    elif op == INCREMENT:
        loop.index += 1
    elif op == LAST:
        loop.index = loop.size - 1
    elif op == GROUP:
        loop.group(stack.pop())
    elif op == STARTED:
        stack.append(loop.index >= 0)
    elif op == GET_COUNT:
        stack.append(loop.count)
    elif op == GET_INDEX:
        stack.append(loop.index)
    elif op == GET_LENGTH:
        stack.append(loop.size)
    elif op == GET_ACC:
        stack.append(loop.acc)
    else:
        stack.append(loop.groups or Map(gotypes.GROUPS, nil=True))


def _taken(stack: list[Any], count: int) -> list[Any]:
    """The last values of the stack, taken off it."""
    if count > len(stack):
        raise IndexError
    cut = len(stack) - count
    values = stack[cut:]
    del stack[cut:]
    return values


def _called(callee: Any, result: Any, arguments: list[Any]) -> Any:
    if not isinstance(callee, Function):
        raise ExpressionError(f"reflect: call of a function on {type_name(callee)}")
    return callee.called(result, arguments)


def _map(entries: list[Any]) -> Map:
    """A map of keys and values in turn; of keys that are the same, the first counts."""
    made = Map(gotypes.OBJECT)
    for place in range(len(entries) - 2, -1, -2):
        made.put(operators.text(entries[place]), entries[place + 1])
    return made


def _grown(memory: int, size: int) -> int:
    if memory + size >= MEMORY_BUDGET:
        raise ExpressionError("memory budget exceeded")
    return memory + size

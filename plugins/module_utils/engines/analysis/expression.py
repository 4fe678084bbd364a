# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conditions of an analysis: compiled against the type of a measurement, as Argo does at each one.

Copies utils/evaluate/evaluate.go of Argo Rollouts 1.8 and the part of expr-lang 1.15.5 that
semantics.py names; the rest of the language raises NotSupportedError.
"""

from __future__ import annotations

import functools
from typing import Union

from . import machine, parser, semantics
from .lexer import ExpressionError, NotSupportedError

__all__ = ["Condition", "ExpressionError", "NotSupportedError", "Value", "compile_condition", "lint", "type_of"]

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# A measurement: a Prometheus vector's values in order, or a scalar.
Value = Union[list[float], float]

VECTOR = semantics.VECTOR
SCALAR = semantics.FLOAT
MAX_SOURCE = 64 * 1024


class Condition:
    """A condition compiled against one type of result."""

    def __init__(self, source: str, result_type: str) -> None:
        if len(source) > MAX_SOURCE:
            raise ExpressionError(f"the condition is {len(source)} characters long, at most {MAX_SOURCE} are read")
        node = parser.parse(source, result_type)
        self.source = source
        self.type = node.type
        self._code = node.code

    def evaluate(self, result: Value) -> bool:
        """The verdict over one measurement; ExpressionError when Argo would find an error there."""
        output = machine.run(self._code, result)
        if type(output) is not bool:
            raise ExpressionError(f"expected bool, but got {machine.go_type(output)}")
        return output


@functools.lru_cache(maxsize=1024)
def compile_condition(source: str, result_type: str) -> Condition:
    """The compiled condition (kept: a gate asks for the same one at every measurement)."""
    return Condition(source, result_type)


def type_of(value: Value) -> str:
    """The type that a value is compiled against: VECTOR or SCALAR."""
    return VECTOR if isinstance(value, list) else SCALAR


def lint(source: str) -> str:
    """Check a condition before anything is measured; returns the types of result it fits, or raises.

    A query's type is known only when it answers, so a condition is wrong when it fits neither a
    vector nor a scalar, or cannot be a boolean for either. The error for a vector is the one raised.
    """
    fits = []
    problems = []
    for result_type in (VECTOR, SCALAR):
        try:
            condition = compile_condition(source, result_type)
            if condition.type not in (semantics.BOOL, semantics.ANY):
                raise ExpressionError(f"expected bool, but got {condition.type}")
            fits.append("vector" if result_type == VECTOR else "scalar")
        except ExpressionError as problem:
            problems.append(problem)
    if not fits:
        raise problems[0]
    return " or ".join(fits)

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conditions of an analysis: compiled against the type of a measurement, as Argo does at each one.

Copies utils/evaluate/evaluate.go of Argo Rollouts 1.8 and the whole of expr-lang 1.15.5, its language, type checks,
folding and machine: lexer → parser → semantics → optimizer → compiler → machine.

NotSupportedError, when the condition is read:

- the functions ``now`` and ``date``, and with them the methods of a time, which need a clock or a calendar;
- ``matches`` where the Python library google-re2 is missing.

Other than in Argo, which has no such limits and would be busy for hours or run out of memory:

- a condition has at most 64 Ki characters and nests at most 100 deep (parser.MAX_DEPTH);
- a run takes at most ten million steps, strings have at most 4 MiB, and lists and maps that are compared or written as
  text nest at most 200 deep (machine.MAX_STEPS, operators.MAX_STRING, machine.MAX_DEPTH).

Keys and values of a map come in the order they were put in; in Argo the order is another one each time.
"""

from __future__ import annotations

import functools
from typing import Any, Union

from . import compiler, gotypes, machine, optimizer, parser, semantics, values
from .lexer import ExpressionError, NotSupportedError

__all__ = ["Condition", "ExpressionError", "NotSupportedError", "Value", "compile_condition", "lint", "type_of"]

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# A measurement: a Prometheus vector's values in order, or a scalar.
Value = Union[list[float], float]

VECTOR = gotypes.FLOATS
SCALAR = gotypes.FLOAT
MAX_SOURCE = 64 * 1024


class Condition:
    """A condition compiled against one type of result; ``type`` is what it gives, None for nil."""

    def __init__(self, source: str, result_type: gotypes.MaybeType) -> None:
        if len(source) > MAX_SOURCE:
            raise ExpressionError(f"the condition is {len(source)} characters long, at most {MAX_SOURCE} are read")
        source = values.characters(source)
        root = parser.parse(source)
        self.source = source
        self.type = semantics.check(root, source, result_type)
        self._program = compiler.compile_tree(optimizer.optimize(root, source), source)

    def evaluate(self, result: Any) -> bool:
        """The verdict over one measurement; ExpressionError when Argo would find an error there."""
        output = machine.run(self._program, values.from_python(result))
        if type(output) is not bool:
            raise ExpressionError(f"expected bool, but got {values.type_name(output)}")
        return output


@functools.lru_cache(maxsize=1024)
def compile_condition(source: str, result_type: gotypes.MaybeType) -> Condition:
    """The compiled condition (kept: a gate asks for the same one at every measurement)."""
    return Condition(source, result_type)


def type_of(value: Any) -> gotypes.MaybeType:
    """The type that a value is compiled against: VECTOR or SCALAR of what Prometheus measures."""
    if type(value) is float:
        return SCALAR
    return values.type_of(values.from_python(value))


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
            if condition.type not in (gotypes.BOOL, gotypes.ANY):
                raise ExpressionError(f"expected bool, but got {gotypes.shown(condition.type)}")
            fits.append("vector" if result_type is VECTOR else "scalar")
        except NotSupportedError:
            raise
        except ExpressionError as problem:
            problems.append(problem)
    if not fits:
        raise problems[0]
    return " or ".join(fits)

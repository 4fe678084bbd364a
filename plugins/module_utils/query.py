# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option ``query`` of what returns data: JMESPath over the result."""

from __future__ import annotations

import traceback
from typing import Any, Callable

from ansible.module_utils.basic import missing_required_lib

from .errors import AirgapError

JMESPATH_IMPORT_ERROR: str | None = None
try:
    import jmespath
except ImportError:
    JMESPATH_IMPORT_ERROR = traceback.format_exc()

QUERY_OPTIONS: dict[str, Any] = {"query": {"type": "str"}}


def compile_query(expression: str | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that adds ``query_result`` to a result; without an expression it adds nothing.

    Call it before the work begins, so that a mistake in the expression costs nothing. Raises AirgapError.
    """
    if expression is None:
        return lambda result: result
    if JMESPATH_IMPORT_ERROR:
        raise AirgapError(missing_required_lib("jmespath"), exception=JMESPATH_IMPORT_ERROR)
    try:
        compiled = jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise AirgapError(f"query is not a JMESPath expression: {error}") from error

    def apply(result: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**result, "query_result": compiled.search(result)}
        except jmespath.exceptions.JMESPathError as error:
            raise AirgapError(f"query cannot be applied to the result: {error}", **result) from error

    return apply

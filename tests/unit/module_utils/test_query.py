# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JMESPath over results."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils import query
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.query import compile_query


def test_query() -> None:
    result = {"metrics": [{"name": "a"}, {"name": "b"}]}
    assert compile_query("metrics[].name")(result) == {**result, "query_result": ["a", "b"]}
    assert compile_query("nothing")(result)["query_result"] is None


def test_without_a_query_nothing_is_added() -> None:
    assert compile_query(None)({"a": 1}) == {"a": 1}


def test_a_mistake_is_found_before_the_work() -> None:
    with pytest.raises(AirgapError, match="not a JMESPath expression"):
        compile_query("metrics[")


def test_a_mistake_at_the_result_keeps_the_result() -> None:
    with pytest.raises(AirgapError, match="cannot be applied") as caught:
        compile_query("abs(name)")({"name": "a"})
    assert caught.value.details == {"name": "a"}


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "JMESPATH_IMPORT_ERROR", "Traceback")
    with pytest.raises(AirgapError, match="jmespath"):
        compile_query("a")

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fields of a Rollout as arguments: the cases of Argo's factory_test.go, and of Kubernetes' fieldpath."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.field import read_field
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.golang import quote
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import TemplateError

ROLLOUT: dict[str, Any] = {
    "metadata": {
        "name": "test",
        "namespace": "default",
        "uid": "0f1e",
        "labels": {"app": "app", "env": "test"},
        "annotations": {"rollout.argoproj.io/revision": "1", "Note": 'say "a"'},
    },
    "spec": {
        "replicas": 3,
        "paused": False,
        "progressDeadlineSeconds": 1000000,
        "minReadySeconds": 1234567,
        "template": {"spec": {"containers": [{"name": "main", "image": "foo/bar"}]}},
        "strategy": {"canary": {"maxSurge": "25%", "threshold": 0.00001}},
    },
    "status": {"pauseConditions": [{"reason": "test-reason", "startTime": None}]},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "test"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "0f1e"),
        ("metadata.labels['app']", "app"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['rollout.argoproj.io/revision']", "1"),
        ("metadata.annotations['Note']", 'say "a"'),
        ("metadata.labels", 'app="app"\nenv="test"'),
        ("metadata.annotations", 'Note="say \\"a\\""\nrollout.argoproj.io/revision="1"'),
        ("status.pauseConditions[0].reason", "test-reason"),
        ("status.pauseConditions.0.reason", "test-reason"),
        ("spec.template.spec.containers[0].image", "foo/bar"),
        ("spec.replicas", "3"),
        ("spec.paused", "false"),
        ("spec.progressDeadlineSeconds", "1e+06"),
        ("spec.minReadySeconds", "1.234567e+06"),
        ("spec.strategy.canary.maxSurge", "25%"),
        ("spec.strategy.canary.threshold", "1e-05"),
    ],
)
def test_read(path: str, value: str) -> None:
    assert read_field(ROLLOUT, path) == value


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("metadata.labels.app", "unsupported fieldPath: metadata.labels.app"),
        ("metadata.generation", "unsupported fieldPath"),
        ("metadata.name['a']", "does not support subscript"),
        ("metadata.labels['']", "invalid key subscript"),
        ("metadata.labels['a b']", "invalid key subscript"),
        ("metadata.labels['A/b']", "invalid key subscript"),
        (f"metadata.labels['{'a' * 64}']", "invalid key subscript"),
        ("status.pauseConditions[blah].reason", "invalid index 'blah'"),
        ("status.pauseConditions[12].reason", "index 12 out of range"),
        ("status.pauseConditions[0].startTime", "invalid path status.pauseConditions"),
        ("some.invalid[2].non.existing.path", "invalid path some.invalid"),
        ("spec.replicas.more", "invalid path"),
        ("status.pauseConditions[0]", "must end in a primitive value"),
        ("spec.template", "must end in a primitive value"),
    ],
)
def test_refused(path: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_field(ROLLOUT, path)


def test_quote_is_gos() -> None:
    text = "a\x01\u00e9\u200b\U0001f600\a\x7f\u00ad\"\\'\t\n\u0600\U000e0001"
    # What strconv.Quote of Go 1.24 writes.
    assert quote(text) == '"a\\x01\u00e9\\u200b\U0001f600\\a\\x7f\\u00ad\\"\\\\\'\\t\\n\\u0600\\U000e0001"'

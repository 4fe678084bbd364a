# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images in Kubernetes objects of every kind, and what is only a guess."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.discover import (
    DiscoverError,
    Document,
    Found,
    images,
)

POD = {"containers": [{"name": "a", "image": "quay.io/a/b:v1"}]}


def found(*contents: Any) -> Found:
    return images(Document("m.yaml", number, content) for number, content in enumerate(contents, 1))


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"kind": "Pod", "spec": POD}, "spec.containers[0].image"),
        ({"kind": "Deployment", "spec": {"template": {"spec": POD}}}, "spec.template.spec.containers[0].image"),
        ({"kind": "Rollout", "spec": {"template": {"spec": POD}}}, "spec.template.spec.containers[0].image"),
        (
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": POD}}}}},
            "spec.jobTemplate.spec.template.spec.containers[0].image",
        ),
        ({"kind": "Pod", "spec": {"initContainers": POD["containers"]}}, "spec.initContainers[0].image"),
        ({"kind": "Pod", "spec": {"ephemeralContainers": POD["containers"]}}, "spec.ephemeralContainers[0].image"),
        ({"kind": "Thing", "spec": {"pods": [{"podSpec": POD}]}}, "spec.pods[0].podSpec.containers[0].image"),
        (
            {"kind": "Pod", "spec": {"volumes": [{"image": {"reference": "quay.io/a/b:v1"}}]}},
            "spec.volumes[0].image.reference",
        ),
    ],
)
def test_wherever_a_pod_is_described(content: dict[str, Any], path: str) -> None:
    assert found(content).images == {"quay.io/a/b:v1": (f"m.yaml, document 1: {content['kind']}, {path}",)}


def test_lists_documents_and_repetitions() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": POD}
    result = found({"kind": "List", "items": [pod, {"kind": "PodList", "items": [pod]}]}, None, pod)
    assert result.images == {
        "quay.io/a/b:v1": (
            "m.yaml, document 1: Pod p, spec.containers[0].image",
            "m.yaml, document 3: Pod p, spec.containers[0].image",
        )
    }


def test_what_is_only_a_guess_is_a_hint() -> None:
    container = {
        "image": "quay.io/a/b:v1",
        "args": ["--sidecar=quay.io/a/sidecar:v2", "--listen=0.0.0.0:80/x", "--path=example.org/readme"],
        "env": [
            {"name": "RELATED_IMAGE", "value": f"ghcr.io/x/y@sha256:{'a' * 64}"},
            {"name": "SELF", "value": "quay.io/a/b:v1"},
        ],
    }
    result = found(
        {"kind": "Pod", "spec": {"containers": [container]}}, {"kind": "Prometheus", "spec": {"image": "p:v3"}}
    )
    assert set(result.images) == {"quay.io/a/b:v1"}
    assert set(result.hints) == {"quay.io/a/sidecar:v2", f"ghcr.io/x/y@sha256:{'a' * 64}", "p:v3"}
    assert result.hints["p:v3"] == ("m.yaml, document 2: Prometheus, spec.image",)


def test_schemas_and_other_documents_name_nothing() -> None:
    schema = {"properties": {"containers": [{"image": "UPPER"}], "image": "x:y"}}
    assert found(
        {"kind": "CustomResourceDefinition", "spec": schema}, "text", {"kind": "ConfigMap", "data": {}}
    ) == Found({}, {})


def test_an_image_that_is_none_is_named_with_its_place() -> None:
    with pytest.raises(DiscoverError, match=r"m\.yaml, document 2: Pod p, spec\.containers\[0\]\.image: 'Bad Image'"):
        found({}, {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": "Bad Image"}]}})

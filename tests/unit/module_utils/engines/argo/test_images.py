# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of manifests to the registry's: everywhere a kubelet pulls from, and where a container's image is repeated."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo import images
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo.images import ImageError

HOST = "192.168.2.2:5000"
DIGEST = "sha256:" + "a" * 64
ARGO = "quay.io/argoproj/argocd:v3.1.9"


def with_pod(kind: str, spec: dict[str, Any], wrap: tuple[str, ...] = ("spec", "template", "spec")) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x"}}
    node = body
    for key in wrap[:-1]:
        node = node.setdefault(key, {})
    node[wrap[-1]] = spec
    return body


def targets(items: list[dict[str, Any]], mapping: dict[str, str] | None = None) -> dict[str, str]:
    return {text: str(planned.target) for text, planned in images.plan(items, mapping or {}, HOST).items()}


@pytest.mark.parametrize(
    ("mapping", "target"),
    [
        ({}, "argoproj/argocd:v3.1.9"),  # as a bundle names it
        ({"quay.io/argoproj/argocd": "argocd"}, "argocd:v3.1.9"),
        ({"quay.io/argoproj/argocd": "argocd:v3.1.8"}, "argocd:v3.1.8"),
        ({"quay.io/argoproj/argocd": f"{HOST}/argocd"}, "argocd:v3.1.9"),
        ({"quay.io/argoproj/argocd": f"argocd@{DIGEST}"}, f"argocd@{DIGEST}"),
        ({ARGO: "exact:v1", "quay.io/argoproj/argocd": "any"}, "exact:v1"),
        ({"quay.io/argoproj/argocd:v9": "other:v9"}, "argoproj/argocd:v3.1.9"),
        ({"docker.io/argoproj/argocd": "hub"}, "argoproj/argocd:v3.1.9"),
    ],
)
def test_where_an_image_goes(mapping: dict[str, str], target: str) -> None:
    assert targets([with_pod("Deployment", {"containers": [{"image": ARGO}]})], mapping) == {ARGO: f"{HOST}/{target}"}


@pytest.mark.parametrize(
    ("published", "target"),
    [
        ("redis", "library/redis:latest"),
        ("docker.io/library/redis:7", "library/redis:7"),
        (f"{HOST}/argo-rollouts:v1.8.5", "argo-rollouts:v1.8.5"),
        (f"{HOST}/argo-rollouts:v1.8.5@{DIGEST}", f"argo-rollouts:v1.8.5@{DIGEST}"),
        (f"quay.io/a/b@{DIGEST}", f"a/b:{DIGEST.replace(':', '-')}"),  # a bundle's name for it
    ],
)
def test_images_without_a_mapping(published: str, target: str) -> None:
    pod = {"containers": [{"image": published}]}
    assert targets([with_pod("Deployment", pod)]) == {published: f"{HOST}/{target}"}


def test_a_name_of_docker_hub_is_found_however_it_is_spelled() -> None:
    pod = {"containers": [{"image": "redis:7"}, {"image": "docker.io/library/redis:7.2"}]}
    assert set(targets([with_pod("Deployment", pod)], {"redis": "redis:lab"}).values()) == {f"{HOST}/redis:lab"}


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"quay.io/Argo": "argo"}, "'quay.io/Argo', which is not an image"),
        ({"quay.io/argo": "argo:bad tag"}, "'argo:bad tag' for quay.io/argo, which is not an image"),
        ({"quay.io/argo": "ghcr.io/argo:v1"}, "ghcr.io/argo:v1 for quay.io/argo, which is not in the registry"),
    ],
)
def test_a_mapping_that_cannot_be(mapping: dict[str, str], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        images.plan([], mapping, HOST)


def test_an_image_that_is_none_is_named_with_its_place() -> None:
    with pytest.raises(ImageError, match=r"Deployment x, spec\.template\.spec\.containers\[0\]\.image: 'Quay:no:yes'"):
        images.plan([with_pod("Deployment", {"containers": [{"image": "Quay:no:yes"}]})], {}, HOST)


WRAPPED = [
    ("Pod", ("spec",)),
    ("Deployment", ("spec", "template", "spec")),
    ("Rollout", ("spec", "template", "spec")),
    ("CronJob", ("spec", "jobTemplate", "spec", "template", "spec")),
    ("PodTemplate", ("template", "spec")),
]


@pytest.mark.parametrize(("kind", "wrap"), WRAPPED)
def test_every_image_of_every_pod_spec(kind: str, wrap: tuple[str, ...]) -> None:
    spec = {
        "initContainers": [{"name": "i", "image": "init:1"}],
        "containers": [{"name": "c", "image": "main:1"}, {"name": "none"}],
        "ephemeralContainers": [{"name": "e", "image": "debug:1"}],
        "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "w", "emptyDir": {}}],
    }
    item = with_pod(kind, spec, wrap)
    planned = images.plan([item], {}, HOST)
    assert set(planned) == {"init:1", "main:1", "debug:1", "data:1"}
    assert planned["init:1"].places == (f"{kind} x, {'.'.join(wrap)}.initContainers[0].image",)
    node = images.rewrite([item], {text: f"new-{text}" for text in planned})[0]
    for key in wrap:
        node = node[key]
    assert [c.get("image") for c in node["containers"]] == ["new-main:1", None]
    assert node["initContainers"][0]["image"] == "new-init:1"
    assert node["ephemeralContainers"][0]["image"] == "new-debug:1"
    assert node["volumes"] == [{"name": "v", "image": {"reference": "new-data:1"}}, {"name": "w", "emptyDir": {}}]
    assert spec["containers"][0] == {"name": "c", "image": "main:1"}, "the manifest itself was changed"


def test_arguments_and_environment_that_repeat_an_image() -> None:
    """An image elsewhere is rewritten when its repository is a container's or mapped; other addresses are not ours."""
    container = {
        "image": ARGO,
        "args": ["--image", ARGO, "--helper=quay.io/argoproj/argocd:v3.1.9-helper", "--redis=redis.svc:6379/a:b"],
        "command": ["/bin/run", "--other=ghcr.io/other/tool:v1"],
        "env": [
            {"name": "IMAGE", "value": "quay.io/mapped/tool:v2"},
            {"name": "FROM", "valueFrom": {"fieldRef": {}}},
            {"name": "COUNT", "value": "1"},
        ],
    }
    item = with_pod("Deployment", {"containers": [container]})
    planned = images.plan([item], {"quay.io/mapped/tool": "tool"}, HOST)
    assert set(planned) == {ARGO, f"{ARGO}-helper", "quay.io/mapped/tool:v2"}
    changed = images.rewrite([item], {text: str(p.target) for text, p in planned.items()})[0]
    out = changed["spec"]["template"]["spec"]["containers"][0]
    argo = f"{HOST}/argoproj/argocd:v3.1.9"
    assert out["args"] == ["--image", argo, f"--helper={argo}-helper", "--redis=redis.svc:6379/a:b"]
    assert out["command"] == container["command"]
    assert [entry.get("value") for entry in out["env"]] == [f"{HOST}/tool:v2", None, "1"]


def test_always_becomes_if_not_present_when_the_digest_is_pinned() -> None:
    policies = ["Always", "Never", None]
    pod = {"containers": [{"image": ARGO, **({"imagePullPolicy": p} if p else {})} for p in policies]}
    item = with_pod("Deployment", pod)

    def after(reference: str) -> list[Any]:
        changed = images.rewrite([item], {ARGO: reference})[0]
        return [c.get("imagePullPolicy") for c in changed["spec"]["template"]["spec"]["containers"]]

    assert after(f"{HOST}/argocd:v3.1.9@{DIGEST}") == ["IfNotPresent", "Never", None]
    assert after(f"{HOST}/argocd:v3.1.9") == policies


def test_definitions_describe_containers_and_have_none() -> None:
    schema = {"properties": {"containers": {"items": {"properties": {"image": {"type": "string"}}}}}}
    item = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}}
    item["spec"] = schema  # type: ignore[assignment]
    assert images.plan([item], {}, HOST) == {}
    assert images.rewrite([item], {"string": "x"}) == [item]


def test_what_the_registry_is_asked_for() -> None:
    pod = {"containers": [{"image": f"{HOST}/a:v1@{DIGEST}"}, {"image": f"{HOST}/b:v1"}]}
    planned = images.plan([with_pod("Pod", pod, ("spec",))], {}, HOST)
    assert [each.reference for each in planned.values()] == [DIGEST, "v1"]

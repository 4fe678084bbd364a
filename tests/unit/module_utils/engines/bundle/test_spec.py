# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a bundle.yml may say, and how what it may not say is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import spec
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.spec import SpecError, dotted, parse

HEX = "a" * 64
WHEELS = {"python": "3.11", "platforms": ["manylinux_2_36_x86_64"], "requirements": ["docker==7.2.0"]}


def document(**more: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "lumen", **more}


def test_the_least() -> None:
    parsed = parse(document())
    assert (parsed.name, parsed.number, parsed.images) == ("lumen", None, ())
    assert parsed.access("quay.io") == spec.Access("quay.io", "https")


def test_all_images_of_the_manifests_in_short() -> None:
    parsed = parse(document(images="discover", manifests=["m/*.yaml", "charts/*.yaml"]))
    assert [found.patterns for found in parsed.discoveries] == [("m/*.yaml", "charts/*.yaml")]
    with pytest.raises(SpecError, match="looks into the manifests of the bundle"):
        parse(document(images="discover"))


def test_everything() -> None:
    parsed = parse(
        document(
            number=42,
            valid_days=30,
            registry_image="lumen-airgap/registry:3.1.2",
            registries=[{"host": "127.0.0.1:5001", "scheme": "http", "username": "u", "password_file": "pw"}],
            images=[
                {"registry": "quay.io/argoproj/argocd:v3.1.9", "platforms": ["linux/amd64"]},
                {"daemon": "lumen-airgap/registry:3.1.2"},
                {"layout": "layouts/a", "ref": "x/a:v1", "name": "a:v1"},
                {"discover": ["m/*.yaml"], "exclude": ["192.168.2.2:5000/*"], "from": "daemon"},
            ],
            trivy={"db": "mirror.test/aqua/trivy-db:2", "java_db": {"layout": "trivy", "ref": "java:1"}},
            manifests=["m/*.yaml"],
            files=[{"source": "LICENSE"}, {"source": "bin/x", "path": "tools/x", "mode": "0755"}],
            collection="..",
            wheels={"node": WHEELS, "control": {**WHEELS, "requirements": "requirements.txt"}},
        )
    )
    assert [(image.origin, image.name, image.kind) for image in parsed.images] == [
        ("registry", "argoproj/argocd:v3.1.9", "image"),
        ("daemon", "lumen-airgap/registry:3.1.2", "image"),
        ("layout", "a:v1", "image"),
        ("registry", "trivy-db:2", "trivy-db"),
        ("layout", "trivy-java-db:1", "trivy-java-db"),
    ]
    assert parsed.discoveries[0].origin == "daemon"
    assert parsed.files[0].path == "LICENSE"
    assert parsed.wheels[1].requirements_file == "requirements.txt"
    assert parsed.access("127.0.0.1:5001").scheme == "http"


@pytest.mark.parametrize(
    ("more", "message", "where"),
    [
        ({"schema": 2}, "this version of the collection reads 1", "schema"),
        ({"name": "../x"}, "cannot be the name of a bundle", "name"),
        ({"name": None}, "name is missing", ""),
        ({"numbr": 1}, "'numbr' is not known", "numbr"),
        ({"number": 0}, "a number from 1", "number"),
        ({"number": True}, "a number from 1", "number"),
        ({"expires": "tomorrow"}, "not a time like", "expires"),
        ({"expires": "2030-01-01T00:00:00Z", "valid_days": 1}, "give one", "expires"),
        ({"registry_image": "registry"}, "repository:tag", "registry_image"),
        ({"registries": [{"host": "http://x"}]}, "no address of a registry", "registries[0].host"),
        ({"registries": [{"host": "x", "scheme": "ftp"}]}, "http or https", "registries[0].scheme"),
        ({"registries": [{"host": "x", "username": "u"}]}, "needs a password", "registries[0].username"),
        ({"images": {"registry": "a:b"}}, "images is a list", "images"),
        ({"images": ["a:b"]}, "a mapping is expected, not a text", "images[0]"),
        ({"images": [{"registri": "a:b"}]}, "'registri' is not known; known are", "images[0].registri"),
        ({"images": [{"name": "a:b"}]}, "exactly one source", "images[0]"),
        ({"images": [{"registry": "a:b", "daemon": "a:b"}]}, "exactly one source", "images[0]"),
        ({"images": [{"registry": "UPPER/x:1"}]}, "not a repository", "images[0].registry"),
        ({"images": [{"registry": "a:1", "name": "a"}]}, "repository:tag", "images[0].name"),
        ({"images": [{"layout": "x"}]}, "a name .* is needed", "images[0]"),
        ({"images": [{"daemon": f"sha256:{HEX}"}]}, "repository:tag", "images[0]"),
        ({"images": [{"registry": "a:1", "platforms": ["amd64"]}]}, "linux/amd64", "images[0].platforms[0]"),
        ({"images": [{"daemon": "a:1"}, {"daemon": "b:1", "name": "a:1"}]}, "two images, also", "images[1]"),
        ({"images": [{"discover": []}]}, "list of files", "images[0].discover"),
        ({"images": [{"discover": ["x"], "from": "layout"}]}, "not 'layout'", "images[0].from"),
        ({"trivy": {"database": "x"}}, "not known", "trivy.database"),
        ({"files": [{"source": "x", "path": "../x"}]}, "inside the bundle", "files[0].path"),
        ({"files": [{"source": "x", "mode": "777"}]}, "four octal digits", "files[0].mode"),
        ({"files": [{"source": "a/x"}, {"source": "b/x"}]}, "path of two files", "files[1]"),
        ({"manifests": [1]}, "list of texts", "manifests[0]"),
        ({"wheels": {"builder": WHEELS}}, "not known", "wheels.builder"),
        ({"wheels": {"node": {**WHEELS, "python": "2.7"}}}, "version of the target", "wheels.node.python"),
        ({"wheels": {"node": {**WHEELS, "platforms": ["win32"]}}}, "platform tag", "wheels.node.platforms[0]"),
        ({"wheels": {"node": {**WHEELS, "platforms": []}}}, "name tags of the target", "wheels.node.platforms"),
        (
            {"wheels": {"node": {**WHEELS, "platforms": ["manylinux2014_x86_64", "manylinux2014_aarch64"]}}},
            "one architecture, not of aarch64, x86_64",
            "wheels.node.platforms",
        ),
        ({"wheels": {"node": {**WHEELS, "requirements": []}}}, "not empty", "wheels.node"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(more: dict[str, Any], message: str, where: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse(document(**more))
    assert dotted(caught.value.where) == where


@pytest.mark.parametrize("given", [None, [], "text"])
def test_a_description_that_is_no_mapping(given: Any) -> None:
    with pytest.raises(SpecError, match="a mapping is expected"):
        parse(given)


@pytest.mark.parametrize(
    ("text", "full", "name"),
    [
        ("redis:7", "registry-1.docker.io/library/redis:7", "library/redis:7"),
        ("docker.io/a/b", "registry-1.docker.io/a/b:latest", "a/b:latest"),
        ("quay.io/a/b:v1", "quay.io/a/b:v1", "a/b:v1"),
        (f"h:1/a@sha256:{HEX}", f"h:1/a@sha256:{HEX}", f"a:sha256-{HEX}"),
    ],
)
def test_references_as_container_runtimes_read_them(text: str, full: str, name: str) -> None:
    reference = spec.qualified(text)
    assert str(reference) == full
    assert spec.default_name(reference) == name


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4GiB", 4 << 30),
        ("4 GiB", 4 << 30),
        ("4Gi", 4 << 30),
        ("4GB", 4 * 10**9),
        ("1KB", 1000),
        ("5B", 5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert spec.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4 gigabytes", "-1", "1.5GiB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        spec.parse_size(text)


def test_a_newer_glibc_takes_what_was_built_for_an_older_one() -> None:
    tags = spec.expand_platforms(("manylinux2014_x86_64", "manylinux_2_28_x86_64"))
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(tags)
    assert "manylinux_2_31_x86_64" not in tags

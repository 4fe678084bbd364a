# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bundles built from every source, twice, in every form, and against an inventory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.layout import Layout
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.store import open_store
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import manifest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.manifest import HEAD, BundleManifest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.spec import WheelSource
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle import build as build_module
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle import space
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.build import build
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.sources import Tools, sharing
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.docker_archive import Daemon, layer
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry, digest_of

BASE = layer(base="b" * 5000)
DAY = 86400


class Wheelhouse:
    """What pip and uv would have fetched. ``fetched`` are the targets."""

    def __init__(self) -> None:
        self.fetched: list[tuple[str, str]] = []

    def fetch(self, source: WheelSource, requirements: str, target: str) -> None:
        self.fetched.append((source.name, Path(requirements).read_text()))
        Path(target, "docker-7.2.0-py3-none-any.whl").write_bytes(b"wheel")
        Path(target, "requirements.txt").write_text("docker==7.2.0 --hash=sha256:00\n")


class Workshop:
    """A bundle.yml, everything that it can ask for, and one build after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = FakeRegistry()
        self.daemon = Daemon({"local/app:v1": [BASE, layer(app="1")], "local/tool:v1": [BASE, layer(tool="1")]})
        self.wheelhouse = Wheelhouse()
        self.clock = FakeClock()
        self.lines: list[str] = []
        self.key = root / "key"
        self.document: dict[str, Any] = {"schema": 1, "name": "lumen"}
        self.connected: list[dict[str, Any]] = []
        make_key(self.key)

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def build(self, output: str = "out.tar", **options: Any) -> dict[str, Any]:
        spec = self.write("bundle.yml", yaml.safe_dump(self.document, sort_keys=False))
        options.setdefault("cache_path", str(self.cache))
        options.setdefault("key", str(self.key))
        return build(
            str(spec),
            str(self.root / output),
            clock=self.clock,
            progress=self.lines.append,
            tools=self.tools(),
            **options,
        )

    def tools(self) -> Tools:
        def connect(options: Any) -> Registry:
            self.connected.append(dict(options))
            return Registry(options["host"], "http", self.registry.session())

        def collection(checkout: str, target: str) -> str:
            path = Path(target, "lumen-airgap-0.1.0.tar.gz")
            path.write_bytes(Path(checkout, "galaxy.yml").read_bytes())
            return str(path)

        return Tools(
            connect_docker=lambda: self.daemon,  # type: ignore[arg-type, return-value]
            connect_registry=connect,
            wheels=lambda: self.wheelhouse,  # type: ignore[arg-type, return-value]
            build_collection=collection,
        )

    def read(self, output: str = "out.tar") -> BundleManifest:
        with open_store(str(self.root / output)) as store, store.open("bundle.json") as file:
            return manifest.parse(file.read())


def make_key(path: Path, *options: str) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "build", "-f", str(path), *options]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=30)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def full(shop: Workshop) -> Workshop:
    """One of each source."""
    shop.registry.add_image("a/b", "v1", [b"layer"])
    shop.registry.add_image("aqua/trivy-db", "2", [b"database"])
    layout = LayoutBuilder(shop.root / "layout")
    layout.add("inner", layout.index([layout.manifest([b"x"]), layout.manifest([b"y"])]))
    shop.write("manifests/app.yaml", f"kind: Pod\nspec: {{containers: [{{image: '{HOST}/a/b:v1'}}]}}\n")
    shop.write("checkout/galaxy.yml", "name: airgap\n")
    shop.write("tools/run", "#!/bin/sh\n").chmod(0o755)
    shop.document.update(
        registry_image="local/tool:v1",
        images=[
            {"discover": ["manifests/*.yaml"]},
            {"daemon": "local/app:v1"},
            {"daemon": "local/tool:v1"},
            {"layout": "layout", "ref": "inner", "name": "lay/out:v1"},
        ],
        trivy={"db": f"{HOST}/aqua/trivy-db:2"},
        manifests=["manifests/*.yaml"],
        files=[{"source": "tools"}],
        collection="checkout",
        wheels={"node": {"python": "3.11", "platforms": ["manylinux2014_x86_64"], "requirements": ["docker==7.2.0"]}},
    )
    return shop


def test_everything_is_in_it(full: Workshop) -> None:
    result = full.build()
    found = full.read()
    assert result["changed"]
    assert [(item.name, item.kind) for item in found.images] == [
        ("a/b:v1", "image"),
        ("lay/out:v1", "image"),
        ("local/app:v1", "image"),
        ("local/tool:v1", "image"),
        ("trivy-db:2", "trivy-db"),
    ]
    others = {file.path: file.mode for file in found.files if not file.path.startswith("blobs/")}
    assert others == {
        "collections/lumen-airgap-0.1.0.tar.gz": "0644",
        "files/tools/run": "0755",
        "index.json": "0644",
        "manifests/app.yaml": "0644",
        "oci-layout": "0644",
        "wheels/node/docker-7.2.0-py3-none-any.whl": "0644",
        "wheels/node/requirements.txt": "0644",
    }
    assert (found.number, found.registry_image, found.collection) == (
        1,
        "local/tool:v1",
        "collections/lumen-airgap-0.1.0.tar.gz",
    )
    with open_store(str(full.root / "out.tar")) as store:
        assert [*store.names()][:6] == [*HEAD, "index.json", "oci-layout"]
        layout = Layout("bundle", store)
        for item in found.images:
            assert layout.image(item.name).root.digest == item.digest


def test_a_bare_machine_can_verify_it(full: Workshop) -> None:
    full.build("out")
    public = (full.root / "key.pub").read_text().split()
    allowed = full.write("allowed", f"release {public[0]} {public[1]}\n")
    argv = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        str(allowed),
        "-I",
        "release",
        "-n",
        "lumen-airgap-bundle",
        "-s",
        "SHA256SUMS.sig",
    ]
    sums = (full.root / "out" / "SHA256SUMS").read_bytes()
    subprocess.run(argv, check=True, input=sums, cwd=full.root / "out", timeout=30, capture_output=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], check=True, cwd=full.root / "out", timeout=30)
    assert os.stat(full.root / "out" / "files/tools/run").st_mode & 0o777 == 0o755


@pytest.mark.parametrize(("output", "options"), [("out.tar", {}), ("out", {}), ("volumes", {"volume_size": "1MiB"})])
def test_a_second_build_changes_and_fetches_nothing(full: Workshop, output: str, options: dict[str, Any]) -> None:
    full.write("big", os.urandom(1500 * 1024).hex())
    full.document["files"].append({"source": "big"})
    first = full.build(output, **options)
    full.clock.sleep(10 * DAY)
    full.registry.requests.clear()
    second = full.build(output, **options)
    assert not second["changed"]
    assert second["bundle"] == first["bundle"]
    assert second["diff"]["before"] == second["diff"]["after"]
    assert not [path for path in full.registry.asked("GET") if "/blobs/" in path]
    assert len(full.daemon.saved) == len(full.wheelhouse.fetched) == 1


def test_a_build_without_cache_makes_the_same_bundle_again(full: Workshop) -> None:
    first = full.build()
    shutil.rmtree(full.cache)
    second = full.build()
    assert (second["changed"], second["bundle"]["sha256"]) == (False, first["bundle"]["sha256"])


def test_volumes_have_the_size_and_hold_the_tar(shop: Workshop) -> None:
    shop.write("big", os.urandom(1200 * 1024).hex())
    shop.document["files"] = [{"source": "big"}]
    result = shop.build("volumes", volume_size=1024 * 1024)
    shop.build("out.tar")
    files = [Path(path) for path in result["bundle"]["files"]]
    assert [path.name for path in files] == ["lumen-1.tar.001", "lumen-1.tar.002", "lumen-1.tar.003"]
    assert [path.stat().st_size for path in files[:-1]] == [1024 * 1024] * 2
    assert b"".join(path.read_bytes() for path in files) == (shop.root / "out.tar").read_bytes()
    assert shop.build("volumes", volume_size="2MiB")["changed"]
    assert len(os.listdir(shop.root / "volumes")) == 2


def test_check_mode_says_what_would_be_packed_and_writes_nothing(full: Workshop) -> None:
    result = full.build(check_mode=True)
    assert result["changed"]
    assert result["unknown"] == ["local/app:v1", "local/tool:v1", "wheels/node"]
    after = result["diff"]["after"]
    assert set(after["images"]) == {"a/b:v1", "lay/out:v1", "trivy-db:2"}
    assert after["made_by_the_build"] == result["unknown"]
    assert "files/tools/run" in after["files"]
    assert not full.cache.exists()
    assert not (full.root / "out.tar").exists()
    assert full.daemon.saved == []


def test_check_mode_after_a_build_has_nothing_to_do(full: Workshop) -> None:
    full.build()
    result = full.build(check_mode=True)
    assert (result["changed"], result["unknown"]) == (False, [])


def test_the_diff_names_images_and_files(full: Workshop) -> None:
    full.build()
    full.write("manifests/app.yaml", f"kind: Pod\nspec: {{containers: [{{image: '{HOST}/a/b:v2'}}]}}\n")
    full.registry.add_image("a/b", "v2", [b"layer", b"more"])
    diff = full.build()["diff"]
    assert "a/b:v1" in diff["before"]["images"]
    assert "a/b:v2" in diff["after"]["images"]
    assert diff["before"]["files"]["manifests/app.yaml"] != diff["after"]["files"]["manifests/app.yaml"]
    assert (diff["before"]["number"], diff["after"]["number"]) == (1, 2)


# --- what a bundle that is there means -------------------------------------------------------------------------------


def small(shop: Workshop) -> None:
    shop.write("a.txt", "one")
    shop.document["files"] = [{"source": "a.txt"}]


def test_another_content_gets_the_next_number(shop: Workshop) -> None:
    small(shop)
    shop.build()
    shop.write("a.txt", "two")
    assert shop.build()["bundle"]["number"] == 2


def test_numbers_count_from_one(shop: Workshop) -> None:
    small(shop)
    with pytest.raises(AirgapError, match="the option number: 0 is no number of a bundle"):
        shop.build(number=0)


def test_an_output_that_is_a_link_is_written_where_it_leads(shop: Workshop) -> None:
    small(shop)
    (shop.root / "medium").mkdir()
    (shop.root / "out.tar").symlink_to(shop.root / "medium" / "lumen.tar")
    shop.build()
    assert (shop.root / "out.tar").is_symlink()
    assert shop.read("medium/lumen.tar").number == 1


@pytest.mark.parametrize("by_option", [True, False])
def test_a_number_that_does_not_rise(shop: Workshop, by_option: bool) -> None:
    small(shop)
    shop.build(number=7)
    shop.write("a.txt", "two")
    if not by_option:
        shop.document["number"] = 7
    with pytest.raises(
        AirgapError, match=r"(the option number|bundle\.yml:\d+ \(number\)): number 7 does not rise above 7"
    ):
        shop.build(**({"number": 7} if by_option else {}))
    assert shop.read().number == 7
    assert shop.build(number=9)["bundle"]["number"] == 9


def test_a_bundle_whose_time_is_nearly_up_is_built_again(shop: Workshop) -> None:
    small(shop)
    shop.document["valid_days"] = 30
    first = shop.build()["bundle"]
    shop.clock.sleep(19 * DAY)
    assert not shop.build()["changed"]
    shop.clock.sleep(2 * DAY)
    second = shop.build()["bundle"]
    assert second["number"] == 2
    assert second["expires"] > first["expires"]


def test_an_expiry_that_is_past(shop: Workshop) -> None:
    shop.document["expires"] = "2001-01-01T00:00:00Z"
    with pytest.raises(AirgapError, match=r"bundle\.yml:3 \(expires\): 2001-01-01T00:00:00Z is past"):
        shop.build()


def test_a_flipped_byte_and_another_key_are_mended(shop: Workshop) -> None:
    small(shop)
    first = shop.build("out")
    (shop.root / "out/files/a.txt").write_text("onf")
    second = shop.build("out")
    assert second["changed"]
    assert second["bundle"] == first["bundle"]
    make_key(shop.root / "other")
    assert shop.build("out", key=str(shop.root / "other"))["changed"]
    (shop.root / "out/stray").write_text("")
    assert shop.build("out", key=str(shop.root / "other"))["changed"]
    assert not (shop.root / "out/stray").exists()


@pytest.mark.parametrize("name", ["out.tar", "out"])
def test_what_is_no_bundle_is_not_replaced(shop: Workshop, name: str) -> None:
    small(shop)
    shop.write("out.tar", "precious")
    shop.write("out/precious", "precious")
    with pytest.raises(AirgapError, match=r"no sound bundle .*: it is not replaced"):
        shop.build(name)
    assert (shop.root / "out.tar").read_text() == "precious"


def test_a_killed_build_leaves_nothing_that_looks_like_a_bundle(
    full: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # As after SIGKILL: nothing is tidied up.
        patched.setattr(build_module, "_tidy", lambda where: None)
        patched.setattr(build_module, "_place", lambda draft, where: killed(draft))
        with pytest.raises(KeyboardInterrupt):
            full.build("out")
    assert [name for name in os.listdir(full.root) if name.startswith(".out.draft-")]
    assert not (full.root / "out").exists()
    assert full.build("out")["changed"]
    assert [name for name in os.listdir(full.root) if name.startswith(".")] == []


def test_a_directory_lost_between_two_renames_comes_back(shop: Workshop) -> None:
    small(shop)
    shop.build("out")
    (shop.root / ".out.old-x").mkdir()
    (shop.root / "out").rename(shop.root / ".out.old-x" / "bundle")
    assert not shop.build("out")["changed"]


def test_not_enough_space(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    small(shop)
    free = SimpleNamespace(f_bavail=1, f_frsize=1)
    monkeypatch.setattr(space.os, "statvfs", lambda path: free)
    with pytest.raises(AirgapError, match=r"not enough space: .* for the bundle under"):
        shop.build()
    assert sorted(os.listdir(shop.root)) == ["a.txt", "bundle.yml", "cache", "key", "key.pub"]


@pytest.mark.parametrize(
    ("output", "size", "message"),
    [
        ("out", "4 apples", "is not a size"),
        ("out", "4K", "at least 1MiB"),
        ("out.tar", "4GiB", "directory of their own"),
    ],
)
def test_volumes_that_make_no_sense(shop: Workshop, output: str, size: str, message: str) -> None:
    with pytest.raises(AirgapError, match=message):
        shop.build(output, volume_size=size)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_that_is_missing_is_named_before_anything_is_fetched(full: Workshop) -> None:
    with pytest.raises(AirgapError, match=r"no signing key at .*/gone: ssh-keygen"):
        full.build(key=str(full.root / "gone"))
    assert full.registry.requests == []


def test_a_key_with_a_passphrase_does_not_hang(shop: Workshop) -> None:
    small(shop)
    path = shop.root / "locked"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=30)
    with pytest.raises(AirgapError, match="passphrase has to be in the agent"):
        shop.build(key=str(path))
    assert not (shop.root / "out.tar").exists()


def test_the_public_half_is_found_without_its_file(shop: Workshop) -> None:
    small(shop)
    shop.build()
    (shop.root / "key.pub").unlink()
    assert not shop.build()["changed"]


# --- registries ------------------------------------------------------------------------------------------------------


def index(shop: Workshop, *platforms: str) -> tuple[str, dict[str, str]]:
    """An index in the registry; returns its digest and those of its children."""
    children, entries = {}, []
    for platform in platforms:
        system, arch, *variant = platform.split("/")
        digest = shop.registry.add_image("multi", f"tmp-{arch}", [f"layer {platform}".encode()], for_=platform)
        media_type, body = shop.registry.manifests["multi"][digest]
        about = {"os": system, "architecture": arch, **({"variant": variant[0]} if variant else {})}
        entries.append({"mediaType": media_type, "digest": digest, "size": len(body), "platform": about})
        children[platform] = digest
    media_type = "application/vnd.oci.image.index.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()
    return shop.registry.put("multi", "v1", media_type, body), children


@pytest.mark.parametrize("platforms", [[], ["linux/amd64", "linux/arm64"]])
def test_an_index_stays_as_it_is(shop: Workshop, platforms: list[str]) -> None:
    digest, children = index(shop, "linux/amd64", "linux/arm64/v8", "linux/s390x")
    shop.document["images"] = [{"registry": f"{HOST}/multi:v1", "platforms": platforms}]
    shop.build()
    found = shop.read()
    assert found.images[0].digest == digest
    assert {f"blobs/sha256/{child[7:]}" for child in children.values()} <= {file.path for file in found.files}


def test_one_platform_is_its_own_image(shop: Workshop) -> None:
    _digest, children = index(shop, "linux/amd64", "linux/arm64/v8")
    shop.document["images"] = [{"registry": f"{HOST}/multi:v1", "platforms": ["linux/arm64"]}]
    shop.build()
    assert shop.read().images[0].digest == children["linux/arm64/v8"]


def test_a_platform_that_is_not_there(shop: Workshop) -> None:
    index(shop, "linux/amd64")
    shop.registry.add_image("single", "v1", [b"l"])
    for name, message in (("multi", "has no image for linux/arm64; it has linux/amd64"), ("single", "is for .*alone")):
        shop.document["images"] = [{"registry": f"{HOST}/{name}:v1", "platforms": ["linux/arm64"]}]
        with pytest.raises(AirgapError, match=rf"bundle\.yml:4 \(images\[0\]\): {HOST}/{name}:v1 {message}"):
            shop.build()


def test_a_tag_that_does_not_exist(shop: Workshop) -> None:
    shop.registry.add_image("a/b", "v1", [b"layer"])
    shop.document["images"] = [{"registry": f"{HOST}/a/b:v9"}]
    with pytest.raises(AirgapError, match=rf"bundle\.yml:4 \(images\[0\]\): {HOST}/a/b has no v9: it has the tags v1"):
        shop.build()


def test_a_registry_that_is_down_is_named(shop: Workshop) -> None:
    shop.registry.break_with("GET", "", requests.exceptions.ConnectionError("refused"))
    shop.document["images"] = [{"registry": f"{HOST}/a/b:v9"}]
    tools = shop.tools

    def impatient() -> Tools:
        made = tools()
        made.connect_registry = lambda options: Registry(
            HOST, "http", shop.registry.session(), clock=FakeClock(), patience=0
        )
        return made

    shop.tools = impatient  # type: ignore[method-assign]
    with pytest.raises(AirgapError, match=rf"\(images\[0\]\): the registry http://{HOST} cannot be reached"):
        shop.build()


def test_a_layer_that_arrives_corrupt_is_never_packed(shop: Workshop) -> None:
    shop.registry.add_image("a/b", "v1", [b"layer"])
    shop.registry.blobs["a/b"][digest_of(b"layer")] = b"LAYER"
    shop.document["images"] = [{"registry": f"{HOST}/a/b:v1"}]
    with pytest.raises(AirgapError, match="corrupt"):
        shop.build()
    assert not (shop.root / "out.tar").exists()


def test_how_a_registry_is_spoken_to(shop: Workshop) -> None:
    shop.registry.add_image("a/b", "v1", [b"layer"])
    shop.write("password", "s3cret\n")
    shop.document["registries"] = [
        {"host": HOST, "scheme": "http", "username": "u", "password_file": "password", "ca_path": "ca.pem"}
    ]
    shop.document["images"] = [{"registry": f"{HOST}/a/b:v1"}]
    result = shop.build()
    assert shop.connected == [
        {"host": HOST, "scheme": "http", "ca_path": str(shop.root / "ca.pem"), "username": "u", "password": "s3cret"}
    ]
    assert "s3cret" not in json.dumps(result)


def test_docker_hub_is_asked_under_its_own_name(shop: Workshop) -> None:
    shop.registry.add_image("library/redis", "7", [b"layer"])
    shop.document["images"] = [{"registry": "redis:7"}]
    shop.build()
    assert shop.connected[0]["host"] == "registry-1.docker.io"
    assert shop.read().images[0].name == "library/redis:7"


# --- the daemon ------------------------------------------------------------------------------------------------------


def test_only_images_that_are_new_are_read_from_the_daemon(full: Workshop) -> None:
    full.build()
    full.daemon.images["local/app:v1"] = [BASE, layer(app="2")]
    assert full.build()["changed"]
    assert full.daemon.saved == [["local/app:v1", "local/tool:v1"], ["local/app:v1"]]


def test_an_image_that_the_daemon_does_not_have(shop: Workshop) -> None:
    shop.document["images"] = [{"daemon": "local/gone:v1"}]
    with pytest.raises(
        AirgapError, match=r"bundle\.yml:4 \(images\[0\]\): the image local/gone:v1 is not in the Docker"
    ):
        shop.build()


def test_an_image_that_changes_while_it_is_saved(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.document["images"] = [{"daemon": "local/app:v1"}]
    monkeypatch.setattr(shop.daemon, "save", lambda names: Daemon({"x:1": [BASE]}).save(["x:1"]))
    with pytest.raises(AirgapError, match="local/app:v1 changed in Docker while it was saved"):
        shop.build()


def test_images_are_asked_for_in_groups_that_share_no_layer() -> None:
    images = {
        name: {"Size": size, "RootFS": {"Layers": layers}}
        for name, size, layers in [
            ("a", 1, ["x", "1"]),
            ("b", 9, ["y"]),
            ("c", 1, ["x", "z"]),
            ("d", 2, ["z"]),
            ("e", 3, []),
        ]
    }
    assert [sorted(group) for group in sharing(images)] == [["b"], ["a", "c", "d"], ["e"]]


# --- discovery and files ---------------------------------------------------------------------------------------------


def pod(image: str) -> str:
    container = f"{{image: '{image}', args: ['--x={HOST}/hint:v1']}}"
    return f"kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{container}]}}\n"


def test_discovered_images_with_exclusions_and_hints(shop: Workshop) -> None:
    shop.registry.add_image("a/b", "v1", [b"layer"])
    shop.write("m/1.yaml", pod(f"{HOST}/a/b:v1") + "---\n# nothing\n---\n" + pod("inside.test:5000/own:v1"))
    shop.document["images"] = [{"discover": ["m/*.yaml"], "exclude": ["inside.test:5000/*"]}]
    result = shop.build()
    assert [item["name"] for item in result["bundle"]["images"]] == ["a/b:v1"]
    assert list(result["hints"]) == [f"{HOST}/hint:v1"]
    assert "m/1.yaml, document 3" in result["hints"][f"{HOST}/hint:v1"][1]


def test_an_image_of_its_own_wins_over_a_discovered_one(shop: Workshop) -> None:
    shop.write("m/1.yaml", pod("inside.test:5000/local/app:v1"))
    shop.document["images"] = [{"discover": ["m/*.yaml"]}, {"daemon": "local/app:v1"}]
    shop.build()
    assert [item.source for item in shop.read().images] == ["daemon local/app:v1"]


def test_two_discovered_images_of_one_name(shop: Workshop) -> None:
    shop.write("m/1.yaml", pod("a.test/x:v1") + "---\n" + pod("b.test/x:v1"))
    shop.document["images"] = [{"discover": ["m/*.yaml"]}]
    with pytest.raises(AirgapError, match=r"a\.test/x:v1 and b\.test/x:v1 .*document 2.* would both be x:v1"):
        shop.build()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\n{{ .Values }\n", r"m/1\.yaml, document 2: not YAML"),
        (pod("No Image"), r"m/1\.yaml, document 1: Pod p, .*'No Image' is not an image"),
    ],
)
def test_a_manifest_that_is_wrong_is_named_with_its_document(shop: Workshop, text: str, message: str) -> None:
    shop.write("m/1.yaml", text)
    shop.document["images"] = [{"discover": ["m/*.yaml"]}]
    with pytest.raises(AirgapError, match=message):
        shop.build()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"manifests": ["m/*.yaml"]}, r"bundle\.yml:4 \(manifests\[0\]\): no file is named by m/\*\.yaml"),
        ({"files": [{"source": "gone"}]}, r"bundle\.yml:4 \(files\[0\]\): .*/gone cannot be read: No such file"),
        ({"collection": "gone"}, r"bundle\.yml:3 \(collection\): .*neither the checkout"),
        ({"registry_image": "a:1"}, r"bundle\.yml:3 \(registry_image\): a:1 is not the name of one of the images"),
        ({"images": [{"layout": "gone", "ref": "a:1"}]}, r"bundle\.yml:4 \(images\[0\]\): .*not an OCI layout"),
        ({"images": [{"registry": "UPPER"}]}, r"bundle\.yml:4 \(images\[0\]\.registry\): 'UPPER' is not a repository"),
        ({"surprise": 1}, r"bundle\.yml:3 \(surprise\): the key 'surprise' is not known"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(shop: Workshop, more: dict[str, Any], message: str) -> None:
    shop.document.update(more)
    with pytest.raises(AirgapError, match=message):
        shop.build()


def test_versions_modes_and_times_need_no_quotes(shop: Workshop) -> None:
    shop.write("a.txt", "x")
    spec = shop.write(
        "plain.yml",
        "schema: 1\nname: lumen\nnumber: 3\nexpires: 2099-01-31T12:00:00Z\n"
        "files: [{source: a.txt, mode: 0600}]\n"
        "wheels: {node: {python: 3.10, platforms: [manylinux2014_x86_64], requirements: [a]}}\n",
    )
    build(
        str(spec),
        str(shop.root / "out"),
        str(shop.key),
        cache_path=str(shop.cache),
        tools=shop.tools(),
        clock=shop.clock,
    )
    found = shop.read("out")
    assert found.wheelhouses is not None
    assert found.wheelhouses["node"].python == "3.10"
    assert (found.expires, found.files[0].mode) == ("2099-01-31T12:00:00Z", "0600")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("schema: 1\nfiles: [{source: a}]\nfiles: [{source: b}]", r"files comes twice .*line 3"),
        ("schema: 1\nfiles: [{source: a, source: b}]", r"source comes twice .*line 2"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_description_that_cannot_be_read(shop: Workshop, body: str | None, message: str) -> None:
    path = shop.root / "bad.yml"
    if body:
        path.write_text(body)
    with pytest.raises(AirgapError, match=message):
        build(str(path), str(shop.root / "out"), str(shop.key))


def test_a_file_that_changes_while_the_bundle_is_built(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    small(shop)
    fetch: Callable[..., None] = build_module.fetch

    def changing(*arguments: Any) -> None:
        shop.write("a.txt", "two")
        fetch(*arguments)

    monkeypatch.setattr(build_module, "fetch", changing)
    with pytest.raises(AirgapError, match=r"files/a\.txt is not what it was when it was hashed"):
        shop.build()
    assert not (shop.root / "out.tar").exists()


# --- deltas ----------------------------------------------------------------------------------------------------------


def inventory(shop: Workshop, bundle: str, number: int) -> str:
    """What the inside holds after it has imported this bundle."""
    found = shop.read(bundle)
    files = {f"lumen/{item.path}": {"sha256": item.sha256, "size": item.size} for item in found.unpacked}
    blobs = {
        f"sha256:{item.sha256}": {"size": item.size, "repositories": ["r"]}
        for item in found.files
        if item.path.startswith("blobs/")
    }
    document = {
        "schema": 1,
        "registry": "192.168.2.2:5000",
        "taken": "2026-01-01T00:00:00Z",
        "bundles": [{"name": "lumen", "number": number, "sha256": "0" * 64}],
        "blobs": blobs,
        "images": {item.name: item.digest for item in found.images},
        "files": files,
    }
    return str(shop.write("inventory.json", json.dumps(document)))


def test_a_delta_has_what_changed_and_manifests(full: Workshop) -> None:
    full.build()
    base = inventory(full, "out.tar", 1)
    changed = layer(app=os.urandom(900_000).hex())
    full.daemon.images["local/app:v1"] = [BASE, changed]
    result = full.build("delta.tar", base=base)["bundle"]
    found = full.read("delta.tar")
    assert (found.number, result["bytes_saved"] > 0, result["absent_blobs"] > 0, result["absent_files"]) == (
        2,
        True,
        True,
        5,
    )
    assert found.base is not None
    packed = [file for file in found.files if not manifest.in_layout(file.path)]
    assert packed == []
    layer_size = max(file.size for file in found.files)
    # What a bundle needs beside: bundle.json, manifests, and a header for each.
    assert (full.root / "delta.tar").stat().st_size < layer_size * 1.05
    assert not full.build("delta.tar", base=base)["changed"]


def test_a_delta_against_nothing_new_still_names_everything(full: Workshop) -> None:
    full.build()
    full.registry.requests.clear()
    shutil.rmtree(full.cache)
    full.build("delta.tar", base=inventory(full, "out.tar", 4))
    assert full.read("delta.tar").number == 5
    assert len(full.read("delta.tar").images) == 5
    # What is inside already is not even fetched.
    assert not [path for path in full.registry.asked("GET") if "/blobs/" in path]


def test_a_delta_needs_a_number_above_what_was_imported(full: Workshop) -> None:
    full.build()
    with pytest.raises(AirgapError, match="number 4 does not rise above 4, which was imported"):
        full.build("delta.tar", base=inventory(full, "out.tar", 4), number=4)


@pytest.mark.parametrize(("body", "message"), [(None, "cannot be read: No such file"), ("{}", "is no inventory")])
def test_a_base_that_is_missing_or_none(shop: Workshop, body: str | None, message: str) -> None:
    if body:
        shop.write("inventory.json", body)
    with pytest.raises(AirgapError, match=rf"the base of the delta.*{message}"):
        shop.build(base=str(shop.root / "inventory.json"))


def test_a_tar_is_the_same_bytes_for_the_same_content(shop: Workshop) -> None:
    small(shop)
    shop.build("one.tar")
    shop.build("two.tar")
    bodies = []
    for name in ("one.tar", "two.tar"):
        with tarfile.open(shop.root / name) as archive:
            bodies.append([(item.name, item.mtime, item.mode) for item in archive])
    assert bodies[0] == bodies[1]

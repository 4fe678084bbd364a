# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module bundle: its states as Ansible calls them, and a node that has nothing but Python."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import delta
from ansible_collections.lumen.airgap.plugins.modules import bundle as module
from ansible_collections.lumen.airgap.tests.unit.fakes.bundle import BundleBuilder, to_tar
from ansible_collections.lumen.airgap.tests.unit.fakes.keys import Key, make_key
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry, digest_of

from .conftest import Run

BUILD = Path(__file__).parents[3] / "build"
LAYER = b"l" * 5000


def now(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + days * 86400))


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tmp_path, "release@lumen")


@pytest.fixture
def builder(tmp_path: Path, key: Key) -> BundleBuilder:
    builder = BundleBuilder(tmp_path / "bundle", key, number=7)
    builder.fields.update(created=now(-1), expires=now(30))
    builder.image("lumen-api:v1.0.0", [LAYER])
    builder.image("lumen-airgap/registry:3.1.2", [b"registry"])
    builder.fields["registry_image"] = "lumen-airgap/registry:3.1.2"
    builder.file("manifests/argo.yaml", b"kind: List\n")
    return builder


@pytest.fixture
def options(tmp_path: Path, key: Key, builder: BundleBuilder) -> dict[str, Any]:
    return {
        "path": str(to_tar(builder.seal(), tmp_path / "lumen-7.tar")),
        "allowed_signers": key.allowed,
        "state_path": str(tmp_path / "state"),
        "registry": {"host": HOST},
    }


def documented(state: str, result: dict[str, Any]) -> None:
    """Everything that is returned is documented for this state, and the other way round."""
    about = yaml.safe_load(module.RETURN)
    ansibles = {"changed", "diff", "warnings", "invocation"}
    assert set(result) - ansibles <= set(about)
    for name, value in about.items():
        if f"V({state})" in value["returned"] or ("success" in value["returned"] and state != "inventoried"):
            assert name in result, f"{name} is documented for {state}"
    if "bundle" in result:
        assert set(result["bundle"]) <= set(about["bundle"]["contains"])


def test_verified(run: Run, options: dict[str, Any], tmp_path: Path) -> None:
    result = run(module, state="verified", **options)
    assert not result["changed"]
    assert result["bundle"]["number"] == 7
    assert not (tmp_path / "state").exists()
    documented("verified", result)


def test_unpacked(run: Run, options: dict[str, Any], tmp_path: Path) -> None:
    result = run(module, state="unpacked", **options)
    assert result["changed"]
    assert Path(result["content"], "manifests", "argo.yaml").read_bytes() == b"kind: List\n"
    assert Path(result["registry_archive"]).stat().st_size > 1000
    documented("unpacked", result)
    assert not run(module, state="unpacked", **options)["changed"]


def test_imported(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, tmp_path: Path) -> None:
    foreseen = run(module, check=True, state="imported", **options)
    assert foreseen["changed"]
    assert fake_registry.written == []
    lines = tmp_path / "lines"
    result = run(module, state="imported", imported_by="ops", progress_path=str(lines), **options)
    assert result["changed"]
    assert fake_registry.blobs["lumen-api"][digest_of(LAYER)] == LAYER
    assert "is signed by release@lumen" in lines.read_text()
    (entry,) = json.loads((tmp_path / "state" / "lumen" / "history.json").read_bytes())
    assert (entry["number"], entry["by"]) == (7, "ops")
    documented("imported", result)
    assert not run(module, state="imported", **options)["changed"]


def test_refused_and_forced(
    run: Run,
    options: dict[str, Any],
    builder: BundleBuilder,
    fake_registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda _module, text: warned.append(text))
    builder.fields.update(created=now(-2), expires=now(-1))
    to_tar(builder.seal(), Path(options["path"]))
    result = run(module, state="imported", **options)
    assert result["failed"]
    assert "expired at" in result["msg"]
    assert len(result["refusals"]) == 1
    forced = run(module, state="imported", force=True, **options)
    assert forced["changed"]
    assert len(forced["refusals"]) == 1
    assert warned == forced["refusals"]


def test_inventoried(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, tmp_path: Path) -> None:
    run(module, state="imported", **options)
    path = tmp_path / "out" / "inventory.json"
    wanted = {"state_path": options["state_path"], "registry": options["registry"], "inventory": str(path)}
    assert run(module, check=True, state="inventoried", **wanted)["changed"]
    assert not path.exists()
    result = run(module, state="inventoried", **wanted)
    assert result["changed"]
    assert result["held"] == {"images": 2, "blobs": 3, "files": 1, "bytes": result["held"]["bytes"]}
    found = delta.parse(path.read_bytes())
    assert found.bundles[0][:2] == ("lumen", 7)
    documented("inventoried", result)
    assert not run(module, state="inventoried", **wanted)["changed"]


def test_built(run: Run, tmp_path: Path, key: Key) -> None:
    (tmp_path / "argo.yaml").write_text("kind: List\n")
    spec = tmp_path / "bundle.yml"
    spec.write_text("schema: 1\nname: lumen\nmanifests: [argo.yaml]\n")
    wanted = {"spec": str(spec), "path": str(tmp_path / "out.tar"), "signing_key": key.private, "number": 3}
    result = run(module, state="built", cache_path=str(tmp_path / "cache"), **wanted)
    assert result["changed"]
    documented("built", result)
    verified = run(module, state="verified", path=wanted["path"], allowed_signers=key.allowed, name="lumen")
    assert verified["bundle"]["number"] == 3


def test_across_the_gap_and_back(run: Run, tmp_path: Path, key: Key, fake_registry: FakeRegistry) -> None:
    """Built, imported, inventoried, and the next one built as a delta and imported."""
    layout = LayoutBuilder(tmp_path / "layout")
    layout.add("one", layout.manifest([LAYER, b"one"]))
    layout.add("two", layout.manifest([LAYER, b"two"]))
    (tmp_path / "argo.yaml").write_text("kind: List\n")
    (tmp_path / "new.yaml").write_text("kind: Secret\n")
    inside = {"state_path": str(tmp_path / "state"), "registry": {"host": HOST}}
    outside = {"signing_key": key.private, "cache_path": str(tmp_path / "cache"), "spec": str(tmp_path / "bundle.yml")}
    taken = {"allowed_signers": key.allowed, "name": "lumen", **inside}

    def spec(ref: str, *manifests: str) -> None:
        image = {"layout": str(layout.path), "ref": ref, "name": f"app:{ref}"}
        document = {"schema": 1, "name": "lumen", "images": [image], "manifests": list(manifests)}
        (tmp_path / "bundle.yml").write_text(json.dumps(document))

    first, second = str(tmp_path / "first.tar"), str(tmp_path / "second")
    spec("one", "argo.yaml")
    assert run(module, state="built", path=first, number=1, **outside)["changed"]
    assert run(module, state="imported", path=first, **taken)["changed"]
    assert run(module, state="inventoried", inventory=str(tmp_path / "inventory.json"), **inside)["changed"]
    spec("two", "argo.yaml", "new.yaml")
    base = {"inventory": str(tmp_path / "inventory.json"), "volume_size": "1MiB"}
    built = run(module, state="built", path=second, **base, **outside)
    assert built["bundle"]["number"] == 2
    assert (built["bundle"]["absent_blobs"], built["bundle"]["absent_files"]) == (2, 1)
    assert built["bundle"]["bytes_saved"] > len(LAYER)
    result = run(module, state="imported", path=second, **taken)
    assert result["changed"], result
    assert result["bytes_sent"] == len(b"two")
    assert set(fake_registry.tags["app"]) == {"one", "two"}
    assert sorted(path.name for path in (tmp_path / "state" / "lumen" / "content").rglob("*.yaml")) == [
        "argo.yaml",
        "new.yaml",
    ]
    assert not run(module, state="imported", path=second, **taken)["changed"]


@pytest.mark.parametrize(
    ("arguments", "lacks"),
    [
        ({"state": "imported", "path": "/x"}, "allowed_signers"),
        ({"state": "verified", "allowed_signers": "x"}, "path"),
        ({"state": "built", "path": "/x", "spec": "/y"}, "signing_key"),
        ({"state": "inventoried"}, "inventory"),
    ],
)
def test_what_a_state_needs(run: Run, arguments: dict[str, Any], lacks: str) -> None:
    result = run(module, **arguments)
    assert result["failed"]
    assert f"missing: {lacks}" in result["msg"]


def test_a_file_that_is_no_bundle(run: Run, options: dict[str, Any], tmp_path: Path) -> None:
    result = run(module, state="verified", **{**options, "path": str(tmp_path / "none")})
    assert result["failed"]
    assert "there is no bundle at" in result["msg"]


def test_every_option_is_documented() -> None:
    shared = {"registry", "docker_host", "progress_path", "quiet"}
    assert set(yaml.safe_load(module.DOCUMENTATION)["options"]) == set(module.ARGUMENT_SPEC) - shared


# As on a node before its environment exists: Ansible brings its own module_utils, nothing else is there.
BARE = """
import json
import sys


class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("ansible", "ansible_collections"):
            raise ImportError(name)


sys.meta_path.insert(0, Nothing())
sys.path.insert(0, sys.argv[1])
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lumen.airgap.plugins.modules import bundle

with patch_module_args(json.loads(sys.argv[2])):
    bundle.main()
"""


@pytest.mark.parametrize("state", ["verified", "unpacked", "imported", "built"])
def test_a_node_with_nothing_but_python(options: dict[str, Any], state: str) -> None:
    arguments = {**options, "state": state, "_ansible_remote_tmp": "/tmp"}
    if state == "built":
        arguments |= {"spec": "/x", "signing_key": "/x"}
    argv = [sys.executable, "-I", "-c", BARE, str(BUILD), json.dumps(arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    if state in ("imported", "built"):
        assert "Failed to import the required Python library" in result["msg"]
    else:
        assert result["bundle"]["number"] == 7

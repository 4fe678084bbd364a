# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast images get into a registry, side by side with skopeo and crane, and how much memory it takes.

All talk to the lab's own registry program on loopback, each time with an empty storage; of each the faster of two
rounds counts.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "lab")]

from ansible_collections.lumen.airgap.tests.lab.registry_process import RegistryProcess  # noqa: E402
from driver import build  # noqa: E402

MIB = 1 << 20
IMAGES = 20
# MiB of the layers that all images share, and of each image's own.
SHARED, OWN = (64, 64, 32), (36, 12)
LARGE = 2048
ROUNDS = 2
OCI = "application/vnd.oci.image"

PUSH = """
import json, sys
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.upload_journal import UploadJournal
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
host, journal = sys.argv[1:]
registry = Registry.connect({"host": host, "scheme": "http"})
result = publish(json.load(sys.stdin), registry, None, journal=UploadJournal(journal))
# Not getrusage: the most that it knows is this program's parent's.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({"changed": result["changed"], "kib": int(peak.split()[1])}))
"""


class Layout:
    """An OCI layout, and beside it one of each image alone with the same blobs, as crane wants them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self._entries: list[dict[str, Any]] = []

    def blob(self, data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def layer(self, seed: int, mib: int) -> dict[str, Any]:
        """Content that cannot be compressed, in a gzip stream that does not try."""
        return self.blob(gzip.compress(random.Random(seed).randbytes(mib * MIB), 0, mtime=0), "layer.v1.tar+gzip")

    def add(self, name: str, layers: list[dict[str, Any]]) -> None:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"name": name}},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(json.dumps(config).encode(), "config.v1+json"),
            "layers": layers,
        }
        entry = self.blob(json.dumps(manifest).encode(), "manifest.v1+json")
        self._entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
        self._write(self.path, self._entries)
        alone = self.path.parent / f"{self.path.name}-{name}"
        alone.mkdir()
        (alone / "blobs").symlink_to(self.path / "blobs")
        self._write(alone, self._entries[-1:])

    def _write(self, path: Path, entries: list[dict[str, Any]]) -> None:
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def images_of(layout: Layout, count: int) -> list[dict[str, Any]]:
    """``count`` images for the module, made of the twenty."""
    return [
        {
            "source": {"layout": str(layout.path), "ref": f"i{number % IMAGES}"},
            "repository": f"bench/i{number}",
            "tags": ["v1.0.0"],
        }
        for number in range(count)
    ]


def run(argv: list[str], **about: Any) -> str:
    """A command that has to succeed; returns what it wrote."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, **about)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv[:6])} … exited {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def ours(registry: RegistryProcess, images: list[dict[str, Any]]) -> dict[str, Any]:
    """What the module does, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "build")}
    argv = [sys.executable, "-c", PUSH, registry.host, str(registry.storage.parent / "journal")]
    found: dict[str, Any] = json.loads(run(argv, input=json.dumps(images), env=environment))
    return found


def skopeo(registry: RegistryProcess, images: list[dict[str, Any]]) -> None:
    for image in images:
        source = f"oci:{image['source']['layout']}:{image['source']['ref']}"
        target = f"docker://{registry.host}/{image['repository']}:v1.0.0"
        run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", source, target])


def crane_push(crane: str) -> Callable[[RegistryProcess, list[dict[str, Any]]], None]:
    def push(registry: RegistryProcess, images: list[dict[str, Any]]) -> None:
        for image in images:
            source = f"{image['source']['layout']}-{image['source']['ref']}"
            run([crane, "push", "--insecure", source, f"{registry.host}/{image['repository']}:v1.0.0"])

    return push


def seconds(call: Callable[[], Any]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


@contextlib.contextmanager
def fresh_registry(path: Path) -> Iterator[RegistryProcess]:
    """A registry with an empty storage, gone afterwards."""
    path.mkdir()
    registry = RegistryProcess(path)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(path)
        os.sync()  # what one tool wrote is not for the next one to wait for


def play(module: str, arguments: dict[str, Any], path: Path) -> None:
    """A play with one task on this machine, written to ``path``."""
    document = {"hosts": "localhost", "gather_facts": False, "tasks": [{module: arguments}]}
    path.write_text(json.dumps([{**document, "vars": {"ansible_python_interpreter": sys.executable}}]))  # which is YAML
    argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "localhost,", "-c", "local", str(path)]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build"),
    }
    run(argv, env=environment)


def task(module: str, arguments: dict[str, Any], path: Path) -> float:
    """Seconds of such a play: the fastest of four."""
    return min(seconds(lambda: play(module, arguments, path)) for _round in range(4))


def show(name: str, value: float, unit: str, limit: float | None, peer: str = "") -> None:
    """One measurement for the runner."""
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, "limit": limit, "peer": peer}), flush=True)


def first_push(layout: Layout, path: Path, crane: str) -> None:
    tools = {"ours": ours, "skopeo": skopeo, "crane": crane_push(crane)}
    best = dict.fromkeys(tools, float("inf"))
    images = images_of(layout, IMAGES)
    for _round in range(ROUNDS):
        for name, push in tools.items():
            with fresh_registry(path / "registry") as registry:
                best[name] = min(best[name], seconds(lambda: push(registry, images)))  # noqa: B023
    size = (sum(SHARED) + IMAGES * sum(OWN)) / 1024
    peers = f"skopeo copy: {best['skopeo']:.3g} s, crane push: {best['crane']:.3g} s"
    limit = min(best["skopeo"], best["crane"])
    show(f"first push of {IMAGES} images, {size:.2f} GiB", best["ours"], "s", round(limit, 3), peers)


def nothing_to_do(layout: Layout, path: Path) -> None:
    images = images_of(layout, 100)
    with fresh_registry(path / "registry") as registry:
        ours(registry, images)
        arguments = {"registry": {"host": registry.host}, "images": images}
        empty = task("ansible.builtin.ping", {}, path / "play.yml")
        full = task("lumen.airgap.registry_image", arguments, path / "play.yml")
        loop = seconds(lambda: skopeo(registry, images))
        alone = min(seconds(lambda: ours(registry, images)) for _round in range(3))
        if ours(registry, images)["changed"]:
            raise SystemExit("there was something to do")
    peer = f"skopeo copy: {loop:.3g} s"
    show("100 images with nothing to do, beyond an empty task", full - empty, "s", 0.5, peer)
    show("100 images with nothing to do, without Ansible", alone, "s", round(loop / 10, 3), peer)


def memory(path: Path) -> None:
    """The layer is one block again and again: a push looks at its bytes only to hash them."""
    layout = Layout(path / "large")
    block, found = random.Random(0).randbytes(MIB), hashlib.sha256()
    with (layout.blobs / "draft").open("wb") as file:
        for _number in range(LARGE):
            file.write(block)
            found.update(block)
    (layout.blobs / "draft").rename(layout.blobs / found.hexdigest())
    layer = {"mediaType": f"{OCI}.layer.v1.tar", "digest": f"sha256:{found.hexdigest()}", "size": LARGE * MIB}
    layout.add("i0", [layer])
    with fresh_registry(path / "registry") as registry:
        kib = ours(registry, images_of(layout, 1))["kib"]
    show(f"peak memory with a layer of {LARGE // 1024} GiB", kib / 1024, "MiB", 150)


def main() -> int:
    crane_builder = build.Builder((build.CRANE,))
    crane = str(crane_builder.need("crane"))
    crane_builder.stop()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory:
        path = Path(directory)
        layout = Layout(path / "layout")
        shared = [layout.layer(seed, mib) for seed, mib in enumerate(SHARED)]
        for number in range(IMAGES):
            own = [layout.layer(100 + 10 * number + seed, mib) for seed, mib in enumerate(OWN)]
            layout.add(f"i{number}", [*shared, *own])
        first_push(layout, path, crane)
        nothing_to_do(layout, path)
        shutil.rmtree(layout.path)
        memory(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

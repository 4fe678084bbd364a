# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bundles into a real registry, out of volumes: killed on the way, twice, as deltas, and within little memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import delta
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle import inventory
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock
from ansible_collections.lumen.airgap.tests.unit.fakes.bundle import BundleBuilder, cut, to_tar
from ansible_collections.lumen.airgap.tests.unit.fakes.keys import Key, make_key
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import digest_of

from .conftest import ROOT
from .registry_process import RegistryProcess

pytestmark = pytest.mark.loopback

MIB = 1 << 20
BASE = random.Random(1).randbytes(160 * MIB)
# What one run of the module does: arguments are the address, the bundle, the allowed signers, the state directory.
IMPORT = """
import json, re, sys
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.images import ImageImport
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.importing import Request, bring_in
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock
host, path, allowed, state = sys.argv[1:]
say = lambda line: print(line, file=sys.stderr)
images = ImageImport(Registry.connect({"host": host, "scheme": "http"}), progress=say)
result = bring_in(Request(path, allowed, state_path=state), say, SystemClock(), images=images)
# Not getrusage: its maximum is also that of the process that this one was forked from.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024
print(json.dumps({**result, "peak": peak}))
"""


class Inside:
    def __init__(self, path: Path, registry: RegistryProcess) -> None:
        self.path = path
        self.registry = registry
        self.key: Key = make_key(path, "release@lumen")
        self.state = path / "state"

    def builder(self, number: int) -> BundleBuilder:
        builder = BundleBuilder(self.path / f"bundle-{number}", self.key, number=number)
        moments = [time.gmtime(time.time() + days * 86400) for days in (-1, 30)]
        created, expires = (time.strftime("%Y-%m-%dT%H:%M:%SZ", moment) for moment in moments)
        builder.fields.update(created=created, expires=expires)
        return builder

    def start(self, path: Path) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", IMPORT, self.registry.host, str(path), self.key.allowed, str(self.state)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "build")}
        return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def bring_in(self, path: Path) -> dict[str, Any]:
        with self.start(path) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        result: dict[str, Any] = json.loads(out)
        return result

    def stored(self) -> int:
        """Bytes under the registry's storage, finished or not; it makes and moves files meanwhile."""
        count = 0
        for directory, _below, names in os.walk(self.registry.storage):
            for name in names:
                with contextlib.suppress(OSError):
                    count += os.path.getsize(os.path.join(directory, name))
        return count


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    registry = RegistryProcess(tmp_path)
    registry.start()
    yield Inside(tmp_path, registry)
    registry.stop()


def full(inside: Inside) -> Path:
    builder = inside.builder(1)
    builder.image("lumen-api:v1.0.0", [BASE, b"api" * 1000])
    builder.image("lumen-web:v1.0.0", [BASE, b"web" * 1000])
    builder.file("manifests/argo.yaml", b"kind: List\n")
    return cut(to_tar(builder.seal(), inside.path / "lumen-1.tar"), 50 * MIB)[0]


def test_a_killed_import_goes_on_where_it_stopped(inside: Inside) -> None:
    path = full(inside)
    process = inside.start(path)
    try:
        end = time.monotonic() + 60
        while inside.stored() < 40 * MIB:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end, "it sends nothing"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    # It keeps to the order: the history is written last.
    assert (inside.state / "lumen" / "journal.json").exists()
    assert not (inside.state / "lumen" / "history.json").exists()
    result = inside.bring_in(path)
    assert result["changed"]
    assert result["bytes_sent"] < len(BASE) - 20 * MIB
    assert result["peak"] < 150
    assert sorted(os.listdir(inside.state / "lumen")) == ["content", "history.json", "lock"]
    again = inside.bring_in(path)
    assert not again["changed"]
    assert again["bytes_sent"] == 0


def test_a_delta_is_as_small_as_what_changed(inside: Inside) -> None:
    inside.bring_in(full(inside))
    document = inside.path / "inventory.json"
    registry = Registry.connect({"host": inside.registry.host, "scheme": "http"})
    inventory.write(registry, str(inside.state), str(document), lambda line: None, SystemClock())
    held = delta.parse(document.read_bytes())
    changed = random.Random(2).randbytes(MIB)
    builder = inside.builder(2)
    builder.image("lumen-api:v1.1.0", [BASE, changed])
    builder.image("lumen-new:v1.0.0", [BASE, changed])  # a repository that has to mount the base
    builder.leave_out(digest_of(BASE), *held.blobs[digest_of(BASE)].repositories)
    tar = to_tar(builder.seal(), inside.path / "lumen-2.tar")
    assert tar.stat().st_size < MIB * 1.05
    result = inside.bring_in(tar)
    assert result["bytes_sent"] <= len(changed) + 1000
    for name, image in (("lumen-api", builder.images[0]), ("lumen-new", builder.images[1])):
        assert registry.manifest_digest(name, image.tag) == image.digest
        assert registry.has_blob(name, digest_of(BASE))
    assert not inside.bring_in(tar)["changed"]


def test_two_at_once(inside: Inside) -> None:
    path = full(inside)
    runs = [inside.start(path), inside.start(path)]
    said = [run.communicate(timeout=120) for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes[0] == 0
    if codes[1] != 0:  # unless one was done before the other began
        assert any("is being written by" in err for _out, err in said)
    assert not inside.bring_in(path)["changed"]
    assert len(json.loads((inside.state / "lumen" / "history.json").read_bytes())) == 1

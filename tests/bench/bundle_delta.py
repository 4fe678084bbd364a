# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a set of images costs across the gap: a full bundle built and imported, and the delta after one layer changed.

Each step is a task, as a site runs it, against the lab's own registry program on loopback.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from registry_push import IMAGES, MIB, OWN, ROOT, SHARED, Layout, fresh_registry, play, run, seconds, show, skopeo

SIGNER = "bench@lumen.example"


def main() -> int:
    """Print the measurements."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory:
        path = Path(directory)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", SIGNER, "-f", str(path / "key")])
        key = (path / "key.pub").read_text().split()
        (path / "allowed_signers").write_text(f"{SIGNER} {key[0]} {key[1]}\n")
        first, second = Layout(path / "first"), Layout(path / "second")
        for layout in (first, second):
            shared = [layout.layer(seed, mib) for seed, mib in enumerate(SHARED)]
            for number in range(IMAGES):
                own = [layout.layer(100 + 10 * number + seed, mib) for seed, mib in enumerate(OWN)]
                if layout is second and number == 0:
                    own[-1] = layout.layer(1, OWN[-1])  # the seed of none of the others at this size
                layout.add(f"i{number}", [*shared, *own])
        with fresh_registry(path / "registry") as registry:
            measure(path, first, second, registry)
    return 0


def measure(path: Path, first: Layout, second: Layout, registry: Any) -> None:
    """Full bundle out, in, inventory, delta out, in."""
    full, delta = path / "full.tar", path / "delta.tar"
    inside = {
        "allowed_signers": str(path / "allowed_signers"),
        "state_path": str(path / "state"),
        "storage_path": str(registry.storage),
        "registry": {"host": registry.host},
    }
    built = seconds(lambda: bundle(path, built_from(path, first, 1, full)))
    imported = seconds(lambda: bundle(path, {"state": "imported", "path": str(full), **inside}))
    again = seconds(lambda: bundle(path, {"state": "imported", "path": str(full), **inside}))
    inventory = str(path / "inventory.json")
    bundle(path, {"state": "inventoried", "inventory": inventory, **inside})
    bundle(path, {**built_from(path, second, 2, delta), "inventory": inventory})
    bundle(path, {"state": "imported", "path": str(delta), **inside})
    with fresh_registry(path / "peer") as peer:
        images = [
            {"source": {"layout": str(first.path), "ref": f"i{n}"}, "repository": f"bench/i{n}"} for n in range(IMAGES)
        ]
        loop = seconds(lambda: skopeo(peer, images))
    size = full.stat().st_size / MIB
    layer = OWN[-1] * MIB
    peer_text = f"skopeo copy of the same images, unsigned and without a check before the first write: {loop:.3g} s"
    show(f"build a signed bundle of {IMAGES} images, {size / 1024:.2f} GiB", built, "s", None)
    show("import it: signature, every hash, then the push", imported, "s", None, peer_text)
    show("import it again", again, "s", None)
    show("a delta after one layer changed, beyond that layer", 100 * (delta.stat().st_size / layer - 1), "%", 5,
         f"the full bundle: {size:.0f} MiB, the layer: {layer / MIB:.0f} MiB")  # fmt: skip


def built_from(path: Path, layout: Layout, number: int, output: Path) -> dict[str, Any]:
    """Options for a bundle of all images of a layout."""
    images = [{"layout": str(layout.path), "ref": f"i{n}", "name": f"bench/i{n}:v{number}.0.0"} for n in range(IMAGES)]
    spec = path / f"bundle-{number}.yml"
    # JSON is YAML.
    spec.write_text(json.dumps({"schema": 1, "name": "bench", "number": number, "images": images}))
    return {
        "state": "built",
        "spec": str(spec),
        "path": str(output),
        "signing_key": str(path / "key"),
        "cache_path": str(path / "cache"),
    }


def bundle(path: Path, options: dict[str, Any]) -> None:
    """One task of the module on this machine."""
    play("lumen.airgap.bundle", options, path / "play.yml")


if __name__ == "__main__":
    sys.exit(main())

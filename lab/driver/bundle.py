# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's way across its gap: what enters the airgap is one signed bundle, made and imported by the collection.

Here only what goes into it is said; ``playbooks/bundle.yml`` builds it and ``playbooks/import.yml`` imports it, as on
any site. What site.yml makes of it beyond that is not the lab's.
Bundle, key and blob cache belong to the machine, so they lie in the cache; a clone has a link to them.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from .build import Builder
from .images import IMAGES, REGISTRY_IMAGE, build_images
from .paths import CACHE, LAB, LOCAL, ROOT
from .shell import run, write_atomically

FOLDER = CACHE / "bundle"
NAME = "lumen-lab"
_SPEC = FOLDER / "bundle.yml"
_KEY = FOLDER / "signing-key"
_SIGNER = "lab@lumen.example"
# Trivy's databases as its makers would ship them; made anew when they are as old, for they are refused at some age.
_DATABASES = FOLDER / "trivy"
_DATABASES_AGE = 20 * 86400.0
# The playbooks of this clone, whatever configuration the caller's environment names.
_ANSIBLE = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build")}


def build(builder: Builder) -> None:
    """Build what goes into the bundle, and the bundle unless it is there as it should be."""
    images = build_images(IMAGES, builder)
    _collect_manifests(builder)
    _ensure_databases(builder)
    _ensure_key()
    link()
    _write_spec(images)
    play("playbooks/bundle.yml", timeout=900)


def import_() -> None:
    """Node-1: from bare Debian to a registry that holds everything, by the site's own playbook."""
    play("lab/playbooks/import.yml", timeout=900)


def link() -> None:
    """The fixed place of a clone: ``.lab/bundle``, which the lab's inventory names."""
    place = LOCAL / "bundle"
    if place.is_symlink() and place.readlink() == FOLDER:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(FOLDER)


def play(playbook: str, timeout: float) -> None:
    """Run a playbook of the project on the lab's inventory."""
    program = Path(sys.executable).with_name("ansible-playbook")
    run([str(program), "-i", "inventories/lab", playbook], cwd=ROOT, timeout=timeout, env=_ANSIBLE)


def _collect_manifests(builder: Builder) -> None:
    """The manifests of the cluster's own parts; templates of the lab's playbooks are no manifests yet."""
    target = FOLDER / "manifests"
    shutil.rmtree(target, ignore_errors=True)
    for name in ("calico-crds", "rollouts-manifests", "argocd-manifests"):
        shutil.copytree(builder.need(name), target / name)
    for path in sorted((LAB / "manifests").rglob("*.yaml")):
        place = target / path.relative_to(LAB / "manifests")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _ensure_databases(builder: Builder) -> None:
    """A database of the lab's own vulnerabilities, packed by the collection as on any connected side."""
    program = builder.need("trivydb")
    index, cache = _DATABASES / "index.json", CACHE / "trivydb" / program.parent.name
    if index.exists() and cache.exists() and time.time() - index.stat().st_mtime < _DATABASES_AGE:
        return
    shutil.rmtree(cache.parent, ignore_errors=True)
    cache.mkdir(parents=True)
    run([str(program), "-cache", str(cache)])
    source = {"directory": str(cache)}
    wanted = {"state": "packed", "path": str(_DATABASES), "db": source, "java_db": source}
    ansible = str(Path(sys.executable).with_name("ansible"))
    argv = ["-i", "inventories/lab", "connected", "-m", "lumen.airgap.trivy_db", "-a", json.dumps(wanted)]
    run([ansible, *argv], cwd=ROOT, timeout=120, env=_ANSIBLE)


def _ensure_key() -> None:
    if not _KEY.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", _SIGNER, "-f", str(_KEY)])
    kind, key = _KEY.with_suffix(".pub").read_text().split()[:2]
    signers = f'{_SIGNER} namespaces="lumen-airgap-bundle" {kind} {key}\n'
    write_atomically(FOLDER / "allowed_signers", signers)


def _write_spec(images: dict[str, str]) -> None:
    """Write bundle.yml; other content than before gets the next number, by the clock."""
    document = _spec(images)
    digest = hashlib.sha256(json.dumps(document).encode() + (_DATABASES / "index.json").read_bytes())
    for path in sorted((FOLDER / "manifests").rglob("*.yaml")):
        digest.update(f"{path.relative_to(FOLDER)}\0".encode() + path.read_bytes())
    heading = f"# Written by the driver of the lab; content {digest.hexdigest()[:16]}.\n"
    if _SPEC.exists() and _SPEC.read_text().startswith(heading):
        return
    write_atomically(_SPEC, heading + yaml.safe_dump({**document, "number": int(time.time())}, sort_keys=False))


def _spec(images: dict[str, str]) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": NAME,
        "valid_days": 90,
        "registry_image": REGISTRY_IMAGE.title(),
        "images": [{"daemon": reference, "name": name} for name, reference in images.items()],
        "trivy": {
            "db": {"layout": _DATABASES.name, "ref": "trivy-db:2"},
            "java_db": {"layout": _DATABASES.name, "ref": "trivy-java-db:1"},
        },
        "manifests": ["manifests/**/*.yaml"],
        "wheels": {
            "node": {
                "python": "3.11",  # Debian 12's
                "platforms": [f"manylinux2014_{platform.machine()}", f"manylinux_2_28_{platform.machine()}"],
            }
        },
    }

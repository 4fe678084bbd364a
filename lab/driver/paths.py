# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the lab keeps things, and what it is made of.

The lab belongs to the machine, not to a clone: everything but ``.lab/`` of the clone lies outside the work tree.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
ROOT = LAB.parent
LOCAL = ROOT / ".lab"
CACHE = Path(os.environ.get("LUMEN_LAB_CACHE") or Path.home() / ".cache" / "lumen-airgap")
STATE = Path("/var/lib/lumen-airgap-lab")

# What a lab is made of; the playbooks only put these things on it.
_LEFT_OUT = re.compile(r"__pycache__|\.sw[a-p]$|~$|/\.#")  # what Python and editors leave beside the files
CONTENT = (
    "images",
    *(f"lab/{name}" for name in ("actions", "app", "build", "driver", "images", "manifests", "nodes")),
)


def content_hash() -> str:
    """Name the content of the lab: a running one with the same name is adopted, another is rebuilt."""
    digest = hashlib.sha256()
    for name in CONTENT:
        for path in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
            if path.is_file() and not _LEFT_OUT.search(str(path.relative_to(ROOT))):
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

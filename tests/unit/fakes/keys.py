# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SSH keys that sign and are allowed to."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Key(NamedTuple):
    """``private`` is a path, ``allowed`` the line of an allowed signers file."""

    private: str
    allowed: str


def make_key(directory: Path, principal: str) -> Key:
    path = directory / "key"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", principal, "-f", str(path)]
    subprocess.run(argv, check=True, timeout=20, stdin=subprocess.DEVNULL)
    kind, public = path.with_suffix(".pub").read_text().split()[:2]
    return Key(str(path), f"{principal} {kind} {public}\n")

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection itself as ``ansible-galaxy`` builds it from a checkout, always the same bytes for the same files."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

from ..errors import AirgapError
from .wheels import Runner, run

TIMEOUT = 300


class CollectionError(AirgapError):
    """The collection could not be built."""


def build(checkout: str, target: str, runner: Runner = run) -> str:
    """Build the collection of a checkout into the directory ``target``; returns the path of the tar.gz.

    ``ansible-galaxy`` writes the time of the build into every member: they are written again without it.
    """
    if not os.path.isfile(os.path.join(checkout, "galaxy.yml")):
        raise CollectionError(f"{checkout} is not the checkout of a collection: it has no galaxy.yml")
    with tempfile.TemporaryDirectory(prefix="lumen-airgap-") as scratch:
        argv = [_galaxy(), "collection", "build", "--output-path", scratch, checkout]
        try:
            done = runner(argv, os.environ, TIMEOUT)
        except subprocess.TimeoutExpired:
            raise CollectionError(f"ansible-galaxy was not done with {checkout} after {TIMEOUT} s") from None
        except OSError as error:
            raise CollectionError(f"ansible-galaxy cannot be run: {error.strerror}") from error
        built = [name for name in os.listdir(scratch) if name.endswith(".tar.gz")]
        if done.code or len(built) != 1:
            said = " ".join((done.stderr or done.stdout).split())[-600:]
            raise CollectionError(f"ansible-galaxy cannot build the collection of {checkout}: {said}")
        path = os.path.join(target, built[0])
        _repack(os.path.join(scratch, built[0]), path)
        return path


def _repack(source: str, target: str) -> None:
    with (
        tarfile.open(source) as old,
        open(target, "wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime = 0
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


def _galaxy() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "ansible-galaxy")
    return beside if os.access(beside, os.X_OK) else shutil.which("ansible-galaxy") or "ansible-galaxy"

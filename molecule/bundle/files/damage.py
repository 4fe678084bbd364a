# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes of a sound bundle in a tar what must not be let in: damage.py TAR DIRECTORY KEY STRANGERS_KEY."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

Members = list[tuple[tarfile.TarInfo, bytes]]


def read(path: Path) -> Members:
    """Every member and its content."""
    with tarfile.open(path) as archive:
        files = [(member, archive.extractfile(member)) for member in archive.getmembers()]
        return [(member, file.read() if file else b"") for member, file in files]


def write(path: Path, members: Members) -> None:
    """A tar of these members."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def replaced(members: Members, contents: dict[str, bytes]) -> Members:
    """The members with other contents."""
    return [(member, contents.get(member.name, content)) for member, content in members]


def with_member(members: Members, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Members:
    """The members and one more."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return [*members, (member, b"")]


def signature(content: bytes, key: str) -> bytes:
    """What ssh-keygen signs with a key."""
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-n", "lumen-airgap-bundle", "-f", key]
    return subprocess.run(argv, input=content, capture_output=True, check=True, timeout=30).stdout


def main(tar: Path, target: Path, key: str, strangers_key: str) -> None:
    """Write every damaged bundle."""
    target.mkdir(parents=True, exist_ok=True)
    sound = read(tar)
    contents = {member.name: content for member, content in sound}
    manifest = contents["bundle.json"]
    blob = max((name for name in contents if name.startswith("blobs/")), key=lambda name: len(contents[name]))
    flipped = bytearray(contents[blob])
    flipped[len(flipped) // 2] ^= 1
    unknown = json.dumps({**json.loads(manifest), "schema": 99}, sort_keys=True, indent=1).encode() + b"\n"

    write(target / "unsigned.tar", [item for item in sound if item[0].name != "bundle.json.sig"])
    write(target / "stranger.tar", replaced(sound, {"bundle.json.sig": signature(manifest, strangers_key)}))
    write(target / "changed.tar", replaced(sound, {"bundle.json": manifest.replace(b'"number": 9', b'"number": 8')}))
    schema = {"bundle.json": unknown, "bundle.json.sig": signature(unknown, key)}
    write(target / "schema.tar", replaced(sound, schema))
    write(target / "flipped.tar", replaced(sound, {blob: bytes(flipped)}))
    (target / "truncated.tar").write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    write(target / "extra.tar", with_member(sound, "files/extra"))
    write(target / "traversal.tar", with_member(sound, "../escape"))
    write(target / "absolute.tar", with_member(sound, "/escape"))
    write(target / "link.tar", with_member(sound, "files/link", tarfile.SYMTYPE, "/etc/passwd"))
    whole, part = tar.read_bytes(), tar.stat().st_size // 3 + 1
    for number in (1, 3):
        volume = whole[(number - 1) * part : number * part]
        (target / f"volume.tar.00{number}").write_bytes(volume)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])

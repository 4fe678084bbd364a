# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian root file systems: the only base images of the lab, since none can be pulled from anywhere.

mmdebstrap reads the machine's own package sources, so no mirror is named here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

from .host import DOCKER, docker
from .paths import CACHE
from .report import say
from .shell import attempt, run

# A base is its list of packages; small and several, because a big one takes minutes to push.
BASES: dict[str, tuple[str, ...]] = {
    "node": (
        *("systemd", "systemd-sysv", "dbus", "containerd", "runc", "docker.io", "containernetworking-plugins"),
        *("iptables", "ipset", "conntrack", "ethtool", "socat", "iproute2", "kmod", "procps"),
        *("python3", "python3-venv", "ca-certificates", "curl", "git", "openssh-server"),
    ),
    "net": ("iptables", "ipset", "conntrack", "iproute2", "kmod", "ca-certificates"),
    "prometheus": ("prometheus",),
    "redis": ("redis-server",),
    "git": ("git", "ca-certificates", "gpg", "gpg-agent", "tini"),
    "builder": ("git", "ca-certificates", "python3", "python3-ruamel.yaml"),
}
# Several images with one base are built at the same time.
_LOCKS = {name: threading.Lock() for name in BASES}
_SUITE = "bookworm"
_OPTIONS = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--aptopt=Acquire::Retries 3",
    '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/etc/apt/sources.list*',
)


def base_image(name: str) -> str:
    """Make sure that the base is an image of the host's Docker; return its reference."""
    packages = BASES[name]
    digest = hashlib.sha256("\0".join((_SUITE, *_OPTIONS, *packages)).encode()).hexdigest()[:12]
    reference = f"lumen-airgap/{name}-base:{digest}"
    with _LOCKS[name]:
        if attempt([DOCKER, "image", "inspect", reference]).returncode != 0:
            docker("import", str(_rootfs(name, digest)), reference, timeout=300)
    return reference


def _rootfs(name: str, digest: str) -> Path:
    """The tar of a root file system, from the cache or from Debian's packages."""
    tar = CACHE / "rootfs" / f"{name}-{digest}.tar"
    if tar.exists():
        return tar
    tar.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    say(f"  making the Debian base «{name}» ({len(BASES[name])} packages) …")
    draft = tar.with_name(f".{tar.name}")
    draft.unlink(missing_ok=True)
    run(["mmdebstrap", "--quiet", *_OPTIONS, f"--include={','.join(BASES[name])}", _SUITE, str(draft)], timeout=1200)
    draft.rename(tar)
    say(f"  made the Debian base «{name}» in {time.monotonic() - begin:.0f} s")
    return tar

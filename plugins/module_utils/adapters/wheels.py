# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wheels for a machine that is not this one: its Python version and its platform decide, not the builder's.

``pip download`` takes a target for the choice of wheels, but evaluates environment markers with the Python that runs
it: what only the target needs would be missing. So uv, which evaluates them for the target, resolves to pins with
hashes, and pip fetches exactly those without looking at dependencies. Both speak to the index that pip is configured
for; its credentials go to uv through the environment.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple

from ..engines.bundle import spec
from ..engines.bundle.spec import WheelSource
from ..errors import AirgapError

#: Seconds for one command: an index may be slow, the wheels of a control host are some 100 MB.
TIMEOUT = 1800
CONFIG_TIMEOUT = 60
REQUIREMENTS = "requirements.txt"
# What uv knows as --python-platform: nothing between these.
_UV_MINORS = (17, 28, *range(31, 41))
_INCLUDE = re.compile(r"\s*(?:-r|--requirement|-c|--constraint)[ =]\s*(\S+)")
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
# Of pip's options those that say where packages come from, the variable that says it to uv, and what divides values.
_HANDED_ON = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("cert", "SSL_CERT_FILE", " "),
    ("timeout", "UV_HTTP_TIMEOUT", " "),
)
_LEVELS = (":env:", "download", "install", "site", "user", "global")


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


#: (argv, environment, seconds) → how it ended. Raises OSError, or subprocess.TimeoutExpired.
Runner = Callable[[Sequence[str], Mapping[str, str], float], Finished]


class WheelError(AirgapError):
    """Requirements that cannot be met for the target."""


def run(argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Finished:
    """Run a command with nothing to read and no terminal to ask on."""
    done = subprocess.run(
        argv,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        start_new_session=True,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


class Wheels:
    """Resolves and fetches; ``python`` runs pip, ``uv`` is the program of that name."""

    def __init__(
        self,
        runner: Runner = run,
        python: str = sys.executable,
        uv: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._run = runner
        self._python = python
        self._uv = uv or _find_uv(python)
        self._environment = dict(os.environ if environment is None else environment)

    def fetch(self, source: WheelSource, requirements: str, target: str) -> None:
        """Fill the directory ``target`` with the wheels for ``requirements`` (the path of a file) and a hash-pinned
        requirements.txt. Raises WheelError that names the requirement at fault."""
        pins = self._resolve(source, requirements)
        folder = Path(target)
        with tempfile.TemporaryDirectory(prefix="lumen-airgap-") as scratch:
            pinned = Path(scratch, REQUIREMENTS)
            pinned.write_text(pins, encoding="utf-8")
            self._download(source, str(pinned), target)
        (folder / REQUIREMENTS).write_text(_lock(folder, pins, source), encoding="utf-8")

    def _resolve(self, source: WheelSource, requirements: str) -> str:
        settings = self._pip_settings()
        argv = [
            *(self._uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"),
            *("--python-version", source.python, "--python-platform", uv_platform(source.platforms)),
            *("--only-binary", ":all:", *uv_options(settings), requirements),
        ]
        done = self._command(argv, {**self._environment, **uv_environment(settings)}, TIMEOUT, source)
        if done.code:
            raise WheelError(f"{_target(source)}: its requirements cannot be met with wheels: {_last(done)}")
        return done.stdout

    def _download(self, source: WheelSource, pinned: str, target: str) -> None:
        tags = [part for tag in spec.expand_platforms(source.platforms) for part in ("--platform", tag)]
        argv = [
            *(self._python, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"),
            *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", target),
            *("--python-version", source.python, "--implementation", "cp"),
            *("--abi", "cp" + source.python.replace(".", ""), *tags, "--requirement", pinned),
        ]
        done = self._command(argv, self._environment, TIMEOUT, source)
        if done.code:
            raise WheelError(f"{_target(source)}: {_last(done)}")

    def _pip_settings(self) -> dict[str, str]:
        argv = [self._python, "-m", "pip", "--disable-pip-version-check", "config", "list"]
        done = self._run(argv, self._environment, CONFIG_TIMEOUT)
        if done.code:
            raise WheelError(f"pip of {self._python} cannot tell its configuration: {_last(done)}")
        return pip_settings(done.stdout)

    def _command(
        self, argv: Sequence[str], environment: Mapping[str, str], timeout: float, source: WheelSource
    ) -> Finished:
        try:
            return self._run(argv, environment, timeout)
        except subprocess.TimeoutExpired:
            name = os.path.basename(argv[0])
            raise WheelError(
                f"{_target(source)}: {name} was not done after {timeout:.0f} s. Does the package index answer?"
            ) from None
        except OSError as error:
            raise WheelError(f"{argv[0]} cannot be run: {error.strerror}") from error


def pip_settings(listing: str) -> dict[str, str]:
    """pip's options from ``pip config list``: ``global.index-url='…'``; what binds more closely wins."""
    found: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        level, _dot, option = name.rpartition(".")
        if equals and level in _LEVELS:
            found.setdefault(level, {})[option] = str(ast.literal_eval(value))
    merged: dict[str, str] = {}
    for level in reversed(_LEVELS):
        merged.update(found.get(level, {}))
    return merged


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Variables that make uv look where pip looks. They may hold credentials."""
    # pip takes the best version of all its indexes; uv would take the first index that has the package.
    result = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_PROGRESS": "1"}
    for option, variable, separator in _HANDED_ON:
        if settings.get(option):
            result[variable] = separator.join(settings[option].split())
    return result


def uv_options(settings: Mapping[str, str]) -> list[str]:
    """Of pip's settings the one for which uv has an option and no variable."""
    return ["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else []


def uv_platform(platforms: tuple[str, ...]) -> str:
    """The newest platform that uv knows and the target is."""
    minor = spec.libc_minor(platforms)
    known = max((known for known in _UV_MINORS if known <= minor), default=_UV_MINORS[0])
    return f"{spec.architecture(platforms)}-manylinux_2_{known}"


def inputs(source: WheelSource, requirements: str) -> str:
    """A hexadecimal key of all that decides which wheels these are: the target, and the requirement files."""
    digest = hashlib.sha256(repr((source.python, source.platforms)).encode())
    for path in _files(Path(requirements), ()):
        digest.update(path.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()


def _files(path: Path, above: tuple[Path, ...]) -> list[Path]:
    """The file and every file that it includes."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WheelError(f"the requirements {path} cannot be read: {error.strerror}") from error
    if path in above:
        raise WheelError(f"the requirements {path} include themselves")
    included = [path.parent / match[1] for match in map(_INCLUDE.match, text.splitlines()) if match]
    return [path, *(item for other in included for item in _files(other, (*above, path)))]


def _lock(folder: Path, pins: str, source: WheelSource) -> str:
    """requirements.txt of the wheels that are there, each with its own hash alone."""
    wheels: dict[str, tuple[str, str, str]] = {}
    for path in sorted(folder.iterdir()):
        match = _WHEEL.fullmatch(path.name)
        if match is None:
            raise WheelError(f"{_target(source)}: {path.name} was fetched, which is no wheel")
        with path.open("rb") as file:
            digest = hashlib.sha256()
            for data in iter(lambda: file.read(1 << 20), b""):
                digest.update(data)
        wheels[_normal(match["name"])] = (match["name"], match["version"], digest.hexdigest())
    wanted = {_normal(match[1]): f"{match[1]}=={match[2]}" for match in _PINNED.finditer(pins)}
    missing = sorted(pin for name, pin in wanted.items() if name not in wheels)
    if missing:
        raise WheelError(f"{_target(source)}: no wheel was fetched for {', '.join(missing)}")
    lines = [
        f"{wanted.get(name, f'{spelled}=={version}')} --hash=sha256:{digest}\n"
        for name, (spelled, version, digest) in sorted(wheels.items())
    ]
    return "".join(lines)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _target(source: WheelSource) -> str:
    return f"wheels.{source.name} (Python {source.python}, {', '.join(source.platforms)})"


def _last(done: Finished) -> str:
    """The end of what a command said, where the reason stands."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return " ".join(lines[-12:]) or f"exit code {done.code}"


def _find_uv(python: str) -> str:
    beside = os.path.join(os.path.dirname(python), "uv")
    return beside if os.access(beside, os.X_OK) else shutil.which("uv") or "uv"

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of Trivy, as a program of the node or in a container: started, looked at, stopped.

Trivy opens trivy.db for writing and locks it, so a cache cannot be mounted read-only, and two scans wait for each
other. When it finds the file damaged while it opens it, it removes it and goes on with an empty one. So it never gets
the cache itself, but a place of its own for this run: links to the files, or, in a container, mounts of the files,
which cannot be removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from ..errors import AirgapError
from .docker import Container, Docker, DockerError

#: On its containers, so that what a killed run has left can be found.
LABEL = "lumen-airgap=trivy-scan"
#: Not /tmp, which often is memory: Trivy unpacks large files of an image beside its report.
SCRATCH = "/var/tmp"  # noqa: S108 - a directory of its own is made in it, with a name that nobody can guess
#: Bytes from the end of what Trivy has written.
_TAIL = 64 * 1024
_INSIDE = "/scan"
_INPUT = "/input"
_CA = "/ca.pem"
#: An empty file, for Trivy wants one that it can read.
_NO_WAIVERS = "no.trivyignore"


class Database(NamedTuple):
    """What is put into the run's own cache: ``directory`` there (db or java-db), ``source`` on the node, the name of
    the database file, and whether Trivy opens it for writing."""

    directory: str
    source: str
    file: str
    writable: bool


class Job(NamedTuple):
    """What is scanned. Exactly one of ``image`` and ``input`` (a file or directory of the node) is given; ``source`` of
    an image is ``remote`` (a registry) or ``docker``."""

    databases: tuple[Database, ...]
    timeout: float
    image: str = ""
    source: str = "remote"
    input: str = ""
    insecure: bool = False
    ca_path: str = ""
    login: tuple[str, str] | None = None
    docker_host: str = ""


class Run(Protocol):
    """A Trivy that was started."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs. Raises AirgapError when it is gone."""

    def lines(self) -> list[str]:
        """What it has said so far, the last part of it."""

    def report(self) -> bytes:
        """The report that it has written. Raises AirgapError when there is none."""

    def close(self) -> None:
        """End it if it runs, and remove what was made for it."""


def argv(job: Job, cache: str, output: str, given_input: str) -> list[str]:
    """Trivy's arguments. What it might ask the network for is off, and so is all that could change the scan unseen: a
    .trivyignore or trivy.yaml of some directory."""
    arguments = [
        "image",
        *("--cache-dir", cache),
        *("--skip-db-update", "--skip-java-db-update", "--offline-scan"),
        # Its own cache of layers would be written to, and locked, for as long as a scan takes.
        *("--cache-backend", "memory"),
        *("--scanners", "vuln"),
        *("--format", "json", "--output", output),
        *("--ignorefile", f"{cache}/{_NO_WAIVERS}"),
        *("--timeout", f"{max(1, int(job.timeout))}s"),
        "--no-progress",
    ]
    if job.insecure:
        arguments.append("--insecure")
    if job.input:
        return [*arguments, "--input", given_input]
    return [*arguments, "--image-src", job.source, job.image]


class _Place:
    """The directory of one run: cache/, work/, report.json."""

    def __init__(self) -> None:
        try:
            self.path = tempfile.mkdtemp(prefix="lumen-airgap-trivy-", dir=SCRATCH)
            for name in ("cache", "work"):
                os.mkdir(os.path.join(self.path, name))
            with open(os.path.join(self.path, "cache", _NO_WAIVERS), "xb"):
                pass
        except OSError as error:
            raise AirgapError(f"no directory for the scan can be made in {SCRATCH}: {error.strerror}") from error

    def report(self) -> bytes:
        path = os.path.join(self.path, "report.json")
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise AirgapError(f"Trivy has written no report: {error.strerror}") from error

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class ProgramRun:
    """Trivy as a program of the node."""

    def __init__(self, program: str, job: Job) -> None:
        self._place = _Place()
        self._links: list[tuple[str, str]] = []
        path = self._place.path
        try:
            cache = os.path.join(path, "cache")
            for database in job.databases:
                os.mkdir(os.path.join(cache, database.directory))
                for name in (database.file, "metadata.json"):
                    source = os.path.join(database.source, name)
                    self._link(source, os.path.join(cache, database.directory, name))
            self._errors = os.open(os.path.join(path, "stderr"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            arguments = argv(job, cache, os.path.join(path, "report.json"), job.input)
            self._process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                cwd=os.path.join(path, "work"),
                env=self._environment(job),
            )
        except OSError as error:
            self._place.remove()
            raise AirgapError(f"Trivy cannot be started as {program}: {error.strerror}") from error

    def _link(self, source: str, target: str) -> None:
        os.symlink(source, target)
        self._links.append((target, source))

    def _environment(self, job: Job) -> dict[str, str]:
        # Not what this process has: a TRIVY_… of it would change the scan, a proxy lead out.
        environment = {
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            **_environment(job, self._place.path, job.ca_path),
        }
        if job.image and job.source == "docker":
            environment["DOCKER_HOST"] = job.docker_host
        return environment

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        code = self._process.poll()
        if code is not None:
            for link, source in self._links:
                if not os.path.islink(link) or os.readlink(link) != source:
                    raise AirgapError(
                        f"Trivy found {source} damaged, removed what it took for it, and went on with an empty one: "
                        "what it has found says nothing"
                    )
        return code

    def lines(self) -> list[str]:
        """What it has said so far."""
        begin = max(0, os.fstat(self._errors).st_size - _TAIL)
        return os.pread(self._errors, _TAIL, begin).decode("utf-8", "replace").splitlines()

    def report(self) -> bytes:
        """What it has written."""
        return self._place.report()

    def close(self) -> None:
        """Nothing is left of it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._errors)
        self._place.remove()


class ContainerRun:
    """Trivy in a container of the node's Docker."""

    def __init__(self, docker: Docker, image: str, job: Job) -> None:
        self._docker = docker
        for left in docker.ended(LABEL):
            docker.remove(left)
        self._place = _Place()
        self._name = f"lumen-airgap-trivy-{secrets.token_hex(6)}"
        key, _equals, value = LABEL.partition("=")
        try:
            docker.create(
                self._name,
                Container(
                    image=image,
                    command=tuple(argv(job, f"{_INSIDE}/cache", f"{_INSIDE}/report.json", _INPUT)),
                    environment=_environment(job, _INSIDE, _CA if job.ca_path else ""),
                    ports={},
                    mounts=tuple(self._mounts(job)),
                    restart_policy="no",
                    labels={key: value},
                    # A registry is spoken to as the node does; nothing else needs any network.
                    network="host" if job.image and job.source == "remote" else "none",
                    user="0",
                    directory=f"{_INSIDE}/work",
                ),
            )
            docker.start(self._name)
        except BaseException:
            self.close()
            raise

    def _mounts(self, job: Job) -> list[tuple[str, str, bool]]:
        mounts = [(self._place.path, _INSIDE, False)]
        for database in job.databases:
            inside = f"{_INSIDE}/cache/{database.directory}"
            file = os.path.join(database.source, database.file)
            mounts.append((file, f"{inside}/{database.file}", not database.writable))
            mounts.append((os.path.join(database.source, "metadata.json"), f"{inside}/metadata.json", True))
        if job.input:
            mounts.append((job.input, _INPUT, True))
        elif job.source == "docker":
            mounts.append((urlsplit(job.docker_host).path, "/var/run/docker.sock", False))
        if job.ca_path:
            mounts.append((job.ca_path, _CA, True))
        return mounts

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        found = self._docker.container(self._name)
        if found is None:
            raise AirgapError("the container that Trivy ran in is gone: somebody has removed it. Scan again")
        state = found["State"]
        if state["Status"] in ("created", "running", "restarting", "paused"):
            return None
        if state.get("OOMKilled"):
            raise AirgapError("Trivy was killed, because the node had no more memory for it")
        return int(state["ExitCode"])

    def lines(self) -> list[str]:
        """What it has said so far."""
        return self._docker.logs(self._name, 1000)

    def report(self) -> bytes:
        """What it has written."""
        return self._place.report()

    def close(self) -> None:
        """Nothing is left of it."""
        try:
            if self._docker.container(self._name) is not None:
                self._docker.remove(self._name)
        except DockerError:
            pass  # the daemon is gone, and with it whatever ran; the next run removes what is left
        self._place.remove()


def _environment(job: Job, place: str, ca_path: str) -> dict[str, str]:
    environment = {"HOME": place, "TMPDIR": f"{place}/work"}
    if ca_path:
        environment["SSL_CERT_FILE"] = ca_path
    if job.login is not None:
        # Not on the command line, which everybody on the node can read.
        environment["TRIVY_USERNAME"], environment["TRIVY_PASSWORD"] = job.login
    return environment


def last_words(lines: Sequence[str], count: int = 5) -> str:
    """The end of what Trivy has said, for an error: from its fatal line on, when there is one."""
    said = [line.rstrip() for line in lines if line.strip()]
    fatal = [index for index, line in enumerate(said) if "\tFATAL\t" in line]
    panic = [
        index for index, line in enumerate(said) if line.startswith(("panic:", "fatal error:", "unexpected fault"))
    ]
    if panic:  # what follows is where in its source, which helps nobody here
        return tidy(said[panic[0]])
    return "; ".join(tidy(line) for line in (said[fatal[-1] :] if fatal else said[-count:])[:20])


def tidy(line: str) -> str:
    """A line of Trivy's log without its time."""
    time, tab, rest = line.partition("\t")
    return " ".join((rest if tab and time[:2].isdigit() else line).split())

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The build driver: programs from pinned sources, cached by the hash of everything they are made from.

A program is a row in PROGRAMS; the driver knows nothing else about it. One thread builds in the order of the
table, so what the cluster needs first is there first, while the caller already uses what is done. Another fetches
sources ahead of it: a compiler leaves the network idle, and a download the cores.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .paths import CACHE, LAB, ROOT
from .report import LabError, say
from .shell import end_all, run


@dataclass(frozen=True)
class Program:
    """A Go program: ``package`` of the module that lab/build/<component>/go.mod pins.

    ``tags`` are Go's build tags, parted by blanks; ``cgo`` is for a program with C in it, which is not static.
    """

    name: str
    component: str
    package: str
    ldflags: str = ""
    tags: str = ""
    cgo: bool = False

    def make(self, target: Path) -> None:
        flags = " ".join(["-s", "-w", *(f"-X {flag}" for flag in self._ldflags().split())])
        self._go("build", "-trimpath", "-ldflags", flags, "-o", str(target / self.name))

    def fetch(self) -> None:
        """Bring the sources of the package and of all that it needs, and of nothing else, to Go's module cache."""
        self._go("list", "-deps")

    def recipe(self) -> str:
        words = ["go", self.package, self._ldflags(), _go_version(), _pins(self.component)]
        return " ".join([*words, *self.tags.split(), *(["cgo"] if self.cgo else [])])

    def _go(self, *words: str) -> None:
        """The same tags and environment for both: other ones would need other sources."""
        env = {**_GO_ENV, "CGO_ENABLED": str(int(self.cgo))}
        argv = ["go", *words, "-tags", self.tags, self.package]
        run(argv, cwd=LAB / "build" / self.component, timeout=3600, env=env)

    def _ldflags(self) -> str:
        number = version_of(self.component).lstrip("v")
        major, minor, _patch = number.split(".", 2)
        return self.ldflags.format(version=f"v{number}", number=number, major=major, minor=minor)


@dataclass(frozen=True)
class Static:
    """A static C program from a source file that lies in the pinned module."""

    name: str
    component: str
    source: str

    def make(self, target: Path) -> None:
        source = module_dir(self.component) / self.source
        argv = ["gcc", "-Os", "-Wall", "-static", "-DVERSION=lab", "-o", str(target / self.name), str(source)]
        run(argv, timeout=120)

    def recipe(self) -> str:
        return f"gcc {self.source} {_pins(self.component)}"


@dataclass(frozen=True)
class Files:
    """Files and folders that lie in the pinned module, such as install manifests; patterns parted by blanks."""

    name: str
    component: str
    pattern: str

    def make(self, target: Path) -> None:
        for pattern in self.pattern.split():
            found = sorted(module_dir(self.component).glob(pattern))
            if not found:
                raise LabError(f"{self.component} has no file {pattern}")
            for path in found:
                # The module cache is read-only; a copy of it that were so too could not be removed.
                run(["cp", "-r", "--no-preserve=mode", str(path), str(target)])

    def recipe(self) -> str:
        return f"files {self.pattern} {_pins(self.component)}"


@dataclass(frozen=True)
class Own:
    """A Go program of this project, from a folder of the checkout; what it needs beyond Go's library is in go.sum."""

    name: str
    folder: str

    def make(self, target: Path) -> None:
        argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(target / self.name), "."]
        run(argv, cwd=ROOT / self.folder, timeout=600, env=_GO_ENV)

    def recipe(self) -> str:
        sources = [path for name in ("*.go", "*.json", "go.sum") for path in sorted((ROOT / self.folder).glob(name))]
        return f"own {_go_version()} {_hash_of(sources)}"


Row = Program | Static | Files | Own

# The build makes small programs, not debuggable ones, and never fetches another toolchain. A compiler lives for
# seconds: it collects no garbage before it has 3 GiB, which takes 15 % off a build (see docs/benchmarks.md).
_GO_ENV = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    "GOGC": "off",
    "GOMEMLIMIT": "3GiB",
}
_KUBE = " ".join(
    f"k8s.io/component-base/version.{name}"
    for name in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
)
_ARGOCD = "github.com/argoproj/argo-cd/v3/common.version={number}"
_RUNNER = "gitea.com/gitea/runner/internal/pkg/ver.version={version}"
_TRIVY = "github.com/aquasecurity/trivy/pkg/version/app.ver={number}"
_ROLLOUTS = "github.com/argoproj/argo-rollouts/utils/version.version={version}"

MODULES = {
    "argo-cd": "github.com/argoproj/argo-cd/v3",
    "argo-rollouts": "github.com/argoproj/argo-rollouts",
    "calico": "github.com/projectcalico/calico",
    "coredns": "github.com/coredns/coredns",
    "crane": "github.com/google/go-containerregistry",
    "distribution": "github.com/distribution/distribution/v3",
    "etcd": "go.etcd.io/etcd/server/v3",
    "gitea": "code.gitea.io/gitea",
    "gitea-runner": "gitea.com/gitea/runner",
    "kubernetes": "k8s.io/kubernetes",
    "trivy": "github.com/aquasecurity/trivy",
}

# In this order they are built: the nodes, the cluster, and what the platform on it needs.
PROGRAMS: tuple[Row, ...] = (
    Program("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", _KUBE),
    Program("kubeadm", "kubernetes", "k8s.io/kubernetes/cmd/kubeadm", _KUBE),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", _KUBE),
    Program("calico", "calico", "github.com/projectcalico/calico/cni-plugin/cmd/calico"),
    Program("registry", "distribution", "github.com/distribution/distribution/v3/cmd/registry"),
    Static("pause", "kubernetes", "build/pause/linux/pause.c"),
    Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBE),
    Program("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", _KUBE),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", _KUBE),
    Program("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", _KUBE),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    Program("coredns", "coredns", "github.com/coredns/coredns"),
    Files("calico-crds", "calico", "libcalico-go/config/crd/*.yaml"),
    Program("calico-felix", "calico", "github.com/projectcalico/calico/felix/cmd/calico-felix"),
    Own("probe", "images/probe"),
    Own("loadgen", "lab/images/loadgen"),
    Files("gitea-static", "gitea", "templates options public"),
    Program(
        *("gitea", "gitea", "code.gitea.io/gitea", "main.Version={number}"),
        tags="sqlite sqlite_unlock_notify",
        cgo=True,
    ),
    Program("gitea-runner", "gitea-runner", "gitea.com/gitea/runner", _RUNNER),
    Files("rollouts-manifests", "argo-rollouts", "manifests/*install.yaml"),
    Program(
        "rollouts-controller",
        "argo-rollouts",
        "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
        _ROLLOUTS,
    ),
    Files("argocd-manifests", "argo-cd", "manifests/core-install.yaml"),
    Files("argocd-scripts", "argo-cd", "entrypoint.sh hack/gpg-wrapper.sh hack/git-verify-wrapper.sh"),
    Program("argocd", "argo-cd", "github.com/argoproj/argo-cd/v3/cmd", _ARGOCD),
    Program("trivy", "trivy", "github.com/aquasecurity/trivy/cmd/trivy", _TRIVY),
    Own("trivydb", "lab/trivydb"),
)

#: What the benchmarks measure us against; the lab does not need it.
CRANE = Program("crane", "crane", "github.com/google/go-containerregistry/cmd/crane")


class Builder:
    """Builds what is missing in one background thread; ``need`` waits for a program and returns its folder."""

    def __init__(self, rows: tuple[Row, ...] = PROGRAMS) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="build")
        self._fetching = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch")
        for draft in (CACHE / "programs").glob(".*"):
            shutil.rmtree(draft, ignore_errors=True)  # of a build that was killed
        if missing := missing_of(rows):
            say(f"building {len(missing)} of {len(rows)} programs from source: {', '.join(r.name for r in missing)}")
        self._futures = {row.name: self._pool.submit(_ensure, row) for row in rows}
        for row in missing:
            if isinstance(row, Program):
                # What it cannot fetch the build fetches, and says why that fails.
                self._fetching.submit(row.fetch)

    def need(self, name: str) -> Path:
        """Wait until ``name`` is built; return the file, or the folder where the row makes several files."""
        folder = self._futures[name].result()
        return folder / name if (folder / name).exists() else folder

    def stop(self) -> None:
        """Start nothing more and end the build that is under way: its draft is gone when this returns."""
        pools = (self._fetching, self._pool)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        for pool in pools:
            pool.shutdown(wait=True)


def missing_of(rows: tuple[Row, ...]) -> list[Row]:
    """Those that the cache does not have."""
    return [row for row in rows if not _folder(row).exists()]


def kept() -> list[Path]:
    """Where the cache has, or will have, the programs of this version of the lab and of its benchmarks."""
    return [_folder(row) for row in (*PROGRAMS, CRANE)]


def _ensure(row: Row) -> Path:
    """Build one row unless the cache has it; a build appears in the cache whole or not at all."""
    folder = _folder(row)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"  building {row.name}{'' if isinstance(row, Own) else ' ' + version_of(row.component)} …")
    begin = time.monotonic()
    draft = Path(tempfile.mkdtemp(prefix=f".{row.name}-", dir=folder.parent))
    try:
        row.make(draft)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    say(f"  built {row.name} in {time.monotonic() - begin:.0f} s")
    return folder


def _folder(row: Row) -> Path:
    return CACHE / "programs" / f"{row.name}-{hashlib.sha256(row.recipe().encode()).hexdigest()[:16]}"


@cache
def _pins(component: str) -> str:
    """What a component is pinned to, dependencies and their checksums included."""
    return _hash_of([LAB / "build" / component / name for name in ("go.mod", "go.sum")])


def _hash_of(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


@cache
def _go_version() -> str:
    return run(["go", "env", "GOVERSION", "GOOS", "GOARCH"], env={"GOTOOLCHAIN": "local"}).replace("\n", " ").strip()


def version_of(component: str) -> str:
    """The pinned version of a component, such as v1.34.4."""
    module = MODULES[component]
    for line in (LAB / "build" / component / "go.mod").read_text().splitlines():
        words = line.removeprefix("require").split()
        if words[:1] == [module]:
            return words[1]
    raise LabError(f"lab/build/{component}/go.mod does not pin {module}")


@cache
def module_dir(component: str) -> Path:
    """Where the Go module of a component is unpacked; downloads it when it is not."""
    run(["go", "mod", "download", MODULES[component]], cwd=LAB / "build" / component, timeout=900)
    argv = ["go", "list", "-m", "-f", "{{.Dir}}", MODULES[component]]
    return Path(run(argv, cwd=LAB / "build" / component, env=_GO_ENV).strip())

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of the lab: built FROM scratch or from small Debian bases; a bundle brings them to node-1's registry.

An image is a row in IMAGES. Its local tag is the hash of all that goes into it, so a second build costs one look.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from .build import Builder, version_of
from .debian import BASES, base_image
from .host import DOCKER, REGISTRY, docker
from .paths import CACHE, LAB, ROOT
from .report import LabError
from .shell import attempt, run


@dataclass(frozen=True)
class Image:
    """``name:tag`` in the registry. ``files`` are paths in the build context and where they come from."""

    name: str
    tag: str
    programs: tuple[str, ...]
    base: str = "scratch"  # of debian.BASES, or the title of another image here
    entrypoint: str = ""
    user: str = ""
    folder: str = ""  # a folder of the checkout with a Dockerfile of its own and files for its context
    sources: tuple[tuple[str, str], ...] = ()  # more files for the context: (name there, path in the checkout or not)

    def title(self) -> str:
        """What it is called in the registry."""
        return f"{self.name}:{self.tag}"

    def site_name(self) -> str:
        """What `lab.py images` calls it in the host's engine, for a bundle.yml."""
        return f"lumen-airgap/{self.name.rpartition('/')[2]}:{self.tag}"

    def reference(self) -> str:
        """Where the nodes pull it from."""
        return f"{REGISTRY}/{self.title()}"


# The version of the application that the lab starts with, for what is deployed before its pipeline has built one.
FIRST_VERSION = "v1.0.0"
_KUBERNETES = version_of("kubernetes")

# Debian's client, in the release of the nodes' engine.
_CLIENT = ("docker", DOCKER)
# What edits the image in a manifest, for the pipeline to run as a script.
_GITOPS = ("gitops.py", "plugins/module_utils/engines/gitops.py")
# Node-1's engine loads it from the bundle, for there is no registry yet to pull it from.
REGISTRY_IMAGE = Image(
    *("lumen-airgap/registry", version_of("distribution").lstrip("v"), ("registry",)), entrypoint="registry"
)

# What the collection has a Dockerfile for: any site can build them, and the default bundle.yml names them.
SITE_IMAGES: tuple[Image, ...] = (
    REGISTRY_IMAGE,
    Image("redis", "7.0", (), base="redis", folder="images/redis"),
    Image(
        *("lumen-api", "builder", ()),
        base="builder",
        folder="images/builder",
        sources=(_CLIENT, _GITOPS, ("app", "lab/app/01-connected-zone/app")),
    ),
    Image("probe", "lab", ("probe",), folder="images/probe"),
    Image("gitea", version_of("gitea").removeprefix("v"), ("gitea", "gitea-static"), base="git", folder="images/gitea"),
    Image(
        "gitea/runner",
        version_of("gitea-runner").removeprefix("v"),
        ("gitea-runner",),
        base="git",
        folder="images/runner",
    ),
    Image(
        *("argo-rollouts", version_of("argo-rollouts"), ("rollouts-controller",)),
        entrypoint="rollouts-controller",
        user="999",
    ),
    Image("argocd", version_of("argo-cd"), ("argocd", "argocd-scripts"), base="git", folder="images/argocd"),
    Image("trivy", version_of("trivy").removeprefix("v"), ("trivy",), folder="images/trivy"),
)

# All that the bundle of the lab carries. The tags of CoreDNS and etcd are those that kubeadm asks for.
IMAGES: tuple[Image, ...] = (
    Image("prometheus", "lab", (), base="prometheus", folder="lab/images/prometheus"),
    Image("pause", "3.10.1", ("pause",), entrypoint="pause"),
    Image("kube-apiserver", _KUBERNETES, ("kube-apiserver",)),
    Image("kube-controller-manager", _KUBERNETES, ("kube-controller-manager",)),
    Image("kube-scheduler", _KUBERNETES, ("kube-scheduler",)),
    Image("etcd", "3.6.5-0", ("etcd",)),
    Image("kube-proxy", _KUBERNETES, ("kube-proxy",), base="net"),
    Image("coredns", "v1.12.1", ("coredns",), entrypoint="coredns"),
    Image("calico-felix", "lab", ("calico-felix",), base="net", entrypoint="calico-felix"),
    Image("lumen-api", FIRST_VERSION, (), base="lumen-api:builder", folder="lab/app/01-connected-zone/app"),
    Image("loadgen", "lab", ("loadgen",), entrypoint="loadgen", user="65532"),
    *SITE_IMAGES,
)


# An image may be asked for as another one's base while it is built.
_LOCKS: dict[str, threading.Lock] = collections.defaultdict(threading.Lock)


def build_image(image: Image, builder: Builder) -> str:
    """Build an image on the host's engine unless it is there; return its local reference."""
    base = _base(image, builder)
    with _LOCKS[image.title()], _context(image, builder) as folder:
        local = dataclasses.replace(image, tag=_digest(folder, base)).site_name()
        if attempt([DOCKER, "image", "inspect", local]).returncode != 0:
            arguments = {"BASE": base}
            if image.tag == FIRST_VERSION:
                arguments = {"BUILDER": base, "VERSION": FIRST_VERSION, "REVISION": first_commit()}
            words = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
            # No network in a build: everything it needs is in the context.
            docker("build", "--quiet", "--network", "none", *words, "--tag", local, str(folder), timeout=900)
    return local


def _base(image: Image, builder: Builder) -> str:
    """What an image is built from, as a reference of the host's engine."""
    if image.base == "scratch":
        return image.base
    if image.base in BASES:
        return base_image(image.base)
    return build_image(next(other for other in IMAGES if other.title() == image.base), builder)


def first_commit() -> str:
    """The commit that FIRST_VERSION is of: the same one that lab/playbooks/app.yml makes on node-1."""
    settings = yaml.safe_load((ROOT / "inventories" / "lab" / "group_vars" / "all.yml").read_text())
    env = {**settings["lab_git_environment"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for path in sorted((LAB / "app" / "01-connected-zone").rglob("*")):
            if path.is_file():
                target = work / path.relative_to(LAB / "app")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        for words in ("init --quiet --initial-branch=main", "add --all"):
            run(["git", *words.split()], cwd=work, env=env)
        run(["git", "commit", "--quiet", f"--message=lumen-api {FIRST_VERSION}"], cwd=work, env=env)
        return run(["git", "rev-parse", "HEAD"], cwd=work, env=env).strip()


def build_images(images: Sequence[Image], builder: Builder) -> dict[str, str]:
    """Build the images, several at a time; return ``{name:tag in the registry: reference in the host's engine}``."""
    # First those that wait for no program: their Debian bases are made while programs compile.
    ordered = sorted(images, key=lambda image: bool(image.programs))
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        references = list(pool.map(lambda image: build_image(image, builder), ordered))
    return {image.title(): reference for image, reference in zip(ordered, references, strict=True)}


def clear_contexts() -> None:
    """Remove the build contexts that a killed run left."""
    shutil.rmtree(CACHE / "contexts", ignore_errors=True)


def node_image(builder: Builder) -> str:
    """The image that both nodes run."""
    programs = [builder.need(name) for name in ("kubelet", "kubeadm", "kubectl", "calico")]
    sources = tuple((f"bin/{path.name}", str(path)) for path in programs)
    return build_image(Image("node", "lab", (), base="node", folder="lab/nodes", sources=sources), builder)


@contextlib.contextmanager
def _context(image: Image, builder: Builder) -> Iterator[Path]:
    """The build context of an image."""
    (CACHE / "contexts").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{image.name.rpartition('/')[2]}-", dir=CACHE / "contexts"))
    try:
        if image.folder:
            shutil.copytree(ROOT / image.folder, folder, symlinks=True, dirs_exist_ok=True)
        else:
            (folder / "Dockerfile").write_text(_dockerfile(image))
        for name, source in image.sources:
            _put(ROOT / source, folder / name)
        for name in image.programs:
            _put(builder.need(name), folder / name)
        if image.base == "builder":
            _put_go(folder / "go")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _dockerfile(image: Image) -> str:
    """A Dockerfile for an image that is only its programs."""
    lines = ["ARG BASE", "FROM ${BASE}" if image.base != "scratch" else "FROM scratch"]
    lines += [f"COPY {name} /usr/local/bin/{name}" for name in image.programs]
    if image.user:
        lines.append(f"USER {image.user}")
    if image.entrypoint:
        lines.append(f'ENTRYPOINT ["/usr/local/bin/{image.entrypoint}"]')
    return "\n".join(lines) + "\n"


def _put(source: Path, target: Path) -> None:
    """Bring a file or a folder into a context, as a hard link where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _put_go(target: Path) -> None:
    """The Go toolchain of this machine, without what a build of the app does not read."""
    root = Path(run(["go", "env", "GOROOT"], env={"GOTOOLCHAIN": "local"}).strip())
    ignore = shutil.ignore_patterns("testdata", "*_test.go", "*.syso")
    for name in ("bin", "src", "pkg/tool", "pkg/include", "VERSION", "go.env"):
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=ignore, copy_function=_link, dirs_exist_ok=True)
        elif (root / name).exists():
            _link(str(root / name), str(target / name))
    if not (target / "bin" / "go").exists():
        raise LabError(f"there is no Go toolchain at {root}")


def _link(source: str, target: str) -> str:
    _put(Path(source), Path(target))
    return target


def _digest(folder: Path, base: str) -> str:
    """The name of what an image is made of: big files by size and time of change, small ones by their bytes."""
    digest = hashlib.sha256(base.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_mode:o}\0".encode())
            if path.stat().st_size > 1 << 20:
                digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
            else:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

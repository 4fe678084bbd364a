#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: a real two-node airgapped Kubernetes cluster on this machine.

lab.py up       the cluster, from whatever is there: seconds when it is up, repaired or built when it is not
lab.py images   no lab at all: the images that a site's bundle.yml names, in this machine's Docker
lab.py nodes    the engine, the network and the two booted nodes alone
lab.py status   nodes, pods and addresses on one screen
lab.py down     everything gone but the build cache, the machine's routes and settings as they were
"""

from __future__ import annotations

import shutil
import signal
import sys

from driver import cluster, host, images, nodes, paths, space, status
from driver.build import PROGRAMS, Builder, Row, kept, missing_of
from driver.report import LabError, say, step


def main(argv: list[str]) -> int:
    """Run one command; 0 when it is done, 1 with the reason when it is not, 2 for a wrong call."""
    commands = {"up": up, "images": make_images, "nodes": bring_nodes, "status": show, "down": down}
    if len(argv) != 1 or argv[0] not in commands:
        print(__doc__)
        return 2
    # A terminated driver ends as an interrupted one does: its builds ended, drafts removed, lock released.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        commands[argv[0]]()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        print("lab: what is done stays; run the same command again to continue", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def up() -> None:
    """Bring the cluster up, whatever state the machine is in."""
    with host.lock():
        builder = _nodes()
        try:
            if not cluster.adopt(builder):
                cluster.bring_up(builder)
        finally:
            builder.stop()
    say("the lab is up; `make lab-status` shows it")


def make_images() -> None:
    """Build the images that the collection has Dockerfiles for, from the pinned sources."""
    if not host.engine_answers():
        raise LabError("no Docker engine answers on this machine; start one, or `make lab-nodes` starts the lab's")
    needed = {program for image in images.SITE_IMAGES for program in image.programs}
    rows = tuple(row for row in PROGRAMS if row.name in needed)
    with host.lock():
        _demand_space(rows, nodes_too=False)
        builder = Builder(rows)
        try:
            references = images.build_images(images.SITE_IMAGES, builder)
        finally:
            builder.stop()
        for image in images.SITE_IMAGES:
            host.docker("tag", references[image.title()], image.site_name())
            say(f"{image.site_name()} is {references[image.title()]}")


def bring_nodes() -> None:
    """Bring up the nodes alone."""
    with host.lock():
        _nodes().stop()
    say("node-1 and node-2 are up")


def show() -> None:
    """Print one screen."""
    print(status.screen())


def down() -> None:
    """Remove the lab; the build cache stays, and so do the reports of releases."""
    with host.lock():
        if not host.engine_answers() and (paths.CACHE / "docker").exists():
            host.prepare()
        if host.engine_answers():
            with step("nodes and network removed"):
                nodes.remove_nodes()
        with step("routes and settings of this machine put back"):
            host.restore()
        for path in (paths.LOCAL / "kubeconfig", paths.LOCAL / "bin", paths.LOCAL / "gitea"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    say("the lab is gone; the build cache stays")


def _nodes() -> Builder:
    with step("the machine prepared"):
        host.prepare()
    content, running = paths.content_hash(), host.content_of_running()
    if running not in (None, content):
        say(f"the lab on this machine has content {running}, this clone's is {content}: rebuilding it")
        nodes.remove_nodes()
    images.clear_contexts()
    _demand_space(PROGRAMS, None in [nodes.state(name) for name in host.NODES])
    builder = Builder()
    try:
        host.ensure_network(content)
        with step("node-1 and node-2 booted"):
            nodes.ensure_nodes(builder, content)
    except BaseException:
        builder.stop()
        raise
    return builder


def _demand_space(rows: tuple[Row, ...], nodes_too: bool) -> None:
    space.demand(len(missing_of(rows)) / len(PROGRAMS), nodes_too, kept())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a set of NetworkPolicies costs, the first time and when nothing is to do, side by side with others.

All talk to the lab's own API server on loopback, each to namespaces of its own. Tasks are measured in plays; what an
empty task takes that imports the same client is taken off, since kubectl has no such thing. Of each the faster of two
rounds counts, and the tools take turns, so that other work on the machine falls on all.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "lab")]

from ansible_collections.lumen.airgap.tests.lab.api_server import ApiServer  # noqa: E402
from driver import build  # noqa: E402

COUNTS = (100, 1000)
ROUNDS = 2
NAMESPACES = 10
#: As many as are applied by a task each; a hundred take a minute, and say the same.
LOOPED = 20
# Beyond the empty task, in times of kubectl.
CREATE_LIMIT, NOTHING_LIMIT = 1.3, 0.5
EMPTY = """
#!/usr/bin/python
import kubernetes.client, kubernetes.config
from ansible.module_utils.basic import AnsibleModule
AnsibleModule({}).exit_json()
"""

Seconds = dict[str, float]


def policies(count: int, prefix: str) -> list[dict[str, Any]]:
    """NetworkPolicies spread over namespaces that begin with the prefix."""
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"policy-{number}", "namespace": f"{prefix}-{number % NAMESPACES}"},
            "spec": {
                "podSelector": {"matchLabels": {"app": f"app-{number}"}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [{"podSelector": {"matchLabels": {"app": f"app-{number + 1}"}}}],
                        "ports": [{"protocol": "TCP", "port": 8080}],
                    }
                ],
            },
        }
        for number in range(count)
    ]


class Bench:
    """Each tool's way to bring a file of policies into the cluster."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self._kubeconfig = str(server.kubeconfig())
        self._folder = folder
        row = next(row for row in build.PROGRAMS if row.name == "kubectl")
        self._kubectl = [str(build._folder(row) / "kubectl"), f"--kubeconfig={self._kubeconfig}"]
        (folder / "library").mkdir()
        (folder / "library" / "empty.py").write_text(EMPTY.lstrip())

    def manifest(self, count: int, prefix: str) -> Path:
        """One file of many documents; its namespaces are there."""
        spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{prefix}-{n}"}} for n in range(10)]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": spaces})
        self._run([*self._kubectl, "apply", "--server-side", "--filename=-"], text)
        path = self._folder / f"{prefix}.yaml"
        # JSON is YAML, and quicker to read than what anybody writes: to the advantage of all.
        path.write_text("\n---\n".join(json.dumps(policy) for policy in policies(count, prefix)))
        return path

    def clear(self, prefix: str) -> None:
        """Take the policies away again."""
        for number in range(NAMESPACES):
            self._run([*self._kubectl, "delete", "networkpolicies", "--all", f"--namespace={prefix}-{number}"])

    def ours(self, path: Path) -> float:
        options = {"kubeconfig": self._kubeconfig, "name": path.stem, "src": [str(path)]}
        return self._task("lumen.airgap.network_policies", options)

    def kubectl(self, path: Path) -> float:
        return self._run([*self._kubectl, "apply", "--server-side", f"--filename={path}"])

    def one_file(self, path: Path) -> float:
        return self._task("kubernetes.core.k8s", {"kubeconfig": self._kubeconfig, "src": str(path), "apply": True})

    def loop(self, path: Path) -> float:
        """Seconds for each policy, those of an empty play not taken off."""
        documents = [json.loads(text) for text in path.read_text().split("\n---\n")[:LOOPED]]
        options = {"kubeconfig": self._kubeconfig, "definition": "{{ item }}", "apply": True}
        return self._task("kubernetes.core.k8s", options, loop=documents) / LOOPED

    def empty(self) -> float:
        return self._task("empty", {})

    def _task(self, module: str, options: dict[str, Any], **keywords: Any) -> float:
        """Seconds of a play of one task."""
        play = self._folder / "play.yml"
        play.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{module: options, **keywords}]}])
        )
        argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "localhost,", "-c", "local", str(play)]
        return self._run([*argv, "-e", f"ansible_python_interpreter={ROOT}/.venv/bin/python"])

    def _run(self, argv: list[str], text: str | None = None) -> float:
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build"),
            "ANSIBLE_LIBRARY": str(self._folder / "library"),
            "ANSIBLE_NOCOLOR": "1",
        }
        begin = time.monotonic()
        done = subprocess.run(
            argv, input=text or "", env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        seconds = time.monotonic() - begin
        if done.returncode != 0 or re.search(r"failed=[1-9]", done.stdout):
            sys.exit(f"{' '.join(argv)[:300]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return seconds


def measure(bench: Bench, count: int) -> tuple[Seconds, Seconds, float]:
    """Seconds of the first apply and of the second, of each tool, and those of an empty task."""
    tools: dict[str, Callable[[Path], float]] = {
        "ours": bench.ours,
        "kubectl": bench.kubectl,
        "file": bench.one_file,
    }
    if count == min(COUNTS):
        tools["loop"] = bench.loop
    first: Seconds = {}
    second: Seconds = {}
    empty = bench.empty()
    for number in range(ROUNDS):
        for name, tool in tools.items():
            if name == "loop" and number:
                continue
            prefix = f"{name}-{count}-{number}"
            path = bench.manifest(count, prefix)
            first[name] = min(first.get(name, 1e9), tool(path))
            second[name] = min(second.get(name, 1e9), tool(path))
            bench.clear(prefix)
        empty = min(empty, bench.empty())
    return first, second, empty


def report(count: int, what: str, seconds: Seconds, empty: float, limit: float | None) -> None:
    """The measurements of one kind, with their limits."""
    net = {name: value if name == "kubectl" else value - empty for name, value in seconds.items()}
    others = [f"kubectl {net['kubectl']:.2f} s", f"kubernetes.core, one file {net['file']:.2f} s"]
    if "loop" in net:
        others.append(f"in a loop {seconds['loop']:.2f} s each")
    name = f"{count:,} policies, {what}"
    for about, value, most in (
        (f"{name}, times kubectl", net["ours"] / net["kubectl"], limit),
        (f"{name}, times kubernetes.core's one file", net["ours"] / net["file"], 1.0),
    ):
        print(json.dumps({"name": about, "value": value, "unit": "times", "limit": most}))
    note = f"{'; '.join(others)}; an empty task, taken off: {empty:.2f} s"
    print(json.dumps({"name": name, "value": net["ours"], "unit": "s", "peer": note}), flush=True)


def main() -> int:
    """Measure both numbers of policies."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        server = ApiServer(folder)
        try:
            server.start()
            bench = Bench(server, folder)
            for count in COUNTS:
                first, second, empty = measure(bench, count)
                report(count, "created", first, empty, CREATE_LIMIT)
                # Among few, what a task costs by itself is more than all of kubectl.
                report(count, "nothing to do", second, empty, NOTHING_LIMIT if count >= 1000 else None)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

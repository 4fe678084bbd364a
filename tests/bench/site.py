# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `site.yml` costs when nothing is to do, in plays of a single ping; needs a lab that is up and finished.

The ten slowest tasks go to standard output as they are, for the reader.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 40  # pings
PING = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [{"ansible.builtin.ping": {}}],
    }
]


def main() -> int:
    """Measure both, the ping before and after, so that other work on the machine falls on both."""
    with tempfile.TemporaryDirectory() as folder:
        ping = Path(folder) / "ping.yml"
        ping.write_text(json.dumps(PING))  # which is YAML
        pings = [play("-i", "localhost,", "-c", "local", str(ping))[0] for _round in range(3)]
        seconds, output = play("-i", "inventories/lab", "site.yml")
        pings += [play("-i", "localhost,", "-c", "local", str(ping))[0] for _round in range(3)]
    changed = [int(count) for count in re.findall(r"changed=(\d+)", output)]
    if not changed or any(changed):
        print(f"the site was not finished: changed={changed}\n{output}", file=sys.stderr)
        return 1
    print("\n".join(re.findall(r"^.* -+ [\d.]+s$", output, re.MULTILINE)[:10]))
    show("site.yml, second run", seconds, "s", f"a ping: {min(pings):.2f} s")
    show("the same in pings", seconds / min(pings), "pings", limit=LIMIT)
    return 0


def play(*words: str) -> tuple[float, str]:
    """Seconds and output of one run."""
    argv = [str(ROOT / ".venv/bin/ansible-playbook"), *words]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build"),
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "ANSIBLE_NOCOLOR": "1",
    }
    begin = time.monotonic()
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - begin, done.stdout


def show(name: str, value: float, unit: str, peer: str = "", limit: float | None = None) -> None:
    """One measurement, as run.py reads it."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "limit": limit, "peer": peer}))


if __name__ == "__main__":
    sys.exit(main())

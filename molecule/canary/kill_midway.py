# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts a release and kills it with SIGKILL while the cluster runs an analysis for it.

Usage: kill_midway.py KUBECTL [OPTION...] -- COMMAND [ARGUMENT...]

Exits 0 when the command was killed in mid-analysis, 1 with its output when it ended before or took too long.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

DEADLINE = 120.0
ANALYSIS = "jsonpath={.status.canary.currentStepAnalysisRunStatus.status}"


def main(argv: list[str]) -> int:
    """Start, wait, kill."""
    split = argv.index("--")
    kubectl, command = argv[:split], argv[split + 1 :]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            reason = wait_for_analysis(process, kubectl)
        finally:
            # This process alone: its workers are left to find out, as when a machine runs out of memory.
            process.kill()
            process.wait()
        if reason:
            output.seek(0)
            print(output.read(), reason, sep="\n")
    return 1 if reason else 0


def wait_for_analysis(process: subprocess.Popen[bytes], kubectl: list[str]) -> str:
    """Returns when an analysis runs; a text says why none will."""
    argv = [*kubectl, "get", "rollout", "lumen-api", f"--output={ANALYSIS}"]
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"the command ended by itself with exit code {process.returncode}"
        state = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        if state.stdout == "Running":
            # Into its initial delay, past the moment of its creation.
            time.sleep(3)
            return ""
        time.sleep(0.5)
    return f"no analysis within {DEADLINE:.0f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

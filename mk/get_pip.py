# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the get-pip script that ansible-test would download: the same arguments, a pip from ensurepip."""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys


def main() -> None:
    """Put pip into this environment, then let it install the packages that were asked for."""
    # quiet_pip.py starts this script with GET_PIP set; the pip below is the plain one.
    os.environ.pop("GET_PIP", None)
    ensurepip.bootstrap()
    wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))


if __name__ == "__main__":
    main()

# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that works step by step, each when it is let: it says a line and waits for the file of the line's name."""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lumen.airgap.plugins.module_utils.options import PROGRESS_OPTIONS
from ansible_collections.lumen.airgap.plugins.module_utils.progress import progress_to

DEADLINE = 20.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **PROGRESS_OPTIONS,
            "gates": {"type": "path", "required": True},
            "steps": {"type": "list", "elements": "str", "default": []},
            "password": {"type": "str", "no_log": True},
            "failure": {"type": "str"},
        },
        supports_check_mode=True,
    )
    gates = module.params["gates"]
    mask = os.umask(0o022)
    os.umask(mask)
    progress = progress_to(module.params["progress_path"])
    with open(os.path.join(gates, "pid"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    for step in module.params["steps"]:
        progress(f"working on {step}")
        end = time.monotonic() + DEADLINE
        while not os.path.exists(os.path.join(gates, step)):
            if time.monotonic() > end:
                module.fail_json(msg=f"nobody let {step} go on")
            time.sleep(0.02)
    module.warn("a warning")
    if module.params["failure"]:
        module.fail_json(msg=module.params["failure"], seen=module.params["steps"])
    module.exit_json(
        changed=True,
        check=module.check_mode,
        said=f"the password is {module.params['password']}",
        home=os.environ["HOME"],
        directory=os.getcwd(),
        umask=mask,
        diff={"before": "", "after": "größe\n"},
    )


if __name__ == "__main__":
    main()

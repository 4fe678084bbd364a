#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signed webhook."""

from __future__ import annotations

DOCUMENTATION = r"""
module: notify
short_description: Post a document to a webhook, signed
version_added: 0.4.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Posts O(document) as JSON. With O(secret), the header C(X-Hub-Signature-256) is the HMAC-SHA256 of the body, as
    GitHub and Gitea sign theirs.
  - With O(secret), the header C(X-Lumen-Signature) is the HMAC-SHA256 of the lines C(X-Lumen-Timestamp),
    C(X-Lumen-Event) and C(X-Lumen-Delivery), each with a line feed, and the body. The time is of this attempt, in
    epoch seconds, so that a receiver can refuse what somebody has recorded and sends again.
  - Sent again while the receiver does not answer or is overloaded. The header C(X-Lumen-Delivery) is the same for the
    same O(event) of the same O(id), so that a receiver can drop what it got twice.
extends_documentation_fragment:
  - lumen.airgap.attributes
attributes:
  check_mode:
    support: full
    details:
      - Checks the options and sends nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run sends the document.
options:
  url:
    description:
      - The webhook. It is never shown but for its host, for its path may be all the secret there is. A login in it is
        refused.
      - A redirect is not followed.
    type: str
    required: true
  event:
    description: What it is about, for the header C(X-Lumen-Event).
    type: str
    default: release
  id:
    description:
      - What the event happens to once, such as a release in one cluster; clusters that are released to together share
        the id of the release. Who notifies again after a kill sends the same C(X-Lumen-Delivery) then, also when the
        document has other times in it.
      - Without it, the same document is the same delivery.
    type: str
    version_added: 0.5.0
  document:
    description: What is sent.
    type: dict
    required: true
  secret:
    description: Key of the signature. Without it, the document is not signed.
    type: str
  ca_path:
    description: PEM file of the CAs that may have signed the receiver's certificate. Without it, the machine's.
    type: path
  validate_certs:
    description: Whether to check the certificate of an C(https) address.
    type: bool
    default: true
  attempts:
    description: How often it is sent at most.
    type: int
    default: 5
  timeout:
    description: How long one attempt may take, in seconds, more than 0.
    type: float
    default: 10.0
requirements:
  - requests (Python library)
seealso:
  - module: lumen.airgap.evidence
"""

EXAMPLES = r"""
- name: Tell the chat how the release ended
  lumen.airgap.notify:
    url: https://chat.example/hooks/releases
    secret: "{{ release_hook_secret }}"
    id: "{{ evidence.evidence.chain.id }}-{{ evidence.evidence.release }}"
    document: "{{ evidence.evidence }}"
"""

RETURN = r"""
delivery:
  description: The header C(X-Lumen-Delivery), also in check mode.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015
status:
  description: The receiver's HTTP status. 0 in check mode.
  returned: success
  type: int
  sample: 204
attempts:
  description: How often it was sent.
  returned: success
  type: int
  sample: 1
"""

import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.http import machine_cas
from ..module_utils.adapters.webhook import Delivery, Message, Target, check_url, post
from ..module_utils.entry import run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import SECONDS, Range, check_ranges
from ..module_utils.times import Clock, SystemClock

_WORD = re.compile(r"[A-Za-z0-9._-]+")

ARGUMENT_SPEC: dict[str, Any] = {
    "url": {"type": "str", "required": True, "no_log": True},
    "event": {"type": "str", "default": "release"},
    "id": {"type": "str"},
    "document": {"type": "dict", "required": True},
    "secret": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "attempts": {"type": "int", "default": 5},
    "timeout": {"type": "float", "default": 10.0},
}
RANGES = {
    "attempts": Range("from 1 to 100", lambda value: 1 <= value <= 100),
    "event": Range("a word of letters, digits, '.', '_' and '-'", lambda value: bool(_WORD.fullmatch(value))),
    "timeout": SECONDS,
}


def notify(params: dict[str, Any], clock: Clock, dry_run: bool, session: Any = None) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    check_url(params["url"])
    if params["ca_path"] and not os.path.isfile(params["ca_path"]):
        raise AirgapError(f"There is no file {params['ca_path']}, which is named as ca_path")
    verify = (params["ca_path"] or machine_cas()) if params["validate_certs"] else False
    target = Target(params["url"], params["secret"] or "", verify, params["timeout"], params["attempts"])
    message = Message(params["event"], params["document"], params["id"] or "")
    done = Delivery(0, message.delivery, 0) if dry_run else post(target, message, clock, session)
    return {"changed": True, "status": done.status, "delivery": done.id, "attempts": done.attempts}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        return notify(module.params, SystemClock(), module.check_mode)

    run_module(module, call)


if __name__ == "__main__":
    main()

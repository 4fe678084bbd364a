#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chain of evidence as it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_info
short_description: Check the chain of an app's evidence, and list its documents
version_added: 0.5.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Reads the evidence of an app in a directory, and holds it against the ConfigMap C(<app>-evidence) in which the
    cluster keeps the end of the chain. A document that is missing, was edited, was removed at the end, or was put there
    by somebody is a finding.
  - Clusters may share the directory. What is known to be of another one is left alone.
  - Without O(namespace) no cluster is asked, and the documents are held against each other alone. The newest ones may
    have been removed then.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
attributes:
  check_mode:
    support: full
    details:
      - It only reads.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  directory:
    description: Where M(lumen.airgap.evidence) writes.
    type: path
    required: true
  app:
    description: Name of the app. Documents of other apps in the directory are left alone.
    type: str
    required: true
  namespace:
    description: Namespace of the app. Without it, no cluster is asked.
    type: str
  host:
    description:
      - The name of this control host, as O(lumen.airgap.evidence#module:who) has it. A document that another control
        host has written is not missed here.
      - Without it, the name of the one that this module runs on.
    type: str
seealso:
  - module: lumen.airgap.evidence
"""

EXAMPLES = r"""
- name: Check the evidence
  lumen.airgap.evidence_info:
    directory: /var/lib/airgap/reports
    app: lumen-api
    namespace: lumen
  register: found

- name: Fail when something is wrong with it
  ansible.builtin.assert:
    that: found.intact
    fail_msg: "{{ found.text | join('; ') }}"
"""

RETURN = r"""
intact:
  description: Whether nothing is wrong, as far as can be told. Findings of the severity V(error) say otherwise.
  returned: success
  type: bool
  sample: true
line:
  description: All of it in one line.
  returned: success
  type: str
  sample: "intact: 4 of 4 documents here fit, the newest is lumen-api-v1.1.0-4.json"
text:
  description: The line, and each finding with what to do.
  returned: success
  type: list
  elements: str
  sample: ["intact: 4 of 4 documents here fit, the newest is lumen-api-v1.1.0-4.json"]
head:
  description: The newest document, as the cluster knows it. Empty where none is known.
  returned: success
  type: dict
  sample:
    number: 4
    name: lumen-api-v1.1.0-4.json
    sha256: 4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
    release: lumen-api-v1.1.0-4
    host: control-1
    outcome: promoted
findings:
  description: What does not fit.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description:
        - What it is, for programs.
        - V(edited), V(missing), V(newest-removed), V(unknown), V(fork), V(link), V(head-missing),
          V(head-unreadable) and V(head-unreached) are errors. V(missing) is a warning of a document that the ledger
          does not remember any more, where other control hosts write evidence too.
        - V(renamed), V(unreadable) and V(other-chain) are warnings; V(elsewhere), V(not-chained) and V(head-unknown)
          tell what could not be checked.
      type: str
      sample: edited
    severity:
      description: V(error), V(warning) or V(info).
      type: str
      sample: error
    where:
      description: The document, or what else it is about.
      type: str
      sample: lumen-api-v1.0.0-3.json
    what:
      description: What was found.
      type: str
      sample: "it is not as it was written: its SHA-256 is 1f0c…, and the cluster's ledger says 4bd1…"
    next:
      description: What to do.
      type: str
      sample: Restore it from a backup, and keep the edited one to see what was changed
documents:
  description: The documents that are here, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The file.
      type: str
      sample: lumen-api-v1.1.0-4.json
    number:
      description: Its number in the chain, V(0) without one.
      type: int
      sample: 4
    sha256:
      description: Of its bytes.
      type: str
      sample: 4bd1f2c9a0b7e6b2f0f5a8a5c8d1e9f3a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2
    state:
      description:
        - V(proven) by the cluster's ledger or a document that is proven; V(linked), it fits those that are here;
          V(edited); V(unknown), it claims a place that is not its own; V(outside), of no chain or of another one.
      type: str
      sample: proven
    release:
      description: Of which release.
      type: str
      sample: lumen-api-v1.1.0-4
    version:
      description: Which version.
      type: str
      sample: v1.1.0
    outcome:
      description: How it ended.
      type: str
      sample: promoted
    started_at:
      description: RFC 3339, UTC.
      type: str
      sample: '2026-01-01T10:00:00Z'
    finished_at:
      description: RFC 3339, UTC.
      type: str
      sample: '2026-01-01T10:04:12Z'
"""

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.session import Session
from ..module_utils.entry import run_module
from ..module_utils.options import KUBE_OPTIONS
from ..module_utils.services.evidence import ran_by
from ..module_utils.services.evidence_chain import Store, inspect

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    "directory": {"type": "path", "required": True},
    "app": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "host": {"type": "str"},
}


def evidence_info(params: dict[str, Any], connect: Callable[[], Session]) -> dict[str, Any]:
    """What the module returns, for its validated parameters."""
    namespace, app = params["namespace"] or "", params["app"]
    store = Store(connect(), namespace, app) if namespace else None
    report, found = inspect(params["directory"], app, namespace, store, ran_by({"host": params["host"]})["host"])
    return {"changed": False, **report.as_dict(), "documents": found}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def connect() -> Session:
        return Session.connect(module.params["kubeconfig"], module.params["context"])

    run_module(module, lambda: evidence_info(module.params, connect))


if __name__ == "__main__":
    main()

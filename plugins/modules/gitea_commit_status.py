#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a commit in Gitea."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gitea_commit_status
short_description: Show in Gitea how the release of a commit ended
version_added: 0.5.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Gives a commit a status, as Gitea shows it beside the commit, its tags and its pull request.
  - With O(note), the verdict is in the release note of the tag too. It has a part of the note for itself, between two
    comments that nobody sees. What others have written stays.
  - The status is written when the newest one of the same O(context) says something else.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.gitea
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  owner:
    description: The user or organization that the repository belongs to.
    type: str
    required: true
  name:
    description:
      - Name of the repository.
      - The token needs the scope C(write:repository), and its owner has to be allowed to write there.
    type: str
    required: true
  commit:
    description: The commit, in full or its first digits, or a tag or branch that is on it. Gitea has to have it.
    type: str
    required: true
  state:
    description: V(pending) while it goes on. V(error) is for what could not be judged.
    type: str
    choices: [pending, success, failure, error]
    required: true
  context:
    description: Whose verdict it is. Others on the same commit are left alone.
    type: str
    default: lumen.airgap/release
  description:
    description: Why it ended so. Put on one line, and cut at 255 characters.
    type: str
    default: ''
  target_url:
    description: Where to read more, for example the page of M(lumen.airgap.evidence).
    type: str
    default: ''
  note:
    description: The release note of a tag. It is made when the tag has none.
    type: dict
    suboptions:
      tag:
        description: The tag. It has to be there, for Gitea would make it otherwise, and start what a new tag starts.
        type: str
        required: true
      title:
        description: Title of a note that is made. Default is the tag. That of one that is there stays.
        type: str
      body:
        description: Text of our part, in Markdown. Without it, O(state) in words, O(description) and O(target_url).
        type: str
requirements:
  - Gitea 1.26 or newer
seealso:
  - module: lumen.airgap.evidence
  - module: lumen.airgap.notify
"""

EXAMPLES = r"""
- name: Show that it is on its way
  lumen.airgap.gitea_commit_status:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    owner: lumen
    name: lumen
    commit: v1.1.0
    state: pending
    description: The canary is on its way

- name: Show how it ended, and write it into the release note
  lumen.airgap.gitea_commit_status:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    owner: lumen
    name: lumen
    commit: "{{ evidence.evidence.commit }}"
    state: "{{ 'success' if evidence.evidence.outcome == 'promoted' else 'failure' }}"
    description: "{{ evidence.evidence.outcome }}: {{ evidence.evidence.reason }}"
    note:
      tag: "{{ evidence.evidence.version }}"
"""

RETURN = r"""
commit:
  description: The commit, in full.
  returned: success
  type: str
  sample: 9f2c1b7d7a4e4f0e6b2d1c3a5f8e7d6c5b4a3f2e
status:
  description: Its status now, or in check mode then.
  returned: success
  type: dict
  contains:
    state:
      description: The state.
      type: str
      sample: failure
    context:
      description: Whose it is.
      type: str
      sample: lumen.airgap/release
    description:
      description: Why, as Gitea has it.
      type: str
      sample: "rolled_back: success-rate failed 3 times in a row"
    target_url:
      description: Where to read more.
      type: str
      sample: ''
note:
  description: The release note. Empty without O(note).
  returned: success
  type: dict
  contains:
    tag:
      description: Its tag.
      type: str
      sample: v1.1.0
    url:
      description: Its page in Gitea. Empty in check mode when it would be made.
      type: str
      sample: http://192.168.2.2:30300/lumen/lumen/releases/tag/v1.1.0
    body:
      description: The whole text.
      type: str
      sample: "<!-- lumen.airgap/release -->\n**promoted**\n<!-- /lumen.airgap/release -->\n"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.gitea import Gitea
from ..module_utils.entry import Task, run_task
from ..module_utils.options import GITEA_OPTIONS, GITEA_RANGES, Range, check_ranges
from ..module_utils.services.gitea_commit_status import CommitStatus, Note, Status

ARGUMENT_SPEC: dict[str, Any] = {
    **GITEA_OPTIONS,
    "owner": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "commit": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["pending", "success", "failure", "error"], "required": True},
    "context": {"type": "str", "default": "lumen.airgap/release"},
    "description": {"type": "str", "default": ""},
    "target_url": {"type": "str", "default": ""},
    "note": {
        "type": "dict",
        "options": {
            "tag": {"type": "str", "required": True},
            "title": {"type": "str"},
            "body": {"type": "str"},
        },
    },
}
SPEC: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC}
RANGES = {
    **GITEA_RANGES,
    "commit": Range("a commit, a tag or a branch", bool),
    "context": Range("some text on one line", lambda value: bool(value.strip()) and value.isprintable()),
    "target_url": Range(
        "an http:// or https:// address, or nothing",
        lambda value: not value or value.startswith(("http://", "https://")),
    ),
}


def commit_status(params: dict[str, Any], gitea: Gitea, dry_run: bool) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    status = Status(params["state"], params["context"], params["description"], params["target_url"])
    given = params["note"]
    note = Note(given["tag"], given["title"] or "", given["body"] or "") if given else None
    return CommitStatus(gitea, params["owner"], params["name"], dry_run).set(params["commit"], status, note)


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    check_ranges(task.params, RANGES)
    return commit_status(task.params, Gitea.connect(task.params["gitea"]), task.check_mode)


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

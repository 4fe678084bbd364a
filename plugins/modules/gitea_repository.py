#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pipeline and releases need of their repository in Gitea."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gitea_repository
short_description: Give a repository in Gitea the tokens of its pipeline and its releases, and files
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Makes a token for the pipeline of a repository and stores it there as an action secret, and one for releases, which
    it writes to a file. Each belongs to an account of its own, which is made when it does not exist, sees nothing but
    what it is a collaborator of, and has a password that nobody knows.
  - A token is never shown or returned. The description of the secret says by its number which token it holds, and of
    the file the last characters are compared with what Gitea shows of each token. As long as Gitea has that token with
    these scopes, and nobody else can read the file, nothing is done.
  - A new token is tried and stored before the old one is revoked.
  - Commits files, such as the pipeline, through the API when the branch has others.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.gitea
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - A token is shown by its number.
  idempotent:
    support: partial
    details:
      - With O(ci_token.rotate) and O(release_token.rotate) each run makes a new token.
      - What somebody writes into the secret without changing its description is not noticed.
options:
  owner:
    description: The user or organization that the repository belongs to.
    type: str
    required: true
  name:
    description: Name of the repository. It has to exist.
    type: str
    required: true
  state:
    description:
      - V(absent) revokes the tokens, removes the secret and the file, and takes the accounts off the repository that
        have no other token of this module for it.
      - The accounts and O(files) stay.
    type: str
    choices: [present, absent]
    default: present
  ci_token:
    description:
      - The token of the pipeline. This or O(release_token) is needed for O(state=absent).
      - Either needs an administrator of Gitea, whose token has the scopes C(write:admin), C(write:user) and
        C(write:repository).
    type: dict
    suboptions:
      user:
        description: The account that the token belongs to. It cannot be an administrator.
        type: str
        default: lumen-ci
      email:
        description: Its address, when it is made. Default is C(<user>@noreply.invalid).
        type: str
      secret:
        description: Name of the action secret. Gitea writes it in capitals.
        type: str
        default: CI_TOKEN
      scopes:
        description: What the token may do. V(write:repository) is what a push takes.
        type: list
        elements: str
        default: ['write:repository']
      permission:
        description: What the account may do in the repository. One that owns it is left as it is.
        type: str
        choices: [read, write, admin]
        default: write
      rotate:
        description: Make a new token also when the one that is there is good.
        type: bool
        default: false
  release_token:
    description:
      - The token with which releases tag, follow the pipeline, bump the manifest and show their verdict. It is no
        administrator's.
      - Each file has its own, so that one can be taken away alone.
    type: dict
    version_added: 0.5.0
    suboptions:
      path:
        description: Absolute path of the file on the machine that the task runs on. It gets the mode 0600.
        type: path
        required: true
      host:
        description: >-
          What its tokens are named after, together with O(release_token.path). Default is the host name of the machine;
          set it in a container, which has another one each time.
        type: str
      user:
        description: The account that the token belongs to. It cannot be an administrator.
        type: str
        default: lumen-release
      email:
        description: Its address, when it is made. Default is C(<user>@noreply.invalid).
        type: str
      scopes:
        description: What the token may do.
        type: list
        elements: str
        default: ['write:repository']
      permission:
        description: What the account may do in the repository. One that owns it is left as it is.
        type: str
        choices: [read, write, admin]
        default: write
      rotate:
        description: Make a new token also when the one that is there is good.
        type: bool
        default: false
  files:
    description: Files that the branch has to have as they are here.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file in the repository.
        type: str
        required: true
      content:
        description: What is in it.
        type: str
        required: true
  branch:
    description: The branch of O(files). It has to exist.
    type: str
    default: main
  commit_message:
    description:
      - Message of a commit.
      - With C([skip ci]) in it no run would start for a tag on that commit either.
    type: str
    default: Install the pipeline
requirements:
  - Gitea 1.26 or newer
seealso:
  - module: lumen.airgap.act_runner
"""

EXAMPLES = r"""
- name: The pipeline and its token
  lumen.airgap.gitea_repository:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    owner: lumen
    name: lumen
    ci_token:
      user: lumen-ci
      secret: CI_TOKEN
    files:
      - path: .gitea/workflows/ci.yaml
        content: "{{ lookup('ansible.builtin.template', 'ci.yaml.j2') }}"

- name: A token for the releases from this machine
  lumen.airgap.gitea_repository:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    owner: lumen
    name: lumen
    release_token:
      path: /home/deploy/lumen-airgap/release-gitea-token

- name: Another token of the pipeline
  lumen.airgap.gitea_repository:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ airgap_gitea_token }}"
    owner: lumen
    name: lumen
    ci_token:
      rotate: true
"""

RETURN = r"""
actions:
  description: What was done, or would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["make the user lumen-ci", "let lumen-ci write", "make a token and write it to the secret CI_TOKEN"]
token:
  description: The token of the pipeline, without the token itself. Empty without O(ci_token).
  returned: success
  type: dict
  contains:
    id:
      description: Its number in Gitea; 0 in check mode when one would be made.
      type: int
      sample: 12
    user:
      description: The account that it belongs to.
      type: str
      sample: lumen-ci
    scopes:
      description: What it may do.
      type: list
      elements: str
      sample: ["write:repository"]
    secret:
      description: The action secret that holds it.
      type: str
      sample: CI_TOKEN
release_token:
  description: The token of releases, without the token itself. Empty without O(release_token).
  returned: success
  type: dict
  contains:
    id:
      description: Its number in Gitea; 0 in check mode when one would be made.
      type: int
      sample: 13
    user:
      description: The account that it belongs to.
      type: str
      sample: lumen-release
    scopes:
      description: What it may do.
      type: list
      elements: str
      sample: ["write:repository"]
    path:
      description: The file that holds it.
      type: str
      sample: /home/deploy/lumen-airgap/release-gitea-token
commits:
  description: The commit of each file that was changed, by its path.
  returned: success
  type: dict
  sample:
    .gitea/workflows/ci.yaml: 9f2c1b7d7a4e4f0e6b2d1c3a5f8e7d6c5b4a3f2e
"""

import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.gitea import Gitea
from ..module_utils.adapters.node import Node
from ..module_utils.entry import run_module
from ..module_utils.options import ABSOLUTE, GITEA_OPTIONS, GITEA_RANGES, check_ranges
from ..module_utils.services.gitea_repository import (
    PIPELINE,
    RELEASES,
    Content,
    File,
    Place,
    Repository,
    Secret,
    Token,
)

# What both tokens have.
_ACCOUNT: dict[str, Any] = {
    "email": {"type": "str"},
    "scopes": {"type": "list", "elements": "str", "default": ["write:repository"]},
    "permission": {"type": "str", "choices": ["read", "write", "admin"], "default": "write"},
    "rotate": {"type": "bool", "default": False},
}

ARGUMENT_SPEC: dict[str, Any] = {
    **GITEA_OPTIONS,
    "owner": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "ci_token": {
        "type": "dict",
        "no_log": False,  # it describes the token; the token itself is no option
        "options": {
            "user": {"type": "str", "default": "lumen-ci"},
            "secret": {"type": "str", "default": "CI_TOKEN", "no_log": False},
            **_ACCOUNT,
        },
    },
    "release_token": {
        "type": "dict",
        "no_log": False,
        "options": {
            "path": {"type": "path", "required": True},
            "host": {"type": "str"},
            "user": {"type": "str", "default": "lumen-release"},
            **_ACCOUNT,
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "str", "required": True}, "content": {"type": "str", "required": True}},
    },
    "branch": {"type": "str", "default": "main"},
    "commit_message": {"type": "str", "default": "Install the pipeline"},
}
REQUIRED_IF = [("state", "absent", ["ci_token", "release_token"], True)]
RANGES = {**GITEA_RANGES, "release_token.path": ABSOLUTE}


def repository(params: dict[str, Any], gitea: Gitea, dry_run: bool) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    where = (params["owner"], params["name"])
    tokens = []
    if given := params["ci_token"]:
        tokens.append(_token(PIPELINE, given, Secret(gitea, *where, given["secret"])))
    if given := params["release_token"]:
        tokens.append(_token(RELEASES, given, File(Node(), given["path"], given["host"] or socket.gethostname())))
    target = Repository(gitea, *where, dry_run)
    if params["state"] == "absent":
        return target.absent(tokens)
    files = [Content(file["path"], file["content"]) for file in params["files"]]
    return target.present(tokens, files, params["branch"], params["commit_message"])


def _token(purpose: str, given: dict[str, Any], place: Place) -> Token:
    email = given["email"] or f"{given['user']}@noreply.invalid"
    return Token(purpose, given["user"], email, given["scopes"], given["permission"], given["rotate"], place)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=REQUIRED_IF, supports_check_mode=True)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        return repository(module.params, Gitea.connect(module.params["gitea"]), module.check_mode)

    run_module(module, call)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a workload in a repository of manifests."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gitops_image
short_description: Change the image of a workload in Git, or take that commit back
version_added: 0.4.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Finds the image in a manifest by its structure, changes that scalar and nothing else, and pushes it as a commit of
    its own. Comments, order, quotes, anchors and line ends stay as they are.
  - A push is a compare and swap. When somebody else has pushed meanwhile, the change is made again on what is there
    now, O(attempts) times.
  - The repository is not checked out. Hooks, filters and symbolic links in it have no say, and neither has the
    configuration of C(git) on this machine.
  - A manifest that names the image already is left alone, without a commit.
extends_documentation_fragment:
  - lumen.airgap.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  repo:
    description:
      - Address of the repository, as C(http://), C(https://), C(ssh://), C(file://) or C(user@host:path).
      - Without a login in it. O(username) and O(token) are for that.
    type: str
    required: true
  branch:
    description: The branch that is changed. It has to exist.
    type: str
    default: main
  path:
    description: Path of the manifest in the repository.
    type: str
    required: true
  state:
    description:
      - With V(present) the manifest names O(image).
      - With V(reverted) what O(commit) changed is undone, also when other commits came after it. Refused when the image
        is another by now, or when the commit changed more than images in O(path), made that file or is a merge.
      - With V(reverted) and O(image) instead of O(commit), the commit that is undone is the one that brought this image
        to where the manifest names it now. Nothing is done when the manifest does not name it.
    type: str
    choices: [present, reverted]
    default: present
  image:
    description:
      - The image to name, as C(repository:tag).
      - With O(state=reverted) the image whose commit is undone. A digest beside the tag in the manifest is compared
        only when one is given here too. Either this or O(commit).
    type: str
  digest:
    description: Digest of O(image), for example V(sha256:4bc4...). The image is pinned to it.
    type: str
  commit:
    description: The commit to undo, in full or its first digits. For O(state=reverted) only.
    type: str
  to:
    description:
      - The image that the manifest shall name once O(image) is taken back, such as the one that is stable in the
        cluster. For O(state=reverted) with O(image).
      - Where undoing the commit would lead to another one, or is refused, this image is set instead.
      - Nothing is done when it is O(image) itself, pinned or not.
    type: str
    version_added: 0.5.0
  container:
    description: Name of the container. Without it, the one whose image has the same repository.
    type: str
  resource:
    description: The object it belongs to, as V(Rollout/lumen-api), where the container's name is not enough.
    type: str
  every:
    description: Change all places that fit, where more than one is otherwise refused.
    type: bool
    default: false
  skip_ci:
    description:
      - Whether the commit's message gets C([skip ci]).
      - V(auto) adds it only when a workflow in the repository would start for this push by its own filters. The marker
        has a price, for Gitea starts no run for a tag on such a commit either, and does not say so.
    type: str
    choices: [auto, always, never]
    default: auto
  commit_message:
    description: Message of the commit. Without it, one that names the container and the version.
    type: str
  author:
    description: Author and committer.
    type: dict
    suboptions:
      name:
        description: Name.
        type: str
        default: lumen-ci
      email:
        description: Address.
        type: str
        default: lumen-ci@noreply.invalid
  username:
    description: User of O(token).
    type: str
    default: git
  token:
    description:
      - Token or password for C(http) and C(https).
      - Reaches C(git) in its environment, so that it is in no address, list of processes, file or log.
    type: str
  ca_path:
    description: PEM file of the CAs that may have signed the server's certificate. Without it, the machine's.
    type: path
  validate_certs:
    description: Whether to check the certificate of an C(https) address.
    type: bool
    default: true
  key_path:
    description: Private key for SSH. Without it, what C(ssh) finds by itself.
    type: path
  known_hosts_path:
    description: File of the host keys that are trusted. Without it, the user's. An unknown host is always refused.
    type: path
  attempts:
    description: How often the change is made again when somebody else was faster, or the server did not answer.
    type: int
    default: 5
  wait:
    description:
      - For how long, in seconds, the change is tried again while the server does not answer.
      - With V(0) a server that does not answer uses up one of the O(attempts).
      - What the server refuses, such as a token or a push to a protected branch, fails at once in either case.
    type: float
    default: 0.0
    version_added: 0.5.0
  timeout:
    description: How long one command of C(git) may take, in seconds, more than 0.
    type: float
    default: 60.0
requirements:
  - git 2.31 or newer (program)
  - ruamel.yaml (Python library)
  - PyYAML (Python library, to read workflows)
seealso:
  - module: lumen.airgap.argo_application
  - module: lumen.airgap.gitea_repository
"""

EXAMPLES = r"""
- name: Let Git name v1.5.4
  lumen.airgap.gitops_image:
    repo: http://192.168.2.2:30300/lumen/lumen.git
    path: 03-airgap-zone/manifests/app/03-lumen-api.yaml
    image: 192.168.2.2:5000/lumen-api:v1.5.4
    container: lumen-api
    token: "{{ gitea_ci_token }}"
  register: bump

- name: Take it back
  lumen.airgap.gitops_image:
    repo: http://192.168.2.2:30300/lumen/lumen.git
    path: 03-airgap-zone/manifests/app/03-lumen-api.yaml
    state: reverted
    commit: "{{ bump.commit }}"
    token: "{{ gitea_ci_token }}"

- name: Take back whatever commit brought v1.5.4, if Git still names it
  lumen.airgap.gitops_image:
    repo: http://192.168.2.2:30300/lumen/lumen.git
    path: 03-airgap-zone/manifests/app/03-lumen-api.yaml
    state: reverted
    image: 192.168.2.2:5000/lumen-api:v1.5.4
    container: lumen-api
    token: "{{ gitea_ci_token }}"
"""

RETURN = r"""
commit:
  description: The commit that was pushed. When nothing was to be done, and in check mode, the head of the branch.
  returned: success
  type: str
  sample: 4a3f1c5a0f6ee2b7d2fb6b66b6c7d3b2b8e0f6a1
undone:
  description: The commit that was undone, or in check mode would be. Empty when none was.
  returned: success
  type: str
  sample: 9b1c0a7be35c1b8e2a5bd5d1e3c8f2a4d6e7f809
  version_added: 0.5.0
images:
  description:
    - What the manifest names then, in the container and the resource that are meant, each image once.
    - Entries C(images) of a kustomization are for all containers.
  returned: success
  type: list
  elements: str
  sample: ["192.168.2.2:5000/lumen-api:v1.5.4"]
  version_added: 0.5.0
message:
  description: Message of the commit. Empty when nothing was to be done.
  returned: success
  type: str
  sample: "chore: bump lumen-api to v1.5.4"
changes:
  description: Each scalar that was changed.
  returned: success
  type: list
  elements: dict
  sample:
    - line: 31
      place: Rollout lumen-api, container lumen-api
      before: 192.168.2.2:5000/lumen-api:v1.5.3
      after: 192.168.2.2:5000/lumen-api:v1.5.4
attempts:
  description: How often the change was made until it was the newest.
  returned: success
  type: int
  sample: 1
"""

from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.git import Person, Remote, Repository
from ..module_utils.entry import Task, run_task
from ..module_utils.options import SECONDS, Range, check_ranges
from ..module_utils.services.gitops_image import ALWAYS, AUTO, NEVER, GitopsImage, How, Place
from ..module_utils.times import Clock, SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    "repo": {"type": "str", "required": True},
    "branch": {"type": "str", "default": "main"},
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
    "image": {"type": "str"},
    "digest": {"type": "str"},
    "commit": {"type": "str"},
    "to": {"type": "str"},
    "container": {"type": "str"},
    "resource": {"type": "str"},
    "every": {"type": "bool", "default": False},
    "skip_ci": {"type": "str", "choices": [AUTO, ALWAYS, NEVER], "default": AUTO},
    "commit_message": {"type": "str"},
    "author": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "name": {"type": "str", "default": "lumen-ci"},
            "email": {"type": "str", "default": "lumen-ci@noreply.invalid"},
        },
    },
    "username": {"type": "str", "default": "git"},
    "token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "key_path": {"type": "path", "no_log": False},
    "known_hosts_path": {"type": "path"},
    "attempts": {"type": "int", "default": 5},
    "wait": {"type": "float", "default": 0.0},
    "timeout": {"type": "float", "default": 60.0},
}
REQUIRED_IF = [("state", "present", ["image"]), ("state", "reverted", ["commit", "image"], True)]
EXCLUSIVE = [("commit", "image")]
REQUIRED_BY = {"digest": ["image"], "to": ["image"]}
SPEC: dict[str, Any] = {
    "argument_spec": ARGUMENT_SPEC,
    "required_if": REQUIRED_IF,
    "required_by": REQUIRED_BY,
    "mutually_exclusive": EXCLUSIVE,
}
RANGES = {
    "attempts": Range("from 1 to 100", lambda value: 1 <= value <= 100),
    "branch": Range(
        "the name of a branch, as Git allows it",
        lambda value: bool(value) and not value.startswith(("-", "/")) and not set(value) & set(" ~^:?*[\\\t\n"),
    ),
    "commit": Range(
        "a commit, in full or at least its first 7 digits",
        lambda value: 7 <= len(value) <= 64 and set(value) <= set("0123456789abcdef"),
    ),
    "path": Range(
        "a path in the repository, without .. in it",
        lambda value: bool(value) and not value.startswith("/") and ".." not in value.split("/"),
    ),
    "timeout": SECONDS,
    "wait": Range("seconds, 0 or more", lambda value: 0 <= value < float("inf")),
}


def gitops_image(
    params: dict[str, Any],
    directory: str,
    clock: Clock,
    dry_run: bool,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """What the module does, with its validated parameters; ``directory`` is empty and for this call alone.

    ``check`` raises when nobody waits for it any more.
    """
    remote = Remote(
        url=params["repo"],
        username=params["username"],
        token=params["token"] or "",
        ca_path=params["ca_path"] or "",
        validate_certs=params["validate_certs"],
        key_path=params["key_path"] or "",
        known_hosts_path=params["known_hosts_path"] or "",
    )
    service = GitopsImage(Repository(directory, remote, params["timeout"], check), clock)
    place = Place(params["branch"], params["path"], params["container"], params["resource"], params["every"])
    how = How(
        Person(**params["author"]),
        params["commit_message"] or "",
        params["skip_ci"],
        params["attempts"],
        params["wait"],
    )
    image = f"{params['image']}@{params['digest']}" if params["digest"] else params["image"]
    if params["state"] == "present":
        done = service.set(place, image, how, dry_run)
    elif params["commit"]:
        done = service.revert(place, params["commit"], how, dry_run)
    else:
        done = service.revert_image(place, image, how, dry_run, params["to"] or "")
    return done.as_dict(place)


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    check_ranges(task.params, RANGES)
    with task.scratch() as directory:
        return gitops_image(task.params, directory, SystemClock(), task.check_mode, task.check)


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

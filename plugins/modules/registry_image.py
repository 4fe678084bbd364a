#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings images into a registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_image
short_description: Bring a list of images into a registry
version_added: 0.1.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - Publishes images of an OCI layout, of another registry or of the node's Docker daemon, each under one repository
    and several tags, the whole list in one session. It also deletes images, by name or by rules.
  - Everything is looked up and decided before the first byte is written. Only blobs that the registry lacks are sent,
    side by side; those that another repository of it has are mounted, and setting another tag moves a manifest alone.
  - An upload that is interrupted goes on where it broke off, also in the next run after this one was killed. A lost
    connection, HTTP 429 and 5xx are tried again for a minute since the last progress.
  - An index is published whole, whatever platforms it is for, for one with fewer would have another digest.
  - A tag that is a semantic version (V(v1.2.3), V(1.2.3), V(v1.2.3-rc.1)) is immutable. When the registry has it for
    another image, the task fails and names both, before anything of the list is written.
  - Every digest is read back from the registry after it was written.
  - Deleting frees no space before the registry's next garbage collection, see M(lumen.airgap.registry).
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.progress
  - lumen.airgap.registry
  - lumen.airgap.registry.sources
  - lumen.airgap.registry.docker
attributes:
  check_mode:
    support: full
    details:
      - The digest, bytes and blobs of an image that Docker would have to push are not known before, and null.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  images:
    description:
      - The images. First those that are to be present, then what is to be absent, and then O(prune).
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description:
          - Where the image comes from. Exactly one of O(images[].source.daemon), O(images[].source.layout) and
            O(images[].source.registry). Required unless O(images[].state=absent).
        type: dict
        suboptions:
          daemon:
            description:
              - Name or ID of an image of the Docker daemon. Docker itself pushes it, so its digest is the one that
                Docker shows.
              - For a registry that speaks HTTP the daemon needs it under C(insecure-registries).
              - To a registry with users it logs in with O(registry.username), or else with what C(docker login) left
                for the user that the task runs as.
            type: str
          layout:
            description: Path of an OCI layout directory. Indexes are published whole, children first.
            type: path
          registry:
            description:
              - Reference of an image in a registry, as C(host/repository:tag) or C(host/repository@digest).
                O(registries) says how that host is spoken to.
              - Without a host it is an image of the registry that is published to. Then nothing but manifests moves.
            type: str
          ref:
            description:
              - Which image of the layout. Its annotation C(org.opencontainers.image.ref.name) or
                C(io.containerd.image.name) in C(index.json), or its digest.
              - Not needed when the layout holds one image.
            type: str
      repository:
        description: Repository to publish it in, without the registry's host.
        type: str
        required: true
      tags:
        description:
          - Tags that are to point to the image.
          - With O(images[].state=absent), tags to delete, with the manifests that no other tag or index needs, since a
            registry does not list manifests without a tag.
        type: list
        elements: str
      digest:
        description:
          - With O(images[].state=absent), the manifest to delete, and what of an index nothing else needs.
          - It fails when the manifest is a part of an index that has a tag. Tags that point to it are deleted with it
            when O(images[].force) is set, otherwise it fails for them too.
          - A registry does not list manifests without a tag, so an index that has none protects nothing.
        type: str
      state:
        description: Whether the image is to be there.
        type: str
        choices: [present, absent]
        default: present
      force:
        description:
          - Move a tag even when it is a semantic version that another image has.
          - Trust nothing that the registry says it has of this image, but read all of that back. What is damaged is
            mended with O(storage_path), and makes the task fail without it.
        type: bool
        default: false
  prune:
    description:
      - Rules that say how many tags stay. Each tag is decided about by the first rule that matches it, and stays when
        none does.
      - The last ones stay. Semantic versions are ordered as such, all else by the creation time in the image's
        config, then by name. Where one pattern matches both, a version is newer than what is none.
      - With a tag its manifest is deleted, unless another tag has it or it is a part of an index that stays.
    type: list
    elements: dict
    default: []
    suboptions:
      repository:
        description: Glob of repositories. V(*) matches C(/) too.
        type: str
        required: true
      tags:
        description: Glob of tags.
        type: str
        required: true
      keep:
        description: How many of the matching tags stay in each repository.
        type: int
        required: true
  workers:
    description: How many requests are under way at once.
    type: int
    default: 4
  storage_path:
    description:
      - Directory of the registry's storage, on the node that the task runs on. It lets O(images[].force) mend what is
        damaged there, because a registry never overwrites a blob that it has.
      - Content is removed only after it was hashed and found different from its digest, and is sent again at once.
    type: path
  journal_path:
    description:
      - Directory on the node that remembers uploads under way, so that the next run continues those that a killed one
        left. It is made with mode 0700, and is empty when all is sent.
    type: path
    default: ~/.local/state/lumen-airgap/uploads
seealso:
  - module: lumen.airgap.registry
  - module: lumen.airgap.registry_image_info
"""

EXAMPLES = r"""
- name: Publish what docker build has made, as a release
  lumen.airgap.registry_image:
    images:
      - source: {daemon: lumen-api:build}
        repository: lumen-api
        tags: [v1.5.4, 3f2c1ab, latest]

- name: Publish two images of a layout
  lumen.airgap.registry_image:
    registry:
      host: 192.168.2.2:5000
    images:
      - source: {layout: /opt/bundle/images, ref: pause}
        repository: pause
        tags: ["3.10.1"]
      - source: {layout: /opt/bundle/images, ref: coredns}
        repository: coredns/coredns
        tags: [v1.12.1]

- name: Copy an image from another registry, and name it once more
  lumen.airgap.registry_image:
    registries:
      - host: registry.example.com
        ca_path: /etc/ssl/example.pem
        username: reader
        password: "{{ vault_reader_password }}"
    images:
      - source: {registry: "registry.example.com/team/tool:v2.0.1"}
        repository: team/tool
        tags: [v2.0.1]
      - source: {registry: "lumen-api:v1.5.4"}
        repository: lumen-api
        tags: [latest]

- name: Keep the last five releases and ten commits of each image
  lumen.airgap.registry_image:
    prune:
      - {repository: "lumen-*", tags: "v*", keep: 5}
      - {repository: "lumen-*", tags: "[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]", keep: 10}

- name: Delete a tag
  lumen.airgap.registry_image:
    images:
      - {repository: lumen-api, tags: [v0.1.0-rc.1], state: absent}

- name: Mend an image that was damaged on the disk of the registry
  lumen.airgap.registry_image:
    storage_path: /var/lib/registry
    images:
      - source: {layout: /opt/bundle/images, ref: pause}
        repository: pause
        tags: ["3.10.1"]
        force: true
  become: true
"""

RETURN = r"""
images:
  description: One entry for each image, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: The repository.
      type: str
      sample: lumen-api
    digest:
      description: >-
        Digest of the manifest or index that the tags point to. Of an absent image, the digest that was asked for.
      type: str
      sample: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
    tags:
      description: The tags. Of an absent image, those that were deleted.
      type: list
      elements: str
      sample: [v1.5.4, 3f2c1ab, latest]
    bytes_sent:
      description: >-
        Size of what the registry lacked of the layers and configs, in bytes (of an image from Docker, of its layers).
      type: int
      sample: 7340032
    blobs_skipped:
      description: How many layers and configs were not sent because the registry had them.
      type: int
      sample: 3
    mounted:
      description: How many of these were mounted from another repository.
      type: int
      sample: 1
    mended:
      description: Digests of what was damaged in the registry's storage.
      type: list
      elements: str
      sample: []
    changed:
      description: Whether anything was written or deleted.
      type: bool
      sample: true
pruned:
  description: What the rules did not keep, one entry for each repository that had such.
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: The repository.
      type: str
      sample: lumen-api
    tags:
      description: The tags that were deleted.
      type: list
      elements: str
      sample: [v1.0.0, v1.0.1]
    manifests:
      description: Digests of the manifests that were deleted with them.
      type: list
      elements: str
      sample: ["sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8"]
damaged:
  description: What is damaged in the registry's storage, on failure.
  returned: when a forced image is damaged and O(storage_path) is not given
  type: list
  elements: str
  sample: ["pause@sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8 is missing"]
registry:
  description: Host of the registry that refused, on failure.
  returned: when the registry cannot be asked or says no
  type: str
  sample: 192.168.2.2:5000
repository:
  description: Repository that was worked on, null when the failure concerns none.
  returned: when the registry cannot be asked or says no
  type: str
  sample: lumen-api
status:
  description: HTTP status of the registry's answer, null when there was none.
  returned: when the registry cannot be asked or says no
  type: int
  sample: 500
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.registry import REQUESTS_TRACEBACK, Registry
from ..module_utils.adapters.registry_source import Registries
from ..module_utils.adapters.registry_storage import RegistryStorage
from ..module_utils.adapters.upload_journal import UploadJournal
from ..module_utils.entry import missing, run_module
from ..module_utils.options import (
    PROGRESS_OPTIONS,
    REGISTRY_OPTIONS,
    SOURCE_REGISTRIES_OPTIONS,
    WORKERS,
    check_ranges,
)
from ..module_utils.progress import progress_to
from ..module_utils.services.registry_image import publish

if TYPE_CHECKING:
    from ..module_utils.adapters.docker import Docker

ARGUMENT_SPEC = {
    **PROGRESS_OPTIONS,
    **REGISTRY_OPTIONS,
    **SOURCE_REGISTRIES_OPTIONS,
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "images": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "source": {
                "type": "dict",
                "options": {
                    "daemon": {"type": "str"},
                    "layout": {"type": "path"},
                    "registry": {"type": "str"},
                    "ref": {"type": "str"},
                },
                "mutually_exclusive": [("daemon", "layout", "registry"), ("daemon", "ref"), ("registry", "ref")],
                "required_one_of": [("daemon", "layout", "registry")],
            },
            "repository": {"type": "str", "required": True},
            "tags": {"type": "list", "elements": "str"},
            "digest": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "force": {"type": "bool", "default": False},
        },
        "required_if": [("state", "present", ("source", "tags"))],
        "mutually_exclusive": [("source", "digest"), ("tags", "digest")],
    },
    "prune": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "repository": {"type": "str", "required": True},
            "tags": {"type": "str", "required": True},
            "keep": {"type": "int", "required": True},
        },
    },
    "workers": {"type": "int", "default": 4},
    "storage_path": {"type": "path"},
    "journal_path": {"type": "path", "default": "~/.local/state/lumen-airgap/uploads"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    missing(module, "requests", REQUESTS_TRACEBACK)
    params = module.params

    def connect_docker() -> Docker:
        # Docker's SDK takes long to load, and is needed for some sources alone.
        from ..module_utils.adapters.docker import DOCKER_TRACEBACK, Docker

        missing(module, "docker", DOCKER_TRACEBACK)
        return Docker.connect(params["docker_host"])

    def call() -> dict[str, Any]:
        check_ranges(params, {"workers": WORKERS})
        registry = Registry.connect(params["registry"])
        return publish(
            params["images"],
            registry,
            connect_docker,
            module.check_mode,
            registries=Registries(params["registries"], known=[registry]),
            workers=params["workers"],
            journal=UploadJournal(params["journal_path"]),
            storage=RegistryStorage(params["storage_path"]) if params["storage_path"] else None,
            prune=params["prune"],
            progress=progress_to(params["progress_path"]),
        )

    run_module(module, call)


if __name__ == "__main__":
    main()

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
  - Publishes images of an OCI layout or of the node's Docker daemon, each under one repository and several tags,
    the whole list in one session.
  - Everything is looked up and decided before the first byte is written. Only blobs that the registry lacks are sent,
    those that another repository of it has are mounted, and setting another tag moves a manifest alone.
  - A tag that is a semantic version (V(v1.2.3), V(1.2.3), V(v1.2.3-rc.1)) is immutable. When the registry has it for
    another image, the task fails and names both, before anything of the list is written.
  - Every digest is read back from the registry after it was written.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.registry
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
    description: The images, published in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description: Where the image comes from. Exactly one of O(images[].source.daemon) and
          O(images[].source.layout).
        type: dict
        required: true
        suboptions:
          daemon:
            description:
              - Name or ID of an image of the Docker daemon. Docker itself pushes it, so its digest is the one that
                Docker shows.
              - For a registry that speaks HTTP the daemon needs it under C(insecure-registries).
            type: str
          layout:
            description: Path of an OCI layout directory. Indexes are published whole, children first.
            type: path
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
        description: Tags that are to point to the image.
        type: list
        elements: str
        required: true
      force:
        description: Move a tag even when it is a semantic version that another image has.
        type: bool
        default: false
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
      description: Digest of the manifest or index that the tags point to.
      type: str
      sample: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
    tags:
      description: The tags.
      type: list
      elements: str
      sample: [v1.5.4, 3f2c1ab, latest]
    bytes_sent:
      description: Size of the layers and configs that were sent, in bytes (of an image from Docker, of its layers).
      type: int
      sample: 7340032
    blobs_skipped:
      description: How many layers and configs were not sent because the registry had them.
      type: int
      sample: 3
    changed:
      description: Whether a tag was written.
      type: bool
      sample: true
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.docker import DEFAULT_HOST, DOCKER_TRACEBACK, Docker
from ..module_utils.adapters.registry import REQUESTS_TRACEBACK, Registry
from ..module_utils.entry import missing, run_module
from ..module_utils.options import REGISTRY_OPTIONS
from ..module_utils.services.registry_image import publish

ARGUMENT_SPEC = {
    **REGISTRY_OPTIONS,
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "images": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "source": {
                "type": "dict",
                "required": True,
                "options": {
                    "daemon": {"type": "str"},
                    "layout": {"type": "path"},
                    "ref": {"type": "str"},
                },
                "mutually_exclusive": [("daemon", "layout"), ("daemon", "ref")],
                "required_one_of": [("daemon", "layout")],
            },
            "repository": {"type": "str", "required": True},
            "tags": {"type": "list", "elements": "str", "required": True},
            "force": {"type": "bool", "default": False},
        },
    },
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    missing(module, "requests", REQUESTS_TRACEBACK)

    def connect_docker() -> Docker:
        missing(module, "docker", DOCKER_TRACEBACK)
        return Docker.connect(module.params["docker_host"])

    def call() -> dict[str, Any]:
        registry = Registry.connect(module.params["registry"])
        return publish(module.params["images"], registry, connect_docker, module.check_mode)

    run_module(module, call)


if __name__ == "__main__":
    main()

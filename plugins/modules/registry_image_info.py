#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells what a registry has under given names."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_image_info
short_description: Tell whether a registry has images, and which
version_added: 0.1.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - Looks up images by tag or digest in a registry and returns whether they exist, their digests and their labels.
  - An image that is not there is an answer, not a failure.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.registry
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - This module changes nothing.
  idempotent:
    support: full
options:
  names:
    description:
      - Names of images, as C(repository:tag) or C(repository@digest).
      - The registry's own host may stand in front.
    type: list
    elements: str
    required: true
  verify:
    description:
      - Read every manifest, config and layer of the images back and compare them with their digests. It reads all of
        their bytes through the network.
    type: bool
    default: false
  workers:
    description: How many requests are under way at once.
    type: int
    default: 4
seealso:
  - module: lumen.airgap.registry_image
"""

EXAMPLES = r"""
- name: Ask whether a version was built already
  lumen.airgap.registry_image_info:
    names: [lumen-api:v1.1.0]
  register: published

- name: Refuse a version that was built from another commit
  ansible.builtin.assert:
    that: image.labels['org.opencontainers.image.revision'] | default('') == commit
  vars:
    image: "{{ published.images[0] }}"
  when: image.exists

- name: Make sure that what the registry keeps is whole
  lumen.airgap.registry_image_info:
    names: [lumen-api:v1.1.0]
    verify: true
  register: kept
  failed_when: kept.images | rejectattr('corrupt', 'equalto', []) | list
"""

RETURN = r"""
images:
  description: One entry for each name, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The full name, with the registry's host.
      type: str
      sample: 192.168.2.2:5000/lumen-api:v1.1.0
    repository:
      description: The repository.
      type: str
      sample: lumen-api
    tag:
      description: The tag, null when a digest was asked for.
      type: str
      sample: v1.1.0
    exists:
      description: Whether the registry has it.
      type: bool
      sample: true
    digest:
      description: Digest of its manifest or index, null when it is not there.
      type: str
      sample: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
    media_type:
      description: Media type of its manifest or index, null when it is not there.
      type: str
      sample: application/vnd.docker.distribution.manifest.v2+json
    labels:
      description: Labels of the image; of an index those of its first image.
      type: dict
      sample: {"org.opencontainers.image.revision": "3f2c1ab"}
    corrupt:
      description: >-
        With O(verify), what is damaged or missing in the registry's storage, of an image that is there. Otherwise null.
        M(lumen.airgap.registry_image) mends it, with C(force) and C(storage_path) on the registry's node.
      type: list
      elements: dict
      contains:
        digest:
          description: Digest of the manifest or blob.
          type: str
          sample: sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
        reason:
          description: What is wrong with it.
          type: str
          sample: ends after 512 of 1024 bytes
    message:
      description: >-
        When it is not there, what that means and what the repository has instead; when it is damaged, what to do.
        Null otherwise.
      type: str
      sample: >-
        192.168.2.2:5000/lumen-api:v9 is not in the registry (lumen-api has the tags v1.1.0): a pod that wants it
        gets ErrImagePull. Push it from the registry's node
registry:
  description: Host of the registry that refused, on failure.
  returned: when the registry cannot be asked or says no
  type: str
  sample: 192.168.2.2:5000
repository:
  description: Repository that was asked for, null when the failure concerns none.
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

from ..module_utils.adapters.registry import REQUESTS_TRACEBACK, Registry
from ..module_utils.entry import Task, need, run_task
from ..module_utils.options import REGISTRY_OPTIONS, WORKERS, check_ranges
from ..module_utils.services.registry_contents import describe

ARGUMENT_SPEC = {
    **REGISTRY_OPTIONS,
    "names": {"type": "list", "elements": "str", "required": True},
    "verify": {"type": "bool", "default": False},
    "workers": {"type": "int", "default": 4},
}
SPEC: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC}


def work(task: Task) -> dict[str, Any]:
    """From the task to its result."""
    need("requests", REQUESTS_TRACEBACK)
    params = task.params
    check_ranges(params, {"workers": WORKERS})
    images = describe(params["names"], Registry.connect(params["registry"]), params["verify"], params["workers"])
    return {"changed": False, "images": images}


def main() -> None:
    """Entry point."""
    run_task(AnsibleModule(**SPEC, supports_check_mode=True), work)


if __name__ == "__main__":
    main()

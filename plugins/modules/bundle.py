#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds, verifies, unpacks and imports bundles, and takes the inventory that a delta is built against."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Build, verify and import what crosses the gap
version_added: 0.2.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - A bundle is everything that enters an airgap at once, with images, Trivy databases, manifests, Python wheels, files
    and the collection itself, under one SSH signature. It has a name, a number that rises, and a time at which it
    expires.
  - On the connected side, V(built) makes one. Inside, V(verified), V(unpacked) and V(imported) take it, and
    V(inventoried) writes what the inside holds, so that the next bundle can be a delta that leaves it out.
  - Nothing is written before the signature, then every hash, then the free space have been checked. A bundle is never
    extracted on its way, its blobs go straight from it into the registry.
  - A run that was killed is continued by the next one. The same bundle again changes nothing, and is not read again
    as a whole for that.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.registry
  - lumen.airgap.registry.docker
  - lumen.airgap.progress
attributes:
  check_mode:
    support: full
    details:
      - Signature, hashes and space are checked all the same. Nothing is written, and no lock is taken.
      - With O(state=built), what would have to be made first is listed in RV(unknown).
  diff_mode:
    support: full
    details:
      - Files, images and the number of the bundle, as far as they differ.
  idempotent:
    support: full
options:
  state:
    description:
      - V(built) builds the bundle that O(spec) describes at O(path). Nothing is written when the bundle that is there
        has this content and has not used up most of its time.
      - V(verified) checks signature and hashes, and tells in RV(refusals) what an import would refuse it for.
      - V(unpacked) also writes everything but the images to C(content) in the bundle's directory under O(state_path),
        and the registry's own image as C(registry.tar), which C(docker load) takes. It needs Python's standard library
        and C(ssh-keygen) alone, for it runs on a node that has nothing else yet.
      - V(imported) also brings the images into O(registry), and notes the bundle in the history.
      - V(inventoried) writes what the registry and O(state_path) hold to O(inventory). A document that says the same
        is left as it is.
    type: str
    choices: [built, verified, unpacked, imported, inventoried]
    required: true
  path:
    description:
      - The bundle. A directory, a tar, any volume of one, or the directory that the tar or its volumes lie in.
      - With O(state=built), where it goes. A name that ends with C(.tar) makes a tar, any other a directory, in which
        the volumes are when O(volume_size) is given.
      - Required unless O(state=inventoried).
    type: path
  allowed_signers:
    description:
      - Who may sign, in the format of C(ssh-keygen)'s ALLOWED SIGNERS. The path of such a file on the node (absolute,
        or beginning with C(~) or C(.)), or its content.
      - Required with O(state=verified), O(state=unpacked) and O(state=imported).
    type: str
  signer:
    description: A pattern with C(*) and C(?) that the signer's name in O(allowed_signers) has to match.
    type: str
    default: '*'
  name:
    description: The name that the bundle has to have. Without it, any.
    type: str
  state_path:
    description:
      - Directory of what is kept of bundles. For each name one in it, with C(content), C(registry.tar) and
        C(history.json).
    type: path
    default: /var/lib/lumen-airgap/bundles
  storage_path:
    description:
      - Where the registry keeps its data, to see whether there is space for the images, and with O(force=true) to mend
        damaged ones. Skipped when it is not on this machine.
    type: path
    default: /var/lib/registry
  force:
    description:
      - Take a bundle that is older than the last one (a rollback), that has expired (a freeze), that was made in the
        future, or that has the number of another one. The history says so.
      - Also replaces images with a semantic version as their tag when the registry has others under it.
      - Signature and hashes are checked all the same.
    type: bool
    default: false
  imported_by:
    description: Who imports, for the history. Without it, the user that runs the module, before C(sudo).
    type: str
  inventory:
    description:
      - With O(state=inventoried), where the document goes. Required then.
      - With O(state=built), the one that a delta is built against. Without it, the bundle is a full one.
    type: path
  spec:
    description: With O(state=built), the C(bundle.yml). Required then.
    type: path
  signing_key:
    description:
      - With O(state=built), a private SSH key without a passphrase, or the public key of one that the agent holds.
        Required then.
    type: path
  number:
    description:
      - With O(state=built), the number of the bundle, before the one in O(spec). Without either, the number after that
        of the bundle at O(path) and of the last import in O(inventory).
    type: int
  volume_size:
    description: With O(state=built), the size of a volume, as V(4GiB) or in bytes. Without it, there are no volumes.
    type: str
  cache_path:
    description: With O(state=built), a directory for what was fetched, so that it is not fetched again.
    type: path
    default: ~/.cache/lumen-airgap/bundle
requirements:
  - PyYAML (Python library), for O(state=built)
  - ssh-keygen (OpenSSH 8.2 or later)
notes:
  - Of the Python libraries, O(state=verified) and O(state=unpacked) need none, O(state=imported) and
    O(state=inventoried) requests alone, and O(state=built) docker only for images of a Docker daemon.
  - Two runs for one name exclude each other. The second fails and names the first.
seealso:
  - module: lumen.airgap.registry_image
  - module: lumen.airgap.registry
"""

EXAMPLES = r"""
- name: Build a bundle in volumes for the medium that carries it
  lumen.airgap.bundle:
    state: built
    spec: bundle.yml
    path: /srv/bundles/lumen
    volume_size: 4GiB
    signing_key: ~/.ssh/bundle

- name: Unpack it on a node that has no environment of its own yet
  lumen.airgap.bundle:
    state: unpacked
    path: /media/usb
    allowed_signers: "{{ lookup('ansible.builtin.file', 'allowed_signers') }}"
    name: lumen

- name: Import it
  lumen.airgap.bundle:
    state: imported
    path: /media/usb
    allowed_signers: /etc/lumen-airgap/allowed_signers
    signer: "*@lumen.example"
    name: lumen
    registry:
      host: 192.168.2.2:5000

- name: Write what is inside, for the next bundle to leave it out
  lumen.airgap.bundle:
    state: inventoried
    inventory: /media/usb/inventory.json

- name: Build a delta against it
  lumen.airgap.bundle:
    state: built
    spec: bundle.yml
    path: /srv/bundles/lumen.tar
    inventory: /media/usb/inventory.json
    signing_key: ~/.ssh/bundle
"""

RETURN = r"""
bundle:
  description: The bundle.
  returned: success, but for O(state=inventoried)
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: lumen
    number:
      description: Its number.
      type: int
      sample: 42
    created:
      description: When it was built, RFC 3339 in UTC.
      type: str
      sample: '2026-01-01T10:00:00Z'
    expires:
      description: When it expires, RFC 3339 in UTC.
      type: str
      sample: '2026-04-01T10:00:00Z'
    sha256:
      description: Of its C(bundle.json).
      type: str
      sample: 5f1d7a84db00d2fce00b31a7fc73224f2bd4c2b2e3a7a2f6d6e7c0f4b1a2c3d4
    signer:
      description: Who signed it. Not with O(state=built).
      type: str
      sample: release@lumen.example
    path:
      description: Where it is.
      type: str
      sample: /media/usb/lumen-42.tar.001 to lumen-42.tar.003
    files:
      description: With O(state=built), the files to carry.
      type: list
      elements: str
      sample: [/srv/bundles/lumen/lumen-42.tar.001]
    images:
      description: Its images; with O(state=built), also the size of each.
      type: list
      elements: dict
      sample:
        - name: argoproj/argocd:v3.1.9
          digest: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
          media_type: application/vnd.oci.image.index.v1+json
          source: quay.io/argoproj/argocd:v3.1.9
          kind: image
    wheelhouses:
      description: Directories of the wheels in it, by what they are for.
      type: dict
      sample: {node: wheels/node}
    collection:
      description: Path of the collection in it, null without one.
      type: str
      sample: collections/lumen-airgap-0.2.0.tar.gz
    file_count:
      description: How many files it has.
      type: int
      sample: 612
    bytes_packed:
      description: The sizes of its files together.
      type: int
      sample: 1073741824
    bytes_saved:
      description: With O(state=built), the sizes of what a delta leaves out.
      type: int
      sample: 0
    absent_blobs:
      description: How many configs and layers a delta leaves out.
      type: int
      sample: 0
    absent_files:
      description: How many other files a delta leaves out.
      type: int
      sample: 0
refusals:
  description: Why an import would refuse the bundle, or would have without O(force=true). Empty when nothing speaks
    against it.
  returned: when O(state) is V(verified), V(unpacked) or V(imported); also when it is refused
  type: list
  elements: str
  sample: []
content:
  description: Directory of the bundle's files.
  returned: when O(state) is V(unpacked) or V(imported)
  type: str
  sample: /var/lib/lumen-airgap/bundles/lumen/content
registry_archive:
  description: The registry's own image for C(docker load), null when the bundle has none.
  returned: when O(state) is V(unpacked) or V(imported)
  type: str
  sample: /var/lib/lumen-airgap/bundles/lumen/registry.tar
files_written:
  description: How many files came out of the bundle.
  returned: when O(state) is V(unpacked) or V(imported)
  type: int
  sample: 57
files_removed:
  description: How many files of the bundle before are gone.
  returned: when O(state) is V(unpacked) or V(imported)
  type: int
  sample: 2
bytes_written:
  description: The sizes of the files that came out of the bundle, and of the registry's image.
  returned: when O(state) is V(unpacked) or V(imported)
  type: int
  sample: 52428800
images:
  description: What became of each image, as M(lumen.airgap.registry_image) returns it. Empty with O(state=unpacked).
  returned: when O(state) is V(unpacked) or V(imported)
  type: list
  elements: dict
  sample: []
bytes_sent:
  description: The sizes of the blobs that were sent to the registry.
  returned: when O(state) is V(unpacked) or V(imported)
  type: int
  sample: 73400320
hints:
  description: Images that may be meant somewhere in the manifests, but are not in the bundle, and where.
  returned: when O(state) is V(built)
  type: dict
  sample: {}
unknown:
  description: What check mode cannot foresee, because it would have to be made first.
  returned: when O(state) is V(built)
  type: list
  elements: str
  sample: []
inventory:
  description: Path of the document.
  returned: when O(state) is V(inventoried)
  type: str
  sample: /media/usb/inventory.json
taken:
  description: The time in the document, RFC 3339 in UTC.
  returned: when O(state) is V(inventoried)
  type: str
  sample: '2026-01-01T10:00:00Z'
held:
  description: What is in it.
  returned: when O(state) is V(inventoried)
  type: dict
  contains:
    images:
      description: How many tags.
      type: int
      sample: 61
    blobs:
      description: How many configs and layers.
      type: int
      sample: 311
    files:
      description: How many files.
      type: int
      sample: 57
    bytes:
      description: The sizes of the blobs and files, together.
      type: int
      sample: 2147483648
image:
  description: The image that lacks its base, on failure.
  returned: when the registry does not have what a delta leaves out
  type: str
  sample: lumen-api:v1.1.0
digest:
  description: The blob that the registry does not have, on failure.
  returned: when the registry does not have what a delta leaves out
  type: str
  sample: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
needed_bytes:
  description: How much space is needed, on failure.
  returned: when there is not enough space
  type: int
  sample: 1073741824
free_bytes:
  description: How much space there is, on failure.
  returned: when there is not enough space
  type: int
  sample: 524288000
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.docker import DEFAULT_HOST, DOCKER_TRACEBACK, Docker
from ..module_utils.adapters.registry import REQUESTS_TRACEBACK, Registry
from ..module_utils.entry import missing, run_module
from ..module_utils.options import PROGRESS_OPTIONS, REGISTRY_OPTIONS
from ..module_utils.progress import progress_to
from ..module_utils.services.bundle import inventory
from ..module_utils.services.bundle.build import DEFAULT_CACHE, build
from ..module_utils.services.bundle.images import ImageImport
from ..module_utils.services.bundle.importing import STATE_PATH, Request, bring_in, verified
from ..module_utils.services.bundle.sources import Tools
from ..module_utils.services.bundle.specfile import YAML_TRACEBACK
from ..module_utils.times import SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **REGISTRY_OPTIONS,
    **PROGRESS_OPTIONS,
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "state": {
        "type": "str",
        "choices": ["built", "verified", "unpacked", "imported", "inventoried"],
        "required": True,
    },
    "path": {"type": "path"},
    "allowed_signers": {"type": "str"},
    "signer": {"type": "str", "default": "*"},
    "name": {"type": "str"},
    "state_path": {"type": "path", "default": STATE_PATH},
    "storage_path": {"type": "path", "default": "/var/lib/registry"},
    "force": {"type": "bool", "default": False},
    "imported_by": {"type": "str"},
    "inventory": {"type": "path"},
    "spec": {"type": "path"},
    "signing_key": {"type": "path"},
    "number": {"type": "int"},
    "volume_size": {"type": "str"},
    "cache_path": {"type": "path", "default": DEFAULT_CACHE},
}
_TAKEN = ("path", "allowed_signers")
REQUIRED_IF = [
    ("state", "built", ("path", "spec", "signing_key")),
    ("state", "verified", _TAKEN),
    ("state", "unpacked", _TAKEN),
    ("state", "imported", _TAKEN),
    ("state", "inventoried", ("inventory",)),
]


def bundle(module: AnsibleModule) -> dict[str, Any]:
    """What the module does. Raises AirgapError."""
    params, check_mode, clock = module.params, module.check_mode, SystemClock()
    progress = progress_to(params["progress_path"])
    state = params["state"]

    def connect() -> Registry:
        missing(module, "requests", REQUESTS_TRACEBACK)
        return Registry.connect(params["registry"])

    if state == "built":
        return _built(module)
    if state == "inventoried":
        return inventory.write(connect(), params["state_path"], params["inventory"], progress, clock, check_mode)
    request = Request(
        path=params["path"],
        allowed_signers=params["allowed_signers"],
        signer=params["signer"],
        name=params["name"],
        state_path=params["state_path"],
        force=params["force"],
        by=params["imported_by"] or "",
    )
    if state == "verified":
        result = verified(request, progress, clock)
    else:
        images = None
        if state == "imported":
            images = ImageImport(connect(), params["force"], params["storage_path"], progress=progress)
        result = bring_in(request, progress, clock, check_mode, images)
    for reason in result["refusals"]:
        module.warn(reason)
    return result


def _built(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    missing(module, "PyYAML", YAML_TRACEBACK)

    def connect_docker() -> Docker:
        missing(module, "docker", DOCKER_TRACEBACK)
        return Docker.connect(params["docker_host"])

    def connect_registry(options: Any) -> Registry:
        missing(module, "requests", REQUESTS_TRACEBACK)
        return Registry.connect(dict(options))

    return build(
        params["spec"],
        params["path"],
        params["signing_key"],
        number=params["number"],
        volume_size=params["volume_size"],
        base=params["inventory"],
        cache_path=params["cache_path"],
        check_mode=module.check_mode,
        progress=progress_to(params["progress_path"]),
        tools=Tools(connect_docker=connect_docker, connect_registry=connect_registry),
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, required_if=REQUIRED_IF)
    run_module(module, lambda: bundle(module))


if __name__ == "__main__":
    main()

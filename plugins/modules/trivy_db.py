#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings Trivy's databases into the cache of a node, looks after them, and packs them for the way across the gap."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trivy_db
short_description: Bring Trivy's databases across the gap, and see that they are whole and young
version_added: 0.3.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - Trivy inside an airgap scans with the databases that it is given. It looks at their schema, and never at their age.
    This module brings them into its cache, checks them, and refuses those that are too old.
  - A database is read to its end and checked (hash, archive members, schema, whether it is whole and holds anything,
    age) before it takes the place of the one before, by the renaming of a link. A scan that is under way keeps the
    database that it has opened. One version of before is kept.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.trivy
  - lumen.airgap.registry
  - lumen.airgap.progress
attributes:
  check_mode:
    support: full
    details:
      - The source is read to its end and checked all the same, nothing is written.
  diff_mode:
    support: full
    details:
      - The version of each database, and when it was made.
  idempotent:
    support: full
options:
  state:
    description:
      - V(delivered) brings the databases into O(cache_path).
      - V(verified) reads every byte of the databases in O(cache_path), and fails for one that is missing, damaged, of
        another schema, or too old.
      - V(rolled_back) lets Trivy read the version from before the last delivery.
      - V(packed) writes the databases to O(path), on the connected side.
    type: str
    choices: [delivered, verified, rolled_back, packed]
    default: delivered
  path:
    description:
      - With O(state=packed), where they go. A name that ends with C(.tar.gz) makes an archive of one database, any
        other an OCI layout with the artifacts C(trivy-db:2) and C(trivy-java-db:1), which C(trivy) in a C(bundle.yml)
        takes.
    type: path
  db:
    description:
      - The database of vulnerabilities. Its source is one of O(db.image), O(db.layout), O(db.archive) and
        O(db.directory); without any, C(trivy-db:2) in O(registry), where a bundle has brought it.
      - At least one of O(db) and O(java_db) is given; an empty one will do.
    type: dict
    suboptions:
      image:
        description: The artifact in O(registry), as C(repository:tag).
        type: str
      layout:
        description: An OCI layout that has the artifact.
        type: path
      ref:
        description: Its name in the layout. Without it, C(trivy-db:2).
        type: str
      archive:
        description: A tar.gz of C(metadata.json) and the database, which is what the artifact's layer is.
        type: path
      checksum:
        description: The sha256 that the archive has to have.
        type: str
      directory:
        description: A directory with the two files, or a cache of Trivy.
        type: path
      warn_days:
        description:
          - Age in days from which on there is a warning; V(0) for never.
          - The age counts from when the database was made, not from when it was brought here.
        type: float
        default: 30
      fail_days:
        description: Age in days from which on the database is refused; V(0) for never.
        type: float
        default: 90
      schema:
        description: Schema that the Trivy in use reads.
        type: int
        default: 2
  java_db:
    description:
      - The database of Java archives, which Trivy needs for images that have any. Without a source,
        C(trivy-java-db:1) in O(registry).
    type: dict
    suboptions:
      image:
        description: As O(db.image).
        type: str
      layout:
        description: As O(db.layout).
        type: path
      ref:
        description: Its name in the layout. Without it, C(trivy-java-db:1).
        type: str
      archive:
        description: As O(db.archive).
        type: path
      checksum:
        description: As O(db.checksum).
        type: str
      directory:
        description: As O(db.directory).
        type: path
      warn_days:
        description:
          - Age in days from which on there is a warning; V(0) for never.
          - The age counts from when the database was made, not from when it was brought here.
        type: float
        default: 30
      fail_days:
        description: Age in days from which on the database is refused; V(0) for never.
        type: float
        default: 90
      schema:
        description: Schema that the Trivy in use reads.
        type: int
        default: 1
  force:
    description:
      - Take a database that is too old, or older than the one that is there, with a warning. Also reads every byte of
        what is there, and replaces what is damaged.
    type: bool
    default: false
  keep_previous:
    description: Whether to keep the version from before, to go back to.
    type: bool
    default: true
requirements:
  - requests (Python library), for a source in a registry
notes:
  - A directory C(db) that Trivy itself has made becomes a version as well, when a first one is brought.
seealso:
  - module: lumen.airgap.trivy_scan
  - module: lumen.airgap.bundle
"""

EXAMPLES = r"""
- name: Have both databases that the last bundle has brought
  lumen.airgap.trivy_db:
    db: {}
    java_db: {warn_days: 45}
    registry: {host: 192.168.2.2:5000}

- name: Take one from a medium
  lumen.airgap.trivy_db:
    db:
      archive: /media/usb/db.tar.gz
      checksum: sha256:5f1d7a84db00d2fce00b31a7fc73224f2bd4c2b2e3a7a2f6d6e7c0f4b1a2c3d4

- name: See whether they are whole and young
  lumen.airgap.trivy_db:
    state: verified
    db: {fail_days: 30}
    java_db: {}

- name: Pack what Trivy has downloaded on the connected side
  lumen.airgap.trivy_db:
    state: packed
    path: /srv/bundles/trivy
    db: {directory: ~/.cache/trivy}
    java_db: {directory: ~/.cache/trivy}
"""

RETURN = r"""
databases:
  description: The databases that were asked for, by C(db) and C(java_db).
  returned: success
  type: dict
  contains:
    db:
      description: One of them.
      type: dict
      contains:
        kind:
          description: Its name as an artifact.
          type: str
          sample: trivy-db
        path:
          description: The directory that it is in, or with O(state=packed) what it was packed into.
          type: str
          sample: /var/cache/trivy/.versions/db/0a1b2c3d4e5f6a7b
        schema:
          description: Its schema.
          type: int
          sample: 2
        updated_at:
          description: When it was made, RFC 3339 in UTC; null when it does not say so.
          type: str
          sample: '2026-01-01T06:11:42Z'
        next_update:
          description: When its makers meant to make the next one.
          type: str
          sample: '2026-01-02T06:11:42Z'
        age_days:
          description: Days since it was made; null when that cannot be told.
          type: float
          sample: 3.27
        verdict:
          description: V(fresh), V(aging) (older than C(warn_days)), V(old) (older than C(fail_days)), or V(unknown).
          type: str
          sample: fresh
        size:
          description: Bytes of the database.
          type: int
          sample: 734003200
        sha256:
          description: Hash of the database; null when it was not brought by this module and not read as a whole.
          type: str
          sample: 5f1d7a84db00d2fce00b31a7fc73224f2bd4c2b2e3a7a2f6d6e7c0f4b1a2c3d4
        digest:
          description: Digest of what it came in (a layer or an archive), null of a directory.
          type: str
          sample: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
        source:
          description: Where it came from.
          type: str
          sample: 192.168.2.2:5000/trivy-db:2
        delivered_at:
          description: When it was brought here, RFC 3339 in UTC, null when that is not known.
          type: str
          sample: '2026-01-03T10:00:00.000000Z'
reasons:
  description: What there is to say about their age, or what O(force) was needed for.
  returned: success
  type: list
  elements: str
  sample: ['trivy-db was made at 2026-01-01T06:11:42Z, 40.1 days ago: a newer one is due after 30']
output:
  description: Where they were packed to.
  returned: with O(state=packed)
  type: str
  sample: /srv/bundles/trivy
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.registry import REQUESTS_TRACEBACK, Registry
from ..module_utils.entry import missing, run_module
from ..module_utils.options import PROGRESS_OPTIONS, REGISTRY_OPTIONS, TRIVY_OPTIONS
from ..module_utils.progress import progress_to
from ..module_utils.services.trivy.cache import Cache
from ..module_utils.services.trivy.databases import Delivering, roll_back, verified, wanted
from ..module_utils.services.trivy.packing import pack
from ..module_utils.services.trivy.sources import Tools
from ..module_utils.times import SystemClock

_SOURCE: dict[str, Any] = {
    "image": {"type": "str"},
    "layout": {"type": "path"},
    "ref": {"type": "str"},
    "archive": {"type": "path"},
    "checksum": {"type": "str"},
    "directory": {"type": "path"},
}


def _with_source(option: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "dict",
        "options": {**option["options"], **_SOURCE},
        "mutually_exclusive": [("image", "layout", "archive", "directory")],
        "required_by": {"ref": ("layout",), "checksum": ("archive",)},
    }


ARGUMENT_SPEC: dict[str, Any] = {
    **TRIVY_OPTIONS,
    **REGISTRY_OPTIONS,
    **PROGRESS_OPTIONS,
    "state": {
        "type": "str",
        "choices": ["delivered", "verified", "rolled_back", "packed"],
        "default": "delivered",
    },
    "path": {"type": "path"},
    "db": _with_source(TRIVY_OPTIONS["db"]),
    "java_db": _with_source(TRIVY_OPTIONS["java_db"]),
    "force": {"type": "bool", "default": False},
    "keep_previous": {"type": "bool", "default": True},
}


def trivy_db(module: AnsibleModule) -> dict[str, Any]:
    """What the module does. Raises AirgapError."""
    params, check_mode, clock = module.params, module.check_mode, SystemClock()
    progress, force = progress_to(params["progress_path"]), params["force"]
    items, cache = wanted(params), Cache(params["cache_path"])

    def connect() -> Registry:
        missing(module, "requests", REQUESTS_TRACEBACK)
        return Registry.connect(params["registry"])

    tools = Tools(connect)
    if params["state"] == "packed":
        result = pack(params["path"], items, tools, clock, progress, force, check_mode)
    elif params["state"] == "verified":
        result = verified(cache, items, clock)
    elif params["state"] == "rolled_back":
        result = roll_back(cache, items, clock, check_mode)
    else:
        delivering = Delivering(cache, tools, clock, progress, force, params["keep_previous"])
        result = delivering.deliver(items, check_mode)
    for reason in result["reasons"]:
        module.warn(reason)
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", "packed", ("path",))],
        required_one_of=[("db", "java_db")],
    )
    run_module(module, lambda: trivy_db(module))


if __name__ == "__main__":
    main()

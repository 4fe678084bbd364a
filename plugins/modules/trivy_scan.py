#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scans an image with Trivy and the databases of the airgap, and lets a gate refuse it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trivy_scan
short_description: Scan an image for known vulnerabilities inside an airgap
version_added: 0.3.0
author: The lumen.airgap maintainers (@lumen-airgap)
description:
  - Runs Trivy on the node with the databases that M(lumen.airgap.trivy_db) has brought, and returns what it has found.
    Nothing is asked for on the network but the image itself.
  - A database that is missing, damaged, of another schema or too old is an error, never an image without findings.
  - With O(gate=true) the module fails for findings of O(severities), with the findings in its result. Findings can be
    waived until a date.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.trivy
  - lumen.airgap.registry
  - lumen.airgap.registry.docker
  - lumen.airgap.progress
attributes:
  check_mode:
    support: full
    details:
      - A scan changes nothing, so that check mode scans as well; but it pulls no O(trivy_image), and then only looks
        after the databases.
  diff_mode:
    support: none
    details:
      - There is nothing that changes.
  idempotent:
    support: full
options:
  image:
    description:
      - The image. With O(image_source=registry) its name in O(registry), as C(repository:tag) or C(repository@digest);
        with O(image_source=docker) any name that Docker has it under.
      - Exactly one of O(image) and O(input) is given.
    type: str
  image_source:
    description: Where O(image) is.
    type: str
    choices: [registry, docker]
    default: registry
  input:
    description: An image on the node, as a tar made by C(docker save) or an OCI layout.
    type: path
  trivy_image:
    description:
      - The image with Trivy, run by the node's Docker and pulled when Docker does not have it.
      - It gets the database files, no network unless the image to scan is in a registry, and Docker's socket only with
        O(image_source=docker).
    type: str
    default: 192.168.2.2:5000/trivy:0.58.2
  trivy_binary:
    description: Path of the program, to be run instead of O(trivy_image).
    type: path
  gate:
    description: Whether to fail for findings of O(severities). Without it, they are returned, and nothing else happens.
    type: bool
    default: false
  severities:
    description: Severities that the gate refuses.
    type: list
    elements: str
    choices: [CRITICAL, HIGH, MEDIUM, LOW, UNKNOWN]
    default: [HIGH, CRITICAL]
  fixable_only:
    description: Whether the gate refuses only findings for which there is a fixed version.
    type: bool
    default: false
  waivers:
    description: Findings that do not count, beside those in O(waivers_path).
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Identifier of the vulnerability.
        type: str
        required: true
      paths:
        description:
          - Patterns of the files in which it is waived, with V(*), V(?), V(**), V([a-z]) and V({a,b}). Without any,
            everywhere.
        type: list
        elements: str
        default: []
      purls:
        description: Package URLs in which it is waived, as V(pkg:deb/debian/zlib1g). Without any, in all packages.
        type: list
        elements: str
        default: []
      expired_at:
        description: Day (V(2026-12-31), from its beginning in UTC) or time from which on it counts again.
        type: str
      statement:
        description: Why it is waived.
        type: str
  waivers_path:
    description:
      - A C(.trivyignore) on the node (C(CVE-2026-0001 exp:2026-12-31) in a line), or, when its name ends with C(.yaml)
        or C(.yml), a C(.trivyignore.yaml).
      - A line or key that cannot be understood is an error. What has expired is returned, and there is a warning when
        it would have covered a finding.
    type: path
  timeout:
    description: Seconds that a scan may take.
    type: float
    default: 300
notes:
  - Trivy opens the database of vulnerabilities for writing and locks it, so that two scans on a node wait for each
    other, and the task has to run as a user who may write to it.
seealso:
  - module: lumen.airgap.trivy_db
"""

EXAMPLES = r"""
- name: Scan an image of the registry
  lumen.airgap.trivy_scan:
    image: lumen-api:v1.2.0
    java_db: {}
  register: scan

- name: Refuse what could be mended
  lumen.airgap.trivy_scan:
    image: lumen-api:v1.2.0
    gate: true
    fixable_only: true
    db: {fail_days: 14}
    waivers:
      - id: CVE-2026-0001
        paths: ["usr/lib/**"]
        expired_at: "2026-12-31"
        statement: The function is never called.

- name: Scan an archive with a Trivy of the node
  lumen.airgap.trivy_scan:
    input: /media/usb/tools.tar
    trivy_binary: /usr/local/bin/trivy
"""

RETURN = r"""
image:
  description: What was scanned.
  returned: success, and when the gate refuses
  type: str
  sample: 192.168.2.2:5000/lumen-api:v1.2.0
image_id:
  description: ID of the image, which is the digest of its config.
  returned: success, and when the gate refuses
  type: str
  sample: sha256:0d1f9f0ea4c2d0e5fb4ae2f1f8a9b8f4cf54f3f0d7a2f7a6a1b5c3d2e1f0a9b8
os:
  description: Its distribution, null when it has none.
  returned: success, and when the gate refuses
  type: str
  sample: debian 12.8
end_of_life:
  description: Whether nobody looks after that distribution any more.
  returned: success, and when the gate refuses
  type: bool
  sample: false
packages_in:
  description: The kinds of packages that were found in it.
  returned: success, and when the gate refuses
  type: list
  elements: str
  sample: [debian, gobinary]
counts:
  description: How many findings each severity has, without those that are waived.
  returned: success, and when the gate refuses
  type: dict
  sample: {CRITICAL: 0, HIGH: 1, MEDIUM: 3, LOW: 12, UNKNOWN: 0}
findings:
  description: The findings that count, the worst first.
  returned: success, and when the gate refuses
  type: list
  elements: dict
  sample:
    - id: CVE-2026-0001
      severity: HIGH
      package: zlib1g
      installed_version: '1:1.2.13.dfsg-1'
      fixed_version: '1:1.2.13.dfsg-2'
      status: fixed
      target: lumen-api:v1.2.0 (debian 12.8)
      path: null
      title: 'zlib: heap overflow'
      url: https://avd.aquasec.com/nvd/cve-2026-0001
      purl: pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.8&epoch=1
waived:
  description: The findings that are waived, each with its C(waiver).
  returned: success, and when the gate refuses
  type: list
  elements: dict
  sample: []
waivers_expired:
  description: Waivers that have expired, and how many findings each would have covered.
  returned: success, and when the gate refuses
  type: list
  elements: dict
  sample:
    - id: CVE-2026-0002
      paths: []
      purls: []
      expired_at: '2026-01-01T00:00:00Z'
      statement: null
      findings: 1
waivers_unused:
  description: Waivers that cover nothing that was found.
  returned: success, and when the gate refuses
  type: list
  elements: dict
  sample: []
databases:
  description: The databases that were judged, as M(lumen.airgap.trivy_db) returns them.
  returned: success, and when the gate refuses
  type: dict
  sample: {db: {kind: trivy-db, age_days: 3.27, verdict: fresh, updated_at: '2026-01-01T06:11:42Z'}}
gate:
  description: V(off), V(passed) or V(refused).
  returned: success, and when the gate refuses
  type: str
  sample: passed
refused:
  description: The identifiers of the findings that the gate refuses for.
  returned: success, and when the gate refuses
  type: list
  elements: str
  sample: []
reasons:
  description: What there is to say about the age of the databases, and about waivers that have expired.
  returned: success, and when the gate refuses
  type: list
  elements: str
  sample: []
scanned:
  description: Whether there was a scan. V(false) in check mode when Docker does not have O(trivy_image).
  returned: success
  type: bool
  sample: true
log:
  description: The last lines of Trivy, on failure.
  returned: when Trivy fails, or takes too long
  type: list
  elements: str
  sample: ["2026-01-01T10:00:00Z\tFATAL\tFatal error\timage scan error: scan error"]
rc:
  description: The exit code of Trivy, on failure.
  returned: when Trivy fails
  type: int
  sample: 1
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.docker import DEFAULT_HOST, DOCKER_TRACEBACK, Docker
from ..module_utils.adapters.trivy import ContainerRun, Job, ProgramRun, Run
from ..module_utils.entry import missing, run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import PROGRESS_OPTIONS, REGISTRY_OPTIONS, SECONDS, TRIVY_OPTIONS, check_ranges
from ..module_utils.progress import progress_to
from ..module_utils.services.trivy.cache import Cache
from ..module_utils.services.trivy.databases import wanted
from ..module_utils.services.trivy.scan import (
    YAML_TRACEBACK,
    Gate,
    Request,
    given_waivers,
    looked_after,
    read_waivers,
    scan,
)
from ..module_utils.times import SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **TRIVY_OPTIONS,
    **REGISTRY_OPTIONS,
    **PROGRESS_OPTIONS,
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "image": {"type": "str"},
    "image_source": {"type": "str", "choices": ["registry", "docker"], "default": "registry"},
    "input": {"type": "path"},
    "trivy_image": {"type": "str", "default": "192.168.2.2:5000/trivy:0.58.2"},
    "trivy_binary": {"type": "path"},
    "gate": {"type": "bool", "default": False},
    "severities": {
        "type": "list",
        "elements": "str",
        "choices": ["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"],
        "default": ["HIGH", "CRITICAL"],
    },
    "fixable_only": {"type": "bool", "default": False},
    "waivers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "id": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "str", "default": []},
            "purls": {"type": "list", "elements": "str", "default": []},
            "expired_at": {"type": "str"},
            "statement": {"type": "str"},
        },
    },
    "waivers_path": {"type": "path"},
    "timeout": {"type": "float", "default": 300.0},
}


def trivy_scan(module: AnsibleModule) -> dict[str, Any]:
    """What the module does. Raises AirgapError."""
    params, clock = module.params, SystemClock()
    check_ranges(params, {"timeout": SECONDS})
    progress = progress_to(params["progress_path"])
    waivers = given_waivers(params["waivers"])
    if params["waivers_path"]:
        missing(module, "PyYAML", YAML_TRACEBACK)
        waivers += read_waivers(params["waivers_path"])
    request = Request(
        job=_job(params),
        cache=Cache(params["cache_path"]),
        wanted=wanted(params),
        gate=Gate(params["gate"], tuple(params["severities"]), params["fixable_only"]),
        waivers=waivers,
    )

    def start(job: Job) -> Run:
        if params["trivy_binary"]:
            return ProgramRun(params["trivy_binary"], job)
        return ContainerRun(docker, params["trivy_image"], job)

    if not params["trivy_binary"]:
        missing(module, "docker", DOCKER_TRACEBACK)
        docker = Docker.connect(params["docker_host"])
        if docker.image(params["trivy_image"]) is None:
            if module.check_mode:
                return {"changed": False, "scanned": False, **looked_after(request, clock)}
            progress(f"pulling {params['trivy_image']}")
            # Nobody but the registry itself is told who we are there.
            own = params["trivy_image"].startswith(f"{params['registry']['host']}/")
            docker.pull(params["trivy_image"], _login(params) if own else None)
    try:
        result = scan(request, start, clock, progress)
    except AirgapError as error:
        for reason in error.details.get("reasons", []):
            module.warn(reason)
        raise
    for reason in result["reasons"]:
        module.warn(reason)
    return {**result, "scanned": True}


def _job(params: dict[str, Any]) -> Job:
    registry = params["registry"]
    from_registry = bool(params["image"]) and params["image_source"] == "registry"
    return Job(
        databases=(),
        timeout=params["timeout"],
        image=f"{registry['host']}/{params['image']}" if from_registry else params["image"] or "",
        source="remote" if from_registry else "docker",
        input=params["input"] or "",
        insecure=from_registry and registry["scheme"] == "http",
        ca_path=(registry["ca_path"] or "") if from_registry else "",
        login=_login(params) if from_registry else None,
        docker_host=params["docker_host"],
    )


def _login(params: dict[str, Any]) -> tuple[str, str] | None:
    registry = params["registry"]
    return (registry["username"], registry["password"] or "") if registry["username"] else None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        mutually_exclusive=[("image", "input")],
        required_one_of=[("image", "input")],
    )
    run_module(module, lambda: trivy_scan(module))


if __name__ == "__main__":
    main()

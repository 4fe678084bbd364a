#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action pipeline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline
short_description: Tag a version in Gitea and follow the pipeline that the tag starts
version_added: 0.4.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Makes a tag, waits for the run that it starts, prints its jobs and steps while they run, and fails with the last
    lines of the log of the job that failed.
  - Returns the commit by which the pipeline has bumped the manifest, for whoever follows what comes of it.
  - Called again, it takes up what is there. A tag on the same commit is kept, a run in progress is followed, and one
    that has succeeded is not started again.
  - A commit whose message says C([skip ci]) is refused before it is tagged, for a tag on it starts no run, silently.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.action
  - lumen.airgap.gitea
attributes:
  check_mode:
    support: partial
    details:
      - Refuses what a run would refuse. The run is not predicted, and not waited for.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  owner:
    description: The user or organization that the repository belongs to.
    type: str
    required: true
  name:
    description: Name of the repository.
    type: str
    required: true
  tag:
    description: The tag, as V(v1.5.4).
    type: str
    required: true
  target:
    description: The commit or the branch to tag. Without it, O(branch). A tag that is there stays where it is.
    type: str
  tag_message:
    description: Message of the tag, which makes it an annotated one.
    type: str
  branch:
    description: The branch that the pipeline bumps.
    type: str
    default: main
  manifest:
    description:
      - Path of the manifest that the pipeline bumps. With it, RV(bump) is returned.
      - Together with O(image).
    type: str
  image:
    description: The image that it has to name afterwards, as C(repository:tag).
    type: str
  state:
    description:
      - V(succeeded) makes the tag, if it is not there, follows its run, and fails when that has not succeeded.
      - V(over) waits until no run of the tag goes on, however it ends. It tags nothing and starts nothing, for whoever
        gives a version up and has to know that nobody will bring it out behind their back.
    type: str
    choices: [succeeded, over]
    default: succeeded
    version_added: 0.5.0
  retry:
    description: Whether the failed jobs of a run that has ended badly are run again.
    type: bool
    default: false
  start_deadline:
    description:
      - How long Gitea may take to start the run, in seconds, more than 0. So long it is also waited for where it does
        not answer before the run and after it.
    type: float
    default: 60.0
  deadline:
    description: How long the run may take, in seconds, more than 0.
    type: float
    default: 1800.0
  quiet:
    description: Whether to print nothing while it runs.
    type: bool
    default: false
  query:
    description: A JMESPath expression, applied to the result and returned in RV(query_result).
    type: str
requirements:
  - Gitea 1.26 or newer
  - jmespath (Python library, for O(query))
  - ruamel.yaml (Python library, for O(manifest))
seealso:
  - module: lumen.airgap.gitops_image
  - module: lumen.airgap.act_runner
"""

EXAMPLES = r"""
- name: Have v1.5.4 tested, built, scanned, pushed and bumped
  lumen.airgap.pipeline:
    gitea:
      url: http://192.168.2.2:30300
      token: "{{ gitea_token }}"
    owner: lumen
    name: lumen
    tag: v1.5.4
    manifest: 03-airgap-zone/manifests/app/03-lumen-api.yaml
    image: 192.168.2.2:5000/lumen-api:v1.5.4
  register: built
"""

RETURN = r"""
tag:
  description: The tag.
  returned: success
  type: str
  sample: v1.5.4
commit:
  description: The commit that it is on, or in check mode would be on.
  returned: success
  type: str
  sample: 4a3f1c5a0f6ee2b7d2fb6b66b6c7d3b2b8e0f6a1
run:
  description: The run, in check mode empty.
  returned: always, once there is one
  type: dict
  sample:
    id: 12
    url: http://192.168.2.2:30300/lumen/lumen/actions/runs/7
    attempt: 1
    conclusion: success
    started_at: "2026-01-01T00:00:00Z"
    completed_at: "2026-01-01T00:00:31Z"
jobs:
  description: Its jobs.
  returned: always, once there is a run
  type: list
  elements: dict
  sample:
    - name: release
      conclusion: success
      started_at: "2026-01-01T00:00:10Z"
      completed_at: "2026-01-01T00:00:52Z"
bump:
  description:
    - The commit that brought O(image) to O(manifest), whatever has changed there since. Empty without O(manifest).
    - Empty as well when it is not among the last ten that changed O(manifest).
  returned: success
  type: dict
  sample:
    commit: 0b9f7c02d7c8d0ae9b3fc0ef0d6e1c1a7d2b6f11
    message: "chore: bump lumen-api to v1.5.4"
running:
  description: Whether it failed while the run goes on, which bumps the manifest at its end.
  returned: when the run was not followed to its end
  type: bool
  sample: true
log:
  description: Last lines of the log of the job that failed.
  returned: when a job failed
  type: list
  elements: str
  sample: ["--- FAIL: TestHealth (0.00s)"]
query_result:
  description: What O(query) selects.
  returned: when O(query) is given
  type: raw
  sample: success
"""

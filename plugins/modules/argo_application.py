#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An Application of Argo CD."""

from __future__ import annotations

DOCUMENTATION = r"""
module: argo_application
short_description: Keep an Application of Argo CD, and wait until it is Synced and Healthy
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - Writes the Application and the credential of its repository, asks Argo CD to look at Git now instead of at its next
    poll minutes later, and waits until what Git says is there and works.
  - A wait is over when sync speaks of the wanted commit, no operation is on its way, and each Rollout, Deployment,
    StatefulSet and DaemonSet says of its own present generation that it is healthy. The Application's own status says
    so too early for a moment. It has to do for a workload that may not be read.
  - When it does not come to that, the reasons are told. Errors of Argo CD, what failed to apply, what is OutOfSync, and
    what each workload says. A paused Rollout is C(Suspended), an aborted one C(Degraded).
  - What waiting does not change ends the wait at once. A sync that was given up, an aborted Rollout, an Application
    that nobody syncs, or an error of Argo CD that lasts for half a minute.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.kube.patience
  - lumen.airgap.progress
attributes:
  check_mode:
    support: full
    details:
      - Nothing is refreshed and waited for; RV(status) is the present one.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: Name of the Application.
    type: str
    required: true
  namespace:
    description: Namespace of Argo CD, where the Application and the credential are.
    type: str
    default: argocd
  state:
    description:
      - V(present) writes the Application. Without O(source) it has to be there, and is only refreshed and waited for.
      - V(absent) deletes it, and returns when it is gone. What it has deployed stays unless O(cascade) is set.
    type: str
    choices: [present, absent]
    default: present
  project:
    description: The AppProject it belongs to.
    type: str
    default: default
  source:
    description: Where its manifests are.
    type: dict
    suboptions:
      repo:
        description: URL of the Git repository, as Argo CD reaches it.
        type: str
        required: true
      path:
        description: Directory of the manifests in the repository.
        type: str
        required: true
      revision:
        description: Branch, tag or commit.
        type: str
        default: main
  destination:
    description: Where it deploys to. Needed with O(source).
    type: dict
    suboptions:
      namespace:
        description: Namespace of the objects that name none.
        type: str
        required: true
      server:
        description: Address of the API server, as Argo CD knows it.
        type: str
        default: https://kubernetes.default.svc
  wave:
    description:
      - Number of its sync wave, for an Application that deploys this one among others.
      - This module waits for one Application at a time. Call it in the order of the waves.
    type: int
  automated:
    description: Have Argo CD sync by itself. Without it, nobody does.
    type: dict
    suboptions:
      prune:
        description: Whether it deletes what is not in Git any more.
        type: bool
        default: false
      self_heal:
        description: Whether it reverts what was changed in the cluster.
        type: bool
        default: true
  sync_options:
    description: Sync options, for example V(ServerSideApply=true).
    type: list
    elements: str
    default: []
  ignore_differences:
    description: Fields that are not compared, in the form of an Application's C(spec.ignoreDifferences).
    type: list
    elements: dict
    default: []
  credential:
    description:
      - How Argo CD reads the repository, kept in a Secret of its own. With O(state=absent) the Secret is deleted too.
      - Other Applications of the same repository use the same Secret.
    type: dict
    suboptions:
      username:
        description: User of the API token.
        type: str
        required: true
      token:
        description: An API token with the right to read the repository.
        type: str
        required: true
      url:
        description: URL of the repository. Default is O(source.repo), and needed without.
        type: str
  refresh:
    description:
      - Whether Argo CD looks at Git now. V(hard) also renders the manifests anew.
      - Asking again changes nothing by itself.
    type: str
    choices: [none, normal, hard]
    default: normal
  wait:
    description: What is waited for.
    type: str
    choices: [none, synced, healthy]
    default: healthy
  revision:
    description:
      - The commit that has to be there, in full or its first digits. Any commit will do without it.
      - Give it after a push. Argo CD says Synced of the commit before until it has looked.
    type: str
  image:
    description:
      - An image that O(revision) brings to a Rollout, Deployment, StatefulSet or DaemonSet. Once it is there, a commit
        that somebody has pushed after O(revision) will do as well.
      - For a branch that others push to, whose O(revision) Argo CD may never look at by itself.
    type: str
    version_added: 0.5.0
  accept_suspended:
    description: Whether a Rollout that waits at a pause is as good as a healthy one.
    type: bool
    default: false
  terminate:
    description:
      - Whether a sync of another commit than O(revision) that fails and is tried again is ended. Argo CD itself goes
        on with it for minutes, and begins with no other before.
    type: bool
    default: true
  cascade:
    description: Whether O(state=absent) deletes what the Application has deployed.
    type: bool
    default: false
  timeout:
    description: How long a wait may take, in seconds, more than 0.
    type: float
    default: 180.0
seealso:
  - module: lumen.airgap.argo
"""

EXAMPLES = r"""
- name: Deploy the app from Git
  lumen.airgap.argo_application:
    name: lumen-app
    source:
      repo: http://gitea-http.gitea.svc.cluster.local:3000/lumen/lumen.git
      path: 03-airgap-zone/manifests/app
    destination:
      namespace: lumen
    wave: 3
    automated:
      self_heal: true
    sync_options: [SkipDryRunOnMissingResource=true]
    credential:
      username: lumen
      token: "{{ airgap_gitea_token }}"

- name: Wait until the commit that was just pushed is deployed, the canary included
  lumen.airgap.argo_application:
    name: lumen-app
    revision: "{{ pushed.commit }}"
    timeout: 900

- name: Give up the Application and leave what runs as it is
  lumen.airgap.argo_application:
    name: argo-rollouts
    state: absent
"""

RETURN = r"""
objects:
  description: What was done to the Application and its credential, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Its kind.
      type: str
      sample: Application
    namespace:
      description: Its namespace.
      type: str
      sample: argocd
    name:
      description: Its name.
      type: str
      sample: lumen-app
    action:
      description: V(created), V(updated), V(unchanged) or V(deleted).
      type: str
      sample: unchanged
    verified:
      description: False for what check mode could not ask the API server, since namespace or kind is not there yet.
      type: bool
      sample: true
status:
  description: The Application as it was seen last. Empty when it is not there.
  returned: success, and when it is not what was waited for
  type: dict
  contains:
    sync:
      description: V(Synced), V(OutOfSync) or V(Unknown).
      type: str
      sample: Synced
    revision:
      description: The commit that was compared with.
      type: str
      sample: b7dec754f0a1b2c3d4e5f60718293a4b5c6d7e8f
    health:
      description: V(Healthy), V(Progressing), V(Suspended), V(Degraded), V(Missing) or V(Unknown).
      type: str
      sample: Healthy
    operation:
      description: The last sync, with C(phase), C(revision) and C(message). Null before the first.
      type: dict
      sample:
        phase: Succeeded
        revision: b7dec754f0a1b2c3d4e5f60718293a4b5c6d7e8f
        message: successfully synced (all tasks run)
    resources:
      description: What it has, each with C(kind), C(namespace), C(name) and C(status).
      type: list
      elements: dict
      sample:
        - kind: Rollout
          namespace: lumen
          name: lumen-api
          status: Synced
    workloads:
      description: What its workloads say, each with C(kind), C(namespace), C(name), C(health) and C(message).
      type: list
      elements: dict
      sample:
        - kind: Rollout
          namespace: lumen
          name: lumen-api
          health: Healthy
          message: ""
    reasons:
      description: Why it is not Synced and Healthy.
      type: list
      elements: str
      sample: []
reasons:
  description: Why it is not what was waited for.
  returned: when that is why it failed
  type: list
  elements: str
  sample:
    - "Rollout lumen/lumen-api is Suspended: paused at step 2 of 5 (CanaryPauseStep), waiting to be promoted"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.patience import Patience
from ..module_utils.adapters.kube.session import Session
from ..module_utils.engines.argo import application as engine
from ..module_utils.engines.argo import status
from ..module_utils.entry import run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import (
    KUBE_OPTIONS,
    PATIENCE_OPTIONS,
    PATIENCE_RANGES,
    PROGRESS_OPTIONS,
    SECONDS,
    Range,
    check_ranges,
)
from ..module_utils.progress import progress_to
from ..module_utils.services import argo_application as service
from ..module_utils.services.apply import Outcome, apply, remove
from ..module_utils.times import Clock, SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **PATIENCE_OPTIONS,
    **PROGRESS_OPTIONS,
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "argocd"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "project": {"type": "str", "default": "default"},
    "source": {
        "type": "dict",
        "options": {
            "repo": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "revision": {"type": "str", "default": "main"},
        },
    },
    "destination": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "server": {"type": "str", "default": "https://kubernetes.default.svc"},
        },
    },
    "wave": {"type": "int"},
    "automated": {
        "type": "dict",
        "options": {
            "prune": {"type": "bool", "default": False},
            "self_heal": {"type": "bool", "default": True},
        },
    },
    "sync_options": {"type": "list", "elements": "str", "default": []},
    "ignore_differences": {"type": "list", "elements": "dict", "default": []},
    "credential": {
        "type": "dict",
        "options": {
            "username": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "url": {"type": "str"},
        },
    },
    "refresh": {"type": "str", "choices": ["none", "normal", "hard"], "default": "normal"},
    "wait": {"type": "str", "choices": ["none", "synced", "healthy"], "default": "healthy"},
    "revision": {"type": "str"},
    "image": {"type": "str"},
    "accept_suspended": {"type": "bool", "default": False},
    "terminate": {"type": "bool", "default": True},
    "cascade": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 180.0},
}
REQUIRED_BY = {"source": ["destination"], "destination": ["source"]}
_COMMIT = Range(
    "a commit, in full or at least its first 7 digits",
    lambda value: 7 <= len(value) <= 64 and set(value) <= set("0123456789abcdef"),
)
RANGES = {"timeout": SECONDS, "revision": _COMMIT, **PATIENCE_RANGES}


def application(params: dict[str, Any], session: Session, clock: Clock, dry_run: bool) -> dict[str, Any]:
    """What the module does, with its validated parameters."""
    where = params["namespace"], params["name"]
    progress = progress_to(params["progress_path"])
    waiting, session = session, session.patient(Patience(clock, params["patience"], progress))
    credential = _credential(params)
    if params["state"] == "absent":
        deadline = params["timeout"]
        outcome = service.delete(session, *where, params["cascade"], clock, deadline, dry_run, progress)
        more = remove(session, credential, dry_run=dry_run)
        return _result(_joined(outcome, more), {})
    before = service.find(session, *where)
    outcome = Outcome()
    if params["source"]:
        outcome = apply(session, [*credential, _application(params)], dry_run=dry_run, progress=progress, clock=clock)
    elif before is None:
        raise AirgapError(f"There is no Application {'/'.join(where)}. Give source and destination to make it")
    elif credential:
        outcome = apply(session, credential, dry_run=dry_run, progress=progress, clock=clock)
    old = status.read(before) if before else None
    if dry_run:
        return _result(outcome, service.summary(old, service.look(session, old)) if old else {})
    if params["refresh"] != "none":
        service.refresh(session, *where, params["refresh"])
    if params["wait"] == "none":
        view = status.read(service.find(session, *where) or {"metadata": {}})
        return _result(outcome, service.summary(view, service.look(session, view)))
    wanted = service.Wanted(
        params["revision"], params["wait"] == "healthy", params["accept_suspended"], params["image"] or ""
    )
    # It asks again by itself, within its own deadline.
    seen = service.wait(waiting, *where, wanted, clock, params["timeout"], params["terminate"], progress)
    result = _result(outcome, seen)
    # What was waited for may have changed the cluster, though it was not this module that wrote it.
    return {**result, "changed": result["changed"] or old is None or old.revision != seen["revision"]}


def _application(params: dict[str, Any]) -> dict[str, Any]:
    return engine.application(
        params["name"],
        params["namespace"],
        project=params["project"],
        source=params["source"],
        destination=params["destination"],
        wave=params["wave"],
        automated=params["automated"],
        sync_options=params["sync_options"],
        ignore_differences=params["ignore_differences"],
    )


def _credential(params: dict[str, Any]) -> list[dict[str, Any]]:
    given = params["credential"]
    if not given:
        return []
    url = given["url"] or (params["source"] or {}).get("repo")
    if not url:
        raise AirgapError("The option credential needs its url, or a source that says which repository it is for")
    return [engine.credential(url, params["namespace"], given["username"], given["token"])]


def _joined(outcome: Outcome, more: Outcome) -> Outcome:
    return Outcome([*outcome.changes, *more.changes], [*outcome.pairs, *more.pairs])


def _result(outcome: Outcome, seen: dict[str, Any]) -> dict[str, Any]:
    return {"changed": outcome.changed, "objects": outcome.as_list(), "status": seen, "diff": outcome.diff}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_by=REQUIRED_BY, supports_check_mode=True)

    def call() -> dict[str, Any]:
        check_ranges(module.params, RANGES)
        session = Session.connect(module.params["kubeconfig"], module.params["context"])
        return application(module.params, session, SystemClock(), module.check_mode)

    run_module(module, call)


if __name__ == "__main__":
    main()

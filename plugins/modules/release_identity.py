#!/usr/bin/python
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity that releases run with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_identity
short_description: Give releases an identity with just the rights they need
version_added: 0.3.0
author:
  - The lumen.airgap maintainers (@lumen-airgap)
description:
  - A ServiceAccount in the namespace of the app, a Role with its binding in each namespace that a release meets, and a
    ClusterRole for what has no namespace. What they grant is listed in RV(rights), each with the reason.
  - A policy that holds its patches to what releases change, with O(guard).
  - A kubeconfig with a token of that ServiceAccount, mode 0600, on the machine that this runs on. Plays after this one
    name it as their O(kubeconfig), and need no administrator any more.
  - The token is asked for by a TokenRequest, so that it ends by itself and is kept nowhere else. It is renewed when it
    is near its end, when the API server does not know it any more, or when the ServiceAccount was made anew.
  - The identity is then asked itself, by access reviews, whether it can do all that it needs, and whether it can do
    any of what it must not, such as reading Secrets. Either fails the task.
extends_documentation_fragment:
  - lumen.airgap.attributes
  - lumen.airgap.attributes.cluster
  - lumen.airgap.kube
  - lumen.airgap.prometheus
attributes:
  check_mode:
    support: full
    details:
      - Objects are compared by a dry run of the API server. No token is asked for.
  diff_mode:
    support: full
    details:
      - Of the kubeconfig only why it is written is shown.
  idempotent:
    support: full
    details:
      - Until the token is near its end.
options:
  kubeconfig:
    description:
      - Path of the kubeconfig file of an administrator, who may write Roles with these rights.
      - Without it, the file that the environment variable E(KUBECONFIG) names, or V(~/.kube/config).
    type: path
  path:
    description:
      - Absolute path of the kubeconfig file to write. Its directory is made when there is none.
      - It is replaced as a whole, whatever it was before.
    type: path
    required: true
  app:
    description: Name of the app, which is that of its Rollout or its Deployment.
    type: str
    required: true
  namespace:
    description: Namespace of the app, and of the ServiceAccount. It has to be there.
    type: str
    required: true
  account:
    description: Name of the ServiceAccount.
    type: str
    default: airgap-release
  argocd:
    description: Argo CD, whose Applications a release refreshes. Without it, the identity has no part in it.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Applications. It has to be there.
        type: str
        default: argocd
      applications:
        description:
          - Applications that a release may patch, to refresh them or to end an operation.
          - Without O(guard), whoever may patch an Application may let it deploy something else, as far as its
            AppProject allows.
        type: list
        elements: str
        default: []
  observed_namespaces:
    description:
      - Namespaces whose pods, Deployments and StatefulSets may be listed, so that M(lumen.airgap.doctor) can say what a
        controller or a runner lacks. They have to be there.
    type: list
    elements: str
    default: []
  drivers:
    description:
      - What moves the pods of its canaries, as O(lumen.airgap.canary#module:driver), one or both.
      - With V(deployment) it may patch the Deployments O(app) and C(APP-canary), and remove the second. It may make any
        Deployment in O(namespace), which RBAC cannot limit by name; O(guard) does.
    type: list
    elements: str
    choices: [rollout, deployment]
    default: [rollout]
    version_added: 0.4.0
  guard:
    description:
      - Hold its patches to what releases change, by a ValidatingAdmissionPolicy for this identity alone. RBAC can only
        say which objects it may patch.
      - Of a Rollout, that is tag and digest of its containers' images. Of an Application, nothing but metadata and
        status. Of a Deployment, its replicas, and tag and digest of its containers' images. Of none, owners and
        finalizers.
      - Of new Deployments, it may make C(APP-canary) alone, owned by the Deployment O(app). Its pods are not held.
      - Needs Kubernetes 1.30 or later.
    type: bool
    default: true
  token_seconds:
    description:
      - How long a new token lasts, in seconds, at least 600. The API server may give less.
      - Releases stop when it has ended, until this module has run again.
    type: int
    default: 7776000
  renew_seconds:
    description: A token that lasts less than this is renewed, in seconds. Less than O(token_seconds).
    type: int
    default: 2592000
  state:
    description:
      - V(present) makes and checks the identity.
      - V(absent) removes the ServiceAccount, its Roles and the kubeconfig. Its tokens end at once.
    type: str
    choices: [present, absent]
    default: present
notes:
  - With O(prometheus.url) the identity gets no right to the service proxy.
seealso:
  - module: lumen.airgap.canary
  - module: lumen.airgap.doctor
"""

EXAMPLES = r"""
- name: Let releases run without an administrator
  lumen.airgap.release_identity:
    kubeconfig: ~/.kube/config
    app: lumen-api
    namespace: lumen
    argocd:
      applications: [lumen-app]
    observed_namespaces: [argocd, argo-rollouts, gitea]
    path: /home/deploy/.kube/airgap-release
  register: identity

- name: Say until when
  ansible.builtin.debug:
    msg: "{{ identity.user }} can release until {{ identity.expires_at }}"

- name: End its tokens, and all of its rights
  lumen.airgap.release_identity:
    kubeconfig: ~/.kube/config
    app: lumen-api
    namespace: lumen
    path: /home/deploy/.kube/airgap-release
    state: absent
"""

RETURN = r"""
user:
  description: The identity, as the API server calls it.
  returned: success
  type: str
  sample: system:serviceaccount:lumen:airgap-release
path:
  description: The kubeconfig.
  returned: success
  type: str
  sample: /home/deploy/.kube/airgap-release
expires_at:
  description: When its token ends. RFC 3339, UTC. Null when it would be renewed, and with O(state=absent).
  returned: success
  type: str
  sample: '2026-03-31T10:00:00Z'
written:
  description: Why the kubeconfig was (in check mode would be) written or removed; empty when it was not.
  returned: success
  type: str
  sample: its token is near its end
verified:
  description:
    - Whether the identity was asked what it can do. False in check mode and with O(state=absent).
  returned: success
  type: bool
  sample: true
rights:
  description: What is granted.
  returned: with O(state=present)
  type: list
  elements: dict
  contains:
    namespace:
      description: Where; empty for what has no namespace.
      type: str
      sample: lumen
    group:
      description: API group of the resources; empty for the core.
      type: str
      sample: argoproj.io
    resources:
      description: On what.
      type: list
      elements: str
      sample: [rollouts/status]
    verbs:
      description: What may be done with them.
      type: list
      elements: str
      sample: [patch]
    names:
      description: The objects that it is limited to; empty for all.
      type: list
      elements: str
      sample: [lumen-api]
    why:
      description: What a release needs it for.
      type: str
      sample: promote, abort, retry
changes:
  description: The objects that were (in check mode would be) looked at.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      sample: Role
    namespace:
      description: Its namespace, null for what has none.
      type: str
      sample: lumen
    name:
      description: Its name.
      type: str
      sample: airgap-release.lumen
    action:
      description: What was done, one of V(created), V(updated), V(unchanged) and V(deleted).
      type: str
      sample: created
    verified:
      description: False for what check mode could not ask the API server, since its namespace is not there yet.
      type: bool
      sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adapters.kube.session import Session
from ..module_utils.adapters.node import Node
from ..module_utils.engines.identity import Wanted, rights
from ..module_utils.entry import run_module
from ..module_utils.errors import AirgapError
from ..module_utils.options import (
    ABSOLUTE,
    KUBE_OPTIONS,
    PROMETHEUS_OPTIONS,
    PROMETHEUS_RANGES,
    SECONDS,
    Range,
    check_ranges,
)
from ..module_utils.services.release_identity import Identities, Identity
from ..module_utils.times import SystemClock

ARGUMENT_SPEC: dict[str, Any] = {
    **KUBE_OPTIONS,
    **PROMETHEUS_OPTIONS,
    "path": {"type": "path", "required": True},
    "app": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "account": {"type": "str", "default": "airgap-release"},
    "argocd": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "default": "argocd"},
            "applications": {"type": "list", "elements": "str", "default": []},
        },
    },
    "observed_namespaces": {"type": "list", "elements": "str", "default": []},
    "drivers": {
        "type": "list",
        "elements": "str",
        "choices": ["rollout", "deployment"],
        "default": ["rollout"],
    },
    "guard": {"type": "bool", "default": True},
    "token_seconds": {"type": "int", "default": 90 * 86400, "no_log": False},
    "renew_seconds": {"type": "int", "default": 30 * 86400},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
# What a TokenRequest may ask for.
_TOKEN = Range("from 600 to 4294967296 seconds", lambda value: 600 <= value <= 1 << 32)
RANGES = {"token_seconds": _TOKEN, "renew_seconds": SECONDS, "path": ABSOLUTE, **PROMETHEUS_RANGES}


def wanted_of(params: dict[str, Any]) -> Wanted:
    """The identity that the options describe."""
    prometheus, argocd = params["prometheus"], params["argocd"] or {}
    return Wanted(
        app=params["app"],
        namespace=params["namespace"],
        account=params["account"],
        prometheus=None if prometheus["url"] else (prometheus["namespace"], prometheus["service"], prometheus["port"]),
        argocd_namespace=argocd.get("namespace", ""),
        applications=tuple(argocd.get("applications", ())),
        observed=tuple(params["observed_namespaces"]),
        drivers=tuple(params["drivers"]),
        guard=params["guard"],
    )


def result_of(params: dict[str, Any], wanted: Wanted, done: Identity) -> dict[str, Any]:
    """What the module returns."""
    diff = list(done.objects.diff)
    if done.written:
        header = f"{params['path']} ({done.written})"
        gone = params["state"] == "absent"
        token = f"a kubeconfig with a token of {wanted.user}\n"
        diff.append(
            {
                "before_header": header,
                "after_header": header,
                "before": token if gone else "",
                "after": "" if gone else token,
            }
        )
    result = {
        "changed": done.changed,
        "user": wanted.user,
        "path": params["path"],
        "expires_at": done.expires_at,
        "written": done.written,
        "verified": done.verified,
        "changes": done.objects.as_list(),
        "diff": diff,
    }
    if params["state"] == "present":
        result["rights"] = [right.as_dict() for right in rights(wanted)]
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params

    def call() -> dict[str, Any]:
        check_ranges(params, RANGES)
        if params["renew_seconds"] >= params["token_seconds"]:
            raise AirgapError("The option renew_seconds must be less than token_seconds: a new token would be renewed")
        wanted = wanted_of(params)
        session = Session.connect(params["kubeconfig"], params["context"])
        identities = Identities(session, Node(), SystemClock())
        if params["state"] == "absent":
            done = identities.absent(wanted, params["path"], module.check_mode)
        else:
            done = identities.present(
                wanted, params["path"], params["token_seconds"], params["renew_seconds"], module.check_mode
            )
        return result_of(params, wanted, done)

    run_module(module, call)


if __name__ == "__main__":
    main()

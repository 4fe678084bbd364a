# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity that releases run with: its rights, the objects that grant them, and the kubeconfig that it is used by.

What is granted is what the code of releases asks the API server for, and nothing beside it: a request that is new there
needs its line here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .canary.pair import CANARY_LABEL, canary_name
from .workloads.objects import MANAGED

OWNER_LABEL = "lumen.airgap/identity"

_READ = ("get", "list", "watch")

#: Of an image, registry and repository: without digest and tag. Read by RE2 in the API server.
REPOSITORY = "^([^@]*/)?[^@/:]*"


class Right(NamedTuple):
    """Some verbs on some resources. ``namespace`` is empty for what has none; without ``names``, on all objects."""

    namespace: str
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...]
    why: str

    def as_dict(self) -> dict[str, Any]:
        """As the module returns it."""
        return {
            "namespace": self.namespace,
            "group": self.group,
            "resources": list(self.resources),
            "verbs": list(self.verbs),
            "names": list(self.names),
            "why": self.why,
        }


@dataclass(frozen=True)
class Wanted:
    """Whose releases these are, and what they meet on their way. An empty name leaves that part out."""

    app: str
    namespace: str
    account: str = "airgap-release"
    prometheus: tuple[str, str, int] | None = None
    """Namespace, Service and port that the service proxy of the API server leads to."""
    argocd_namespace: str = ""
    applications: tuple[str, ...] = ()
    """Of Argo CD: refreshed, and their operations ended, by releases."""
    observed: tuple[str, ...] = ()
    """Namespaces whose pods and workloads the doctor looks at."""
    drivers: tuple[str, ...] = ("rollout",)
    """What moves the pods of its canaries: ``rollout`` or ``deployment``, or both."""
    guard: bool = True
    """Whether a policy holds its patches to what releases change, which RBAC cannot."""

    @property
    def canary(self) -> str:
        """Name of the canary Deployment."""
        return canary_name(self.app)

    @property
    def user(self) -> str:
        """As the API server calls it."""
        return f"system:serviceaccount:{self.namespace}:{self.account}"

    @property
    def owner(self) -> str:
        """The value of the label by which its objects are found, and what Roles are named."""
        return f"{self.account}.{self.namespace}"


def rights(wanted: Wanted) -> list[Right]:
    """What a release of this app needs."""
    record, evidence = (f"{wanted.app}-release",), (f"{wanted.app}-evidence",)
    here, argo = wanted.namespace, "argoproj.io"
    found = [
        *(_of_rollout(wanted) if "rollout" in wanted.drivers else ()),
        *(_of_deployment(wanted) if "deployment" in wanted.drivers else ()),
        Right(here, argo, ("analysistemplates",), ("get",), (), "check an analysis before it is relied on"),
        Right(here, "apps", ("replicasets",), _READ, (), "find the stable image, follow"),
        Right(here, "", ("pods", "events"), _READ, (), "say why a pod does not start, verify digests"),
        Right(here, "", ("services",), ("get",), (), "verify where traffic goes"),
        Right(here, "discovery.k8s.io", ("endpointslices",), ("list",), (), "verify where traffic goes"),
        # The name of an object that does not exist yet cannot be a condition of creating it.
        Right(here, "coordination.k8s.io", ("leases",), ("create",), (), "the lock of releases"),
        Right(here, "coordination.k8s.io", ("leases",), ("get", "update"), record, "the lock of releases"),
        Right(here, "", ("configmaps",), ("create",), (), "the journal of releases, the end of their evidence"),
        Right(here, "", ("configmaps",), ("get", "update"), record, "the journal of releases"),
        Right(here, "", ("configmaps",), ("get", "update"), evidence, "the end of the chain of evidence"),
        Right("", argo, ("clusteranalysistemplates",), ("get",), (), "check an analysis before it is relied on"),
    ]
    if wanted.prometheus:
        namespace, service, port = wanted.prometheus
        found.append(Right(namespace, "", ("services/proxy",), ("get",), (f"{service}:{port}",), "ask Prometheus"))
        if "rollout" in wanted.drivers:
            # One of them is that of Argo Rollouts; that of Argo CD is known not to be.
            found += _of_the_way(
                namespace, [each for each in wanted.observed if each not in ("", wanted.argocd_namespace)]
            )
    if wanted.argocd_namespace:
        where = wanted.argocd_namespace
        found.append(Right(where, argo, ("applications",), _READ, (), "follow a sync, find what holds it up"))
        if wanted.applications:
            found.append(
                Right(where, argo, ("applications",), ("patch",), wanted.applications, "refresh, end an operation")
            )
    for namespace in dict.fromkeys(each for each in wanted.observed if each):
        found.append(Right(namespace, "", ("pods",), ("list",), (), "say what a controller or a runner lacks"))
        found.append(
            Right(namespace, "apps", ("deployments", "statefulsets"), ("list",), (), "see whether a controller runs")
        )
    return found


def _of_the_way(prometheus: str, observed: Sequence[str]) -> list[Right]:
    """To see whether NetworkPolicies let a controller reach Prometheus."""
    why = "see whether Argo Rollouts reaches Prometheus"
    both = tuple(dict.fromkeys((prometheus, *observed)))
    return [
        Right("", "", ("namespaces",), ("get",), both, why),
        *(Right(namespace, "networking.k8s.io", ("networkpolicies",), ("list",), (), why) for namespace in both),
        Right(prometheus, "discovery.k8s.io", ("endpointslices",), ("list",), (), why),
        *([] if prometheus in observed else [Right(prometheus, "", ("pods",), ("list",), (), why)]),
    ]


def _of_rollout(wanted: Wanted) -> list[Right]:
    app, here, argo = (wanted.app,), wanted.namespace, "argoproj.io"
    return [
        Right(here, argo, ("rollouts",), (*_READ, "patch"), app, "change the image, follow"),
        Right(here, argo, ("rollouts/status",), ("patch",), app, "promote, abort, retry"),
        Right(here, argo, ("analysisruns",), _READ, (), "follow measurements"),
    ]


def _of_deployment(wanted: Wanted) -> list[Right]:
    here, both = wanted.namespace, (wanted.app, wanted.canary)
    return [
        Right(here, "apps", ("deployments",), (*_READ, "patch"), both, "move the pods, change the image, follow"),
        # The name of an object that does not exist yet cannot be a condition of creating it.
        Right(here, "apps", ("deployments",), ("create",), (), "make the canary Deployment"),
        Right(here, "apps", ("deployments",), ("delete",), (wanted.canary,), "remove the canary Deployment"),
        Right(here, "autoscaling", ("horizontalpodautoscalers",), ("list",), (), "see what else moves the pods"),
        Right(here, "policy", ("poddisruptionbudgets",), ("list",), (), "see what else counts the pods"),
    ]


def objects(wanted: Wanted) -> list[dict[str, Any]]:
    """The ServiceAccount, a Role with its binding in each namespace, and a ClusterRole for what has none."""
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(wanted, wanted.account, wanted.namespace),
        # Pods of the app's namespace are not to find a token of it in their file system.
        "automountServiceAccountToken": False,
    }
    made: list[dict[str, Any]] = [account]
    granted = rights(wanted)
    for namespace in dict.fromkeys(right.namespace for right in granted):
        rules = [_rule(right) for right in granted if right.namespace == namespace]
        kind = "Role" if namespace else "ClusterRole"
        made.append(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": kind,
                "metadata": _metadata(wanted, wanted.owner, namespace),
                "rules": rules,
            }
        )
        made.append(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": f"{kind}Binding",
                "metadata": _metadata(wanted, wanted.owner, namespace),
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": wanted.owner},
                "subjects": [{"kind": "ServiceAccount", "name": wanted.account, "namespace": wanted.namespace}],
            }
        )
    return made + (_guard(wanted) if wanted.guard else [])


def _same_but(path: str, *free: str) -> str:
    """CEL: every field below ``path`` but some is as before."""
    new, old = f"object.{path}", f"oldObject.{path}"
    other = " && ".join(f"k != '{name}'" for name in free)
    return f"{new}.all(k, !({other}) || (k in {old} && {new}[k] == {old}[k])) && {old}.all(k, !({other}) || k in {new})"


def _same(path: str) -> str:
    """CEL: ``path`` is as before, absence included."""
    new, old = f"object.{path}", f"oldObject.{path}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


def _images(containers: str, of: str) -> str:
    """CEL: the containers are those ``of`` another list, but for tag and digest of their images."""
    return (
        f"{containers}.size() == {of}.size() && {containers}.all(c, {of}.exists(o, o.name == c.name"
        " && c.all(k, k == 'image' || (k in o && c[k] == o[k])) && o.all(k, k in c)"
        f" && c.image.find('{REPOSITORY}') == o.image.find('{REPOSITORY}')))"
    )


def _guard(wanted: Wanted) -> list[dict[str, Any]]:
    """Policies for this identity alone. RBAC says which objects it may patch, this what of them."""
    rules = [*(_rollout_rules() if "rollout" in wanted.drivers else ()), *_application_rules()]
    argo = {"apiGroups": ["argoproj.io"], "apiVersions": ["*"], "operations": ["UPDATE"]}
    made = _policy(wanted, "", {**argo, "resources": ["rollouts", "applications"]}, rules)
    if "deployment" in wanted.drivers:
        apps = {"apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"]}
        resources = {**apps, "resources": ["deployments"]}
        made += _policy(wanted, ".deployments", resources, _deployment_rules(wanted))
    return made


def _rollout_rules() -> list[tuple[str, str]]:
    images = "of a Rollout, releases change images alone"
    containers = "spec.template.spec.containers"
    rules = [
        (_same_but("spec", "template"), images),
        (_same_but("spec.template", "spec"), images),
        (_same_but("spec.template.spec", "containers"), images),
        (
            _images(f"object.{containers}", f"oldObject.{containers}"),
            "of a container, releases change the image alone, and no more of it than tag and digest",
        ),
        *_kept(),
    ]
    return [(f"object.kind != 'Rollout' || ({rule})", message) for rule, message in rules]


def _application_rules() -> list[tuple[str, str]]:
    operation = "!has(object.operation) || (has(oldObject.operation) && object.operation == oldObject.operation)"
    rules = [
        ("object.spec == oldObject.spec", "releases refresh an Application, and do not change it"),
        (operation, "releases refresh an Application, and start no operation of their own"),
        *_kept(),
    ]
    return [(f"object.kind != 'Application' || ({rule})", message) for rule, message in rules]


def _kept() -> list[tuple[str, str]]:
    # By an owner that does not exist, or a finalizer of Argo CD's, others would delete the object or what it deploys.
    fields = ("ownerReferences", "finalizers")
    return [(_same(f"metadata.{field}"), f"of this object, releases change no {field}") for field in fields]


def _deployment_rules(wanted: Wanted) -> list[tuple[str, str]]:
    # A policy can compare a new Deployment with the app's, as its parameter. But an API server whose last policy with
    # parameters of a built-in kind was removed follows that kind no more until it is started again, and refuses all.
    template, containers = "spec.template", "spec.template.spec.containers"
    fields = "of a Deployment, releases change replicas and images alone"
    tag = "of a container, releases change the image alone, and no more of it than tag and digest"
    changed = [
        (_same_but("spec", "replicas", "template"), fields),
        (_same_but(template, "spec"), fields),
        (_same_but(f"{template}.spec", "containers"), fields),
        (_images(f"object.{containers}", f"oldObject.{containers}"), tag),
        *_kept(),
    ]
    mark = f"'{CANARY_LABEL}' in object.spec.selector.matchLabels"
    owner = "object.metadata.ownerReferences"
    made = [
        (f"object.metadata.name == '{wanted.canary}'", f"of Deployments, releases make {wanted.canary} alone"),
        (f"has(object.spec.selector.matchLabels) && {mark}", "the canary selects no pods but its own"),
        (
            f"has({owner}) && {owner}.size() == 1 && {owner}[0].kind == 'Deployment'"
            f" && {owner}[0].name == '{wanted.app}' && !has(object.metadata.finalizers)",
            f"the canary belongs to {wanted.app}, and goes with it",
        ),
    ]
    return [
        *((f"request.operation != 'UPDATE' || ({rule})", message) for rule, message in changed),
        *((f"request.operation != 'CREATE' || ({rule})", message) for rule, message in made),
    ]


def _policy(
    wanted: Wanted, suffix: str, resources: Mapping[str, Any], rules: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A policy and its binding."""
    api_version, name = "admissionregistration.k8s.io/v1", wanted.owner + suffix
    policy = {
        "apiVersion": api_version,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": _metadata(wanted, name, ""),
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [dict(resources)]},
            "matchConditions": [{"name": "identity", "expression": f"request.userInfo.username == '{wanted.user}'"}],
            "validations": [{"expression": rule, "message": message} for rule, message in rules],
        },
    }
    binding = {
        "apiVersion": api_version,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": _metadata(wanted, name, ""),
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return [policy, binding]


def _metadata(wanted: Wanted, name: str, namespace: str) -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    return {"name": name, **where, "labels": {**MANAGED, OWNER_LABEL: wanted.owner}}


def _rule(right: Right) -> dict[str, Any]:
    names = {"resourceNames": list(right.names)} if right.names else {}
    return {"apiGroups": [right.group], "resources": list(right.resources), "verbs": list(right.verbs), **names}


class Server(NamedTuple):
    """An API server as a kubeconfig names it. ``ca`` is PEM text, empty for the machine's own authorities."""

    url: str
    ca: str = ""
    verify: bool = True
    tls_name: str = ""


def kubeconfig(wanted: Wanted, server: Server, token: str) -> str:
    """The text of a kubeconfig, in JSON, which is YAML as well."""
    cluster: dict[str, Any] = {"server": server.url}
    if server.ca:
        cluster["certificate-authority-data"] = base64.b64encode(server.ca.encode()).decode()
    if not server.verify:
        cluster["insecure-skip-tls-verify"] = True
    if server.tls_name:
        cluster["tls-server-name"] = server.tls_name
    name = wanted.owner
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": wanted.namespace}}],
        "current-context": name,
    }
    return json.dumps(content, indent=2) + "\n"


def token_of(text: str | None) -> str:
    """The token in a kubeconfig of ours; empty for anything else."""
    try:
        users = json.loads(text or "")["users"]
        return str(users[0]["user"]["token"])
    except (ValueError, LookupError, TypeError):
        return ""


class Claims(NamedTuple):
    """What a token says of itself. ``expires`` in epoch seconds, 0 without an end."""

    user: str
    uid: str
    expires: float


def claims(token: str) -> Claims | None:
    """Read a ServiceAccount's token, unverified: whether it is good only the API server can say. None: it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        account = (payload.get("kubernetes.io") or {}).get("serviceaccount") or {}
        return Claims(str(payload.get("sub", "")), str(account.get("uid", "")), float(payload.get("exp", 0)))
    except (binascii.Error, ValueError, AttributeError, TypeError):
        return None


def stale(text: str | None, wanted: Wanted, server: Server, uid: str, now: float, renew_seconds: float) -> str:
    """Why the kubeconfig with this ``text`` has to be written anew; empty when it is as it should be.

    ``uid`` is that of the ServiceAccount now: one that was deleted and made again has no part in its old tokens.
    """
    if text is None:
        return "there is none yet"
    token = token_of(text)
    said = claims(token)
    if said is None or text != kubeconfig(wanted, server, token):
        return "it is another one than it should be"
    if said.user != wanted.user or said.uid != uid:
        return "its token is of another ServiceAccount"
    if said.expires - now < renew_seconds:
        return "its token is near its end" if said.expires > now else "its token has expired"
    return ""


def forbidden(wanted: Wanted) -> Sequence[Mapping[str, str]]:
    """Some of what the identity must never be able to do, as resource attributes of an access review."""
    here = wanted.namespace
    denied = [
        {"verb": "get", "resource": "secrets", "namespace": here},
        {"verb": "list", "resource": "secrets", "namespace": here},
        {"verb": "create", "resource": "pods", "namespace": here},
        {"verb": "create", "resource": "pods/exec", "namespace": here},
        {"verb": "create", "resource": "serviceaccounts/token", "namespace": here, "name": wanted.account},
        {"verb": "delete", "group": "argoproj.io", "resource": "rollouts", "namespace": here, "name": wanted.app},
        {"verb": "patch", "group": "argoproj.io", "resource": "rollouts", "namespace": here, "name": "another"},
        {"verb": "update", "resource": "configmaps", "namespace": here, "name": "another"},
        {"verb": "get", "resource": "services/proxy", "namespace": here},
        {"verb": "get", "resource": "secrets", "namespace": "kube-system"},
        {"verb": "list", "resource": "pods", "namespace": "kube-system"},
        {"verb": "get", "resource": "nodes/proxy"},
        {"verb": "list", "resource": "namespaces"},
        {"verb": "impersonate", "resource": "users"},
    ]
    rbac = "rbac.authorization.k8s.io"
    for verb in ("escalate", "bind", "create", "patch"):
        denied.append({"verb": verb, "group": rbac, "resource": "roles", "namespace": here})
        denied.append({"verb": verb, "group": rbac, "resource": "clusterroles"})
    if "deployment" in wanted.drivers:
        apps = {"group": "apps", "resource": "deployments", "namespace": here}
        denied += [{"verb": verb, **apps, "name": "another"} for verb in ("patch", "delete")]
        denied += [{"verb": "delete", **apps, "name": wanted.app}, {"verb": "update", **apps, "name": wanted.app}]
    if wanted.prometheus:
        namespace, service, port = wanted.prometheus
        for name in ("another:9090", f"{service}:{port + 1}"):
            denied.append({"verb": "get", "resource": "services/proxy", "namespace": namespace, "name": name})
        denied.append(
            {"verb": "create", "resource": "services/proxy", "namespace": namespace, "name": f"{service}:{port}"}
        )
        denied.append({"verb": "get", "resource": "secrets", "namespace": namespace})
    if wanted.argocd_namespace:
        where = wanted.argocd_namespace
        denied.append({"verb": "get", "resource": "secrets", "namespace": where})
        denied.append({"verb": "create", "group": "argoproj.io", "resource": "applications", "namespace": where})
        denied.append(
            {"verb": "patch", "group": "argoproj.io", "resource": "applications", "namespace": where, "name": "another"}
        )
    return denied

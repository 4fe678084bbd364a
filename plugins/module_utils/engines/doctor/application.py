# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Applications of Argo CD that do not bring Git into the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .facts import ERROR, WARNING, Facts, Finding, Object, how
from .rollout import moment

_UNKNOWN_KINDS = (
    # util/argo/argo.go of Argo CD, kubectl, and the API server itself.
    re.compile(r"could not find (?:version \"[^\"]*\" of )?(?P<group>[\w.-]*)/(?P<kind>\w+) for requested resource"),
    re.compile(r"no matches for kind \"(?P<kind>\w+)\" in version \"(?P<group>[\w.-]+)/\w+\""),
)
_NOT_FOUND = "the server could not find the requested resource"
SKIP_DRY_RUN = "SkipDryRunOnMissingResource=true"
RESPECT = "RespectIgnoreDifferences=true"
_CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
_CRD_FIELDS = ("/spec/preserveUnknownFields", "/status")
_SETTLE_SECONDS = 10.0
"""Argo CD writes Succeeded before Synced."""


def check_applications(facts: Facts) -> Iterator[Finding]:
    """Each Application, as its status tells it."""
    for each in facts.applications:
        failed = list(_sync_failed(facts, each))
        yield from failed
        yield from _conditions(each)
        if not failed:
            yield from _out_of_sync(facts, each)


def _title(application: Object) -> str:
    meta = application["metadata"]
    return f"Application {meta.get('namespace', '')}/{meta['name']}"


def _sync_options(application: Object) -> Sequence[str]:
    return ((application.get("spec") or {}).get("syncPolicy") or {}).get("syncOptions") or ()


def _operation(application: Object) -> Object:
    return (application.get("status") or {}).get("operationState") or {}


def _sync(application: Object) -> Object:
    return (application.get("status") or {}).get("sync") or {}


def unknown_kinds(application: Object) -> list[tuple[str, str]]:
    """(group, kind) that the last sync of an Application asked the cluster for in vain."""
    operation = _operation(application)
    if operation.get("phase") == "Succeeded":
        return []
    found: list[tuple[str, str]] = []
    for resource in (operation.get("syncResult") or {}).get("resources") or ():
        if resource.get("status") == "SyncFailed" and _NOT_FOUND in (resource.get("message") or ""):
            found.append((resource.get("group", ""), resource.get("kind", "")))
    for text in _messages(operation):
        for pattern in _UNKNOWN_KINDS:
            found += [(match["group"], match["kind"]) for match in pattern.finditer(text)]
    return list(dict.fromkeys(found))


def _messages(operation: Object) -> list[str]:
    results = (operation.get("syncResult") or {}).get("resources") or ()
    failed = [each.get("message") or "" for each in results if each.get("status") == "SyncFailed"]
    return [text for text in [*failed, operation.get("message") or ""] if text]


def _sync_failed(facts: Facts, application: Object) -> Iterator[Finding]:
    operation = _operation(application)
    retrying = operation.get("phase") == "Running" and bool(operation.get("retryCount"))
    if operation.get("phase") not in ("Failed", "Error") and not retrying:
        return
    if _sync(application).get("status") == "Synced":
        return  # Git was corrected to what is there: nothing is to be brought, and no other sync begins
    meta = application["metadata"]
    messages = list(dict.fromkeys(_messages(operation)))
    revision = (operation.get("syncResult") or {}).get("revision") or ""
    evidence = [f"sync of {revision[:7] or 'the last revision'} is {operation.get('phase')}", *messages[:5]]
    terminate = how(
        "Argo CD goes on with the old revision for some minutes. To let it take a new one at once:",
        f"kubectl patch application {meta['name']} -n {meta.get('namespace', '')} --type=merge "
        '--patch=\'{"status":{"operationState":{"phase":"Terminating"}}}\'',
    )
    kinds = unknown_kinds(application)
    if kinds:
        yield _crd_missing(facts, application, kinds, evidence, [terminate] if retrying else [])
        return
    yield Finding(
        "sync-failed",
        ERROR,
        "Argo CD cannot bring Git into the cluster",
        _title(application),
        messages[0] if messages else "Its last sync failed without a reason.",
        evidence,
        ["Correct what is refused in Git and push it.", *([terminate] if retrying else [])],
    )


def _crd_missing(
    facts: Facts, application: Object, kinds: list[tuple[str, str]], evidence: list[str], more: list[str]
) -> Finding:
    named = ", ".join(f"{kind} ({group})" for group, kind in kinds)
    options = list(_sync_options(application))
    missing = [kind for kind in kinds if not facts.kinds.get(kind, False)]
    evidence = [*evidence, f"its syncOptions: {', '.join(options) or 'none'}"]
    meta = application["metadata"]
    remedy = []
    if missing:
        cause = f"The cluster does not know {named}: the CustomResourceDefinition is not there (yet)."
        remedy.append(
            how(
                "Install Argo Rollouts first, as the waves say (2 before 3):",
                "ansible-playbook -i INVENTORY lumen.airgap.site --tags argo_rollouts",
            )
            if any(kind == "Rollout" for _group, kind in missing)
            else "Install what brings these kinds first, in an earlier wave."
        )
    else:
        cause = f"The cluster did not know {named} when it was synced. It does now."
        remedy.append(
            how(
                "Sync it again: a revision whose sync has failed is not tried again by itself.",
                f"kubectl patch application {meta['name']} -n {meta.get('namespace', '')} --type=merge "
                '--patch=\'{"operation":{"sync":{}}}\'',
            )
        )
    if SKIP_DRY_RUN not in options:
        cause += f" And without {SKIP_DRY_RUN} the dry run stops the whole sync for it."
        remedy.append(f"Add {SKIP_DRY_RUN} to spec.syncPolicy.syncOptions of {meta['name']} (role applications does).")
    return Finding(
        "crd-missing",
        ERROR,
        "A sync stops at a kind that the cluster does not know",
        _title(application),
        cause,
        evidence,
        [*remedy, *more],
    )


def _conditions(application: Object) -> Iterator[Finding]:
    for each in (application.get("status") or {}).get("conditions") or ():
        kind, message = each.get("type") or "", each.get("message") or ""
        if not kind.endswith("Error") or kind == "SyncError":
            continue
        source = (application.get("spec") or {}).get("source") or {}
        yield Finding(
            "application-error",
            ERROR,
            "Argo CD cannot work with an Application",
            _title(application),
            message or kind,
            [f"{kind} since {each.get('lastTransitionTime', '?')}"]
            + ([f"its source: {source.get('repoURL')} {source.get('path', '')}"] if source else []),
            [
                "If it is Git that it cannot read: see that Gitea runs, that the repository's Secret in argocd has a "
                "token that is good, and that a NetworkPolicy lets argocd-repo-server reach gitea:3000.",
            ],
        )


def _out_of_sync(facts: Facts, application: Object) -> Iterator[Finding]:
    status, spec = application.get("status") or {}, application.get("spec") or {}
    sync, operation = _sync(application), _operation(application)
    if sync.get("status") != "OutOfSync" or operation.get("phase") in ("Running", "Terminating"):
        return
    out = [each for each in status.get("resources") or () if each.get("status") == "OutOfSync"]
    done = (operation.get("syncResult") or {}).get("revision")
    synced = operation.get("phase") == "Succeeded" and done == sync.get("revision")
    # selfHeal that had to begin again is no sync that has only just ended; the first time it is.
    healing = (((operation.get("operation") or {}).get("sync") or {}).get("autoHealAttemptsCount") or 0) > 1
    if synced and not healing and facts.now - (moment(operation.get("finishedAt") or "") or 0.0) < _SETTLE_SECONDS:
        return
    evidence = [
        f"OutOfSync at {(sync.get('revision') or '')[:7]}, last synced to {(done or 'nothing')[:7]}",
        *(_resource(each) for each in out[:8]),
    ]
    definitions = [each for each in out if (each.get("group"), each.get("kind")) == _CRD]
    lacking = _lacking(application) if definitions else []
    if synced and lacking:
        yield Finding(
            "ignore-differences-missing",
            WARNING,
            "An Application is OutOfSync for what the API server writes into its CRDs",
            _title(application),
            f"This revision was synced, and {len(definitions)} of its CustomResourceDefinitions differ all the "
            "same. The API server fills in fields, or leaves some out, and the Application does not ignore these.",
            [*evidence, f"it lacks: {', '.join(lacking)}"],
            [
                "Add ignoreDifferences for CustomResourceDefinition (group apiextensions.k8s.io, jsonPointers "
                f"{' and '.join(_CRD_FIELDS)}) and {RESPECT} to the Application: role applications writes both.",
                "Or leave spec.preserveUnknownFields out of the manifest: false is what the API server does not keep.",
            ],
        )
        return
    automated = (spec.get("syncPolicy") or {}).get("automated")
    if synced:
        yield Finding(
            "out-of-sync",
            WARNING,
            "An Application is OutOfSync right after its sync",
            _title(application),
            "What Git asks for was applied, and something changes it again: an admission webhook, another controller, "
            "or defaults that Argo CD does not know.",
            evidence,
            [
                "Look at the difference (kubectl get -o yaml beside Git), then leave the field out of "
                "Git or ignore it by ignoreDifferences."
            ],
        )
    elif automated is None:
        yield Finding(
            "not-synced",
            WARNING,
            "Git has something that nobody has synced",
            _title(application),
            "The Application has no automated sync policy, so that it waits for somebody.",
            evidence,
            ["Sync it, or give it spec.syncPolicy.automated."],
        )
    elif out and all(each.get("requiresPruning") for each in out) and not automated.get("prune"):
        yield Finding(
            "not-pruned",
            WARNING,
            "The cluster has objects that Git no longer has",
            _title(application),
            "The Application does not prune.",
            evidence,
            ["Delete them by hand, or set spec.syncPolicy.automated.prune."],
        )
    elif not _recent(facts, status):
        yield Finding(
            "sync-stuck",
            ERROR,
            "Argo CD sees a difference and does nothing",
            _title(application),
            "It should have synced by itself by now.",
            evidence,
            ["See that argocd-application-controller runs, and its log; an operation by hand takes precedence."],
        )


def _recent(facts: Facts, status: Object) -> bool:
    """Whether Argo CD has looked at it a moment ago, and may be about to begin."""
    return facts.now - (moment(status.get("reconciledAt") or "") or 0.0) < 6 * _SETTLE_SECONDS


def _resource(each: Object) -> str:
    where = f"{each['namespace']}/" if each.get("namespace") else ""
    prune = " (no longer in Git)" if each.get("requiresPruning") else ""
    return f"{each.get('kind')} {where}{each.get('name')}{prune}"


def _lacking(application: Object) -> list[str]:
    """What the Application would have to say so that a CRD is not OutOfSync for ever."""
    found = set()
    for rule in (application.get("spec") or {}).get("ignoreDifferences") or ():
        if rule.get("group") in (_CRD[0], "*") and rule.get("kind") in (_CRD[1], "*"):
            found |= set(rule.get("jsonPointers") or ())
            if rule.get("jqPathExpressions") or rule.get("managedFieldsManagers"):
                found |= set(_CRD_FIELDS)  # said in another way
    lacking = [f"ignoreDifferences {pointer}" for pointer in _CRD_FIELDS if pointer not in found]
    return lacking + ([] if RESPECT in _sync_options(application) else [RESPECT])

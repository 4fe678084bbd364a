# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods that cannot start, and why: the image and the registry first of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ..workloads.problems import Problem, pod_problem, replica_set_problem
from ..workloads.readiness import readiness
from .facts import ERROR, Facts, Finding, ImageAnswer, Object, how

PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable")
_TAGS_SHOWN = 8


def waiting_images(pods: list[Object]) -> Iterator[str]:
    """The images that some pod cannot get."""
    for pod in pods:
        yield from _waiting(pod)


def _waiting(pod: Object) -> Iterator[str]:
    status = pod.get("status") or {}
    specs = [*((pod.get("spec") or {}).get("initContainers") or ()), *((pod.get("spec") or {}).get("containers") or ())]
    wanted = {each["name"]: each.get("image", "") for each in specs}
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        reason = ((each.get("state") or {}).get("waiting") or {}).get("reason")
        if reason in PULL_REASONS:
            # What the spec says: in the status a digest or a shortened name may stand.
            yield wanted.get(each.get("name"), "") or each.get("image", "")


def check_pods(facts: Facts) -> Iterator[Finding]:
    """Pods of the app, and of what CI/CD runs on, that cannot start."""
    by_image: dict[str, list[tuple[Object, Problem]]] = defaultdict(list)
    others: dict[tuple[str, str], list[tuple[Object, Problem]]] = defaultdict(list)
    for pod in [*facts.pods, *facts.workload_pods]:
        problem = pod_problem(pod)
        if problem is None:
            continue
        images = list(_waiting(pod)) if problem.reason in PULL_REASONS else []
        if images:
            by_image[images[0]].append((pod, problem))
        else:
            others[(pod["metadata"].get("namespace", ""), problem.reason)].append((pod, problem))
    for image, found in by_image.items():
        yield _pull_finding(facts, image, found)
    for (namespace, reason), found in others.items():
        yield _start_finding(facts, namespace, reason, found)


def _subject(found: list[tuple[Object, Problem]]) -> str:
    pod = found[0][0]["metadata"]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"Pod {pod.get('namespace', '')}/{pod['name']}{more}"


def _pull_finding(facts: Facts, image: str, found: list[tuple[Object, Problem]]) -> Finding:
    said = [str(problem) for _pod, problem in found[:2]]
    host, _slash, name = image.partition("/")
    if host != facts.registry:
        return Finding(
            "image-elsewhere",
            ERROR,
            "An image is to come from outside the airgap",
            _subject(found),
            f"{image} is not named after the registry {facts.registry}, so the node asks one that it cannot reach.",
            said,
            [
                f"Name it {facts.registry}/<repository> in the manifest.",
                "Bring it in with a bundle if the registry does not have it: playbooks/import.yml.",
            ],
        )
    answer = facts.images.get(image)
    if answer is None or answer.error:
        why = answer.error if answer else "nobody asked it"
        return Finding(
            "image-unknown",
            ERROR,
            "An image cannot be pulled, and the registry could not be asked for it",
            _subject(found),
            f"The node does not get {image}. Whether the registry has it is not known: {why}",
            said,
            [how("See that the registry runs; role registry starts it. On its node:", f"curl {facts.registry}/v2/")],
        )
    if answer.exists:
        return Finding(
            "image-unreachable",
            ERROR,
            "The registry has the image, and the node does not get it",
            _subject(found),
            f"{image} is in the registry, so the way from the node to it is the cause: see what the kubelet says.",
            said,
            [
                how(
                    "Tell the nodes how to speak to the registry; HTTP instead of HTTPS is the usual reason:",
                    "ansible-playbook -i INVENTORY lumen.airgap.site --tags mirrors",
                ),
                f"See that port {facts.registry.rpartition(':')[2]} of {facts.registry.partition(':')[0]} answers from "
                "that node.",
            ],
        )
    return Finding(
        "image-missing",
        ERROR,
        "An image is not in the registry",
        _subject(found),
        _missing(facts.registry, name, answer),
        said,
        [
            how(
                "Push it from the registry's node, where Docker has it (elsewhere localhost:5000 is another registry):",
                f"docker push {image}",
            ),
            "Or bring it in with a bundle: playbooks/import.yml. The kubelet tries again within five minutes.",
            "Or take the version back: revert the commit that named it in Git; the canary then goes back to stable.",
        ],
    )


def _missing(registry: str, name: str, answer: ImageAnswer) -> str:
    repository = name.partition("@")[0].rpartition(":")[0] or name.partition("@")[0]
    if answer.tags is None:
        return f"The registry {registry} has no repository {repository}: nothing was ever pushed under that name."
    if not answer.tags:
        return f"The registry {registry} has no {name}, and no other tag of {repository}."
    shown = ", ".join(answer.tags[-_TAGS_SHOWN:])
    more = f", and {len(answer.tags) - _TAGS_SHOWN} more" if len(answer.tags) > _TAGS_SHOWN else ""
    return f"The registry {registry} has no {name}. Of {repository} it has {shown}{more}."


_ADVICE = {
    "CrashLoopBackOff": [
        how("Read what it said last:", "kubectl logs -n {namespace} {pod} --previous"),
    ],
    "Unschedulable": [
        how(
            "Compare what the pod asks for (nodeSelector, tolerations, requests) with what the nodes have:",
            "kubectl get pod -n {namespace} {pod} -o yaml",
            "kubectl describe nodes",
        ),
        how("A label that is missing is set by", "kubectl label node <node> <key>=<value>"),
    ],
    "InvalidImageName": ["Correct the image's name in the manifest in Git."],
}


_BACK = ["A version that does not start is taken back like any bad one: revert its commit in Git."]


def _start_finding(facts: Facts, namespace: str, reason: str, found: list[tuple[Object, Problem]]) -> Finding:
    pod = found[0][0]["metadata"]["name"]
    advice = _ADVICE.get(reason, [how("See its events:", "kubectl describe pod -n {namespace} {pod}")])
    return Finding(
        "pod-cannot-start",
        ERROR,
        f"A pod cannot start: {reason}",
        _subject(found),
        found[0][1].message or reason,
        [f"{problem.subject}: {problem.reason}" for _pod, problem in found[:3]],
        [line.format(namespace=namespace, pod=pod) for line in advice]
        + (_BACK if namespace == facts.namespace else []),
    )


def check_replica_sets(facts: Facts) -> Iterator[Finding]:
    """ReplicaSets that cannot even make their pods."""
    for each in facts.replica_sets:
        problem = replica_set_problem(each)
        if problem:
            yield Finding(
                "pods-refused",
                ERROR,
                "The cluster refuses to make pods",
                f"ReplicaSet {facts.namespace}/{each['metadata']['name']}",
                problem.message or problem.reason,
                [str(problem)],
                [
                    "A quota, an admission webhook or the namespace's Pod Security level refuses them: change it, or "
                    "the pod template in Git."
                ],
            )


_WORK = {
    "argo-rollouts": "no Rollout moves without it: canaries stay where they are",
    "argocd-application-controller": "no Application is compared or synced without it",
    "argocd-repo-server": "Argo CD cannot read Git without it",
    "argocd-redis": "Argo CD's components cannot share what they know without it",
    "gitea": "Git, pipelines and Argo CD's source are away without it",
    "act-runner": "no pipeline runs without it",
}


def check_workloads(facts: Facts) -> Iterator[Finding]:
    """Controllers and servers of CI/CD that are not there."""
    there = {(each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in facts.workloads}
    for namespace, name in facts.expected:
        if (namespace, name) not in there:
            yield Finding(
                "workload-down",
                ERROR,
                f"{name} is not there",
                f"{namespace}/{name}",
                f"The namespace {namespace} has no such workload; {_WORK.get(name, 'it is a part of CI/CD')}.",
                [],
                [how("Install it:", "ansible-playbook -i INVENTORY lumen.airgap.site")],
            )
    for each in facts.workloads:
        meta = each["metadata"]
        wanted = (each.get("spec") or {}).get("replicas", 1)
        state = readiness(each)
        if (wanted and state.ready) or (not wanted and meta["name"] not in _WORK):
            continue  # what nobody needs may be scaled to 0
        kind, name = each["kind"], f"{meta.get('namespace', '')}/{meta['name']}"
        if not wanted:
            state_text = "it is scaled to 0"
            command = f"kubectl scale -n {meta.get('namespace', '')} {kind.lower()} {meta['name']} --replicas=1"
            remedy = [how("Start it:", command)]
        else:
            state_text = state.message
            command = f"kubectl describe -n {meta.get('namespace', '')} {kind.lower()} {meta['name']}"
            remedy = [how("See why:", command)]
        yield Finding(
            "workload-down",
            ERROR,
            f"{meta['name']} is not running",
            f"{kind} {name}",
            f"{state_text}; {_WORK.get(meta['name'], 'it is a part of CI/CD')}.",
            [],
            remedy,
        )

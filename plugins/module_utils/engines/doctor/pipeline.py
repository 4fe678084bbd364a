# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from a tag to an image: the tag in Gitea, its run, and the runner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..workflow_triggers import MARKERS
from ..workloads.problems import pod_problem
from .facts import ERROR, INFO, WARNING, Facts, Finding, Object, Pipeline, how, refresh
from .rollout import moment

RUNNER_LABEL = {"app": "act-runner"}


def check_pipeline(facts: Facts) -> Iterator[Finding]:
    """The runner, then the tag."""
    pipeline = facts.pipeline
    if pipeline is None:
        return
    if not pipeline.actions:
        yield Finding(
            "actions-off",
            ERROR,
            "The repository has no Actions",
            f"Repository {pipeline.repository}",
            "Its unit Actions is off, so that no push and no tag starts a run.",
            [],
            [f"Switch it on: {pipeline.url}/{pipeline.repository}/settings, or has_actions by the API."],
        )
        return
    offline = list(_runner(facts, pipeline))
    yield from offline
    yield from _tag(facts, pipeline, bool(offline))


def run_of_tag(runs: Sequence[Object], tag: str) -> Object | None:
    """The last run that the tag started."""
    found = [run for run in runs if str(run.get("path", "")).endswith(f"@refs/tags/{tag}")]
    return max(found, key=lambda run: int(run.get("id") or 0), default=None)


def _runner(facts: Facts, pipeline: Pipeline) -> Iterator[Finding]:
    if pipeline.runners is None:
        return
    wanted = {label for job in pipeline.jobs for label in job.get("labels") or () if job.get("status") != "completed"}
    able = [
        runner
        for runner in pipeline.runners
        if runner.get("status") == "online" and not runner.get("disabled") and wanted <= _labels(runner)
    ]
    if able:
        return
    waiting = [f"run {run.get('id')} waits: {run.get('display_title', '')}" for run in pipeline.queued[:3]]
    records = [_told(runner) for runner in pipeline.runners]
    online = [runner for runner in pipeline.runners if runner.get("status") == "online"]
    disabled = [runner for runner in online if runner.get("disabled")]
    if online and not disabled:
        yield Finding(
            "runner-labels",
            ERROR,
            "No runner takes the jobs that wait",
            "Runner of Gitea",
            f"A job runs on {', '.join(sorted(wanted))}, and no runner that is online has that label.",
            [*records, *waiting],
            ["Give the runner the label (role act_runner), or change runs-on in .gitea/workflows/ci.yaml."],
        )
        return
    pods = _runner_pods(facts)
    if disabled:
        cause, remedy = "It is online and disabled: Gitea gives it no job.", ["Enable it: role act_runner does."]
    elif not pipeline.runners:
        cause = "No runner is registered with this repository, its owner or Gitea itself."
        remedy = [how("Register one:", "ansible-playbook -i INVENTORY lumen.airgap.site --tags act_runner")]
    else:
        cause = "Every runner that Gitea knows is offline: none has asked for work in the last minute."
        remedy = []
    yield Finding(
        "runner-offline",
        ERROR,
        "No runner is online",
        "Runner of Gitea",
        cause,
        [*records, *pods, *waiting],
        remedy or _runner_advice(facts),
    )


def _labels(runner: Object) -> set[str]:
    return {
        label.get("name", "") if isinstance(label, dict) else str(label).partition(":")[0]
        for label in runner.get("labels") or ()
    }


def _told(runner: Object) -> str:
    marks = [str(runner.get("status"))] + [word for word in ("busy", "disabled") if runner.get(word)]
    return f"runner {runner.get('name')} is {', '.join(marks)}, labels {', '.join(sorted(_labels(runner))) or 'none'}"


def _own_pods(facts: Facts) -> list[Object]:
    return [pod for pod in facts.workload_pods if RUNNER_LABEL.items() <= (pod["metadata"].get("labels") or {}).items()]


def _runner_pods(facts: Facts) -> list[str]:
    told = []
    for pod in _own_pods(facts):
        problem = pod_problem(pod)
        told.append(str(problem) if problem else f"pod {pod['metadata']['name']} is {_phase(pod)}")
    return told


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "unknown"))


def _runner_advice(facts: Facts) -> list[str]:
    if not facts.runner_namespace:
        return ["See what its pod says: it is in the namespace of Gitea, with the label app=act-runner."]
    pods = _own_pods(facts)
    deployed = [each for each in facts.workloads if each["metadata"]["name"] == "act-runner"]
    if deployed and not (deployed[0].get("spec") or {}).get("replicas", 1):
        return [
            how(
                "Its Deployment is scaled to 0:",
                f"kubectl scale -n {facts.runner_namespace} deployment act-runner --replicas=1",
            )
        ]
    if pods and any(pod_problem(pod) for pod in pods):
        return ["Its pod does not start: see that finding."]
    if pods:
        return [
            how(
                "Its pod runs, so it does not reach Gitea, or Gitea does not know it any more. Its log tells which:",
                f"kubectl logs -n {facts.runner_namespace} -l app=act-runner --tail=50",
            ),
            how(
                "Register it anew, with the NodePort URL, which its jobs need as well:",
                "ansible-playbook -i INVENTORY lumen.airgap.site --tags act_runner",
            ),
        ]
    return [how("There is no pod of it:", "ansible-playbook -i INVENTORY lumen.airgap.site --tags act_runner")]


def _tag(facts: Facts, pipeline: Pipeline, offline: bool) -> Iterator[Finding]:
    if not pipeline.tag:
        return
    subject = f"Tag {pipeline.tag} in {pipeline.repository}"
    if not pipeline.sha:
        yield Finding(
            "tag-missing",
            ERROR,
            "Gitea does not have the tag",
            subject,
            f"Nobody has pushed {pipeline.tag}, or it went to another remote.",
            [],
            [how("Push it:", f"git push gitea {pipeline.tag}")],
        )
        return
    run = run_of_tag(pipeline.runs, pipeline.tag)
    if run is None:
        if not _built(facts, pipeline):
            yield _no_run(pipeline, subject)
        return
    if run.get("status") == "completed":
        if run.get("conclusion") not in ("success", "skipped"):
            yield _failed(pipeline, subject, run, _built(facts, pipeline))
        return
    if (
        not offline
        and run.get("status") in ("queued", "waiting")
        and all(job.get("status") in ("queued", "waiting") for job in pipeline.jobs)
    ):
        yield Finding(
            "pipeline-waiting",
            INFO,
            "The pipeline waits for the runner",
            subject,
            "The runner is online and busy with another run, or about to take this one."
            if pipeline.runners is not None
            else "No runner has taken it yet. Which there are, Gitea tells owners of the repository alone.",
            [f"run {run.get('id')}: {run.get('html_url', '')}", *(_told(runner) for runner in pipeline.runners or ())],
            ["Wait; or see what the runner is busy with in Gitea under Actions."],
        )


def _built(facts: Facts, pipeline: Pipeline) -> bool:
    """Whether the registry has the tag's image: by this run, or built before there was a pipeline, or without it."""
    return any(answer.exists for image, answer in facts.images.items() if image.rpartition(":")[2] == pipeline.tag)


def _no_run(pipeline: Pipeline, subject: str) -> Finding:
    first = pipeline.message.strip().partition("\n")[0]
    found = [word for word in MARKERS if word in pipeline.message]
    evidence = [f"{pipeline.tag} is commit {pipeline.sha[:7]}: {first}", "Gitea has no run for it"]
    if found:
        return Finding(
            "tag-skip-ci",
            ERROR,
            f"The tag is on a commit that says {found[0]}",
            subject,
            f"Gitea starts no run for a commit whose message has {found[0]}, nor for its tags, and says so nowhere. "
            "The commit that bumps the manifest carries these words, so this happens to a tag on main right after a "
            "release.",
            evidence,
            [
                how(
                    "Put the tag on a commit without them:",
                    f"git commit --allow-empty -m 'Release {pipeline.tag}' && git push gitea main",
                    f"git tag -f {pipeline.tag} && git push gitea :refs/tags/{pipeline.tag} && "
                    f"git push gitea {pipeline.tag}",
                ),
                "Or start the workflow by hand for this tag (Run workflow, in Gitea under Actions): a dispatched run "
                "does not look at the message. Another tag on the same commit fails alike.",
            ],
        )
    if pipeline.workflows is not None and not pipeline.workflows:
        return Finding(
            "tag-no-workflow",
            ERROR,
            "The tag's commit has no workflow",
            subject,
            "Gitea reads .gitea/workflows from the commit that is tagged, and there is none in it.",
            evidence,
            ["Tag a commit that has .gitea/workflows/ci.yaml."],
        )
    return Finding(
        "tag-not-picked-up",
        ERROR,
        "No run was started for the tag",
        subject,
        "The tag is there and Gitea started nothing for it: it came before the workflow was in place, the workflow's "
        "trigger does not match, or it is disabled.",
        [*evidence, *([f"workflows in that commit: {', '.join(pipeline.workflows)}"] if pipeline.workflows else [])],
        [
            how(
                "Push the tag again:",
                f"git push gitea :refs/tags/{pipeline.tag} && git push gitea {pipeline.tag}",
            ),
            "See in Gitea under Actions that the workflow is not disabled, and that it has on: push: tags: v*.",
        ],
    )


def _failed(pipeline: Pipeline, subject: str, run: Object, built: bool) -> Finding:
    jobs = [job for job in pipeline.jobs if job.get("conclusion") not in ("success", "skipped", None, "")]
    names = ", ".join(str(job.get("name")) for job in jobs) or "a job"
    ended = moment(run.get("completed_at") or "")
    if built:
        outcome = "the image is in the registry, and the manifest was not bumped."
        remedy = (
            "Correct the cause and run the job again, in Gitea under Actions: what the registry has of this commit is "
            "used. If the log says that it was built from another commit, tag a new version instead."
        )
    else:
        outcome = "nothing was pushed and the manifest is as before."
        remedy = "Correct it and tag a new version. A version that was pushed once is not built a second time."
    return Finding(
        "pipeline-failed",
        ERROR,
        "The tag's pipeline failed",
        subject,
        f"{names} ended with {run.get('conclusion')}; {outcome}",
        [
            f"run {run.get('id')}{' at ' + str(run.get('completed_at')) if ended else ''}: {run.get('html_url', '')}",
            *(f"log: {line}" for line in pipeline.log),
        ],
        [remedy],
    )


def check_git(facts: Facts) -> Iterator[Finding]:
    """Git asks for another image than the cluster has, and nothing is under way."""
    pipeline, application = facts.pipeline, facts.application()
    wanted = pipeline.manifest_image if pipeline else ""
    if not wanted or application is None or facts.rollout is None or wanted == facts.container_image:
        return
    if ((facts.rollout.get("status") or {}).get("abort")) or pipeline is None:
        return  # told with the abort
    status = application.get("status") or {}
    if (status.get("operationState") or {}).get("phase") == "Running":
        return
    meta = application["metadata"]
    yield Finding(
        "git-ahead",
        WARNING,
        "Argo CD has not seen what is in Git",
        f"Application {meta.get('namespace', '')}/{meta['name']}",
        "The manifest at the branch's head names another image than the Rollout. Argo CD asks Git every few minutes.",
        [f"Git: {wanted}", f"Rollout: {facts.container_image}", f"Argo CD looked at {status.get('reconciledAt', '?')}"],
        [
            how("Let it look now:", refresh(application)),
        ],
    )

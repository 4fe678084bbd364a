# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image in a manifest is changed, and not one byte beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines import gitops
from ansible_collections.lumen.airgap.plugins.module_utils.engines.gitops import GitopsError, find_images, set_image

OLD = "192.168.2.2:5000/lumen-api:v1.0.0"
NEW = "192.168.2.2:5000/lumen-api:v1.1.0"
DIGEST = "sha256:" + "ab" * 32

ROLLOUT = """\
# Who reads this: `image: 192.168.2.2:5000/lumen-api:v1.0.0` in a comment is not an image.
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  image: 192.168.2.2:5000/lumen-api:v1.0.0
  text: |
    containers:
      - name: lumen-api
        image: 192.168.2.2:5000/lumen-api:v1.0.0
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name:   lumen-api   # three spaces
spec:
  template:
    spec:
      initContainers:
      - image: 192.168.2.2:5000/wait:v1
        name: wait
      containers:
        - name: lumen-api
          image: 192.168.2.2:5000/lumen-api:v1.0.0     # {"$imagepolicy": "x"}
          env: [{name: A, value: "é\\t😀"},  {name: B, value: 'it''s'}]
        - {name: side, image: "192.168.2.2:5000/side:v1"}
"""


def pod(containers: str, kind: str = "Pod") -> str:
    return f"kind: {kind}\nmetadata: {{name: p}}\nspec:\n  containers:\n{containers}"


def test_only_the_one_scalar_changes() -> None:
    edit = set_image(ROLLOUT, NEW)
    before, after = ROLLOUT.split("\n"), edit.text.split("\n")
    assert [index for index, line in enumerate(before) if line != after[index]] == [24]
    assert after[24] == before[24].replace("v1.0.0", "v1.1.0")
    assert edit.changes == [(25, "Rollout lumen-api, container lumen-api", OLD, NEW)]


def test_a_second_time_changes_nothing() -> None:
    once = set_image(ROLLOUT, NEW).text
    assert set_image(once, NEW) == (once, [])


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_the_mark_at_the_beginning_stay(ending: str, mark: str) -> None:
    text = mark + ROLLOUT.replace("\n", ending)
    assert set_image(text, NEW).text == text.replace(f"image: {OLD}     #", f"image: {NEW}     #")


def test_the_last_line_may_have_no_end() -> None:
    assert set_image(pod(f"  - image: {OLD}"), NEW).text == pod(f"  - image: {NEW}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", "{}"),
        ('"{}"', '"{}"'),
        ("'{}'", "'{}'"),
        ("&img {}", "&img {}"),
        ("!!str {}", "!!str {}"),
        ("&img  !!str  '{}' # c", "&img  !!str  '{}' # c"),
    ],
)
def test_quotes_anchors_and_tags_stay(before: str, after: str) -> None:
    text = pod(f"  - name: a\n    image: {before.format(OLD)}\n")
    assert set_image(text, NEW).text == pod(f"  - name: a\n    image: {after.format(NEW)}\n")


def test_escapes_in_quotes_are_read() -> None:
    assert set_image(pod('  - image: "192.168.2.2:5000\\/lumen-api:v1\\x2E0"\n'), NEW).text == pod(
        f'  - image: "{NEW}"\n'
    )


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet", "Rollout"])
def test_kinds_with_a_template(kind: str) -> None:
    text = f"kind: {kind}\nspec: {{template: {{spec: {{containers: [{{name: a, image: '{OLD}'}}]}}}}}}\n"
    assert set_image(text, NEW).text == text.replace(OLD, NEW)


def test_a_cron_job_a_pod_template_and_a_list() -> None:
    inner = f"{{containers: [{{name: a, image: '{OLD}'}}]}}"
    cron = f"kind: CronJob\nspec: {{jobTemplate: {{spec: {{template: {{spec: {inner}}}}}}}}}\n"
    template = f"kind: PodTemplate\ntemplate: {{spec: {inner}}}\n"
    listed = f"kind: List\nitems:\n- kind: Pod\n  spec: {inner}\n"
    for text in (cron, template, listed):
        assert set_image(text, NEW).text == text.replace(OLD, NEW)


def test_json_is_yaml() -> None:
    text = f'{{"kind": "Pod", "spec": {{"containers": [{{"name": "a", "image": "{OLD}"}}]}}}}'
    assert set_image(text, NEW).text == text.replace(OLD, NEW)


def test_an_init_container_is_found_by_its_name() -> None:
    edit = set_image(ROLLOUT, "192.168.2.2:5000/other/wait:v2", container="wait")
    assert edit.changes[0].before == "192.168.2.2:5000/wait:v1"
    assert edit.text == ROLLOUT.replace("192.168.2.2:5000/wait:v1", "192.168.2.2:5000/other/wait:v2")


def test_a_digest_is_pinned_moved_and_given_up() -> None:
    pinned = set_image(ROLLOUT, f"{NEW}@{DIGEST}").text
    assert f"image: {NEW}@{DIGEST}     #" in pinned
    moved = set_image(pinned, f"{NEW}@{DIGEST.replace('ab', 'cd')}")
    assert moved.changes[0].after.endswith("cdcd")
    # The old digest would win over the new tag, so it goes.
    assert f"image: {NEW}     #" in set_image(moved.text, NEW).text


def test_a_repository_is_not_taken_for_one_that_begins_alike() -> None:
    text = pod("  - image: 192.168.2.2:5000/lumen-api-tools:v1\n  - image: 192.168.2.2:5000/lumen-api\n")
    edit = set_image(text, NEW)
    assert [change.line for change in edit.changes] == [6]
    assert "lumen-api-tools:v1" in edit.text


TWO = pod(f"  - name: a\n    image: {OLD}\n  - name: b\n    image: {OLD}\n")


def test_two_places_are_refused_and_named() -> None:
    with pytest.raises(GitopsError) as refused:
        set_image(TWO, NEW)
    assert "is 2 places: line 6: Pod p, container a" in str(refused.value)
    assert "line 8: Pod p, container b" in str(refused.value)


def test_one_of_two_by_its_name_or_both_when_asked() -> None:
    assert set_image(TWO, NEW, container="b").text == TWO.replace(f"b\n    image: {OLD}", f"b\n    image: {NEW}")
    every = set_image(TWO, NEW, every=True)
    assert every.text == TWO.replace(OLD, NEW)
    assert len(every.changes) == 2


def test_one_of_two_objects() -> None:
    inner = f"{{containers: [{{name: a, image: '{OLD}'}}]}}"
    rollout = f"kind: Rollout\nmetadata: {{name: p}}\nspec: {{template: {{spec: {inner}}}}}\n"
    text = pod(f"  - name: a\n    image: {OLD}\n") + "---\n" + rollout
    edit = set_image(text, NEW, container="a", resource="Rollout/p")
    assert [change.place for change in edit.changes] == ["Rollout p, container a"]
    assert edit.text.count(OLD) == 1


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(GitopsError, match=r"an image of .*/none is not in this manifest\. There are: line"):
        set_image(ROLLOUT, "192.168.2.2:5000/none:v1")
    with pytest.raises(GitopsError, match="the container none of Pod/p is not"):
        set_image(ROLLOUT, NEW, container="none", resource="Pod/p")
    with pytest.raises(GitopsError, match="No object in it has containers"):
        set_image("kind: ConfigMap\n", NEW)
    with pytest.raises(GitopsError, match="No object in it has containers"):
        set_image("", NEW)


@pytest.mark.parametrize("indicator", ["|", ">-", "|+"])
def test_a_block_is_refused(indicator: str) -> None:
    with pytest.raises(GitopsError, match="line 6: the image of Pod p, container a goes over several lines or is a b"):
        set_image(pod(f"  - name: a\n    image: {indicator}\n      {OLD}\n"), NEW, container="a")


def test_text_over_several_lines_is_refused() -> None:
    with pytest.raises(GitopsError, match="over several lines"):
        set_image(pod('  - name: a\n    image: "192.168.2.2:5000/\\\n      lumen-api:v1"\n'), NEW)


def test_an_anchor_that_serves_something_else_is_refused() -> None:
    text = pod(f"  - name: a\n    image: &img {OLD}\n    env: [{{name: IMAGE, value: *img}}]\n")
    with pytest.raises(GitopsError, match="line 6: the anchor &img is used elsewhere too"):
        set_image(text, NEW)


def test_an_anchor_that_serves_these_places_alone_is_changed_once() -> None:
    text = pod(f"  - name: a\n    image: &img {OLD}\n  - name: b\n    image: *img\n")
    edit = set_image(text, NEW, every=True)
    assert edit.text == text.replace(OLD, NEW)
    assert len(edit.changes) == 1
    with pytest.raises(GitopsError, match="the anchor &img is used elsewhere"):
        set_image(text, NEW, container="b")


@pytest.mark.parametrize(
    "containers",
    [
        f"  - &base\n    name: a\n    image: {OLD}\n  - <<: *base\n    name: b\n",
        f"  - &base\n    name: a\n    image: {OLD}\n  - <<: [*base]\n    name: b\n",
    ],
)
def test_an_image_through_a_merge_key_is_refused(containers: str) -> None:
    with pytest.raises(GitopsError, match="container b has its image from the anchor &base"):
        set_image(pod(containers), NEW, container="b")


def test_a_list_of_containers_that_is_used_twice_is_refused() -> None:
    text = f"kind: Pod\nmetadata: {{name: p}}\nspec:\n  containers: &all [{{name: a, image: '{OLD}'}}]\nmore: *all\n"
    with pytest.raises(GitopsError, match="from the anchor &all"):
        set_image(text, NEW)


def test_an_anchor_of_another_document_is_another_anchor() -> None:
    one = pod(f"  - name: a\n    image: &img {OLD}\n")
    text = one + "---\nkind: ConfigMap\ndata: {a: &img x, b: *img}\n"
    assert set_image(text, NEW).text == text.replace(OLD, NEW)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pod(f"  - name: a\n    image: {OLD}\n    image: {OLD}\n"), "line 7: the key image comes twice, at line 6"),
        ("kind: Pod\nspec: {containers: [}\n", "this is no YAML"),
        ("image: {{ .Values.image }}:{{ x }}\n", "this is no YAML"),
        (pod("  - name: a\n    image:\n"), "has no text as its image"),
        (pod("  - name: a\n    image: {{ app_image }}\n"), "has no text as its image"),
        (pod("  - name: a\n"), "has no text as its image"),
        (pod("  - name: a\n    image: *nothing\n"), "the alias [*]nothing has no anchor"),
        ("a: &a\n  b: *a\n", "the alias [*]a is inside its anchor"),
        ("a: \x07\n", "no YAML"),
    ],
)
def test_what_cannot_be_edited_is_refused(text: str, message: str) -> None:
    with pytest.raises(GitopsError, match=message):
        set_image(text, NEW, container="a")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("192.168.2.2:5000/lumen-api", "neither a tag nor a digest"),
        ("192.168.2.2:5000/Lumen:v1", "is not .host"),
        ("192.168.2.2:5000/lumen-api:v1 # x", "is not a tag"),
        ('lumen-api:v1"', "is not a tag"),
        ("lumen-api:v1@sha256:12", "64 hex digits"),
        ("", "names no image"),
    ],
)
def test_an_image_that_no_registry_takes_is_refused(image: str, message: str) -> None:
    with pytest.raises(GitopsError, match=message):
        set_image(ROLLOUT, image)


KUSTOMIZATION = """\
resources: [app.yaml]
images:
  - name: lumen-api
    newName: 192.168.2.2:5000/lumen-api
    newTag: v1.0.0  # the release
  - name: other
    digest: sha256:00
"""


def test_a_kustomization() -> None:
    edit = set_image(KUSTOMIZATION, NEW)
    assert edit.text == KUSTOMIZATION.replace("v1.0.0", "v1.1.0")
    assert edit.changes == [(5, "Kustomization, image lumen-api", "v1.0.0", "v1.1.0")]
    assert set_image(edit.text, NEW).changes == []


@pytest.mark.parametrize("tag", ["1.10", "1e10000", "0123456", "true", "no", "_1"])
def test_a_tag_that_would_be_a_number_is_quoted(tag: str) -> None:
    text = set_image(KUSTOMIZATION, f"192.168.2.2:5000/lumen-api:{tag}").text
    assert f'    newTag: "{tag}"  # the release\n' in text


def test_a_kustomization_gets_no_keys() -> None:
    with pytest.raises(GitopsError, match=r"has no digest, and .* needs one"):
        set_image(KUSTOMIZATION, f"{NEW}@{DIGEST}")
    with pytest.raises(GitopsError, match="Keys are not added or removed here"):
        set_image(KUSTOMIZATION, "other:v1")
    assert set_image(KUSTOMIZATION, f"other@{DIGEST}").text == KUSTOMIZATION.replace("sha256:00", DIGEST)


def test_what_is_there_can_be_listed() -> None:
    assert [(found.line, found.container, found.image) for found in find_images(ROLLOUT)] == [
        (25, "lumen-api", OLD),
        (27, "side", "192.168.2.2:5000/side:v1"),
        (21, "wait", "192.168.2.2:5000/wait:v1"),
    ]


# --- the script ---------------------------------------------------------------------------------------------------


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Its own process, away from the checkout: it is copied into an image alone.
    command = [sys.executable, gitops.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=60)


def test_the_script_edits_a_file_and_says_what_it_did(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_bytes(ROLLOUT.replace("\n", "\r\n").encode())
    done = script("set", "--file", str(file), "--image", NEW, "--digest", DIGEST, "--container", "lumen-api")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: line 25: Rollout lumen-api, container lumen-api: {OLD} -> {NEW}@{DIGEST}\n"
    assert file.read_bytes() == ROLLOUT.replace(f"{OLD}     #", f"{NEW}@{DIGEST}     #").replace("\n", "\r\n").encode()


def test_the_script_leaves_a_file_alone_that_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(ROLLOUT)
    file.chmod(0o400)
    stamp = file.stat().st_mtime_ns
    assert gitops.main(["set", "--file", str(file), "--image", OLD]) == 0
    assert capsys.readouterr().out == f"{file}: unchanged: it names {OLD} already\n"
    assert file.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("content", [TWO.encode(), b"\xff\xfe\x00", None])
def test_the_script_fails_and_leaves_the_file(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "app.yaml"
    if content is not None:
        file.write_bytes(content)
    assert gitops.main(["set", "--file", str(file), "--image", NEW]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{file}: ")
    assert content is None or file.read_bytes() == content


def test_the_script_says_that_its_library_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(ROLLOUT)
    monkeypatch.setattr(gitops, "RUAMEL_IMPORT_ERROR", ImportError("No module named 'ruamel'"))
    assert gitops.main(["set", "--file", str(file), "--image", NEW]) == 1
    assert "the Python library ruamel.yaml is missing" in capsys.readouterr().err

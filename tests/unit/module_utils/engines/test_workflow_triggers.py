# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which workflows a push starts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.workflow_triggers import silent, starts_on_push

PATH = "manifests/app/a.yaml"


def on(**filters: Any) -> dict[str, Any]:
    return {"on": {"push": filters}}


# Of act's own table (pkg/workflowpattern/workflow_pattern_test.go): patterns, paths, whether `paths` passes them over,
# whether `paths-ignore` does.
PATTERNS: list[tuple[list[str], list[str], bool, bool]] = [
    (["*"], ["path/with/slash"], True, False),
    (["path/a", "path/b", "path/c"], ["meta", "path/b", "otherfile"], False, False),
    (["path/a", "path/b", "path/c"], ["path/b"], False, True),
    (["path/a", "path/b", "path/c"], ["path/c", "path/b"], False, True),
    (["path/a", "path/b", "path/c"], ["path/c", "path/b", "path/a"], False, True),
    (["path/a", "path/b", "path/c"], ["path/c", "path/b", "path/d", "path/a"], False, False),
    ([], [], False, False),
    (["\\!file"], ["!file"], False, True),
    (["escape\\\\backslash"], ["escape\\backslash"], False, True),
    ([".yml"], ["fyml"], True, False),
    (["feature/*"], ["feature/my-branch"], False, True),
    (["feature/*"], ["feature/your-branch"], False, True),
    (["feature/**"], ["feature/beta-a/my-branch"], False, True),
    (["feature/**"], ["feature/beta-a/my-branch"], False, True),
    (["feature/**"], ["feature/mona/the/octocat"], False, True),
    (["main", "releases/mona-the-octocat"], ["main"], False, True),
    (["main", "releases/mona-the-octocat"], ["releases/mona-the-octocat"], False, True),
    (["*"], ["main"], False, True),
    (["*"], ["releases"], False, True),
    (["**"], ["all/the/branches"], False, True),
    (["**"], ["every/tag"], False, True),
    (["*feature"], ["mona-feature"], False, True),
    (["*feature"], ["feature"], False, True),
    (["*feature"], ["ver-10-feature"], False, True),
    (["v2*"], ["v2"], False, True),
    (["v2*"], ["v2.0"], False, True),
    (["v2*"], ["v2.9"], False, True),
    (["v[12].[0-9]+.[0-9]+"], ["v1.10.1"], False, True),
    (["v[12].[0-9]+.[0-9]+"], ["v2.0.0"], False, True),
    (["*"], ["README.md"], False, True),
    (["*"], ["server.rb"], False, True),
    (["*.jsx?"], ["page.js"], False, True),
    (["*.jsx?"], ["page.jsx"], False, True),
    (["**"], ["all/the/files.md"], False, True),
    (["*.js"], ["app.js"], False, True),
    (["*.js"], ["index.js"], False, True),
    (["**.js"], ["index.js"], False, True),
    (["**.js"], ["js/index.js"], False, True),
    (["**.js"], ["src/js/app.js"], False, True),
    (["docs/*"], ["docs/README.md"], False, True),
    (["docs/*"], ["docs/file.txt"], False, True),
    (["docs/**"], ["docs/README.md"], False, True),
    (["docs/**"], ["docs/mona/octocat.txt"], False, True),
    (["docs/**/*.md"], ["docs/README.md"], False, True),
    (["docs/**/*.md"], ["docs/mona/hello-world.md"], False, True),
    (["docs/**/*.md"], ["docs/a/markdown/file.md"], False, True),
    (["**/docs/**"], ["docs/hello.md"], False, True),
    (["**/docs/**"], ["dir/docs/my-file.txt"], False, True),
    (["**/docs/**"], ["space/docs/plan/space.doc"], False, True),
    (["**/README.md"], ["README.md"], False, True),
    (["**/README.md"], ["js/README.md"], False, True),
    (["**/*src/**"], ["a/src/app.js"], False, True),
    (["**/*src/**"], ["my-src/code/js/app.js"], False, True),
    (["**/*-post.md"], ["my-post.md"], False, True),
    (["**/*-post.md"], ["path/their-post.md"], False, True),
    (["**/migrate-*.sql"], ["migrate-10909.sql"], False, True),
    (["**/migrate-*.sql"], ["db/migrate-v1.0.sql"], False, True),
    (["**/migrate-*.sql"], ["db/sept/migrate-v1.sql"], False, True),
    (["*.md", "!README.md"], ["hello.md"], False, True),
    (["*.md", "!README.md"], ["README.md"], True, True),
    (["*.md", "!README.md"], ["docs/hello.md"], True, True),
    (["*.md", "!README.md", "README*"], ["hello.md"], False, True),
    (["*.md", "!README.md", "README*"], ["README.md"], False, True),
    (["*.md", "!README.md", "README*"], ["README.doc"], False, True),
]


@pytest.mark.parametrize(("patterns", "paths", "skipped", "ignored"), PATTERNS)
def test_patterns_are_those_of_act(patterns: list[str], paths: list[str], skipped: bool, ignored: bool) -> None:
    assert starts_on_push(on(paths=patterns), "main", paths) is not skipped
    assert starts_on_push(on(**{"paths-ignore": patterns}), "main", paths) is not ignored


@pytest.mark.parametrize(
    ("workflow", "starts"),
    [
        ({True: "push"}, True),  # `on` as YAML 1.1 reads it
        ({"on": "push"}, True),
        ({"on": ["pull_request", "push"]}, True),
        ({"on": "pull_request"}, False),
        ({"on": ["pull_request"]}, False),
        ({"on": {"push": None}}, True),
        ({"on": {"push": {}}}, True),
        ({"on": {"workflow_dispatch": None}}, False),
        (on(branches=["main"]), True),
        (on(branches="main"), True),
        (on(branches=["release/**"]), False),
        (on(branches=["**", "!main"]), False),
        (on(**{"branches-ignore": ["main"]}), False),
        (on(tags=["v*"]), False),
        (on(tags=["v*"], branches=["main"]), True),
        (on(tags=["v*"], branches=["main"], paths=["app/**"]), False),
        (on(tags=["v*"], paths=["manifests/**"]), False),
        (on(branches=["main"], paths=["manifests/**"]), True),
        (on(**{"paths-ignore": ["manifests/**"]}), False),
        (on(paths=["[", "app/**"]), True),
        (on(paths=[1]), True),
        (on(paths={"a": 1}), True),
        ({"on": 1}, True),
        ({}, True),
        ("no mapping", True),
        (None, True),
    ],
)
def test_filters_decide(workflow: Any, starts: bool) -> None:
    assert starts_on_push(workflow, "main", [PATH]) is starts


@pytest.mark.parametrize("message", ["bump [skip ci]", "[ci skip] x", "a [no ci]", "[skip actions]", "[actions skip]"])
def test_markers_of_gitea(message: str) -> None:
    assert silent(message)
    assert not silent(message.replace("[", "("))

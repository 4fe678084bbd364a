# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of the project's structure, read from the files themselves."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"
MODULE_UTILS = PLUGINS / "module_utils"
HEADER = """\
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
FRAGMENT_PREFIX = "lumen.airgap."

# What each layer may import of ours; itself is always allowed. Imports go one way.
LAYERS = {
    "engines": set(),
    "adapters": {"engines", "errors", "options", "times"},
    "services": {"engines", "adapters", "errors", "options", "times"},
}
# What an engine may need beyond the standard library: Argo's regular expressions are RE2's, and files of others keep
# their comments.
ENGINE_LIBRARIES = {"re2", "ruamel", "tomlkit"}
# An engine is given its clock and its data: these would be its own.
ENGINE_FORBIDDEN = {"io", "os", "pathlib", "random", "shutil", "socket", "subprocess", "tempfile", "threading", "time"}


def python_files(*directories: str) -> list[Path]:
    """Every Python file under the directories that has something in it; the mark of a package may be empty."""
    found = (path for directory in directories for path in (ROOT / directory).rglob("*.py"))
    return sorted(path for path in found if path.stat().st_size)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a file imports; ours start with ``plugins.``."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = ".".join((*package[: len(package) - node.level + 1], *(node.module or "").split("."))).rstrip(
                    "."
                )
            else:
                base = (node.module or "").removeprefix("ansible_collections.lumen.airgap.")
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def layer_of(imported: str) -> str | None:
    """The layer under module_utils that a name of ours lives in, or the plugin kind; None for others' modules."""
    parts = imported.split(".")
    if parts[0] != "plugins":
        return None
    return parts[2] if parts[1] == "module_utils" and len(parts) > 2 else parts[1]


@pytest.mark.parametrize("path", python_files(*(f"plugins/module_utils/{layer}" for layer in LAYERS)), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    layer = path.relative_to(MODULE_UTILS).parts[0]
    allowed = LAYERS[layer] | {layer}
    wrong = [(line, name) for line, name in imports(path) if (layer_of(name) or layer) not in allowed]
    assert wrong == []


@pytest.mark.parametrize("path", python_files("plugins/module_utils/engines"), ids=name_of)
def test_engines_are_pure(path: Path) -> None:
    libraries = [(line, name.split(".")[0]) for line, name in imports(path) if layer_of(name) is None]
    foreign = [found for found in libraries if found[1] not in sys.stdlib_module_names | ENGINE_LIBRARIES]
    assert foreign == [], "engines import the standard library and parsers alone"
    assert [found for found in libraries if found[1] in ENGINE_FORBIDDEN] == [], "engines do no I/O and have no clock"


@pytest.mark.parametrize("path", python_files("plugins/module_utils"), ids=name_of)
def test_our_own_are_imported_relatively(path: Path) -> None:
    """Ansible sends to a node what it finds by static, relative imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    absolute = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ansible_collections.lumen.airgap")
    ]
    assert absolute == []


@pytest.mark.parametrize("path", python_files("plugins", "lab", "tests", "molecule", "mk"), ids=name_of)
def test_header(path: Path) -> None:
    text = re.sub(r"\A#!.*\n", "", path.read_text(encoding="utf-8"))
    assert text.startswith(HEADER)
    assert ast.get_docstring(ast.parse(text)) or "DOCUMENTATION" in text, "the file does not say what it is"


def annotations_of(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                yield from ast.walk(annotation)


@pytest.mark.parametrize("path", python_files("plugins/modules", "plugins/module_utils"), ids=name_of)
def test_no_union_of_types_at_run_time(path: Path) -> None:
    """Python 3.9, which nodes may have, knows ``str | None`` in annotations alone; no tool of ours reports the rest."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    in_annotations = set(annotations_of(tree))
    unions = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and node not in in_annotations
        if any(isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right))
        or any(
            isinstance(side, ast.Name) and isinstance(getattr(builtins, side.id, None), type)
            for side in (node.left, node.right)
        )
    ]
    assert unions == []


def module_files() -> list[Path]:
    return sorted(path for path in (PLUGINS / "modules").glob("*.py") if path.name != "__init__.py")


def constant(path: Path, name: str) -> str:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            value = ast.literal_eval(node.value)
            assert isinstance(value, str)
            return value
    pytest.fail(f"{path.name} has no {name}")


@pytest.mark.parametrize("path", module_files(), ids=name_of)
def test_modules_are_documented(path: Path) -> None:
    documentation = yaml.safe_load(constant(path, "DOCUMENTATION"))
    assert documentation["module"] == path.stem
    assert any(
        name.startswith(f"{FRAGMENT_PREFIX}attributes") for name in documentation["extends_documentation_fragment"]
    )
    assert set(documentation["attributes"]) >= {"check_mode", "diff_mode"}
    for option, about in documentation.get("options", {}).items():
        assert about.get("type"), f"{option} has no type"
        assert about.get("description"), f"{option} has no description"
    examples = yaml.safe_load(constant(path, "EXAMPLES"))
    assert any(f"{FRAGMENT_PREFIX}{path.stem}" in task for task in examples), (
        "no example calls the module by its full name"
    )
    for value, about in (yaml.safe_load(constant(path, "RETURN")) or {}).items():
        assert "sample" in about or "contains" in about, f"{value} has no sample"


@pytest.mark.parametrize("path", sorted((PLUGINS / "action").glob("*.py")), ids=name_of)
def test_actions_have_a_documented_module(path: Path) -> None:
    assert (PLUGINS / "modules" / path.name).is_file()


@pytest.mark.parametrize("path", module_files(), ids=name_of)
def test_progress_is_documented_taken_and_printed(path: Path) -> None:
    """A module that says what it does while it works has the options for it, and an action that reads it."""
    documentation = yaml.safe_load(constant(path, "DOCUMENTATION"))
    action = PLUGINS / "action" / path.name
    documented = f"{FRAGMENT_PREFIX}progress" in documentation["extends_documentation_fragment"]
    assert ("PROGRESS_OPTIONS" in path.read_text(encoding="utf-8")) == documented
    assert (action.is_file() and "BackgroundAction" in action.read_text(encoding="utf-8")) == documented


def unit_test_of(path: Path) -> Path:
    """The test has the path of the code under ``plugins``, and its name."""
    return ROOT / "tests" / "unit" / path.relative_to(PLUGINS).parent / f"test_{path.stem}.py"


def code_files() -> list[Path]:
    """Modules (a documentation-only one is its action's) and actions (``test_in_process`` has those of a module)."""
    modules = [path for path in module_files() if "def main(" in path.read_text(encoding="utf-8")]
    actions = sorted((PLUGINS / "action").glob("*.py"))
    return [*modules, *(path for path in actions if "InProcessAction" not in path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", code_files(), ids=name_of)
def test_every_module_and_action_has_a_unit_test(path: Path) -> None:
    assert unit_test_of(path).is_file(), f"missing: {name_of(unit_test_of(path))}"


@pytest.mark.parametrize(
    "package",
    sorted(path for path in (MODULE_UTILS / "engines").iterdir() if (path / "__init__.py").is_file()),
    ids=name_of,
)
def test_every_engine_has_unit_tests(package: Path) -> None:
    code = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    tests = ROOT / "tests" / "unit" / package.relative_to(PLUGINS)
    assert not code or list(tests.glob("test_*.py")), f"no test in {name_of(tests)}"


def test_pins_are_exact_and_constrained() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-")):
                assert line in constraints, f"{file}: {line} is not what constraints.txt says"


def test_execution_environment_names_what_the_plays_import() -> None:
    """What ansible-builder installs and what the checkout installs are the same libraries."""
    pinned = names(ROOT / "requirements.txt") - {"ansible", "ansible-core"}
    assert names(ROOT / "meta" / "ee-requirements.txt") == pinned


def names(requirements: Path) -> set[str]:
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return {line.replace("=", ">").split(">")[0] for line in lines if line and not line.startswith(("#", "-"))}

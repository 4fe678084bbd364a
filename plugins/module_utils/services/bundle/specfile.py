# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""bundle.yml and manifests, read from disk; errors say the file and the line."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import traceback
from collections.abc import Iterator
from typing import Any

from ...engines.bundle import discover, spec
from ...engines.bundle.spec import Spec, SpecError, Where
from ...errors import AirgapError

try:
    import yaml
except ImportError:
    YAML_TRACEBACK: str | None = traceback.format_exc()
else:
    YAML_TRACEBACK = None


class SpecFile:
    """A parsed bundle.yml that still knows its lines. Paths in it are relative to its directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.path.dirname(os.path.abspath(path))
        loader = None
        try:
            with open(path, encoding="utf-8") as file:
                loader = _loader()(file.read())
                self._root = loader.get_single_node()
                document = loader.construct_document(self._root) if self._root else None
        except OSError as error:
            raise AirgapError(f"the bundle's description {path} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise AirgapError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
        finally:
            if loader is not None:
                loader.dispose()
        try:
            self.spec: Spec = spec.parse(document)
        except SpecError as error:
            raise AirgapError(f"{self.at(error.where)}: {error}") from error

    def at(self, where: Where) -> str:
        """``bundle.yml:12 (images[2].name)``."""
        key = spec.dotted(where)
        return f"{self.path}:{self._line(where)}" + (f" ({key})" if key else "")

    def resolve(self, path: str) -> str:
        """A path of bundle.yml as one that can be opened."""
        return os.path.normpath(os.path.join(self.directory, os.path.expanduser(path)))

    @contextlib.contextmanager
    def blamed(self, where: Where) -> Iterator[None]:
        """Put the place in bundle.yml that asked for something before the error about it."""
        try:
            yield
        except AirgapError as error:
            raise AirgapError(f"{self.at(where)}: {error.message}", **error.details) from error
        except ValueError as error:
            raise AirgapError(f"{self.at(where)}: {error}") from error

    def match(self, pattern: str, where: Where) -> list[str]:
        """The files that a pattern of bundle.yml names, sorted. None at all is an error."""
        found = sorted(path for path in glob.glob(self.resolve(pattern), recursive=True) if os.path.isfile(path))
        if not found:
            raise AirgapError(f"{self.at(where)}: no file is named by {pattern} ({self.resolve(pattern)})")
        return found

    def relative(self, path: str) -> str:
        """A file below the directory of bundle.yml by its path from there, any other by its name."""
        below = os.path.relpath(path, self.directory)
        return os.path.basename(path) if below.startswith("..") else below.replace(os.sep, "/")

    def _line(self, where: Where) -> int:
        node = self._root
        for part in where:
            found = _below(node, part)
            if found is None:
                break
            node = found
        return int(node.start_mark.line) + 1 if node is not None else 1


def documents(path: str) -> Iterator[discover.Document]:
    """The documents of a manifest; raises AirgapError that names the file and the document."""
    number = 1
    try:
        with open(path, encoding="utf-8") as file:
            for content in yaml.load_all(file, Loader=_manifest_loader()):
                if content is not None:
                    yield discover.Document(path, number, content)
                number += 1
    except OSError as error:
        raise AirgapError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise AirgapError(f"{path}, document {number}: not YAML: {' '.join(str(error).split())}") from error


def _loader() -> Any:
    """YAML without surprises: ``3.10`` is a version, ``0644`` a mode and ``2026-01-31T12:00:00Z`` a time in text."""

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - how PyYAML has it

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            # YAML forbids it, PyYAML lets the last one win: a second `files` would silently leave out the first.
            seen: set[str] = set()
            for key, _value in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} comes twice", key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    for tag, pattern, first in (
        ("bool", r"true|True|false|False", "tTfF"),
        ("int", r"0|[1-9][0-9]*", "0123456789"),
        ("null", r"~|null|Null|", "~nN\0"),
        ("merge", r"<<", "<"),
    ):
        letters = [letter if letter != "\0" else "" for letter in first]
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), letters)
    return Loader


def _manifest_loader() -> Any:
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    # A plain = (in the schemas of the Prometheus operator) has a tag of its own that nobody constructs.
    Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))
    return Loader


def _below(node: Any, part: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None

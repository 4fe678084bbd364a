# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our part of a release note, between two marks that a reader does not see; the rest is somebody else's."""

from __future__ import annotations

from urllib.parse import quote

#: What a state is called to who reads the note.
_WORDS = {"pending": "under way", "success": "promoted", "failure": "not promoted", "error": "not known how it ended"}


def verdict(state: str, description: str, target_url: str) -> str:
    """The note for a commit status."""
    # A reason may be anything that a program said, and is no HTML.
    more = f": {description.replace('&', '&amp;').replace('<', '&lt;')}" if description else ""
    link = f"\n\n{target_url}" if target_url else ""
    return f"**{_WORDS[state]}**{more}{link}"


def with_part(body: str, name: str, text: str) -> str:
    """A note with ``text`` as our part of it, in its place or else at the end. ``name`` tells it from other parts."""
    begin, end = _mark(name), _mark(f"/{name}")
    part = f"{begin}\n{text.strip()}\n{end}"
    before, found, rest = body.partition(begin)
    _old, closed, after = rest.partition(end)
    if found and closed:
        return f"{before}{part}{after}"
    return f"{body.rstrip()}\n\n{part}\n" if body.strip() else f"{part}\n"


def _mark(name: str) -> str:
    """A comment of HTML, in which two dashes would end it."""
    return f"<!-- {quote(name, safe='/.').replace('--', '-%2D')} -->"

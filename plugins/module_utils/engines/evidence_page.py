# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence of a release as one page of HTML: no script, no other file, readable on a phone, in print and at night.

Everything in it comes from the document that it is made of, and every text is escaped. A chart is drawn twice, wide and
narrow, and the page's style shows the one that fits, so that its letters keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any, NamedTuple

from .analysis.phases import MARKS
from .canary.account import told_by_hand
from .canary.follow import show_value
from .canary.phase import epoch

#: Pixels.
_WIDE, _NARROW = 900, 340
_OUTCOMES = {"promoted": "Promoted", "rolled_back": "Rolled back", "failed": "Failed", "abandoned": "Given up"}
_STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #0b0b0b; --soft: #52514e; --line: #dcdbd6; --band: #f1f0ec;
  --canary: #eb6834; --stable: #2a78d6; --good: #0a7d0a; --bad: #c22f2f; --warn: #9a6200;
  --shade: #00000052; }
@media (prefers-color-scheme: dark) { :root { --page: #1a1a19; --ink: #f6f5f2; --soft: #c3c2b7; --line: #3f3e3a;
  --band: #262624; --canary: #f07f4f; --stable: #5b9df0; --good: #4cc24c; --bad: #f07474; --warn: #e0a530;
  --shade: #ffffff5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 60rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0 0 .2rem; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 1.8rem 0 .5rem; font-size: 1.1rem; }
.badge { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; border: 1.5px solid; font-weight: 600; }
.promoted { color: var(--good); } .rolled_back, .abandoned { color: var(--warn); } .failed { color: var(--bad); }
.reason { margin: .8rem 0; padding: .5rem .8rem; border-left: 4px solid var(--line); background: var(--band);
  overflow-wrap: anywhere; }
.soft, dt, th, figcaption { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
/* A table that goes on has a shade at that side: what is fixed to the table covers it where it ends. */
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--page) 35%, transparent) local 0 0 / 2.5rem 100% no-repeat,
  linear-gradient(to left, var(--page) 35%, transparent) local 100% 0 / 2.5rem 100% no-repeat,
  linear-gradient(to right, var(--shade), transparent) scroll 0 0 / .9rem 100% no-repeat,
  linear-gradient(to left, var(--shade), transparent) scroll 100% 0 / .9rem 100% no-repeat; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; padding-right: 1.2rem; }
.timeline td:first-child { white-space: nowrap; }
code, .timeline { font: .85em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
figure { margin: .5rem 0 1rem; }
figcaption { margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg .axis, svg .grid { stroke: var(--line); fill: none; }
svg .band { fill: var(--band); }
svg .limit { stroke: var(--soft); stroke-dasharray: 5 4; fill: none; }
svg .trace { stroke: var(--soft); stroke-width: 1.5; fill: none; }
svg .canary { stroke: var(--canary); } svg .stable { stroke: var(--stable); }
svg .pods { fill: none; stroke-width: 2.5; }
.key { margin-left: .8em; font-weight: 600; } .key::before { content: "━ "; }
.key.canary { color: var(--canary); } .key.stable { color: var(--stable); }
svg .Successful { fill: var(--good); } svg .Failed { fill: var(--bad); }
svg .Inconclusive, svg .Error { fill: var(--warn); }
td.Successful { color: var(--good); } td.Failed { color: var(--bad); }
td.Inconclusive, td.Error { color: var(--warn); }
.narrow { display: none; }
@media (max-width: 40rem) { body { padding: .8rem; } .wide { display: none; } .narrow { display: block; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; } }
@media print { :root { --page: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #f3f3f3; --canary: #c04a18;
  --stable: #1f5fb0; --good: #076107; --bad: #a31f1f; --warn: #7a4d00;
  --shade: transparent; } body { max-width: none; padding: 0; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""

Document = Mapping[str, Any]


def render(evidence: Document) -> str:
    """The page of an evidence document (see the module ``evidence`` for its shape)."""
    title = f"{evidence['app']} {evidence['version']}"
    outcome = str(evidence["outcome"])
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}: {_text(_OUTCOMES.get(outcome, outcome))}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        f'<p><span class="badge {_text(outcome)}">{_text(_OUTCOMES.get(outcome, outcome))}</span> '
        f'<span class="soft">{_text(_lasted(evidence))}</span></p>',
        _reason(evidence),
        _facts(evidence),
        *_charts(evidence),
        _section("Steps", _steps(evidence)),
        _section("Measurements", _measurements(evidence)),
        _section("What was found at the end", _verified(evidence)),
        _section("Timeline", _timeline(evidence)),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def threshold(condition: str) -> float | None:
    """The number that a condition compares its result with, for the line in a chart: the last one, None without one."""
    words = condition.replace("(", " ").replace(")", " ").replace("&&", " ").split()
    for operator, number in reversed(list(zip(words, words[1:]))):
        if operator in (">=", ">", "<=", "<"):
            try:
                return float(number)
            except ValueError:
                continue
    return None


# -- words and tables ------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return escape(str(value), quote=True)


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>\n{body}" if body else ""


def _reason(evidence: Document) -> str:
    return f'<p class="reason">{_text(evidence["reason"])}</p>' if evidence.get("reason") else ""


def _facts(evidence: Document) -> str:
    who = evidence.get("who") or {}
    chain = evidence.get("chain") or {}
    rows = [
        ("Release", evidence.get("release")),
        ("Namespace", evidence.get("namespace")),
        ("Started", _moment(evidence.get("started_at"))),
        ("Ended", _moment(evidence.get("finished_at"))),
        ("By", " on ".join(str(who[key]) for key in ("user", "host") if who.get(key))),
        ("Promoted by hand", told_by_hand(evidence.get("by_hand") or ())),
        ("Image", evidence.get("image")),
        ("Digest", evidence.get("digest")),
        ("Commit", evidence.get("commit")),
        ("Stable before", (evidence.get("before") or {}).get("image")),
        ("Pipeline", (evidence.get("pipeline") or {}).get("url")),
        ("Manifest", _git(evidence.get("git") or {})),
        ("Driver", evidence.get("driver")),
        ("Scan", _scan(evidence.get("scan"))),
        ("Evidence", f"document {chain['number']} of the chain" if chain.get("number") else ""),
        ("Before it", " ".join(str(chain[key]) for key in ("previous_name", "previous") if chain.get(key))),
    ]
    cells = [f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in rows if value not in (None, "")]
    return f"<dl>{''.join(cells)}</dl>"


def _git(commits: Mapping[str, Any]) -> str:
    said = {"bump": "bumped by", "revert": "taken back by"}
    return ", ".join(f"{text} {commits[key]}" for key, text in said.items() if commits.get(key))


def _scan(scan: Any) -> str:
    return ", ".join(f"{str(name).lower()} {value}" for name, value in (scan or {}).items())


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[tuple[str, Any]]]) -> str:
    head = "".join(f'<th class="{kind}">{_text(name)}</th>' for name, kind in heads)
    body = "".join(f"<tr>{''.join(_cell(*cell) for cell in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>' if body else ""


def _cell(kind: str, value: Any) -> str:
    return f'<td class="{_text(kind)}">{_text(value)}</td>'


def _steps(evidence: Document) -> str:
    # What matters most comes first: a phone shows no more of it without a finger.
    heads = [("Step", ""), ("Result", ""), ("Weight", "number"), ("Actual", "number"), ("From", ""), ("Took", "number")]
    rows = []
    for step in evidence.get("steps") or ():
        began, ended = _seconds(step.get("started_at")), _seconds(step.get("finished_at"))
        rows.append(
            [
                ("", f"{int(step['index']) + 1} {step['kind']}"),
                ("", f"{step.get('result') or ''}{' by hand' if step.get('by_hand') else ''}"),
                ("number", _percent(step.get("weight"))),
                ("number", _percent(step.get("actual_weight"))),
                ("", _clock(step.get("started_at"))),
                ("number", _span(ended - began) if began is not None and ended is not None else ""),
            ]
        )
    return _table(heads, rows)


def _measurements(evidence: Document) -> str:
    heads = [("At", ""), ("Verdict", ""), ("Value", "number"), ("Metric", ""), ("Run", "")]
    rows = []
    for made in evidence.get("measurements") or ():
        phase = str(made.get("phase") or "")
        rows.append(
            [
                ("", _clock(made.get("at"))),
                (phase, f"{MARKS.get(phase, '')} {phase}"),
                ("number", show_value(made.get("value")) or made.get("message") or "–"),
                ("", made.get("metric") or ""),
                ("", made.get("run") or ""),
            ]
        )
    return _table(heads, rows)


def _verified(evidence: Document) -> str:
    verified = evidence.get("verified") or {}
    rows = [("Pod template hash", verified.get("hash") or "not verified")] if verified else []
    rows += [(f"Service {name}", ", ".join(pods)) for name, pods in (verified.get("endpoints") or {}).items()]
    rows += [("Running digest", digest) for digest in verified.get("digests") or ()]
    rows += [("Missing", text) for text in verified.get("missing") or ()]
    cells = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows)
    return f"<dl>{cells}</dl>" if cells else ""


def _timeline(evidence: Document) -> str:
    rows = [[("soft", _clock(entry["at"])), ("", entry["text"])] for entry in evidence.get("timeline") or ()]
    table = _table([("At", ""), ("What", "")], rows)
    return table.replace("<table>", '<table class="timeline">') if table else ""


# -- times -------------------------------------------------------------------------------------------------------------


def _seconds(text: Any) -> float | None:
    return epoch(str(text)) if text else None


def _moment(text: Any) -> str:
    return str(text or "").replace("T", " ").replace("Z", " UTC")


def _clock(text: Any) -> str:
    seconds = _seconds(text)
    return "" if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).strftime("%H:%M:%S")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _lasted(evidence: Document) -> str:
    began, ended = _seconds(evidence.get("started_at")), _seconds(evidence.get("finished_at"))
    return f"after {_span(ended - began)}" if began is not None and ended is not None else ""


def _percent(value: Any) -> str:
    return "" if value is None else f"{value} %"


# -- charts ------------------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    """A chart's place: pixels of its parts, and what they mean."""

    width: int
    begin: float
    end: float
    top: float
    height: int = 200
    left: int = 44
    right: int = 12
    above: int = 22
    below: int = 24

    def x(self, at: float) -> float:
        share = (at - self.begin) / (self.end - self.begin)
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def y(self, value: float) -> float:
        share = min(max(value / self.top, 0.0), 1.0)
        return round(self.height - self.below - share * (self.height - self.above - self.below), 1)


class _Point(NamedTuple):
    at: float
    value: float
    phase: str


def _charts(evidence: Document) -> list[str]:
    pods = [
        (at, int(each["canary"]), int(each["stable"]))
        for each in evidence.get("pods") or ()
        if (at := _seconds(each["at"])) is not None
    ]
    metrics: dict[str, list[_Point]] = {}
    for made in evidence.get("measurements") or ():
        at = _seconds(made.get("at"))
        for value in _numbers(made.get("value")):
            if at is not None:
                metrics.setdefault(str(made["metric"]), []).append(_Point(at, value, str(made["phase"])))
    moments = [at for at, _canary, _stable in pods] + [point.at for points in metrics.values() for point in points]
    if not moments:
        return []
    bounds = _bounds(evidence, moments)
    conditions = evidence.get("conditions") or {}
    drawn = [_metric_figure(evidence, name, points, conditions.get(name), bounds) for name, points in metrics.items()]
    if pods:
        drawn.append(_pods_figure(evidence, pods, bounds))
    return ["<h2>Course</h2>", *drawn]


def _bounds(evidence: Document, moments: Sequence[float]) -> tuple[float, float]:
    times = [*moments, *(at for step in evidence.get("steps") or () if (at := _seconds(step.get("started_at"))))]
    begin, end = min(times), max([*times, _seconds(evidence.get("finished_at")) or 0.0])
    return begin, max(end, begin + 1.0)


def _numbers(text: Any) -> list[float]:
    """The finite numbers of a value as it is written: ``[0.98,1]``, ``0.98``."""
    found = []
    for part in str(text if text is not None else "").strip("[]").split(","):
        try:
            number = float(part)
        except ValueError:
            continue
        if math.isfinite(number):
            found.append(number)
    return found


def _figure(caption: str, draw: Callable[[int], str], more: str = "") -> str:
    charts = "".join(
        f'<div class="{name}">{draw(width)}</div>' for name, width in (("wide", _WIDE), ("narrow", _NARROW))
    )
    return f"<figure><figcaption>{_text(caption)}{more}</figcaption>{charts}</figure>"


def _svg(frame: _Frame, label: str, parts: Iterable[str]) -> str:
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{_text(label)}" '
        f'style="max-width: {1.4 * frame.width:g}px">{body}</svg>'
    )


def _metric_figure(
    evidence: Document, name: str, points: Sequence[_Point], condition: Any, bounds: tuple[float, float]
) -> str:
    limit = threshold(str(condition)) if condition else None
    top = _nice(max([point.value for point in points] + [limit or 0.0]))
    caption = f"{name}, each measurement" + (f"; passes while {condition}" if condition else "")

    def draw(width: int) -> str:
        frame = _Frame(width, *bounds, top)
        line = " ".join(f"{frame.x(point.at)},{frame.y(point.value)}" for point in points)
        parts = [*_backdrop(frame, evidence), f'<polyline class="trace" points="{line}"/>']
        if limit is not None:
            y = frame.y(limit)
            parts.append(f'<line class="limit" x1="{frame.left}" x2="{width - frame.right}" y1="{y}" y2="{y}"/>')
            # Below the line, where it does not meet the names of the steps.
            parts.append(f'<text x="{frame.left + 4}" y="{y + 14}">{limit:g}</text>')
        parts += [_mark(frame, point) for point in points]
        return _svg(frame, caption, parts)

    return _figure(caption, draw)


def _mark(frame: _Frame, point: _Point) -> str:
    """Verdicts differ in shape too, for those who see no colours."""
    x, y = frame.x(point.at), frame.y(point.value)
    said = f"<title>{_text(f'{point.value:g} {point.phase}')}</title>"
    if point.phase == "Successful":
        return f'<circle class="Successful" cx="{x}" cy="{y}" r="4.5">{said}</circle>'
    corners = f"{x},{y - 6} {x + 6},{y + 5} {x - 6},{y + 5}"
    if point.phase == "Failed":
        corners = f"{x - 5},{y - 5} {x + 5},{y - 5} {x + 5},{y + 5} {x - 5},{y + 5}"
    return f'<polygon class="{_text(point.phase)}" points="{corners}">{said}</polygon>'


def _pods_figure(evidence: Document, pods: Sequence[tuple[float, int, int]], bounds: tuple[float, float]) -> str:
    top = _nice(max(max(canary, stable) for _at, canary, stable in pods) or 1, whole=True)
    caption = "Ready pods"

    def draw(width: int) -> str:
        frame = _Frame(width, *bounds, top, height=170)
        parts = list(_backdrop(frame, evidence))
        sides = {"stable": [(at, of) for at, _of, of in pods], "canary": [(at, of) for at, of, _of in pods]}
        parts += [f'<path class="pods {name}" d="{_stairs(frame, side)}"/>' for name, side in sides.items()]
        return _svg(frame, caption, parts)

    names = "".join(f' <span class="key {name}">{name}</span>' for name in ("stable", "canary"))
    return _figure(caption, draw, names)


def _stairs(frame: _Frame, values: Sequence[tuple[float, int]]) -> str:
    path = f"M{frame.x(values[0][0])} {frame.y(values[0][1])}"
    for at, value in values[1:]:
        path += f"H{frame.x(at)}V{frame.y(value)}"
    return path + f"H{frame.x(frame.end)}"


def _backdrop(frame: _Frame, evidence: Document) -> Iterable[str]:
    """Steps as bands with their names where these fit, a grid, and the times."""
    bottom = frame.height - frame.below
    for place, step in enumerate(evidence.get("steps") or ()):
        began = _seconds(step.get("started_at"))
        if began is None:
            continue
        ended = _seconds(step.get("finished_at"))
        x, end = frame.x(began), frame.x(frame.end if ended is None else ended)
        if place % 2 == 0:
            size = f'width="{round(max(end - x, 1), 1)}" height="{bottom - frame.above}"'
            yield f'<rect class="band" x="{x}" y="{frame.above}" {size}/>'
        name = f"{step['weight']} %" if step.get("kind") == "setWeight" else str(step.get("kind"))
        if end - x > 7 * len(name) + 4:
            yield f'<text x="{x + 2}" y="{frame.above - 7}">{_text(name)}</text>'
    for value in _ticks(frame.top):
        y = frame.y(value)
        yield f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{frame.left - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
    yield f'<text x="{frame.left}" y="{frame.height - 6}">{_clock_of(frame.begin)} UTC</text>'
    end = frame.width - frame.right
    yield f'<text x="{end}" y="{frame.height - 6}" text-anchor="end">{_clock_of(frame.end)}</text>'


def _clock_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%H:%M:%S")


def _ticks(top: float) -> list[float]:
    if top <= 4 and top == int(top) and top > 1:
        return [float(number) for number in range(int(top) + 1)]
    return [0.0, top / 2, top]


def _nice(value: float, whole: bool = False) -> float:
    """The end of an axis: 1, 2 or 5 times a power of ten that is not below ``value``."""
    if whole and value <= 4:
        return float(max(1, math.ceil(value)))
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= value * 0.999999)

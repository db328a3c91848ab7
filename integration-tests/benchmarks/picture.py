"""Draws how many times better than loky Clutch is, as an SVG for light and dark pages."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import targets
from report import number

if TYPE_CHECKING:
    from results import Results, Spread

_WIDTH = 920
_LABELS = 440
_RIGHT = 70
_ROW = 22
_TOP = 46
_BOTTOM = 14
# Ratios beyond these are drawn at the edge.
_LEAST, _MOST = 0.1, 100.0
_MARKS = (0.1, 0.3, 1, 3, 10, 30, 100)

_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 14px; }
.faint { fill: #59636e; }
.grid { stroke: #d1d9e0; } .one { stroke: #59636e; stroke-width: 1.5; }
.met { fill: #2da44e; } .missed { fill: #d4722c; } .plain { fill: #6e7781; }
.spread { stroke: #1f2328; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .faint { fill: #9198a1; }
  .grid { stroke: #3d444d; } .one { stroke: #9198a1; }
  .met { fill: #3fb950; } .missed { fill: #f0883e; } .plain { fill: #8b949e; }
  .spread { stroke: #e6edf3; }
}"""


def draw(results: Results) -> str:
    """Return the picture; rows that cannot be compared are left out."""
    bars = [
        (f"{row.title}, {row.unit}", ratio, targets.verdict(key, results))
        for key, row, _ in results.rows()
        if (ratio := results.ratio(key, than="loky")) is not None
    ]
    height = _TOP + _ROW * len(bars) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" role="img"'
        ' aria-label="How many times better than loky Clutch is">',
        f"<style>{_STYLE}</style>",
        '<text class="title" x="8" y="18">How many times better than loky Clutch is</text>',
        f'<text class="faint" x="{_WIDTH - 8}" y="18" text-anchor="end">'
        "green: target met, orange: not met, grey: none; thin line: rounds</text>",
        *_grid(height),
    ]
    for place, (label, ratio, verdict) in enumerate(bars):
        parts += _bar(_TOP + _ROW * place, label, ratio, verdict)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(height: int) -> list[str]:
    parts = []
    for mark in _MARKS:
        x = _x(mark)
        kind = "one" if mark == 1 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x}" x2="{x}" y1="{_TOP - 4}" y2="{height - _BOTTOM}"/>'
        )
        parts.append(
            f'<text class="faint" x="{x}" y="{_TOP - 10}" text-anchor="middle">{mark:g}</text>'
        )
    return parts


def _bar(top: int, label: str, ratio: Spread, verdict: str) -> list[str]:
    begin, end = sorted((_x(1), _x(ratio.median)))
    kind = {"met": "met", "not met": "missed"}.get(verdict, "plain")
    middle = top + _ROW // 2
    return [
        f'<text x="{_LABELS - 10}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{begin}" y="{top + 4}" width="{max(end - begin, 1):.1f}"'
        f' height="{_ROW - 8}" rx="2"/>',
        f'<line class="spread" x1="{_x(ratio.least)}" x2="{_x(ratio.most)}" y1="{middle}"'
        f' y2="{middle}"/>',
        f'<text x="{_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{number(ratio.median)}x</text>',
    ]


def _x(ratio: float) -> float:
    shown = min(max(ratio, _LEAST), _MOST)
    part = math.log(shown / _LEAST) / math.log(_MOST / _LEAST)
    return round(_LABELS + part * (_WIDTH - _RIGHT - _LABELS), 1)

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as drawings: SVG that a page shows as it is, in a light and in a dark theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from . import figures
from .report import rounds_of

_STYLE = """
    .page { fill: #ffffff } .ink { fill: #1f2328 } .faint { fill: #59636e } .line { stroke: #d1d9e0 }
    .whisker { stroke: #1f2328 }
    .other { fill: #8c959f; stroke: #8c959f } .nftlb { fill: #bc4c00; stroke: #bc4c00 }
    .ours { fill: #0969da; stroke: #0969da }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } .ink { fill: #f0f6fc } .faint { fill: #9198a1 } .line { stroke: #3d444d }
      .whisker { stroke: #f0f6fc }
      .other { fill: #656c76; stroke: #656c76 } .nftlb { fill: #db6d28; stroke: #db6d28 }
      .ours { fill: #388bfd; stroke: #388bfd }
    }
    text { font: 12px system-ui, sans-serif; stroke: none }
    .title { font-size: 14px; font-weight: 600 }
    .curve { fill: none; stroke-width: 2 }
"""
_WIDTH = 860


class _Drawing:
    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[str] = []
        self.height = 0.0

    def text(self, x: float, y: float, said: str, kind: str = "ink", anchor: str = "start") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> None:
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def column(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}" class="{kind}"/>'
        )

    def curve(self, points: Sequence[tuple[float, float]], kind: str, dashed: bool) -> None:
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{at}" class="{kind} curve"{dash} style="fill: none"/>')

    def dot(self, x: float, y: float, kind: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{kind}"/>')

    def render(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {self.height:.0f}" width="{_WIDTH}" '
            f'height="{self.height:.0f}" role="img">\n<title>{escape(self._name)}</title>\n<style>{_STYLE}</style>\n'
            f'<rect width="100%" height="100%" class="page"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


def _kind(row: Mapping[str, Any]) -> str:
    return "ours" if row["ours"] else "nftlb" if row["peer"].startswith("nftlb") else "other"


def _step(most: float) -> float:
    """A round distance of grid lines, of which about five fit."""
    step = 1.0
    while most / step > 6:
        step *= 2.5 if str(step)[0] == "2" else 2
    return step


def packets(tables: Sequence[Mapping[str, Any]]) -> str:
    """Bars: what each peer adds to a packet on a plain bridge."""
    drawing = _Drawing("Nanoseconds that each peer adds to a packet, over a plain bridge")
    left, right, y = 270.0, _WIDTH - 70.0, 30.0
    panels = []
    for part in tables:
        rows = []
        for row in part["rows"]:
            base = rounds_of(part["rows"], "none", row["scene"])
            if base and row["nanoseconds"] and row["peer"] != "none":
                rows.append((row, figures.added(row["nanoseconds"], base)))
        panels.append((part["title"], rows))
    most = max((value.upper for _title, rows in panels for _row, value in rows), default=1.0)
    scale = (right - left) / most
    step = _step(most)
    for title, rows in panels:
        drawing.text(20, y, f"{title}: nanoseconds added", "ink title")
        y += 12
        bottom = y + 22 * len(rows)
        for number in range(int(most / step) + 1):
            x = left + number * step * scale
            drawing.line(x, y, x, bottom)
            drawing.text(x, bottom + 14, f"{number * step:,.0f}", "faint", "middle")
        for row, value in rows:
            drawing.text(left - 8, y + 15, row["title"], "ink", "end")
            drawing.column(left, y + 4, value.median * scale, 14, _kind(row))
            for x in (value.lower, value.upper):
                drawing.line(left + x * scale, y + 7, left + x * scale, y + 15, "whisker")
            drawing.line(left + value.lower * scale, y + 11, left + value.upper * scale, y + 11, "whisker")
            drawing.text(left + max(value.median, value.upper) * scale + 6, y + 15, f"{value.median:,.0f}", "faint")
            y += 22
        y += 50
    drawing.height = y - 15
    return drawing.render()


def scaling(parts: Sequence[Mapping[str, Any]]) -> str:
    """Curves: what a packet takes, by the number of things."""
    drawing = _Drawing("Nanoseconds for a packet, by number of VIPs, backends and live flows")
    width, gap, top, bottom = 240.0, 40.0, 50.0, 290.0
    shown: dict[str, tuple[str, str, bool]] = {}
    values = [figures.spread(row["nanoseconds"]).median for part in parts for row in part["rows"] if row["nanoseconds"]]
    most = 1.1 * max(values, default=1.0)
    step = _step(most)
    for number, part in enumerate(parts):
        left = 50 + number * (width + gap)
        name = part["field"]
        numbers = list(dict.fromkeys(row["scene"][name] for row in part["rows"]))
        drawing.text(left, 28, f"by {part['what']}", "ink title")
        for tick in range(int(most / step) + 1):
            y = bottom - tick * step / most * (bottom - top)
            drawing.line(left, y, left + width, y)
            if number == 0:
                drawing.text(left - 6, y + 4, f"{tick * step:,.0f}", "faint", "end")
        places = {value: left + 30 + at * (width - 60) / max(1, len(numbers) - 1) for at, value in enumerate(numbers)}
        for value, x in places.items():
            drawing.text(x, bottom + 18, f"{value:,}", "faint", "middle")
        for key in dict.fromkeys(row["peer"] for row in part["rows"]):
            rows = [row for row in part["rows"] if row["peer"] == key and row["nanoseconds"]]
            points = [
                (
                    places[row["scene"][name]],
                    bottom - figures.spread(row["nanoseconds"]).median / most * (bottom - top),
                )
                for row in rows
            ]
            if points:
                kind = _kind(rows[0])
                dashed = rows[0]["tracks"] or key == "none"
                shown[key] = (rows[0]["title"], kind, dashed)
                drawing.curve(points, kind, dashed)
                for point in points:
                    drawing.dot(*point, kind)
    y = bottom + 48
    for at, (title, kind, dashed) in enumerate(shown.values()):
        x = 50 + at % 3 * (width + gap)
        drawing.curve([(x, y - 4), (x + 28, y - 4)], kind, dashed)
        drawing.text(x + 36, y, title)
        y += 22 if at % 3 == 2 else 0
    drawing.height = y + 30
    return drawing.render()

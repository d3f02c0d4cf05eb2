# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from . import figures
from .figures import Spread
from .throughput import SIZES

_STEPS = {
    "load": "load into an empty kernel",
    "again": "run again, nothing changes",
    "change one": "one backend of one VIP goes down, or up",
    "change all": "one backend of every VIP goes down, or up",
    "nft alone": "the boot's way: `nft -f` of the file that the module wrote",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, figures to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _number(value: Spread, digits: int = 0) -> str:
    low, middle, high = (f"{part:,.{digits}f}" for part in value)
    return f"{middle} [{low}–{high}]"


def _ratio(value: Optional[Spread]) -> str:
    return "" if value is None else f"{value.median:.2f} [{value.lower:.2f}–{value.upper:.2f}]"


def rounds_of(rows: Sequence[Mapping[str, Any]], key: str, scene: Mapping[str, Any]) -> Optional[list[float]]:
    """The rounds of one peer in the scene, None where it was not measured."""
    for row in rows:
        if row["peer"] == key and row["scene"] == scene and row["nanoseconds"]:
            found: list[float] = row["nanoseconds"]
            return found
    return None


def _title(row: Mapping[str, Any]) -> str:
    few = row["spreads"] and row["nanoseconds"] and row["used"] < row["scene"]["backends"]
    # One that drains gets nothing new, as it should be.
    if few and row["peer"] != "drain" and row["scene"]["flows"] >= 8 * row["scene"]["backends"]:
        return f"{row['title']} (**{row['used']} of {row['scene']['backends']} backends used**)"
    return str(row["title"])


def _packets(tables: Sequence[Mapping[str, Any]]) -> str:
    head = (
        *("", "ns for a packet", "packets/s", "ns added to a bridge"),
        *("speed beside constant", "beside nftlb hash", "beside nftlb persistence"),
    )
    text = "## The cost of a packet\n\n![Nanoseconds added to a packet](packets.svg)\n"
    for part in tables:
        lines = []
        for row in part["rows"]:
            if row["unavailable"]:
                lines.append([_title(row), f"not measured: {row['unavailable']}", *[""] * 5])
                continue
            mine = row["nanoseconds"]
            base = {
                key: rounds_of(part["rows"], key, row["scene"])
                for key in ("none", "constant", "nftlb-hash", "nftlb-persistence")
            }
            lines.append(
                [
                    _title(row),
                    _number(figures.spread(mine)),
                    f"{1e9 / figures.spread(mine).median:,.0f}",
                    _number(figures.added(mine, base["none"])) if base["none"] else "",
                    *(_ratio(figures.speed(mine, base[key])) for key in base if key != "none"),
                ]
            )
        scene = part["rows"][0]["scene"]
        text += (
            f"\n### {part['title']}\n\n{scene['vips']:,} VIP, {scene['backends']} backends, {scene['flows']:,} flows, "
            f"frames of {scene['length']} bytes.\n\n{table(head, lines)}"
        )
    return text


def _scaled(part: Mapping[str, Any]) -> str:
    name, rows = part["field"], part["rows"]
    values = list(dict.fromkeys(row["scene"][name] for row in rows))
    lines = []
    for key in dict.fromkeys(row["peer"] for row in rows):
        mine = {row["scene"][name]: row for row in rows if row["peer"] == key}
        first = mine[values[0]]["nanoseconds"]
        cells = [mine[values[0]]["title"]]
        notes = []
        for value in values:
            row = mine[value]
            if row["unavailable"]:
                cells.append(row["unavailable"])
                continue
            if _title(row) != row["title"]:
                notes.append(f"{value:,}: {row['used']} used")
            cells.append(_number(figures.spread(row["nanoseconds"])))
        if notes:
            cells[0] += f" (**{'; '.join(notes)}**)"
        last = mine[values[-1]]["nanoseconds"]
        if first and last:
            change = figures.spread([after / before - 1 for before, after in zip(first, last)])
            cells.append(f"{change.median:+.1%} [{change.lower:+.1%}–{change.upper:+.1%}]")
        else:
            cells.append("")
        lines.append(cells)
    head = ["ns for a packet", *(f"{value:,} {part['what']}" for value in values), "from the first to the last"]
    fixed = rows[0]["scene"]
    also = [
        f"{fixed[other]:,} {word}"
        for other, word in (("vips", "VIP"), ("backends", "backends"), ("flows", "flows"))
        if other != name
    ]
    return f"\n### By number of {part['what']}\n\n{', '.join(also)}, TCP.\n\n{table(head, lines)}"


def _throughput(rows: Sequence[Mapping[str, Any]]) -> str:
    sizes = [size for size in SIZES if any(size in row["rates"] for row in rows)]
    lines = []
    for row in rows:
        if row["unavailable"]:
            lines.append([row["title"], f"not measured: {row['unavailable']}", *[""] * (len(sizes) - 1)])
            continue
        lines.append(
            [row["title"], *(_number(figures.spread([rate / 1e9 for rate in row["rates"][size]]), 2) for size in sizes)]
        )
    return (
        "\n## Bulk TCP\n\nTwo connections that send as fast as they can, by the size of the packets that pass the load "
        f"balancer. Sender and receiver share the machine with it.\n\n"
        f"{table(['Gbit/s', *(f'packets of {size}' for size in sizes)], lines)}"
    )


def _memory(kibibytes: int) -> str:
    return f"{kibibytes / 1024:,.0f} MiB" if kibibytes else ""


def _loading(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("", "VIPs", "seconds", "of these in nft", "peak of nft", "peak of the module's Python, or nftlb")
    lines = []
    for row in rows:
        what = f"{row['peer']}: {_STEPS[row['step']]}"
        if not row["wall"]:
            if row["note"]:
                lines.append([what, f"{row['vips']:,}", f"**{row['note']}**", "", "", ""])
            continue
        lines.append(
            [
                what,
                f"{row['vips']:,}",
                _number(figures.spread(row["wall"]), 2),
                f"{figures.spread(row['nft']).median:.2f}" if any(row["nft"]) else "",
                _memory(row["nft_memory"]),
                _memory(row["own_memory"]),
            ]
        )
    return (
        "\n## Loading and changing\n\n8 backends for each VIP, no two VIPs of ours with the same ones (nftlb's have "
        "all the same, as it finds no more than about 50 neighbours). Ours is the whole module with its Python, given "
        f"all VIPs each time; nftlb's change is one request to its running daemon.\n\n{table(head, lines)}"
    )


def render(results: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        "# Benchmark\n\nWritten by the benchmark itself; [README.md](README.md) says how it measures and how to read "
        "it. Medians over rounds, quartiles in brackets.\n\n"
    ]
    parts.append(table(("", ""), [[key, value] for key, value in results["machine"].items()]).replace("---:", "---"))
    if results.get("packets"):
        parts.append("\n" + _packets(results["packets"]))
    scaled = [results[name] for name in ("vips", "backends", "flows") if results.get(name)]
    if scaled:
        parts.append("\n## What it grows with\n\n![Nanoseconds for a packet](scaling.svg)\n")
        parts += [_scaled(part) for part in scaled]
    if results.get("throughput"):
        parts.append(_throughput(results["throughput"]))
    if results.get("loading"):
        parts.append(_loading(results["loading"]))
    return "".join(parts)

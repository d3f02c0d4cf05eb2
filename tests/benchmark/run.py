# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark from the command line; `make bench` runs it. See docs/benchmarks/README.md.

Without arguments it measures everything and writes docs/benchmarks. With --only, --quick or other amounts what it
writes goes to .cache/bench, unless --output says where. With any argument of the last group it compares peers in one
scene, prints a table and writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

# Run as a script, this file's own folder comes first; what it belongs to is found from the folder above.
_HERE = Path(__file__).resolve().parent
sys.path[0] = str(_HERE.parent)
REPOSITORY = _HERE.parents[1]
sys.path.insert(1, str(REPOSITORY / ".cache" / "collections"))

from lab import LabError  # noqa: E402
from lab.machines import check_machine  # noqa: E402
from lab.modules import ModuleRunner  # noqa: E402

from benchmark import figures, loading, machine, packets, peers, plot, report, throughput  # noqa: E402
from benchmark.site import Scene  # noqa: E402
from benchmark.tools import Tools  # noqa: E402
from benchmark.wire import Wire  # noqa: E402

GROUPS = ("packets", "vips", "backends", "flows", "throughput", "loading")
_STREAMED = ("none", "tc-bpf", "constant", "nftlb-hash", "nftlb-persistence", "connection-hash", "round-robin")
_BESIDE = ("constant", "nftlb-hash", "nftlb-persistence")
# The arguments that make a scene other than the usual one.
_SCENE = ("protocol", "family", "opening", "vips", "backends", "flows", "length")
# How often each size is loaded: what takes long differs less.
_REPEATED = {1: 5, 100: 3, 1000: 2}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="GROUP,...", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="tiny amounts: does it work at all?")
    parser.add_argument("--rounds", type=int, help="of packets (default: 100)")
    parser.add_argument("--slice", type=float, metavar="MS", help="of one peer in one round (default: 8)")
    parser.add_argument("--nftlb-limit", type=float, default=20.0, metavar="S", help="for nftlb to load (default: 20)")
    parser.add_argument("--output", type=Path, metavar="FOLDER")
    compare = parser.add_argument_group("comparing in one scene")
    compare.add_argument(
        "--peers", metavar="KEY,...", help="these alone: " + ", ".join(p.key for p in peers.all_peers())
    )
    compare.add_argument("--ruleset", type=Path, action="append", default=[], metavar="FILE", help="a peer from a file")
    compare.add_argument("--dump", type=Path, metavar="FOLDER", help="write each peer's rules there")
    compare.add_argument("--protocol", choices=("tcp", "udp"))
    compare.add_argument("--family", type=int, choices=(4, 6))
    compare.add_argument("--opening", action="store_true", help="measure the packets that begin flows")
    compare.add_argument("--vips", type=int)
    compare.add_argument("--backends", type=int)
    compare.add_argument("--flows", type=int)
    compare.add_argument("--length", type=int, metavar="BYTES", help="of a frame")
    return parser


def _plan(arguments: argparse.Namespace) -> packets.Plan:
    plan = packets.Plan()
    if arguments.quick:
        plan = packets.Plan(4, 0.002, (1, 10), (2, 16), (1, 1000), few=True)
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    if arguments.slice:
        plan = replace(plan, seconds=arguments.slice / 1000)
    return plan


def _compare(arguments: argparse.Namespace, tools: Tools, runner: ModuleRunner) -> None:
    plan = _plan(arguments)
    given = {name: getattr(arguments, name) for name in _SCENE if getattr(arguments, name)}
    scene = Scene(**given)
    if scene.family == 6:
        scene = replace(scene, length=max(scene.length, 74))
    known = peers.all_peers()
    chosen = peers.by_key(known, arguments.peers.split(",")) if arguments.peers else known
    chosen += [peers.Ruleset(path) for path in arguments.ruleset]

    def keep(row: packets.Row) -> None:
        if arguments.dump and row.name:
            arguments.dump.mkdir(parents=True, exist_ok=True)
            (arguments.dump / f"{row.peer.key}.nft").write_text(row.peer.listing(wire, row.name), encoding="utf-8")

    with Wire(tools, runner) as wire:
        entries = [(peer, scene) for peer in chosen]
        rows = [row.data() for row in packets.measure(wire, entries, plan.rounds, plan.seconds, print, keep)]
    print(f"{'':38} {'ns':>6} {'quartiles':>13} {'kpps':>6}  {'added':>18}  speed beside", *_BESIDE)
    for row in rows:
        mine = row["nanoseconds"]
        if not mine:
            continue
        low, middle, high = figures.spread(mine)
        text = f"{row['title']:38} {middle:6.0f} {f'[{low:.0f}-{high:.0f}]':>13} {1e6 / middle:6.1f}  "
        base = report.rounds_of(rows, "none", row["scene"])
        if base:
            low, middle, high = figures.added(mine, base)
            text += f"{f'{middle:+.0f} [{low:.0f}-{high:.0f}]':>18}"
        for key in _BESIDE:
            ratio = figures.speed(mine, report.rounds_of(rows, key, row["scene"]))
            if ratio:
                text += f"  {ratio.median:.3f} [{ratio.lower:.3f}-{ratio.upper:.3f}]"
        print(text + (f"  {row['used']} backends" if row["spreads"] else ""))


def _measure(arguments: argparse.Namespace, tools: Tools, runner: ModuleRunner, only: Sequence[str]) -> dict[str, Any]:
    plan = _plan(arguments)
    known = peers.all_peers()
    words = sys.argv[1:]
    results: dict[str, Any] = {
        "machine": machine.describe("make bench" + (f' ARGS="{shlex.join(words)}"' if words else ""))
    }
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s {text}", flush=True)

    for name in only:
        say(name)
        if name == "packets":
            results[name] = packets.group_packets(tools, runner, known, plan, say)
        elif name == "throughput":
            with throughput.Streams(tools, runner) as site:
                streamed = peers.by_key(known, packets.FEW if arguments.quick else _STREAMED)
                rounds, seconds = (2, 0.05) if arguments.quick else (20, 0.15)
                results[name] = throughput.group(site, streamed, rounds, seconds, say)
        elif name == "loading":
            repeated = {1: 1} if arguments.quick else _REPEATED
            results[name] = loading.group(runner, tools, repeated, arguments.nftlb_limit, say)
        else:
            results[name] = packets.group_scaled(tools, runner, known, plan, name, say)
    results["machine"]["Took"] = f"{time.monotonic() - begun:.0f} s"
    return results


def _write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(report.render(results), encoding="utf-8")
    if results.get("packets"):
        (folder / "packets.svg").write_text(plot.packets(results["packets"]), encoding="utf-8")
    scaled = [results[name] for name in ("vips", "backends", "flows") if results.get(name)]
    if scaled:
        (folder / "scaling.svg").write_text(plot.scaling(scaled), encoding="utf-8")
    raw = REPOSITORY / ".cache" / "bench"
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "results.json").write_text(json.dumps(results), encoding="utf-8")
    print(f"Written: {folder / 'results.md'}")


def _ended(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Optional[Sequence[str]] = None) -> int:
    arguments = _parser().parse_args(argv)
    only = arguments.only.split(",") if arguments.only else list(GROUPS)
    unknown = [name for name in only if name not in GROUPS]
    if unknown:
        print(f"benchmark: there is no group {', '.join(unknown)}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    comparing = any(getattr(arguments, name) for name in ("peers", "ruleset", "dump", *_SCENE))
    if comparing and arguments.only:
        print("benchmark: --only chooses among tables, and comparing peers in one scene writes none", file=sys.stderr)
        return 2
    whole = not (arguments.only or arguments.quick or arguments.rounds or arguments.slice)
    output = arguments.output or REPOSITORY / ("docs/benchmarks" if whole else ".cache/bench")
    # Ended from outside it cleans up too; also where a shell started it in the background, deaf to SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ended)
    try:
        check_machine()
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsr-bench-"))).resolve()
            (folder / "python").mkdir()
            runner = ModuleRunner(folder / "python")
            runner.shown.append(folder)
            tools = Tools(folder / "tools")
            if comparing:
                _compare(arguments, tools, runner)
            else:
                _write(_measure(arguments, tools, runner, only), output)
    except LabError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

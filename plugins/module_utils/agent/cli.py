# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command nft-dsr: what a load balancer does, for the person who is logged in on it.

It says what the modules say, and changes what they change by the same calls. All that knows of terminals is here.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Callable, Optional

from ..common.errors import ConfigError, DsrError, HostError
from ..nft_dsr.engine import LoadBalancer
from ..nft_dsr.health_check import HealthCheck
from ..nft_dsr.live import LiveFile
from ..nft_dsr.model import Backend, Vip, find_backends
from ..nft_dsr.resolved import ResolvedVip
from ..nft_dsr.state import StateFiles
from . import agent, exporter, status_view
from .checking import Probe
from .output import say
from .probe_base import Outcome, Target
from .probes import probe
from .status_view import BAD, DIM, GOOD, HEAD, WARN, Look, Paint, unpainted

_WELL, _FAILED, _ERROR, _INTERRUPTED = 0, 1, 2, 130
_AT_ONCE = 64  # health checks
_CAP_NET_ADMIN = 12
_EVERY = 2.0  # seconds between two looks of --watch
_NARROWEST = 40
_COLOURS = {GOOD: "32", WARN: "33", BAD: "31", DIM: "2", HEAD: "1"}
_CLEAR, _HOME, _END_OF_LINE, _BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


@dataclass(frozen=True)
class Box:
    """The host on which the command runs, and its clock."""

    load_balancer: LoadBalancer = field(default_factory=LoadBalancer)
    files: StateFiles = field(default_factory=StateFiles)
    live_file: LiveFile = field(default_factory=LiveFile)
    asking: Probe = probe
    serve: Callable[[Callable[[str], None], Optional[exporter.Place]], int] = agent.main
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


def main(argv: Optional[Sequence[str]] = None, box: Optional[Box] = None) -> int:
    """Carry out one command; its exit status."""
    options = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a server said may be of any alphabet
    try:
        if os.geteuid() != 0 and not (options.command == "run" and _may_change_rules()):
            raise HostError("only root can read and change the kernel's rules; run it with sudo")
        status: int = options.carry_out(box or Box(), options)
        sys.stdout.flush()
        return status
    except DsrError as error:
        _complain(str(error))
        return _ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read this has seen enough
        _forget_output()
        return _INTERRUPTED
    except OSError as error:  # such as a disk that is full, of whoever keeps what is said
        _forget_output()
        _complain(str(error))
        return _ERROR


def _may_change_rules() -> bool:
    """The service runs as a user of its own, who may do what it is for and nothing else."""
    with suppress(OSError, ValueError), open("/proc/self/status", encoding="utf-8") as status:
        found = [line.split()[1] for line in status if line.startswith("CapEff:")]
        return bool(found) and bool(int(found[0], 16) >> _CAP_NET_ADMIN & 1)
    return False


def _forget_output() -> None:
    """The interpreter is not to stumble over the rest of it when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nft-dsr", description="A Layer 2 DSR load balancer: its virtual IPs (VIPs), their backends, its agent."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, carry_out: Callable[[Box, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.set_defaults(carry_out=carry_out)
        return made

    run = command("run", _run, "run the agent in the foreground, as its service does")
    run.add_argument(
        "--metrics",
        metavar="ADDRESS:PORT",
        default="",
        help="serve metrics for Prometheus there, such as 127.0.0.1:9817; left out, there are none",
    )

    status = command("status", _status, "VIPs and backends: state, weight, flows and packets")
    status.add_argument("vip", metavar="VIP", nargs="?", help="name of a VIP; left out, all of them")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="all data, for programs")
    how.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=_EVERY,
        help=f"look again every SECONDS ({_EVERY:g}), with packets per second, until Ctrl-C",
    )

    for name, carry_out, text in (
        ("drain", _drain, "let a backend keep its flows and give it no new ones"),
        ("restore", _restore, "end a drain: the backend gets new flows again"),
    ):
        made = command(name, carry_out, text)
        made.add_argument("backend", metavar="BACKEND", help="address or name")
        made.add_argument("--vip", metavar="VIP", help="on this VIP only; left out, on every VIP that has it")

    check = command("check", _check, "carry out each health check once, now; exit status 1 if one fails")
    check.add_argument("vip", metavar="VIP", nargs="?", help="name of a VIP; left out, all of them")
    check.add_argument("backend", metavar="BACKEND", nargs="?", help="address or name; left out, all of the VIP")

    command("verify", _verify, "compare the kernel with what is configured; exit status 1 if it differs")
    return parser


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds (0.1 to 3600); a VIP goes before it")
    return number


# -- the terminal


def _complain(text: str) -> None:
    say(f"nft-dsr: {text}", to=sys.stderr)


def _paint() -> Paint:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return unpainted
    return lambda text, role: f"\x1b[{_COLOURS[role]}m{text}\x1b[0m" if role in _COLOURS else text


def _size() -> tuple[int, int]:
    found = shutil.get_terminal_size((80, 24))
    return max(_NARROWEST, found.columns), found.lines


# -- run


def _run(box: Box, options: argparse.Namespace) -> int:
    place = None
    try:
        place = exporter.parse_place(options.metrics)
    except ConfigError as error:  # no reason to leave backends unchecked
        _complain(f"{error}; there are no metrics")
    return box.serve(say, place)


# -- status, verify


def _look(box: Box, name: Optional[str]) -> Look:
    items = box.files.read_vips()
    _known(name, [item.vip for item in items])
    overrides = box.files.read_overrides()
    present, vips = box.load_balancer.info(name)
    return Look(
        vips=vips,
        present=present,
        agent=box.live_file.agent_runs(),
        by_operator=frozenset(
            (item.vip.name, str(override.backend))
            for item in items
            for override in overrides
            if override.applies_to(item.vip)
        ),
        by_configuration=frozenset((item.vip.name, str(address)) for item in items for address in item.vip.draining),
        at=box.clock(),
    )


def _known(name: Optional[str], vips: Sequence[Vip]) -> None:
    if name is not None and name not in {vip.name for vip in vips}:
        raise ConfigError("VIP", f"there is no {name!r}; there are: {_listed(vip.name for vip in vips)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _status(box: Box, options: argparse.Namespace) -> int:
    if options.watch is not None:
        with suppress(KeyboardInterrupt):
            _watch(box, options.vip, options.watch)
        return _WELL
    look = _look(box, options.vip)
    if options.json:
        say(json.dumps({"agent": look.agent, "present": look.present, "vips": look.vips}, indent=2))
        return _WELL
    for line in status_view.status_lines(look, None, False, _size()[0], _paint()):
        say(line)
    return _WELL


def _watch(box: Box, name: Optional[str], seconds: float) -> None:
    before = None
    paint = _paint()
    if sys.stdout.isatty():
        say(_CLEAR, end="")
    while True:
        look = _look(box, name)
        width, height = _size()
        heading = status_view.cut(f"every {seconds:g} s, {time.strftime('%H:%M:%S')}; Ctrl-C ends", width)
        _draw([heading, *status_view.status_lines(look, before, True, width, paint)], height)
        before = look
        box.wait(seconds)


def _draw(lines: Sequence[str], height: int) -> None:
    """Over what stood there before; what has no room is counted. To a file, one after the other."""
    if not sys.stdout.isatty():
        for line in [*lines, ""]:
            say(line)
        sys.stdout.flush()  # whoever reads it through a pipe reads along
    else:
        room = max(2, height - 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines; name a VIP to see it alone"]
        say(_HOME, end="")
        for line in lines:
            say(line + _END_OF_LINE)
        say(_BELOW, end="")
    sys.stdout.flush()


def _verify(box: Box, _options: argparse.Namespace) -> int:
    differences = _look(box, None).differences
    for text in differences or ["in sync: the kernel has what is configured"]:
        say(text)
    return _FAILED if differences else _WELL


# -- drain, restore


def _drain(box: Box, options: argparse.Namespace) -> int:
    return _override(box, options.backend, options.vip, False)


def _restore(box: Box, options: argparse.Namespace) -> int:
    return _override(box, options.backend, options.vip, True)


def _override(box: Box, wanted: str, only: Optional[str], restore: bool) -> int:
    before = {item.vip.name: item.vip for item in box.load_balancer.desired()}
    overridden = box.files.read_overrides()
    result, names = box.load_balancer.drain(wanted, only, restore, False)
    affected = [item for item in box.load_balancer.desired() if item.vip.name in names]
    # A VIP may have the backend by another name, or by none.
    addresses = set(find_backends([item.vip for item in affected], wanted.strip()).values())
    live = box.live_file.read()
    for item in sorted(affected, key=lambda item: item.vip.name):
        vip = item.vip
        for backend in vip.backends:
            if backend.address in addresses:
                drained_before = vip.name in before and backend.address in before[vip.name].draining
                say(f"{vip.name}: {backend.label} {_became(backend, drained_before, restore)}")
        if not live.applied_to(item).takers:
            _complain(f"{vip.name}: nobody gets new flows now (on_empty: {vip.on_empty})")
    if not names:
        say(f"{wanted} is a backend of no VIP (any more)")
    if not result.changed:
        say("nothing changed")
    elif box.files.read_overrides() == overridden:
        say("nothing changed but what differed in the kernel or in files, which was put right")
    return _WELL


def _became(backend: Backend, drained_before: bool, restore: bool) -> str:
    """What is now, of the backend as it is now."""
    if backend.down:
        return "is down by configuration" + ("" if restore else "; when it is up again it drains")
    if backend.draining:
        if restore:
            return "still drains, by configuration"
        return "drained before" if drained_before else "drains now: it keeps its flows and gets no new ones"
    return "is restored: it gets new flows again" if drained_before else "was not drained"


# -- check


def _check(box: Box, options: argparse.Namespace) -> int:
    items = box.load_balancer.desired()
    vips = [item.vip for item in items]
    _known(options.vip, vips)
    live = box.live_file.read()
    items = [live.applied_to(item) for item in items]
    chosen = list(_chosen(items, options.vip, options.backend))
    if any(item.vip.health_check is not None and item.vip.health_check.through_vip for item, _backends in chosen):
        _warn_of_differences(box, options.vip)
    return asyncio.run(_carry_out(box.asking, items, chosen))


def _chosen(
    items: Sequence[ResolvedVip], name: Optional[str], wanted: Optional[str]
) -> Iterator[tuple[ResolvedVip, list[Backend]]]:
    for item in sorted(items, key=lambda item: item.vip.name):
        vip = item.vip
        if name not in (None, vip.name):
            continue
        backends = sorted(vip.backends, key=lambda backend: int(backend.address))
        if wanted is not None:
            address = find_backends([vip], wanted).get(vip.name)
            if address is None:
                there = _listed(backend.label for backend in backends)
                raise ConfigError("BACKEND", f"{wanted!r} is not one of the VIP {vip.name!r}; there are: {there}")
            backends = [backend for backend in backends if backend.address == address]
        yield item, backends


def _warn_of_differences(box: Box, name: Optional[str]) -> None:
    """It is the kernel's rules that lead a check through a VIP; without them it comes to the backend's own address."""
    _present, rows = box.load_balancer.info(name)
    if not all(row["in_sync"] for row in rows):
        _complain(
            "the kernel differs from what is configured (nft-dsr verify says how), so that what is said of a way "
            "through the VIP may not be true"
        )


async def _carry_out(
    asking: Probe, items: Sequence[ResolvedVip], chosen: Sequence[tuple[ResolvedVip, Sequence[Backend]]]
) -> int:
    """Ask whom was chosen, many at once, and tell of them in their order."""
    limit = asyncio.Semaphore(_AT_ONCE)
    # Of all VIPs, as what a VIP's packets are marked with depends on the others.
    questions = agent.targets_of(items)
    tasks: dict[tuple[str, str], asyncio.Task[Outcome]] = {}
    wanted = {(item.vip.name, str(backend.address)) for item, backends in chosen for backend in backends}
    for (check, target), users in questions.items():
        mine = {(vip.name, str(backend.address)) for vip, backend in users} & wanted
        if mine:
            tasks.update(dict.fromkeys(mine, asyncio.ensure_future(_limited(limit, asking, check, target))))
    status = _WELL
    for item, backends in chosen:
        asked = item.vip.health_check
        if asked is None:
            say(f"{item.vip.name}: no health check is configured")
            continue
        say(f"{item.vip.name}: {status_view.question(asked)}")
        for backend in backends:
            task = tasks.get((item.vip.name, str(backend.address)))
            if task is None:
                status = status if backend.down else _FAILED
                why = "it is down by configuration" if backend.down else "no MAC known"
                say(f"  {backend.label}: not asked, {why}")
                continue
            outcome = await task
            status = status if outcome.ok else _FAILED
            said = status_view.answer(outcome.ok, outcome.cause, outcome.seconds, outcome.own)
            way = status_view.way(asked, item.macs.get(backend.address))
            say(f"  {backend.label}: {way}: {said}")
    return status


async def _limited(limit: asyncio.Semaphore, asking: Probe, check: HealthCheck, target: Target) -> Outcome:
    async with limit:
        try:
            return await asking(check, target)
        except Exception as error:  # a defect of the probe; the others are to be told of
            return Outcome(False, f"the check itself failed: {error!r}", 0.0, own=True)


if __name__ == "__main__":
    raise SystemExit(main())

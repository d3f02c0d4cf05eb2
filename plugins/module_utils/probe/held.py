# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of connections that were kept open while something else happened. Does no I/O."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from . import report
from .report import Attempt, Path
from .request import Request


class Outcome(enum.Enum):
    """How a connection that was opened ended."""

    HELD = "held"
    BROKEN = "broken"
    CLOSED = "closed"


@dataclass(frozen=True)
class Move:
    """From ``when`` on, answers came from another MAC."""

    source: str
    target: str
    when: float


class Answers:
    """The answers to one connection, as they come. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self.last: Optional[float] = None
        self.gap = 0.0
        self.gap_from = 0.0
        self.moves: list[Move] = []
        self._mac = ""

    @property
    def mac(self) -> str:
        """Who answered last."""
        return self._mac

    def heard(self, mac: str, when: float) -> None:
        self.silent_until(when)
        if self._mac and mac != self._mac:
            self.moves.append(Move(self._mac, mac, when))
        self._mac = mac
        self.last = when if self.last is None else max(self.last, when)

    def silent_until(self, when: float) -> None:
        """Nothing came up to ``when``."""
        if self.last is not None and when - self.last > self.gap:
            self.gap, self.gap_from = when - self.last, self.last


@dataclass(frozen=True)
class Held:
    """One connection. ``outcome`` is None if it was never opened; ``ended`` is when it broke or was closed.

    ``mac`` answered last. ``gap`` is the longest time between two answers, None if no answer was seen.
    """

    attempt: Attempt
    outcome: Optional[Outcome] = None
    cause: str = ""
    ended: Optional[float] = None
    mac: str = ""
    moves: tuple[Move, ...] = ()
    gap: Optional[float] = None
    gap_from: float = 0.0


@dataclass(frozen=True)
class Clock:
    """When all connections stood, by both clocks: events are timed by the one that nobody sets."""

    monotonic: float
    wall: float

    def text(self, when: float) -> str:
        """A time of the monotonic clock as people and logs write it."""
        moment = datetime.fromtimestamp(self.wall + when - self.monotonic, timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def figures(request: Request, path: Path, held: Sequence[Held], clock: Clock) -> dict[str, Any]:
    """The module's return values: those of any probe, and what became of the connections."""
    values = report.figures(request, path, [entry.attempt for entry in held])
    values["hold_began"] = clock.text(clock.monotonic)
    for outcome in Outcome:
        values[outcome.value] = _count(held, outcome)
    values["moved"] = sum(bool(entry.moves) for entry in held)
    longest = max((entry for entry in held if entry.gap is not None), key=lambda entry: entry.gap or 0.0, default=None)
    values["longest_gap_ms"] = longest and _milliseconds(longest.gap)
    values["longest_gap_at"] = longest and clock.text(longest.gap_from)
    breaks = [((entry.cause,), entry.ended) for entry in held if entry.outcome is Outcome.BROKEN]
    values["breaks"] = _events(("cause",), breaks, clock)
    moves = [((move.source, move.target), move.when) for entry in held for move in entry.moves]
    values["moves"] = _events(("from", "to"), moves, clock)
    known = {entry["mac"]: entry for entry in values["backends"]}
    for mac in sorted({mac for entry in held for mac in entry.attempt.macs} - set(known)):
        direct = report.is_backend(mac, request, path)
        known[mac] = {"mac": mac, "connections": 0, "direct": direct, "rtt_ms": None}
    values["backends"] = [{**known[mac], **_of_backend(mac, held)} for mac in sorted(known)]
    values["connections"] = [
        {
            **told,
            "outcome": entry.outcome and entry.outcome.value,
            "cause": entry.cause or None,
            "ended_at": None if entry.ended is None else clock.text(entry.ended),
            "longest_gap_ms": _milliseconds(entry.gap),
        }
        for told, entry in zip(values["connections"], held)
    ]
    return values


def _of_backend(mac: str, held: Sequence[Held]) -> dict[str, int]:
    """Outcomes count for the backend that answered last."""
    moves = [move for entry in held for move in entry.moves]
    return {
        **{outcome.value: _count([entry for entry in held if entry.mac == mac], outcome) for outcome in Outcome},
        "moved_away": sum(move.source == mac for move in moves),
        "moved_here": sum(move.target == mac for move in moves),
    }


def _count(held: Sequence[Held], outcome: Outcome) -> int:
    return sum(entry.outcome is outcome for entry in held)


def _milliseconds(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds * 1000, 3)


def _events(
    names: tuple[str, ...], events: Sequence[tuple[tuple[str, ...], Optional[float]]], clock: Clock
) -> list[dict[str, Any]]:
    """What happened, the most frequent first, and when first and last."""
    times: dict[tuple[str, ...], list[float]] = {}
    for what, when in events:
        times.setdefault(what, []).append(clock.monotonic if when is None else when)
    return [
        {
            **dict(zip(names, what)),
            "connections": len(at),
            "first_at": clock.text(min(at)),
            "last_at": clock.text(max(at)),
        }
        for what, at in sorted(times.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def problem(request: Request, path: Path, held: Sequence[Held]) -> str:
    """What contradicts the expectation, in one message; '' if nothing does."""
    attempts = [entry.attempt for entry in held]
    findings = [finding for finding in (report.problem(request, path, attempts),) if finding]
    opened = [entry for entry in held if entry.outcome]
    what = "connections" if request.protocol == "tcp" else "flows"
    of = f"of {len(opened)} {what} to {request.target} that were kept open"
    broken = [entry for entry in opened if entry.outcome is Outcome.BROKEN]
    if len(broken) > request.max_broken:
        causes = Counter(entry.cause for entry in broken)
        findings.append(f"{len(broken)} {of} broke, and max_broken is {request.max_broken}: {report.told(causes)}")
    moved = [entry for entry in opened if entry.moves]
    if len(moved) > request.max_moved:
        ways = Counter(f"from {entry.moves[0].source} to {entry.moves[0].target}" for entry in moved)
        findings.append(
            f"{len(moved)} {of} moved to another backend, and max_moved is {request.max_moved}: {report.told(ways)}"
        )
    closed = _count(opened, Outcome.CLOSED)
    if opened and closed == len(opened):
        findings.append(
            f"the service closed all {len(opened)} {what} to {request.target} before {request.hold:g} s were over, so"
            " nothing is proven; hold for a shorter time, or give a payload upon which it keeps them open"
        )
    return "; ".join(findings)

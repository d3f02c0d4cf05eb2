# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe found: figures from single connections, and what is wrong with them. Does no I/O."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any, Optional

from ..common.neighbours import question_of
from .request import Request

_CAUSES_SHOWN = 3
# How a backend comes to answer for a VIP, by IP version.
_EXPOSED = {4: "does not suppress ARP", 6: "holds the VIP on its NIC and not on lo"}


@dataclass(frozen=True)
class Attempt:
    """One connection, or one datagram and its answer.

    ``macs`` are the source MACs of the reply frames in the order of their first appearance.
    ``error`` is '' when the connection was answered.
    """

    source_port: int
    macs: tuple[str, ...]
    rtt_ms: Optional[float]
    error: str

    @property
    def answered(self) -> bool:
        return not self.error


@dataclass(frozen=True)
class Path:
    """How the probe's frames left: what the judgement of "direct" rests on.

    ``arp_macs`` answered ARP, or neighbour solicitations, for the next hop; ``sent_to`` is what the kernel has for
    it, which is where its sockets' packets went.
    """

    interface: str
    lb_mac: Optional[str]
    arp_macs: tuple[str, ...]
    gateway: Optional[str]
    sent_to: Optional[str]


def is_direct(attempt: Attempt, request: Request, path: Path) -> Optional[bool]:
    """Whether all replies came straight from a backend; None when that cannot be told."""
    if not attempt.answered or not attempt.macs:
        return None
    verdicts = [is_backend(mac, request, path) for mac in attempt.macs]
    return None if None in verdicts else all(verdicts)


def is_backend(mac: str, request: Request, path: Path) -> Optional[bool]:
    if request.through:
        return mac == request.through
    return None if path.lb_mac is None else mac != path.lb_mac


def _came_through(attempt: Attempt, path: Path) -> bool:
    return attempt.answered and path.lb_mac is not None and path.lb_mac in attempt.macs


def figures(request: Request, path: Path, attempts: list[Attempt]) -> dict[str, Any]:
    """The module's return values."""
    answered = [attempt for attempt in attempts if attempt.answered]
    groups: dict[str, list[Attempt]] = {}
    for attempt in answered:
        if attempt.macs:
            groups.setdefault(attempt.macs[0], []).append(attempt)
    causes = Counter(attempt.error for attempt in attempts if not attempt.answered)
    return {
        "address": str(request.address),
        "port": request.port,
        "protocol": request.protocol,
        "interface": path.interface,
        "lb_mac": path.lb_mac,
        "arp_macs": list(path.arp_macs),
        "answered": len(answered),
        "unanswered": len(attempts) - len(answered),
        "direct": sum(is_direct(attempt, request, path) is True for attempt in answered),
        "through_lb": sum(_came_through(attempt, path) for attempt in answered),
        "backends": [
            {
                "mac": mac,
                "connections": len(group),
                "direct": is_backend(mac, request, path),
                "rtt_ms": _spread([attempt.rtt_ms for attempt in group if attempt.rtt_ms is not None]),
            }
            for mac, group in sorted(groups.items())
        ],
        "failures": [{"cause": cause, "connections": count} for cause, count in _by_count(causes)],
        "connections": [
            {
                "source_port": attempt.source_port,
                "mac": attempt.macs[0] if attempt.macs else None,
                "macs": list(attempt.macs),
                "direct": is_direct(attempt, request, path),
                "rtt_ms": attempt.rtt_ms,
                "error": attempt.error or None,
            }
            for attempt in attempts
        ],
    }


def problem(request: Request, path: Path, attempts: list[Attempt]) -> str:
    """What contradicts the expectation of direct return, in one message; '' if nothing does."""
    answered = [attempt for attempt in attempts if attempt.answered]
    what = "connections" if request.protocol == "tcp" else "datagrams"
    next_hop = path.gateway or request.address
    question = question_of(request.address.version)
    findings: list[str] = []

    def of(count: int) -> str:
        return f"{count} of {len(attempts)} {what} to {request.target}"

    through = [attempt for attempt in answered if _came_through(attempt, path)]
    if through:
        findings.append(
            f"{of(len(through))} were answered through the load balancer (MAC {path.lb_mac}), not directly by a backend"
        )
        if path.gateway:
            findings.append(
                f"the route to {request.address} goes by {path.gateway}, which has that MAC; if it is a router and"
                " not the load balancer, probe from a host on the segment of the load balancer"
            )
    astray = [
        attempt
        for attempt in answered
        if request.through and is_direct(attempt, request, path) is False and attempt not in through
    ]
    if astray:
        others = sorted({mac for attempt in astray for mac in attempt.macs} - {request.through or ""})
        findings.append(
            f"{of(len(astray))} sent to {request.through} were answered by {', '.join(others)}: the host with that MAC"
            f" passes packets for {request.address} on, so it does not hold the VIP"
        )
    # (Of connections that are kept, that is for the report of what became of them.)
    mixed = [attempt for attempt in answered if len(attempt.macs) > 1 and not request.through and not request.hold]
    if mixed:
        findings.append(
            f"{of(len(mixed))} got replies from several MACs ({', '.join(mixed[0].macs)}): packets of one flow reach"
            " several hosts"
        )
    unseen = sum(not attempt.macs for attempt in answered)
    if unseen:
        findings.append(
            f"the reply frames of {of(unseen)} did not come in on {path.interface}; name the right interface"
        )
    if path.lb_mac is None and not path.arp_macs and not request.through:
        findings.append(
            f"the MAC of the load balancer is not known, since nobody answers {question} for {next_hop} on"
            f" {path.interface};"
            f" {'give lb_mac' if answered else 'is that address on its NIC?'}"
        )
    if len(path.arp_macs) > 1:
        findings.append(
            f"several hosts answer {question} for {next_hop} ({', '.join(path.arp_macs)}), so packets may not go to the"
            f" load balancer; one of them may be a backend that {_EXPOSED[request.address.version]}"
        )
    elif path.sent_to and path.arp_macs and path.sent_to not in path.arp_macs:
        findings.append(
            f"this host sent the packets to {path.sent_to}, by an old neighbour entry: now {path.arp_macs[0]} answers"
            f" {question} for {next_hop}; delete the entry (ip neighbour del {next_hop} dev {path.interface})"
        )
    missing = len(attempts) - len(answered)
    if missing:
        causes = Counter(attempt.error for attempt in attempts if not attempt.answered)
        count = f"none of {len(attempts)} {what} to {request.target} was" if not answered else f"{of(missing)} were not"
        findings.append(f"{count} answered: {told(causes)}")
    return "; ".join(findings)


def told(causes: Counter[str]) -> str:
    ordered = _by_count(causes)
    parts = [f"{count} {cause}" for cause, count in ordered[:_CAUSES_SHOWN]]
    rest = sum(count for _cause, count in ordered[_CAUSES_SHOWN:])
    return ", ".join([*parts, f"{rest} for other causes"] if rest else parts)


def _by_count(causes: Counter[str]) -> list[tuple[str, int]]:
    return sorted(causes.items(), key=lambda item: (-item[1], item[0]))


def _spread(values: list[float]) -> Optional[dict[str, float]]:
    if not values:
        return None
    return {"min": min(values), "median": round(statistics.median(values), 3), "max": max(values)}

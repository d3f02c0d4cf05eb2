# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load balancer does, in lines for a person. Pure: data in, lines out.

A line never is longer than it may be, so that a table stays one. Numbers are written out up to seven digits, with
separators, and beyond that with three digits and M, G, T.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Callable, Optional

from ..nft_dsr.health_check import HealthCheck
from .probe_base import printable

# What a part of a line is; the terminal has colours for them.
PLAIN, GOOD, WARN, BAD, DIM, HEAD = "plain", "good", "warn", "bad", "dim", "head"

Paint = Callable[[str, str], str]
Segments = Sequence[tuple[str, str]]
Keys = frozenset[tuple[str, str]]

ELLIPSIS = "…"
_SHOWN_DIFFERENCES = 8
_NAME_AT_LEAST = 8
_UNITS = ("M", "G", "T", "P", "E")
_ROLES = {
    "up": GOOD,
    "waiting": DIM,
    "draining": WARN,
    "down": DIM,
    "unhealthy": BAD,
    "no MAC": BAD,
}


def unpainted(text: str, _role: str) -> str:
    """For what is not a terminal."""
    return text


@dataclass(frozen=True)
class Look:
    """What there was to see at one time, in seconds of any clock.

    ``vips`` are those of LoadBalancer.info(). Who is drained, by an operator and by configuration, is given as names
    of VIPs and addresses.
    """

    vips: Sequence[Mapping[str, Any]]
    present: bool
    agent: bool
    by_operator: Keys = frozenset()
    by_configuration: Keys = frozenset()
    at: float = 0.0

    @property
    def differences(self) -> list[str]:
        """What of the kernel differs, each said once."""
        if not self.vips:
            return ["table netdev nft_dsr: not wanted, as no VIP is configured"] if self.present else []
        said = [_one_line(text) for vip in self.vips for text in vip["differences"]]
        return list(dict.fromkeys(said))


def state_of(vip: Mapping[str, Any], backend: Mapping[str, Any], look: Look) -> tuple[str, str]:
    """What a backend is in a word, and in a few why; that it is up needs no reason."""
    key = (vip["name"], backend["address"])
    drains = _why_draining(backend, key, look) if backend["state"] == "drain" else ""
    if backend["state"] == "down":
        return "down", "down by configuration" + ("; drained by an operator as well" if key in look.by_operator else "")
    if backend["mac"] is None:
        return "no MAC", _both("no MAC known: it did not answer ARP or neighbour discovery", drains)
    fails = _why_failing(backend)
    if backend["healthy"] is False:
        return "unhealthy", _both(fails, drains)
    # One that fails and is not unhealthy serves all the same: the VIP's floor has it so.
    ignored = fails if backend["cause"] is not None else ""
    if drains:
        return "draining", _both(drains, ignored)
    if backend["backup"]:
        if any(_gets_flows(other) for other in vip["backends"] if not other["backup"]):
            return "waiting", _both("backup, waits until nobody of the pool can serve", ignored)
        return "up", _both("backup, serves as nobody of the pool can", ignored)
    return "up", ignored


def _why_failing(backend: Mapping[str, Any]) -> str:
    """The cause is what a server said, or a command: of one line, but of any length."""
    if backend["cause"] is None:
        return "fails its health check"
    since = backend["since"].replace("T", " ").replace("Z", " UTC")
    return printable(f"fails since {since}: {backend['cause']}", 400)


def _why_draining(backend: Mapping[str, Any], key: tuple[str, str], look: Look) -> str:
    causes = []
    if key in look.by_configuration:
        causes.append("by configuration (weight 0)" if backend["weight"] == 0 else "by configuration")
    if key in look.by_operator:
        causes.append("by an operator")
    return f"drained {' and '.join(causes)}" if causes else "drained"


def _gets_flows(backend: Mapping[str, Any]) -> bool:
    return backend["state"] == "up" and backend["mac"] is not None and backend["healthy"] is not False


def _both(one: str, other: str) -> str:
    return "; ".join(filter(None, [one, other]))


# -- numbers


def number(count: int) -> str:
    """A number that is read at a glance."""
    if count < 10_000_000:
        return f"{count:,}"
    value = float(count)
    for unit in _UNITS:
        value /= 1_000_000 if unit == "M" else 1000
        for limit, digits in ((9.995, 2), (99.95, 1), (999.5, 0)):
            if value < limit:
                return f"{value:.{digits}f}{unit}"
    return f"{value:.0f}{_UNITS[-1]}"


def rate(before: Optional[int], after: int, seconds: float) -> Optional[float]:
    """How many a second; None where that is not known, as the counting began anew in between."""
    if before is None or after < before or seconds <= 0:
        return None
    return (after - before) / seconds


def _rate_text(value: Optional[float]) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 9.95 else number(round(value))


# -- lines


def cut(text: str, width: int) -> str:
    """A text that is too long loses its end."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}{ELLIPSIS}"[: max(0, width)]


def cut_middle(text: str, width: int) -> str:
    """An address that is too long loses its middle: the segment is told by its beginning, the host by its end."""
    if len(text) <= width or width < 3:
        return cut(text, width)
    tail = width // 2
    return f"{text[: width - 1 - tail]}{ELLIPSIS}{text[-tail:]}"


def _painted(segments: Segments, width: int, paint: Paint) -> str:
    """One line, cut as a whole. Colours take no room."""
    line = cut("".join(text for text, _role in segments), width)
    parts = []
    at = 0
    for text, role in segments:
        shown = line[at : at + len(text)]
        parts.append(paint(shown, role) if shown and role != PLAIN else shown)
        at += len(text)
    return "".join(parts)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def status_lines(look: Look, before: Optional[Look], rates: bool, width: int, paint: Paint = unpainted) -> list[str]:
    """The whole of it. With ``rates``, a column of packets a second since the look before, if there was one."""
    lines = [*_agent_lines(look, width, paint), *_kernel_lines(look, width, paint), ""]
    if not look.vips:
        return [*lines, "no VIP is configured"]
    seconds = look.at - before.at if before else 0.0
    earlier = {vip["name"]: vip for vip in before.vips} if before else {}
    groups = [_group(vip, earlier.get(vip["name"]), seconds, look) for vip in look.vips]
    table = _Table.of(groups, rates, width)
    lines.append(_painted(table.head(), width, paint))
    for group in groups:
        lines.append(_painted(table.vip(group), width, paint))
        lines += [paint(line, WARN) for line in _below(group.warning, width)]
        for row in group.rows:
            lines.append(_painted(table.backend(row), width, paint))
            lines += [paint(line, DIM) for line in _below(row.why, width)]
    return lines


def _below(text: str, width: int) -> list[str]:
    """Words that stand under a row, in the lines that they need."""
    return [cut(f"    {line}", width) for line in textwrap.wrap(text, max(20, width - 4), break_on_hyphens=False)]


def _told(head: str, role: str, text: str, width: int, paint: Paint) -> list[str]:
    """A heading, and words that take the lines that they need."""
    indent = " " * (len(head) + 2)
    wrapped = textwrap.wrap(text, max(20, width - len(indent)), break_on_hyphens=False) or [""]
    return [f"{head}  {paint(wrapped[0], role)}", *(f"{indent}{paint(line, role)}" for line in wrapped[1:])]


def _agent_lines(look: Look, width: int, paint: Paint) -> list[str]:
    if look.agent:
        return _told("agent ", GOOD, "runs", width, paint)
    checked = [vip["name"] for vip in look.vips if vip["health_check"] is not None]
    if not checked:
        return _told("agent ", DIM, "does not run; no health check is configured", width, paint)
    shown = ", ".join(checked[:4]) + (f" and {len(checked) - 4} more" if len(checked) > 4 else "")
    text = f"does not run: nobody checks the backends of {shown}; start nft-dsr-agent.service"
    return _told("agent ", BAD, text, width, paint)


def _kernel_lines(look: Look, width: int, paint: Paint) -> list[str]:
    found = look.differences
    if not found:
        return _told("kernel", GOOD, "in sync", width, paint)
    lines = _told("kernel", BAD, "differs from what is configured:", width, paint)
    for text in found[:_SHOWN_DIFFERENCES]:
        lines += _told("      ", PLAIN, text, width, paint)
    if len(found) > _SHOWN_DIFFERENCES:
        more = f"and {len(found) - _SHOWN_DIFFERENCES} more; nft-dsr verify has all"
        lines += _told("      ", PLAIN, more, width, paint)
    return lines


@dataclass(frozen=True)
class _Row:
    address: str
    name: str
    state: str
    why: str
    mac: str
    figures: Sequence[str]  # weight, flows, packets, rate


@dataclass(frozen=True)
class _Group:
    title: str
    about: str
    warning: str
    figures: Sequence[str]
    rows: Sequence[_Row]


def _group(vip: Mapping[str, Any], earlier: Optional[Mapping[str, Any]], seconds: float, look: Look) -> _Group:
    then = {row["address"]: row["packets"] for row in earlier["backends"]} if earlier else {}
    rows = []
    for backend in sorted(vip["backends"], key=lambda row: _order(row["address"])):
        state, why = state_of(vip, backend, look)
        rows.append(
            _Row(
                backend["address"],
                backend["name"],
                state,
                why,
                backend["mac"] or "-",
                (
                    f"{backend['weight']:,}",
                    number(backend["flows"]),
                    number(backend["packets"]),
                    _rate_text(rate(then.get(backend["address"]), backend["packets"], seconds)),
                ),
            )
        )
    ports = ",".join(vip["ports"] or ()) or ("" if vip["protocol"] == "any" else "all ports")
    figures = (
        "",
        number(sum(backend["flows"] for backend in vip["backends"])),
        number(vip["packets"]),
        _rate_text(rate(earlier["packets"] if earlier else None, vip["packets"], seconds)),
    )
    about = " ".join(filter(None, [vip["address"], vip["protocol"], ports, vip["scheduler"]]))
    warning = ""
    if vip["health_ignored"]:
        least = vip["health_check"]["min_healthy"]
        warning = f"health is ignored and all serve, as less than {least:.0%} of the pool is healthy"
    return _Group(vip["name"], about, warning, figures, rows)


def _order(address: str) -> tuple[int, int]:
    parsed = ip_address(address)
    return parsed.version, int(parsed)


_FIGURES = ("WEIGHT", "FLOWS", "PACKETS", "PKT/S")


@dataclass(frozen=True)
class _Table:
    """How wide its columns are."""

    gap: str
    address: int
    name: int
    state: int
    mac: int
    figures: Sequence[int]

    @classmethod
    def of(cls, groups: Sequence[_Group], rates: bool, width: int) -> _Table:
        rows = [row for group in groups for row in group.rows]
        columns = range(len(_FIGURES) if rates else len(_FIGURES) - 1)
        numbers = [_FIGURES, *(row.figures for row in rows), *(group.figures for group in groups)]
        figures = [max(len(line[at]) for line in numbers) for at in columns]
        state = max(len("STATE"), *(len(row.state) for row in rows))
        mac = max(len("MAC"), *(len(row.mac) for row in rows))
        address = max(len("BACKEND"), *(len(row.address) for row in rows))
        name = max(len(row.name) for row in rows)
        for gap in (2, 1):
            rest = 2 + state + mac + sum(figures) + gap * (2 + len(figures))
            if rest + address + (name + 1 if name else 0) <= width:
                break
        else:
            room = width - rest
            if name:
                name = max(min(name, _NAME_AT_LEAST), room - address - 1)
                room -= name + 1
            address = max(_NAME_AT_LEAST, min(address, room))
        return cls(" " * gap, address, name, state, mac, figures)

    @property
    def _label(self) -> int:
        return self.address + (self.name + 1 if self.name else 0)

    def _numbers(self, texts: Sequence[str]) -> str:
        return "".join(f"{self.gap}{text:>{width}}" for text, width in zip(texts, self.figures))

    def head(self) -> Segments:
        left = f"  {'BACKEND':<{self._label}}{self.gap}{'STATE':<{self.state}}{self.gap}{'MAC':<{self.mac}}"
        return [(left + self._numbers(_FIGURES), DIM)]

    def vip(self, group: _Group) -> Segments:
        """The VIP's text goes over the columns that only backends have, up to where its numbers begin."""
        room = 2 + self._label + self.state + self.mac + len(self.gap) * 3 + self.figures[0]
        about = cut(f"{group.title}  {group.about}", room)
        return [
            (about[: len(group.title)], HEAD),
            (f"{about[len(group.title) :]:<{room - len(about[: len(group.title)])}}", PLAIN),
            ("".join(f"{self.gap}{text:>{width}}" for text, width in zip(group.figures[1:], self.figures[1:])), PLAIN),
        ]

    def backend(self, row: _Row) -> Segments:
        label = f"{cut_middle(row.address, self.address):<{self.address}}"
        if self.name:
            label += f" {cut(row.name, self.name):<{self.name}}"
        return [
            (f"  {label}{self.gap}", PLAIN),
            (row.state, _ROLES[row.state]),
            (" " * (self.state - len(row.state)), PLAIN),
            (f"{self.gap}{row.mac:<{self.mac}}{self._numbers(row.figures)}", PLAIN),
        ]


# -- health checks


def question(check: HealthCheck) -> str:
    """What a health check asks, and what it wants to hear."""
    port = f" on port {check.port}" if check.port else ""
    if check.type == "tcp":
        asked = [f"tcp: a connection{port}", f"which is to begin with {check.expect!r}" if check.expect else ""]
    elif check.type in ("http", "https"):
        asked = [
            f"{check.type}: GET {check.path}{port}",
            f"of the host {check.host}" if check.host else "",
            f"by the TLS name {check.sni}" if check.sni else "",
            "with a certificate that holds" if check.verify_tls else "",
            f"status {check.status_text}",
            f"a body that matches /{check.body}/" if check.body else "",
        ]
    elif check.type == "dns":
        asked = [f"dns: {check.query}{port}", f"which is to be {check.expect}" if check.expect else ""]
    elif check.type == "icmp":
        asked = ["icmp: a ping"]
    else:
        asked = [f"exec: {shlex.join(check.command)}"]
    return printable(", ".join(filter(None, [*asked, f"within {check.timeout:g} s"])), 400)


def way(check: HealthCheck, mac: Optional[str]) -> str:
    """How a check gets to a backend."""
    if check.type == "exec":
        return "by the command"
    if check.through_vip:
        return f"through the VIP {check.vip} by {mac}"
    return "at its own address"


def answer(ok: bool, cause: str, seconds: float, own: bool) -> str:
    """What came of it, and how long that took."""
    took = f"{seconds * 1000:,.1f} ms"
    if ok:
        return f"ok, {took}"
    return f"could not be asked, {took}: {cause}" if own else f"FAILED, {took}: {cause}"

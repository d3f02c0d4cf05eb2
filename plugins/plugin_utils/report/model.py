# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of `report` is about: VIPs and backends over all load balancers, and what one should look at. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.agent.status_view import Look, state_of

Vip = Mapping[str, Any]

# How bad something is; the page has a colour and a shape for each, and always says it in words as well.
GOOD, IDLE, WARN, BAD = "good", "idle", "warn", "bad"
SEVERITY = (GOOD, IDLE, WARN, BAD)

# What a state of a backend is, in the words of `nft-dsr status`
_STATES = {"up": GOOD, "waiting": IDLE, "down": IDLE, "draining": WARN, "no MAC": BAD, "unhealthy": BAD}
# Packets of a VIP with one of these are nobody's flow unless somebody drains.
_STATELESS = ("source_hash", "connection_hash")
_COMPARED = ("address", "protocol", "ports", "scheduler")


@dataclass(frozen=True)
class Answer:
    """What a host was asked and returned. Without ``data``, ``problem`` says why there is none."""

    host: str
    data: Optional[Mapping[str, Any]] = None
    problem: str = ""
    asked: bool = True


@dataclass(frozen=True)
class Probed:
    """What a client has found at a VIP."""

    client: str
    vip: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Gathered:
    """All that a run has brought together, by the hosts of the inventory.

    ``wanted`` are the VIPs of dsr_vips with their pools, None where these are not known; ``kept`` the load balancers
    that may have VIPs which are not in dsr_vips; ``due`` the VIPs that each backend is to hold. ``untested`` says
    why no client has tried anything.
    """

    at: str
    balancers: Sequence[Answer]
    neighbours: Sequence[Answer] = ()
    backends: Sequence[Answer] = ()
    clients: Sequence[Answer] = ()
    probes: Sequence[Probed] = ()
    wanted: Optional[Sequence[Vip]] = None
    wanted_problem: str = ""
    kept: Sequence[str] = ()
    due: Mapping[str, Sequence[str]] = field(default_factory=dict)
    macs: Mapping[str, str] = field(default_factory=dict)  # the load balancers' own, with their names
    untested: str = ""


@dataclass(frozen=True)
class Member:
    """A backend of a VIP, as all load balancers together have it. Of shares, None is what cannot be told."""

    address: str
    name: str
    macs: tuple[str, ...]
    weight: int
    word: str
    role: str
    why: tuple[str, ...]
    cause: str
    since: str
    flows: int
    packets: int
    bytes: int
    share: Optional[float] = None
    due: Optional[float] = None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.address})" if self.name else self.address


@dataclass(frozen=True)
class Sight:
    """A VIP as one load balancer has it."""

    balancer: str
    in_sync: bool
    differences: tuple[str, ...]
    unlike: tuple[str, ...]  # in what it is not as dsr_vips, or as another load balancer has it
    serving: int
    size: int
    flows: int
    packets: int
    bytes: int


@dataclass(frozen=True)
class Path:
    """Whether replies come straight from the backends."""

    word: str
    role: str
    text: str


@dataclass(frozen=True)
class Service:
    """A VIP. ``number`` is its place on the page."""

    number: int
    name: str
    address: str
    protocol: str
    ports: str
    scheduler: str
    word: str
    role: str
    check: str
    on_empty: str
    measure: str
    members: tuple[Member, ...]
    sights: tuple[Sight, ...]
    absent: tuple[str, ...]  # the load balancers that answered and do not have it
    path: Path

    @property
    def serving(self) -> int:
        return sum(member.word == "up" for member in self.members)

    @property
    def flows(self) -> int:
        return sum(sight.flows for sight in self.sights)

    @property
    def packets(self) -> int:
        return sum(sight.packets for sight in self.sights)

    @property
    def bytes(self) -> int:
        return sum(sight.bytes for sight in self.sights)

    @property
    def in_sync(self) -> bool:
        return all(sight.in_sync for sight in self.sights)


@dataclass(frozen=True)
class Station:
    """A host of the inventory and what became of asking it."""

    name: str
    word: str
    role: str
    text: str


@dataclass(frozen=True)
class Site:
    """Everything there is to show, but for what of it is news."""

    gathered: Gathered
    services: tuple[Service, ...]
    balancers: tuple[Station, ...]
    backends: tuple[Station, ...]
    clients: tuple[Station, ...]
    owners: Mapping[str, str] = field(default_factory=dict)  # of MAC addresses, as far as they are known

    @property
    def fleet(self) -> list[Member]:
        """Each backend once, in the worst of its states."""
        worst: dict[str, Member] = {}
        for service in self.services:
            for member in service.members:
                known = worst.get(member.address)
                if known is None or SEVERITY.index(member.role) > SEVERITY.index(known.role):
                    worst[member.address] = member
        return list(worst.values())


def site_of(gathered: Gathered) -> Site:
    """From what hosts returned to what is shown."""
    seen: dict[str, dict[str, Vip]] = {}  # by VIP and load balancer
    for answer in gathered.balancers:
        for vip in (answer.data or {}).get("vips", ()):
            seen.setdefault(str(vip["name"]), {})[answer.host] = vip
    answered = [answer.host for answer in gathered.balancers if answer.data is not None]
    wanted = {str(vip["name"]): vip for vip in gathered.wanted or ()}
    order = {name: place for place, name in enumerate(wanted)}
    names = sorted(seen, key=lambda name: order.get(name, len(order)))
    owners = {
        str(backend["mac"]): str(backend.get("name") or backend["address"])
        for views in seen.values()
        for vip in views.values()
        for backend in vip["backends"]
        if backend.get("mac")
    }
    probes: dict[str, list[Probed]] = {}
    for probe in gathered.probes:
        probes.setdefault(probe.vip, []).append(probe)
    services = tuple(
        _service(
            number,
            name,
            seen[name],
            wanted.get(name),
            [host for host in answered if host not in seen[name]],
            _path(seen[name], probes.get(name, ()), gathered, owners),
        )
        for number, name in enumerate(names, 1)
    )
    return Site(
        gathered,
        services,
        tuple(_balancer(answer) for answer in gathered.balancers),
        tuple(_backend_host(answer, gathered.due.get(answer.host, ())) for answer in gathered.backends),
        tuple(_client(answer, gathered) for answer in gathered.clients),
        owners,
    )


# -- hosts


def _unanswered(answer: Answer) -> Station:
    if not answer.asked:
        return Station(answer.host, "not asked", IDLE, "outside the limit of this run")
    return Station(answer.host, "no answer", BAD, answer.problem)


def _balancer(answer: Answer) -> Station:
    if answer.data is None:
        return _unanswered(answer)
    vips = answer.data.get("vips", ())
    differing = sum(not vip["in_sync"] for vip in vips)
    if differing:
        return Station(answer.host, "differs", BAD, f"{differing:,} of {len(vips):,} VIPs not in force as configured")
    return Station(
        answer.host, "in sync", GOOD, f"{len(vips):,} VIP{'' if len(vips) == 1 else 's'} in force as configured"
    )


def _backend_host(answer: Answer, due: Sequence[str]) -> Station:
    if answer.data is None:
        return _unanswered(answer)
    held = list(dict.fromkeys(str(entry["address"]) for entry in answer.data.get("vips", ())))
    problems = [str(problem) for problem in answer.data.get("problems", ())]
    said = set(_ADDRESSES.findall(" ".join(problems)))
    lacking = [address for address in due if address not in held and address not in said]
    if lacking:
        problems.append(
            f"does not hold {listed(lacking)}, for which load balancers send it packets; run dsr.layer2.site"
        )
    if problems:
        return Station(answer.host, "not ready", BAD, "; ".join(problems))
    return Station(answer.host, "ready" if held else "holds no VIP", GOOD if held else IDLE, listed(held))


# What looks like an address within a sentence
_ADDRESSES = re.compile(r"[0-9a-f]*[.:][0-9a-f.:]*[0-9a-f]")


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


_NAMED = 4


def _client(answer: Answer, gathered: Gathered) -> Station:
    if answer.data is None:
        return _unanswered(answer)
    tried = sum(probe.client == answer.host for probe in gathered.probes)
    if not tried:
        return Station(answer.host, "tried nothing", IDLE, gathered.untested)
    return Station(answer.host, "took part", GOOD, f"tried {tried} of the VIPs")


# -- VIPs


def _service(
    number: int, name: str, views: Mapping[str, Vip], wanted: Optional[Vip], absent: Sequence[str], path: Path
) -> Service:
    first = next(iter(views.values()))
    members, measure = _members(views, str(first["scheduler"]))
    sights = tuple(_sight(host, vip, wanted or first) for host, vip in views.items())
    word, role = _state(members, sights, absent, path)
    check = first.get("health_check") or {}
    return Service(
        number=number,
        name=name,
        address=str(first["address"]),
        protocol=str(first["protocol"]),
        ports=_ports(first),
        scheduler=str(first["scheduler"]),
        word=word,
        role=role,
        check=str(check.get("type", "")),
        on_empty=str(first.get("on_empty") or ""),
        measure=measure,
        members=members,
        sights=sights,
        absent=tuple(absent),
        path=path,
    )


def _ports(vip: Vip) -> str:
    return ", ".join(map(str, vip.get("ports") or ())) or "all"


def _state(members: Sequence[Member], sights: Sequence[Sight], absent: Sequence[str], path: Path) -> tuple[str, str]:
    """A VIP in a word: the worst there is to say of it."""
    if not any(sight.serving for sight in sights):
        return "no backend", BAD
    if not all(sight.serving for sight in sights):
        return "no backend on one", BAD
    if not all(sight.in_sync for sight in sights):
        return "kernel differs", BAD
    if path.role == BAD:
        return path.word, BAD
    if absent or any(sight.unlike for sight in sights):
        return "drift", WARN
    if any(member.role in (BAD, WARN) for member in members):
        return "degraded", WARN
    return "serving", GOOD


def _sight(host: str, vip: Vip, reference: Vip) -> Sight:
    words = [state_of(vip, backend, _LOOK)[0] for backend in vip["backends"]]
    return Sight(
        balancer=host,
        in_sync=bool(vip["in_sync"]),
        differences=tuple(str(text) for text in vip.get("differences", ())),
        unlike=tuple(unlike(vip, reference)),
        serving=words.count("up"),
        size=len(words),
        flows=sum(backend["flows"] for backend in vip["backends"]),
        packets=vip["packets"],
        bytes=vip["bytes"],
    )


# Who drained somebody, and by what means, is not known on the controller.
_LOOK = Look(vips=(), present=True, agent=True)


def unlike(vip: Vip, reference: Vip) -> Iterator[str]:
    """In what a VIP is not as another description of it, in the same terms."""
    for option in _COMPARED:
        ours, theirs = (_ports(one) if option == "ports" else str(one.get(option)) for one in (vip, reference))
        if ours != theirs:
            yield f"{option}: {ours}, not {theirs}"
    have, due = (
        {str(backend["address"]): backend["weight"] for backend in one["backends"]} for one in (vip, reference)
    )
    for head, some in (("backends too many", have.keys() - due.keys()), ("backends missing", due.keys() - have.keys())):
        if some:
            yield f"{head}: {listed(sorted(some))}"
    for address in have.keys() & due.keys():
        if have[address] != due[address]:
            yield f"weight of {address}: {have[address]}, not {due[address]}"


@dataclass(frozen=True)
class _Seen:
    """A backend of a VIP as one load balancer has it."""

    host: str
    backend: Mapping[str, Any]
    word: str
    why: str


def _members(views: Mapping[str, Vip], scheduler: str) -> tuple[tuple[Member, ...], str]:
    """The backends with their figures of all load balancers, and of what their shares are shares."""
    rows: dict[str, list[_Seen]] = {}
    for host, vip in views.items():
        for backend in vip["backends"]:
            rows.setdefault(str(backend["address"]), []).append(_Seen(host, backend, *state_of(vip, backend, _LOOK)))
    members = [_member(address, seen, len(views)) for address, seen in rows.items()]
    counted = "flows" if scheduler not in _STATELESS and any(member.flows for member in members) else "packets"
    total = sum(getattr(member, counted) for member in members)
    weights = sum(member.weight for member in members if member.word == "up")
    shared = tuple(
        replace(
            member,
            share=getattr(member, counted) / total if total else None,
            due=(member.weight / weights if member.word == "up" else 0.0) if weights else None,
        )
        for member in members
    )
    return shared, counted


def _member(address: str, seen: Sequence[_Seen], balancers: int) -> Member:
    # A backend that serves on one load balancer and not on the other is told by where it does not.
    word = max((one.word for one in seen), key=lambda one: SEVERITY.index(_STATES[one]))
    told = [f"{one.host}: {', '.join(filter(None, [one.word, one.why]))}" for one in seen]
    if len({(one.word, one.why) for one in seen}) == 1:
        told = [seen[0].why]
    if len(seen) < balancers:
        told.append(f"in the pool of {', '.join(one.host for one in seen)} only")
    rows = [one.backend for one in seen]
    failing = [row for row in rows if row.get("cause") is not None]
    return Member(
        address=address,
        name=str(rows[0].get("name") or ""),
        macs=tuple(dict.fromkeys(str(row["mac"]) for row in rows if row["mac"])),
        weight=rows[0]["weight"],
        word=word,
        role=_STATES[word],
        why=tuple(filter(None, told)),
        cause=str(failing[0]["cause"]) if failing else "",
        since=min((str(row["since"]) for row in failing), default=""),
        flows=sum(row["flows"] for row in rows),
        packets=sum(row["packets"] for row in rows),
        bytes=sum(row["bytes"] for row in rows),
    )


# -- the way back


def _path(views: Mapping[str, Vip], probes: Sequence[Probed], gathered: Gathered, owners: Mapping[str, str]) -> Path:
    if not probes:
        vip = next(iter(views.values()))
        return Path("not tested", IDLE, gathered.untested or _why_untested(vip))
    tried = [_tried(probe, owners) for probe in probes]
    worst = max(tried, key=lambda path: SEVERITY.index(path.role))
    return Path(worst.word, worst.role, "; ".join(path.text for path in tried))


def _why_untested(vip: Vip) -> str:
    if not vip.get("ports"):
        return "it takes all ports, so there is none to try"
    if vip["protocol"] != "tcp":
        return "it is not on TCP; for UDP see dsr_verify_udp"
    return "no client has tried it"


def named(text: str, owners: Mapping[str, str]) -> str:
    """A text in which known MAC addresses have names."""
    for mac, name in owners.items():
        if mac in text:
            text = text.replace(mac, f"{name} ({mac})")
    return text


def _tried(probe: Probed, owners: Mapping[str, str]) -> Path:
    data = probe.data
    message = str(data.get("msg") or "")
    if "answered" not in data:
        return Path("not tested", WARN, f"{probe.client}: {message or 'the probe did not run'}")
    answered, count = data["answered"], data["answered"] + data["unanswered"]
    shares = ", ".join(f"{owners.get(row['mac'], row['mac'])} {row['connections']}" for row in data.get("backends", ()))
    if data.get("through_lb"):
        word, role = "not direct", BAD
    elif data["unanswered"]:
        word, role = "no answer" if not answered else "answers missing", BAD
    elif message or data["direct"] < answered:
        word, role = "doubtful", WARN
    else:
        text = f"{probe.client}: {data['direct']} of {count} connections were answered directly ({shares})"
        return Path("direct", GOOD, text)
    return Path(word, role, f"{probe.client}: {named(message, owners) or f'{answered} of {count} answered'}")

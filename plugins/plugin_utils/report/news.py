# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody should look at, the worst first. What is wrong in one way at a thousand VIPs is said once. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .model import BAD, GOOD, IDLE, WARN, Service, Site

# Kinds of news in the order of the page, each with how bad it is
KINDS = {
    "silent": ("Load balancers without an answer", BAD),
    "empty": ("VIPs without a serving backend", BAD),
    "duplicate": ("Addresses that somebody else answers for", BAD),
    "kernel": ("Kernel differs from what is configured", BAD),
    "path": ("Replies missing or not direct", BAD),
    "unhealthy": ("Backends that fail their health check", BAD),
    "lost": ("Backends without a MAC address", BAD),
    "host": ("Backends that are not ready", BAD),
    "drift": ("Not as dsr_vips says, or not on all load balancers alike", WARN),
    "ignored": ("Pools of which too few are healthy, so that all serve", WARN),
    "unchecked": ("Health checks that nobody carries out", WARN),
    "draining": ("Backends that drain", WARN),
    "untold": ("Questions without an answer", WARN),
}


@dataclass(frozen=True)
class Item:
    """One piece of news. ``subjects`` are the VIPs that it concerns; ``lead`` is who or what, where that is no VIP."""

    lead: str
    text: str
    subjects: tuple[Service, ...]


@dataclass(frozen=True)
class Kind:
    """All news of a kind."""

    key: str
    title: str
    role: str
    items: tuple[Item, ...]


_Found = tuple[str, str, str, Sequence[Service]]  # kind, lead, text, VIPs


def news_of(site: Site) -> tuple[Kind, ...]:
    """What there is to look at, the worst kind first."""
    found: dict[tuple[str, str, str], dict[int, Service]] = {}
    for kind, lead, text, services in _all(site):
        found.setdefault((kind, lead, text), {}).update({service.number: service for service in services})
    return tuple(
        Kind(
            kind,
            title,
            role,
            tuple(Item(lead, text, tuple(about.values())) for (key, lead, text), about in found.items() if key == kind),
        )
        for kind, (title, role) in KINDS.items()
        if any(key == kind for key, _unused, _unused in found)
    )


def headline(site: Site, news: Sequence[Kind]) -> tuple[str, str]:
    """The whole of it in a line, and how bad it is."""
    dead = sum(not all(sight.serving for sight in service.sights) for service in site.services)
    if not any(answer.data is not None for answer in site.gathered.balancers):
        return "No load balancer has answered", BAD
    if not site.services:
        return "No VIP is configured", IDLE
    for number, what in (
        (dead, "without a serving backend"),
        (sum(not service.in_sync for service in site.services), "not in force as configured"),
        (sum(service.path.role == BAD for service in site.services), "without a direct answer to every client"),
    ):
        if number:
            return f"{number:,} of {len(site.services):,} VIPs {what}", BAD
    served = "The VIP is served" if len(site.services) == 1 else f"All {len(site.services):,} VIPs are served"
    for role, what in ((BAD, "something is wrong"), (WARN, "something to look at")):
        if any(kind.role == role for kind in news):
            return f"{served}, {what}", role
    return served, GOOD


def lines(site: Site, news: Sequence[Kind]) -> list[str]:
    """The news as text, for the output of a run."""
    told = [f"{headline(site, news)[0]} ({site.gathered.at})"]
    for kind in news:
        told += [f"{kind.title}: {line_of(item)}" for item in kind.items[:_SHOWN]]
        if len(kind.items) > _SHOWN:
            told.append(f"{kind.title}: and {len(kind.items) - _SHOWN} more")
    return told


_SHOWN = 8


def line_of(item: Item) -> str:
    """A piece of news in a line."""
    names = [service.name for service in item.subjects]
    on = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    head = f"{item.lead} on {on}" if item.lead and on else item.lead or on
    return f"{head}: {item.text}" if item.text else head


def _all(site: Site) -> Iterator[_Found]:
    yield from _of_balancers(site)
    for service in site.services:
        yield from _of_service(service)
    yield from _of_neighbours(site)
    yield from _of_hosts(site)
    yield from _of_wanted(site)


def _of_balancers(site: Site) -> Iterator[_Found]:
    for station in site.balancers:
        if station.word == "no answer":
            yield "silent", station.name, station.text, ()
    ignored: dict[str, list[str]] = {}
    unchecked: dict[str, list[str]] = {}
    for answer in site.gathered.balancers:
        for vip in (answer.data or {}).get("vips", ()):
            if vip.get("health_ignored"):
                ignored.setdefault(answer.host, []).append(str(vip["name"]))
            if vip.get("health_check") and vip.get("health_ignored") is None:
                unchecked.setdefault(answer.host, []).append(str(vip["name"]))
    for kind, found, text in (
        ("ignored", ignored, "health is ignored, by min_healthy"),
        ("unchecked", unchecked, "the agent does not run there: start nft-dsr-agent.service"),
    ):
        for host, names in found.items():
            wanted = set(names)
            yield kind, host, text, [service for service in site.services if service.name in wanted]


def _of_service(service: Service) -> Iterator[_Found]:
    several = len(service.sights) > 1
    on_empty = f"on_empty: {service.on_empty}" if service.on_empty else ""
    empty = [sight.balancer for sight in service.sights if not sight.serving]
    if empty:
        where = f"on {', '.join(empty)}" if several else ""
        yield "empty", "", ", ".join(filter(None, [where, on_empty])), [service]
    for sight in service.sights:
        if not sight.in_sync:
            yield "kernel", sight.balancer, "; ".join(sight.differences) or "the kernel has something else", [service]
        for text in sight.unlike:
            yield "drift", sight.balancer, text, [service]
    if service.path.role in (BAD, WARN):
        yield "path", "", service.path.text, [service]
    for member in service.members:
        if member.cause:
            yield "unhealthy", member.label, member.cause, [service]
        elif member.word == "unhealthy":
            yield "unhealthy", member.label, "", [service]
        elif member.word == "no MAC":
            yield "lost", member.label, "it did not answer ARP or neighbour discovery", [service]
        if any("drained" in text for text in member.why) or member.word == "draining":
            yield "draining", member.label, "", [service]


def _of_neighbours(site: Site) -> Iterator[_Found]:
    by_address: dict[str, list[Service]] = {}
    for service in site.services:
        by_address.setdefault(service.address, []).append(service)
    heard: dict[tuple[str, str], list[str]] = {}  # by address and listener
    for answer in site.gathered.neighbours:
        if answer.data is None:
            yield "untold", answer.host, f"who else answers for the VIPs is not known: {answer.problem}", ()
            continue
        for entry in answer.data.get("answers", ()):
            heard[str(entry["address"]), answer.host] = [str(mac) for mac in entry["macs"]]
    macs = site.gathered.macs
    holders: dict[str, set[str]] = {}  # load balancers that others hear, by address
    for (address, _unused), answers in heard.items():
        holders.setdefault(address, set()).update(macs[mac] for mac in answers if mac in macs)
    silent = [answer.host for answer in site.gathered.balancers if answer.data is None]
    stranger = f"another host, or the load balancer {', '.join(silent)}" if silent else "another host"
    for (address, _unused), answers in heard.items():
        about = by_address.get(address, ())
        for mac in answers:
            if mac in site.owners:
                yield "duplicate", mac, f"the backend {site.owners[mac]}; a backend must not answer for a VIP", about
            elif mac not in macs:
                yield "duplicate", mac, f"{stranger}; two must not hold one address", about
    # That the one in reserve hears the one in charge is as it should be.
    for address, names in holders.items():
        if len(names) > 1:
            yield "duplicate", ", ".join(sorted(names)), "all of them hold it at once", by_address.get(address, ())


def _of_hosts(site: Site) -> Iterator[_Found]:
    for station in site.backends:
        if station.role == BAD:
            yield "untold" if station.word == "no answer" else "host", station.name, station.text, ()
    for station in site.clients:
        if station.role == BAD:
            yield "untold", station.name, station.text, ()


def _of_wanted(site: Site) -> Iterator[_Found]:
    """VIPs that are not everywhere where they should be, or should not be there."""
    gathered = site.gathered
    if gathered.wanted_problem:
        yield "untold", "dsr_vips", f"not compared with it: {gathered.wanted_problem}", ()
    answered = [answer for answer in gathered.balancers if answer.data is not None]
    known: Mapping[str, Service] = {service.name: service for service in site.services}
    wanted = None if gathered.wanted is None else {str(vip["name"]) for vip in gathered.wanted}
    everywhere = list(dict.fromkeys([*(wanted or ()), *known]))
    for answer in answered:
        have = {str(vip["name"]) for vip in (answer.data or {}).get("vips", ())}
        for name in everywhere:
            about = [known[name]] if name in known else []
            if name in have:
                if wanted is not None and name not in wanted and answer.host not in gathered.kept:
                    yield "drift", answer.host, "is configured and not in dsr_vips; dsr.layer2.site removes it", about
            elif wanted is not None and name in wanted:
                lead = answer.host if about else f"{answer.host}: {name}"
                yield "drift", lead, "is in dsr_vips and not configured; run dsr.layer2.site", about
            elif wanted is None:
                yield "drift", answer.host, "is not configured there, and is on another load balancer", about

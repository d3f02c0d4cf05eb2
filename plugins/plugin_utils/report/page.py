# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of `report`: one HTML document that asks for nothing else. Pure but for its own style sheet and script.

Every text goes through Markup.format, which escapes it. Should that ever fail, the document's own policy lets no
script run but the one that it came with.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Optional

from markupsafe import Markup

from .drawing import drawings, way_back
from .figures import clean, count, moment, percent, size
from .model import BAD, GOOD, IDLE, WARN, Member, Service, Site, Station
from .news import Item, Kind, headline, news_of

_FEW = 8  # VIPs that are shown open
_PRINTED = 50  # VIPs that are printed with all their backends, whatever is open
_ITEMS = 6  # of a kind of news, before the rest is folded
_SUBJECTS = 8  # VIPs that a piece of news names


def page_of(site: Site) -> str:
    """The document."""
    news = news_of(site)
    verdict, role = headline(site, news)
    style, script = _part("page.css"), _part("page.js")
    several = len(site.services) > 1
    return "".join(
        (
            _DOCUMENT.format(
                policy=_policy(script),
                title=f"{clean(verdict)}, {moment(site.gathered.at)}",
                style=Markup(style),
                size="few" if len(site.services) <= _PRINTED else "many",
                verdict=clean(verdict),
                mark=_mark(role),
                at=clean(site.gathered.at),
                moment=moment(site.gathered.at),
                counts=_counts(site),
                news=_news(news),
                drawings=drawings(site),
                way=_legend(site),
                overview=_overview(site) if several else "",
                heading=f"{len(site.services):,} VIPs" if several else "The VIP" if site.services else "VIPs",
                services=_joined(_service(service, site) for service in site.services)
                or Markup("<p>No VIP is configured, or no load balancer has answered.</p>"),
                hosts=_hosts(site),
            ),
            f"<script>{script}</script></body></html>\n",
        )
    )


@cache
def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


_DOCUMENT = Markup("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style></head>
<body class="{size}">
<a class="skip" href="#vips">To the VIPs</a>
<header><p class="kicker">Layer 2 Direct Server Return</p>
<h1>{mark}{verdict}</h1>
<p class="when">As of <time datetime="{at}">{moment}</time></p>
{counts}</header>
<main>
{news}<section aria-labelledby="way"><h2 id="way">The way of a packet</h2>
<figure>{drawings}<figcaption>{way}</figcaption></figure></section>
<section aria-labelledby="vips"><h2 id="vips">{heading}</h2>
{overview}{services}</section>
{hosts}</main>
<footer><p>Written by dsr.layer2.report, which changes nothing on hosts. Packets, bytes and flows are
what load balancers have counted since their rules were loaded. A backend's share is that beside the one that its
weight gives it among those that serve (the upright line).</p></footer>
""")


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _mark(role: str) -> Markup:
    return Markup('<i class="mark {}"></i>').format(role)


def _said(word: str, role: str) -> Markup:
    """A state: its shape, its colour, and the word for it."""
    return Markup('<b class="state {0}"><i class="mark {0}"></i>{1}</b>').format(role, word)


def _scrolling(label: str, table: Markup, kind: str = "scroll") -> Markup:
    return Markup('<div class="{}" role="region" tabindex="0" aria-label="{}">{}</div>').format(kind, label, table)


def _head(columns: Sequence[tuple[str, str]]) -> Markup:
    cells = _joined(
        Markup('<th scope="col"{}>{}</th>').format(Markup(kind and f' class="{kind}"'), name) for name, kind in columns
    )
    return Markup("<thead><tr>{}</tr></thead>").format(cells)


# -- the top


def _counts(site: Site) -> Markup:
    services, fleet = site.services, site.fleet
    serving = sum(all(sight.serving for sight in service.sights) for service in services)
    up = sum(member.word == "up" for member in fleet)
    waiting = sum(member.word == "waiting" for member in fleet)
    reached = sum(answer.data is not None for answer in site.gathered.balancers)
    synced = sum(service.in_sync for service in services)
    tried = [service for service in services if service.path.role != IDLE]
    direct = sum(service.path.role == GOOD for service in tried)
    rows = [
        ("VIPs with backends", serving, len(services), BAD, ""),
        ("Backends up", up, len(fleet), WARN, f"{waiting} waiting" if waiting else ""),
        ("Load balancers reached", reached, len(site.balancers), BAD, ""),
        ("VIPs in sync", synced, len(services), BAD, ""),
        ("Direct return", direct, len(tried), BAD, "" if tried else "not tested"),
    ]
    return Markup('<dl class="counts">{}</dl>').format(
        _joined(
            Markup('<div class="{}"><dt>{}</dt><dd>{}</dd></div>').format(
                IDLE if not of else GOOD if some == of else role,
                name,
                Markup("<b>{}</b> of {}{}").format(f"{some:,}", f"{of:,}", f", {note}" if note else "")
                if of
                else note or "none",
            )
            for name, some, of, role, note in rows
        )
    )


def _news(news: Sequence[Kind]) -> Markup:
    if not news:
        return Markup(
            '<section aria-labelledby="look"><h2 id="look">What to look at</h2><p class="calm">{}</p></section>\n'
        ).format(_said("Nothing: no drift, nobody drained, nobody unhealthy.", GOOD))
    return Markup(
        '<section class="news" aria-labelledby="look"><h2 id="look">What to look at</h2>'
        '<div class="kinds">{}</div></section>\n'
    ).format(_joined(map(_kind, news)))


def _kind(kind: Kind) -> Markup:
    shown = _joined(map(_item, kind.items[:_ITEMS]))
    rest = kind.items[_ITEMS:]
    more = (
        Markup("<details><summary>{} more</summary><ul>{}</ul></details>").format(
            f"{len(rest):,}", _joined(map(_item, rest))
        )
        if rest
        else ""
    )
    return Markup('<div class="kind"><h3>{}{} <span class="faint">{}</span></h3><ul>{}</ul>{}</div>').format(
        _mark(kind.role), kind.title, f"{len(kind.items):,}", shown, more
    )


def _item(item: Item) -> Markup:
    links = Markup(", ").join(_link(service) for service in item.subjects[:_SUBJECTS])
    if len(item.subjects) > _SUBJECTS:
        links += Markup(" and {} more").format(f"{len(item.subjects) - _SUBJECTS:,}")
    lead = Markup("<b>{}</b>").format(clean(item.lead)) if item.lead else Markup("")
    on = Markup(" on ") if lead and links else Markup("")
    text = Markup(": {}").format(clean(item.text)) if item.text else Markup("")
    return Markup("<li>{}{}{}{}</li>").format(lead, on, links, text)


def _link(service: Service) -> Markup:
    return Markup('<a href="#v{}">{}</a>').format(service.number, clean(service.name))


def _legend(site: Site) -> Markup:
    way = way_back(site)
    return Markup(
        "<ol><li>To the VIP, in a frame for the load balancer\u2019s MAC address.</li>"
        "<li>The same packet, in a frame for the backend\u2019s MAC address.</li>"
        '<li data-way="{0}">The reply, straight to the client: <span class="{0}">{1}</span>.</li></ol>'
    ).format(way.role, clean(way.text))


# -- VIPs


_OVERVIEW = (
    ("VIP", ""),
    ("Address", ""),
    ("Protocol", ""),
    ("Ports", ""),
    ("Scheduler", ""),
    ("State", ""),
    ("Backends up", "n"),
    ("Flows", "n"),
    ("Packets", "n"),
    ("Bytes", "n"),
    ("Return", ""),
)

_TOOLS = Markup(
    '<form class="tools" hidden><label>Filter <input type="search" id="filter" autocomplete="off" spellcheck="false" '
    'placeholder="name, address, MAC, port, state"></label>'
    '<label class="check"><input type="checkbox" id="trouble"> with problems only</label>'
    '<span class="buttons"><button type="button" id="open">Open all</button>'
    '<button type="button" id="close">Close all</button></span>'
    '<output id="found" for="filter trouble"></output></form>\n'
)


def _overview(site: Site) -> Markup:
    rows = _joined(map(_overview_row, site.services))
    table = Markup('<table id="overview">{}<tbody>{}</tbody></table>').format(_head(_OVERVIEW), rows)
    return Markup("{}{}\n").format(_TOOLS, _scrolling("Overview of the VIPs", table, "scroll long"))


_ROW = Markup(
    '<tr data-v="{number}"><th scope="row">{link}</th><td class="a">{address}</td><td>{protocol}</td>'
    '<td class="p">{ports}</td><td>{scheduler}</td><td>{state}</td><td class="n" data-n="{up}">{up} of {of}</td>'
    '<td class="n" data-n="{raw_flows}">{flows}</td><td class="n" data-n="{raw_packets}">{packets}</td>'
    '<td class="n" data-n="{raw_bytes}">{bytes}</td><td class="{path_role}">{path}</td></tr>\n'
)


def _overview_row(service: Service) -> Markup:
    return _ROW.format(
        number=service.number,
        link=_link(service),
        address=clean(service.address),
        protocol=clean(service.protocol),
        ports=clean(service.ports),
        scheduler=clean(service.scheduler),
        state=_said(service.word, service.role),
        up=service.serving,
        of=len(service.members),
        raw_flows=service.flows,
        flows=count(service.flows),
        raw_packets=service.packets,
        packets=count(service.packets),
        raw_bytes=service.bytes,
        bytes=size(service.bytes),
        path_role=service.path.role,
        path=service.path.word,
    )


_SERVICE = Markup(
    '<details class="vip" data-v="{number}" data-r="{role}"{open}><summary><h3>{name}</h3> '
    '<span class="a">{address}</span> <span>{service}</span> <span class="faint">{scheduler}</span> '
    "{state} <span>{up} of {of} up</span></summary>\n"
    '<div class="body" id="v{number}">{facts}{members}{sights}</div></details>\n'
)


def _service(service: Service, site: Site) -> Markup:
    opened = len(site.services) <= _FEW
    ports = f" port{'' if service.ports.isdigit() else 's'} {service.ports}" if service.protocol != "any" else ""
    return _SERVICE.format(
        number=service.number,
        role=service.role,
        open=" open" if opened else "",
        name=clean(service.name),
        address=clean(service.address),
        service=clean(f"{service.protocol}{ports}"),
        scheduler=clean(service.scheduler),
        state=_said(service.word, service.role),
        up=service.serving,
        of=len(service.members),
        facts=_facts(service),
        members=_members(service),
        sights=_sights(service),
    )


def _facts(service: Service) -> Markup:
    total = f"{count(service.packets)} packets, {size(service.bytes)}, {count(service.flows)} flows"
    rows = [("From clients", Markup("{}").format(total))]
    path = _said(service.path.word, service.path.role)
    rows.append(("Return path", Markup("{} <span>{}</span>").format(path, clean(service.path.text))))
    if len(service.sights) == 1:
        sight = service.sights[0]
        rows.append((f"Kernel on {clean(sight.balancer)}", _kernel(sight.in_sync, sight.differences)))
        rows += [("Drift", Markup("{}").format(clean(text))) for text in sight.unlike]
    if service.absent:
        rows.append(("Not configured on", Markup("{}").format(clean(", ".join(service.absent)))))
    rows.append(("Health check", Markup("{}").format(clean(service.check or "none"))))
    if service.on_empty:
        rows.append(("With no backend left", Markup("{}").format(clean(service.on_empty))))
    return Markup('<dl class="facts">{}</dl>').format(
        _joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, text) for name, text in rows)
    )


def _kernel(in_sync: bool, differences: Sequence[str]) -> Markup:
    if in_sync:
        return _said("in sync", GOOD)
    return Markup("{} <span>{}</span>").format(_said("differs", BAD), clean("; ".join(differences)))


_MEMBER = Markup(
    '<tr><th scope="row">{name} <span class="a">{address}</span></th><td class="a">{macs}</td><td>{state}</td>'
    '<td class="n">{weight}</td><td class="s"><i class="bar" style="--s:{share_bar}%;--w:{due_bar}%"></i></td>'
    '<td class="n">{share}</td><td class="n">{due}</td><td class="n">{flows}</td><td class="n">{packets}</td>'
    '<td class="n">{bytes}</td><td class="w">{why}</td></tr>\n'
)


def _members(service: Service) -> Markup:
    # The longest bar fills its cell: shares of a large pool are all small.
    longest = max((share or 0 for member in service.members for share in (member.share, member.due)), default=0) or 1
    rows = _joined(_member(member, longest) for member in service.members)
    columns = (
        ("Backend", ""),
        ("MAC address", ""),
        ("State", ""),
        ("Weight", "n"),
        (f"Share of {service.measure}", "s"),
        ("is", "n"),
        ("by weight", "n"),
        ("Flows", "n"),
        ("Packets", "n"),
        ("Bytes", "n"),
        ("Why", "w"),
    )
    table = Markup("<table>{}<tbody>{}</tbody></table>").format(_head(columns), rows)
    return _scrolling(f"Backends of {clean(service.name)}", table)


def _member(member: Member, longest: float) -> Markup:
    return _MEMBER.format(
        name=clean(member.name),
        address=clean(member.address),
        macs=clean(", ".join(member.macs) or "–"),
        state=_said(member.word, member.role),
        weight=f"{member.weight:,}",
        share_bar=_bar(member.share, longest),
        due_bar=_bar(member.due, longest),
        share=percent(member.share),
        due=percent(member.due),
        flows=count(member.flows),
        packets=count(member.packets),
        bytes=size(member.bytes),
        why=clean("; ".join(member.why)),
    )


def _bar(share: Optional[float], longest: float) -> str:
    return f"{(share or 0) / longest * 100:.4g}"


def _sights(service: Service) -> Markup:
    if len(service.sights) < 2:
        return Markup("")
    rows = _joined(
        Markup(
            '<tr><th scope="row">{}</th><td>{}</td><td class="n">{} of {}</td><td class="n">{}</td>'
            '<td class="n">{}</td><td class="n">{}</td><td class="w">{}</td></tr>\n'
        ).format(
            clean(sight.balancer),
            _kernel(sight.in_sync, sight.differences),
            sight.serving,
            sight.size,
            count(sight.flows),
            count(sight.packets),
            size(sight.bytes),
            clean("; ".join(sight.unlike)),
        )
        for sight in service.sights
    )
    columns = (
        ("Load balancer", ""),
        ("Kernel", ""),
        ("Backends up", "n"),
        ("Flows", "n"),
        ("Packets", "n"),
        ("Bytes", "n"),
        ("Drift", "w"),
    )
    table = Markup("<table>{}<tbody>{}</tbody></table>").format(_head(columns), rows)
    return _scrolling(f"Load balancers of {clean(service.name)}", table)


# -- hosts


def _hosts(site: Site) -> Markup:
    groups = (
        ("Load balancer", site.balancers),
        ("Backend", site.backends),
        ("Client", site.clients),
    )
    rows = _joined(_station(kind, station) for kind, stations in groups for station in stations)
    columns = (("Host", ""), ("Part", ""), ("State", ""), ("What it said", "w"))
    table = Markup("<table>{}<tbody>{}</tbody></table>").format(_head(columns), rows)
    return Markup('<section aria-labelledby="hosts"><h2 id="hosts">Hosts</h2>{}</section>\n').format(
        _scrolling("Hosts of the inventory", table)
    )


def _station(kind: str, station: Station) -> Markup:
    return Markup('<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td class="w">{}</td></tr>\n').format(
        clean(station.name), kind, _said(station.word, station.role), clean(station.text)
    )

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site as a picture: who is on the segment, a packet's way there, and the way straight back. Pure.

It is drawn twice, for wide and for narrow windows, with the same boxes in other places. Up to a dozen backends have a
box each; of more there is a dot for each, and of very many a bar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .figures import clean, cut
from .model import BAD, GOOD, IDLE, WARN, Member, Site

_BOXES = 12  # backends that have a box each
_DOTS = 400
_BALANCERS = 4
_BOX, _GAP, _HEAD, _PAD = 44, 8, 28, 12
_PITCH = 14  # from dot to dot
_LETTER = 7.2  # the width of a letter, at most


@dataclass(frozen=True)
class _Panel:
    """A frame with a heading and what is in it, at a place of its own."""

    x: float
    y: float
    width: float
    height: float
    inner: Markup


@dataclass(frozen=True)
class Way:
    """How the way back is drawn, and what it says below."""

    role: str
    text: str


def way_back(site: Site) -> Way:
    """What clients found out about the way back, of all VIPs."""
    roles = Counter(service.path.role for service in site.services)
    tried = len(site.services) - roles[IDLE]
    if not tried:
        reason = site.gathered.untested or "no VIP could be tried"
        return Way(IDLE, f"not tested: {reason}")
    if tried == roles[GOOD]:
        return Way(GOOD, f"tested from clients, direct for {_of(tried, len(site.services))}")
    bad = tried - roles[GOOD]
    return Way(
        BAD if roles[BAD] else WARN, f"tested from clients; not direct, or without an answer, for {_of(bad, tried)}"
    )


def _of(some: int, of: int) -> str:
    vips = "VIP" if of == 1 else "VIPs"
    return f"the {of:,} {vips}" if some == of else f"{some:,} of {of:,} {vips}"


def drawings(site: Site) -> Markup:
    """Both pictures."""
    return Markup("").join((_wide(site), _narrow(site)))


def _wide(site: Site) -> Markup:
    right, width = 404.0, 544.0
    balancers = _balancers(site, right, 8, width, 2)
    backends = _backends(site, right, balancers.y + balancers.height + 20, width, 3)
    height = backends.y + backends.height + 26
    there, onward, arrive = balancers.y + 34, balancers.y + balancers.height - 14, backends.y + 16
    back = max(arrive + 26, min(backends.y + backends.height / 2, backends.y + 80))
    middle = (there + back) / 2
    clients = _clients(site, 12, middle - 34, 190)
    lanes = (
        _way("there", f"M202 {_round(middle - 12)} H290 V{_round(there)}", right, there),
        _way("there", f"M{_round(right)} {_round(onward)} H306 V{_round(arrive)}", right, arrive),
        _way(_line(site), f"M{_round(right)} {_round(back)} H290 V{_round(middle + 12)}", 202, middle + 12, -1),
        _number(1, 242, middle - 12, "there"),
        _number(2, 358, arrive, "there"),
        _number(3, 242, middle + 12, _line(site)),
    )
    return _picture("wide", 960, height, site, (278, 8, 40, height - 30), (clients, balancers, backends), lanes)


def _narrow(site: Site) -> Markup:
    right, width = 82.0, 254.0
    clients = _clients(site, right, 8, width)
    balancers = _balancers(site, right, clients.y + clients.height + 16, width, 1)
    backends = _backends(site, right, balancers.y + balancers.height + 16, width, 2)
    height = backends.y + backends.height + 26
    leave, home = clients.y + clients.height - 16, clients.y + 16
    there, onward, arrive = balancers.y + 18, balancers.y + balancers.height - 14, backends.y + 16
    back = arrive + 26
    lanes = (
        _way("there", f"M{_round(right)} {_round(leave)} H32 V{_round(there)}", right, there),
        _way("there", f"M{_round(right)} {_round(onward)} H32 V{_round(arrive)}", right, arrive),
        _way(_line(site), f"M{_round(right)} {_round(back)} H18 V{_round(home)}", right, home),
        _number(1, 58, leave, "there"),
        _number(2, 58, onward, "there"),
        _number(3, 58, back, _line(site)),
    )
    return _picture("narrow", 344, height, site, (6, 8, 38, height - 30), (clients, balancers, backends), lanes)


def _line(site: Site) -> str:
    """The class of the way back."""
    return {GOOD: "back", IDLE: "untested"}.get(way_back(site).role, "wrong")


def _picture(
    name: str,
    width: float,
    height: float,
    site: Site,
    band: tuple[float, float, float, float],
    panels: Sequence[_Panel],
    lanes: Sequence[Markup],
) -> Markup:
    x, y, across, down = band
    frames = Markup("").join(
        Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}" rx="8"/>{}').format(
            *map(_round, (panel.x, panel.y, panel.width, panel.height)), panel.inner
        )
        for panel in panels
    )
    return Markup(
        '<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        '<title id="{name}-title">The way of a packet</title><desc id="{name}-desc">{desc}</desc>'
        '<rect class="segment" x="{x}" y="{y}" width="{across}" height="{down}" rx="6"/>'
        '<text class="faint" x="{label}" y="{foot}" text-anchor="{anchor}">one Ethernet segment</text>'
        "{frames}{lanes}</svg>"
    ).format(
        name=name,
        width=_round(width),
        height=_round(height),
        desc=_description(site),
        x=_round(x),
        y=_round(y),
        across=_round(across),
        down=_round(down),
        label=_round(x + across / 2 if name == "wide" else x),
        foot=_round(height - 6),
        anchor="middle" if name == "wide" else "start",
        frames=frames,
        lanes=Markup("").join(lanes),
    )


def _description(site: Site) -> str:
    clients = ", ".join(station.name for station in site.clients) or "clients"
    balancers = ", ".join(f"{station.name} ({station.word})" for station in site.balancers)
    states = Counter(member.word for member in site.fleet)
    backends = ", ".join(f"{number} {word}" for word, number in states.most_common())
    return clean(
        f"Packets go from {clients} to the load balancers, {balancers}, and from there in frames for their MAC "
        f"addresses to the backends ({backends or 'none'}). Replies go from the backends straight to the clients: "
        f"{way_back(site).text}."
    )


def _round(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _way(kind: str, path: str, x: float, y: float, toward: int = 1) -> Markup:
    """A line with a head at its end; the head is a part of its own, so that it needs no reference."""
    end = f"{_round(x - 2 * toward)}"
    head = f"M{_round(x)} {_round(y)} l{-8 * toward} -4.5 v9 z"
    return Markup('<path class="way {0}" d="{1} H{2}"/><path class="head {0}" d="{3}"/>').format(kind, path, end, head)


def _number(number: int, x: float, y: float, kind: str) -> Markup:
    return Markup(
        '<circle class="disc {0}" cx="{1}" cy="{2}" r="9"/><text class="disc-ink {0}" x="{1}" y="{3}">{4}</text>'
    ).format(kind, _round(x), _round(y), _round(y + 4), number)


def _text(x: float, y: float, text: str, kind: str = "ink", room: float = 0) -> Markup:
    shown = cut(clean(text), max(3, int(room / _LETTER))) if room else clean(text)
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, _round(x), _round(y), shown)


def _mark(x: float, y: float, role: str) -> Markup:
    """The same shapes as beside words: a disc, a ring, a triangle, a square."""
    shapes = {
        GOOD: '<circle class="good" cx="{0}" cy="{1}" r="4"/>',
        IDLE: '<circle class="idle" cx="{0}" cy="{1}" r="3.2"/>',
        WARN: '<path class="warn" d="M{0} {1}m-5 4h10l-5 -9z"/>',
        BAD: '<path class="bad" d="M{0} {1}m-4 -4h8v8h-8z"/>',
    }
    return Markup(shapes[role]).format(_round(x), _round(y))


def _box(x: float, y: float, width: float, role: str, name: str, about: str) -> Markup:
    return Markup(
        '<g><title>{title}</title><rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'
        "{inner}</g>"
    ).format(
        title=clean(f"{name}: {about}"),
        x=_round(x),
        y=_round(y),
        width=_round(width),
        height=_BOX,
        inner=Markup("").join(
            (
                _mark(x + 13, y + 15, role),
                _text(x + 24, y + 19, name, "ink", width - 30),
                _text(x + 24, y + 36, about, "faint small", width - 24),
            )
        ),
    )


def _grid(x: float, y: float, width: float, columns: int, title: str, cells: Sequence[tuple[str, str, str]]) -> _Panel:
    """A panel of boxes: role, name and a second line of each."""
    columns = min(columns, max(1, len(cells)))
    across = (width - 2 * _PAD - (columns - 1) * _GAP) / columns
    parts = [_text(x + _PAD, y + 19, title, "title")]
    for place, (role, name, about) in enumerate(cells):
        row, column = divmod(place, columns)
        parts.append(
            _box(x + _PAD + column * (across + _GAP), y + _HEAD + row * (_BOX + _GAP), across, role, name, about)
        )
    rows = -(-len(cells) // columns)
    return _Panel(x, y, width, _HEAD + rows * (_BOX + _GAP) - _GAP + _PAD, Markup("").join(parts))


def _clients(site: Site, x: float, y: float, width: float) -> _Panel:
    names = [station.name for station in site.clients]
    shown = ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
    about = shown if names else "none in the inventory"
    inner = Markup("").join(
        (_text(x + _PAD, y + 28, "clients", "title"), _text(x + _PAD, y + 48, about, "faint small", width - 2 * _PAD))
    )
    return _Panel(x, y, width, 68, inner)


def _balancers(site: Site, x: float, y: float, width: float, columns: int) -> _Panel:
    stations = site.balancers
    if len(stations) <= _BALANCERS:
        cells = [(station.role, station.name, station.word) for station in stations]
    else:
        words = Counter((station.word, station.role) for station in stations)
        cells = [(role, f"{number} load balancers", word) for (word, role), number in words.most_common()]
    vips = len(site.services)
    title = f"load balancer{'s' if len(stations) != 1 else ''}, {vips:,} VIP{'s' if vips != 1 else ''}"
    return _grid(x, y, width, columns, title, cells)


def _backends(site: Site, x: float, y: float, width: float, columns: int) -> _Panel:
    fleet = site.fleet
    title = f"{len(fleet):,} backend{'s' if len(fleet) != 1 else ''}"
    if len(fleet) <= _BOXES:
        cells = [(member.role, member.name or member.address, _about(member, width / columns)) for member in fleet]
        return _grid(x, y, width, columns, title, cells or [(IDLE, "none", "no VIP is configured")])
    words = Counter((member.role, member.word) for member in fleet)
    parts = [_text(x + _PAD, y + 19, title, "title")]
    top = y + _HEAD + 8
    per_row = int((width - 2 * _PAD) // _PITCH)
    if len(fleet) <= _DOTS:
        for place, member in enumerate(fleet):
            row, column = divmod(place, per_row)
            dot = _mark(x + _PAD + 5 + column * _PITCH, top + row * _PITCH, member.role)
            parts.append(Markup("<g><title>{}</title>{}</g>").format(clean(f"{member.label}: {member.word}"), dot))
        top += -(-len(fleet) // per_row) * _PITCH + 8
    else:
        parts.append(_bar(words, x + _PAD, top - 4, width - 2 * _PAD))
        top += 32
    for place, ((role, word), number) in enumerate(words.most_common()):
        row, column = divmod(place, columns)
        left = x + _PAD + 5 + column * (width - 2 * _PAD) / columns
        parts += [_mark(left, top + row * 20, role), _text(left + 11, top + 4 + row * 20, f"{number:,} {word}", "ink")]
    rows = -(-len(words) // columns)
    return _Panel(x, y, width, max(72, top + rows * 20 - y), Markup("").join(parts))


def _about(member: Member, width: float) -> str:
    """The second line of a backend's box: its state, and its address where that has room beside it."""
    full = f"{member.address}  {member.word}"
    return full if member.name and len(full) * _LETTER < width - 24 - _PAD else member.word


def _bar(words: Counter[tuple[str, str]], x: float, y: float, width: float) -> Markup:
    """How many are in which state, as parts of a whole; the smallest part is still to be seen."""
    total = sum(words.values())
    least = 4.0
    wide = [max(least, width * number / total) for _unused, number in words.most_common()]
    scale = width / sum(wide)
    parts = []
    for ((role, word), number), across in zip(words.most_common(), wide):
        parts.append(
            Markup('<rect class="{}" x="{}" y="{}" width="{}" height="20"><title>{} {}</title></rect>').format(
                role, _round(x), _round(y), _round(across * scale - 1), f"{number:,}", word
            )
        )
        x += across * scale
    return Markup("").join(parts)

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend's own firewall does with packets to the VIPs, from nft's JSON, as far as that can be told. Pure.

A packet is walked through the chains of the input and prerouting hooks. A match is true, false, or can't be told (sets,
addresses of clients, extensions of iptables). Only what is dropped for sure, past every rule that may accept it, is
told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple, Optional

from ..common.iproute import IPAddress
from .finding import OK, UNTESTED, WARNING, Finding, listed
from .request import Vip

CHECK = "firewall"

_HOOKS = ("prerouting", "input")
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132}
_FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}
_DEEPEST = 16

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Packet:
    """A packet of a client; ``state`` is what connection tracking says of it. Any protocol is '', any port 0."""

    vip: IPAddress
    protocol: str
    port: int
    nic: str
    state: str = "new"


class Chain(NamedTuple):
    family: str
    table: str
    name: str
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: str = "accept"


class Drop(NamedTuple):
    """Where a packet is dropped: by a rule (its handle), or by a chain's policy."""

    chain: Chain
    handle: Optional[int]


class _Way(NamedTuple):
    """What becomes of a packet in a chain: for sure, if that can be told, and whether a rule may accept it before."""

    verdict: str  # accept, drop, or "" for on it goes
    drop: Optional[Drop]
    doubtful: bool


class Ruleset:
    """The rules of a host, as `nft -j list ruleset` has them."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.chains: dict[tuple[str, str, str], Chain] = {}
        self._rules: dict[tuple[str, str, str], list[Row]] = {}
        self.tables: list[tuple[str, str]] = []
        for row in rows:
            if "chain" in row:
                chain = _chain(row["chain"])
                self.chains[chain[:3]] = chain
            elif "rule" in row:
                rule = row["rule"]
                self._rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
            elif "table" in row:
                self.tables.append((row["table"]["family"], row["table"]["name"]))

    def base_chains(self, version: int) -> list[Chain]:
        """The chains in which a packet of this family begins, in their order."""
        found = [
            chain
            for chain in self.chains.values()
            if chain.hook in _HOOKS and chain.kind == "filter" and chain.family in _FAMILIES[version]
        ]
        return sorted(found, key=lambda chain: (_HOOKS.index(chain.hook), chain.priority))

    def dropped(self, packet: Packet) -> Optional[Drop]:
        """Where this packet is dropped for sure; None where it is not, or can't be told."""
        for base in self.base_chains(packet.vip.version):
            way = self._walk(base, packet, 0)
            if way.doubtful or way.verdict == "accept":
                continue
            if way.verdict == "drop":
                return way.drop
            if base.policy == "drop":
                return Drop(base, None)
        return None

    def _walk(self, chain: Chain, packet: Packet, depth: int) -> _Way:
        doubtful = False
        for rule in self._rules.get(chain[:3], ()):
            sure, verdict, target = _evaluate(rule.get("expr") or (), packet)
            if sure is False or not verdict:
                continue
            if verdict in ("jump", "goto"):
                below = self.chains.get((chain.family, chain.table, target))
                if below is None or depth > _DEEPEST:
                    doubtful = True
                    continue
                way = self._walk(below, packet, depth + 1)
                doubtful = doubtful or way.doubtful or (way.verdict == "accept" and not sure)
                if sure and (way.verdict or verdict == "goto"):
                    return way._replace(doubtful=doubtful)
            elif verdict == "unknown" or (verdict in ("accept", "return") and not sure):
                doubtful = True
            elif verdict == "drop" and sure:
                return _Way("drop", Drop(chain, rule.get("handle")), doubtful)
            elif sure:
                return _Way("" if verdict == "return" else "accept", None, doubtful)
        return _Way("", None, doubtful)


def _chain(body: Row) -> Chain:
    priority = body.get("prio", 0)
    return Chain(
        body["family"],
        body["table"],
        body["name"],
        body.get("hook", ""),
        body.get("type", ""),
        priority if isinstance(priority, int) else 0,
        body.get("policy", "accept"),
    )


def _evaluate(expressions: Sequence[Any], packet: Packet) -> tuple[Optional[bool], str, str]:
    """Whether a rule is for the packet (None: can't be told), what it says, and where it leads."""
    sure: Optional[bool] = True
    for expression in expressions:
        if not isinstance(expression, Mapping):
            sure = None if sure else sure
            continue
        for kind, body in expression.items():
            if kind == "match":
                said = _match(body, packet)
            elif kind in ("counter", "log", "comment", "mangle", "notrack"):
                continue
            elif kind == "vmap":
                found, verdict, target = _looked_up(body, packet)
                return (False, "", "") if found is False else (sure and found, verdict, target)
            elif kind in ("accept", "return"):
                return sure, kind, ""
            elif kind in ("drop", "reject"):
                return sure, "drop", ""
            elif kind in ("jump", "goto"):
                return sure, kind, str(body["target"])
            elif kind in ("queue", "tproxy", "redirect", "dnat"):
                return sure, "unknown", ""
            else:
                said = None  # limits, extensions, what there may be one day
            if said is False:
                return False, "", ""
            sure = None if said is None else sure
    # An extension may be the verdict itself.
    return sure, "unknown" if sure is None and any("xt" in e for e in expressions if isinstance(e, Mapping)) else "", ""


def _looked_up(body: Row, packet: Packet) -> tuple[Optional[bool], str, str]:
    """The verdict of a map: that of a connection's state is known, others may accept."""
    data = body.get("data")
    pairs = data.get("set") if isinstance(data, Mapping) else None
    if body.get("key") != {"ct": {"key": "state"}} or not isinstance(pairs, list):
        return None, "unknown", ""
    for key, verdict in pairs:
        if key == packet.state and isinstance(verdict, Mapping):
            return _evaluate([verdict], packet)
    return False, "", ""


def _match(body: Row, packet: Packet) -> Optional[bool]:
    left, right, operator = body.get("left"), body.get("right"), body.get("op", "==")
    if not isinstance(left, Mapping):
        return None
    known, value = _field(left, packet)
    if known is not True:
        return known
    among = _among(value, right)
    if among is None or operator not in ("==", "!=", "in"):
        return None
    return not among if operator == "!=" else among


def _field(left: Row, packet: Packet) -> tuple[Optional[bool], Any]:
    """Whether a field is in the packet (None: nobody knows), and its value."""
    payload, meta, ct = (left.get(name) or {} for name in ("payload", "meta", "ct"))
    where = (payload.get("protocol"), payload.get("field")) if isinstance(payload, Mapping) else (None, None)
    family = "ip" if packet.vip.version == 4 else "ip6"
    if where[0] in ("ip", "ip6"):
        if where[0] != family:
            return False, None
        if where[1] == "daddr":
            return True, packet.vip
        return _known(packet.protocol) if where[1] in ("protocol", "nexthdr") else (None, None)
    if where[0] in ("tcp", "udp", "sctp", "th", "icmp", "icmpv6", "dccp"):
        if packet.protocol and where[0] not in (packet.protocol, "th"):
            return False, None
        return _known(packet.port) if where[1] == "dport" else (None, None)
    key = meta.get("key") if isinstance(meta, Mapping) else None
    if key in ("iifname", "iif"):
        return True, packet.nic
    if key == "l4proto":
        return _known(packet.protocol)
    if key == "nfproto":
        return True, "ipv4" if packet.vip.version == 4 else "ipv6"
    key = ct.get("key") if isinstance(ct, Mapping) else None
    if key == "state":
        return True, packet.state
    # Nothing is translated here: the client asked for the VIP itself.
    return (True, "") if key == "status" else (None, None)


def _known(value: Any) -> tuple[Optional[bool], Any]:
    return (True, value) if value else (None, None)


def _among(value: Any, right: Any) -> Optional[bool]:
    """Whether a value is what a rule compares it with."""
    if isinstance(right, Mapping):
        if "set" in right:
            return _among(value, right["set"])
        if "range" in right and isinstance(value, int):
            low, high = right["range"]
            return low <= value <= high if isinstance(low, int) and isinstance(high, int) else None
        if "prefix" in right and not isinstance(value, (int, str)):
            prefix = right["prefix"]
            try:
                return value in ip_network(f"{prefix['addr']}/{prefix['len']}", strict=False)
            except (KeyError, ValueError):
                return None
        return None
    if isinstance(right, list):
        answers = [_among(value, one) for one in right]
        return True if True in answers else None if None in answers else False
    if isinstance(right, str) and right.startswith("@"):
        return None
    if isinstance(value, int):
        return value == right if isinstance(right, int) else None
    if isinstance(value, str):
        if str(right).endswith("*"):
            return value.startswith(str(right)[:-1])
        return right in (value, _NUMBERS.get(value))
    try:
        return bool(value == ip_address(str(right)))
    except ValueError:
        return None


# --- judging


def places_of(ruleset: Ruleset, vips: Sequence[Vip], nic: str) -> dict[tuple[str, Drop], list[str]]:
    """By state of a packet and place where it is dropped, the services that this befalls."""
    found: dict[tuple[str, Drop], list[str]] = {}
    for vip in vips:
        protocol = "" if vip.protocol == "any" else vip.protocol
        for low, high in vip.ports or ((0, 0),):
            ports = "" if not low else f" {low}" if low == high else f" {low}-{high}"
            service = f"{vip.address}{f' {protocol}' if protocol else ''}{ports}"
            packet = Packet(vip.address, protocol, low, nic)
            drop = ruleset.dropped(packet)
            if drop is not None:
                found.setdefault(("new", drop), []).append(service)
            elif protocol in ("tcp", ""):
                drop = ruleset.dropped(replace(packet, state="invalid"))
                if drop is not None:
                    found.setdefault(("invalid", drop), []).append(service)
    return found


def judge(
    places: Mapping[tuple[str, Drop], Sequence[str]],
    texts: Mapping[Drop, str],
    legacy: Sequence[str],
    unread: str = "",
    firewalld: bool = False,
) -> Iterator[Finding]:
    """``texts``: rules in nft's words. ``legacy``: of iptables-legacy-save. ``unread``: why rules are not known."""
    for (state, drop), services in sorted(places.items(), key=lambda item: item[0][0], reverse=True):
        where = f"{drop.chain.family} {drop.chain.table} {drop.chain.name}"
        if drop.handle is None:
            place, how = f"the policy of the chain {where}", f"nft add rule {where} ... accept"
        else:
            text = texts.get(drop, "?")
            place = f"the rule {text!r} of {where} (handle {drop.handle})"
            how = f"an accept before it: nft insert rule {where} handle {drop.handle} ... accept"
        if firewalld and drop.chain.table == "firewalld":
            how = "firewall-cmd --permanent --add-port=PORT/tcp, and --reload"
        if state == "new":
            yield Finding(CHECK, WARNING, f"{place} drops {listed(services)}", how)
        else:
            yield Finding(
                CHECK,
                WARNING,
                f"{place} drops what connection tracking calls invalid: a client whose flow was moved here in the "
                "middle hears no reset and waits",
                "accept the VIPs' ports before it, if clients are to be told",
            )
    for line in legacy_problems(legacy):
        yield Finding(
            CHECK, WARNING, f"iptables-legacy: {line}", "iptables-legacy-save; accept the VIPs' ports before it"
        )
    if unread:
        yield Finding(CHECK, UNTESTED, unread)
    elif not places and not legacy_problems(legacy):
        yield Finding(CHECK, OK, "no rule that drops the VIPs' packets for sure")


def legacy_problems(lines: Sequence[str]) -> list[str]:
    """Lines of iptables-legacy-save that may drop: not more than that is claimed."""
    found = []
    table = ""
    for line in map(str.strip, lines):
        if line.startswith("*"):
            table = line[1:]
        drops = line.endswith(("-j DROP", "-j REJECT")) or "-j REJECT --" in line
        policy = table == "filter" and line.startswith(":INPUT DROP")
        invalid = line.startswith("-A") and drops and "INVALID" in line
        if policy or invalid:
            found.append(line)
    return found

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a preflight are asked, what they send each other, and the table of what they found. Does no I/O."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from typing import Any, NamedTuple, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.neighbours import question_of
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.finding import (
    FAILED,
    OK,
    UNTESTED,
    WARNING,
    listed,
    serious,
)

Vip = Mapping[str, Any]
Pool = Mapping[str, Any]
HostVars = Mapping[str, Mapping[str, Any]]

LOAD_BALANCERS, BACKENDS, CLIENTS = "dsr_load_balancers", "dsr_backends", "dsr_clients"
_GROUPS = (LOAD_BALANCERS, BACKENDS, CLIENTS)
# The checks, in the order of the table
CHECKS = (
    "host",
    "nftables",
    "segment",
    "address",
    "frames",
    "mtu",
    "lro",
    "way back",
    "firewall",
    "service",
    "sysctl",
)
_RESULTS = (FAILED, WARNING, UNTESTED, OK)
_WIDTH, _HOSTS = 120, 16

KNOBS = (
    "let them pass: allowed address pairs with the VIPs (OpenStack), source/destination check off (AWS), IP forwarding "
    "on (Azure; can-ip-forward of Google), forged transmits and MAC changes accepted (VMware), no nwfilter such as "
    "clean-traffic (libvirt), IP filter and MAC filter off or an ipset with the VIPs (Proxmox)"
)


class Row(NamedTuple):
    """One line of the table, of one host."""

    check: str
    host: str
    result: str
    what: str
    do: str = ""


# --- questions


def pools_of(vips: Iterable[Vip]) -> list[dict[str, Any]]:
    """VIPs that have their pools, together with those that have the same one, as dsr_preflight_info takes them."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for vip in vips:
        if not _sound(vip):
            continue  # the modules say what is wrong with it
        nics = tuple(str(vip.get(key) or "") for key in ("interface", "backend_interface"))
        backends = tuple(_backend(backend) for backend in vip["backends"])
        pool = found.setdefault(
            (nics, backends),
            {
                "vips": [],
                "backends": [dict(zip(("address", "name", "mac", "in_service"), backend)) for backend in backends],
                "interface": nics[0],
                "backend_interface": nics[1],
            },
        )
        pool["vips"].append(
            {
                "name": str(vip["name"]),
                "address": _plain(vip["address"]),
                "protocol": str(vip.get("protocol") or "tcp"),
                "ports": [str(port) for port in vip.get("ports") or ()],
            }
        )
    return list(found.values())


def pool_of_addresses(addresses: Any) -> list[dict[str, Any]]:
    """The VIPs that a backend holds, where nothing is known of them but their addresses."""
    given = addresses if isinstance(addresses, (list, tuple)) else []
    vips = [{"address": str(address), "protocol": "any"} for address in given if _is_address(address)]
    return [{"vips": vips}] if vips else []


def _is_address(text: Any) -> bool:
    try:
        return bool(_plain(text))
    except ValueError:
        return False  # the modules say what is wrong with it


def _sound(vip: Any) -> bool:
    """Whether it is a VIP with its pool, and all addresses are some."""
    pool = vip.get("backends") if isinstance(vip, Mapping) else None
    if not isinstance(pool, (list, tuple)) or "name" not in vip:
        return False
    try:
        return all(_plain(entry["address"]) for entry in (vip, *pool)) and all(_ports(vip))
    except (KeyError, TypeError, ValueError):
        return False


def _ports(vip: Vip) -> list[bool]:
    return [re.fullmatch("[0-9]{1,5}(-[0-9]{1,5})?", str(port)) is not None for port in vip.get("ports") or ()]


def _backend(backend: Mapping[str, Any]) -> tuple[Any, ...]:
    weight = backend.get("weight")
    serves = str(backend.get("state") or "up") == "up" and str(1 if weight is None else weight) != "0"
    return _plain(backend["address"]), str(backend.get("name") or ""), str(backend.get("mac") or ""), serves


@lru_cache(maxsize=1 << 17)
def _short(address: str) -> str:
    return str(ip_address(address))


def _plain(address: Any) -> str:
    """An address in its usual form; backends come as often as there are VIPs."""
    return _short(str(address))


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def questions(
    vips: Sequence[Vip],
    hosts: Sequence[Mapping[str, Any]],
    nics: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
) -> dict[str, list[dict[str, Any]]]:
    """The pools that each host is asked about. ``nics``: of load balancers that have one given."""
    plain = pools_of(vips)
    found: dict[str, list[dict[str, Any]]] = {}
    by_nic: dict[str, list[dict[str, Any]]] = {"": plain}
    for host in groups.get(LOAD_BALANCERS, ()):
        nic = nics.get(host, "")
        if nic not in by_nic:
            by_nic[nic] = [
                {**pool, **{key: pool[key] or nic for key in ("interface", "backend_interface")}} for pool in plain
            ]
        found[host] = by_nic[nic]
    for entry in hosts:
        own = {_plain(address.split("%", 1)[0]) for address in entry["own_addresses"]}
        mine = ((pool, [one for one in pool["backends"] if one["address"] in own]) for pool in plain)
        found[entry["name"]] = [{**pool, "backends": some} for pool, some in mine if some]
    for host in groups.get(CLIENTS, ()):
        found.setdefault(host, [{"vips": pool["vips"]} for pool in plain])
    return found


# --- what the hosts said


class Run:
    """What the hosts of a run have registered."""

    def __init__(
        self, asked: Mapping[str, Sequence[Pool]], hostvars: HostVars, groups: Mapping[str, Sequence[str]]
    ) -> None:
        self.asked = asked
        self.groups = {group: list(groups.get(group, ())) for group in _GROUPS}
        # Looked up once: that takes its time.
        self._hostvars = {host: hostvars[host] for host in dict.fromkeys(chain.from_iterable(self.groups.values()))}
        self.facts = {host: self._facts(host) for host in self._hostvars}
        self.at = {
            backend["address"]: host
            for host in self.groups[BACKENDS]
            for pool in asked.get(host, ())
            for backend in pool["backends"]
        }

    def registered(self, host: str, name: str) -> Optional[Mapping[str, Any]]:
        answer = self._hostvars[host].get(name)
        return answer if isinstance(answer, Mapping) and not answer.get("skipped") else None

    def variable(self, host: str, name: str) -> Any:
        return self._hostvars[host].get(name)

    def _facts(self, host: str) -> Mapping[str, Any]:
        facts = (self.registered(host, "__dsr_preflight") or {}).get("facts")
        return facts if isinstance(facts, Mapping) else {}

    @property
    def hosts(self) -> list[str]:
        return list(self._hostvars)

    def listens(self, host: str) -> bool:
        answer = self.registered(host, "__dsr_listening")
        return answer is not None and answer.get("listening") is True

    def in_service(self, host: str) -> bool:
        """Whether a backend gets new clients, as the inventory has it and as an operator left it."""
        own = [address for address, owner in self.at.items() if owner == host]
        said = [
            backends[address]["in_service"]
            for backends in (self.facts[one].get("backends") or {} for one in self.groups[LOAD_BALANCERS])
            for address in own
            if address in backends
        ]
        if said:
            return any(said)
        return any(backend["in_service"] for pool in self.asked.get(host, ()) for backend in pool["backends"])

    def own_address(self, host: str, version: int) -> str:
        """The address at which load balancers reach a backend."""
        return next(
            (address for address, owner in self.at.items() if owner == host and _version(address) == version),
            "",
        )

    def vips_of(self, host: str) -> list[str]:
        """The addresses of the VIPs that a host is asked about, each once."""
        return list(dict.fromkeys(vip["address"] for pool in self.asked.get(host, ()) for vip in pool["vips"]))

    def receiver(self, backend: str, version: int) -> tuple[str, str]:
        """Who hears a backend speak in the name of a VIP, and its address: a client, or else a load balancer."""
        for host in self.groups[CLIENTS]:
            for target, source in (self.facts[host].get("sources") or {}).items():
                if _version(target) == version and self.listens(host):
                    return host, source
        own = self.own_address(backend, version)
        for host in self.groups[LOAD_BALANCERS]:
            source = (self.facts[host].get("sources") or {}).get(own)
            if source and self.listens(host):
                return host, source
        return "", ""

    def heard(self, host: str) -> Optional[dict[str, set[str]]]:
        """What a host heard, by sender; None if it can't tell."""
        answer = self.registered(host, "__dsr_heard")
        if answer is None or "heard" not in answer:
            return None
        found: dict[str, set[str]] = {}
        for entry in answer["heard"]:
            found.setdefault(entry["sender"], set()).update(entry["packets"])
        return found


class Sending(NamedTuple):
    """From one host to another: what shows that the way is open at all, and the VIPs that are to pass."""

    sender: str
    receiver: str
    plain: tuple[str, str]  # source and destination without a VIP
    vips: tuple[str, ...]
    from_vip: bool  # the VIP is the source
    mac: str = ""
    interface: str = ""

    def pairs(self) -> dict[str, str]:
        """By VIP, the packet."""
        source, destination = self.plain
        return {vip: f"{vip} > {destination}" if self.from_vip else f"{source} > {vip}" for vip in self.vips}


def sendings(run: Run) -> Iterator[Sending]:
    """All that is sent: from load balancers to VIPs, from backends as VIPs."""
    for host in run.groups[LOAD_BALANCERS]:
        facts = run.facts[host]
        vips: dict[str, list[str]] = {}
        for pool in run.asked.get(host, ()):
            for backend in pool["backends"]:
                vips.setdefault(backend["address"], []).extend(vip["address"] for vip in pool["vips"])
        for address, there in (facts.get("backends") or {}).items():
            receiver, source = run.at.get(address, ""), (facts.get("sources") or {}).get(address)
            if receiver and source and there["mac"] and run.listens(receiver):
                wanted = _of_family(dict.fromkeys(vips.get(address, ())), address)
                yield Sending(host, receiver, (source, address), wanted, False, there["mac"], there["interface"])
    for host in run.groups[BACKENDS]:
        for version in (4, 6):
            own = run.own_address(host, version)
            wanted = _of_family(run.vips_of(host), own) if own else ()
            receiver, destination = run.receiver(host, version)
            if wanted and receiver and run.facts[host]:
                yield Sending(host, receiver, (own, destination), wanted, True)


def _of_family(addresses: Iterable[str], like: str) -> tuple[str, ...]:
    version = _version(like)
    return tuple(address for address in addresses if _version(address) == version)


def orders(run: Run) -> dict[str, list[dict[str, Any]]]:
    """By host what it sends, as dsr_vip_frames takes it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in sendings(run):
        source, destination = one.plain
        found.setdefault(one.sender, []).append(
            {
                "sources": [source, *(one.vips if one.from_vip else ())],
                "destinations": [destination, *(() if one.from_vip else one.vips)],
                "mac": one.mac,
                "interface": one.interface,
            }
        )
    return found


# --- judging


def rows(run: Run) -> list[Row]:
    """All that was found."""
    found = [
        *_of_hosts(run),
        *_duplicates(run),
        *_frames(run),
        *_mtus(run),
        *_forwarding(run),
    ]
    # Out of service it may well be under repair: then nothing of it fails.
    spared = {host for host in run.groups[BACKENDS] if host in run.asked and not run.in_service(host)}
    return [
        row._replace(result=WARNING, what=f"{row.what} (out of service)")
        if row.result == FAILED and row.host in spared
        else row
        for row in found
    ]


def _of_hosts(run: Run) -> Iterator[Row]:
    for host in run.hosts:
        answer = run.registered(host, "__dsr_preflight")
        if answer is None:
            yield Row("host", host, UNTESTED, "not reached, or outside the limit")
        elif "findings" not in answer:
            # A module that can't even begin says so in many ways.
            python = str((run.variable(host, "ansible_facts") or {}).get("python_version") or "")
            old = python and tuple(map(int, python.split(".")[:2])) < (3, 9)
            said = (
                f"Python {python} is too old"
                if old
                else " ".join(str(answer.get("msg") or "it gave no answer").split())
            )
            do = "install Python 3.9 or later, and name it in ansible_python_interpreter" if old else ""
            yield Row("host", host, FAILED, said[:300], do)
        else:
            for finding in answer["findings"]:
                yield Row(finding["check"], host, finding["result"], finding["what"], finding["do"])


def _duplicates(run: Run) -> Iterator[Row]:
    """Who else answers for the VIPs."""
    owners = {nic["mac"]: host for host in run.hosts for nic in (run.facts[host].get("nics") or {}).values()}
    for host in run.groups[LOAD_BALANCERS]:
        facts = run.facts[host]
        if "answers" not in facts:
            continue
        known = {
            backend["mac"]: run.at.get(address, address)
            for address, backend in facts["backends"].items()
            if backend["mac"]
        }
        found: dict[tuple[str, str], list[str]] = {}
        for vip, macs in facts["answers"].items():
            for mac in macs:
                found.setdefault((mac, owners.get(mac) or known.get(mac, "")), []).append(vip)
        clean = True
        for (mac, owner), vips in sorted(found.items()):
            row = _duplicate(run, host, mac, owner, vips)
            clean = clean and row.result == OK
            yield row
        if clean and any(pool["interface"] for pool in facts["pools"]):
            yield Row("address", host, OK, f"{'nobody' if not found else 'no stranger'} answers for the VIPs beside it")


def _duplicate(run: Run, host: str, mac: str, owner: str, vips: Sequence[str]) -> Row:
    question = question_of(_version(vips[0]))
    what = f"{owner or 'somebody'} ({mac}) answers {question} for the VIP {listed(vips)}"
    if owner in run.groups[LOAD_BALANCERS]:
        both = sorted(set(run.facts[host].get("holds") or ()) & set(vips))
        if not both:
            return Row("address", host, OK, f"{owner} holds {listed(vips)}")
        do = "one of the two at a time: load_balancer_manage_address: false on both, and keepalived"
        return Row("address", host, FAILED, f"{what} as well", do)
    if owner in run.groups[BACKENDS]:
        do = "dsr.layer2.site suppresses ARP there; if the VIP is on its NIC, take it off: ip address delete"
        return Row("address", host, FAILED, what, do)
    missing = [name for name in run.hosts if not run.facts[name]]
    do = "find who that is by the MAC address, or give the VIP another address"
    if missing and not owner:
        do += f" (it may be one that was not asked: {listed(missing)})"
    return Row("address", host, FAILED, what, do)


def _frames(run: Run) -> Iterator[Row]:
    """Whether the network lets frames of VIPs pass, and where that could not be tried."""
    tried: set[tuple[str, bool]] = set()
    for one in sendings(run):
        tried.add((one.receiver if not one.from_vip else one.sender, one.from_vip))
        yield _passed(run, one)
    for host in run.groups[BACKENDS]:
        if host not in run.asked or not run.asked[host] or not run.facts[host]:
            continue
        if (host, False) not in tried:
            why = "no load balancer that was asked knows its MAC address, or it could not listen"
            yield Row("frames", host, UNTESTED, f"to it, addressed to the VIPs: {why}{_said(run, host)}")
        if (host, True) not in tried:
            yield Row("frames", host, UNTESTED, f"from it, as the VIPs: nobody could listen{_said(run, host)}")
    if not any(run.listens(host) for host in run.groups[CLIENTS]):
        yield Row(
            "frames",
            "-",
            UNTESTED,
            "the way to the clients: no host of dsr_clients took part, so load balancers listened in their place",
            "put a host into dsr_clients, best one on the way of real clients",
        )


def _said(run: Run, host: str) -> str:
    answer = run.registered(host, "__dsr_listening") or {}
    return f" ({answer['msg']})" if answer.get("msg") else ""


def _passed(run: Run, one: Sending) -> Row:
    host = one.sender if one.from_vip else one.receiver
    way = f"as the VIPs to {one.receiver}" if one.from_vip else f"to the VIPs from {one.sender}"
    sent = run.registered(one.sender, "__dsr_sent") or {}
    heard = run.heard(one.receiver)
    if "sent" not in sent or heard is None:
        said = sent.get("msg") or (run.registered(one.receiver, "__dsr_heard") or {}).get("msg") or "it gave no answer"
        return Row("frames", host, UNTESTED, f"{way}: {' '.join(str(said).split())[:200]}")
    there = heard.get(one.sender, set())
    lost = [vip for vip, pair in one.pairs().items() if pair not in there]
    if not lost:
        return Row("frames", host, OK, f"{way}: pass")
    if f"{one.plain[0]} > {one.plain[1]}" not in there and len(lost) == len(one.vips):
        why = next((problem for problem in sent.get("problems", ()) if problem.startswith(one.plain[1])), "")
        return Row(
            "frames",
            host,
            UNTESTED,
            f"{way}: not even a datagram to UDP port 9 without a VIP ({one.plain[0]} > {one.plain[1]}) arrives"
            + (f" ({why})" if why else ""),
            "correct the way there first"
            if why
            else "let UDP port 9 pass between these hosts (security group, firewall), and run it again",
        )
    return Row(
        "frames",
        host,
        FAILED,
        f"{way}: the network drops {'what is from' if one.from_vip else 'what is to'} {listed(lost)}, "
        "and lets the same pass without a VIP",
        KNOBS,
    )


def _mtus(run: Run) -> Iterator[Row]:
    """Frames are passed on as they came: nobody in between can say that one is too large."""
    clients = {
        host: max((nic["mtu"] for nic in run.facts[host]["nics"].values()), default=0)
        for host in run.groups[CLIENTS]
        if run.facts[host].get("nics")
    }
    for balancer in run.groups[LOAD_BALANCERS]:
        facts = run.facts[balancer]
        alike: dict[tuple[str, int], list[str]] = {}
        for address, there in (facts.get("backends") or {}).items():
            host = run.at.get(address, "")
            theirs = run.facts.get(host, {})
            nic = (theirs.get("nics") or {}).get(theirs.get("interface"))
            own = facts["nics"].get(there["interface"])
            if not nic or not own:
                continue
            if nic["mtu"] == own["mtu"]:
                alike.setdefault((there["interface"], own["mtu"]), []).append(host)
            else:
                yield _mtu(balancer, there["interface"], own["mtu"], host, theirs["interface"], nic["mtu"], clients)
        for (nic_name, mtu), hosts in alike.items():
            yield Row("mtu", balancer, OK, f"{mtu} on {nic_name} and on {len(set(hosts))} backends")


def _mtu(balancer: str, nic: str, ours: int, host: str, theirs: str, mtu: int, clients: Mapping[str, int]) -> Row:
    do = f"the same MTU on the whole segment: ip link set dev {theirs} mtu {ours}, or {nic} of {balancer} to {mtu}"
    if mtu < ours:
        what = (
            f"{theirs} has {mtu} and {nic} of {balancer} {ours}: larger frames are passed on and lost here; TCP keeps "
            "below that, UDP and fragments do not"
        )
        return Row("mtu", host, WARNING, what, do)
    large = [name for name, size in clients.items() if size > ours]
    what = (
        f"{theirs} has {mtu} and {nic} of {balancer} only {ours}, the dangerous way: clients are told of {mtu}, and "
        f"what they send beyond {ours} is lost at {balancer}, so uploads stall"
    )
    if large:
        return Row("mtu", host, serious(True), f"{what}; the client {listed(large)} has more than {ours}", do)
    return Row("mtu", host, WARNING, what, do)


_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


def _forwarding(run: Run) -> Iterator[Row]:
    """A backend that forwards sends what is for a VIP that it does not hold back to the load balancer."""
    served = {vip for host in run.groups[LOAD_BALANCERS] for vip in run.facts[host].get("holds") or ()}
    for host in run.groups[BACKENDS]:
        facts = run.facts[host]
        for version in facts.get("forwards") or ():
            lacking = [
                vip
                for vip in run.vips_of(host)
                if vip in served and vip not in facts["holds"] and _version(vip) == version
            ]
            if lacking:
                yield Row(
                    "sysctl",
                    host,
                    WARNING,
                    f"{_FORWARDING[version]} is 1, and {listed(lacking)} is not on this host: what is sent to it goes "
                    "back to the load balancer",
                    f"run dsr.layer2.site, or sysctl -w {_FORWARDING[version]}=0",
                )


# --- the table


def table(found: Sequence[Row]) -> list[str]:
    """The lines, no wider than 120 columns; what hosts have in common stands once."""
    same: dict[tuple[str, str, str, str], list[str]] = {}
    for row in found:
        same.setdefault((row.check, row.result, row.what, row.do), []).append(row.host)
    # As the inventory has them
    places = {host: number for number, host in enumerate(dict.fromkeys(row.host for row in found))}
    order = sorted(same.items(), key=lambda item: (_place(CHECKS, item[0][0]), _place(_RESULTS, item[0][1])))
    lines = [_line("CHECK", "HOST", "RESULT", "WHAT, AND WHAT TO DO")]
    room = _WIDTH - len(_line("", "", "", ""))
    shown: set[str] = set()
    for (check, result, what, do), hosts in order:
        names = sorted(dict.fromkeys(hosts), key=places.__getitem__)
        if result == OK and len(", ".join(names)) > _HOSTS:
            names = [f"{len(names)} hosts"]
        left = textwrap.wrap(", ".join(names), _HOSTS, break_long_words=False)
        right = textwrap.wrap(what, room, break_long_words=False)
        if do in shown and len(do) > room:
            do = "the same as above"
        shown.add(do)
        if do:
            right += textwrap.wrap(do, room, initial_indent="> ", subsequent_indent="  ", break_long_words=False)
        for number in range(max(len(left), len(right))):
            begin = (check, result) if number == 0 else ("", "")
            host = left[number] if number < len(left) else ""
            lines.append(_line(begin[0], host, begin[1], right[number] if number < len(right) else "").rstrip())
    counts = {result: sum(row.result == result for row in found) for result in _RESULTS}
    lines.append(", ".join(f"{count} {result}" for result, count in counts.items()))
    return lines


def _line(check: str, host: str, result: str, text: str) -> str:
    return f"{check:<9} {host:<{_HOSTS}} {result:<10} {text}"


def _place(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)

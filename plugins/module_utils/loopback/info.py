# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend is at present, and whether Direct Server Return can work with it. Reads only."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.iproute import IPAddress, Link
from ..common.neighbours import question_of
from . import arp
from .backend import MEMORY
from .holding import Memory, Request, required_link
from .host import Host
from .model import host_interface, ordered, parse_addresses, parse_interface, parse_path
from .observed import Observed, is_nic, observe
from .persisted import NETPLAN_FILE, SYSCTL_FILE, Claim, is_ours, netplan_addresses
from .persistence import Persistence


@dataclass(frozen=True)
class Question:
    """The options of dsr_backend_loopback_info, checked. ``asked``: the virtual IPs that it should hold."""

    asked: tuple[IPAddress, ...] = ()
    interface: str = "lo"
    sysctl_file: str = SYSCTL_FILE
    netplan_file: str = NETPLAN_FILE


def parse_options(options: Mapping[str, Any]) -> Question:
    return Question(
        asked=parse_addresses(options["vips"] or [], "vips", purge=True),
        interface=parse_interface(options["interface"], "interface"),
        sysctl_file=parse_path(options["sysctl_file"], "sysctl_file", arp.FOLDERS, ".conf"),
        netplan_file=parse_path(options["netplan_file"], "netplan_file", ("/etc/netplan",), ".yaml"),
    )


def look(host: Host, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that the module returns."""
    question = parse_options(options)
    host.require_root()
    observed = observe(host)
    link = required_link(Request("vips", question.asked, question.interface), observed.links)
    claim = Memory(host, MEMORY).of(link.name)
    persistence = Persistence(host, link, question.netplan_file, claim.files)
    vips = _vips(question, observed)
    boot = arp.Boot(host.sysctl_files())
    manager = persistence.keeper()
    kept = persistence.own_addresses()
    return {
        "vips": [
            {"address": str(address), "interface": entry.link}
            for address in vips
            for entry in observed.holders(address)
        ],
        "sysctls": _sysctls(observed),
        "persisted": {
            "manager": manager,
            "vips": [str(address) for address in kept],
            "sysctl_file": _sysctl_file(host, question.sysctl_file),
            "netplan_file": _netplan_file(host, question.netplan_file),
            "networkd_files": persistence.networkd_files(),
            "at_boot": {name: boot.number("all", name) or 0 for name in (arp.IGNORE, arp.ANNOUNCE)},
        },
        "answers_arp": [
            {"address": str(address), "answers": bool(nics), "interfaces": nics}
            for address, nics in ((address, observed.who_answers(address)) for address in vips)
        ],
        "problems": [
            *_unserved(question, observed, link, claim, kept),
            *_answered(observed, vips),
            *(_unsuppressed(host, question, observed, boot) if any(vip.version == 4 for vip in vips) else ()),
        ],
    }


def _vips(question: Question, observed: Observed) -> tuple[IPAddress, ...]:
    """Those that were asked about, and every other host address on an interface without neighbours."""
    found = [
        entry.ip
        for entry in observed.held
        if not is_nic(observed.links[entry.link])
        and entry.value == host_interface(entry.ip)
        and not entry.ip.is_loopback
        and not entry.ip.is_link_local
    ]
    return ordered([*question.asked, *found])


def _sysctls(observed: Observed) -> dict[str, dict[str, int]]:
    rows = {"all": {arp.IGNORE: observed.all_ignore, arp.ANNOUNCE: observed.all_announce}}
    for interface in observed.interfaces:
        rows[interface.name] = {
            arp.IGNORE: interface.ignore,
            arp.ANNOUNCE: interface.announce,
            f"effective_{arp.IGNORE}": max(observed.all_ignore, interface.ignore),
            f"effective_{arp.ANNOUNCE}": max(observed.all_announce, interface.announce),
        }
    return rows


def _sysctl_file(host: Host, path: str) -> dict[str, Any]:
    text = host.foreign_text(path)
    own = arp.Boot([arp.SysctlFile(path, text)] if text is not None else [])
    return {
        "path": path,
        "exists": text is not None,
        "managed": text is not None and is_ours(text),
        arp.IGNORE: own.number("all", arp.IGNORE),
        arp.ANNOUNCE: own.number("all", arp.ANNOUNCE),
    }


def _netplan_file(host: Host, path: str) -> dict[str, Any]:
    text = host.foreign_text(path)
    held = netplan_addresses(text) if text is not None and is_ours(text) else {}
    return {
        "path": path,
        "exists": text is not None,
        "managed": text is not None and is_ours(text),
        "addresses": {device.name: [str(address) for address in group] for device, group in held.items()},
    }


def _unserved(
    question: Question, observed: Observed, link: Link, claim: Claim, kept: tuple[IPAddress, ...]
) -> list[str]:
    """Virtual IPs that this host should hold, and does not, or not for long."""
    problems = []
    # With 'persist: none' the user has said so: then no file but that of the ARP settings is ours.
    deliberate = claim.addresses if not any(posixpath.dirname(path) not in arp.FOLDERS for path in claim.files) else ()
    for address in question.asked:
        there = any((entry.link, entry.value) == (link.name, host_interface(address)) for entry in observed.held)
        if not there:
            problems.append(f"{address} is not on {link.name}: this host drops what the load balancer sends it")
        elif address not in kept and address not in deliberate:
            problems.append(f"no file of this collection brings {address} back at boot")
    return problems


def _answered(observed: Observed, vips: tuple[IPAddress, ...]) -> list[str]:
    """Virtual IPs that this host lets clients find, which only the load balancer may."""
    found = [(address, observed.who_answers(address)) for address in vips]
    return [
        f"this host answers {question_of(address.version)} for {address} on {', '.join(nics)}: clients may send to it "
        f"past the load balancer"
        for address, nics in found
        if nics
    ]


def _unsuppressed(host: Host, question: Question, observed: Observed, boot: arp.Boot) -> list[str]:
    """What is wrong with the ARP settings, now and after a boot."""
    problems = []
    if arp.suppresses(observed.all_ignore):
        problems += arp.culprits_now(observed.interfaces, observed.all_ignore)
    else:
        problems.append(
            f"{arp.key('all', arp.IGNORE)} is {observed.all_ignore}, which suppresses nothing; it must be 1"
        )
    if observed.all_announce != arp.WANTED_ANNOUNCE:
        problems.append(
            f"{arp.key('all', arp.ANNOUNCE)} is {observed.all_announce}, with which this host may name a virtual IP in "
            f"its own ARP requests; it must be {arp.WANTED_ANNOUNCE}"
        )
    if boot.number("all", arp.IGNORE) is None:
        problems.append(f"no file of sysctl.d sets {arp.key('all', arp.IGNORE)}: after a boot ARP is not suppressed")
    certain, possible = arp.culprits_at_boot(boot, question.sysctl_file, observed.presence(), host.late_sysctl_file())
    return [*problems, *certain, *possible]

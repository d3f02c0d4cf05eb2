# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which load balancer has which VIP: what keepalived is told on each of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError

# A dead agent takes 100 off: an LB with one then never wins over an LB without, whatever their places.
HIGHEST, LOWEST, AGENT_WEIGHT = 200, 101, -100
AWAY_FILE = "/etc/keepalived/nft-dsr.away"
_NIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_PASSWORD = re.compile(r"[A-Za-z0-9._+=@%-]{1,8}\Z")
_PATH = re.compile(r"/[A-Za-z0-9_./-]+\Z")


@dataclass(frozen=True)
class Balancer:
    """One load balancer: its name in the inventory, its own IPv4 address, and the NIC with the VIPs."""

    name: str
    address: str
    interface: str
    priority: Optional[int] = None


@dataclass(frozen=True)
class Options:
    """What all load balancers of a group have in common; times are in seconds."""

    transport: str = "unicast"
    version: int = 3
    advert_interval: float = 0.1
    router_id: int = 100
    router_ids: Mapping[str, int] | None = None
    spread: bool = True
    preempt: bool = True
    preempt_delay: int = 5
    password: str = ""
    agent: bool = False
    nft: str = "/usr/sbin/nft"
    systemctl: str = "/usr/bin/systemctl"


def options_of(given: Mapping[str, Any]) -> Options:
    """The options of the role, checked: what is wrong names the variable."""

    def whole(name: str, lowest: int, highest: int) -> int:
        return _whole(given.get(name, getattr(Options, name)), f"high_availability_{name}", lowest, highest)

    transport = str(given.get("transport", Options.transport))
    if transport not in ("unicast", "multicast"):
        raise ConfigError("high_availability_transport", f"{transport!r} is neither unicast nor multicast")
    version = whole("version", 2, 3)
    try:
        interval = float(given.get("advert_interval", Options.advert_interval))
    except (TypeError, ValueError):
        raise ConfigError("high_availability_advert_interval", "is not a number of seconds, such as 0.1") from None
    if version == 3 and not 0.01 <= interval <= 40.95:
        raise ConfigError("high_availability_advert_interval", f"{interval:g} s is not between 0.01 and 40.95")
    if version == 2 and (interval != int(interval) or not 1 <= interval <= 255):
        raise ConfigError(
            "high_availability_advert_interval", f"{interval:g} s: VRRP version 2 knows whole seconds only, 1 to 255"
        )
    password = str(given.get("password") or "")
    if password and version == 3:
        raise ConfigError(
            "high_availability_password",
            "VRRP version 3 has no authentication (RFC 5798); leave it out, or set high_availability_version: 2",
        )
    if password and not _PASSWORD.match(password):
        raise ConfigError("high_availability_password", "takes 1 to 8 letters, digits and . _ + = @ % -")
    ids = given.get("router_ids") or {}
    if not isinstance(ids, Mapping):
        raise ConfigError("high_availability_router_ids", "is not a dictionary of load balancers and router ids")
    for name in ("nft", "systemctl"):
        if not _PATH.match(str(given.get(name) or getattr(Options, name))):
            raise ConfigError(f"high_availability: {name}", f"{given[name]!r} is not a path")
    return Options(
        transport=transport,
        version=version,
        advert_interval=interval,
        router_id=whole("router_id", 1, 255),
        router_ids={
            str(name): _whole(value, f"high_availability_router_ids.{name}", 1, 255) for name, value in ids.items()
        },
        spread=bool(given.get("spread", True)),
        preempt=bool(given.get("preempt", True)),
        preempt_delay=whole("preempt_delay", 0, 1000),
        password=password,
        agent=bool(given.get("agent", False)),
        nft=str(given.get("nft") or Options.nft),
        systemctl=str(given.get("systemctl") or Options.systemctl),
    )


def balancers_of(names: Sequence[str], hosts: Mapping[str, Mapping[str, Any]]) -> list[Balancer]:
    """The load balancers of a group, in the inventory's order, from their variables and the facts of their network."""
    if len(names) < 2:
        raise ConfigError(
            "dsr_ha",
            f"vrrp needs two load balancers or more, and the group has {len(names)}: add one, or leave dsr_ha out",
        )
    found = [_balancer(name, hosts[name]) for name in names]
    by_address: dict[str, str] = {}
    for one in found:
        other = by_address.setdefault(one.address, one.name)
        if other != one.name:
            raise ConfigError(
                f"{one.name}.high_availability_address", f"{one.address} is the address of {other} as well"
            )
    return found


def _balancer(name: str, host: Mapping[str, Any]) -> Balancer:
    facts = host.get("ansible_facts") or {}
    default = facts.get("default_ipv4") or {}
    nic = host.get("high_availability_interface") or host.get("dsr_interface") or default.get("interface")
    if not nic:
        raise ConfigError(
            f"{name}.high_availability_interface",
            "the NIC of the VIPs is not known: the host has no default route of IPv4; name the NIC",
        )
    if not _NIC.match(str(nic)):
        raise ConfigError(f"{name}.high_availability_interface", f"{nic!r} is no name of a NIC")
    own = facts.get(str(nic).replace("-", "_").replace(".", "_")) or {}
    address = host.get("high_availability_address") or (own.get("ipv4") or {}).get("address")
    if not address and default.get("interface") == nic:
        address = default.get("address")
    if not address:
        raise ConfigError(
            f"{name}.high_availability_address",
            f"the load balancer's own IPv4 address on {nic} is not known: it was not reached in this run, or has none; "
            "set it in the inventory",
        )
    try:
        address = str(IPv4Address(str(address)))
    except ValueError:
        raise ConfigError(f"{name}.high_availability_address", f"{address!r} is no IPv4 address") from None
    priority = host.get("high_availability_priority")
    return Balancer(
        name,
        address,
        str(nic),
        None if priority in (None, "") else _whole(priority, f"{name}.high_availability_priority", LOWEST, HIGHEST),
    )


def _whole(value: Any, place: str, lowest: int, highest: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = lowest - 1
    if not lowest <= number <= highest:
        raise ConfigError(place, f"{value!r} is no whole number from {lowest} to {highest}")
    return number


def plan(vips: Sequence[Mapping[str, Any]], name: str, group: Sequence[Balancer], options: Options) -> dict[str, Any]:
    """What keepalived is told on the load balancer ``name``; the same data gives plans that fit on all of them."""
    own = next((one for one in group if one.name == name), None)
    if own is None:
        raise ConfigError("high_availability_group", f"{name} is not in the group of load balancers")
    owners = _owners(group, options)
    ids = _router_ids(owners, options)
    held = assign(_addresses(vips), [one.name for one in owners])
    return {
        "router": own.name,
        "interface": own.interface,
        "address": own.address,
        "peers": [one.address for one in group if one.name != name],
        "transport": options.transport,
        "version": options.version,
        "advert_interval": options.advert_interval,
        "password": options.password,
        "preempt": options.preempt,
        "preempt_delay": options.preempt_delay,
        "away_file": AWAY_FILE,
        "instances": [
            {
                "name": f"dsr_{ids[owner.name]}",
                "owner": owner.name,
                "router_id": ids[owner.name],
                "priority": _priority(own, owner, group, options),
                # Adverts whose lists of addresses differ are thrown away, and both become active. So the one that is
                # announced never changes, and the VIPs, of both families, are in the list that is not announced.
                "marker": f"127.112.0.{ids[owner.name]}/32",
                "addresses": [f"{one}/{32 if ip_address(one).version == 4 else 128}" for one in held[owner.name]],
            }
            for owner in owners
        ],
        "checks": _checks(own, options),
    }


def _owners(group: Sequence[Balancer], options: Options) -> list[Balancer]:
    """Of each VRRP instance, the load balancer that has it while all is well."""
    given = [one for one in group if one.priority is not None]
    if options.spread:
        if given:
            raise ConfigError(
                f"{given[0].name}.high_availability_priority",
                "VIPs are spread, each LB comes first for its own; set high_availability_spread: false as well",
            )
        return list(group)
    if given and len(given) < len(group):
        missing = next(one.name for one in group if one.priority is None)
        raise ConfigError(f"{missing}.high_availability_priority", "is missing, while other load balancers have one")
    seen: dict[int, str] = {}
    for one in given:
        other = seen.setdefault(one.priority or 0, one.name)
        if other != one.name:
            raise ConfigError(
                f"{one.name}.high_availability_priority",
                f"{one.priority} is the priority of {other} as well; give each its own",
            )
    return [max(given, key=lambda one: one.priority or 0) if given else group[0]]


def _priority(own: Balancer, owner: Balancer, group: Sequence[Balancer], options: Options) -> int:
    if own.priority is not None and not options.spread:
        return own.priority
    names = [one.name for one in group]
    return HIGHEST - (names.index(own.name) - names.index(owner.name)) % len(names)


def _router_ids(owners: Sequence[Balancer], options: Options) -> dict[str, int]:
    given = dict(options.router_ids or {})
    taken: dict[int, str] = {}
    found: dict[str, int] = {}
    for place, owner in enumerate(owners):
        number = given.get(owner.name, options.router_id + place)
        if number > 255:
            raise ConfigError(
                "high_availability_router_id",
                f"{options.router_id}: {len(owners)} load balancers take as many ids, and 255 is the last",
            )
        other = taken.setdefault(number, owner.name)
        if other != owner.name:
            raise ConfigError(
                f"high_availability_router_ids.{owner.name}", f"{number} is the router id of {other} as well"
            )
        found[owner.name] = number
    return found


def _addresses(vips: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(
        {str(ip_address(str(vip["address"]))) for vip in vips}, key=lambda text: (":" in text, ip_address(text))
    )


def assign(addresses: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Addresses to load balancers, evenly, and so that few move when one comes or goes.

    Rendezvous hashing (Thaler and Ravishankar, 1998) with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016):
    each address goes to the first of its own order of the load balancers that has room.
    """
    least, over = divmod(len(addresses), len(names))
    held: dict[str, list[str]] = {name: [] for name in names}
    for address in addresses:
        order = sorted(names, key=lambda name: hashlib.sha256(f"{name} {address}".encode()).digest())
        name = next(name for name in order if len(held[name]) < least + (1 if over else 0))
        over -= len(held[name]) == least
        held[name].append(address)
    return held


def _checks(own: Balancer, options: Options) -> list[dict[str, Any]]:
    # Asks for the chain without listing it: a listing of large maps takes half a second of the processor.
    checks: list[dict[str, Any]] = [
        {
            "name": "dsr_rules",
            "command": f"{options.nft} -c add rule netdev nft_dsr ingress_{own.interface} continue",
            "interval": 1,
            "timeout": 2,
            "fall": 2,
            "rise": 1,
            "weight": 0,
        }
    ]
    if options.agent:
        checks.append(
            {
                "name": "dsr_agent",
                "command": f"{options.systemctl} is-active --quiet nft-dsr-agent.service",
                "interval": 1,
                "timeout": 2,
                "fall": 5,  # longer than a restart of it takes
                "rise": 2,
                "weight": AGENT_WEIGHT,
            }
        )
    return checks


def strangers(plan_of: Mapping[str, Any], seen: Sequence[Mapping[str, Any]]) -> str:
    """What is in the way: a router id of ours in adverts of somebody who is none of us. Empty if nothing is."""
    ours = {plan_of["address"], *plan_of["peers"]}
    ids = {instance["router_id"] for instance in plan_of["instances"]}
    for router in seen:
        if router["router_id"] in ids and router["source"] not in ours:
            return (
                f"high_availability_router_id: {router['router_id']} is in use on the segment of "
                f"{plan_of['interface']} by {router['source']}, which is none of these load balancers; "
                "choose another range of ids"
            )
    return ""


def owned_elsewhere(plan_of: Mapping[str, Any], config: str) -> str:
    """What is in the way: a VIP that another configuration of keepalived on this host has too. Empty if nothing is."""
    lines = (line.split("#")[0].split("!")[0] for line in config.splitlines())
    words = {word.strip('"{}').split("/")[0] for line in lines for word in line.split()}
    for instance in plan_of["instances"]:
        for address in instance["addresses"]:
            if address.split("/")[0] in words:
                return (
                    f"/etc/keepalived/keepalived.conf: it has the VIP {address.split('/')[0]} too; take it out there, "
                    "or leave the VIP out of dsr_vips"
                )
    return ""

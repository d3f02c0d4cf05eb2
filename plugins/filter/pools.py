# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory to what each host is asked for: pools for load balancers, addresses for backends.

They run on the controller before any host is touched, and check with the code that the modules use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Callable, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.options import parse_choice
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import one_of, told

# A host of dsr_backends as pools need it: name, address4 and address6 (null: not known), own_addresses, weight, problem
Host = Mapping[str, Any]
Hosts = Sequence[Host]

# The place of a backend in an error's path
_PLACE = re.compile(r"dsr_vips\[(?P<vip>\d+)\]\.backends\[(?P<backend>\d+)\]")


def _is_address(text: str, version: int) -> bool:
    try:
        return ip_address(text).version == version
    except ValueError:
        return False


# --- hosts


def backend_hosts(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the inventory and facts say of backends, each host's variables looked up once: that takes its time."""
    return [_backend_host(name, hostvars[name]) for name in names]


def _backend_host(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    facts = variables.get("ansible_facts") or {}
    declared, problem = _declared(name, variables.get("dsr_backend_address"))
    weight = _given(variables, "dsr_backend_weight") or "1"
    if not problem and (not re.fullmatch(r"\d{1,5}", weight) or int(weight) > model.MAX_WEIGHT):
        problem = f"dsr_backend_weight of the host {name}: {weight!r} is not a weight; use 0 to {model.MAX_WEIGHT}"
    addresses = {version: declared.get(version) or _address(facts, version) for version in (4, 6)}
    own = {str(address) for version in (4, 6) for address in facts.get(f"all_ipv{version}_addresses") or ()}
    return {
        "name": name,
        "address4": addresses[4],
        "address6": addresses[6],
        "own_addresses": sorted(own.union(filter(None, addresses.values()))),
        "weight": 1 if problem else int(weight),
        "problem": problem,
    }


def _declared(name: str, value: Any) -> tuple[dict[int, str], str]:
    """The addresses of dsr_backend_address by family, and what is wrong with it.

    It is one address of either family, or a list with one of each; surveys send '' for what nobody filled in.
    """
    found: dict[int, str] = {}
    for given in value if isinstance(value, (list, tuple)) else [value]:
        text = "" if given is None else str(given).strip()
        if not text:
            continue
        version = next((version for version in (4, 6) if _is_address(text, version)), 0)
        place = f"dsr_backend_address of the host {name}"
        if not version:
            return {}, f"{place}: {text!r} is not an IP address"
        if version in found:
            return {}, f"{place}: {text} is a second IPv{version} address beside {found[version]}; give one of a family"
        found[version] = str(ip_address(text))
    return found, ""


def _given(variables: Mapping[str, Any], key: str) -> str:
    """A variable as text; '' when it is not set. Surveys send '' for what nobody filled in."""
    value = variables.get(key)
    return "" if value is None else str(value).strip()


def _address(facts: Mapping[str, Any], version: int) -> Optional[str]:
    """The address at which load balancers reach a host, or None when it is not known."""
    return (facts.get(f"default_ipv{version}") or {}).get("address") or _only_address(facts, version)


def _only_address(facts: Mapping[str, Any], version: int) -> Optional[str]:
    """The address of a host that has no default route, as on an isolated segment, and but one address."""
    found = []
    for name in facts.get("interfaces") or ():
        nic = facts.get(str(name).replace("-", "_")) or {}
        if nic.get("type") == "loopback":
            continue  # that is where the VIPs are
        if version == 6:
            # A lone address is most likely a VIP, on an interface that stands in for the loopback.
            found += [
                entry["address"]
                for entry in nic.get("ipv6", ())
                if entry.get("scope") == "global" and str(entry.get("prefix")) != "128"
            ]
        else:
            found += [entry["address"] for entry in (nic.get("ipv4"), *nic.get("ipv4_secondaries", ())) if entry]
    return found[0] if len(found) == 1 else None


# --- pools


def _version(vip: Mapping[str, Any]) -> int:
    """The family that the backends of this VIP need; what is no address at all is reported elsewhere."""
    return 6 if _is_address(str(vip.get("address")), 6) else 4


def _takes_all(vip: Any) -> bool:
    """Whether this VIP takes every host of dsr_backends."""
    return isinstance(vip, Mapping) and vip.get("backends") is None


def _backend(host: Host, version: int) -> dict[str, Any]:
    """A host of dsr_backends as an entry of a pool."""
    if host[f"address{version}"] is None:
        raise ConfigError(
            f"the host {host['name']} of dsr_backends",
            f"its IPv{version} address is not known, and a pool without it would be a smaller one: it may be "
            "unreachable, or have no default route and several addresses. Set dsr_backend_address for it (one address, "
            "or a list of an IPv4 and an IPv6 address)",
        )
    return {"address": host[f"address{version}"], "name": host["name"], "weight": host["weight"]}


def _checked_list(vips: Any) -> Sequence[Any]:
    if isinstance(vips, (str, Mapping)) or not isinstance(vips, Sequence):
        raise ConfigError("dsr_vips", f"must be a list of VIPs, not {vips!r}")
    return vips


def _completed(vips: Any, hosts: Hosts) -> list[dict[str, Any]]:
    given = _checked_list(vips)
    for host in hosts:
        if host["problem"]:
            raise ConfigError(*host["problem"].split(": ", 1))
    if not hosts and any(map(_takes_all, given)):
        raise ConfigError(
            "dsr_backends",
            "the group has no hosts, and a VIP without 'backends' takes all of them; check the inventory",
        )
    completed = [
        {**vip, "backends": [_backend(host, _version(vip)) for host in hosts]} if _takes_all(vip) else vip
        for vip in given
    ]
    try:
        model.parse_vips(completed, "dsr_vips")
    except ConfigError as error:
        place = _PLACE.match(error.path)
        if place is None or not _takes_all(given[int(place["vip"])]):
            raise
        # The user wrote no such list: the entry was made from a host.
        name = hosts[int(place["backend"])]["name"]
        raise ConfigError(f"{error.path} (the host {name})", error.problem) from None
    return completed


def pools(vips: Any, hosts: Hosts) -> list[dict[str, Any]]:
    """The VIPs, each with its whole pool."""
    return told(lambda: _completed(vips, hosts))


def pools_problem(vips: Any, hosts: Hosts, load_balancers: Sequence[str], allow_empty: bool = False) -> str:
    """Why the VIPs of an inventory can't be configured, or ''."""
    try:
        if not load_balancers:
            raise ConfigError("dsr_load_balancers", "the inventory has no host in this group")
        if vips is None or vips == "":
            raise ConfigError(
                "dsr_vips",
                "is not defined for this host; define it where load balancers and backends both see it, as in "
                "group_vars/all.yml",
            )
        if not _checked_list(vips) and not allow_empty:
            raise ConfigError(
                "dsr_vips",
                "is an empty list, which would remove every VIP from every host; if that is meant, set "
                "dsr_allow_empty: true",
            )
        _completed(vips, hosts)
    except ConfigError as error:
        return str(error)
    return ""


def hosts_without_address(vips: Any, hosts: Hosts) -> list[str]:
    """The hosts whose address some VIP needs and nobody knows yet."""
    # What is no list of VIPs needs no host; it is reported elsewhere.
    given = [] if isinstance(vips, (str, Mapping)) or not isinstance(vips, Sequence) else vips
    versions = {_version(vip) for vip in given if _takes_all(vip)}
    return [host["name"] for host in hosts if any(host[f"address{version}"] is None for version in versions)]


def held_by(vips: Iterable[Mapping[str, Any]], hosts: Hosts, name: str) -> list[Mapping[str, Any]]:
    """The VIPs whose pools a host is in. They have their pools already, and were checked then."""
    # All its addresses: a pool may name a host by the address of its second NIC.
    own: Sequence[str] = next((host["own_addresses"] for host in hosts if host["name"] == name), [])
    if not own:
        raise ConfigError(f"the host {name} of dsr_backends", "its addresses are not known; gather its facts first")
    mine = {ip_address(address.split("%", 1)[0]) for address in own}
    return [vip for vip in vips if any(ip_address(str(backend["address"])) in mine for backend in vip["backends"])]


def addresses_of(vips: Iterable[Mapping[str, Any]]) -> list[str]:
    """Their addresses, each once: several VIPs may share one."""
    return list(dict.fromkeys(str(ip_address(str(vip["address"]))) for vip in vips))


def _checked_hosts(hosts: Any) -> Hosts:
    for index, host in enumerate(hosts if isinstance(hosts, (list, tuple)) else [hosts]):
        if not isinstance(host, Mapping) or "own_addresses" not in host:
            raise ConfigError(
                f"backends[{index}]",
                f"{host!r} is not a host as dsr.layer2.backend_hosts gives it; write "
                "groups['dsr_backends'] | dsr.layer2.backend_hosts(hostvars)",
            )
    return [hosts] if isinstance(hosts, Mapping) else hosts


def _with_pools(vips: Any, hosts: Hosts) -> Sequence[Any]:
    # What `pools` gave was checked: to check it again for each host would double what a run costs.
    given = _checked_list(vips)
    return given if all(map(_has_pool, given)) else _completed(given, hosts)


def _has_pool(vip: Any) -> bool:
    return (
        isinstance(vip, Mapping)
        and "name" in vip
        and isinstance(vip.get("backends"), (list, tuple))
        and all(
            isinstance(entry, Mapping) and any(_is_address(str(entry.get("address")), version) for version in (4, 6))
            for entry in (vip, *vip["backends"])
        )
    )


def vips_of_host(vips: Any, hosts: Any, name: str, give: str = "addresses") -> list[Any]:
    """The VIPs whose pools a backend is in: their addresses, as it holds them on its loopback, their names, or all."""

    def ask() -> list[Any]:
        wanted = parse_choice(give, "give", tuple(_GIVEN))
        known = _checked_hosts(hosts)
        host = one_of(name, [str(host["name"]) for host in known], "dsr_backends", "host")
        return _GIVEN[wanted](held_by(_with_pools(vips, known), known, host))

    return told(ask)


def _names_of(vips: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(vip["name"]) for vip in vips]


# What may be asked for of VIPs
_GIVEN: Mapping[str, Callable[[list[Mapping[str, Any]]], list[Any]]] = {
    "addresses": addresses_of,
    "names": _names_of,
    "vips": list,
}


def backends_of_vip(vips: Any, hosts: Any, name: str) -> list[dict[str, Any]]:
    """The pool of a VIP with every option of its backends, and the host of dsr_backends that each of them is."""

    def ask() -> list[dict[str, Any]]:
        known = _checked_hosts(hosts)
        parsed = {vip.name: vip for vip in model.parse_vips(_completed(vips, known), "dsr_vips")}
        pool = parsed[one_of(name, parsed, "dsr_vips", "VIP")].backends
        owners = {
            ip_address(str(address).split("%", 1)[0]): str(host["name"])
            # Several hosts may have an address of their own making, as of a bridge: the first of them stands.
            for host in reversed(known)
            for address in host["own_addresses"]
        }
        return [{**backend.options(), "host": owners.get(backend.address, "")} for backend in pool]

    return told(ask)


def vip_defaults(vips: Iterable[Mapping[str, Any]], interface: str = "") -> list[dict[str, Any]]:
    """The VIPs with the NIC of this load balancer where they name none themselves."""
    nics = dict.fromkeys(("interface", "backend_interface"), interface) if interface else {}
    return [{**nics, **{key: value for key, value in vip.items() if value not in (None, "")}} for vip in vips]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "backend_hosts": backend_hosts,
            "backends_of_vip": backends_of_vip,
            "hosts_without_address": hosts_without_address,
            "pools": pools,
            "pools_problem": pools_problem,
            "vip_defaults": vip_defaults,
            "vips_of_host": vips_of_host,
        }

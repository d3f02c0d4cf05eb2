# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input on a load balancer that serves: one clear error that names the place, and everything stays as it was.

Each case asks for a change of the VIP that is served as well, so that what is done half would be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Callable, NamedTuple, Optional

import pytest
from lab import Lab
from lab.modules import ModuleRunner

WEB, SHOP = "10.77.0.100", "10.77.0.101"
BACKENDS = [{"address": f"10.77.0.{20 + number}", "name": f"b{number}"} for number in (1, 2, 3)]
SERVED = {"name": "web", "address": WEB, "ports": ["80"], "scheduler": "connection_hash", "backends": BACKENDS}
CHANGED = {**SERVED, "backends": BACKENDS[:2]}
NEW = {"name": "shop", "address": SHOP, "ports": ["8080"], "backends": BACKENDS}

# Everything that a run may change: the kernel's rules without what they count, and the files with their times.
_STATE = r"""
nft -s list ruleset
find /etc/nft-dsr -printf '%p %y %m %i %T@\n' | sort
find /etc/nft-dsr -type f | sort | xargs cat
"""


def state_of(lab: Lab) -> str:
    text = lab.run("lb", ["sh", "-euc", _STATE]).stdout
    assert "table netdev nft_dsr" in text and '"name": "web"' in text
    return text


@pytest.fixture(scope="module")
def served(lab: Lab, module_runner: ModuleRunner) -> str:
    """A load balancer with a VIP that works; its state."""
    result = module_runner.run(lab, "lb", "nft_dsr_vips", {"vips": [SERVED]})
    assert not result.get("failed"), result
    # So that there is a file of overrides too.
    for state in ("drained", "restored"):
        result = module_runner.run(lab, "lb", "nft_dsr_drain", {"backend": "b3", "state": state})
        assert not result.get("failed"), result
    return state_of(lab)


# What is wrong with the host in some cases. Each puts things right again.


@contextmanager
def nft_is_hidden(lab: Lab) -> Iterator[None]:
    path = lab.run("lb", ["sh", "-c", "command -v nft"]).stdout.strip()
    lab.run("lb", ["mv", path, f"{path}.hidden"])
    try:
        yield
    finally:
        lab.run("lb", ["mv", f"{path}.hidden", path])


@contextmanager
def nft_is_old(lab: Lab) -> Iterator[None]:
    with nft_is_hidden(lab):
        lab.write("lb", "/usr/sbin/nft", "#!/bin/sh\necho 'nftables v0.9.8 (E.D.S.)'\n", mode=0o755)
        yield


@contextmanager
def nft_is_broken(lab: Lab) -> Iterator[None]:
    """It ends by a signal, as nft 1.0.6 does over some rules that it does not like."""
    with nft_is_hidden(lab):
        script = '#!/bin/sh\nif [ "$1" = --version ]; then echo "nftables v1.0.6"; else kill -ABRT $$; fi\n'
        lab.write("lb", "/usr/sbin/nft", script, mode=0o755)
        yield


@contextmanager
def there_is_a_router(lab: Lab) -> Iterator[None]:
    lab.ip("lb", "route add default via 10.77.0.10")
    try:
        yield
    finally:
        lab.ip("lb", "route delete default")


def holds(name: str, text: str) -> Callable[[Lab], AbstractContextManager[None]]:
    """The file ``name`` of the load balancer's state holds ``text``."""

    @contextmanager
    def spoilt(lab: Lab) -> Iterator[None]:
        path = f"/etc/nft-dsr/{name}"
        lab.run("lb", ["cp", "-p", path, "/run/kept"])
        try:
            # In place, so that it stays the same file with the same times.
            lab.run("lb", ["sh", "-c", 'cat >"$1" && touch -r /run/kept "$1"', "sh", path], input=text)
            yield
        finally:
            lab.run("lb", ["sh", "-c", 'cat /run/kept >"$1" && touch -r /run/kept "$1"', "sh", path])

    return spoilt


class Case(NamedTuple):
    """A module is run with ``given`` and fails with a message that begins with ``error``."""

    name: str
    error: str
    given: Mapping[str, Any]
    module: str = "nft_dsr_vips"
    spoilt: Optional[Callable[[Lab], AbstractContextManager[None]]] = None
    run_by: Sequence[str] = ()


def beside(**options: Any) -> dict[str, Any]:
    """The VIP that is served, changed, and beside it another one with these options."""
    return {"vips": [CHANGED, {**NEW, **options}], "purge": True}


def backend(**options: Any) -> dict[str, Any]:
    """The same with these options for the other one's second backend."""
    return beside(backends=[BACKENDS[0], {**BACKENDS[1], **options}])


ONE_DOMAIN = "L2 DSR needs one broadcast domain (for routed networks use L3 DSR)"
NOT_A_VIP_NAME = "is not a name of a VIP; use 1 to 31 lower-case letters, digits, '-' and '_'"
NOT_A_BACKEND_NAME = "is not a name of a backend; use letters, digits, '.', '-' and '_'"
# A user without rights but one: to read what the test shows to the host.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search"),
)

CASES = [
    # schedulers, weights, protocols
    Case(
        "unknown scheduler",
        "vips[1].scheduler: 'rr' is not known; choose one of: source_hash, connection_hash, round_robin, weighted_rou",
        beside(scheduler="rr"),
    ),
    Case(
        "weights with least_connections",
        "vips[1].backends[1].weight: the scheduler least_connections knows no weights but 0 and 1, and 3 would",
        beside(scheduler="least_connections", backends=[BACKENDS[0], {**BACKENDS[1], "weight": 3}]),
    ),
    Case(
        "weights with round_robin",
        "vips[1].backends[1].weight: the scheduler round_robin knows no weights but 0 and 1, and 3 would",
        beside(scheduler="round_robin", backends=[BACKENDS[0], {**BACKENDS[1], "weight": 3}]),
    ),
    Case(
        "weight 0 among others with a hash",
        "vips[1].backends[1].weight: with a hash scheduler and different weights, 0 would forget the share",
        beside(backends=[{**BACKENDS[0], "weight": 5}, {**BACKENDS[1], "weight": 0}]),
    ),
    Case(
        "weight too large", "vips[1].backends[1].weight: 65536 is out of range; use 0 to 65535", backend(weight=65536)
    ),
    Case("negative weight", "vips[1].backends[1].weight: -1 is out of range; use 0 to 65535", backend(weight=-1)),
    Case("weight in words", "vips[1].backends[1].weight: 'heavy' is not a whole number; use", backend(weight="heavy")),
    Case(
        "unknown protocol", "vips[1].protocol: 'icmp' is not known; choose one of: tcp, udp, s", beside(protocol="icmp")
    ),
    Case("any with ports", "vips[1].ports: protocol any has no ports; leave them out", beside(protocol="any")),
    Case(
        "any with connection_hash",
        "vips[1].scheduler: connection_hash needs ports, and protocol any has none; use source_hash",
        beside(protocol="any", ports=None, scheduler="connection_hash"),
    ),
    Case(
        "unknown state", "vips[1].backends[1].state: 'off' is not known; choose one of: up, drain", backend(state="off")
    ),
    # ports
    Case("port 0", "vips[1].ports[1]: port 0 is out of range; use 1 to 65535", beside(ports=["80", "0"])),
    Case("port 70000", "vips[1].ports[0]: port 70000 is out of range; use 1 to 65535", beside(ports=["70000"])),
    Case(
        "ports 90-80", "vips[1].ports[0]: the range 90-80 ends before it starts; write '80-90'", beside(ports=["90-80"])
    ),
    Case("no ports", "vips[1].ports: the list is empty; name a port, or leave 'ports' out", beside(ports=[])),
    Case("port by name", "vips[1].ports[0]: 'http' is not a port; write '80' or '8000-8100'", beside(ports=["http"])),
    Case(
        "port with nft's syntax",
        "vips[1].ports[0]: '80; flush ruleset' is not a port; write '80' or '8000-8100'",
        beside(ports=["80; flush ruleset"]),
    ),
    Case("ports in each other", "vips[1].ports[1]: 85 overlaps 80-90 of the same list;", beside(ports=["80-90", "85"])),
    # duplicates
    Case(
        "a backend twice",
        "vips[1].backends[1].address: 10.77.0.21 is a backend already (vips[1].backends[0]); for a larger share give",
        backend(address="10.77.0.21"),
    ),
    Case(
        "a backend's name twice",
        "vips[1].backends[1].name: 'b1' is the name of vips[1].backends[0] already; give each its own",
        backend(name="b1"),
    ),
    Case(
        "a VIP's name twice",
        "vips[1].name: 'web' is the name of vips[0] already; give each its own",
        beside(name="web"),
    ),
    Case(
        "two VIPs on one address, protocol and port",
        "vips[1].ports: 10.77.0.100 tcp port 80 belongs to the VIP 'web' (vips[0]) already; give each its own ports",
        beside(address=WEB, ports=["443", "70-90"]),
    ),
    Case(
        "a port beside all ports",
        "vips[1].ports: 10.77.0.100 tcp (all ports) belongs to the VIP 'web' (vips[0]) already; give each its",
        beside(address=WEB, ports=None),
    ),
    Case(
        "a port of a VIP that is there",
        "ports: 10.77.0.100 tcp port 80 belongs to the VIP 'web' (the VIP 'web' that this host has) already; give each",
        {**NEW, "address": WEB, "ports": ["80"]},
        "nft_dsr_vip",
    ),
    Case(
        "any beside any",
        "vips[1].ports: 10.77.0.100 any (all ports) belongs to the VIP 'all' (vips[0]) already; give each its own",
        {
            "vips": [
                {"name": name, "address": WEB, "protocol": "any", "backends": BACKENDS[:2]} for name in ("all", "shop")
            ]
        },
    ),
    # persistence and flow tables
    *(
        Case(f"persistence of {value!r}", f"vips[1].persistence_timeout: {error}", beside(persistence_timeout=value))
        for value, error in (
            (-1, "-1 is out of range; use 0 to 604800"),
            (604801, "604801 is out of range; use 0 to 604800"),
            ("5m", "'5m' is not a whole number; use 0 to 604800"),
            (True, "True is not a whole number; use 0 to 604800"),
        )
    ),
    *(
        Case(f"flow table of {value!r}", f"vips[1].flow_table{error}", beside(flow_table=value))
        for value, error in (
            (1000, ": must be a dictionary of options, not 1000"),
            ([], ": must be a dictionary of options, not []"),
            ({"sise": 1}, ".sise: unknown option; there are: size, timeouts"),
            ({"size": 0}, ".size: 0 is out of range; use 1 to 16777216"),
            ({"size": 16777217}, ".size: 16777217 is out of range; use 1 to 16777216"),
            ({"size": "1M; flush ruleset"}, ".size: '1M; flush ruleset' is not a whole number; use 1 to 16777216"),
            ({"timeouts": 60}, ".timeouts: must be a dictionary of options, not 60"),
            ({"timeouts": {"fin": 60}}, ".timeouts.fin: unknown option; there are: syn, established, closing, udp"),
            ({"timeouts": {"syn": 0}}, ".timeouts.syn: 0 is out of range; use 1 to 604800"),
            ({"timeouts": {"closing": "1m"}}, ".timeouts.closing: '1m' is not a whole number; use 1 to 604800"),
            # without effect where they stand
            ({"timeouts": {"udp": 60}}, ".timeouts.udp: has no effect with protocol tcp, whose life times are: syn, "),
        )
    ),
    *(
        Case(
            f"{key} of {protocol}",
            f"vips[1].flow_table.timeouts.{key}: has no effect with protocol {protocol}, whose life times are: ",
            beside(protocol=protocol, ports=None, flow_table={"timeouts": {key: 60}}),
        )
        for protocol, key in (("udp", "syn"), ("udp", "established"), ("any", "closing"), ("sctp", "udp"))
    ),
    # backups
    Case(
        "a pool of backups",
        "vips[1].backends: all of them are backups, of nobody; leave 'backup' out where it is not one",
        beside(backends=[{**other, "backup": True} for other in BACKENDS]),
    ),
    Case("backup in words", "vips[1].backends[1].backup: 'maybe' is neither true nor false", backend(backup="maybe")),
    Case(
        "weights of backups with round_robin",
        "vips[1].backends[1].weight: the scheduler round_robin knows no weights but 0 and 1, and 2 would have",
        beside(scheduler="round_robin", backends=[BACKENDS[0], {**BACKENDS[1], "weight": 2, "backup": True}]),
    ),
    # when nobody is left
    Case(
        "unknown on_empty",
        "vips[1].on_empty: 'accept; drop' is not known; choose one of: drop, reject, local",
        beside(on_empty="accept; drop"),
    ),
    # who may come
    Case(
        "nobody may come",
        "vips[1].allow_sources: the list is empty and would lock out everybody; leave it out to allow all",
        beside(allow_sources=[]),
    ),
    *(
        Case(f"{option} {value!r}", f"vips[1].{option}{error}", beside(**{option: value}))
        for option in ("allow_sources", "deny_sources")
        for value, error in (
            ({"10.0.0.0/8": True}, ": {'10.0.0.0/8': True} is not a list of networks; write ['192.0.2.0/24']"),
            (["everybody"], "[0]: 'everybody' is not a network; write it as '192.0.2.0/24'"),
            (
                ["10.0.0.0/8", "10.1.2.3/16"],
                "[1]: 10.1.2.3/16 has bits set beyond its prefix length; write '10.1.0.0/16'",
            ),
            (["10.0.0.0/33"], "[0]: '10.0.0.0/33' is not a network; write it as '192.0.2.0/24'"),
            (["10.0.0.1 }; flush ruleset"], "[0]: '10.0.0.1 }; flush ruleset' is not a network; write it as"),
            # without effect where it stands
            (["fd00::/8"], "[0]: fd00::/8 is IPv6 and the VIP is IPv4, so it would have no effect"),
        )
    ),
    *(
        Case(
            f"{option} of the other family",
            f"vips[1].{option}[0]: 10.0.0.0/8 is IPv4 and the VIP is IPv6, so it would have no effect",
            beside(address="fd00::101", backends=[{"address": "fd00::21"}], **{option: ["10.0.0.0/8"]}),
        )
        for option in ("allow_sources", "deny_sources")
    ),
    Case(
        "an IPv6 network with nft's syntax in its zone",
        "vips[1].deny_sources[0]: 'fd00::%a }; flush ruleset; add set x y {/64' is not a network; write it as",
        beside(
            address="fd00::101",
            backends=[{"address": "fd00::21"}],
            deny_sources=["fd00::%a }; flush ruleset; add set x y {/64"],
        ),
    ),
    Case(
        "too many networks",
        "vips[1].deny_sources: 4097 networks are too many; a VIP takes 4096",
        beside(deny_sources=[f"10.{number >> 8}.{number & 255}.1" for number in range(4097)]),
    ),
    # how many new flows
    *(
        Case(f"rate {value!r}", f"vips[1].new_flows_per_source: {error}", beside(new_flows_per_source=value))
        for value, error in (
            ("100", "'100' is not a rate; write it as '100/second' (or minute, hour, day)"),
            ("100/week", "'100/week' is not a rate; write it as '100/second'"),
            ("9/second burst 5", "'9/second burst 5' is not a rate; write it as '100/second'"),
            ("9/second; drop", "'9/second; drop' is not a rate; write it as '100/second'"),
            ("0/second", "the rate 0 is out of range; use 1 to 1000000"),
            ("1000001/day", "the rate 1000001 is out of range; use 1 to 1000000"),
        )
    ),
    *(
        # without effect where it stands
        Case(
            f"rate with {protocol} and {scheduler}",
            f"vips[1].new_flows_per_source: {scheduler} tracks no flows, so with protocol {protocol} nobody knows",
            beside(protocol=protocol, ports=None, scheduler=scheduler, new_flows_per_source="9/second"),
        )
        for protocol, scheduler in (("udp", "source_hash"), ("udp", "connection_hash"), ("any", "source_hash"))
    ),
    # addresses
    Case("VIP without an address", "vips[1].address: is missing; a VIP needs its address", beside(address=None)),
    Case("VIP of no form", "vips[1].address: '10.77.0' is not an IP address; write it as", beside(address="10.77.0")),
    Case(
        "VIP with a prefix length",
        "vips[1].address: '10.77.0.101/32' has a prefix length; give the address alone",
        beside(address=f"{SHOP}/32"),
    ),
    Case(
        "VIP that is the load balancer's own address",
        "vips[1].address: 10.77.0.2 is this load balancer's own address (10.77.0.2/24 on eth0); give the VIP",
        beside(address="10.77.0.2"),
    ),
    Case(
        "VIP that is its own backend",
        "vips[1].backends[1].address: 10.77.0.101 is the VIP itself; give the backend's own address",
        backend(address=SHOP),
    ),
    Case(
        "VIP that is another's backend",
        "vips[1].address: 10.77.0.21 is a backend of the VIP 'web'; give the VIP an address of its own",
        beside(address="10.77.0.21", backends=BACKENDS[1:]),
    ),
    Case(
        "backend that is another VIP",
        "vips[1].backends[1].address: 10.77.0.100 is the address of the VIP 'web'; give the backend's own address",
        backend(address=WEB),
    ),
    Case(
        "backend that is the load balancer",
        "vips[1].backends[1].address: 10.77.0.2 is an address of this load balancer (eth0); a backend is another host",
        backend(address="10.77.0.2"),
    ),
    Case(
        "IPv4 VIP with an IPv6 backend",
        "vips[1].backends[1].address: fd00::22 is IPv6 and the VIP is IPv4; give the backend's IPv4 address",
        backend(address="fd00::22"),
    ),
    Case(
        "IPv6 VIP with an IPv4 backend",
        "vips[1].backends[0].address: 10.77.0.21 is IPv4 and the VIP is IPv6; give the backend's IPv6 address",
        beside(address="fd00::101"),
    ),
    *(
        Case(f"VIP {address}", f"vips[1].address: {error}", beside(address=address))
        for address, error in (
            ("fd00::101/128", "'fd00::101/128' has a prefix length; give the address alone"),
            ("fd00::101%eth0", "'fd00::101%eth0' has a zone; give the address alone, and its NIC in"),
            ("::", ":: is the unspecified address; give a unicast address"),
            ("::1", "::1 is a loopback address, which never leaves a host; give"),
            ("ff02::1", "ff02::1 is a multicast address; give a unicast address"),
            ("fe80::1", "fe80::1 is a link-local address, which backends cannot hold on lo; give another"),
            ("::ffff:10.77.0.101", "::ffff:10.77.0.101 is a mapped IPv4 address; write it as '10.77.0.101'"),
            ("fd00:77", "'fd00:77' is not an IP address; write it as"),
        )
    ),
    Case(
        "link-local backend without its NIC",
        "vips[1].backends[0].address: fe80::21 is a link-local address; name its NIC in 'backend_interface'",
        beside(address="fd00::101", backends=[{"address": "fe80::21"}]),
    ),
    Case(
        "one IPv6 backend in two spellings",
        "vips[1].backends[1].address: fd00::21 is a backend already (vips[1].backends[0]); for a larger share",
        beside(address="fd00::101", backends=[{"address": "fd00::21"}, {"address": "FD00:0::0021"}]),
    ),
    Case(
        "IPv6 backend off the segment",
        "vips[1].backends[0].address: this host has no route to 2001:db8::21; L2 DSR needs one broadcast domain",
        beside(address="fd00::101", backends=[{"address": "2001:db8::21"}]),
    ),
    Case(
        "loopback", "vips[1].address: 127.0.0.1 is a loopback address, which never leaves", beside(address="127.0.0.1")
    ),
    Case("multicast", "vips[1].address: 224.0.0.1 is a multicast address; give a unicast", beside(address="224.0.0.1")),
    Case("broadcast", "vips[1].address: 255.255.255.255 is a broadcast or res", beside(address="255.255.255.255")),
    Case("nobody", "vips[1].address: 0.0.0.0 is in 0.0.0.0/8, which no host can use; give", beside(address="0.0.0.0")),
    Case(
        "broadcast of the segment",
        "vips[1].backends[1].address: 10.77.0.255 is the broadcast address of 10.77.0.0/24 (eth0); give an address",
        backend(address="10.77.0.255"),
    ),
    Case(
        "the segment itself",
        "vips[1].address: 10.77.0.0 is the network address of 10.77.0.0/24 (eth0); give an address",
        beside(address="10.77.0.0"),
    ),
    # the segment
    Case(
        "backend off the segment",
        f"vips[1].backends[1].address: this host has no route to 192.0.2.22; {ONE_DOMAIN}",
        backend(address="192.0.2.22"),
    ),
    Case(
        "backend behind a router",
        "vips[1].backends[1].address: 192.0.2.22 is not on this host's segments: it is reached through the router "
        f"10.77.0.10 (eth0); {ONE_DOMAIN}",
        backend(address="192.0.2.22"),
        spoilt=there_is_a_router,
    ),
    Case(
        "backend that does not answer",
        "vips[1].backends[1].address: 10.77.0.99 does not answer ARP on eth0, so its MAC address is not known; start",
        backend(address="10.77.0.99"),
    ),
    Case(
        "NIC where traffic arrives is missing",
        "vips[1].interface: this host has no interface 'eth9'; it has: eth0",
        beside(interface="eth9"),
    ),
    Case(
        "NIC of the backends is missing",
        "vips[1].backend_interface: this host has no interface 'eth9'; it has: eth0",
        beside(backend_interface="eth9"),
    ),
    Case("NIC that is none", "vips[1].interface: lo is no Ethernet interface; L2 DSR rewrites", beside(interface="lo")),
    # MAC addresses
    Case(
        "malformed MAC", "vips[1].backends[1].mac: '02:d5' is not a MAC address; write it as '02:", backend(mac="02:d5")
    ),
    Case(
        "multicast MAC",
        "vips[1].backends[1].mac: 01:00:5e:00:00:01 is a multicast or broadcast MAC address; a backend has a",
        backend(mac="01:00:5e:00:00:01"),
    ),
    Case(
        "broadcast MAC",
        "vips[1].backends[1].mac: ff:ff:ff:ff:ff:ff is a multicast or broadcast MAC address; a backend has a",
        backend(mac="ff:ff:ff:ff:ff:ff"),
    ),
    Case(
        "zero MAC",
        "vips[1].backends[1].mac: the zero MAC address belongs to no host; leave 'mac' out to have it resolved",
        backend(mac="00:00:00:00:00:00"),
    ),
    Case(
        "the load balancer's own MAC",
        "vips[1].backends[1].mac: 02:d5:00:00:00:02 is this load balancer's own MAC address (eth0); give the backend's",
        backend(mac="02:d5:00:00:00:02"),
    ),
    # names that a shell or nft would take for something else
    *(
        Case(f"VIP named {name}", f"vips[1].name: {name!r} {NOT_A_VIP_NAME}", beside(name=name))
        for name in ("a;reboot", "$(touch /etc/nft-dsr/x)", "`id`", "a b", "a}", '"a"', "../a", "-a", "a\nb", "a" * 32)
    ),
    *(
        Case(f"backend named {name}", f"vips[1].backends[1].name: {name!r} {NOT_A_BACKEND_NAME}", backend(name=name))
        for name in ("a;reboot", "$(touch /etc/nft-dsr/x)", "a { }", "a\nb", "a'b")
    ),
    Case(
        "NIC with nft's syntax",
        "vips[1].interface: 'eth0\"; drop' is not a name of a network interface",
        beside(interface='eth0"; drop'),
    ),
    # options and types
    Case("unknown option", "prune: unknown option; there are: purge, vips", {"vips": [CHANGED], "prune": True}),
    Case(
        "unknown option of a VIP",
        "vips[1].schedular: unknown option; there are: name, address, interface,",
        beside(schedular="source_hash"),
    ),
    Case(
        "option of a later version",
        "vips[1].sorry_server: unknown option; there are: name, address, interface,",
        beside(sorry_server="10.77.0.9"),
    ),
    Case(
        "check of an unknown type",
        "vips[1].health_check.type: 'smtp' is not known; choose one of: tcp, http, https, dns, icmp, exec",
        beside(health_check={"type": "smtp"}),
    ),
    Case(
        "check with an option that has no effect",
        "vips[1].health_check.path: has no effect on a check of type tcp, only on http and https; leave it out",
        beside(health_check={"type": "tcp", "port": 80, "path": "/up"}),
    ),
    Case(
        "check that takes longer than its interval",
        "vips[1].health_check.timeout: 5 s are longer than the interval of 2 s",
        beside(health_check={"type": "tcp", "port": 80, "timeout": 5}),
    ),
    Case(
        "check by a command that is none",
        "vips[1].health_check.command",
        beside(health_check={"type": "exec", "command": ["reboot; true"]}),
    ),
    Case(
        "unknown option of a backend",
        "vips[1].backends[1].colour: unknown option; there are: address, name, mac, weight, state, backup",
        backend(colour="red"),
    ),
    Case("no backends", "vips[1].backends: is missing; list every backend of the VIP", beside(backends=None)),
    Case("empty pool", "vips[1].backends: the list is empty; a VIP needs at least one backend", beside(backends=[])),
    Case(
        "backend without an address",
        "vips[1].backends[0].address: is missing; every backend needs its address",
        beside(backends=[{"name": "b1"}]),
    ),
    Case(
        "backend as text",
        "vips[1].backends[0]: must be a dictionary of options, not '10.77.0.21'",
        beside(backends=["10.77.0.21"]),
    ),
    Case(
        "list in the list of backends",
        "vips[1].backends[0]: must be a dictionary of options, not [{",
        beside(backends=[BACKENDS]),
    ),
    Case(
        "backends as a dictionary",
        "vips[1].backends: {'b1': '10.77.0.21'} is not a list of backends",
        beside(backends={"b1": "10.77.0.21"}),
    ),
    Case("ports as a dictionary", "vips[1].ports: {'80': 1} is not a list of ports; write", beside(ports={"80": 1})),
    Case("list in the list of VIPs", "vips[1]: must be a dictionary of options, not [{", {"vips": [CHANGED, [NEW]]}),
    Case("VIP as text", "vips[1]: must be a dictionary of options, not 'shop'", {"vips": [CHANGED, "shop"]}),
    Case("VIPs as text", "vips: 'web' is not a list of VIPs", {"vips": "web", "purge": True}),
    Case("VIPs as nothing", "vips: is missing; list the VIPs", {"vips": None, "purge": True}),
    Case("require_mac in words", "vips[1].require_mac: 'maybe' is neither true nor false", beside(require_mac="maybe")),
    # the other modules
    Case(
        "one VIP without a pool",
        "backends: is missing; list every backend",
        {"name": "web", "address": WEB},
        "nft_dsr_vip",
    ),
    Case(
        "one VIP, wrong state",
        "value of state must be one of: present, absent",
        {"name": "web", "state": "x"},
        "nft_dsr_vip",
    ),
    Case("removal of a wrong name", "name: 'a b' is not a name", {"name": "a b", "state": "absent"}, "nft_dsr_vip"),
    Case(
        "drain of nobody", "backend: 'b9' is not a backend of any VIP; there are: ", {"backend": "b9"}, "nft_dsr_drain"
    ),
    Case("drain on no VIP", "vip: there is no VIP 'x'; there are: web", {"backend": "b1", "vip": "x"}, "nft_dsr_drain"),
    Case("information on a wrong name", "name: '$(id)' is not a name of a VIP", {"name": "$(id)"}, "nft_dsr_vip_info"),
    # the host
    Case(
        "nft is missing",
        "nft is not installed on this host; install the package 'nftables'",
        {"vips": [CHANGED]},
        spoilt=nft_is_hidden,
    ),
    Case(
        "nft is too old",
        "nft 0.9.8 is too old; version 1.0.2 or later is needed",
        {"vips": [CHANGED]},
        spoilt=nft_is_old,
    ),
    Case(
        "nft aborts",
        "nft -n -j -t list ruleset netdev failed (ended by signal 6)",
        {"vips": [CHANGED]},
        spoilt=nft_is_broken,
    ),
    *(
        Case(
            f"{module} without root",
            "this module changes the kernel's rules; run it as root",
            given,
            module,
            None,
            NOBODY,
        )
        for module, given in (
            ("nft_dsr_vips", {"vips": [CHANGED]}),
            ("nft_dsr_vip", CHANGED),
            ("nft_dsr_drain", {"backend": "b1"}),
            ("nft_dsr_vip_info", {}),
        )
    ),
    # its files
    *(
        Case(f"{name} with {what}", f"/etc/nft-dsr/{name}: {error}", given, module, holds(name, text))
        for name in ("vips.json", "overrides.json")
        for what, text, error in (
            ("nothing in it", "", "is not JSON (Expecting value"),
            ("half of it", '{"version": 1, "vips": [{"name": "web", ', "is not JSON ("),
            (
                "another version",
                '{"version": 9, "vips": [], "drained": []}',
                "is of version 9, this collection knows 1.",
            ),
            ("a list in it", "[]", "has no list '"),
        )
        for module, given in (("nft_dsr_vips", {"vips": [CHANGED], "purge": True}),)
    ),
    Case(
        "vips.json with a wrong VIP",
        "/etc/nft-dsr/vips.json: vips[0].scheduler: 'rr' is not known; choose one of: ",
        {"vips": [CHANGED], "purge": True},
        spoilt=holds("vips.json", json.dumps({"version": 1, "vips": [{**SERVED, "scheduler": "rr"}]})),
    ),
    *(
        Case(
            f"vips.json broken, {module}", "/etc/nft-dsr/vips.json: is not JSON", given, module, holds("vips.json", "?")
        )
        for module, given in (
            ("nft_dsr_vip", CHANGED),
            ("nft_dsr_vip", {"name": "web", "state": "absent"}),
            ("nft_dsr_drain", {"backend": "b1"}),
            ("nft_dsr_vip_info", {}),
        )
    ),
]


def run(runner: ModuleRunner, lab: Lab, case: Case) -> dict[str, Any]:
    if not case.run_by:
        return runner.run(lab, "lb", case.module, case.given)
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {**case.given, "_ansible_remote_tmp": "/tmp"}})
    module = f"ansible_collections.dsr.layer2.plugins.modules.{case.module}"
    python = ["env", f"PYTHONPATH={runner.folder}", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "-m", module]
    result: dict[str, Any] = lab.run("lb", [*case.run_by, *python], input=given, check=False).json()
    return result


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name.encode("unicode_escape").decode()) for case in CASES])
def test_bad_input_is_told_and_changes_nothing(lab: Lab, module_runner: ModuleRunner, served: str, case: Case) -> None:
    with (case.spoilt or (lambda _lab: nullcontext()))(lab):
        result = run(module_runner, lab, case)
    assert result.get("failed"), result
    assert "Traceback" not in str(result)
    message = str(result["msg"])
    assert message.startswith(case.error)
    assert "\n" not in message, "one error is one line"
    assert not result.get("changed") and "commands" not in result
    assert state_of(lab) == served
    assert sum(lab.traffic("client", "connect", WEB, 80)["by_host"].values()) == 1, "what is served is served on"

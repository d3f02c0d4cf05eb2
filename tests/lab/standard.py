# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that tests and the demo share: a client, a load balancer and backends on one segment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from .running import Running
from .topology import LAN, Lab

NETWORK, NETWORK6 = "10.77.0.0/24", "fd00:77::/64"
FAR_NETWORK, FAR_NETWORK6 = "10.78.0.0/24", "fd00:78::/64"  # behind the router, where there is one
ADDRESSES = {"client": "10.77.0.10", "lb": "10.77.0.2", "b1": "10.77.0.21", "b2": "10.77.0.22", "b3": "10.77.0.23"}
VIPS = ("10.77.0.100", "10.77.0.101", "10.77.0.102")


def beside(address: str) -> str:
    """The IPv6 address that goes with an IPv4 address of a lab: 10.77.0.21 and fd00:77::21."""
    _ten, network, _nought, host = address.split(".")
    return f"fd00:{network}::{host}"


ADDRESSES6 = {name: beside(address) for name, address in ADDRESSES.items()}
VIPS6 = tuple(map(beside, VIPS))
# What every backend serves, on all its addresses.
HTTP_PORTS = (80, 8080)
LINE_PORT = 7000
UDP_PORT = 5300


def _add(lab: Lab, name: str, address: str, router: Optional[str] = None, segment: str = LAN) -> None:
    router6 = None if router is None else beside(router)
    lab.add_host(name, address, address6=beside(address), segment=segment, gateway=router, gateway6=router6)


def build(lab: Lab, backends: int = 3, load_balancers: int = 1, router: Optional[str] = None) -> Lab:
    """Raise the hosts: client .10, lb .2 (lb2 .3 ...), b1 .21 and on. Nothing is configured on them yet.

    Beside its IPv4 address each has an IPv6 address that ends in the same digits: client fd00:77::10.
    """
    try:
        lab.up()
        if router is None:
            _add(lab, "client", ADDRESSES["client"])
        for number in range(load_balancers):
            _add(lab, "lb" if number == 0 else f"lb{number + 1}", f"10.77.0.{2 + number}", router)
        for number in range(backends):
            _add(lab, f"b{number + 1}", f"10.77.0.{21 + number}", router)
    except BaseException:
        lab.down()
        raise
    return lab


def build_routed(lab: Lab, backends: int = 3, mtu: int = 1400) -> Lab:
    """The same with the client (10.78.0.10, fd00:78::10) behind a router, on a way of a smaller MTU.

    The router (.1 of both networks) passes no packet of more than ``mtu`` bytes on to the client. Neither end can
    know: the client's own NIC has 1500, so the segments that it asks for are too long. Whoever sends them learns it
    from the router's ICMP errors or not at all. Hosts remember what they learnt; see forget_path_mtu().
    """
    near, far = "10.77.0.1", "10.78.0.1"
    build(lab, backends, router=near)
    try:
        lab.add_segment("far")
        _add(lab, "router", near)
        lab.add_nic("router", "eth1", far, address6=beside(far), segment="far")
        settings = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        # Every packet that is too long is told of, not one in a second.
        settings += ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]
        lab.run("router", ["sysctl", "-qw", *settings])
        # By the route and not by the NIC, which would drop what is too long in the other direction, silently.
        # (256 is the metric of the kernel's own route, which else would stay and be preferred.)
        lab.ip("router", f"route replace {FAR_NETWORK} dev eth1 mtu {mtu}")
        lab.ip("router", f"route replace {FAR_NETWORK6} dev eth1 metric 256 mtu {mtu}")
        _add(lab, "client", "10.78.0.10", far, "far")
    except BaseException:
        lab.down()
        raise
    return lab


def forget_path_mtu(lab: Lab, hosts: Optional[Iterable[str]] = None) -> None:
    """Let hosts, the backends unless told otherwise, find out anew how long packets may be on their way."""
    for host in backends_of(lab) if hosts is None else hosts:
        for family in ("-4", "-6"):
            lab.run(host, ["ip", family, "route", "flush", "cache"])


def backends_of(lab: Lab) -> list[str]:
    """The names of the backends of such a lab."""
    return [name for name in lab.hosts if name.startswith("b")]


def serve(lab: Lab, hosts: Optional[Iterable[str]] = None, background: bool = False) -> dict[str, Running]:
    """Start the servers, on the backends unless told otherwise, and wait until they listen.

    They end with this process unless they are put in the ``background``, and with their host.
    """
    ports = ["--http", ",".join(map(str, HTTP_PORTS)), "--lines", LINE_PORT, "--udp", UDP_PORT]
    started = {
        host: lab.start_traffic(host, "serve", *ports, *(["--background"] if background else []), wait=False)
        for host in (backends_of(lab) if hosts is None else hosts)
    }
    for running in started.values():
        running.wait_for("READY")
    return started


def hold_vips(
    lab: Lab, vips: Iterable[str] = (*VIPS, *VIPS6), load_balancers: Iterable[str] = ("lb",), interface: str = "eth0"
) -> None:
    """Do by plain commands what the roles do: VIPs on the backends' lo, unanswered by ARP, and on the LBs' NICs."""
    addresses = [f"{vip}/128" if ":" in vip else f"{vip}/32" for vip in vips]
    for host in backends_of(lab):
        lab.run(host, ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"])
        lab.ip(host, *(f"address replace {address} dev lo" for address in addresses))
    # Unasked, IPv6 would first look for others that have the address, and not answer for it meanwhile; and it would
    # choose the address as the host's own when it speaks to somebody whose address is like it.
    more = {4: "", 6: " nodad preferred_lft 0"}
    lines = [f"address replace {address} dev {interface}{more[6 if ':' in address else 4]}" for address in addresses]
    for host in load_balancers:
        lab.ip(host, *lines)

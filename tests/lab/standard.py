# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that tests and the demo share: a client, a load balancer and backends on one segment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from .running import Running
from .topology import Lab

NETWORK = "10.77.0.0/24"
ADDRESSES = {"client": "10.77.0.10", "lb": "10.77.0.2", "b1": "10.77.0.21", "b2": "10.77.0.22", "b3": "10.77.0.23"}
VIPS = ("10.77.0.100", "10.77.0.101", "10.77.0.102")
# What every backend serves, on all its addresses.
HTTP_PORTS = (80, 8080)
LINE_PORT = 7000
UDP_PORT = 5300


def build(lab: Lab, backends: int = 3, load_balancers: int = 1) -> Lab:
    """Raise the hosts: client .10, lb .2 (lb2 .3 ...), b1 .21 and on. Nothing is configured on them yet."""
    try:
        lab.up()
        lab.add_host("client", ADDRESSES["client"])
        for number in range(load_balancers):
            lab.add_host("lb" if number == 0 else f"lb{number + 1}", f"10.77.0.{2 + number}")
        for number in range(backends):
            lab.add_host(f"b{number + 1}", f"10.77.0.{21 + number}")
    except BaseException:
        lab.down()
        raise
    return lab


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
    lab: Lab, vips: Iterable[str] = VIPS, load_balancers: Iterable[str] = ("lb",), interface: str = "eth0"
) -> None:
    """Do by plain commands what the roles do: VIPs on the backends' lo, unanswered by ARP, and on the LBs' NICs."""
    addresses = [f"{vip}/32" for vip in vips]
    for host in backends_of(lab):
        lab.run(host, ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"])
        lab.ip(host, *(f"address replace {address} dev lo" for address in addresses))
    for host in load_balancers:
        lab.ip(host, *(f"address replace {address} dev {interface}" for address in addresses))

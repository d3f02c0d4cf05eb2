# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic for hosts of a lab: servers, clients, a counter of frames and a sender of crafted ones.

Run inside a host, with nothing but the standard library. Whatever takes time prints READY when it has begun, ends
when its standard input does (after --seconds where those are given, and on SIGTERM in any case) and prints one line
of JSON as its last. IPv4 and IPv6 addresses are taken alike.

    traffic serve --http 80,8080 --lines 7000 --udp 5300
    traffic connect 10.77.0.100 80 --count 300 --concurrency 10
    traffic connect fd00:77::100 5300 --protocol udp --size 60000
    traffic hold 10.77.0.100 7000 --count 40 --interval 0.05
    traffic come 10.77.0.100 7000 --rate 200 --life 2 --slow b1=10 --seconds 20
    traffic capture eth0 --source 10.77.0.100 --protocol tcp
    traffic send eth0 --to-mac 02:d5:00:00:00:02 --source 10.77.0.10 --destination 10.77.0.100 --port 80 --flags S
    traffic send eth0 --to-mac 02:d5:00:00:00:02 --source 10.77.0.1 --destination 10.77.0.100 \\
        --icmp-error frag-needed --mtu 1400 --quoted-source 10.77.0.100 --quoted-source-port 80 \\
        --quoted-destination 10.78.0.10 --quoted-destination-port 40000
"""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import sys
from collections.abc import Sequence
from typing import Callable, Optional

from .frames import CHUNKS, ICMP_ERRORS, PROTOCOLS, IPAddress


def _later(module: str, name: str) -> Callable[[argparse.Namespace], None]:
    """The action of this name; what the other actions need is not loaded."""

    def act(arguments: argparse.Namespace) -> None:
        getattr(importlib.import_module(f".{module}", __package__), name)(arguments)

    return act


def _ports(text: str) -> list[int]:
    return [int(port) for port in text.split(",") if port]


def _port_range(text: str) -> tuple[int, int]:
    low, _unused, high = text.partition("-")
    return int(low), int(high or low)


def _address(text: str) -> IPAddress:
    return ipaddress.ip_address(text)


def _address_text(text: str) -> str:
    """As frames have it; an IPv6 address can be written in many ways."""
    return str(_address(text))


def _protocol(text: str) -> str:
    if text not in (*PROTOCOLS, "arp", "other") and not (text.isdigit() and int(text) < 256):
        raise ValueError
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="traffic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    serve = actions.add_parser("serve", help="answer with this host's name")
    serve.add_argument("--http", type=_ports, default=[], help="HTTP on these TCP ports")
    serve.add_argument("--lines", type=_ports, default=[], help="lines on these TCP ports")
    serve.add_argument("--udp", type=_ports, default=[], help="datagrams on these ports")
    serve.add_argument("--bind", action="append", default=[], help="only on this address (may be repeated)")
    serve.add_argument("--background", action="store_true", help="go on after this command has returned")
    serve.set_defaults(action=_later("serve", "serve"))

    connect = actions.add_parser("connect", help="short connections, and who answered")
    connect.add_argument("--count", type=int, default=1, help="how many; 0: until stopped")
    connect.add_argument("--concurrency", type=int, default=1)
    connect.add_argument("--path", default="/", help="what to get, such as /bytes/1000000")
    connect.add_argument("--size", type=int, default=16, help="of each datagram")
    connect.add_argument(
        "--reply-size", type=int, help="of each answer, for datagrams; as long as the question if not given"
    )
    connect.add_argument("--interval", type=float, default=0.0, help="seconds from one to the next")
    connect.set_defaults(action=_later("clients", "connect"))

    hold = actions.add_parser("hold", help="long-lived connections, and whether they live")
    hold.add_argument("--count", type=int, default=10)
    hold.add_argument("--interval", type=float, default=0.1, help="seconds between two lines of a connection")
    hold.set_defaults(action=_later("clients", "hold"))

    come = actions.add_parser("come", help="connections that come at a rate and last for a while, and who has them")
    come.add_argument("address")
    come.add_argument("port", type=int, help="of lines")
    come.add_argument("--rate", type=float, default=100.0, help="new ones in a second, on average")
    come.add_argument("--life", type=float, default=1.0, help="seconds that each lasts, on average")
    come.add_argument("--slow", action="append", default=[], metavar="HOST=10", help="so many times longer there")
    come.add_argument("--seed", type=int, default=1, help="of when they come and how long they last")
    come.add_argument("--timeout", type=float, default=2.0, help="seconds to wait for an answer")
    come.add_argument("--seconds", type=float, default=10.0, help="end after so long")
    come.set_defaults(action=_later("coming", "come"))

    for action in (connect, hold):
        action.add_argument("address")
        action.add_argument("port", type=int)
        action.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
        action.add_argument("--timeout", type=float, default=2.0, help="seconds to wait for an answer")
        action.add_argument("--source", help="own address")
        action.add_argument("--source-ports", type=_port_range, metavar="LOW-HIGH", help="own ports, in turn")

    capture = actions.add_parser("capture", help="count frames by their MACs")
    capture.add_argument("interface")
    capture.add_argument("--source-port", type=int)
    capture.add_argument("--port", type=int, help="destination port")
    capture.add_argument("--arp", help="ARP that asks for or speaks of this address")
    capture.add_argument(
        "--operation",
        choices=("request", "reply", "solicitation", "advertisement"),
        help="of ARP, or of IPv6 neighbour discovery",
    )
    capture.add_argument("--target", type=_address_text, help="of IPv6 neighbour discovery")
    capture.add_argument("--direction", choices=("in", "out"))
    capture.add_argument("--protocol", type=_protocol, help=f"{', '.join(PROTOCOLS)}, arp or a number")
    capture.add_argument("--source", type=_address_text)
    capture.add_argument("--destination", type=_address_text)
    capture.add_argument("--to-mac", type=str.lower)
    capture.add_argument("--fragments", choices=("any", "first", "later", "whole"), help="only these")
    capture.add_argument("--chunk", choices=tuple(CHUNKS), help="the first of an SCTP packet")
    capture.add_argument("--type", type=int, help="of ICMP")
    capture.add_argument("--promiscuous", action="store_true", help="frames for other hosts too")
    capture.add_argument("--records", type=int, default=0, help="report the fields of the first so many frames")
    capture.set_defaults(action=_later("capture", "capture"))

    send = actions.add_parser("send", help="send crafted frames")
    send.add_argument("interface")
    send.add_argument("--to-mac", required=True)
    send.add_argument("--source", required=True, type=_address, help="the first source address")
    send.add_argument("--sources", type=int, default=1, help="how many addresses from there on")
    send.add_argument("--source-ports", type=_port_range, metavar="LOW-HIGH")
    send.add_argument("--destination", required=True, type=_address)
    send.add_argument("--port", type=int)
    send.add_argument(
        "--protocol",
        type=_protocol,
        default="tcp",
        help="tcp, udp, sctp, icmp or icmpv6 (echo requests), or any number; default: tcp",
    )
    send.add_argument("--flags", default="S", help="of TCP, letters of FSRPAU; with commas: one frame each, in turn")
    send.add_argument("--chunks", default="init", help="of SCTP, such as init,data,abort: one frame each, in turn")
    send.add_argument("--size", type=int, default=0, help="of the payload")
    send.add_argument("--fragment-size", type=int, default=0, help="send in fragments of this size")
    send.add_argument("--fragment-order", type=_ports, metavar="2,0,1", help="send these fragments only, in this order")
    send.add_argument("--ttl", type=int, default=64)
    send.add_argument("--count", type=int, default=1)
    send.add_argument("--rate", type=float, default=1000.0, help="frames in a second")
    send.add_argument("--icmp-error", choices=sorted({*ICMP_ERRORS[4], *ICMP_ERRORS[6]}), help="about a quoted packet")
    send.add_argument("--mtu", type=int, default=1400, help="that the error tells")
    send.set_defaults(action=_later("send", "send"))

    for action, address in ((capture, _address_text), (send, _address)):
        quoting = action is send
        action.add_argument("--from-mac", "--source-mac", dest="from_mac", type=str.lower)
        action.add_argument("--code", type=int, help="of ICMP")
        action.add_argument("--id", type=int, help="of the packet that was cut into fragments")
        action.add_argument("--quoted-source", type=address)
        action.add_argument("--quoted-destination", type=address)
        action.add_argument("--quoted-protocol", type=_protocol, default="tcp" if quoting else None)
        action.add_argument("--quoted-source-port", type=int, default=80 if quoting else None)
        action.add_argument("--quoted-destination-port", type=int, default=40000 if quoting else None)
    for action in (serve, connect, hold, capture):
        action.add_argument("--seconds", type=float, help="end after so long")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> None:
    arguments = _parser().parse_args(argv)
    try:
        arguments.action(arguments)
    except OSError as error:
        sys.exit(f"traffic: {error}")

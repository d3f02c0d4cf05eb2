# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Crafted frames, sent as they are."""

from __future__ import annotations

import argparse
import itertools
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator

from .common import report
from .frames import (
    CHUNKS,
    ETH_P_IP,
    ETH_P_IPV6,
    FLAGS,
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    PROTOCOLS,
    IPAddress,
    echo_request,
    icmp_error,
    ip_packets,
    quotation,
    sctp_packet,
    tcp_segment,
    udp_datagram,
)

_MAX_COUNT, _MAX_RATE = 1_000_000, 100_000  # a lab is no flood


def number_of(protocol: str) -> int:
    return PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol)


def send(arguments: argparse.Namespace) -> None:
    problem = _problem(arguments)
    if problem:
        sys.exit(f"traffic: {problem}")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((arguments.interface, 0))
        frames = itertools.islice(_frames(arguments, sock.getsockname()[4]), arguments.count)
        begun, sent = time.monotonic(), 0
        while True:
            # In small bursts: one timer tick is too long for one frame at high rates.
            burst = list(itertools.islice(frames, max(1, int(arguments.rate * 0.002))))
            if not burst:
                break
            for frame in burst:
                sock.send(frame)
            sent += len(burst)
            ahead = begun + sent / arguments.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        report({"sent": sent, "seconds": round(time.monotonic() - begun, 6)})


def _problem(arguments: argparse.Namespace) -> str:
    """What is wrong with the options, or ''."""
    if not 1 <= arguments.count <= _MAX_COUNT or not 0 < arguments.rate <= _MAX_RATE:
        return f"send at most {_MAX_COUNT} frames, at most {_MAX_RATE} in a second"
    unknown = set(arguments.flags) - set(FLAGS) - {","}
    if unknown:
        return f"unknown TCP flags {''.join(sorted(unknown))}; they are {''.join(FLAGS)}"
    unknown = set(arguments.chunks.split(",")) - set(CHUNKS)
    if unknown:
        return f"unknown SCTP chunks {', '.join(sorted(unknown))}; they are {', '.join(CHUNKS)}"
    addresses = [arguments.source, arguments.destination]
    if arguments.icmp_error:
        addresses += [arguments.quoted_source, arguments.quoted_destination]
        if None in addresses:
            return "an error quotes a flow: give --quoted-source and --quoted-destination"
        errors = ICMP_ERRORS[arguments.source.version]
        if arguments.icmp_error not in errors:
            return f"{arguments.icmp_error} is no error of this family; they are {', '.join(errors)}"
    elif arguments.port is None and arguments.protocol in ("tcp", "udp", "sctp"):
        return "give --port"
    if len({address.version for address in addresses}) > 1:
        return "the addresses are of two families"
    return ""


def _frames(arguments: argparse.Namespace, own_mac: bytes) -> Iterator[bytes]:
    """All frames in order: every source address, of it every source port, of it every step, of it every fragment."""
    ethernet = bytes.fromhex(arguments.to_mac.replace(":", ""))
    ethernet += bytes.fromhex(arguments.from_mac.replace(":", "")) if arguments.from_mac else own_mac
    ethernet += struct.pack("!H", ETH_P_IP if arguments.source.version == 4 else ETH_P_IPV6)
    destination = arguments.destination
    low, high = arguments.source_ports or (40000, 40000)
    if arguments.icmp_error:
        number = ICMP if destination.version == 4 else ICMPV6
    else:
        number = number_of(arguments.protocol)
    identity = random.getrandbits(16) if arguments.id is None else arguments.id - 1
    while True:
        for source in (arguments.source + index for index in range(arguments.sources)):
            for port in range(low, high + 1):
                for body in _bodies(arguments, source, destination, port):
                    identity = (identity + 1) & 0xFFFF
                    size = arguments.fragment_size
                    packets = list(ip_packets(source, destination, number, body, identity, arguments.ttl, size))
                    for index in arguments.fragment_order or range(len(packets)):
                        if index >= len(packets):
                            sys.exit(f"traffic: there is no fragment {index}, only {len(packets)}")
                        yield (ethernet + packets[index]).ljust(60, b"\0")


def _bodies(arguments: argparse.Namespace, source: IPAddress, destination: IPAddress, port: int) -> Iterator[bytes]:
    """What the packets of one flow carry, in turn."""
    ports = (port, arguments.port)
    payload = bytes(arguments.size)
    if arguments.icmp_error:
        quoted_ports = (arguments.quoted_source_port, arguments.quoted_destination_port)
        quoted = quotation(
            arguments.quoted_source,
            arguments.quoted_destination,
            number_of(arguments.quoted_protocol),
            quoted_ports,
            payload,
        )
        yield icmp_error(source, destination, arguments.icmp_error, quoted, arguments.code, arguments.mtu)
    elif arguments.protocol == "tcp":
        for flags in arguments.flags.split(","):
            yield tcp_segment(source, destination, ports, flags, payload)
    elif arguments.protocol == "udp":
        yield udp_datagram(source, destination, ports, payload)
    elif arguments.protocol == "sctp":
        for chunk in arguments.chunks.split(","):
            yield sctp_packet(ports, chunk, payload)
    elif arguments.protocol in ("icmp", "icmpv6"):
        yield echo_request(source, destination, port, payload)
    else:
        yield payload or bytes(8)

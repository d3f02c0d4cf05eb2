# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of dsr_probe: what is taken and what is refused, by name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.probe import request


def options(**changed: Any) -> dict[str, Any]:
    defaults = {
        "address": "10.77.0.100",
        "port": 80,
        "protocol": "tcp",
        "connections": 30,
        "timeout": 2.0,
        "interface": None,
        "expect_direct": True,
        "lb_mac": None,
        "through": None,
        "payload": None,
        "hold": 0.0,
        "interval": 0.2,
        "max_broken": 0,
        "max_moved": 0,
    }
    assert set(changed) <= set(defaults)
    return {**defaults, **changed}


def test_the_least_that_a_user_gives() -> None:
    made = request.parse(options())
    assert (made.address, made.port, made.connections, made.payload) == (IPv4Address("10.77.0.100"), 80, 30, b"")
    assert made.target == "10.77.0.100:80/tcp"


def test_an_ipv6_address_is_taken_in_any_form() -> None:
    made = request.parse(options(address="2001:DB8:0::100"))
    assert made.address == IPv6Address("2001:db8::100")
    assert made.target == "[2001:db8::100]:80/tcp"


def test_macs_come_in_one_form() -> None:
    made = request.parse(options(lb_mac="02-D5-00-00-00-02", through="02:D5:00:00:00:15"))
    assert (made.lb_mac, made.through) == ("02:d5:00:00:00:02", "02:d5:00:00:00:15")


@pytest.mark.parametrize(
    "changed, payload",
    [
        ({"protocol": "udp"}, b"dsr-probe"),
        ({"protocol": "udp", "payload": ""}, b""),
        ({"protocol": "udp", "payload": "a\x00\u00e9"}, b"a\x00\xc3\xa9"),
        ({"protocol": "udp", "payload": "x" * 1400}, b"x" * 1400),
        ({"payload": "HELO"}, b"HELO"),
        ({"protocol": "udp", "through": "02:d5:00:00:00:15"}, b"dsr-probe"),
    ],
)
def test_what_is_sent(changed: dict[str, Any], payload: bytes) -> None:
    assert request.parse(options(**changed)).payload == payload


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("address", "", "is not an IP address"),
        ("address", "www.example.org", "is not an IP address"),
        ("address", "10.77.0.100/32", "give it without a prefix length"),
        ("address", "2001:db8::100/128", "give it without a prefix length"),
        ("address", "2001:db8::100%eth0", "names a zone; give the address alone"),
        ("address", "::ffff:10.77.0.100", "is an IPv4 address in IPv6 notation; write 10.77.0.100"),
        ("address", "fe80::100", "is a link-local address"),
        ("address", "::", "the unspecified address"),
        ("address", "::1", "a loopback address"),
        ("address", "ff02::1", "a multicast address"),
        ("address", "0.0.0.0", "the unspecified address"),
        ("address", "0.0.0.9", "0.0.0.0/8"),
        ("address", "127.0.0.1", "a loopback address"),
        ("address", "224.0.0.18", "a multicast address"),
        ("address", "255.255.255.255", "a reserved or broadcast address"),
        ("address", "240.0.0.1", "a reserved or broadcast address"),
        ("port", 0, "from 1 to 65535"),
        ("port", -1, "from 1 to 65535"),
        ("port", 65536, "from 1 to 65535"),
        ("connections", 0, "from 1 to 10000"),
        ("connections", 10001, "from 1 to 10000"),
        ("timeout", 0.0, "above 0"),
        ("timeout", -1.0, "above 0"),
        ("timeout", float("nan"), "above 0"),
        ("timeout", float("inf"), "above 0"),
        ("timeout", 3601.0, "up to 3600"),
        ("lb_mac", "02:d5:00:00:00", "is not a MAC address; write it as in 52:54:00:12:34:56"),
        ("lb_mac", "", "is not a MAC address"),
        ("lb_mac", "00:00:00:00:00:00", "is all zeros"),
        ("through", "01:00:5e:00:00:01", "is a group (multicast or broadcast) address"),
        ("through", "ff:ff:ff:ff:ff:ff", "is a group (multicast or broadcast) address"),
        ("through", "b1", "is not a MAC address"),
        ("payload", "x" * 1401, "is 1401 bytes long; 1400 are allowed"),
        ("payload", "\u00e9" * 701, "is 1402 bytes long"),
    ],
)
def test_bad_values_are_refused_by_name(option: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        request.parse(options(**{option: value}))
    assert caught.value.path == option
    assert said in caught.value.problem


def test_an_option_that_would_have_no_effect_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        request.parse(options(through="02:d5:00:00:00:15", payload="HELO"))
    assert caught.value.path == "payload"


@pytest.mark.parametrize("value", [0, 101, -3])
def test_the_number_of_attempts_has_bounds(value: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to 100"):
        request.attempts("attempts", value)
    assert request.attempts("attempts", 100) == 100


def test_a_hold() -> None:
    made = request.parse(options(hold=30.0, interval=0.5, max_broken=3, max_moved=4))
    assert (made.hold, made.interval, made.max_broken, made.max_moved) == (30.0, 0.5, 3, 4)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"hold": -1.0}, "hold: -1 is not a number of seconds above 0 and up to 86400"),
        ({"hold": float("nan")}, "hold: nan is not a number of seconds above 0 and up to 86400"),
        ({"hold": 86401.0}, "hold: 86401 is not a number of seconds above 0 and up to 86400"),
        ({"interval": 0.0}, "interval: 0 is not a number of seconds above 0 and up to 3600"),
        ({"max_broken": -1}, "max_broken: -1 is not a number from 0 to 10000"),
        ({"max_moved": 10001}, "max_moved: 10001 is not a number from 0 to 10000"),
        (
            {"hold": 1.0, "through": "02:d5:00:00:00:15"},
            "hold: is for connections by way of the load balancer, which 'through' goes around; omit one of them",
        ),
        (
            {"hold": 1.0, "protocol": "udp", "connections": 2000},
            "interval: 0.2 s with 2000 connections makes 10000 questions a second, and 5000 are allowed; ask each less"
            " often, or keep fewer connections",
        ),
    ],
)
def test_holds_that_cannot_be(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        request.parse(options(**changed))
    assert str(caught.value) == said


def test_keepalives_are_few_whatever_the_interval() -> None:
    assert request.parse(options(hold=1.0, connections=10000)).connections == 10000

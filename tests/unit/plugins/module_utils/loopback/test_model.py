# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual IPs as users name them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import model

GOOD = [
    (["10.77.0.100"], ["10.77.0.100"]),
    (["10.77.0.100", " 10.77.0.101 "], ["10.77.0.100", "10.77.0.101"]),
    (["10.78.0.0"], ["10.78.0.0"]),  # off-link: any number is a host's
    (["2001:DB8:0:0::0100"], ["2001:db8::100"]),
    (["fd00::1", "192.0.2.1"], ["fd00::1", "192.0.2.1"]),
]

BAD = [
    (["10.77.0.100", "10.77.0.101/32"], "vips[1]: '10.77.0.101/32' has a prefix length"),
    (["10.77.0.100/24"], "vips[0]: '10.77.0.100/24' has a prefix length"),
    (["web"], "vips[0]: 'web' is not an IP address"),
    (["10.77.0"], "vips[0]: '10.77.0' is not an IP address"),
    (["10.77.0.256"], "vips[0]: '10.77.0.256' is not an IP address"),
    (["010.077.000.100"], "vips[0]: '010.077.000.100' is not an IP address"),
    ([""], "vips[0]: '' is not an IP address"),
    (["10.77.0.100; reboot"], "vips[0]: '10.77.0.100; reboot' is not an IP address"),
    (["10.77.0.100\nAddress=1.2.3.4"], "is not an IP address"),
    ([10], "vips[0]: 10 is not an IP address"),
    (["0.0.0.0"], "vips[0]: 0.0.0.0 is an unspecified address"),
    (["0.1.2.3"], "vips[0]: 0.1.2.3 is an unspecified address"),
    (["::"], "vips[0]: :: is an unspecified address"),
    (["127.0.0.1"], "vips[0]: 127.0.0.1 is a loopback address"),
    (["::1"], "vips[0]: ::1 is a loopback address"),
    (["224.0.0.18"], "vips[0]: 224.0.0.18 is a multicast address"),
    (["ff02::1"], "vips[0]: ff02::1 is a multicast address"),
    (["169.254.1.1"], "vips[0]: 169.254.1.1 is a link-local address"),
    (["fe80::1"], "vips[0]: fe80::1 is a link-local address"),
    (["fe80::1%eth0"], "vips[0]: 'fe80::1%eth0' names a zone"),
    (["255.255.255.255"], "vips[0]: 255.255.255.255 is a broadcast or reserved address"),
    (["240.0.0.1"], "vips[0]: 240.0.0.1 is a broadcast or reserved address"),
    (["::ffff:10.77.0.100"], "is an IPv4 address in IPv6 notation; write 10.77.0.100"),
    (["10.77.0.100", "10.77.0.101", "10.77.0.100"], "vips[2]: 10.77.0.100 is there already, as vips[0]"),
    (["fd00::1", "fd00:0::1"], "vips[1]: fd00::1 is there already, as vips[0]"),
    ([], "vips: the list is empty"),
    ("10.77.0.100", "vips: must be a list"),
]


@pytest.mark.parametrize(("given", "expected"), GOOD)
def test_good_addresses(given: list[str], expected: list[str]) -> None:
    assert [str(address) for address in model.parse_addresses(given, "vips", purge=False)] == expected


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_addresses_are_named_with_their_place(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        model.parse_addresses(given, "vips", purge=False)
    assert message in str(error.value)


def test_an_empty_list_is_for_purging() -> None:
    assert model.parse_addresses([], "vips", purge=True) == ()


@pytest.mark.parametrize("name", ["lo", "eth0", "enp3s0f1", "eth0.100", "br-lan", "a" * 15])
def test_good_interfaces(name: str) -> None:
    assert model.parse_interface(name, "interface") == name


@pytest.mark.parametrize("name", ["", "a" * 16, "eth0/../..", "eth0 eth1", "-x", ".", "..", "eth0\n", "$(id)", None, 7])
def test_bad_interfaces(name: Any) -> None:
    with pytest.raises(ConfigError, match=r"interface: .* is not the name of a network interface"):
        model.parse_interface(name, "interface")


PATHS = [
    ("/etc/sysctl.d/99-dsr.conf", ""),
    ("/run/sysctl.d/zz.conf", ""),
    ("/etc/sysctl.d/99-dsr", "would not be read at boot"),
    ("/etc/sysctl.d/.conf", "is not the full path"),
    ("/etc/dsr.conf", "would not be read at boot"),
    ("/etc/sysctl.d/sub/99-dsr.conf", "would not be read at boot"),
    ("/etc/sysctl.d/../passwd.conf", "is not the full path"),
    ("99-dsr.conf", "is not the full path"),
    ("/etc/sysctl.d/a b.conf", "is not the full path"),
    (None, "is not the full path"),
]


@pytest.mark.parametrize(("given", "message"), PATHS)
def test_paths(given: Any, message: str) -> None:
    folders = ("/etc/sysctl.d", "/run/sysctl.d")
    if not message:
        assert model.parse_path(given, "sysctl_file", folders, ".conf") == given
        return
    with pytest.raises(ConfigError) as error:
        model.parse_path(given, "sysctl_file", folders, ".conf")
    assert "sysctl_file: " in str(error.value)
    assert message in str(error.value)


EDGES = [
    ("10.77.0.0", "10.77.0.21/24", "network address"),
    ("10.77.0.255", "10.77.0.21/24", "broadcast address"),
    ("10.77.0.255", "10.77.0.21/16", ""),
    ("10.77.0.0", "10.77.0.0/31", ""),
    ("10.77.0.100", "10.77.0.100/32", ""),
    ("fd00::", "fd00::1/64", ""),
]


@pytest.mark.parametrize(("address", "interface", "expected"), EDGES)
def test_edges_of_a_network(address: str, interface: str, expected: str) -> None:
    assert model.edge_of(ipaddress.ip_address(address), ipaddress.ip_interface(interface).network) == expected


def test_addresses_have_one_order() -> None:
    given = [ipaddress.ip_address(text) for text in ("fd00::2", "10.0.0.10", "10.0.0.9", "fd00::1", "10.0.0.10")]
    assert [str(address) for address in model.ordered(given)] == ["10.0.0.9", "10.0.0.10", "fd00::1", "fd00::2"]


def test_a_virtual_ip_claims_no_neighbours() -> None:
    assert str(model.host_interface(ipaddress.ip_address("10.0.0.1"))) == "10.0.0.1/32"
    assert str(model.host_interface(ipaddress.ip_address("fd00::1"))) == "fd00::1/128"

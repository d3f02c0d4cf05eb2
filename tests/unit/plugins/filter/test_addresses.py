# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is on a segment, the VIPs of a range, and the VIPs in a network: held against Python's own ipaddress."""

from __future__ import annotations

import ipaddress
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.filter import addresses

NIC = {
    "device": "eth0",
    "ipv4": {"address": "192.0.2.2", "netmask": "255.255.255.0", "network": "192.0.2.0", "prefix": "24"},
    "ipv4_secondaries": [{"address": "198.51.100.2", "netmask": "255.255.255.128"}],
    "ipv6": [{"address": "2001:db8::2", "prefix": "64", "scope": "global"}],
}


@pytest.mark.parametrize(
    ("address", "networks", "there"),
    [
        ("192.0.2.21", "192.0.2.2/24", True),
        ("192.0.2.21", "192.0.2.0/255.255.255.0", True),
        (" 192.0.2.21 ", ["198.51.100.2/24", " 192.0.2.2/24 "], True),
        ("192.0.3.21", "192.0.2.2/24", False),
        ("192.0.2.0", "192.0.2.2/24", False),  # the network's own
        ("192.0.2.255", "192.0.2.2/24", False),  # its broadcast address
        ("192.0.2.0", "192.0.2.1/31", True),  # a network of two has neither
        ("192.0.2.1", "192.0.2.1/31", True),
        ("192.0.2.1", "192.0.2.1/32", True),
        ("2001:db8::21", "2001:db8::2/64", True),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::2/64", True),
        ("2001:db8::", "2001:db8::2/64", False),  # any router's
        ("2001:db8:0:1::21", "2001:db8::2/64", False),
        # The same number in the other family
        ("::c000:215", "192.0.2.2/24", False),
        ("192.0.2.21", NIC, True),
        ("198.51.100.21", NIC, True),
        ("198.51.100.129", NIC, False),
        ("2001:db8::21", NIC, True),
    ],
)
def test_who_is_on_the_link(address: str, networks: Any, there: bool) -> None:
    assert addresses.on_link(address, networks) is there
    assert addresses.off_link([address], networks) == ([] if there else [address])


def test_backends_that_are_off_the_link_are_returned_whole() -> None:
    near, far = ({"address": address, "name": "b"} for address in ("192.0.2.21", "198.51.100.7"))
    assert addresses.off_link([near, far], "192.0.2.2/24") == [far]
    assert addresses.off_link([], "192.0.2.2/24") == []


@pytest.mark.parametrize(
    ("given_addresses", "number", "result"),
    [
        ("192.0.2.100-192.0.2.120", 1, "192.0.2.100"),
        ("192.0.2.100 - 192.0.2.120", "21", "192.0.2.120"),
        ("192.0.2.100-192.0.2.120", -1, "192.0.2.120"),
        ("192.0.2.250-192.0.3.5", 7, "192.0.3.0"),
        ("192.0.2.96/28", 1, "192.0.2.97"),
        ("192.0.2.96/28", 14, "192.0.2.110"),
        ("192.0.2.96/28", -14, "192.0.2.97"),
        ("192.0.2.96/31", 1, "192.0.2.96"),
        ("192.0.2.96", 1, "192.0.2.96"),
        ("2001:db8::/64", 1, "2001:db8::1"),
        ("2001:db8::/64", -1, "2001:db8::ffff:ffff:ffff:ffff"),
        ("2001:db8::a-2001:db8::f", 2, "2001:db8::b"),
        ("::5-::9", 1, "::5"),  # a number that an IPv4 address could have
    ],
)
def test_the_nth_vip(given_addresses: str, number: Any, result: str) -> None:
    assert addresses.nth_vip(given_addresses, number) == result


VIPS = [
    {"name": "web", "address": "192.0.2.100"},
    {"name": "api", "address": "192.0.2.112"},
    {"name": "web6", "address": "2001:DB8::100"},
]


@pytest.mark.parametrize(
    ("networks", "names"),
    [
        ("192.0.2.96/28", ["web"]),
        ("192.0.2.112/28", ["api"]),  # its own address may be a VIP, if it is routed and no segment
        ("192.0.2.100-192.0.2.112", ["web", "api"]),
        (["192.0.2.100", "2001:db8::/32"], ["web", "web6"]),
        ("0.0.0.0/0", ["web", "api"]),
        ("::/0", ["web6"]),
        ([], []),
    ],
)
def test_vips_in_networks(networks: Any, names: list[str]) -> None:
    assert [vip["name"] for vip in addresses.vips_in(VIPS, networks)] == names
    texts = [vip["address"] for vip in VIPS]
    assert addresses.vips_in(texts, networks) == [vip["address"] for vip in VIPS if vip["name"] in names]


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        (lambda: addresses.on_link("web1", "192.0.2.2/24"), "address: 'web1' is not an IP address; write it as"),
        (lambda: addresses.on_link("192.0.2.21/24", "192.0.2.2/24"), "address: '192.0.2.21/24' is not .* alone"),
        (lambda: addresses.on_link(10, "192.0.2.2/24"), "address: '10' is not an IP address"),
        (lambda: addresses.on_link(None, "192.0.2.2/24"), "address: 'None' is not an IP address"),
        (lambda: addresses.on_link("192.0.2.1", "192.0.2.2"), "networks: 192.0.2.2 has no .*192.0.2.2/24"),
        (lambda: addresses.on_link("192.0.2.1", "2001:db8::2"), "networks: 2001:db8::2 has no .*2001:db8::2/64"),
        (lambda: addresses.on_link("192.0.2.1", ["192.0.2.2/24", "x/24"]), r"networks\[1\]: 'x' is not an IP address"),
        (lambda: addresses.on_link("192.0.2.1", "192.0.2.2/33"), "networks: '33' in '192.0.2.2/33' .* use 0 to 32"),
        (lambda: addresses.on_link("192.0.2.1", "::2/129"), "networks: '129' in .* use 0 to 128"),
        (lambda: addresses.on_link("192.0.2.1", "192.0.2.2/"), "networks: '' in '192.0.2.2/' is no prefix length"),
        (lambda: addresses.on_link("192.0.2.1", "192.0.2.2/0.0.0.255"), "networks: '0.0.0.255' in .* is no prefix"),
        (lambda: addresses.on_link("192.0.2.1", "192.0.2.2/ffff::"), "networks: 'ffff::' in .* is no prefix"),
        (lambda: addresses.on_link("192.0.2.1", []), "networks: the list is empty"),
        (lambda: addresses.on_link("192.0.2.1", {"device": "eth9"}), "networks: these facts have no address of eth9"),
        (lambda: addresses.on_link("192.0.2.1", {}), "networks: these facts have no address; give"),
        (lambda: addresses.on_link("192.0.2.1", {"ipv4": "x", "ipv6": 3}), "networks: these facts have no address"),
        (lambda: addresses.off_link("192.0.2.1", "192.0.2.2/24"), "backends: must be a list, not '192.0.2.1'"),
        (lambda: addresses.off_link(None, "192.0.2.2/24"), "backends: must be a list, not None"),
        (
            lambda: addresses.off_link([{"address": "192.0.2.1"}, {"name": "b"}], "192.0.2.2/24"),
            r"backends\[1\].address: 'None' is not an IP address",
        ),
        (lambda: addresses.nth_vip("192.0.2.100-120", 1), "no address after the '-'; .*: 192.0.2.100-192.0.2.120"),
        (lambda: addresses.nth_vip("192.0.2.9-192.0.2.1", 1), "ends before it begins; write 192.0.2.1-192.0.2.9"),
        (lambda: addresses.nth_vip("192.0.2.9-::1", 1), "goes from IPv4 to IPv6"),
        (lambda: addresses.nth_vip("192.0.2.100/24", 1), "write the network: 192.0.2.0/24"),
        (lambda: addresses.nth_vip("192.0.2.0/24-192.0.3.0/24", 1), "addresses: '192.0.2.0/24' is not .* alone"),
        (lambda: addresses.nth_vip("", 1), "addresses: '' is not an IP address"),
        (lambda: addresses.nth_vip("192.0.2.96/28", 0), "number: .* no address 0; use 1 to 14, or -1 to -14"),
        (lambda: addresses.nth_vip("192.0.2.96/28", 15), "number: 192.0.2.96/28 has no address 15; use 1 to 14"),
        (lambda: addresses.nth_vip("192.0.2.96/28", "two"), "number: 'two' is not a whole number"),
        (lambda: addresses.nth_vip("192.0.2.96/28", 1.5), "number: 1.5 is not a whole number"),
        (lambda: addresses.nth_vip("192.0.2.96/28", True), "number: True is not a whole number"),
        (lambda: addresses.nth_vip("192.0.2.96/28", None), "number: None is not a whole number"),
        (lambda: addresses.nth_vip("224.0.0.0/24", 1), "addresses: 224.0.0.1 is a multicast address"),
        (lambda: addresses.vips_in(VIPS, ["192.0.2.0/24", "all"]), r"networks\[1\]: 'all' is not an IP address"),
        (lambda: addresses.vips_in(VIPS[0], "192.0.2.0/24"), "vips: must be a list"),
        (lambda: addresses.vips_in([{"name": "web"}], "192.0.2.0/24"), r"vips\[0\].address: 'None' is not an IP"),
    ],
)  # fmt: skip
def test_a_problem_names_its_place(ask: Callable[[], Any], problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=problem):
        ask()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "netaddr", None)
    for name, ask in addresses.FilterModule().filters().items():
        with pytest.raises(
            AnsibleFilterError, match=rf"^dsr.layer2.{name}: the Python package netaddr is missing .* pip"
        ):
            ask("192.0.2.0/24", 1)


ANY_ADDRESS = st.ip_addresses()
ANY_NETWORK = st.one_of(
    st.builds(lambda number, length: ipaddress.IPv4Network((number, length), strict=False),
              st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda number, length: ipaddress.IPv6Network((number, length), strict=False),
              st.integers(0, 2**128 - 1), st.integers(0, 128)),
)  # fmt: skip


@settings(deadline=None)
@given(ANY_ADDRESS, ANY_NETWORK, st.integers(0, 2**128))
def test_a_host_is_on_the_link_as_python_says(address: Any, network: Any, offset: int) -> None:
    near = network[offset % network.num_addresses]
    for one in (address, near):
        nobody = {network.network_address, network.broadcast_address if network.version == 4 else None}
        there = one in network and (network.num_addresses <= 2 or one not in nobody)
        assert addresses.on_link(str(one), str(network)) is there


@settings(deadline=None)
@given(st.integers(1, 223), st.integers(0, 2**24 - 1), st.integers(1, 32), st.integers(0, 2**32))
def test_every_number_has_its_own_vip_and_it_is_on_the_link(first: int, rest: int, length: int, at: int) -> None:
    network = ipaddress.IPv4Network(((first << 24) + rest, max(length, 8)), strict=False)
    hosts = network.num_addresses - 2 if network.num_addresses > 2 else network.num_addresses
    number = at % hosts + 1
    if network.overlaps(ipaddress.ip_network("127.0.0.0/8")) or network.overlaps(
        ipaddress.ip_network("169.254.0.0/16")
    ):
        return
    found = addresses.nth_vip(str(network), number)
    assert found == addresses.nth_vip(str(network), number - hosts - 1)
    assert addresses.on_link(found, str(network))
    assert addresses.vips_in([found], str(network)) == [found]
    assert (
        int(ipaddress.ip_address(found)) - int(ipaddress.ip_address(addresses.nth_vip(str(network), 1))) == number - 1
    )


NOISE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.text(alphabet="0123456789./-:abcdef %"), st.dictionaries(st.sampled_from(["ipv4", "address"]), st.text()),
    st.lists(st.text(alphabet="0123456789./-:")),
)  # fmt: skip


@settings(deadline=None)
@given(NOISE, NOISE)
def test_whatever_is_typed_is_an_answer_or_an_error_of_ours(one: Any, other: Any) -> None:
    for name, ask in addresses.FilterModule().filters().items():
        try:
            ask(one, other)
        except AnsibleFilterError as error:
            assert ": " in str(error), name

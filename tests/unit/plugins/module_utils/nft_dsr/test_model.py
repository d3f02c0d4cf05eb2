# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user may ask, and what is said about the rest: the place, what is wrong there, what to do."""

from __future__ import annotations

import copy
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    backends,
    backends6,
    vip,
    vip6,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import vips_options

B21, B22 = ipaddress.IPv4Address("10.77.0.21"), ipaddress.IPv4Address("10.77.0.22")


def error_of(*vips: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        model.parse_vips(list(vips))
    error = caught.value
    assert str(error) == f"{error.path}: {error.problem}"
    return str(error)


# -- what is right


def test_a_vip_gets_its_defaults() -> None:
    parsed = model.parse_vip({"name": "web", "address": "10.77.0.100", "backends": [{"address": "10.77.0.21"}]}, "")
    assert parsed.options() == {
        "name": "web",
        "address": "10.77.0.100",
        "interface": None,
        "backend_interface": None,
        "protocol": "tcp",
        "ports": None,
        "scheduler": "source_hash",
        "persistence_timeout": 0,
        "flow_table": {"size": 1048576, "timeouts": {"syn": 60, "established": 900, "closing": 60}},
        "backends": [{"address": "10.77.0.21", "name": "", "mac": None, "weight": 1, "state": "up", "backup": False}],
        "require_mac": True,
        "on_empty": "drop",
        "allow_sources": None,
        "deny_sources": None,
        "new_flows_per_source": None,
        "health_check": None,
    }


def test_options_that_are_given_as_nothing_are_defaults() -> None:
    """As Ansible passes what the user left out."""
    bare = {"name": "web", "address": "10.77.0.100"}
    nothing = dict.fromkeys(option for option in model.VIP_OPTIONS if option not in bare)
    nobody = dict.fromkeys(option for option in model.BACKEND_OPTIONS if option != "address")
    assert model.parse_vip(
        {**bare, **nothing, "backends": [{"address": "10.77.0.21", **nobody}]}, ""
    ) == model.parse_vip({**bare, "backends": [{"address": "10.77.0.21"}]}, "")


@pytest.mark.parametrize(
    ("given_ports", "ports"),
    [
        (["80"], ["80"]),
        ([80], ["80"]),
        ("80", ["80"]),
        (80, ["80"]),
        ("443, 80", ["80", "443"]),
        (["443", "80"], ["80", "443"]),
        (["8000-8100", "80"], ["80", "8000-8100"]),
        (["80-80"], ["80"]),
        (["1", "65535"], ["1", "65535"]),
        (["1-65535"], ["1-65535"]),
        (["0080"], ["80"]),
        (["80-81", "82"], ["80-81", "82"]),
        (None, None),
    ],
)
def test_ports_are_normalised(given_ports: Any, ports: Any) -> None:
    assert model.parse_vip(vip(ports=given_ports), "").options()["ports"] == ports


@pytest.mark.parametrize("mac", ["02:d5:00:00:00:15", "02:D5:00:00:00:15", "02-d5-00-00-00-15"])
def test_macs_are_normalised(mac: str) -> None:
    assert model.parse_mac(mac, "mac") == "02:d5:00:00:00:15"


@pytest.mark.parametrize("weight", [0, 1, 65535, "5"])
def test_weights_are_whole_numbers(weight: Any) -> None:
    parsed = model.parse_vip(vip(backends=backends(21, weight=weight), scheduler="weighted_round_robin"), "")
    assert parsed.backends[0].weight == int(weight)


@pytest.mark.parametrize(
    ("value", "wanted"), [(True, True), ("no", False), ("true", True), (0, False), ("1", True), ("Off", False)]
)
def test_truth_has_many_spellings(value: Any, wanted: bool) -> None:
    assert model.parse_vip(vip(require_mac=value), "").require_mac is wanted


@pytest.mark.parametrize("name", ["w", "0", "web-1", "web_1", "a" * 31])
def test_names_that_a_vip_can_have(name: str) -> None:
    assert model.parse_vip(vip(name), "").name == name


@pytest.mark.parametrize("name", ["eth0", "eth0.100", "br-lan", "wlp3s0", "10g0", "a" * 15])
def test_names_that_an_interface_can_have(name: str) -> None:
    parsed = model.parse_vip(vip(interface=name, backend_interface=name), "")
    assert (parsed.interface, parsed.backend_interface) == (name, name)


@pytest.mark.parametrize("name", ["web1", "WEB1", "web1.example.net", "1", "a" * 63])
def test_names_that_a_backend_can_have(name: str) -> None:
    assert model.parse_vip(vip(backends=backends(21, name=name)), "").backends[0].name == name


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("fd00:77::100", "fd00:77::100"),
        ("FD00:77::100", "fd00:77::100"),
        ("fd00:0077:0:0:0:0:0:0100", "fd00:77::100"),
        ("2001:db8::", "2001:db8::"),  # of a network that is not ours it may be anything
        ("2001:db8::192.0.2.1", "2001:db8::c000:201"),
    ],
)
def test_an_ipv6_address_has_many_spellings(written: str, address: str) -> None:
    parsed = model.parse_vip(vip6(address=written, backends=[{"address": "FD00:77:0::0021"}]), "")
    assert (parsed.options()["address"], parsed.options()["backends"][0]["address"]) == (address, "fd00:77::21")


def test_a_link_local_backend_is_known_by_its_nic() -> None:
    parsed = model.parse_vip(vip6(backends=[{"address": "fe80::21"}], backend_interface="eth0"), "")
    assert str(parsed.backends[0].address) == "fe80::21"


@pytest.mark.parametrize("seconds", [0, 1, "300", 604800])
def test_persistence_is_in_seconds(seconds: Any) -> None:
    parsed = model.parse_vip(vip(persistence_timeout=seconds), "")
    assert parsed.persistence_timeout == int(seconds)
    assert parsed.tracks is (int(seconds) > 0), "clients that are to stay need their flows tracked"


CONNECTION_TIMEOUTS = {"syn": 60, "established": 900, "closing": 60}


@pytest.mark.parametrize(
    ("protocol", "given_table", "size", "timeouts"),
    [
        ("tcp", None, 1048576, CONNECTION_TIMEOUTS),
        ("tcp", {}, 1048576, CONNECTION_TIMEOUTS),
        ("tcp", {"size": None, "timeouts": None}, 1048576, CONNECTION_TIMEOUTS),
        ("tcp", {"size": "1000", "timeouts": {}}, 1000, CONNECTION_TIMEOUTS),
        ("tcp", {"size": 1}, 1, CONNECTION_TIMEOUTS),
        ("tcp", {"size": 16777216}, 16777216, CONNECTION_TIMEOUTS),
        ("tcp", {"timeouts": {"syn": 5}}, 1048576, {**CONNECTION_TIMEOUTS, "syn": 5}),
        ("sctp", {"timeouts": {"established": 604800}}, 1048576, {**CONNECTION_TIMEOUTS, "established": 604800}),
        ("sctp", {"timeouts": {"closing": "1"}}, 1048576, {**CONNECTION_TIMEOUTS, "closing": 1}),
        ("udp", None, 1048576, {"udp": 120}),
        # As Ansible passes suboptions that were left out
        ("udp", {"timeouts": {"syn": None, "closing": None, "udp": 30}}, 1048576, {"udp": 30}),
        ("any", {"timeouts": {"udp": 7}}, 1048576, {"udp": 7}),
    ],
)
def test_a_flow_table_has_the_life_times_that_its_protocol_knows(
    protocol: str, given_table: Any, size: int, timeouts: dict[str, int]
) -> None:
    parsed = model.parse_vip(vip(protocol=protocol, ports=None, flow_table=given_table), "")
    assert parsed.options()["flow_table"] == {"size": size, "timeouts": timeouts}


@pytest.mark.parametrize(
    ("networks", "normalised"),
    [
        (["10.0.0.0/8"], ["10.0.0.0/8"]),
        ("10.0.0.0/8, 192.0.2.1", ["10.0.0.0/8", "192.0.2.1/32"]),
        (["192.0.2.1"], ["192.0.2.1/32"]),
        (["192.0.2.1", "192.0.2.1/32"], ["192.0.2.1/32"]),
        (["192.0.2.128/25", "192.0.2.0/25"], ["192.0.2.0/24"]),
        (["10.1.0.0/16", "10.0.0.0/8"], ["10.0.0.0/8"]),
        (["0.0.0.0/0", "10.0.0.0/8"], ["0.0.0.0/0"]),
        (["192.0.2.0/255.255.255.0"], ["192.0.2.0/24"]),
        ([" 192.0.2.0/24 "], ["192.0.2.0/24"]),
        (("198.51.100.0/24", "192.0.2.0/24"), ["192.0.2.0/24", "198.51.100.0/24"]),
        ([f"10.{number // 128}.{number % 128 * 2}.1" for number in range(4096)], 4096),
    ],
)
@pytest.mark.parametrize("option", ["allow_sources", "deny_sources"])
def test_networks_are_joined_and_in_order(option: str, networks: Any, normalised: Any) -> None:
    found = model.parse_vip(vip(**{option: networks}), "").options()[option]
    assert (len(found) if isinstance(normalised, int) else found) == normalised


@pytest.mark.parametrize(
    ("networks", "normalised"),
    [
        (["FD00:77::/64"], ["fd00:77::/64"]),
        (["fd00:77:0:1::/64", "fd00:77::/64"], ["fd00:77::/63"]),
        (["fd00:77::10", "::/0"], ["::/0"]),
    ],
)
def test_networks_in_ipv6(networks: list[str], normalised: list[str]) -> None:
    options = model.parse_vip(vip6(allow_sources=networks, deny_sources=networks), "").options()
    assert options["allow_sources"] == options["deny_sources"] == normalised


def test_to_deny_nobody_is_to_say_nothing() -> None:
    assert model.parse_vip(vip(deny_sources=[]), "") == model.parse_vip(vip(), "")


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("100/second", "100/second"),
        (" 5 / minute ", "5/minute"),
        ("1/hour", "1/hour"),
        ("1000000/day", "1000000/day"),
        ("007/second", "7/second"),
    ],
)
def test_rates_are_normalised(written: str, rate: str) -> None:
    assert model.parse_vip(vip(new_flows_per_source=written), "").options()["new_flows_per_source"] == rate


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "udp", "scheduler": "round_robin"},
        {"protocol": "udp", "persistence_timeout": 60},
        {"protocol": "any", "ports": None, "scheduler": "weighted_round_robin"},
        {"protocol": "any", "ports": None, "persistence_timeout": 60},
        {"protocol": "sctp"},
        {"protocol": "tcp", "scheduler": "connection_hash"},
    ],
)
def test_new_flows_are_limited_where_they_are_known(options: dict[str, Any]) -> None:
    assert model.parse_vip(vip(new_flows_per_source="1/second", **options), "").new_flows_per_source is not None


@pytest.mark.parametrize(
    ("weights", "backup_weights"), [([1, 0], [5]), ([5, 3], [1, 0]), ([1], [0]), ([0, 0], [2, 3]), ([1, 0], [0, 1])]
)
def test_the_weights_of_a_pool_and_of_its_backups_are_apart(weights: list[int], backup_weights: list[int]) -> None:
    """Each has a table of its own, so that a weight of 0 hides no share of the other's."""
    pool = [{"address": f"10.77.0.{21 + i}", "weight": weight} for i, weight in enumerate(weights)]
    pool += [{"address": f"10.77.0.{31 + i}", "weight": w, "backup": True} for i, w in enumerate(backup_weights)]
    assert len(model.parse_vip(vip(backends=pool), "").backends) == len(pool)


def test_the_network_address_of_some_other_network_can_be_a_vip() -> None:
    assert str(model.parse_address("192.0.2.0", "address")) == "192.0.2.0"


@given(vips_options())
def test_what_a_vip_says_of_itself_is_the_same_vip(options: list[dict[str, Any]]) -> None:
    untouched = copy.deepcopy(options)
    vips = model.parse_vips(options)
    assert options == untouched
    again = [model.parse_vip(parsed.options(), "") for parsed in vips]
    assert [parsed.options() for parsed in again] == [parsed.options() for parsed in vips]
    assert list(model.parse_vips([parsed.options() for parsed in vips])) == again
    # Twice, as what is filled in for an option that was left out is an option that is given.
    assert [model.parse_vip(parsed.options(), "") for parsed in again] == again


# -- what is wrong, and where


@pytest.mark.parametrize(
    ("change", "error"),
    [
        # name
        ({"name": None}, "vips[0].name: is missing; every VIP needs a name"),
        ({"name": ""}, "vips[0].name: is missing; every VIP needs a name"),
        *(
            ({"name": name}, f"vips[0].name: {name!r} is not a name of a VIP; use 1 to 31 lower-case letters")
            for name in ["Web", "-web", "web.1", "a" * 32, "web 1", "web;reboot", "$(id)", "web\n", "web}", "ä", 7]
        ),
        # address
        ({"address": None}, "vips[0].address: is missing; a VIP needs its address"),
        ({"address": ""}, "vips[0].address: is missing; a VIP needs its address"),
        ({"address": "10.77.0"}, "vips[0].address: '10.77.0' is not an IP address; write it as '192.0.2.10'"),
        ({"address": "10.77.0.100\n"}, "vips[0].address: '10.77.0.100\\n' is not an IP address; write"),
        ({"address": "web.example.net"}, "vips[0].address: 'web.example.net' is not an IP address; write"),
        ({"address": 172818532}, "vips[0].address: 172818532 is not an IP address; write it as a string"),
        (
            {"address": "10.77.0.100/32"},
            "vips[0].address: '10.77.0.100/32' has a prefix length; give the address alone",
        ),
        ({"address": "fd00:77"}, "vips[0].address: 'fd00:77' is not an IP address; write it as '192.0.2.10' or '2001:"),
        ({"address": "[fd00::1]"}, "vips[0].address: '[fd00::1]' is not an IP address; write it as"),
        ({"address": "fd00::1/128"}, "vips[0].address: 'fd00::1/128' has a prefix length; give the address alone"),
        (
            {"address": "fd00::1%eth0"},
            "vips[0].address: 'fd00::1%eth0' has a zone; give the address alone, and its NIC in 'backend_interface'",
        ),
        ({"address": "::"}, "vips[0].address: :: is the unspecified address; give a unicast address"),
        ({"address": "::1"}, "vips[0].address: ::1 is a loopback address, which never leaves a host; give a unicast"),
        ({"address": "ff02::1"}, "vips[0].address: ff02::1 is a multicast address; give a unicast address"),
        (
            {"address": "::ffff:10.77.0.100"},
            "vips[0].address: ::ffff:10.77.0.100 is a mapped IPv4 address; write it as '10.77.0.100'",
        ),
        (
            {"address": "fe80::100"},
            "vips[0].address: fe80::100 is a link-local address, which backends cannot hold on lo; give another",
        ),
        ({"address": "0.0.0.0"}, "vips[0].address: 0.0.0.0 is in 0.0.0.0/8, which no host can use; give"),
        ({"address": "0.1.2.3"}, "vips[0].address: 0.1.2.3 is in 0.0.0.0/8, which no host can use; give"),
        ({"address": "127.0.0.1"}, "vips[0].address: 127.0.0.1 is a loopback address, which never leaves a host; give"),
        ({"address": "224.0.0.1"}, "vips[0].address: 224.0.0.1 is a multicast address; give a unicast address"),
        ({"address": "169.254.1.1"}, "vips[0].address: 169.254.1.1 is a link-local address; give another"),
        ({"address": "255.255.255.255"}, "vips[0].address: 255.255.255.255 is a broadcast or reserved address; give"),
        ({"address": "240.0.0.1"}, "vips[0].address: 240.0.0.1 is a broadcast or reserved address; give"),
        # interfaces
        *(
            ({key: name}, f"vips[0].{key}: {name!r} is not a name of a network interface (letters, digits,")
            for key in ("interface", "backend_interface")
            for name in ["eth0;reboot", "a" * 16, '"', "eth0 eth1", "eth0:1", ".", "-i", 0]
        ),
        # protocol and scheduler
        ({"protocol": "icmp"}, "vips[0].protocol: 'icmp' is not known; choose one of: tcp, udp, sctp, any"),
        ({"protocol": ["tcp"]}, "vips[0].protocol: ['tcp'] is not known; choose one of: tcp, udp, sctp, any"),
        ({"protocol": "any"}, "vips[0].ports: protocol any has no ports; leave them out"),
        ({"protocol": "any", "ports": ["1-65535"]}, "vips[0].ports: protocol any has no ports; leave them out"),
        (
            {"protocol": "any", "ports": None, "scheduler": "connection_hash"},
            "vips[0].scheduler: connection_hash needs ports, and protocol any has none; use source_hash",
        ),
        (
            {"scheduler": "rr"},
            "vips[0].scheduler: 'rr' is not known; choose one of: source_hash, connection_hash, round_robin, "
            "weighted_round_robin, least_connections, weighted_least_connections",
        ),
        # ports
        ({"ports": []}, "vips[0].ports: the list is empty; name a port, or leave 'ports' out for all ports"),
        ({"ports": {"80": 1}}, "vips[0].ports: {'80': 1} is not a list of ports; write ['80', '8000-8100']"),
        ({"ports": ["80", "0"]}, "vips[0].ports[1]: port 0 is out of range; use 1 to 65535"),
        ({"ports": ["70000"]}, "vips[0].ports[0]: port 70000 is out of range; use 1 to 65535"),
        ({"ports": ["0-80"]}, "vips[0].ports[0]: port 0 is out of range; use 1 to 65535"),
        ({"ports": ["80-70000"]}, "vips[0].ports[0]: port 70000 is out of range; use 1 to 65535"),
        ({"ports": ["90-80"]}, "vips[0].ports[0]: the range 90-80 ends before it starts; write '80-90'"),
        ({"ports": "443,0"}, "vips[0].ports[1]: port 0 is out of range; use 1 to 65535"),
        *(
            ({"ports": [port]}, f"vips[0].ports[0]: {port!r} is not a port; write '80' or '8000-8100'")
            for port in [
                "http",
                "",
                "-80",
                "80-",
                "80 - 90",
                "1-2-3",
                "80\n",
                "999999",
                "80; drop",
                True,
                None,
                8.5,
                [80],
            ]
        ),
        (
            {"ports": ["80-90", "443", "85"]},
            "vips[0].ports[2]: 85 overlaps 80-90 of the same list; name each port once",
        ),
        ({"ports": ["80", "80"]}, "vips[0].ports[1]: 80 overlaps 80 of the same list; name each port once"),
        # the pool
        ({"backends": None}, "vips[0].backends: is missing; list every backend of the VIP"),
        ({"backends": []}, "vips[0].backends: the list is empty; a VIP needs at least one backend"),
        ({"backends": "10.77.0.21"}, "vips[0].backends: '10.77.0.21' is not a list of backends"),
        ({"backends": {"address": "10.77.0.21"}}, "vips[0].backends: {'address': '10.77.0.21'} is not a list of"),
        (
            {"backends": [{"address": f"10.78.{i // 250}.{1 + i % 250}"} for i in range(1025)]},
            "vips[0].backends: 1025 backends are too many; a VIP takes 1024",
        ),
        ({"backends": ["10.77.0.21"]}, "vips[0].backends[0]: must be a dictionary of options, not '10.77.0.21'"),
        ({"backends": [backends(21)]}, "vips[0].backends[0]: must be a dictionary of options, not [{'address':"),
        # one backend
        (
            {"backends": [{"adress": "10.77.0.21"}]},
            "vips[0].backends[0].adress: unknown option; there are: address, name, mac, weight, state, backup",
        ),
        ({"backends": [{"name": "b1"}]}, "vips[0].backends[0].address: is missing; every backend needs its address"),
        (
            {"backends": [*backends(21), *backends6(22)]},
            "vips[0].backends[1].address: fd00:77::22 is IPv6 and the VIP is IPv4; give the backend's IPv4 address",
        ),
        (
            {"address": "fd00:77::100"},
            "vips[0].backends[0].address: 10.77.0.21 is IPv4 and the VIP is IPv6; give the backend's IPv6 address",
        ),
        (
            {"address": "fd00:77::100", "backends": [*backends6(21), {"address": "FD00:77:0::21"}]},
            "vips[0].backends[1].address: fd00:77::21 is a backend already (vips[0].backends[0]); for a larger share",
        ),
        (
            {"address": "fd00:77::100", "backends": [{"address": "FD00:77::0100"}]},
            "vips[0].backends[0].address: fd00:77::100 is the VIP itself; give the backend's own address",
        ),
        (
            {"address": "fd00:77::100", "backends": [{"address": "fe80::21"}]},
            "vips[0].backends[0].address: fe80::21 is a link-local address; name its NIC in 'backend_interface'",
        ),
        (
            {"address": "fd00:77::100", "backends": [{"address": "fe80::21%eth0"}]},
            "vips[0].backends[0].address: 'fe80::21%eth0' has a zone; give the address alone, and its NIC in",
        ),
        (
            {"backends": [{"address": "169.254.0.21"}]},
            "vips[0].backends[0].address: 169.254.0.21 is a link-local address; give another unicast address",
        ),
        # backups
        *(
            ({"backends": backends(21, backup=value)}, f"vips[0].backends[0].backup: {value!r} is neither true nor")
            for value in ["maybe", 2, [], "backup"]
        ),
        (
            {"backends": backends(21, 22, backup=True)},
            "vips[0].backends: all of them are backups, of nobody; leave 'backup' out where it is not one",
        ),
        (
            {"scheduler": "round_robin", "backends": [*backends(21), *backends(22, weight=2, backup=True)]},
            "vips[0].backends[1].weight: the scheduler round_robin knows no weights but 0 and 1, and 2 would have no",
        ),
        (
            {"backends": [*backends(21), *backends(22, weight=0, backup=True), *backends(23, weight=2, backup=True)]},
            "vips[0].backends[1].weight: with a hash scheduler and different weights, 0 would forget the share",
        ),
        ({"backends": [{"address": "10.77.0.21/24"}]}, "vips[0].backends[0].address: '10.77.0.21/24' has a prefix"),
        ({"backends": backends(21, 100)}, "vips[0].backends[1].address: 10.77.0.100 is the VIP itself; give the"),
        (
            {"backends": backends(21, 22, 21)},
            "vips[0].backends[2].address: 10.77.0.21 is a backend already (vips[0].backends[0]); for a larger share",
        ),
        (
            {"backends": backends(21, 22, name="b1")},
            "vips[0].backends[1].name: 'b1' is the name of vips[0].backends[0] already; give each its own",
        ),
        *(
            (
                {"backends": backends(21, name=name)},
                f"vips[0].backends[0].name: {name!r} is not a name of a backend; use letters, digits, '.', '-' and '_'",
            )
            for name in ["web 1", "$(reboot)", "`id`", 'a"b', "a{", "a;", ".a", "-a", "a" * 64, "a\n", "a@b", ["b1"]]
        ),
        *(
            (
                {"backends": [*backends(21), *backends(22, mac=mac)]},
                f"vips[0].backends[1].mac: {mac!r} is not a MAC address; write it as '02:00:00:00:00:01'",
            )
            for mac in ["02:d5", "02:d5:00:00:00:1g", "02d500000015", "02:d5:00:00:00:15:16", "b1", "x;id", 15]
        ),
        (
            {"backends": backends(21, mac="00:00:00:00:00:00")},
            "vips[0].backends[0].mac: the zero MAC address belongs to no host; leave 'mac' out to have it resolved",
        ),
        (
            {"backends": backends(21, mac="01:00:5E:00:00:01")},
            "vips[0].backends[0].mac: 01:00:5e:00:00:01 is a multicast or broadcast MAC address; a backend has a",
        ),
        (
            {"backends": backends(21, mac="ff:ff:ff:ff:ff:ff")},
            "vips[0].backends[0].mac: ff:ff:ff:ff:ff:ff is a multicast or broadcast MAC address; a backend has",
        ),
        *(
            (
                {"backends": backends(21, weight=weight)},
                f"vips[0].backends[0].weight: {weight!r} is not a whole number; use 0 to 65535",
            )
            for weight in ["heavy", 1.5, True, "1e3", [1]]
        ),
        ({"backends": backends(21, weight=-1)}, "vips[0].backends[0].weight: -1 is out of range; use 0 to 65535"),
        ({"backends": backends(21, weight=65536)}, "vips[0].backends[0].weight: 65536 is out of range; use 0 to 65535"),
        (
            {"backends": backends(21, state="off")},
            "vips[0].backends[0].state: 'off' is not known; choose one of: up, drain, down",
        ),
        # weights and schedulers
        (
            {"scheduler": "least_connections", "backends": [*backends(21), *backends(22, weight=3)]},
            "vips[0].backends[1].weight: the scheduler least_connections knows no weights but 0 and 1, and 3 would "
            "have no effect; use weighted_least_connections",
        ),
        (
            {"scheduler": "round_robin", "backends": [*backends(21), *backends(22, weight=3)]},
            "vips[0].backends[1].weight: the scheduler round_robin knows no weights but 0 and 1, and 3 would have no "
            "effect; use weighted_round_robin",
        ),
        (
            {"backends": [*backends(21, weight=3), *backends(22, weight=0)]},
            "vips[0].backends[1].weight: with a hash scheduler and different weights, 0 would forget the share that "
            "this backend has; keep its weight and set 'state: drain'",
        ),
        # persistence
        *(
            (
                {"persistence_timeout": value},
                f"vips[0].persistence_timeout: {value!r} is not a whole number; use 0 to 604800",
            )
            for value in ["long", "5m", 1.5, True, "", [300]]
        ),
        ({"persistence_timeout": -1}, "vips[0].persistence_timeout: -1 is out of range; use 0 to 604800"),
        ({"persistence_timeout": 604801}, "vips[0].persistence_timeout: 604801 is out of range; use 0 to 604800"),
        # flow tables
        *(
            ({"flow_table": value}, f"vips[0].flow_table: must be a dictionary of options, not {value!r}")
            for value in [1000, "1000", [], [{"size": 1}], True]
        ),
        ({"flow_table": {"sise": 1}}, "vips[0].flow_table.sise: unknown option; there are: size, timeouts"),
        ({"flow_table": {"size": 0}}, "vips[0].flow_table.size: 0 is out of range; use 1 to 16777216"),
        ({"flow_table": {"size": 16777217}}, "vips[0].flow_table.size: 16777217 is out of range; use 1 to 16777216"),
        ({"flow_table": {"size": "1M"}}, "vips[0].flow_table.size: '1M' is not a whole number; use 1 to 16777216"),
        (
            {"flow_table": {"timeouts": 60}},
            "vips[0].flow_table.timeouts: must be a dictionary of options, not 60",
        ),
        (
            {"flow_table": {"timeouts": {"fin": 60}}},
            "vips[0].flow_table.timeouts.fin: unknown option; there are: syn, established, closing, udp",
        ),
        *(
            (
                {"flow_table": {"timeouts": {"syn": value}}},
                f"vips[0].flow_table.timeouts.syn: {value} is out of range; use 1 to 604800",
            )
            for value in [0, -1, 604801]
        ),
        (
            {"flow_table": {"timeouts": {"closing": "1m"}}},
            "vips[0].flow_table.timeouts.closing: '1m' is not a whole number; use 1 to 604800",
        ),
        *(
            (
                {"protocol": protocol, "flow_table": {"timeouts": {"udp": 60}}},
                f"vips[0].flow_table.timeouts.udp: has no effect with protocol {protocol}, whose life times are: "
                "syn, established, closing",
            )
            for protocol in ("tcp", "sctp")
        ),
        *(
            (
                {"protocol": protocol, "ports": None, "flow_table": {"timeouts": {"udp": 60, key: 60}}},
                f"vips[0].flow_table.timeouts.{key}: has no effect with protocol {protocol}, whose life times are: udp",
            )
            for protocol in ("udp", "any")
            for key in ("syn", "established", "closing")
        ),
        # what packets get when nobody is left
        *(
            ({"on_empty": value}, f"vips[0].on_empty: {value!r} is not known; choose one of: drop, reject, local")
            for value in ["accept", "", True, ["drop"]]
        ),
        # who may come
        (
            {"allow_sources": []},
            "vips[0].allow_sources: the list is empty and would lock out everybody; leave it out to allow all",
        ),
        *(
            case
            for option in ("allow_sources", "deny_sources")
            for case in (
                (
                    {option: {"10.0.0.0/8": 1}},
                    f"vips[0].{option}: {{'10.0.0.0/8': 1}} is not a list of networks; write ['192.0.2.0/24']",
                ),
                ({option: 10}, f"vips[0].{option}: 10 is not a list of networks; write ['192.0.2.0/24']"),
                (
                    {option: ["10.0.0.0/8", "10.1.2.3/16"]},
                    f"vips[0].{option}[1]: 10.1.2.3/16 has bits set beyond its prefix length; write '10.1.0.0/16', "
                    "or the address alone",
                ),
                (
                    {option: ["fd00:77::/64"]},
                    f"vips[0].{option}[0]: fd00:77::/64 is IPv6 and the VIP is IPv4, so it would have no effect",
                ),
                (
                    {option: ["192.0.2.0/24"], "address": "fd00:77::100", "backends": backends6(21)},
                    f"vips[0].{option}[0]: 192.0.2.0/24 is IPv4 and the VIP is IPv6, so it would have no effect",
                ),
                (
                    {option: ["10.0.0.1"] * 4097},
                    f"vips[0].{option}: 4097 networks are too many; a VIP takes 4096",
                ),
            )
        ),
        *(
            (
                {option: ["192.0.2.0/24", value]},
                f"vips[0].{option}[1]: {value!r} is not a network; write it as '192.0.2.0/24'",
            )
            for option in ("allow_sources", "deny_sources")
            for value in ["everybody", "", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0-10.0.0.9", "1.2.3.4; drop", 10, None]
        ),
        # What stands after a % in an IPv6 network may be anything, and would come out again in what nft reads.
        *(
            (
                {"deny_sources": [value], "address": "fd00:77::100", "backends": backends6(21)},
                f"vips[0].deny_sources[0]: {value!r} is not a network; write it as '192.0.2.0/24'",
            )
            for value in ["fe80::1%eth0", "fe80::%eth0/64", "fd00::%a } ; flush ruleset/64", "fd00::%a\nb/64"]
        ),
        # how many new flows
        *(
            (
                {"new_flows_per_source": value},
                f"vips[0].new_flows_per_source: {value!r} is not a rate; write it as '100/second' (or minute, hour,",
            )
            for value in [
                *(100, "100", "100/s", "100/week", "-1/second", "1.5/second", "10000000/day", True, ["1/hour"]),
                *("", "1/second burst 5", "1/second\n/", "second/1"),
            ]
        ),
        ({"new_flows_per_source": "0/second"}, "vips[0].new_flows_per_source: the rate 0 is out of range; use 1 to"),
        (
            {"new_flows_per_source": "1000001/day"},
            "vips[0].new_flows_per_source: the rate 1000001 is out of range; use 1 to 1000000",
        ),
        *(
            (
                {"protocol": protocol, "ports": None, "scheduler": scheduler, "new_flows_per_source": "1/second"},
                f"vips[0].new_flows_per_source: {scheduler} tracks no flows, so with protocol {protocol} nobody knows "
                "which packet begins one; use a scheduler that tracks, or set 'persistence_timeout'",
            )
            for protocol, scheduler in (("udp", "source_hash"), ("udp", "connection_hash"), ("any", "source_hash"))
        ),
        # The same while a backend drains: the option may not come and go with its state.
        (
            {"protocol": "udp", "new_flows_per_source": "1/second", "backends": backends(21, state="drain")},
            "vips[0].new_flows_per_source: source_hash tracks no flows, so with protocol udp nobody knows",
        ),
        # the rest
        ({"require_mac": "maybe"}, "vips[0].require_mac: 'maybe' is neither true nor false"),
        ({"require_mac": 2}, "vips[0].require_mac: 2 is neither true nor false"),
        ({"schedular": "x"}, "vips[0].schedular: unknown option; there are: name, address, interface,"),
        ({"state": "present"}, "vips[0].state: unknown option; there are: name, address, interface,"),
    ],
)
def test_an_error_names_its_place(change: dict[str, Any], error: str) -> None:
    message = error_of({**vip(), **change})
    assert message.startswith(error)
    # The same without a list around, as the module of one VIP has it.
    with pytest.raises(ConfigError) as caught:
        model.parse_vip({**vip(), **change}, "")
    assert str(caught.value) == message.replace("vips[0].", "")


@pytest.mark.parametrize(
    ("vips", "error"),
    [
        (None, "vips: is missing; list the VIPs"),
        ("web", "vips: 'web' is not a list of VIPs"),
        ({"web": {}}, "vips: {'web': {}} is not a list of VIPs"),
        ([vip(), "dns"], "vips[1]: must be a dictionary of options, not 'dns'"),
        ([vip(), [vip("dns")]], "vips[1]: must be a dictionary of options, not [{"),
        ([vip(), None], "vips[1]: must be a dictionary of options, not None"),
        ([vip(), vip("dns", protocol="x")], "vips[1].protocol: 'x' is not known; choose one of: tcp, udp, sctp"),
        (
            [vip(), vip("dns", address="10.77.0.101", backends=backends(21, 22, mac="02:00"))],
            "vips[1].backends[0].mac: '02:00' is not a MAC address; write it as",
        ),
        ([vip(), vip(address="10.77.0.101")], "vips[1].name: 'web' is the name of vips[0] already; give each its own"),
        (
            [vip(), vip("other", ports=["443", "80"])],
            "vips[1].ports: 10.77.0.100 tcp port 80 belongs to the VIP 'web' (vips[0]) already; give each its own",
        ),
        (
            [vip(ports=["8000-8100"]), vip("b", ports=["80"]), vip("c", ports=["8050-8060"])],
            "vips[2].ports: 10.77.0.100 tcp port 8050-8060 belongs to the VIP 'web' (vips[0]) already; give each its",
        ),
        (
            [vip(ports=None), vip("other")],
            "vips[1].ports: 10.77.0.100 tcp (all ports) belongs to the VIP 'web' (vips[0]) already; give each its own",
        ),
        (
            [vip(), vip("other", ports=None)],
            "vips[1].ports: 10.77.0.100 tcp (all ports) belongs to the VIP 'web' (vips[0]) already; give each its own",
        ),
        (
            [vip6(), vip6("other", address="FD00:77:0::100")],
            "vips[1].ports: fd00:77::100 tcp port 80 belongs to the VIP 'web' (vips[0]) already; give each its own",
        ),
        (
            [vip6(protocol="sctp"), vip6("other", protocol="sctp", ports=["70-90"])],
            "vips[1].ports: fd00:77::100 sctp port 80 belongs to the VIP 'web' (vips[0]) already; give each its own",
        ),
        (
            [vip(protocol="any", ports=None), vip("other", protocol="any", ports=None)],
            "vips[1].ports: 10.77.0.100 any (all ports) belongs to the VIP 'web' (vips[0]) already; give each its own",
        ),
        (
            [vip6(), vip6("b", address="fd00:77::0021", backends=backends6(22))],
            "vips[1].address: fd00:77::21 is a backend of the VIP 'web'; give the VIP an address of its own",
        ),
        (
            [vip(), vip("b", address="10.77.0.101", backends=backends(21, 100))],
            "vips[1].backends[1].address: 10.77.0.100 is the address of the VIP 'web'; give the backend's own address",
        ),
        (
            [vip(), vip("b", address="10.77.0.22", backends=backends(21))],
            "vips[1].address: 10.77.0.22 is a backend of the VIP 'web'; give the VIP an address of its own",
        ),
    ],
)
def test_an_error_among_several_names_its_place(vips: Any, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        model.parse_vips(vips)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    "other",
    [
        vip("other", ports=["443"]),
        vip("other", protocol="udp"),
        vip("other", protocol="udp", ports=None),
        vip("other", address="10.77.0.101"),
        vip("other", ports=["81-65535", "1-79"]),
        vip("other", protocol="sctp"),
        vip("other", protocol="any", ports=None),  # takes what the others leave
        vip6("other"),
    ],
)
def test_vips_that_can_stand_side_by_side(other: dict[str, Any]) -> None:
    assert len(model.parse_vips([vip(), other])) == 2


@pytest.mark.parametrize(
    ("place", "path"), [("", "ports"), ("vips[3]", "vips[3].ports")], ids=["one VIP", "one VIP of a list"]
)
def test_a_clash_is_found_at_the_place_that_is_given(place: str, path: str) -> None:
    known, wanted = model.parse_vip(vip(), ""), model.parse_vip(vip("other"), "")
    with pytest.raises(ConfigError) as caught:
        model.check_together([known, wanted], ["the VIP 'web' that this host has", place])
    assert caught.value.path == path
    assert "belongs to the VIP 'web' (the VIP 'web' that this host has) already" in caught.value.problem


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"address": "10.77.0.21", "backends": backends(22)}, "address"),
        ({"address": "10.77.0.101", "backends": backends(22, 100)}, "backends[1].address"),
        ({"name": "web", "address": "10.77.0.101"}, "name"),
    ],
)
def test_a_clash_with_one_vip_has_no_dot_before_it(change: dict[str, Any], path: str) -> None:
    wanted = model.parse_vip(vip(**{"name": "other", **change}), "")
    with pytest.raises(ConfigError) as caught:
        model.check_together([model.parse_vip(vip(), ""), wanted], ["the VIP 'web' that this host has", ""])
    assert caught.value.path == path


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists) | st.dictionaries(
    st.sampled_from([*model.VIP_OPTIONS, "state"]), st.none() | st.integers() | st.text() | st.lists(st.text())
))  # fmt: skip
def test_nothing_but_a_config_error_ever_comes_back(nonsense: Any) -> None:
    for value in (nonsense, [nonsense], [{**vip(), **(nonsense if isinstance(nonsense, dict) else {})}]):
        try:
            model.parse_vips(value)
        except ConfigError as error:
            assert error.path.startswith("vips")


# -- what it means


@pytest.mark.parametrize(
    ("weight", "state", "draining", "down"),
    [
        (1, "up", False, False),
        (0, "up", True, False),
        (1, "drain", True, False),
        (0, "drain", True, False),
        (1, "down", False, True),
        (0, "down", False, True),
    ],
)
def test_weight_0_drains_and_down_is_down(weight: int, state: str, draining: bool, down: bool) -> None:
    backend = model.Backend(B21, weight=weight, state=state)
    assert (backend.draining, backend.down) == (draining, down)


def test_a_weight_of_0_keeps_the_slots_of_weight_1() -> None:
    parsed = model.parse_vip(vip(backends=[*backends(21, weight=0), *backends(22)]), "")
    assert [parsed.table_weight(backend) for backend in parsed.backends] == [1, 1]


def test_a_mark_is_the_address_and_so_nobody_elses() -> None:
    parsed = model.parse_vip(vip(), "")
    assert dict(parsed.marks) == {backend.address: int(backend.address) for backend in parsed.backends}
    assert parsed.marks[B21] == 0x0A4D0015


def test_a_mark_of_an_ipv6_address_is_the_same_everywhere() -> None:
    """On every load balancer, in every pool, and after every update of this collection: flow entries hold it."""
    assert {str(address): f"{mark:08x}" for address, mark in model.parse_vip(vip6(), "").marks.items()} == {
        "fd00:77::21": "bcd7043f",
        "fd00:77::22": "2e7046d5",
        "fd00:77::23": "2a8d9035",
    }
    other = model.parse_vip(vip6(backends=backends6(22, 9)), "")
    address = ipaddress.IPv6Address("fd00:77::22")
    assert other.marks[address] == model.parse_vip(vip6(), "").marks[address]


@pytest.mark.parametrize(
    ("drawn", "marks"),
    [
        ([7, 7, 7], [7, 8, 9]),
        ([7, 8, 7], [7, 8, 9]),
        ([8, 7, 7], [8, 7, 9]),
        ([0xFFFFFFFF, 0xFFFFFFFF, 1], [0xFFFFFFFF, 0, 1]),
        ([0xFFFFFFFF, 0xFFFFFFFF, 0], [0xFFFFFFFF, 0, 1]),
    ],
)
def test_ipv6_addresses_that_hash_alike_get_marks_of_their_own(
    monkeypatch: pytest.MonkeyPatch, drawn: list[int], marks: list[int]
) -> None:
    numbers = {ipaddress.IPv6Address(f"fd00:77::{21 + index}"): number for index, number in enumerate(drawn)}
    monkeypatch.setattr(model, "_mark_of", lambda address: numbers[address])
    for order in (backends6(21, 22, 23), backends6(23, 21, 22)):
        parsed = model.parse_vip(vip6(backends=order), "")
        assert [parsed.marks[address] for address in sorted(numbers)] == marks, "whatever their order in the list"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("10.77.0.22", {"web": B22, "api": B22}),
        ("web2", {"web": B22}),
        ("api2", {"api": B22}),
        ("web", {}),
        ("10.77.0.2", {}),
        ("fd00:77::22", {"six": ipaddress.IPv6Address("fd00:77::22")}),
        ("FD00:77:0:0::22", {"six": ipaddress.IPv6Address("fd00:77::22")}),
    ],
)
def test_backends_are_found_by_address_or_name(wanted: str, found: dict[str, Any]) -> None:
    vips = model.parse_vips(
        [
            vip("web", backends=[*backends(21, name="web1"), *backends(22, name="web2")]),
            vip("api", ports=["81"], backends=[*backends(22, name="api2"), *backends(23)]),
            vip6("six"),
        ]
    )
    assert model.find_backends(vips, wanted) == found


def test_an_operator_drains_what_is_up_and_nothing_else() -> None:
    given_states = {"21": "up", "22": "up", "23": "down", "24": "drain"}
    parsed = model.parse_vip(
        vip(backends=[{"address": f"10.77.0.{octet}", "state": state} for octet, state in given_states.items()]), ""
    )
    drained = model.with_drained(parsed, [B21, ipaddress.IPv4Address("10.77.0.23"), ipaddress.IPv4Address("10.0.0.1")])
    assert [backend.state for backend in drained.backends] == ["drain", "up", "down", "drain"]
    assert [backend.state for backend in parsed.backends] == ["up", "up", "down", "drain"]

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
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, vip
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
        "backends": [{"address": "10.77.0.21", "name": "", "mac": None, "weight": 1, "state": "up"}],
        "require_mac": True,
    }


def test_options_that_are_given_as_nothing_are_defaults() -> None:
    """As Ansible passes what the user left out."""
    nothing = dict.fromkeys(["interface", "backend_interface", "protocol", "ports", "scheduler", "require_mac"])
    bare = {"name": "web", "address": "10.77.0.100"}
    nobody = dict.fromkeys(["name", "mac", "weight", "state"])
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


def test_the_network_address_of_some_other_network_can_be_a_vip() -> None:
    assert str(model.parse_address("192.0.2.0", "address")) == "192.0.2.0"


@given(vips_options())
def test_what_a_vip_says_of_itself_is_the_same_vip(options: list[dict[str, Any]]) -> None:
    untouched = copy.deepcopy(options)
    vips = model.parse_vips(options)
    assert options == untouched
    for parsed in vips:
        assert model.parse_vip(parsed.options(), "") == parsed
    assert model.parse_vips([parsed.options() for parsed in vips]) == vips


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
        ({"address": "fd00::100"}, "vips[0].address: fd00::100 is an IPv6 address; this version balances IPv4 only"),
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
        ({"protocol": "icmp"}, "vips[0].protocol: 'icmp' is not known; choose one of: tcp, udp"),
        ({"protocol": ["tcp"]}, "vips[0].protocol: ['tcp'] is not known; choose one of: tcp, udp"),
        (
            {"scheduler": "rr"},
            "vips[0].scheduler: 'rr' is not known; choose one of: source_hash, connection_hash, round_robin, "
            "weighted_round_robin",
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
            "vips[0].backends[0].adress: unknown option; there are: address, name, mac, weight, state",
        ),
        ({"backends": [{"name": "b1"}]}, "vips[0].backends[0].address: is missing; every backend needs its address"),
        ({"backends": [{"address": "fd00::21"}]}, "vips[0].backends[0].address: fd00::21 is an IPv6 address; this"),
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
            {"scheduler": "round_robin", "backends": [*backends(21), *backends(22, weight=3)]},
            "vips[0].backends[1].weight: the scheduler round_robin knows no weights but 0 and 1, and 3 would have no "
            "effect; use weighted_round_robin",
        ),
        (
            {"backends": [*backends(21, weight=3), *backends(22, weight=0)]},
            "vips[0].backends[1].weight: with a hash scheduler and different weights, 0 would forget the share that "
            "this backend has; keep its weight and set 'state: drain'",
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
        ([vip(), vip("dns", protocol="x")], "vips[1].protocol: 'x' is not known; choose one of: tcp, udp"),
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
    assert model.Backend(B21).mark == 0x0A4D0015


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("10.77.0.22", {"web": B22, "api": B22}),
        ("web2", {"web": B22}),
        ("api2", {"api": B22}),
        ("web", {}),
        ("10.77.0.2", {}),
    ],
)
def test_backends_are_found_by_address_or_name(wanted: str, found: dict[str, Any]) -> None:
    vips = model.parse_vips(
        [
            vip("web", backends=[*backends(21, name="web1"), *backends(22, name="web2")]),
            vip("api", ports=["81"], backends=[*backends(22, name="api2"), *backends(23)]),
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

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a boot reads: as text, and back from it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
import yaml

from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import IPAddress
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import persisted
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.persisted import Claim, NetplanId

LO, ETH0 = NetplanId("ethernets", "lo"), NetplanId("ethernets", "eth0")


def ips(*texts: str) -> tuple[IPAddress, ...]:
    return tuple(ipaddress.ip_address(text) for text in texts)


def test_every_file_says_whose_it_is() -> None:
    texts = [
        persisted.sysctl_text(1),
        persisted.netplan_text({LO: ips("10.77.0.100")}),
        persisted.network_text("lo", ips("10.77.0.100")),
        persisted.drop_in_text("eth0", ips("10.77.0.100")),
        persisted.unit_text("/usr/sbin/ip", {"eth0": ips("10.77.0.100")}, []),
    ]
    assert all(text and persisted.is_ours(text) and "anaged by" in text.splitlines()[0] for text in texts)
    assert not persisted.is_ours("network:\n  version: 2\n" + persisted.HEADER)
    assert not persisted.is_ours("")


def test_sysctl_file() -> None:
    assert persisted.sysctl_text(1).splitlines()[-2:] == [
        "net.ipv4.conf.all.arp_ignore = 1",
        "net.ipv4.conf.all.arp_announce = 2",
    ]


NETPLANS: list[tuple[dict[NetplanId, tuple[IPAddress, ...]], Any]] = [
    ({LO: ips("10.77.0.100")}, {"ethernets": {"lo": {"addresses": ["10.77.0.100/32"]}}}),
    (
        {ETH0: ips("10.77.0.101"), LO: ips("fd00::1", "10.77.0.100", "10.77.0.9")},
        {
            "ethernets": {
                "eth0": {"addresses": ["10.77.0.101/32"]},
                "lo": {"addresses": ["10.77.0.9/32", "10.77.0.100/32", {"fd00::1/128": {"lifetime": 0}}]},
            }
        },
    ),
    (
        {ETH0: ips("fd00::2", "fd00::1")},
        {"ethernets": {"eth0": {"addresses": [{"fd00::1/128": {"lifetime": 0}}, {"fd00::2/128": {"lifetime": 0}}]}}},
    ),
    ({LO: (), ETH0: ips("10.0.0.1")}, {"ethernets": {"eth0": {"addresses": ["10.0.0.1/32"]}}}),
    (
        {NetplanId("vlans", "vlan.7"): ips("10.0.0.1"), NetplanId("bridges", "on"): ips("10.0.0.2")},
        {"bridges": {"on": {"addresses": ["10.0.0.2/32"]}}, "vlans": {"vlan.7": {"addresses": ["10.0.0.1/32"]}}},
    ),
    (
        {NetplanId("ethernets", 'odd "name": {x}'): ips("10.0.0.1")},
        {"ethernets": {'odd "name": {x}': {"addresses": ["10.0.0.1/32"]}}},
    ),
]


@pytest.mark.parametrize(("given", "expected"), NETPLANS)
def test_netplan_file_is_what_it_should_be_and_reads_back(
    given: dict[NetplanId, tuple[IPAddress, ...]], expected: Any
) -> None:
    text = persisted.netplan_text(given)
    assert text is not None
    assert yaml.safe_load(text) == {"network": {"version": 2, **expected}}
    assert persisted.netplan_addresses(text) == {
        device: tuple(sorted(group, key=lambda address: (address.version, int(address))))
        for device, group in given.items()
        if group
    }


def test_no_addresses_no_netplan_file() -> None:
    assert persisted.netplan_text({LO: (), ETH0: ()}) is None


def test_a_netplan_file_edited_by_hand_does_not_confuse() -> None:
    text = f'{persisted.HEADER}\nnetwork:\n  ethernets:\n    lo:\n      addresses:\n        - "1.2.3/32"\n        - x\n'
    assert persisted.netplan_addresses(text) == {LO: ()}
    assert persisted.netplan_addresses('        - "1.2.3.4/32"\n') == {}


def test_networkd_files() -> None:
    text = persisted.network_text("lo", ips("fd00::1", "10.77.0.100"))
    assert [row for row in persisted.sections_of(text) if row[1] != "KeepConfiguration"] == [
        ("Match", "Name", "lo"),
        ("Network", "Address", "10.77.0.100/32"),
        ("Address", "Address", "fd00::1/128"),
        ("Address", "PreferredLifetime", "0"),
    ]
    assert persisted.network_addresses(text) == ips("10.77.0.100", "fd00::1")
    text = persisted.drop_in_text("eth0.100", ips("10.77.0.100"))
    assert persisted.sections_of(text) == [("Network", "Address", "10.77.0.100/32")]
    assert persisted.drop_in_interface(text) == "eth0.100"
    assert persisted.drop_in_interface("[Network]\n") == ""


def test_unit() -> None:
    text = persisted.unit_text(
        "/sbin/ip", {"eth1": ips("fd00::1"), "eth0": ips("10.0.0.2", "10.0.0.1"), "eth2": ()}, ["a.device"]
    )
    assert text is not None
    rows = persisted.sections_of(text)
    assert [value for _section, name, value in rows if name == "ExecStart"] == [
        "/sbin/ip address replace 10.0.0.1/32 dev eth0",
        "/sbin/ip address replace 10.0.0.2/32 dev eth0",
        "/sbin/ip address replace fd00::1/128 dev eth1 nodad preferred_lft 0",
    ]
    assert ("Service", "Type", "oneshot") in rows
    assert ("Unit", "After", "a.device") in rows
    assert ("Install", "WantedBy", "multi-user.target a.device") in rows
    assert persisted.command_addresses(text) == {"eth0": ips("10.0.0.1", "10.0.0.2"), "eth1": ips("fd00::1")}
    assert persisted.unit_text("/sbin/ip", {"eth0": ()}, []) is None


DEVICES = [
    ("eth0", "sys-subsystem-net-devices-eth0.device"),
    ("br-lan", r"sys-subsystem-net-devices-br\x2dlan.device"),
    ("eth0.100", "sys-subsystem-net-devices-eth0.100.device"),
]


@pytest.mark.parametrize(("name", "expected"), DEVICES)
def test_device_units(name: str, expected: str) -> None:
    assert persisted.device_unit(name) == expected


def test_memory_reads_back() -> None:
    claims = {"lo": Claim(ips("10.0.0.1", "fd00::1"), ("/etc/x",)), "dummy0": Claim(ips("10.0.0.2"))}
    text = persisted.memory_text({**claims, "eth0": Claim()})
    assert text is not None
    assert persisted.memory_claims(text) == claims
    assert persisted.memory_text({"lo": Claim()}) is None


BROKEN = [
    "",
    "{",
    "[]",
    "{}",
    '{"version": 2, "interfaces": {}}',
    '{"version": 1, "interfaces": []}',
    '{"version": 1, "interfaces": {"lo": []}}',
    '{"version": 1, "interfaces": {"lo": {"addresses": ["10.0.0.1"]}}}',
    '{"version": 1, "interfaces": {"lo": {"addresses": ["x"], "files": []}}}',
    '{"version": 1, "interfaces": {"lo": {"addresses": [7], "files": []}}}',
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_memory_is_an_error_and_no_empty_one(text: str) -> None:
    with pytest.raises(ValueError):
        persisted.memory_claims(text)

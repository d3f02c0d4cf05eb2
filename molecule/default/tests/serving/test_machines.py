# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each machine holds: in the kernel, and in the files from which it came back at its last boot."""

from __future__ import annotations

import re

import pytest
import yaml

from ansible_collections.dsr.layer2.molecule.resources.scenario import INTERFACE, Machine, Scenario

LAB = Scenario.running()
SUPPRESSION = {"arp_ignore": 1, "arp_announce": 2}

each_backend = pytest.mark.parametrize("backend", LAB.backends, ids=repr)
netplan_backend = pytest.mark.parametrize("backend", [b for b in LAB.backends if b.network == "netplan"], ids=repr)
networkd_backend = pytest.mark.parametrize("backend", [b for b in LAB.backends if b.network == "networkd"], ids=repr)


@pytest.mark.parametrize("machine", [LAB.lb, *LAB.backends], ids=repr)
def test_nothing_was_configured_since_boot(machine: Machine) -> None:
    """Whatever the other tests find, the machine found by itself when it started."""
    path = "/etc/nft-dsr/ruleset.nft" if machine is LAB.lb else "/etc/sysctl.d/99-dsr.conf"
    written, started = machine.run("stat", "--format=%Y", path, "/proc/1").split()
    assert int(written) < int(started)


@each_backend
def test_backend_holds_the_vips_on_lo_alone(backend: Machine) -> None:
    assert backend.addresses("lo") == {"127.0.0.1/8"} | LAB.vip_addresses
    assert not backend.addresses(INTERFACE) & LAB.vip_addresses


@each_backend
@pytest.mark.parametrize("setting", SUPPRESSION)
def test_backend_suppresses_arp(backend: Machine, setting: str) -> None:
    """The kernel takes the greater of all interfaces' value and the receiving one's own."""
    values = [backend.sysctl(f"net.ipv4.conf.{place}.{setting}") for place in ("all", INTERFACE)]
    assert max(values) == SUPPRESSION[setting]


@each_backend
def test_backend_keeps_suppression_in_a_file(backend: Machine) -> None:
    file = backend.host.file("/etc/sysctl.d/99-dsr.conf")
    lines = [line.replace(" ", "") for line in file.content_string.splitlines() if line and line[0] not in "#;"]
    assert sorted(lines) == [f"net.ipv4.conf.all.{name}={value}" for name, value in sorted(SUPPRESSION.items())]
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)


@netplan_backend
def test_backend_keeps_the_vips_in_a_netplan_file(backend: Machine) -> None:
    file = backend.host.file("/etc/netplan/99-dsr.yaml")
    content = yaml.safe_load(file.content_string)
    assert set(content["network"]["ethernets"]["lo"]["addresses"]) == LAB.vip_addresses
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


@networkd_backend
def test_backend_keeps_the_vips_in_a_networkd_file(backend: Machine) -> None:
    file = backend.host.file("/etc/systemd/network/00-dsr-lo.network")
    assert "Name=lo" in file.content_string.splitlines()
    assert set(re.findall(r"^Address=(.*)$", file.content_string, re.MULTILINE)) == LAB.vip_addresses
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)
    assert not backend.host.file("/etc/netplan/99-dsr.yaml").exists


def test_load_balancer_holds_the_vips_on_its_nic() -> None:
    assert LAB.lb.addresses(INTERFACE) >= LAB.vip_addresses
    assert LAB.lb.addresses("lo") == {"127.0.0.1/8"}


def test_load_balancer_has_the_table_and_the_unit() -> None:
    LAB.lb.run("nft", "list", "table", "netdev", "nft_dsr")
    unit = LAB.lb.host.service("nft-dsr")
    assert unit.is_enabled
    assert unit.is_running


def test_unit_is_bound_to_the_nic() -> None:
    """It goes and comes with the NIC: systemd knows both, and which depends on which."""
    device = f"sys-subsystem-net-devices-{INTERFACE}.device"
    assert LAB.lb.host.run(f"systemctl is-active {device}").rc == 0
    assert LAB.lb.run("systemctl", "show", "--property=BindsTo", "--value", "nft-dsr.service").split() == [device]

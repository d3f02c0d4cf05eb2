# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load balancer's end as a whole, on a machine of the tests' own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Link
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import vip_address

VIP, OTHER, VIP6 = "10.77.0.100", "10.77.0.101", "fd00::100"
NETPLAN = "/etc/netplan/99-dsr.yaml"
MEMORY = "/var/lib/nft-dsr/vip-address.json"
UNIT = "/etc/systemd/system/nft-dsr-addresses.service"
WANTS = "/etc/systemd/system/multi-user.target.wants/nft-dsr-addresses.service"
DEVICE = "sys-subsystem-net-devices-eth0.device"
BASE = """
network:
  version: 2
  ethernets:
    uplink:
      match: {macaddress: "02:d5:00:00:00:15"}
      set-name: eth0
      dhcp4: true
"""


@pytest.fixture
def netplan(machine: Any) -> Any:
    """A machine whose NIC is netplan's, by another name than the kernel's."""
    machine.install_netplan(**{"50-base": BASE})
    return machine


@pytest.fixture
def networkd(machine: Any) -> Any:
    """A machine whose NIC is systemd-networkd's."""
    machine.enable_networkd()
    machine.boot_systemd()
    machine.put("/etc/systemd/network/20-wired.network", "[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
    machine.networkd["eth0"] = {"NetworkFile": "/etc/systemd/network/20-wired.network"}
    return machine


def settled(machine: Any, *addresses: str, **options: Any) -> Any:
    """Run; check mode before it foretells it, and a second run has nothing to do."""
    before = machine.snapshot()
    foretold = machine.vip_address(*addresses, check=True, **options)
    assert machine.snapshot() == before, "check mode changed something"
    assert not machine.announced
    done = machine.vip_address(*addresses, **options)
    assert done.result("addresses") == foretold.result("addresses")
    machine.announced.clear()
    machine.asked.clear()
    after = machine.snapshot()
    again = machine.vip_address(*addresses, **options)
    assert again.result("addresses")["changed"] is False, again.steps
    assert machine.snapshot() == after
    assert not machine.announced
    assert not machine.asked, "nobody needs to be asked about an address that is held already"
    return done


def refused(machine: Any, *addresses: str, **options: Any) -> str:
    before = machine.snapshot()
    machine.announced.clear()
    messages = set()
    for check in (True, False):
        with pytest.raises(DsrError) as error:
            machine.vip_address(*addresses, check=check, **options)
        messages.add(str(error.value))
    assert machine.snapshot() == before
    assert not machine.announced
    (message,) = messages
    return message


def test_a_nic_of_netplan(netplan: Any) -> None:
    done = settled(netplan, VIP, VIP6)
    assert netplan.addresses_of("eth0") == ["10.77.0.21/24", f"{VIP}/32", f"{VIP6}/128"]
    assert done.persist == "netplan"
    assert done.files == [NETPLAN]
    assert netplan.mode(NETPLAN) == 0o600
    assert yaml.safe_load(netplan.get(NETPLAN))["network"]["ethernets"] == {
        "uplink": {"addresses": [f"{VIP}/32", {f"{VIP6}/128": {"lifetime": 0}}]}
    }
    rendered = netplan.get("/run/systemd/network/10-netplan-uplink.network")
    assert "DHCP=ipv4" in rendered
    assert f"Address={VIP}/32" in rendered
    settled(netplan, VIP, VIP6, state="absent")
    assert netplan.addresses_of("eth0") == ["10.77.0.21/24"]
    assert netplan.get(NETPLAN) is None
    assert netplan.get(MEMORY) is None


def test_one_netplan_file_for_both_ends(netplan: Any) -> None:
    """A backend of one virtual IP may be the load balancer of another."""
    netplan.backend(OTHER)
    settled(netplan, VIP)
    devices = yaml.safe_load(netplan.get(NETPLAN))["network"]["ethernets"]
    assert devices == {"lo": {"addresses": [f"{OTHER}/32"]}, "uplink": {"addresses": [f"{VIP}/32"]}}
    assert not netplan.backend(OTHER).steps
    settled(netplan, purge=True)
    assert yaml.safe_load(netplan.get(NETPLAN))["network"]["ethernets"] == {"lo": {"addresses": [f"{OTHER}/32"]}}
    assert netplan.addresses_of("lo") == [f"{OTHER}/32"]


def test_a_nic_of_networkd(networkd: Any) -> None:
    done = settled(networkd, VIP)
    drop_in = "/etc/systemd/network/20-wired.network.d/99-dsr.conf"
    assert done.persist == "networkd"
    assert done.files == [drop_in]
    assert f"Address={VIP}/32" in networkd.get(drop_in)
    assert not [command for command in networkd.commands if "reload" in command]
    settled(networkd, purge=True)
    assert not Path(networkd.folder, drop_in[1:]).parent.exists()


def test_networkd_without_json(networkd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = networkd.run

    def run(argv: Any, stdin: Any) -> Any:
        done = plain(argv, stdin)
        if argv[0] != "networkctl":
            return done
        old = "   Link File: n/a\nNetwork File: /etc/systemd/network/20-wired.network\n        Type: ether\n"
        return type(done)(done.argv, 1 if "--json=short" in argv else 0, "" if "--json=short" in argv else old, "")

    monkeypatch.setattr(networkd, "run", run)
    assert settled(networkd, VIP).persist == "networkd"


@pytest.mark.parametrize("booted", [True, False])
@pytest.mark.parametrize("udev", [True, False])
def test_a_nic_of_nobody(machine: Any, booted: bool, udev: bool) -> None:
    if booted:
        machine.boot_systemd()
        machine.devices = {DEVICE} if udev else set()
    done = settled(machine, VIP)
    assert done.persist == "systemd"
    assert done.files == [UNIT]
    assert f"ExecStart=/usr/sbin/ip address replace {VIP}/32 dev eth0\n" in machine.get(UNIT)
    assert os.readlink(machine.folder / WANTS[1:]) == UNIT
    wanted_by_device = machine.folder / f"etc/systemd/system/{DEVICE}.wants/nft-dsr-addresses.service"
    assert wanted_by_device.is_symlink() is (booted and udev), "a device unit that never comes would hold up the boot"
    assert (DEVICE in machine.get(UNIT)) is (booted and udev)
    assert ("systemctl daemon-reload" in machine.commands) is booted
    settled(machine, purge=True)
    assert machine.get(UNIT) is None
    assert not Path(machine.folder, WANTS[1:]).is_symlink()
    assert not wanted_by_device.parent.exists()


def test_two_nics_share_the_unit(machine: Any) -> None:
    machine.add_link(Link("eth1", 3, "02:d5:00:00:01:15", 1500, frozenset({"UP"}), "UP"))
    settled(machine, VIP)
    settled(machine, OTHER, interface="eth1")
    assert machine.get(UNIT).count("ExecStart=") == 2
    settled(machine, interface="eth0", purge=True)
    assert machine.get(UNIT).count("ExecStart=") == 1
    assert machine.addresses_of("eth1") == [f"{OTHER}/32"]


def test_a_nic_that_is_away_for_now_keeps_its_place_in_the_unit(machine: Any) -> None:
    machine.boot_systemd()
    machine.devices = {DEVICE}
    settled(machine, VIP)
    machine.devices.clear()
    machine.add_link(Link("eth1", 3, "02:d5:00:00:01:15", 1500, frozenset({"UP"}), "UP"))
    settled(machine, OTHER, interface="eth1")
    assert f"After={DEVICE}" in machine.get(UNIT)
    assert (machine.folder / f"etc/systemd/system/{DEVICE}.wants/nft-dsr-addresses.service").is_symlink()


def test_a_nic_that_netplan_knows_by_a_pattern(machine: Any) -> None:
    """An address for the pattern would be one for every NIC that matches it."""
    machine.install_netplan(**{"50-base": "network: {ethernets: {all: {match: {name: 'e*'}, dhcp4: true}}}"})
    assert settled(machine, VIP).persist == "systemd"
    assert "by a pattern that can match other NICs" in refused(machine, OTHER, persist="netplan")


def test_a_nic_that_networkd_knows_by_a_pattern(networkd: Any) -> None:
    networkd.put("/etc/systemd/network/20-wired.network", "[Match]\nName=e*\n")
    assert settled(networkd, VIP).persist == "systemd"
    assert "by a pattern that can match other NICs" in refused(networkd, OTHER, persist="networkd")


def test_a_nic_is_not_taken_over(netplan: Any) -> None:
    netplan.enable_networkd()
    netplan.boot_systemd()
    netplan.add_link(Link("eth1", 3, "02:d5:00:00:01:15", 1500, frozenset({"UP"}), "UP"))
    assert "netplan does not manage eth1" in refused(netplan, VIP, interface="eth1", persist="netplan")
    assert "systemd-networkd does not manage eth1" in refused(netplan, VIP, interface="eth1", persist="networkd")
    assert settled(netplan, VIP, interface="eth1").persist == "systemd"


def test_a_nic_of_networkmanager_gets_the_unit(machine: Any) -> None:
    machine.install_netplan(
        **{"50-base": "network: {renderer: NetworkManager, ethernets: {eth0: {dhcp4: true}}}"},
    )
    assert settled(machine, VIP).persist == "systemd"


@pytest.mark.parametrize("second", ["netplan", "systemd", "none"])
@pytest.mark.parametrize("first", ["netplan", "systemd", "none"])
def test_another_persist_takes_over(netplan: Any, first: str, second: str) -> None:
    settled(netplan, VIP, persist=first)
    settled(netplan, VIP, persist=second)
    assert (netplan.get(NETPLAN) is not None) is (second == "netplan")
    assert (netplan.get(UNIT) is not None) is (second == "systemd")


@pytest.mark.parametrize("persist", ["netplan", "systemd", "none"])
def test_purge_knows_what_is_ours_and_nothing_else(netplan: Any, persist: str) -> None:
    netplan.hold("eth0", "10.77.0.77/32")
    settled(netplan, VIP, OTHER, persist=persist)
    settled(netplan, OTHER, persist=persist, purge=True)
    assert netplan.addresses_of("eth0") == ["10.77.0.21/24", "10.77.0.77/32", f"{OTHER}/32"]
    settled(netplan, persist=persist, purge=True)
    assert netplan.addresses_of("eth0") == ["10.77.0.21/24", "10.77.0.77/32"]


DRIFTS: list[Callable[[Any], object]] = [
    lambda machine: machine.drop("eth0", f"{VIP}/32"),
    lambda machine: (machine.folder / UNIT[1:]).unlink(),
    lambda machine: (machine.folder / UNIT[1:]).chmod(0o600),
    lambda machine: (machine.folder / WANTS[1:]).unlink(),
    lambda machine: machine.put(UNIT, machine.get(UNIT).replace("eth0", "eth9")),
    lambda machine: (machine.folder / MEMORY[1:]).unlink(),
]


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_repaired(machine: Any, drift: Callable[[Any], object]) -> None:
    settled(machine, VIP)
    wanted = machine.snapshot()
    drift(machine)
    assert machine.vip_address(VIP, check=True).steps
    settled(machine, VIP, purge=True)
    if drift is not DRIFTS[4]:
        assert machine.snapshot() == wanted


def test_addresses_that_come_are_announced(machine: Any) -> None:
    machine.vip_address(VIP, VIP6)
    assert machine.announced == [VIP, VIP6]
    machine.announced.clear()
    machine.vip_address(VIP, OTHER)
    assert machine.announced == [OTHER]
    machine.announced.clear()
    machine.drop("eth0", f"{VIP}/32")
    machine.vip_address(VIP, announce=False)
    assert not machine.announced


def test_an_announcement_that_fails_is_a_warning(machine: Any) -> None:
    def announce(_interface: str, _addresses: Any) -> None:
        raise HostError("no raw sockets here")

    options = {
        "addresses": [VIP],
        "interface": "eth0",
        "state": "present",
        "purge": False,
        "persist": "none",
        "netplan_file": NETPLAN,
        "announce": True,
        "check_duplicate": False,
    }
    outcome = vip_address.ensure(machine.host, options, False, announce=announce)
    assert outcome.warnings == ["the addresses are set, but could not be announced: no raw sockets here"]
    assert f"{VIP}/32" in machine.addresses_of("eth0")


def test_an_address_that_another_host_has(machine: Any) -> None:
    machine.answers[OTHER] = frozenset({"02:d5:00:00:00:63"})
    message = refused(machine, VIP, OTHER)
    assert message.startswith(f"addresses[1]: {OTHER} is answered for by 02:d5:00:00:00:63")
    settled(machine, VIP, OTHER, check_duplicate=False)


def test_an_ipv6_address_that_another_host_has(machine: Any) -> None:
    machine.answers[VIP6] = frozenset({"02:d5:00:00:00:63"})
    message = refused(machine, VIP, VIP6)
    assert message.startswith(f"addresses[1]: {VIP6} is answered for by 02:d5:00:00:00:63")
    assert "a backend that holds it on its NIC and not on lo" in message
    settled(machine, VIP, VIP6, check_duplicate=False)


def test_an_ipv6_address_is_on_the_nic_at_once_and_never_chosen_as_the_hosts_own(machine: Any) -> None:
    done = settled(machine, VIP6)
    assert f"ip address replace {VIP6}/128 dev eth0 nodad preferred_lft 0" in map(str, done.steps)
    assert machine.states_of(VIP6) == {"deprecated"}


def test_bad_addresses(machine: Any) -> None:
    assert refused(machine, VIP, "224.0.0.1").startswith("addresses[1]: 224.0.0.1 is a multicast address")
    assert refused(machine, "10.77.0.0").startswith("addresses[0]: 10.77.0.0 is the network address of 10.77.0.0/24")
    assert refused(machine).startswith("addresses: the list is empty")


def test_addresses_of_this_host(machine: Any) -> None:
    machine.add_link(Link("eth1", 3, "02:d5:00:00:01:15", 1500, frozenset({"UP"}), "UP"))
    machine.hold("eth1", f"{OTHER}/32")
    assert "10.77.0.21/24 is an address of this host itself" in refused(machine, "10.77.0.21")
    assert f"{OTHER}/32 is on eth1 of this host already" in refused(machine, OTHER)
    machine.vip_address(VIP)
    assert "where this module put it earlier" in refused(machine, VIP, interface="eth1")
    machine.backend("10.77.0.102", persist="none")
    assert "this host is a backend of that virtual IP" in refused(machine, "10.77.0.102")


def test_the_hosts_own_address_is_not_taken_away(machine: Any) -> None:
    done = machine.vip_address("10.77.0.21", state="absent")
    assert not done.steps
    assert "10.77.0.21/24 on eth0 is left alone" in done.warnings[0]


def test_interfaces(machine: Any) -> None:
    assert refused(machine, VIP, interface="eth9").startswith("interface: there is no interface 'eth9'")
    assert refused(machine, VIP, interface="lo").startswith("interface: lo is no NIC")
    machine.sysctl("all", "arp_ignore", 8)
    assert refused(machine, VIP).startswith("interface: eth0 answers no ARP at all")


def test_a_nic_that_is_down_or_a_port_is_a_warning(machine: Any) -> None:
    machine.change_link("eth0", flags=frozenset(), master="br0")
    warnings = machine.vip_address(VIP).warnings
    assert [("is down" in warning, "belongs to br0" in warning) for warning in warnings] == [
        (True, False),
        (False, True),
    ]


def test_a_unit_of_somebody_else(machine: Any) -> None:
    machine.put(UNIT, "[Unit]\n")
    assert f"{UNIT} was not written by this collection" in refused(machine, VIP)


def test_a_failure_leaves_all_as_it_was(machine: Any) -> None:
    before = machine.snapshot()
    machine.fail_at = f"add {OTHER}"
    with pytest.raises(HostError, match="nothing has changed"):
        machine.vip_address(VIP, OTHER)
    assert machine.snapshot() == before


def test_networkd_that_would_bring_an_address_back_is_a_warning(networkd: Any) -> None:
    settled(networkd, VIP, OTHER)
    networkd.networkd["eth0"]["Addresses"] = [
        {"Family": 2, "Address": [10, 77, 0, 100], "ConfigSource": "static"},
        {"Family": 2, "Address": [10, 77, 0, 101], "ConfigSource": "foreign"},
    ]
    (warning,) = networkd.vip_address(state="present", purge=True).warnings
    assert VIP in warning
    assert OTHER not in warning
    assert "networkctl reload" in warning


@pytest.mark.parametrize("end", [{"purge": True}, {"state": "absent"}])
def test_what_was_on_a_nic_that_is_gone_can_be_removed(machine: Any, end: dict[str, Any]) -> None:
    machine.boot_systemd()
    before = machine.snapshot()
    settled(machine, VIP)
    # Renamed, or taken out of the machine: its addresses went with it.
    del machine.links_by_name["eth0"]
    machine.held = [entry for entry in machine.held if entry.link != "eth0"]
    done = settled(machine, *([] if "purge" in end else [VIP]), **end)
    assert done.result("addresses")["changed"] and machine.get(UNIT) is None
    assert machine.snapshot()["disk"] == before["disk"]
    assert "there is no interface 'eth0'" in refused(machine, VIP)

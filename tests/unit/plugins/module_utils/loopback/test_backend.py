# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's end as a whole, on a machine of the tests' own."""

from __future__ import annotations

import json
import os
from typing import Any, Callable

import pytest
import yaml

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError, DsrError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Link
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.persisted import HEADER

VIP, OTHER, VIP6 = "10.77.0.100", "10.77.0.101", "fd00::100"
SYSCTL, NETPLAN = "/etc/sysctl.d/99-dsr.conf", "/etc/netplan/99-dsr.yaml"
MEMORY = "/var/lib/nft-dsr/loopback.json"
OWN_NETWORK = "/etc/systemd/network/00-dsr-lo.network"
BASE = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n"


@pytest.fixture
def machine(machine: Any) -> Any:
    """With netplan in charge."""
    machine.install_netplan(**{"50-base": BASE})
    return machine


def settled(machine: Any, *vips: str, **options: Any) -> Any:
    """Run; check mode before it foretells it, and a second run has nothing to do."""
    before = machine.snapshot()
    foretold = machine.backend(*vips, check=True, **options)
    assert machine.snapshot() == before, "check mode changed something"
    done = machine.backend(*vips, **options)
    assert done.result("vips") == foretold.result("vips")
    after = machine.snapshot()
    again = machine.backend(*vips, **options)
    assert again.result("vips")["changed"] is False, again.steps
    assert again.result("vips")["diff"] == []
    assert machine.snapshot() == after
    return done


def test_present(machine: Any) -> None:
    done = settled(machine, VIP, VIP6)
    assert machine.addresses_of("lo") == ["10.77.0.100/32", "fd00::100/128"]
    assert machine.arp == (1, 2)
    assert (machine.get(SYSCTL) or "").splitlines()[-2:] == [
        "net.ipv4.conf.all.arp_ignore = 1",
        "net.ipv4.conf.all.arp_announce = 2",
    ]
    assert machine.mode(SYSCTL) == 0o644
    assert machine.mode(NETPLAN) == 0o600
    assert yaml.safe_load(machine.get(NETPLAN)) == {
        "network": {
            "version": 2,
            "ethernets": {"lo": {"addresses": ["10.77.0.100/32", {"fd00::100/128": {"lifetime": 0}}]}},
        }
    }
    assert done.persist == "netplan"
    assert done.files == [NETPLAN, SYSCTL]
    assert "netplan, which manages this host" in done.message


def test_ipv6_alone_needs_no_suppression_of_arp(machine: Any) -> None:
    done = settled(machine, VIP6)
    assert machine.addresses_of("lo") == [f"{VIP6}/128"]
    assert machine.arp == (0, 0) and machine.get(SYSCTL) is None
    assert done.files == [NETPLAN]
    settled(machine, VIP6, VIP)
    assert machine.arp == (1, 2)
    settled(machine, VIP, state="absent")
    assert machine.arp == (0, 0) and machine.addresses_of("lo") == [f"{VIP6}/128"]


@pytest.mark.parametrize("states", [(), ("deprecated", "dadfailed", "tentative")])
def test_an_ipv6_address_that_is_not_held_as_a_virtual_ip_is_repaired(machine: Any, states: tuple[str, ...]) -> None:
    """The host might speak in its name, or does not answer for it."""
    settled(machine, VIP6)
    machine.drop("lo", f"{VIP6}/128")
    machine.hold("lo", f"{VIP6}/128", "global", *states)
    done = settled(machine, VIP6)
    assert list(map(str, done.steps)) == [f"ip address replace {VIP6}/128 dev lo nodad preferred_lft 0"]
    assert machine.states_of(VIP6) == {"deprecated"}
    settled(machine, VIP6, state="absent")
    assert not machine.addresses_of("lo")


def test_the_suppression_is_there_before_the_address(machine: Any) -> None:
    settled(machine, VIP)
    assert machine.log == [f"add {VIP}/32 lo at arp (1, 2)"]


def test_the_address_goes_before_the_suppression(machine: Any) -> None:
    settled(machine, VIP, OTHER)
    machine.log.clear()
    settled(machine, VIP, state="absent")
    assert machine.arp == (1, 2)
    settled(machine, OTHER, state="absent")
    assert machine.log == [f"delete {VIP}/32 lo at arp (1, 2)", f"delete {OTHER}/32 lo at arp (1, 2)"]
    assert machine.arp == (0, 0)


def test_what_is_ours_is_remembered_before_it_comes_and_until_it_has_gone(machine: Any) -> None:
    steps = list(map(str, settled(machine, VIP, persist="none").steps))
    assert steps.index(f"write {MEMORY}") < steps.index(f"ip address replace {VIP}/32 dev lo")
    steps = list(map(str, settled(machine, OTHER, purge=True, persist="none").steps))
    assert steps.index(f"write {MEMORY}") < steps.index(f"ip address replace {OTHER}/32 dev lo")
    assert steps[-1] == f"write {MEMORY}"
    steps = list(map(str, settled(machine, purge=True, persist="none").steps))
    assert steps.index(f"remove {MEMORY}") > steps.index(f"ip address delete {OTHER}/32 dev lo")


def test_absent_leaves_nothing_behind(machine: Any) -> None:
    machine.host.run(["netplan", "generate", "--root-dir", str(machine.folder)], None)
    before = machine.snapshot()
    settled(machine, VIP, VIP6)
    settled(machine, VIP, VIP6, state="absent")
    assert machine.snapshot() == before
    assert not (machine.folder / "var/lib/nft-dsr").exists()


def test_check_mode_writes_nothing_at_all(machine: Any) -> None:
    machine.backend(VIP, check=True)
    assert not (machine.folder / "run/lock").exists()
    assert not machine.log


def test_others_of_ours_stay_without_purge(machine: Any) -> None:
    settled(machine, VIP)
    done = settled(machine, OTHER)
    assert [str(address) for address in done.addresses] == [VIP, OTHER]
    assert set(yaml.safe_load(machine.get(NETPLAN))["network"]["ethernets"]["lo"]["addresses"]) == {
        f"{VIP}/32",
        f"{OTHER}/32",
    }


@pytest.mark.parametrize("persist", ["netplan", "none"])
@pytest.mark.parametrize("lost", ["nothing", "memory", "files"])
def test_purge_knows_what_is_ours_and_nothing_else(machine: Any, persist: str, lost: str) -> None:
    machine.hold("lo", "10.99.0.1/32")
    settled(machine, VIP, OTHER, persist=persist)
    if lost == "memory" and persist == "netplan":
        (machine.folder / MEMORY[1:]).unlink()
    if lost == "files" and persist == "netplan":
        (machine.folder / NETPLAN[1:]).unlink()
    settled(machine, OTHER, persist=persist, purge=True)
    assert machine.addresses_of("lo") == ["10.99.0.1/32", f"{OTHER}/32"]
    settled(machine, persist=persist, purge=True)
    assert machine.addresses_of("lo") == ["10.99.0.1/32"]
    assert machine.arp == (0, 0)
    assert machine.get(NETPLAN) is None
    assert machine.get(MEMORY) is None


def test_absent_with_purge_takes_all_of_ours(machine: Any) -> None:
    settled(machine, VIP, OTHER)
    settled(machine, VIP, state="absent", purge=True)
    assert machine.addresses_of("lo") == []


def test_the_memory_survives_a_boot(machine: Any) -> None:
    """With persist: none the addresses go by a boot; that they were ours is still known, and does no harm."""
    settled(machine, VIP, OTHER, persist="none")
    machine.drop("lo", f"{VIP}/32")
    machine.drop("lo", f"{OTHER}/32")
    settled(machine, OTHER, persist="none", purge=True)
    assert machine.addresses_of("lo") == [f"{OTHER}/32"]
    assert json.loads(machine.get(MEMORY))["interfaces"]["lo"]["addresses"] == [OTHER]


def test_an_address_that_is_there_already_becomes_ours(machine: Any) -> None:
    machine.hold("lo", f"{VIP}/32")
    settled(machine, VIP)
    assert not machine.log
    settled(machine, purge=True)
    assert machine.addresses_of("lo") == []


DRIFTS: list[Callable[[Any], object]] = [
    lambda machine: machine.drop("lo", f"{VIP}/32"),
    lambda machine: machine.sysctl("all", "arp_ignore", 0),
    lambda machine: machine.sysctl("all", "arp_ignore", 3),
    lambda machine: machine.sysctl("all", "arp_announce", 0),
    lambda machine: (machine.folder / SYSCTL[1:]).unlink(),
    lambda machine: (machine.folder / SYSCTL[1:]).chmod(0o600),
    lambda machine: machine.put(SYSCTL, machine.get(SYSCTL).replace("ignore = 1", "ignore = 0")),
    lambda machine: (machine.folder / NETPLAN[1:]).unlink(),
    lambda machine: (machine.folder / NETPLAN[1:]).chmod(0o644),
    lambda machine: machine.put(NETPLAN, machine.get(NETPLAN).replace("100/32", "109/32"), 0o600),
    lambda machine: machine.put(NETPLAN, f"{HEADER}\n", 0o600),
    lambda machine: (machine.folder / MEMORY[1:]).unlink(),
    lambda machine: (machine.folder / "run/systemd/network/10-netplan-lo.network").unlink(),
]


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_repaired(machine: Any, drift: Callable[[Any], object]) -> None:
    settled(machine, VIP)
    wanted = machine.snapshot()
    drift(machine)
    assert machine.backend(VIP, check=True).steps
    settled(machine, VIP, purge=True)
    assert machine.snapshot() == wanted


def test_a_stricter_setting_of_the_administrator_stays(machine: Any) -> None:
    machine.put("/etc/sysctl.d/20-hard.conf", "net.ipv4.conf.all.arp_ignore = 2\n")
    machine.sysctl("all", "arp_ignore", 2)
    settled(machine, VIP)
    assert machine.arp == (2, 2)
    assert "net.ipv4.conf.all.arp_ignore = 2\n" in (machine.get(SYSCTL) or "")


def test_the_suppression_goes_back_to_what_the_other_files_say(machine: Any) -> None:
    machine.put("/usr/lib/sysctl.d/20-x.conf", "net.ipv4.conf.all.arp_announce = 1\n")
    settled(machine, VIP)
    settled(machine, VIP, state="absent")
    assert machine.arp == (0, 1)


def test_a_suppression_that_is_not_ours_is_not_lifted(machine: Any) -> None:
    machine.sysctl("all", "arp_ignore", 1)
    machine.sysctl("all", "arp_announce", 2)
    machine.hold("lo", f"{VIP}/32")
    settled(machine, VIP, state="absent")
    assert machine.addresses_of("lo") == []
    assert machine.arp == (1, 2)


def test_the_suppression_is_lifted_even_if_our_file_has_gone(machine: Any) -> None:
    settled(machine, VIP)
    (machine.folder / SYSCTL[1:]).unlink()
    settled(machine, VIP, state="absent")
    assert machine.arp == (0, 0)


def test_ipv6_alone_needs_no_suppression(machine: Any) -> None:
    done = settled(machine, VIP6)
    assert machine.arp == (0, 0)
    assert machine.get(SYSCTL) is None
    assert done.files == [NETPLAN]
    settled(machine, VIP)
    assert machine.arp == (1, 2)
    settled(machine, VIP, state="absent")
    assert machine.arp == (0, 0)
    assert machine.addresses_of("lo") == ["fd00::100/128"]


def test_who_is_exposed_when_the_suppression_goes_is_said(machine: Any) -> None:
    machine.hold("lo", "10.99.0.1/32")
    settled(machine, VIP)
    done = machine.backend(VIP, state="absent", check=True)
    (warning,) = done.warnings
    assert "10.99.0.1" in warning


def test_a_vip_on_another_silent_interface_keeps_the_suppression(machine: Any) -> None:
    machine.add_link(Link("dummy0", 3, "02:00:00:00:00:01", 1500, frozenset({"UP", "NOARP"}), "UNKNOWN"))
    settled(machine, VIP)
    settled(machine, OTHER, interface="dummy0", persist="none")
    settled(machine, VIP, state="absent")
    assert machine.arp == (1, 2)
    assert machine.get(SYSCTL)
    settled(machine, OTHER, state="absent", interface="dummy0")
    assert machine.arp == (0, 0)
    assert machine.get(MEMORY) is None


# --- who brings the addresses back


def test_networkd(machine: Any) -> None:
    (machine.folder / "etc/netplan/50-base.yaml").unlink()
    machine.enable_networkd()
    done = settled(machine, VIP)
    assert done.persist == "networkd"
    assert "Name=lo" in (machine.get(OWN_NETWORK) or "")
    assert machine.mode(OWN_NETWORK) == 0o644
    assert not [command for command in machine.commands if command.startswith("networkctl")]
    settled(machine, VIP, state="absent")
    assert machine.get(OWN_NETWORK) is None


def test_networkd_with_a_file_for_lo_of_the_administrator(machine: Any) -> None:
    machine.enable_networkd()
    machine.put("/etc/systemd/network/20-lo.network", "[Match]\nName=lo\n[Network]\nAddress=10.1.1.1/32\n")
    drop_in = "/etc/systemd/network/20-lo.network.d/99-dsr.conf"
    done = settled(machine, VIP, persist="networkd")
    assert drop_in in done.files
    assert f"Address={VIP}/32" in (machine.get(drop_in) or "")
    assert machine.get(OWN_NETWORK) is None
    settled(machine, VIP, state="absent", persist="networkd")
    assert not (machine.folder / drop_in[1:]).parent.exists()


def test_networkd_with_a_file_for_everything(machine: Any) -> None:
    """An addition to it would put the virtual IPs on every NIC."""
    machine.enable_networkd()
    machine.put("/etc/systemd/network/10-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n")
    done = settled(machine, VIP, persist="networkd")
    assert OWN_NETWORK in done.files


@pytest.mark.parametrize("first", ["netplan", "networkd", "none"])
@pytest.mark.parametrize("second", ["netplan", "networkd", "none"])
def test_another_persist_takes_over(machine: Any, first: str, second: str) -> None:
    machine.enable_networkd()
    settled(machine, VIP, persist=first)
    done = settled(machine, VIP, persist=second)
    assert done.persist == second
    assert (machine.get(NETPLAN) is not None) is (second == "netplan")
    assert (machine.get(OWN_NETWORK) is not None) is (second == "networkd")


def test_networkd_where_netplan_configures_lo(machine: Any) -> None:
    machine.enable_networkd()
    machine.install_netplan(**{"20-lo": 'network: {ethernets: {lo: {addresses: ["10.1.1.1/32"]}}}'})
    assert "netplan configures lo on this host" in refused(machine, VIP, persist="networkd")
    settled(machine, VIP)


def test_none_keeps_the_settings_alone(machine: Any) -> None:
    done = settled(machine, VIP, persist="none")
    assert done.files == [SYSCTL]
    assert machine.get(NETPLAN) is None
    assert "until the next boot" in done.message


def test_files_elsewhere(machine: Any) -> None:
    settled(machine, VIP)
    elsewhere = {"sysctl_file": "/etc/sysctl.d/zz-dsr.conf", "netplan_file": "/etc/netplan/zz-dsr.yaml"}
    done = settled(machine, VIP, **elsewhere)
    assert done.files == sorted(elsewhere.values())
    assert machine.get(SYSCTL) is None
    assert machine.get(NETPLAN) is None
    settled(machine, VIP, state="absent")
    assert not any(machine.get(path) for path in elsewhere.values())
    assert machine.arp == (0, 0)


def test_auto_stays_with_what_was_chosen_when_nobody_is_in_charge(machine: Any) -> None:
    (machine.folder / "etc/netplan/50-base.yaml").unlink()
    settled(machine, VIP, persist="netplan")
    assert settled(machine, VIP, OTHER).persist == "netplan"
    settled(machine, OTHER, state="absent")
    assert machine.get(NETPLAN) is not None
    settled(machine, VIP, state="absent")


def test_absent_needs_nobody_in_charge(machine: Any) -> None:
    (machine.folder / "etc/netplan/50-base.yaml").unlink()
    settled(machine, VIP, persist="none")
    settled(machine, VIP, state="absent")
    settled(machine, purge=True)


# --- what is refused, before anything changes


def refused(machine: Any, *vips: str, **options: Any) -> str:
    before = machine.snapshot()
    messages = set()
    for check in (True, False):
        with pytest.raises(DsrError) as error:
            machine.backend(*vips, check=check, **options)
        messages.add(str(error.value))
    assert machine.snapshot() == before
    assert not machine.log
    (message,) = messages
    return message


def test_bad_addresses(machine: Any) -> None:
    assert refused(machine, VIP, "127.0.0.1").startswith("vips[1]: 127.0.0.1 is a loopback address")
    assert refused(machine, VIP, VIP).startswith("vips[1]: ")
    assert refused(machine).startswith("vips: the list is empty")
    assert refused(machine, "10.77.0.255").startswith("vips[0]: 10.77.0.255 is the broadcast address of 10.77.0.0/24")


def test_a_vip_on_a_nic(machine: Any) -> None:
    machine.hold("eth0", f"{OTHER}/32")
    message = refused(machine, VIP, OTHER)
    assert message.startswith(f"vips[1]: {OTHER} is on eth0 as well")
    assert refused(machine, "10.77.0.21").startswith("vips[0]: 10.77.0.21 is on eth0 as well")


def test_a_vip_that_makes_a_network_local(machine: Any) -> None:
    machine.hold("lo", f"{VIP}/24")
    assert f"ip address delete {VIP}/24 dev lo" in refused(machine, VIP)


@pytest.mark.parametrize("value", [3, 4, 7])
def test_a_nic_that_defeats_the_suppression(machine: Any, value: int) -> None:
    machine.sysctl("eth0", "arp_ignore", value)
    assert f"net.ipv4.conf.eth0.arp_ignore is {value}" in refused(machine, VIP)
    machine.backend(VIP6)  # of no concern to IPv6


@pytest.mark.parametrize("changes", [{"flags": frozenset()}, {"master": "br0"}])
def test_a_nic_that_would_defeat_it_later_is_a_warning(machine: Any, changes: dict[str, Any]) -> None:
    machine.sysctl("eth0", "arp_ignore", 3)
    machine.change_link("eth0", **changes)
    (warning,) = machine.backend(VIP).warnings
    assert "eth0" in warning


def test_a_nic_that_answers_nothing_is_a_warning(machine: Any) -> None:
    machine.sysctl("eth0", "arp_ignore", 8)
    (warning,) = machine.backend(VIP).warnings
    assert "eth0 answers no ARP at all" in warning


def test_a_later_sysctl_file(machine: Any) -> None:
    machine.put("/usr/lib/sysctl.d/99-z.conf", "\nnet.ipv4.conf.all.arp_ignore = 0\n")
    message = refused(machine, VIP)
    assert "/usr/lib/sysctl.d/99-z.conf line 2" in message
    assert "'sysctl_file'" in message
    settled(machine, VIP, sysctl_file="/etc/sysctl.d/99-zz.conf")


def test_sysctl_conf_by_a_link_is_a_later_file(machine: Any) -> None:
    machine.put("/etc/sysctl.conf", "net.ipv4.conf.all.arp_ignore=0\n")
    (warning,) = machine.backend(VIP, check=True).warnings
    assert "/etc/sysctl.conf line 1" in warning
    os.symlink("../sysctl.conf", machine.folder / "etc/sysctl.d/99-sysctl.conf")
    assert "/etc/sysctl.d/99-sysctl.conf line 1" in refused(machine, VIP)


FOREIGN = [
    (SYSCTL, "net.ipv4.conf.all.arp_ignore = 1\n", {}),
    (SYSCTL, "", {}),
    (NETPLAN, "network:\n  version: 2\n", {}),
    (OWN_NETWORK, "[Match]\nName=lo\n", {"persist": "networkd"}),
]


@pytest.mark.parametrize(("path", "text", "options"), FOREIGN)
def test_a_file_of_somebody_else_is_left_alone(machine: Any, path: str, text: str, options: dict[str, str]) -> None:
    machine.enable_networkd()
    machine.put(path, text)
    assert f"{path} was not written by this collection" in refused(machine, VIP, **options)
    machine.backend(VIP, state="absent", **options)
    assert machine.get(path) == text


def test_a_broken_netplan_configuration(machine: Any) -> None:
    machine.put("/etc/netplan/60-x.yaml", "network: {")
    message = refused(machine, VIP)
    assert "netplan refuses this host's configuration" in message
    assert "dsr-netplan-" not in message, "the scratch folder is nothing that a user knows"


def test_netplan_that_would_change_more(machine: Any) -> None:
    """netplan as it would be if our addresses changed something else of a device."""
    plain = machine.run

    def run(argv: Any, stdin: Any) -> Any:
        done = plain(argv, stdin)
        own = machine.folder if argv[0] != "netplan" else type(machine.folder)(argv[argv.index("--root-dir") + 1])
        if argv[:2] == ["netplan", "generate"] and (own / NETPLAN[1:]).exists():
            (own / "run/systemd/network/10-netplan-eth0.network").write_text("[Match]\nName=eth0\n")
        return done

    machine.run = run
    assert "netplan would change more of 10-netplan-eth0.network" in refused(machine, VIP)


def test_netplan_with_networkmanager(machine: Any) -> None:
    """Whom netplan hands everything to is asked; to insist on netplan is an error."""
    machine.install_netplan(**{"01-desktop": "network:\n  version: 2\n  renderer: NetworkManager\n"})
    message = refused(machine, VIP, persist="netplan")
    assert "is NetworkManager its renderer?" in message
    assert "'persist'" in message
    machine.install_networkmanager(lo="100 (connected (externally))")
    assert machine.backend(VIP).persist == "networkmanager"
    assert machine.get(NETPLAN) is None


def test_nobody_in_charge(machine: Any) -> None:
    (machine.folder / "etc/netplan/50-base.yaml").unlink()
    message = refused(machine, VIP)
    assert "neither netplan, systemd-networkd, NetworkManager nor ifupdown manages lo" in message
    assert "'persist: none'" in message
    machine.boot_systemd()
    done = machine.backend(VIP)
    assert done.persist == "systemd"
    assert "a unit of our own, since nothing else manages lo" in done.message


def test_persist_that_would_not_work(machine: Any) -> None:
    assert "systemd-networkd is not enabled" in refused(machine, VIP, persist="networkd")
    del machine.programs["netplan"]
    assert "netplan is not installed" in refused(machine, VIP, persist="netplan")


def test_networkd_masked(machine: Any) -> None:
    machine.enable_networkd()
    os.symlink("/dev/null", machine.folder / "etc/systemd/system/systemd-networkd.service")
    assert "systemd-networkd is not enabled" in refused(machine, VIP, persist="networkd")


def test_interfaces(machine: Any) -> None:
    assert refused(machine, VIP, interface="lo9").startswith("interface: there is no interface 'lo9'")
    assert refused(machine, VIP, interface="eth0").startswith("interface: eth0 is a NIC")
    assert refused(machine, VIP, interface="a b").startswith("interface: 'a b' is not the name")


def test_ipv6_that_is_off(machine: Any) -> None:
    machine.put("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1\n")
    assert refused(machine, VIP, VIP6).startswith(f"vips[1]: {VIP6} cannot be held: IPv6 is off on lo")


def test_a_broken_memory(machine: Any) -> None:
    machine.put(MEMORY, "{")
    assert f"{MEMORY}, the memory" in refused(machine, VIP)


def test_settings_that_cannot_be_written(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: "/proc/sys/" not in path)
    assert "/proc/sys is read-only" in refused(machine, VIP)
    machine.sysctl("all", "arp_ignore", 1)
    machine.sysctl("all", "arp_announce", 2)
    machine.backend(VIP)  # they are right as they are


# --- what fails half-way


FAILURES = ["add 10.77.0.100", "add 10.77.0.101", "netplan generate --root-dir ROOT"]


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_leaves_all_as_it_was(machine: Any, what: str) -> None:
    machine.host.run(["netplan", "generate", "--root-dir", str(machine.folder)], None)
    before = machine.snapshot()
    machine.fail_at = what
    with pytest.raises(HostError):
        machine.backend(VIP, OTHER)
    assert machine.snapshot() == before
    for line in machine.log:
        assert "arp (1, 2)" in line, "an address came or went without the suppression"


def test_a_failure_to_remove_leaves_all_as_it_was(machine: Any) -> None:
    settled(machine, VIP, OTHER)
    before = machine.snapshot()
    machine.fail_at = f"delete {OTHER}"
    with pytest.raises(HostError, match="nothing has changed"):
        machine.backend(purge=True)
    assert machine.snapshot() == before
    assert machine.arp == (1, 2)


def test_not_root(monkeypatch: pytest.MonkeyPatch, machine: Any) -> None:
    from ansible_collections.dsr.layer2.plugins.module_utils.loopback import backend
    from ansible_collections.dsr.layer2.plugins.module_utils.loopback.host import Host

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    options = {
        "vips": [VIP],
        "state": "present",
        "purge": False,
        "interface": "lo",
        "persist": "none",
        "sysctl_file": SYSCTL,
        "netplan_file": NETPLAN,
    }
    with pytest.raises(HostError, match="become: true"):
        backend.ensure(Host(), options, False)
    with pytest.raises(ConfigError):
        backend.ensure(Host(), {**options, "vips": ["x"]}, False)

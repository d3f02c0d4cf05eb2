# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a boot, whatever brings up the network: VIPs where they belong, ARP as it should be, replies that are direct.

Then what an administrator does to an interface by each of these programs, after which all of that holds still.
"""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest

from ansible_collections.dsr.layer2.molecule.resources.scenario import INTERFACE, Machine, Scenario

LAB = Scenario.running()
RING = {machine.name: machine for machine in LAB.backends}
ASKED = 2

each = pytest.mark.parametrize("machine", RING.values(), ids=repr)


def vip_of(machine: Machine) -> str:
    return str(machine.settings["lab_vip"])


def backend_of(machine: Machine) -> Machine:
    return RING[machine.settings["lab_backend"]]


def balancer_of(machine: Machine) -> Machine:
    return RING[machine.settings["lab_balancer"]]


def wanted(machine: Machine) -> dict[str, set[str]]:
    """The addresses that a machine is to have on each interface, but for link-local ones."""
    held = balancer_of(machine).settings
    return {
        "lo": {"127.0.0.1/8", "::1/128", f"{held['lab_vip']}/32", f"{held['lab_vip6']}/128"},
        INTERFACE: {f"{machine.address}/24", f"{vip_of(machine)}/32"},
    }


def held(machine: Machine) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"lo": set(), INTERFACE: set()}
    for link in machine.json("ip", "-json", "address", "show"):
        for entry in link.get("addr_info", []):
            if entry["scope"] != "link":
                found[link["ifname"]].add(f"{entry['local']}/{entry['prefixlen']}")
    return found


def settled(machine: Machine) -> dict[str, set[str]]:
    """What it holds when nothing is missing any more; programs go on after systemd calls the boot done."""
    until = time.monotonic() + 20
    while True:
        found = held(machine)
        if all(addresses <= found[link] for link, addresses in wanted(machine).items()) or time.monotonic() > until:
            return found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def arp_replies() -> dict[str, Counter[str]]:
    """For each VIP: how many replies to ARP requests came from which MAC."""
    for machine in RING.values():
        settled(machine)
    return asked_for(*map(vip_of, RING.values()), count=ASKED)


def asked_for(*addresses: str, count: int = 1) -> dict[str, Counter[str]]:
    """Every request is a broadcast, as a client's first one is; -w bounds the wait for answers."""
    ask = " & ".join(f"arping -b -c {count} -w 10 -I {INTERFACE} {address}" for address in addresses)
    options = ("--protocol", "arp", "--operation", "reply", "--direction", "in", "--records", "1000")
    with LAB.client.capture(*options) as report:
        LAB.client.run("sh", "-c", f"{ask} & wait")
    replies: dict[str, Counter[str]] = {address: Counter() for address in addresses}
    for record in report["records"]:
        if record["source"] in replies:
            replies[record["source"]][record["from_mac"]] += 1
    return replies


# --- after the boot, with nothing done since


@each
def test_nothing_was_configured_since_boot(machine: Machine) -> None:
    written, started = machine.run("stat", "--format=%Y", "/etc/sysctl.d/99-dsr.conf", "/proc/1").split()
    assert int(written) < int(started)


@each
def test_it_holds_its_own_vip_on_the_nic_and_its_neighbours_on_lo(machine: Machine) -> None:
    assert settled(machine) == wanted(machine)


@each
def test_it_never_speaks_in_the_name_of_an_ipv6_vip(machine: Machine) -> None:
    address = balancer_of(machine).settings["lab_vip6"]
    assert "deprecated" in machine.run("ip", "-6", "address", "show", "dev", "lo", "to", address)


@each
def test_only_its_balancer_answers_arp_for_a_vip(machine: Machine, arp_replies: dict[str, Counter[str]]) -> None:
    assert arp_replies[vip_of(machine)] == {machine.mac: ASKED}


@each
def test_a_client_gets_its_reply_straight_from_the_backend(machine: Machine) -> None:
    address, backend = vip_of(machine), backend_of(machine)
    with LAB.client.capture("--source", address, "--protocol", "tcp") as replies:
        report = LAB.client.connect(address, 80, "--count", "20")
    assert (report["ok"], report["failed"]) == (20, 0)
    assert report["by_host"] == {backend.name: 20}
    assert set(replies["by_source"]) == {backend.mac}


# --- the files from which it came

UNIT = "/etc/systemd/system/nft-dsr-addresses.service"
SCRIPT = "/etc/NetworkManager/dispatcher.d/90-nft-dsr"
FILES = {
    "networkd": {
        "/etc/systemd/network/00-dsr-lo.network": "lo",
        "/etc/systemd/network/50-machine.network.d/99-dsr.conf": INTERFACE,
    },
    "netplan": {"/etc/netplan/99-dsr.yaml": "both"},
    "networkmanager": {SCRIPT: "both"},
    "ifupdown": {"/etc/network/interfaces.d/nft-dsr": "both"},
}
MODES = {"/etc/netplan/99-dsr.yaml": 0o600, SCRIPT: 0o755}


def leaves_lo_alone(machine: Machine) -> bool:
    """NetworkManager in versions that know no loopback, and tell nobody when a profile is applied again."""
    if machine.network != "networkmanager":
        return False
    return [int(part) for part in machine.run("NetworkManager", "--version").split(".")[:2]] < [1, 42]


def files_of(machine: Machine) -> dict[str, str]:
    """The files that it is to have, and for which of its interfaces."""
    return {SCRIPT: INTERFACE, UNIT: "lo"} if leaves_lo_alone(machine) else FILES[machine.network]


@each
def test_files_of_what_is_in_charge_and_no_others(machine: Machine) -> None:
    wants = files_of(machine)
    for path in {UNIT}.union(*FILES.values()):
        file = machine.host.file(path)
        assert file.exists is (path in wants), path
        if path in wants:
            assert (file.user, file.group, file.mode) == ("root", "root", MODES.get(path, 0o644))
            there = set(re.findall(r"[0-9a-f.:]+/(?:32|128)\b", file.content_string))
            links = [link for link in ("lo", INTERFACE) if wants[path] in (link, "both")]
            held_alone = {entry for link in links for entry in wanted(machine)[link] if entry.endswith(("/32", "/128"))}
            assert there == held_alone - {"::1/128"}


# --- what an administrator does

CHANGES = {
    "networkd": ["networkctl reconfigure eth0", "networkctl reload", "systemctl restart systemd-networkd"],
    "netplan": ["netplan apply"],
    "networkmanager": [
        "nmcli device reapply eth0",
        "nmcli connection up machine",
        "nmcli connection reload",
        "nmcli device reapply lo",
        "nmcli connection up lo",
        "systemctl restart NetworkManager",
    ],
    "ifupdown": ["ifdown eth0; ifup eth0", "systemctl restart networking"],
}


@each
def test_what_an_administrator_does_takes_no_vip_away(machine: Machine) -> None:
    for command in CHANGES[machine.network]:
        if leaves_lo_alone(machine) and ("reapply" in command or command.endswith(" lo")):
            continue
        machine.run("sh", "-c", f"{command} 2>&1")
        assert settled(machine) == wanted(machine), command
    assert asked_for(vip_of(machine)) == {vip_of(machine): {machine.mac: 1}}
    report = LAB.client.connect(vip_of(machine), 80, "--count", "5")
    assert report["by_host"] == {backend_of(machine).name: 5}
    # It is a backend all the while.
    report = LAB.client.connect(vip_of(balancer_of(machine)), 80, "--count", "5")
    assert report["by_host"] == {machine.name: 5}

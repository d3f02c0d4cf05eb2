# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkManager, ifupdown and our own unit: when they are chosen, what they are given, and that it goes again."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import persisted

VIP, OTHER, VIP6 = "10.77.0.100", "10.77.0.101", "fd00::100"
SCRIPT = "/etc/NetworkManager/dispatcher.d/90-nft-dsr"
NO_WAIT = "/etc/NetworkManager/dispatcher.d/no-wait.d/90-nft-dsr"
STANZAS = "/etc/network/interfaces.d/nft-dsr"
UNIT = "/etc/systemd/system/nft-dsr-addresses.service"
DEBIAN = "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"
EXTERNAL, MANAGED, UNMANAGED = "100 (connected (externally))", "100 (connected)", "10 (unmanaged)"


def settled(machine: Any, end: str, *addresses: str, **options: Any) -> Any:
    """Run; check mode before it foretells it, and a second run has nothing to do."""
    key, run = {"lo": ("vips", machine.backend), "eth0": ("addresses", machine.vip_address)}[end]
    before = machine.snapshot()
    foretold = run(*addresses, check=True, **options)
    assert machine.snapshot() == before, "check mode changed something"
    done = run(*addresses, **options)
    assert done.result(key) == foretold.result(key)
    again = run(*addresses, **options)
    assert (again.steps, again.persist, again.files) == ([], done.persist, done.files)
    return done


def refused(machine: Any, end: str, **options: Any) -> str:
    before = machine.snapshot()
    with pytest.raises(HostError) as caught:
        (machine.backend if end == "lo" else machine.vip_address)(VIP, **options)
    assert machine.snapshot() == before
    return str(caught.value)


@pytest.fixture
def networkmanager(machine: Any) -> Any:
    """A machine like Fedora, or a RHEL from 9 on: all is NetworkManager's, lo it looks at only."""
    machine.boot_systemd()
    machine.install_networkmanager(lo=EXTERNAL, eth0=MANAGED)
    return machine


@pytest.fixture
def ifupdown(machine: Any) -> Any:
    """A machine like a server of Debian."""
    machine.boot_systemd()
    machine.install_ifupdown(DEBIAN)
    return machine


# --- texts


def ips(*texts: str) -> list[Any]:
    return [ipaddress.ip_address(text) for text in texts]


def test_the_script_does_its_work_for_the_interface_and_the_events_that_matter(tmp_path: Path) -> None:
    program = tmp_path / "ip"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    text = persisted.dispatcher_text(str(program), {"lo": ips(VIP, VIP6), "eth0.7": ips(OTHER), "eth1": []})
    assert text is not None and persisted.is_ours(text)
    assert persisted.command_addresses(text) == {"lo": tuple(ips(VIP, VIP6)), "eth0.7": tuple(ips(OTHER))}
    script = tmp_path / "script"
    script.write_text(text)
    script.chmod(0o755)

    def told(*arguments: str) -> list[str]:
        return subprocess.run([script, *arguments], check=True, capture_output=True, text=True).stdout.splitlines()

    of_lo = [
        f"address replace {VIP}/32 dev lo",
        f"address replace {VIP6}/128 dev lo nodad preferred_lft 0",
    ]
    assert told("lo", "up") == told("lo", "reapply") == of_lo
    assert told("eth0.7", "up") == [f"address replace {OTHER}/32 dev eth0.7"]
    for arguments in (("lo", "down"), ("eth0.7", "pre-down"), ("eth0x7", "up"), ("eth1", "up"), ("", "hostname")):
        assert told(*arguments) == []
    assert persisted.dispatcher_text("/sbin/ip", {"lo": []}) is None


def test_a_script_of_somebody_else_is_not_ours() -> None:
    assert not persisted.is_ours("#!/bin/sh\n# mine\n" + persisted.HEADER)
    assert not persisted.is_ours("#!/bin/sh")


def test_stanzas_of_ifupdown() -> None:
    text = persisted.interfaces_text("/sbin/ip", {"lo": ips(VIP6, VIP), "eth0": ips(OTHER), "eth1": []})
    assert text is not None and persisted.is_ours(text)
    assert [line for line in text.splitlines() if line and line[0] != "#"] == [
        "iface eth0 inet manual",
        f"    up /sbin/ip address replace {OTHER}/32 dev eth0 || true",
        "iface lo inet manual",
        f"    up /sbin/ip address replace {VIP}/32 dev lo || true",
        f"    up /sbin/ip address replace {VIP6}/128 dev lo nodad preferred_lft 0 || true",
    ]
    assert persisted.command_addresses(text) == {"lo": tuple(ips(VIP, VIP6)), "eth0": tuple(ips(OTHER))}
    assert persisted.command_addresses(f"# up /sbin/ip address replace {VIP}/32 dev lo\n") == {}
    assert persisted.interfaces_text("/sbin/ip", {"lo": []}) is None


@pytest.mark.parametrize(
    ("main", "plain", "with_ending"),
    [
        ("source /etc/network/interfaces.d/*\n", True, True),
        ("  source interfaces.d/*  \n", True, True),
        ("source-directory /etc/network/interfaces.d\n", True, False),
        ("source-directory interfaces.d/\n", True, False),
        ("source /etc/network/interfaces.d/*.cfg\n", False, True),
        ("source /etc/network/other /etc/network/interfaces.d/[a-n]*\n", True, True),
        ("source \\\n  interfaces.d/*\n", True, True),
        ("#source /etc/network/interfaces.d/*\nauto lo\n", False, False),
        ("source /etc/network/*\n", False, False),
        ("source-directory /etc/network\n", False, False),
        ("", False, False),
    ],
)
def test_which_files_ifup_reads(main: str, plain: bool, with_ending: bool) -> None:
    read = [persisted.interfaces_read(main, "/etc/network", path) for path in (STANZAS, f"{STANZAS}.cfg")]
    assert read == [plain, with_ending]


def test_a_unit_for_lo_does_not_wait_for_the_network() -> None:
    alone = persisted.unit_text("/sbin/ip", {"lo": ips(VIP), "eth0": []}, [])
    both = persisted.unit_text("/sbin/ip", {"lo": ips(VIP), "eth0": ips(OTHER)}, [])
    assert alone is not None and both is not None
    assert "Before=network.target" in alone and "network-online" not in alone
    assert "After=network.target network-online.target" in both and "Before=" not in both


# --- NetworkManager


@pytest.mark.parametrize("end", ["lo", "eth0"])
def test_networkmanager_gets_a_script(networkmanager: Any, end: str) -> None:
    before = networkmanager.snapshot()
    done = settled(networkmanager, end, VIP, VIP6)
    assert done.persist == "networkmanager"
    assert SCRIPT in done.files
    assert "networkmanager, which manages" in done.message
    assert networkmanager.mode(SCRIPT) == 0o755
    assert os.readlink(networkmanager.folder / NO_WAIT[1:]) == "../90-nft-dsr"
    assert persisted.command_addresses(networkmanager.get(SCRIPT)) == {end: tuple(ips(VIP, VIP6))}
    assert not any("connection" in command for command in networkmanager.commands)
    assert settled(networkmanager, end, VIP, VIP6, persist="networkmanager").steps == []
    settled(networkmanager, end, purge=True)
    assert networkmanager.snapshot() == before


def test_both_ends_share_the_script(networkmanager: Any) -> None:
    settled(networkmanager, "lo", VIP)
    settled(networkmanager, "eth0", OTHER)
    assert set(persisted.command_addresses(networkmanager.get(SCRIPT))) == {"lo", "eth0"}
    settled(networkmanager, "lo", VIP, state="absent")
    assert set(persisted.command_addresses(networkmanager.get(SCRIPT))) == {"eth0"}


DRIFTS: list[Callable[[Any], object]] = [
    lambda machine: (machine.folder / SCRIPT[1:]).chmod(0o644),
    lambda machine: (machine.folder / SCRIPT[1:]).unlink(),
    lambda machine: (machine.folder / NO_WAIT[1:]).unlink(),
    lambda machine: machine.put(SCRIPT, machine.get(SCRIPT).replace("100/32", "109/32"), 0o755),
    lambda machine: machine.drop("eth0", f"{VIP}/32"),
]


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_seen_and_repaired(networkmanager: Any, drift: Callable[[Any], object]) -> None:
    settled(networkmanager, "eth0", VIP)
    wanted = networkmanager.snapshot()
    drift(networkmanager)
    assert networkmanager.vip_address(VIP, check=True).steps
    settled(networkmanager, "eth0", VIP, purge=True)
    assert networkmanager.snapshot() == wanted


def test_networkmanager_before_it_knew_lo(networkmanager: Any) -> None:
    networkmanager.nmcli["lo"] = UNMANAGED
    done = settled(networkmanager, "lo", VIP)
    assert done.persist == "systemd"
    assert "NetworkManager does not manage lo, which no version before 1.42 does" in done.message
    assert f"address replace {VIP}/32 dev lo" in networkmanager.get(UNIT)
    assert networkmanager.get(SCRIPT) is None
    said = refused(networkmanager, "lo", persist="networkmanager")
    assert "NetworkManager does not manage lo" in said and "choose 'systemd'" in said
    # The host is upgraded.
    networkmanager.nmcli["lo"] = EXTERNAL
    assert settled(networkmanager, "lo", VIP).persist == "networkmanager"
    assert networkmanager.get(UNIT) is None


def test_networkmanager_that_looks_on_at_a_nic(networkmanager: Any) -> None:
    networkmanager.nmcli["eth0"] = EXTERNAL
    assert settled(networkmanager, "eth0", VIP).persist == "systemd"
    assert "something else than NetworkManager has set eth0" in refused(
        networkmanager, "eth0", persist="networkmanager"
    )


def test_networkmanager_that_is_down_keeps_what_it_has(networkmanager: Any) -> None:
    assert settled(networkmanager, "eth0", VIP).persist == "networkmanager"
    networkmanager.nmcli.clear()
    assert settled(networkmanager, "eth0", VIP).persist == "networkmanager"
    assert settled(networkmanager, "lo", OTHER).persist == "systemd"


def test_networkmanager_without_what_it_takes(networkmanager: Any) -> None:
    alias = networkmanager.folder / "etc/systemd/system/dbus-org.freedesktop.nm-dispatcher.service"
    alias.unlink()
    assert "NetworkManager-dispatcher.service is not enabled" in refused(networkmanager, "lo", persist="networkmanager")
    assert "NetworkManager-dispatcher.service is not enabled" in settled(networkmanager, "lo", OTHER).message
    os.symlink("/dev/null", networkmanager.folder / "etc/systemd/system/NetworkManager.service")
    assert "NetworkManager is not enabled" in refused(networkmanager, "eth0", persist="networkmanager")


def test_a_script_of_somebody_else_at_our_place(networkmanager: Any) -> None:
    networkmanager.put(SCRIPT, "#!/bin/sh\n", 0o755)
    assert f"{SCRIPT} was not written by this collection" in refused(networkmanager, "eth0")


# --- ifupdown


@pytest.mark.parametrize("end", ["lo", "eth0"])
def test_ifupdown_gets_a_file(ifupdown: Any, end: str) -> None:
    before = ifupdown.snapshot()
    done = settled(ifupdown, end, VIP, VIP6)
    assert done.persist == "ifupdown"
    assert STANZAS in done.files
    assert ifupdown.mode(STANZAS) == 0o644
    assert persisted.command_addresses(ifupdown.get(STANZAS)) == {end: tuple(ips(VIP, VIP6))}
    acted = [command for command in ifupdown.commands if command.startswith("ifup ")]
    assert acted and all("--no-act" in command for command in acted)
    settled(ifupdown, end, purge=True)
    assert ifupdown.snapshot() == before


def test_a_nic_that_is_hot_plugged(ifupdown: Any) -> None:
    ifupdown.ifupdown.update({"--list": "lo\n", "--list --allow=hotplug": "eth0\n"})
    assert settled(ifupdown, "eth0", VIP).persist == "ifupdown"


def test_files_of_another_ending(ifupdown: Any) -> None:
    settled(ifupdown, "lo", VIP)
    ifupdown.put("/etc/network/interfaces", DEBIAN.replace("/*", "/*.cfg"))
    assert f"{STANZAS}.cfg" in settled(ifupdown, "lo", VIP).files
    assert ifupdown.get(STANZAS) is None


@pytest.mark.parametrize("end", ["lo", "eth0"])
def test_interfaces_that_does_not_read_our_file(ifupdown: Any, end: str) -> None:
    ifupdown.put("/etc/network/interfaces", "auto eth0\n")
    done = settled(ifupdown, end, VIP)
    assert done.persist == "systemd"
    assert "a unit of our own, since /etc/network/interfaces does not have the files in" in done.message
    assert "no line 'source' for them" in refused(ifupdown, end, persist="ifupdown")


NOT_MANAGED = [
    ({"auto": "lo\n"}, "no line 'auto' or 'allow-hotplug' names it"),
    ({"state": "lo=lo\neth0=home\n"}, "by the stanza of another name"),
    ({"version": "ifupdown2:3.0.0\n"}, "another program of that name"),
]


@pytest.mark.parametrize(("more", "why"), NOT_MANAGED)
def test_ifupdown_that_does_not_manage_the_nic(machine: Any, more: dict[str, str], why: str) -> None:
    machine.boot_systemd()
    machine.install_ifupdown(DEBIAN, **more)
    assert settled(machine, "eth0", VIP).persist == "systemd"
    assert why in refused(machine, "eth0", persist="ifupdown")


def test_ifup_that_refuses(ifupdown: Any) -> None:
    ifupdown.fail_at = "ifup "
    assert "ifup refuses this host's configuration (nothing was changed)" in refused(ifupdown, "lo")


def test_ifup_that_would_not_do_it(ifupdown: Any) -> None:
    ifupdown.programs["ip"] = "/opt/bin/ip"
    settled(ifupdown, "lo", VIP)
    assert f"/opt/bin/ip address replace {VIP}/32" in ifupdown.get(STANZAS)
    plain = ifupdown.run

    def run(argv: Any, stdin: Any) -> Any:
        done = plain(argv, stdin)
        return type(done)(done.argv, 0, "", "") if argv[0] == "ifup" else done

    ifupdown.run = run
    with pytest.raises(HostError, match="with them it would not run '/opt/bin/ip address replace"):
        ifupdown.backend(OTHER)


# --- who of them


def test_a_desktop_of_debian(ifupdown: Any) -> None:
    """NICs are NetworkManager's, lo is ifupdown's, unless somebody made a profile for it."""
    ifupdown.install_networkmanager(lo=EXTERNAL, eth0=MANAGED)
    ifupdown.ifupdown["--list"] = "lo\n"
    assert settled(ifupdown, "eth0", OTHER).persist == "networkmanager"
    assert settled(ifupdown, "lo", VIP).persist == "ifupdown"
    ifupdown.nmcli["lo"] = MANAGED
    assert settled(ifupdown, "lo", VIP).persist == "networkmanager"


@pytest.mark.parametrize("second", ["networkmanager", "ifupdown", "networkd", "systemd", "none"])
@pytest.mark.parametrize("first", ["networkmanager", "ifupdown", "networkd", "systemd", "none"])
def test_another_persist_takes_over(ifupdown: Any, first: str, second: str) -> None:
    ifupdown.install_networkmanager(lo=EXTERNAL, eth0=UNMANAGED)
    ifupdown.enable_networkd()
    for persist in (first, second):
        assert settled(ifupdown, "lo", VIP, persist=persist).persist == persist
    files = {"networkmanager": SCRIPT, "ifupdown": STANZAS, "systemd": UNIT}
    for persist, path in files.items():
        assert (ifupdown.get(path) is not None) is (persist == second)
    kept = ifupdown.info(VIP)["persisted"]
    assert (kept["manager"], kept["vips"]) == (second, [] if second == "none" else [VIP])
    assert not [problem for problem in ifupdown.info(VIP)["problems"] if "at boot" in problem]


@pytest.mark.parametrize("persist", ["networkmanager", "ifupdown", "systemd"])
def test_what_kept_it_is_gone_from_the_host(ifupdown: Any, persist: str) -> None:
    """Its package was removed; our file goes all the same."""
    ifupdown.install_networkmanager(lo=EXTERNAL, eth0=UNMANAGED)
    settled(ifupdown, "lo", VIP, OTHER, persist=persist)
    for program in ("nmcli", "ifup", "ifquery"):
        del ifupdown.programs[program]
    settled(ifupdown, "lo", OTHER, state="absent", persist="none")
    settled(ifupdown, "lo", purge=True)
    assert [ifupdown.get(path) for path in (SCRIPT, STANZAS, UNIT)] == [None, None, None]

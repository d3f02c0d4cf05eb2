# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual IPs on backends and load balancers: real kernels, real ARP, the real netplan, networkd and systemd-sysctl."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import pytest
from lab import Lab
from lab.standard import ADDRESSES6, VIPS6, build

from ansible_collections.dsr.layer2.plugins.module_utils.loopback import arp

VIP, OTHER, VIP6 = "10.77.0.100", "10.77.0.101", VIPS6[0]
SYSCTL, NETPLAN = "/etc/sysctl.d/99-dsr.conf", "/etc/netplan/99-dsr.yaml"
UNIT = "/etc/systemd/system/nft-dsr-addresses.service"
B1_MAC, LB_MAC = "02:d5:00:00:00:15", "02:d5:00:00:00:02"
RENDERED = "/run/systemd/network/10-netplan-lo.network"
BASE = """network:
  version: 2
  renderer: networkd
  ethernets:
    uplink:
      match: {macaddress: "02:d5:00:00:00:02"}
      set-name: eth0
      dhcp4: true
      mtu: 1400
    eth9:
      dhcp4: true
"""
SETTINGS = ("all", "default", "lo", "eth0")

# Asks for an address by ARP over and over, until its input ends or so many times; reports who answered how often.
ASK = """
import json, select, socket, struct, sys
address, count, gap = socket.inet_aton(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
sock.bind(("eth0", 0x0806))
own = sock.getsockname()[4]
request = b"\\xff" * 6 + own + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, 1, own,
                                         socket.inet_aton("10.77.0.10"), bytes(6), address)
answers, asked, left = {}, 0, count or 1000000
print("READY", flush=True)
while left:
    left -= 1
    sock.send(request)
    asked += 1
    while True:
        ready, _, _ = select.select([sock] + ([] if count else [sys.stdin]), [], [], gap)
        if sys.stdin in ready:
            left = 0
        if sock not in ready:
            break
        frame = sock.recv(128)
        if frame[20:22] == b"\\0\\2" and frame[28:32] == address:
            mac = frame[22:28].hex(":")
            answers[mac] = answers.get(mac, 0) + 1
print(json.dumps({"asked": asked, "answers": answers}))
"""


class Hosts:
    """client, lb and b1 on one segment, with nothing configured."""

    def __init__(self, lab: Lab, module: Any) -> None:
        self.lab = lab
        self.module = module

    def backend(self, *vips: str, **options: Any) -> dict[str, Any]:
        return dict(self.module.ok("b1", "dsr_backend_loopback", {"vips": list(vips), **options}))

    def vip_address(self, *addresses: str, **options: Any) -> dict[str, Any]:
        arguments = {"addresses": list(addresses), "interface": "eth0", **options}
        return dict(self.module.ok("lb", "dsr_vip_address", arguments))

    def info(self, *vips: str) -> dict[str, Any]:
        return dict(self.module.ok("b1", "dsr_backend_loopback_info", {"vips": list(vips)}))

    def held(self, host: str, link: str) -> list[str]:
        """The addresses that a host may use; those of IPv6 take a moment."""
        rows = json.loads(self.lab.run(host, ["ip", "-json", "address", "show", "dev", link]).stdout)
        return [
            f"{entry['local']}/{entry['prefixlen']}"
            for row in rows
            for entry in row.get("addr_info", ())
            if entry["local"] not in ("127.0.0.1", "::1") and not entry["local"].startswith("fe80")
            if not entry.get("tentative")
        ]

    def states(self, host: str, address: str) -> set[str]:
        """What the kernel says of an IPv6 address that a host holds."""
        rows = json.loads(self.lab.run(host, ["ip", "-json", "-6", "address", "show", "to", address]).stdout)
        (entry,) = (entry for row in rows for entry in row.get("addr_info", ()) if entry)
        return {name for name, value in entry.items() if value is True}

    def arp(self, host: str = "b1", interface: str = "all") -> tuple[int, int]:
        names = [f"net.ipv4.conf.{interface}.{name}" for name in ("arp_ignore", "arp_announce")]
        first, second = self.lab.run(host, ["sysctl", "-n", *names]).stdout.split()
        return int(first), int(second)

    def setting(self, name: str, value: int, host: str = "b1") -> None:
        self.lab.run(host, ["sysctl", "-qw", f"net.ipv4.conf.{name}={value}"])

    def mode(self, path: str, host: str = "b1") -> str:
        return self.lab.run(host, ["stat", "-c", "%a", path]).stdout.strip()

    @contextmanager
    def asked(self, address: str) -> Iterator[dict[str, Any]]:
        """The client asks for ``address`` by ARP all the while; the report is filled in at the end."""
        report: dict[str, Any] = {}
        with self.lab.popen("client", ["/usr/bin/python3", "-c", ASK, address, "0", "0.0002"]).wait_for(
            "READY"
        ) as asker:
            yield report
            report.update(asker.stop())

    def ask(self, address: str) -> set[str]:
        """Who answers for ``address`` now."""
        done = self.lab.run("client", ["/usr/bin/python3", "-c", ASK, address, "2", "0.05"])
        return set(done.json()["answers"])

    def snapshot(self, host: str = "b1") -> str:
        """All of a host that a run could change."""
        script = (
            r"ip -o address | sed 's/ *valid_lft.*//; s/\\.*//; s/tentative//; s/ *$//'; ip -o link;"
            "sysctl -a --pattern 'net.ipv4.conf.*arp_(ignore|announce)$';"
            "find /etc/netplan /etc/sysctl.d /etc/systemd /run /var/lib/nft-dsr -path /run/lock -prune -o -type f "
            "-exec stat -c '%n %a' {} + -exec sha256sum {} + 2>/dev/null | sort"
        )
        return self.lab.run(host, ["sh", "-c", script]).stdout


@pytest.fixture
def hosts(bare_lab: Lab, lab_module: Any) -> Hosts:
    """Hosts for one test alone, which may leave them as it likes. netplan configures them."""
    build(bare_lab, backends=1)
    for host in ("b1", "lb"):
        bare_lab.write(host, "/etc/netplan/50-base.yaml", BASE, 0o600)
    return Hosts(bare_lab, lab_module)


# --- the backend


def test_nobody_ever_learns_that_a_backend_has_the_vip(hosts: Hosts) -> None:
    """Asked all the while by ARP, the backend is silent while the VIP comes, changes and goes."""
    with hosts.asked(VIP) as report:
        for persist in ("netplan", "none"):
            hosts.backend(VIP, persist=persist)
            assert hosts.held("b1", "lo") == [f"{VIP}/32"]
            hosts.backend(OTHER, purge=True, persist=persist)
            hosts.backend(VIP, persist=persist)
            hosts.backend(VIP, OTHER, state="absent", persist=persist)
            assert hosts.arp() == (0, 0)
    assert report["asked"] > 500
    assert report["answers"] == {}


def test_the_question_above_can_be_answered(hosts: Hosts) -> None:
    """In the wrong order, for the shortest time that two commands take, somebody learns it."""
    both = f"ip address add {VIP}/32 dev lo; sysctl -qw net.ipv4.conf.all.arp_ignore=1"
    with hosts.asked(VIP) as report:
        hosts.lab.run("b1", ["sh", "-c", both])
        time.sleep(0)
    assert set(report["answers"]) == {B1_MAC}


def test_both_ends_of_a_life(hosts: Hosts) -> None:
    """Present, present again, absent, absent again; check mode before each foretells it and changes nothing."""
    first = hosts.snapshot()
    for state in ("present", "absent"):
        before = hosts.snapshot()
        arguments = {"vips": [VIP, VIP6], "state": state}
        foretold = hosts.module.ok("b1", "dsr_backend_loopback", arguments, check=True, diff=True)
        assert hosts.snapshot() == before
        done = hosts.module.ok("b1", "dsr_backend_loopback", arguments, diff=True)
        assert done["changed"]
        assert {key: done[key] for key in ("steps", "diff", "files", "persist", "msg", "vips")} == {
            key: foretold[key] for key in ("steps", "diff", "files", "persist", "msg", "vips")
        }
        after = hosts.snapshot()
        again = hosts.module.ok("b1", "dsr_backend_loopback", arguments, diff=True)
        assert (again["changed"], again["steps"], again["diff"]) == (False, [], [])
        assert hosts.snapshot() == after
        if state == "present":
            assert hosts.held("b1", "lo") == [f"{VIP}/32", f"{VIP6}/128"]
            assert hosts.arp() == (1, 2)
            assert (hosts.mode(SYSCTL), hosts.mode(NETPLAN)) == ("644", "600")
            assert f"Address={VIP}/32" in hosts.lab.read("b1", RENDERED)
            assert hosts.ask(VIP) == set()
            assert hosts.ask("10.77.0.21") == {B1_MAC}, "it still answers for its own address"
            assert hosts.info(VIP, VIP6)["problems"] == []
    # What netplan renders for its other devices is all that is new
    left = set(hosts.snapshot().splitlines()) - set(first.splitlines())
    assert all("10-netplan-" in line or "netplan" in line for line in left), left
    assert not hosts.lab.exists("b1", "/var/lib/nft-dsr")
    assert not hosts.lab.exists("b1", RENDERED)


DRIFTS = [
    f"ip address delete {VIP}/32 dev lo",
    "sysctl -qw net.ipv4.conf.all.arp_ignore=0",
    f"rm {SYSCTL} {NETPLAN}",
    f"chmod 644 {NETPLAN}; sed -i s/=.1/=0/ {SYSCTL}; sysctl -qw net.ipv4.conf.all.arp_announce=0",
    f"rm {RENDERED} /var/lib/nft-dsr/loopback.json; sed -i s/100/109/ {NETPLAN}",
    f"ip address delete {VIP6}/128 dev lo",
    f"ip address change {VIP6}/128 dev lo preferred_lft forever",
    f"sed -i '/lifetime/d; s,/128\":,/128\",' {NETPLAN}",
]


def test_drift_is_seen_and_repaired(hosts: Hosts) -> None:
    hosts.backend(VIP, VIP6)
    wanted = hosts.snapshot()
    for drift in DRIFTS:
        hosts.lab.run("b1", ["sh", "-c", drift])
        assert hosts.snapshot() != wanted, drift
        assert hosts.module.ok("b1", "dsr_backend_loopback", {"vips": [VIP, VIP6]}, check=True)["changed"], drift
        hosts.backend(VIP, VIP6, purge=True)
        assert hosts.snapshot() == wanted, drift


def test_purge_leaves_addresses_of_others(hosts: Hosts) -> None:
    hosts.lab.ip("b1", "address add 10.99.0.1/32 dev lo")
    hosts.backend(VIP, OTHER, persist="none")
    hosts.backend(OTHER, persist="none", purge=True)
    assert hosts.held("b1", "lo") == ["10.99.0.1/32", f"{OTHER}/32"]
    hosts.backend(purge=True)
    assert hosts.held("b1", "lo") == ["10.99.0.1/32"]
    assert "127.0.0.1/8" in hosts.lab.run("b1", ["ip", "address", "show", "dev", "lo"]).stdout


def test_a_backend_of_ipv6_alone_answers_nobody_and_leaves_arp_as_it_is(hosts: Hosts) -> None:
    """No setting is needed for it, as the documentation says."""
    done = hosts.backend(VIP6)
    assert done["files"] == [NETPLAN] and hosts.arp() == (0, 0)
    assert not hosts.lab.exists("b1", SYSCTL)
    arguments = {"addresses": [VIP6, ADDRESSES6["b1"]], "interface": "eth0", "attempts": 1, "timeout": 0.3}
    answers = hosts.module.ok("client", "dsr_neighbour_info", arguments)["answers"]
    assert [answer["macs"] for answer in answers] == [[], [B1_MAC]]
    assert hosts.info(VIP6)["problems"] == []
    assert "deprecated" in hosts.states("b1", VIP6)
    # The host does not speak in its name, not even to one whose address is like it.
    assert f"src {ADDRESSES6['b1']} " in hosts.lab.run("b1", ["ip", "-6", "route", "get", "fd00:77::10"]).stdout


def test_an_ipv6_vip_on_a_backends_nic_is_told_of(hosts: Hosts) -> None:
    hosts.backend(VIP6, persist="none")
    hosts.lab.ip("b1", f"address add {VIP6}/128 dev eth0 nodad")
    problems = hosts.info(VIP6)["problems"]
    assert any(f"answers neighbour solicitations for {VIP6} on eth0" in problem for problem in problems), problems
    said = hosts.module.fails("b1", "dsr_backend_loopback", {"vips": [VIP6], "persist": "none"})
    assert f"vips[0]: {VIP6} is on eth0 as well, which answers for it" in said


def test_what_the_kernel_does_is_what_we_say(lab: Lab, lab_module: Any) -> None:
    """Every pair of settings: the client's question on the wire against the verdict of the info module's rules."""
    hosts = Hosts(lab, lab_module)
    wrong = []
    for everywhere in (0, 1, 2, 3, 8, 9):
        for nic in (0, 1, 2, 3, 4, 8):
            hosts.setting("all.arp_ignore", everywhere)
            hosts.setting("eth0.arp_ignore", nic)
            expected = bool(
                arp.who_answers(VIP, everywhere, [arp.Interface("eth0", True, nic, 0)], [arp.Held("lo", VIP)])
            )
            answered = B1_MAC in hosts.ask(VIP)
            if answered is not expected:
                wrong.append((everywhere, nic, answered))
    hosts.setting("all.arp_ignore", 1)
    hosts.setting("eth0.arp_ignore", 0)
    assert wrong == []


def test_info_sees_who_answers(lab: Lab, lab_module: Any) -> None:
    """VIPs that somebody put there by hand, while one NIC defeats the suppression."""
    hosts = Hosts(lab, lab_module)
    hosts.setting("eth0.arp_ignore", 3)
    try:
        found = hosts.info()
        assert hosts.ask(VIP) == {B1_MAC, LB_MAC}
    finally:
        hosts.setting("eth0.arp_ignore", 0)
    assert {"address": VIP, "answers": True, "interfaces": ["eth0"]} in found["answers_arp"]
    assert found["sysctls"]["eth0"]["effective_arp_ignore"] == 3
    assert any("net.ipv4.conf.eth0.arp_ignore is 3" in problem for problem in found["problems"])
    assert {"address": VIP, "answers": False, "interfaces": []} in hosts.info()["answers_arp"]
    assert hosts.ask(VIP) == {LB_MAC}


# What a host is like, the arguments, and what the message says. The VIPs are free ones.
FREE = "10.77.0.110"
REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("", {"vips": [FREE, "10.77.0.111/32"]}, "vips[1]: '10.77.0.111/32' has a prefix length"),
    ("", {"vips": ["127.0.0.1"]}, "vips[0]: 127.0.0.1 is a loopback address"),
    ("", {"vips": [FREE, FREE]}, f"vips[1]: {FREE} is there already, as vips[0]"),
    ("", {"vips": ["10.77.0.255"]}, "vips[0]: 10.77.0.255 is the broadcast address"),
    ("", {"vips": []}, "vips: the list is empty"),
    ("", {"vips": ["10.77.0.21"]}, "vips[0]: 10.77.0.21 is on eth0 as well"),
    (f"ip address add {FREE}/32 dev eth0", {"vips": [FREE]}, f"vips[0]: {FREE} is on eth0 as well"),
    (f"ip address add {FREE}/24 dev lo", {"vips": [FREE]}, "makes all of 10.77.0.0/24 local"),
    ("", {"vips": [FREE], "interface": "eth7"}, "interface: there is no interface 'eth7'"),
    ("", {"vips": [FREE], "interface": "eth0"}, "interface: eth0 is a NIC"),
    ("sysctl -qw net.ipv4.conf.eth0.arp_ignore=3", {"vips": [FREE]}, "net.ipv4.conf.eth0.arp_ignore is 3"),
    (
        "echo net/ipv4/conf/all/arp_ignore=0 >/etc/sysctl.d/99-late.conf",
        {"vips": [FREE]},
        "/etc/sysctl.d/99-late.conf line 1",
    ),
    (f"echo network: {{}} >{NETPLAN}", {"vips": [FREE], "persist": "netplan"}, f"{NETPLAN} was not written by"),
    (f"echo x=1 >{SYSCTL}", {"vips": [FREE]}, f"{SYSCTL} was not written by this collection"),
    (
        "mkdir -p /etc/netplan; echo 'network: {ethernets: {a: {dhcp4: perhaps}}}' >/etc/netplan/10-x.yaml",
        {"vips": [FREE]},
        "netplan refuses this host's configuration",
    ),
    ("", {"vips": [FREE], "persist": "auto"}, "'persist: none'"),
    ("", {"vips": [FREE], "persist": "networkd"}, "systemd-networkd is not enabled"),
    ("", {"vips": [FREE], "persist": "networkmanager"}, "NetworkManager is not enabled"),
    ("", {"vips": [FREE], "persist": "ifupdown"}, "ifupdown is not enabled"),
    ("", {"vips": [FREE], "sysctl_file": "/etc/dsr.conf"}, "sysctl_file: /etc/dsr.conf would not be read at boot"),
    ("sysctl -qw net.ipv6.conf.lo.disable_ipv6=1", {"vips": [VIP6]}, f"vips[0]: {VIP6} cannot be held"),
]
CLEAN = (
    f"ip address delete {FREE}/32 dev eth0; ip address delete {FREE}/24 dev lo; "
    "sysctl -qw net.ipv4.conf.eth0.arp_ignore=0 net.ipv6.conf.lo.disable_ipv6=0; "
    f"rm -f /etc/sysctl.d/99-late.conf {NETPLAN} {SYSCTL} /etc/netplan/10-x.yaml; true"
)


@pytest.mark.parametrize(("prepare", "arguments", "message"), REFUSALS)
def test_what_is_refused_changes_nothing(
    lab: Lab, lab_module: Any, prepare: str, arguments: dict[str, Any], message: str
) -> None:
    hosts = Hosts(lab, lab_module)
    lab.run("b1", ["sh", "-c", f"{prepare or 'true'}"])
    try:
        before = hosts.snapshot()
        said = lab_module.fails("b1", "dsr_backend_loopback", arguments)
        assert hosts.snapshot() == before
    finally:
        lab.run("b1", ["sh", "-c", CLEAN])
    assert message in said


# Everything is imported before root is given up, since its folders are not for all eyes.
WITHOUT_ROOT = """
import json, os, sys
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import {engine}
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.host import Host
os.setgid(65534)
os.setuid(65534)
try:
    {engine}.ensure(Host(), json.load(sys.stdin), False)
except HostError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.parametrize(
    ("engine", "option", "interface"), [("backend", "vips", "lo"), ("vip_address", "addresses", "eth0")]
)
def test_without_root(lab: Lab, module_runner: Any, engine: str, option: str, interface: str) -> None:
    hosts = Hosts(lab, None)
    before = hosts.snapshot()
    options = {
        option: [FREE],
        "state": "present",
        "purge": False,
        "interface": interface,
        "persist": "none",
        "sysctl_file": SYSCTL,
        "netplan_file": NETPLAN,
        "announce": True,
        "check_duplicate": True,
    }
    path = f"PYTHONPATH={module_runner.folder}"
    argv = [
        "/usr/bin/env",
        path,
        "PYTHONDONTWRITEBYTECODE=1",
        "/usr/bin/python3",
        "-c",
        WITHOUT_ROOT.format(engine=engine),
    ]
    assert "become: true" in lab.run("b1", argv, input=json.dumps(options)).json()
    assert hosts.snapshot() == before


# --- after a boot


def test_systemd_sysctl_does_what_we_say(hosts: Hosts) -> None:
    """The real program on files that quarrel: what it leaves is what our rules foretell."""
    files = {
        "/etc/sysctl.d/10-a.conf": "net.ipv4.conf.all.arp_ignore = 2\n-net.ipv4.conf.all.arp_announce = 1\n",
        "/usr/lib/sysctl.d/99-e.conf": "net/ipv4/conf/all/arp_announce=1\n",
        "/run/sysctl.d/99-zz.conf": "net.ipv4.conf.*.arp_ignore = 3\n-net.ipv4.conf.lo.arp_ignore\n",
        "/etc/sysctl.d/99-sysctl.conf": "net.ipv4.conf.eth0.arp_announce = 1\nnet.ipv4.conf.eth0.arp_announce=2\n",
        "/usr/lib/sysctl.d/10-a.conf": "net.ipv4.conf.all.arp_announce = 0\nnet.ipv4.conf.lo.arp_announce = 2\n",
        "/etc/sysctl.d/50.txt": "net.ipv4.conf.lo.arp_ignore = 1\n",
    }
    for path, text in files.items():
        hosts.lab.write("b1", path, text)
    hosts.lab.run("b1", ["/lib/systemd/systemd-sysctl", "--prefix=/net/ipv4/conf"])
    boot = arp.Boot([arp.SysctlFile(path, text) for path, text in files.items()])
    for interface in SETTINGS:
        foretold = tuple(boot.number(interface, name) or 0 for name in (arp.IGNORE, arp.ANNOUNCE))
        assert hosts.arp("b1", interface) == foretold, interface


def boot_network(lab: Lab, host: str, settled: Callable[[], bool]) -> None:
    """What a boot does to addresses: the network starts from its files alone. Returns when ``settled``."""
    script = (
        "mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp; "
        "chown -R systemd-network: /run/systemd/netif; mount -o remount,ro /sys; "
        "exec /lib/systemd/systemd-networkd"
    )
    with lab.popen(host, ["sh", "-c", script]):
        until = time.monotonic() + 20
        while not settled():
            assert time.monotonic() < until, "systemd-networkd did not bring the addresses back"
            time.sleep(0.05)


@pytest.mark.parametrize("persist", ["netplan", "networkd"])
def test_a_boot_brings_back_the_vip_and_the_suppression(hosts: Hosts, persist: str) -> None:
    enabled = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    hosts.lab.write("b1", enabled, "")
    assert hosts.backend(VIP, VIP6, persist=persist)["persist"] == persist
    lab = hosts.lab
    lab.ip("b1", f"address delete {VIP}/32 dev lo", f"address delete {VIP6}/128 dev lo")
    hosts.setting("all.arp_ignore", 0)
    hosts.setting("all.arp_announce", 0)
    lab.run("b1", ["/lib/systemd/systemd-sysctl", "--prefix=/net/ipv4/conf"])
    assert hosts.arp() == (1, 2)
    lab.run("b1", ["sh", "-c", "rm -rf /run/systemd/network; netplan generate"])
    boot_network(lab, "b1", lambda: hosts.held("b1", "lo") == [f"{VIP}/32", f"{VIP6}/128"])
    assert not hosts.backend(VIP, VIP6, persist=persist)["changed"]
    assert "127.0.0.1/8" in lab.run("b1", ["ip", "address", "show", "dev", "lo"]).stdout


@pytest.mark.parametrize("persist", ["netplan", "systemd"])
def test_a_boot_brings_back_the_addresses_of_a_load_balancer(hosts: Hosts, persist: str) -> None:
    """In IPv6, too, they are there and nothing that the host would speak in the name of."""
    lab = hosts.lab
    # (By its name: a NIC of the lab has no permanent MAC address to be known by.)
    fixed = 'network: {ethernets: {eth0: {addresses: ["10.77.0.2/24", "fd00:77::2/64"]}}}\n'
    lab.write("lb", "/etc/netplan/50-base.yaml", fixed, 0o600)
    hosts.vip_address(VIP, VIP6, persist=persist)
    lab.ip("lb", "address flush dev eth0")
    lab.run("lb", ["sh", "-c", "rm -rf /run/systemd/network; netplan generate"])
    vips = {f"{VIP}/32", f"{VIP6}/128"} if persist == "netplan" else set()
    boot_network(lab, "lb", lambda: set(hosts.held("lb", "eth0")) == {"10.77.0.2/24", "fd00:77::2/64", *vips})
    for line in re.findall(r"^ExecStart=(.*)$", lab.read("lb", UNIT) if persist == "systemd" else "", re.MULTILINE):
        lab.run("lb", line.split())
    assert "deprecated" in hosts.states("lb", VIP6)
    assert f"src {ADDRESSES6['lb']} " in lab.run("lb", ["ip", "-6", "route", "get", "fd00:77::110"]).stdout
    assert not hosts.vip_address(VIP, VIP6, persist=persist)["changed"]


def test_networkd_starts_with_the_vip_there(hosts: Hosts) -> None:
    """A restart of systemd-networkd neither takes the VIP nor what somebody else put on lo, nor what we took away."""
    hosts.lab.ip("b1", "address add 10.99.0.1/32 dev lo")
    hosts.backend(VIP, OTHER)
    hosts.backend(OTHER, state="absent")
    seen: list[list[str]] = []

    def eth0_is_up() -> bool:
        seen.append(hosts.held("b1", "lo"))
        return "10.88.0.1/32" in seen[-1]

    # Networkd's own work on lo is done when an address comes that only it can have brought
    hosts.lab.write("b1", "/etc/netplan/60-lo.yaml", 'network: {ethernets: {lo: {addresses: ["10.88.0.1/32"]}}}', 0o600)
    hosts.lab.run("b1", ["netplan", "generate"])
    boot_network(hosts.lab, "b1", eth0_is_up)
    assert set(hosts.held("b1", "lo")) == {f"{VIP}/32", "10.99.0.1/32", "10.88.0.1/32"}
    assert all(f"{VIP}/32" in held for held in seen)


# An nmcli that says what the real one says of an interface that NetworkManager has set. (The real ones, and the real
# ifupdown, are in the Molecule scenario "persistence".)
NETWORKMANAGER = """
wants=/etc/systemd/system/multi-user.target.wants
mkdir -p $wants
ln -s /lib/systemd/system/NetworkManager.service $wants/
ln -s /lib/systemd/system/NetworkManager-dispatcher.service \\
    /etc/systemd/system/dbus-org.freedesktop.nm-dispatcher.service
printf '#!/bin/sh\\necho "100 (connected)"\\n' >/usr/local/bin/nmcli
chmod 755 /usr/local/bin/nmcli
"""
SCRIPT = "/etc/NetworkManager/dispatcher.d/90-nft-dsr"


def test_the_script_for_networkmanager_works(hosts: Hosts) -> None:
    """It takes all off an interface but what it knows, and runs the script; nobody learns of the backend."""
    for host in ("b1", "lb"):
        hosts.lab.run(host, ["sh", "-c", NETWORKMANAGER])
    assert hosts.backend(VIP, VIP6, persist="networkmanager")["files"] == [SCRIPT, SYSCTL]
    assert hosts.vip_address(OTHER, VIPS6[1], persist="networkmanager")["files"] == [SCRIPT]
    for host, link, wanted in (("b1", "lo", [VIP, VIP6]), ("lb", "eth0", [OTHER, VIPS6[1]])):
        with hosts.asked(VIP) as report:
            for event in ("up", "reapply"):
                hosts.lab.ip(host, *(f"address delete {address} dev {link}" for address in wanted))
                hosts.lab.run(host, [SCRIPT, link, "down"])
                assert not {f"{VIP}/32", f"{OTHER}/32"} & set(hosts.held(host, link))
                hosts.lab.run(host, [SCRIPT, link, event])
                assert {f"{wanted[0]}/32", f"{wanted[1]}/128"} <= set(hosts.held(host, link))
        assert report["asked"] and report["answers"] == {}
    assert not hosts.backend(VIP, VIP6, persist="networkmanager")["changed"]
    assert not hosts.vip_address(OTHER, VIPS6[1], persist="networkmanager")["changed"]
    assert hosts.ask(OTHER) == {LB_MAC}
    hosts.backend(purge=True, persist="networkmanager")
    hosts.vip_address(purge=True, persist="networkmanager")
    for host in ("b1", "lb"):
        assert hosts.lab.run(host, ["find", "/etc/NetworkManager", "-name", "*nft*"]).stdout == ""


def test_the_unit_of_a_backend_works(hosts: Hosts) -> None:
    done = hosts.backend(VIP, VIP6, persist="systemd")
    assert done["files"] == [SYSCTL, UNIT]
    hosts.lab.ip("b1", f"address delete {VIP}/32 dev lo", f"address delete {VIP6}/128 dev lo")
    verified = hosts.lab.run("b1", ["systemd-analyze", "verify", UNIT], check=False)
    assert "nft-dsr-addresses" not in verified.stderr, verified.stderr
    for line in re.findall(r"^ExecStart=(.*)$", hosts.lab.read("b1", UNIT), re.MULTILINE):
        hosts.lab.run("b1", line.split())
    assert not hosts.backend(VIP, VIP6, persist="systemd")["changed"]
    assert hosts.info(VIP, VIP6)["persisted"]["manager"] == "systemd"
    assert hosts.info(VIP, VIP6)["problems"] == []


def test_the_unit_of_a_load_balancer_works(hosts: Hosts) -> None:
    """Its commands do what it is for. There is no systemd here to be told of it, whatever netplan leaves in /run."""
    hosts.lab.run("lb", ["netplan", "generate"])
    assert hosts.lab.exists("lb", "/run/systemd/system")
    done = hosts.vip_address(VIP, VIP6, persist="systemd")
    assert done["files"] == [UNIT]
    verified = hosts.lab.run("lb", ["systemd-analyze", "verify", UNIT], check=False)
    assert "nft-dsr-addresses" not in verified.stderr, verified.stderr
    hosts.lab.ip("lb", f"address delete {VIP}/32 dev eth0", f"address delete {VIP6}/128 dev eth0")
    for line in re.findall(r"^ExecStart=(.*)$", hosts.lab.read("lb", UNIT), re.MULTILINE):
        hosts.lab.run("lb", line.split())
    assert not hosts.vip_address(VIP, VIP6, persist="systemd")["changed"]


# --- the load balancer


def test_addresses_of_a_load_balancer(hosts: Hosts) -> None:
    """On a NIC of netplan, whose other settings stay; neighbours forget who had the address before."""
    lab = hosts.lab
    lab.run("lb", ["netplan", "generate"])
    rendered = "/run/systemd/network/10-netplan-uplink.network"
    before = lab.read("lb", rendered)
    lab.ip("client", f"neighbour add {VIP} lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    lab.ip("client", f"neighbour add {VIP6} lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    done = hosts.vip_address(VIP, VIP6)
    assert done["persist"] == "netplan"
    own = {"10.77.0.2/24", f"{ADDRESSES6['lb']}/64"}
    assert set(hosts.held("lb", "eth0")) == {*own, f"{VIP}/32", f"{VIP6}/128"}
    for vip in (VIP, VIP6):
        assert LB_MAC in lab.run("client", ["ip", "neighbour", "show", vip]).stdout
    after = lab.read("lb", rendered).replace(f"\n[Address]\nAddress={VIP6}/128\nPreferredLifetime=0\n", "")
    assert after.replace(f"Address={VIP}/32\n", "") == before
    assert hosts.ask(VIP) == {LB_MAC}
    assert hosts.states("lb", VIP6) >= {"deprecated"} and not hosts.states("lb", VIP6) & {"tentative", "dadfailed"}
    assert not hosts.vip_address(VIP, VIP6)["changed"]
    for drift in (f"delete {VIP}/32 dev eth0", f"delete {VIP6}/128 dev eth0", f"change {VIP6}/128 dev eth0"):
        lab.ip("lb", f"address {drift}")
        assert hosts.vip_address(VIP, VIP6)["changed"], drift
    assert not hosts.vip_address(VIP, VIP6)["changed"]
    hosts.vip_address(purge=True)
    assert set(hosts.held("lb", "eth0")) == own
    assert lab.read("lb", rendered) == before
    assert not lab.exists("lb", NETPLAN)


def test_an_address_that_a_backend_answers_for(hosts: Hosts) -> None:
    hosts.lab.ip("b1", f"address add {VIP}/32 dev lo")
    before = hosts.snapshot("lb")
    arguments = {"addresses": [OTHER, VIP], "interface": "eth0"}
    message = hosts.module.fails("lb", "dsr_vip_address", arguments)
    assert message.startswith(f"addresses[1]: {VIP} is answered for by {B1_MAC}")
    assert hosts.snapshot("lb") == before
    hosts.setting("all.arp_ignore", 1)
    hosts.vip_address(OTHER, VIP)


def test_an_ipv6_address_that_another_host_has(hosts: Hosts) -> None:
    """A backend that has it on lo has not, and one that has it on its NIC has."""
    hosts.lab.ip("b1", f"address add {VIP6}/128 dev lo", f"address add {VIP6}/128 dev eth0 nodad")
    before = hosts.snapshot("lb")
    message = hosts.module.fails("lb", "dsr_vip_address", {"addresses": [VIP, VIP6], "interface": "eth0"})
    assert message.startswith(f"addresses[1]: {VIP6} is answered for by {B1_MAC}")
    assert hosts.snapshot("lb") == before
    hosts.lab.ip("b1", f"address delete {VIP6}/128 dev eth0")
    hosts.vip_address(VIP, VIP6)


LB_REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("", {"addresses": ["10.77.0.2"]}, "addresses[0]: 10.77.0.2/24 is an address of this host itself"),
    ("", {"addresses": ["10.77.0.0"]}, "addresses[0]: 10.77.0.0 is the network address"),
    ("", {"addresses": [FREE, "::"]}, "addresses[1]: :: is an unspecified address"),
    ("", {"addresses": [FREE], "interface": "eth7"}, "interface: there is no interface 'eth7'"),
    ("", {"addresses": [FREE], "interface": "lo"}, "interface: lo is no NIC"),
    ("", {"addresses": [FREE], "persist": "netplan"}, "netplan does not manage eth0"),
    ("", {"addresses": ["10.77.0.21"]}, f"10.77.0.21 is answered for by {B1_MAC}"),
    ("", {"addresses": [ADDRESSES6["b1"]]}, f"{ADDRESSES6['b1']} is answered for by {B1_MAC}"),
    ("", {"addresses": [ADDRESSES6["lb"]]}, f"{ADDRESSES6['lb']}/64 is an address of this host itself"),
    ("", {"addresses": ["fe80::1"]}, "addresses[0]: fe80::1 is a link-local address"),
    ("", {"addresses": ["::ffff:10.77.0.110"]}, "is an IPv4 address in IPv6 notation; write 10.77.0.110"),
    (f"echo x >{UNIT}", {"addresses": [FREE]}, f"{UNIT} was not written by this collection"),
]


@pytest.mark.parametrize(("prepare", "arguments", "message"), LB_REFUSALS)
def test_what_a_load_balancer_refuses_changes_nothing(
    lab: Lab, lab_module: Any, prepare: str, arguments: dict[str, Any], message: str
) -> None:
    hosts = Hosts(lab, lab_module)
    lab.run("lb", ["sh", "-c", prepare or "true"])
    try:
        before = hosts.snapshot("lb")
        said = lab_module.fails("lb", "dsr_vip_address", {"interface": "eth0", **arguments})
        assert hosts.snapshot("lb") == before
    finally:
        lab.run("lb", ["rm", "-f", UNIT])
    assert message in said

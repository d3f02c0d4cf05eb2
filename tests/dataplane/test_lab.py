# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: that it is a network, that nothing of it is left, and that DSR works in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from lab import Lab, LabError, unused_name
from lab.standard import HTTP_PORTS, LINE_PORT, UDP_PORT, VIPS, backends_of
from lab.state import ROOT, LabState

LAB = Path(__file__).resolve().parents[1] / "lab"

# A load balancer in one rule, by hand.
DSR = """
table netdev by_hand {{
    chain ingress {{
        type filter hook ingress device eth0 priority 0; policy accept;
        meta pkttype != host accept
        ip daddr {vip} {protocol} dport {port} ether saddr set {lb} ether daddr set \
jhash ip saddr . {protocol} sport mod 3 seed 1 map {{ 0 : {b1}, 1 : {b2}, 2 : {b3} }} fwd to eth0
    }}
}}
"""


def namespaces_in_use() -> set[str]:
    """The network namespaces that a process of this machine is in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(path))
        except OSError:
            continue  # it ended meanwhile
    return found


def spaces_of(lab: Lab) -> set[str]:
    return {os.readlink(f"/proc/{process.pid}/ns/net") for process in LabState(lab.name).processes().values()}


def await_true(what: Callable[[], bool], timeout: float = 10.0) -> bool:
    until = time.monotonic() + timeout
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def traces(name: str, spaces: set[str]) -> list[str]:
    """What a lab has left on this machine."""
    left = sorted(spaces & namespaces_in_use())
    left += [str(path) for path in ROOT.glob(name)]
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{name}/" in line]
    return left


def balance_by_hand(lab: Lab, protocol: str = "tcp", port: int = 80) -> None:
    macs = {name: lab.hosts[name].mac for name in ("lb", "b1", "b2", "b3")}
    lab.run("lb", ["nft", "-f", "-"], input=DSR.format(vip=VIPS[0], protocol=protocol, port=port, **macs))


@pytest.fixture
def by_hand(lab: Lab) -> Iterator[Callable[..., None]]:
    yield lambda *arguments: balance_by_hand(lab, *arguments)
    lab.run("lb", ["nft", "delete", "table", "netdev", "by_hand"], check=False)


# -- hosts


def test_hosts_have_names_macs_and_reach_each_other(lab: Lab) -> None:
    assert lab.hosts["b3"].mac == "02:d5:00:00:00:17"
    for host in lab.hosts:
        assert lab.run(host, ["hostname"]).stdout == f"{host}\n"
        link = json.loads(lab.run(host, ["ip", "-json", "link", "show", "eth0"]).stdout)[0]
        assert link["address"] == lab.hosts[host].mac and "LOWER_UP" in link["flags"]
    for backend in backends_of(lab):
        answer = lab.traffic("client", "connect", lab.hosts[backend].address, HTTP_PORTS[1])
        assert answer["by_host"] == {backend: 1}


def test_a_host_is_pristine_and_alone(lab: Lab) -> None:
    assert lab.run("b1", ["ls", "-A", "/etc/netplan", "/etc/sysctl.d"]).stdout.split() == [
        "/etc/netplan:",
        "/etc/sysctl.d:",
    ]
    assert not lab.exists("b1", "/run/systemd")
    assert lab.read("b1", "/proc/1/comm") in ("cat\n", "sleep\n")
    for setting in ("arp_ignore", "arp_announce", "rp_filter", "forwarding"):
        assert lab.read("lb", f"/proc/sys/net/ipv4/conf/all/{setting}") == "0\n"


def test_what_a_host_changes_stays_in_the_host(lab: Lab) -> None:
    lab.write("b1", "/etc/netplan/99-lab.yaml", "mine\n", mode=0o600)
    lab.run("b1", ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    assert lab.read("b1", "/etc/netplan/99-lab.yaml") == "mine\n"
    assert lab.run("b1", ["stat", "-c", "%a", "/etc/netplan/99-lab.yaml"]).stdout == "600\n"
    assert not Path("/etc/netplan/99-lab.yaml").exists()
    assert not lab.exists("b2", "/etc/netplan/99-lab.yaml")
    assert lab.read("b2", "/proc/sys/net/ipv4/ip_forward") == "0\n"
    lab.run("b1", ["rm", "/etc/netplan/99-lab.yaml"])
    lab.run("b1", ["sysctl", "-qw", "net.ipv4.ip_forward=0"])


def test_a_failing_command_is_an_error_with_what_it_said(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"b1: 'ls /nowhere' failed \(exit status 2\): .*No such file"):
        lab.run("b1", ["ls", "/nowhere"])
    assert lab.run("b1", ["ls", "/nowhere"], check=False).status == 2
    with pytest.raises(LabError, match="not done within"):
        lab.run("b1", ["sleep", "60.125"], timeout=0.2)
    assert lab.run("b1", ["pgrep", "-f", "sleep 60.125"], check=False).status == 1, "what took too long still runs"
    with pytest.raises(LabError, match="has no host 'b9'"):
        lab.run("b9", ["true"])


def test_orphans_are_buried(lab: Lab) -> None:
    lab.run("b1", ["sh", "-c", "sleep 0.01 >/dev/null 2>&1 & sleep 0.02 >/dev/null 2>&1 &"])
    assert await_true(lambda: "sleep" not in lab.run("b1", ["ps", "-eo", "comm="]).stdout)


def test_nics_segments_and_cables(bare_lab: Lab) -> None:
    bare_lab.add_host("left", "10.1.0.1")
    bare_lab.add_host("right", "10.1.0.2")
    bare_lab.add_segment("back")
    bare_lab.add_nic("left", "eth1", "10.2.0.1", segment="back", address6="fd00:2::1")
    bare_lab.add_nic("right", "eth1", "10.2.0.2", segment="back", address6="fd00:2::2")
    assert bare_lab.hosts["right"].nics["eth1"].mac == "02:d5:00:00:01:02"

    def reached(address: str) -> bool:
        probe = ["arping", "-q", "-c1", "-w1", "-I", "eth0" if address.startswith("10.1.") else "eth1", address]
        return bare_lab.run("left", probe, check=False).status == 0

    assert reached("10.1.0.2") and reached("10.2.0.2")
    bare_lab.unplug("right")
    assert not reached("10.1.0.2") and reached("10.2.0.2")
    assert "LOWER_UP" not in bare_lab.run("right", ["ip", "link", "show", "eth0"]).stdout
    bare_lab.plug("right")
    assert reached("10.1.0.2")
    bare_lab.link_down("right")
    assert not reached("10.1.0.2")
    bare_lab.link_up("right")
    bare_lab.recreate_nic("right")
    assert reached("10.1.0.2")
    bare_lab.remove_host("right")
    assert not reached("10.2.0.2") and "right" not in bare_lab.hosts


def test_ipv6_is_usable_where_the_machine_has_it(bare_lab: Lab) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    bare_lab.add_host("left", "10.1.0.1", address6="fd00::1")
    bare_lab.add_host("right", "10.1.0.2", address6="fd00::2")
    with bare_lab.start_traffic("right", "serve", "--http", 80, "--udp", UDP_PORT):
        assert bare_lab.traffic("left", "connect", "fd00::2", 80)["by_host"] == {"right": 1}
        assert bare_lab.traffic("left", "connect", "fd00::2", UDP_PORT, "--protocol", "udp")["by_host"] == {"right": 1}


# -- nothing is left


def test_a_lab_that_fails_half_way_leaves_nothing() -> None:
    name, spaces = unused_name(), set[str]()
    with pytest.raises(ZeroDivisionError), Lab(name) as lab:
        lab.add_host("a", "10.1.0.1")
        lab.popen("a", ["sleep", "1000"])
        spaces = spaces_of(lab)
        assert len(spaces) == 2 and spaces <= namespaces_in_use()
        raise ZeroDivisionError
    assert traces(name, spaces) == []


def test_a_host_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    name = unused_name()
    before = namespaces_in_use()
    with (
        pytest.raises(LabError, match=r"b: the machine does not start: .*nowhere"),
        Lab(name, shown=[tmp_path / "nowhere"]) as lab,
    ):
        lab.add_host("b", "10.1.0.1")
    assert traces(name, namespaces_in_use() - before) == []
    with Lab(name) as lab:
        with pytest.raises(LabError, match=r"10\.1\.0\.300"):
            lab.add_host("b", "10.1.0.300", mac="02:00:00:00:00:01")
        assert "b" not in lab.hosts
        assert lab.add_host("b", "10.1.0.30").mac == "02:d5:00:00:00:1e"


def test_a_machine_that_allows_no_namespaces_is_an_error_of_one_line() -> None:
    name = unused_name()
    argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    argv += [sys.executable, str(LAB / "lab.py"), "--name", name, "up"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert "does not let root make namespaces" in done.stderr
    assert traces(name, set()) == []


def test_a_lab_ends_with_the_process_that_made_it() -> None:
    name = unused_name()
    script = f"from lab import Lab; Lab({name!r}).add_host('a', '10.1.0.1'); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(LAB.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
        spaces = spaces_of(Lab.attach(name))
        assert len(spaces) == 2
        owner.send_signal(signal.SIGKILL)
    assert await_true(lambda: not spaces & namespaces_in_use())
    with Lab(unused_name()) as lab:  # another lab tidies up after it
        lab.add_host("a", "10.1.0.1")
    assert traces(name, spaces) == []


def test_a_lab_that_lingers_is_ended_by_its_maker_too() -> None:
    with Lab(unused_name(), linger=True) as lab:
        lab.add_host("a", "10.1.0.1")
        spaces = spaces_of(lab)
        assert lab.alive
    assert traces(lab.name, spaces) == []


def test_the_command_line_raises_a_lab_that_stays_and_ends_it(tmp_path: Path) -> None:
    name = unused_name()

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(LAB / "lab.py"), "--name", name, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    try:
        up = command("up")
        assert up.returncode == 0 and "02:d5:00:00:00:15" in up.stdout, up
        spaces = spaces_of(Lab.attach(name))
        assert len(spaces) == 6
        assert command("status").returncode == 0
        assert command("exec", "b2", "hostname").stdout == "b2\n"
        again = command("up")
        assert again.returncode == 1 and again.stderr.count("\n") == 1 and "is up already" in again.stderr
        assert command("exec", "b2", "hostname").stdout == "b2\n", "a second 'up' must not harm the first"
        inventory = tmp_path / "inventory.yml"
        assert command("inventory", str(inventory)).returncode == 0
        ssh = [str(LAB / "ssh-to-lab"), "-o", "Port=22", "-tt", f"b1.{name}", "/bin/sh -c 'hostname; echo \"$0 x\"'"]
        assert subprocess.run(ssh, capture_output=True, text=True, check=True).stdout == "b1\n/bin/sh x\n"
    finally:
        down = command("down")
    assert down.returncode == 0 and traces(name, spaces) == []
    lost = subprocess.run(ssh, capture_output=True, text=True, check=False)
    assert lost.returncode == 255 and "has no host 'b1'" in lost.stderr
    assert command("status").returncode == 1
    assert command("down").returncode == 0


def test_ssh_never_enters_a_process_that_is_not_the_labs() -> None:
    # As after a crash: the number is given to another process now, here to this very one.
    name = unused_name()
    state = LabState(name)
    state.claim()
    try:
        (state.folder / "processes" / "b1").write_text(f"{os.getpid()} 1\n")
        ssh = [str(LAB / "ssh-to-lab"), f"b1.{name}", "echo in"]
        done = subprocess.run(ssh, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (255, "") and "is down" in done.stderr
    finally:
        assert Lab.remove(name), "and nobody ended this process either"


def test_two_labs_stand_side_by_side() -> None:
    with Lab(unused_name()) as one, Lab(unused_name()) as two:
        for lab in (one, two):
            lab.add_host("a", "10.1.0.1")
        one.add_host("b", "10.1.0.2")
        probe = ["arping", "-q", "-c1", "-w1", "-I", "eth0", "10.1.0.2"]
        assert one.run("a", probe, check=False).status == 0
        assert two.run("a", probe, check=False).status == 1
        one.down()
        assert two.run("a", ["hostname"]).stdout == "a\n"


def test_a_lab_that_someone_removed_leaves_its_successor_alone() -> None:
    first = Lab(unused_name())
    with first:
        first.add_host("a", "10.1.0.1")
        assert Lab.remove(first.name)
        with pytest.raises(LabError, match=r"'a' of the lab .* is down"):
            first.run("a", ["true"])
        with Lab(first.name) as second:
            second.add_host("a", "10.1.0.1")
            first.down()
            assert second.run("a", ["hostname"]).stdout == "a\n"
            assert Lab.attach(first.name).alive


@pytest.mark.parametrize("name", ["", "Up", "a/b", "../x", "a b", "x" * 42])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a lab"):
        Lab(name)


# -- traffic


def test_direct_server_return_by_hand(lab: Lab, by_hand: Callable[..., None]) -> None:
    by_hand()
    with lab.start_traffic(
        "client", "capture", "eth0", "--source", VIPS[0], "--protocol", "tcp", "--direction", "in"
    ) as capture:
        answers = lab.traffic("client", "connect", VIPS[0], 80, "--count", 10)
        assert (answers["ok"], answers["failed"]) == (10, 0)
        replies = capture.stop()
    macs = {lab.hosts[name].mac for name in answers["by_host"]}
    assert len(macs) > 1 and set(replies["by_source"]) == macs
    assert replies["missed"] == 0


def test_without_rules_the_vip_is_the_load_balancers_own(lab: Lab) -> None:
    answers = lab.traffic("client", "connect", VIPS[0], 80, "--count", 3)
    assert (answers["ok"], answers["errors"]) == (0, {"ECONNREFUSED": 3})


def test_held_connections_say_when_they_break(lab: Lab, by_hand: Callable[..., None]) -> None:
    by_hand("tcp", LINE_PORT)
    with lab.start_traffic(
        "client", "hold", VIPS[0], LINE_PORT, "--count", 20, "--interval", 0.02, "--timeout", 0.5
    ) as held:
        lab.run("lb", ["nft", "flush", "chain", "netdev", "by_hand", "ingress"])
        # Without the rule the LB's own stack answers with a reset; every connection notices at its next line.
        time.sleep(0.3)
        result = held.stop()
    assert (result["opened"], result["broken"], result["moved"]) == (20, 20, 0)
    assert result["errors"].keys() <= {"ECONNRESET", "closed", "timeout"}


def test_held_connections_live_where_nothing_changes(lab: Lab, by_hand: Callable[..., None]) -> None:
    by_hand("tcp", LINE_PORT)
    with lab.start_traffic("client", "hold", VIPS[0], LINE_PORT, "--count", 20, "--interval", 0.02) as held:
        time.sleep(0.3)
        result = held.stop()
    assert (result["opened"], result["broken"], result["moved"], result["errors"]) == (20, 0, 0, {})
    assert result["lines"] >= 100 and sum(result["by_host"].values()) == 20 and len(result["by_host"]) == 3


def test_datagrams_are_answered_from_the_vip_and_moves_are_seen(lab: Lab, by_hand: Callable[..., None]) -> None:
    by_hand("udp", UDP_PORT)
    answers = lab.traffic("client", "connect", VIPS[0], UDP_PORT, "--protocol", "udp", "--count", 30)
    assert answers["ok"] == 30 and len(answers["by_host"]) == 3
    with lab.start_traffic(
        "client", "hold", VIPS[0], UDP_PORT, "--protocol", "udp", "--count", 30, "--interval", 0.02
    ) as held:
        rules = lab.run("lb", ["nft", "list", "table", "netdev", "by_hand"]).stdout
        lab.run("lb", ["nft", "-f", "-"], input="flush table netdev by_hand\n" + rules.replace("seed 0x1", "seed 0x7"))
        time.sleep(0.3)
        result = held.stop()
    assert result["opened"] == 30 and 0 < result["moved"] < 30, result


def test_crafted_frames_arrive_as_they_were_made(lab: Lab) -> None:
    with lab.start_traffic(
        "b1", "capture", "eth0", "--destination", VIPS[2], "--from-mac", lab.hosts["client"].mac, "--records", 99
    ) as capture:
        arguments = ["eth0", "--to-mac", lab.hosts["b1"].mac, "--destination", VIPS[2], "--port", 9]
        sent = lab.traffic(
            "client",
            *["send", *arguments, "--source", "10.77.0.60", "--sources", 2, "--source-ports", "1000-1001"],
            *["--flags", "S,FA", "--count", 8],
        )
        assert sent["sent"] == 8
        lab.traffic(
            "client",
            *["send", *arguments, "--source", "10.77.0.60", "--protocol", "udp", "--size", 3000],
            *["--fragment-size", 1400, "--count", 3],
        )
        result = capture.stop()
    records = result["records"]
    assert [(frame["source"], frame["source_port"], frame["flags"]) for frame in records[:8]] == [
        (f"10.77.0.{host}", port, flags) for host in (60, 61) for port in (1000, 1001) for flags in ("S", "FA")
    ]
    fragments = records[8:]
    assert [(frame["fragment"], frame["more_fragments"]) for frame in fragments] == [
        (0, True),
        (1400, True),
        (2800, False),
    ]
    assert len({frame["id"] for frame in fragments}) == 1
    assert [frame.get("port") for frame in fragments] == [9, None, None]
    # Checksums: the kernel itself took the whole datagram and found nobody at port 9.
    counters = lab.run("b1", ["cat", "/proc/net/snmp"]).stdout
    udp = [line.split() for line in counters.splitlines() if line.startswith("Udp:")]
    values = dict(zip(udp[0], udp[1]))
    assert (values["InErrors"], values["InCsumErrors"]) == ("0", "0") and int(values["NoPorts"]) >= 1


def test_arp_is_answered_by_the_load_balancer_alone(lab: Lab) -> None:
    with lab.start_traffic(
        "client", "capture", "eth0", "--arp", VIPS[1], "--operation", "reply", "--direction", "in"
    ) as capture:
        lab.run("client", ["arping", "-q", "-c1", "-w1", "-I", "eth0", VIPS[1]])
        assert set(capture.stop()["by_source"]) == {lab.hosts["lb"].mac}


def test_the_sender_is_bounded(lab: Lab) -> None:
    arguments = ["client", "send", "eth0", "--to-mac", lab.hosts["b1"].mac, "--source", "10.77.0.60"]
    arguments += ["--destination", "10.77.0.21", "--port", "9"]
    for beyond in (["--count", 10**9], ["--rate", 10**9], ["--flags", "X"]):
        with pytest.raises(LabError, match="traffic: "):
            lab.traffic(*arguments, *beyond)

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: that it is a network, that nothing of it is left, and that DSR works in it."""

from __future__ import annotations

import errno
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
from lab.standard import (
    ADDRESSES,
    ADDRESSES6,
    HTTP_PORTS,
    LINE_PORT,
    UDP_PORT,
    VIPS,
    VIPS6,
    backends_of,
    build_routed,
    hold_vips,
    serve,
)
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
        for address in (lab.hosts[backend].address, lab.hosts[backend].address6):
            assert lab.traffic("client", "connect", address, HTTP_PORTS[1])["by_host"] == {backend: 1}
    assert (lab.hosts["b3"].address, lab.hosts["b3"].address6) == ("10.77.0.23", "fd00:77::23")


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


def test_ipv6_addresses_are_there_at_once_and_no_host_takes_a_vip_for_its_own(lab: Lab) -> None:
    for host, interface in (("lb", "eth0"), ("b1", "lo")):
        held = json.loads(lab.run(host, ["ip", "-json", "-6", "address", "show", interface]).stdout)[0]["addr_info"]
        vips = [entry for entry in held if entry["local"] in VIPS6]
        assert len(vips) == len(VIPS6) and not any("tentative" in entry for entry in vips)
    # The addresses begin with the same 119 bits, more than any other that the host has.
    route = lab.run("lb", ["ip", "-6", "route", "get", "fd00:77::110"]).stdout
    assert f"src {ADDRESSES6['lb']} " in route


@pytest.mark.parametrize("vip", [VIPS[0], VIPS6[0]])
def test_a_smaller_path_mtu_stalls_a_download_until_its_sender_is_told(bare_lab: Lab, vip: str) -> None:
    build_routed(bare_lab, backends=1)
    hold_vips(bare_lab)
    serve(bare_lab)
    family, errors = ("ip6", "icmpv6 type packet-too-big") if ":" in vip else ("ip", "icmp code frag-needed")
    lb, b1 = (bare_lab.hosts[name].mac for name in ("lb", "b1"))
    to_b1 = f"ether saddr set {lb} ether daddr set {b1} fwd to eth0"
    rules = "table netdev by_hand { chain ingress { type filter hook ingress device eth0 priority 0; }; }\n"
    rules += f"add rule netdev by_hand ingress {family} daddr {vip} tcp dport 80 {to_b1}\n"
    bare_lab.run("lb", ["nft", "-f", "-"], input=rules)

    def download(size: int) -> dict[str, int]:
        result = bare_lab.traffic("client", "connect", vip, 80, "--path", f"/bytes/{size}", "--timeout", 4)
        return {"ok": result["ok"], **result["errors"]}

    assert download(1000) == {"ok": 1}
    with bare_lab.start_traffic("lb", "capture", "eth0", "--quoted-source", vip, "--records", 1) as capture:
        assert download(100_000) == {"ok": 0, "timeout": 1}
        seen = capture.stop()
    assert seen["by_source"].keys() == {bare_lab.hosts["router"].mac}
    (record,) = seen["records"]
    assert (record["mtu"], record["quoted_source_port"], record["destination"]) == (1400, 80, vip)
    bare_lab.run(
        "lb",
        ["nft", "add", "rule", "netdev", "by_hand", "ingress", family, "daddr", vip, *errors.split(), *to_b1.split()],
    )
    assert download(100_000) == {"ok": 1}


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


@pytest.mark.parametrize("protocol, port", [("tcp", LINE_PORT), ("udp", UDP_PORT)])
@pytest.mark.parametrize("first, own", [(30000, ()), (31000, ("--source", ADDRESSES6["client"]))])
def test_connections_of_ipv6_are_held(lab: Lab, protocol: str, port: int, first: int, own: tuple[str, ...]) -> None:
    arguments = [ADDRESSES6["b1"], port, "--protocol", protocol, "--count", 5, "--interval", 0.02, *own]
    with (
        lab.start_traffic(
            "b1", "capture", "eth0", "--protocol", protocol, "--direction", "in", "--records", 99
        ) as seen,
        lab.start_traffic("client", "hold", *arguments, "--source-ports", f"{first}-{first + 4}") as held,
    ):
        time.sleep(0.2)
        result = held.stop()
        ports = {frame["source_port"] for frame in seen.stop()["records"]}
    assert (result["opened"], result["broken"], result["lost"], result["errors"]) == (5, 0, 0, {})
    assert result["by_host"] == {"b1": 5} and result["lines"] >= 20
    assert ports == set(range(first, first + 5))


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


@pytest.mark.parametrize("address", [ADDRESSES["b1"], ADDRESSES6["b1"]])
def test_datagrams_of_any_size_go_and_are_answered_whole(lab: Lab, address: str) -> None:
    def ask(*options: object) -> dict[str, object]:
        return lab.traffic("client", "connect", address, UDP_PORT, "--protocol", "udp", "--count", 20, *options)

    with lab.start_traffic("client", "capture", "eth0", "--source", address, "--fragments", "any") as capture:
        assert ask("--size", 60_000, "--reply-size", 1)["ok"] == 20
        assert capture.stop()["frames"] == 0
    with lab.start_traffic("client", "capture", "eth0", "--destination", address, "--fragments", "any") as capture:
        answers = ask("--size", 40, "--reply-size", 60_000)
        assert (answers["ok"], answers["bytes"]) == (20, 20 * (60_000 + len("b1 ")))
        assert capture.stop()["frames"] == 0
    assert ask("--size", 60_000, "--concurrency", 5)["ok"] == 20


def both_families(text: str) -> list[object]:
    """The test of crafted frames in IPv4 and in IPv6."""
    return [pytest.param("10.77.0.60", VIPS[2], id=f"{text}4"), pytest.param("fd00:77::60", VIPS6[2], id=f"{text}6")]


def counters(lab: Lab, host: str, version: int) -> dict[str, int]:
    """The kernel's counters of UDP, in the names of IPv4."""
    lines = lab.read(host, "/proc/net/snmp6" if version == 6 else "/proc/net/snmp").splitlines()
    if version == 6:
        found = (line.split() for line in lines if line.startswith("Udp6"))
        return {name[4:]: int(value) for name, value in found}
    names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    return dict(zip(names, map(int, values)))


class Crafted:
    """Frames sent from the client to b1, and what b1 saw of them."""

    def __init__(self, lab: Lab, source: str, vip: str) -> None:
        self._lab = lab
        self._arguments = ["eth0", "--to-mac", lab.hosts["b1"].mac, "--source", source, "--destination", vip]
        self._seen = ["eth0", "--from-mac", lab.hosts["client"].mac, "--destination", vip, "--records", 99]

    def __call__(self, *options: object, filters: tuple[object, ...] = ()) -> list[dict[str, object]]:
        with self._lab.start_traffic("b1", "capture", *self._seen, *filters) as capture:
            self._lab.traffic("client", "send", *self._arguments, *options)
            records: list[dict[str, object]] = capture.stop()["records"]
        return records


@pytest.fixture
def crafted(lab: Lab, source: str, vip: str) -> Crafted:
    return Crafted(lab, source, vip)


@pytest.mark.parametrize("source, vip", both_families("tcp"))
def test_crafted_segments_arrive_as_they_were_made(crafted: Crafted, source: str, vip: str) -> None:
    options = ["--port", 9, "--sources", 2, "--source-ports", "1000-1001", "--flags", "S,FA", "--count", 8]
    records = crafted(*options)
    assert [(frame["source"], frame["source_port"], frame["flags"]) for frame in records] == [
        (f"{source[:-2]}{host}", port, flags) for host in (60, 61) for port in (1000, 1001) for flags in ("S", "FA")
    ]


@pytest.mark.parametrize("source, vip", both_families("fragments"))
def test_crafted_fragments_come_in_the_order_asked_and_are_whole(
    lab: Lab, crafted: Crafted, source: str, vip: str
) -> None:
    before = counters(lab, "b1", 6 if ":" in vip else 4)
    options = ["--port", 9, "--protocol", "udp", "--size", 3000, "--fragment-size", 1400]
    fragments = crafted(*options, "--count", 3)
    assert [(frame["fragment"], frame["more_fragments"]) for frame in fragments] == [
        (0, True), (1400, True), (2800, False),
    ]  # fmt: skip
    assert len({frame["id"] for frame in fragments}) == 1
    assert [frame.get("port") for frame in fragments] == [9, None, None]
    turned = crafted(*options, "--count", 3, "--fragment-order", "2,0,1", "--id", 4711)
    assert [(frame["id"], frame["fragment"]) for frame in turned] == [(4711, 2800), (4711, 0), (4711, 1400)]
    later = crafted(*options, "--count", 3, "--fragment-order", "0,1,2", filters=("--fragments", "later"))
    assert [frame["fragment"] for frame in later] == [1400, 2800]
    # Checksums: the kernel itself took the whole datagrams and found nobody at port 9.
    after = counters(lab, "b1", 6 if ":" in vip else 4)
    grown = {name: after[name] - before[name] for name in ("NoPorts", "InErrors", "InCsumErrors")}
    assert grown == {"NoPorts": 3, "InErrors": 0, "InCsumErrors": 0}


@pytest.mark.parametrize("source, vip", both_families("sctp"))
def test_crafted_chunks_and_other_protocols(crafted: Crafted, source: str, vip: str) -> None:
    chunks = ["init", "data", "abort", "shutdown-complete"]
    records = crafted("--port", 9, "--protocol", "sctp", "--chunks", ",".join(chunks), "--count", 4)
    assert [(frame["protocol"], frame["chunk"], frame["port"]) for frame in records] == [
        ("sctp", chunk, 9) for chunk in chunks
    ]
    (other,) = crafted("--protocol", 47, "--size", 100, filters=("--protocol", 47))
    assert other["length"] == 14 + (40 if ":" in vip else 20) + 100


@pytest.mark.parametrize("nobody", ["00:00:00:00:00:00", "01:00:5e:00:00:01"])
def test_frames_that_no_switch_passes_on_are_put_on_the_cable(lab: Lab, nobody: str) -> None:
    with lab.start_traffic("b1", "capture", "eth0", "--from-mac", nobody) as capture:
        options = ["--to-mac", lab.hosts["b1"].mac, "--source-mac", nobody, "--source", "10.77.0.60"]
        options += ["--destination", VIPS[2], "--port", 9]
        lab.traffic("client", "send", "eth0", *options)
        lab.traffic("switch", "send", lab.hosts["b1"].nics["eth0"].port, *options)
        assert capture.stop()["frames"] == 1


@pytest.mark.parametrize("source, vip", both_families("icmp"))
def test_crafted_errors_quote_a_flow(lab: Lab, crafted: Crafted, source: str, vip: str) -> None:
    version = 6 if ":" in vip else 4
    kinds = {
        4: {"frag-needed": (3, 4), "unreachable": (3, 1), "time-exceeded": (11, 0), "param-problem": (12, 0)},
        6: {"packet-too-big": (2, 0), "unreachable": (1, 3), "time-exceeded": (3, 0), "param-problem": (4, 0)},
    }[version]
    flow = ["--quoted-source", vip, "--quoted-source-port", 80, "--quoted-destination", source]
    flow += ["--quoted-destination-port", 4711]
    wanted = ("--quoted-destination-port", 4711, "--quoted-source", vip)
    for kind, (number, code) in kinds.items():
        for protocol in ("tcp", "udp", "sctp"):
            (frame,) = crafted("--icmp-error", kind, *flow, "--quoted-protocol", protocol, filters=wanted)
            quoted = [frame[f"quoted_{name}"] for name in ("source", "destination", "protocol", "source_port")]
            assert quoted == [vip, source, protocol, 80]
            assert (frame["type"], frame["code"]) == (number, code)
            assert frame.get("mtu") == (1400 if kind in ("frag-needed", "packet-too-big") else None)
    (frame,) = crafted("--icmp-error", "unreachable", *flow, "--quoted-protocol", 47, "--code", 2)
    assert (frame["quoted_protocol"], frame["code"]) == ("47", 2)


def test_a_kernel_believes_crafted_errors(lab: Lab) -> None:
    """That is, their checksums and quotations are right: a UDP socket of b1 hears that its peer is unreachable."""
    script = """
import select, socket, sys
one = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
one.bind((sys.argv[1], 5555))
one.connect((sys.argv[2], 4711))
print("READY", flush=True)
select.select([one], [], [], 5)
print(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
"""
    for vip, peer, code in ((VIPS[2], ADDRESSES["b2"], 3), (VIPS6[2], ADDRESSES6["b2"], 4)):
        with lab.popen("b1", ["/usr/bin/python3", "-c", script, vip, peer]) as listener:
            listener.wait_for("READY")
            flow = ["--quoted-source", vip, "--quoted-source-port", 5555, "--quoted-destination", peer]
            flow += ["--quoted-destination-port", 4711, "--quoted-protocol", "udp", "--code", code]
            sent = ["eth0", "--to-mac", lab.hosts["b1"].mac, "--source", peer, "--destination", vip]
            lab.traffic("client", "send", *sent, "--icmp-error", "unreachable", *flow)
            assert listener.finish().stdout.split() == ["READY", str(errno.ECONNREFUSED)]


def test_arp_is_answered_by_the_load_balancer_alone(lab: Lab) -> None:
    with lab.start_traffic(
        "client", "capture", "eth0", "--arp", VIPS[1], "--operation", "reply", "--direction", "in"
    ) as capture:
        lab.run("client", ["arping", "-q", "-c1", "-w1", "-I", "eth0", VIPS[1]])
        assert set(capture.stop()["by_source"]) == {lab.hosts["lb"].mac}


def test_the_sender_is_bounded_and_says_what_is_wrong(lab: Lab) -> None:
    arguments = ["client", "send", "eth0", "--to-mac", lab.hosts["b1"].mac, "--source", "10.77.0.60"]
    arguments += ["--destination", "10.77.0.21", "--port", "9"]
    for beyond in (
        ["--count", 10**9],
        ["--rate", 10**9],
        ["--flags", "X"],
        ["--chunks", "x"],
        ["--source", "fd00::1"],
        ["--icmp-error", "unreachable"],
    ):
        with pytest.raises(LabError, match="traffic: "):
            lab.traffic(*arguments, *beyond)

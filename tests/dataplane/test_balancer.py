# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer's rules as a whole: drift, files, figures, and frames that are not to be balanced."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

import pytest
from balancer import ADDRESSES, HTTP, OTHER, UDP, WEB, Balancer, clean, pool
from lab import Lab

TABLE = "nft_dsr"


def serve_two(balancer: Balancer, check: bool = False, diff: bool = False) -> dict[str, Any]:
    vips = [
        {"name": "web", "address": WEB, "ports": ["80", "7000"], "backends": pool(), "scheduler": "round_robin"},
        {"name": "dns", "address": OTHER, "protocol": "udp", "ports": ["5300-5310"], "backends": pool()},
    ]  # fmt: skip
    result: dict[str, Any] = balancer.module.ok("lb", "nft_dsr_vips", {"vips": vips, "purge": True}, check, diff)
    return result


DRIFT = {
    "everything flushed": "flush ruleset",
    "the table deleted": f"delete table netdev {TABLE}",
    "a chain flushed": f"flush chain netdev {TABLE} vip_web",
    "a rule added": f"add rule netdev {TABLE} pool_dns counter accept",
    "a rule put first": f"insert rule netdev {TABLE} ingress_eth0 counter",
    "a chain added": f"add chain netdev {TABLE} strange",
    "a base chain added": f'add chain netdev {TABLE} strange {{ type filter hook ingress device "eth0" priority -5; }}',
    "a map added": f"add map netdev {TABLE} strange {{ type mark : verdict; elements = {{ 1 : goto vip_web }} }}",
    "a set added": f"add set netdev {TABLE} strange {{ type mark; elements = {{ 1 }} }}",
    "a counter added": f"add counter netdev {TABLE} strange",
    "a service deleted": f"delete element netdev {TABLE} services_eth0 {{ {WEB} . tcp . 80 }}",
    "a range deleted": f"flush map netdev {TABLE} ranges_eth0",
    "a backend deleted": f"delete element netdev {TABLE} backends_web {{ 0x0a4d0015 }}",
    "a backend's MAC changed": f"delete element netdev {TABLE} backends_web {{ 0x0a4d0015 }}\n"
    f"add element netdev {TABLE} backends_web {{ 0x0a4d0015 : 0x02d50000001602d500000002 }}",
    "a slot moved": f"delete element netdev {TABLE} slots_dns {{ 7 }}\n"
    f"add element netdev {TABLE} slots_dns {{ 7 : 0x01020304 }}",
    "a slot handed out": f"add element netdev {TABLE} poolhandout_dns {{ {OTHER} . 7 : 0x0a4d0015 }}",
    "a pool's backend deleted": f"delete element netdev {TABLE} poolbackends_dns {{ {OTHER} . 0x0a4d0015 }}",
    "the turns emptied": f"flush map netdev {TABLE} turns_web",
    "the guard emptied": f"flush set netdev {TABLE} guard_ip",
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("state", ["up", "drain"])
@pytest.mark.parametrize("scheduler", ["source_hash", "connection_hash", "round_robin"])
def test_the_listing_can_be_loaded(balancer: Balancer, scheduler: str, state: str, version: int) -> None:
    """As people do who keep a copy of all rules: nft prints in its own words what it was told in ours."""
    balancer.serve(scheduler, ports=(HTTP,), version=version, backends=pool(version, b1={"state": state}), others=[
        {"name": "dns", "address": OTHER, "protocol": "udp", "ports": ["5300-5310"], "backends": pool()}
    ])  # fmt: skip
    listed = balancer.nft("list", "ruleset")
    balancer.nft("-f", "-", text=f"flush ruleset\n{listed}")
    assert balancer.connect(HTTP, 30)["ok"] == 30


def words(balancer: Balancer) -> list[str]:
    """What the ruleset says, in whatever order the kernel lists its elements and objects."""
    return sorted(balancer.nft("-s", "list", "ruleset").replace(",", "").split())


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_seen_and_repaired(balancer: Balancer, what: str) -> None:
    serve_two(balancer)
    wanted = balancer.nft("-s", "list", "ruleset")
    balancer.nft("-f", "-", text=DRIFT[what] + "\n")
    drifted = balancer.nft("-s", "list", "ruleset")
    assert drifted != wanted

    seen = serve_two(balancer, check=True, diff=True)
    assert seen["changed"] and seen["diff"], seen
    assert balancer.nft("-s", "list", "ruleset") == drifted  # check mode touches nothing
    sync = balancer.module.ok("lb", "nft_dsr_vip_info")
    assert not all(vip["in_sync"] for vip in sync["vips"]), sync

    repaired = serve_two(balancer)
    assert repaired["changed"] and repaired["commands"] == seen["commands"]
    assert not serve_two(balancer)["changed"]
    assert all(vip["in_sync"] for vip in balancer.module.ok("lb", "nft_dsr_vip_info")["vips"])
    assert words(balancer) == sorted(wanted.replace(",", "").split())
    assert balancer.connect(HTTP, 30)["ok"] == 30


@pytest.mark.parametrize("file", ["vips.json", "ruleset.nft"])
def test_files_are_written_again(balancer: Balancer, file: str) -> None:
    serve_two(balancer)
    path = f"/etc/nft-dsr/{file}"
    text = balancer.lab.read("lb", path)
    if file == "ruleset.nft":
        balancer.lab.write("lb", path, text + "# by hand\n")
        assert serve_two(balancer, check=True)["changed"]
        assert balancer.lab.read("lb", path) == text + "# by hand\n"
    else:
        balancer.lab.run("lb", ["rm", path])
    result = serve_two(balancer)
    assert result["changed"] and not result["commands"]
    assert balancer.lab.read("lb", path) == text
    assert not serve_two(balancer)["changed"]


def test_the_file_for_the_boot_serves(balancer: Balancer) -> None:
    serve_two(balancer)
    for before in ("flush ruleset", f"add table netdev {TABLE}"):
        balancer.nft("-f", "-", text=before)
        balancer.nft("-f", "/etc/nft-dsr/ruleset.nft")
        assert balancer.connect(HTTP, 30)["ok"] == 30
        assert not serve_two(balancer)["changed"]


THEIRS = """
table netdev theirs {
    chain ingress {
        type filter hook ingress device "eth0" priority 10; policy accept;
        counter
    }
}
table inet theirs {
    chain input {
        type filter hook input priority 0; policy accept;
        counter
    }
}
"""


def test_tables_of_others_are_left_alone(balancer: Balancer) -> None:
    balancer.nft("-f", "-", text=THEIRS)
    before = balancer.nft("-a", "-s", "list", "ruleset")
    serve_two(balancer)
    balancer.module.ok("lb", "nft_dsr_vips", {"vips": [], "purge": True})
    assert balancer.nft("-a", "-s", "list", "ruleset") == before


def test_a_nic_made_anew(fresh_lab: Lab, balancer: Balancer) -> None:
    serve_two(balancer)
    fresh_lab.recreate_nic("lb")
    fresh_lab.ip("lb", f"address replace {WEB}/32 dev eth0")
    assert serve_two(balancer, check=True)["changed"]
    assert serve_two(balancer)["changed"]
    assert not serve_two(balancer)["changed"]
    assert balancer.connect(HTTP, 30)["ok"] == 30


def test_a_backends_new_mac_is_learnt(fresh_lab: Lab, balancer: Balancer) -> None:
    serve_two(balancer)
    fresh_lab.ip("b1", "link set eth0 address 02:d5:00:00:0b:01")
    result = serve_two(balancer)
    assert result["changed"]
    assert {backend["mac"] for backend in result["vips"][1]["backends"]} >= {"02:d5:00:00:0b:01"}
    by_host = balancer.connect(HTTP, 30)["by_host"]
    assert by_host == {"b1": 10, "b2": 10, "b3": 10}


def test_counters_survive_changes(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    balancer.connect(HTTP, 30)
    before = balancer.info()
    assert before["packets"] == sum(backend["packets"] for backend in before["backends"]) > 100
    balancer.serve("round_robin", backends=pool(b1={"state": "drain"}), others=[
        {"name": "more", "address": OTHER, "ports": ["80"], "backends": pool()}
    ])  # fmt: skip
    after = balancer.info()
    for old, new in zip(before["backends"], after["backends"]):
        assert (new["packets"], new["bytes"]) == (old["packets"], old["bytes"])
    assert after["packets"] == before["packets"]


def test_one_vip_at_a_time(balancer: Balancer) -> None:
    one = {"name": "web", "address": WEB, "ports": ["80"], "scheduler": "round_robin", "backends": pool()}
    two = {"name": "api", "address": OTHER, "ports": ["8080"], "scheduler": "round_robin", "backends": pool()}
    assert balancer.module.ok("lb", "nft_dsr_vip", one)["changed"]
    assert balancer.module.ok("lb", "nft_dsr_vip", two, check=True)["changed"]
    result = balancer.module.ok("lb", "nft_dsr_vip", two)
    assert result["vip"]["interface"] == "eth0"
    # The two share the tables of slots and turns; nothing else of the first is touched.
    own = [command for command in result["commands"] if "_web" in re.sub("@(slots|turns)_web", "", command)]
    assert not own, own
    assert not balancer.module.ok("lb", "nft_dsr_vip", one)["changed"]
    assert balancer.connect(HTTP, 30)["ok"] == 30
    gone = {"name": "web", "state": "absent"}
    result = balancer.module.ok("lb", "nft_dsr_vip", gone)
    assert result["vip"] == {}
    # Nor is the second touched when the first goes, whose slot table it goes on using.
    assert not any("_api" in command for command in result["commands"]), result["commands"]
    assert not balancer.module.ok("lb", "nft_dsr_vip", gone)["changed"]
    assert [vip["name"] for vip in balancer.module.ok("lb", "nft_dsr_vip_info")["vips"]] == ["api"]
    assert balancer.module.ok("lb", "nft_dsr_vip", {"name": "api", "state": "absent"})["ruleset"] == ""
    assert TABLE not in balancer.nft("list", "ruleset")


def test_an_operators_drain(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    held = balancer.hold(30)
    drain: Callable[..., dict[str, Any]] = lambda **more: balancer.module.ok(  # noqa: E731
        "lb", "nft_dsr_drain", {"backend": "b1", **more}
    )
    assert drain()["vips"] == ["web"]
    assert not drain()["changed"]
    assert "b1" not in balancer.connect(HTTP, 60)["by_host"]
    # A run with the configuration that says "up" keeps it, changes nothing, and says so.
    balancer.serve("round_robin")
    again = balancer.module.ok("lb", "nft_dsr_vips", {"vips": [{
        "name": "web", "address": WEB, "protocol": "tcp", "ports": ["80", "7000"], "scheduler": "round_robin",
        "backends": pool(),
    }]})  # fmt: skip
    assert not again["changed"] and "10.77.0.21" in str(again["warnings"]), again
    assert {backend["name"]: backend["state"] for backend in balancer.info()["backends"]}["b1"] == "drain"
    assert drain(state="restored")["changed"] and not drain(state="restored")["changed"]
    assert balancer.connect(HTTP, 60)["by_host"]["b1"] > 10
    clean(held.stop())
    assert "not a backend of any VIP" in balancer.module.fails("lb", "nft_dsr_drain", {"backend": "10.77.0.99"})
    assert "no VIP 'nope'" in balancer.module.fails("lb", "nft_dsr_drain", {"backend": "b1", "vip": "nope"})


def test_a_backend_that_is_silent_keeps_its_mac(fresh_lab: Lab, balancer: Balancer) -> None:
    serve_two(balancer)
    fresh_lab.unplug("b3")
    result = serve_two(balancer)
    assert not result["changed"] and "10.77.0.23" in str(result["warnings"]), result
    balancer.module.ok("lb", "nft_dsr_vips", {"vips": [], "purge": True})
    vip = {"name": "web", "address": WEB, "ports": ["80"], "backends": pool()}
    assert "10.77.0.23 does not answer ARP on eth0" in balancer.module.fails("lb", "nft_dsr_vip", vip)
    assert TABLE not in balancer.nft("list", "ruleset")
    assert balancer.module.ok("lb", "nft_dsr_vip", {**vip, "backends": pool(b3={"state": "down"})})["changed"]
    result = balancer.module.ok("lb", "nft_dsr_vip", {**vip, "require_mac": False, "scheduler": "round_robin"})
    assert "left out of service" in str(result["warnings"])
    assert set(balancer.connect(HTTP, 30)["by_host"]) == {"b1", "b2"}
    fresh_lab.plug("b3")
    assert balancer.module.ok("lb", "nft_dsr_vip", {**vip, "require_mac": False, "scheduler": "round_robin"})["changed"]
    assert set(balancer.connect(HTTP, 30)["by_host"]) == {"b1", "b2", "b3"}


def test_the_load_balancer_answers_echo_and_its_own_services(balancer: Balancer) -> None:
    serve_two(balancer)
    balancer.lab.run("client", ["ping", "-c", "2", "-W", "1", WEB])
    assert balancer.connect(9, 1)["errors"] == {"ECONNREFUSED": 1}


def test_a_forwarding_backend_makes_no_storm(fresh_lab: Lab, balancer: Balancer) -> None:
    """Any host with containers forwards. Without the VIP on lo it sends the packet back to the load balancer."""
    balancer.serve("source_hash", "udp", (UDP,))
    for host in ADDRESSES:
        fresh_lab.run(host, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        fresh_lab.ip(host, f"address delete {WEB}/32 dev lo")
    out = balancer.frames_to("--destination", WEB)
    fresh_lab.traffic(
        "client", "send", "eth0", "--to-mac", fresh_lab.hosts["lb"].mac, "--source", "10.77.0.10",
        "--destination", WEB, "--protocol", "udp", "--port", UDP, "--source-ports", 42000, "--count", 300,
    )  # fmt: skip
    assert out.stop()["frames"] == 300


def test_a_flooded_frame_goes_nowhere(bare_lab: Lab, lab_module: Any) -> None:
    """Two load balancers, a backend that no switch knows, one packet: forwarded once."""
    from lab.standard import build, hold_vips

    build(bare_lab, backends=1, load_balancers=2)
    hold_vips(bare_lab, load_balancers=("lb", "lb2"))
    vip = {
        "name": "web", "address": WEB, "protocol": "udp", "ports": [str(UDP)],
        "backends": [{"address": ADDRESSES["b1"], "mac": "02:d5:00:00:00:99"}],
    }  # fmt: skip
    for host in ("lb", "lb2"):
        bare_lab.run(host, ["ip", "link", "set", "eth0", "promisc", "on"])
        lab_module.ok(host, "nft_dsr_vip", vip)
    sent = [bare_lab.start_traffic(host, "capture", "eth0", "--direction", "out", "--destination", WEB)
            for host in ("lb", "lb2")]  # fmt: skip
    seen = bare_lab.start_traffic("lb2", "capture", "eth0", "--promiscuous", "--direction", "in", "--destination", WEB)
    bare_lab.traffic(
        "client", "send", "eth0", "--to-mac", bare_lab.hosts["lb"].mac, "--source", "10.77.0.10",
        "--destination", WEB, "--protocol", "udp", "--port", UDP, "--source-ports", 42000, "--count", 1,
    )  # fmt: skip
    # What the second one sent in answer to it would have come before its answer to this.
    bare_lab.traffic("client", "connect", "10.77.0.3", 9)
    assert seen.stop()["frames"] >= 1  # the flooded frame did come by the second one
    assert [capture.stop()["frames"] for capture in sent] == [1, 0]


def test_two_load_balancers_agree(bare_lab: Lab, lab_module: Any) -> None:
    from lab.standard import build

    build(bare_lab, backends=3, load_balancers=2)
    tables = []
    for host, order in (("lb", 1), ("lb2", -1)):
        lab_module.ok(
            host, "nft_dsr_vip", {"name": "web", "address": WEB, "ports": ["80"], "backends": pool()[::order]}
        )
        listed = bare_lab.run(host, ["nft", "-j", "list", "map", "netdev", TABLE, "slots_web"]).stdout
        tables.append(sorted(map(tuple, json.loads(listed)["nftables"][1]["map"]["elem"])))
    assert tables[0] == tables[1]

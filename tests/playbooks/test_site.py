# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`site` and `remove`: both ends brought to dsr_vips, and back."""

from __future__ import annotations

import json

from .conftest import Site

API = {"name": "api", "address": "10.77.0.101", "ports": ["7000"], "scheduler": "round_robin"}
DNS = {"name": "dns", "address": "10.77.0.102", "protocol": "udp", "ports": ["5300"],
       "backends": [{"address": "10.77.0.21"}, {"address": "10.77.0.22"}]}  # fmt: skip


def test_from_nothing_and_back(site: Site) -> None:
    site.variables["dsr_vips"].append(DNS)
    before = site.traces()

    check = site.ok("site", "--check", "--diff")
    assert "+web: 10.77.0.100 tcp 80 source_hash" in check.output
    assert "+10.77.0.100/32 dev lo" in check.output
    assert site.traces() == before

    first = site.ok("site")
    assert set(first.changed) == {"lb", "b1", "b2", "b3", "client"}
    assert first.changed["client"] == 0
    assert all(first.changed[host] for host in ("lb", "b1", "b2", "b3"))
    assert "systemd is not PID 1 on lb: nft-dsr.service is installed but neither enabled nor started" in first.text
    assert "client: the VIP web (10.77.0.100 tcp 80): 30 connections answered directly" in first.text
    assert site.addresses("lb", "eth0") == {"10.77.0.100", "10.77.0.102"}
    assert site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.102"}
    assert site.addresses("b3", "lo") == {"10.77.0.100"}  # it is in no pool of dns
    assert site.served()["errors"] == {}
    assert site.lab.read("lb", "/etc/systemd/system/nft-dsr.service").count("/etc/nft-dsr/ruleset.nft") == 2

    state = site.traces()
    second = site.ok("site", "--diff")
    assert set(second.changed.values()) == {0}
    assert site.traces() == state

    assert all(site.ok("remove", "--check").changed[host] for host in ("lb", "b1", "b2", "b3"))
    assert site.traces() == state
    removed = site.ok("remove")
    assert all(removed.changed[host] for host in ("lb", "b1", "b2", "b3"))
    assert site.traces() == before
    assert set(site.ok("remove").changed.values()) == {0}


def test_check_mode_on_a_host_without_nft(site: Site) -> None:
    site.lab.run("lb", ["rm", "/usr/sbin/nft"])
    before = site.traces()
    assert "nft or ip is not installed on lb yet" in site.ok("site", "--check", "--diff").text
    refused = site.fails("site", load_balancer_manage_packages=False)
    assert "nft or ip is not installed on lb: install nftables and iproute2, or let the role do it" in refused.text
    assert site.traces() == before


def test_vips_come_and_go_without_a_lost_connection(site: Site) -> None:
    site.variables["dsr_verify"] = False
    kept = {**API, "name": "kept", "address": "10.77.0.100"}
    site.variables["dsr_vips"] = [kept]
    site.ok("site")
    lab = site.lab
    with (
        lab.start_traffic("client", "hold", "10.77.0.100", 7000, "--count", 20) as held,
        # What the load balancer's own stack says for a VIP: never a word, as its address is there only with its rules.
        lab.start_traffic(
            "lb", "capture", "eth0", "--direction", "out", "--protocol", "tcp", "--source", "10.77.0.101"
        ) as answers,
        lab.start_traffic(
            "client", "connect", "10.77.0.101", 8080, "--count", 0, "--timeout", 0.5, "--interval", 0.01
        ) as comers,
    ):
        site.variables["dsr_vips"] = [kept, {**API, "ports": ["8080"]}]
        site.ok("site")
        assert site.served("10.77.0.101", 8080)["errors"] == {}

        site.variables["dsr_vips"] = [kept, DNS]
        plan = site.ok("site", "--check", "--diff")
        assert "-10.77.0.101/32 dev lo" in plan.output
        assert "-api: 10.77.0.101" in plan.output
        assert site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.101"}
        play = site.ok("site")
        told, came, result = answers.stop(), comers.stop(), held.stop()
    assert all(play.changed[host] for host in ("lb", "b1", "b2", "b3"))
    assert (result["opened"], result["broken"], result["moved"]) == (20, 0, 0)
    assert came["ok"] > 0
    assert told["frames"] == 0
    # Both ends have let go of one and taken on the other.
    assert set(site.vips()) == {"kept", "dns"}
    assert site.addresses("lb", "eth0") == {"10.77.0.100", "10.77.0.102"}
    assert site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.102"}
    assert site.addresses("b3", "lo") == {"10.77.0.100"}


def test_an_empty_list_removes_everything_only_if_that_is_meant(site: Site) -> None:
    before = site.traces()
    site.ok("site", dsr_verify=False)
    state = site.traces()
    site.variables["dsr_vips"] = []
    assert "dsr_vips: is an empty list" in site.fails("site", dsr_allow_empty="").text
    assert site.traces() == state
    site.ok("site", dsr_allow_empty="true", dsr_verify="")  # as a survey gives them
    assert site.addresses("lb", "eth0") == set()
    assert site.vips() == {}
    backends = ("b1", "b2", "b3")
    assert {host: site.traces()[host] for host in backends} == {host: before[host] for host in backends}


def test_nothing_is_purged_that_is_not_to_be(site: Site) -> None:
    site.variables.update(dsr_verify=False, load_balancer_purge=False, backend_purge=False)
    site.ok("site")
    site.variables["dsr_vips"] = [API]
    assert "-10.77.0.100/32" not in site.ok("site", "--check", "--diff").output
    site.ok("site")
    assert set(site.vips()) == {"web", "api"}
    assert site.addresses("lb", "eth0") == site.addresses("b1", "lo") == {"10.77.0.100", "10.77.0.101"}


def test_addresses_are_left_to_another_owner(site: Site) -> None:
    site.variables["dsr_verify"] = False
    site.ok("site")
    site.variables["load_balancer_manage_address"] = False
    site.ok("site")
    assert site.addresses("lb", "eth0") == set()  # what the role had put there
    site.lab.ip("lb", "address add 10.77.0.100/32 dev eth0")
    assert set(site.ok("site").changed.values()) == {0}
    assert site.addresses("lb", "eth0") == {"10.77.0.100"}


def test_the_vips_change_their_nic(site: Site) -> None:
    site.variables["dsr_verify"] = False
    site.lab.add_nic("lb", "eth1", "10.77.0.3")
    site.ok("site")
    assert site.addresses("lb", "eth0") == {"10.77.0.100"}
    site.host_variables["lb"] = {"dsr_interface": "eth1"}
    site.ok("site")
    assert site.addresses("lb", "eth0") == set()
    assert site.addresses("lb", "eth1") == {"10.77.0.100"}
    assert json.loads(site.lab.read("lb", "/etc/nft-dsr/vips.json"))["vips"][0]["resolved"]["interface"] == "eth1"
    assert set(site.ok("site").changed.values()) == {0}

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator does with a site that is up: drain, restore, status, verify."""

from __future__ import annotations

from .conftest import Site

API = {"name": "api", "address": "10.77.0.101", "ports": ["8080"], "scheduler": "round_robin"}


def test_drain_and_restore(site: Site) -> None:
    site.variables["dsr_verify"] = False
    site.variables["dsr_vips"].append(API)
    site.ok("site")
    state = site.traces()

    for wrong, message in (
        ({"dsr_backend": ""}, "Name the backend"),
        ({"dsr_backend": "b9"}, "'b9' is not a backend of any VIP; there are: 10.77.0.21 (b1), 10.77.0.22 (b2)"),
    ):
        assert message in site.fails("drain", **wrong).text
    assert site.ok("drain", "--check", dsr_backend="b2").changed == {"lb": 1}
    assert site.traces() == state

    drained = site.ok("drain", dsr_backend="b2", dsr_vip="")  # as a survey gives what was left open
    assert "b2 keeps the connections that it has and gets no new ones on web, api" in drained.text.replace(
        "api, web", "web, api"
    )
    assert site.ok("drain", dsr_backend="10.77.0.22").changed == {"lb": 0}
    assert set(site.served("10.77.0.101", 8080, 30)["by_host"]) == {"b1", "b3"}

    # A run keeps it, and says so.
    play = site.ok("site")
    assert set(play.changed.values()) == {0}
    assert "10.77.0.22 of every VIP is drained by an operator" in play.text
    status = site.ok("status")
    assert "b2 (10.77.0.22)                     drain" in status.output
    assert set(status.changed.values()) == {0}
    lines = [line for line in status.output.splitlines() if "10.77.0." in line]
    assert len(lines) == 8 and max(map(len, lines)) <= 100

    assert site.ok("restore", dsr_backend="b2").changed == {"lb": 1}
    assert set(site.served("10.77.0.101", 8080, 30)["by_host"]) == {"b1", "b2", "b3"}


def test_verify_finds_what_is_wrong(site: Site) -> None:
    site.variables["dsr_vips"].append(API)
    fresh = site.fails("verify")
    assert "lb: the VIP web of dsr_vips is not configured; run dsr.layer2.site" in fresh.text
    assert "b1: does not hold the VIP 10.77.0.100" in fresh.text
    site.ok("site")

    lab = site.lab
    lab.run("b1", ["sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0"])
    lab.ip("b2", "address delete 10.77.0.101/32 dev lo")
    lab.run("lb", ["nft", "delete", "element", "netdev", "nft_dsr", "services_eth0", "{ 10.77.0.101 . tcp . 8080 }"])
    lab.ip("lb", "address delete 10.77.0.101/32 dev eth0")
    state = site.traces()
    broken = site.fails("verify")
    assert set(broken.changed.values()) == {0}
    assert site.traces() == state
    for problem in (
        "lb: the VIP api is not in force as configured",
        "lb: the addresses on eth0, or what brings them back at boot, are not as they should be",
        "answers ARP for the VIP 10.77.0.100 as well. That is its backend b1: ARP is not suppressed there",
        "b1: ",
        "b2: does not hold the VIP 10.77.0.101",
        "client: the VIP api (10.77.0.101 tcp 8080): ",
    ):
        assert problem in broken.text, problem
    site.ok("site")  # repairs it, and verifies that


def test_verify_names_a_service_that_is_not_there(site: Site) -> None:
    site.variables["dsr_vips"][0]["ports"] = ["81"]
    site.ok("site", dsr_verify=False)
    from_client = site.fails("verify")
    assert "client: the VIP web (10.77.0.100 tcp 81): " in from_client.text
    assert "refused (TCP RST) by b" in from_client.text
    # Without a client the load balancer asks each backend.
    from_lb = site.fails("verify", "--limit", "!client")
    for number in (1, 2, 3):
        label = f"lb: b{number} (10.77.0.2{number}) for the VIP web (10.77.0.100 tcp 81): is a service listening there?"
        assert label in from_lb.text
    site.variables["dsr_vips"][0]["ports"] = ["80"]
    alone = site.ok("site", "--limit", "!client")
    assert "The clients' path was NOT tested" in alone.text
    assert "lb: b3 (10.77.0.23) for the VIP web (10.77.0.100 tcp 80): answers" in alone.text

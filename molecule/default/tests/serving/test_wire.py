# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes over the wire, seen by the client."""

from __future__ import annotations

from collections import Counter

import pytest

from ansible_collections.dsr.layer2.molecule.resources.scenario import INTERFACE, Scenario

LAB = Scenario.running()
BACKENDS = {backend.name for backend in LAB.backends}
BACKEND_MACS = {backend.mac for backend in LAB.backends}
ADDRESSES = {name: vip["address"] for name, vip in LAB.vips.items()}
ASKED = 3


@pytest.fixture(scope="module")
def arp_replies() -> dict[str, Counter[str]]:
    """For each VIP, and for one backend's own address: how many replies to ARP requests came from which MAC."""
    addresses = [*ADDRESSES.values(), LAB.backends[0].address]
    # Every request is a broadcast, as a client's first one is; -w bounds the wait for answers.
    ask = " & ".join(f"arping -b -c {ASKED} -w 10 -I {INTERFACE} {address}" for address in addresses)
    options = ("--protocol", "arp", "--operation", "reply", "--direction", "in", "--records", "1000")
    with LAB.client.capture(*options) as report:
        LAB.client.run("sh", "-c", f"{ask} & wait")
    replies: dict[str, Counter[str]] = {address: Counter() for address in addresses}
    for record in report["records"]:
        if record["source"] in replies:
            replies[record["source"]][record["from_mac"]] += 1
    return replies


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_load_balancer_alone_answers_arp_for_a_vip(arp_replies: dict[str, Counter[str]], address: str) -> None:
    assert arp_replies[address] == {LAB.lb.mac: ASKED}


def test_a_backend_answers_arp_for_its_own_address(arp_replies: dict[str, Counter[str]]) -> None:
    """So that the silence about the VIPs means something."""
    backend = LAB.backends[0]
    assert arp_replies[backend.address] == {backend.mac: ASKED}


@pytest.mark.parametrize("name", ["web", "files"])
def test_http_reaches_every_backend(name: str) -> None:
    report = LAB.client.connect(ADDRESSES[name], 80, "--count", "90", "--concurrency", "3")
    assert (report["ok"], report["failed"]) == (90, 0)
    assert set(report["by_host"]) == BACKENDS


def test_round_robin_is_even() -> None:
    report = LAB.client.connect(ADDRESSES["files"], 80, "--count", "90")
    assert report["by_host"] == dict.fromkeys(BACKENDS, 30)


def test_udp_reaches_every_backend() -> None:
    report = LAB.client.connect(ADDRESSES["echo"], 5300, "--protocol", "udp", "--count", "90")
    assert (report["ok"], report["failed"]) == (90, 0)
    assert set(report["by_host"]) == BACKENDS


def test_source_hash_keeps_a_client_on_one_backend() -> None:
    report = LAB.client.connect(ADDRESSES["sticky"], 80, "--count", "30")
    assert (report["ok"], report["failed"]) == (30, 0)
    assert len(report["by_host"]) == 1


def test_replies_carry_the_backends_macs() -> None:
    """Requests go to the load balancer's MAC; not one reply comes from it."""
    address, capture = ADDRESSES["web"], LAB.client.capture
    with capture("--source", address, "--protocol", "tcp") as replies, capture("--destination", address) as requests:
        report = LAB.client.connect(address, 80, "--count", "60")
    assert (report["ok"], report["failed"]) == (60, 0)
    assert set(requests["by_destination"]) == {LAB.lb.mac}
    assert set(replies["by_source"]) == BACKEND_MACS


def test_downloads_arrive_whole_and_go_past_the_load_balancer() -> None:
    """One from each backend, as round robin hands them out."""
    fetch = (
        f"import hashlib, urllib.request\nfor _ in range({len(BACKENDS)}):\n"
        f" body = urllib.request.urlopen('http://{ADDRESSES['files']}:8080/blob', timeout=30).read()\n"
        " print(len(body), hashlib.sha256(body).hexdigest())"
    )
    wanted = LAB.backends[0].run("sha256sum", "/srv/files/blob").split()[0]
    before = LAB.lb.counter("tx_bytes"), LAB.client.counter("rx_bytes")
    downloads = [line.split() for line in LAB.client.run("python3", "-c", fetch).splitlines()]
    sent_by_lb = LAB.lb.counter("tx_bytes") - before[0]
    received = LAB.client.counter("rx_bytes") - before[1]

    assert [checksum for _size, checksum in downloads] == [wanted] * len(BACKENDS)
    sizes = [int(size) for size, _checksum in downloads]
    assert min(sizes) >= 16 * 1024 * 1024
    assert received > sum(sizes)
    # What is left for the load balancer are the client's acknowledgements.
    assert sent_by_lb < received / 50


@pytest.mark.parametrize("action", ["restart", "reload"])
def test_rules_outlive_nftables_service(action: str) -> None:
    """The stock configuration flushes every table, ours too; the unit brings it back."""
    LAB.lb.run("systemctl", action, "nftables.service")
    # systemctl waits for the unit that it was told of, not for those that follow it.
    LAB.lb.run("timeout", "5", "sh", "-c", "until nft list table netdev nft_dsr >&2; do sleep 0.05; done")
    report = LAB.client.connect(ADDRESSES["web"], 80, "--count", "30")
    assert (report["ok"], report["failed"]) == (30, 0)
    assert set(report["by_host"]) == BACKENDS

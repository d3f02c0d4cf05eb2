# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent follows backends to other MAC addresses, and NICs that go and come back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from agent_host import QUICK, AgentHost
from balancer import ADDRESSES, ADDRESSES6, HTTP, LINES, WEB, Balancer, clean, pool
from lab import Lab
from lab.modules import ModuleRunner
from lab.running import Running
from lab.standard import serve

NEW = "02:d5:00:00:99:15"
INTERVAL, WINDOW = 2.0, 0.2  # of questions where no check says another, and what answers to two of them have
RETRIES = 3.0  # seconds after which TCP has tried again what was lost
PLAIN = "began; VIPs: 1, checked: 0, checks: 0"
_ANNOUNCE = (
    "import sys; from ansible_collections.dsr.layer2.plugins.module_utils.common import neighbours; "
    "neighbours.announce('eth0', sys.argv[1:])"
)


class Site(AgentHost):
    """A load balancer with its agent, and backends that move."""

    def __init__(self, balancer: Balancer, runner: ModuleRunner) -> None:
        super().__init__(balancer, runner)
        self.lab = balancer.lab
        self._path = f"PYTHONPATH={runner.folder}"

    def move(self, host: str = "b1", mac: str = NEW, announced: bool = False) -> float:
        """Give a backend another MAC; when that was."""
        value = int(announced)
        self.lab.run(
            host,
            ["sysctl", "-qw", f"net.ipv4.conf.eth0.arp_notify={value}", f"net.ipv6.conf.eth0.ndisc_notify={value}"],
        )
        begun = time.monotonic()
        self.lab.ip(host, f"link set eth0 address {mac}")
        return begun

    def announce(self, host: str, address: str) -> None:
        """A host says that an address is its own."""
        words = ["/usr/bin/env", self._path, "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "-c", _ANNOUNCE, address]
        self.lab.run(host, words)

    def sends_to(self, mac: str, table: str = "poolbackends_web") -> bool:
        # (nft writes it as a number, without noughts in front.)
        return mac.replace(":", "").lstrip("0") in self.balancer.nft("list", "map", "netdev", "nft_dsr", table)

    def heard(self, text: str, seconds: float = 10.0) -> float:
        return self.until(lambda: text in self.printed(), seconds)

    def followed(self, begun: float, seconds: float, mac: str = NEW) -> float:
        """Wait until packets go to the new MAC; how long that took since it is there."""
        self.until(lambda: self.sends_to(mac))
        took = time.monotonic() - begun
        assert took <= seconds, (took, self.printed())
        return took

    def hold(self, address: str = WEB) -> Running:
        """Connections that bear a pause."""
        return self.balancer.hold(20, LINES, "tcp", "--timeout", 20, address=address)

    def settled(self) -> None:
        """Wait until every backend has been asked once: what is there to be found at a start is found."""
        time.sleep(1.5)


@pytest.fixture
def site(balancer: Balancer, fresh_lab: Lab, module_runner: ModuleRunner) -> Iterator[Site]:
    yield Site(balancer, module_runner)


@pytest.mark.parametrize("version", [4, 6])
def test_connections_survive_a_backend_that_announces_its_new_mac(site: Site, version: int) -> None:
    """Within a second of the announcement."""
    site.balancer.serve("connection_hash", version=version)
    site.start(PLAIN)
    site.settled()
    held = site.balancer.hold(30)
    took = site.followed(site.move(announced=True), 1.0)
    address = (ADDRESSES if version == 4 else ADDRESSES6)["b1"]
    old = site.lab.hosts["b1"].mac
    site.heard(f"b1 ({address}): MAC address {old} is now {NEW} (announced by itself)")
    met = site.balancer.connect(HTTP, 60)
    assert met["ok"] == 60 and "b1" in met["by_host"], met
    clean(held.stop())
    assert not site.sends_to(old), took
    assert site.balancer.info()["in_sync"]


@pytest.mark.parametrize("version", [4, 6])
def test_a_backend_that_changes_its_mac_in_silence_is_found(site: Site, version: int) -> None:
    site.balancer.serve("connection_hash", version=version)
    site.start(PLAIN)
    site.settled()
    site.followed(site.move(), INTERVAL + 2 * WINDOW + 0.6)
    site.heard("(found when asked)")
    met = site.balancer.connect(HTTP, 60)
    assert met["ok"] == 60 and "b1" in met["by_host"], met


def test_a_checked_backend_is_followed_before_it_counts_as_dead(site: Site) -> None:
    """The first check that fails is reason enough to ask."""
    site.serve({"type": "http", "interval": 2, "timeout": 0.5, "fall": 3})
    site.start()
    site.settled()
    site.move()
    site.until(lambda: site.sends_to(NEW))
    site.settled()
    assert "unhealthy" not in site.printed() and all(site.healthy().values())


@pytest.mark.parametrize("version", [4, 6])
def test_an_announcement_takes_nothing_from_who_answers(site: Site, version: int) -> None:
    site.balancer.serve("connection_hash", version=version)
    site.start(PLAIN)
    site.settled()
    rules = site.balancer.nft("-s", "list", "ruleset")
    address = (ADDRESSES if version == 4 else ADDRESSES6)["b1"]
    thief, own = (site.lab.hosts[name].mac for name in ("client", "b1"))
    for _again in range(3):
        site.announce("client", address)
    site.heard(f"{thief} claims its address on eth0, while {own} answers for it; it stays at {own}")
    for _again in range(3):
        site.announce("client", address)
    site.settled()
    assert site.printed().count(thief) == 1 and "is now" not in site.printed()
    assert site.balancer.nft("-s", "list", "ruleset") == rules


@pytest.mark.parametrize("version", [4, 6])
def test_a_second_station_that_answers_changes_nothing(site: Site, version: int) -> None:
    site.balancer.serve("connection_hash", version=version)
    site.start(PLAIN)
    site.settled()
    rules = site.balancer.nft("-s", "list", "ruleset")
    address = (ADDRESSES if version == 4 else ADDRESSES6)["b1"]
    more = "/32" if version == 4 else "/128 nodad"
    site.lab.ip("client", f"address add {address}{more} dev eth0")
    site.announce("client", address)
    site.heard("two stations answer for it on eth0")
    time.sleep(2 * INTERVAL)
    assert site.printed().count("two stations answer") == 1 and "is now" not in site.printed()
    assert site.balancer.nft("-s", "list", "ruleset") == rules


def test_a_mac_that_was_pinned_is_not_followed(site: Site) -> None:
    old = site.lab.hosts["b1"].mac
    site.balancer.serve("connection_hash", backends=pool(b1={"mac": old}))
    site.start(PLAIN)
    site.settled()
    site.move(announced=True)
    site.heard(f"its MAC address is pinned to {old}, but {NEW} says on eth0 that it has the address")
    site.settled()
    assert site.sends_to(old) and not site.sends_to(NEW)
    assert site.printed().count("pinned") == 1


def test_a_backend_that_was_not_there_comes_in(site: Site) -> None:
    """And it is checked from then on."""
    site.lab.link_down("b3")
    site.serve(QUICK, require_mac=False)
    assert site.balancer.info()["backends"][2]["mac"] is None
    site.start("began; VIPs: 1, checked: 1, checks: 2")
    site.lab.link_up("b3")
    site.heard("it comes into service")
    site.until(lambda: site.sends_to(site.lab.hosts["b3"].mac))
    site.until(lambda: site.healthy()["b3"])
    assert "b3" in site.balancer.connect(HTTP, 60)["by_host"]
    assert not site.again()["changed"]
    site.lab.run("b3", ["nft", "add table inet dead; add chain inet dead input { type filter hook input priority 0; }; "
                        f"add rule inet dead input tcp dport {HTTP} reject with tcp reset"])  # fmt: skip
    site.until(lambda: not site.healthy()["b3"])


def test_a_run_after_a_move_changes_nothing(site: Site) -> None:
    """Where backends are is the agent's to say while it runs; without it the next run writes down what it finds."""
    site.balancer.serve("connection_hash")
    site.start(PLAIN)
    site.move(announced=True)
    site.until(lambda: site.sends_to(NEW))
    files = {name: site.lab.read("lb", f"/etc/nft-dsr/{name}") for name in ("vips.json", "ruleset.nft")}
    for _forgotten in range(2):
        result = site.again()
        assert not result["changed"] and "warnings" not in result, result
        site.balancer.forget()
    assert files == {name: site.lab.read("lb", f"/etc/nft-dsr/{name}") for name in files}
    assert site.balancer.info()["backends"][0]["mac"] == NEW
    site.kill()
    result = site.again()
    assert result["changed"] and NEW in site.lab.read("lb", "/etc/nft-dsr/vips.json")
    assert site.sends_to(NEW)
    site.start(PLAIN)
    site.settled()
    assert NEW not in site.lab.read("lb", "/run/nft-dsr/agent/state.json"), "what is configured need not be published"
    assert site.sends_to(NEW)


def test_it_begins_where_the_last_one_ended(site: Site) -> None:
    site.balancer.serve("connection_hash")
    site.start(PLAIN)
    site.move(announced=True)
    site.until(lambda: site.sends_to(NEW))
    site.kill()
    third = "02:d5:00:00:99:16"
    site.move(mac=third)
    site.start(PLAIN)
    assert site.sends_to(NEW)
    site.until(lambda: site.sends_to(third), 1.0 + 2 * WINDOW + 0.6)


def test_a_nic_that_goes_takes_only_its_own_vips_along(site: Site) -> None:
    """Within a second of its return it is served again, and connections that were tracked go on."""
    lab, near, far = site.lab, "10.79.0.100", "10.79.0.2"
    lab.add_segment("two")
    for host, address in (("lb", far), ("client", "10.79.0.10")):
        lab.add_nic(host, "eth1", address, segment="two")
    for number in (4, 5):
        name = f"b{number}"
        lab.add_host(name, f"10.79.0.2{number}", segment="two")
        lab.run(name, ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"])
        lab.ip(name, f"address add {near}/32 dev lo")
    serve(lab, ["b4", "b5"])
    lab.ip("lb", f"address add {near}/32 dev eth1")
    other = {
        "name": "other",
        "address": near,
        "ports": [str(HTTP), str(LINES)],
        "scheduler": "round_robin",
        "backends": [{"name": "b4", "address": "10.79.0.24"}, {"name": "b5", "address": "10.79.0.25"}],
        "health_check": {**QUICK, "port": HTTP},
    }
    site.balancer.serve("connection_hash", others=[other])
    site.start("began; VIPs: 2, checked: 1, checks: 2")
    site.settled()
    unhurt, hit = site.hold(), site.hold(near)
    lab.take_nic("lb", "eth1")
    site.heard("the interface eth1 is gone; not served until it is back: other")
    site.until(lambda: "eth1" not in site.balancer.nft("list", "ruleset"))
    site.balancer.nft("-f", "-", text="flush map netdev nft_dsr poolbackends_web\n")
    site.until(lambda: site.sends_to(lab.hosts["b1"].mac))
    met = site.balancer.connect(HTTP, 60)
    assert met["ok"] == 60, met
    time.sleep(1)  # checks go on meanwhile, and say nothing
    lab.hosts["lb"].nics["eth1"].mac = "02:d5:00:00:99:02"
    begun = time.monotonic()
    lab.put_nic("lb", "eth1")
    site.until(lambda: "ingress_eth1" in site.balancer.nft("list", "ruleset"))
    assert time.monotonic() - begun <= 1.0, site.printed()
    site.heard("the interface eth1 is back; served again: other")
    lab.ip("lb", f"address add {near}/32 dev eth1")  # not before its rules: the host itself would answer
    lab.ip("client", "neighbour flush dev eth1")
    met = lab.traffic("client", "connect", near, HTTP, "--count", 40, "--concurrency", 5)
    assert met["ok"] == 40 and set(met["by_host"]) == {"b4", "b5"}, met
    time.sleep(RETRIES)
    clean(unhurt.stop())
    clean(hit.stop())
    assert "unhealthy" not in site.printed()
    # It is listened to on the new one.
    site.move("b4", NEW, announced=True)
    site.until(lambda: site.sends_to(NEW, "backends_other"))


def test_the_only_nic(site: Site) -> None:
    """Nothing is left then, and everything comes back."""
    site.balancer.serve("round_robin", backends=pool())
    site.start(PLAIN)
    site.settled()
    held = site.hold()
    site.lab.take_nic("lb")
    site.heard("the interface eth0 is gone; not served until it is back: web")
    site.until(lambda: "eth0" not in site.balancer.nft("list", "ruleset"))
    site.lab.put_nic("lb")
    site.until(lambda: "ingress_eth0" in site.balancer.nft("list", "ruleset"))
    site.lab.ip("lb", f"address add {WEB}/32 dev eth0")
    site.heard("the interface eth0 is back; served again: web")
    met = site.balancer.connect(HTTP, 60)
    assert met["ok"] == 60, met
    time.sleep(RETRIES)
    clean(held.stop())

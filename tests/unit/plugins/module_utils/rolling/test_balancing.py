# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a load balancer: whether a backend gets packets still, and whether it serves."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.failing import Failing
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.live import Live
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.rolling import balancing
from ansible_collections.dsr.layer2.plugins.module_utils.rolling.waiting import Clock
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.test_cli import API, DNS, WEB, Balancer

FIRST, SECOND = ip_address("10.77.0.21"), ip_address("10.77.0.22")


@pytest.fixture
def balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Balancer:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    made = Balancer(tmp_path)
    made.set(WEB, API, DNS)
    return made


class Passing:
    """Time that passes in waits alone; packets of DNS come in the first of them."""

    def __init__(self, balancer: Balancer, packets: int) -> None:
        self.seconds = 0.0
        self.balancer = balancer
        self.waits = packets
        self.clock = Clock(lambda: self.seconds, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.balancer.sent("10.77.0.100", str(SECOND), 1)  # TCP, which is not looked at
        if self.waits:
            self.waits -= 1
            self.balancer.sent("10.77.0.102", str(SECOND), 1)


def quiet(balancer: Balancer, passing: Passing, **options: Any) -> dict[str, Any]:
    given = {"backend": str(SECOND), "until": "quiet", "timeout": 60.0, "quiet": 2.0, **options}
    return balancing.look(given, balancer.load_balancer, passing.clock)


def test_until_nothing_is_sent(balancer: Balancer) -> None:
    passing = Passing(balancer, 4)
    result = quiet(balancer, passing)
    assert result == {"reached": True, "left": [], "waited": 3.0}
    # A backend of TCP alone has not to be waited for.
    assert quiet(balancer, Passing(balancer, 4), backend="b1") == {"reached": True, "left": [], "waited": 0.0}


def test_when_it_does_not_end(balancer: Balancer) -> None:
    result = quiet(balancer, Passing(balancer, 9999), timeout=10.0)
    assert result["reached"] is False and result["waited"] == 10
    assert result["left"] == ["packets to 10.77.0.22 of the VIP dns, the last within 2 s"]


def test_silence_is_found_whatever_the_limit(balancer: Balancer) -> None:
    assert quiet(balancer, Passing(balancer, 0), timeout=0.0)["reached"] is True


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backend": "b9"}, "backend: 'b9' is not a backend of any VIP; there are: 10.77.0.21 (b1), 10.77.0.22"),
        ({"quiet": -1.0}, "quiet: -1 is out of range"),
        ({"timeout": 90000.0}, "timeout: 90000 is out of range"),
    ],
)
def test_options(balancer: Balancer, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        quiet(balancer, Passing(balancer, 0), **wrong)
    assert str(caught.value).startswith(message)


class Connecting:
    """Who takes a connection through its MAC."""

    def __init__(self) -> None:
        self.problem = ""
        self.asked: list[tuple[str, str]] = []

    def __call__(self, item: ResolvedVip, mac: str) -> str:
        self.asked.append((item.vip.name, mac))
        return self.problem


def test_whether_it_serves(balancer: Balancer) -> None:
    """By a check that is carried out now where there is one, and by a handshake where there is none."""
    connecting = Connecting()
    serving = balancing.Serving(balancer.load_balancer, FIRST, balancer.live_file, balancer.servers.probe, connecting)
    assert serving.look() == []
    assert [backend for backend, *_unused in balancer.servers.asked] == [str(FIRST)]
    assert [name for name, _mac in connecting.asked] == ["api"]

    balancer.load_balancer.drain("b1", None, False, False)
    assert serving.look() == []  # it drains while it is asked
    connecting.problem = "refused"
    balancer.servers.refusing.add(str(FIRST))
    assert serving.look() == ["the VIP api: refused", "the VIP web: connection refused"]


def test_the_agent_has_its_word(balancer: Balancer) -> None:
    """A backend that answers again is not in service before the agent believes it."""
    serving = balancing.Serving(balancer.load_balancer, FIRST, balancer.live_file, balancer.servers.probe, Connecting())
    failing = Failing("connection refused", "2026-11-23T16:00:00Z")
    with balancer.live_file.held():
        balancer.load_balancer.reconcile(Live({"web": frozenset({FIRST})}, {}, {"web": {FIRST: failing}}))
        assert serving.look() == ["the VIP web: it answers, and the agent waits until it does so for long enough"]
        balancer.load_balancer.reconcile(Live())
        assert serving.look() == []
    # Without one nobody waits for it.
    balancer.live_file.publish(Live({"web": frozenset({FIRST})}))
    assert serving.look() == []

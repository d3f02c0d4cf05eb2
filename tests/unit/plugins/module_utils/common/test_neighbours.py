# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of both families: each is asked for, and told of, in the way of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common import arp, ndp, neighbours
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.common.segment import B1, B2, iproute


class Asked:
    """What came to ARP and to neighbour discovery."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str, list[str], tuple[Any, ...]]] = []
        for name, module, mac in (("arp", arp, B1), ("ndp", ndp, B2)):
            monkeypatch.setattr(module, "resolve", self._resolver(name, mac))
            monkeypatch.setattr(module, "announce", self._announcer(name))

    def _resolver(self, name: str, mac: str) -> Any:
        def resolve(interface: str, addresses: Iterable[str], *how: Any) -> dict[str, frozenset[str]]:
            self.calls.append((name, interface, list(addresses), how[:3]))
            return {address: frozenset({mac}) for address in addresses}

        return resolve

    def _announcer(self, name: str) -> Any:
        return lambda interface, addresses, *_how: self.calls.append((name, interface, list(addresses), ()))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_each_family_is_asked_in_its_way(asked: Asked) -> None:
    addresses = ["fd00:77:0::21", "10.77.0.21", "10.77.0.22"]
    assert neighbours.resolve("eth0", addresses, 0.5, 2, 0.1, iproute()) == {
        "10.77.0.21": frozenset({B1}),
        "10.77.0.22": frozenset({B1}),
        "fd00:77::21": frozenset({B2}),
    }
    assert asked.calls == [
        ("arp", "eth0", ["10.77.0.21", "10.77.0.22"], (0.5, 2, 0.1)),
        ("ndp", "eth0", ["fd00:77::21"], (0.5, 2, 0.1)),
    ]


@pytest.mark.parametrize("address, way", [("10.77.0.21", "arp"), ("fd00:77::21", "ndp")])
def test_a_family_that_is_not_there_is_not_spoken(asked: Asked, address: str, way: str) -> None:
    neighbours.resolve("eth0", [address], iproute=iproute())
    neighbours.announce("eth0", [address], iproute())
    assert [call[:3] for call in asked.calls] == [(way, "eth0", [address])] * 2
    assert neighbours.resolve("eth0", [], iproute=iproute()) == {}


@pytest.mark.parametrize("text", ["b1", "10.77.0.21/24", "fd00::1::2", ""])
def test_what_is_no_address_is_named_before_anybody_is_asked(asked: Asked, text: str) -> None:
    for act in (neighbours.resolve, neighbours.announce):
        with pytest.raises(ConfigError) as caught:
            act("eth0", ["10.77.0.21", text])  # type: ignore[operator]
        assert caught.value.path == "addresses[1]"
    assert asked.calls == []

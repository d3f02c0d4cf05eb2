# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is connected to a virtual IP, as the kernel lists its sockets."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.rolling import leaving
from ansible_collections.dsr.layer2.plugins.module_utils.rolling.sockets import connections, remaining
from ansible_collections.dsr.layer2.plugins.module_utils.rolling.waiting import Clock

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
LISTEN, ESTABLISHED, SYN_RECV, FIN_WAIT2, TIME_WAIT = "0A", "01", "03", "05", "06"
VIP, VIP6, CLIENT, CLIENT6 = "10.77.0.100", "fd00:77::100", "10.77.0.10", "fd00:77::10"


def _field(address: str, port: int) -> str:
    """As a kernel of this host's byte order writes it."""
    raw = ip_address(address).packed
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return f"{raw.hex().upper()}:{port:04X}"


def line(local: str, remote: str, state: str, inode: int = 4711) -> str:
    ends = f"{_field(local, 80)} {_field(remote, 40000)}"
    return f"   0: {ends} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0000000000000000 20"


def test_an_address_as_the_kernel_writes_it() -> None:
    if sys.byteorder == "little":
        assert _field(VIP, 80) == "64004D0A:0050"
    (found,) = connections([HEAD, line(VIP, CLIENT, ESTABLISHED)])
    assert (str(found.local), str(found.remote)) == (VIP, CLIENT)
    (found,) = connections([HEAD, line(VIP6, CLIENT6, ESTABLISHED)])
    assert (str(found.local), str(found.remote)) == (VIP6, CLIENT6)
    # On a socket for both families
    (found,) = connections([line(f"::ffff:{VIP}", f"::ffff:{CLIENT}", ESTABLISHED)])
    assert (str(found.local), str(found.remote)) == (VIP, CLIENT)


@pytest.mark.parametrize(
    ("state", "inode", "counts"),
    [
        (ESTABLISHED, 1, True),
        (SYN_RECV, 0, True),
        ("08", 1, True),  # the service has not closed it yet
        ("09", 0, True),  # the client has not got all of it yet
        (LISTEN, 1, False),
        (TIME_WAIT, 0, False),
        ("07", 0, False),
        (FIN_WAIT2, 1, True),  # the service still reads
        (FIN_WAIT2, 0, False),  # it has gone
    ],
)
def test_which_states_count(state: str, inode: int, counts: bool) -> None:
    assert len(list(connections([line(VIP, CLIENT, state, inode)]))) == counts


def test_what_is_no_socket_is_left_out() -> None:
    assert not list(connections(["", HEAD, "nonsense", line(VIP, CLIENT, "XY"), line(VIP, CLIENT, ESTABLISHED)[:60]]))


def test_who_has_how_many() -> None:
    clients = [*[CLIENT] * 3, *["10.77.0.11"] * 2, *(f"10.77.1.{number}" for number in range(9))]
    lines = [line(VIP, client, ESTABLISHED) for client in clients]
    lines += [line(VIP, "10.77.0.2", ESTABLISHED), line("10.77.0.21", CLIENT, ESTABLISHED), line(VIP6, CLIENT6, "04")]
    vips = [ip_address(VIP), ip_address(VIP6), ip_address("10.77.0.101")]
    first, second, none = remaining(connections(lines), vips, {ip_address("10.77.0.2")})
    assert (first.connections, second.connections, none.connections) == (14, 1, 0)
    assert [(str(client), number) for client, number in first.clients[:2]] == [(CLIENT, 3), ("10.77.0.11", 2)]
    assert leaving.told([first, second, none]) == [
        "14 connections to 10.77.0.100, from 10.77.0.10 (3), 10.77.0.11 (2), 10.77.1.0 (1), 10.77.1.1 (1), "
        "10.77.1.2 (1) and others",
        "1 connection to fd00:77::100, from fd00:77::10 (1)",
    ]


class Passing:
    """Time that passes in waits alone, and lists that change with it."""

    def __init__(self, folder: Path, *lists: list[str]) -> None:
        self.seconds = 0.0
        self.path = folder / "tcp"
        self.lists = list(lists)
        self._write()
        self.clock = Clock(lambda: self.seconds, self._sleep)

    def _write(self) -> None:
        self.path.write_text("\n".join([HEAD, *(self.lists.pop(0) if self.lists else [])]))

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self._write()


def test_waiting_until_they_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [line(VIP, CLIENT, ESTABLISHED)]
    options = {"vips": [VIP], "ignore": None, "wait": 10.0}
    passing = Passing(tmp_path, one * 2, one)
    monkeypatch.setattr(leaving, "_LISTS", (str(passing.path), str(tmp_path / "tcp6")))
    result = leaving.look(options, passing.clock)
    assert (result["connections"], result["left"], result["waited"]) == (0, [], 0.5)

    passing = Passing(tmp_path, *[one] * 99)
    result = leaving.look(options, passing.clock)
    assert passing.seconds == 10
    assert result["left"] == ["1 connection to 10.77.0.100, from 10.77.0.10 (1)"]
    assert result["vips"] == [{"address": VIP, "connections": 1, "clients": [{"address": CLIENT, "connections": 1}]}]
    assert leaving.look({**options, "wait": 0.0}, passing.clock)["connections"] == 1
    assert leaving.look({**options, "ignore": [CLIENT]}, passing.clock)["connections"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vips": ["web"]}, r"^vips\[0\]: 'web' is not an IP address"),
        ({"ignore": [CLIENT, "x"]}, r"^ignore\[1\]: 'x' is not an IP address"),
        ({"wait": -1.0}, r"^wait: -1 is out of range"),
        ({"wait": 1e6}, r"^wait: 1e\+06 is out of range"),
        ({"wait": float("nan")}, r"^wait: nan is out of range"),
    ],
)
def test_options(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        leaving.look({"vips": [VIP], "ignore": None, "wait": 0.0, **wrong})


def test_a_host_without_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_LISTS", (str(tmp_path / "none"),))
    with pytest.raises(HostError, match="does not list its connections"):
        leaving.look({"vips": [VIP], "ignore": None, "wait": 0.0})

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ip prints, shortened from real hosts, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface
from typing import Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute, Neighbour, Route

ADDRESSES = """[{},{"ifname":"eth0","addr_info":[
{"family":"inet","local":"10.77.0.2","prefixlen":24,"broadcast":"10.77.0.255","scope":"global","label":"eth0"},
{"family":"inet6","local":"fd00:77::100","prefixlen":128,"scope":"global","nodad":true,"deprecated":true,
 "valid_life_time":4294967295,"preferred_life_time":0},
{"family":"inet6","local":"fd00:77::2","prefixlen":64,"scope":"global","dadfailed":true,"tentative":true},
{},
{"family":"inet6","local":"fe80::d5:ff:fe00:2","prefixlen":64,"scope":"link","protocol":"kernel_ll"}]}]"""
ROUTES = """[{"dst":"10.77.0.21","dev":"eth0","prefsrc":"10.77.0.2","flags":[],"uid":0,"cache":[]}]
[{"dst":"fd00:77::21","from":"::","dev":"eth0","protocol":"kernel","prefsrc":"fd00:77::2","metric":256,"flags":[]}]
[{"dst":"2001:db8::1","from":"::","gateway":"fe80::1","dev":"eth0","prefsrc":"fd00:77::2","metric":1024,"flags":[]}]
[{"dst":"198.51.100.1","via":{"family":"inet6","host":"fe80::1"},"dev":"eth0","prefsrc":"10.77.0.2","flags":[]}]
[{"type":"local","dst":"fd00:77::2","from":"::","dev":"lo","table":"local","prefsrc":"fd00:77::2","metric":0}]
"""
NEIGHBOURS = """[{"dst":"fd00:77::21","dev":"eth0","lladdr":"02:D5:00:00:00:15","router":null,"state":["STALE"]},
{"dst":"10.77.0.99","dev":"eth0","state":["FAILED"]}]"""


class Ip:
    """A host's ip, which says what it is told to and notes what it is asked."""

    def __init__(self, says: str, status: int = 0) -> None:
        self.says, self.status = says, status
        self.asked: list[tuple[list[str], Optional[str]]] = []

    def __call__(self, argv: Sequence[str], stdin: Optional[str]) -> Completed:
        self.asked.append((list(argv), stdin))
        return Completed(tuple(argv), self.status, self.says, "RTNETLINK answers: Network is unreachable\n")


def test_addresses_and_whether_the_host_speaks_in_their_name() -> None:
    held = {str(entry.value): (entry.states, entry.usable) for entry in Iproute(Ip(ADDRESSES)).addresses("eth0")}
    assert held == {
        "10.77.0.2/24": (frozenset(), True),
        "fd00:77::100/128": ({"deprecated"}, True),
        "fd00:77::2/64": ({"dadfailed", "tentative"}, False),
        "fe80::d5:ff:fe00:2/64": (frozenset(), True),
    }


def test_routes_of_both_families_are_asked_in_one_go() -> None:
    """One without a route makes ip fail, after it answered for the others."""
    ip = Ip(ROUTES, 2)
    asked = ["10.77.0.21", "fd00:77::21", "2001:db8::1", "198.51.100.1", "fd00:77::2", "2001:db8:9::1"]
    assert Iproute(ip).routes_to(map(ip_address, asked)) == {
        ip_address("10.77.0.21"): Route("eth0", None, "10.77.0.2", "unicast"),
        ip_address("fd00:77::21"): Route("eth0", None, "fd00:77::2", "unicast"),
        ip_address("2001:db8::1"): Route("eth0", "fe80::1", "fd00:77::2", "unicast"),
        ip_address("198.51.100.1"): Route("eth0", "fe80::1", "10.77.0.2", "unicast"),
        ip_address("fd00:77::2"): Route("lo", None, "fd00:77::2", "local"),
        ip_address("2001:db8:9::1"): None,
    }
    ((argv, questions),) = ip.asked
    assert "-batch" in argv
    assert questions == "".join(f"route get {address}\n" for address in asked)


def test_nothing_asked_nothing_run() -> None:
    ip = Ip("")
    assert Iproute(ip).routes_to([]) == {} and not ip.asked


def test_neighbours() -> None:
    assert Iproute(Ip(NEIGHBOURS)).neighbours() == [
        Neighbour(ip_address("fd00:77::21"), "eth0", "02:d5:00:00:00:15", frozenset({"STALE"})),
        Neighbour(ip_address("10.77.0.99"), "eth0", None, frozenset({"FAILED"})),
    ]


@pytest.mark.parametrize(
    "address, more",
    [("10.77.0.100/32", []), ("fd00:77::100/128", ["nodad", "preferred_lft", "0"])],
)
def test_an_ipv6_address_serves_at_once_and_is_never_chosen_as_the_hosts_own(address: str, more: list[str]) -> None:
    ip = Ip("")
    Iproute(ip).add_address("eth0", ip_interface(address))
    Iproute(ip).delete_address("eth0", ip_interface(address))
    assert [argv for argv, _stdin in ip.asked] == [
        ["ip", "address", "replace", address, "dev", "eth0", *more],
        ["ip", "address", "delete", address, "dev", "eth0"],
    ]


@pytest.mark.parametrize("ask", [lambda ip: ip.links(), lambda ip: ip.routes_to([ip_address("fd00::1")])])
def test_what_is_no_json_is_an_error_and_no_traceback(ask: object) -> None:
    with pytest.raises(CommandError, match="printed something that is not JSON"):
        ask(Iproute(Ip("fd00::1 dev eth0\n")))  # type: ignore[operator]

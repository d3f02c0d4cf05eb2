# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Want against have, whatever they are: what is wanted comes, what is ours goes, nothing else is touched."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import HeldAddress
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.holding import Request, plan_holding

ADDRESSES = [ipaddress.ip_address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1")]
GROUPS = st.sets(st.sampled_from(ADDRESSES))


@given(
    named=st.lists(st.sampled_from(ADDRESSES), unique=True),
    ours=GROUPS,
    there=GROUPS,
    wide=GROUPS,
    state=st.sampled_from(["present", "absent"]),
    purge=st.booleans(),
    chosen=GROUPS,
)
def test_every_combination(
    named: list[ipaddress.IPv4Address],
    ours: set[ipaddress.IPv4Address],
    there: set[ipaddress.IPv4Address],
    wide: set[ipaddress.IPv4Address],
    state: str,
    purge: bool,
    chosen: set[ipaddress.IPv4Address],
) -> None:
    """``there``: held as host addresses; ``wide``: held with another prefix length, which is never ours.

    ``chosen``: such that the host may choose them as its own, which is wrong for a virtual IP of IPv6.
    """

    def as_held(address: ipaddress.IPv4Address, states: set[str]) -> HeldAddress:
        value = ipaddress.ip_interface(f"{address}/{address.max_prefixlen}")
        return HeldAddress("lo", value, "global", frozenset(states))

    held = [
        *(as_held(address, set() if address in chosen else {"deprecated"}) for address in there),
        *(HeldAddress("lo", ipaddress.ip_interface(f"{address}/20"), "global") for address in wide),
        *(HeldAddress("eth0", ipaddress.ip_interface(address), "global") for address in ADDRESSES),
    ]
    request = Request("vips", tuple(named), "lo", state, purge)
    holding = plan_holding(request, ours, held)
    wanted = set(named) if state == "present" else set()
    after = (there | set(holding.add)) - set(holding.delete)

    assert wanted <= after
    assert set(holding.add) == wanted - {one for one in there if one.version == 4 or one not in chosen}
    assert set(holding.delete) <= there
    assert set(holding.delete) <= (ours | set(named)) - wanted
    assert there - ours - set(named) <= after, "an address of somebody else has gone"
    assert set(holding.final) == wanted | (set() if purge else ours - set(named))
    if state == "absent":
        assert not after & set(named)
    if purge:
        assert not after & (ours - wanted)
    assert list(holding.final) == sorted(holding.final, key=lambda address: (address.version, int(address)))
    # Done once, nothing is left to do
    again = plan_holding(
        request,
        holding.final,
        [as_held(address, {"deprecated"}) for address in after],
    )
    assert (again.add, again.delete, again.final) == ((), (), holding.final)

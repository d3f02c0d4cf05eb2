# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules count of a VIP whose turns the agent steers, so that it need not list flows. Pure.

Two sets have an element for each backend, whose counter moves with every flow that begins, and with every
connection that ends. A further element of the first counts the turns that were taken, from the moment on at
which the counter of turns began, so it says which turn is next.
"""

from __future__ import annotations

from .model import Vip
from .table import Spec, TableBuilder, mark

# No backend has this number: as an IPv4 address it is broadcast.
TURNS_TAKEN = 0xFFFFFFFF


def opened(vip: Vip) -> str:
    """The set that counts flows that began, and turns taken."""
    return f"opened_{vip.name}"


def closed(vip: Vip) -> str:
    """The set that counts connections that ended; '' where a flow ends by silence alone."""
    return f"closed_{vip.name}" if vip.connections else ""


def opening_chain(vip: Vip) -> str:
    """The chain that takes turns."""
    return f"syn_{vip.name}" if vip.connections else f"vip_{vip.name}"


def counting_sets(build: TableBuilder, vip: Vip) -> None:
    """Add the sets of a VIP."""
    backends = [mark(number) for number in sorted(vip.marks.values())]
    for name, keys in ((opened(vip), [*backends, mark(TURNS_TAKEN)]), (closed(vip), backends)):
        if name:
            build.map(
                name,
                ("type mark", "counter"),
                Spec(("mark",), None, counter=True),
                dict.fromkeys(keys, ""),
                counts=opening_chain(vip) if name == opened(vip) else "",
            )

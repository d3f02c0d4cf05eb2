# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of one VIP, or of several that differ in their address alone: who gets a packet, and what is
remembered of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .dispatch import guarded
from .model import IPAddress
from .packet_fields import SEED, Packet
from .resolved import DRAINING, PLAIN, RELEASED, ResolvedVip
from .steered import TURNS_TAKEN, closed, opened
from .table import Names, mark

# The packet that begins a connection, and those that end one. Of SCTP, by the first chunk: INIT stands
# alone in its packet, as does SHUTDOWN COMPLETE; ABORT ends what it is in.
# TCP's flags are compared four bytes at a time, which is what the kernel does fast: FIN 1, SYN 2, RST 4, ACK 16.
_OPENS = {"tcp": "@th,96,32 & 0x00170000 == 0x00020000", "sctp": "@th,96,8 1"}
_CLOSES = {"tcp": ("@th,96,32 & 0x00050000 != 0",), "sctp": ("@th,96,8 6", "@th,96,8 14")}


class VipRules:
    """The rules of one VIP, or of all at the ``shared`` addresses. Each rule ends the packet's way, or breaks off
    and leaves it to the next.

    A lookup that finds nothing breaks the rule. An update of a full table breaks it too, which is why
    recording and forwarding always share one rule: what can't be recorded falls to the hash, and so does
    every later packet of that flow.
    """

    def __init__(
        self, item: ResolvedVip, mode: str, names: Names, slots: int, turns: int, shared: Sequence[IPAddress]
    ) -> None:
        vip = item.vip
        name = vip.name
        self._vip = vip
        self._mode = mode
        self._family = item.family
        self._has_takers = item.could_serve
        self._slots = slots
        self._names = names
        self._shared = shared
        # Without ports there is nothing else to hash; schedulers that count fall back on the finer hash.
        self._hash_port = vip.scheduler == "connection_hash" or (not vip.hashed and vip.protocol != "any")
        self._turn = f"meta mark set numgen inc mod {turns} map @{names.turns}" if turns else ""
        self._count_opened = self._count_closed = ""
        if vip.steered:
            self._count_opened = f"meta mark @{opened(vip)}"
            self._count_closed = f"meta mark @{closed(vip)}" if vip.connections else ""
            self._turn = f"meta mark set {mark(TURNS_TAKEN)} {self._count_opened} {self._turn}" if turns else ""
        # Named, not raw: of a VIP that tracks, nft would list the raw keys of its flows by name then, and not take its
        # own listing back.
        self._whose = f"{self._family.daddr} . meta mark" if names.pooled else "meta mark"
        self._to_backend = f"@ll,0,96 set {self._whose} map @{names.backends}"
        self._out = f"goto output{self._family.suffix}_{item.backend_interface}"
        packet = self._family.packet
        self._key = self._flow_key(packet)
        self._flow = f"meta mark set {self._key} map @flows_{name}"
        self._closing = f"meta mark set {self._key} map @closing_{name}"
        self._times = vip.flows.timeouts

    def _flow_key(self, packet: Packet) -> str:
        return packet.alone if self._vip.protocol == "any" else packet.flow

    def _index(self, packet: Packet) -> str:
        return f"meta mark set jhash {packet.hashed(self._hash_port)} mod {self._slots} seed {SEED:#x}"

    def _owner(self, packet: Packet) -> str:
        return f"{self._index(packet)} map @{self._names.slots}"

    def _taker(self, packet: Packet) -> str:
        return f"{self._index(packet)} meta mark set {self._whose} map @{self._names.handout}"

    def _set(self, operation: str, kind: str, seconds: int = 0) -> str:
        life = f" timeout {seconds}s" if seconds else ""
        key = self._family.saddr if kind == "clients" else self._key
        return f"{operation} @{kind}_{self._vip.name} {{ {key}{life} : meta mark }}"

    def _forward(self, choice: str, *notes: str) -> str:
        return " ".join((choice, self._to_backend, *notes, self._out))

    def _known(self, choice: str, *notes: str) -> list[str]:
        """Forward what is tracked. Where clients are to stay, each packet counts for its client too."""
        rule = self._forward(choice, *notes)
        if not self._vip.persistence_timeout:
            return [rule]
        renewed = self._set("update", "clients", self._vip.persistence_timeout)
        # When the table of clients is full the first one breaks, and the flow must go on all the same.
        return [self._forward(choice, *notes, renewed), rule]

    def _record(self, choice: str, client: str = "") -> str:
        """Choose, record, forward. Deleting first: an update would renew a dead backend's entry.

        ``client`` is what becomes of the client's entry where clients are to stay: it is made "new", or
        "renewed" as it is. Not deleted for that: another processor's packet would find none meanwhile.
        """
        connections = self._vip.connections
        forget = (self._set("delete", "flows"), *((self._set("delete", "closing"),) if connections else ()))
        life = self._times["syn" if connections else "udp"]
        stay = [self._set("delete", "clients")] if client == "new" else []
        stay += [self._set("update", "clients", self._vip.persistence_timeout)] if client else []
        stay += [self._count_opened] if self._count_opened else []
        return " ".join((choice, self._to_backend, *forget, self._set("update", "flows", life), *stay, self._out))

    def refused(self) -> list[str]:
        """What is dropped even of a flow that is known."""
        vip, family = self._vip, self._family
        rules = [guarded()]
        if vip.deny_sources:
            rules.append(f"{family.saddr} @deny_{vip.name} counter drop")
        if vip.allow_sources is not None:
            rules.append(f"{family.saddr} != @allow_{vip.name} counter drop")
        return rules

    def impossible(self) -> list[str]:
        """Sources that nobody has. No flow of them is ever recorded, so what is known need not be asked again."""
        family = self._family
        vip_as_source = family.source_is_vip(self._shared) if self._shared else family.source_is(self._vip.address)
        return [
            "@ll,48,32 & 0x01000000 != 0 counter drop",  # a group's address
            f"{vip_as_source} counter drop",
            *(f"{condition} counter drop" for condition in family.impossible),
        ]

    def _limited(self) -> list[str]:
        rate = self._vip.new_flows_per_source
        if rate is None:
            return []
        return [
            f"update @newflows_{self._vip.name} {{ {self._family.saddr} limit rate over {rate} "
            f"burst {rate.number} packets }} counter drop"
        ]

    def new_connections(self) -> list[str]:
        """The limit of new flows, where no chain of their own tells them."""
        return [f"{_OPENS[self._vip.protocol]} {rule}" for rule in self._limited()]

    def _empty(self) -> str:
        """What becomes of a packet for which nobody is left."""
        if self._vip.on_empty == "local":
            return "counter accept"
        if self._vip.on_empty == "reject":
            how = "tcp reset" if self._vip.protocol == "tcp" else "icmpx port-unreachable"
            return f"counter reject with {how}"
        return "counter drop"

    def by_full_table(self) -> list[str]:
        """The slot's owner; if it isn't available, who has the slot meanwhile; or nobody."""
        packet = self._family.packet
        return [self._forward(self._owner(packet)), self._forward(self._taker(packet)), self._empty()]

    def icmp_error(self) -> list[str]:
        """An error about a packet that a backend sent goes to that backend: by its flow's entry, or by the hash."""
        quoted = self._family.quoted
        rules = [guarded()]
        if self._mode != PLAIN:
            key = self._flow_key(quoted)
            kinds = ("flows", "closing") if self._vip.connections else ("flows",)
            rules += [self._forward(f"meta mark set {key} map @{kind}_{self._vip.name}") for kind in kinds]
        rules += [self._forward(self._owner(quoted)), self._forward(self._taker(quoted))]
        rules.append("counter accept" if self._vip.on_empty == "local" else "counter drop")
        return rules

    def _schedule_new(self) -> list[str]:
        packet = self._family.packet
        # Slots of backends that get no new flows are all in the handout; any other owner is fine.
        choices = [self._turn] if self._turn else [self._taker(packet), self._owner(packet)]
        if not self._vip.persistence_timeout:
            return [self._record(choice) for choice in choices]
        name = self._vip.name
        remembered = f"meta mark set {self._family.saddr} map @clients_{name} meta mark @fit_{name}"
        rules = [self._record(remembered, client="renewed")]
        for choice in choices:
            rules += [self._record(choice, client="new"), self._record(choice)]
        return rules

    def connections(self) -> list[str]:
        """A protocol with connections, whose first and last packets tell themselves."""
        name = self._vip.name
        return [
            f"{_OPENS[self._vip.protocol]} goto syn_{name}",
            *(f"{condition} goto fin_{name}" for condition in _CLOSES[self._vip.protocol]),
            *self._known(self._flow, self._set("update", "flows", self._times["established"])),
            # Once closing, never established again: a half-closed download lives while it moves.
            *self._known(self._closing, self._set("update", "closing", self._times["closing"])),
            f"goto fallback_{name}",
        ]

    def opening(self) -> list[str]:
        name = self._vip.name
        checks = [*self.impossible(), *self._limited()]
        repeated = self._forward(self._flow)  # a SYN sent again stays with its backend
        if self._mode == RELEASED:
            # Nothing new is recorded, but an entry of an earlier connection of these ports must not
            # catch the packets that follow.
            return [*checks, repeated, self._set("delete", "closing"), f"goto fallback_{name}"]
        if not self._has_takers:
            return [*checks, repeated, self._empty()]
        return [*checks, repeated, *self._schedule_new(), f"counter goto fallback_{name}"]

    def ending(self) -> list[str]:
        closing = self._set("update", "closing", self._times["closing"])
        counted = [self._count_closed] if self._count_closed else []
        return [
            self._forward(self._flow, closing, self._set("delete", "flows"), *counted),
            self._forward(self._flow),  # the closing table is full: the entry stays where it is
            self._forward(self._closing, closing),
            f"goto fallback_{self._vip.name}",
        ]

    def datagrams(self) -> list[str]:
        """A protocol without connections: a flow is known, or it is new."""
        name = self._vip.name
        known = self._known(self._flow, self._set("update", "flows", self._times["udp"]))
        if self._mode == RELEASED:
            return [*known, f"goto fallback_{name}"]
        known += self.impossible()
        grace = [f"meta protocol vmap @switch_{name}"] if self._mode == DRAINING else []
        if not self._has_takers:
            return [*known, *grace, self._empty()]
        return [*known, *grace, *self._limited(), *self._schedule_new(), f"counter goto fallback_{name}"]

    def datagrams_in_grace(self) -> list[str]:
        """In the first seconds of a drain an unknown flow may be an old one: by the full table."""
        packet = self._family.packet
        return [
            self._record(self._owner(packet)),
            self._record(self._taker(packet)),
            f"counter goto fallback_{self._vip.name}",
        ]

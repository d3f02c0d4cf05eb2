# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values that stand for an nftables table: the one that is wanted, and the one that the kernel has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from .model import IPAddress

TABLE = "nft_dsr"


def mark(number: int) -> str:
    """A packet's mark, which is where rules keep the number of a backend, or of a slot."""
    return f"0x{number:08x}"


@dataclass(frozen=True)
class Spec:
    """What a map or set is declared as, in the words of nft's JSON."""

    key: tuple[str, ...]
    value: Optional[str]  # None for a set
    size: Optional[int] = None
    flags: frozenset[str] = frozenset()
    counter: bool = False
    timeout: Optional[int] = None  # seconds, of elements that have none of their own


@dataclass(frozen=True)
class Map:
    """A map or set of the table. ``elements`` is None where the kernel itself fills it."""

    name: str
    declaration: tuple[str, ...]
    spec: Spec
    elements: Optional[Mapping[str, str]] = field(default_factory=dict)
    # Elements that are added when the map is made and that end by themselves.
    initial: Mapping[str, str] = field(default_factory=dict)
    # The agent gives these values out: whichever a key has of them is right.
    steered: bool = False
    # The chain of which it counts something: when that is written anew, it counts from nothing.
    counts: str = ""

    @property
    def kind(self) -> str:
        return "set" if self.spec.value is None else "map"


@dataclass(frozen=True)
class Chain:
    name: str
    rules: tuple[str, ...]
    device: Optional[str] = None  # of the hook, for a base chain
    hook: str = "ingress"


@dataclass(frozen=True)
class Names:
    """What a VIP's packets go through; '' for what it does not have."""

    chain: str = ""
    slots: str = ""
    backends: str = ""
    turns: str = ""

    @property
    def pooled(self) -> bool:
        """Rules and maps are those of a pool, in which the VIP's address tells whose something is."""
        return self.chain.startswith("pool_")

    @property
    def handout(self) -> str:
        return f"{'poolhandout' if self.pooled else 'handout'}_{_owner(self.backends)}"

    @property
    def error(self) -> str:
        """The chain of ICMP errors about its flows."""
        return f"{'poolerror' if self.pooled else 'error'}_{_owner(self.chain)}"

    def key(self, address: IPAddress, number: int) -> str:
        """The key of a VIP's backend, or slot, in its maps of backends and of what is handed out."""
        return f"{address} . {mark(number)}" if self.pooled else mark(number)


def _owner(name: str) -> str:
    return name.partition("_")[2]


@dataclass(frozen=True)
class Table:
    """The whole table, by the names of what is in it. ``names`` has what each VIP goes through."""

    maps: Mapping[str, Map]
    chains: Mapping[str, Chain]
    names: Mapping[str, Names] = field(default_factory=dict)


class TableBuilder:
    """Collects the objects of a table in the order in which they are made."""

    def __init__(self) -> None:
        self.maps: dict[str, Map] = {}
        self.chains: dict[str, Chain] = {}
        self._merged: dict[str, dict[str, str]] = {}

    def map(
        self,
        name: str,
        declaration: Sequence[str],
        spec: Spec,
        elements: Optional[Mapping[str, str]],
        initial: Optional[Mapping[str, str]] = None,
        steered: bool = False,
        counts: str = "",
    ) -> str:
        self.maps[name] = Map(name, tuple(declaration), spec, elements, initial or {}, steered, counts)
        return name

    def merge(self, name: str, declaration: Sequence[str], spec: Spec, elements: Mapping[str, str]) -> None:
        """A map to which several contribute."""
        if name not in self.maps:
            self._merged[name] = {}
            self.map(name, declaration, spec, self._merged[name])
        self._merged[name].update(elements)

    def chain(self, name: str, rules: Iterable[str], device: Optional[str] = None, hook: str = "ingress") -> str:
        self.chains[name] = Chain(name, tuple(rules), device, hook)
        return name


@dataclass(frozen=True)
class Hook:
    """Where a base chain hangs."""

    kind: str
    hook: str
    devices: frozenset[str]
    priority: str
    policy: str

    @classmethod
    def of_device(cls, device: str, hook: str = "ingress") -> Hook:
        return cls("filter", hook, frozenset({device}), "0", "accept")


@dataclass(frozen=True)
class KernelChain:
    hook: Optional[Hook]
    code: tuple[str, ...]  # one text of byte code for each rule
    text: tuple[str, ...] = ()  # the rules as nft prints them


@dataclass(frozen=True)
class KernelMap:
    kind: str  # map or set
    spec: Spec


@dataclass(frozen=True)
class Counter:
    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Counter) -> Counter:
        return Counter(self.packets + other.packets, self.bytes + other.bytes)


@dataclass
class KernelTable:
    """Our table as the kernel has it; ``present`` is false when there is none."""

    present: bool = False
    maps: dict[str, KernelMap] = field(default_factory=dict)
    chains: dict[str, KernelChain] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    counters: dict[str, dict[str, Counter]] = field(default_factory=dict)
    # Objects of kinds that are never ours: (kind, name).
    foreign: list[tuple[str, str]] = field(default_factory=list)


def chain_head(chain: Chain) -> str:
    """The line of a base chain that hooks it in, '' for any other."""
    return f'type filter hook {chain.hook} device "{chain.device}" priority 0; policy accept;' if chain.device else ""


def table_text(table: Table, name: str = TABLE, elements: bool = True) -> str:
    """The table in nft's own syntax, as one block that nft loads."""
    lines = [f"table netdev {name} {{"]
    for item in table.maps.values():
        lines.append(f"\t{item.kind} {item.name} {{")
        lines.extend(f"\t\t{line}" for line in item.declaration)
        content = {**(item.elements or {}), **item.initial}
        if elements and content:
            lines.append("\t\telements = {")
            lines.extend(f"\t\t\t{element_text(key, value)}," for key, value in content.items())
            lines.append("\t\t}")
        lines.append("\t}")
    for chain in table.chains.values():
        lines.append(f"\tchain {chain.name} {{")
        if chain.device:
            lines.append(f"\t\t{chain_head(chain)}")
        lines.extend(f"\t\t{rule}" for rule in chain.rules)
        lines.append("\t}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def boot_text(table: Table) -> str:
    """A file that brings the table up from nothing or from anything, in one transaction."""
    return (
        "# Managed by Ansible (dsr.layer2): written at each run, loaded at boot by nft-dsr.service.\n"
        f"table netdev {TABLE}\n"
        f"delete table netdev {TABLE}\n" + (table_text(table) if table.chains else "")
    )


def element_text(key: str, value: str) -> str:
    return f"{key} : {value}" if value else key

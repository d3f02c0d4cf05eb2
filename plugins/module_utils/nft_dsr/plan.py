# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to change in the kernel, as one transaction that holds only what differs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from .table import TABLE, Chain, Counter, Hook, KernelMap, KernelTable, Map, Spec, Table, chain_head, element_text

# Long element lists are cut into commands of this many, so that they stay readable.
_ELEMENTS_PER_COMMAND = 512


@dataclass(frozen=True)
class Plan:
    """``commands`` in nft's syntax, to be run as one; ``reasons`` say in words what differs."""

    commands: tuple[str, ...]
    reasons: tuple[str, ...]
    resized: tuple[str, ...] = ()  # maps that rules fill and that keep what is in them, if the kernel can do that

    @property
    def text(self) -> str:
        return "".join(f"{command}\n" for command in self.commands)


def make_plan(
    want: Table,
    codes: Mapping[str, Sequence[str]],
    have: KernelTable,
    recreate: Collection[str] = (),
    carried: Optional[Mapping[str, Mapping[str, Counter]]] = None,
) -> Plan:
    """How the kernel's table becomes the wanted one.

    ``codes`` is the byte code of the wanted chains. ``recreate`` names maps to be made anew even when
    they look right: the switch of a drain that starts again. ``carried`` has what elements, by map and key, are to
    count from now on, whatever they counted, for whomever.
    """
    if not want.chains and not want.maps:
        if have.present:
            return Plan((f"delete table netdev {TABLE}",), ("the table is not wanted any more",))
        return Plan((), ())
    return _Planner(want, codes, have, frozenset(recreate), carried or {}).plan()


def _same_spec(want: Spec, have: KernelMap, kind: str) -> bool:
    return kind == have.kind and want == have.spec


def _only_size_differs(want: Map, have: KernelMap) -> bool:
    """A table of flows of another size: the kernel (since 6.x) changes that in place, and the flows stay."""
    return (
        want.elements is None
        and want.spec.size != have.spec.size
        and _same_spec(replace(want.spec, size=have.spec.size), have, want.kind)
    )


class _Planner:
    def __init__(
        self,
        want: Table,
        codes: Mapping[str, Sequence[str]],
        have: KernelTable,
        recreate: frozenset[str],
        carried: Mapping[str, Mapping[str, Counter]],
    ) -> None:
        self._carried = carried
        self._want = want
        self._codes = codes
        self._have = have
        self.reasons: list[str] = []
        if not have.present:
            self.reasons.append("the table is missing")
        self._lost_maps = sorted(set(have.maps) - set(want.maps))
        self._new_maps = [name for name in want.maps if name not in have.maps]
        self._resized_maps = [
            name
            for name, item in want.maps.items()
            if name in have.maps and name not in recreate and _only_size_differs(item, have.maps[name])
        ]
        self._remade_maps = [
            name
            for name, item in want.maps.items()
            if name in have.maps
            and name not in self._resized_maps
            and (name in recreate or not _same_spec(item.spec, have.maps[name], item.kind))
        ]
        self._lost_chains = sorted(set(have.chains) - set(want.chains))
        self._new_chains = [name for name in want.chains if name not in have.chains]
        # A hook can't be changed in place.
        self._rehooked = [
            name
            for name, chain in want.chains.items()
            if name in have.chains and have.chains[name].hook != _hook(chain)
        ]
        gone = frozenset(self._lost_maps) | frozenset(self._remade_maps)
        self._rewritten = self._chains_to_rewrite(gone)
        # A rule's counter of turns begins anew with the rule, and what counts along with it has to as well.
        anew = {*self._rewritten, *self._new_chains}
        self._restarted = {
            name for name, item in want.maps.items() if item.counts in anew and name in have.maps and name not in gone
        }
        if self._restarted:
            self._remade_maps = [name for name in want.maps if name in {*self._remade_maps, *self._restarted}]
            self._rewritten = self._chains_to_rewrite(gone | self._restarted)

    def _chains_to_rewrite(self, gone: frozenset[str]) -> list[str]:
        """Those whose rules differ, or refer to a map that goes."""
        return [
            name
            for name, chain in self._want.chains.items()
            if name in self._have.chains
            and name not in self._rehooked
            and (self._have.chains[name].code != tuple(self._codes.get(name, ())) or _mentions(chain, gone))
        ]

    def plan(self) -> Plan:
        commands: list[str] = [] if self._have.present else [f"add table netdev {TABLE}"]
        commands += self._delete_elements()
        # What refers to others goes before what is referred to.
        for name in [*self._lost_chains, *self._rehooked, *self._rewritten]:
            commands.append(f"flush chain netdev {TABLE} {name}")
        for name in [*self._lost_maps, *self._remade_maps]:
            commands.append(f"delete {self._have.maps[name].kind} netdev {TABLE} {name}")
        for name in [*self._rehooked, *self._lost_chains]:
            commands.append(f"delete chain netdev {TABLE} {name}")
        for kind, name in self._have.foreign:
            commands.append(f"delete {kind} netdev {TABLE} {name}")
        for name in [*self._new_chains, *self._rehooked]:
            head = chain_head(self._want.chains[name])
            commands.append(f"add chain netdev {TABLE} {name}" + (f" {{ {head} }}" if head else ""))
        for name in [*self._resized_maps, *self._new_maps, *self._remade_maps]:
            item = self._want.maps[name]
            commands.append(
                f"add {item.kind} netdev {TABLE} {name} {{ {' '.join(f'{line};' for line in item.declaration)} }}"
            )
        commands += self._add_elements()
        for name in [*self._new_chains, *self._rehooked, *self._rewritten]:
            commands += [f"add rule netdev {TABLE} {name} {rule}" for rule in self._want.chains[name].rules]
        self._explain()
        return Plan(tuple(commands), tuple(self.reasons), tuple(self._resized_maps))

    def _kept_maps(self) -> list[Map]:
        return [
            item
            for name, item in self._want.maps.items()
            if name in self._have.maps and name not in self._remade_maps and item.elements is not None
        ]

    def _wanted(self, item: Map) -> Mapping[str, str]:
        """What is to be in a map that stays. Where the agent gives out the values, what it gave out is wanted."""
        wanted = item.elements or {}
        if not item.steered:
            return wanted
        have = self._have.elements.get(item.name, {})
        values = frozenset(wanted.values())
        return {key: have[key] if have.get(key) in values else value for key, value in wanted.items()}

    def _delete_elements(self) -> list[str]:
        commands: list[str] = []
        for item in self._kept_maps():
            have = self._have.elements.get(item.name, {})
            wanted = self._wanted(item)
            commands += _element_commands(
                "delete",
                item,
                [
                    key
                    for key, value in have.items()
                    if wanted.get(key) != value or key in self._carried.get(item.name, ())
                ],
            )
        # A verdict holds on to its chain until the map that it stands in goes; both go in this
        # transaction, but the elements first, as the chain is checked when it is deleted.
        for name in [*self._lost_maps, *self._remade_maps]:
            if self._have.maps[name].spec.value == "verdict":
                commands.append(f"flush {self._have.maps[name].kind} netdev {TABLE} {name}")
        return commands

    def _add_elements(self) -> list[str]:
        commands: list[str] = []
        kept = {item.name for item in self._kept_maps()}
        for name, item in self._want.maps.items():
            content = {**self._wanted(item), **item.initial} if name not in kept else self._wanted(item)
            if item.elements is None and name in self._have.maps and name not in self._remade_maps:
                continue
            have = self._have.elements.get(name, {}) if name in kept else {}
            carried = self._carried.get(name, {})
            counters = {**({} if item.counts else self._have.counters.get(name, {})), **carried}
            texts = [
                _with_counter(key, value, item, counters.get(key))
                for key, value in content.items()
                if have.get(key) != value or key in carried
            ]
            commands += _element_commands("add", item, texts)
        return commands

    def _explain(self) -> None:
        say = self.reasons.append
        if not self._have.present:
            return
        for name in self._new_chains:
            say(f"chain {name}: missing")
        for name in self._lost_chains:
            say(f"chain {name}: not wanted")
        for name in self._rehooked:
            say(f"chain {name}: hooked differently")
        for name in self._rewritten:
            if self._have.chains[name].code != tuple(self._codes.get(name, ())):
                say(f"chain {name}: rules differ")
        for name in self._new_maps:
            say(f"{self._want.maps[name].kind} {name}: missing")
        for name in self._lost_maps:
            say(f"{self._have.maps[name].kind} {name}: not wanted")
        for name in self._remade_maps:
            why = "counts anew" if name in self._restarted else "declared differently"
            say(f"{self._want.maps[name].kind} {name}: {why}")
        for name in self._resized_maps:
            say(f"{self._want.maps[name].kind} {name}: has another size")
        for kind, name in self._have.foreign:
            say(f"{kind} {name}: not wanted")
        for item in self._kept_maps():
            have = self._have.elements.get(item.name, {})
            wanted = self._wanted(item)
            changed = {key for key in {*have, *wanted} if have.get(key) != wanted.get(key)}
            if changed:
                say(f"{item.kind} {item.name}: {len(changed)} of {len({*have, *wanted})} elements differ")


def _hook(chain: Chain) -> Optional[Hook]:
    return Hook.of_device(chain.device, chain.hook) if chain.device else None


def _mentions(chain: Chain, maps: frozenset[str]) -> bool:
    words = {word for rule in chain.rules for word in rule.split() if word.startswith("@")}
    return any(f"@{name}" in words for name in maps)


def _with_counter(key: str, value: str, item: Map, counter: Optional[Counter]) -> str:
    """An element that replaces one of the same key goes on counting where that one stood."""
    if item.spec.counter and counter and counter.packets:
        return element_text(f"{key} counter packets {counter.packets} bytes {counter.bytes}", value)
    return element_text(key, value)


def _element_commands(verb: str, item: Map, texts: Sequence[str]) -> list[str]:
    return [
        f"{verb} element netdev {TABLE} {item.name} {{ {', '.join(texts[at : at + _ELEMENTS_PER_COMMAND])} }}"
        for at in range(0, len(texts), _ELEMENTS_PER_COMMAND)
    ]

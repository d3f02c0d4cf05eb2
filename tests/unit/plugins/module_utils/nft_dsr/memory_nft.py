# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nft and the kernel's netdev tables in memory, as far as this collection uses them, and stricter where it can be.

It takes the very texts that go to nft and answers with listings of the same form. Like the kernel it runs a
transaction whole or not at all, keeps objects that something refers to, and deletes only what is there. Its "byte
code" of a rule is the rule itself.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed

# Of the expressions that a map can be declared by: their types. A place in the packet is an integer.
_TYPES = {
    "ip saddr": "ipv4_addr",
    "ip daddr": "ipv4_addr",
    "ip6 saddr": "ipv6_addr",
    "ip6 daddr": "ipv6_addr",
    "ip protocol": "inet_proto",
    "meta l4proto": "inet_proto",
    "ip id": "integer",
    "th sport": "inet_service",
    "th dport": "inet_service",
    "meta mark": "mark",
    "ether daddr": "ether_addr",
}
_RAW = re.compile(r"@(?:ll|nh|th),\d+,(\d+)\Z")
_INTEGERS = re.compile(r"numgen inc mod [1-9]\d*\Z")
_EXPRESSIONS = {**_TYPES, "ether saddr": "ether_addr", "meta protocol": "ether_type"}
# A map or set in a rule, and what is put into it
_USE = re.compile(r" @((?!(?:ll|nh|th),)\S+)(?: \{ (.*?) \})?")
# Bits, of the types that are no integer
_SIZES = {"ipv4_addr": 32, "ipv6_addr": 128, "ether_addr": 48}
# Not all versions of nft can fill maps from rules whose keys are longer than this.
_LONGEST_FILLED_KEY = 16
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_ETHER_TYPES = {"ip": 8, "ip6": 56710}
_HEAD = re.compile(r'type filter hook (ingress|egress) device "([^"]+)" priority 0;(?: policy accept;)?\Z')
# What a rule sets by a map, and what the values of that map have to be
_SET = re.compile(r"(?:\A| )((?:ip6?|ether) [sd]addr|meta mark) set (?!.*\bset\b)")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_VERDICT = re.compile(r"goto (\S+)\Z")
_COMMAND = re.compile(
    r"(add|delete|flush) (table|chain|rule|map|set|element|counter) netdev (\S+)(?: (\S+))?(?: (.+))?\Z"
)


class NftError(Exception):
    """nft or the kernel says no."""


@dataclass
class Element:
    value: str = ""
    timeout: str = ""
    packets: int = 0
    bytes: int = 0


@dataclass
class MemoryMap:
    kind: str
    declaration: tuple[str, ...]
    key: tuple[str, ...]
    value: Optional[str]
    size: Optional[int] = None
    flags: frozenset[str] = frozenset()
    counter: bool = False
    timeout: Optional[int] = None
    widths: tuple[int, ...] = ()  # of the key's parts, in bytes of the kernel's registers
    elements: dict[str, Element] = field(default_factory=dict)

    @classmethod
    def declared(cls, kind: str, lines: Sequence[str]) -> MemoryMap:
        types: Optional[tuple[tuple[str, ...], Optional[str]]] = None
        size, flags, counter, timeout, widths = None, frozenset[str](), False, None, ()
        for line in lines:
            word, _space, rest = line.partition(" ")
            if word in ("type", "typeof"):
                key, colon, value = rest.partition(" : ")
                by_name = {name: name for name in (*_TYPES.values(), "ether_type", "verdict")}
                named = by_name if word == "type" else {**_TYPES, "verdict": "verdict"}
                parts = tuple(_known(named, part, word == "typeof") for part in key.split(" . "))
                types = parts, _known(named, value, word == "typeof") if colon else None
                widths = tuple(_width(part, kind) for part, kind in zip(key.split(" . "), parts))
            elif word == "size":
                size = int(rest)
            elif word == "flags":
                flags = frozenset(rest.split(","))
            elif line == "counter":
                counter = True
            elif re.fullmatch(r"timeout \d+s", line):
                timeout = int(rest[:-1])
            else:
                raise NftError(f"syntax error in a declaration: {line}")
        if types is None or (types[1] is None) != (kind == "set"):
            raise NftError(f"a {kind} of a wrong type: {lines}")
        if "dynamic" in flags and (sum(widths) > _LONGEST_FILLED_KEY or size is None):
            raise NftError(f"a {kind} that rules can't fill, with a key of {sum(widths)} bytes: {lines}")
        return cls(kind, tuple(lines), types[0], types[1], size, flags, counter, timeout, widths)

    def check(self, key: str, value: str) -> None:
        """NftError where an element is not of the map's types."""
        parts = key.split(" . ")
        if len(parts) != len(self.key) or not all(
            _valid(kind, part, "interval" in self.flags) for kind, part in zip(self.key, parts)
        ):
            raise NftError(f"the key {key!r} is not of the type {self.key}")
        if (value and not _valid(self.value or "", value, False)) or bool(value) == (self.kind == "set"):
            raise NftError(f"the value {value!r} is not of the type {self.value}")

    def overlap(self, key: str) -> Optional[str]:
        """A key of the map that has something in common with this one."""
        if "interval" not in self.flags:
            return key if key in self.elements else None
        return next((other for other in self.elements if _overlaps(key, other)), None)


@dataclass
class MemoryChain:
    device: Optional[str] = None
    hook: str = "ingress"
    policy: str = "accept"
    rules: list[str] = field(default_factory=list)


@dataclass
class MemoryTable:
    chains: dict[str, MemoryChain] = field(default_factory=dict)
    maps: dict[str, MemoryMap] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)

    def copy(self) -> MemoryTable:
        return MemoryTable(
            {name: replace(chain, rules=list(chain.rules)) for name, chain in self.chains.items()},
            {name: replace(item, elements=dict(item.elements)) for name, item in self.maps.items()},
            set(self.counters),
        )

    def users_of_chain(self, name: str) -> list[str]:
        return [
            f"chain {other}"
            for other, chain in self.chains.items()
            if any(f" {verb} {name} " in f" {rule} " for rule in chain.rules for verb in ("goto", "jump"))
        ] + [
            f"map {other}"
            for other, item in self.maps.items()
            if any(element.value == f"goto {name}" for element in item.elements.values())
        ]

    def users_of_map(self, name: str) -> list[str]:
        return [
            other for other, chain in self.chains.items() if any(f"@{name}" in rule.split() for rule in chain.rules)
        ]

    def check_loops(self) -> None:
        """NftError where a packet could go round in a circle."""
        ways: dict[str, set[str]] = {}
        for name, chain in self.chains.items():
            words = [word for rule in chain.rules for word in rule.split()]
            maps = [self.maps[word[1:]] for word in words if word.startswith("@") and word[1:] in self.maps]
            ways[name] = {after for word, after in zip(words, words[1:]) if word in ("goto", "jump")}
            ways[name] |= {
                element.value.partition(" ")[2]
                for item in maps
                if item.value == "verdict"
                for element in item.elements.values()
            }
        while ends := [name for name, targets in ways.items() if not targets & set(ways)]:
            for name in ends:
                del ways[name]
        if ways:
            raise NftError(f"Too many links: {sorted(ways)}")

    def contents(self, without: frozenset[str] = frozenset({"timeout"})) -> dict[str, Any]:
        """Everything that a configuration decides; elements of maps with a flag of ``without`` are none of that."""
        return {
            "chains": {
                name: (chain.device, chain.hook, chain.policy, chain.rules) for name, chain in self.chains.items()
            },
            "maps": {
                name: (
                    item.kind,
                    item.declaration,
                    None if item.flags & without else {key: element.value for key, element in item.elements.items()},
                )
                for name, item in self.maps.items()
            },
            "counters": self.counters,
        }


class MemoryNft:
    """What ``Kernel`` takes for a program runner."""

    def __init__(
        self, nics: Sequence[str] = ("eth0", "eth1"), version: str = "nftables v1.0.6 (Lester Gooch #5)"
    ) -> None:
        self.nics = list(nics)
        self.version = version
        self.tables: dict[str, MemoryTable] = {}
        self.transactions: list[str] = []
        self.generation = 1  # how many transactions there were, by whomever
        self.resizes = True  # as newer kernels do; others take the words and leave the map as it is
        self.egress = True  # as newer kernels have
        self.refuse = ""  # what the kernel says to the next transactions, if anything

    @property
    def table(self) -> MemoryTable:
        return self.tables["nft_dsr"]

    def flush(self) -> None:
        """As `nft flush ruleset` does."""
        self.tables = {}
        self.generation += 1

    def load(self, text: str) -> None:
        """Run a transaction; NftError when it fails, and then nothing has changed."""
        tables = {name: table.copy() for name, table in self.tables.items()}
        for operation in _operations(text):
            _Operation(tables, ["lo", *self.nics], self.resizes, self.egress).run(*operation)
        for table in tables.values():
            table.check_loops()
        self.tables = tables
        self.generation += 1

    def _another(self) -> MemoryNft:
        """An empty one of the same kernel."""
        other = MemoryNft(self.nics)
        other.egress = self.egress
        return other

    def __call__(self, argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        words = [word for word in argv[1:] if word != "-n"]
        try:
            if words == ["--version"]:
                return Completed(tuple(argv), 0, f"{self.version}\n", "")
            if words == ["-f", "-"]:
                assert stdin is not None
                if self.refuse:
                    raise NftError(self.refuse)
                self.load(stdin)
                self.transactions.append(stdin)
                return Completed(tuple(argv), 0, "", "")
            if words == ["-c", "-f", "-"]:
                assert stdin is not None
                checked = self._another()
                checked.tables = {name: table.copy() for name, table in self.tables.items()}
                checked.load(stdin)
                return Completed(tuple(argv), 0, "", "")
            if words == ["-c", "--debug=netlink", "-f", "-"]:
                assert stdin is not None
                checked = self._another()
                checked.load(stdin)
                return Completed(tuple(argv), 0, "\n".join(checked.code(loaded=False)), "")
            if words == ["-t", "--debug=netlink", "list", "ruleset", "netdev"]:
                return Completed(tuple(argv), 0, "\n".join([*self.code(loaded=True), *self.listing()]), "")
            if words[0] == "-j":
                rows = [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}, *self.rows(words[1:])]
                return Completed(tuple(argv), 0, json.dumps({"nftables": rows}), "")
        except NftError as error:
            return Completed(tuple(argv), 1, "", f"/dev/stdin:1:1-1: Error: {error}\n")
        raise AssertionError(f"nothing is known of {argv}")

    def code(self, loaded: bool) -> Iterator[str]:
        """What --debug=netlink prints of the rules; only the heads of loaded ones have handles."""
        for table_name, table in self.tables.items():
            for name, chain in table.chains.items():
                for number, rule in enumerate(chain.rules, 1):
                    handles = [
                        *([str(number)] if loaded else []),
                        *([str(number - 1)] if loaded and number > 1 else []),
                    ]
                    yield " ".join(["netdev", table_name, name, *handles])
                    yield f"  [ rule {rule} ]"
                    yield ""

    def listing(self) -> Iterator[str]:
        """The tables as text, without elements."""
        for table_name, table in self.tables.items():
            yield f"table netdev {table_name} {{"
            for name, item in table.maps.items():
                yield from (f"\t{item.kind} {name} {{", *(f"\t\t{line}" for line in item.declaration), "\t}", "")
            for name, chain in table.chains.items():
                yield f"\tchain {name} {{"
                if chain.device:
                    hook = f'hook {chain.hook} device "{chain.device}"'
                    yield f"\t\ttype filter {hook} priority 0; policy {chain.policy};"
                # That a rule counts is always printed with what it counted.
                yield from ("\t\t" + re.sub(r"\bcounter\b", "counter packets 0 bytes 0", rule) for rule in chain.rules)
                yield from ("\t}", "")
            yield "}"

    def rows(self, words: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of a listing as JSON."""
        if list(words) == ["list", "tables", "netdev"]:
            yield from ({"table": {"family": "netdev", "name": name}} for name in self.tables)
            return
        terse = words[0] == "-t"
        what = list(words[1:] if terse else words)
        if what == ["list", "ruleset", "netdev"]:
            chosen = list(self.tables)
        elif what[:3] in (["list", "map", "netdev"], ["list", "set", "netdev"]):
            table, name = what[3:]
            if table not in self.tables or self.tables[table].maps.get(name, MemoryMap("", (), (), "")).kind != what[1]:
                raise NftError("No such file or directory")
            yield {what[1]: _body(table, name, self.tables[table].maps[name], terse)}
            return
        elif what[:3] == ["list", "table", "netdev"]:
            chosen = what[3:]
        else:
            raise AssertionError(f"nothing is known of {what}")
        for table_name in chosen:
            table_here = self.tables[table_name]
            yield {"table": {"family": "netdev", "name": table_name}}
            yield from (
                {"counter": {"family": "netdev", "table": table_name, "name": name}} for name in table_here.counters
            )
            yield from ({item.kind: _body(table_name, name, item, terse)} for name, item in table_here.maps.items())
            for name, chain in table_here.chains.items():
                yield {"chain": {"family": "netdev", "table": table_name, "name": name}}
                yield from ({"rule": {"family": "netdev", "table": table_name, "chain": name}} for _rule in chain.rules)


class _Operation:
    """One step of a transaction."""

    def __init__(self, tables: dict[str, MemoryTable], nics: Sequence[str], resizes: bool, egress: bool) -> None:
        self._tables = tables
        self._nics = nics
        self._resizes = resizes
        self._egress = egress

    def run(self, verb: str, kind: str, table: str, name: str, rest: str) -> None:
        if kind == "table":
            if verb == "delete":
                self._existing(self._tables, table)
                del self._tables[table]
            else:
                self._tables.setdefault(table, MemoryTable())
            return
        self._table: MemoryTable = self._existing(self._tables, table)
        getattr(self, f"_{verb}_{kind}")(name, rest)

    @staticmethod
    def _existing(things: dict[str, Any], name: str) -> Any:
        if name not in things:
            raise NftError(f"No such file or directory: {name}")
        return things[name]

    def _add_chain(self, name: str, rest: str) -> None:
        new = MemoryChain()
        if rest:
            match = _HEAD.match(_braced(rest))
            if not match:
                raise NftError(f"syntax error in the head of a chain: {rest}")
            new = MemoryChain(match[2], match[1])
            if new.device not in self._nics:
                raise NftError(f"No such file or directory: {new.device}")
            if new.hook == "egress" and not self._egress:
                raise NftError("Operation not supported")
        old = self._table.chains.setdefault(name, new)
        if (old.device, old.hook) != (new.device, new.hook):
            raise NftError(f"File exists: the chain {name} is hooked differently")

    def _flush_chain(self, name: str, _rest: str) -> None:
        self._existing(self._table.chains, name).rules.clear()

    def _delete_chain(self, name: str, _rest: str) -> None:
        self._existing(self._table.chains, name).rules.clear()  # a chain takes its own rules with it
        users = self._table.users_of_chain(name)
        if users:
            raise NftError(f"Device or resource busy: the chain {name} is in use by {users}")
        del self._table.chains[name]

    def _add_rule(self, name: str, rule: str) -> None:
        chain = self._existing(self._table.chains, name)
        words = rule.split()
        if words[0] == "type":
            raise NftError(f"syntax error in the head of a chain: {rule}")
        for use in _USE.finditer(f" {rule}"):
            self._check_use(use[1], use[2], f" {rule}"[: use.start()], rule)
        for word, after in zip(words, words[1:]):
            if word in ("goto", "jump"):
                target = self._existing(self._table.chains, after)
                if target.device:
                    raise NftError(f"Operation not supported: {after} is a base chain")
            if word == "to" and after.strip('"') not in self._nics:
                raise NftError(f"Interface does not exist: {after}")
        chain.rules.append(rule)

    def _check_use(self, name: str, entry: Optional[str], before: str, rule: str) -> None:
        """NftError where a rule uses a map or set as what it is not."""
        item = self._existing(self._table.maps, name)
        key, _space, verb = before.rpartition(" ")
        if verb in ("update", "delete"):
            key, colon, _value = (entry or "").partition(" : ")
            if "dynamic" not in item.flags or bool(colon) != (item.kind == "map"):
                raise NftError(f"the rule can't {verb} {name}: {rule}")
            if verb == "update" and " timeout " not in key and not item.timeout:
                raise NftError(f"what the rule puts into {name} stays for ever: {rule}")
            key = re.split(r" (?:timeout|limit) ", key)[0]
        else:
            key = key if verb in ("map", "vmap") else before
            if (item.kind == "map") != (verb in ("map", "vmap")) or (item.value == "verdict") != (verb == "vmap"):
                raise NftError(f"the rule uses {name} as what it is not: {rule}")
            assigned = _SET.findall(key) if verb == "map" else []
            if assigned and _EXPRESSIONS[assigned[-1]] != item.value:
                raise NftError(f"datatype mismatch: {assigned[-1]} set to what {name} has: {rule}")
            # As versions up to 1.0.6
            if (
                re.search(r"set (?:jhash .* seed \w+|numgen inc mod \d+)\Z", key)
                and "numgen" not in item.declaration[0]
            ):
                raise NftError(f"datatype mismatch: {name} is not declared like a hash: {rule}")
        if (widths := _key_widths(key, len(item.widths))) != item.widths:
            raise NftError(f"the key {key!r} is of {widths} bytes, those of {name} of {item.widths}: {rule}")

    def _add_map(self, name: str, rest: str, kind: str = "map") -> None:
        lines = [line.strip() for line in _braced(rest).split(";") if line.strip()]
        new = MemoryMap.declared(kind, lines)
        old = self._table.maps.setdefault(name, new)
        if _but_for_size(old) != _but_for_size(new):
            raise NftError(f"File exists: {name} is declared differently")
        if self._resizes and "dynamic" in new.flags:
            self._table.maps[name] = replace(old, size=new.size, declaration=new.declaration)

    def _add_set(self, name: str, rest: str) -> None:
        self._add_map(name, rest, "set")

    def _flush_map(self, name: str, _rest: str) -> None:
        self._existing(self._table.maps, name).elements.clear()

    _flush_set = _flush_map

    def _delete_map(self, name: str, _rest: str, kind: str = "map") -> None:
        if self._existing(self._table.maps, name).kind != kind:
            raise NftError(f"No such file or directory: {name} is no {kind}")
        users = self._table.users_of_map(name)
        if users:
            raise NftError(f"Device or resource busy: {name} is in use by {users}")
        del self._table.maps[name]

    def _delete_set(self, name: str, rest: str) -> None:
        self._delete_map(name, rest, "set")

    def _add_counter(self, name: str, _rest: str) -> None:
        self._table.counters.add(name)

    def _delete_counter(self, name: str, _rest: str) -> None:
        if name not in self._table.counters:
            raise NftError(f"No such file or directory: {name}")
        self._table.counters.discard(name)

    def _add_element(self, name: str, rest: str) -> None:
        item = self._existing(self._table.maps, name)
        for text in _braced(rest).split(", "):
            key, element = _parse_element(text, item)
            item.check(key, element.value)
            verdict = _VERDICT.match(element.value)
            if verdict and self._existing(self._table.chains, verdict[1]).device:
                raise NftError(f"Operation not supported: {verdict[1]} is a base chain")
            other = item.overlap(key)
            if other is not None and (other, item.elements[other].value) != (key, element.value):
                raise NftError(f"File exists: {key} is in {name} as {other} : {item.elements[other].value}")
            item.elements.setdefault(key, element)
        if item.size is not None and len(item.elements) > item.size:
            raise NftError(f"Too many open files in system: {name} is full")

    def _delete_element(self, name: str, rest: str) -> None:
        item = self._existing(self._table.maps, name)
        for text in _braced(rest).split(", "):
            key = _parse_element(text, item)[0]
            self._existing(item.elements, key)
            del item.elements[key]


def _operations(text: str) -> Iterator[tuple[str, str, str, str, str]]:
    """A text as single steps; of a block first its chains, then its maps, elements and rules, as nft does it."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("#") or not line:
            continue
        block = re.fullmatch(r"table netdev (\S+)( \{)?", line)
        if block:
            yield "add", "table", block[1], "", ""
            if block[2]:
                yield from _block(block[1], lines)
            continue
        match = _COMMAND.match(line)
        if not match:
            raise NftError(f"syntax error: {line}")
        yield match[1], match[2], match[3], match[4] or "", match[5] or ""


def _block(table: str, lines: Iterator[str]) -> Iterator[tuple[str, str, str, str, str]]:
    chains: list[tuple[str, str, str, str, str]] = []
    maps, elements, rules = list(chains), list(chains), list(chains)
    for line in lines:
        if line == "}":
            yield from (*chains, *maps, *elements, *rules)
            return
        head = re.fullmatch(r"\t?(map|set|chain) (\S+) \{", line)
        if not head:
            raise NftError(f"syntax error: {line}")
        kind, name = head.groups()
        inside: list[str] = []
        ends = 0  # of the elements, where there are any, and of the whole
        for line in map(str.strip, lines):
            ends += line == "}"
            if line == "}" and ends > ("elements = {" in inside):
                break
            inside.append(line)
        if kind == "chain":
            hooks = [f"{{ {line} }}" for line in inside if _HEAD.match(line)]
            chains.append(("add", "chain", table, name, "".join(hooks)))
            rules += [("add", "rule", table, name, line) for line in inside if not _HEAD.match(line)]
            continue
        if "elements = {" in inside:
            at = inside.index("elements = {")
            listed = [line.rstrip(",") for line in inside[at + 1 : -1]]
            elements.append(("add", "element", table, name, f"{{ {', '.join(listed)} }}"))
            inside = inside[:at]
        maps.append(("add", kind, table, name, "{ " + " ".join(f"{line};" for line in inside) + " }"))
    raise NftError("syntax error: unexpected end of file")


def _but_for_size(item: MemoryMap) -> tuple[str, ...]:
    return tuple(line for line in item.declaration if not line.startswith("size ") or "dynamic" not in item.flags)


def _braced(text: str) -> str:
    if not text.startswith("{ ") or not text.endswith(" }"):
        raise NftError(f"syntax error: {text}")
    return text[2:-2]


def _known(named: dict[str, str], name: str, integers: bool = False) -> str:
    if integers and (_RAW.match(name) or _INTEGERS.match(name)):
        return "integer"
    if name not in named:
        raise NftError(f"unknown type: {name}")
    return named[name]


def _key_widths(text: str, count: int) -> tuple[int, ...]:
    """The widths of the key of ``count`` parts at the end of what stands before the name of a map."""
    # A hash of several fields is one part.
    parts = re.sub(r"jhash .*? mod \d+ seed 0x\w+|numgen inc mod \d+", "meta mark", text).split(" . ")[-count:]
    match = re.search(r"(?:@\S+|[a-z0-9]+ [a-z0-9]+)(?: !=)?\Z", parts[0])
    if match is None:
        raise NftError(f"no key is known in {text!r}")
    parts[0] = match[0].partition(" !=")[0]
    return tuple(_width(part, _known(_EXPRESSIONS, part, integers=True)) for part in parts)


def _width(part: str, kind: str) -> int:
    """How many bytes of the kernel's registers a part of a key takes."""
    raw = _RAW.match(part)
    bits = int(raw[1]) if raw else _SIZES.get(kind, 32)
    return -(-bits // 32) * 4


def _parse_element(text: str, item: MemoryMap) -> tuple[str, Element]:
    key, _colon, value = text.partition(" : ")
    match = re.fullmatch(r"(.+?)(?: timeout (\d+s))?(?: counter packets (\d+) bytes (\d+))?", key)
    if match is None or (match[2] and "timeout" not in item.flags) or (match[3] and not item.counter):
        raise NftError(f"syntax error in an element: {text}")
    return match[1], Element(value, match[2] or "", int(match[3] or 0), int(match[4] or 0))


def _valid(kind: str, text: str, interval: bool) -> bool:
    try:
        if kind in ("ipv4_addr", "ipv6_addr"):
            version = 4 if kind == "ipv4_addr" else 6
            if "/" in text:  # one address is written without its length
                network = ipaddress.ip_network(text)
                return interval and network.version == version and network.prefixlen < network.max_prefixlen
            address = ipaddress.ip_address(text)
            return address.version == version and str(address) == text
        if kind == "mark":
            return re.fullmatch(r"0x[0-9a-f]{8}", text) is not None
        if kind in ("inet_service", "integer"):
            if re.fullmatch(r"0x[0-9a-f]{24}", text):
                return kind == "integer"
            numbers = [int(number) for number in text.split("-")]
            highest = 65535 if kind == "inet_service" else 2**128 - 1
            return 1 <= len(numbers) <= (2 if interval else 1) and 0 <= numbers[0] <= numbers[-1] <= highest
    except ValueError:
        return False
    if kind in ("inet_proto", "ether_type"):
        return text in (_PROTOCOLS if kind == "inet_proto" else _ETHER_TYPES)
    if kind == "ether_addr":
        return _MAC.match(text) is not None
    return kind == "verdict" and _VERDICT.match(text) is not None


def _overlaps(one: str, other: str) -> bool:
    return all(
        _ends(mine)[0] <= _ends(theirs)[1] and _ends(theirs)[0] <= _ends(mine)[1]
        for mine, theirs in zip(one.split(" . "), other.split(" . "))
    )


def _ends(part: str) -> tuple[Any, Any]:
    """The first and the last of what a part of a key stands for."""
    if part in _PROTOCOLS:
        return _PROTOCOLS[part], _PROTOCOLS[part]
    if re.fullmatch(r"\d+(-\d+)?", part):
        first, _dash, last = part.partition("-")
        return int(first), int(last or first)
    network = ipaddress.ip_network(part)
    return int(network[0]), int(network[-1])


def _body(table: str, name: str, item: MemoryMap, terse: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "family": "netdev",
        "name": name,
        "table": table,
        "type": list(item.key) if len(item.key) > 1 else item.key[0],
    }
    if item.value is not None:
        body["map"] = item.value
    if item.size is not None:
        body["size"] = item.size
    if item.timeout is not None:
        body["timeout"] = item.timeout
    flags = sorted(item.flags - {"dynamic"})  # as version 1.0.6
    if flags:
        body["flags"] = flags
    if item.counter:
        body["stmt"] = [{"counter": None}]
    if item.elements and not terse:
        body["elem"] = [_json_element(key, element, item) for key, element in item.elements.items()]
    return body


def _json_element(key: str, element: Element, item: MemoryMap) -> Any:
    parts = [_json_value(kind, part) for kind, part in zip(item.key, key.split(" . "))]
    value: Any = {"concat": parts} if len(parts) > 1 else parts[0]
    if item.counter:
        value = {"elem": {"val": value, "counter": {"packets": element.packets, "bytes": element.bytes}}}
    elif element.timeout:
        value = {"elem": {"val": value, "timeout": int(element.timeout[:-1]), "expires": int(element.timeout[:-1])}}
    return value if item.kind == "set" else [value, _json_value(item.value or "", element.value)]


def _json_value(kind: str, text: str) -> Any:
    if kind == "verdict":
        return {"goto": {"target": text.partition(" ")[2]}}
    if kind == "inet_proto":
        return _PROTOCOLS[text]
    if kind == "ether_type":
        return _ETHER_TYPES[text]
    if "/" in text:
        address, _slash, length = text.partition("/")
        return {"prefix": {"addr": address, "len": int(length)}}
    if kind == "mark":
        return int(text, 16)
    if kind == "integer" and text.startswith("0x"):
        return hex(int(text, 16))  # without the zeros that it begins with
    if kind in ("inet_service", "integer"):
        return {"range": [int(number) for number in text.split("-")]} if "-" in text else int(text)
    return text

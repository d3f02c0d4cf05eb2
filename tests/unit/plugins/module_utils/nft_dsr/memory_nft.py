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

_TYPES = {
    "ip saddr": "ipv4_addr",
    "ip daddr": "ipv4_addr",
    "ip protocol": "inet_proto",
    "th sport": "inet_service",
    "th dport": "inet_service",
    "meta mark": "mark",
}
_PROTOCOLS = {"tcp": 6, "udp": 17}
_HEAD = re.compile(r'type filter hook ingress device "([^"]+)" priority 0; policy accept;\Z')
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
    elements: dict[str, Element] = field(default_factory=dict)

    @classmethod
    def declared(cls, kind: str, lines: Sequence[str]) -> MemoryMap:
        types: Optional[tuple[tuple[str, ...], Optional[str]]] = None
        size, flags, counter = None, frozenset[str](), False
        for line in lines:
            word, _space, rest = line.partition(" ")
            if word in ("type", "typeof"):
                key, colon, value = rest.partition(" : ")
                by_name = {name: name for name in (*_TYPES.values(), "ether_addr", "verdict")}
                named = by_name if word == "type" else {**_TYPES, "verdict": "verdict"}
                parts = tuple(
                    "integer" if word == "typeof" and re.fullmatch(r"numgen inc mod \d+", part) else _known(named, part)
                    for part in key.split(" . ")
                )
                types = parts, _known(named, value) if colon else None
            elif word == "size":
                size = int(rest)
            elif word == "flags":
                flags = frozenset(rest.split(","))
            elif line == "counter":
                counter = True
            else:
                raise NftError(f"syntax error in a declaration: {line}")
        if types is None or (types[1] is None) != (kind == "set"):
            raise NftError(f"a {kind} of a wrong type: {lines}")
        return cls(kind, tuple(lines), types[0], types[1], size, flags, counter)

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
            if any(f" goto {name} " in f" {rule} " for rule in chain.rules)
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
            ways[name] = {after for word, after in zip(words, words[1:]) if word == "goto"}
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
            "chains": {name: (chain.device, chain.policy, chain.rules) for name, chain in self.chains.items()},
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
        self.refuse = ""  # what the kernel says to the next transactions, if anything

    @property
    def table(self) -> MemoryTable:
        return self.tables["nft_dsr"]

    def load(self, text: str) -> None:
        """Run a transaction; NftError when it fails, and then nothing has changed."""
        tables = {name: table.copy() for name, table in self.tables.items()}
        for operation in _operations(text):
            _Operation(tables, self.nics).run(*operation)
        for table in tables.values():
            table.check_loops()
        self.tables = tables

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
            if words == ["-c", "--debug=netlink", "-f", "-"]:
                assert stdin is not None
                checked = MemoryNft(self.nics)
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
                    yield f'\t\ttype filter hook ingress device "{chain.device}" priority 0; policy {chain.policy};'
                yield from (f"\t\t{rule}" for rule in chain.rules)
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

    def __init__(self, tables: dict[str, MemoryTable], nics: Sequence[str]) -> None:
        self._tables = tables
        self._nics = nics

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
        device = None
        if rest:
            match = _HEAD.match(_braced(rest))
            if not match:
                raise NftError(f"syntax error in the head of a chain: {rest}")
            device = match[1]
            if device not in self._nics:
                raise NftError(f"No such file or directory: {device}")
        if self._table.chains.setdefault(name, MemoryChain(device)).device != device:
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
        for word, after in zip(words, words[1:]):
            if word == "goto":
                target = self._existing(self._table.chains, after)
                if target.device:
                    raise NftError(f"Operation not supported: {after} is a base chain")
            if after.startswith("@") and not after.startswith("@th"):
                item = self._existing(self._table.maps, after[1:])
                if (item.kind == "set") != (word == "saddr") or (item.value == "verdict") != (word == "vmap"):
                    raise NftError(f"the rule uses {after} as what it is not: {rule}")
            if word == "to" and after.strip('"') not in self._nics:
                raise NftError(f"Interface does not exist: {after}")
        chain.rules.append(rule)

    def _add_map(self, name: str, rest: str, kind: str = "map") -> None:
        lines = [line.strip() for line in _braced(rest).split(";") if line.strip()]
        new = MemoryMap.declared(kind, lines)
        if self._table.maps.setdefault(name, new).declaration != new.declaration:
            raise NftError(f"File exists: {name} is declared differently")

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
        head = re.fullmatch(r"\t(map|set|chain) (\S+) \{", line)
        if not head:
            raise NftError(f"syntax error: {line}")
        kind, name = head.groups()
        inside: list[str] = []
        for line in lines:
            if line == "\t}":
                break
            inside.append(line.strip())
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


def _braced(text: str) -> str:
    if not text.startswith("{ ") or not text.endswith(" }"):
        raise NftError(f"syntax error: {text}")
    return text[2:-2]


def _known(named: dict[str, str], name: str) -> str:
    if name not in named:
        raise NftError(f"unknown type: {name}")
    return named[name]


def _parse_element(text: str, item: MemoryMap) -> tuple[str, Element]:
    key, _colon, value = text.partition(" : ")
    match = re.fullmatch(r"(.+?)(?: timeout (\d+s))?(?: counter packets (\d+) bytes (\d+))?", key)
    if match is None or (match[2] and "timeout" not in item.flags) or (match[3] and not item.counter):
        raise NftError(f"syntax error in an element: {text}")
    return match[1], Element(value, match[2] or "", int(match[3] or 0), int(match[4] or 0))


def _valid(kind: str, text: str, interval: bool) -> bool:
    try:
        if kind == "ipv4_addr":
            return str(ipaddress.IPv4Address(text)) == text
        if kind == "mark":
            return re.fullmatch(r"0x[0-9a-f]{8}", text) is not None
        if kind in ("inet_service", "integer"):
            numbers = [int(number) for number in text.split("-")]
            return 1 <= len(numbers) <= (2 if interval else 1) and 0 <= numbers[0] <= numbers[-1] <= 65535
    except ValueError:
        return False
    if kind == "inet_proto":
        return text in _PROTOCOLS
    if kind == "ether_addr":
        return _MAC.match(text) is not None
    return kind == "verdict" and _VERDICT.match(text) is not None


def _overlaps(one: str, other: str) -> bool:
    for mine, theirs in zip(one.split(" . "), other.split(" . ")):
        if not mine.replace("-", "").isdigit():
            if mine != theirs:
                return False
            continue
        first, last = (int(number) for number in (mine.split("-") * 2)[:2])
        start, end = (int(number) for number in (theirs.split("-") * 2)[:2])
        if last < start or end < first:
            return False
    return True


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
    if kind == "mark":
        return int(text, 16)
    if kind in ("inet_service", "integer"):
        return {"range": [int(number) for number in text.split("-")]} if "-" in text else int(text)
    return text

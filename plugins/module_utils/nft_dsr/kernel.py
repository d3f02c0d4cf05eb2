# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that runs nft: what the kernel has, what a ruleset compiles to, one transaction.

nft prints a rule in its own words, which differ between versions and from what was loaded. So rules are
compared by the byte code that this very nft makes of them, and elements and declarations by nft's JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Callable, Optional

from ..common.command import Completed, Runner, find_program, run
from ..common.errors import CommandError, HostError
from .batch import generation as transactions
from .dialect import PROBE_TABLE, PROBES, Dialect, probe_text
from .packet_fields import IP_PROTOCOLS
from .table import TABLE, Counter, Hook, KernelChain, KernelMap, KernelTable, Spec, Table, mark, table_text

MINIMUM_VERSION = (1, 0, 2)
# Above this many maps, one listing of the whole table is quicker than one of each map.
_MAPS_ONE_BY_ONE = 64

_HEX = re.compile(r"0x((?:[0-9a-f]{2})+)\b")
_CODE_HEAD = re.compile(r"netdev (\S+) (\S+)((?: \d+)*)\Z")
_HOOK = re.compile(r"type (\S+) hook (\S+) devices? (.*?) priority ([^;]+); policy (\w+);")
_FIELD_TYPES = {
    ("ip", "saddr"): "ipv4_addr",
    ("ip", "daddr"): "ipv4_addr",
    ("ip", "protocol"): "inet_proto",
    ("ip", "id"): "integer",
    ("ip6", "saddr"): "ipv6_addr",
    ("ip6", "daddr"): "ipv6_addr",
    ("th", "sport"): "inet_service",
    ("th", "dport"): "inet_service",
}
_PROTOCOLS = {number: name for name, number in IP_PROTOCOLS.items()}


class Kernel:
    """nftables of this host."""

    def __init__(self, runner: Runner = run, generation: Optional[Callable[[], Optional[int]]] = None) -> None:
        self._run = runner
        self._dialect: Optional[Dialect] = None
        # With another runner it is not this host's kernel that counts.
        self._generation = generation or (transactions if runner is run else lambda: None)

    def dialect(self) -> Dialect:
        """What this nft and this kernel understand; asked once."""
        if self._dialect is None:
            self._dialect = Dialect(
                **{
                    name: self._run(["nft", "-c", "--debug=netlink", "-f", "-"], probe_text(body)).ok
                    for name, body in PROBES.items()
                }
            )
        return self._dialect

    def generation(self) -> Optional[int]:
        """How many transactions there have been in this network namespace; None where that cannot be told."""
        return self._generation()

    def check_usable(self) -> str:
        """The version of nft. HostError when it is missing or too old, or its table can't be read."""
        if self._run is run and find_program("nft") is None:
            raise HostError("nft is not installed on this host; install the package 'nftables'")
        done = self._run(["nft", "--version"], None)
        match = re.search(r"v(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
        if not done.ok or not match:
            raise HostError(f"'nft --version' did not say a version: {(done.stderr or done.stdout).strip()!r}")
        version = tuple(int(part or 0) for part in match.groups())
        if version < MINIMUM_VERSION:
            wanted = ".".join(str(part) for part in MINIMUM_VERSION)
            raise HostError(f"nft {match[0][1:]} is too old; version {wanted} or later is needed")
        return match[0][1:]

    def _nft(self, *arguments: str, text: Optional[str] = None) -> Completed:
        done = self._run(["nft", *arguments], text)
        if done.ok:
            return done
        said = done.stderr.strip() or done.stdout.strip()
        how = f"ended by signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
        if "Operation not permitted" in said:
            raise HostError("nft may not change the kernel's rules; run as root (become: true) with CAP_NET_ADMIN")
        raise CommandError(f"nft {' '.join(arguments)} failed ({how}): {said[:4000] or 'it printed nothing'}")

    def _json(self, *arguments: str) -> list[dict[str, Any]]:
        done = self._nft("-n", "-j", *arguments)
        try:
            rows: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"nft -n -j {' '.join(arguments)} printed something that is not its JSON") from error
        return rows

    def read(self) -> KernelTable:
        """Our table. Elements of maps with timeouts (flows, which may be a million) are left out."""
        table = KernelTable()
        # Not "list tables" or "list table", which fetch every element of every map to print a name.
        for row in self._json("-t", "list", "ruleset", "netdev"):
            for kind, body in row.items():
                if kind == "metainfo" or kind == "rule" or not isinstance(body, Mapping):
                    continue
                if kind == "table" and body.get("name") == TABLE:
                    table.present = True
                if body.get("table") != TABLE:
                    continue
                if kind in ("map", "set"):
                    table.maps[body["name"]] = KernelMap(kind, _spec(body))
                elif kind != "chain":
                    table.foreign.append((kind, body["name"]))
        if not table.present:
            return table
        done = self._nft("-t", "-n", "--debug=netlink", "list", "ruleset", "netdev")
        codes = _byte_codes(done.stdout, TABLE)
        for name in _counting(done.stdout, TABLE):
            found = table.maps[name]
            table.maps[name] = KernelMap(found.kind, replace(found.spec, counter=True))
        for name, (hook, text) in _chains_of(done.stdout, TABLE).items():
            table.chains[name] = KernelChain(hook, tuple(codes.get(name, ())), tuple(text))
        self.read_elements(table, table.maps)
        return table

    def sizes(self) -> dict[str, Optional[int]]:
        """How large the maps and sets of our table are declared."""
        return {
            body["name"]: body.get("size")
            for row in self._json("-t", "list", "ruleset", "netdev")
            for kind, body in row.items()
            if kind in ("map", "set") and body.get("table") == TABLE
        }

    def read_elements(self, table: KernelTable, maps: Collection[str]) -> None:
        """Fill in the elements and counters of some maps of our table."""
        wanted = {name for name in maps if "timeout" not in table.maps[name].spec.flags}
        rows: Iterable[dict[str, Any]]
        if len(wanted) > _MAPS_ONE_BY_ONE:
            rows = self._json("list", "table", "netdev", TABLE)
        else:
            rows = [
                row
                for name in sorted(wanted)
                for row in self._json("list", table.maps[name].kind, "netdev", TABLE, name)
            ]
        for row in rows:
            body = row.get("map") or row.get("set")
            if not body or body.get("name") not in wanted:
                continue
            name = body["name"]
            table.elements[name], table.counters[name] = _elements(body, table.maps[name].spec)

    def flows(self, name: str) -> dict[str, int]:
        """How many live entries of a flow map name each backend (its mark)."""
        found: dict[str, int] = {}
        for row in self._json("list", "map", "netdev", TABLE, name):
            for entry in row.get("map", {}).get("elem", ()):
                mark = _value("mark", entry[1])
                found[mark] = found.get(mark, 0) + 1
        return found

    def compile(self, table: Table) -> dict[str, tuple[str, ...]]:
        """The byte code that this nft makes of each chain's rules. Nothing is loaded.

        nft checks the rules against this kernel on the way; a CommandError holds its complaint.
        """
        skeleton = table_text(table, name=PROBE_TABLE, elements=False)
        done = self._nft("-c", "--debug=netlink", "-f", "-", text=skeleton)
        codes = _byte_codes(done.stdout, PROBE_TABLE)
        for chain in table.chains.values():
            if len(codes.get(chain.name, ())) != len(chain.rules):
                raise CommandError(f"nft --debug=netlink did not show the byte code of the chain {chain.name}")
        return {name: tuple(codes[name]) for name in table.chains if table.chains[name].rules}

    def check(self, transaction: str) -> None:
        """Have a transaction checked by nft and the kernel; nothing is changed."""
        self._nft("-c", "-f", "-", text=transaction)

    def apply(self, transaction: str) -> None:
        """Run one transaction: all of it, or nothing of it."""
        self._nft("-f", "-", text=transaction)


def _key_types(key: Any) -> tuple[str, ...]:
    """The data types of a key. nft 1.1 prints what it was declared by (typeof), older ones the types."""
    if isinstance(key, Mapping):
        key = key.get("typeof", key)
        if isinstance(key, Mapping) and "concat" in key:
            key = key["concat"]
    parts = key if isinstance(key, list) else [key]
    return tuple(part if isinstance(part, str) else _type_of(part) for part in parts)


def _type_of(expression: Any) -> str:
    if isinstance(expression, Mapping):
        if "numgen" in expression:
            return "integer"
        if "meta" in expression and expression["meta"] in ({"key": "mark"}, "mark"):
            return "mark"
        if expression.get("meta") in ({"key": "l4proto"}, "l4proto"):
            return "inet_proto"
        payload = expression.get("payload")
        if isinstance(payload, Mapping):
            if "base" in payload:
                return "integer"
            return _FIELD_TYPES.get((str(payload.get("protocol")), str(payload.get("field"))), str(payload))
    return str(expression)


def _spec(body: Mapping[str, Any]) -> Spec:
    key = body.get("type")
    value = body.get("map")
    flags = body.get("flags", [])
    return Spec(
        key=_key_types(key),
        value=None if value is None else _key_types(value)[0],
        size=body.get("size"),
        # Some versions list "dynamic", some don't; that rules fill the map is seen from the rules.
        flags=frozenset(flags if isinstance(flags, list) else [flags]) - {"dynamic"},
        # Whether elements count is read from the text: the JSON of nft 1.0.2 does not tell.
        timeout=body.get("timeout"),
    )


def _elements(body: Mapping[str, Any], spec: Spec) -> tuple[dict[str, str], dict[str, Counter]]:
    elements: dict[str, str] = {}
    counters: dict[str, Counter] = {}
    for entry in body.get("elem", ()):
        raw_key, raw_value = entry if spec.value is not None else (entry, None)
        counter = None
        if isinstance(raw_key, Mapping) and "elem" in raw_key:
            counter = raw_key["elem"].get("counter")
            raw_key = raw_key["elem"]["val"]
        parts = raw_key["concat"] if isinstance(raw_key, Mapping) and "concat" in raw_key else [raw_key]
        kinds = spec.key if len(spec.key) == len(parts) else ("",) * len(parts)
        key = " . ".join(_value(kind, part) for kind, part in zip(kinds, parts))
        elements[key] = "" if raw_value is None else _value(spec.value or "", raw_value)
        if isinstance(counter, Mapping):
            counters[key] = Counter(counter.get("packets", 0), counter.get("bytes", 0))
    return elements, counters


def _value(kind: str, raw: Any) -> str:
    """One field of an element in the words of ruleset.py."""
    if isinstance(raw, Mapping):
        if "range" in raw:
            return "-".join(str(end) for end in raw["range"])
        if "prefix" in raw:
            return f"{raw['prefix']['addr']}/{raw['prefix']['len']}"
        for verdict in ("goto", "jump"):
            if verdict in raw:
                return f"{verdict} {raw[verdict]['target']}"
        return " ".join(str(word) for word in raw)
    if kind == "mark":
        return mark(int(str(raw), 0))
    if kind == "integer":
        number = int(str(raw), 0)
        # Beyond 32 bits it is the beginning of a frame.
        return str(number) if number < 1 << 32 else f"0x{number:024x}"
    if kind == "inet_proto" and str(raw).isdigit():
        return _PROTOCOLS.get(int(raw), str(raw))
    return str(raw)


def _byte_codes(printed: str, table: str) -> dict[str, list[str]]:
    """The rules of each chain as byte code, in what nft prints with --debug=netlink."""
    codes: dict[str, list[str]] = {}
    chain = ""
    rule: Optional[list[str]] = None
    for line in printed.splitlines():
        if line.startswith("  [ "):
            if rule is not None:
                rule.append(_plain_instruction(line.strip()))
            continue
        if rule:
            codes[chain].append("\n".join(rule))
        rule = None
        head = _CODE_HEAD.match(line.rstrip())
        if head and head[1] == table:
            chain = head[2]
            codes.setdefault(chain, [])
            rule = []
    if rule:
        codes[chain].append("\n".join(rule))
    return codes


def _smaller_order(match: re.Match[str]) -> str:
    """A number in whichever order of its bytes is smaller: nft 1.1.7 compiles in one and lists in the other."""
    digits = match[1]
    return "0x" + min(digits, bytes.fromhex(digits)[::-1].hex())


def _plain_instruction(line: str) -> str:
    """An instruction without what only a loaded rule shows: counts, and fields that are zero."""
    if line.startswith("[ counter "):
        return "[ counter ]"
    line = _HEX.sub(_smaller_order, line)
    if line.startswith("[ lookup "):
        return re.sub(r" 0x0 \]\Z", " ]", line)
    if line.startswith("[ dynset "):
        return line.replace(" timeout 0ms ", " ")
    return line


def _counting(printed: str, table: str) -> list[str]:
    """The maps and sets of our table whose elements count, in a listing without elements."""
    names = []
    inside, name = False, ""
    for line in printed.splitlines():
        if line.startswith("table "):
            inside = line == f"table netdev {table} {{"
        elif inside and line.startswith(("\tmap ", "\tset ")):
            name = line.split()[1]
        elif inside and line == "\t\tcounter":
            names.append(name)
    return names


def _chains_of(printed: str, table: str) -> dict[str, tuple[Optional[Hook], list[str]]]:
    """The chains of our table in a listing: the hook of each, and its rules as text."""
    chains: dict[str, tuple[Optional[Hook], list[str]]] = {}
    inside = False
    name: Optional[str] = None
    for line in printed.splitlines():
        if line.startswith("table "):
            inside = line == f"table netdev {table} {{"
        elif not inside:
            continue
        elif line.startswith("\tchain ") and line.endswith("{"):
            name = line.split()[1]
            chains[name] = (None, [])
        elif line == "\t}":
            name = None
        elif name is not None:
            text = line.strip()
            match = _HOOK.match(text)
            if match:
                devices = frozenset(re.findall(r"[^\s\"{},=]+", match[3]))
                priority = {"filter": "0"}.get(match[4].strip(), match[4].strip())
                chains[name] = (Hook(match[1], match[2], devices, priority, match[5]), [])
            elif text.startswith("type ") and " hook " in text:
                # A hook without its device: the NIC went away, or the line has a form not known here.
                chains[name] = (Hook("", text, frozenset(), "", ""), [])
            else:
                chains[name][1].append(text)
    return chains

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel was last seen to have, and the proof that nothing has changed since.

The kernel counts the transactions of a network namespace. While that number is the one that stood after
our own last transaction (or after a full comparison), nobody has changed a rule, and the table need not be
read again: with a thousand VIPs that is seconds of listing for a change of one element. Flows that the
rules record don't count. Any doubt (another number, another boot or namespace, a NIC that was made anew,
no file, another form of it) means that the kernel is asked for everything.

Modules and the agent, which is another user, have a file each, and whoever had the last transaction has the one that
holds. Each believes the other's, as both may change rules; but its words go into what root has nft do, and so must be
words that can do nothing else there.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ..common.errors import DsrError
from ..common.files import read_foreign, read_text, remove, write_text
from .table import Chain, Hook, KernelChain, KernelMap, KernelTable, Map, Names, Spec, Table

SEEN_FILE = "/run/nft-dsr/seen.json"
AGENT_SEEN_FILE = "/run/nft-dsr/agent/seen.json"
# Which transactions were the agent's, who gave out turns: of that nothing is remembered.
STEERED_FILE = "/run/nft-dsr/agent/steered.json"
_SO_NETNS_COOKIE = 71  # not in Python's socket module; Linux 5.14
_VERSION = 3
_UNCHANGED = ("as it was",)
_DIFFERENT = ("different",)
_HARMLESS = re.compile(r"[A-Za-z0-9_.:@ -]*")


@dataclass(frozen=True)
class Moment:
    """What has to be the same for nothing to have changed: where we are, and the number of transactions."""

    boot: str
    namespace: int
    generation: int
    nics: Mapping[str, int]  # name to index; a NIC that is made anew has another


def now(generation: Optional[int], nics: Mapping[str, int]) -> Optional[Moment]:
    """The moment that it is; None where this cannot be told."""
    try:
        boot = read_text("/proc/sys/kernel/random/boot_id")
        namespace = _namespace()
    except (OSError, struct.error, DsrError):
        return None
    if generation is None or not boot:
        return None
    return Moment(boot.strip(), namespace, generation, dict(nics))


def _namespace() -> int:
    """The number of our network namespace that no other one ever has had since the boot."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        number: int = struct.unpack("=Q", channel.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
        return number


@dataclass(frozen=True)
class Seen:
    """A table in brief: each object's declaration and a digest of what is in it."""

    maps: Mapping[str, tuple[KernelMap, str]]
    chains: Mapping[str, tuple[Optional[str], str, str]]  # device and kind of the hook, digest
    names: Mapping[str, Names]  # what each VIP goes through

    def compared_with(self, want: Table) -> tuple[KernelTable, dict[str, tuple[str, ...]], list[str]]:
        """The kernel's table as far as it is known, the code of the wanted chains, and which maps have to be read.

        What is as wanted is given as wanted; of maps that differ, the elements are missing.
        """
        have = KernelTable(present=True)
        codes: dict[str, tuple[str, ...]] = {}
        unread = []
        for name, (found, digest) in self.maps.items():
            have.maps[name] = found
            item = want.maps.get(name)
            if item is None or item.elements is None:
                continue
            if digest_of_map(item) == digest:
                have.elements[name] = dict(item.elements)
            else:
                unread.append(name)
        for name, (device, hook, digest) in self.chains.items():
            chain = want.chains.get(name)
            same = chain is not None and digest_of_chain(chain) == digest
            if same:
                codes[name] = _UNCHANGED
            have.chains[name] = KernelChain(
                Hook.of_device(device, hook) if device else None, _UNCHANGED if same else _DIFFERENT
            )
        return have, codes, unread


def digest_of_map(item: Map) -> str:
    """Of what is in a map, as far as it is ours to say."""
    pairs = (item.elements or {}).items()
    # Which of its values a key has is not known of one that the agent steers.
    rows = [*sorted({key for key, _value in pairs}), *sorted({value for _key, value in pairs})] if item.steered else []
    elements = "\n".join(rows or [f"{key}\t{value}" for key, value in sorted(pairs)])
    return _digest([item.kind, *item.declaration, elements])


def digest_of_chain(chain: Chain) -> str:
    return _digest([chain.device or "", chain.hook, *chain.rules])


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class SeenFile:
    """The memory, in a folder that a boot empties."""

    def __init__(
        self, path: str = SEEN_FILE, others: Sequence[str] = (AGENT_SEEN_FILE,), steered: str = STEERED_FILE
    ) -> None:
        self._path = path
        self._others = others
        self._steered_path = steered
        self._steered = (0, 0)

    def advance(self, before: int, after: int) -> None:
        """The transactions from one number to another only gave out turns, of which nothing is remembered.

        To be called by whoever made them, under the lock of the modules.
        """
        self._steered = (self._steered[0] if self._steered[1] == before else before, after)
        write_text(self._steered_path, json.dumps(self._steered), 0o644)

    def _is_now(self, document: Mapping[str, Any], moment: Moment) -> bool:
        """Nothing has changed since but turns, and whose these are is left open in what is remembered."""
        then = document["moment"]
        if _same(then, moment):
            return True
        if not document["steering"] or not _same({**then, "generation": moment.generation}, moment):
            return False
        first, last = json.loads(read_foreign(self._steered_path) or "[0, 0]")
        return bool(first <= then["generation"] <= moment.generation == last)

    def read(self, moment: Optional[Moment]) -> Optional[Seen]:
        """What the kernel has, if that is certain."""
        if moment is None:
            return None
        for path in (self._path, *self._others):
            found = self._read(path, moment)
            if found is not None:
                return found
        return None

    def _read(self, path: str, moment: Moment) -> Optional[Seen]:
        try:
            document: Any = json.loads(read_foreign(path) or "{}")
            if document.get("version") != _VERSION or not self._is_now(document, moment):
                return None
            if path != self._path and not _harmless(document):
                return None
            return Seen(
                {
                    name: (KernelMap(row["kind"], _spec(row["spec"])), row["digest"])
                    for name, row in document["maps"].items()
                },
                {name: (row["device"], row["hook"], row["digest"]) for name, row in document["chains"].items()},
                {vip: Names(**row) for vip, row in document["names"].items()},
            )
        except (DsrError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def write(self, moment: Optional[Moment], table: Table) -> None:
        """Remember that the kernel has exactly this table; with no moment, remember nothing."""
        if moment is None or not table.chains:
            remove(self._path)
            return
        document = {
            "version": _VERSION,
            "moment": asdict(moment),
            "steering": any(item.steered for item in table.maps.values()),
            "maps": {
                name: {"kind": item.kind, "spec": _spec_row(item.spec), "digest": digest_of_map(item)}
                for name, item in table.maps.items()
            },
            "chains": {
                name: {"device": chain.device, "hook": chain.hook, "digest": digest_of_chain(chain)}
                for name, chain in table.chains.items()
            },
            "names": {vip: asdict(names) for vip, names in table.names.items()},
        }
        write_text(self._path, json.dumps(document), 0o644)


def _harmless(value: Any) -> bool:
    """Whether all the words in there are such that nft can take them for nothing but names."""
    if isinstance(value, str):
        return _HARMLESS.fullmatch(value) is not None
    if isinstance(value, Mapping):
        return all(_harmless(key) and _harmless(item) for key, item in value.items())
    return not isinstance(value, list) or all(_harmless(item) for item in value)


def _same(then: Mapping[str, Any], moment: Moment) -> bool:
    """Whether nothing has changed since. With a NIC its chains go; one that has come since then had none."""
    nics = dict(then["nics"])
    return {**then, "nics": {}} == {**asdict(moment), "nics": {}} and nics.items() <= moment.nics.items()


def _spec_row(spec: Spec) -> dict[str, Any]:
    return {**asdict(spec), "key": list(spec.key), "flags": sorted(spec.flags)}


def _spec(row: Mapping[str, Any]) -> Spec:
    return Spec(**{**row, "key": tuple(row["key"]), "flags": frozenset(row["flags"])})

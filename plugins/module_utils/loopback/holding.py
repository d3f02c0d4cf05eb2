# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that one interface shall hold, now and after a boot: what both of our address modules have in common.

What is ours is known from a memory on disk and from our own files; nothing else is ever taken away,
unless the user names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..common.errors import ConfigError, HostError
from ..common.iproute import HeldAddress, IPAddress, Link
from .host import STATE_FOLDER, Host, file_steps
from .model import edge_of, host_interface, ordered
from .persisted import Claim, memory_claims, memory_text
from .plan import AddAddress, DeleteAddress, FileState, SetFile, SetSymlink, Step, Wanted, diff


@dataclass(frozen=True)
class Request:
    """What the user asks of one interface. ``path``: the name of the option with the addresses."""

    path: str
    addresses: tuple[IPAddress, ...]
    interface: str
    state: str = "present"
    purge: bool = False

    @property
    def present(self) -> bool:
        return self.state == "present"

    def place(self, address: IPAddress) -> str:
        """Where the user wrote ``address``."""
        return f"{self.path}[{self.addresses.index(address)}]" if address in self.addresses else self.path


class Memory:
    """What one module has put on which interface, kept where it survives a boot."""

    def __init__(self, host: Host, name: str) -> None:
        self._host = host
        self.path = f"{STATE_FOLDER}/{name}.json"
        state = host.file(self.path)
        try:
            self.claims = memory_claims(state.text) if state else {}
        except ValueError as error:
            raise HostError(
                f"{self.path}, the memory of the addresses that this module has put on interfaces, cannot be read: "
                f"{error}. Remove it to start anew; addresses set with 'persist: none' are then not purged"
            ) from error

    def of(self, interface: str) -> Claim:
        return self.claims.get(interface, Claim())

    def with_claim(self, interface: str, claim: Claim) -> Optional[FileState]:
        text = memory_text({**self.claims, interface: claim})
        return None if text is None else FileState(text, 0o644)


@dataclass(frozen=True)
class Holding:
    """What is to become of the addresses of an interface. ``final``: those that are ours afterwards."""

    request: Request
    final: tuple[IPAddress, ...]
    add: tuple[IPAddress, ...]
    delete: tuple[IPAddress, ...]


def plan_holding(request: Request, ours: Iterable[IPAddress], held: Iterable[HeldAddress]) -> Holding:
    """Want against have, by address. Pure.

    Ours and not named: it stays as it is, unless ``purge``. Only /32 and /128 count: an address with another prefix
    length is no virtual IP, and never ours. An IPv6 address that the host may choose as its own, or that it does not
    answer for since another host seems to have it, is there and not as it should be: it is set again.
    """
    here = [entry for entry in held if entry.link == request.interface and entry.value == host_interface(entry.ip)]
    there = {entry.ip for entry in here}
    right = {entry.ip for entry in here if entry.ip.version == 4 or _set_aside(entry)}
    others = tuple(address for address in ordered(ours) if address not in request.addresses)
    final = (request.addresses if request.present else ()) + (() if request.purge else others)
    unwanted = (() if request.present else request.addresses) + (others if request.purge else ())
    return Holding(
        request=request,
        final=ordered(final),
        add=tuple(address for address in request.addresses if request.present and address not in right),
        delete=tuple(address for address in ordered(unwanted) if address in there),
    )


def _set_aside(entry: HeldAddress) -> bool:
    """Whether an IPv6 address is held as a virtual IP is: answered for, and never chosen as the host's own."""
    return "deprecated" in entry.states and "dadfailed" not in entry.states


def check_edges(request: Request, held: Iterable[HeldAddress]) -> None:
    """No virtual IP may be the network or the broadcast address of a segment that this host is on."""
    for entry in held:
        for address in request.addresses:
            edge = edge_of(address, entry.value.network)
            if edge:
                raise ConfigError(
                    request.place(address),
                    f"{address} is the {edge} of {entry.value.network}, the network of {entry.link}; "
                    f"no host can use it",
                )


def check_ipv6(request: Request, host: Host) -> None:
    for address in request.addresses:
        if address.version == 6 and host.ipv6_disabled(request.interface):
            raise ConfigError(
                request.place(address),
                f"{address} cannot be held: IPv6 is off on {request.interface} "
                f"(net.ipv6.conf.{request.interface}.disable_ipv6 is 1)",
            )


def required_link(request: Request, links: Mapping[str, Link], path: str = "interface") -> Link:
    link = links.get(request.interface)
    if link is None:
        there = ", ".join(sorted(links))
        raise ConfigError(path, f"there is no interface '{request.interface}' on this host; there are: {there}")
    return link


def foreign_holders(request: Request, held: Iterable[HeldAddress]) -> list[str]:
    """Warnings of addresses that the user wants gone, and that are not where or what this module puts them."""
    return [
        f"{request.place(address)}: {entry.value} on {entry.link} is left alone: this module did not put it there"
        for address in request.addresses
        for entry in held
        if entry.ip == address and (entry.link != request.interface or entry.value != host_interface(address))
    ]


@dataclass(frozen=True)
class Outcome:
    """What a run does, or would do in check mode."""

    steps: list[Step]
    persist: str
    files: list[str]
    addresses: tuple[IPAddress, ...]
    warnings: list[str]
    message: str

    def result(self, addresses_key: str) -> dict[str, Any]:
        """What a module returns, but for its warnings."""
        return {
            "changed": bool(self.steps),
            "msg": self.message,
            "persist": self.persist,
            "files": self.files,
            addresses_key: [str(address) for address in self.addresses],
            "steps": [str(step) for step in self.steps],
            "diff": diff(self.steps),
        }


@dataclass(frozen=True)
class HoldingSteps:
    """The steps of one holding, in groups that a module puts its own steps between."""

    claim: list[SetFile]
    delete: list[Step]
    persist: list[Step]
    add: list[Step]
    settle: list[SetFile]
    files: list[str]


def holding_steps(
    host: Host, memory: Memory, holding: Holding, wants: Sequence[Wanted], more_files: Sequence[str] = ()
) -> HoldingSteps:
    """``more_files``: files of the module's own that the memory shall know of as well."""
    interface = holding.request.interface
    files: list[Step] = []
    refresh: list[Step] = []
    paths: list[str] = []
    for wanted in wants:
        own = {
            path: after for path, after in wanted.files.items() if after is not None or host.own_file(path) is not None
        }
        changed: list[Step] = [*file_steps(host, own), *_symlink_steps(host, wanted.symlinks)]
        files += changed
        paths += [path for path, after in own.items() if after is not None]
        if changed or wanted.stale:
            refresh += [step for step in wanted.refresh if step not in refresh]
    # The memory is widened before the first address comes and narrowed after the last one has gone: whenever a run
    # is cut short, it knows of all that is there.
    now = host.file(memory.path)
    old = memory.of(interface)
    settled = Claim(holding.final, tuple(sorted({*paths, *more_files})) if holding.final else ())
    wide = Claim(ordered([*old.addresses, *settled.addresses]), tuple(sorted({*old.files, *settled.files})))
    claim: list[SetFile] = []
    if wide != old:
        claim = [SetFile(memory.path, now, memory.with_claim(interface, wide))]
        now = claim[0].after
    after = memory.with_claim(interface, settled)
    return HoldingSteps(
        claim=claim,
        delete=[DeleteAddress(interface, host_interface(address)) for address in holding.delete],
        persist=files + refresh,
        add=[AddAddress(interface, host_interface(address)) for address in holding.add],
        settle=[SetFile(memory.path, now, after)] if now != after else [],
        files=paths,
    )


def _symlink_steps(host: Host, wanted: Mapping[str, Optional[str]]) -> list[SetSymlink]:
    steps = []
    for path, after in wanted.items():
        before = host.symlink(path)
        if before != after:
            steps.append(SetSymlink(path, before, after))
    return steps

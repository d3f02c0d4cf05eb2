# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a user asks to what a load balancer does: every module of the load balancer is one call here.

The order never changes: check the data, look at the host, render, compare with the kernel, and only
then, and only outside check mode, one transaction and the files.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from ..common import arp
from ..common.errors import ConfigError, HostError
from ..common.files import lock
from ..common.iproute import Iproute
from . import model
from .kernel import Kernel
from .plan import Plan, make_plan
from .resolve import Resolver, resolve
from .ruleset import PLAIN, RELEASED, VIP_OBJECTS, ResolvedVip, flow_modes, render, slot_tables_in_use
from .state import (
    LOCK_FILE,
    STATE_DIRECTORY,
    FileChange,
    Override,
    StateFiles,
    overrides_text,
    vips_text,
    with_overrides,
)
from .table import Counter, KernelTable, Table, boot_text, table_text

_SHOWN_ELEMENTS = 6


@dataclass
class Result:
    """What a run did, or in check mode would do."""

    changed: bool
    vips: list[dict[str, Any]]
    ruleset: str
    commands: list[str]
    warnings: list[str]
    diff: list[dict[str, str]]


@dataclass
class _Desired:
    """What the host is to be brought to."""

    resolved: Sequence[ResolvedVip]
    overrides: Sequence[Override]
    warnings: list[str] = field(default_factory=list)


class LoadBalancer:
    """A load balancer: its kernel, its network, its files."""

    def __init__(
        self,
        kernel: Optional[Kernel] = None,
        iproute: Optional[Iproute] = None,
        resolver: Resolver = arp.resolve,
        directory: str = STATE_DIRECTORY,
        lock_file: str = LOCK_FILE,
    ) -> None:
        self._kernel = kernel or Kernel()
        self._iproute = iproute or Iproute()
        self._resolver = resolver
        self._files = StateFiles(directory)
        self._lock_file = lock_file

    # What the modules call

    def set_vips(self, data: Any, purge: bool, check_mode: bool) -> Result:
        """Bring these VIPs to what ``data`` says; with ``purge`` remove all others."""
        wanted = model.parse_vips(data, "vips")
        return self._run(
            lambda old, overrides: self._merge(
                wanted, [f"vips[{i}]" for i in range(len(wanted))], old, overrides, purge
            ),
            check_mode,
        )

    def set_vip(self, data: Any, check_mode: bool) -> Result:
        """Add or change one VIP; the others stay."""
        wanted = model.parse_vip(data, "")
        return self._run(lambda old, overrides: self._merge([wanted], [""], old, overrides, False), check_mode)

    def remove_vip(self, name: Any, check_mode: bool) -> Result:
        """Remove one VIP; one that is not there is no error."""
        gone = model.parse_name(name, "name")
        return self._run(
            lambda old, overrides: _Desired([item for item in old if item.vip.name != gone], overrides), check_mode
        )

    def drain(self, backend: Any, vip: Any, restore: bool, check_mode: bool) -> tuple[Result, list[str]]:
        """Drain or restore a backend by its address or name; also the names of the VIPs that have it."""
        wanted = _text(backend, "backend")
        only = None if vip in (None, "") else model.parse_name(vip, "vip")
        affected: list[str] = []

        def change(old: Sequence[ResolvedVip], overrides: Sequence[Override]) -> _Desired:
            address = _backend_to_drain(wanted, only, old, overrides, restore)
            mine = Override(address, only)
            if restore:
                # Restoring a backend everywhere ends what was drained on single VIPs too.
                kept = [item for item in overrides if item.backend != address or (only and item.vip != only)]
                if only and Override(address, None) in overrides:
                    raise ConfigError(
                        "vip",
                        f"{address} is drained on every VIP; restore it without naming a VIP, or drain it on "
                        "the other VIPs first",
                    )
            else:
                kept = list(dict.fromkeys([*overrides, mine]))
            affected.extend(item.vip.name for item in old if mine.applies_to(item.vip))
            return _Desired(old, kept)

        return self._run(change, check_mode), affected

    def info(self, name: Any = None) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the table is there, and every VIP (or the one named) with its figures."""
        only = None if name in (None, "") else model.parse_name(name, "name")
        _require_root()
        self._kernel.check_usable()
        with lock(self._lock_file):
            old = self._files.read_vips()
            overrides = self._files.read_overrides()
            served = [with_overrides(item, overrides) for item in old]
            have = self._kernel.read()
            try:
                table, plan = self._compare(served, have, ())
            except HostError as error:
                # Such as a NIC that is gone: nothing can be compared then, and that is the news.
                table, plan = Table({}, {}), Plan((), (str(error),))
            return have.present, [
                self._figures(item, have, table, plan) for item in served if only is None or item.vip.name == only
            ]

    # How

    def _merge(
        self,
        wanted: Sequence[model.Vip],
        places: Sequence[str],
        old: Sequence[ResolvedVip],
        overrides: Sequence[Override],
        purge: bool,
    ) -> _Desired:
        named = {vip.name for vip in wanted}
        others = [] if purge else [item for item in old if item.vip.name not in named]
        # The others first, so that a clash is reported at the place that the user can change.
        model.check_together(
            [*(item.vip for item in others), *wanted],
            [*(f"the VIP {item.vip.name!r} that this host has" for item in others), *places],
        )
        resolved, warnings = resolve(
            wanted,
            [f"{place}." if place else "" for place in places],
            self._iproute,
            self._resolver,
            {item.vip.name: item for item in old},
        )
        kept = [item for item in overrides if not purge or any(item.applies_to(vip) for vip in wanted)]
        return _Desired([*others, *resolved], kept, warnings)

    def _run(self, change: Callable[[Sequence[ResolvedVip], Sequence[Override]], _Desired], check_mode: bool) -> Result:
        _require_root()
        self._kernel.check_usable()
        with lock(self._lock_file):
            old = self._files.read_vips()
            old_overrides = self._files.read_overrides()
            desired = change(old, old_overrides)
            before = [with_overrides(item, old_overrides) for item in old]
            served = [with_overrides(item, desired.overrides) for item in desired.resolved]
            have = self._kernel.read()
            table, plan = self._compare(served, have, _newly_draining(before, served))
            boot = self._boot_table(served, have)
            files = [
                FileChange(self._files.vips_path, vips_text(desired.resolved)),
                FileChange(self._files.ruleset_path, boot_text(boot)),
            ]
            if desired.overrides or old_overrides:
                files.append(FileChange(self._files.overrides_path, overrides_text(desired.overrides)))
            due = [file for file in files if file.needed]
            if not check_mode:
                if plan.commands:
                    self._kernel.apply(plan.text)
                for file in due:
                    file.write()
        return Result(
            changed=bool(plan.commands or due),
            vips=[_normalised(item) for item in desired.resolved],
            ruleset=table_text(table) if table.chains else "",
            commands=list(plan.commands),
            warnings=desired.warnings + _override_warnings(desired),
            diff=_diff(before, served, plan, due),
        )

    def _compare(self, served: Sequence[ResolvedVip], have: KernelTable, rearmed: Sequence[str]) -> tuple[Table, Plan]:
        """The wanted table and what it takes to get there."""
        modes = flow_modes([item.vip for item in served], have.maps)
        macs = self._own_macs(served)
        table = render(served, macs, slot_tables_in_use(have), modes)
        recreate = [f"switch_{name}" for name in rearmed]
        plan = make_plan(table, self._kernel.compile(table), have, recreate)
        left_over = [name for name, mode in modes.items() if mode == RELEASED]
        if plan.commands and left_over:
            # Something changes anyway: flow maps in which nothing lives any more go with it. On their
            # own they are neither drift nor a change.
            empty = [name for name in left_over if not self._tracked(name, have)]
            if empty:
                modes.update((name, PLAIN) for name in empty)
                table = render(served, macs, slot_tables_in_use(have), modes)
                plan = make_plan(table, self._kernel.compile(table), have, recreate)
        return table, plan

    def _boot_table(self, served: Sequence[ResolvedVip], have: KernelTable) -> Table:
        """What a boot loads: no flow is known then, so nothing is left over either."""
        return render(
            served, self._own_macs(served), slot_tables_in_use(have), flow_modes([item.vip for item in served], ())
        )

    def _own_macs(self, served: Sequence[ResolvedVip]) -> dict[str, str]:
        links = self._iproute.links()
        macs = {}
        for item in served:
            for interface in (item.interface, item.backend_interface):
                if interface not in links or not links[interface].mac:
                    raise HostError(
                        f"the VIP {item.vip.name!r} uses the interface {interface!r}, which this host does not have "
                        "(any more); bring it back, or change or remove the VIP"
                    )
            macs[item.backend_interface] = links[item.backend_interface].mac
        return macs

    def _tracked(self, name: str, have: KernelTable) -> dict[str, int]:
        """Live flow entries of a VIP by the mark of their backend."""
        total: dict[str, int] = {}
        for kind in ("flows", "closing"):
            if f"{kind}_{name}" in have.maps:
                for mark, number in self._kernel.flows(f"{kind}_{name}").items():
                    total[mark] = total.get(mark, 0) + number
        return total

    def _figures(self, item: ResolvedVip, have: KernelTable, table: Table, plan: Plan) -> dict[str, Any]:
        vip = item.vip
        services = sum(
            (
                counter
                for name, counters in have.counters.items()
                if name.partition("_")[0] in ("services", "ranges", "allports")
                for key, counter in counters.items()
                if have.elements[name].get(key) == f"goto vip_{vip.name}"
            ),
            Counter(),
        )
        flows = self._tracked(vip.name, have) if have.present else {}
        counters = have.counters.get(f"backends_{vip.name}", {})
        rows = []
        for backend in vip.backends:
            mark = f"0x{backend.mark:08x}"
            counter = counters.get(mark, Counter())
            usable = mark in have.elements.get(f"backends_{vip.name}", {})
            rows.append(
                {
                    **backend.options(),
                    "state": "drain" if backend.draining else backend.state,
                    "mac": item.macs.get(backend.address),
                    "packets": counter.packets,
                    "bytes": counter.bytes,
                    "flows": flows.get(mark, 0) if usable else 0,
                }
            )
        differences = _differences(vip, table, plan)
        return {
            **_normalised(item),
            "backends": rows,
            "packets": services.packets,
            "bytes": services.bytes,
            "in_sync": not differences,
            "differences": differences,
        }


def _require_root() -> None:
    if os.geteuid() != 0:
        raise HostError("this module changes the kernel's rules; run it as root (become: true)")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(path, f"{value!r} is neither an address nor a name of a backend")
    return value.strip()


def _backend_to_drain(
    wanted: str,
    only: Optional[str],
    old: Sequence[ResolvedVip],
    overrides: Sequence[Override],
    restore: bool,
) -> ipaddress.IPv4Address:
    vips = [item.vip for item in old]
    if only is not None and only not in {vip.name for vip in vips}:
        raise ConfigError(
            "vip", f"there is no VIP {only!r}; there are: {', '.join(vip.name for vip in vips) or 'none'}"
        )
    scope = [vip for vip in vips if only in (None, vip.name)]
    addresses = set(model.find_backends(scope, wanted).values())
    if len(addresses) > 1:
        listed = ", ".join(str(address) for address in sorted(addresses))
        raise ConfigError("backend", f"{wanted!r} names different backends ({listed}); give the address")
    if addresses:
        return addresses.pop()
    # A drained backend may have left the configuration since; its override can still be ended.
    for override in overrides:
        if restore and str(override.backend) == wanted:
            return override.backend
    there = sorted({backend.label for vip in scope for backend in vip.backends})
    where = f"the VIP {only!r}" if only else "any VIP"
    raise ConfigError("backend", f"{wanted!r} is not a backend of {where}; there are: {', '.join(there) or 'none'}")


def _newly_draining(before: Sequence[ResolvedVip], after: Sequence[ResolvedVip]) -> list[str]:
    """VIPs of which a backend drains now that did not before."""
    old = {item.vip.name: item.vip.draining for item in before}
    return [item.vip.name for item in after if item.vip.draining - old.get(item.vip.name, frozenset())]


def _override_warnings(desired: _Desired) -> list[str]:
    return [
        f"the backend {override} is drained by an operator and stays so; end it with the playbook dsr.layer2.restore"
        for override in sorted(desired.overrides, key=str)
        if any(override.applies_to(item.vip) for item in desired.resolved)
    ]


def _normalised(item: ResolvedVip) -> dict[str, Any]:
    options = item.vip.options()
    options["interface"] = item.interface
    options["backend_interface"] = item.backend_interface
    options["backends"] = [
        {**backend.options(), "mac": item.macs.get(backend.address)} for backend in item.vip.backends
    ]
    return options


def _differences(vip: model.Vip, table: Table, plan: Plan) -> list[str]:
    """The plan's reasons that concern this VIP: its own objects, and those that it shares."""
    mine = []
    # A slot table bears the name of one of the VIPs that use it.
    slots = {
        word
        for name, chain in table.chains.items()
        if name.partition("_")[2] == vip.name
        for rule in chain.rules
        for word in rule.split()
        if word.startswith("@slots_")
    }
    for reason in plan.reasons:
        words = reason.split(":")[0].split(" ")
        if len(words) == 2:
            kind, _underscore, owner = words[1].partition("_")
            if f"@{words[1]}" in slots:
                owner = vip.name
            if kind in VIP_OBJECTS and owner != vip.name:
                continue
        mine.append(reason)
    return mine


def _diff(
    before: Sequence[ResolvedVip], after: Sequence[ResolvedVip], plan: Plan, files: Sequence[FileChange]
) -> list[dict[str, str]]:
    """What a person reads before a Friday's run: the VIPs before and after, then the transaction."""
    diffs = []
    old, new = _describe(before), _describe(after)
    if old != new:
        diffs.append({"before_header": "VIPs", "after_header": "VIPs", "before": old, "after": new})
    if plan.commands:
        lines = [f"# {reason}" for reason in plan.reasons] + [_shortened(command) for command in plan.commands]
        diffs.append({"prepared": "nft transaction:\n" + "\n".join(lines)})
    if files and not (old != new or plan.commands):
        diffs.append({"prepared": "".join(f"written anew: {file.path}\n" for file in files)})
    return diffs


def _shortened(command: str) -> str:
    head, brace, content = command.partition(" { ")
    if " element " not in head or not brace:
        return command
    elements = content.rsplit(" }", 1)[0].split(", ")
    if len(elements) <= _SHOWN_ELEMENTS:
        return command
    shown = ", ".join(elements[: _SHOWN_ELEMENTS // 2])
    return f"{head} {{ {shown}, ... {len(elements) - _SHOWN_ELEMENTS // 2} more }}"


def _describe(resolved: Sequence[ResolvedVip]) -> str:
    lines = []
    for item in sorted(resolved, key=lambda item: item.vip.name):
        vip = item.vip
        ports = ",".join(str(ports) for ports in vip.ports) or "all ports"
        lines.append(f"{vip.name}: {vip.address} {vip.protocol} {ports} {vip.scheduler}")
        way = (
            item.interface
            if item.interface == item.backend_interface
            else f"{item.interface} -> {item.backend_interface}"
        )
        lines.append(f"  through {way}")
        for backend in vip.backends:
            state = "drain" if backend.draining else backend.state
            mac = item.macs.get(backend.address, "no MAC known")
            lines.append(f"  {backend.label} {mac} weight {backend.weight} {state}")
    return "".join(f"{line}\n" for line in lines)

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a user asks to what a load balancer does: every module of the load balancer is one call here.

The order never changes: check the data, look at the host, render, compare with the kernel, and only
then, and only outside check mode, one transaction and the files.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional

from ..common import neighbours
from ..common.errors import CommandError, ConfigError, DsrError, HostError
from ..common.files import lock
from ..common.iproute import Iproute, Link
from . import model
from .dialect import CURRENT
from .dispatch import SERVICE_MAPS, service_keys
from .kernel import Kernel
from .live import Live, LiveFile, settled
from .naming import names_in_use, users
from .plan import Plan, make_plan
from .resolve import Resolver, resolve
from .resolved import PLAIN, RELEASED, ResolvedVip
from .ruleset import flow_modes, render, with_flows_of
from .seen import AGENT_SEEN_FILE, SEEN_FILE, Moment, Seen, SeenFile, now
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
from .table import Counter, KernelTable, Names, Table, boot_text, mark, table_text

_SHOWN_ELEMENTS = 6
_PATIENCE = 30.0  # seconds for which the agent waits for a run of a module


@dataclass
class Result:
    """What a run did, or in check mode would do."""

    changed: bool
    vips: list[dict[str, Any]]
    ruleset: str
    commands: list[str]
    warnings: list[str]
    diff: list[dict[str, str]]


class Reconciled(NamedTuple):
    """What the agent learns from bringing the kernel to what is wanted.

    Why anything had to change, the number that the kernel's last transaction has if nobody else's came after it, the
    VIPs as they are served, and what each goes through.
    """

    reasons: list[str]
    generation: Optional[int]
    served: Sequence[ResolvedVip]
    names: Mapping[str, Names]


@dataclass
class _Desired:
    """What the host is to be brought to."""

    resolved: Sequence[ResolvedVip]
    overrides: Sequence[Override]
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Comparison:
    """The wanted table beside the kernel's."""

    table: Table
    plan: Plan
    have: KernelTable
    modes: Mapping[str, str]
    macs: Mapping[str, str]  # of the NICs
    transactions: int = 0


class LoadBalancer:
    """A load balancer: its kernel, its network, its files."""

    def __init__(
        self,
        kernel: Optional[Kernel] = None,
        iproute: Optional[Iproute] = None,
        resolver: Resolver = neighbours.resolve,
        directory: str = STATE_DIRECTORY,
        lock_file: str = LOCK_FILE,
        seen_file: str = SEEN_FILE,
        live: Optional[LiveFile] = None,
        others_seen: Sequence[str] = (AGENT_SEEN_FILE,),
    ) -> None:
        self._kernel = kernel or Kernel()
        self._iproute = iproute or Iproute()
        self._resolver = resolver
        self._files = StateFiles(directory)
        self._lock_file = lock_file
        self._seen = SeenFile(seen_file, others_seen)
        self._live = live or LiveFile()
        self._dialect = CURRENT  # until the host is asked
        self._published = Live()  # by an agent that runs; until it is asked
        self._absent: Sequence[ResolvedVip] = ()  # VIPs whose NIC is gone

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
            self._dialect = self._kernel.dialect()
            live = self._live.read()
            served = [live.applied_to(item) for item in self.desired()]
            wanted = [item for item in served if only is None or item.vip.name == only]
            try:
                macs, nics = self._nics(served)
                known = self._seen.read(now(self._kernel.generation(), nics))
                found = self._compare(served, macs, known, (), False, counted=[item.vip.name for item in wanted])
                have, names, differences = found.have, found.table.names, _differences(found.plan, found.table)
            except HostError as error:
                # Such as a NIC that is gone: nothing can be compared then, and that is the news.
                have = self._kernel.read()
                names = names_in_use([item.vip for item in wanted], have)
                differences = {item.vip.name: [str(error)] for item in wanted}
            said = live if self._live.agent_runs() else None
            return have.present, [
                self._figures(item, have, names.get(item.vip.name, Names()), differences[item.vip.name], said)
                for item in wanted
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
        for vip, place in zip(wanted, places):
            self._dialect.check(vip, place)
        resolved, warnings = resolve(
            wanted,
            [f"{place}." if place else "" for place in places],
            self._iproute,
            self._resolver,
            {item.vip.name: self._published.applied_to(item) for item in old},
        )
        resolved = settled(resolved, old, self._published)
        kept = [item for item in overrides if not purge or any(item.applies_to(vip) for vip in wanted)]
        return _Desired([*others, *resolved], kept, warnings + self._dialect.warnings)

    def _run(self, change: Callable[[Sequence[ResolvedVip], Sequence[Override]], _Desired], check_mode: bool) -> Result:
        _require_root()
        self._kernel.check_usable()
        with lock(self._lock_file):
            old = self._files.read_vips()
            old_overrides = self._files.read_overrides()
            self._dialect = self._kernel.dialect()
            self._published = live = self._live.read()
            desired = change(old, old_overrides)
            before = [with_overrides(item, old_overrides) for item in old]
            lasting = [with_overrides(item, desired.overrides) for item in desired.resolved]
            served = [live.applied_to(item) for item in lasting]
            rearmed = [f"switch_{name}" for name in _newly_draining(before, lasting)]
            new = {item.vip.name for item in served} - {item.vip.name for item in old}
            comparison = self._brought_to(served, rearmed, new, check_mode)
            plan = comparison.plan
            files = [
                FileChange(self._files.vips_path, vips_text(desired.resolved)),
                FileChange(self._files.ruleset_path, boot_text(self._for_boot(comparison, served, lasting))),
            ]
            if desired.overrides or old_overrides:
                files.append(FileChange(self._files.overrides_path, overrides_text(desired.overrides)))
            due = [file for file in files if file.needed]
            if not check_mode:
                for file in due:
                    file.write()
        return Result(
            changed=bool(plan.commands or due),
            vips=[_normalised(item) for item in desired.resolved],
            ruleset=table_text(comparison.table) if comparison.table.chains else "",
            commands=list(plan.commands),
            warnings=desired.warnings
            + _override_warnings(desired)
            + ([] if check_mode else self._agent_warnings(desired)),
            diff=_diff(before, lasting, plan, due),
        )

    def _agent_warnings(self, desired: _Desired) -> list[str]:
        checked = sorted(item.vip.name for item in desired.resolved if item.vip.health_check)
        steered = sorted(item.vip.name for item in desired.resolved if item.vip.steered)
        if not (checked or steered) or self._live.agent_runs():
            return []
        why = "the agent (nft-dsr-agent.service) does not run; start it, or install it with 'load_balancer_agent: true'"
        told = [f"nobody checks the backends of {', '.join(checked)}: {why}"] if checked else []
        if steered:
            told.append(f"nobody counts connections for {', '.join(steered)}, which go in turns, by weight: {why}")
        return told

    # What the agent calls

    def desired(self) -> list[ResolvedVip]:
        """What is to be served, as it was configured and as an operator drained."""
        overrides = self._files.read_overrides()
        return [with_overrides(item, overrides) for item in self._files.read_vips()]

    def generation(self) -> Optional[int]:
        """The number of the last transaction of this network namespace; see Kernel.generation()."""
        return self._kernel.generation()

    def reconcile(self, live: Live, last: Sequence[ResolvedVip] = ()) -> Reconciled:
        """Publish what is known of backends and bring the kernel to it.

        ``last`` is what desired() said before, in force where the files cannot be read now. VIPs whose NIC is gone are
        left out, but for the flows that they track.
        """
        held = f"a run of a module holds {self._lock_file} for more than {_PATIENCE:g} s"
        with lock(self._lock_file, held, _PATIENCE):
            try:
                lasting = self.desired()
            except DsrError:
                if not last:
                    raise
                lasting = list(last)
            self._live.publish(live)
            self._dialect = self._kernel.dialect()
            everything = [live.applied_to(item) for item in lasting]
            links = self._iproute.links()
            served = [item for item in everything if not _missing(item, links)]
            self._absent = [item for item in everything if _missing(item, links)]
            before = self._kernel.generation()
            comparison = self._brought_to(served, (), (), False)
            generation = None if before is None else before + comparison.transactions
            return Reconciled(list(comparison.plan.reasons), generation, served, comparison.table.names)

    def _brought_to(
        self, served: Sequence[ResolvedVip], rearmed: Sequence[str], new: Collection[str], check_mode: bool
    ) -> _Comparison:
        """Bring the kernel to what is wanted, but for check mode; what it took.

        ``rearmed`` are maps to be made anew, ``new`` VIPs that were not there before.
        """
        macs, nics = self._nics(served)
        moment = now(self._kernel.generation(), nics)
        known = self._seen.read(moment)
        try:
            comparison = self._applied(served, macs, known, rearmed, new, check_mode)
        except CommandError:
            if known is None:
                raise
            # What was remembered did not hold after all: ask for everything.
            comparison = self._applied(served, macs, None, rearmed, new, check_mode)
        if not check_mode:
            self._remember(moment, comparison, nics)
        return comparison

    def _for_boot(
        self, comparison: _Comparison, served: Sequence[ResolvedVip], lasting: Sequence[ResolvedVip]
    ) -> Table:
        """What a boot is to load: ``lasting`` is ``served`` without what the agent found out."""
        boot_modes = flow_modes([item.vip for item in served], ())
        if boot_modes == comparison.modes and list(served) == list(lasting):
            return comparison.table
        # No flow is known at a boot, so nothing is left over either.
        return render(lasting, comparison.macs, comparison.table.names, boot_modes, self._dialect)

    def _applied(
        self,
        served: Sequence[ResolvedVip],
        macs: Mapping[str, str],
        known: Optional[Seen],
        recreate: Sequence[str],
        new: Collection[str],
        check_mode: bool,
    ) -> _Comparison:
        comparison = self._compare(served, macs, known, recreate, check_mode, new)
        plan = comparison.plan
        if check_mode or not plan.commands:
            return comparison
        try:
            self._kernel.apply(plan.text)
            comparison.transactions = 1
            sizes = self._kernel.sizes() if plan.resized else {}
            stuck = [name for name in plan.resized if sizes.get(name) != comparison.table.maps[name].spec.size]
        except CommandError:
            if not plan.resized:
                raise
            stuck = list(plan.resized)
        if stuck:
            # An older kernel, which cannot resize a table of flows: they are forgotten then.
            done = comparison.transactions
            comparison = self._compare(served, macs, None, [*recreate, *stuck], check_mode, new)
            self._kernel.apply(comparison.plan.text)
            comparison.transactions = done + 1
        return comparison

    def _remember(self, moment: Optional[Moment], comparison: _Comparison, nics: Mapping[str, int]) -> None:
        """Next time the kernel need not be asked, if nobody else's transaction came in between."""
        after = now(self._kernel.generation(), nics)
        if moment is None or after is None:
            return
        if after.generation != moment.generation + comparison.transactions:
            after = None
        self._seen.write(after, comparison.table)

    def _compare(
        self,
        served: Sequence[ResolvedVip],
        macs: Mapping[str, str],
        known: Optional[Seen],
        recreate: Sequence[str],
        check_mode: bool,
        new: Collection[str] = (),
        counted: Sequence[str] = (),
    ) -> _Comparison:
        """The wanted table, the kernel's, and what it takes to get there. What counts packets of the VIPs
        ``counted`` is read in any case."""
        have = self._kernel.read() if known is None else KernelTable(present=True)
        there = set(have.maps) if known is None else set(known.maps)
        in_use = names_in_use([item.vip for item in served], have) if known is None else known.names
        modes = flow_modes([item.vip for item in served], there)
        dialect = self._dialect

        steering = self._live.agent_runs()

        def compared() -> _Comparison:
            table = render(served, macs, in_use, modes, dialect, steering)
            if self._absent:
                table = with_flows_of(self._absent, table, there, dialect)
            if known is None:
                # Of a table that is not there, no rule has to be compared; the transaction checks its own.
                codes = self._kernel.compile(table) if have.present or check_mode else {}
                carried = _carried(served, in_use, table.names, new, have)
                return _Comparison(table, make_plan(table, codes, have, recreate, carried), have, modes, macs)
            found, same_codes, unread = known.compared_with(table)
            moving = {in_use[vip].backends for vip, names in table.names.items() if _moves(in_use.get(vip), names)}
            counting = _counting([table.names[vip] for vip in counted], found.maps)
            self._kernel.read_elements(found, {*unread, *counting, *moving})
            carried = _carried(served, in_use, table.names, new, found)
            plan = make_plan(table, same_codes, found, recreate, carried)
            if check_mode and plan.commands:
                self._kernel.check(plan.text)
            return _Comparison(table, plan, found, modes, macs)

        comparison = compared()
        left_over = [name for name, mode in modes.items() if mode == RELEASED]
        if comparison.plan.commands and left_over:
            # Something changes anyway: flow maps in which nothing lives any more go with it. On their
            # own they are neither drift nor a change.
            empty = [name for name in left_over if not self._tracked(name, there)]
            if empty:
                modes.update((name, PLAIN) for name in empty)
                comparison = compared()
        return comparison

    def _nics(self, served: Sequence[ResolvedVip]) -> tuple[dict[str, str], dict[str, int]]:
        """The MAC address and the index of each NIC that the VIPs use."""
        links = self._iproute.links()
        macs, indices = {}, {}
        for item in served:
            missing = _missing(item, links)
            if missing:
                raise HostError(
                    f"the VIP {item.vip.name!r} uses the interface {missing!r}, which this host does not have "
                    "(any more); bring it back, or change or remove the VIP"
                )
            for interface in (item.interface, item.backend_interface):
                macs[interface] = links[interface].mac
                indices[interface] = links[interface].index
        return macs, indices

    def _tracked(self, name: str, maps: Collection[str]) -> dict[str, int]:
        """Live flow entries of a VIP by the mark of their backend."""
        total: dict[str, int] = {}
        for kind in ("flows", "closing"):
            if f"{kind}_{name}" in maps:
                for backend, number in self._kernel.flows(f"{kind}_{name}").items():
                    total[backend] = total.get(backend, 0) + number
        return total

    def _figures(
        self, item: ResolvedVip, have: KernelTable, names: Names, differences: Sequence[str], said: Optional[Live]
    ) -> dict[str, Any]:
        vip = item.vip
        services = sum(
            (
                counters[key]
                for name, counters in have.counters.items()
                if name.partition("_")[0] in SERVICE_MAPS
                for key in service_keys(vip)
                if key in counters
            ),
            Counter(),
        )
        flows = self._tracked(vip.name, have.maps) if have.present else {}
        counters = have.counters.get(names.backends, {})
        rows = []
        for backend in vip.backends:
            number = mark(item.mark(backend))
            key = names.key(vip.address, item.mark(backend))
            counter = counters.get(key, Counter())
            usable = key in have.elements.get(names.backends, {})
            why = said.failing.get(vip.name, {}).get(backend.address) if vip.health_check and said else None
            rows.append(
                {
                    **backend.options(),
                    "state": "drain" if backend.draining else backend.state,
                    "healthy": backend.address not in item.unhealthy if vip.health_check and said else None,
                    "cause": why.cause if why else None,
                    "since": why.since if why else None,
                    "mac": item.macs.get(backend.address),
                    "packets": counter.packets,
                    "bytes": counter.bytes,
                    "flows": flows.get(number, 0) if usable else 0,
                }
            )
        return {
            **_normalised(item),
            "backends": rows,
            "packets": services.packets,
            "bytes": services.bytes,
            "health_ignored": vip.name in said.ignored if vip.health_check and said else None,
            "in_sync": not differences,
            "differences": list(differences),
        }


def _missing(item: ResolvedVip, links: Mapping[str, Link]) -> str:
    """The NIC of a VIP that this host does not have; '' when it has them."""
    for interface in (item.interface, item.backend_interface):
        if interface not in links or not links[interface].mac:
            return interface
    return ""


def _counting(names: Sequence[Names], maps: Collection[str]) -> set[str]:
    """Those of the maps that count the packets of VIPs and their backends."""
    services = {name for name in maps if name.partition("_")[0] in SERVICE_MAPS} if names else set()
    return services | {item.backends for item in names} & set(maps)


def _moves(before: Optional[Names], after: Names) -> bool:
    """Whether a VIP's backends are counted elsewhere from now on."""
    return before is not None and before.backends not in ("", after.backends)


def _carried(
    served: Sequence[ResolvedVip],
    in_use: Mapping[str, Names],
    names: Mapping[str, Names],
    new: Collection[str],
    have: KernelTable,
) -> dict[str, dict[str, Counter]]:
    """What the backends of VIPs that come to a map count from: what they counted in the one that they leave.

    Where another VIP at the same address leaves the map at the same time, its numbers are not theirs.
    """
    carried: dict[str, dict[str, Counter]] = {}
    for item in served:
        vip = item.vip
        after = names[vip.name]
        before = in_use.get(vip.name)
        # The kernel may know a VIP that the files don't: somebody removed these.
        if not _moves(before, after) and (before is not None or vip.name not in new):
            continue
        counters = have.counters.get(before.backends, {}) if before is not None else {}
        there = have.elements.get(after.backends, {})
        for backend in vip.backends:
            number = item.mark(backend)
            counter = counters.get(before.key(vip.address, number), Counter()) if before else Counter()
            key = after.key(vip.address, number)
            if counter.packets or key in there:
                carried.setdefault(after.backends, {})[key] = counter
    return carried


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
) -> model.IPAddress:
    vips = [item.vip for item in old]
    if only is not None and only not in {vip.name for vip in vips}:
        raise ConfigError(
            "vip", f"there is no VIP {only!r}; there are: {', '.join(vip.name for vip in vips) or 'none'}"
        )
    scope = [vip for vip in vips if only in (None, vip.name)]
    addresses = set(model.find_backends(scope, wanted).values())
    if len(addresses) > 1:
        listed = ", ".join(sorted(str(address) for address in addresses))
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


def _differences(plan: Plan, table: Table) -> dict[str, list[str]]:
    """The plan's reasons that concern each VIP: all but those about what only others use."""
    if not plan.reasons:
        return {vip: [] for vip in table.names}
    used = users(table)
    concerned: dict[str, list[str]] = {vip: [] for vip in table.names}
    for reason in plan.reasons:
        words = reason.split(":")[0].split(" ")
        name = words[1] if len(words) == 2 else ""
        owner = name.partition("_")[2]
        # What is not wanted is its owner's, if there is one.
        whose = used.get(name) or ({owner} & set(table.names) if name not in {**table.maps, **table.chains} else None)
        for vip in whose or table.names:
            concerned[vip].append(reason)
    return concerned


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

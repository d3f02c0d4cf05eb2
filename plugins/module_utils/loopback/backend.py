# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's end: virtual IPs on the loopback, and no answer to ARP for them.

Order is everything. A virtual IP appears after ARP is suppressed, and is gone before the suppression
is lifted; else its clients would learn this host's MAC and stay with it, past the load balancer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional

from ..common.errors import ConfigError, HostError
from ..common.iproute import IPAddress, Link
from . import arp, plan
from .holding import (
    Holding,
    Memory,
    Request,
    check_edges,
    check_ipv6,
    holding_steps,
    plan_holding,
    required_link,
)
from .host import Host, file_steps
from .model import host_interface, parse_addresses, parse_interface, parse_path
from .observed import Observed, deaf_nics, is_nic, observe
from .persisted import NETPLAN_FILE, SYSCTL_FILE, sysctl_text
from .persistence import NONE, Persistence
from .plan import FileState, SetSysctl, Step

MEMORY = "loopback"
PERSIST = ("auto", "netplan", "networkd", NONE)


@dataclass(frozen=True)
class Options:
    """The options of dsr_backend_loopback, checked."""

    request: Request
    persist: str = "auto"
    sysctl_file: str = SYSCTL_FILE
    netplan_file: str = NETPLAN_FILE


def parse_options(options: Mapping[str, Any]) -> Options:
    purge = bool(options["purge"])
    return Options(
        request=Request(
            path="vips",
            addresses=parse_addresses(options["vips"], "vips", purge),
            interface=parse_interface(options["interface"], "interface"),
            state=options["state"],
            purge=purge,
        ),
        persist=options["persist"],
        sysctl_file=parse_path(options["sysctl_file"], "sysctl_file", arp.FOLDERS, ".conf"),
        netplan_file=parse_path(options["netplan_file"], "netplan_file", ("/etc/netplan",), ".yaml"),
    )


@dataclass(frozen=True)
class Outcome:
    """What a run does or would do."""

    steps: list[Step]
    persist: str
    files: list[str]
    vips: tuple[IPAddress, ...]
    warnings: list[str]
    message: str

    def result(self) -> dict[str, Any]:
        return {
            "changed": bool(self.steps),
            "msg": self.message,
            "persist": self.persist,
            "files": self.files,
            "vips": [str(address) for address in self.vips],
            "steps": [str(step) for step in self.steps],
            "diff": plan.diff(self.steps),
        }


def ensure(host: Host, options: Mapping[str, Any], check_mode: bool) -> Outcome:
    """Bring the host to what the options ask for; in check mode, say only how."""
    parsed = parse_options(options)
    host.require_root()
    with host.locked(check_mode):
        outcome = _plan(host, parsed)
        if not check_mode:
            host.apply(outcome.steps)
    return outcome


def _plan(host: Host, options: Options) -> Outcome:
    request = options.request
    observed = observe(host)
    link = required_link(request, observed.links)
    memory = Memory(host, MEMORY)
    claim = memory.of(request.interface)
    persistence = Persistence(host, link, options.netplan_file, claim.files)
    ours = {*map(_address, claim.addresses), *persistence.own_addresses()}
    holding = plan_holding(request, ours, observed.held)
    suppression = _Suppression(host, options, observed, memory, holding)
    warnings = _check(host, holding, observed, link, suppression)
    manager = _choose(persistence, options, holding)
    wants = persistence.wanted(manager, holding.final)
    steps = holding_steps(host, memory, holding, wants, suppression.files)
    return Outcome(
        steps=[
            *steps.claim,
            *suppression.raising(),
            *steps.delete,
            *steps.persist,
            *steps.add,
            *suppression.lifting(),
            *steps.settle,
        ],
        persist=manager,
        files=sorted({*suppression.files, *steps.files}),
        vips=holding.final,
        warnings=warnings,
        message=_message(holding, manager, options.persist, sorted({*suppression.files, *steps.files})),
    )


def _choose(persistence: Persistence, options: Options, holding: Holding) -> str:
    """What keeps the addresses. When there is nothing to keep, nobody needs to be there for it."""
    try:
        return persistence.choose_for_loopback(options.persist)
    except HostError:
        if holding.final and holding.request.present:
            raise
        return NONE


class _Suppression:
    """arp_ignore and arp_announce of ``all``: in force as long as a virtual IP of ours is IPv4."""

    def __init__(self, host: Host, options: Options, observed: Observed, memory: Memory, holding: Holding) -> None:
        self._host = host
        self._file = options.sysctl_file
        self._observed = observed
        elsewhere = [
            _address(text)
            for interface, claim in memory.claims.items()
            if interface != options.request.interface
            for text in claim.addresses
        ]
        self.needed = any(address.version == 4 for address in (*holding.final, *elsewhere))
        remembered = {path for claim in memory.claims.values() for path in claim.files if path.endswith(".conf")}
        candidates = sorted({self._file, SYSCTL_FILE, *remembered})
        self._own = [
            path
            for path in candidates
            if path.rpartition("/")[0] in arp.FOLDERS and host.own_file(path) is not None
        ]
        self._others = [file for file in host.sysctl_files() if file.path not in (*self._own, self._file)]
        if self.needed:
            host.require_own(self._file, "name another one with 'sysctl_file'")

    @property
    def files(self) -> list[str]:
        return [self._file] if self.needed else []

    def boot(self) -> arp.Boot:
        """What sysctl.d comes to with our file as it shall be."""
        return arp.Boot([*self._others, arp.SysctlFile(self._file, self._text())])

    def _text(self) -> str:
        # A stricter value of the administrator's is kept, which our file would otherwise lower at boot.
        return sysctl_text(arp.wanted_value(arp.IGNORE, arp.Boot(self._others).number("all", arp.IGNORE)))

    def raising(self) -> list[Step]:
        """The steps that put the suppression in force, at boot and now."""
        if not self.needed:
            return []
        wanted: dict[str, Optional[FileState]] = {path: None for path in self._own}
        wanted[self._file] = FileState(self._text(), 0o644)
        return [*file_steps(self._host, wanted), *self.settings()]

    def settings(self) -> list[Step]:
        """The part of them that is about the running kernel."""
        current = {arp.IGNORE: self._observed.all_ignore, arp.ANNOUNCE: self._observed.all_announce}
        steps: list[Step] = []
        for name in (arp.ANNOUNCE, arp.IGNORE):
            after = arp.wanted_value(name, current[name])
            if after != current[name]:
                steps.append(SetSysctl("all", name, current[name], after))
        return steps

    @property
    def lifted(self) -> bool:
        """Whether it goes. Only what we have raised: the mark of that is a file of ours."""
        return not self.needed and bool(self._own)

    def lifting(self) -> list[Step]:
        """Back to what a boot without our file would set: the other files' value, or the kernel's own 0."""
        if not self.lifted:
            return []
        boot = arp.Boot(self._others)
        steps: list[Step] = []
        for name, current in (
            (arp.IGNORE, self._observed.all_ignore),
            (arp.ANNOUNCE, self._observed.all_announce),
        ):
            after = boot.number("all", name) or 0
            if after != current:
                steps.append(SetSysctl("all", name, current, after))
        return [*steps, *file_steps(self._host, dict.fromkeys(self._own))]


# --- what stands in the way -----------------------------------------------------------------------


def _check(
    host: Host, holding: Holding, observed: Observed, link: Link, suppression: _Suppression
) -> list[str]:
    """Refuse what would not work now or at the next boot; warn of what may stop working later.

    To take addresses away nothing stands in the way: then all of it is but a warning.
    """
    request = holding.request
    if not request.present:
        return [*_leftovers(holding, observed, suppression)]
    if is_nic(link):
        raise ConfigError(
            "interface",
            f"{link.name} is a NIC, which answers ARP for the addresses that it holds; "
            f"use lo, or a dummy interface",
        )
    check_edges(request, observed.held)
    check_ipv6(request, host)
    _check_holders(request, observed)
    warnings = [] if link.up else [f"{link.name} is down: bring it up, or its addresses may not be served"]
    if suppression.needed:
        warnings += _check_suppression(host, observed, suppression)
    return [*warnings, *_leftovers(holding, observed, suppression)]


def _check_holders(request: Request, observed: Observed) -> None:
    """A virtual IP may be nowhere but on the loopback, and there as a host address."""
    for address in request.addresses:
        for entry in observed.holders(address):
            place = request.place(address)
            if is_nic(observed.links[entry.link]):
                raise ConfigError(
                    place,
                    f"{address} is on {entry.link} as well, which answers ARP for it; remove it there "
                    f"('ip address delete {entry.value} dev {entry.link}') and from what puts it there at boot",
                )
            if entry.link == request.interface and entry.value != host_interface(address):
                raise ConfigError(
                    place,
                    f"{entry.link} holds {entry.value}, which this module did not put there and which makes the whole "
                    f"of {entry.value.network} local; remove it ('ip address delete {entry.value} dev {entry.link}')",
                )


def _check_suppression(host: Host, observed: Observed, suppression: _Suppression) -> list[str]:
    steps = suppression.settings()
    for step in steps:
        if isinstance(step, SetSysctl) and not host.sysctl_writable(step.interface, step.name):
            raise HostError(
                f"{step.sysctl} is {step.before} and cannot be set to {step.after}: /proc/sys is read-only here "
                f"(a container?); without it this host would answer ARP for the virtual IPs"
            )
    all_ignore = arp.wanted_value(arp.IGNORE, observed.all_ignore)
    now = arp.culprits_now(observed.interfaces, all_ignore)
    certain, possible = arp.culprits_at_boot(suppression.boot(), suppression.files[0], observed.presence())
    if now or certain:
        raise HostError("; ".join([*now, *certain]))
    quiet = [
        f"{arp.key(interface.name, arp.IGNORE)} is {interface.ignore}: once {interface.name} is up, it will answer "
        f"ARP for addresses that are on lo"
        for interface in observed.interfaces
        if not interface.speaks_arp and is_nic(observed.links[interface.name])
        and not arp.suppresses(max(all_ignore, interface.ignore))
    ]
    deaf = [
        f"{name} answers no ARP at all (arp_ignore is 8): the load balancer cannot find this host's MAC by itself"
        for name in deaf_nics(observed)
    ]
    late = arp.Boot([*suppression.boot_files(), arp.SysctlFile("/etc/sysctl.d/~.conf", host.foreign_text("/etc/sysctl.conf") or "")])
    return [*quiet, *deaf, *possible]


def _leftovers(holding: Holding, observed: Observed, suppression: _Suppression) -> list[str]:
    """Addresses that are left alone although the user may think otherwise."""
    request = holding.request
    warnings = []
    if not request.present:
        for address in request.addresses:
            warnings += [
                f"{address} is left on {entry.link} as {entry.value}: this module did not put it there"
                for entry in observed.holders(address)
                if entry.link != request.interface or entry.value != host_interface(address)
            ]
    if suppression.lifted:
        gone = set(holding.delete)
        warnings += [
            f"ARP suppression is lifted, since no virtual IP of this module is left; {entry.ip}, which something else "
            f"put on {entry.link}, is answered for by ARP from now on"
            for entry in observed.held
            if entry.ip.version == 4
            and not entry.ip.is_loopback
            and not is_nic(observed.links[entry.link])
            and entry.ip not in gone
        ]
    return warnings


def _message(holding: Holding, manager: str, persist: str, files: list[str]) -> str:
    request = holding.request
    if not holding.final:
        return f"no virtual IP of this module is on {request.interface}"
    held = ", ".join(map(str, holding.final))
    if manager == NONE:
        return f"{held} on {request.interface} until the next boot (persist: none)"
    how = f"{manager}, which manages this host" if persist == "auto" else manager
    return f"{held} on {request.interface}, brought back at boot by {how} ({', '.join(files)})"


def _address(text: str) -> IPAddress:
    import ipaddress

    return ipaddress.ip_address(text)

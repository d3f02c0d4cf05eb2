# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What brings the addresses of one interface back at boot: which of them is in charge, and what it wants on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional, Union

from ..common.errors import HostError
from ..common.iproute import IPAddress, Link
from .host import Host
from .ifupdown import Ifupdown
from .model import ordered
from .netplan import Netplan
from .networkd import Networkd
from .networkmanager import NetworkManager
from .persisted import NetplanId
from .plan import Wanted
from .unit import SystemdUnit

NONE = "none"


class Persistence:
    """All that can keep addresses of ``link`` over a boot.

    ``old_files``: files that we wrote for it earlier; some may be at other paths than today's.
    """

    def __init__(self, host: Host, link: Link, netplan_file: str, old_files: Iterable[str] = ()) -> None:
        self._host = host
        self._link = link
        self._netplan = Netplan(host, netplan_file)
        self._old_netplans = [
            Netplan(host, path) for path in sorted(set(old_files)) if path.endswith(".yaml") and path != netplan_file
        ]
        self._networkd = Networkd(host)
        self._networkmanager = NetworkManager(host)
        self._ifupdown = Ifupdown(host)
        self._unit = SystemdUnit(host)
        # Those that have one file for all interfaces, of commands that put addresses there
        self._commanded = (self._networkmanager, self._ifupdown, self._unit)
        self._reason = ""  # why it is a unit of our own, where that is not what was asked for
        self._device: Optional[NetplanId] = None
        self._target: Optional[str] = None

    def own_addresses(self) -> tuple[IPAddress, ...]:
        """What our files give to the link now."""
        found = [*self._networkd.own_addresses(self._link)]
        for keeper in self._commanded:
            found += keeper.own_addresses().get(self._link.name, ())
        for netplan in (self._netplan, *self._old_netplans):
            device = netplan.own_device(self._link)
            if device is not None:
                found += netplan.own_addresses()[device]
        return ordered(found)

    def keeper(self) -> str:
        """What has addresses of the link in a file of ours now."""
        netplans = (self._netplan, *self._old_netplans)
        if any(netplan.own_device(self._link) is not None for netplan in netplans):
            return self._netplan.name
        if self._networkd.own_files(self._link):
            return self._networkd.name
        return next((keeper.name for keeper in self._commanded if self._link.name in keeper.own_addresses()), NONE)

    def described(self, manager: str, persist: str, managed: str) -> str:
        """Who brings the addresses back, and why that one if it was chosen here. ``managed``: what it manages."""
        if persist != "auto":
            return manager
        if manager == self._unit.name:
            return f"a unit of our own, since {self._reason}"
        return f"{manager}, which manages {managed}"

    def networkd_files(self) -> list[str]:
        return self._networkd.own_files(self._link)

    def revived(self, gone: Sequence[IPAddress]) -> list[str]:
        """Warnings of addresses that are taken off a NIC, and that a running systemd-networkd still wants on it.

        It reads its files again only when it is told to, which would touch what is not ours.
        """
        still = [str(address) for address in self._networkd.remembered(self._link) if address in gone] if gone else []
        if not still:
            return []
        return [
            f"systemd-networkd has read {', '.join(still)} for {self._link.name} when it started, and brings it back "
            f"when {self._link.name} loses its carrier and gets it again; 'networkctl reload' has it forget"
        ]

    # --- who is in charge --------------------------------------------------------------------------

    def choose_for_loopback(self, persist: str) -> str:
        """What keeps addresses of lo (or of an interface like it): ``persist`` itself, or what it stands for."""
        if persist == NONE:
            return NONE
        if persist == "netplan" or (persist == "auto" and self._netplan_has_loopback()):
            self._require_netplan()
            self._device = self._netplan.device(self._link)
            if self._device is not None:
                return self._netplan.name
        if persist == "networkd" or (persist == "auto" and self._networkd.in_charge):
            self._require_networkd()
            if self._netplan.installed and self._netplan.others_device(self._link) is not None:
                raise HostError(f"persist: netplan configures {self._link.name} on this host; choose 'netplan'")
            self._target = self._networkd.target(self._link)
            if self._target is not None:
                return self._networkd.name
        keepers = (self._ifupdown, self._networkmanager)
        for keeper in reversed(keepers) if self._networkmanager.owns(self._link) else keepers:
            if self._is(keeper, persist):
                return keeper.name
        if persist == "auto" and self._netplan.installed and self._netplan.own_device(self._link) is not None:
            # Somebody chose it before, with nothing but our file for it to read
            self._device = self._netplan.own_device(self._link)
            return self._netplan.name
        in_need = persist == "auto" and self._link.loopback and self._host.booted_with_systemd
        if persist == "systemd" or in_need:
            self._reason = self._reason or f"nothing else manages {self._link.name}"
            return self._unit.name
        raise HostError(self._nothing_found())

    def choose_for_nic(self, persist: str) -> str:
        """The same for a NIC: only what manages this very NIC already, or else a unit of our own."""
        if persist == NONE:
            return NONE
        if persist == "netplan" or (persist == "auto" and self._netplan.in_charge):
            self._require_netplan()
            self._device = self._netplan.device(self._link)
            if self._device is not None and self._netplan.is_exact(self._device, self._link):
                return self._netplan.name
            if persist == "netplan":
                raise HostError(self._not_managed("netplan", self._device is not None))
        if persist == "networkd" or (persist == "auto" and self._networkd.in_charge):
            self._require_networkd()
            file = self._networkd.network_file(self._link)
            if file is not None and self._networkd.is_exact(file, self._link):
                self._target = self._networkd.target(self._link)
                return self._networkd.name
            if persist == "networkd":
                raise HostError(self._not_managed("systemd-networkd", file is not None))
        for keeper in (self._networkmanager, self._ifupdown):
            if self._is(keeper, persist):
                return keeper.name
        self._reason = self._reason or f"nothing else manages {self._link.name}"
        return self._unit.name

    def _require_netplan(self) -> None:
        if not self._netplan.installed:
            raise HostError("persist: netplan is not installed on this host; choose another 'persist'")

    def _require_networkd(self) -> None:
        if not self._networkd.in_charge:
            raise HostError(
                "persist: systemd-networkd is not enabled on this host, so it would never read our file; "
                "enable it or choose another 'persist'"
            )

    def _not_managed(self, manager: str, many: bool) -> str:
        why = f"does not manage {self._link.name}, and would take it over"
        if many:
            why = f"knows {self._link.name} by a pattern that can match other NICs, which would get the addresses too"
        return f"persist: {manager} {why}; choose 'systemd' or 'none'"

    def _netplan_has_loopback(self) -> bool:
        """Whether netplan is in charge, and would give lo to systemd-networkd."""
        if not self._netplan.in_charge:
            return False
        return self._netplan.others_device(self._link) is not None or not self._netplan.for_networkmanager

    def _is(self, keeper: Union[NetworkManager, Ifupdown], persist: str) -> bool:
        """Whether ``persist`` stands for ``keeper``, which has to be able to do it: an error if it was asked for."""
        if persist != keeper.name and not (persist == "auto" and keeper.in_charge):
            return False
        why_not = keeper.why_not(self._link)
        if why_not and persist != "auto":
            raise HostError(f"persist: {why_not}; choose 'systemd' or 'none'")
        self._reason = why_not
        return not why_not

    def _nothing_found(self) -> str:
        if not self._link.loopback:
            return f"persist: nothing that this version supports manages {self._link.name}; choose 'persist: none'"
        return (
            f"persist: neither netplan, systemd-networkd, NetworkManager nor ifupdown manages {self._link.name} on "
            f"this host, and no systemd runs on it; 'persist: none' sets the addresses until the next boot and leaves "
            f"it to you to bring them back"
        )

    # --- what it wants -------------------------------------------------------------------------------

    def wanted(self, manager: str, addresses: Sequence[IPAddress]) -> list[Wanted]:
        """What the files must be for ``manager`` to keep ``addresses``, and for no other one to."""
        wants = []
        for netplan in (self._netplan, *self._old_netplans):
            if manager == netplan.name and netplan is self._netplan and self._device is not None and addresses:
                wants.append(netplan.wanted(self._link, self._device, addresses))
            else:
                device = netplan.own_device(self._link)
                if device is not None:
                    wants.append(netplan.wanted(self._link, device, ()))
        target = self._target if manager == self._networkd.name else None
        wants.append(self._networkd.wanted(self._link, target, addresses))
        for keeper in self._commanded:
            if manager == keeper.name or self._link.name in keeper.own_addresses():
                wants.append(keeper.wanted(self._link.name, addresses if manager == keeper.name else ()))
        return wants

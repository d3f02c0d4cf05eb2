# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""netplan: our addresses in a file of our own, which is tried out in a scratch folder before it is installed."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional

from ..common.errors import HostError
from ..common.iproute import IPAddress, Link
from . import match
from .host import Host
from .model import host_interface
from .persisted import SECTIONS, NetplanId, netplan_addresses, netplan_text, network_addresses
from .plan import FileState, Refresh, Wanted

_FOLDERS = ("/etc/netplan", "/run/netplan", "/lib/netplan", "/usr/lib/netplan")
_RENDERED = "/run/systemd/network"
_MODE = 0o600  # netplan's files may hold secrets; it complains about any that others can read
_LOOPBACK = NetplanId("ethernets", "lo")


class Netplan:
    """netplan of a host, and the one file in which it has our addresses."""

    name = "netplan"

    def __init__(self, host: Host, file: str) -> None:
        self._host = host
        self.file = file
        self._rendered: dict[Optional[str], dict[str, str]] = {}

    @property
    def installed(self) -> bool:
        return self._host.find("netplan") is not None

    @property
    def in_charge(self) -> bool:
        """Whether netplan configures this host, by at least one file that is not ours."""
        return self.installed and any(self._host.own_file(path) is None for path in self._sources())

    def own_addresses(self) -> dict[NetplanId, tuple[IPAddress, ...]]:
        """What our file gives to whom at present."""
        state = self._host.own_file(self.file)
        return netplan_addresses(state.text) if state else {}

    def own_device(self, link: Link) -> Optional[NetplanId]:
        """The device of our file that stands for ``link``, if any."""
        held = self.own_addresses()
        if link.loopback:
            return _LOOPBACK if _LOOPBACK in held else None
        rendered = self._rendered_now()
        for device in held:
            if match.matches(rendered.get(_file_of(device), ""), link):
                return device
        return next((device for device in held if device.name == link.name), None)

    def device(self, link: Link) -> Optional[NetplanId]:
        """What ``link`` is called in netplan; None for a NIC that netplan does not configure."""
        return self.others_device(link) or (_LOOPBACK if link.loopback else None)

    def others_device(self, link: Link) -> Optional[NetplanId]:
        """What the files that are not ours call ``link``; None when they do not configure it.

        One that netplan hands to NetworkManager counts as not configured.
        """
        for name, text in self._render(None).items():
            if name.startswith("10-netplan-") and name.endswith(".network") and match.matches(text, link):
                return self._find(name[len("10-netplan-") : -len(".network")])
        return None

    @property
    def for_networkmanager(self) -> bool:
        """Whether netplan hands what it is not told otherwise of to NetworkManager."""
        with self._scratch(None) as scratch:
            done = self._host.run(["netplan", "get", "--root-dir", scratch, "all"], None)
        return done.ok and re.search("^  renderer: [\"']?NetworkManager", done.stdout, re.MULTILINE) is not None

    def is_exact(self, device: NetplanId, link: Link) -> bool:
        """Whether ``device`` can be no other interface than ``link``."""
        text = self._render(None).get(_file_of(device))
        return text is None or match.names_only(text, link)

    def wanted(self, link: Link, device: NetplanId, addresses: Sequence[IPAddress]) -> Wanted:
        """Our file when ``link`` shall have ``addresses`` as ``device``; netplan itself has checked any change."""
        earlier = self.own_device(link)
        held = {other: group for other, group in self.own_addresses().items() if other != earlier}
        held[device] = tuple(addresses)
        text = netplan_text(held)
        if text is not None:
            self._host.require_own(self.file, "name another one with 'netplan_file'")
        state = self._host.own_file(self.file)
        files = {self.file: None if text is None else FileState(text, _MODE)}
        if not self.installed:
            return Wanted(files=files)  # it was removed since; nothing reads our file
        if (state.text if state else None) != text:
            self._try_out(state.text if state else None, text, held)
        root = ["--root-dir", self._host.root] if self._host.root else []
        stale = not self._is_rendered(device, addresses)
        return Wanted(files=files, refresh=(Refresh(("netplan", "generate", *root)),), stale=stale)

    # --- what netplan makes of it --------------------------------------------------------------------

    def _rendered_now(self) -> dict[str, str]:
        """The .network files that netplan has rendered for the running system."""
        paths = self._host.glob(f"{_RENDERED}/10-netplan-*.network")
        return {posixpath.basename(path): self._host.foreign_text(path) or "" for path in paths}

    def _is_rendered(self, device: NetplanId, addresses: Sequence[IPAddress]) -> bool:
        return set(addresses) <= set(network_addresses(self._rendered_now().get(_file_of(device), "")))

    def _try_out(
        self, before: Optional[str], after: Optional[str], held: Mapping[NetplanId, Sequence[IPAddress]]
    ) -> None:
        """Have netplan render the host's files with ours as it is and as it shall be.

        Nothing but our addresses may differ between the two, and they must be there in the second.
        """
        old, new = self._render(before), self._render(after)
        ours = {*held, *self.own_addresses()}
        files = {_file_of(device) for device in ours}
        addresses = {address for group in (*held.values(), *self.own_addresses().values()) for address in group}
        for name in sorted({*old, *new}):
            if name in files and (name not in old or name not in new):
                continue  # a device that only our file speaks of, such as lo
            if _without(old.get(name), addresses) != _without(new.get(name), addresses):
                raise HostError(
                    f"{self.file} was not installed: with it, netplan would change more of {name} than our addresses; "
                    f"choose another 'persist'"
                )
        for device, wanted in held.items():
            there = network_addresses(new.get(_file_of(device), ""))
            lacking = [str(address) for address in wanted if address not in there]
            if lacking:
                raise HostError(
                    f"{self.file} was not installed: with it, netplan would not give {', '.join(lacking)} on "
                    f"'{device.name}' to systemd-networkd (is NetworkManager its renderer?); choose another 'persist'"
                )

    def _sources(self) -> list[str]:
        """All netplan files of the host; each once, where one folder is a link to another."""
        found: dict[str, str] = {}
        for folder in _FOLDERS:
            for path in self._host.glob(f"{folder}/*.yaml"):
                found.setdefault(os.path.realpath(self._host.path(path)), path)
        return sorted(found.values())

    @contextlib.contextmanager
    def _scratch(self, own: Optional[str]) -> Iterator[str]:
        """A folder with the host's netplan files and with ``own`` for ours (None: without it)."""
        folder = tempfile.mkdtemp(prefix="dsr-netplan-")
        try:
            texts = {path: self._host.foreign_text(path) for path in self._sources()}
            texts[self.file] = own
            for path, text in texts.items():
                if text is not None:
                    _write_secret(folder + path, text)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _render(self, own: Optional[str]) -> dict[str, str]:
        """What netplan makes of the host's files and of ``own`` as ours, by file name."""
        if own in self._rendered:
            return self._rendered[own]
        rendered = {}
        with self._scratch(own) as scratch:
            done = self._host.run(["netplan", "generate", "--root-dir", scratch], None)
            if not done.ok:
                said = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").replace(scratch, "")
                raise HostError(f"netplan refuses this host's configuration (nothing was changed): {said[:2000]}")
            for folder in (scratch + _RENDERED, scratch + "/run/NetworkManager/system-connections"):
                for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                    with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as handle:
                        rendered[name] = handle.read()
        self._rendered[own] = rendered
        return rendered

    def _find(self, name: str) -> NetplanId:
        """The section of the host's own configuration that has a device of this name."""
        with self._scratch(None) as scratch:
            done = self._host.run(["netplan", "get", "--root-dir", scratch, "all"], None)
        section = ""
        for line in done.stdout.splitlines() if done.ok else ():
            if found := re.fullmatch(r"  ([a-z-]+):", line):
                section = found.group(1)
            elif section in SECTIONS and re.fullmatch(rf"""    (["']?){re.escape(name)}\1:.*""", line):
                return NetplanId(section, name)
        raise HostError(f"'netplan get' does not say what '{name}' is, which it renders; choose another 'persist'")


def _file_of(device: NetplanId) -> str:
    return f"10-netplan-{device.name}.network"


def _without(text: Optional[str], addresses: Iterable[IPAddress]) -> list[str]:
    """The lines of a rendered file, our addresses and the sections that they have of their own left out."""
    ours = {f"Address={host_interface(address)}" for address in addresses}
    sections: list[list[str]] = [[]]
    for line in (text or "").splitlines():
        if line.startswith("["):
            sections.append([])
        sections[-1].append(line)
    kept = [section for section in sections if section[:1] != ["[Address]"] or not ours.intersection(section)]
    return [line for section in kept for line in section if line and line not in ours]


def _write_secret(path: str, text: str) -> None:
    """A file that only its owner reads, in a folder that is made for it."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise HostError(f"netplan's files could not be copied for a trial: {error}") from error

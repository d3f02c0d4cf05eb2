# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that bring virtual IPs and their settings back at boot, as text, and back from text. Pure.

Every file starts with the same line, a script has it below the name of its interpreter. It is how we know our own
files: one without it is somebody else's, and is never written to.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..common.iproute import IPAddress, add_address_arguments
from .arp import ANNOUNCE, IGNORE, WANTED_ANNOUNCE, key
from .model import host_interface, ordered

HEADER = "# Managed by Ansible (collection dsr.layer2). Changes made here are overwritten."

SYSCTL_FILE = "/etc/sysctl.d/99-dsr.conf"
NETPLAN_FILE = "/etc/netplan/99-dsr.yaml"
NETWORKD_FOLDER = "/etc/systemd/network"
DROP_IN = "99-dsr.conf"
UNIT = "nft-dsr-addresses.service"
UNIT_FOLDER = "/etc/systemd/system"
LOOPBACK = "lo"


def is_ours(text: str) -> bool:
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    return text.startswith(HEADER)


# --- sysctl.d -------------------------------------------------------------------------------------


def sysctl_text(ignore: int) -> str:
    return (
        f"{HEADER}\n"
        "# This host holds virtual IPs on lo. It answers no ARP request for them and names none of them in its own.\n"
        f"{key('all', IGNORE)} = {ignore}\n"
        f"{key('all', ANNOUNCE)} = {WANTED_ANNOUNCE}\n"
    )


# --- netplan --------------------------------------------------------------------------------------

# The sections of netplan whose members can have addresses.
SECTIONS = (
    "ethernets",
    "bonds",
    "bridges",
    "dummy-devices",
    "modems",
    "tunnels",
    "virtual-ethernets",
    "vlans",
    "vrfs",
    "wifis",
)

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
# Plain words that YAML takes for something else than a string.
_WORDS = ("true", "false", "yes", "no", "on", "off", "y", "n", "null")
_SECTION_LINE = re.compile(r"  ([a-z-]+):\Z")
_ID_LINE = re.compile(r'    ("(?:[^"\\]|\\.)*"|[A-Za-z][A-Za-z0-9_-]*):\Z')
_ADDRESS_LINE = re.compile(r'        - "([0-9a-f.:]+)/[0-9]+":?\Z')


@dataclass(frozen=True, order=True)
class NetplanId:
    """What netplan calls an interface: a member of a section of its configuration."""

    section: str
    name: str


def netplan_text(addresses: Mapping[NetplanId, Iterable[IPAddress]]) -> Optional[str]:
    """The file that gives interfaces these addresses; None when there is none to give."""
    lines = [HEADER, "network:", "  version: 2"]
    section = ""
    for device in sorted(device for device, held in addresses.items() if held):
        if device.section != section:
            section = device.section
            lines.append(f"  {section}:")
        lines += [f"    {_scalar(device.name)}:", "      addresses:"]
        for address in ordered(addresses[device]):
            lines.append(f'        - "{host_interface(address)}"')
            if address.version == 6:
                # So that the host never chooses it as its own
                lines[-1] += ":"
                lines.append("            lifetime: 0")
    return "\n".join([*lines, ""]) if section else None


def netplan_addresses(text: str) -> dict[NetplanId, tuple[IPAddress, ...]]:
    """What a file of our own gives to whom. Lines that we did not write are passed over."""
    found: dict[NetplanId, list[str]] = {}
    section = ""
    device: Optional[NetplanId] = None
    for line in text.splitlines():
        if match := _SECTION_LINE.match(line):
            section, device = match.group(1), None
        elif match := _ID_LINE.match(line):
            name = match.group(1)
            device = NetplanId(section, json.loads(name) if name.startswith('"') else name)
        elif (match := _ADDRESS_LINE.match(line)) and device is not None:
            found.setdefault(device, []).append(match.group(1))
    return {device: _parsed(texts) for device, texts in found.items()}


def _parsed(texts: Iterable[str]) -> tuple[IPAddress, ...]:
    """Those of the texts that are addresses: a file may have been edited by hand."""
    addresses = []
    for text in texts:
        try:
            addresses.append(ipaddress.ip_address(text))
        except ValueError:
            continue
    return ordered(addresses)


def _scalar(text: str) -> str:
    return text if _PLAIN.match(text) and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=False)


# --- systemd-networkd -----------------------------------------------------------------------------

_DROP_IN_OF = "# Virtual IPs of "
_NETWORKD_ADDRESS = re.compile(r"Address=([0-9a-f.:]+)/[0-9]+\Z")


def network_text(interface: str, addresses: Iterable[IPAddress]) -> str:
    """A .network file that manages ``interface`` for these addresses alone.

    Addresses that somebody else put on it stay when networkd starts: it is not ours alone.
    """
    return "\n".join(
        [
            HEADER,
            "[Match]",
            f"Name={interface}",
            "",
            "[Network]",
            "KeepConfiguration=static",
            *_address_lines(addresses),
            "",
        ]
    )


def drop_in_text(interface: str, addresses: Iterable[IPAddress]) -> str:
    """An addition to the .network file that manages ``interface`` already."""
    return "\n".join([HEADER, f"{_DROP_IN_OF}{interface}", "[Network]", *_address_lines(addresses), ""])


def drop_in_interface(text: str) -> str:
    """The interface that a drop-in of ours is for, or ''."""
    lines = [line for line in text.splitlines() if line.startswith(_DROP_IN_OF)]
    return lines[0][len(_DROP_IN_OF) :].strip() if lines else ""


def _address_lines(addresses: Iterable[IPAddress]) -> list[str]:
    """What continues a section [Network]."""
    lines = []
    for address in ordered(addresses):  # IPv4 first, as its lines belong to the section before
        if address.version == 6:
            # So that the host never chooses it as its own
            lines += ["", "[Address]", f"Address={host_interface(address)}", "PreferredLifetime=0"]
        else:
            lines.append(f"Address={host_interface(address)}")
    return lines


def network_addresses(text: str) -> tuple[IPAddress, ...]:
    """The addresses of a .network file or a drop-in, as far as they stand in the short notation."""
    return _parsed(match.group(1) for match in map(_NETWORKD_ADDRESS.match, text.splitlines()) if match)


def sections_of(text: str) -> list[tuple[str, str, str]]:
    """A systemd configuration file as (section, key, value), in order."""
    section = ""
    rows = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            name, _unused, value = line.partition("=")
            rows.append((section, name.strip(), value.strip()))
    return rows


# --- files of commands: a unit of our own, a script for NetworkManager, a file for ifupdown -------

# The only names that ifupdown reads in a whole folder.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
_COMMAND = re.compile(r"[^#]*/ip address replace ([0-9a-f.:]+)/[0-9]+ dev (\S+)")


def add_commands(ip: str, link: str, addresses: Iterable[IPAddress]) -> list[str]:
    """The commands that put addresses on ``link``. ``ip``: the program, with its folder."""
    return [" ".join([ip, *add_address_arguments(link, host_interface(address))]) for address in ordered(addresses)]


def command_addresses(text: str) -> dict[str, tuple[IPAddress, ...]]:
    """The addresses of a file of our own that has such commands, by interface."""
    found: dict[str, list[str]] = {}
    for match in map(_COMMAND.match, text.splitlines()):
        if match:
            found.setdefault(match.group(2), []).append(match.group(1))
    return {link: _parsed(texts) for link, texts in found.items()}


def unit_text(ip: str, addresses: Mapping[str, Iterable[IPAddress]], devices: Sequence[str]) -> Optional[str]:
    """The unit that puts addresses back at boot. ``devices``: the device units to wait for.

    It does not remain active: so it runs once more when one of its NICs comes back.
    """
    commands = [
        f"ExecStart={command}" for link in sorted(addresses) for command in add_commands(ip, link, addresses[link])
    ]
    if not commands:
        return None
    # The loopback waits for nobody, and who listens at a virtual IP may wait for the network.
    order = ["Before=network.target"]
    if any(group and link != LOOPBACK for link, group in addresses.items()):
        order = ["Wants=network-online.target", "After=network.target network-online.target"]
    return "\n".join(
        [
            HEADER,
            "[Unit]",
            "Description=Virtual IP addresses of Direct Server Return",
            *order,
            *(f"Wants={device}\nAfter={device}" for device in devices),
            "",
            "[Service]",
            "Type=oneshot",
            *commands,
            "",
            "[Install]",
            " ".join(["WantedBy=multi-user.target", *devices]),
            "",
        ]
    )


def device_unit(interface: str) -> str:
    """The unit that udev makes for a NIC: its path in /sys, escaped as systemd-escape does."""
    escaped = "".join(
        character if character.isalnum() or character in "_:." else f"\\x{ord(character):02x}"
        for character in interface
    )
    return f"sys-subsystem-net-devices-{escaped}.device"


def dispatcher_text(ip: str, addresses: Mapping[str, Iterable[IPAddress]]) -> Optional[str]:
    """The script that NetworkManager's dispatcher runs whenever it has set an interface."""
    cases = []
    for link in sorted(addresses):
        commands = add_commands(ip, link, addresses[link])
        if commands:
            cases += [f'"{link} up" | "{link} reapply")', *(f"    {command}" for command in commands), "    ;;"]
    if not cases:
        return None
    return "\n".join(
        [
            "#!/bin/sh",
            HEADER,
            "# NetworkManager takes off an interface what its profile does not have. This puts the virtual IPs back.",
            'case "$1 $2" in',
            *cases,
            "esac",
            "",
        ]
    )


def interfaces_text(ip: str, addresses: Mapping[str, Iterable[IPAddress]]) -> Optional[str]:
    """The file that has ifupdown add addresses to interfaces that other files bring up.

    One that can't be added must not make ifup give the interface up.
    """
    stanzas = []
    for link in sorted(addresses):
        commands = add_commands(ip, link, addresses[link])
        if commands:
            stanzas += ["", f"iface {link} inet manual", *(f"    up {command} || true" for command in commands)]
    if not stanzas:
        return None
    return "\n".join([HEADER, "# Virtual IPs, beside what other files say of these interfaces", *stanzas, ""])


def interfaces_read(text: str, folder: str, path: str) -> bool:
    """Whether an ``interfaces`` file in ``folder`` has ``path`` read as well."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        patterns = [posixpath.join(folder, word) for word in words[1:]]
        if words[:1] == ["source"]:
            found = [pattern for pattern in patterns if _same_path(path, pattern)]
        elif words[:1] == ["source-directory"] and _PLAIN_NAME.match(posixpath.basename(path)):
            found = [pattern for pattern in patterns if _same_path(posixpath.dirname(path), pattern.rstrip("/"))]
        else:
            found = []
        if found:
            return True
    return False


def _same_path(path: str, pattern: str) -> bool:
    parts, patterns = path.split("/"), posixpath.normpath(pattern).split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


# --- what we put where ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """What is ours on one interface: the addresses, and the files that bring them back."""

    addresses: tuple[IPAddress, ...] = ()
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.files)


def memory_text(claims: Mapping[str, Claim]) -> Optional[str]:
    """The memory of what is ours; None when nothing is."""
    kept = {
        name: {"addresses": [str(address) for address in claim.addresses], "files": list(claim.files)}
        for name, claim in sorted(claims.items())
        if claim
    }
    return json.dumps({"version": 1, "interfaces": kept}, indent=2) + "\n" if kept else None


def memory_claims(text: str) -> dict[str, Claim]:
    """The memory read back; ValueError when it is not one."""
    data: Any = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != 1 or not isinstance(data.get("interfaces"), dict):
        raise ValueError("it does not have the form that this collection writes")
    claims = {}
    for name, entry in data["interfaces"].items():
        lists = [entry.get(part) if isinstance(entry, dict) else None for part in ("addresses", "files")]
        if not all(isinstance(part, list) and all(isinstance(item, str) for item in part) for part in lists):
            raise ValueError(f"its entry '{name}' does not have the form that this collection writes")
        claims[name] = Claim(tuple(map(ipaddress.ip_address, lists[0] or ())), tuple(lists[1] or ()))
    return claims

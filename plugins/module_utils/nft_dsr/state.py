# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a load balancer: desired state, an operator's overrides, the ruleset for the boot.

``vips.json`` holds the VIPs as they were asked for, and for each what the host added: the NICs, and the
MAC addresses that were learnt. ``overrides.json`` holds the backends that an operator drained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..common.errors import ConfigError, HostError
from ..common.files import read_text, write_text
from . import model
from .resolved import ResolvedVip

STATE_DIRECTORY = "/etc/nft-dsr"
LOCK_FILE = "/run/nft-dsr/lock"
_VERSION = 1


@dataclass(frozen=True)
class Override:
    """A backend that an operator drained: on one VIP, or on every VIP that has it."""

    backend: model.IPAddress
    vip: Optional[str] = None

    def applies_to(self, vip: model.Vip) -> bool:
        return self.vip in (None, vip.name) and any(backend.address == self.backend for backend in vip.backends)

    def __str__(self) -> str:
        return f"{self.backend} of {self.vip}" if self.vip else f"{self.backend} of every VIP"


class StateFiles:
    """The files in one folder."""

    def __init__(self, directory: str = STATE_DIRECTORY) -> None:
        self.vips_path = os.path.join(directory, "vips.json")
        self.overrides_path = os.path.join(directory, "overrides.json")
        self.ruleset_path = os.path.join(directory, "ruleset.nft")

    def read_vips(self) -> tuple[ResolvedVip, ...]:
        """The desired state. No file is an empty one; a file that can't be read is an error."""
        document = _read(self.vips_path, "vips")
        if document is None:
            return ()
        resolved = []
        try:
            rows = document["vips"]
            vips = model.parse_vips(
                [{key: value for key, value in row.items() if key != "resolved"} for row in rows], "vips"
            )
            for index, (row, vip) in enumerate(zip(rows, vips)):
                resolved.append(_parse_resolved(row.get("resolved"), vip, f"vips[{index}].resolved"))
        except ConfigError as error:
            raise HostError(f"{self.vips_path}: {error}. {_repair(self.vips_path)}") from error
        except AttributeError as error:
            raise HostError(f"{self.vips_path}: a VIP is not a dictionary. {_repair(self.vips_path)}") from error
        return tuple(resolved)

    def read_overrides(self) -> tuple[Override, ...]:
        """The backends that an operator drained."""
        document = _read(self.overrides_path, "drained")
        if document is None:
            return ()
        found = []
        try:
            for index, row in enumerate(document["drained"]):
                path = f"drained[{index}]"
                if not isinstance(row, Mapping):
                    raise ConfigError(path, "must be a dictionary with 'backend' and 'vip'")
                vip = row.get("vip")
                found.append(
                    Override(
                        model.parse_address(row.get("backend"), f"{path}.backend"),
                        None if vip is None else model.parse_name(vip, f"{path}.vip"),
                    )
                )
        except ConfigError as error:
            raise HostError(f"{self.overrides_path}: {error}. {_repair(self.overrides_path)}") from error
        return tuple(found)


def _repair(path: str) -> str:
    return f"Nothing was changed; restore {path} from a backup, or remove it to start from an empty one"


def _read(path: str, key: str) -> Optional[Mapping[str, Any]]:
    text = read_text(path)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HostError(f"{path}: is not JSON ({error}). {_repair(path)}") from error
    if not isinstance(document, dict) or not isinstance(document.get(key), list):
        raise HostError(f"{path}: has no list '{key}'. {_repair(path)}")
    if document.get("version") != _VERSION:
        raise HostError(
            f"{path}: is of version {document.get('version')!r}, this collection knows {_VERSION}. {_repair(path)}"
        )
    return document


def _parse_resolved(value: Any, vip: model.Vip, path: str) -> ResolvedVip:
    if not isinstance(value, Mapping) or not isinstance(value.get("macs"), Mapping):
        raise ConfigError(path, "must be a dictionary with 'interface', 'backend_interface' and 'macs'")
    return ResolvedVip(
        vip=vip,
        interface=model.parse_interface(value.get("interface"), f"{path}.interface"),
        backend_interface=model.parse_interface(value.get("backend_interface"), f"{path}.backend_interface"),
        macs={
            model.parse_address(address, f"{path}.macs"): model.parse_mac(mac, f"{path}.macs.{address}")
            for address, mac in value["macs"].items()
        },
    )


def vips_text(resolved: Sequence[ResolvedVip]) -> str:
    """The text of vips.json."""
    rows = [
        {
            **item.vip.options(),
            "resolved": {
                "interface": item.interface,
                "backend_interface": item.backend_interface,
                "macs": {str(address): item.macs[address] for address in sorted(item.macs)},
            },
        }
        for item in sorted(resolved, key=lambda item: item.vip.name)
    ]
    return json.dumps({"version": _VERSION, "vips": rows}, indent=2) + "\n"


def _order(override: Override) -> tuple[int, int, str]:
    return override.backend.version, int(override.backend), override.vip or ""


def overrides_text(overrides: Iterable[Override]) -> str:
    """The text of overrides.json."""
    rows = [{"backend": str(override.backend), "vip": override.vip} for override in sorted(set(overrides), key=_order)]
    return json.dumps({"version": _VERSION, "drained": rows}, indent=2) + "\n"


def with_overrides(resolved: ResolvedVip, overrides: Iterable[Override]) -> ResolvedVip:
    """The VIP as it is served: what an operator drained drains."""
    drained = [override.backend for override in overrides if override.applies_to(resolved.vip)]
    if not drained:
        return resolved
    return replace(resolved, vip=model.with_drained(resolved.vip, drained))


@dataclass(frozen=True)
class FileChange:
    """A file that is to hold this text."""

    path: str
    text: str

    @property
    def needed(self) -> bool:
        return read_text(self.path) != self.text

    def write(self) -> None:
        write_text(self.path, self.text, 0o644)

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what there is of configuration on this machine, one thing a line, so that two moments can be compared."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator

FOLDERS = ("/etc", "/usr/local", "/usr/lib/systemd", "/usr/lib/sysctl.d", "/var/spool")
# The container's engine writes these anew at every start.
FOREIGN = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
# What the tools for users keep of the files before their last change
FOREIGN |= {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}


def files() -> Iterator[str]:
    for top in FOLDERS:
        for folder, folders, names in os.walk(top):
            yield f"folder {folder}"
            for name in names + folders:
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    yield f"link {path} -> {os.readlink(path)}"
                elif os.path.isfile(path) and path not in FOREIGN:
                    with open(path, "rb") as file:
                        digest = hashlib.sha256(file.read()).hexdigest()
                    yield f"file {path} {os.stat(path).st_mode:o} {digest}"


def sysctls() -> Iterator[str]:
    for folder, _folders, names in os.walk("/proc/sys/net/ipv4/conf"):
        for path in (os.path.join(folder, name) for name in names):
            # systemd-networkd sets this one of every interface that it has an address for, and leaves it.
            if path != "/proc/sys/net/ipv4/conf/lo/promote_secondaries":
                with open(path) as file:
                    yield f"sysctl {path} {file.read().strip()}"


def printed(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def addresses() -> Iterator[str]:
    for link in json.loads(printed("ip", "-json", "address", "show")):
        for entry in link["addr_info"]:
            yield f"address {link['ifname']} {entry['local']}/{entry['prefixlen']}"


def rules() -> Iterator[str]:
    for line in printed("nft", "list", "ruleset").splitlines():
        # The engine's own name service, at another port after every start
        if "127.0.0.11" not in line:
            yield f"nft {line}"


def units() -> Iterator[str]:
    """Those of the collection, loaded or not: one that runs without its file would be left over too."""
    for line in printed("systemctl", "list-units", "--all", "--plain", "--no-legend", "*dsr*").splitlines():
        yield f"unit {line}"


if __name__ == "__main__":
    print("\n".join(sorted([*files(), *sysctls(), *addresses(), *rules(), *units()])))

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs from the command line: `sudo python3 tests/lab/lab.py up`, then `exec HOST COMMAND...`, then `down`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

# Run as a script, this file's own folder comes first, and `lab` would be this file.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab import Lab, LabError  # noqa: E402
from lab.machines import ENVIRONMENT, check_machine  # noqa: E402
from lab.standard import ADDRESSES, build  # noqa: E402


def _up(arguments: argparse.Namespace) -> None:
    begun = time.monotonic()
    build(Lab(arguments.name, linger=True), backends=arguments.backends)
    print(f"The lab '{arguments.name}' is up ({time.monotonic() - begun:.1f} s).")
    _status(arguments)


def _down(arguments: argparse.Namespace) -> None:
    found = Lab.remove(arguments.name)
    print(f"The lab '{arguments.name}' is down." if found else f"There was no lab '{arguments.name}'.")


def _status(arguments: argparse.Namespace) -> None:
    lab = Lab.attach(arguments.name)
    for host in lab.hosts.values():
        for nic in host.nics.values():
            print(f"{host.name:<10} {nic.name:<5} {nic.mac}  {' '.join(nic.addresses)}")
    if not lab.alive:
        raise LabError(f"parts of the lab '{arguments.name}' have ended; run 'down' and 'up'")


def _inventory(arguments: argparse.Namespace) -> None:
    text = Lab.attach(arguments.name).inventory_text()
    if arguments.path == "-":
        print(text, end="")
    else:
        Path(arguments.path).write_text(text, encoding="utf-8")


def _exec(arguments: argparse.Namespace) -> None:
    argv = arguments.command or [shutil.which("bash", path=ENVIRONMENT["PATH"]) or "sh"]
    command = Lab.attach(arguments.name).command(arguments.host, argv)
    os.execvpe(command[0], command, {**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")})


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="demo", help="which lab (default: demo)")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    up = actions.add_parser("up", help=f"raise a lab: {', '.join(ADDRESSES)}")
    up.add_argument("--backends", type=int, default=3, choices=range(1, 33), metavar="N")
    up.set_defaults(action=_up)
    actions.add_parser("down", help="end it").set_defaults(action=_down)
    actions.add_parser("status", help="show its hosts").set_defaults(action=_status)
    inventory = actions.add_parser("inventory", help="write an Ansible inventory of it")
    inventory.add_argument("path", nargs="?", default="-")
    inventory.set_defaults(action=_inventory)
    execute = actions.add_parser("exec", help="run a command on a host; a shell without one")
    execute.add_argument("host")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    execute.set_defaults(action=_exec)
    arguments = parser.parse_args(argv)
    try:
        check_machine()
        arguments.action(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy what git would commit now to .cache/checkout/ansible_collections/dsr/layer2.

ansible-test and the builders want a collection in a directory of that name, inside a git repository. A symbolic link
to the working tree makes some of them walk in a circle through .cache, so they get a copy: tracked files and new ones,
as they are on disk, without what .gitignore names.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT = ROOT / ".cache/checkout/ansible_collections/dsr/layer2"
# ansible-test keeps its virtual environments there, which take minutes to build.
KEEP = (".git", "tests/output")


def wanted() -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    names = (os.fsdecode(name) for name in listing.split(b"\0") if name)
    # A file that was deleted but not yet committed is still listed.
    return {name for name in names if os.path.lexists(ROOT / name)}


def present() -> set[str]:
    found = set()
    for folder, folders, files in os.walk(CHECKOUT):
        place = Path(folder).relative_to(CHECKOUT)
        folders[:] = [name for name in folders if (place / name).as_posix() not in KEEP]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found |= {(place / name).as_posix() for name in files + links}
    return found


def same(one: Path, other: Path) -> bool:
    return one.stat().st_mode == other.stat().st_mode and filecmp.cmp(one, other)


def copy(name: str) -> None:
    source, target = ROOT / name, CHECKOUT / name
    if not source.is_symlink() and target.is_file() and not target.is_symlink() and same(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def main() -> None:
    CHECKOUT.mkdir(parents=True, exist_ok=True)
    names = wanted()
    for name in sorted(present() - names):
        (CHECKOUT / name).unlink()
        for folder in (CHECKOUT / name).parents:
            if folder == CHECKOUT or any(folder.iterdir()):
                break
            folder.rmdir()
    for name in sorted(names):
        copy(name)
    if not (CHECKOUT / ".git").exists():
        subprocess.run(["git", "init", "--quiet", str(CHECKOUT)], check=True)
    print(CHECKOUT)


if __name__ == "__main__":
    main()

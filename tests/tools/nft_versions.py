# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other releases of nft than the machine's own, to test with: .cache/nft/VERSION/nft runs one.

    python3 tests/tools/nft_versions.py           fetch those of some releases of Debian and Ubuntu
    python3 tests/tools/nft_versions.py trixie    that of one release

Packages are fetched with apt, but with lists and a state of its own: nothing is installed, and the machine's own
sources are not touched. They come from the mirror that the machine's apt has of the distribution, or from the one that
DSR_DEBIAN_MIRROR or DSR_UBUNTU_MIRROR names; without either, those of that distribution cannot be had. nft and every
library that it needs, the C library included, are unpacked into one folder and run by their own dynamic loader.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "nft"
_KEYRINGS = Path("/usr/share/keyrings")
_DEBIAN_KEYS = _KEYRINGS / "debian-archive-keyring.gpg"


class Release(NamedTuple):
    """Whose a release is, and what its packages are signed with."""

    distribution: str  # as apt calls it
    keys: Path


_DEBIAN = Release("Debian", _DEBIAN_KEYS)
_UBUNTU = Release("Ubuntu", _KEYRINGS / "ubuntu-archive-keyring.gpg")
# Oldest nft first
RELEASES = {
    "bullseye": _DEBIAN,
    "jammy": _UBUNTU,
    "bookworm": _DEBIAN,
    "noble": _UBUNTU,
    "trixie": _DEBIAN,
    "sid": _DEBIAN,
}

_WRAPPER = """\
#!/bin/sh
# nft {version} of {release}, with the libraries that it was built for
exec {loader} --library-path {libraries} {program} "$@"
"""


class Unavailable(Exception):
    """A release cannot be had here."""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(lines[-1] if lines else f"{command[0]} failed")
    return done.stdout


def _mirror(distribution: str) -> str:
    variable = f"DSR_{distribution.upper()}_MIRROR"
    if os.environ.get(variable):
        return os.environ[variable]
    for line in _run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"
    ).splitlines():
        mirror, _space, label = line.partition(" ")
        if label == distribution:
            return mirror
    raise Unavailable(f"this machine's apt has no mirror of {distribution}; name one in {variable}")


def cached(name: str) -> Optional[Path]:
    """The folder with a release's nft, if it has been fetched."""
    said = f" of {name}, with "
    return next((path.parent for path in CACHE.glob("*/nft") if said in path.read_text(encoding="utf-8")), None)


def fetch(name: str) -> Path:
    """Unpack the nft of a release, and return the folder with its wrapper."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("this machine has no apt-get and dpkg-deb")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _fetch(name)


def _fetch(name: str) -> Path:
    release = RELEASES[name]
    _mirror(release.distribution)
    if not release.keys.exists() and release is _UBUNTU:
        # Debian has Ubuntu's keys as a package, which Debian's own signature vouches for.
        with _apt("trixie", _DEBIAN) as debian:
            unpacked = _unpack(debian, "ubuntu-keyring")
            keys = CACHE / release.keys.name
            shutil.copy(next(unpacked.rglob(release.keys.name)), keys)
        release = release._replace(keys=keys)
    with _apt(name, release) as work:
        return _install(name, work)


@contextmanager
def _apt(name: str, release: Release) -> Iterator[Path]:
    """A folder with all that apt needs to know of one release, and nothing else."""
    if not release.keys.exists():
        raise Unavailable(f"there is no {release.keys}, which the package debian-archive-keyring has")
    mirror = _mirror(release.distribution)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{name}-") as folder:
        work = Path(folder)
        for part in ("etc", "lists/partial", "archives/partial"):
            (work / part).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text(f"deb [signed-by={release.keys}] {mirror} {name} main\n", encoding="utf-8")
        _run(*_apt_get(work), "--error-on=any", "update")
        yield work


def _apt_get(work: Path) -> list[str]:
    options = {
        "Dir::Etc": work / "etc",
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": work,
        # With nothing installed, apt fetches all that a package depends on.
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": "20",
        "Acquire::Retries": "1",
    }
    return ["apt-get", "--quiet", "--yes", *(f"--option={key}={value}" for key, value in options.items())]


def _unpack(work: Path, package: str) -> Path:
    _run(*_apt_get(work), "--download-only", "install", package)
    unpacked = work / "unpacked"
    for archive in sorted((work / "archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", str(archive), str(unpacked))
    return unpacked


def _install(name: str, work: Path) -> Path:
    unpacked = _unpack(work, "nftables")
    program = next(unpacked.glob("usr/sbin/nft"))
    loader = next(path for path in sorted(unpacked.rglob("ld-linux-*.so.*")) if path.is_file())
    libraries = sorted({path.parent for path in unpacked.rglob("*.so.*")})
    version = _run(str(loader), "--library-path", ":".join(map(str, libraries)), str(program), "--version").split()[1]
    target = CACHE / version.lstrip("v")
    shutil.rmtree(target, ignore_errors=True)
    unpacked.rename(target)

    def moved(path: Path) -> str:
        return str(target / path.relative_to(unpacked))

    wrapper = target / "nft"
    wrapper.write_text(
        _WRAPPER.format(
            version=version,
            release=name,
            loader=moved(loader),
            libraries=":".join(map(moved, libraries)),
            program=moved(program),
        ),
        encoding="utf-8",
    )
    wrapper.chmod(0o755)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help=f"default: {' '.join(RELEASES)}")
    failed = False
    for name in parser.parse_args().releases or RELEASES:
        try:
            print(f"{name}: {fetch(name)}/nft", flush=True)
        except Unavailable as error:
            print(f"{name}: not to be had here: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run parts of the tests one after the other, stop at the first that fails, and close with the time of each.

run_parts.py PART...: each is a target of the Makefile. Needs no more than Python 3.7, since it also runs the set-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


def run(part: str) -> tuple[int, float]:
    """Return (exit status, seconds) of `make PART`."""
    print(f"\n=== {part}", flush=True)
    start = time.monotonic()
    status = subprocess.call([os.environ.get("MAKE", "make"), "--no-print-directory", part])
    seconds = time.monotonic() - start
    print(f"=== {part}: {'ok' if status == 0 else 'FAILED'} after {seconds:.0f} s", flush=True)
    return status, seconds


def main(parts: list[str]) -> int:
    results: dict[str, tuple[int, float]] = {}
    for part in parts:
        results[part] = run(part)
        if results[part][0] != 0:
            break
    failed = sum(status != 0 for status, _seconds in results.values())
    not_run = len(parts) - len(results)

    print("\n=== summary")
    for part in parts:
        if part in results:
            status, seconds = results[part]
            print(f"{part:<12} {'ok' if status == 0 else 'FAILED':<8} {seconds:6.0f} s")
        else:
            print(f"{part:<12} not run")
    print(f"{'in all':<12} {'':<8} {sum(seconds for _status, seconds in results.values()):6.0f} s\n")
    skipped = f", {not_run} skipped" if not_run else ""
    print(f"parts: {len(results) - failed} passed, {failed} failed{skipped}", flush=True)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that come at a rate and last for a while, and how many each host has open."""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
from typing import NamedTuple

from .clients import why
from .common import Stop, ready, report

_SAMPLE = 0.05  # seconds between two looks at who has how many


class Arrival(NamedTuple):
    """A connection: when it comes, and how long it lasts where nobody is slow; seconds."""

    at: float
    life: float


def arrivals(seed: int, rate: float, life: float, seconds: float) -> list[Arrival]:
    """As many clients come by themselves: at random times, and for as long as it takes. The same for the same seed."""
    chance = random.Random(seed)
    found = []
    at = chance.expovariate(rate)
    while at < seconds:
        found.append(Arrival(at, chance.expovariate(1 / life)))
        at += chance.expovariate(rate)
    return found


def come(arguments: argparse.Namespace) -> None:
    asyncio.run(_come(arguments))


async def _come(arguments: argparse.Namespace) -> None:
    stop = Stop(None)
    loop = asyncio.get_running_loop()
    opened: collections.Counter[str] = collections.Counter()
    total: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    samples: list[tuple[float, dict[str, int]]] = []
    late = 0.0
    slow = dict(text.split("=") for text in arguments.slow)

    async def one(begun: float, arrival: Arrival) -> None:
        nonlocal late
        await asyncio.sleep(begun + arrival.at - loop.time())
        late = max(late, loop.time() - begun - arrival.at)
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(arguments.address, arguments.port), arguments.timeout
            )
            writer.write(b"hello\n")
            host = (await asyncio.wait_for(reader.readline(), arguments.timeout)).split(b" ")[0].decode()
        except (OSError, asyncio.TimeoutError) as error:
            errors[why(error)] += 1
            return
        total[host] += 1
        opened[host] += 1
        await asyncio.sleep(arrival.life * float(slow.get(host, 1)))
        opened[host] -= 1
        writer.close()

    async def sample(begun: float) -> None:
        while True:
            samples.append((round(loop.time() - begun, 3), {host: number for host, number in opened.items() if number}))
            await asyncio.sleep(_SAMPLE)

    plan = arrivals(arguments.seed, arguments.rate, arguments.life, arguments.seconds)
    ready()
    begun = loop.time()
    work = asyncio.gather(sample(begun), *(one(begun, arrival) for arrival in plan))
    ended = asyncio.ensure_future(stop.come())
    await asyncio.wait([ended], timeout=arguments.seconds)
    print("DONE", flush=True)
    work.cancel()
    ended.cancel()
    await asyncio.gather(work, ended, return_exceptions=True)
    report(
        {
            "came": sum(total.values()),
            "by_host": dict(sorted(total.items())),
            "errors": dict(errors),
            "latest": round(late, 3),
            "samples": samples,
        }
    )

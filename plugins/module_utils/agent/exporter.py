# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics for Prometheus, over HTTP. Checks of backends never wait for it, nor for whoever asks.

A page is made in a thread of its own, from what the agent knew at one moment and from what the kernel said lately; one
at a time, and none anew within seconds, however many ask. The kernel is asked for flows so rarely that this takes no
more than a fiftieth of the time. Who asks is answered by the event loop, piece by piece, and is left when he is slow.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Any, Callable, NamedTuple, Optional, Protocol

from ..common.errors import CommandError, ConfigError
from ..nft_dsr import elements
from ..nft_dsr.table import Counter
from ..nft_dsr.traffic import count_flows, read_counters
from . import metrics
from .metrics import COUNTER, GAUGE, Facts, Family, Reading, Traffic

Clock = Callable[[], float]

_FRESH = 5.0  # seconds for which a page is given to all who ask
_FLOWS_FRESH = 30.0
_SHARE = 0.02  # of the time, that asking the kernel may take
_FLOWS_WITHIN = 5.0  # seconds; an agent that is to end waits for it
_AGAIN = 30.0  # seconds until it is tried again to be where the metrics are wanted
_HEAD_SIZE = 8192
_PIECE = 65536
_ASKED_WITHIN, _TAKEN_WITHIN = 5.0, 20.0  # seconds
_AT_ONCE = 16  # connections
_WORDS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}
_TEXT = "text/plain; charset=utf-8"


class Place(NamedTuple):
    """Where metrics are served."""

    address: str
    port: int


def parse_place(text: str) -> Optional[Place]:
    """``127.0.0.1:9817``, ``[::1]:9817``; '' is nowhere."""
    if not text.strip():
        return None
    address, colon, port = text.strip().rpartition(":")
    in_brackets = address.startswith("[") and address.endswith("]")
    try:
        parsed = ip_address(address[1:-1] if in_brackets else address)
        if not colon or in_brackets != (parsed.version == 6) or not 1 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise ConfigError(
            "--metrics", f"{text!r} is no address with a port, such as 127.0.0.1:9817 or [::1]:9817"
        ) from None
    return Place(str(parsed), int(port))


# -- what the kernel says


@dataclass(frozen=True)
class Kernel:
    """How the kernel is asked."""

    read: Callable[[str], Any] = lambda name: [(found.key, found.counter) for found in elements.elements(name)]
    count: Callable[[str, Optional[float]], Any] = elements.count_by_value


class Readings:
    """What the kernel said last, and asking it again when that is old enough."""

    def __init__(self, kernel: Optional[Kernel] = None, clock: Clock = time.monotonic, date: Clock = time.time) -> None:
        self._kernel = kernel or Kernel()
        self._clock = clock
        self._date = date
        self._due = {"counters": 0.0, "flows": 0.0}
        self.traffic = Traffic(readings={"counters": Reading(), "flows": Reading()})

    def renew(self, facts: Facts) -> Traffic:
        """Ask for what is due."""
        self._look("counters", _FRESH, partial(self._counters, facts), vips={}, backends={})
        self._look("flows", _FLOWS_FRESH, partial(self._flows, facts), flows={})
        return self.traffic

    def _look(self, name: str, fresh: float, ask: Callable[[], Traffic], **nothing: Any) -> None:
        began = self._clock()
        if began < self._due[name]:
            return
        ok = True
        try:
            self.traffic = ask()
        except CommandError:
            ok = False
            self.traffic = replace(self.traffic, **nothing)  # figures that are missing say more than old ones
        took = self._clock() - began
        self._due[name] = began + max(fresh, took / _SHARE)
        before = self.traffic.readings[name]
        reading = Reading(ok, self._date() if ok else before.at, took)
        self.traffic = replace(self.traffic, readings={**self.traffic.readings, name: reading})

    def _counters(self, facts: Facts) -> Traffic:
        vips, backends = read_counters(facts.items, facts.names, self._read)
        return replace(self.traffic, vips=vips, backends=backends)

    def _read(self, name: str) -> list[tuple[bytes, Counter]]:
        found: list[tuple[bytes, Counter]] = self._kernel.read(name)
        return found

    def _flows(self, facts: Facts) -> Traffic:
        until = self._clock() + _FLOWS_WITHIN
        flows = count_flows(facts.items, lambda name: self._kernel.count(name, max(0.0, until - self._clock())))
        return replace(self.traffic, flows=flows)


# -- the page


class Pages:
    """Pages of metrics in the words of Prometheus' own library. ImportError if it is not there."""

    def __init__(self, readings: Optional[Readings] = None) -> None:
        import prometheus_client
        from prometheus_client import core, exposition

        self._core = core
        self._generate = exposition.generate_latest
        self.content_type: str = exposition.CONTENT_TYPE_LATEST
        self._readings = readings or Readings()
        self._facts: Optional[Facts] = None
        # Not the library's default one, in which others may have put what they like
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)
        prometheus_client.ProcessCollector(registry=self._registry)

    def describe(self) -> list[Any]:
        """What registration asks for: the names are known by METRICS alone, and clash with nobody's."""
        return []

    def collect(self) -> Iterator[Any]:
        """What the library asks for."""
        if self._facts is not None:
            for family in metrics.families(self._facts, self._readings.traffic):
                yield self._family(family)

    def make(self, facts: Facts) -> bytes:
        """A page of this. Takes its time."""
        # The search for cycles stops all threads, for a tenth of a second with so many objects; in here it finds none.
        searching = gc.isenabled()
        gc.disable()
        try:
            self._readings.renew(facts)
            self._facts = facts
            page: bytes = self._generate(self._registry)
        finally:
            if searching:
                gc.enable()
        return page

    def _family(self, family: Family) -> Any:
        metric = family.metric
        made: Any
        if metric.kind == COUNTER:
            made = self._core.CounterMetricFamily(metric.name[: -len("_total")], metric.help, labels=metric.labels)
        elif metric.kind == GAUGE:
            made = self._core.GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        else:
            made = self._core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, durations in family.durations:
                made.add_metric(labels, metrics.buckets(durations), durations.seconds)
        for labels, value in family.samples:
            made.add_metric(labels, value)
        return made


# -- the server


class Exporter:
    """Answers ``GET /metrics``."""

    def __init__(self, facts: Callable[[], Facts], tell: Callable[[str], None], pages: Optional[Pages] = None) -> None:
        self._facts = facts
        self._say = tell
        self._pages = pages or Pages()
        self._making: Optional[asyncio.Future[bytes]] = None
        self._made_at = 0.0
        self._connections = 0
        self._complaint = ""

    async def serve(self, place: Place) -> None:
        """Until the task is cancelled."""
        server = None
        while server is None:
            try:
                server = await asyncio.start_server(self._met, place.address, place.port, limit=_HEAD_SIZE)
            except OSError as error:
                # Such as an address that this host does not have yet.
                self._complain(f"metrics are not served at {_shown(place)}, trying again: {error}")
                await asyncio.sleep(_AGAIN)
        self._say(f"metrics: http://{_shown(place)}/metrics")
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            self._say(text)

    async def _page(self) -> bytes:
        """The page that there is, or a new one: all who come meanwhile wait for the same."""
        loop = asyncio.get_running_loop()
        if self._making is None or (self._making.done() and loop.time() - self._made_at >= _FRESH):
            self._made_at = loop.time()
            self._making = asyncio.ensure_future(loop.run_in_executor(None, self._pages.make, self._facts()))
        try:
            return await asyncio.shield(self._making)
        except Exception:
            self._made_at = -_FRESH  # that is not worth to be kept
            raise

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _AT_ONCE:
                # A cancellation is the end of the agent, which needs nobody to tell of it.
                with suppress(OSError, asyncio.TimeoutError, asyncio.CancelledError):
                    await self._answer(reader, writer)
        finally:
            self._connections -= 1
            # What is not sent by now is of somebody who does not take it.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _ASKED_WITHIN)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            status, method, kind, body = 400, "", _TEXT, b"this is no request that is understood here\n"
        else:
            status, method, kind, body = await self._said(head)
        content = b"" if method == "HEAD" else body
        await asyncio.wait_for(_send(writer, _head(status, kind, len(body)), content), _TAKEN_WITHIN)

    async def _said(self, head: bytes) -> tuple[int, str, str, bytes]:
        """Status, method, content type and content."""
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return 400, "", _TEXT, b"this is no request that is understood here\n"
        method, target = words[:2]
        if target.partition("?")[0] != "/metrics":
            return 404, method, _TEXT, b"there is /metrics\n"
        if method not in ("GET", "HEAD"):
            return 405, method, _TEXT, b"there is GET\n"
        try:
            return 200, method, self._pages.content_type, await self._page()
        except Exception as error:  # a defect, which is to be known and is no reason to end
            self._complain(f"metrics could not be made: {error!r}")
            return 500, method, _TEXT, f"{error!r}\n".encode()


def _head(status: int, kind: str, size: int) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_WORDS[status]}",
        f"Content-Type: {kind}",
        f"Content-Length: {size}",
        "Connection: close",
    ]
    return "".join(f"{line}\r\n" for line in [*lines, *(["Allow: GET, HEAD"] if status == 405 else []), ""]).encode()


async def _send(writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    """No more than a piece waits to be taken."""
    writer.transport.set_write_buffer_limits(0)
    writer.write(head)
    for at in range(0, len(body), _PIECE):
        writer.write(body[at : at + _PIECE])
        await writer.drain()
    await writer.drain()


def _shown(place: Place) -> str:
    return f"[{place.address}]:{place.port}" if ":" in place.address else f"{place.address}:{place.port}"


class Measured(Protocol):
    """An agent."""

    def facts(self) -> Facts:
        """What it knows now."""

    async def run(self) -> None:
        """Until it is cancelled."""


async def along(agent: Measured, place: Optional[Place], tell: Callable[[str], None]) -> None:
    """Run the agent, and serve metrics meanwhile if they are wanted and can be made."""
    serving: Optional[asyncio.Future[None]] = None
    if place is not None:
        try:
            serving = asyncio.ensure_future(Exporter(agent.facts, tell).serve(place))
        except ImportError as error:
            tell(
                f"there are no metrics, as {error.name or 'prometheus_client'} is not there for this Python: install "
                "the package python3-prometheus-client (Fedora: python3-prometheus_client) and restart the agent"
            )
    try:
        await agent.run()
    finally:
        if serving is not None:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

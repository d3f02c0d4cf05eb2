# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks for metrics, and how: nobody who does it badly is to hold anybody up."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Awaitable
from typing import Any, Callable, Optional, cast

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import exporter
from ansible_collections.dsr.layer2.plugins.module_utils.agent.exporter import (
    Exporter,
    Kernel,
    Pages,
    Place,
    Readings,
    along,
    parse_place,
)
from ansible_collections.dsr.layer2.plugins.module_utils.agent.metrics import Facts
from ansible_collections.dsr.layer2.plugins.module_utils.agent.tally import Tally
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError, ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Counter
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.test_agent import resolved
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import vip

NOTHING = Facts((), {}, {}, (), {}, Tally())
GET = b"GET /metrics HTTP/1.1\r\nHost: lb\r\n\r\n"


class Book:
    """Pages that are made when the test says so."""

    content_type = "text/plain; version=0.0.4"

    def __init__(self, page: bytes = b"up 1\n") -> None:
        self.page = page
        self.made = 0
        self.may = threading.Event()
        self.may.set()
        self.error: Optional[Exception] = None

    def make(self, _facts: Facts) -> bytes:
        self.may.wait(30)
        self.made += 1
        if self.error is not None:
            raise self.error
        return self.page


class Served:
    """An exporter at a port of its own."""

    def __init__(self, book: Book, address: str = "127.0.0.1") -> None:
        self.book = book
        self.said: list[str] = []
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as free:
            free.bind((address, 0))
            self.place = Place(address, free.getsockname()[1])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.place.address, self.place.port)

    async def ask(self, request: bytes = GET) -> bytes:
        reader, writer = await self.connect()
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()

    def tell(self, story: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            made = Exporter(lambda: NOTHING, self.said.append, cast(Pages, self.book))
            serving = asyncio.ensure_future(made.serve(self.place))
            while not self.said:
                await asyncio.sleep(0.001)
            try:
                await story()
            finally:
                self.book.may.set()
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

        asyncio.run(whole())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_metrics_are_served(address: str) -> None:
    served = Served(Book(), address)

    async def story() -> None:
        head, _blank, body = (await served.ask()).partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 200 OK",
            b"Content-Type: text/plain; version=0.0.4",
            b"Content-Length: 5",
            b"Connection: close",
        ]
        assert body == b"up 1\n"

    served.tell(story)
    shown = f"[{address}]" if ":" in address else address
    assert served.said == [f"metrics: http://{shown}:{served.place.port}/metrics"]


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /metrics?name[]=up HTTP/1.0\r\n\r\n", 200, b"up 1\n"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200, b""),
        (b"GET / HTTP/1.1\r\n\r\n", 404, b"there is /metrics\n"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405, b"there is GET\n"),
        (b"GET /metrics\r\n\r\n", 400, b"this is no request that is understood here\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, b"this is no request that is understood here\n"),
        (b"x" * 100_000, 400, b"this is no request that is understood here\n"),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, 400, b"this is no request that is understood here\n"),
    ],
)
def test_what_is_asked_otherwise(request_: bytes, status: int, body: bytes) -> None:
    served = Served(Book())

    async def story() -> None:
        try:
            answer = await served.ask(request_)
        except ConnectionError:  # what was not read of a request that is too long
            assert len(request_) > 8192
        else:
            assert answer.startswith(b"HTTP/1.1 %d " % status) or len(request_) > 8192
            assert answer.partition(b"\r\n\r\n")[2] == body or len(request_) > 8192
        assert b" 200 OK" in await served.ask(), "others are served"

    served.tell(story)


def test_who_ends_in_the_middle_is_no_matter() -> None:
    served = Served(Book(b"x" * 10_000_000))

    async def story() -> None:
        for sent in (b"", b"GET /metr", GET):
            _reader, writer = await served.connect()
            writer.write(sent)
            writer.transport.abort()
        assert b" 200 OK" in await served.ask()

    served.tell(story)


def test_who_is_slow_holds_nobody_up_and_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask, and to take what he asked for."""
    monkeypatch.setattr(exporter, "_ASKED_WITHIN", 0.3)
    monkeypatch.setattr(exporter, "_TAKEN_WITHIN", 0.3)
    served = Served(Book(b"x" * 50_000_000))

    async def story() -> None:
        reader, writer = await served.connect()
        writer.write(b"GET /")
        slow_reader, slow_writer = await served.connect()
        slow_writer.transport.pause_reading()  # type: ignore[attr-defined]
        slow_writer.write(GET)
        assert await asyncio.wait_for(reader.read(), 30) == b"", "he is left"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() - begun < 1.0:
            await asyncio.sleep(0.05)
        slow_writer.transport.resume_reading()  # type: ignore[attr-defined]
        taken = 0
        try:
            while piece := await asyncio.wait_for(slow_reader.read(1 << 20), 30):
                taken += len(piece)
        except ConnectionError:
            pass
        assert taken < 50_000_000, "so is he"
        served.book.page = b"up 1\n"
        writer.close()
        slow_writer.close()

    served.tell(story)


def test_there_are_no_more_connections_than_can_be_served() -> None:
    served = Served(Book())

    async def story() -> None:
        async def is_answered() -> bool:
            try:
                return b" 200 OK" in await served.ask()
            except ConnectionError:
                return False

        many = [await served.connect() for _number in range(15)]
        assert await is_answered()
        many.append(await served.connect())
        assert not await is_answered()
        for _reader, writer in many:
            writer.close()
        for _wait in range(1000):
            if await is_answered():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("they still count although they are gone")

    served.tell(story)


def test_a_page_is_made_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the loop goes on while it is made."""
    served = Served(Book())
    served.book.may.clear()

    async def story() -> None:
        asking = [asyncio.ensure_future(served.ask()) for _number in range(8)]
        await asyncio.sleep(0.1)
        assert served.book.made == 0
        served.book.may.set()
        for answer in await asyncio.gather(*asking):
            assert answer.endswith(b"up 1\n")
        await served.ask()
        assert served.book.made == 1
        monkeypatch.setattr(exporter, "_FRESH", 0.0)
        await served.ask()
        assert served.book.made == 2

    served.tell(story)


def test_a_page_that_cannot_be_made_is_said_and_tried_again() -> None:
    served = Served(Book())
    served.book.error = ValueError("of what it is made")

    async def story() -> None:
        for _number in range(2):
            answer = await served.ask()
            assert b" 500 " in answer and b"of what it is made" in answer
        served.book.error = None
        assert b" 200 OK" in await served.ask()

    served.tell(story)
    assert served.said[1:] == ["metrics could not be made: ValueError('of what it is made')"]


def test_a_place_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_AGAIN", 0.05)
    served = Served(Book())
    taken = socket.create_server((served.place.address, served.place.port))

    async def story() -> None:
        assert "metrics are not served at 127.0.0.1" in served.said[0] and "address already in use" in served.said[0]
        await asyncio.sleep(0.2)
        assert len(served.said) == 1
        taken.close()
        while len(served.said) < 2:
            await asyncio.sleep(0.01)
        assert b" 200 OK" in await served.ask()

    served.tell(story)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", None),
        (" ", None),
        ("127.0.0.1:9817", Place("127.0.0.1", 9817)),
        ("[::1]:9817", Place("::1", 9817)),
        ("0.0.0.0:1", Place("0.0.0.0", 1)),
    ],
)
def test_places(text: str, place: Optional[Place]) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "9817",
        ":9817",
        "::1:9817",
        "[127.0.0.1]:9817",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "lb:9817",
        "[::1]",
    ],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address with a port, such as 127\.0\.0\.1:9817"):
        parse_place(text)


# -- beside the agent


class Agent:
    """One that ends by itself."""

    def __init__(self, until: float = 0.0, error: Optional[Exception] = None) -> None:
        self._until = until
        self._error = error

    def facts(self) -> Facts:
        return NOTHING

    async def run(self) -> None:
        await asyncio.sleep(self._until)
        if self._error is not None:
            raise self._error


def test_an_agent_without_the_library_runs_without_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    said: list[str] = []
    asyncio.run(along(Agent(), Place("127.0.0.1", 9817), said.append))
    assert len(said) == 1 and "install the package python3-prometheus-client" in said[0]


def test_an_agent_of_which_none_are_wanted_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    said: list[str] = []
    asyncio.run(along(Agent(), None, said.append))
    assert said == []


def test_what_ends_an_agent_is_heard() -> None:
    served = Served(Book())
    with pytest.raises(ValueError, match="because"):
        asyncio.run(along(Agent(0.2, ValueError("because")), served.place, served.said.append))
    assert served.said[0].startswith("metrics: http://")


# -- what the kernel says


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def readings(clock: Clock, **kernel: Any) -> Readings:
    return Readings(Kernel(**kernel), clock, lambda: clock.now + 1000)


def test_the_kernel_is_asked_no_more_than_its_share_of_the_time() -> None:
    clock = Clock()
    asked: list[tuple[float, str]] = []

    def read(name: str) -> list[tuple[bytes, Counter]]:
        asked.append((clock.now, name))
        return []

    def count(name: str, _seconds: Optional[float]) -> dict[bytes, int]:
        asked.append((clock.now, name))
        clock.now += 2.0  # each of the two maps
        return {}

    what = Facts((resolved(vip(scheduler="round_robin")),), {}, {}, (), {}, Tally())
    made = readings(clock, read=read, count=count)
    for _second in range(2000):
        made.renew(what)
        clock.now += 1.0
    counters = [at for at, name in asked if name == "services_eth0"]
    flows = [at for at, name in asked if name == "flows_web"]
    assert min(later - sooner for sooner, later in zip(counters, counters[1:])) >= 5
    assert min(later - sooner for sooner, later in zip(flows, flows[1:])) >= 4 / 0.02
    assert len(flows) >= 9 and len(counters) >= 380


def test_flows_that_cannot_be_counted_are_missing_and_nothing_else() -> None:
    clock = Clock()
    refuse = False

    def count(_name: str, seconds: Optional[float]) -> dict[bytes, int]:
        assert seconds is not None and 0 <= seconds <= 5
        if refuse:
            raise CommandError("not read within 5 s")
        return {}

    item = resolved(vip(scheduler="round_robin"))
    made = readings(clock, read=lambda _name: [], count=count)
    what = Facts((item,), {}, {}, (), {}, Tally())
    assert len(made.renew(what).flows) == 3 and made.traffic.readings["flows"].ok
    refuse = True
    clock.now += 31
    traffic = made.renew(what)
    assert traffic.flows == {} and set(traffic.vips) == {"web"}
    assert traffic.readings["flows"].at == 1100.0 and not traffic.readings["flows"].ok
    assert traffic.readings["counters"].ok and traffic.readings["counters"].at == 1131.0

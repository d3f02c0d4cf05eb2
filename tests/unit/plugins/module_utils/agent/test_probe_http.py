# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Web servers, well and ill, with and without TLS."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import probe_http
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_base import Connection
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_http import Answer
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probes import Outcome, probe
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.probing import (
    LOCAL,
    LOCAL6,
    TIME_WAIT,
    Talk,
    cleanly,
    client_sockets,
    health_check,
    run,
    saying,
    serving,
    silence,
    states,
    target,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ASKED = b"\r\n\r\n"


async def ask(talk: Talk, type: str = "http", tls: Optional[ssl.SSLContext] = None, **options: Any) -> Outcome:
    async with serving(talk, tls=tls) as port:
        return await cleanly(health_check(type, **options), target(port))


def answered(data: bytes, close: bool = True, **options: Any) -> Outcome:
    """What an http check says of this answer."""
    return run(ask(saying(data, close, ASKED), **options))


@pytest.mark.parametrize(
    ("lines", "usual"),
    [
        (b"", None),
        (b"A: b\r\n", (200, None)),
        (b"Content-Length: 12\r\n", (200, 12)),
        (b"Server: x\r\nCONTENT-LENGTH:\t 0 \r\nX-Empty:\r\n", (200, 0)),
        (b"X: content-length: 3\r\n", (200, None)),
        (b"X-Content-Length: 3\r\n", (200, None)),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", None),
        (b"Content-Length: -1\r\n", None),
        (b"Content-Length: 0x3\r\n", None),
        (b"Content-Length: 99999999999\r\n", None),
        (b"Content-Length : 3\r\n", None),
        (b"Transfer-Encoding: chunked\r\n", None),
        (b"Content-Length: 3\r\ntransfer-encoding: gzip\r\n", None),
        (b"A: b\r\n folded\r\n", None),
        (b"A: b\n", None),
        (b"A: b\r\n" * 51, None),
    ],
)
def test_a_usual_head_is_read_as_any_other(lines: bytes, usual: Optional[tuple[int, Optional[int]]]) -> None:
    head = OK + lines + b"\r\n"
    assert probe_http._usual_head(head) == usual
    if usual is not None:
        answer = Answer()
        answer._data += head
        found = answer._response(len(head))  # as http.client reads it
        assert (found.status, found.length, found.chunked) == (*usual, False)


@pytest.mark.parametrize("line", [b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Continue"])
def test_a_head_without_a_body_is_no_usual_one(line: bytes) -> None:
    assert probe_http._usual_head(line + b"\r\nContent-Length: 3\r\n\r\n") is None


@pytest.mark.parametrize("data", [b": " * 30000, b"A:" + b" " * 60000, b"A: b\r\n" * 9000, b"A" * 60000])
def test_a_head_that_is_made_to_take_long(data: bytes) -> None:
    begun = time.monotonic()
    assert probe_http._usual_head(OK + data) is None
    assert time.monotonic() - begun < 1


# -- what is asked


async def request_of(address: str = LOCAL, tls: Optional[ssl.SSLContext] = None, **options: Any) -> tuple[str, int]:
    asked = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set_result((await reader.readuntil(ASKED)).decode())
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(talk, address, tls) as port:
        outcome = await probe(health_check("https" if tls else "http", **options), target(port, address))
        assert outcome.ok, outcome.cause
        return await asked, port


def test_what_a_server_is_asked() -> None:
    request, _port = run(request_of(path="/health?full=1", host="www.example.net"))
    assert request == (
        "GET /health?full=1 HTTP/1.1\r\n"
        "Host: www.example.net\r\n"
        "User-Agent: nft-dsr-agent\r\n"
        "Accept: */*\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n"
        "\r\n"
    )


@pytest.mark.parametrize(
    ("address", "options", "host"),
    [
        (LOCAL, {}, "10.77.0.100"),
        (LOCAL, {"via": "backend"}, "10.77.0.21"),
        (LOCAL6, {}, "[fd00:77::100]"),
        (LOCAL6, {"via": "backend"}, "[fd00:77::21]"),
    ],
)
def test_a_server_without_a_name_is_asked_for_its_address(address: str, options: Any, host: str) -> None:
    request, port = run(request_of(address, **options))
    assert f"\r\nHost: {host}:{port}\r\n" in request


@pytest.mark.parametrize(("type", "port"), [("http", 80), ("https", 443)])
def test_the_usual_port_is_not_named(type: str, port: int) -> None:
    assert b"\r\nHost: 10.77.0.100\r\n" in probe_http.request(health_check(type), target(port))
    assert b"\r\nHost: 10.77.0.100:8080\r\n" in probe_http.request(health_check(type), target(8080))


# -- what is answered


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", {}),
        (OK + b"Content-Length: 2\r\n\r\nok", {"body": "^ok$"}),
        (OK + b"\r\nready", {"body": "^ready$"}),
        (b"HTTP/1.0 200 OK\n\nready", {"body": "^ready$"}),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", {}),
        (OK + b"\r\n", {}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", {}),
        (b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", {}),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", {"status": [200, 503]}),
        (CHUNKED + b"3\r\nrea\r\n2;ext=1\r\ndy\r\n0\r\n\r\n", {"body": "^ready$"}),
        (CHUNKED + b"5\r\nready\r\n0\r\nTrailer: x\r\n\r\n", {"body": "^ready$"}),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", {"body": "^ok$"}),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9 + OK + b"Content-Length: 2\r\n\r\nok", {"body": "^ok$"}),
        (OK + b"Content-Length: 6\r\n\r\ngr\xc3\xbc\xc3\x9f", {"body": "^grüß$"}),
        (OK + b"Content-Length: 3\r\n\r\n\xff\x00o", {"body": "o$"}),
        (OK + b"Content-Length: x\r\n\r\nready", {"body": "^ready$"}),
        (OK + b"".join(b"X-%d: y\r\n" % number for number in range(99)) + b"\r\n", {}),
    ],
)
def test_a_server_is_well(data: bytes, options: dict[str, Any]) -> None:
    outcome = answered(data, **options)
    assert (outcome.ok, outcome.cause) == (True, "")


@pytest.mark.parametrize(
    "data", [OK + b"Content-Length: 2\r\n\r\nok", OK + b"Content-Length: 0\r\n\r\n", CHUNKED + b"2\r\nok\r\n0\r\n\r\n"]
)
def test_nobody_waits_for_a_server_to_close_that_has_answered(data: bytes) -> None:
    assert answered(data, close=False).ok


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\n\r\nok",
        CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\nX: y\r\n\r\nok",
    ],
)
def test_an_answer_may_come_in_pieces(data: bytes) -> None:
    for size in range(1, len(data)):
        answer = Answer()
        for at in range(0, len(data), size):
            assert not answer.complete
            answer.add(data[at : at + size])
        assert (answer.complete, answer.status, answer.body) == (True, 200, b"ok")


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 1000000\r\n\r\n" + b"a" * 65535 + b"b" * 200000,
        OK + b"\r\n" + b"a" * 65535 + b"b" * 200000,
        CHUNKED + b"8000\r\n" + (b"a" * 32768 + b"\r\n8000\r\n") * 1 + b"a" * 32767 + b"b\r\n10000\r\n" + b"c" * 99999,
    ],
)
def test_of_a_long_body_the_beginning_is_read(data: bytes, close: bool) -> None:
    assert answered(data, close, body="^a{65535}b$").ok
    assert answered(data, close, body="bb|c").cause == "body does not match /bb|c/"


def test_of_many_small_chunks_the_beginning_is_read() -> None:
    """Whatever part of it is body."""
    assert answered(CHUNKED + b"1\r\na\r\n" * 40000, close=False, body="^a{9999,65536}$").ok


@pytest.mark.parametrize(
    ("data", "cause", "options"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503, wanted 200-399", {}),
        (b"HTTP/1.1 404 X\r\n\r\n", "status 404, wanted 200, 301-302", {"status": [200, "301-302"]}),
        (OK + b"Content-Length: 4\r\n\r\nfail", "body does not match /ok|ready/", {"body": "ok|ready"}),
        (OK + b"Content-Length: 4\r\n\r\nfail", "body does not match /" + "o" * 136 + "...", {"body": "o" * 999}),
        (b"", "connection closed without an answer", {}),
        (b"HTTP/1.1 200 OK\r\nContent-", "answer cut off", {}),
        (b"HTT", "answer cut off", {}),
        (OK + b"Content-Length: 9\r\n\r\nok", "answer cut off", {}),
        (CHUNKED + b"9\r\nok", "answer cut off", {}),
        (CHUNKED + b"2\r\nok\r\n", "answer cut off", {}),
        (CHUNKED + b"x\r\nok\r\n\r\n", "answer cut off", {}),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "connection closed without an answer", {}),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answered, but not in HTTP", {}),
        (b"\x15\x03\x01\x00\x02\x02\x46", "answered, but not in HTTP", {}),
        (b"HTTP/2.0 200 OK\r\n\r\n", "answered, but not in HTTP", {}),
        (b"HTTP/1.1 abc\r\n\r\n", "answered, but not in HTTP (HTTP/1.1 abc??)", {}),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "answered, but not in HTTP (HTTP/1.1 2000 OK??)", {}),
        (b"HTTP/1.1\r\n\r\n", "answered, but not in HTTP (HTTP/1.1??)", {}),
        (OK + b"X: " + b"a" * 65536, "answered, but with headers of more than 64 KiB", {}),
        (OK + b"X: y\r\n" * 20000, "answered, but with headers of more than 64 KiB", {}),
        (b"HTTP/1.1 102 X\r\n\r\n" * 9999, "answered, but with headers of more than 64 KiB", {}),
        (OK + b"X: y\r\n" * 101 + b"\r\n", "answered, but not in HTTP (got more than 100 headers)", {}),
    ],
)
def test_a_server_is_ill(data: bytes, cause: str, options: dict[str, Any]) -> None:
    outcome = answered(data, **options)
    assert (outcome.ok, outcome.cause, outcome.own) == (False, cause, False)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "connected, but no answer within 0.2 s"),
        (b"HTTP/1.1 200", "no complete answer within 0.2 s"),
        (OK + b"Content-Length: 9\r\n\r\nok", "no complete answer within 0.2 s"),
        (OK + b"\r\nok", "no complete answer within 0.2 s"),
        (CHUNKED + b"2\r\nok\r\n", "no complete answer within 0.2 s"),
    ],
)
def test_a_server_stops(data: bytes, cause: str) -> None:
    outcome = answered(data, close=False, timeout=0.2)
    assert (outcome.ok, outcome.cause) == (False, cause)
    assert 0.2 <= outcome.seconds < 10


def test_a_status_is_judged_before_a_page_that_stalls() -> None:
    data = b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nok"
    assert answered(data, close=False).cause == "status 500, wanted 200-399"


@pytest.mark.parametrize("head", [OK + b"X: ", OK + b"\r\n", CHUNKED + b"ffff\r\n", CHUNKED])
def test_a_server_that_sends_slowly_for_ever(head: bytes) -> None:
    """Its time is counted as a whole, not from byte to byte."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _byte in range(400):
            writer.write(b"1\r\na\r\n" if head is CHUNKED else b"a")
            await writer.drain()
            await asyncio.sleep(0.01)
        await silence(reader, writer)

    outcome = run(ask(talk, timeout=0.3))
    assert outcome.cause == "no complete answer within 0.3 s"
    assert outcome.seconds < 3


def test_a_server_that_sends_fast_for_ever() -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"a" * 65536)
            await writer.drain()

    assert run(ask(talk)).ok, "its first 64 KiB are enough"


def test_a_server_resets_the_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(ASKED)
        opened = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert run(ask(talk)).cause == "connection reset"


@pytest.mark.parametrize("close", [True, False])
def test_a_connection_leaves_nothing_to_this_host(close: bool) -> None:
    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(ASKED)
            writer.write(OK + b"\r\nok" if close else OK + b"Content-Length: 2\r\n\r\nok")
            if close:
                writer.write_eof()
            try:
                ended.set_result(await reader.read())
            except ConnectionResetError:
                ended.set_result("reset")

        async with serving(talk) as port:
            assert (await probe(health_check("http"), target(port))).ok
            assert await ended == (b"" if close else "reset"), "who has closed is not told off"
            assert TIME_WAIT not in states(port)

    run(main())


# -- TLS


_AUTHORITY = """
[ca]
default_ca = own
[own]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = names
copy_extensions = copy
[names]
commonName = supplied
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that their own keys have signed, of some host and its address: one good, one of long ago."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    (folder / "authority.cnf").write_text(_AUTHORITY)
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    names = "subjectAltName=DNS:www.example.net,IP:127.0.0.1"
    for name, last in {"good": "99991231235959Z", "expired": "20200102000000Z"}.items():
        key, request, certificate = f"{name}.key", f"{name}.csr", f"{name}.crt"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-addext", names, "-out", request)
        dates = ["-startdate", "20200101000000Z", "-enddate", last]
        signing = ["-batch", "-notext", "-config", "authority.cnf", "-selfsign", "-keyfile", key]
        openssl("ca", *signing, *dates, "-in", request, "-out", certificate)
    return folder


def server_tls(folder: Path, name: str = "good") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


@pytest.fixture
def trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The certificates are those of this host's authorities."""
    both = folder / "authorities.pem"
    both.write_text("".join((folder / f"{name}.crt").read_text() for name in ("good", "expired")))
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    probe_http.tls_context.cache_clear()
    yield folder
    probe_http.tls_context.cache_clear()


GOOD = saying(OK + b"Content-Length: 2\r\n\r\nok", close=False, wait_for=ASKED)


@pytest.mark.parametrize("name", ["good", "expired"])
@pytest.mark.parametrize("options", [{}, {"host": "other.example.net"}, {"sni": "other.example.net", "body": "ok"}])
def test_any_certificate_will_do(folder: Path, name: str, options: dict[str, Any]) -> None:
    outcome = run(ask(GOOD, "https", server_tls(folder, name), **options))
    assert (outcome.ok, outcome.cause) == (True, "")


@pytest.mark.parametrize(
    "options", [{"sni": "www.example.net"}, {"host": "www.example.net"}, {"host": "127.0.0.1"}, {"host": "127.0.0.1:8"}]
)
def test_a_certificate_that_is_trusted(trusted: Path, options: dict[str, Any]) -> None:
    outcome = run(ask(GOOD, "https", server_tls(trusted), verify_tls=True, **options))
    assert (outcome.ok, outcome.cause) == (True, "")


@pytest.mark.parametrize(
    ("name", "options", "cause"),
    [
        ("good", {"sni": "other.example.net"}, "certificate: hostname mismatch, certificate is not valid for 'other."),
        ("good", {"host": "127.0.0.2"}, "certificate: IP address mismatch, certificate is not valid for '127.0.0.2'"),
        ("expired", {"sni": "www.example.net"}, "certificate: certificate has expired"),
    ],
)
def test_a_certificate_that_is_not_the_right_one(trusted: Path, name: str, options: dict[str, Any], cause: str) -> None:
    outcome = run(ask(GOOD, "https", server_tls(trusted, name), verify_tls=True, **options))
    assert not outcome.ok and not outcome.own
    assert outcome.cause.lower().startswith(cause.lower())


def test_a_certificate_that_nobody_knows(folder: Path) -> None:
    outcome = run(ask(GOOD, "https", server_tls(folder), verify_tls=True, sni="www.example.net"))
    assert not outcome.ok
    assert outcome.cause.startswith("certificate: self")


def test_what_is_wrong_with_a_certificate_is_said_even_if_the_server_has_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, sent = Connection.send, []

    async def once(connection: Connection, data: bytes) -> None:
        sent.append(data)
        if len(sent) > 1:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        await send(connection, data)

    monkeypatch.setattr(Connection, "send", once)
    outcome = run(ask(GOOD, "https", server_tls(folder), verify_tls=True, sni="www.example.net"))
    assert outcome.cause.startswith("certificate: self")
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, None),
        ({"host": "www.example.net:8443"}, "www.example.net"),
        ({"host": "www.example.net", "sni": "b1.example.net"}, "b1.example.net"),
        ({"host": "192.0.2.1"}, None),
    ],
)
def test_a_server_is_called_by_its_name(folder: Path, options: dict[str, Any], name: Optional[str]) -> None:
    called: list[Optional[str]] = []
    context = server_tls(folder)
    context.sni_callback = lambda _connection, name, _context: called.append(name)
    assert run(ask(GOOD, "https", context, **options)).ok
    assert called == [name]


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_server_may_be_old(folder: Path, version: str) -> None:
    """Nothing secret is sent, and clients that are as old may well be served."""
    context = server_tls(folder)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    assert run(ask(GOOD, "https", context)).ok


@pytest.mark.parametrize("close", [True, False])
def test_a_long_body_through_tls(folder: Path, close: bool) -> None:
    body = b"a" * 65535 + b"b" * 200000
    for head in (OK + b"\r\n", OK + b"Content-Length: 265535\r\n\r\n"):
        talk = saying(head + body, close, ASKED)
        assert run(ask(talk, "https", server_tls(folder), body="^a{65535}b$")).ok


def test_a_body_that_ends_with_the_connection_through_tls(folder: Path) -> None:
    """Whether or not the server takes leave."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(ASKED)
        writer.write(OK + b"\r\nready")
        await writer.drain()
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await silence(reader, writer)

    for end in (talk, saying(OK + b"\r\nready", wait_for=ASKED)):
        outcome = run(ask(end, "https", server_tls(folder), body="^ready$"))
        assert (outcome.ok, outcome.cause) == (True, "")


@pytest.mark.parametrize(
    ("talk", "cause"),
    [
        (saying(b"220 mail.example.net ESMTP\r\n", False), "TLS: wrong version number"),
        (saying(b"", True), "connection closed during the TLS handshake"),
        (saying(b"\x16\x03\x03\x00\x40", True), "connection closed during the TLS handshake"),
        (saying(b"\x15\x03\x03\x00\x02\x02\x28", False), "TLS: "),
    ],
)
def test_a_server_that_speaks_no_tls(talk: Talk, cause: str) -> None:
    outcome = run(ask(talk, "https"))
    assert not outcome.ok and not outcome.own
    assert outcome.cause.startswith(cause)


def test_a_handshake_that_hangs() -> None:
    outcome = run(ask(silence, "https", timeout=0.2))
    assert (outcome.ok, outcome.cause) == (False, "connected, but no TLS handshake within 0.2 s")


def test_a_server_that_is_silent_after_the_handshake(folder: Path) -> None:
    outcome = run(ask(silence, "https", server_tls(folder), timeout=0.5))
    assert (outcome.ok, outcome.cause) == (False, "connected, but no answer within 0.5 s")


@pytest.mark.parametrize("type", ["http", "https"])
def test_a_probe_that_is_cancelled_leaves_nothing_open(type: str) -> None:
    async def main() -> None:
        talking = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            talking.set()
            await silence(reader, writer)

        async with serving(talk) as port:
            asked = target(port)
            task = asyncio.create_task(probe(health_check(type), asked))
            await talking.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client_sockets(asked) == 0

    run(main())


def test_many_at_once(folder: Path) -> None:
    async def main() -> None:
        async with serving(GOOD) as plain, serving(GOOD, tls=server_tls(folder)) as secure, serving(silence) as mute:
            outcomes = await asyncio.gather(
                *(probe(health_check("http", body="ok"), target(plain)) for _number in range(100)),
                *(probe(health_check("https", body="ok"), target(secure)) for _number in range(30)),
                *(probe(health_check("https", timeout=2), target(mute)) for _number in range(50)),
            )
        assert [outcome.ok for outcome in outcomes] == [True] * 130 + [False] * 50

    run(main())

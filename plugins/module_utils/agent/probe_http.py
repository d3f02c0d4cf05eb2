# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe that asks a web server for a page, with or without TLS.

The answer is read as a whole, or its first 64 KiB: a server that stops in the middle of a page is not well. What it
means is left to http.client, which knows the oddities of servers; it cannot wait without a thread, so it is given
what has come.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from typing import Callable, Optional, TypeVar, Union, cast

from ..nft_dsr.health_check import HealthCheck
from .probe_base import READ_SIZE, Connection, Failure, Progress, Target, printable

_MOST = 65536  # bytes of headers, and of a body
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.\d 1\d\d[ \r\n]")
# A head as nearly all are, for which http.client is not needed, which takes a third of a check's time
_USUAL_HEAD = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)(?: [^\r\n]*)?\r\n(?:[A-Za-z0-9-]+:[^\r\n]*\r\n){1,50}\r\n")
_LENGTHS = re.compile(rb"\ncontent-length:([^\r]*)", re.IGNORECASE)
_ODD = re.compile(rb"\ntransfer-encoding:", re.IGNORECASE)
_WITHOUT_BODY = frozenset({204, 304})
_USUAL_PORT = {"http": 80, "https": 443}

_Result = TypeVar("_Result")


async def ask(check: HealthCheck, target: Target, progress: Progress) -> None:
    connection = await Connection.to(target)
    try:
        channel: Union[Connection, _Tls] = connection
        if check.type == "https":
            progress.lacking = "connected, but no TLS handshake"
            channel = await _Tls.over(connection, tls_context(check.verify_tls), check.server_name)
        progress.lacking = "connected, but no answer"
        await channel.send(request(check, target))
        answer = Answer()
        while not answer.complete:
            answer.add(await channel.receive())
            progress.lacking = "no complete answer"
            if answer.status and not check.accepts(answer.status):
                raise Failure(f"status {answer.status}, wanted {check.status_text}")
    finally:
        connection.close()
    if check.pattern is not None and not check.pattern.search(answer.body.decode(errors="replace")):
        raise Failure(f"body does not match /{check.body}/")


def request(check: HealthCheck, target: Target) -> bytes:
    lines = (
        f"GET {check.path} HTTP/1.1",
        f"Host: {check.host or _asked(check, target)}",
        "User-Agent: nft-dsr-agent",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _asked(check: HealthCheck, target: Target) -> str:
    address = target.vip if check.via == "vip" else target.backend
    text = str(address).partition("%")[0]
    text = f"[{text}]" if address.version == 6 else text
    return text if target.port == _USUAL_PORT[check.type] else f"{text}:{target.port}"


class _Received:
    """What has come, as http.client wants it: as a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _usual_head(head: bytes) -> Optional[tuple[int, Optional[int]]]:
    """The status and the length of the body, as http.client reads them; None for what is left to it."""
    match = _USUAL_HEAD.fullmatch(head)
    if match is None or _ODD.search(head):
        return None
    status = int(match[1])
    lengths = _LENGTHS.findall(head)
    if status in _WITHOUT_BODY or len(lengths) > 1:
        return None
    if not lengths:
        return status, None
    length = lengths[0].strip()
    return (status, int(length)) if length.isdigit() and len(length) < 10 else None


class Answer:
    """An answer that comes bit by bit. Raises Failure where it is none."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.complete = False
        self._data = bytearray()
        self._head = 0  # where the body begins; 0: it has not come
        self._chunked = False
        self._length: Optional[int] = None
        self._interim = 0

    def add(self, data: bytes) -> None:
        """What has come next; b'' when the server has closed."""
        self._data += data
        if self._data[:7] != b"HTTP/1."[: len(self._data)]:
            raise Failure("answered, but not in HTTP")
        if not self._head:
            self._look_for_head()
        if self._head:
            self._look_at_body(not data)
        if not data and not self.complete:
            raise Failure("answer cut off" if self._data else "connection closed without an answer")

    def _look_for_head(self) -> None:
        while True:
            match = _HEAD_END.search(self._data)
            if self._interim + (match.end() if match else len(self._data)) > _MOST:
                raise Failure(f"answered, but with headers of more than {_MOST >> 10} KiB")
            if match is None:
                return
            if not _INTERIM.match(self._data):
                break
            self._interim += match.end()
            del self._data[: match.end()]
        self._head = match.end()
        usual = _usual_head(bytes(self._data[: self._head]))
        if usual is not None:
            self.status, self._length = usual
            return
        response = self._response(self._head)
        self.status = response.status
        self._chunked = bool(response.chunked)
        self._length = response.length

    def _look_at_body(self, ended: bool) -> None:
        size = len(self._data) - self._head
        if self._chunked:
            # The last chunk ends so; any other may too.
            if ended or size >= 2 * _MOST or self._data.endswith(b"\r\n\r\n"):
                self._read_chunks(size >= 2 * _MOST)
            return
        wanted = _MOST if self._length is None else min(_MOST, self._length)
        if size >= wanted or (ended and self._length is None):
            self.body = bytes(self._data[self._head : self._head + wanted])
            self.complete = True

    def _read_chunks(self, enough: bool) -> None:
        try:
            self.body = self._response(len(self._data)).read(_MOST)
        except http.client.IncompleteRead as error:
            self.body = error.partial
            self.complete = enough
        else:
            self.complete = True

    def _response(self, end: int) -> http.client.HTTPResponse:
        """The first bytes as http.client reads them."""
        received = _Received(bytes(self._data[:end]))
        response = http.client.HTTPResponse(cast(socket.socket, received), method="GET")
        try:
            response.begin()
        except (http.client.HTTPException, ValueError) as error:
            raise Failure(f"answered, but not in HTTP ({printable(str(error), 60)})") from None
        return response


@lru_cache(maxsize=2)
def tls_context(verify: bool) -> ssl.SSLContext:
    """How TLS is spoken; with the host's own authorities, as they are when this is first asked for.

    Where nobody looks at the certificate, whatever old server will do that clients still find.
    """
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Ended(Failure):
    """The server has closed."""

    def __init__(self) -> None:
        super().__init__("connection closed without an answer")


class _Tls:
    """TLS over a connection, which stays in the hands of who opened it."""

    def __init__(self, connection: Connection, context: ssl.SSLContext, name: Optional[str]) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    @classmethod
    async def over(cls, connection: Connection, context: ssl.SSLContext, name: Optional[str]) -> _Tls:
        """The same after the handshake."""
        channel = cls(connection, context, name)
        try:
            await channel._until_done(channel._tls.do_handshake)
        except _Ended:
            raise Failure("connection closed during the TLS handshake") from None
        return channel

    async def send(self, data: bytes) -> None:
        await self._until_done(lambda: self._tls.write(data))

    async def receive(self) -> bytes:
        try:
            return await self._until_done(lambda: self._tls.read(READ_SIZE))
        except _Ended:
            return b""

    async def _until_done(self, step: Callable[[], _Result]) -> _Result:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._connection.receive()
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                raise _Ended from None  # many servers just close
            except ssl.SSLError as error:
                with suppress(OSError):
                    await self._flush()  # the alert, so that the server's log says the same
                raise Failure(_tls_cause(error)) from None
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._connection.send(data)


def _tls_cause(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message.rstrip(".")
        return f"certificate: {text[:1].lower()}{text[1:]}"
    return f"TLS: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"

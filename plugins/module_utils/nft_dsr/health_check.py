# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user may ask of a health check, checked and normalised. Pure.

An option that would have no effect on a check of its type is an error, as it shows that the user expects something
of it. The model's VIPs hold health checks, so nothing of the model is needed here.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, Optional

from ..common.errors import ConfigError
from ..common.packet import IPAddress
from .options import parse_boolean, parse_choice, parse_integer, parse_mapping

if TYPE_CHECKING:
    from .model import Ports

TYPES = ("tcp", "http", "https", "dns", "icmp", "exec")
VIA = ("vip", "backend")
QUERY_TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
MAX_TEXT = 1024  # characters of a path, an expected text, an argument; a body's expression
MAX_ARGUMENTS = 64

HEALTH_CHECK_OPTIONS = (
    "type",
    "port",
    "path",
    "host",
    "sni",
    "verify_tls",
    "status",
    "body",
    "expect",
    "query",
    "command",
    "interval",
    "timeout",
    "rise",
    "fall",
    "jitter",
    "min_healthy",
    "via",
)
_WORKS_FOR = {
    "port": ("tcp", "http", "https", "dns", "exec"),
    "path": ("http", "https"),
    "host": ("http", "https"),
    "sni": ("https",),
    "verify_tls": ("https",),
    "status": ("http", "https"),
    "body": ("http", "https"),
    "expect": ("tcp", "dns"),
    "query": ("dns",),
    "command": ("exec",),
    "via": ("tcp", "http", "https", "dns", "icmp"),
}
_ADDRESS_QUERIES = {"A": 4, "AAAA": 6}

_PATH = re.compile(r"/[!-~]*\Z")
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\Z")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,253}))(?::\d{1,5})?\Z")
_QUERY_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_/*-]{1,63}(?:\.[A-Za-z0-9_/*-]{1,63})*\Z")
_STATUS = re.compile(r"(\d{3})(?:-(\d{3}))?\Z")


@dataclass(frozen=True)
class HealthCheck:
    """How it is found out whether a backend serves, and how many answers decide.

    ``vip`` is the VIP's address if the check depends on it: because it is addressed to the VIP (``via``), or because
    a command is told. ``verify_tls`` is off by default: the check asks whether a backend serves, at an address and
    not by a name, and a certificate that expires, or that only the next hop knows, would take away all backends
    at once that until then served well.
    """

    type: str
    vip: Optional[IPAddress] = None
    port: Optional[int] = None
    path: str = "/"
    host: Optional[str] = None  # None: the address that is asked
    sni: Optional[str] = None
    verify_tls: bool = False
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    body: Optional[str] = None
    expect: Optional[str] = None
    query: Optional[str] = None  # name/TYPE
    command: tuple[str, ...] = ()
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1
    min_healthy: float = 0.0  # a share of the pool; 0: no floor
    via: str = "vip"

    @property
    def identity(self) -> HealthCheck:
        """What decides what is sent, when, and what counts as success.

        Checks of two VIPs that are identical, of a backend that they share, are one. How many answers decide, and
        about whom, is each VIP's own matter.
        """
        return replace(self, rise=1, fall=1, min_healthy=0.0)

    @property
    def question(self) -> tuple[str, int]:
        """The name and the type that a DNS server is asked for."""
        name, _slash, kind = (self.query or "").rpartition("/")
        return name, QUERY_TYPES[kind]

    @property
    def through_vip(self) -> bool:
        """It is addressed to the VIP."""
        return self.via == "vip" and self.type in _WORKS_FOR["via"]

    @property
    def server_name(self) -> Optional[str]:
        """Who the server is to be, in TLS: the name to ask for, or the address that its certificate is to bear."""
        if self.sni or not self.host:
            return self.sni
        match = _HOST.match(self.host)
        return (match[1] or match[2]) if match else None

    @cached_property
    def pattern(self) -> Optional[re.Pattern[str]]:
        return None if self.body is None else re.compile(self.body)

    @property
    def status_text(self) -> str:
        return ", ".join(_span(*span) for span in self.status)

    def accepts(self, status: int) -> bool:
        return any(first <= status <= last for first, last in self.status)

    def options(self) -> dict[str, Any]:
        """The normalised options; those without effect on this type are None."""
        values = {
            "type": self.type,
            "port": self.port,
            "path": self.path,
            "host": self.host,
            "sni": self.sni,
            "verify_tls": self.verify_tls,
            "status": [_span(*span) for span in self.status],
            "body": self.body,
            "expect": self.expect,
            "query": self.query,
            "command": list(self.command),
            "interval": self.interval,
            "timeout": self.timeout,
            "rise": self.rise,
            "fall": self.fall,
            "jitter": self.jitter,
            "min_healthy": self.min_healthy,
            "via": self.via,
        }
        return {key: value if self.type in _WORKS_FOR.get(key, TYPES) else None for key, value in values.items()}


def parse_health_check(
    value: Any, path: str, *, address: IPAddress, protocol: str, ports: Sequence[Ports]
) -> HealthCheck:
    """A health check from a user's dictionary, for a VIP of this address, protocol and ports.

    ``path`` is where it stands. A VIP without ports has all ports of its protocol.
    """
    options = parse_mapping(value, path, HEALTH_CHECK_OPTIONS, "{'type': 'tcp'}")
    kind = parse_choice(options.get("type"), f"{path}.type", TYPES)
    for key, types in _WORKS_FOR.items():
        if options.get(key) is not None and kind not in types:
            raise ConfigError(
                f"{path}.{key}", f"has no effect on a check of type {kind}, only on {_listed(types)}; leave it out"
            )

    def optional(key: str, parse: Callable[[Any, str], Any], default: Any) -> Any:
        given = options.get(key)
        return default if given is None else parse(given, f"{path}.{key}")

    def number(key: str, lowest: float, highest: float, default: float) -> float:
        parsed: float = optional(key, lambda given, place: _parse_number(given, place, lowest, highest), default)
        return parsed

    def count(key: str, default: int) -> int:
        parsed: int = optional(key, lambda given, place: parse_integer(given, place, 1, 100), default)
        return parsed

    via = optional("via", lambda given, place: parse_choice(given, place, VIA), "vip")
    query = optional("query", lambda given, place: _parse_query(given, place, address.version), None)
    interval = number("interval", 0.1, 3600, 2.0)
    check = HealthCheck(
        type=kind,
        vip=address if via == "vip" else None,
        port=_parse_port(options.get("port"), f"{path}.port", kind, protocol, ports),
        path=optional("path", _parse_path, "/"),
        host=optional("host", _parse_host, None),
        sni=optional("sni", _parse_sni, None),
        verify_tls=optional("verify_tls", parse_boolean, False),
        status=optional("status", _parse_status, ((200, 399),)),
        body=optional("body", _parse_body, None),
        expect=optional("expect", _parse_text if kind == "tcp" else _parse_address, None),
        query=query,
        command=optional("command", _parse_command, ()),
        interval=interval,
        timeout=number("timeout", 0.01, 3600, min(1.0, interval)),
        rise=count("rise", 2),
        fall=count("fall", 3),
        jitter=number("jitter", 0, 0.5, 0.1),
        min_healthy=optional("min_healthy", _parse_share, 0.0),
        via=via,
    )
    _check_together(check, path)
    return check


def _check_together(check: HealthCheck, path: str) -> None:
    """What options have to do with each other."""
    if check.timeout > check.interval:
        raise ConfigError(
            f"{path}.timeout",
            f"{check.timeout:g} s are longer than the interval of {check.interval:g} s, so that checks of one backend "
            f"would overlap; use {check.interval:g} at most, or a longer 'interval'",
        )
    if check.type == "exec" and not check.command:
        raise ConfigError(f"{path}.command", "is missing; list the program's absolute path and its arguments")
    if check.verify_tls and check.server_name is None:
        raise ConfigError(
            f"{path}.verify_tls", "needs to know whose certificate to look for; name the server in 'sni' or 'host'"
        )
    if check.type != "dns":
        return
    if check.query is None:
        raise ConfigError(f"{path}.query", "is missing; give a name that the server knows, such as 'www.example.net'")
    if check.expect is not None:
        kind = check.query.rpartition("/")[2]
        version = ipaddress.ip_address(check.expect).version
        if _ADDRESS_QUERIES.get(kind) != version:
            wanted = "AAAA" if version == 6 else "A"
            raise ConfigError(
                f"{path}.expect",
                f"{check.expect} is in no answer to a query of type {kind}; set 'query' to one of type {wanted}, "
                "or leave 'expect' out",
            )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _parse_number(value: Any, path: str, lowest: float, highest: float) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            pass
    if not math.isfinite(number):
        raise ConfigError(path, f"{value!r} is not a number; use {lowest:g} to {highest:g}")
    if not lowest <= number <= highest:
        raise ConfigError(path, f"{number:g} is out of range; use {lowest:g} to {highest:g}")
    return number


def _parse_share(value: Any, path: str) -> float:
    if isinstance(value, str) and value.rstrip().endswith("%"):
        try:
            return _parse_number(value.rstrip()[:-1], path, 0, 100) / 100
        except ConfigError:
            raise ConfigError(path, f"{value!r} is not a share; use '0%' to '100%'") from None
    try:
        return _parse_number(value, path, 0, 1)
    except ConfigError:
        raise ConfigError(path, f"{value!r} is not a share; use 0 to 1, or a percentage such as '50%'") from None


def _parse_port(value: Any, path: str, kind: str, protocol: str, ports: Sequence[Ports]) -> Optional[int]:
    if value is not None:
        return parse_integer(value, path, 1, 65535)
    if kind == "icmp":
        return None
    only = ports[0].first if len(ports) == 1 and ports[0].first == ports[0].last else None
    if kind == "exec":
        return only
    transport = "udp" if kind == "dns" else "tcp"
    if protocol not in (transport, "any"):
        raise ConfigError(
            path,
            f"is missing; a check of type {kind} goes over {transport}, and the VIP's ports are of {protocol}, "
            "so name the port to check",
        )
    if only is None:
        has = f"has several ports ({', '.join(str(some) for some in ports)})" if ports else "has all ports"
        raise ConfigError(path, f"is missing; the VIP {has}, so name the port to check")
    return only


def _parse_text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(path, f"{value!r} is not a text; write it in quotes")
    if not value:
        raise ConfigError(path, "is empty, which every answer would do for; leave it out")
    if len(value) > MAX_TEXT:
        raise ConfigError(path, f"{len(value)} characters are too many; use {MAX_TEXT} at most")
    if not _encodes(value):
        raise ConfigError(path, f"{value!r} cannot be written in UTF-8; use other characters")
    return value


def _parse_body(value: Any, path: str) -> str:
    text = _parse_text(value, path)
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            path, f"{text!r} is not a regular expression ({error}); write one of Python's, such as 'ready|ok'"
        ) from None
    return text


def _parse_path(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ConfigError(path, f"{value!r} is not a path; it begins with '/', such as '/health?full=1'")
    if len(value) > MAX_TEXT:
        raise ConfigError(path, f"{len(value)} characters are too many; use {MAX_TEXT} at most")
    if not _PATH.match(value):
        raise ConfigError(path, f"{value!r} has a character that a path cannot have; write it as '%20' (for a space)")
    return value


def _parse_host(value: Any, path: str) -> str:
    match = _HOST.match(value) if isinstance(value, str) else None
    if match is None or not (_is_ipv6(match[1]) if match[1] else _NAME.match(match[2])):
        raise ConfigError(
            path, f"{value!r} is not a host; write it as 'www.example.net', '192.0.2.10:8080' or '[2001:db8::10]'"
        )
    return match[0]


def _parse_sni(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _NAME.match(value) or re.match(r"[\d.]+\Z", value):
        raise ConfigError(path, f"{value!r} is not a name of a server; write it as 'www.example.net'")
    return value


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_status(value: Any, path: str) -> tuple[tuple[int, int], ...]:
    """Spans of status codes in order, those that overlap or touch joined."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        value = [part.strip() for part in str(value).split(",")]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(path, f"{value!r} is not a list of status codes; write [200, '300-399']")
    if not value:
        raise ConfigError(path, "the list is empty; name a status code, or leave 'status' out for 200-399")
    found: list[tuple[int, int]] = []
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        match = _STATUS.match(str(item)) if isinstance(item, (str, int)) and not isinstance(item, bool) else None
        if match is None:
            raise ConfigError(place, f"{item!r} is not a status code; write 200 or '200-399'")
        first, last = int(match[1]), int(match[2] or match[1])
        for code in (first, last):
            if not 200 <= code <= 599:
                raise ConfigError(place, f"no answer ends with the status {code}; use 200 to 599")
        if first > last:
            raise ConfigError(place, f"the range {item} ends before it starts; write '{last}-{first}'")
        found.append((first, last))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _parse_address(value: Any, path: str) -> str:
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigError(
            path, f"{value!r} is not an address that the answer could have; write it as '192.0.2.10' or '2001:db8::10'"
        ) from None


def _parse_query(value: Any, path: str, version: int) -> str:
    """A name and a type, which is that of the VIP's addresses if it is left out."""
    text = value if isinstance(value, str) else ""
    name, _slash, kind = text.rpartition("/") if "/" in text else (text, "", "AAAA" if version == 6 else "A")
    if kind.upper() not in QUERY_TYPES:
        raise ConfigError(path, f"{kind!r} in {text!r} is not a type of records; use one of: {', '.join(QUERY_TYPES)}")
    name = name if name == "." else name[:-1] if name.endswith(".") else name
    if name != "." and not _QUERY_NAME.match(name):
        raise ConfigError(path, f"{value!r} is not a name to ask for; write it as 'example.net' or 'example.net/SOA'")
    return f"{name}/{kind.upper()}"


def _parse_command(value: Any, path: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ConfigError(path, f"{value!r} is not a command; list the program and each argument, there is no shell")
    if len(value) > MAX_ARGUMENTS:
        raise ConfigError(path, f"{len(value)} arguments are too many; use {MAX_ARGUMENTS} at most")
    words: list[str] = []
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        if not isinstance(item, (str, int)) or isinstance(item, bool):
            raise ConfigError(place, f"{item!r} is not a text; write it in quotes")
        word = str(item)
        if "\0" in word or len(word) > MAX_TEXT or not _encodes(word):
            raise ConfigError(place, f"{word[:40]!r} cannot be an argument; use up to {MAX_TEXT} characters of text")
        words.append(word)
    if not words[0].startswith("/") or words[0].endswith("/"):
        raise ConfigError(f"{path}[0]", f"{words[0]!r} is not the absolute path of a program; write it in full")
    return tuple(words)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

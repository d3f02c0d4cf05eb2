# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user may ask of a health check, and what is said about the rest."""

from __future__ import annotations

import copy
import ipaddress
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import health_check
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.health_check import HealthCheck
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.model import Ports

VIP4, VIP6 = ipaddress.ip_address("10.77.0.100"), ipaddress.ip_address("fd00:77::100")
PORT_80 = (Ports(80, 80),)
REQUIRED: dict[str, dict[str, Any]] = {
    "tcp": {},
    "http": {},
    "https": {},
    "dns": {"query": "example.net", "port": 53},
    "icmp": {},
    "exec": {"command": ["/bin/true"]},
}


def parse(
    value: Any,
    path: str = "vips[2].health_check",
    address: Any = VIP4,
    protocol: str = "tcp",
    ports: Sequence[Ports] = PORT_80,
) -> HealthCheck:
    return health_check.parse_health_check(value, path, address=address, protocol=protocol, ports=ports)


def check(type: str, **options: Any) -> HealthCheck:
    return parse({"type": type, **REQUIRED[type], **options})


def error_of(value: Any, **context: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(value, **context)
    return str(caught.value)


# -- what is right


@pytest.mark.parametrize(
    ("type", "its_own"),
    [
        ("tcp", {"port": 80, "via": "vip"}),
        ("http", {"port": 80, "via": "vip", "path": "/", "status": ["200-399"]}),
        ("https", {"port": 80, "via": "vip", "path": "/", "status": ["200-399"], "verify_tls": False}),
        ("dns", {"port": 53, "via": "vip", "query": "example.net/A"}),
        ("icmp", {"via": "vip"}),
        ("exec", {"port": 80, "command": ["/bin/true"]}),
    ],
)
def test_a_check_gets_its_defaults(type: str, its_own: dict[str, Any]) -> None:
    """And what has no effect on it is nothing."""
    assert check(type).options() == {
        **dict.fromkeys(health_check.HEALTH_CHECK_OPTIONS),
        "type": type,
        "interval": 2.0,
        "timeout": 1.0,
        "rise": 2,
        "fall": 3,
        "jitter": 0.1,
        "min_healthy": 0.0,
        **its_own,
    }


@pytest.mark.parametrize("type", health_check.TYPES)
def test_options_that_are_given_as_nothing_are_defaults(type: str) -> None:
    """As Ansible passes what the user left out."""
    nothing = dict.fromkeys(health_check.HEALTH_CHECK_OPTIONS)
    assert parse({**nothing, "type": type, **REQUIRED[type]}) == check(type)


@pytest.mark.parametrize(
    ("type", "option", "given_value", "value"),
    [
        ("tcp", "port", "443", 443),
        ("tcp", "port", 65535, 65535),
        ("exec", "port", 1, 1),
        ("http", "path", "/a%20b?c=d&e", "/a%20b?c=d&e"),
        ("http", "host", "www.example.net", "www.example.net"),
        ("http", "host", "www.example.net:8080", "www.example.net:8080"),
        ("https", "host", "[fd00::1]:8443", "[fd00::1]:8443"),
        ("https", "host", "192.0.2.1", "192.0.2.1"),
        ("https", "sni", "www.example.net", "www.example.net"),
        ("https", "verify_tls", "no", False),
        ("http", "status", 200, ["200"]),
        ("http", "status", "404", ["404"]),
        ("http", "status", "200, 301-302", ["200", "301-302"]),
        ("http", "status", [404, "200-299"], ["200-299", "404"]),
        ("http", "status", ["300-399", "200-299", 250], ["200-399"]),
        ("http", "status", [200, 202], ["200", "202"]),
        ("http", "status", (201, 200), ["200-201"]),
        ("http", "status", ["200-299", "200-599"], ["200-599"]),
        ("https", "body", "ready|[Oo]k", "ready|[Oo]k"),
        ("tcp", "expect", "220 ", "220 "),
        ("tcp", "expect", "+OK\r\n", "+OK\r\n"),
        ("dns", "expect", "192.0.2.10", "192.0.2.10"),
        ("dns", "query", "example.net.", "example.net/A"),
        ("dns", "query", "example.net/soa", "example.net/SOA"),
        ("dns", "query", ".", "./A"),
        ("dns", "query", "./NS", "./NS"),
        ("dns", "query", "0/25.2.0.192.in-addr.arpa/PTR", "0/25.2.0.192.in-addr.arpa/PTR"),
        ("dns", "query", "_sip._udp.example.net/SRV", "_sip._udp.example.net/SRV"),
        ("exec", "command", ["/bin/check", 80, "a b", "", "$(x)"], ["/bin/check", "80", "a b", "", "$(x)"]),
        ("tcp", "interval", "3600", 3600.0),
        ("tcp", "interval", 2.5, 2.5),
        ("tcp", "timeout", "0.01", 0.01),
        ("tcp", "timeout", 2, 2.0),
        ("tcp", "rise", "100", 100),
        ("tcp", "fall", 1, 1),
        ("tcp", "jitter", 0, 0.0),
        ("tcp", "jitter", "0.5", 0.5),
        ("tcp", "min_healthy", 1, 1.0),
        ("tcp", "min_healthy", "0.25", 0.25),
        ("tcp", "min_healthy", "50%", 0.5),
        ("tcp", "min_healthy", "7 %", 0.07),
        ("tcp", "min_healthy", "100%", 1.0),
        ("icmp", "via", "backend", "backend"),
    ],
)
def test_values_are_normalised(type: str, option: str, given_value: Any, value: Any) -> None:
    found = check(type, **{option: given_value}).options()[option]
    assert (found, found.__class__) == (value, value.__class__)


def test_a_short_interval_has_a_short_timeout() -> None:
    assert check("tcp", interval=0.1).timeout == 0.1
    assert check("tcp", interval=0.5, timeout=0.25).timeout == 0.25
    assert check("tcp", interval=1, timeout=1).timeout == 1


@pytest.mark.parametrize(
    ("type", "protocol", "ports", "port"),
    [
        ("tcp", "tcp", (Ports(8080, 8080),), 8080),
        ("dns", "udp", (Ports(53, 53),), 53),
        ("icmp", "any", (), None),
        ("icmp", "udp", (Ports(53, 53),), None),
        ("exec", "udp", (Ports(53, 53),), 53),
        ("exec", "tcp", (Ports(80, 80), Ports(443, 443)), None),
        ("exec", "any", (), None),
    ],
)
def test_the_port_is_the_vips_if_it_has_one(type: str, protocol: str, ports: Sequence[Ports], port: Any) -> None:
    options = {key: value for key, value in REQUIRED[type].items() if key != "port"}
    assert parse({"type": type, **options}, protocol=protocol, ports=ports).port == port


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "any"])
@pytest.mark.parametrize("type", ["tcp", "http", "https", "dns"])
def test_a_port_that_is_named_may_be_of_any_vip(type: str, protocol: str) -> None:
    given_options = {"type": type, **REQUIRED[type], "port": 8080}
    assert parse(given_options, protocol=protocol, ports=()).port == 8080


def test_a_dns_server_is_asked_for_addresses_of_the_vips_family() -> None:
    assert check("dns").question == ("example.net", 1)
    six = parse({"type": "dns", "query": "example.net", "expect": "2001:DB8:0::1", "port": 53}, address=VIP6)
    assert (six.query, six.question, six.expect) == ("example.net/AAAA", ("example.net", 28), "2001:db8::1")
    assert (
        parse({"type": "dns", "query": "example.net/A", "expect": "192.0.2.1", "port": 53}, address=VIP6).question[1]
        == 1
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, None),
        ({"host": "www.example.net"}, "www.example.net"),
        ({"host": "www.example.net:8443"}, "www.example.net"),
        ({"host": "[fd00::1]:8443"}, "fd00::1"),
        ({"host": "www.example.net", "sni": "b1.example.net"}, "b1.example.net"),
    ],
)
def test_a_server_is_known_in_tls_by_a_name(options: dict[str, Any], name: Any) -> None:
    assert check("https", **options).server_name == name


def test_status_codes_are_looked_up_in_the_list() -> None:
    asked = check("http", status=["200-299", 404])
    assert [code for code in range(100, 600) if asked.accepts(code)] == [*range(200, 300), 404]
    assert asked.status_text == "200-299, 404"


# -- one check of many VIPs


def test_checks_are_one_if_they_send_and_want_the_same() -> None:
    mine = {"type": "http", "port": 8080, "via": "backend", "rise": 1, "fall": 5, "min_healthy": "50%"}
    one = parse(mine, address=VIP4, ports=PORT_80)
    other = parse({**mine, "rise": 7, "fall": 8, "min_healthy": 0}, address=VIP6, ports=())
    assert one != other
    assert one.identity == other.identity
    assert len({one.identity, other.identity}) == 1, "it is a key"


@pytest.mark.parametrize(
    ("type", "options"),
    [("http", {"via": "vip"}), ("icmp", {"via": "vip"}), ("exec", {"command": ["/bin/true"]})],
)
def test_checks_that_know_of_their_vip_are_each_its_own(type: str, options: dict[str, Any]) -> None:
    one, other = (parse({"type": type, **options}, address=ipaddress.ip_address(f"10.77.0.{n}")) for n in (100, 101))
    assert one.identity != other.identity


@pytest.mark.parametrize("type", health_check.TYPES)
def test_checks_are_addressed_to_the_vip_unless_told_otherwise(type: str) -> None:
    """A command addresses whom it likes."""
    assert check(type).through_vip is (type != "exec")
    if type != "exec":
        assert not check(type, via="backend").through_vip


@pytest.mark.parametrize(
    "change",
    [
        {"port": 81},
        {"path": "/health"},
        {"host": "www.example.net"},
        {"status": 200},
        {"body": "ok"},
        {"interval": 3},
        {"timeout": 0.5},
        {"jitter": 0.2},
        {"via": "vip"},
        {"type": "tcp"},
    ],
)
def test_checks_that_differ_are_not_one(change: dict[str, Any]) -> None:
    mine = {"type": "http", "via": "backend"}
    assert parse({**mine, **change}).identity != parse(mine).identity


# -- round and round

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "port": st.integers(1, 65535),
    "path": st.sampled_from(["/", "/health?full=1"]),
    "host": st.sampled_from(["www.example.net", "[fd00::1]:80"]),
    "sni": st.sampled_from(["www.example.net"]),
    "verify_tls": st.sampled_from([False, "no"]),
    "status": st.lists(st.integers(200, 599) | st.sampled_from(["200-299", "300-450"]), min_size=1, max_size=5),
    "body": st.sampled_from(["ok", r"^\s*ready$"]),
    "query": st.sampled_from(["example.net", "example.net/TXT", "."]),
    "command": st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), max_size=3).map(
        lambda words: ["/bin/check", *words]
    ),
    "interval": st.floats(0.1, 3600) | st.just("60"),
    "timeout": st.floats(0.01, 0.1),
    "rise": st.integers(1, 100),
    "fall": st.integers(1, 100),
    "jitter": st.floats(0, 0.5),
    "min_healthy": st.floats(0, 1) | st.sampled_from(["0%", "33%", "100%"]),
    "via": st.sampled_from(health_check.VIA),
}


@st.composite
def check_options(draw: st.DrawFn) -> dict[str, Any]:
    type = draw(st.sampled_from(health_check.TYPES))
    known = [key for key, value in check(type).options().items() if value is not None or key in ("host", "sni", "body")]
    works = [key for key in known if key in _VALUES and _takes(type, key)]
    wanted = draw(st.sets(st.sampled_from(works)))
    return {"type": type, **REQUIRED[type], **{key: draw(_VALUES[key]) for key in sorted(wanted)}}


def _takes(type: str, key: str) -> bool:
    return type in {"host": ("http", "https"), "body": ("http", "https"), "sni": ("https",)}.get(key, (type,))


@given(check_options(), st.sampled_from([VIP4, VIP6]))
def test_what_a_check_says_of_itself_is_the_same_check(options: dict[str, Any], address: Any) -> None:
    untouched = copy.deepcopy(options)
    parsed = parse(options, address=address)
    assert options == untouched
    again = parse(json.loads(json.dumps(parsed.options())), address=address)
    assert again == parsed
    assert hash(again) == hash(parsed)
    assert again.options() == parsed.options()


@given(st.dictionaries(st.sampled_from(health_check.HEALTH_CHECK_OPTIONS), st.from_type(type).flatmap(st.from_type)))
def test_nothing_else_is_ever_raised(options: dict[str, Any]) -> None:
    for kind in health_check.TYPES:
        try:
            parse({**options, "type": kind})
        except ConfigError as error:
            assert error.path.startswith("vips[2].health_check")


# -- what is wrong, and where

AT = "vips[2].health_check"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("tcp", f"{AT}: must be a dictionary of options, not 'tcp'; write {{'type': 'tcp'}}"),
        (None, f"{AT}: must be a dictionary of options, not None"),
        ({}, f"{AT}.type: is missing; choose one of: tcp, http, https, dns, icmp, exec"),
        ({"type": "TCP"}, f"{AT}.type: 'TCP' is not known; choose one of: tcp, http, https, dns, icmp, exec"),
        ({"type": ["tcp"]}, f"{AT}.type: ['tcp'] is not known; choose one of: tcp"),
        ({"type": "tcp", "intervall": 2}, f"{AT}.intervall: unknown option; there are: type, port, path, host"),
    ],
)
def test_no_check(value: Any, error: str) -> None:
    assert error_of(value).startswith(error)


@pytest.mark.parametrize(
    ("type", "option", "value", "works"),
    [
        ("icmp", "port", 80, "tcp, http, https, dns and exec"),
        ("tcp", "path", "/", "http and https"),
        ("dns", "host", "www.example.net", "http and https"),
        ("http", "sni", "www.example.net", "https"),
        ("http", "verify_tls", False, "https"),
        ("tcp", "status", 200, "http and https"),
        ("exec", "body", "ok", "http and https"),
        ("http", "expect", "220", "tcp and dns"),
        ("tcp", "query", "example.net", "dns"),
        ("tcp", "command", ["/bin/true"], "exec"),
        ("exec", "via", "vip", "tcp, http, https, dns and icmp"),
    ],
)
def test_an_option_without_effect(type: str, option: str, value: Any, works: str) -> None:
    assert (
        error_of({"type": type, **REQUIRED[type], option: value})
        == f"{AT}.{option}: has no effect on a check of type {type}, only on {works}; leave it out"
    )


@pytest.mark.parametrize(
    ("type", "options", "error"),
    [
        # port
        ("tcp", {"port": 0}, "port: 0 is out of range; use 1 to 65535"),
        ("tcp", {"port": 65536}, "port: 65536 is out of range; use 1 to 65535"),
        ("tcp", {"port": "80-90"}, "port: '80-90' is not a whole number; use 1 to 65535"),
        ("tcp", {"port": True}, "port: True is not a whole number"),
        # path
        *(("http", {"path": path}, f"path: {path!r} is not a path; it begins with '/'") for path in ["", "health", 7]),
        *(
            ("http", {"path": path}, f"path: {path!r} has a character that a path cannot have; write it as '%20'")
            for path in ["/a b", "/a\r\nHost: x", "/\0", "/ä", "/a\n", "/\x7f"]
        ),
        ("http", {"path": "/" + "a" * 1024}, "path: 1025 characters are too many; use 1024 at most"),
        # host and sni
        *(
            ("https", {"host": host}, f"host: {host!r} is not a host; write it as 'www.example.net', '192.0.2.10:8080'")
            for host in ["", "a b", "a\r\nX: y", "fd00::1", "[fd00::g]", "[::1", "a/b", "a..b", ".a", "a" * 64, "ä.de"]
        ),
        *(
            ("https", {"sni": sni}, f"sni: {sni!r} is not a name of a server; write it as 'www.example.net'")
            for sni in ["", "192.0.2.1", "fd00::1", "a b", "a..b", "a:80", "a.", "a" * 64, 7]
        ),
        # verify_tls
        ("https", {"verify_tls": "maybe"}, "verify_tls: 'maybe' is neither true nor false"),
        ("https", {"verify_tls": True}, "verify_tls: needs to know whose certificate to look for; name the server in"),
        # status
        ("http", {"status": []}, "status: the list is empty; name a status code, or leave 'status' out for 200-399"),
        ("http", {"status": {"200": 1}}, "status: {'200': 1} is not a list of status codes; write [200, '300-399']"),
        ("http", {"status": True}, "status: True is not a list of status codes"),
        *(
            ("http", {"status": [200, code]}, f"status[1]: {code!r} is not a status code; write 200 or '200-399'")
            for code in ["ok", "2xx", 20, 2000, "200-", "-200", "200 - 299", None, True, 200.0]
        ),
        ("http", {"status": ["100-399"]}, "status[0]: no answer ends with the status 100; use 200 to 599"),
        ("http", {"status": "200,600"}, "status[1]: no answer ends with the status 600; use 200 to 599"),
        ("http", {"status": ["399-200"]}, "status[0]: the range 399-200 ends before it starts; write '200-399'"),
        # body
        ("http", {"body": "("}, "body: '(' is not a regular expression (missing ), unterminated subpattern at"),
        ("http", {"body": "a{99999999999999}"}, "body: 'a{99999999999999}' is not a regular expression ("),
        ("http", {"body": ""}, "body: is empty, which every answer would do for; leave it out"),
        ("http", {"body": 7}, "body: 7 is not a text; write it in quotes"),
        ("http", {"body": "a" * 1025}, "body: 1025 characters are too many; use 1024 at most"),
        # expect
        ("tcp", {"expect": ""}, "expect: is empty, which every answer would do for; leave it out"),
        ("tcp", {"expect": 220}, "expect: 220 is not a text; write it in quotes"),
        ("tcp", {"expect": "\ud800"}, "expect: '\\ud800' cannot be written in UTF-8; use other characters"),
        *(
            ("dns", {"expect": value}, f"expect: {value!r} is not an address that the answer could have; write it as")
            for value in ["www.example.net", "", "192.0.2.1/32", "fe80::1%eth0", 7]
        ),
        (
            "dns",
            {"expect": "2001:db8::1"},
            "expect: 2001:db8::1 is in no answer to a query of type A; set 'query' to one of type AAAA, or leave",
        ),
        ("dns", {"query": "a/SOA", "expect": "192.0.2.1"}, "expect: 192.0.2.1 is in no answer to a query of type SOA;"),
        # query
        ("dns", {"query": None}, "query: is missing; give a name that the server knows, such as 'www.example.net'"),
        *(
            ("dns", {"query": name}, f"query: {name!r} is not a name to ask for; write it as 'example.net' or")
            for name in ["", "a..b", ".a", "a b", "ä.de", "a" * 64, "a." * 127 + "ab", "a\n", "a..", 7]
        ),
        ("dns", {"query": "example.net/ANY"}, "query: 'ANY' in 'example.net/ANY' is not a type of records; use one of"),
        ("dns", {"query": "example.net/"}, "query: '' in 'example.net/' is not a type of records; use one of: A, NS,"),
        # command
        ("exec", {"command": None}, "command: is missing; list the program's absolute path and its arguments"),
        ("exec", {"command": []}, "command: [] is not a command; list the program and each argument, there is no"),
        ("exec", {"command": "/bin/true"}, "command: '/bin/true' is not a command; list the program and each argument"),
        ("exec", {"command": ["true"]}, "command[0]: 'true' is not the absolute path of a program; write it in full"),
        ("exec", {"command": ["/"]}, "command[0]: '/' is not the absolute path of a program; write it in full"),
        ("exec", {"command": ["/bin/a", ["b"]]}, "command[1]: ['b'] is not a text; write it in quotes"),
        ("exec", {"command": ["/bin/a", True]}, "command[1]: True is not a text; write it in quotes"),
        ("exec", {"command": ["/bin/a", 1.10]}, "command[1]: 1.1 is not a text; write it in quotes"),
        ("exec", {"command": ["/bin/a", "b\0"]}, "command[1]: 'b\\x00' cannot be an argument; use up to 1024"),
        ("exec", {"command": ["/bin/a", "\ud800"]}, "command[1]: '\\ud800' cannot be an argument; use up to 1024"),
        ("exec", {"command": ["/bin/a"] * 65}, "command: 65 arguments are too many; use 64 at most"),
        # numbers
        ("tcp", {"interval": 0}, "interval: 0 is out of range; use 0.1 to 3600"),
        ("tcp", {"interval": 3601}, "interval: 3601 is out of range; use 0.1 to 3600"),
        *(
            ("tcp", {"interval": value}, f"interval: {value!r} is not a number; use 0.1 to 3600")
            for value in ["2s", "", True, [2], math.nan, math.inf, "inf", 10**400]
        ),
        ("tcp", {"timeout": 0}, "timeout: 0 is out of range; use 0.01 to 3600"),
        (
            "tcp",
            {"timeout": 2.5},
            "timeout: 2.5 s are longer than the interval of 2 s, so that checks of one backend would overlap; use 2 at",
        ),
        ("tcp", {"interval": 0.5, "timeout": 1}, "timeout: 1 s are longer than the interval of 0.5 s, so that checks"),
        *(
            ("tcp", {key: value}, f"{key}: {said}; use 1 to 100")
            for key in ("rise", "fall")
            for value, said in [
                (0, "0 is out of range"),
                (101, "101 is out of range"),
                (1.5, "1.5 is not a whole number"),
            ]
        ),
        ("tcp", {"jitter": 0.6}, "jitter: 0.6 is out of range; use 0 to 0.5"),
        ("tcp", {"jitter": "10%"}, "jitter: '10%' is not a number; use 0 to 0.5"),
        *(
            ("tcp", {"min_healthy": value}, f"min_healthy: {value!r} is not a share; use 0 to 1, or a percentage such")
            for value in [50, 1.1, -0.1, "half", True, "nan"]
        ),
        *(
            ("tcp", {"min_healthy": value}, f"min_healthy: {value!r} is not a share; use '0%' to '100%'")
            for value in ["101%", "-1%", "%", "x%"]
        ),
        # via
        ("tcp", {"via": "lo"}, "via: 'lo' is not known; choose one of: vip, backend"),
    ],
)
def test_bad_values(type: str, options: dict[str, Any], error: str) -> None:
    assert error_of({"type": type, **REQUIRED[type], **options}).startswith(f"{AT}.{error}")


@pytest.mark.parametrize(
    ("type", "protocol", "ports", "problem"),
    [
        ("tcp", "tcp", (), "the VIP has all ports, so name the port to check"),
        ("http", "tcp", (Ports(80, 80), Ports(443, 443)), "the VIP has several ports (80, 443), so name the port to"),
        ("https", "tcp", (Ports(8000, 8100),), "the VIP has several ports (8000-8100), so name the port to check"),
        ("tcp", "any", (), "the VIP has all ports, so name the port to check"),
        ("tcp", "udp", (Ports(53, 53),), "a check of type tcp goes over tcp, and the VIP's ports are of udp, so name"),
        ("http", "sctp", (Ports(53, 53),), "a check of type http goes over tcp, and the VIP's ports are of sctp, so"),
        ("dns", "tcp", (Ports(53, 53),), "a check of type dns goes over udp, and the VIP's ports are of tcp, so name"),
        ("dns", "udp", (Ports(53, 53), Ports(5353, 5353)), "the VIP has several ports (53, 5353), so name the port"),
    ],
)
def test_a_port_has_to_be_named(type: str, protocol: str, ports: Sequence[Ports], problem: str) -> None:
    given_options = {**REQUIRED[type], "type": type, "port": None}
    assert error_of(given_options, protocol=protocol, ports=ports).startswith(f"{AT}.port: is missing; {problem}")

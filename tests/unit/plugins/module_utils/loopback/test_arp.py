# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP as the kernel answers it, and sysctl.d as a boot applies it."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.loopback import arp
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.arp import Boot, Held, Interface, SysctlFile

VIP = "10.77.0.100"
ON_LO = [Held("lo", VIP)]
OWN = "/etc/sysctl.d/99-dsr.conf"
OURS = "net.ipv4.conf.all.arp_ignore = 1\nnet.ipv4.conf.all.arp_announce = 2\n"

# all, the NIC's own, lo's own: whether the NIC answers for an address that is on lo
ANSWERS = [
    (0, 0, 0, True),
    (0, 0, 1, True),  # lo's own value plays no part
    (0, 1, 0, False),
    (1, 0, 0, False),
    (2, 0, 0, False),
    (8, 0, 0, False),
    (1, 2, 0, False),
    (1, 8, 0, False),
    (1, 3, 0, True),
    (1, 4, 0, True),
    (1, 7, 0, True),
    (1, 9, 0, True),
    (8, 3, 0, False),
    (3, 1, 0, True),
]


@pytest.mark.parametrize(("everywhere", "nic", "lo", "expected"), ANSWERS)
def test_who_answers_for_an_address_on_lo(everywhere: int, nic: int, lo: int, expected: bool) -> None:
    interfaces = [Interface("eth0", True, nic, 0), Interface("lo", False, lo, 0)]
    assert arp.who_answers(VIP, everywhere, interfaces, ON_LO) == (["eth0"] if expected else [])


def test_who_answers_for_an_address_on_a_nic() -> None:
    interfaces = [Interface("eth0", True, 0, 0), Interface("eth1", True, 0, 0), Interface("eth2", False, 0, 0)]
    held = [*ON_LO, Held("eth1", VIP), Held("eth0", "10.77.0.21")]
    assert arp.who_answers(VIP, 0, interfaces, held) == ["eth0", "eth1"]
    assert arp.who_answers(VIP, 1, interfaces, held) == ["eth1"]
    assert arp.who_answers(VIP, 2, interfaces, held) == ["eth1"]
    assert arp.who_answers(VIP, 8, interfaces, held) == []
    assert arp.who_answers("10.77.0.99", 0, interfaces, held) == []


def test_scope_host_hides_from_3_alone() -> None:
    interfaces = [Interface("eth0", True, 0, 0)]
    held = [Held("lo", VIP, host_scope=True)]
    assert arp.who_answers(VIP, 3, interfaces, held) == []
    assert arp.who_answers(VIP, 4, interfaces, held) == ["eth0"]


NAMES = [
    ("net.ipv4.conf.all.arp_ignore", "net/ipv4/conf/all/arp_ignore"),
    ("net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/arp_ignore"),
    ("net.ipv4.conf.eth0/100.arp_ignore", "net/ipv4/conf/eth0.100/arp_ignore"),
    ("net/ipv4/conf/eth0.100/arp_ignore", "net/ipv4/conf/eth0.100/arp_ignore"),
    ("kernel", "kernel"),
]


@pytest.mark.parametrize(("given", "expected"), NAMES)
def test_names_of_sysctls(given: str, expected: str) -> None:
    assert arp.normalise(given) == expected


def test_keys_are_written_so_that_they_read_back() -> None:
    assert arp.normalise(arp.key("eth0.100", arp.IGNORE)) == arp.path_of("eth0.100", arp.IGNORE)


def test_lines_of_a_file() -> None:
    text = (
        "# one\n; two\n\n  net.ipv4.conf.all.arp_ignore=3  \n"
        "-net.ipv4.conf.eth0.arp_ignore = 1\nnonsense\n-a.b\na=b=c\n"
    )
    settings = arp.parse(SysctlFile("/etc/sysctl.d/x.conf", text))
    assert [(setting.key, setting.value, setting.line) for setting in settings] == [
        ("net/ipv4/conf/all/arp_ignore", "3", 4),
        ("net/ipv4/conf/eth0/arp_ignore", "1", 5),
        ("a/b", None, 7),
        ("a", "b=c", 8),
    ]
    assert settings[0].where == "/etc/sysctl.d/x.conf line 4"


# files as (path, text); what the boot ends with for all.arp_ignore
BOOTS: list[tuple[dict[str, str], Optional[int]]] = [
    ({}, None),
    ({OWN: OURS}, 1),
    ({OWN: OURS, "/usr/lib/sysctl.d/98-x.conf": "net.ipv4.conf.all.arp_ignore=0"}, 1),
    ({OWN: OURS, "/usr/lib/sysctl.d/99-e.conf": "net.ipv4.conf.all.arp_ignore=0"}, 0),
    ({OWN: OURS, "/run/sysctl.d/zz.conf": "net/ipv4/conf/all/arp_ignore = 0"}, 0),
    ({OWN: OURS, "/etc/sysctl.d/99-sysctl.conf": "-net.ipv4.conf.all.arp_ignore = 0"}, 0),
    # The same name in a folder of higher precedence hides ours
    ({"/usr/lib/sysctl.d/99-dsr.conf": OURS, "/etc/sysctl.d/99-dsr.conf": ""}, None),
    ({"/lib/sysctl.d/99-dsr.conf": "net.ipv4.conf.all.arp_ignore=0", "/usr/lib/sysctl.d/99-dsr.conf": OURS}, 1),
    # Patterns never touch a key that is written out, wherever they stand
    ({OWN: OURS, "/etc/sysctl.d/zz.conf": "net.ipv4.conf.*.arp_ignore = 0"}, 1),
    ({"/etc/sysctl.d/zz.conf": "net.ipv4.conf.*.arp_ignore = 3"}, 3),
    ({"/etc/sysctl.d/zz.conf": "net.ipv4.conf.*.arp_ignore = 3\n-net.ipv4.conf.all.arp_ignore"}, None),
    (
        {
            "/etc/sysctl.d/a.conf": "net.ipv4.conf.a??.arp_ignore=3",
            "/etc/sysctl.d/b.conf": "net.ipv4.conf.[ab]*.arp_ignore=2",
        },
        2,
    ),
    ({"/etc/sysctl.d/a.conf": "net.*.arp_ignore=3"}, None),  # no sign matches a separator
    # Read by nobody
    (
        {
            OWN: OURS,
            "/etc/sysctl.d/zz.txt": "net.ipv4.conf.all.arp_ignore=0",
            "/opt/zz.conf": "net.ipv4.conf.all.arp_ignore=0",
        },
        1,
    ),
    ({OWN: OURS + "net.ipv4.conf.all.arp_ignore = 0\n"}, 0),
]


@pytest.mark.parametrize(("files", "expected"), BOOTS)
@pytest.mark.parametrize("order", [1, -1])
def test_what_a_boot_ends_with(files: dict[str, str], expected: Optional[int], order: int) -> None:
    given = [SysctlFile(path, text) for path, text in sorted(files.items())[::order]]
    assert Boot(given).number("all", arp.IGNORE) == expected


CULPRITS = [
    # text of a file, its path; certain, possible
    ("net.ipv4.conf.all.arp_ignore = 0", "/etc/sysctl.d/99-z.conf", "all.arp_ignore to 0 and is applied after", ""),
    ("net.ipv4.conf.all.arp_ignore = x", "/etc/sysctl.d/99-z.conf", "all.arp_ignore to x and is applied after", ""),
    ("net.ipv4.conf.all.arp_ignore = 0", "/etc/sysctl.d/50-z.conf", "", ""),
    ("net.ipv4.conf.all.arp_ignore = 2", "/etc/sysctl.d/99-z.conf", "", ""),
    ("net.ipv4.conf.all.arp_announce = 1", "/etc/sysctl.d/99-z.conf", "all.arp_announce to 1 and is applied", ""),
    ("net.ipv4.conf.eth0.arp_ignore = 3", "/etc/sysctl.d/10-z.conf", "arp_ignore of eth0 to 3, which defeats", ""),
    ("net.ipv4.conf.*.arp_ignore = 4", "/etc/sysctl.d/10-z.conf", "arp_ignore of eth0 to 4, which defeats", ""),
    ("net.ipv4.conf.eth0.arp_ignore = 0", "/etc/sysctl.d/99-z.conf", "", ""),
    ("net.ipv4.conf.eth0.arp_ignore = 8", "/etc/sysctl.d/99-z.conf", "", ""),
    ("net.ipv4.conf.eth9.arp_ignore = 3", "/etc/sysctl.d/99-z.conf", "", "arp_ignore of eth9 to 3"),
    ("net.ipv4.conf.eth1.arp_ignore = 3", "/etc/sysctl.d/99-z.conf", "", "arp_ignore of eth1 to 3"),
    ("net.ipv4.conf.default.arp_ignore = 3", "/etc/sysctl.d/99-z.conf", "", "arp_ignore of default to 3"),
    ("net.ipv4.conf.lo.arp_ignore = 3", "/etc/sysctl.d/99-z.conf", "", ""),
]


@pytest.mark.parametrize(("text", "path", "certain", "possible"), CULPRITS)
def test_what_undoes_ours_at_boot(text: str, path: str, certain: str, possible: str) -> None:
    boot = Boot([SysctlFile(OWN, OURS), SysctlFile(path, text)])
    found = arp.culprits_at_boot(boot, OWN, {"eth0": True, "eth1": False, "lo": False})
    for messages, part in zip(found, (certain, possible)):
        assert len(messages) == bool(part), messages
        assert all(part in message and f"{path} line 1" in message for message in messages)


def test_a_file_that_a_boot_does_not_read_may_undo_ours() -> None:
    boot = Boot([SysctlFile(OWN, OURS)])
    late = SysctlFile("/etc/sysctl.conf", "net.ipv4.conf.all.arp_ignore = 0\nnet.ipv4.conf.all.arp_announce = 2\n")
    certain, possible = arp.culprits_at_boot(boot, OWN, {}, late)
    assert not certain
    assert len(possible) == 1
    assert "/etc/sysctl.conf line 1" in possible[0]
    assert "sysctl --system" in possible[0]


WANTED = [
    (arp.IGNORE, 0, 1),
    (arp.IGNORE, None, 1),
    (arp.IGNORE, 1, 1),
    (arp.IGNORE, 2, 2),
    (arp.IGNORE, 8, 8),
    (arp.IGNORE, 3, 1),
    (arp.ANNOUNCE, 0, 2),
    (arp.ANNOUNCE, 1, 2),
    (arp.ANNOUNCE, 2, 2),
]


@pytest.mark.parametrize(("name", "current", "expected"), WANTED)
def test_a_stricter_value_is_not_lowered(name: str, current: Optional[int], expected: int) -> None:
    assert arp.wanted_value(name, current) == expected


def test_a_nic_that_defeats_all_is_named() -> None:
    interfaces = [Interface("eth0", True, 3, 0), Interface("eth1", True, 1, 0), Interface("eth2", False, 3, 0)]
    (message,) = arp.culprits_now(interfaces, 1)
    assert "net.ipv4.conf.eth0.arp_ignore is 3" in message

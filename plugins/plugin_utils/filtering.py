# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters have in common: how they tell of a problem, names that are nearly right, and facts of hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Callable, TypeVar

from ansible.errors import AnsibleFilterError

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError

Answer = TypeVar("Answer")


def told(ask: Callable[[], Answer]) -> Answer:
    """The answer; a problem in the user's data as the error that Ansible shows."""
    try:
        return ask()
    except ConfigError as error:
        raise AnsibleFilterError(str(error)) from error


def require(library: Any, package: str, name: str) -> None:
    """Refuse to go on without a Python package, whose import has left None."""
    if library is None:
        raise AnsibleFilterError(
            f"dsr.layer2.{name}: the Python package {package} is missing on the controller; install it for the Python "
            f"that runs Ansible, as with: python3 -m pip install {package}"
        )


def one_of(name: Any, names: Iterable[str], path: str, what: str) -> str:
    """One of some names; another is an error that tells the nearest, or all of them."""
    text, known = str(name), list(names)
    if text in known:
        return text
    raise ConfigError(path, f"there is no {what} {text!r}; {suggestion(text, known)}")


def suggestion(text: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not there."""
    names = list(known)
    near = get_close_matches(text, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"


def macs_of(facts: Any) -> Iterator[str]:
    """The MAC addresses of a host's NICs, from its ansible_facts."""
    if isinstance(facts, Mapping):
        for name in facts.get("interfaces") or ():
            nic = facts.get(str(name).replace("-", "_"))
            if isinstance(nic, Mapping) and nic.get("macaddress"):
                yield str(nic["macaddress"]).lower()

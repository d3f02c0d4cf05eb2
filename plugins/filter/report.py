# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks of `report` have registered, as a page for a browser and as lines for the output of the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Callable

from ansible_collections.dsr.layer2.plugins.filter.pools import pools, pools_problem
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.plugin_utils.filtering import told
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.gathering import BALANCERS, Groups, HostVars, gathered
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.model import Site, site_of
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.news import lines, news_of
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.page import page_of

_ENDINGS = (".html", ".htm")


def _site(vips: Any, hosts: Sequence[Any], hostvars: HostVars, groups: Groups, at: str, probing: bool) -> Site:
    if vips in (None, ""):
        return site_of(gathered(None, "", hosts, hostvars, groups, str(at), probing))
    problem = pools_problem(vips, hosts, groups.get(BALANCERS, ()), True)
    # With all defaults and every address and port written as load balancers write them
    wanted = None if problem else [vip.options() for vip in model.parse_vips(pools(vips, hosts), "dsr_vips")]
    return site_of(gathered(wanted, problem, hosts, hostvars, groups, str(at), probing))


def report_page(
    vips: Any, hosts: Sequence[Any], hostvars: HostVars, groups: Groups, at: str, probing: bool = True
) -> str:
    """The page."""
    return told(lambda: page_of(_site(vips, hosts, hostvars, groups, at, probing)))


def report_news(
    vips: Any, hosts: Sequence[Any], hostvars: HostVars, groups: Groups, at: str, probing: bool = True
) -> list[str]:
    """What there is to look at, the worst first, below a line that sums it up."""

    def ask() -> list[str]:
        site = _site(vips, hosts, hostvars, groups, at, probing)
        return lines(site, news_of(site))

    return told(ask)


def report_file(path: Any) -> str:
    """Where the page goes, from what a person may have typed: an absolute path on the controller."""
    return told(lambda: _file(path))


def _file(path: Any) -> str:
    name = "dsr_report_file"
    if not isinstance(path, str) or not path.strip():
        raise ConfigError(name, f"must be the path of a file on the controller, not {path!r}")
    text = path.strip()
    if not text.isprintable():
        raise ConfigError(name, f"{text!r} has characters that no path should have")
    if not text.lower().endswith(_ENDINGS):
        # So no slip of a finger makes a page of a file that is something else.
        raise ConfigError(name, f"{text} must end in .html or .htm")
    full = os.path.realpath(os.path.expanduser(text))
    if os.path.exists(full) and not os.path.isfile(full):
        raise ConfigError(name, f"{full} is there, and is no file")
    folder = os.path.dirname(full)
    if not os.path.isdir(folder):
        raise ConfigError(name, f"there is no folder {folder} on the controller; make it, or choose another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(name, f"the user who runs Ansible may not write in the folder {folder}; choose another one")
    return full


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"report_file": report_file, "report_news": report_news, "report_page": report_page}

# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of the agent that the role installs: where they are, and what becomes of a host that cannot have them."""

from __future__ import annotations

import re
import shlex

from .conftest import Site

_UNIT = "/etc/systemd/system/nft-dsr-agent.service"
_GET = "import urllib.request; print(urllib.request.urlopen('http://%s/metrics', timeout=30).read().decode())"


def command(site: Site) -> str:
    """How the unit starts the agent."""
    match = re.search(r"^ExecStart=(.*)$", site.lab.read("lb", _UNIT), re.MULTILINE)
    assert match
    return match[1]


def test_the_agent_serves_them_where_they_are_wanted(site: Site) -> None:
    """By the very command of the unit."""
    site.variables["load_balancer_agent"] = True
    for wanted in ("127.0.0.1:9817", "[::1]:9999"):
        # The first is the default.
        if wanted != "127.0.0.1:9817":
            site.variables["load_balancer_agent_metrics"] = wanted
        site.ok("site", dsr_verify=False)
        again = site.ok("site", dsr_verify=False)
        assert not any(again.changed.values()), again.output
        with site.lab.popen("lb", shlex.split(command(site))) as agent:
            agent.wait_for(f"metrics: http://{wanted}/metrics")
            agent.wait_for("began; VIPs: 1, checked: 0, checks: 0")
            page = site.lab.run("lb", ["/usr/bin/python3", "-c", _GET % wanted]).stdout
        assert set(re.findall(r'^nft_dsr_backend_up{.*backend="(.*?)".*} 1\.0$', page, re.MULTILINE)) == {
            site.lab.hosts[name].address for name in ("b1", "b2", "b3")
        }

    site.variables["load_balancer_agent_metrics"] = ""
    site.ok("site", dsr_verify=False)
    assert command(site).endswith("/nft-dsr.pyz run")


def test_a_host_that_cannot_have_them_is_told_so(site: Site) -> None:
    """And has all the rest."""
    python = "/usr/local/bin/python-of-its-own"
    site.lab.write("lb", python, '#!/bin/sh\nexec /usr/bin/python3 -S "$@"\n')
    site.lab.run("lb", ["chmod", "755", python])
    site.variables.update({"load_balancer_agent": True, "load_balancer_agent_python": python})
    play = site.ok("site", dsr_verify=False)
    assert f"lb serves no metrics: {python} has no prometheus_client (it was not installed)" in play.text
    assert not any(site.ok("site", dsr_verify=False).changed.values())
    with site.lab.popen("lb", shlex.split(command(site))) as agent:
        agent.wait_for("began; VIPs: 1, checked: 0, checks: 0")
        assert "there are no metrics, as prometheus_client is not there for this Python" in agent.printed()

#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_vrrp_info
version_added: 0.1.0
short_description: Find out who speaks VRRP on a segment
description:
  - Listens for adverts of VRRP, of versions 2 and 3, of IPv4 and IPv6, that come in on a network interface, and tells
    who sent them. It sends nothing.
  - A virtual router id that two groups of hosts use on one segment breaks both. This finds those that are taken.
  - Adverts by unicast are heard only where the network brings them.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
options:
  interface:
    description:
      - The network interface to listen on.
    type: str
    required: true
  seconds:
    description:
      - How long to listen, from V(0.1) to V(600).
      - The default hears whoever sends once in a second, as most do, three times.
    type: float
    default: 3.5
notes:
  - Needs root, or the capability C(CAP_NET_RAW).
seealso:
  - module: dsr.layer2.dsr_neighbour_info
"""

EXAMPLES = r"""
- name: Listen for routers that are there already
  dsr.layer2.dsr_vrrp_info:
    interface: eth0
  register: vrrp

- name: Find a free virtual router id
  ansible.builtin.debug:
    msg: "{{ range(1, 256) | difference(vrrp.routers | map(attribute='router_id')) | first }}"
"""

RETURN = r"""
routers:
  description: Who was heard, by address and virtual router id. The last advert of each counts.
  returned: always
  type: list
  elements: dict
  contains:
    source:
      description: The address that the adverts come from.
      type: str
    version:
      description: The version of VRRP, 2 or 3.
      type: int
    router_id:
      description: The virtual router id.
      type: int
    priority:
      description: The priority. 0 says that the sender gives up, 255 that it owns the addresses.
      type: int
    interval:
      description: The interval of the adverts, in seconds.
      type: float
  sample:
    - source: 192.0.2.3
      version: 3
      router_id: 100
      priority: 200
      interval: 0.1
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common import bpf, vrrp
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError, DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet_socket import (
    ALL_PROTOCOLS,
    PacketSocket,
    ethernet_link,
)


def listen(interface: str, seconds: float) -> list[vrrp.Advert]:
    """The last advert of each router that was heard, in order."""
    if not 0.1 <= seconds <= 600:
        raise ConfigError("seconds", f"{seconds:g} is not between 0.1 and 600")
    link = ethernet_link(Iproute(), interface)
    heard = {}
    with PacketSocket(link, ALL_PROTOCOLS, bpf.adverts(vrrp.PROTOCOL_VRRP)) as channel:
        channel.hear_all_multicast()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            channel.wait(deadline)
            for frame, _when in channel.frames():
                advert = vrrp.parse(frame)
                if advert is not None:
                    heard[advert.source, advert.router_id] = advert
    return sorted(heard.values(), key=lambda one: (one.source.version, one.source.packed, one.router_id))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "required": True},
            "seconds": {"type": "float", "default": 3.5},
        },
        supports_check_mode=True,
    )
    try:
        heard = listen(module.params["interface"], module.params["seconds"])
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, routers=[advert.told() for advert in heard])


if __name__ == "__main__":
    main()

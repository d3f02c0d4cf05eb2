#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_vip_frames
version_added: 0.1.0
short_description: Find out whether a network lets frames of VIPs pass
description:
  - Clouds and hypervisors drop frames whose addresses they do not know, and Layer 2 DSR lives by such frames. The load
    balancer sends to a backend what is addressed to the VIP, and backends send in the VIP's name.
  - On one host it listens in the background; on another it sends, and then the first one tells what it heard.
  - A frame holds a datagram of UDP from port 9 to port 9 (discard) with a mark. On a segment it has a time to live of
    1, so that nobody forwards it. It does no harm on a live VIP.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2, to send
attributes:
  check_mode:
    support: full
    details:
      - It changes nothing, so in check mode it does the same. That means that it sends and listens in check mode too.
options:
  state:
    description:
      - V(listen) starts a process that hears frames of this O(marker) on all network interfaces, before any firewall of
        the host. It listens by the time the task ends. It writes no file, ends when it is asked by V(heard), or after
        O(seconds), and holds port 9 of UDP meanwhile, so that nobody answers.
      - V(send) sends O(frames), each of them twice.
      - V(heard) returns what the listener has heard, and ends it.
    type: str
    choices: [listen, send, heard]
    required: true
  marker:
    description:
      - What all hosts of one run have in common, and no other run has. 8 to 32 of the characters C(0-9) and C(a-f).
    type: str
    required: true
  seconds:
    description:
      - How long a listener waits at most, up to V(3600).
    type: float
    default: 300.0
  sender:
    description:
      - What the frames say about who sent them, up to 128 characters of ASCII without spaces.
    type: str
    default: ''
  frames:
    description:
      - What to send.
    type: list
    elements: dict
    default: []
    suboptions:
      sources:
        description:
          - The addresses to send from, IPv4 or IPv6. They need not be this host's.
        type: list
        elements: str
        required: true
      destinations:
        description:
          - The addresses to send to, from each of the sources.
        type: list
        elements: str
        required: true
      mac:
        description:
          - The MAC address to send to.
          - By default that of the destination or, if that is behind a router, of the router; they are asked.
        type: str
      interface:
        description:
          - The network interface to send on. By default the one with the route to the destination.
        type: str
notes:
  - Needs root, or the capability C(CAP_NET_RAW).
seealso:
  - module: dsr.layer2.dsr_preflight_info
"""

EXAMPLES = r"""
- name: Listen on the backend
  dsr.layer2.dsr_vip_frames:
    state: listen
    marker: 5e1f0c2a

- name: Send to it what is addressed to the VIP, and to its own address for comparison
  dsr.layer2.dsr_vip_frames:
    state: send
    marker: 5e1f0c2a
    sender: lb1
    frames:
      - mac: 52:54:00:00:00:21
        interface: eth0
        sources: [192.0.2.2]
        destinations: [192.0.2.21, 192.0.2.100]
  delegate_to: lb1

- name: See what came
  dsr.layer2.dsr_vip_frames:
    state: heard
    marker: 5e1f0c2a
  register: there
"""

RETURN = r"""
listening:
  description: That somebody listens.
  returned: with O(state=listen)
  type: bool
  sample: true
heard:
  description: What the listener heard, by interface and sender.
  returned: with O(state=heard)
  type: list
  elements: dict
  contains:
    interface:
      description: The network interface on which it came.
      type: str
    sender:
      description: Who it says that it is of.
      type: str
    packets:
      description: Source and destination of each, once.
      type: list
      elements: str
  sample:
    - interface: eth0
      sender: lb1
      packets: ["192.0.2.2 > 192.0.2.100", "192.0.2.2 > 192.0.2.21"]
sent:
  description: How many different frames were sent.
  returned: with O(state=send)
  type: int
  sample: 2
problems:
  description: Why others were not, in sentences.
  returned: with O(state=send)
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.preflight import frames, listening


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["listen", "send", "heard"], "required": True},
            "marker": {"type": "str", "required": True},
            "seconds": {"type": "float", "default": 300.0},
            "sender": {"type": "str", "default": ""},
            "frames": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "sources": {"type": "list", "elements": "str", "required": True},
                    "destinations": {"type": "list", "elements": "str", "required": True},
                    "mac": {"type": "str"},
                    "interface": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    answer: dict[str, Any] = {}
    try:
        marker = frames.parse_marker(module.params["marker"])
        if module.params["state"] == "listen":
            listening.listen(marker, module.params["seconds"])
            answer = {"listening": True}
        elif module.params["state"] == "send":
            sender = frames.parse_sender(module.params["sender"])
            sent, problems = listening.send(marker, sender, frames.parse_orders(module.params["frames"]))
            answer = {"sent": sent, "problems": problems}
        else:
            answer = {"heard": listening.heard(marker)}
    except DsrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_probe
version_added: 0.1.0
short_description: Prove from reply frames that Direct Server Return works
description:
  - Plays client of a virtual IP (VIP) and tells, for each connection, which MAC address the replies came from.
    With Direct Server Return that is a backend's; if it is the load balancer's, the reply went the long way.
  - Runs on any host of the segment that is neither the load balancer nor a backend of the VIP. A host that holds
    the VIP itself can only use it with O(through).
  - A TCP connection is opened, closed, and watched until the server has acknowledged the close. So a service
    whose packets are spread over several backends is found out, although its handshakes look fine.
  - At most 50 connections are open at a time. A service that does not answer at all
    therefore takes O(timeout) seconds for every 50 of O(connections).
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.info_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2
attributes:
  check_mode:
    support: full
    details:
      - It changes nothing, so in check mode it does the same. That means that it sends packets in check mode too.
options:
  address:
    description:
      - The VIP, an IPv4 or IPv6 address.
    type: str
    required: true
  port:
    description:
      - The port of the service.
    type: int
    required: true
  protocol:
    description:
      - V(tcp) opens connections, V(udp) sends one datagram from each of as many ports and waits for an answer.
    type: str
    choices: [tcp, udp]
    default: tcp
  connections:
    description:
      - How many connections to open, or datagrams to send; from 1 to 10000. Each is from a source port of its own.
    type: int
    default: 30
  timeout:
    description:
      - How many seconds each connection may take, from its first packet to the acknowledged close.
    type: float
    default: 2.0
  interface:
    description:
      - The network interface to probe from.
      - By default the one that the route to O(address) goes by. On a host that holds O(address) it is the one that
        holds it or, failing that, the one where O(through) is a neighbour.
    type: str
  expect_direct:
    description:
      - If V(true), the task fails unless every connection was answered, directly by one backend. The results
        are returned nevertheless.
      - If V(false), the task reports what it found and does not fail for it.
    type: bool
    default: true
  lb_mac:
    description:
      - The MAC of the load balancer. Replies from it are not direct.
      - By default the one that answers ARP (for IPv6, neighbour solicitations) for O(address), or for the gateway of
        the route to it, asked anew. If none answers, the kernel's neighbour entry. If several answer, it is not known,
        and nothing counts as direct.
    type: str
  through:
    description:
      - Address the packets to this MAC, and not to the neighbour that has O(address). They are built as raw frames,
        so that the host may even hold O(address) itself.
      - With the MAC of a backend this asks, from the load balancer or any other host, whether that backend answers
        for the VIP. It does not pass the load balancer's rules. A TCP probe ends with the handshake (SYN, SYN-ACK,
        RST), which the application does not notice.
      - A reply is direct, then, if it comes from this MAC. A backend that replies from another one (some bonds
        do) needs O(expect_direct=false).
    type: str
  payload:
    description:
      - What to send, as text (UTF-8, 1400 bytes at most). For bytes that are not text, use the escapes of a
        double-quoted YAML string, up to C(\x7f).
      - By default V(dsr-probe) with O(protocol=udp), and nothing with O(protocol=tcp). Choose something
        that the service answers.
      - Not with O(protocol=tcp) and O(through) together.
    type: str
notes:
  - Needs root, or the capability C(CAP_NET_RAW).
  - Ansible keeps the result C(failed) for itself. RV(ignore:failed) is V(0) if no connection failed; if any did,
    look at RV(unanswered).
seealso:
  - module: dsr.layer2.dsr_neighbour_info
"""

EXAMPLES = r"""
- name: Prove that replies come straight from the backends
  dsr.layer2.dsr_probe:
    address: 192.0.2.100
    port: 80

- name: See how 1000 connections are spread, whatever the result
  dsr.layer2.dsr_probe:
    address: 192.0.2.100
    port: 80
    connections: 1000
    expect_direct: false
  register: probe

- name: Show connections per backend
  ansible.builtin.debug:
    msg: "{{ probe.backends | items2dict(key_name='mac', value_name='connections') }}"

- name: Ask a DNS service for the root's name servers
  dsr.layer2.dsr_probe:
    address: 192.0.2.53
    port: 53
    protocol: udp
    payload: "\x12\x34\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01"

- name: On the load balancer, check that a backend answers for the VIP
  dsr.layer2.dsr_probe:
    address: 192.0.2.100
    port: 80
    interface: eth0
    through: 52:54:00:00:00:21
    connections: 1
"""

RETURN = r"""
address:
  description: The VIP that was probed.
  returned: when packets were sent
  type: str
  sample: 192.0.2.100
port:
  description: The port that was probed.
  returned: when packets were sent
  type: int
  sample: 80
protocol:
  description: The protocol that was probed.
  returned: when packets were sent
  type: str
  sample: tcp
interface:
  description: The network interface that the probe was made on.
  returned: when packets were sent
  type: str
  sample: eth0
lb_mac:
  description: The MAC taken for the load balancer's; null if it is not known.
  returned: when packets were sent
  type: str
  sample: "52:54:00:00:00:02"
arp_macs:
  description:
    - Every MAC that answered ARP, or for IPv6 neighbour solicitations, for the VIP, or for the gateway of the route to
      it. More than one means that ARP is not suppressed on a backend, or that a backend holds an IPv6 VIP on its NIC.
      Not asked for an address that this host holds itself.
  returned: when packets were sent
  type: list
  elements: str
  sample: ["52:54:00:00:00:02"]
answered:
  description: The number of connections that were answered.
  returned: when packets were sent
  type: int
  sample: 30
failed:
  description:
    - V(0), the number of connections that failed, if none did. Otherwise Ansible puts V(true) or V(false) here,
      which tells whether the task failed; RV(unanswered) has the number.
  returned: always
  type: raw
  sample: 0
unanswered:
  description: The number of connections that failed.
  returned: when packets were sent
  type: int
  sample: 0
direct:
  description: The number of connections of which every reply came straight from a backend.
  returned: when packets were sent
  type: int
  sample: 30
through_lb:
  description: The number of connections with a reply that came from the load balancer's MAC.
  returned: when packets were sent
  type: int
  sample: 0
backends:
  description: The MACs that answered, with the connections that each one answered first.
  returned: when packets were sent
  type: list
  elements: dict
  contains:
    mac:
      description: The source MAC of the replies.
      type: str
    connections:
      description: The number of connections.
      type: int
    direct:
      description: Whether this is a backend's MAC, and not the load balancer's; null if that is not known.
      type: bool
    rtt_ms:
      description:
        - The time in milliseconds from the first packet to the first reply, as C(min), C(median)
          and C(max).
      type: dict
  sample:
    - connections: 16
      direct: true
      mac: "52:54:00:00:00:21"
      rtt_ms: {max: 0.41, median: 0.22, min: 0.18}
    - connections: 14
      direct: true
      mac: "52:54:00:00:00:22"
      rtt_ms: {max: 0.4, median: 0.21, min: 0.17}
failures:
  description: Why connections failed, the most frequent cause first.
  returned: when packets were sent
  type: list
  elements: dict
  contains:
    cause:
      description: What happened, and by whom if that is known.
      type: str
    connections:
      description: To how many connections it happened.
      type: int
  sample:
    - cause: refused (TCP RST) by 52:54:00:00:00:23
      connections: 9
connections:
  description: Every connection, in the order in which they ended.
  returned: when packets were sent
  type: list
  elements: dict
  contains:
    source_port:
      description: The port that it came from.
      type: int
    mac:
      description: The MAC that answered first; null if none did.
      type: str
    macs:
      description: All MACs that replies came from, in the order of their appearance.
      type: list
      elements: str
    direct:
      description: Whether every reply came straight from a backend; null if that cannot be told.
      type: bool
    rtt_ms:
      description: The time in milliseconds from the first packet to the first reply.
      type: float
    error:
      description: Why it failed; null if it did not.
      type: str
  sample:
    - direct: true
      error: null
      mac: "52:54:00:00:00:21"
      macs: ["52:54:00:00:00:21"]
      rtt_ms: 0.22
      source_port: 41234
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import parse
from ansible_collections.dsr.layer2.plugins.module_utils.probe.run import probe


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            "connections": {"type": "int", "default": 30},
            "timeout": {"type": "float", "default": 2.0},
            "interface": {"type": "str"},
            "expect_direct": {"type": "bool", "default": True},
            "lb_mac": {"type": "str"},
            "through": {"type": "str"},
            "payload": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        request = parse(module.params)
        figures, problem = probe(request)
    except DsrError as error:
        module.fail_json(msg=str(error))
    if problem and request.expect_direct:
        module.fail_json(msg=problem, **figures)
    if not figures["unanswered"]:
        figures["failed"] = 0  # any other number would fail the task
    module.exit_json(changed=False, **figures)


if __name__ == "__main__":
    main()

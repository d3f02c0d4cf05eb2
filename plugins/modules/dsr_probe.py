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
  - With O(hold) connections are kept open, all at the same time, while something else happens (a failover, a drain,
    an upgrade). The results tell how many broke, how many moved to another backend, and how long answers were missing.
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
      - With O(hold) it is sent every O(interval) on each connection, and any answer counts.
      - Not with O(protocol=tcp) and O(through) together.
    type: str
  hold:
    description:
      - For how many seconds to keep the connections open, from the moment when all of them stand; up to 86400.
        V(0) opens and closes them.
      - Run the task with C(async) and C(poll) V(0), so that the play goes on meanwhile (see the examples).
      - A TCP connection counts as kept open if at the end the server acknowledges its close, and a UDP flow (the same
        addresses and ports) if at the end it is answered.
      - Not with O(through), which goes around the load balancer.
    type: float
    default: 0
    version_added: 0.1.0
  interval:
    description:
      - With O(hold), how many seconds pass between two questions on each connection. All together, at most 5000
        questions a second can be asked.
      - With O(protocol=tcp) and no O(payload), the questions are TCP keepalives, which any server answers and no
        application notices. Kernels send them in whole seconds, so O(interval) is rounded up to one. The kernel takes
        a connection for broken when 127 of them in a row were not answered.
      - A gap is measured no finer than this.
    type: float
    default: 0.2
    version_added: 0.1.0
  max_broken:
    description:
      - With O(hold) and O(expect_direct=true), the task fails if more connections than these broke. A connection that
        the service closed in order is not broken, but the task fails if the service closed all of them.
      - A TCP connection breaks when it is reset, or when it is silent to the end. If its packets reach another backend,
        that one resets it. A UDP flow breaks when it is not answered at the end.
    type: int
    default: 0
    version_added: 0.1.0
  max_moved:
    description:
      - With O(hold) and O(expect_direct=true), the task fails if more connections than these moved, that is,
        were answered by another MAC than before. This happens to UDP flows; what is moved of TCP breaks.
    type: int
    default: 0
    version_added: 0.1.0
notes:
  - Needs root, or the capability C(CAP_NET_RAW).
  - With O(hold), who answers for the address is asked before connections are opened. A second load balancer that takes
    over meanwhile is not known as one; replies that come through it count as moved.
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

# A drain breaks no connection: keep 200 open for half a minute, drain a backend meanwhile, and see.
- name: Keep connections open in the background
  dsr.layer2.dsr_probe:
    address: 192.0.2.100
    port: 80
    connections: 200
    hold: 30
  async: 120
  poll: 0
  register: background

- name: Let all of them stand
  ansible.builtin.pause:
    seconds: 3

- name: Drain a backend
  dsr.layer2.nft_dsr_drain:
    backend: web1
  delegate_to: lb1

- name: See what became of the connections, and fail if any broke or moved
  ansible.builtin.async_status:
    jid: "{{ background.ansible_job_id }}"
  register: kept
  until: kept is finished
  delay: 2
  retries: 60

- name: Show the longest time without an answer
  ansible.builtin.debug:
    msg: "{{ kept.held }} of {{ kept.answered }} held, {{ kept.longest_gap_ms }} ms from {{ kept.longest_gap_at }} on"

- name: See how long a DNS service is gone when a load balancer fails, and that flows find a backend afterwards
  dsr.layer2.dsr_probe:
    address: 192.0.2.53
    port: 53
    protocol: udp
    payload: "\x12\x34\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01"
    connections: 50
    hold: 20
    interval: 0.1
    max_moved: 50
  register: kept
  failed_when: kept is failed or kept.longest_gap_ms > 1000
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
    held:
      description: With O(hold), how many were kept open to the end, and were with this backend then.
      type: int
    broken:
      description: With O(hold), how many broke that this backend had answered last.
      type: int
    closed:
      description: With O(hold), how many this backend closed.
      type: int
    moved_away:
      description: With O(hold), how often a connection moved from here to another backend.
      type: int
    moved_here:
      description: With O(hold), how often a connection moved from another backend to here.
      type: int
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
    outcome:
      description: With O(hold), what became of it, V(held), V(broken) or V(closed); null if it was never answered.
      type: str
    cause:
      description: With O(hold), why it broke; null if it did not.
      type: str
    ended_at:
      description: With O(hold), when it broke or was closed (UTC); null if it was kept open.
      type: str
    longest_gap_ms:
      description: With O(hold), the longest time between two answers.
      type: float
  sample:
    - direct: true
      error: null
      mac: "52:54:00:00:00:21"
      macs: ["52:54:00:00:00:21"]
      rtt_ms: 0.22
      source_port: 41234
hold_began:
  description: When all connections stood (UTC).
  returned: with O(hold), when packets were sent
  type: str
  sample: "2026-01-31T12:00:00.000Z"
held:
  description: The number of connections that were kept open to the end.
  returned: with O(hold), when packets were sent
  type: int
  sample: 196
broken:
  description: The number of connections that broke.
  returned: with O(hold), when packets were sent
  type: int
  sample: 3
closed:
  description: The number of connections that the service closed in order, before the time was over.
  returned: with O(hold), when packets were sent
  type: int
  sample: 1
moved:
  description: The number of connections that another backend answered than before. They are among the others as well.
  returned: with O(hold), when packets were sent
  type: int
  sample: 0
longest_gap_ms:
  description:
    - The longest time in milliseconds between two answers on one connection, the time between two questions included;
      null if no connection was answered.
  returned: with O(hold), when packets were sent
  type: float
  sample: 1034.2
longest_gap_at:
  description: When the last answer before that time came (UTC).
  returned: with O(hold), when packets were sent
  type: str
  sample: "2026-01-31T12:00:11.204Z"
breaks:
  description: Why connections broke, the most frequent cause first.
  returned: with O(hold), when packets were sent
  type: list
  elements: dict
  contains:
    cause:
      description: What happened, and by whom if that is known.
      type: str
    connections:
      description: To how many connections it happened.
      type: int
    first_at:
      description: When it happened first (UTC).
      type: str
    last_at:
      description: When it happened last (UTC).
      type: str
  sample:
    - cause: reset by 52:54:00:00:00:22, which is not the backend that it was with
      connections: 3
      first_at: "2026-01-31T12:00:12.001Z"
      last_at: "2026-01-31T12:00:12.950Z"
moves:
  description: From which backend to which connections moved, the most frequent first.
  returned: with O(hold), when packets were sent
  type: list
  elements: dict
  contains:
    from:
      description: The MAC that answered before.
      type: str
    to:
      description: The MAC that answered then.
      type: str
    connections:
      description: How often that happened.
      type: int
    first_at:
      description: When it happened first (UTC).
      type: str
    last_at:
      description: When it happened last (UTC).
      type: str
  sample: []
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
            "hold": {"type": "float", "default": 0},
            "interval": {"type": "float", "default": 0.2},
            "max_broken": {"type": "int", "default": 0},
            "max_moved": {"type": "int", "default": 0},
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

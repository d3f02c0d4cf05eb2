#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_vip_address
short_description: Virtual IPs on a NIC of a Layer 2 DSR load balancer, now and after a boot
version_added: 0.1.0
description:
  - Puts the virtual IPs (VIPs) of a load balancer on the NIC that clients reach it by, so that it answers ARP, or for
    IPv6 neighbour solicitations, for them. The VIP modules do not; see M(dsr.layer2.nft_dsr_vips).
  - What runs and what a boot would bring back are both compared with what is asked for, and both repaired.
  - An IPv6 VIP is held with a preferred lifetime of 0 (C(deprecated)). It is answered for as any other address, but the
    host never chooses it as its own when it speaks to somebody, which by the rules of IPv6 it often would; the answers
    to that would go to a backend. One that is there without that is set again.
  - Do not use it where something else moves the addresses between hosts, such as keepalived.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.state_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2 on the load balancer
  - root on the load balancer
options:
  addresses:
    description:
      - The VIPs, IPv4 or IPv6, without a prefix length. They are held as /32 and /128.
      - Unspecified, loopback, multicast, link-local and broadcast addresses are refused, as are the network and
        broadcast address of a network that this host is on, an address that this host has as its own, and duplicates.
      - An empty list is valid with O(purge=true) only, and takes away all that this module put there.
    type: list
    elements: str
    required: true
  interface:
    description:
      - The NIC that holds them.
      - An address that this module put on another NIC earlier is an error; take it off there first.
    type: str
    required: true
  state:
    description:
      - V(present) puts the addresses on the NIC, V(absent) takes them off and removes the files when none is left.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - Remove other addresses that this module put on O(interface) earlier.
      - It knows them from its own files and from a memory in C(/var/lib/nft-dsr/vip-address.json). Addresses of
        anybody else are never touched.
    type: bool
    default: false
  persist:
    description:
      - What brings the addresses back at boot. A NIC is never handed to anything that did not manage it before.
      - V(netplan) is O(netplan_file), a file of its own, with the name that the host's own files have for the NIC.
        Before it is installed, C(netplan generate) renders all files of the host together with it in a scratch
        folder, and nothing but the addresses may change by it.
      - V(networkd) is a drop-in for the C(.network) file by which systemd-networkd manages the NIC.
      - V(networkmanager) is a script in C(/etc/NetworkManager/dispatcher.d). NetworkManager takes addresses off a NIC
        that its connection profile does not have, when the profile is activated or applied again and when the carrier
        comes back; it then runs the script, which puts them on again. The profile stays as it is. Versions that run no
        script after C(nmcli device reapply) (1.30 does not, 1.42 does) leave the addresses off after that command.
      - V(ifupdown) is a file of its own in C(/etc/network/interfaces.d), if C(/etc/network/interfaces) has it read.
        Before it is installed, C(ifup --no-act) has to take it.
      - V(systemd) is the unit C(nft-dsr-addresses.service), enabled at boot and each time the NIC comes back.
        Where PID 1 is not systemd its files are written and wait for it.
      - V(none) brings nothing back.
      - V(auto) takes what is enabled and manages this very NIC, in the order of netplan, systemd-networkd,
        NetworkManager and ifupdown, and V(systemd) if none does, or does so by a pattern that can match other NICs as
        well.
      - A choice that would not work on this host is an error that says why.
      - Files that this module wrote for another choice earlier are removed.
    type: str
    choices: [auto, netplan, networkd, networkmanager, ifupdown, systemd, none]
    default: auto
  netplan_file:
    description:
      - The file with the addresses where netplan manages the NIC, in C(/etc/netplan).
      - A file at this path that something else wrote is an error. It is never overwritten, never merged into.
    type: path
    default: /etc/netplan/99-dsr.yaml
  check_duplicate:
    description:
      - Before an address is added, ask by ARP, or for IPv6 by neighbour solicitations, whether another host has it. An
        answer is an error that names the MAC address, and nothing is changed.
      - It takes a second for each family, and only when an address is added.
      - The kernel's own duplicate address detection of IPv6 is left out at run time, so that the address serves at
        once. At boot it is up to what brings the address back.
    type: bool
    default: true
  announce:
    description:
      - Send gratuitous ARP, or for IPv6 unsolicited neighbour advertisements, for addresses that were added, so that
        neighbours forget who had them before.
    type: bool
    default: true
notes:
  - The ARP settings of the host are left alone. An C(arp_ignore) of 8, with which no address is answered for, is an
    error.
  - At run time addresses are set by iproute2. Neither C(netplan apply) nor C(networkctl reload) is ever called,
    no profile of NetworkManager is activated and no interface brought up by ifupdown, since all of that touches what
    belongs to others.
seealso:
  - module: dsr.layer2.dsr_backend_loopback
  - module: dsr.layer2.nft_dsr_vips
"""

EXAMPLES = r"""
- name: Answer for two virtual IPs on eth0
  dsr.layer2.dsr_vip_address:
    interface: eth0
    addresses:
      - 192.0.2.100
      - 2001:db8::100

- name: Answer for this one, and none of those that were there before
  dsr.layer2.dsr_vip_address:
    interface: eth0
    addresses:
      - 192.0.2.101
    purge: true

- name: Be no load balancer any more
  dsr.layer2.dsr_vip_address:
    interface: eth0
    addresses: []
    purge: true
"""

RETURN = r"""
msg:
  description: What is there now, or would be in check mode, in a sentence.
  returned: success
  type: str
  sample: 192.0.2.100 on eth0, brought back at boot by netplan, which manages eth0 (/etc/netplan/99-dsr.yaml)
persist:
  description: What brings the addresses back at boot; never V(auto).
  returned: success
  type: str
  sample: netplan
files:
  description: The files of this module that a boot reads, as they are when it is done.
  returned: success
  type: list
  elements: str
  sample:
    - /etc/netplan/99-dsr.yaml
addresses:
  description: All addresses that this module has put on O(interface), those of earlier runs included.
  returned: success
  type: list
  elements: str
  sample:
    - 192.0.2.100
steps:
  description: What was done, in this order, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample:
    - write /var/lib/nft-dsr/vip-address.json
    - write /etc/netplan/99-dsr.yaml
    - netplan generate
    - ip address replace 192.0.2.100/32 dev eth0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import vip_address
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.host import Host
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.persisted import NETPLAN_FILE


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "interface": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "persist": {"type": "str", "choices": list(vip_address.PERSIST), "default": "auto"},
            "netplan_file": {"type": "path", "default": NETPLAN_FILE},
            "check_duplicate": {"type": "bool", "default": True},
            "announce": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        outcome = vip_address.ensure(Host(), module.params, module.check_mode)
    except DsrError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**outcome.result("addresses"))


if __name__ == "__main__":
    main()

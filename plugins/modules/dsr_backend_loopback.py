#!/usr/bin/python
# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dsr_backend_loopback
short_description: Virtual IPs on the loopback of a Layer 2 DSR backend, not answered for by ARP
version_added: 0.1.0
description:
  - A backend of Layer 2 Direct Server Return holds the virtual IPs (VIPs) that it serves on its loopback, and never
    answers ARP for them; the load balancer alone does. This module sees to both, now and after a boot.
  - What runs and what a boot would bring back are both compared with what is asked for, and both repaired.
  - Order matters. ARP is suppressed before a VIP appears, and a VIP is gone before the suppression is lifted, so that
    no client ever learns this host's MAC address for it.
  - The kernel suppresses by the higher of C(net.ipv4.conf.all.arp_ignore) and the value of the NIC that is asked;
    1, 2 and 8 suppress, 0 and 3 to 7 do not, and the value of C(lo) plays no part. This module sets C(all) to 1,
    and C(net.ipv4.conf.all.arp_announce) to 2, so that the host does not name a VIP in its own requests either.
    A value of 2 or 8 that the administrator chose is left.
  - IPv6 needs no suppression, as neighbour solicitations are answered by the NIC that holds the address only. With IPv6
    VIPs alone the ARP settings are left as they are. There is no duplicate address detection on C(lo).
  - An IPv6 VIP is held with a preferred lifetime of 0 (C(deprecated)), so that the host never chooses it as its own
    when it speaks to somebody. One that is there without that is set again.
  - At run time addresses and sysctls are set one by one, by iproute2 and in C(/proc/sys). Neither C(netplan apply) nor
    C(sysctl --system) nor C(networkctl reload) is ever called, no profile of NetworkManager is activated and no
    interface brought up by ifupdown, since all of that touches what belongs to others.
author:
  - dsr.layer2 authors (@dsr-layer2)
extends_documentation_fragment:
  - dsr.layer2.attributes
  - dsr.layer2.attributes.state_module
  - dsr.layer2.attributes.actiongroup
requirements:
  - iproute2 on the backend
  - root on the backend
options:
  vips:
    description:
      - The VIPs, IPv4 or IPv6, without a prefix length. They are held as /32 and /128.
      - Unspecified, loopback, multicast, link-local and broadcast addresses are refused, as are the network and
        broadcast address of a network that this host is on, and duplicates.
      - An empty list is valid with O(purge=true) only, and takes away all that this module put there.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) puts the VIPs on the interface, V(absent) takes them off.
      - When no IPv4 VIP of this module is left on the host, ARP suppression is lifted and the files are removed.
        The settings then go to what the remaining files of C(sysctl.d) say, or else to the kernel's default of 0, as
        they would by a boot.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - Remove other VIPs that this module put on O(interface) earlier.
      - It knows them from its own files and from a memory in C(/var/lib/nft-dsr/loopback.json). Addresses of anybody
        else are never touched.
    type: bool
    default: false
  interface:
    description:
      - The interface that holds the VIPs; C(lo), or another one that answers no ARP, such as a dummy interface.
      - It must exist. A NIC is refused.
    type: str
    default: lo
  persist:
    description:
      - What brings the VIPs back at boot.
      - V(netplan) is O(netplan_file), a file of its own. Before it is installed, C(netplan generate) renders all
        files of the host together with it in a scratch folder, and nothing but the VIPs may change by it.
      - V(networkd) is a file of its own in C(/etc/systemd/network); a drop-in, where a C(.network) file for
        O(interface) alone exists.
      - V(networkmanager) is a script in C(/etc/NetworkManager/dispatcher.d), which NetworkManager runs each time it
        has set O(interface). From version 1.42 on it does so for C(lo) as well. No connection profile is made for
        C(lo), as NetworkManager would take all other addresses off it.
      - V(ifupdown) is a file of its own in C(/etc/network/interfaces.d), if C(/etc/network/interfaces) has it read.
        Before it is installed, C(ifup --no-act) has to take it.
      - V(systemd) is the unit C(nft-dsr-addresses.service).
      - V(none) brings no VIP back. The sysctl file is written all the same; without a VIP it does no harm, and with
        one that something else brings back at boot it must be there first.
      - V(auto) takes what is enabled and manages O(interface). It is netplan if the host has netplan files other than
        O(netplan_file) (and these do not hand everything to NetworkManager), or else systemd-networkd, ifupdown or
        NetworkManager, in this order; ahead of ifupdown is a NetworkManager that has a profile for O(interface). On
        hosts with none of them it is what the VIPs are persisted by already, or else for C(lo) the unit, if systemd
        runs. Otherwise it is an error.
      - A choice that would not work on this host is an error that says why.
      - Files that this module wrote for another choice earlier are removed.
    type: str
    choices: [auto, netplan, networkd, networkmanager, ifupdown, systemd, none]
    default: auto
  sysctl_file:
    description:
      - The file with the ARP settings, in one of the folders of C(sysctl.d).
      - A file that is applied later and sets them to something that does not serve is an error. Name a file that
        sorts after it, or change that file.
      - A file at this path that something else wrote is an error. It is never overwritten.
    type: path
    default: /etc/sysctl.d/99-dsr.conf
  netplan_file:
    description:
      - The file with the VIPs where netplan manages the host, in C(/etc/netplan).
      - A file at this path that something else wrote is an error. It is never overwritten, never merged into.
    type: path
    default: /etc/netplan/99-dsr.yaml
notes:
  - It is an error, before anything is changed, if a VIP is on a NIC of this host as well, if the C(arp_ignore) of a
    NIC defeats the one of C(all), or if a boot would leave the settings at something that does not suppress.
    Whatever may defeat it only later, such as a line for a NIC that is not there, is a warning.
  - systemd-networkd goes on with the files that it read at its start. A VIP that was taken away while it runs can
    come back only by C(networkctl reconfigure) of the interface without a C(networkctl reload).
  - In a container, C(/proc/sys/net) must be writable, unless the settings are right already.
seealso:
  - module: dsr.layer2.dsr_backend_loopback_info
  - module: dsr.layer2.dsr_vip_address
"""

EXAMPLES = r"""
- name: Hold the virtual IPs of two services
  dsr.layer2.dsr_backend_loopback:
    vips:
      - 192.0.2.100
      - 2001:db8::100

- name: Hold this one, and none of those that were there before
  dsr.layer2.dsr_backend_loopback:
    vips:
      - 192.0.2.101
    purge: true

- name: Serve one virtual IP less
  dsr.layer2.dsr_backend_loopback:
    vips:
      - 192.0.2.101
    state: absent

- name: Be no backend any more
  dsr.layer2.dsr_backend_loopback:
    vips: []
    purge: true

- name: Until the next boot only
  dsr.layer2.dsr_backend_loopback:
    vips:
      - 192.0.2.100
    persist: none
"""

RETURN = r"""
msg:
  description: What is there now, or would be in check mode, in a sentence.
  returned: success
  type: str
  sample: 192.0.2.100 on lo, brought back at boot by netplan, which manages this host (/etc/netplan/99-dsr.yaml)
persist:
  description: What brings the VIPs back at boot; never V(auto).
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
    - /etc/sysctl.d/99-dsr.conf
vips:
  description: All VIPs that this module has put on O(interface), those of earlier runs included.
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
    - write /var/lib/nft-dsr/loopback.json
    - write /etc/sysctl.d/99-dsr.conf
    - sysctl net.ipv4.conf.all.arp_announce=2
    - sysctl net.ipv4.conf.all.arp_ignore=1
    - write /etc/netplan/99-dsr.yaml
    - netplan generate
    - ip address replace 192.0.2.100/32 dev lo
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import DsrError
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import backend
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.host import Host
from ansible_collections.dsr.layer2.plugins.module_utils.loopback.persisted import NETPLAN_FILE, SYSCTL_FILE


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vips": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "interface": {"type": "str", "default": "lo"},
            "persist": {"type": "str", "choices": list(backend.PERSIST), "default": "auto"},
            "sysctl_file": {"type": "path", "default": SYSCTL_FILE},
            "netplan_file": {"type": "path", "default": NETPLAN_FILE},
        },
        supports_check_mode=True,
    )
    try:
        outcome = backend.ensure(Host(), module.params, module.check_mode)
    except DsrError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**outcome.result("vips"))


if __name__ == "__main__":
    main()

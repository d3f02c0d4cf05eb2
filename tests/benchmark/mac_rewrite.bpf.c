// Copyright (c) 2026, the dsr.layer2 authors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The least that any load balancer of this kind does: both MAC addresses written, the frame sent back out.
// MACS is 12 bytes, destination and source; IFINDEX the NIC.

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HTONS(x) __builtin_bswap16(x)
#else
#define HTONS(x) (x)
#endif

static long (*skb_store_bytes)(struct __sk_buff *, __u32, const void *, __u32, __u64) =
	(void *)BPF_FUNC_skb_store_bytes;
static long (*redirect)(__u32, __u64) = (void *)BPF_FUNC_redirect;

__attribute__((section("classifier"), used)) int rewrite(struct __sk_buff *skb)
{
	const __u8 macs[12] = {MACS};

	if (skb->pkt_type != 0 || (skb->protocol != HTONS(0x0800) && skb->protocol != HTONS(0x86dd)))
		return TC_ACT_OK;
	skb_store_bytes(skb, 0, macs, sizeof macs, 0);
	return redirect(IFINDEX, 0);
}

char _license[] __attribute__((section("license"), used)) = "GPL";

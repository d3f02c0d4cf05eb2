// Copyright (c) 2026, the dsr.layer2 authors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Sends frames made beforehand as fast as one processor can, and says what each of them took.
//
// On veth pairs and bridges the whole way of a frame, up to the NIC where it ends, is walked within the
// system call that sends it (its soft interrupts run before the call returns), so the time of the call is the
// time of the way. The clock is read around every BATCH frames; the median of these readings leaves out those
// in which this processor did something else meanwhile.
//
//   frames INTERFACE CPU
//
// It reads commands, one a line, and answers each with one line:
//
//   flows SET PROTOCOL FIRST_VIP VIPS PORT FLOWS FIRST_SOURCE SOURCES LENGTH
//                      make a set of frames: one for each flow, spread over VIPs and source addresses
//   pass SET MAC FLAGS COUNT
//                      send COUNT frames to this MAC, evenly chosen from the set
//                                                                    -> frames nanoseconds
//   slice SET MAC FLAGS FIRST WARM MICROSECONDS
//                      send WARM frames from the FIRST on, then for so long
//                                                                    -> frames nanoseconds median-of-a-frame-in-ps
//
// The addresses are IPv4 or IPv6; FLAGS are those of TCP, as a number.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 32
#define READINGS 65536

#define SETS 32

struct set {
	uint8_t *frames; // each `length` bytes in `stride` bytes, without its destination MAC
	size_t room, stride, length, count, next;
	unsigned flags_at, flags;
};

static int sock;
static struct set sets[SETS];
static uint8_t own[ETH_ALEN], to[ETH_ALEN];
static double readings[READINGS];

static void fail(const char *what)
{
	fprintf(stderr, "frames: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void wrong(const char *what)
{
	fprintf(stderr, "frames: %s\n", what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static uint16_t ip_checksum(const uint8_t *head)
{
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += head[i] << 8 | head[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum & 0xffff);
}

// The address that is `more` after `first`.
static void put_address(uint8_t *at, const uint8_t *first, int size, uint32_t more)
{
	uint32_t low;
	memcpy(at, first, size);
	memcpy(&low, first + size - 4, 4);
	low = htonl(ntohl(low) + more);
	memcpy(at + size - 4, &low, 4);
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static int parse_address(const char *text, uint8_t *out)
{
	if (inet_pton(AF_INET, text, out) == 1)
		return 4;
	if (inet_pton(AF_INET6, text, out) == 1)
		return 16;
	wrong("no address");
	return 0;
}

static struct set *set_of(unsigned number, int made)
{
	if (number >= SETS || (made && !sets[number].count))
		wrong("no such set");
	return &sets[number];
}

static void make_flows(const char *line)
{
	char protocol[8], vip_text[64], source_text[64];
	unsigned number, vips, port, flows, sources, size;
	uint8_t vip[16], source[16];

	if (sscanf(line, "flows %u %7s %63s %u %u %u %63s %u %u", &number, protocol, vip_text, &vips, &port, &flows,
		   source_text, &sources, &size) != 9)
		wrong("flows: not understood");
	int tcp = !strcmp(protocol, "tcp");
	int width = parse_address(vip_text, vip);
	if (parse_address(source_text, source) != width)
		wrong("flows: addresses of different families");
	int network = width == 4 ? 20 : 40, transport = tcp ? 20 : 8;
	unsigned shortest = ETH_HLEN + network + transport;

	struct set *set = set_of(number, 0);
	if (set->frames)
		munmap(set->frames, set->room);
	set->length = size > shortest ? size : shortest;
	set->stride = (set->length + 63) & ~63UL;
	set->count = flows;
	set->room = set->stride * set->count;
	// Large pages: what differs with the number of flows is to be the rules' cost, not this program's.
	set->frames = mmap(NULL, set->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (set->frames == MAP_FAILED)
		fail("memory");
	madvise(set->frames, set->room, MADV_HUGEPAGE);
	for (size_t i = 0; i < set->count; i++) {
		uint8_t *frame = set->frames + i * set->stride, *ip = frame + ETH_HLEN, *body = ip + network;
		memcpy(frame + ETH_ALEN, own, ETH_ALEN);
		put16(frame + 12, width == 4 ? ETH_P_IP : ETH_P_IPV6);
		if (width == 4) {
			ip[0] = 0x45;
			put16(ip + 2, set->length - ETH_HLEN);
			ip[8] = 64;
			ip[9] = tcp ? 6 : 17;
			put_address(ip + 12, source, 4, i % sources);
			put_address(ip + 16, vip, 4, i % vips);
			uint16_t sum = ip_checksum(ip);
			memcpy(ip + 10, &sum, 2);
		} else {
			ip[0] = 0x60;
			put16(ip + 4, set->length - ETH_HLEN - network);
			ip[6] = tcp ? 6 : 17;
			ip[7] = 64;
			put_address(ip + 8, source, 16, i % sources);
			put_address(ip + 24, vip, 16, i % vips);
		}
		put16(body, 10000 + i / sources % 50000);
		put16(body + 2, port);
		// Nobody on the way looks at the checksums of transport, so they are left out.
		if (tcp) {
			body[12] = 5 << 4;
			put16(body + 14, 0xffff);
		} else {
			put16(body + 4, set->length - ETH_HLEN - network);
		}
	}
	set->flags_at = tcp ? ETH_HLEN + network + 13 : 0;
	set->flags = 0;
	set->next = 0;
	printf("%zu\n", set->count);
}

static void set_flags(struct set *set, unsigned flags)
{
	if (!set->flags_at || flags == set->flags)
		return;
	for (size_t i = 0; i < set->count; i++)
		set->frames[i * set->stride + set->flags_at] = flags;
	set->flags = flags;
}

static void set_target(const char *mac)
{
	unsigned part[ETH_ALEN];
	if (sscanf(mac, "%x:%x:%x:%x:%x:%x", part, part + 1, part + 2, part + 3, part + 4, part + 5) != ETH_ALEN)
		wrong("no MAC address");
	for (int i = 0; i < ETH_ALEN; i++)
		to[i] = part[i];
}

// Send so many frames, each the one that is `step` after the last.
static unsigned send_batch(struct set *set, unsigned wanted, size_t step)
{
	static struct mmsghdr message[BATCH];
	static struct iovec part[BATCH][2];
	unsigned done = 0;

	for (unsigned i = 0; i < wanted; i++) {
		uint8_t *frame = set->frames + set->next * set->stride;
		part[i][0] = (struct iovec){to, ETH_ALEN};
		part[i][1] = (struct iovec){frame + ETH_ALEN, set->length - ETH_ALEN};
		message[i].msg_hdr = (struct msghdr){.msg_iov = part[i], .msg_iovlen = 2};
		set->next += step;
		if (set->next >= set->count)
			set->next = 0;
	}
	while (done < wanted) {
		int sent = sendmmsg(sock, message + done, wanted - done, 0);
		if (sent <= 0)
			fail("sending");
		done += sent;
	}
	return wanted;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void one_pass(const char *line)
{
	char mac[32];
	unsigned number, flags, wanted;
	if (sscanf(line, "pass %u %31s %u %u", &number, mac, &flags, &wanted) != 4 || !wanted)
		wrong("pass: not understood");
	struct set *set = set_of(number, 1);
	set_target(mac);
	set_flags(set, flags);
	size_t step = set->count > wanted ? set->count / wanted : 1;
	if (step > 1 && step % 2 == 0)
		step--; // or a scheduler that goes by turns would seem to leave backends out
	set->next = 0;
	int64_t begun = now();
	for (unsigned left = wanted; left;)
		left -= send_batch(set, left < BATCH ? left : BATCH, step);
	printf("%u %lld\n", wanted, (long long)(now() - begun));
}

static void one_slice(const char *line)
{
	char mac[32];
	unsigned number, flags, first, warm, microseconds;
	size_t sent = 0, taken = 0;
	if (sscanf(line, "slice %u %31s %u %u %u %u", &number, mac, &flags, &first, &warm, &microseconds) != 6)
		wrong("slice: not understood");
	struct set *set = set_of(number, 1);
	set_target(mac);
	set_flags(set, flags);
	set->next = first % set->count;
	for (unsigned i = 0; i < warm; i += BATCH)
		send_batch(set, BATCH, 1);
	int64_t begun = now(), last = begun, until = begun + microseconds * INT64_C(1000);
	while (last < until && taken < READINGS) {
		sent += send_batch(set, BATCH, 1);
		int64_t reading = now();
		readings[taken++] = (double)(reading - last) / BATCH;
		last = reading;
	}
	if (!taken)
		wrong("slice: too short");
	qsort(readings, taken, sizeof *readings, by_value);
	printf("%zu %lld %.0f\n", sent, (long long)(last - begun), readings[taken / 2] * 1000);
}

int main(int argc, char **argv)
{
	char line[512];
	struct ifreq request = {0};
	cpu_set_t processor;
	int on = 1;

	if (argc != 3)
		wrong("say: INTERFACE CPU");
	CPU_ZERO(&processor);
	CPU_SET(atoi(argv[2]), &processor);
	if (sched_setaffinity(0, sizeof processor, &processor))
		fail("processor");
	setpriority(PRIO_PROCESS, 0, -10); // where it isn't allowed it does without

	sock = socket(AF_PACKET, SOCK_RAW, 0); // protocol 0: it receives nothing
	if (sock < 0)
		fail("socket");
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", argv[1]);
	if (ioctl(sock, SIOCGIFHWADDR, &request))
		fail(argv[1]);
	memcpy(own, request.ifr_hwaddr.sa_data, ETH_ALEN);
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
	if (bind(sock, (struct sockaddr *)&here, sizeof here))
		fail("bind");
	if (setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on))
		fail("PACKET_QDISC_BYPASS");

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("READY\n");
	while (fgets(line, sizeof line, stdin)) {
		if (!strncmp(line, "flows ", 6))
			make_flows(line);
		else if (!strncmp(line, "pass ", 5))
			one_pass(line);
		else if (!strncmp(line, "slice ", 6))
			one_slice(line);
		else
			wrong("unknown command");
	}
	return 0;
}

/* What all probes share: time, histograms, and the head of a packet. UAPI only; see bpf/headers/README.md. */
#pragma once

/* A value in nanoseconds falls into a bucket of its quarter octave, counted in units of 1,024 ns: 0 … 3 by itself, then
 * four to each doubling, up to 4.6 minutes. gateway/probes/histogram.py has the same rule. */
#define BUCKETS 108

static inline __attribute__((always_inline)) u32 bucket_of(u64 value)
{
	u32 exponent = 0;

	if (value < 4)
		return value;
	if (value >> 28)
		return BUCKETS - 1;
	u32 left = value;
	if (left >> 16) {
		exponent += 16;
		left >>= 16;
	}
	if (left >> 8) {
		exponent += 8;
		left >>= 8;
	}
	if (left >> 4) {
		exponent += 4;
		left >>= 4;
	}
	if (left >> 2) {
		exponent += 2;
		left >>= 2;
	}
	exponent += left >> 1;
	return (exponent - 1) * 4 + ((value >> (exponent - 2)) & 3);
}

static inline __attribute__((always_inline)) void count_units(u32 *histogram, u64 units)
{
	u64 at = bucket_of(units);

	asm volatile("" : "+r"(at)); /* or the compiler checks one copy and uses another, which the verifier refuses */
	if (at < BUCKETS)
		histogram[at]++;
}

static inline __attribute__((always_inline)) void count(u32 *histogram, u64 ns)
{
	count_units(histogram, ns >> 10);
}

/* What a program costs, by its own clock in one run of 64: two looks at the clock cost more than most runs. The kernel's
 * own count (run_time_ns) looks at every one. */
struct timing {
	u64 runs;
	u64 timed;
	u64 ns;
};

#define TIMINGS(programs) BPF_PERCPU_ARRAY(timings, struct timing, programs)
#define TIMED_EACH 64

static inline __attribute__((always_inline)) u64 begin_timing(struct timing *timing)
{
	if (!timing || timing->runs++ % TIMED_EACH)
		return 0;
	return bpf_ktime_get_ns();
}

static inline __attribute__((always_inline)) void end_timing(struct timing *timing, u64 begun)
{
	if (!begun || !timing)
		return;
	u64 end = bpf_ktime_get_ns();
	u64 looking = bpf_ktime_get_ns() - end; /* at the clock, which is no part of what is timed */

	if (end - begun > looking)
		timing->ns += end - begun - looking;
	timing->timed++;
}

/* Where the compiler puts what is seldom run: out of the way of what each packet runs, so that this is few lines of the
 * processor's cache. */
#define LIKELY(truth) __builtin_expect(!!(truth), 1)
#define UNLIKELY(truth) __builtin_expect(!!(truth), 0)

#define ETHERTYPE_IP4 0x0800
#define ETHERTYPE_IP6 0x86dd
#define FAMILY_IP4 2 /* AF_INET */
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* A TCP segment as a cgroup_skb hook sees it: from the network header on. */
struct segment {
	u32 payload;
	u32 payload_at;
	u16 window;
	u8 flags;
};

/* False for all that is not TCP, or has IPv6 extension headers, which no connection of ours has. RFC 9293 3.1. */
static inline __attribute__((always_inline)) bool read_segment(struct __sk_buff *skb, struct segment *found)
{
	u8 *packet = (u8 *)(long)skb->data;
	u8 *end = (u8 *)(long)skb->data_end;
	u32 head;
	u8 *tcp;

	if (UNLIKELY(packet + 40 > end))
		return false;
	if ((packet[0] >> 4) == 4) {
		if (packet[9] != PROTOCOL_TCP)
			return false;
		head = (packet[0] & 15) * 4;
	} else {
		if (packet[6] != PROTOCOL_TCP)
			return false;
		head = 40;
	}
	tcp = packet + head;
	if (UNLIKELY(tcp + 20 > end))
		return false;
	found->flags = tcp[13];
	found->window = (u16)tcp[14] << 8 | tcp[15];
	found->payload_at = head + (tcp[12] >> 4) * 4;
	found->payload = skb->len > found->payload_at ? skb->len - found->payload_at : 0;
	return true;
}

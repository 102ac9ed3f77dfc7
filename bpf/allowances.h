/* What a rule lets pass in a window of time. Python: gateway/probes/allowances.py. */
#pragma once

/* All zero: none. */
struct allowance {
	u64 from_ns; /* CLOCK_BOOTTIME at which the first window began */
	u64 window_ns;
	u64 amount; /* connections, or bytes */
};

/* Of a socket: which rules its bytes are charged to. */
struct metered {
	u64 slots;
	u64 at_ns;
};

/* One word says which window (the upper bits of its number) and what was spent in it, so that one compare-and-swap begins
 * a window, whoever comes first, and one addition spends, whoever comes at the same time. */
#define AMOUNT_BITS 40
#define AMOUNT_MASK ((1ULL << AMOUNT_BITS) - 1)
#define WINDOW_MASK ((1ULL << (64 - AMOUNT_BITS)) - 1)

/* False: nothing is left. `amount` may be 0, to ask. One who has read the clock before another has begun the next window
 * spends in that one. What was begun with something left is let pass whole: at most one packet a CPU is too much. */
static inline __attribute__((always_inline)) bool
spend(u64 *word, struct allowance *allowance, u64 now, u64 amount)
{
	u64 window = now > allowance->from_ns ? (now - allowance->from_ns) / allowance->window_ns & WINDOW_MASK : 0;
	u64 seen = *(volatile u64 *)word;
	u64 begun = seen >> AMOUNT_BITS;

	if (begun != window && begun != ((window + 1) & WINDOW_MASK)) {
		__sync_val_compare_and_swap(word, seen, window << AMOUNT_BITS);
		seen = *(volatile u64 *)word;
	}
	if ((seen & AMOUNT_MASK) >= allowance->amount)
		return false;
	if (!amount)
		return true;
	return (__sync_fetch_and_add(word, amount) & AMOUNT_MASK) < allowance->amount;
}

/* Bytes of a packet as a cgroup_skb hook sees it, from the network header on. RFC 9293 3.1, RFC 768; extension headers of
 * IPv6 count as payload. */
static inline __attribute__((always_inline)) u32 payload_of(struct __sk_buff *skb)
{
	u8 version, protocol, words;
	u32 head;

	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return 0;
	if (version >> 4 == 4) {
		head = (version & 15) * 4;
		if (bpf_skb_load_bytes(skb, 9, &protocol, 1))
			return 0;
	} else {
		head = 40;
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1))
			return 0;
	}
	if (protocol == PROTOCOL_TCP) {
		if (bpf_skb_load_bytes(skb, head + 12, &words, 1))
			return 0;
		head += (words >> 4) * 4;
	} else if (protocol == PROTOCOL_UDP)
		head += 8;
	return skb->len > head ? skb->len - head : 0;
}

/* Which connections of this host may go to AI providers: the first bytes of each that begins like TLS or HTTP are given
 * to user space, and so is each that goes to an address which a name server has given for a provider's host. User space
 * decides; what it takes an interest in is counted until the socket is closed.
 */
#include <sluicegate.h>
#include <callers.h>

/* FLOWS, SETTLED_BITS, ADDRESSES, RING_PAGES, SEEN_BYTES are given when it is compiled. */

#define PIECE 2048 /* bytes of one event */
#define MOST_BYTES 6144 /* of a ClientHello that are given */
#define UNDECIDED_NS 2000000000ULL
#define TLS_HANDSHAKE 22

enum what { TLS = 1, HTTP = 2, OTHER = 3, DNS = 4 };
enum state { READING = 0, UNDECIDED = 1, COUNTED = 2, IGNORED = 3 };

/* Of a connection of any process; goes with the socket. */
struct flow {
	u64 until_ns; /* undecided */
	u32 given;    /* bytes to user space */
	u32 wanted;
	u32 generation;
	u8 state;
	u8 what;
};

struct counted {
	u64 bytes;
	u64 ended;
};

struct seen {
	struct stamp stamp; /* all zero for a connection older than we */
	u64 cookie;
	struct address source;
	struct address destination;
	u32 source_port;
	u32 destination_port;
	u32 mark;	 /* of the packet */
	u32 socket_mark;
	u32 what;
	u32 first;
	u32 length;
	u8 bytes[PIECE];
};

_Static_assert(sizeof(struct seen) == SEEN_BYTES, "gateway/probes/discovery.py reads it otherwise");

BPF_SK_STORAGE(flows, struct flow);
BPF_SK_STORAGE_OF_OTHERS(stamps, struct stamp);
/* Sockets that are nobody's concern, by the low bits of their cookies, so that most packets cost a look at one word: the
 * other bits, and below them the generation of addresses that it was compared with, from 1 on; 0: it has a readable name.
 * Who finds his place taken costs more. */
BPF_ARRAY(settled, u64, 1 << SETTLED_BITS);
/* By cookie: what user space has taken an interest in. */
BPF_F_TABLE("lru_hash", u64, struct counted, counted, FLOWS, 0);
/* Of providers' hosts, by name servers' answers. */
BPF_F_TABLE("lru_hash", struct address, u8, addresses, ADDRESSES, 0);
/* 0: goes up when there are new addresses. */
BPF_ARRAY(generation, u32, 1);
/* 0: events without room; 1: sockets without room. */
BPF_PERCPU_ARRAY(losses, u64, 2);
TIMINGS(3);
BPF_RINGBUF_OUTPUT(events, RING_PAGES);

static inline __attribute__((always_inline)) void lost(u32 what)
{
	u64 *counter = losses.lookup(&what);

	if (counter)
		(*counter)++;
}

static inline __attribute__((always_inline)) void read_addresses(struct bpf_sock *sk, struct seen *seen)
{
	u32 source4 = FIELD(sk->src_ip4);
	u32 destination4 = FIELD(sk->dst_ip4);

	seen->source.word[0] = FIELD(sk->src_ip6[0]);
	seen->source.word[1] = FIELD(sk->src_ip6[1]);
	seen->source.word[2] = FIELD(sk->src_ip6[2]);
	seen->source.word[3] = FIELD(sk->src_ip6[3]);
	seen->destination.word[0] = FIELD(sk->dst_ip6[0]);
	seen->destination.word[1] = FIELD(sk->dst_ip6[1]);
	seen->destination.word[2] = FIELD(sk->dst_ip6[2]);
	seen->destination.word[3] = FIELD(sk->dst_ip6[3]);
	if (FIELD(sk->family) == FAMILY_IP4) {
		map_ip4(&seen->source, source4);
		map_ip4(&seen->destination, destination4);
	}
	seen->source_port = FIELD(sk->src_port);
}

/* Of the packet's own head: what a socket says of its peer is not readable alike on all kernels. */
static inline __attribute__((always_inline)) bool read_destination(struct __sk_buff *skb, struct address *found, u32 *port)
{
	u8 version;
	u32 ip4;
	u16 number;
	u32 head;

	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return false;
	head = (version >> 4) == 4 ? (version & 15) * 4 : 40;
	if ((version >> 4) == 4) {
		if (bpf_skb_load_bytes(skb, 16, &ip4, 4))
			return false;
		map_ip4(found, ip4);
	} else if (bpf_skb_load_bytes(skb, 24, found, 16))
		return false;
	if (bpf_skb_load_bytes(skb, head + 2, &number, 2))
		return false;
	*port = bpf_ntohs(number);
	return true;
}

/* Hand user space some payload. */
static inline __attribute__((always_inline)) bool
give(struct __sk_buff *skb, struct bpf_sock *sk, u32 at, u32 length, u32 what, bool first)
{
	struct seen *seen = events.ringbuf_reserve(sizeof(struct seen));
	struct stamp *stamp;

	if (!seen) {
		lost(0);
		return false;
	}
	__builtin_memset(&seen->stamp, 0, sizeof(seen->stamp));
	stamp = stamps.sk_storage_get(sk, NULL, 0);
	if (stamp)
		__builtin_memcpy(&seen->stamp, stamp, sizeof(*stamp));
	seen->cookie = bpf_get_socket_cookie(skb);
	read_addresses(sk, seen);
	read_destination(skb, &seen->destination, &seen->destination_port);
	seen->mark = skb->mark;
	seen->socket_mark = FIELD(sk->mark);
	seen->what = what;
	seen->first = first;
	u64 size = length < PIECE ? length : PIECE;
	bool read = false;

	seen->length = size;
	/* Each bound for itself, on the register that is used: or the verifier does not see both. */
	asm volatile("" : "+r"(size));
	if (size > 0) {
		asm volatile("" : "+r"(size));
		if (size <= PIECE)
			read = !bpf_skb_load_bytes(skb, at, seen->bytes, size);
	}
	if (!read) {
		events.ringbuf_discard(seen, 0);
		return false;
	}
	events.ringbuf_submit(seen, 0);
	return true;
}

/* The length of the record with the ClientHello; 0 for other payload. */
static inline __attribute__((always_inline)) u32 what_begins(struct __sk_buff *skb, u32 at, u32 *what)
{
	u8 head[5] = {};

	*what = OTHER;
	if (bpf_skb_load_bytes(skb, at, head, 5))
		return 0;
	if (head[0] == TLS_HANDSHAKE && head[1] == 3) {
		*what = TLS;
		return 5 + ((u32)head[3] << 8 | head[4]);
	}
	u32 word = (u32)head[0] << 24 | (u32)head[1] << 16 | (u32)head[2] << 8 | head[3];
	if (word == 0x47455420 || word == 0x504f5354 || word == 0x50555420 || word == 0x48454144 || /* GET, POST, PUT, HEAD */
	    word == 0x44454c45 || word == 0x50415443 || word == 0x4f505449 || word == 0x434f4e4e) /* DELE PATC OPTI CONN */
		*what = HTTP;
	return 0;
}

static inline __attribute__((always_inline)) u32 present(void)
{
	u32 zero = 0;
	u32 *now = generation.lookup(&zero);

	return now ? *now : 0;
}

static inline __attribute__((always_inline)) u64 *place_of(u64 cookie)
{
	u32 at = cookie & ((1 << SETTLED_BITS) - 1);

	return settled.lookup(&at);
}

static inline __attribute__((always_inline)) u64 word_of(u64 cookie, u32 generation)
{
	return (cookie >> SETTLED_BITS | 1u << 31) << 32 | generation;
}

static inline __attribute__((always_inline)) bool is_settled(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	u64 *place = place_of(cookie);
	u64 word = place ? *place : 0;

	return word == word_of(cookie, 0) || word == word_of(cookie, present() + 1);
}

/* Nobody's concern, until there are addresses that one without a readable name was not compared with. */
static inline __attribute__((always_inline)) void settle(struct __sk_buff *skb, struct flow *flow)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	u64 *place = place_of(cookie);

	flow->state = IGNORED;
	if (place)
		*place = word_of(cookie, flow->what == OTHER ? flow->generation + 1 : 0);
}

/* What TCP itself has counted, both ways. */
static inline __attribute__((always_inline)) void count_bytes(struct __sk_buff *skb, struct bpf_sock *sk, struct flow *flow)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct counted *found = counted.lookup(&cookie);
	struct bpf_tcp_sock *tcp;

	if (found) {
		flow->state = COUNTED;
		tcp = bpf_tcp_sock(sk);
		if (tcp)
			found->bytes = tcp->bytes_acked + tcp->bytes_received;
	} else if (flow->state == COUNTED || bpf_ktime_get_ns() > flow->until_ns) {
		settle(skb, flow);
	}
}

/* A connection that is none of TLS or HTTP, or older than we: its address alone may say something. */
static inline __attribute__((always_inline)) void
by_address(struct __sk_buff *skb, struct bpf_sock *sk, struct flow *flow, struct segment *segment)
{
	struct address to = {};
	u32 port;

	flow->what = OTHER;
	flow->generation = present();
	if (!read_destination(skb, &to, &port) || !addresses.lookup(&to) ||
	    !give(skb, sk, segment->payload_at, 1, OTHER, true)) {
		settle(skb, flow);
		return;
	}
	flow->state = UNDECIDED;
	flow->until_ns = bpf_ktime_get_ns() + UNDECIDED_NS;
}

static inline __attribute__((always_inline)) void
outgoing_of(struct __sk_buff *skb, struct bpf_sock *common, struct segment *segment)
{
	struct bpf_sock *sk;
	struct flow *flow;
	bool first = false;
	u32 what;

	sk = bpf_sk_fullsock(common);
	if (!sk)
		return;
	flow = flows.sk_storage_get(sk, NULL, 0);
	if (!flow) {
		flow = flows.sk_storage_get(sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!flow) {
			lost(1);
			return;
		}
		first = true;
	}
	if (flow->state == IGNORED) {
		if (flow->what == OTHER && flow->generation != present())
			by_address(skb, sk, flow, segment);
		else
			settle(skb, flow);
		return;
	}
	if (flow->state != READING) {
		count_bytes(skb, sk, flow);
		return;
	}
	if (first) {
		if (!stamps.sk_storage_get(sk, NULL, 0)) { /* it has begun before, or it is a server's */
			by_address(skb, sk, flow, segment);
			return;
		}
		flow->wanted = what_begins(skb, segment->payload_at, &what);
		flow->what = what;
		if (what == OTHER) {
			by_address(skb, sk, flow, segment);
			return;
		}
	}
	give(skb, sk, segment->payload_at, segment->payload, flow->what, first);
	if (segment->payload > PIECE && flow->wanted > flow->given + PIECE)
		give(skb, sk, segment->payload_at + PIECE, segment->payload - PIECE, flow->what, false);
	flow->given += segment->payload;
	if (flow->given >= flow->wanted || flow->given >= MOST_BYTES) {
		flow->state = UNDECIDED;
		flow->until_ns = bpf_ktime_get_ns() + UNDECIDED_NS;
	}
}

/* A name server's answer. */
static inline __attribute__((always_inline)) bool is_answer(struct __sk_buff *skb, u32 *at)
{
	u8 head[4] = {};
	u8 version;
	u8 protocol;

	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return false;
	if ((version >> 4) == 4) {
		if (bpf_skb_load_bytes(skb, 9, &protocol, 1))
			return false;
		*at = (version & 15) * 4;
	} else {
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1))
			return false;
		*at = 40;
	}
	if (protocol != PROTOCOL_UDP || bpf_skb_load_bytes(skb, *at, head, 2))
		return false;
	*at += 8;
	return head[0] == 0 && head[1] == 53;
}

static inline __attribute__((always_inline)) void answer_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	u32 at = 0;

	if (!is_answer(skb, &at) || skb->len <= at || !sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (sk)
		give(skb, sk, at, skb->len - at, DNS, true);
}

static inline __attribute__((always_inline)) int socket_of(struct bpf_sock_ops *ops)
{
	struct counted *found;
	u64 cookie;

	if (ops->op != BPF_SOCK_OPS_STATE_CB || ops->args[1] != BPF_TCP_CLOSE)
		return 1;
	cookie = bpf_get_socket_cookie(ops);
	found = counted.lookup(&cookie);
	if (found) {
		found->bytes = ops->bytes_acked + ops->bytes_received;
		found->ended = 1;
	}
	return 1;
}

int on_outgoing(struct __sk_buff *skb)
{
	struct segment segment = {};
	struct timing *timing;
	struct bpf_sock *sk;
	u32 program = 0;
	u64 begun;

	if (!read_segment(skb, &segment) || !segment.payload)
		return 1;
	sk = skb->sk;
	if (LIKELY(!sk || is_settled(skb)))
		return 1; /* most are nobody's concern: they are not even counted */
	timing = timings.lookup(&program);
	begun = begin_timing(timing);
	outgoing_of(skb, sk, &segment);
	end_timing(timing, begun);
	return 1;
}

/* Only name servers' answers are of interest. */
int on_incoming(struct __sk_buff *skb)
{
	u8 *packet = (u8 *)(long)skb->data;
	u8 *end = (u8 *)(long)skb->data_end;
	struct timing *timing;
	u32 program = 1;
	u64 begun;

	if (LIKELY(packet + 10 <= end) && packet[(packet[0] >> 4) == 4 ? 9 : 6] == PROTOCOL_TCP)
		return 1;
	timing = timings.lookup(&program);
	begun = begin_timing(timing);
	answer_of(skb);
	end_timing(timing, begun);
	return 1;
}

/* The callback of a socket's end was asked for in callers.c. */
int on_socket(struct bpf_sock_ops *ops)
{
	u32 program = 2;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);

	socket_of(ops);
	end_timing(timing, begun);
	return 1;
}

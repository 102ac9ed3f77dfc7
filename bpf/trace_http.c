/* HTTP/1 in plain text: segments that begin with a method or with `HTTP/1.`, at both ends of a connection that is this
 * host's. Only their first bytes. RFC 9112 3 and 4.
 */
#include <trace.h>

/* RING_PAGES and EVENT_BYTES are given when it is compiled. */
BPF_RINGBUF_OUTPUT(events, RING_PAGES);
/* 0: events that the buffer had no room for. */
BPF_PERCPU_ARRAY(losses, u64, 1);

static inline __attribute__((always_inline)) void lost(void)
{
	u32 zero = 0;
	u64 *counted = losses.lookup(&zero);

	if (counted)
		(*counted)++;
}

#define PAYLOAD_BYTES 768

/* Python: gateway/probes/trace_events.py. */
struct packet_event {
	struct who who; /* all 0 where the socket is older than the trace, or was accepted */
	u64 at_ns;
	u64 cookie;
	u32 outgoing;
	u32 local_port;
	u32 remote_port;
	u32 bytes;    /* of `payload` */
	u8 head[40];  /* of the packet, for its addresses */
	char payload[PAYLOAD_BYTES];
};
_Static_assert(sizeof(struct packet_event) - PAYLOAD_BYTES == EVENT_BYTES, "as Python has it");

BPF_SK_STORAGE(openers, struct who);

static inline __attribute__((always_inline)) int stamp(struct bpf_sock_addr *call)
{
	struct who *who;

	if (!call->sk || call->protocol != PROTOCOL_TCP)
		return 1;
	who = openers.sk_storage_get(call->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (who)
		read_who(who);
	else
		lost();
	return 1;
}

int on_connect4(struct bpf_sock_addr *call)
{
	return stamp(call);
}

int on_connect6(struct bpf_sock_addr *call)
{
	return stamp(call);
}

static inline __attribute__((always_inline)) void tell(struct __sk_buff *skb, u32 at, u32 outgoing)
{
	struct packet_event *event;
	struct bpf_sock *sk = skb->sk;
	struct who *who;
	u64 length = skb->len;

	if (!sk || length <= at)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	length -= at;
	if (length > PAYLOAD_BYTES)
		length = PAYLOAD_BYTES;
	asm volatile("" : "+r"(length));
	if (!length || length > PAYLOAD_BYTES)
		return;
	event = events.ringbuf_reserve(sizeof(struct packet_event));
	if (!event) {
		lost();
		return;
	}
	event->bytes = bpf_skb_load_bytes(skb, at, event->payload, length) ? 0 : length;
	event->at_ns = bpf_ktime_get_ns();
	event->cookie = bpf_get_socket_cookie(skb);
	event->outgoing = outgoing;
	event->local_port = sk->src_port;
	event->remote_port = bpf_ntohs((u16)sk->dst_port);
	bpf_skb_load_bytes(skb, 0, event->head, sizeof(event->head));
	who = openers.sk_storage_get(sk, NULL, 0);
	if (who)
		event->who = *who;
	else
		__builtin_memset(&event->who, 0, sizeof(event->who));
	events.ringbuf_submit(event, 0);
}

#define WORD(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

static inline __attribute__((always_inline)) void see(struct __sk_buff *skb, u32 outgoing)
{
	struct segment segment = {};
	u8 first[4] = {};

	if (!read_segment(skb, &segment) || segment.payload < 14)
		return;
	if (bpf_skb_load_bytes(skb, segment.payload_at, first, sizeof(first)))
		return;
	switch (WORD(first[0], first[1], first[2], first[3])) {
	case WORD('H', 'T', 'T', 'P'):
	case WORD('G', 'E', 'T', ' '):
	case WORD('P', 'O', 'S', 'T'):
	case WORD('P', 'U', 'T', ' '):
	case WORD('H', 'E', 'A', 'D'):
	case WORD('D', 'E', 'L', 'E'):
	case WORD('P', 'A', 'T', 'C'):
	case WORD('O', 'P', 'T', 'I'):
	case WORD('C', 'O', 'N', 'N'):
		tell(skb, segment.payload_at, outgoing);
	}
}

int on_incoming(struct __sk_buff *skb)
{
	see(skb, 0);
	return 1;
}

int on_outgoing(struct __sk_buff *skb)
{
	see(skb, 1);
	return 1;
}

/* First bytes of packets, and who opened their socket, stamped in the process's own context where it connects or sends.
 *
 * DNS:  over UDP as it leaves and enters sockets of this host: questions to port 53, and what comes from there. RFC 1035 4.1.
 * HTTP: 1 in plain text: segments that begin with a method or with `HTTP/1.`, at both ends of a connection that is this
 *       host's. RFC 9112 3 and 4.
 *
 * One file, as bcc only translates calls of maps in the file that it is given.
 */
#include <trace.h>

/* DNS or HTTP, RING_PAGES and EVENT_BYTES are given when it is compiled. */
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

#define DNS_PORT 53
#ifdef DNS
#define PAYLOAD_BYTES 512
#else
#define PAYLOAD_BYTES 768
#endif

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

/* Who opens a socket, in the process's own context. */
static inline __attribute__((always_inline)) int stamp(struct bpf_sock_addr *call)
{
	struct who *who;

#ifdef DNS
	if (!call->sk || call->user_port != bpf_htons(DNS_PORT))
		return 1;
#else
	if (!call->sk || call->protocol != PROTOCOL_TCP)
		return 1;
#endif
	who = openers.sk_storage_get(call->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (who)
		read_who(who);
	else
		lost();
	return 1;
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

int on_connect4(struct bpf_sock_addr *call)
{
	return stamp(call);
}

int on_connect6(struct bpf_sock_addr *call)
{
	return stamp(call);
}

int on_sendmsg4(struct bpf_sock_addr *call)
{
	return stamp(call);
}

int on_sendmsg6(struct bpf_sock_addr *call)
{
	return stamp(call);
}

#ifdef DNS
static inline __attribute__((always_inline)) void see(struct __sk_buff *skb, u32 outgoing)
{
	u8 *packet = (u8 *)(long)skb->data;
	u8 *end = (u8 *)(long)skb->data_end;
	u8 *udp;
	u32 head;
	u16 port;

	if (packet + 40 > end)
		return;
	if ((packet[0] >> 4) == 4) {
		if (packet[9] != PROTOCOL_UDP)
			return;
		head = (packet[0] & 15) * 4;
	} else {
		if (packet[6] != PROTOCOL_UDP)
			return;
		head = 40;
	}
	udp = packet + head;
	if (udp + 8 > end)
		return;
	port = outgoing ? (u16)udp[2] << 8 | udp[3] : (u16)udp[0] << 8 | udp[1];
	if (port == DNS_PORT)
		tell(skb, head + 8, outgoing);
}
#else
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
#endif

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

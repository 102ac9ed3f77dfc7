/* Who connects to where, how it ended, and how long the handshake took. Identity is that of the process at the connect;
 * the end is told by the TCP socket itself. Of UDP: connects, and the first datagram to each new destination.
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

enum stage { ESTABLISHED = 1, FAILED = 2, DATAGRAMS = 3 };

/* Python: gateway/probes/trace_events.py. Addresses and ports as on the wire; IPv4 in the first four bytes. */
struct connect_event {
	struct who who;
	u64 at_ns; /* of the connect */
	u64 took_ns;
	u64 cookie;
	u32 stage;
	u16 family; /* 4 or 6 */
	u16 port;
	u32 to[4];
	u32 from[4];
	u32 from_port;
	u32 pad;
};
_Static_assert(sizeof(struct connect_event) == EVENT_BYTES, "as Python has it");

BPF_SK_STORAGE(attempts, struct connect_event);

static inline __attribute__((always_inline)) struct connect_event *
attempt(struct bpf_sock_addr *call, u16 family, const u32 *to, bool *fresh)
{
	struct connect_event *event;
	u16 port = (u16)call->user_port;

	if (!call->sk)
		return NULL;
	event = attempts.sk_storage_get(call->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!event) {
		lost();
		return NULL;
	}
	*fresh = event->family != family || event->port != port || event->to[0] != to[0] || event->to[1] != to[1] ||
		 event->to[2] != to[2] || event->to[3] != to[3];
	read_who(&event->who);
	event->at_ns = bpf_ktime_get_ns();
	event->took_ns = 0;
	event->cookie = bpf_get_socket_cookie(call);
	event->family = family;
	event->port = port;
	event->to[0] = to[0];
	event->to[1] = to[1];
	event->to[2] = to[2];
	event->to[3] = to[3];
	return event;
}

static inline __attribute__((always_inline)) void tell(struct connect_event *event, u32 stage)
{
	event->stage = stage;
	if (events.ringbuf_output(event, sizeof(*event), 0))
		lost();
}

static inline __attribute__((always_inline)) int see(struct bpf_sock_addr *call, u16 family, bool datagram)
{
	u32 to[4] = {};
	struct connect_event *event;
	bool fresh = false;

	if (family == 4) {
		to[0] = call->user_ip4;
	} else {
		to[0] = call->user_ip6[0];
		to[1] = call->user_ip6[1];
		to[2] = call->user_ip6[2];
		to[3] = call->user_ip6[3];
	}
	if (call->protocol != PROTOCOL_TCP && call->protocol != PROTOCOL_UDP)
		return 1;
	event = attempt(call, family, to, &fresh);
	if (event && call->protocol == PROTOCOL_UDP && (fresh || !datagram))
		tell(event, DATAGRAMS);
	return 1;
}

int on_connect4(struct bpf_sock_addr *call)
{
	return see(call, 4, false);
}

int on_connect6(struct bpf_sock_addr *call)
{
	return see(call, 6, false);
}

int on_sendmsg4(struct bpf_sock_addr *call)
{
	return see(call, 4, true);
}

int on_sendmsg6(struct bpf_sock_addr *call)
{
	return see(call, 6, true);
}

static inline __attribute__((always_inline)) void end(struct bpf_sock_ops *ops, u32 stage)
{
	struct bpf_sock *sk = ops->sk;
	struct connect_event *event;

	if (!sk)
		return;
	event = attempts.sk_storage_get(sk, NULL, 0);
	if (!event || event->stage)
		return;
	event->took_ns = bpf_ktime_get_ns() - event->at_ns;
	if (ops->family == 2) {
		event->from[0] = ops->local_ip4;
	} else {
		event->from[0] = ops->local_ip6[0];
		event->from[1] = ops->local_ip6[1];
		event->from[2] = ops->local_ip6[2];
		event->from[3] = ops->local_ip6[3];
	}
	event->from_port = ops->local_port;
	tell(event, stage);
}

int on_socket(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct connect_event *event;

	if (!sk)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		event = attempts.sk_storage_get(sk, NULL, 0);
		if (!event)
			return 1;
		event->stage = 0; /* a socket may be connected again after a failure */
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		return 1;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		end(ops, ESTABLISHED);
		return 1;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[0] == BPF_TCP_SYN_SENT && ops->args[1] == BPF_TCP_CLOSE)
			end(ops, FAILED);
		return 1;
	}
	return 1;
}

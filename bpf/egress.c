/* Where the gateway's own processes may go: connect and sendto of those and of all that they fork, against what the
 * configuration names. Attached to the gateway's cgroups; where it has none of its own that is the root, so processes are
 * told by number too.
 *
 * A splice goes to where a client was about to go when its connection was captured: that is the local address of the
 * socket that was accepted, so the kernel itself says what a splice may reach, and for how long.
 */
#include <trace.h>

/* RING_PAGES, EVENT_BYTES and FORK_CHILD are given when it is compiled; FORK_CHILD only where tracepoints can be had. */
BPF_RINGBUF_OUTPUT(events, RING_PAGES);
/* 0: events that the buffer had no room for. 1: processes, and captured destinations, that a map had none for. */
BPF_PERCPU_ARRAY(losses, u64, 2);
TIMINGS(5);

#define CAPTURED_NS 60000000000ULL
#define ALLOWED 1
#define FAMILY_IP4 2

struct destination {
	u32 word[4]; /* IPv4 is ::ffff:a.b.c.d */
};

struct prefix {
	u32 bits;
	u32 port; /* 0: any */
	struct destination to;
};

struct captured {
	struct destination to;
	u32 port;
};

/* Python: gateway/probes/egress_maps.py. */
struct egress_event {
	struct who who;
	u64 at_ns;
	struct destination to;
	u32 port;
	u32 protocol;
	u32 refused;
	u32 pad;
};
_Static_assert(sizeof(struct egress_event) == EVENT_BYTES, "as Python has it");

BPF_TABLE("hash", u32, u8, own, 8192);
BPF_F_TABLE("lpm_trie", struct prefix, u32, allowed, 32768, BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct captured, u64, captures, 32768);
/* 0: whether what is not allowed is refused. */
BPF_ARRAY(enforcing, u32, 1);

static inline __attribute__((always_inline)) void lost(u32 what)
{
	u64 *counted = losses.lookup(&what);

	if (counted)
		(*counted)++;
}

static inline __attribute__((always_inline)) bool may(struct destination *to, u32 port)
{
	struct prefix prefix = {.bits = 160, .port = port, .to = *to};
	struct captured capture = {.to = *to, .port = port};
	u32 *verdict;
	u64 *at;

	verdict = allowed.lookup(&prefix);
	if (verdict && *verdict == ALLOWED)
		return true;
	prefix.port = 0;
	verdict = allowed.lookup(&prefix);
	if (verdict && *verdict == ALLOWED)
		return true;
	at = captures.lookup(&capture);
	return at && bpf_ktime_get_ns() - *at < CAPTURED_NS;
}

static inline __attribute__((always_inline)) int judge(struct bpf_sock_addr *call, bool ip4)
{
	struct destination to = {};
	struct egress_event event = {};
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u32 zero = 0;
	u32 *mode;
	u32 port;

	if (!own.lookup(&pid))
		return 1;
	if (ip4) {
		to.word[2] = bpf_htonl(0xffff);
		to.word[3] = call->user_ip4;
	} else {
		to.word[0] = call->user_ip6[0];
		to.word[1] = call->user_ip6[1];
		to.word[2] = call->user_ip6[2];
		to.word[3] = call->user_ip6[3];
	}
	port = bpf_ntohs((u16)call->user_port);
	if (may(&to, port))
		return 1;
	mode = enforcing.lookup(&zero);
	event.refused = mode && *mode;
	read_who(&event.who);
	event.at_ns = bpf_ktime_get_ns();
	event.to = to;
	event.port = port;
	event.protocol = call->protocol;
	if (events.ringbuf_output(&event, sizeof(event), 0))
		lost(0);
	return event.refused ? 0 : 1;
}

static inline __attribute__((always_inline)) int connect4_of(struct bpf_sock_addr *call)
{
	return judge(call, true);
}

static inline __attribute__((always_inline)) int connect6_of(struct bpf_sock_addr *call)
{
	return judge(call, false);
}

static inline __attribute__((always_inline)) int sendmsg4_of(struct bpf_sock_addr *call)
{
	return judge(call, true);
}

static inline __attribute__((always_inline)) int sendmsg6_of(struct bpf_sock_addr *call)
{
	return judge(call, false);
}

/* Connections that were accepted, by the address that the client asked for. Those of this host's loopback were not
 * captured. */
static inline __attribute__((always_inline)) int socket_of(struct bpf_sock_ops *ops)
{
	struct captured capture = {};
	u64 now;

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	now = bpf_ktime_get_ns();
	if (ops->family == FAMILY_IP4) {
		capture.to.word[2] = bpf_htonl(0xffff);
		capture.to.word[3] = ops->local_ip4;
	} else {
		capture.to.word[0] = ops->local_ip6[0];
		capture.to.word[1] = ops->local_ip6[1];
		capture.to.word[2] = ops->local_ip6[2];
		capture.to.word[3] = ops->local_ip6[3];
	}
	if (capture.to.word[2] == bpf_htonl(0xffff)) {
		if ((bpf_ntohl(capture.to.word[3]) >> 24) == 127)
			return 1;
	} else if (!capture.to.word[0] && !capture.to.word[1] && !capture.to.word[2]) {
		return 1;
	}
	capture.port = ops->local_port;
	if (captures.update(&capture, &now))
		lost(1);
	return 1;
}

#ifdef FORK_CHILD
int on_fork(void *call)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u32 child = 0;
	u8 one = 1;

	if (!own.lookup(&pid) || bpf_probe_read_kernel(&child, sizeof(child), call + FORK_CHILD))
		return 0;
	if (own.update(&child, &one))
		lost(1);
	return 0;
}
#endif

int on_exit(struct bpf_raw_tracepoint_args *call)
{
	u32 thread = (u32)bpf_get_current_pid_tgid();

	own.delete(&thread);
	return 0;
}

int on_connect4(struct bpf_sock_addr *call)
{
	u32 program = 0;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = connect4_of(call);

	end_timing(timing, begun);
	return said;
}

int on_connect6(struct bpf_sock_addr *call)
{
	u32 program = 1;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = connect6_of(call);

	end_timing(timing, begun);
	return said;
}

int on_sendmsg4(struct bpf_sock_addr *call)
{
	u32 program = 2;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = sendmsg4_of(call);

	end_timing(timing, begun);
	return said;
}

int on_sendmsg6(struct bpf_sock_addr *call)
{
	u32 program = 3;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = sendmsg6_of(call);

	end_timing(timing, begun);
	return said;
}

int on_socket(struct bpf_sock_ops *ops)
{
	u32 program = 4;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = socket_of(ops);

	end_timing(timing, begun);
	return said;
}

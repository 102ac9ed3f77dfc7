/* What each route and target does in the kernel. Each socket has a place in a memory-mapped array, by its cookie. A worker
 * writes there which series (route and target) the socket's packets belong to at this moment: a tag costs it a store, and
 * needs no capability. The rest of the place is what these programs know of the connection: one line of the processor's
 * cache for all that a packet needs. Sockets without a tag, those of everybody else, are let alone after a look.
 *
 * Times are by CLOCK_MONOTONIC, in nanoseconds where nothing else is said.
 */
#include <sluicegate.h>

/* PLACE_BITS and SERIES are given when it is compiled. */
#define PLACES (1 << PLACE_BITS)

/* Of a place. Two open sockets whose cookies share their low bits are one too many: the newer one has it. */
#define OWNER(cookie) ((u32)((cookie) >> PLACE_BITS) + 1)

/* The upper half of a tag; the lower one is whose it is. */
#define TAG_SERIES(tag) ((u32)((tag) >> 32) & 0xffff)
#define TAG_CLIENT (1ULL << 48)
#define TAG_FRESH (1ULL << 49) /* a new TLS connection: its first bytes may be session tickets, which answer nothing */

enum side { OTHERS = 0, UPSTREAM = 1, CLIENT = 2 };

/* One connection. Python: gateway/probes/routes.py; what workers write: gateway/dataplane/tags.py. */
struct connection {
	/* The worker's. */
	u64 tag;
	u64 accepted_ns; /* when it got the connection from the kernel; of clients' alone */

	u64 request_ns; /* the last byte of a request, until its answer begins */
	u64 data_ns;	/* of an upstream: its connect, then the last byte of an answer under way; of a client: its handshake */
	u32 owner;	/* whose all this is; 0: nobody's */
	u32 bytes;	/* of the answer under way that are not in the figures yet */
	u32 early_bytes;  /* a client's first ones, which come before its worker knows what for */
	u32 rtt_tick;	  /* when its RTT was looked at for a first byte */
	u32 peer_full;	  /* tick since when the peer takes nothing more */
	u32 we_full;	  /* tick since when we take nothing more */
	u16 series;	  /* in which it counts as open */
	u8 side;
	u8 flags;
	u8 misses;  /* data packets without a tag */
	u8 packets; /* of an answer, to choose some of them by */
	u8 looks;   /* to time some of them */
	u8 unused;
};

_Static_assert(sizeof(struct connection) == 64, "it is a line of the processor's cache");

#define WATCHED 1  /* its end will be told */
#define ACCEPTED 2 /* its wait for accept() has been counted */
#define FRESH 4	   /* what comes now may be no answer */

#define TICK_BITS 20 /* of nanoseconds: a tick is a millisecond, or nearly */

/* One series on one CPU. Python: gateway/probes/figures.py. */
struct figures {
	u32 connect[BUCKETS];
	u32 rtt[BUCKETS];
	u32 first_byte[BUCKETS];
	u32 gap[BUCKETS];
	u32 client_rtt[BUCKETS];
	u32 client_first_byte[BUCKETS];
	u32 accept_wait[BUCKETS];
	u64 bytes_out; /* to the upstream */
	u64 bytes_in;
	u64 client_bytes_out;
	u64 client_bytes_in;
	u64 retransmits;
	u64 client_retransmits;
	u64 resets_in; /* sent by the upstream */
	u64 resets_out;
	u64 client_resets_in; /* sent by the client */
	u64 client_resets_out;
	u64 full_ns; /* the upstream took nothing more */
	u64 we_full_ns;
	u64 client_full_ns; /* the client took nothing more */
	u64 client_we_full_ns;
	s64 open;
	s64 client_open;
	u64 connections;
	u64 client_connections;
};

BPF_F_TABLE("array", u32, struct connection, connections, PLACES, BPF_F_MMAPABLE);
BPF_PERCPU_ARRAY(series, struct figures, SERIES);
/* How many connections have a full window: as long as it is 0, bare acknowledgements need no look. */
BPF_ARRAY(full, u32, 1);
/* 0: connections whose place another one took. */
BPF_PERCPU_ARRAY(losses, u64, 1);

TIMINGS(3);

#define RTT_EACH 32 /* packets of an answer */
#define RTT_PAUSE_TICKS 50 /* between the first bytes at which it is looked at, on a busy connection */
#define MOST_MISSES 16

static inline __attribute__((always_inline)) struct connection *place_of(u64 cookie)
{
	u32 at = cookie & (PLACES - 1);

	return connections.lookup(&at);
}

static inline __attribute__((always_inline)) struct figures *figures_of(u32 number)
{
	return series.lookup(&number);
}

static inline __attribute__((always_inline)) u32 tick(void)
{
	u32 now = bpf_ktime_get_ns() >> TICK_BITS;

	return now ? now : 1; /* 0 is never */
}

static inline __attribute__((always_inline)) void count_open(struct connection *connection, s64 change)
{
	struct figures *figures = figures_of(connection->series);

	if (!figures)
		return;
	if (connection->side == UPSTREAM)
		__sync_fetch_and_add(&figures->open, change);
	else
		__sync_fetch_and_add(&figures->client_open, change);
}

/* Put down what has gathered of an answer. */
static inline __attribute__((always_inline)) void flush(struct connection *connection)
{
	struct figures *figures;

	if (!connection->bytes)
		return;
	figures = figures_of(connection->series);
	if (figures && connection->side == UPSTREAM)
		figures->bytes_in += connection->bytes;
	else if (figures)
		figures->client_bytes_out += connection->bytes;
	connection->bytes = 0;
}

/* The connection works for another route or target from now on; 0: for none. */
static inline __attribute__((always_inline)) void change_series(struct connection *connection, u32 number)
{
	flush(connection);
	if (connection->flags & WATCHED && connection->series)
		count_open(connection, -1);
	connection->series = number;
	if (connection->flags & WATCHED && number)
		count_open(connection, 1);
}

static inline __attribute__((always_inline)) void add_full(struct connection *connection, u32 since, bool ours)
{
	struct figures *figures = figures_of(connection->series);
	u64 took = (u64)(tick() - since) << TICK_BITS;
	u32 zero = 0;
	u32 *many = full.lookup(&zero);

	if (many)
		__sync_fetch_and_add(many, -1);
	if (!figures)
		return;
	if (connection->side == UPSTREAM) {
		if (ours)
			figures->we_full_ns += took;
		else
			figures->full_ns += took;
	} else {
		if (ours)
			figures->client_we_full_ns += took;
		else
			figures->client_full_ns += took;
	}
}

/* A window of zero, or its end. `incoming`: the peer's window. */
static inline __attribute__((always_inline)) void see_window(struct connection *connection, bool none, bool incoming)
{
	u32 *since = incoming ? &connection->peer_full : &connection->we_full;
	u32 zero = 0;
	u32 *many;

	if (!(connection->flags & WATCHED) || none == (*since != 0))
		return;
	if (none) {
		*since = tick();
		many = full.lookup(&zero);
		if (many)
			__sync_fetch_and_add(many, 1);
	} else {
		add_full(connection, *since, !incoming);
		*since = 0;
	}
}

/* Nothing more is known of whoever has the place. */
static inline __attribute__((always_inline)) void release(struct connection *connection)
{
	see_window(connection, false, true);
	see_window(connection, false, false);
	change_series(connection, 0);
	connection->flags = 0;
	connection->owner = 0;
}

static inline __attribute__((always_inline)) void take(struct connection *connection, u32 owner, u8 side)
{
	u32 zero = 0;
	u64 *lost;

	if (connection->owner && connection->flags & WATCHED) {
		lost = losses.lookup(&zero);
		if (lost)
			(*lost)++;
		release(connection);
	}
	connection->request_ns = connection->data_ns = 0;
	connection->bytes = connection->early_bytes = connection->rtt_tick = 0;
	connection->series = 0;
	connection->flags = connection->misses = connection->packets = 0;
	connection->side = side;
	connection->owner = owner;
}

/* Retransmits and the connection's end are told; what others have asked for stays. */
static inline __attribute__((always_inline)) void watch(struct bpf_sock_ops *ops, struct connection *connection)
{
	u32 wanted = BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;

	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | wanted);
	connection->flags |= WATCHED;
}

static inline __attribute__((always_inline)) void see_connected(struct bpf_sock_ops *ops, struct connection *connection)
{
	struct figures *figures;

	watch(ops, connection);
	change_series(connection, TAG_SERIES(connection->tag));
	figures = figures_of(connection->series);
	if (figures) {
		figures->connections++;
		count(figures->connect, bpf_ktime_get_ns() - connection->data_ns);
		count(figures->rtt, (u64)(ops->srtt_us >> 3) * 1000);
	}
	connection->data_ns = 0;
}

static inline __attribute__((always_inline)) bool is_wanted(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_RETRANS_CB:
		return true;
	case BPF_SOCK_OPS_STATE_CB:
		return ops->args[1] == BPF_TCP_CLOSE;
	}
	return false;
}

static inline __attribute__((always_inline)) void see_socket(struct bpf_sock_ops *ops)
{
	struct connection *connection;
	struct figures *figures;
	u64 cookie;
	u32 owner;

	if (!is_wanted(ops))
		return;
	cookie = bpf_get_socket_cookie(ops);
	connection = place_of(cookie);
	if (!connection)
		return;
	owner = OWNER(cookie);
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if ((u32)connection->tag != owner)
			return;
		take(connection, owner, UPSTREAM);
		connection->data_ns = bpf_ktime_get_ns();
		return;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (connection->owner == owner)
			see_connected(ops, connection);
		return;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		take(connection, owner, CLIENT);
		watch(ops, connection);
		connection->data_ns = bpf_ktime_get_ns();
		return;
	case BPF_SOCK_OPS_RETRANS_CB:
		figures = figures_of(connection->series);
		if (connection->owner != owner || !figures)
			return;
		if (connection->side == UPSTREAM)
			figures->retransmits++;
		else
			figures->client_retransmits++;
		return;
	case BPF_SOCK_OPS_STATE_CB:
		if (connection->owner == owner)
			release(connection);
		return;
	}
}

int on_socket(struct bpf_sock_ops *ops)
{
	u32 program = 0;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);

	see_socket(ops);
	end_timing(timing, begun);
	return 1;
}

/* The connection's tag; 0 for everybody else's, and as long as its worker does not know it. `came`: bytes of its peer. */
static inline __attribute__((always_inline)) u64 tag_of(struct connection *connection, u32 owner, u32 came)
{
	u64 tag = connection->tag;

	if (connection->owner != owner) {
		if ((u32)tag != owner)
			return 0;
		take(connection, owner, tag & TAG_CLIENT ? CLIENT : UPSTREAM); /* it is older than these programs */
	}
	if (connection->side == OTHERS)
		return 0;
	if ((u32)tag != owner) {
		if (came && connection->side == CLIENT) {
			connection->request_ns = bpf_ktime_get_ns();
			connection->early_bytes += came;
		}
		if (++connection->misses >= MOST_MISSES)
			connection->side = OTHERS;
		return 0;
	}
	if (TAG_SERIES(tag) != connection->series)
		change_series(connection, TAG_SERIES(tag));
	return tag;
}

/* At an answer's first segment, then now and then: round-trip times do not change with each packet. */
static inline __attribute__((always_inline)) void
sample_rtt(struct connection *connection, struct figures *figures, struct bpf_sock *common)
{
	struct bpf_tcp_sock *tcp;
	struct bpf_sock *sk;

	if (connection->packets++ % RTT_EACH || !common)
		return;
	sk = bpf_sk_fullsock(common);
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	if (!tcp || !tcp->srtt_us)
		return;
	count(connection->side == UPSTREAM ? figures->rtt : figures->client_rtt, (u64)(tcp->srtt_us >> 3) * 1000);
}

/* When a segment leaves, as TCP has written it on it (CLOCK_MONOTONIC, since Linux 4.20): a look at the clock less. */
static inline __attribute__((always_inline)) u64 left_ns(struct __sk_buff *skb)
{
	u64 at = skb->tstamp;

	return at ? at : bpf_ktime_get_ns();
}

/* An answer begins. */
static inline __attribute__((always_inline)) void first(struct connection *connection, u32 *histogram, u64 now)
{
	u32 tick = now >> TICK_BITS;

	count(histogram, now > connection->request_ns ? now - connection->request_ns : 0);
	connection->request_ns = 0;
	connection->packets = 1;
	if (tick - connection->rtt_tick > RTT_PAUSE_TICKS) {
		connection->rtt_tick = tick;
		connection->packets = 0; /* it is looked at */
	}
}

static inline __attribute__((always_inline)) void
see_upstream(struct __sk_buff *skb, struct connection *connection, struct figures *figures, u64 tag, u32 bytes,
	     bool incoming)
{
	u64 now;

	flush(connection);
	if (!incoming) {
		figures->bytes_out += bytes;
		connection->request_ns = left_ns(skb);
		connection->data_ns = 0;
		connection->flags &= ~FRESH;
		if (tag & TAG_FRESH)
			connection->flags |= FRESH;
		return;
	}
	figures->bytes_in += bytes;
	if (connection->flags & FRESH)
		return;
	now = bpf_ktime_get_ns();
	if (connection->request_ns)
		first(connection, figures->first_byte, now);
	else if (connection->data_ns)
		count(figures->gap, now - connection->data_ns);
	connection->data_ns = now;
}

static inline __attribute__((always_inline)) void
see_client(struct __sk_buff *skb, struct connection *connection, struct figures *figures, u32 bytes, bool incoming)
{
	flush(connection);
	if (incoming) {
		if (connection->series)
			figures->client_bytes_in += bytes;
		else
			connection->early_bytes += bytes;
		connection->request_ns = bpf_ktime_get_ns();
		return;
	}
	figures->client_bytes_out += bytes;
	if (!connection->request_ns)
		return; /* the middle of an answer: no look at the clock */
	first(connection, figures->client_first_byte, left_ns(skb));
	if (connection->flags & ACCEPTED)
		return;
	connection->flags |= ACCEPTED;
	figures->client_bytes_in += connection->early_bytes;
	if (!connection->data_ns)
		return; /* its handshake was before these programs */
	figures->client_connections++;
	if (connection->accepted_ns > connection->data_ns)
		count(figures->accept_wait, connection->accepted_ns - connection->data_ns);
}

static inline __attribute__((always_inline)) void
see_reset(struct connection *connection, struct figures *figures, bool incoming)
{
	if (connection->side == UPSTREAM) {
		if (incoming)
			figures->resets_in++;
		else
			figures->resets_out++;
	} else {
		if (incoming)
			figures->client_resets_in++;
		else
			figures->client_resets_out++;
	}
}

/* The middle of an answer: most packets, so nothing is touched but the connection, and for a gap one count. What gathers
 * is put down now and then, and when something else happens to the connection. False: it is something else. */
static inline __attribute__((always_inline)) bool in_mid_answer(struct connection *connection, u32 bytes, bool incoming)
{
	struct figures *figures;
	u64 now;

	if (connection->request_ns || connection->packets % RTT_EACH == 0 || connection->peer_full || connection->we_full)
		return false;
	if (connection->side == CLIENT) {
		if (incoming || !(connection->flags & ACCEPTED))
			return false;
	} else {
		if (!incoming || !connection->data_ns || connection->side != UPSTREAM)
			return false;
		figures = figures_of(connection->series);
		if (!figures)
			return false;
		now = bpf_ktime_get_ns();
		count(figures->gap, now - connection->data_ns);
		connection->data_ns = now;
	}
	connection->packets++;
	connection->bytes += bytes;
	return true;
}

static inline __attribute__((always_inline)) void
see_segment(struct __sk_buff *skb, struct connection *connection, u32 owner, struct segment *found, bool incoming)
{
	bool plain = found->payload && found->window && !(found->flags & TCP_RST);
	struct figures *figures;
	u64 tag;

	if (plain && connection->owner == owner && in_mid_answer(connection, found->payload, incoming))
		return;
	tag = tag_of(connection, owner, incoming ? found->payload : 0);
	if (!tag)
		return;
	figures = figures_of(connection->series);
	if (!figures)
		return;
	if (found->flags & TCP_RST) {
		see_reset(connection, figures, incoming);
		return;
	}
	see_window(connection, !found->window, incoming);
	if (!found->payload)
		return;
	if (connection->side == UPSTREAM)
		see_upstream(skb, connection, figures, tag, found->payload, incoming);
	else
		see_client(skb, connection, figures, found->payload, incoming);
	sample_rtt(connection, figures, skb->sk);
}

/* One of so many packets of a connection is timed, and stands for all of them. */
static inline __attribute__((always_inline)) void timed(u32 program, u64 begun)
{
	struct timing *timing = timings.lookup(&program);

	if (timing)
		timing->runs += TIMED_EACH;
	end_timing(timing, begun);
}

static inline __attribute__((always_inline)) void see(struct __sk_buff *skb, u32 program, bool incoming)
{
	struct connection *connection;
	struct segment found = {};
	u64 begun = 0;
	u32 zero = 0;
	u64 cookie;
	u32 *many;

	if (!read_segment(skb, &found) || found.flags & TCP_SYN)
		return;
	if (!found.payload && found.window && !(found.flags & TCP_RST)) {
		many = full.lookup(&zero);
		if (!many || !*many)
			return; /* most packets that carry nothing: they are not even counted */
	}
	cookie = bpf_get_socket_cookie(skb);
	connection = place_of(cookie);
	if (!connection)
		return;
	if (++connection->looks % TIMED_EACH == 0)
		begun = bpf_ktime_get_ns();
	see_segment(skb, connection, OWNER(cookie), &found, incoming);
	if (begun)
		timed(program, begun);
}

int on_incoming(struct __sk_buff *skb)
{
	see(skb, 1, true);
	return 1;
}

int on_outgoing(struct __sk_buff *skb)
{
	see(skb, 2, false);
	return 1;
}

/* What each route and target does in the kernel. A worker tags its sockets: a memory-mapped array says, by a socket's
 * cookie, which series (route and target) its packets belong to at this moment. So a tag costs the worker a store, and
 * needs no capability. Sockets without a tag, those of everybody else, are let alone after a look.
 *
 * Times are by CLOCK_MONOTONIC, in nanoseconds.
 */
#include <sluicegate.h>

/* TAGS (a power of two) and SERIES are given when it is compiled. */

struct tag {
	u64 cookie;	 /* 0: nobody's */
	u64 series;	 /* and flags */
	u64 accepted_ns; /* when the worker got the connection from the kernel; of clients' alone */
};

#define SERIES_MASK 0xffffffffULL
#define FRESH (1ULL << 32) /* a new TLS connection: its first bytes may be session tickets, which answer nothing */

enum side { OTHERS = 0, UPSTREAM = 1, CLIENT = 2 };

/* What is known of one connection; it ends with the socket. */
struct connection {
	u64 cookie;
	u64 bytes;	  /* of the answer under way that are not in the figures yet */
	bool fresh;	  /* what comes now may be no answer (FRESH) */
	u64 since_ns;	  /* of the connect, then of the handshake's end */
	u64 request_ns;	  /* the last byte of a request, until its answer begins */
	u64 data_ns;	  /* the last byte of an answer under way */
	u64 rtt_ns;	  /* when its RTT was looked at for a first byte */
	u64 peer_full_ns; /* since when the peer takes nothing more */
	u64 we_full_ns;	  /* since when we take nothing more */
	u32 tag_at;	  /* where its tag is, if it has one */
	u32 early_bytes;  /* a client's first ones, which come before its worker knows of the connection */
	u32 series;	  /* in which it counts as open */
	u8 side;
	u8 watched;	  /* its end will be told */
	u8 misses;	  /* data packets without a tag */
	u8 packets;	  /* of an answer, to choose some of them by */
	u8 looks;	  /* to time some of them */
	u8 accepted;	  /* its wait for accept() has been counted */
};

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

BPF_F_TABLE("array", u32, struct tag, tags, TAGS, BPF_F_MMAPABLE);
BPF_PERCPU_ARRAY(series, struct figures, SERIES);
BPF_SK_STORAGE(connections, struct connection);
/* How many connections have a full window: as long as it is 0, bare acknowledgements need no look. */
BPF_ARRAY(full, u32, 1);
/* 0: connections that had no room. */
BPF_PERCPU_ARRAY(losses, u64, 1);

/* 1 for a while after the load: connections that are older than these programs are taken in when they are seen. After it
 * a packet of a socket that nothing is known of, as most of others' are, needs no look at its tag. */
BPF_ARRAY(adopting, u32, 1);

TIMINGS(3);

#define RTT_EACH 16 /* packets of an answer */
#define RTT_PAUSE_NS 50000000ULL /* between the first bytes at which it is looked at, on a busy connection */
#define MOST_MISSES 16

static inline __attribute__((always_inline)) struct tag *tag_of(u64 cookie)
{
	u32 at = cookie & (TAGS - 1);
	struct tag *found = tags.lookup(&at);

	return found && found->cookie == cookie ? found : NULL;
}

static inline __attribute__((always_inline)) void lost(void)
{
	u32 zero = 0;
	u64 *counted = losses.lookup(&zero);

	if (counted)
		(*counted)++;
}

static inline __attribute__((always_inline)) struct connection *
new_connection(struct bpf_sock *sk, u64 cookie, u8 side)
{
	struct connection *made = connections.sk_storage_get(sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!made) {
		lost();
		return NULL;
	}
	made->cookie = cookie;
	made->tag_at = cookie & (TAGS - 1);
	made->side = side;
	return made;
}

static inline __attribute__((always_inline)) struct figures *figures_of(u32 number)
{
	return series.lookup(&number);
}

static inline __attribute__((always_inline)) void count_open(struct connection *connection, u32 number, s64 change)
{
	struct figures *figures = figures_of(number);

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

/* The connection works for another route or target from now on. */
static inline __attribute__((always_inline)) void change_series(struct connection *connection, u32 number)
{
	flush(connection);
	if (connection->watched) {
		if (connection->series)
			count_open(connection, connection->series, -1);
		if (number)
			count_open(connection, number, 1);
	}
	connection->series = number;
}

static inline __attribute__((always_inline)) void add_full(struct connection *connection, u64 since_ns, bool ours)
{
	struct figures *figures = figures_of(connection->series);
	u64 took = bpf_ktime_get_ns() - since_ns;
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
	u64 *since = incoming ? &connection->peer_full_ns : &connection->we_full_ns;
	u32 zero = 0;
	u32 *many;

	if (!connection->watched || none == (*since != 0))
		return;
	if (none) {
		*since = bpf_ktime_get_ns();
		many = full.lookup(&zero);
		if (many)
			__sync_fetch_and_add(many, 1);
	} else {
		add_full(connection, *since, !incoming);
		*since = 0;
	}
}

/* Retransmits and the connection's end are told; what others have asked for stays. */
static inline __attribute__((always_inline)) void watch(struct bpf_sock_ops *ops)
{
	u32 wanted = BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;

	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | wanted);
}

static inline __attribute__((always_inline)) void see_socket(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct connection *connection;
	struct figures *figures;
	struct tag *tag;
	u32 number;

	if (!sk)
		return;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		tag = tag_of(bpf_get_socket_cookie(ops));
		if (!tag)
			return;
		connection = new_connection(sk, tag->cookie, UPSTREAM);
		if (!connection)
			return;
		connection->since_ns = bpf_ktime_get_ns();
		return;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		connection = connections.sk_storage_get(sk, NULL, 0);
		if (!connection)
			return;
		watch(ops);
		connection->watched = 1;
		tag = tag_of(bpf_get_socket_cookie(ops));
		if (!tag)
			return;
		number = tag->series & SERIES_MASK;
		change_series(connection, number);
		figures = figures_of(number);
		if (!figures)
			return;
		figures->connections++;
		count(figures->connect, bpf_ktime_get_ns() - connection->since_ns);
		count(figures->rtt, (u64)(ops->srtt_us >> 3) * 1000);
		return;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		connection = new_connection(sk, bpf_get_socket_cookie(ops), CLIENT);
		if (!connection)
			return;
		watch(ops);
		connection->watched = 1;
		connection->since_ns = bpf_ktime_get_ns();
		return;
	case BPF_SOCK_OPS_RETRANS_CB:
		connection = connections.sk_storage_get(sk, NULL, 0);
		if (!connection)
			return;
		figures = figures_of(connection->series);
		if (!figures)
			return;
		if (connection->side == UPSTREAM)
			figures->retransmits++;
		else
			figures->client_retransmits++;
		return;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] != BPF_TCP_CLOSE)
			return;
		connection = connections.sk_storage_get(sk, NULL, 0);
		if (!connection || !connection->watched)
			return;
		see_window(connection, false, true);
		see_window(connection, false, false);
		flush(connection);
		if (connection->series)
			count_open(connection, connection->series, -1);
		connection->watched = 0;
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

/* A connection that is older than these programs. Clients' tags have a time of accept, upstreams' have none. */
static inline __attribute__((always_inline)) struct connection *adopt(struct __sk_buff *skb, struct bpf_sock *sk)
{
	u32 zero = 0;
	u32 *wanted = adopting.lookup(&zero);
	struct tag *tag;

	if (!wanted || !*wanted)
		return NULL;
	tag = tag_of(bpf_get_socket_cookie(skb));
	if (!tag)
		return NULL;
	return new_connection(sk, tag->cookie, tag->accepted_ns ? CLIENT : UPSTREAM);
}

/* The connection of a tagged socket and its present series; NULL for everybody else's. `came`: bytes from its peer. */
static inline __attribute__((always_inline)) struct connection *
known(struct __sk_buff *skb, struct bpf_sock *sk, struct connection *connection, struct tag **tag, u32 came)
{
	u32 number;

	if (!connection) {
		connection = adopt(skb, sk);
		if (!connection)
			return NULL;
	}
	if (connection->side == OTHERS)
		return NULL;
	*tag = tags.lookup(&connection->tag_at);
	if (!*tag)
		return NULL;
	if ((*tag)->cookie != connection->cookie) {
		if (came && connection->side == CLIENT) {
			connection->request_ns = bpf_ktime_get_ns();
			connection->early_bytes += came;
		}
		if (++connection->misses >= MOST_MISSES)
			connection->side = OTHERS;
		return NULL;
	}
	number = (*tag)->series & SERIES_MASK;
	if (number != connection->series)
		change_series(connection, number);
	return connection;
}

/* At an answer's first segment, then now and then: round-trip times do not change with each packet. */
static inline __attribute__((always_inline)) void
sample_rtt(struct connection *connection, struct figures *figures, struct bpf_sock *common)
{
	struct bpf_tcp_sock *tcp;
	struct bpf_sock *sk;

	if (connection->packets++ % RTT_EACH)
		return;
	sk = bpf_sk_fullsock(common);
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	if (!tcp || !tcp->srtt_us)
		return;
	count(connection->side == UPSTREAM ? figures->rtt : figures->client_rtt, (u64)(tcp->srtt_us >> 3) * 1000);
}

/* An answer begins. */
static inline __attribute__((always_inline)) void first(struct connection *connection, u32 *histogram, u64 now)
{
	count(histogram, now - connection->request_ns);
	connection->request_ns = 0;
	connection->packets = 1;
	if (now - connection->rtt_ns > RTT_PAUSE_NS) {
		connection->rtt_ns = now;
		connection->packets = 0; /* it is looked at */
	}
}

static inline __attribute__((always_inline)) void
see_upstream(struct connection *connection, struct figures *figures, u64 series, u32 bytes, bool incoming)
{
	u64 now = bpf_ktime_get_ns();

	flush(connection);
	if (!incoming) {
		figures->bytes_out += bytes;
		connection->request_ns = now;
		connection->data_ns = 0;
		connection->fresh = series & FRESH ? true : false;
		return;
	}
	figures->bytes_in += bytes;
	if (connection->fresh)
		return;
	if (connection->request_ns)
		first(connection, figures->first_byte, now);
	else if (connection->data_ns)
		count(figures->gap, now - connection->data_ns);
	connection->data_ns = now;
}

static inline __attribute__((always_inline)) void
see_client(struct connection *connection, struct figures *figures, struct tag *tag, u32 bytes, bool incoming)
{
	flush(connection);
	if (incoming) {
		figures->client_bytes_in += bytes;
		connection->request_ns = bpf_ktime_get_ns();
		return;
	}
	figures->client_bytes_out += bytes;
	if (!connection->request_ns)
		return; /* the middle of an answer: no look at the clock */
	first(connection, figures->client_first_byte, bpf_ktime_get_ns());
	figures->client_bytes_in += connection->early_bytes;
	connection->early_bytes = 0;
	if (connection->accepted)
		return;
	connection->accepted = 1;
	if (!connection->since_ns)
		return;
	figures->client_connections++;
	if (tag->accepted_ns > connection->since_ns)
		count(figures->accept_wait, tag->accepted_ns - connection->since_ns);
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

	if (connection->request_ns || connection->packets % RTT_EACH == 0)
		return false;
	if (connection->side == CLIENT) {
		if (incoming || !connection->accepted)
			return false;
	} else {
		if (!incoming || !connection->data_ns)
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

/* One of so many packets of a connection: it stands for all of them. */
static inline __attribute__((always_inline)) void timed(u32 program, u64 begun)
{
	struct timing *timing;

	if (!begun)
		return;
	timing = timings.lookup(&program);
	if (timing)
		timing->runs += TIMED_EACH;
	end_timing(timing, begun);
}

static inline __attribute__((always_inline)) void see(struct __sk_buff *skb, u32 program, bool incoming)
{
	struct connection *connection;
	struct segment found = {};
	struct figures *figures;
	struct bpf_sock *sk;
	struct tag *tag;
	u64 begun = 0;
	u32 zero = 0;
	u32 *many;

	if (!read_segment(skb, &found) || found.flags & TCP_SYN)
		return;
	if (!found.payload && found.window && !(found.flags & TCP_RST)) {
		many = full.lookup(&zero);
		if (!many || !*many)
			return; /* most packets that carry nothing: they are not even counted */
	}
	sk = skb->sk;
	if (!sk)
		return;
	connection = connections.sk_storage_get(sk, NULL, 0);
	if (connection && connection->side == OTHERS)
		return;
	if (connection && ++connection->looks % TIMED_EACH == 0)
		begun = bpf_ktime_get_ns();
	if (connection && found.payload && found.window && !(found.flags & TCP_RST) && !connection->peer_full_ns &&
	    !connection->we_full_ns && in_mid_answer(connection, found.payload, incoming)) {
		timed(program, begun);
		return;
	}
	connection = known(skb, sk, connection, &tag, incoming ? found.payload : 0);
	if (connection) {
		figures = figures_of(connection->series);
		if (figures && found.flags & TCP_RST) {
			see_reset(connection, figures, incoming);
		} else if (figures) {
			see_window(connection, !found.window, incoming);
			if (found.payload) {
				if (connection->side == UPSTREAM)
					see_upstream(connection, figures, tag->series, found.payload, incoming);
				else
					see_client(connection, figures, tag, found.payload, incoming);
				sample_rtt(connection, figures, sk);
			}
		}
	}
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

/* What each route and target does in the kernel. Each socket has a place in three arrays, by its cookie. In the first,
 * which is mapped into its memory, a worker writes which series (route and target) the socket's packets belong to at this
 * moment: a tag costs it a store, and needs no capability. The second is what most packets need, the third what few do:
 * programs cost what memory they have to wait for, so what is touched often is kept together. Sockets without a tag,
 * those of everybody else, are let alone after a look.
 *
 * Times are by CLOCK_MONOTONIC, in nanoseconds where nothing else is said. A *unit* is 1,024 of them, as histograms count.
 */
#include <sluicegate.h>
#include <routes.h>

BPF_F_TABLE("array", u32, struct tag, tags, PLACES, BPF_F_MMAPABLE);
BPF_ARRAY(passages, struct passage, PLACES);
BPF_ARRAY(details, struct details, PLACES);
BPF_PERCPU_ARRAY(series, struct figures, SERIES);
/* How many connections have a full window: as long as it is 0, bare acknowledgements need no look. */
BPF_ARRAY(full, u32, 1);
/* 0: connections whose place another one has. */
BPF_PERCPU_ARRAY(losses, u64, 1);

TIMINGS(3);

#define RTT_EACH TIMED_EACH  /* packets of answers */
#define RTT_IDLE_UNITS 48828 /* 50 ms: after a pause it is looked at once more */
#define PACED_UNITS (1 << 20) /* a second, that a segment may leave later */
#define MOST_MISSES 16

static inline __attribute__((always_inline)) struct figures *figures_of(u32 number)
{
	return series.lookup(&number);
}

static inline __attribute__((always_inline)) u32 present(void)
{
	return bpf_ktime_get_ns() >> 10;
}

/* When a segment leaves, as TCP has written it on it (CLOCK_MONOTONIC, since Linux 4.20): a look at the clock less. */
static inline __attribute__((always_inline)) u32 leaves(struct __sk_buff *skb)
{
	u64 at = skb->tstamp;

	return (at ? at : bpf_ktime_get_ns()) >> 10;
}

/* Units since then; a segment that waits its turn (pacing) may leave later than the next one comes. */
static inline __attribute__((always_inline)) u32 since(struct passage *passage, u32 now)
{
	u32 took = now - passage->at;

	return took < (u32)-PACED_UNITS ? took : 0;
}

static inline __attribute__((always_inline)) void count_open(struct passage *passage, s64 change)
{
	struct figures *figures = figures_of(passage->series);

	if (!figures || !passage->series || !(passage->state & WATCHED))
		return;
	if (passage->state & UPSTREAM)
		__sync_fetch_and_add(&figures->open, change);
	else
		__sync_fetch_and_add(&figures->client_open, change);
}

/* Put down what has gathered of an answer. */
static inline __attribute__((always_inline)) void flush(struct passage *passage)
{
	struct figures *figures;

	if (!passage->bytes)
		return;
	figures = figures_of(passage->series);
	if (figures && passage->state & UPSTREAM)
		figures->bytes_in += passage->bytes;
	else if (figures)
		figures->client_bytes_out += passage->bytes;
	passage->bytes = 0;
}

/* The connection works for another route or target from now on; 0: for none. */
static inline __attribute__((always_inline)) void change_series(struct passage *passage, u32 number)
{
	flush(passage);
	count_open(passage, -1);
	passage->series = number;
	count_open(passage, 1);
}

static inline __attribute__((always_inline)) void add_full(struct passage *passage, u64 took, bool ours)
{
	struct figures *figures = figures_of(passage->series);

	if (!figures)
		return;
	if (passage->state & UPSTREAM) {
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
static inline __attribute__((always_inline)) void
see_window(struct passage *passage, u32 at, bool none, bool incoming)
{
	struct details *known;
	u64 *begun;
	u32 zero = 0;
	u32 *many = full.lookup(&zero);
	u64 now;

	if (!many || !(passage->state & WATCHED) || (!none && (s32)*many <= 0))
		return;
	if (none)
		passage->state |= CLOSED;
	known = details.lookup(&at);
	if (!known)
		return;
	begun = incoming ? &known->peer_full_ns : &known->we_full_ns;
	if (none == (*begun != 0))
		return;
	now = bpf_ktime_get_ns();
	if (none) {
		*begun = now;
		__sync_fetch_and_add(many, 1);
		return;
	}
	__sync_fetch_and_add(many, -1);
	add_full(passage, now - *begun, !incoming);
	*begun = 0;
	if (!known->peer_full_ns && !known->we_full_ns)
		passage->state &= ~CLOSED;
}

/* Nothing more is known of whoever has the place. */
static inline __attribute__((always_inline)) void release(struct passage *passage, u32 at)
{
	see_window(passage, at, false, true);
	see_window(passage, at, false, false);
	change_series(passage, 0);
	passage->state = 0;
	passage->owner = 0;
}

/* NULL where another connection works for a route: its end will be told, and then the place is free. */
static inline __attribute__((always_inline)) struct details *
take(struct passage *passage, u32 at, u32 owner, u8 side)
{
	struct details *known = details.lookup(&at);

	if (!known || (passage->state & WATCHED && passage->series))
		return NULL;
	release(passage, at);
	__builtin_memset(known, 0, sizeof(*known));
	passage->owner = owner;
	passage->at = passage->bytes = 0;
	passage->series = 0;
	passage->packets = 0;
	passage->state = side;
	return known;
}

static inline __attribute__((always_inline)) void lost(void)
{
	u32 zero = 0;
	u64 *counted = losses.lookup(&zero);

	if (counted)
		(*counted)++;
}

/* Retransmits and the connection's end are told; what others have asked for stays. */
static inline __attribute__((always_inline)) void watch(struct bpf_sock_ops *ops, struct passage *passage)
{
	u32 wanted = BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;

	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | wanted);
	passage->state |= WATCHED;
}

static inline __attribute__((always_inline)) void
see_connected(struct bpf_sock_ops *ops, struct passage *passage, struct tag *tag, u32 at)
{
	struct details *known = details.lookup(&at);
	struct figures *figures;

	watch(ops, passage);
	if ((u32)tag->word != passage->owner)
		return; /* another socket has the place of its tag */
	change_series(passage, TAG_SERIES(tag->word));
	figures = figures_of(passage->series);
	if (!figures || !known)
		return;
	figures->connections++;
	count(figures->connect, bpf_ktime_get_ns() - known->since_ns);
	count(figures->rtt, (u64)(ops->srtt_us >> 3) * 1000);
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
	struct passage *passage;
	struct details *known;
	struct figures *figures;
	struct tag *tag;
	u64 cookie;
	u32 owner;
	u32 at;

	if (!is_wanted(ops))
		return;
	cookie = bpf_get_socket_cookie(ops);
	owner = OWNER(cookie);
	at = cookie & (PLACES - 1);
	passage = passages.lookup(&at);
	tag = tags.lookup(&at);
	if (!passage || !tag)
		return;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if ((u32)tag->word != owner)
			return;
		known = take(passage, at, owner, UPSTREAM);
		if (known)
			known->since_ns = bpf_ktime_get_ns();
		else
			lost();
		return;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (passage->owner == owner)
			see_connected(ops, passage, tag, at);
		return;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		known = take(passage, at, owner, CLIENT);
		if (!known) {
			lost();
			return;
		}
		known->since_ns = bpf_ktime_get_ns();
		watch(ops, passage);
		return;
	case BPF_SOCK_OPS_RETRANS_CB:
		figures = figures_of(passage->series);
		if (passage->owner != owner || !figures)
			return;
		if (passage->state & UPSTREAM)
			figures->retransmits++;
		else
			figures->client_retransmits++;
		return;
	case BPF_SOCK_OPS_STATE_CB:
		if (passage->owner == owner)
			release(passage, at);
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

/* A client's first bytes may come before its worker has heard of it: they are kept until it has. */
static inline __attribute__((always_inline)) void keep_early(u32 at, u32 bytes)
{
	struct details *known = details.lookup(&at);

	if (known)
		known->early_bytes += bytes;
}

static inline __attribute__((always_inline)) void miss(struct passage *passage, u32 at, u32 bytes, bool incoming)
{
	struct details *known = details.lookup(&at);

	if (incoming && bytes && passage->state & CLIENT) {
		passage->at = present();
		passage->state |= DUE;
		keep_early(at, bytes);
	}
	if (known && ++known->misses >= MOST_MISSES)
		passage->state &= ~(UPSTREAM | CLIENT);
}

/* After so many packets of answers, and at the first one after a pause: round-trip times do not change with each. */
static inline __attribute__((always_inline)) void
sample_rtt(struct passage *passage, struct figures *figures, struct bpf_sock *common)
{
	struct bpf_tcp_sock *tcp;
	struct bpf_sock *sk;

	if (passage->packets) {
		passage->packets--;
		return;
	}
	passage->packets = RTT_EACH - 1;
	if (!common)
		return;
	sk = bpf_sk_fullsock(common);
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	if (!tcp || !tcp->srtt_us)
		return;
	count(passage->state & UPSTREAM ? figures->rtt : figures->client_rtt, (u64)(tcp->srtt_us >> 3) * 1000);
}

static inline __attribute__((always_inline)) void request(struct passage *passage, u32 now)
{
	if (since(passage, now) > RTT_IDLE_UNITS)
		passage->packets = 0;
	passage->at = now;
	passage->state = (passage->state & ~(ANSWERING | FRESH)) | DUE;
}

static inline __attribute__((always_inline)) void
see_upstream(struct __sk_buff *skb, struct passage *passage, struct figures *figures, u64 word, u32 bytes, bool incoming)
{
	u32 now;

	if (!incoming) {
		figures->bytes_out += bytes;
		request(passage, leaves(skb));
		if (word & TAG_FRESH)
			passage->state |= FRESH;
		return;
	}
	figures->bytes_in += bytes;
	if (passage->state & FRESH)
		return;
	now = present();
	if (passage->state & DUE)
		count_units(figures->first_byte, since(passage, now));
	else if (passage->state & ANSWERING)
		count_units(figures->gap, since(passage, now));
	passage->at = now;
	passage->state = (passage->state & ~DUE) | ANSWERING;
	sample_rtt(passage, figures, skb->sk);
}

static inline __attribute__((always_inline)) void
see_accepted(struct passage *passage, struct figures *figures, struct tag *tag, u32 at)
{
	struct details *known = details.lookup(&at);

	passage->state |= ACCEPTED;
	if (!known)
		return;
	figures->client_bytes_in += known->early_bytes;
	known->early_bytes = 0;
	if (!known->since_ns)
		return;
	figures->client_connections++;
	if (tag->accepted_ns > known->since_ns)
		count(figures->accept_wait, tag->accepted_ns - known->since_ns);
}

static inline __attribute__((always_inline)) void
see_client(struct __sk_buff *skb, struct passage *passage, struct figures *figures, struct tag *tag, u32 at, u32 bytes,
	   bool incoming)
{
	if (incoming) {
		if (passage->series)
			figures->client_bytes_in += bytes;
		else
			keep_early(at, bytes);
		request(passage, present());
		return;
	}
	figures->client_bytes_out += bytes;
	if (passage->state & DUE) {
		count_units(figures->client_first_byte, since(passage, leaves(skb)));
		passage->state = (passage->state & ~DUE) | ANSWERING;
		if (!(passage->state & ACCEPTED) && passage->series)
			see_accepted(passage, figures, tag, at);
	}
	sample_rtt(passage, figures, skb->sk);
}

static inline __attribute__((always_inline)) void
see_reset(struct passage *passage, struct figures *figures, bool incoming)
{
	if (passage->state & UPSTREAM) {
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

/* The middle of an answer: most packets, so nothing is touched but the passage, and for a gap one count. What gathers is
 * put down now and then, and when something else happens to the connection. False: it is something else. */
static inline __attribute__((always_inline)) bool mid_answer(struct passage *passage, u32 bytes, bool incoming)
{
	u8 side = incoming ? UPSTREAM : CLIENT;
	struct figures *figures;
	u32 now;

	if (UNLIKELY((passage->state & (side | DUE | ANSWERING | FRESH | CLOSED)) != (side | ANSWERING) ||
		     !passage->packets))
		return false;
	if (incoming) {
		figures = figures_of(passage->series);
		if (!figures)
			return false;
		now = present();
		count_units(figures->gap, since(passage, now));
		passage->at = now;
	}
	passage->packets--;
	passage->bytes += bytes;
	return true;
}

/* The same. One of so many packets is timed, and stands for all of them. */
static inline __attribute__((always_inline)) bool
in_mid_answer(struct passage *passage, u32 bytes, u32 program, bool incoming)
{
	struct timing *timing;
	bool done;
	u64 begun;

	if (LIKELY(passage->packets != RTT_EACH / 2))
		return mid_answer(passage, bytes, incoming);
	begun = bpf_ktime_get_ns();
	done = mid_answer(passage, bytes, incoming);
	timing = timings.lookup(&program);
	if (!timing || !done)
		return done;
	timing->runs += RTT_EACH;
	end_timing(timing, begun);
	return true;
}

static inline __attribute__((always_inline)) void
see_segment(struct __sk_buff *skb, struct passage *passage, u32 at, u32 owner, struct segment *found, bool incoming)
{
	struct figures *figures;
	struct tag *tag;
	u64 word;

	tag = tags.lookup(&at);
	if (!tag)
		return;
	word = tag->word;
	if (passage->owner != owner) { /* nothing is known of it, or it is older than these programs */
		if ((u32)word != owner || !take(passage, at, owner, word & TAG_CLIENT ? CLIENT : UPSTREAM))
			return;
	}
	if (!(passage->state & (UPSTREAM | CLIENT)))
		return;
	if ((u32)word == owner) {
		if (TAG_SERIES(word) != passage->series)
			change_series(passage, TAG_SERIES(word));
	} else if (passage->series) {
		word = 0; /* another socket's, for which there is no place: this one goes on as before */
	} else {
		miss(passage, at, found->payload, incoming);
		return;
	}
	figures = figures_of(passage->series);
	if (!figures)
		return;
	if (found->flags & TCP_RST) {
		see_reset(passage, figures, incoming);
		return;
	}
	see_window(passage, at, !found->window, incoming);
	if (!found->payload)
		return;
	flush(passage);
	if (passage->state & UPSTREAM)
		see_upstream(skb, passage, figures, word, found->payload, incoming);
	else
		see_client(skb, passage, figures, tag, at, found->payload, incoming);
}

static inline __attribute__((always_inline)) void see(struct __sk_buff *skb, u32 program, bool incoming)
{
	struct passage *passage;
	struct segment found = {};
	struct timing *timing;
	u32 zero = 0;
	u64 cookie;
	u64 begun;
	u32 *many;
	u32 owner;
	u32 at;

	if (UNLIKELY(!read_segment(skb, &found) || found.flags & TCP_SYN))
		return;
	if (!found.payload && found.window && !(found.flags & TCP_RST)) {
		many = full.lookup(&zero);
		if (!many || !*many)
			return; /* most packets that carry nothing: they are not even counted */
	}
	cookie = bpf_get_socket_cookie(skb);
	at = cookie & (PLACES - 1);
	owner = OWNER(cookie);
	passage = passages.lookup(&at);
	if (!passage)
		return;
	if (LIKELY(passage->owner == owner && found.payload && found.window && !(found.flags & TCP_RST) &&
		   in_mid_answer(passage, found.payload, program, incoming)))
		return;
	timing = timings.lookup(&program);
	begun = begin_timing(timing);
	see_segment(skb, passage, at, owner, &found, incoming);
	end_timing(timing, begun);
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

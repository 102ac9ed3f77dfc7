/* Connections that are refused: EPERM from connect(2) and sendto(2), at once. A rule is a bit (its slot); each map says
 * which rules a user, a cgroup, a destination, a port, a process fits, and a connection is refused if one bit is left.
 *
 * What a process runs cannot be judged here: user space does, once for each program that a process execs. Until it has,
 * a rule that fails open lets pass (user space cuts what it should not have), one that fails closed does not.
 *
 * A rule with an allowance refuses only beyond it: connections are counted where they are made; for bytes the socket is
 * marked there, and what it carries is counted and, beyond the allowance, dropped packet by packet.
 */
#include <sluicegate.h>
#include <callers.h>
#include <allowances.h>

/* SLOTS (64), PREFIXES, PROCESSES are given when it is compiled. */

#define LEVELS 12 /* of cgroups, below each other, that are looked at */

struct prefix {
	u32 bits; /* 96 and more for IPv4 */
	struct address address;
};

/* Slots that have no condition of a kind fit everything in that kind. */
struct settings {
	u64 live;
	u64 closed;
	u64 any_user;
	u64 any_cgroup;
	u64 any_destination;
	u64 any_port;
	u64 any_process;
	u64 limited; /* with an allowance */
	u64 metered; /* one of bytes */
	u64 mark; /* of the gateway's own connections, which no rule is about */
};

/* Which rules what a process runs fits; of the program that it was judged for. */
struct verdict {
	u64 image_ns;
	u64 slots;
};

/* A process that user space is to judge. */
struct unjudged {
	u32 tgid;
	u32 connecting; /* not only begun */
};

BPF_ARRAY(settings, struct settings, 1);
BPF_HASH(users, u32, u64, 1024);
BPF_HASH(cgroups, u64, u64, 1024);
BPF_HASH(ports, u32, u64, 4096);
BPF_HASH(gateway, u32, u8, 1024); /* its processes */
BPF_LPM_TRIE(destinations, struct prefix, u64, PREFIXES);
BPF_TABLE("lru_hash", u32, struct verdict, verdicts, PROCESSES);
BPF_TABLE("extern", u32, u64, images, 0);
/* CLOCK_BOOTTIME until which user space is taken to live: rules that fail open are void behind it. */
BPF_ARRAY(alive, u64, 1);
BPF_ARRAY(until, u64, SLOTS);	      /* CLOCK_BOOTTIME; 0: for ever */
BPF_PERCPU_ARRAY(denied, u64, SLOTS); /* by slot */
BPF_PERCPU_ARRAY(losses, u64, 2);     /* 0: processes that user space was not told of; 1: sockets that were not marked */
BPF_RINGBUF_OUTPUT(events, 16);
TIMINGS(6);
BPF_ARRAY(allowances, struct allowance, SLOTS);
BPF_ARRAY(spent, u64, SLOTS);		     /* of an allowance, and when: allowances.h */
BPF_PERCPU_ARRAY(dropped_bytes, u64, SLOTS); /* of payload */
BPF_SK_STORAGE(metered, struct metered);

static inline __attribute__((always_inline)) void tell(u32 tgid, bool connecting)
{
	struct unjudged event = {.tgid = tgid, .connecting = connecting};
	u32 zero = 0;
	u64 *lost;

	if (events.ringbuf_output(&event, sizeof(event), 0)) {
		lost = losses.lookup(&zero);
		if (lost)
			(*lost)++;
	}
}

static inline __attribute__((always_inline)) u64 of_cgroups(void)
{
	u64 slots = 0;
	u64 *found;
	u64 id;

	for (int level = 0; level < LEVELS; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		found = cgroups.lookup(&id);
		if (found)
			slots |= *found;
	}
	return slots;
}

static inline __attribute__((always_inline)) u64 of_process(u64 closed)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	u64 *image = images.lookup(&tgid);
	struct verdict *verdict = verdicts.lookup(&tgid);

	if (verdict && verdict->image_ns == (image ? *image : 0))
		return verdict->slots;
	tell(tgid, true);
	return closed;
}

static inline __attribute__((always_inline)) bool is_gateways(struct bpf_sock_addr *ctx, u32 mark)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct bpf_sock *sk = ctx->sk;

	return (sk && FIELD(sk->mark) & mark) || gateway.lookup(&tgid);
}

static inline __attribute__((always_inline)) bool is_over(u32 slot, u64 now)
{
	u64 *end = until.lookup(&slot);

	return !end || (*end && now >= *end);
}

static inline __attribute__((always_inline)) void count_denied(u32 slot)
{
	u64 *found = denied.lookup(&slot);

	if (found)
		(*found)++;
}

/* Charges a connection to the rules with an allowance that it fits, and marks its socket for those of bytes. False: one
 * of them has no room. */
static inline __attribute__((always_inline)) bool charge(struct bpf_sock_addr *ctx, u64 slots, u64 of_bytes, u64 now)
{
	struct bpf_sock *sk = ctx->sk;
	struct metered *mark;

	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (!(slots >> slot & 1))
			continue;
		u32 at = slot;
		struct allowance *allowance = allowances.lookup(&at);
		u64 *word = spent.lookup(&at);
		if (!allowance || !word || !allowance->window_ns || is_over(at, now))
			continue;
		if (!spend(word, allowance, now, of_bytes >> slot & 1 ? 0 : 1)) {
			count_denied(at);
			return false;
		}
	}
	if (slots & of_bytes && sk) {
		mark = metered.sk_storage_get(sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (mark) {
			mark->slots = slots & of_bytes;
			mark->at_ns = now;
		} else {
			u32 one = 1;
			u64 *lost = losses.lookup(&one);
			if (lost)
				(*lost)++;
		}
	}
	return true;
}

/* 1: may pass. */
static inline __attribute__((always_inline)) int judge(struct bpf_sock_addr *ctx, struct prefix *to)
{
	u32 zero = 0;
	struct settings *set = settings.lookup(&zero);
	u32 uid = bpf_get_current_uid_gid();
	u32 port = bpf_ntohs(ctx->user_port);
	u64 slots;
	u64 *found;
	u64 now;

	if (!set || !set->live)
		return 1;
	slots = set->live;
	found = destinations.lookup(to);
	slots &= set->any_destination | (found ? *found : 0);
	if (!slots)
		return 1;
	found = ports.lookup(&port);
	slots &= set->any_port | (found ? *found : 0);
	found = users.lookup(&uid);
	slots &= set->any_user | (found ? *found : 0);
	if (slots & ~set->any_cgroup)
		slots &= set->any_cgroup | of_cgroups();
	if (slots & ~set->any_process)
		slots &= set->any_process | of_process(set->closed);
	if (!slots || is_gateways(ctx, set->mark))
		return 1;
	now = bpf_ktime_get_boot_ns();
	found = alive.lookup(&zero);
	if (!found || now > *found)
		slots &= set->closed;
	u64 limited = slots & set->limited;

	slots &= ~set->limited;
	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (!(slots >> slot & 1) || is_over(slot, now))
			continue;
		count_denied(slot);
		return 0;
	}
	return !limited || charge(ctx, limited, set->metered, now);
}

static inline __attribute__((always_inline)) int judge4(struct bpf_sock_addr *ctx)
{
	struct prefix to = {.bits = 128};

	map_ip4(&to.address, ctx->user_ip4);
	return judge(ctx, &to);
}

/* An IPv6 socket may speak IPv4: the address is then ::ffff:a.b.c.d, as all are here. */
static inline __attribute__((always_inline)) int judge6(struct bpf_sock_addr *ctx)
{
	struct prefix to = {.bits = 128};

	to.address.word[0] = FIELD(ctx->user_ip6[0]);
	to.address.word[1] = FIELD(ctx->user_ip6[1]);
	to.address.word[2] = FIELD(ctx->user_ip6[2]);
	to.address.word[3] = FIELD(ctx->user_ip6[3]);
	return judge(ctx, &to);
}

int on_connect4(struct bpf_sock_addr *ctx)
{
	u32 program = 0;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = judge4(ctx);

	end_timing(timing, begun);
	return said;
}

int on_connect6(struct bpf_sock_addr *ctx)
{
	u32 program = 1;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = judge6(ctx);

	end_timing(timing, begun);
	return said;
}

int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	u32 program = 2;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = judge4(ctx);

	end_timing(timing, begun);
	return said;
}

int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	u32 program = 3;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = judge6(ctx);

	end_timing(timing, begun);
	return said;
}

/* A packet of a marked socket, either way. What carries no payload passes: connections stay up, and end. */
static inline __attribute__((always_inline)) int meter(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct settings *set = settings.lookup(&zero);
	struct metered *mark;
	struct bpf_sock *sk;
	u64 *found;
	u64 slots;
	u64 now;
	u32 payload;

	if (!skb->sk || !set)
		return 1;
	sk = bpf_sk_fullsock(skb->sk);
	if (!sk)
		return 1;
	mark = metered.sk_storage_get(sk, NULL, 0);
	if (!mark)
		return 1;
	slots = mark->slots & set->metered & set->live;
	payload = payload_of(skb);
	if (!slots || !payload)
		return 1;
	now = bpf_ktime_get_boot_ns();
	found = alive.lookup(&zero);
	if (!found || now > *found)
		slots &= set->closed;
	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (!(slots >> slot & 1))
			continue;
		u32 at = slot;
		struct allowance *allowance = allowances.lookup(&at);
		u64 *word = spent.lookup(&at);
		/* A mark may be of another rule, which had this slot before. */
		if (!allowance || !word || !allowance->window_ns || mark->at_ns < allowance->from_ns || is_over(at, now))
			continue;
		if (!spend(word, allowance, now, payload)) {
			found = dropped_bytes.lookup(&at);
			if (found)
				*found += payload;
			return 0;
		}
	}
	return 1;
}

int on_incoming(struct __sk_buff *skb)
{
	u32 program = 4;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = meter(skb);

	end_timing(timing, begun);
	return said;
}

int on_outgoing(struct __sk_buff *skb)
{
	u32 program = 5;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = meter(skb);

	end_timing(timing, begun);
	return said;
}

/* A new program: judged before it connects, if user space is quick. */
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	struct settings *set = settings.lookup(&zero);

	if (set && set->live & ~set->any_process)
		tell(bpf_get_current_pid_tgid() >> 32, false);
	return 0;
}

/* Or the next process of this number would be taken for it. */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 ids = bpf_get_current_pid_tgid();
	u32 tgid = ids >> 32;

	if (tgid == (u32)ids)
		verdicts.delete(&tgid);
	return 0;
}

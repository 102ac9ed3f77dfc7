/* Connections that are refused: EPERM from connect(2) and sendto(2), at once. A rule is a bit (its slot); each map says
 * which rules a user, a cgroup, a destination, a port, a process fits, and a connection is refused if one bit is left.
 *
 * What a process runs cannot be judged here: user space does, once for each program that a process execs. Until it has,
 * a rule that fails open lets pass (user space cuts what it should not have), one that fails closed does not.
 */
#include <sluicegate.h>
#include <callers.h>

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
BPF_PERCPU_ARRAY(losses, u64, 1);     /* 0: processes that user space was not told of */
BPF_RINGBUF_OUTPUT(events, 16);

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
	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (!(slots >> slot & 1))
			continue;
		u32 at = slot;
		u64 *end = until.lookup(&at);
		if (!end || (*end && now >= *end))
			continue;
		found = denied.lookup(&at);
		if (found)
			(*found)++;
		return 0;
	}
	return 1;
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
	return judge4(ctx);
}

int on_connect6(struct bpf_sock_addr *ctx)
{
	return judge6(ctx);
}

int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	return judge4(ctx);
}

int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	return judge6(ctx);
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

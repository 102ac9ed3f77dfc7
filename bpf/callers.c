/* Who opened a connection. A process is only known for sure where it acts itself: at connect(2) it is stamped into its
 * socket, and once the kernel has chosen the source port, the stamp is put where the connection's addresses find it. It
 * ends with the connection. Programs at the root cgroup see all processes of this host, whatever their namespaces.
 */
#include <sluicegate.h>
#include <callers.h>

/* CONNECTIONS and IMAGES are given when it is compiled. */

struct tuple {
	struct address source;
	struct address destination;
	u64 netns;
	u32 source_port; /* host order */
	u32 destination_port;
};

BPF_SK_STORAGE(stamps, struct stamp);
__attribute__((section("maps/export"))) struct stamps_table_t __stamps;

/* When each process (tgid) became what it is, by CLOCK_BOOTTIME: one that has exec'ed is another program. */
BPF_TABLE_PUBLIC("lru_hash", u32, u64, images, IMAGES);
BPF_F_TABLE("lru_hash", struct tuple, struct stamp, connections, CONNECTIONS, 0);
/* Network namespaces that have connected, so that a connection of any of them can be found. */
BPF_F_TABLE("lru_hash", u64, u8, namespaces, 1024, 0);
/* 0: sockets without room for a stamp; 1: connections without room. */
BPF_PERCPU_ARRAY(losses, u64, 2);
TIMINGS(3);

static inline __attribute__((always_inline)) void lost(u32 what)
{
	u64 *counted = losses.lookup(&what);

	if (counted)
		(*counted)++;
}

static inline __attribute__((always_inline)) void stamp_it(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	u64 ids = bpf_get_current_pid_tgid();
	u64 users = bpf_get_current_uid_gid();
	u32 tgid = ids >> 32;
	struct stamp *stamp;
	u64 *image;

	if (!sk)
		return;
	stamp = stamps.sk_storage_get(sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stamp) {
		lost(0);
		return;
	}
	image = images.lookup(&tgid);
	stamp->cookie = bpf_get_socket_cookie(ctx);
	stamp->netns = bpf_get_netns_cookie(ctx);
	stamp->cgroup = bpf_get_current_cgroup_id();
	stamp->at_ns = bpf_ktime_get_boot_ns();
	stamp->image_ns = image ? *image : 0;
	stamp->tgid = tgid;
	stamp->pid = ids;
	stamp->uid = users;
	stamp->gid = users >> 32;
	bpf_get_current_comm(stamp->comm, sizeof(stamp->comm));
}

static inline __attribute__((always_inline)) int connect4_of(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol == PROTOCOL_TCP)
		stamp_it(ctx);
	return 1;
}

static inline __attribute__((always_inline)) int connect6_of(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol == PROTOCOL_TCP)
		stamp_it(ctx);
	return 1;
}

static inline __attribute__((always_inline)) void read_tuple(struct bpf_sock_ops *ops, u64 netns, struct tuple *tuple)
{
	u32 source4 = FIELD(ops->local_ip4);
	u32 destination4 = FIELD(ops->remote_ip4);

	tuple->source.word[0] = FIELD(ops->local_ip6[0]);
	tuple->source.word[1] = FIELD(ops->local_ip6[1]);
	tuple->source.word[2] = FIELD(ops->local_ip6[2]);
	tuple->source.word[3] = FIELD(ops->local_ip6[3]);
	tuple->destination.word[0] = FIELD(ops->remote_ip6[0]);
	tuple->destination.word[1] = FIELD(ops->remote_ip6[1]);
	tuple->destination.word[2] = FIELD(ops->remote_ip6[2]);
	tuple->destination.word[3] = FIELD(ops->remote_ip6[3]);
	if (ops->family == FAMILY_IP4) {
		map_ip4(&tuple->source, source4);
		map_ip4(&tuple->destination, destination4);
	}
	tuple->netns = netns;
	tuple->source_port = ops->local_port;
	tuple->destination_port = bpf_ntohl(ops->remote_port);
}

static inline __attribute__((always_inline)) int socket_of(struct bpf_sock_ops *ops)
{
	struct tuple tuple = {};
	struct stamp *stamp;
	struct bpf_sock *sk;
	u8 one = 1;

	if (ops->op != BPF_SOCK_OPS_TCP_CONNECT_CB &&
	    !(ops->op == BPF_SOCK_OPS_STATE_CB && ops->args[1] == BPF_TCP_CLOSE))
		return 1;
	sk = ops->sk;
	if (!sk)
		return 1;
	stamp = stamps.sk_storage_get(sk, NULL, 0);
	if (!stamp)
		return 1;
	read_tuple(ops, stamp->netns, &tuple);
	if (ops->op == BPF_SOCK_OPS_STATE_CB) {
		connections.delete(&tuple);
		return 1;
	}
	/* What others asked to be told of stays. */
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	if (connections.update(&tuple, stamp))
		lost(1);
	namespaces.update(&stamp->netns, &one);
	return 1;
}

int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	u64 now = bpf_ktime_get_boot_ns();

	images.update(&tgid, &now);
	return 0;
}

/* Of a thread; the last one that ends is not always the first that began, but its process is as good as gone. */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 ids = bpf_get_current_pid_tgid();
	u32 tgid = ids >> 32;

	if (tgid == (u32)ids)
		images.delete(&tgid);
	return 0;
}

int on_connect4(struct bpf_sock_addr *ctx)
{
	u32 program = 0;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = connect4_of(ctx);

	end_timing(timing, begun);
	return said;
}

int on_connect6(struct bpf_sock_addr *ctx)
{
	u32 program = 1;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = connect6_of(ctx);

	end_timing(timing, begun);
	return said;
}

int on_socket(struct bpf_sock_ops *ops)
{
	u32 program = 2;
	struct timing *timing = timings.lookup(&program);
	u64 begun = begin_timing(timing);
	int said = socket_of(ops);

	end_timing(timing, begun);
	return said;
}

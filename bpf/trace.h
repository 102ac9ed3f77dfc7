/* What the programs of `sluicegate trace` share: who acts. bcc rewrites uses of maps in the program's own file alone, so
 * the ring buffer and the count of what it had no room for stand in each. */
#pragma once
#include <sluicegate.h>

/* Only in process context. Python: gateway/probes/trace_events.py. */
struct who {
	u64 cgroup;
	u32 pid;
	u32 tid;
	u32 uid;
	u32 gid;
	char comm[16];
};

static inline __attribute__((always_inline)) void read_who(struct who *who)
{
	u64 id = bpf_get_current_pid_tgid();
	u64 user = bpf_get_current_uid_gid();

	who->cgroup = bpf_get_current_cgroup_id();
	who->pid = id >> 32;
	who->tid = (u32)id;
	who->uid = (u32)user;
	who->gid = user >> 32;
	bpf_get_current_comm(who->comm, sizeof(who->comm));
}

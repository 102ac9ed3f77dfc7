/* What is known of whoever opened a socket; and addresses as all maps hold them. Python: gateway/probes/stamps.py. */
#pragma once

/* Written where the process connects, in its own context; lies in the socket's storage and goes with it. */
struct stamp {
	u64 cookie;
	u64 netns;    /* cookie of the network namespace */
	u64 cgroup;   /* id, of the v2 hierarchy */
	u64 at_ns;    /* CLOCK_BOOTTIME, as the start times in /proc */
	u64 image_ns; /* when the process had exec'ed last; 0: before we looked */
	u32 tgid;
	u32 pid;
	u32 uid;
	u32 gid;
	char comm[16];
};

/* IPv4 is ::ffff:a.b.c.d everywhere; words in network order. */
struct address {
	u32 word[4];
};

/* Of a context: read as it stands here. The compiler would put two reads into one, or choose a pointer to one of two
 * fields first; the verifier takes neither. */
#define FIELD(_field) (*(volatile u32 *)&(_field))

static inline __attribute__((always_inline)) void map_ip4(struct address *address, u32 ip4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(0xffff);
	address->word[3] = ip4;
}

/* A socket's storage that another of our programs has made: bcc offers a macro for its owner alone. */
#define BPF_SK_STORAGE_OF_OTHERS(_name, _leaf)                                                                         \
	struct _name##_table_t {                                                                                       \
		int key;                                                                                               \
		_leaf leaf;                                                                                            \
		void *(*sk_storage_get)(void *, void *, int);                                                          \
		int (*sk_storage_delete)(void *);                                                                      \
		u32 flags;                                                                                             \
	};                                                                                                             \
	__attribute__((section("maps/extern"))) struct _name##_table_t _name = {}

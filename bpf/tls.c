/* What chosen processes write to and read from libssl, in plain text: at the entry of SSL_read, SSL_write and their _ex
 * forms what they were called with, at their own `ret` instructions how it went. No uretprobe: no stack is touched. One
 * program for all of them: a process has one link, whose end is one wait for the kernel (some 50 ms each).
 *
 * A call is known by its thread and the stack pointer at entry, which is the same at `ret`; so a read within a read (TLS
 * in TLS) is no other's.
 */
#include <uapi/linux/ptrace.h>
#include <sluicegate.h>

/* RING_PAGES, EVENT_BYTES and MOST_PROCESSES are given when it is compiled. */
BPF_RINGBUF_OUTPUT(events, RING_PAGES);
/* 0: pieces that the buffer had no room for. */
BPF_PERCPU_ARRAY(losses, u64, 1);
/* Processes; one that executes another program is out of it. */
BPF_HASH(chosen, u32, u32, MOST_PROCESSES);

#define PIECE_BYTES 4096
#define MOST_PIECES 16

struct call_key {
	u64 thread;
	u64 stack;
};

struct call {
	u64 ssl;
	u64 buffer;
	u64 done_at; /* where an _ex form says how many bytes; else 0 */
	u64 outgoing;
};
BPF_TABLE("lru_hash", struct call_key, struct call, calls, 4096);

struct stream {
	u64 ssl;
	u32 pid;
	u32 outgoing;
};
/* Bytes so far: what is missing between two pieces is seen by it. */
BPF_TABLE("lru_hash", struct stream, u64, streams, 8192);

/* Python: gateway/probes/tls.py. */
struct head {
	u64 ssl;
	u64 position;
	u32 pid;
	u32 kind;  /* 0: read, 1: written, 2: SSL_free, 3: executed a program */
	u32 bytes; /* of the text that follows */
	u32 pad;
};
_Static_assert(sizeof(struct head) == EVENT_BYTES, "as Python has it");
#define FREED 2
#define EXECUTED 3

struct piece {
	struct head head;
	char text[PIECE_BYTES];
};

/* Cookies: at which instruction a probe is. Python: gateway/probes/tls_processes.py. */
enum { AT_READ, AT_WRITE, AT_READ_EX, AT_WRITE_EX, AT_FREE, AT_RETURN };

static inline __attribute__((always_inline)) bool is_chosen(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	return chosen.lookup(&pid) != NULL;
}

static inline __attribute__((always_inline)) void lost(void)
{
	u32 zero = 0;
	u64 *counted = losses.lookup(&zero);

	if (counted)
		(*counted)++;
}

static inline __attribute__((always_inline)) void tell(u64 ssl, u32 kind)
{
	struct head head = {.ssl = ssl, .pid = bpf_get_current_pid_tgid() >> 32, .kind = kind};

	if (events.ringbuf_output(&head, sizeof(head), 0))
		lost();
}

static inline __attribute__((always_inline)) int returned(struct pt_regs *ctx)
{
	struct call_key key = {.thread = bpf_get_current_pid_tgid(), .stack = PT_REGS_SP(ctx)};
	struct call *found = calls.lookup(&key);
	struct stream stream = {};
	struct call call;
	u64 bytes, position = 0, *before;

	if (!found)
		return 0;
	call = *found;
	calls.delete(&key);
	if ((s32)PT_REGS_RC(ctx) <= 0)
		return 0;
	bytes = (u32)PT_REGS_RC(ctx);
	if (call.done_at && bpf_probe_read_user(&bytes, sizeof(bytes), (void *)call.done_at))
		return 0;
	stream.ssl = call.ssl;
	stream.pid = key.thread >> 32;
	stream.outgoing = call.outgoing;
	before = streams.lookup(&stream);
	if (before)
		position = *before;
	u64 after = position + bytes;
	streams.update(&stream, &after);
	for (u32 index = 0; index < MOST_PIECES; index++) {
		u64 at = (u64)index * PIECE_BYTES;
		u64 size;
		struct piece *piece;

		if (at >= bytes)
			break;
		size = bytes - at;
		if (size > PIECE_BYTES)
			size = PIECE_BYTES;
		piece = events.ringbuf_reserve(sizeof(struct piece));
		if (!piece) {
			lost();
			break;
		}
		asm volatile("" : "+r"(size));
		if (size > PIECE_BYTES)
			size = PIECE_BYTES;
		piece->head.ssl = call.ssl;
		piece->head.position = position + at;
		piece->head.pid = stream.pid;
		piece->head.kind = call.outgoing;
		piece->head.pad = 0;
		piece->head.bytes = bpf_probe_read_user(piece->text, size, (void *)(call.buffer + at)) ? 0 : size;
		events.ringbuf_submit(piece, 0);
	}
	return 0;
}

static inline __attribute__((always_inline)) void freed(u64 ssl)
{
	struct stream stream = {.ssl = ssl, .pid = bpf_get_current_pid_tgid() >> 32};

	if (!ssl)
		return;
	streams.delete(&stream);
	stream.outgoing = 1;
	streams.delete(&stream);
	tell(ssl, FREED);
}

int on_probe(struct pt_regs *ctx)
{
	u64 at = bpf_get_attach_cookie(ctx);
	struct call_key key = {.thread = bpf_get_current_pid_tgid(), .stack = PT_REGS_SP(ctx)};
	struct call call = {.ssl = PT_REGS_PARM1(ctx), .buffer = PT_REGS_PARM2(ctx)};

	if (at == AT_RETURN)
		return returned(ctx);
	if (!is_chosen())
		return 0;
	if (at == AT_FREE) {
		freed(call.ssl);
		return 0;
	}
	call.outgoing = at == AT_WRITE || at == AT_WRITE_EX;
	if (at == AT_READ_EX || at == AT_WRITE_EX)
		call.done_at = PT_REGS_PARM4(ctx);
	calls.update(&key, &call);
	return 0;
}

/* Raw tracepoint sched_process_exec: who may be chosen is looked at before it has anything to send. */
int on_exec(void *ctx)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	chosen.delete(&pid);
	tell(0, EXECUTED);
	return 0;
}

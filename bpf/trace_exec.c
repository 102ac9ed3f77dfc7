/* Who executes what: execve and execveat as they begin (the arguments), as they fail, and the exec itself (that it was
 * done, and of which file). Three events that user space joins by thread.
 *
 * Parents come from the fork, as they may be gone before anybody asks. Layouts of tracepoints are those of their `format`
 * files: gateway/probes/tracefs.py compares them, and gives the offsets that changed between kernels (FORK_CHILD).
 */
#include <trace.h>

/* RING_PAGES and EVENT_BYTES are given when it is compiled. */
BPF_RINGBUF_OUTPUT(events, RING_PAGES);
/* 0: events that the buffer had no room for. */
BPF_PERCPU_ARRAY(losses, u64, 1);

static inline __attribute__((always_inline)) void lost(void)
{
	u32 zero = 0;
	u64 *counted = losses.lookup(&zero);

	if (counted)
		(*counted)++;
}

#ifdef SCOPED
/* The cgroup that the agent's probes are about. Tracepoints see the whole host. */
BPF_CGROUP_ARRAY(scope, 1);
#endif

static inline __attribute__((always_inline)) bool is_outside(void)
{
#ifdef SCOPED
	return scope.check_current_task(0) != 1;
#else
	return false;
#endif
}

#define MOST_ARGUMENTS 24
#define ARGUMENT_BYTES 128
#define ARGUMENTS_BYTES 2048

enum stage { BEGUN = 1, DONE = 2, FAILED = 3 };

/* Python: gateway/probes/trace_events.py. */
struct exec_event {
	struct who who;
	u64 at_ns;
	u32 stage;
	s32 error;	/* of a failure, as a negative errno */
	u32 parent;	/* 0: forked before the trace began */
	u32 old_tid;	/* of DONE: the thread that called exec, whose number is lost by it */
	char parent_comm[16];
	u32 arguments;	/* that were read */
	u32 bytes;	/* of `text` */
	u32 more;	/* 1: there were more arguments, or longer ones */
	u32 unread;	/* 1: an argument lay in memory that was not there yet */
	char text[ARGUMENTS_BYTES + ARGUMENT_BYTES]; /* the file, then arguments, each with its NUL */
};

#define HEAD_BYTES (sizeof(struct exec_event) - ARGUMENTS_BYTES - ARGUMENT_BYTES)
_Static_assert(HEAD_BYTES == EVENT_BYTES, "as Python has it");

struct parent {
	u32 pid;
	char comm[16];
};

BPF_PERCPU_ARRAY(scratch, struct exec_event, 1);
BPF_TABLE("lru_hash", u32, struct parent, parents, 16384);

static inline __attribute__((always_inline)) struct exec_event *begin(u32 stage)
{
	u32 zero = 0;
	struct exec_event *event = scratch.lookup(&zero);
	struct parent *parent;
	u32 pid;

	if (!event || is_outside())
		return NULL;
	read_who(&event->who);
	event->at_ns = bpf_ktime_get_ns();
	event->stage = stage;
	event->error = 0;
	event->arguments = 0;
	event->bytes = 0;
	event->more = 0;
	event->unread = 0;
	event->old_tid = event->who.tid;
	pid = event->who.pid;
	parent = parents.lookup(&pid);
	event->parent = parent ? parent->pid : 0;
	if (parent)
		__builtin_memcpy(event->parent_comm, parent->comm, sizeof(parent->comm));
	else
		__builtin_memset(event->parent_comm, 0, sizeof(event->parent_comm));
	return event;
}

static inline __attribute__((always_inline)) void end(struct exec_event *event)
{
	u64 size = event->bytes;

	asm volatile("" : "+r"(size));
	if (size > ARGUMENTS_BYTES + ARGUMENT_BYTES)
		return;
	if (events.ringbuf_output(event, HEAD_BYTES + size, 0))
		lost();
}

/* One more string behind the others. False: there is no room, or it cannot be read. */
static inline __attribute__((always_inline)) bool add(struct exec_event *event, const char *text)
{
	u64 at = event->bytes;
	long length;

	asm volatile("" : "+r"(at));
	if (at >= ARGUMENTS_BYTES) {
		event->more = 1;
		return false;
	}
	length = bpf_probe_read_user_str(event->text + at, ARGUMENT_BYTES, text);
	if (length <= 0) {
		event->unread = 1;
		event->text[at] = 0;
		event->bytes = at + 1;
		return true;
	}
	if (length == ARGUMENT_BYTES)
		event->more = 1;
	event->bytes = at + length;
	return true;
}

static inline __attribute__((always_inline)) void see(const char *file, const char *const *argv)
{
	struct exec_event *event = begin(BEGUN);
	const char *argument;

	if (!event)
		return;
	add(event, file);
#pragma unroll
	for (int at = 0; at < MOST_ARGUMENTS; at++) {
		argument = NULL;
		if (bpf_probe_read_user(&argument, sizeof(argument), argv + at)) {
			event->unread = 1;
			break;
		}
		if (!argument)
			break;
		if (!add(event, argument))
			break;
		event->arguments++;
	}
	if (argument && event->arguments == MOST_ARGUMENTS)
		event->more = 1;
	end(event);
}

struct enter_execve {
	u64 common;
	s64 number;
	const char *file;
	const char *const *argv;
};

int on_execve(struct enter_execve *call)
{
	see(call->file, call->argv);
	return 0;
}

struct enter_execveat {
	u64 common;
	s64 number;
	u64 folder;
	const char *file;
	const char *const *argv;
};

int on_execveat(struct enter_execveat *call)
{
	see(call->file, call->argv);
	return 0;
}

struct leave {
	u64 common;
	s64 number;
	s64 result;
};

int on_result(struct leave *call)
{
	struct exec_event *event;

	if (call->result >= 0)
		return 0;
	event = begin(FAILED);
	if (!event)
		return 0;
	event->error = call->result;
	end(event);
	return 0;
}

struct exec {
	u64 common;
	u32 file; /* where the name is (lower half), and how long */
	u32 pid;
	u32 old_pid;
};

int on_exec(struct exec *call)
{
	struct exec_event *event = begin(DONE);
	long length;

	if (!event)
		return 0;
	event->old_tid = call->old_pid;
	length = bpf_probe_read_kernel_str(event->text, ARGUMENTS_BYTES, (void *)call + (call->file & 0xffff));
	if (length > 0 && length <= ARGUMENTS_BYTES)
		event->bytes = length;
	end(event);
	return 0;
}

int on_fork(void *call)
{
	struct parent parent = {};
	u32 child = 0;

	if (is_outside())
		return 0;
	if (bpf_probe_read_kernel(&child, sizeof(child), call + FORK_CHILD))
		return 0;
	parent.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(parent.comm, sizeof(parent.comm));
	parents.update(&child, &parent);
	return 0;
}

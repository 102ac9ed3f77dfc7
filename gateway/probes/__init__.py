"""Probes in the kernel: what they measure of routes, who is behind a connection, who goes past us, and who may not.

    bpf/*.c → bcc → programs at cgroup hooks and tracepoints → maps → this process → agent → keeper, workers, console

All of it runs in one process, a child of the agent (`main`): bcc carries a compiler, which nobody else should. The
agent starts it again when it dies, and its programs go with it, since each hangs on a link that it holds
(`bpf_calls.Link`).
"""

"""Loopback ports for the servers that tests start."""

import socket
import time


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_it_answers(port: int, within_s: float) -> None:
    """Raises TimeoutError when nothing accepts connections on the port in time."""
    deadline = time.monotonic() + within_s
    while not answers(port):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on port {port} after {within_s} s")
        time.sleep(0.02)

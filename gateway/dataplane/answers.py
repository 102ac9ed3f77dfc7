"""What the gateway itself puts into answers: errors in the caller's dialect, and the lines that every head carries."""

import math

from gateway.dialects.base import DialectHandler
from gateway.errors import SluicegateError

JSON_LINE = b"content-type: application/json\r\n"


def route_lines(route: str | None, target: str | None) -> bytes:
    """`x-sluicegate-route` and `-target` (contract "Data plane"), what is not known left out."""
    lines = "" if route is None else f"x-sluicegate-route: {_plain(route)}\r\n"
    if target is not None:
        lines += f"x-sluicegate-target: {_plain(target)}\r\n"
    return lines.encode("utf-8")


def cost_line(cost_usd_micros: int) -> bytes:
    return b"x-sluicegate-cost-usd: %d.%06d\r\n" % divmod(cost_usd_micros, 1_000_000)


def error_answer(error: SluicegateError, handler: DialectHandler, request_id: str) -> tuple[list[bytes], bytes]:
    """Header lines and body of an error in a dialect. SDKs obey `retry-after` and `x-should-retry`."""
    lines = [JSON_LINE, b"x-should-retry: true\r\n" if error.retryable else b"x-should-retry: false\r\n"]
    if error.retry_after_s is not None:
        lines.append(b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s)))
    return lines, handler.render_error(error, request_id)


def _plain(name: str) -> str:
    """A configured name as a header value: nothing that could end the line."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)

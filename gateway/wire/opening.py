"""What the first bytes of a connection are the beginning of: HTTP/1, HTTP/2 with prior knowledge (RFC 9113 3.3), a TLS
ClientHello, or something else, which is nobody's business.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.wire.client_hello import ClientHello, ClientHelloReader
from gateway.wire.errors import WireError
from gateway.wire.heads import check_request_line, check_unfinished_line

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LONGEST_BYTES: Final = 64 * 1024
"""Whatever has not said by then what it is, is something else."""
_SURELY_HTTP: Final = re.compile(rb"(?:\r\n)?(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [/*hH]")
_TLS_RECORD: Final = 22


class Kind(Enum):
    HTTP1 = "http/1"
    HTTP2 = "h2"
    TLS = "tls"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Opening:
    kind: Kind
    hello: ClientHello | None = None


OTHER: Final = Opening(Kind.OTHER)


def read_opening(data: bytes) -> Opening | None:
    """None: `data` (all there is so far) does not tell yet."""
    if not data:
        return None
    if data[0] == _TLS_RECORD:
        return _read_hello(data)
    if PREFACE.startswith(data[: len(PREFACE)]):
        return Opening(Kind.HTTP2) if len(data) >= len(PREFACE) else None
    line_start = 2 if data.startswith(b"\r\n") else 0
    line_end = data.find(b"\n", line_start) + 1
    try:
        if line_end:
            check_request_line(data[line_start:line_end])
            return Opening(Kind.HTTP1)
        check_unfinished_line(data[line_start:] if len(data) > line_start else b"")
    except WireError:
        return OTHER
    return OTHER if len(data) >= LONGEST_BYTES else None


def is_surely(data: bytes) -> bool:
    """Whether an unfinished beginning is worth waiting for: no other protocol begins like this."""
    return (len(data) > 5 and data[0] == _TLS_RECORD and data[1] == 3) or bool(_SURELY_HTTP.match(data))


def _read_hello(data: bytes) -> Opening | None:
    try:
        hello = ClientHelloReader().feed(data)
    except WireError:
        return OTHER
    if hello is None:
        return OTHER if len(data) >= LONGEST_BYTES else None
    return Opening(Kind.TLS, hello)

"""Header rules of a proxy (RFC 9110 7.6): what is passed on, what is dropped, what we add."""

import math
import re
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.dataplane.request import Headers, Request
from gateway.policy.cors import ANSWER_HEADERS as CORS_HEADERS
from gateway.wire.answer_head import AnswerHead

HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade expect".split()
)
FORWARDED: Final = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"forwarded")
)
OURS: Final = frozenset((b"x-request-id", b"x-sluicegate-route", b"x-sluicegate-target", b"x-sluicegate-cost-usd"))
KEY_HEADERS: Final = frozenset((b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"))

REQUEST_DROP: Final = HOP_BY_HOP | FORWARDED | {b"host", b"content-length", b"x-request-id"}
MODEL_REQUEST_DROP: Final = REQUEST_DROP | KEY_HEADERS | {b"accept-encoding", b"cookie", b"content-encoding"}
"""A call with a model goes out under our credential; an answer must be readable for the meter, so no compression."""
MODEL_QUERY_DROP: Final = frozenset((b"key", b"access_token"))
"""What Google's APIs take as a credential in the query: a call with a model shows none but ours."""
RESPONSE_DROP: Final = HOP_BY_HOP | OURS | {b"content-length"}
MODEL_RESPONSE_DROP: Final = RESPONSE_DROP | CORS_HEADERS
"""What a provider says of other origins is about its own address."""
TRAILER_DROP: Final = (
    RESPONSE_DROP
    | REQUEST_DROP
    | KEY_HEADERS
    | CORS_HEADERS
    | frozenset(b"content-type content-encoding content-range set-cookie cookie cache-control location vary".split())
)
"""Fields that would change what was decided when the head passed (RFC 9110 6.5.1)."""
_TRAILER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")


def passed_on(headers: Headers, drop: frozenset[bytes]) -> list[bytes]:
    """The header lines that go on, as `name: value CRLF` pieces."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            drop = drop | _named_by_connection(headers)  # hop-by-hop too (RFC 9110 7.6.1), whoever names it
            break
    lines = []
    for name, value in headers:
        if name in drop or (b"_" in name and name.replace(b"_", b"-") in drop):
            continue  # servers of the CGI kind read `x_forwarded_for` as `x-forwarded-for`
        lines.append(b"%b: %b\r\n" % (name, value))
    return lines


def passing(head: AnswerHead) -> bytes:
    """The lines of an answer's head that go on to the caller of a model."""
    return b"".join(passed_on(head.headers, MODEL_RESPONSE_DROP)) if head.names_more else head.lines


def without_fields(lines: bytes, drop: frozenset[bytes]) -> bytes:
    """Of whole header lines those whose names are not in `drop`."""
    return b"".join([line + b"\r\n" for line in lines.split(b"\r\n") if line and line.partition(b":")[0] not in drop])


def trailer_lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The trailer fields that may pass, as lines; names in lower case."""
    return b"".join([b"%b: %b\r\n" % pair for pair in fields if pair[0].replace(b"_", b"-") not in TRAILER_DROP])


def trailer_fields(lines: Sequence[bytes]) -> Headers:
    """Trailer lines of an upstream as fields; what is not one is left out."""
    found = [_TRAILER.fullmatch(line) for line in lines]
    return [(match[1].lower(), match[2].rstrip()) for match in found if match is not None]


def takes_trailers(request: Request) -> bool:
    """Whether the client says that it looks at trailer fields (RFC 9110 10.1.4)."""
    for name, value in request.headers:
        if name == b"te" and b"trailers" in value.lower():
            return request.version == "1.1"
    return False


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    values = b",".join([value for name, value in headers if name == b"connection"])
    return frozenset(token.strip().lower() for token in values.split(b","))


def trusted_chain(request: Request, peer_ip: str, trusted_hops: int) -> list[str]:
    """Addresses from the client to our peer, as far as proxies of the operator's own vouch for them: the last
    `trusted_hops` entries of `X-Forwarded-For`, then the peer."""
    chain: list[str] = []
    if trusted_hops:
        claimed = b",".join(value for name, value in request.headers if name == b"x-forwarded-for").decode("latin-1")
        chain = [part.strip() for part in claimed.split(",") if part.strip()][-trusted_hops:]
    chain.append(peer_ip)
    return chain


def forwarded_lines(request: Request, client_ip: str, scheme: str, trusted_hops: int) -> bytes:
    """`X-Forwarded-*`, `X-Real-IP` and `Forwarded` (RFC 7239) as the upstream may believe them.

    What the client sent of these is dropped, but for the last `trusted_hops` entries of its `X-Forwarded-For`, which
    proxies of the operator's own wrote.
    """
    chain = trusted_chain(request, client_ip, trusted_hops)
    real, proto, host = chain[0], scheme, request.header(b"host") or b""
    if len(chain) > 1:
        proto = (request.header(b"x-forwarded-proto") or scheme.encode()).decode("latin-1")
        host = request.header(b"x-forwarded-host") or host
    elements = ", ".join(f"for={_node(address)}" for address in chain)
    return (
        (f"x-forwarded-for: {', '.join(chain)}\r\nx-forwarded-proto: {proto}\r\nx-forwarded-host: ").encode("latin-1")
        + host
        + (f"\r\nx-real-ip: {real}\r\nforwarded: {elements};proto={proto}\r\n").encode("latin-1")
    )


def _node(address: str) -> str:
    return f'"[{address}]"' if ":" in address else address


def without_key(query: bytes, names: frozenset[bytes] = frozenset((b"key",))) -> bytes:
    """The query without a `key` parameter, in which Gemini's clients send their key: ours."""
    if not query:
        return query
    return b"&".join(part for part in query.split(b"&") if unquote_to_bytes(part.partition(b"=")[0]) not in names)


def without_secret(said: bytes, secret: str | None) -> bytes:
    """What an upstream answered, should it repeat the credential that it was shown."""
    return said if not secret or secret.encode() not in said else said.replace(secret.encode(), b"[credential]")


def media_type(headers: Headers) -> bytes:
    """The Content-Type without parameters, lower case; b"" where there is none."""
    for name, value in headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""


def header_value(headers: Headers, wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


def retry_after_s(headers: Headers, now_s: float) -> float | None:
    """Seconds that the upstream asks us to wait, at least 0; None = not said. `retry-after` is a delay or a HTTP date
    (RFC 9110 10.2.3); OpenAI and Azure say it finer in `retry-after-ms`."""
    fine = header_value(headers, b"retry-after-ms")
    if fine is not None and fine.isdigit() and len(fine) < 15:
        return int(fine) / 1000
    value = header_value(headers, b"retry-after")
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (TypeError, ValueError):
        return None

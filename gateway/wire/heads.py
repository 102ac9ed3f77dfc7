"""What a request head must be beyond what llhttp checks (RFC 9110, RFC 9112): the ways into request smuggling,
confused routing and path tricks are closed before anything looks at the request.

llhttp refuses folded lines, duplicate lengths and control bytes by itself today; they are refused here too, so that the
guarantee is ours and does not hang on a parser's lenient flags.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.wire.errors import WireError

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})
_TARGET_FORBIDDEN: Final = bytes([*range(0x21), 0x7F, *range(0x80, 0x100), *b'#"<>\\^`'])
"""Control bytes, space, non-ASCII, and what no URI holds; `{|}` pass, as browsers send them."""
_PORT: Final = rb"(?::(?:[0-9]{0,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%(?:[2-689A-Fa-f][0-9A-Fa-f]|7[0-9A-Ea-e]))+"
    + _PORT
    + rb"|\[[0-9A-Fa-f:.]+\]"
    + _PORT
)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
_METHOD: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE: Final = re.compile(_METHOD + rb"{1,32} [^\x00-\x20\x7f]+ HTTP/1\.[01]\r\n")
_OTHER_VERSION: Final = re.compile(_METHOD + rb"{1,32} [^\x00-\x20\x7f]+(?: HTTP/[0-9]{1,3}(?:\.[0-9]{1,3})?)?\r\n")
_UNFINISHED_LINE: Final = re.compile(_METHOD + rb"{0,32}(?: [^\x00-\x20\x7f]*(?: [A-Z0-9./]{0,12})?\r?)?|\r")
"""All that the two above can begin with: the answer may not depend on where a line was cut."""
_LOOKED_AT_BYTES: Final = 2048
"""An unfinished line is looked at up to this length, so that one sent byte by byte costs no more than its length."""
_OVERLONG: Final = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]")
"""Bytes that spell a character longer than UTF-8 does: only to get past a check."""
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MOST_DECODINGS: Final = 3
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")
_REMEMBERED_BYTES: Final = 512
"""Longer targets are checked anew each time, so that the memory of verdicts stays small."""
_CLIMBING: Final = re.compile(rb"(?:^|[/\\])\.\.(?:[/\\;]|$)")
"""A `..` segment, also with a path parameter behind it, as some servers cut it off."""


def check_request_line(line: bytes) -> None:
    """`line` with its CRLF (RFC 9112 3): single spaces, nothing around. Raises WireError."""
    if _REQUEST_LINE.fullmatch(line):
        return
    if _OTHER_VERSION.fullmatch(line):
        raise WireError(505, "this version of HTTP is not spoken here: use HTTP/1.1")
    raise WireError(400, "this is not HTTP/1.1: the request line is none")


def check_unfinished_line(line: bytes) -> None:
    """What came of a request line so far. Raises WireError where no rest can make it one: TLS, binary protocols."""
    if len(line) <= _LOOKED_AT_BYTES and not _UNFINISHED_LINE.fullmatch(line):
        raise WireError(400, "this is not HTTP/1.1: the request line is none")


def origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Path and query of a checked target in absolute form (RFC 9112 3.2.2); `*` stays. A request of HTTP/1.0 without
    Host gets the host that its URL names."""
    authority, rest = split_absolute(target)
    if authority and not any(name == b"host" for name, _ in headers):
        headers.append((b"host", authority))
    return rest


def check_head(method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """`headers`: names in lower case. Raises WireError with the status to answer."""
    fields = dict(headers)
    if len(fields) != len(headers):
        _check_single(headers)
    if b"".join(fields).translate(None, _TOKEN) or b"" in fields:
        raise WireError(400, "a header's name holds a byte that no name may hold, or is empty")
    values = b"".join([value for _, value in headers])
    if len(values.translate(None, _CONTROLS)) != len(values):
        raise WireError(400, "a header's value holds a control character or a folded line")
    host = fields.get(b"host")
    if version == "1.1":
        if host is None:
            raise WireError(400, "an HTTP/1.1 request needs a Host header")
    elif version != "1.0":
        raise WireError(505, f"HTTP/{version[:8]} is not spoken here: use HTTP/1.1")
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None or (length is not None and not (length.isdigit() and len(length) < 20)):
        _check_framing(version, length, coding)
    if len(target) + len(host or b"") <= _REMEMBERED_BYTES:
        _check_target_remembered(method, target, host)
    else:
        _check_target(method, target, host)


def split_absolute(target: bytes) -> tuple[bytes, bytes]:
    """Host (with port) and path with query of an absolute target; of another one no host and the target itself."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return b"", target
    path = target[absolute.end() :]
    return absolute.group(1), path if path.startswith(b"/") else b"/" + path


def connect_target(target: bytes, host: bytes | None) -> tuple[str, int]:
    """Host (lower case, without brackets) and port of a CONNECT request. Raises WireError.

    The Host header says the same, if anything: some clients leave the port out of it."""
    match = _AUTHORITY.fullmatch(target)
    if match is None:
        raise WireError(400, "CONNECT names a host and a port: CONNECT api.example.com:443")
    name, port = match[1].decode("ascii").lower(), int(match[2])
    if not 0 < port < 65536:
        raise WireError(400, "CONNECT names no port")
    if host is not None and host.lower() not in (target.lower(), match[1].lower()):
        raise WireError(400, "CONNECT and the Host header name different hosts")
    return name.strip("[]").removesuffix("."), port


def _check_single(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """The fields that say where a request goes and where it ends come once."""
    names = [name for name, _ in headers]
    for single in (b"host", b"content-length", b"transfer-encoding"):
        if names.count(single) > 1:
            raise WireError(400, f"the request has more than one {single.decode()} header")


def _check_framing(version: str, length: bytes | None, coding: bytes | None) -> None:
    if coding is None:
        raise WireError(400, "the Content-Length is no number")
    if version == "1.0":
        raise WireError(400, "an HTTP/1.0 request cannot have a Transfer-Encoding")
    if length is not None:
        raise WireError(400, "the request has both Content-Length and Transfer-Encoding")
    if coding.lower() != b"chunked":
        raise WireError(501, "only the transfer coding chunked is known here")


def _check_target(method: bytes, target: bytes, host: bytes | None) -> None:
    if host is not None and not _HOST.fullmatch(host):
        raise WireError(400, "the Host header is no host name")
    if method == b"CONNECT":
        raise WireError(
            405,
            "CONNECT is not served on this address: point the client's base URL here, or its proxy "
            "setting at the forward proxy (--proxy-listen)",
        )
    if method == b"TRACE":
        raise WireError(405, "TRACE is not served: its answer would show what the gateway adds to a request")
    if len(target.translate(None, _TARGET_FORBIDDEN)) != len(target):
        raise WireError(400, "the request target holds a character that no URL may hold")
    if not target.startswith(b"/"):
        if target == b"*" and method == b"OPTIONS":
            return
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise WireError(400, "the request target is neither a path nor a URL")
        if not _HOST.fullmatch(absolute.group(1)):
            raise WireError(400, "the request target names no host")
        if host is not None and absolute.group(1).lower() != host.lower():
            raise WireError(400, "the request target and the Host header name different hosts")
        target = target[absolute.end() :]
    if b".." in target or b"%" in target:
        _check_path(target.partition(b"?")[0])


def _check_path(path: bytes) -> None:
    """What a server may make of the path: decoded once, and again where it decodes too often."""
    if _BAD_ESCAPE.search(path):
        raise WireError(400, "the path holds a % that begins no escape")
    for _ in range(MOST_DECODINGS):
        if _CLIMBING.search(path):
            raise WireError(400, "the path climbs with `..`: send it resolved")
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return
        path = decoded
        if b"\0" in path or b"\r" in path or b"\n" in path:
            raise WireError(400, "the path holds an encoded NUL or line end")
        if _OVERLONG.search(path):
            raise WireError(400, "the path holds an overlong escape")
    if _CLIMBING.search(path):
        raise WireError(400, "the path climbs with `..`: send it resolved")


_check_target_remembered: Final = lru_cache(maxsize=1024)(_check_target)
"""The same few targets come again and again, and the verdict hangs on nothing else."""

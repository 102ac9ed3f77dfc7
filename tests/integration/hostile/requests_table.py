"""Requests that could be read in two ways, or in none: RFC 9112 and 9110 read strictly, and what parsers are known to
let through. Each is followed on its connection by a request that must never be served.

`@K` stands for a line with the caller's key.
"""

from dataclasses import dataclass

BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
REFUSED = frozenset((400,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    wire: bytes
    statuses: frozenset[int] = REFUSED
    """One of these, then the end of the connection."""


def post(name: str, lines: bytes, body: bytes = BODY, statuses: frozenset[int] = REFUSED, start: bytes = b"") -> Case:
    first = start or b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"
    return Case(name=name, wire=first + b"@K" + lines + b"\r\n" + body, statuses=statuses)


def get(name: str, first: bytes, lines: bytes = b"host: g\r\n", statuses: frozenset[int] = REFUSED) -> Case:
    return Case(name=name, wire=first + b"\r\n" + lines + b"@K\r\n", statuses=statuses)


def chunked(name: str, body: bytes, statuses: frozenset[int] = REFUSED) -> Case:
    return post(name, b"transfer-encoding: chunked\r\n", body, statuses)


CODED = frozenset((400, 501))
VERSION = frozenset((400, 505))
LARGE = frozenset((400, 413))

LENGTHS = [
    post("length and coding", LENGTH + b"transfer-encoding: chunked\r\n", CHUNKED_BODY),
    post("coding and length", b"transfer-encoding: chunked\r\n" + LENGTH, CHUNKED_BODY),
    post("coding and length 0", b"transfer-encoding: chunked\r\ncontent-length: 0\r\n", CHUNKED_BODY),
    post("two lengths, equal", LENGTH + LENGTH),
    post("two lengths, differing", LENGTH + b"content-length: 5\r\n"),
    post("two lengths, differing, the other first", b"content-length: 5\r\n" + LENGTH),
    post("two lengths, one in capitals", LENGTH + b"CONTENT-LENGTH: 0\r\n"),
    *[
        post(f"length {value!r}", b"content-length: " + value + b"\r\n")
        for value in (
            b"+5", b"-5", b"-0", b"0x5", b"", b" ", b"5 5", b"5,5", b"5, 5", b"5;5", b"5.0", b"5e1", b"abc", b"5a",
            b"a5",
            b"9" * 30, b"18446744073709551616", b"18446744073709551621", b"1_0", b"\xb25", b"5\x0b", b"\x0c5",
            b"5\0", b'"5"', b"0, 5", b"5\t5",
        )
    ],
    post("length of 19 digits", b"content-length: " + b"9" * 19 + b"\r\n", statuses=frozenset((400, 413))),
    post("length with a space before the colon", b"content-length : %d\r\n" % len(BODY)),
    post("length with a tab before the colon", b"content-length\t: %d\r\n" % len(BODY)),
    post("length behind a NUL", b"\0content-length: %d\r\n" % len(BODY)),
    post("length folded", b"content-length:\r\n %d\r\n" % len(BODY)),
    post("length folded into another", b"x: a\r\n content-length: %d\r\n" % len(BODY)),
]  # fmt: skip

CODINGS = [
    *[
        post(f"coding {value!r}", b"transfer-encoding:" + value + b"\r\n", CHUNKED_BODY, CODED)
        for value in (
            b" xchunked", b" chunkedx", b" chunked, identity", b" identity, chunked", b" identity", b" gzip, chunked",
            b" chunked, chunked", b" chunked,", b" ,chunked", b" chunked;q=1", b' "chunked"', b" chunke",
            b" \x0bchunked",
            b" chunked\x0b", b" \x0cchunked", b" chunked\0", b"\r\n chunked", b"\r\n\tchunked",
            b" chunked\r\n , identity",
            b"", b" ", b" chun ked", b" gzip", b" cow", b" chunked\xa0", b" \xefchunked", b" ch\xc5\xbfnked",
            b" c\rhunked",
        )
    ],
    post("coding twice", b"transfer-encoding: chunked\r\n" * 2, CHUNKED_BODY, CODED),
    post("coding twice, one identity", b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", CHUNKED_BODY),
    post("coding twice, identity first", b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", CHUNKED_BODY,
         CODED),
    post("coding twice, the second in capitals", b"transfer-encoding: chunked\r\nTRANSFER-ENCODING: x\r\n",
         CHUNKED_BODY, CODED),
    post("coding with a space before the colon", b"transfer-encoding : chunked\r\n", CHUNKED_BODY),
    post("coding with a space before the colon and a length", LENGTH + b"transfer-encoding : chunked\r\n"),
    post("coding with a tab before the colon and a length", LENGTH + b"transfer-encoding\t: chunked\r\n"),
    post("coding behind a space and a length", LENGTH + b" transfer-encoding: chunked\r\n"),
    post("coding behind a bare LF and a length", LENGTH + b"x: y\ntransfer-encoding: chunked\r\n"),
    post("coding behind a bare CR and a length", LENGTH + b"x: y\rtransfer-encoding: chunked\r\n"),
    post("coding folded behind another and a length", LENGTH + b"x: y\r\n transfer-encoding: chunked\r\n"),
    post("coding with a NUL in its name and a length", LENGTH + b"transfer-enc\0oding: chunked\r\n"),
    post("coding in HTTP/1.0", b"transfer-encoding: chunked\r\n", CHUNKED_BODY,
         start=b"POST /v1/chat/completions HTTP/1.0\r\nhost: g\r\nconnection: keep-alive\r\n"),
    post("coding and length in HTTP/1.0", LENGTH + b"transfer-encoding: chunked\r\n", CHUNKED_BODY,
         start=b"POST /v1/chat/completions HTTP/1.0\r\nhost: g\r\nconnection: keep-alive\r\n"),
]  # fmt: skip

HEX = b"%x" % len(BODY)
CHUNKS = [
    *[
        chunked(f"size line {line!r}", line + b"\r\n" + BODY + b"\r\n0\r\n\r\n")
        for line in (
            b"", b" ", b"g", b"-1", b"-" + HEX, b"+" + HEX, b"0x" + HEX, b"0X" + HEX, b" " + HEX, b"\t" + HEX,
            HEX + b"h", HEX + b" ;a", HEX + b" " * 3, HEX + b"\t", HEX + b",5", HEX + b"\0", b"\0" + HEX, HEX + b".0",
            HEX + b"_0", b"1_0", HEX + b"\x0b", b'"' + HEX + b'"', HEX + b" " + HEX, b"\xef\xbc\x95",
        )
    ],
    *[
        chunked(f"size {size!r}", size + b"\r\n" + BODY + b"\r\n0\r\n\r\n", LARGE)
        for size in (b"f" * 15, b"f" * 16, b"8" + b"0" * 15, b"f" * 17, b"1" + b"0" * 16, b"1" + b"0" * 15 + HEX,
                     b"7fffffffffffffff", b"ffffffffffffff00", b"100000000" + HEX.zfill(8))
    ],
    chunked("size of many zeros", b"0" * 20_000 + HEX + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("size line ends in a bare LF", HEX + b"\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("size line ends in a bare CR", HEX + b"\r" + BODY + b"\r\n0\r\n\r\n"),
    chunked("size line ends in CR CR LF", HEX + b"\r\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("size line ends in LF CR", HEX + b"\n\r" + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension ends in a bare LF", HEX + b";a=b\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension ends in a bare LF, no value", HEX + b";\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension holds a bare CR", HEX + b";a\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension holds a NUL", HEX + b";a\0b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension holds a LF in quotes", HEX + b';a="x\ny"\r\n' + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension holds a chunk in quotes", HEX + b';a="\r\n0\r\n\r\n"\r\n' + BODY + b"\r\n0\r\n\r\n"),
    chunked("extension without end", HEX + b";" + b"a" * 70_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    chunked("many extensions", b"".join(b"1;%b\r\n%c\r\n" % (b"x" * 3000, byte) for byte in BODY) + b"0\r\n\r\n"),
    chunked("chunk ends in a bare LF", HEX + b"\r\n" + BODY + b"\n0\r\n\r\n"),
    chunked("chunk ends in a bare CR", HEX + b"\r\n" + BODY + b"\r0\r\n\r\n"),
    chunked("chunk without its end", HEX + b"\r\n" + BODY + b"0\r\n\r\n"),
    chunked("chunk longer than its size", HEX + b"\r\n" + BODY + b"x\r\n0\r\n\r\n"),
    chunked("chunk shorter than its size", HEX + b"\r\n" + BODY[:-1] + b"\r\n0\r\n\r\n"),
    chunked("two bytes instead of CRLF", HEX + b"\r\n" + BODY + b"xx0\r\n\r\n"),
    chunked("last chunk ends in a bare LF", HEX + b"\r\n" + BODY + b"\r\n0\n\r\n"),
    chunked("body ends in a bare LF", HEX + b"\r\n" + BODY + b"\r\n0\r\n\n"),
    chunked("body ends in a bare CR", HEX + b"\r\n" + BODY + b"\r\n0\r\n\rX"),
    chunked("trailer with a bare LF", HEX + b"\r\n" + BODY + b"\r\n0\r\nx: y\n\r\n"),
    chunked("trailer with a bare CR", HEX + b"\r\n" + BODY + b"\r\n0\r\nx: y\rz: a\r\n\r\n"),
    chunked("trailer with a NUL", HEX + b"\r\n" + BODY + b"\r\n0\r\nx: \0\r\n\r\n"),
    chunked("trailer with a space before the colon", HEX + b"\r\n" + BODY + b"\r\n0\r\nx : y\r\n\r\n"),
    chunked("trailer folded", HEX + b"\r\n" + BODY + b"\r\n0\r\nx: y\r\n z\r\n\r\n"),
    chunked("trailer without a colon", HEX + b"\r\n" + BODY + b"\r\n0\r\nxyz\r\n\r\n"),
    chunked("trailer without a name", HEX + b"\r\n" + BODY + b"\r\n0\r\n: y\r\n\r\n"),
    chunked("trailer with a length", HEX + b"\r\n" + BODY + b"\r\n0\r\ncontent-length: 5\r\n\r\n"),
    chunked("trailer with a coding", HEX + b"\r\n" + BODY + b"\r\n0\r\ntransfer-encoding: chunked\r\n\r\n"),
    chunked("trailer with a host", HEX + b"\r\n" + BODY + b"\r\n0\r\nhost: evil\r\n\r\n"),
    chunked("trailers without end", HEX + b"\r\n" + BODY + b"\r\n0\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
            frozenset((400, 431))),
    chunked("one long trailer", HEX + b"\r\n" + BODY + b"\r\n0\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
            frozenset((400, 431))),
]  # fmt: skip

HEADS = [
    get("bare LFs", b"GET /files/a HTTP/1.1\nhost: g\n\n"),
    get("a bare LF behind the request line", b"GET /files/a HTTP/1.1\nx: y"),
    get("a bare LF behind a header", b"GET /files/a HTTP/1.1", b"host: g\nx: y\r\n"),
    get("a bare LF ends the head", b"GET /files/a HTTP/1.1", b"host: g\r\n\n"),
    get("a bare CR behind a header", b"GET /files/a HTTP/1.1", b"host: g\rx: y\r\n"),
    get("a bare CR within a value", b"GET /files/a HTTP/1.1", b"host: g\r\nx: a\rb\r\n"),
    get("CR CR LF", b"GET /files/a HTTP/1.1", b"host: g\r\r\n"),
    get("a bare CR in the request line", b"GET /files/a\r HTTP/1.1"),
    get("a bare CR in a name", b"GET /files/a HTTP/1.1", b"host: g\r\nx\ry: a\r\n"),
    get("a LF in a name", b"GET /files/a HTTP/1.1", b"host: g\r\nx\ny: a\r\n"),
    get("a folded line", b"GET /files/a HTTP/1.1", b"host: g\r\nx: a\r\n b\r\n"),
    get("a line folded by a tab", b"GET /files/a HTTP/1.1", b"host: g\r\nx: a\r\n\tb\r\n"),
    get("a folded empty line", b"GET /files/a HTTP/1.1", b"host: g\r\nx: a\r\n \r\n"),
    get("a folded host", b"GET /files/a HTTP/1.1", b"host: g\r\n evil\r\n"),
    get("a space before the first header", b"GET /files/a HTTP/1.1", b" host: g\r\n"),
    get("a tab before the first header", b"GET /files/a HTTP/1.1", b"\thost: g\r\n"),
    get("a space line before the first header", b"GET /files/a HTTP/1.1", b" \r\nhost: g\r\n"),
    *[
        get(f"the name {name!r}", b"GET /files/a HTTP/1.1", b"host: g\r\n" + name + b": a\r\n")
        for name in (b"", b" ", b"x ", b"x\t", b"x y", b"x\0", b"x\x01", b"x\x7f", b"x\x80", b"x\xff", b"x(", b"x)",
                     b"x/",
                     b"x@", b"x[", b"x]", b"x{", b"x}", b'x"', b"x=", b"x;", b"x,", b"x<", b"x>", b"x?", b"x\\",
                     b"\xef\xbb\xbfx",
                     "хost".encode())
    ],
    *[
        get(f"{byte:#04x} in a value", b"GET /files/a HTTP/1.1", b"host: g\r\nx: a%cb\r\n" % byte)
        for byte in (0, 1, 2, 7, 8, 11, 12, 14, 27, 31, 127)
    ],
    get("NUL at the end of a value", b"GET /files/a HTTP/1.1", b"host: g\r\nx: a\0\r\n"),
    get("no colon", b"GET /files/a HTTP/1.1", b"host: g\r\nxyz\r\n"),
    get("no host", b"GET /files/a HTTP/1.1", b""),
    get("two hosts", b"GET /files/a HTTP/1.1", b"host: g\r\nhost: evil\r\n"),
    get("two hosts, equal", b"GET /files/a HTTP/1.1", b"host: g\r\nhost: g\r\n"),
    get("two hosts, one in capitals", b"GET /files/a HTTP/1.1", b"host: g\r\nHOST: crm.internal\r\n"),
    get("two hosts in HTTP/1.0", b"GET /files/a HTTP/1.0", b"host: g\r\nhost: evil\r\n"),
    *[
        get(f"the host {host!r}", b"GET /files/a HTTP/1.1", b"host: " + host + b"\r\n")
        for host in (b"", b"a b", b"a@b", b"a/b", b"a\\b", b"a?b", b"a#b", b"a:b", b"a:1:2", b"[::1", b"[::1]x", b"::1",
                     b"a,b", b"http://a", b"a\tb", b'"a"', b"a\xffb", b"<a>", b"a:-1", b"a:123456", b"a|b", b"a%zz",
                     b"[g::1]", b"a:99999", b"%00")
    ],
    get("two spaces in the request line", b"GET  /files/a HTTP/1.1"),
    get("two spaces before the version", b"GET /files/a  HTTP/1.1"),
    get("a tab in the request line", b"GET\t/files/a HTTP/1.1"),
    get("a tab before the version", b"GET /files/a\tHTTP/1.1"),
    get("a space behind the version", b"GET /files/a HTTP/1.1 "),
    get("a space before the method", b" GET /files/a HTTP/1.1"),
    get("no method", b"/files/a HTTP/1.1"),
    get("no target", b"GET HTTP/1.1", statuses=frozenset((400, 505))),
    get("an empty target", b"GET  HTTP/1.1"),
    get("three words and a half", b"GET /files/a b HTTP/1.1"),
    get("a method in lower case", b"get /files/a HTTP/1.1", statuses=frozenset((400, 405, 501))),
    get("a method in mixed case", b"Get /files/a HTTP/1.1", statuses=frozenset((400, 405, 501))),
    get("a method that is no token", b"GE(T /files/a HTTP/1.1"),
    get("a method with a NUL", b"GE\0T /files/a HTTP/1.1"),
    get("an unknown method", b"BREW /files/a HTTP/1.1", statuses=frozenset((400, 405, 501))),
    get("a method without end", b"A" * 100_000 + b" /files/a HTTP/1.1", statuses=frozenset((400, 414))),
    get("TRACE, which would show our credential", b"TRACE /files/a HTTP/1.1", statuses=frozenset((405,))),
    get("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    get("noise", bytes(range(256))),
    get("a BOM", b"\xef\xbb\xbfGET /files/a HTTP/1.1"),
]  # fmt: skip

VERSIONS = [
    *[
        get(f"the version {version!r}", b"GET /files/a " + version, statuses=VERSION)
        for version in (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/3",
                        b"HTTP/9.9",
                        b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/01.1", b"HTTP/1.01", b"HTTP/1.1.1", b"HTTP/-1.1",
                        b"HTTP/1,1", b"HTTP/a.b", b"http/1.1", b"Http/1.1", b"HTTPS/1.1", b"HTP/1.1", b"1.1",
                        b"RTSP/1.0",
                        b"ICE/1.0", b"HTTP 1.1", b"HTTP/ 1.1", b"HTTP/1. 1", b"HTTP/1.1x", b"HTTP/1.1\0",
                        b"HTTP/\xb91.1")
    ],
    Case(name="HTTP/0.9", wire=b"GET /files/a\r\n", statuses=VERSION),
    Case(name="HTTP/0.9 with headers", wire=b"GET /files/a\r\nhost: g\r\n@K\r\n", statuses=VERSION),
    Case(name="the preface of HTTP/2", wire=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", statuses=VERSION),
    Case(name="the start of the preface of HTTP/2", wire=b"PRI * HTTP/2.0\r\n\r\n", statuses=VERSION),
]  # fmt: skip

MANY = frozenset((400, 413, 414, 431))
SIZES = [
    get("one large header", b"GET /files/a HTTP/1.1", b"host: g\r\nx: " + b"a" * 70_000 + b"\r\n", MANY),
    get("a megabyte of header", b"GET /files/a HTTP/1.1", b"host: g\r\nx: " + b"a" * 1_000_000 + b"\r\n", MANY),
    get("a large name", b"GET /files/a HTTP/1.1", b"host: g\r\n" + b"a" * 70_000 + b": x\r\n", MANY),
    get("many headers", b"GET /files/a HTTP/1.1", b"host: g\r\n" + b"x: y\r\n" * 20_000, MANY),
    get("many empty headers", b"GET /files/a HTTP/1.1", b"host: g\r\n" + b"x:\r\n" * 30_000, MANY),
    get("many named hop by hop", b"GET /files/a HTTP/1.1",
        b"host: g\r\n" + b"".join(b"connection: x%d\r\n" % number for number in range(5_000)), MANY),
    get("a long URL", b"GET /files/" + b"a" * 70_000 + b" HTTP/1.1", statuses=MANY),
    get("a long query", b"GET /files/a?" + b"a" * 70_000 + b" HTTP/1.1", statuses=MANY),
    get("a URL of a megabyte", b"GET /files/" + b"a" * 1_000_000 + b" HTTP/1.1", statuses=MANY),
    post("a large body announced", b"content-length: 104857601\r\n", b"{", LARGE),
    post("a huge body announced", b"content-length: 999999999999999999\r\n", b"{", LARGE),
    post("a huge body announced on a route", b"content-length: 999999999999999999\r\n", b"{", LARGE,
         start=b"POST /files/a HTTP/1.1\r\nhost: g\r\n"),
    post("a huge chunk announced on a route", b"transfer-encoding: chunked\r\n", b"fffffffffff\r\nhello", LARGE,
         start=b"POST /files/a HTTP/1.1\r\nhost: g\r\n"),
]  # fmt: skip

TARGETS = [
    get("CONNECT", b"CONNECT api.example:443 HTTP/1.1", b"host: api.example:443\r\n", frozenset((400, 405))),
    get("CONNECT to a path", b"CONNECT /files/a HTTP/1.1", statuses=frozenset((400, 405))),
    get("the authority alone", b"GET g:80 HTTP/1.1"),
    get("an asterisk without OPTIONS", b"GET * HTTP/1.1"),
    get("another host in the URL", b"GET http://evil/files/a HTTP/1.1"),
    get("another port in the URL", b"GET http://g:81/files/a HTTP/1.1"),
    get("a user in the URL", b"GET http://u@g/files/a HTTP/1.1"),
    get("another scheme", b"GET ftp://g/files/a HTTP/1.1"),
    get("a file", b"GET file:///etc/passwd HTTP/1.1"),
    get("a URL without a host", b"GET http:///files/a HTTP/1.1"),
    get("a relative path", b"GET files/a HTTP/1.1"),
    get("a fragment", b"GET /files/a#b HTTP/1.1"),
    *[
        get(f"the path {path!r}", b"GET " + path + b" HTTP/1.1")
        for path in (
            b"/files/../api/v1/providers", b"/files/..", b"/../files/a", b"/files/%2e%2e/api/v1/providers",
            b"/files/.%2e/a", b"/files/%2E./a", b"/files/..%2fa", b"/files/%2e%2e%2fa", b"/files/..%5ca",
            b"/files/..\\a",
            b"/files\\..\\a", b"/files/..;/a", b"/files/..;x=y/a", b"/files/%2e%2e;/a", b"/files/%00",
            b"/files/a%00.txt",
            b"/files/..%00/a", b"/files/%252e%252e/a", b"/files/..%252fa", b"/files/%25252e%25252e/a",
            b"/files/%252e%252e%252fa",
            b"/files/%c0%ae%c0%ae/a", b"/files/%c0%af..", b"/files/%e0%80%ae%e0%80%ae/a", b"/files/%f0%80%80%ae/a",
            b"/files/a%0d%0ax:%20y", b"/files/a%0ab", b"/files/a%0db", b"/files/\x01", b"/files/\xff",
            b"/files/\xc0\xae",
            b"/files/%", b"/files/%g0", b"/files/%2", b"/files/a%", b"/files/<a>", b'/files/"', b"/files/^",
            b"/files/`",
            b"/v1/../api/v1/providers", b"/v1/%2e%2e/api/v1/providers",
            b"/v1/chat/completions/../../../api/v1/providers",
            b"/api/v1/../../files/a", b"/console/../files/a", b"/console/%2e%2e/files/a",
            b"/console/..%2f..%2fetc/passwd",
        )
    ],
]  # fmt: skip

UPGRADES = [
    post("a body behind an upgrade", LENGTH + b"connection: upgrade\r\nupgrade: websocket\r\n"),
    post("chunks behind an upgrade", b"transfer-encoding: chunked\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
         CHUNKED_BODY),
]  # fmt: skip

CASES = [*LENGTHS, *CODINGS, *CHUNKS, *HEADS, *VERSIONS, *SIZES, *TARGETS, *UPGRADES]

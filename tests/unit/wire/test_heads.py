import pytest

from gateway.wire.errors import WireError
from gateway.wire.heads import check_head

HOST = (b"host", b"gateway.example:8080")

FINE = {
    "usual": (b"POST", b"/v1/chat/completions?a=../b", "1.1", [HOST, (b"content-length", b"12"), (b"x", b"a\tb\xff")]),
    "chunked": (b"POST", b"/", "1.1", [HOST, (b"transfer-encoding", b"Chunked")]),
    "absolute form": (b"GET", b"http://Gateway.example:8080/x", "1.1", [HOST]),
    "asterisk": (b"OPTIONS", b"*", "1.1", [HOST]),
    "IPv6": (b"GET", b"/", "1.1", [(b"host", b"[::1]:8080")]),
    "1.0 without Host": (b"GET", b"/", "1.0", []),
    "dots in names": (b"GET", b"/v1/models/a..b/...%2Fc%2f", "1.1", [HOST]),
    "repeated other header": (b"GET", b"/", "1.1", [HOST, (b"accept", b"a"), (b"accept", b"b")]),
    "placeholders as browsers send them": (b"GET", b"/a|b{c}", "1.1", [HOST]),
}

REFUSED = {
    "no Host": (b"GET", b"/", "1.1", [], 400),
    "two Hosts": (b"GET", b"/", "1.1", [HOST, HOST], 400),
    "two Hosts in 1.0": (b"GET", b"/", "1.0", [HOST, HOST], 400),
    "empty Host": (b"GET", b"/", "1.1", [(b"host", b"")], 400),
    "Host with user": (b"GET", b"/", "1.1", [(b"host", b"a@b")], 400),
    "Host with path": (b"GET", b"/", "1.1", [(b"host", b"a/b")], 400),
    "Host list": (b"GET", b"/", "1.1", [(b"host", b"a, b")], 400),
    "1.0 chunked": (b"POST", b"/", "1.0", [HOST, (b"transfer-encoding", b"chunked")], 400),
    "both lengths": (b"POST", b"/", "1.1", [HOST, (b"content-length", b"3"), (b"transfer-encoding", b"chunked")], 400),
    "two lengths": (b"POST", b"/", "1.1", [HOST, (b"content-length", b"3"), (b"content-length", b"3")], 400),
    "length with sign": (b"POST", b"/", "1.1", [HOST, (b"content-length", b"+3")], 400),
    "endless length": (b"POST", b"/", "1.1", [HOST, (b"content-length", b"9" * 30)], 400),
    "two codings": (b"POST", b"/", "1.1", [HOST, *[(b"transfer-encoding", b"chunked")] * 2], 400),
    "other coding": (b"POST", b"/", "1.1", [HOST, (b"transfer-encoding", b"gzip, chunked")], 501),
    "folded line": (b"GET", b"/", "1.1", [HOST, (b"x", b"a\r\n b")], 400),
    "NUL in a value": (b"GET", b"/", "1.1", [HOST, (b"x", b"a\0b")], 400),
    "space in a name": (b"GET", b"/", "1.1", [HOST, (b"x ", b"a")], 400),
    "no name": (b"GET", b"/", "1.1", [HOST, (b"", b"a")], 400),
    "old version": (b"GET", b"/", "0.9", [HOST], 505),
    "new version": (b"GET", b"/", "2.0", [HOST], 505),
    "climbing": (b"GET", b"/v2/../admin", "1.1", [HOST], 400),
    "climbing at the end": (b"GET", b"/v2/..", "1.1", [HOST], 400),
    "climbing, encoded": (b"GET", b"/v2/%2e%2E/admin", "1.1", [HOST], 400),
    "climbing, half encoded": (b"GET", b"/v2/.%2e%2fadmin", "1.1", [HOST], 400),
    "climbing with a parameter": (b"GET", b"/v2/..;a=b/admin", "1.1", [HOST], 400),
    "climbing by backslash": (b"GET", b"/v2/%5c..%5cadmin", "1.1", [HOST], 400),
    "climbing in a URL": (b"GET", b"http://gateway.example:8080/../x", "1.1", [HOST], 400),
    "NUL": (b"GET", b"/a%00b", "1.1", [HOST], 400),
    "backslash": (b"GET", b"/a\\b", "1.1", [HOST], 400),
    "space": (b"GET", b"/a b", "1.1", [HOST], 400),
    "control": (b"GET", b"/a\rb", "1.1", [HOST], 400),
    "not ASCII": (b"GET", b"/\xff", "1.1", [HOST], 400),
    "fragment": (b"GET", b"/a#b", "1.1", [HOST], 400),
    "no path": (b"GET", b"a", "1.1", [HOST], 400),
    "empty": (b"GET", b"", "1.1", [HOST], 400),
    "another host": (b"GET", b"http://other/x", "1.1", [HOST], 400),
    "another scheme": (b"GET", b"ftp://gateway.example:8080/x", "1.1", [HOST], 400),
    "tunnel": (b"CONNECT", b"a:443", "1.1", [HOST], 405),
    "long and climbing": (b"GET", b"/" + b"a" * 2000 + b"/../b", "1.1", [HOST], 400),
}


@pytest.mark.parametrize("name", FINE)
def test_passes(name: str) -> None:
    check_head(*FINE[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    method, target, version, headers, status = REFUSED[name]
    for _ in range(2):  # a remembered verdict is the same
        with pytest.raises(WireError) as caught:
            check_head(method, target, version, headers)
        assert caught.value.status == status

import time

from gateway.dataplane.forwarding import REQUEST_DROP, passed_on, without_key, without_secret


def test_names_by_the_thousand_cost_no_more_than_their_number() -> None:
    headers = [(b"x", b"y")]
    for number in range(4000):
        headers += [(b"connection", b"a%d" % number), (b"a%d" % number, b"b")]
    began = time.process_time()
    assert passed_on(headers, REQUEST_DROP) == [b"x: y\r\n"]
    assert time.process_time() - began < 0.5


def test_what_is_dropped() -> None:
    headers = [
        (b"connection", b"close, X-Once"),
        (b"x-once", b"1"),
        (b"x_forwarded_for", b"1"),
        (b"a_b", b"1"),
        (b"te", b"1"),
    ]
    assert passed_on(headers, REQUEST_DROP) == [b"a_b: 1\r\n"]
    assert passed_on([(b"connection", b"keep-alive"), (b"a", b"b")], REQUEST_DROP) == [b"a: b\r\n"]


def test_keys_and_secrets() -> None:
    assert without_key(b"a=b&key=c&k%65y=d&monkey=e") == b"a=b&monkey=e"
    assert without_secret(b"no sk-1, sk-1", "sk-1") == b"no [credential], [credential]"
    assert without_secret(b"said", None) == b"said"

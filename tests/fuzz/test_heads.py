"""Request heads and paths: refused cleanly or safe. Invariant: only WireError is raised; what passes holds no control
byte, one valid Host, one framing and no path that climbs; classification never raises."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.registry import classify, dialect_of, is_data_plane_path
from gateway.wire.errors import WireError
from gateway.wire.heads import check_head
from tests.fuzz.mutations import mutated

TARGETS = mutated(
    [
        b"/v1/chat/completions?x=1",
        b"/v2/a/b",
        b"http://host:1/a",
        b"*",
        b"/v1/models/a%2Fb",
        b"/openai/v1/images/edits",
    ],
    [
        b"..",
        b"/",
        b"%2e",
        b"%2f",
        b"%00",
        b"\\",
        b"%5c",
        b"//",
        b"#",
        b"?",
        b" ",
        b"\r\n",
        b"\x00",
        b"\xff",
        b";",
        b"@",
    ],
)
NAMES = st.sampled_from([b"host", b"content-length", b"transfer-encoding", b"x-a", b"", b"x a", b"h\xff"])
VALUES = mutated([b"host:1", b"12", b"chunked"], [b"\n", b"\r", b"\0", b"\t", b",", b" ", b"@", b"-", b"+", b"\xff"])


def check_refusal(refusal: WireError) -> None:
    assert 400 <= refusal.status < 600
    assert refusal.message


@settings(max_examples=150)
@given(
    method=st.sampled_from([b"GET", b"POST", b"OPTIONS", b"CONNECT"]),
    target=TARGETS,
    version=st.sampled_from(["1.1", "1.0", "2.0", ""]),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=5),
)
def test_heads(method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> None:
    path, _, query = target.partition(b"?")
    operation = classify(method, path, query, headers)
    assert operation is None or is_data_plane_path(path)
    if operation is not None:
        assert b".." not in operation.upstream_path.encode()
        assert dialect_of(path, b"", headers) == operation.dialect
    try:
        check_head(method, target, version, headers)
    except WireError as refusal:
        check_refusal(refusal)
        return
    names = [name for name, _ in headers]
    assert version in ("1.0", "1.1")
    assert names.count(b"host") == 1 or version == "1.0"
    assert not (b"content-length" in names and b"transfer-encoding" in names)
    assert not (version == "1.0" and b"transfer-encoding" in names)
    assert all(not set(value) & ({*range(32), 127} - {9}) for _, value in headers)
    assert all(33 <= byte < 127 for byte in target)
    assert not path.lower().replace(b"%2e", b".").replace(b"%2f", b"/").endswith(b"/..")

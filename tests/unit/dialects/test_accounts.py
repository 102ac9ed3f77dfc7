import pytest

from gateway.dialects.accounts import AccountOperation, with_results_here
from gateway.dialects.registry import classify, classify_beside
from gateway.dialects.surface import Headers

ANTHROPIC: Headers = [(b"anthropic-version", b"2023-06-01")]
MISTRAL: Headers = [(b"user-agent", b"mistral-client-python/3.7.0")]

FOUND = [
    (b"POST", b"/v1/files", [], "openai", False, False),
    (b"GET", b"/v1/files", ANTHROPIC, "anthropic", False, False),
    (b"GET", b"/v1/files/file-1", MISTRAL, "mistral", True, False),
    (b"GET", b"/v1/files/file-1/content", [], "openai", True, False),
    (b"GET", b"/v1/files/file-1/url", MISTRAL, "mistral", True, False),
    (b"POST", b"/v1/uploads/u-1/parts", [], "openai", True, False),
    (b"POST", b"/v1/batches", [], "openai", False, True),
    (b"GET", b"/v1/batches", [], "openai", False, False),
    (b"POST", b"/v1/batches/b/cancel", [], "openai", True, False),
    (b"DELETE", b"/v1/responses/resp_1", [], "openai", True, False),
    (b"GET", b"/v1/responses/resp_1/input_items", [], "openai", True, False),
    (b"POST", b"/v1/messages/batches", [], "anthropic", False, True),
    (b"GET", b"/v1/messages/batches/b/results", [], "anthropic", True, False),
    (b"POST", b"/v1/batch/jobs", [], "mistral", False, True),
    (b"POST", b"/openai/files", ANTHROPIC, "openai", False, False),
    (b"POST", b"/anthropic/v1/files", [], "anthropic", False, False),
    (b"POST", b"/mistral/v1/batch/jobs/j/cancel", [], "mistral", True, False),
]


@pytest.mark.parametrize(("method", "path", "headers", "dialect", "names", "later"), FOUND)
def test_found(method: bytes, path: bytes, headers: Headers, dialect: str, names: bool, later: bool) -> None:
    assert classify(method, path, b"", headers) is None
    operation = classify_beside(method, path, b"", headers)
    assert isinstance(operation, AccountOperation)
    assert operation.dialect.value == dialect
    assert (operation.names_object, operation.spends_later) == (names, later)
    assert operation.upstream_path.startswith("/v1/")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"PUT", b"/v1/files/file-1"),
        (b"GET", b"/v1/files/"),
        (b"GET", b"/v1/files/.."),
        (b"GET", b"/v1/files/a/b"),
        (b"GET", b"/v1/files/a%2Fb"),
        (b"GET", b"/v1/files/\xff"),
        (b"POST", b"/v1/files/file-1/content"),
        (b"DELETE", b"/v1/batches/b"),
        (b"POST", b"/v1/responses/resp_1"),
        (b"GET", b"/anthropic/v1/batches"),
        (b"GET", b"/openai/v1/messages/batches"),
        (b"POST", b"/v1/realtime"),
        (b"GET", b"/v1/realtime/sessions"),
        (b"GET", b"/anthropic/v1/realtime"),
        (b"GET", b"/v1/fine_tuning/jobs"),
    ],
)
def test_not_found(method: bytes, path: bytes) -> None:
    assert classify_beside(method, path, b"", []) is None


@pytest.mark.parametrize("path", [b"/v1/realtime", b"/openai/v1/realtime", b"/openai/realtime"])
def test_realtime(path: bytes) -> None:
    operation = classify_beside(b"GET", path, b"model=voice", [])
    assert operation is not None
    assert (operation.name, operation.upstream_path) == ("realtime", "/v1/realtime")


def test_the_urls_of_results_lead_back_here() -> None:
    answer = (
        b'{"data":[{"id":"b1","results_url":"https://api.anthropic.com/v1/messages/batches/b1/results"},'
        b'{"id":"b2","results_url": "http://h:1/proxy/v1/messages/batches/b2/results"},{"id":"b3","results_url":null},'
        b'{"text":"\\"results_url\\":\\"https://api.anthropic.com/v1/messages/batches/b/results\\""}]}'
    )
    expected = answer.replace(b"https://api.anthropic.com/v1/messages/batches/b1", b"http://g/v1/messages/batches/b1")
    expected = expected.replace(b"http://h:1/proxy/", b"http://g/")
    assert with_results_here(answer, b"http://g") == expected

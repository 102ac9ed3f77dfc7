"""Every failure is RFC 9457 problem details, whatever went wrong, and shows neither traces nor secrets."""

import httpx2
import pytest
from sqlalchemy import text

from gateway.api import problems
from tests.integration.api.served import ServedApi

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "fix", "request_id"}


def problem_of(answer: httpx2.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, object] = answer.json()
    assert set(problem) >= MEMBERS
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return problem


JSON = {"content-type": "application/json"}
CASES: list[tuple[str, str, dict[str, object], int, str]] = [
    ("GET", "/api/v1/nowhere", {}, 404, "not_found"),
    ("GET", "/nowhere", {}, 404, "not_found"),
    ("PUT", "/api/v1/users", {}, 405, "method_not_allowed"),
    ("TRACE", "/api/v1/users", {}, 405, "method_not_allowed"),
    ("GET", "/api/v1/users/nobody", {}, 404, "not_found"),
    ("GET", "/api/v1/users/99999999999999999999999999", {}, 404, "not_found"),
    ("POST", "/api/v1/users", {"content": b"{", "headers": JSON}, 400, "bad_request"),
    (
        "POST",
        "/api/v1/users",
        {"content": b"\xff", "headers": {"content-type": "application/json"}},
        400,
        "bad_request",
    ),
    ("POST", "/api/v1/users", {"content": b"[" * 100_000, "headers": JSON}, 400, ""),
    ("POST", "/api/v1/users", {"content": b"name=eve"}, 422, "invalid"),
    ("POST", "/api/v1/users", {"json": {"name": "eve"}}, 422, "invalid"),
    ("POST", "/api/v1/users", {"json": "eve"}, 422, "invalid"),
    ("POST", "/api/v1/users", {"json": None}, 422, "invalid"),
    ("GET", "/api/v1/users?limit=x", {}, 422, "invalid"),
    ("DELETE", "/api/v1/users/admin", {"headers": {"if-match": "W/1"}}, 400, "bad_request"),
]


@pytest.mark.parametrize(("method", "path", "options", "status", "code"), CASES)
def test_a_failure_is_a_problem(
    sqlite_api: ServedApi, method: str, path: str, options: dict[str, object], status: int, code: str
) -> None:
    with sqlite_api.client() as owner:
        answer = owner.request(method, path, **options)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        problem = problem_of(answer)
        assert problem["code"] == code or not code
        assert problem["fix"]


def test_405_names_all_methods_of_the_path(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        assert owner.put("/api/v1/users").headers["allow"] == "GET, POST"
        assert owner.put("/api/v1/users/x").headers["allow"] == "DELETE, GET, PATCH"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        answer = owner.post(
            "/api/v1/users", content=b" " * (17 * 1024 * 1024), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        problem_of(answer)


def test_who_is_nobody_yet_sends_little(sqlite_api: ServedApi) -> None:
    json = {"content-type": "application/json"}
    with sqlite_api.bare_client(headers=json) as nobody:
        for path in ("/api/v1/session", "/api/v1/session/passkey", "/api/v1/account/totp"):
            assert nobody.post(path, content=b" " * (64 * 1024 + 1)).status_code == 413
            assert nobody.post(path, content=iter([b" " * 40_000] * 2)).status_code == 413, "without a length too"
            assert nobody.post(path, content=b" " * 60_000).status_code != 413
    with sqlite_api.client() as owner:
        assert owner.post("/api/v1/users", content=b" " * 100_000, headers=json).status_code == 400


def test_what_nobody_foresaw_is_a_bare_500(sqlite_api: ServedApi, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite_api.client() as owner:
        with sqlite_api.engine.begin() as connection:
            connection.execute(text("UPDATE user_account SET role = 'emperor'"))
        answer = owner.get("/api/v1/users/admin")
        assert answer.status_code == 404  # no role that anybody may hand on
        with sqlite_api.engine.begin() as connection:
            connection.execute(text("UPDATE user_account SET role = 'owner', created_at = 'yesterday'"))
        answer = owner.get("/api/v1/users/admin")
        assert answer.status_code == 500
        problem = problem_of(answer)
        assert problem["code"] == "internal_error"
        assert "yesterday" not in answer.text
    assert str(problem["request_id"]) in {getattr(record, "request_id", None) for record in caplog.records}


def test_a_database_that_is_away_is_503(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        with sqlite_api.engine.begin() as connection:
            connection.execute(text("ALTER TABLE user_account RENAME TO gone"))
        answer = owner.get("/api/v1/users")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "user_account" not in answer.text
        problem_of(answer)


def test_each_code_is_explained_in_the_documentation(sqlite_api: ServedApi) -> None:
    with sqlite_api.bare_client() as reader:
        page = reader.get("/api/docs")
        assert page.status_code == 200
        assert "script" not in page.headers["content-security-policy"]
        assert "<script" not in page.text
        assert "http://" not in page.text.replace(sqlite_api.url, "")
        for path in ("/nowhere", "/api/v1/users"):
            anchor = reader.get(path).json()["type"].removeprefix(problems.TYPE_PREFIX)
            assert f'id="problem-{anchor}"' in page.text


def test_every_answer_carries_the_safe_headers(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        for path in ("/api/v1/users", "/api/v1/nowhere", "/healthz", "/console/", "/"):
            headers = owner.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert len(headers["x-request-id"]) == 26

"""contract.md, "Routing" and HTTP routes."""

import pytest

from tests.integration.contract.conftest import KEY, OTHER_KEY, Caller
from tests.support.live import Live
from tests.support.provider import Provider


def test_retries_go_to_the_next_target(ask: Caller, provider: Provider) -> None:
    answer = ask.chat("failover")
    assert answer.status_code == 200
    assert answer.headers["x-sluicegate-target"] == "up/second"
    assert ask.row(answer)["attempts"] == 2


def test_retries_count_over_all_targets_in_order(ask: Caller, provider: Provider) -> None:
    provider.behave(status=500, body=b'{"error":{"message":"broken"}}')
    answer = ask.chat("failing")
    assert answer.status_code == 502
    assert [request.json["model"] for request in provider.requests] == ["fail-a", "fail-b", "fail-a"]
    error = answer.json()["error"]
    assert error["sluicegate"]["targets_tried"] == 3
    row = ask.row(answer)
    assert (row["attempts"], row["outcome"], row["status"], row["upstream_status"]) == (3, "upstream_failed", 502, 500)


def test_a_4xx_of_the_caller_passes_as_it_is_without_a_retry(ask: Caller, provider: Provider) -> None:
    said = b'{"error":{"message":"no such parameter","type":"invalid_request_error","param":"x","code":null}}'
    for status in (400, 404, 422):
        provider.forget()
        provider.behave(status=status, body=said)
        answer = ask.chat("once")
        assert (answer.status_code, answer.content) == (status, said)


def test_429_passes_with_its_retry_after(ask: Caller, provider: Provider) -> None:
    provider.behave(model="slow-a", status=429, headers=((b"retry-after", b"1"),), body=b'{"error":{"message":"slow"}}')
    answer = ask.chat("slow")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {"error": {"message": "slow"}}
    assert ask.row(answer)["upstream_status"] == 429


def test_a_refused_credential_is_502_never_401(ask: Caller, provider: Provider) -> None:
    """The next credential is tried first; when all are refused the answer is ours."""
    provider.refuse_authorization("Bearer sk-a")
    for _ in range(4):
        assert ask.chat("keys").status_code == 200
    provider.forget()
    provider.refuse_authorization("Bearer sk-a")
    provider.refuse_authorization("Bearer sk-b")
    answer = ask.chat("keys")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "provider_credentials_refused"
    provider.behave(status=401)
    answer = ask.message()
    assert answer.status_code == 502
    assert answer.json()["error"]["sluicegate"]["code"] == "provider_credentials_refused"
    assert "sk-" not in answer.text
    answer = ask.chat("unpriced")  # its provider has no credential here: nor is that the caller's fault
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "provider_credentials_refused"


def test_timeouts_are_504(ask: Caller, provider: Provider) -> None:
    provider.behave(hang=True)
    answer = ask.chat("slow")
    assert answer.status_code == 504
    assert answer.json()["error"]["sluicegate"]["targets_tried"] == 1


def test_connection_errors_are_502_and_nothing_healthy_503(ask: Caller, sluice: Live, provider: Provider) -> None:
    answer = ask.chat("all-dead")
    assert answer.status_code in (502, 503)
    assert "targets_tried" in answer.json()["error"]["sluicegate"]
    provider.behave(model="fail-c", drop=True)
    assert ask.chat("once").status_code == 502


def test_a_host_route_keeps_the_path_and_takes_the_upstreams_host(ask: Caller, provider: Provider) -> None:
    answer = ask.get("/v2/things?q=1&r=%20", host="crm.internal")
    assert answer.status_code == 200
    assert provider.last.target == "/base/v2/things?q=1&r=%20"
    assert provider.last.header("host") == f"127.0.0.1:{provider.port}"
    assert provider.last.header("authorization") is None
    assert answer.headers["x-sluicegate-route"] == "crm"
    row = ask.row(answer)
    assert (row["dialect"], row["route"], row["status"]) == ("http", "crm", 200)


def test_a_host_route_claims_only_its_path(ask: Caller, provider: Provider) -> None:
    assert ask.get("/v3/things", host="crm.internal").status_code == 404
    assert not provider.requests


def test_a_host_route_beats_the_data_planes_paths(ask: Caller, provider: Provider) -> None:
    answer = ask.get("/v1/models", host="hosted.internal")
    assert answer.headers["x-sluicegate-route"] == "hosted"
    assert provider.last.header("host") == "hosted.internal"  # preserve_host


def test_a_path_route_never_shadows_the_data_plane_or_the_console(ask: Caller, provider: Provider) -> None:
    assert ask.get("/v1/models").json()["object"] == "list"
    assert ask.chat().headers["x-sluicegate-route"] == "chat"
    assert not [request for request in provider.requests if request.path.startswith("/base")]


def test_strip_prefix(ask: Caller, provider: Provider) -> None:
    assert ask.get("/files/a/b?c=d").status_code == 200
    assert provider.last.target == "/base/a/b?c=d"
    assert ask.get("/files/").status_code == 200
    assert provider.last.target == "/base/"


def test_our_key_is_removed_wherever_found_and_any_other_authorization_passes(ask: Caller, provider: Provider) -> None:
    client = ask.client
    client.get("/v2/x", headers={"host": "crm.internal", "x-api-key": KEY, "authorization": "Basic dTpw"})
    assert provider.last.header("authorization") == "Basic dTpw"
    assert provider.last.header("x-api-key") is None
    client.get("/v2/x", headers={"host": "crm.internal", "x-api-key": "theirs", "authorization": f"Bearer {KEY}"})
    assert provider.last.header("x-api-key") == "theirs"
    assert provider.last.header("authorization") is None
    client.get(f"/v2/x?key={KEY}&a=1", headers={"host": "crm.internal"})
    assert provider.last.target == "/base/v2/x?a=1"
    assert KEY.encode() not in provider.last.head


def test_auth_none_asks_for_no_key_yet_passes_none_of_ours_on(ask: Caller, provider: Provider) -> None:
    assert ask.client.get("/x", headers={"host": "open.internal"}).status_code == 200
    assert ask.client.get("/x", headers={"host": "open.internal", "authorization": "Bearer app"}).status_code == 200
    assert provider.last.header("authorization") == "Bearer app"
    assert ask.client.get("/x", headers={"host": "open.internal", "authorization": f"Bearer {KEY}"}).status_code == 200
    assert KEY.encode() not in provider.last.head


@pytest.mark.parametrize("host", ["crm.internal", "sourced.internal"])
def test_http_routes_refuse_strangers(ask: Caller, provider: Provider, host: str) -> None:
    refused = ask.client.get("/v2/x", headers={"host": host})
    assert refused.status_code == 401
    assert "error" in refused.json()
    assert not provider.requests
    if host == "crm.internal":
        assert ask.get("/v2/x", OTHER_KEY, host=host).status_code == 403


def test_weights_spread_and_retries_are_one_by_default(ask: Caller, sluice: Live, provider: Provider) -> None:
    document = {"name": "spread", "strategy": "weighted", "targets": [
        {"provider": "up", "model": "heavy", "weight": 3}, {"provider": "up", "model": "light"}]}  # fmt: skip
    assert sluice.api.post("/api/v1/routes", json=document).status_code == 201
    sluice.until(lambda: ask.get("/v1/models/spread").status_code == 200, 2)
    try:
        served = [target_of_a_call(ask) for _ in range(80)]
        assert 40 <= served.count("up/heavy") <= 75
        provider.forget()
        provider.behave(status=503)
        assert ask.chat("spread").status_code == 502
        assert {request.json["model"] for request in provider.requests} == {"heavy", "light"}
        assert len(provider.requests) == 2
    finally:
        sluice.api.delete("/api/v1/routes/spread")


def target_of_a_call(ask: Caller) -> str:
    return ask.chat("spread").headers["x-sluicegate-target"]

"""What monitoring asks: alive, ready, metrics."""

from gateway.policy.roles import Role
from tests.integration.api.served import ServedApi


def test_alive_needs_nothing(sqlite_api: ServedApi) -> None:
    with sqlite_api.bare_client() as monitor:
        assert monitor.get("/healthz").json() == {"status": "alive"}


def test_not_ready_says_what_is_missing(sqlite_api: ServedApi) -> None:
    with sqlite_api.bare_client() as monitor:
        answer = monitor.get("/readyz")
        assert answer.status_code == 503
        assert "keeper" in answer.json()["detail"]
        assert answer.headers["retry-after"]


def test_metrics_are_for_this_host_and_for_tokens(sqlite_api: ServedApi) -> None:
    proxied = {"x-forwarded-for": "192.0.2.1"}
    with sqlite_api.bare_client() as monitor:
        local = monitor.get("/metrics")
        assert local.status_code == 200
        assert local.headers["content-type"].startswith("text/plain; version=")
        assert monitor.get("/metrics", headers=proxied).status_code == 401
    for role, status in ((Role.VIEWER, 200), (Role.ADMIN, 200)):
        with sqlite_api.client(role) as client:
            assert client.get("/metrics", headers=proxied).status_code == status

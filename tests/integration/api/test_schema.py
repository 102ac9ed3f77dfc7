"""The OpenAPI document is true: schemathesis calls every operation of a running gateway with what the document allows
and with what it does not, and checks every answer against it."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case

from gateway.api.app import create_app
from gateway.settings import Settings
from tests.support import live

EXAMPLES = 15
"""Of each operation, besides those that schemathesis derives from the document (bounds, types, missing fields)."""

YAML = """
providers:
  - {name: vendor, dialect: openai, base_url: "http://127.0.0.1:9/v1"}
routes:
  - {name: chat, targets: [{provider: vendor, model: m}]}
teams:
  - {name: search, apps: [{name: indexer, routes: [chat], keys: [{name: ci, value: sk-test-0123456789}]}]}
limits:
  - {name: daily, scope: {app: indexer}, metric: requests, window: day, at_most: 1000}
"""

CONFIG = {
    "checks": {
        # A document may be as the schema says and still name what does not exist, or contradict itself.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", 400, 401, 403, 404, 409, 412, 422, 429],
        }
    }
}


def document() -> dict[str, Any]:
    """What is fuzzed: everything but the live feed, which never ends, and by token (test_sessions has the cookie)."""
    found: dict[str, Any] = create_app(Settings(database="sqlite://"), None).openapi()
    del found["paths"]["/api/v1/events"]
    for methods in found["paths"].values():
        for operation in methods.values():
            if "security" in operation:
                operation["security"] = [{"bearer": []}]
    return found


schema = schemathesis.openapi.from_dict(document(), config=schemathesis.Config.from_dict(CONFIG))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Live]:
    with live.gateway(tmp_path_factory.mktemp("schema"), YAML) as gateway:
        yield gateway
        answer = gateway.api.get("/api/v1/session")
        assert answer.status_code == 200, "a test has revoked the token, and those after it have tested nothing"
        assert answer.json()["role"] == "owner"


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_each_operation_does_what_its_schema_says(case: Case, running: live.Live) -> None:
    case.call_and_validate(base_url=running.url, headers={"Authorization": f"Bearer {running.token}"}, timeout=20)


def test_the_document_that_is_served_is_the_one_that_was_fuzzed(running: live.Live) -> None:
    served = httpx2.get(f"{running.url}/api/openapi.json").json()
    assert served == create_app(Settings(database="sqlite://"), None).openapi()
    operations = [operation for methods in served["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) > 60
    assert all("default" in operation["responses"] for operation in operations)

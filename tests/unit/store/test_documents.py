"""Documents: what each field takes, and what it says when it does not."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gateway.policy.model import Metric, Window
from gateway.store import documents, problems
from gateway.store.documents import (
    AppDocument,
    GatewayDocument,
    InterceptionDocument,
    KeyDocument,
    LimitDocument,
    ProviderDocument,
    RouteDocument,
    TimeoutDocument,
)

PROVIDER = {"name": "p", "dialect": "openai", "base_url": "https://a"}
ROUTE = {"name": "r", "targets": [{"provider": "p", "model": "m"}]}
LIMIT = {"name": "l", "metric": "requests", "window": "day", "at_most": 1}
RULE = {"name": "i", "destinations": {"hosts": ["a.example"]}}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("2s", 2.0), ("10m", 600.0), ("500ms", 0.5), ("1.5h", 5400.0), (3, 3.0), (0.25, 0.25), ("24h", 86_400.0)],
)
def test_durations(written: object, seconds: float) -> None:
    assert TimeoutDocument.model_validate({"idle": written}).idle == seconds


LIMITS = {
    "money by decimal": ({"metric": "cost_usd", "at_most": 0.1}, 100_000),
    "money by text": ({"metric": "cost_usd", "at_most": "19.99"}, 19_990_000),
    "least money": ({"metric": "cost_usd", "at_most": 0.000001}, 1),
    "most money": ({"metric": "cost_usd", "at_most": 10**9}, 10**15),
    "tokens": ({"metric": "total_tokens", "at_most": 100000}, 100_000),
    "whole float": ({"metric": "requests", "at_most": 5.0}, 5),
}


@pytest.mark.parametrize("case", LIMITS.values(), ids=LIMITS)
def test_amounts_are_exact(case: tuple[dict[str, object], int]) -> None:
    assert LimitDocument.model_validate({**LIMIT, **case[0]}).amount == case[1]


def test_slots_have_no_window() -> None:
    slots = LimitDocument.model_validate({"name": "l", "metric": "concurrent_requests", "at_most": 2})
    assert (slots.metric, slots.window) == (Metric.CONCURRENT_REQUESTS, None)
    assert LimitDocument.model_validate(LIMIT).window is Window.DAY


def test_routes_of_an_app() -> None:
    for written, read in (("*", "*"), (["*"], "*"), (["a", "b/c"], ["a", "b/c"])):
        assert AppDocument.model_validate({"name": "a", "routes": written}).routes == read
    assert AppDocument(name="a").routes == []


def test_secrets_are_not_shown() -> None:
    credential = {"name": "main", "value": "sk-very-secret"}
    shown = repr(ProviderDocument.model_validate({**PROVIDER, "credentials": [credential]}))
    shown += repr(KeyDocument.model_validate(credential))
    assert "sk-very-secret" not in shown


def test_hosts_and_networks_are_written_one_way() -> None:
    rule = InterceptionDocument.model_validate(
        {"name": "i", "destinations": {"hosts": ["API.Example."], "cidrs": ["2001:DB8::/32"]}}
    )
    assert (rule.destinations.hosts, rule.destinations.cidrs) == (["api.example"], ["2001:db8::/32"])


REFUSED: dict[str, tuple[type[BaseModel], dict[str, Any], str, str]] = {
    "control character": (ProviderDocument, {**PROVIDER, "name": "a\nb"}, "name", "visible characters"),
    "no name": (ProviderDocument, {**PROVIDER, "name": ""}, "name", "1 to 128"),
    "long name": (ProviderDocument, {**PROVIDER, "name": "x" * 129}, "name", "1 to 128"),
    "slash": (ProviderDocument, {**PROVIDER, "name": "a/b"}, "name", "hyphen"),
    "digits": (RouteDocument, {**ROUTE, "name": "42"}, "name", "add a letter"),
    "star": (RouteDocument, {**ROUTE, "name": "*"}, "name", "another name"),
    "space at the end": (RouteDocument, {**ROUTE, "name": "a "}, "name", "remove the space"),
    "surrogate": (RouteDocument, {**ROUTE, "name": "a\ud800"}, "name", "visible"),
    "name is a number": (RouteDocument, {**ROUTE, "name": 5}, "name", "quotes"),
    "unknown field": (RouteDocument, {**ROUTE, "retry": 1}, "retry", "name, strategy, targets, retries"),
    "unknown nested field": (
        RouteDocument,
        {**ROUTE, "timeout": {"conect": 1}},
        "timeout.conect",
        "connect, first_byte, idle, total",
    ),
    "not http": (ProviderDocument, {**PROVIDER, "base_url": "ftp://a"}, "base_url", "https://"),
    "no host": (ProviderDocument, {**PROVIDER, "base_url": "http://"}, "base_url", "https://"),
    "bad port": (ProviderDocument, {**PROVIDER, "base_url": "http://a:99999"}, "base_url", "https://"),
    "secret in the URL": (ProviderDocument, {**PROVIDER, "base_url": "http://u:p@a"}, "base_url", "credentials"),
    "query": (ProviderDocument, {**PROVIDER, "base_url": "http://a/?x=1"}, "base_url", "end it"),
    "credential twice": (ProviderDocument, {**PROVIDER, "credentials": [{"name": "a"}] * 2}, "credentials", "own name"),
    "secret with a line break": (
        ProviderDocument,
        {**PROVIDER, "credentials": [{"name": "a", "value": "a\r\nb"}]},
        "credentials.0.value",
        "visible ASCII",
    ),
    "empty secret": (
        ProviderDocument,
        {**PROVIDER, "credentials": [{"name": "a", "value": ""}]},
        "credentials.0.value",
        "${OPENAI_API_KEY}",
    ),
    "bad dialect": (ProviderDocument, {**PROVIDER, "dialect": "soap"}, "dialect", "'anthropic'"),
    "no targets": (RouteDocument, {**ROUTE, "targets": []}, "targets", "add one"),
    "target twice": (RouteDocument, {**ROUTE, "targets": ROUTE["targets"] * 2}, "targets", "more weight"),
    "no weight": (
        RouteDocument,
        {**ROUTE, "targets": [{"provider": "p", "model": "m", "weight": 0}]},
        "targets",
        "raise one",
    ),
    "negative duration": (RouteDocument, {**ROUTE, "timeout": {"idle": -1}}, "timeout.idle", "500ms"),
    "no duration": (RouteDocument, {**ROUTE, "timeout": {"idle": True}}, "timeout.idle", "500ms"),
    "empty match": (RouteDocument, {**ROUTE, "match": {}}, "match", "`host`, `path` or both"),
    "port in match": (RouteDocument, {**ROUTE, "match": {"host": "a:80"}}, "match.host", "without scheme"),
    "relative path": (RouteDocument, {**ROUTE, "match": {"path": "v2"}}, "match.path", "begin it with /"),
    "prefix without match": (RouteDocument, {**ROUTE, "strip_prefix": True}, "strip_prefix", "add `match`"),
    "prefix without path": (
        RouteDocument,
        {**ROUTE, "match": {"host": "a"}, "strip_prefix": True},
        "strip_prefix",
        "match.path",
    ),
    "auth without match": (RouteDocument, {**ROUTE, "auth": "none"}, "auth", "add `match`"),
    "short key": (KeyDocument, {"name": "k", "value": "short"}, "value", "8 characters"),
    "bad digest": (KeyDocument, {"name": "k", "value": "sha256:xyz"}, "value", "64"),
    "no zone": (KeyDocument, {"name": "k", "expires_at": "2027-01-01T00:00:00"}, "expires_at", "Z"),
    "no window": (LimitDocument, {**LIMIT, "window": None}, "window", "second, minute"),
    "window for slots": (LimitDocument, {**LIMIT, "metric": "concurrent_requests"}, "window", "remove"),
    "half a request": (LimitDocument, {**LIMIT, "at_most": 0.5}, "at_most", "integer"),
    "too fine": (LimitDocument, {**LIMIT, "metric": "cost_usd", "at_most": "0.0000001"}, "at_most", "six decimals"),
    "nothing": (LimitDocument, {**LIMIT, "at_most": 0}, "at_most", "in between"),
    "negative": (LimitDocument, {**LIMIT, "at_most": -1}, "at_most", "in between"),
    "too much": (LimitDocument, {**LIMIT, "at_most": 10**16}, "at_most", "in between"),
    "infinite": (LimitDocument, {**LIMIT, "at_most": float("inf")}, "at_most", "write e.g."),
    "not a number": (LimitDocument, {**LIMIT, "at_most": "many"}, "at_most", "write e.g."),
    "truth": (LimitDocument, {**LIMIT, "at_most": True}, "at_most", "write e.g."),
    "unknown scope": (LimitDocument, {**LIMIT, "scope": {"user": "x"}}, "scope.user", "team, app, key"),
    "no destination": (InterceptionDocument, {"name": "i", "destinations": {}}, "destinations", "`hosts`"),
    "host bits": (
        InterceptionDocument,
        {**RULE, "destinations": {"cidrs": ["10.0.0.1/8"]}},
        "destinations.cidrs.0",
        "10.9.0.0/16",
    ),
    "port": (
        InterceptionDocument,
        {**RULE, "destinations": {"hosts": ["a"], "ports": [0]}},
        "destinations.ports.0",
        "correct",
    ),
    "unknown section": (GatewayDocument, {"route": []}, "route", "providers, routes, teams"),
    "section is no list": (GatewayDocument, {"routes": {"a": 1}}, "routes", "write a list"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refused_with_field_and_remedy(case: tuple[type[BaseModel], dict[str, Any], str, str]) -> None:
    model, written, field, remedy = case
    with pytest.raises(ValidationError) as caught:
        model.model_validate(written)
    found = problems.from_validation(caught.value, model)
    assert [each.field for each in found] == [field]
    assert remedy in found[0].remedy
    assert found[0].problem


def test_a_refused_secret_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        KeyDocument.model_validate({"name": "k", "value": "sekrét-value"})
    (found,) = problems.from_validation(caught.value, KeyDocument)
    assert "sekr" not in found.problem + found.remedy


def test_empty_sections_are_empty_lists() -> None:
    assert GatewayDocument.model_validate(dict.fromkeys(GatewayDocument.model_fields)) == GatewayDocument()


def test_every_schema_can_be_published() -> None:
    schema = GatewayDocument.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["LimitDocument"]["properties"]["at_most"]["type"] == "number"
    assert Decimal(1_000_000) == documents.MICRO

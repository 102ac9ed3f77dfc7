"""Whatever a valid document says: applied it is there, applied again it changes nothing, exported it reads back."""

import io
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sqlalchemy import Engine

from gateway.errors import Invalid
from gateway.policy import codec
from gateway.policy.roles import Authority, Role
from gateway.store import audit_trail, compiler, migrate
from gateway.store.apply import Applied, apply, export
from gateway.store.config import Editing
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.sealing import Sealer
from gateway.store.yaml_source import escaped

SEALER = Sealer(lambda: [b"k" * 32])

names = st.sampled_from(["a", "b", "c", "yes", "null", "ünïcode ☃", "$x", "${y}", "1.5", "a: b", "- z", "'q\""])
secrets = st.text(alphabet=string.ascii_letters + string.digits + "$-_:{}#'\"", min_size=8, max_size=40).filter(
    lambda text: not text.startswith(("sealed:", "sha256:"))
)
durations = st.sampled_from(["250ms", "2s", "10m", 1, 0.5])
amounts = st.integers(1, 10**9)


def each_once(items: list[dict[str, Any]], *by: str) -> list[dict[str, Any]]:
    return list({tuple(item.get(name) for name in by): item for item in items}.values())


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """References lead nowhere now and then, so that refusals are drawn too."""
    credential = st.fixed_dictionaries({"name": names, "value": secrets})
    provider = st.fixed_dictionaries(
        {
            "name": names,
            "dialect": st.sampled_from(["openai", "anthropic"]),
            "base_url": st.sampled_from(["http://a", "https://b.example/v1"]),
            "credentials": st.lists(credential, max_size=3).map(lambda items: each_once(items, "name")),
        }
    )
    providers = each_once(draw(st.lists(provider, min_size=1, max_size=4)), "name")
    provider_name = st.sampled_from([item["name"] for item in providers])
    target = st.fixed_dictionaries({"provider": provider_name, "model": names}, optional={"weight": st.integers(1, 9)})
    route = st.fixed_dictionaries(
        {
            "name": names,
            "targets": st.lists(target, min_size=1, max_size=3).map(lambda x: each_once(x, "provider", "model")),
        },
        optional={
            "retries": st.integers(0, 5),
            "strategy": st.sampled_from(["ordered", "weighted", "cheapest"]),
            "timeout": st.fixed_dictionaries({}, optional={"connect": durations, "total": durations}),
            "max_output_tokens": st.integers(1, 10**6),
            "read_to_end": st.booleans(),
            "capture": st.fixed_dictionaries({}, optional={"keep": st.just("3d"), "sample": st.floats(0.01, 1.0)}),
        },
    )
    routes = each_once(draw(st.lists(route, max_size=4)), "name")
    route_names = st.lists(st.sampled_from([item["name"] for item in routes] or ["*"]), unique=True)
    key = st.fixed_dictionaries(
        {"name": names, "value": st.uuids().map(str)}, optional={"expires_at": st.just("2027-01-31T00:00:00+02:00")}
    )
    app = st.fixed_dictionaries(
        {
            "name": names,
            "routes": st.one_of(st.just("*"), route_names if routes else st.just([])),
            "keys": st.lists(key, max_size=3).map(lambda items: each_once(items, "name")),
        }
    )
    apps = each_once(draw(st.lists(app, max_size=4)), "name")
    team_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    teams = [{"name": name, "apps": apps[place :: len(team_names)]} for place, name in enumerate(team_names)]
    price = st.fixed_dictionaries(
        {"provider": provider_name, "model": st.one_of(st.just("*"), names), "input": amounts, "output": amounts},
        optional={"cached_input": amounts, "per_request": amounts},
    )
    scope = st.fixed_dictionaries(
        {},
        optional={
            "team": names,
            "app": names,
            "route": names,
            "provider": names,
            "model": names,
            "target": st.builds("{}/{}".format, provider_name, names),
            "key": st.builds("{}/{}".format, names, names),
        },
    )
    limit = st.one_of(
        st.fixed_dictionaries(
            {
                "name": names,
                "metric": st.sampled_from(["requests", "total_tokens", "cost_usd"]),
                "window": st.sampled_from(["second", "month", "lifetime"]),
                "at_most": amounts,
            },
            optional={"scope": scope, "unpriced": st.just("admit")},
        ),
        st.fixed_dictionaries(
            {
                "name": names,
                "metric": st.just("cost_usd"),
                "window": st.just("day"),
                "at_most": st.decimals("0.000001", "1000000", places=6).map(str),
            }
        ),
        st.fixed_dictionaries({"name": names, "metric": st.just("concurrent_requests"), "at_most": amounts}),
    )
    rule = st.fixed_dictionaries(
        {"name": names, "destinations": st.just({"hosts": ["api.example"], "cidrs": ["10.0.0.0/8"]})},
        optional={"sources": st.just({"local": True}), "mode": st.sampled_from(["deny", "observe"])},
    )
    return {
        "providers": providers,
        "routes": routes,
        "teams": teams,
        "prices": each_once(draw(st.lists(price, max_size=3)), "provider", "model"),
        "limits": each_once(draw(st.lists(limit, max_size=4)), "name"),
        "interception": each_once(draw(st.lists(rule, max_size=2)), "name"),
    }


def _text(document: dict[str, Any]) -> str:
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(escaped(document), text)
    return text.getvalue()


def _run(engine: Engine, text: str, **options: bool) -> Applied:
    with write_session(engine) as session:
        editing = Editing(session=session, authority=Authority(actor="cli:root", role=Role.OWNER), sealer=SEALER)
        return apply(editing, text, file="f", environment={}, **options)


def _export(engine: Engine) -> str:
    with read_session(engine) as session:
        return export(Editing(session=session, authority=Authority(actor="-", role=Role.OWNER), sealer=SEALER))


def _refusal(engine: Engine, text: str) -> Invalid | None:
    try:
        _run(engine, text, prune=True, dry_run=True)
    except Invalid as refused:
        return refused
    return None


def _snapshot(engine: Engine) -> object:
    with read_session(engine) as session:
        assert audit_trail.verify(session).broken_at is None
        return codec.decode_snapshot(codec.encode_snapshot(compiler.compile_snapshot(session, SEALER)))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all examples: each is applied, with --prune, over what the one before left behind."""
    engine = make_engine(f"sqlite:///{tmp_path_factory.mktemp('properties') / 'x.sqlite'}")
    migrate.upgrade(engine)
    yield engine
    engine.dispose()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(document=documents())
def test_apply_is_idempotent_and_export_reads_back(shared: Engine, document: dict[str, Any]) -> None:
    text = _text(document)
    refused = _refusal(shared, text)
    if refused is not None:
        event("refused")
        assert all(error["line"] and error["field"].startswith("limits.") for error in refused.fields["errors"])
        document = {**document, "limits": [item for item in document["limits"] if not item.get("scope")]}
        text = _text(document)
    planned = [str(change) for change in _run(shared, text, prune=True, dry_run=True).changes]
    event(f"{len(planned) // 5 * 5}+ changes")
    assert [str(change) for change in _run(shared, text, prune=True).changes] == planned
    assert not _run(shared, text, prune=True).changes
    snapshot = _snapshot(shared)
    exported = _export(shared)
    assert not _run(shared, exported, prune=True).changes
    assert _export(shared) == exported
    assert _snapshot(shared) == snapshot
    read = YAML(typ="safe").load(exported)
    assert {name: len(items) for name, items in read.items()} == {
        name: len(items) for name, items in document.items() if items
    }

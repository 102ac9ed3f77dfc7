"""SQL → document → `Snapshot`: nothing lost on the way, and fast enough at ten thousand keys."""

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from sqlalchemy import Engine, insert

from gateway.policy import codec
from gateway.policy.model import (
    Auth,
    CertificateAuthority,
    Credential,
    Dialect,
    Limit,
    Match,
    Metric,
    Price,
    Provider,
    Scope,
    Strategy,
    Target,
    Timeouts,
    WhenUnknown,
    Window,
)
from gateway.policy.snapshot import Snapshot
from gateway.store import models
from gateway.store.compiler import compile_snapshot
from gateway.store.database import read_session, write_session
from gateway.store.sealing import Sealer

Result = TypeVar("Result")

KEYS, ROUTES, APPS, LIMITS = 10_000, 1_000, 500, 1_000


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(lambda: [b"k" * 32])


def _best_of_three(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds and result: what the work takes, not what else the machine does meanwhile."""
    taken: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - began)
    return min(taken), result


def _snapshot(engine: Engine, sealer: Sealer) -> Snapshot:
    with read_session(engine) as session:
        return codec.decode_snapshot(codec.encode_snapshot(compile_snapshot(session, sealer)))


def _route(name: str, **changed: object) -> models.Route:
    return models.Route(
        **{
            "name": name,
            "strategy": "ordered",
            "retries": 1,
            "connect_timeout_s": 5.0,
            "first_byte_timeout_s": 120.0,
            "idle_timeout_s": 120.0,
            "total_timeout_s": 900.0,
            "max_output_tokens": 4096,
            "strip_prefix": False,
            "preserve_host": False,
            "auth": "key",
            "read_to_end": False,
            **changed,
        }
    )


def test_all_that_is_configured_arrives(engine: Engine, sealer: Sealer) -> None:
    expiry = datetime(2027, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    with write_session(engine) as session:
        openai = models.Provider(name="openai", dialect="openai", base_url="https://api.openai.com/v1")
        local = models.Provider(name="local", dialect="openai", base_url="http://127.0.0.1:9200/v1")
        crm = models.Provider(name="crm", dialect="http", base_url="http://10.0.0.7:8000")
        session.add_all([openai, local, crm])
        session.flush()
        for position, name in enumerate(["second", "first"]):
            sealed = sealer.seal(f"sk-{name}", openai.id, name)
            session.add(
                models.Credential(
                    provider_id=openai.id,
                    position=1 - position,
                    name=name,
                    sealed=sealed.ciphertext,
                    sealing_key_id=sealed.key_id,
                    last_four="",
                )
            )
        chat = _route("chat", strategy="weighted", retries=2, connect_timeout_s=0.5, read_to_end=True)
        chat.targets = [
            models.Target(position=0, provider=openai, model="gpt-5-mini", weight=3),
            models.Target(position=1, provider=local, model="gemma", weight=1),
            models.Target(position=2, provider=local, model="other", weight=0),
        ]
        http = _route("crm", match_host="crm.internal", match_path="/v2/", strip_prefix=True, auth="none")
        http.targets = [models.Target(position=0, provider=crm, model=None, weight=1)]
        search = models.Team(name="search")
        indexer = models.App(name="indexer", team=search, all_routes=False, routes=[chat])
        roamer = models.App(name="roamer", team=search, all_routes=True)
        digest = hashlib.sha256(b"secret").digest()
        key = models.Key(name="ci", app=indexer, digest=digest, prefix="", expires_at=expiry)
        session.add_all([chat, http, search, indexer, roamer, key])
        session.add_all(
            [
                models.PriceOverride(provider=local, model="*", input=1, output=2, per_request=3),
                models.PriceOverride(provider=local, model="gem*", input=4, output=5, cached_input=6, per_request=0),
            ]
        )
        session.flush()
        session.add_all(
            [
                models.LimitRule(
                    name="budget",
                    metric="cost_usd",
                    window="month",
                    at_most=50_000_000,
                    unpriced="admit",
                    when_unavailable="refuse",
                    team_id=search.id,
                    app_id=indexer.id,
                    key_id=key.id,
                    route_id=chat.id,
                    provider_id=openai.id,
                    credential_id=1,
                    target_provider_id=openai.id,
                    target_model="gpt-5-mini",
                    model="gpt-5-mini",
                ),
                models.LimitRule(
                    name="all",
                    metric="concurrent_requests",
                    window="lifetime",
                    at_most=2,
                    unpriced="refuse",
                    when_unavailable="admit",
                    target_provider_id=crm.id,
                ),
            ]
        )

    snapshot = _snapshot(engine, sealer)

    assert snapshot.generation == 1
    assert [(each.name, each.secret) for each in snapshot.providers["openai"].credentials] == [
        ("first", "sk-first"),
        ("second", "sk-second"),
    ]
    provider = snapshot.providers["crm"]
    assert provider == Provider(id=provider.id, name="crm", dialect=Dialect.HTTP, base_url="http://10.0.0.7:8000")
    route = snapshot.routes["chat"]
    assert (route.strategy, route.retries, route.read_to_end, route.match) == (Strategy.WEIGHTED, 2, True, None)
    assert route.timeouts == Timeouts(connect_s=0.5)
    assert [(each.name, each.weight, each.price) for each in route.targets] == [
        ("openai/gpt-5-mini", 3, Price(input=250_000, output=2_000_000, cached_input=25_000)),
        ("local/gemma", 1, Price(input=4, output=5, cached_input=6)),
        ("local/other", 0, Price(input=1, output=2, per_request=3)),
    ]
    http_route = snapshot.routes["crm"]
    assert http_route.match == Match(host="crm.internal", path="/v2/")
    assert (http_route.strip_prefix, http_route.preserve_host, http_route.auth) == (True, False, Auth.NONE)
    assert http_route.targets == (
        Target(id=http_route.targets[0].id, provider=provider, model=None, weight=1, price=None),
    )
    found = snapshot.keys[hashlib.sha256(b"secret").digest()]
    assert (found.name, found.expires_at_s) == ("ci", expiry.timestamp())
    assert found.app is snapshot.apps["indexer"]
    assert (found.app.team, found.app.routes, snapshot.apps["roamer"].routes) == ("search", frozenset({"chat"}), None)
    openai_id = snapshot.providers["openai"].id
    assert snapshot.limits[0] == Limit(
        id=snapshot.limits[0].id,
        name="budget",
        scope=Scope(
            team_id=found.app.team_id,
            app_id=found.app.id,
            key_id=found.id,
            route_id=route.id,
            provider_id=openai_id,
            credential_id=snapshot.limits[0].scope.credential_id,
            target="openai/gpt-5-mini",
            model="gpt-5-mini",
        ),
        metric=Metric.COST_USD,
        window=Window.MONTH,
        at_most=50_000_000,
        unpriced=WhenUnknown.ADMIT,
        when_unavailable=WhenUnknown.REFUSE,
    )
    assert snapshot.limits[1].scope == Scope(target="crm")
    assert all(isinstance(each, Credential) for each in snapshot.providers["openai"].credentials)


def test_a_limit_goes_with_what_it_names(engine: Engine, sealer: Sealer) -> None:
    with write_session(engine) as session:
        team = models.Team(name="search")
        session.add(team)
        session.flush()
        common = {
            "metric": "requests",
            "window": "day",
            "at_most": 1,
            "unpriced": "refuse",
            "when_unavailable": "refuse",
        }
        session.add(models.LimitRule(name="of-team", team_id=team.id, **common))
        session.add(models.LimitRule(name="of-all", **common))
    with write_session(engine) as session:
        session.delete(session.get_one(models.Team, team.id))
    assert [limit.name for limit in _snapshot(engine, sealer).limits] == ["of-all"]


def test_a_credential_that_does_not_open_is_left_out(
    engine: Engine, sealer: Sealer, caplog: pytest.LogCaptureFixture
) -> None:
    with write_session(engine) as session:
        good, bad = (
            models.Provider(name="a", dialect="openai", base_url="http://a"),
            models.Provider(name="b", dialect="openai", base_url="http://b"),
        )
        session.add_all([good, bad])
        session.flush()
        for provider, sealing in ((good, sealer), (bad, Sealer(lambda: [b"?" * 32]))):
            sealed = sealing.seal("sk-1", provider.id, "main")
            session.add(
                models.Credential(
                    provider_id=provider.id,
                    position=0,
                    name="main",
                    sealed=sealed.ciphertext,
                    sealing_key_id=sealed.key_id,
                    last_four="",
                )
            )
    snapshot = _snapshot(engine, sealer)
    assert [len(snapshot.providers[name].credentials) for name in "ab"] == [1, 0]
    assert "credential left out" in caplog.text


def test_the_authority_arrives_where_its_key_opens(
    engine: Engine, sealer: Sealer, caplog: pytest.LogCaptureFixture
) -> None:
    assert _snapshot(engine, sealer).authority is None
    with write_session(engine) as session:
        row = models.CertificateAuthority(id=1, certificate="a certificate")
        sealer.seal_row(row, "its key")
        session.add(row)
    assert _snapshot(engine, sealer).authority == CertificateAuthority(certificate="a certificate", key="its key")
    assert "its key" not in repr(_snapshot(engine, sealer))
    assert _snapshot(engine, Sealer(lambda: [b"?" * 32])).authority is None
    assert "certificate authority left out" in caplog.text


def test_a_document_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="restart keeper and workers"):
        codec.decode_snapshot(b'{"format": 99}')


@pytest.mark.serial
def test_ten_thousand_keys_compile_within_a_second(engine: Engine, sealer: Sealer) -> None:
    at = datetime.now(UTC)
    stamps = {"version": 1, "created_at": at, "updated_at": at}
    with write_session(engine) as session:
        session.execute(
            insert(models.Provider),
            [
                {"name": f"p{n}", "dialect": "openai", "base_url": "https://api.openai.com/v1", **stamps}
                for n in range(20)
            ],
        )
        sealed = [sealer.seal(f"sk-{n}", n + 1, "main") for n in range(20)]
        session.execute(
            insert(models.Credential),
            [
                {
                    "provider_id": n + 1,
                    "position": 0,
                    "name": "main",
                    "sealed": each.ciphertext,
                    "sealing_key_id": each.key_id,
                    "last_four": "",
                    "created_at": at,
                }
                for n, each in enumerate(sealed)
            ],
        )
        template = {
            name: value for name, value in vars(_route("")).items() if not name.startswith("_") and name != "name"
        }
        session.execute(insert(models.Route), [{"name": f"route-{n}", **template, **stamps} for n in range(ROUTES)])
        session.execute(
            insert(models.Target),
            [
                {"route_id": n + 1, "position": place, "provider_id": (n + place) % 20 + 1, "model": model, "weight": 1}
                for n in range(ROUTES)
                for place, model in enumerate(["gpt-5-mini", f"gpt-4o-{n}", "o3"])
            ],
        )
        session.execute(insert(models.Team), [{"name": f"team-{n}", **stamps} for n in range(50)])
        session.execute(
            insert(models.App),
            [{"name": f"app-{n}", "team_id": n % 50 + 1, "all_routes": n % 2 == 0, **stamps} for n in range(APPS)],
        )
        session.execute(
            insert(models.AppRoute),
            [{"app_id": n + 1, "route_id": (n + m) % ROUTES + 1} for n in range(1, APPS, 2) for m in range(10)],
        )
        session.execute(
            insert(models.Key),
            [
                {
                    "app_id": n % APPS + 1,
                    "name": f"key-{n}",
                    "digest": hashlib.sha256(b"%d" % n).digest(),
                    "prefix": "",
                    "expires_at": at,
                    **stamps,
                }
                for n in range(KEYS)
            ],
        )
        session.execute(
            insert(models.LimitRule),
            [
                {
                    "name": f"limit-{n}",
                    "metric": "requests",
                    "window": "day",
                    "at_most": 5,
                    "unpriced": "refuse",
                    "when_unavailable": "refuse",
                    "key_id": n + 1,
                    **stamps,
                }
                for n in range(LIMITS)
            ],
        )
    with read_session(engine) as session:
        compile_snapshot(session, sealer)  # the price table is loaded once in a keeper's life
        compiled_s, encoded = _best_of_three(lambda: codec.encode_snapshot(compile_snapshot(session, sealer)))
    decoded_s, snapshot = _best_of_three(lambda: codec.decode_snapshot(encoded))
    print(
        f"\n{engine.dialect.name}: compiled in {compiled_s:.3f} s, {len(encoded)} bytes, decoded in {decoded_s:.3f} s"
    )
    assert (len(snapshot.keys), len(snapshot.routes), len(snapshot.limits)) == (KEYS, ROUTES, LIMITS)
    assert compiled_s < 1.0
    assert decoded_s < 0.5

"""The configuration service: every rule that REST and `apply` rely on, on both databases."""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, select

from gateway.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from gateway.policy.model import TeamId
from gateway.policy.roles import Authority, Role
from gateway.store import audit_trail, compiler
from gateway.store.config import Apps, Editing, InterceptionRules, Keys, Limits, Prices, Providers, Routes, Teams
from gateway.store.database import read_session, write_session
from gateway.store.documents import (
    AppEntry,
    InterceptionDocument,
    KeyEntry,
    LimitDocument,
    PriceDocument,
    ProviderDocument,
    RouteDocument,
    TeamEntry,
)
from gateway.store.models import AuditEntry, Credential, Key, LimitRule, Target
from gateway.store.patches import (
    AppPatch,
    InterceptionPatch,
    KeyPatch,
    LimitPatch,
    PricePatch,
    ProviderPatch,
    RoutePatch,
    TeamPatch,
)
from gateway.store.sealing import Sealer

SEALER = Sealer(lambda: [b"k" * 32])
OWNER = Authority(actor="user:admin", role=Role.OWNER)
SECRET = "sk-live-abcdefgh1234"

Change = Callable[[], Any]


@contextmanager
def editing(engine: Engine, authority: Authority = OWNER) -> Iterator[Editing]:
    with write_session(engine) as session:
        yield Editing(session=session, authority=authority, sealer=SEALER)


@contextmanager
def reading(engine: Engine, authority: Authority = OWNER) -> Iterator[Editing]:
    with read_session(engine) as session:
        yield Editing(session=session, authority=authority, sealer=SEALER)


def provider(name: str = "openai", dialect: str = "openai", *credentials: dict[str, str]) -> ProviderDocument:
    return ProviderDocument.model_validate(
        {"name": name, "dialect": dialect, "base_url": "https://api.example/v1", "credentials": list(credentials)}
    )


def route(name: str = "chat", *targets: dict[str, Any], **more: Any) -> RouteDocument:
    chosen = list(targets) or [{"provider": "openai", "model": "gpt-5-mini"}]
    return RouteDocument.model_validate({"name": name, "targets": chosen, **more})


def limit(name: str, scope: dict[str, str], **more: Any) -> LimitDocument:
    wanted = {"name": name, "scope": scope, "metric": "requests", "window": "day", "at_most": 5, **more}
    return LimitDocument.model_validate(wanted)


@pytest.fixture
def furnished(engine: Engine) -> Engine:
    """Provider openai (credential main), route chat, team search with app indexer and key ci."""
    with editing(engine) as edit:
        Providers(edit).create(provider("openai", "openai", {"name": "main", "value": SECRET}))
        Providers(edit).create(provider("crm", "http"))
        Routes(edit).create(route())
        Teams(edit).create(TeamEntry(name="search"))
        Apps(edit).create(AppEntry(name="indexer", team="search", routes=["chat"]))
        Keys(edit).create(KeyEntry.model_validate({"name": "ci", "app": "indexer", "value": "sk-my-own-key"}))
    return engine


def test_secrets_go_in_and_never_come_out(furnished: Engine) -> None:
    with reading(furnished) as edit:
        view = Providers(edit).get("openai")
        assert [(each.name, each.last_four) for each in view.credentials] == [("main", "1234")]
        sealed = edit.session.scalars(select(Credential.sealed)).one()
        assert SECRET.encode() not in sealed
        assert edit.session.scalars(select(Key.digest)).one() == hashlib.sha256(b"sk-my-own-key").digest()
        told = "".join(f"{each.before}{each.after}" for each in edit.session.scalars(select(AuditEntry)))
        assert "main" in told
        assert SECRET not in told
        assert "sk-my-own-key" not in told + repr(edit) + repr(edit.sealer)


def test_a_patch_merges_and_bumps_version_and_generation(furnished: Engine) -> None:
    with reading(furnished) as edit:
        before, generation = Routes(edit).get("chat"), compiler.generation(edit.session)
    with editing(furnished) as edit:
        patch = RoutePatch.model_validate({"retries": 4, "timeout": {"connect": "500ms"}})
        after = Routes(edit).update("chat", patch, expected_version=before.version)
    assert (after.retries, after.timeout.connect, after.timeout.idle) == (4, 0.5, before.timeout.idle)
    assert after.version == before.version + 1
    with reading(furnished) as edit:
        assert compiler.generation(edit.session) == generation + 1
        assert audit_trail.entries(edit.session, limit=1)[0].name == "chat"
    with editing(furnished) as edit, pytest.raises(PreconditionFailed, match="has been changed since"):
        Routes(edit).update("chat", patch, expected_version=before.version)


def test_null_in_a_patch_takes_back_the_default(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Routes(edit).update("chat", RoutePatch(retries=7))
        assert Routes(edit).update("chat", RoutePatch(retries=None)).retries == 1


def test_what_changes_nothing_leaves_no_trace(furnished: Engine) -> None:
    with reading(furnished) as edit:
        before, generation = Providers(edit).get("openai"), compiler.generation(edit.session)
    with editing(furnished) as edit:
        same = ProviderPatch.model_validate({"credentials": [{"name": "main", "value": SECRET}]})
        assert Providers(edit).update("openai", same).version == before.version
        assert Routes(edit).update("chat", RoutePatch()).version == 1
        assert edit.journal == []
        assert compiler.generation(edit.session) == generation


def test_credentials_are_replaced_by_name(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Limits(edit).create(limit("of-main", {"credential": "main"}))
        Limits(edit).create(limit("of-all", {}))
        (kept,) = Providers(edit).get("openai").credentials
        two = [{"name": "new", "value": "sk-other"}, {"name": "main"}]
        view = Providers(edit).update("openai", ProviderPatch.model_validate({"credentials": two}))
        assert [each.name for each in view.credentials] == ["new", "main"]
        assert view.credentials[1].id == kept.id
        opened = {each.name: SEALER.open_row(each) for each in edit.session.scalars(select(Credential))}
        assert opened == {"new": "sk-other", "main": SECRET}
        Providers(edit).update("openai", ProviderPatch.model_validate({"credentials": [{"name": "new"}]}))
        assert [each.name for each in Limits(edit).list()] == ["of-all"]
        with pytest.raises(Invalid, match=r"credentials\.0\.value is missing"):
            Providers(edit).update("openai", ProviderPatch.model_validate({"credentials": [{"name": "gone"}]}))


def test_targets_that_stay_keep_their_ids(furnished: Engine) -> None:
    with editing(furnished) as edit:
        (first,) = Routes(edit).get("chat").targets
        more = [{"provider": "openai", "model": "o3"}, {"provider": "openai", "model": "gpt-5-mini", "weight": 9}]
        view = Routes(edit).update("chat", RoutePatch.model_validate({"targets": more}))
        assert [(each.model, each.weight) for each in view.targets] == [("o3", 1), ("gpt-5-mini", 9)]
        assert view.targets[1].id == first.id
        view = Routes(edit).update("chat", RoutePatch.model_validate({"targets": more[:1]}))
        assert edit.session.scalars(select(Target.model)).all() == ["o3"]


BAD_ROUTES = {
    "unknown provider": (route("x", {"provider": "nobody", "model": "m"}), r"targets\.0\.provider names no provider"),
    "no model": (route("x", {"provider": "openai"}), r"targets\.0\.model is missing"),
    "http without match": (route("x", {"provider": "crm"}), r"match is missing"),
    "match on a model": (
        route("x", {"provider": "openai", "model": "m"}, match={"host": "a"}),
        r"targets\.0\.provider is of dialect openai",
    ),
    "model on http": (
        route("x", {"provider": "crm", "model": "m"}, match={"host": "a"}),
        r"targets\.0\.model is not for HTTP",
    ),
}


@pytest.mark.parametrize("case", BAD_ROUTES.values(), ids=BAD_ROUTES)
def test_a_route_that_does_not_fit_is_refused(furnished: Engine, case: tuple[RouteDocument, str]) -> None:
    with pytest.raises(Invalid, match=case[1]), editing(furnished) as edit:
        Routes(edit).create(case[0])


def test_all_that_is_wrong_is_told_at_once(furnished: Engine) -> None:
    wanted = route("x", {"provider": "a", "model": "m"}, {"provider": "openai"}, {"provider": "b", "model": "m"})
    with pytest.raises(Invalid) as caught, editing(furnished) as edit:
        Routes(edit).create(wanted)
    fields = [each["field"] for each in caught.value.fields["errors"]]
    assert fields == ["targets.0.provider", "targets.1.model", "targets.2.provider"]
    assert all(each["remedy"] for each in caught.value.fields["errors"])


def test_two_routes_cannot_claim_the_same(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Routes(edit).create(route("crm", {"provider": "crm"}, match={"host": "crm.internal", "path": "/v2/"}))
        Routes(edit).create(route("crm-all", {"provider": "crm"}, match={"host": "crm.internal"}))
        with pytest.raises(Invalid, match="claims the same as the route 'crm-all'"):
            Routes(edit).create(route("crm-again", {"provider": "crm"}, match={"host": "CRM.internal"}))


def test_names_are_unique(furnished: Engine) -> None:
    attempts: list[Callable[[Editing], object]] = [
        lambda edit: Providers(edit).create(provider()),
        lambda edit: Routes(edit).create(route()),
        lambda edit: Teams(edit).create(TeamEntry(name="search")),
        lambda edit: Apps(edit).create(AppEntry(name="indexer", team="search")),
        lambda edit: Keys(edit).create(KeyEntry(name="ci", app="indexer")),
    ]
    for attempt in attempts:
        with pytest.raises(Conflict, match="already"), editing(furnished) as edit:
            attempt(edit)


def test_what_is_in_use_is_not_deleted(furnished: Engine) -> None:
    cases: list[tuple[Callable[[Editing], object], str]] = [
        (lambda edit: Providers(edit).delete("openai"), "by the route 'chat'"),
        (lambda edit: Routes(edit).delete("chat"), "by the app 'indexer'"),
        (lambda edit: Teams(edit).delete("search"), "has the app 'indexer'"),
        (
            lambda edit: Providers(edit).update("openai", ProviderPatch.model_validate({"dialect": "http"})),
            "cannot become a provider of dialect http",
        ),
    ]
    for attempt, message in cases:
        with pytest.raises(Conflict, match=message), editing(furnished) as edit:
            attempt(edit)


def test_deleting_takes_limits_and_keys_along_on_record(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Limits(edit).create(limit("parallel", {"key": "ci"}, metric="concurrent_requests", window=None))
        Limits(edit).create(limit("of-app", {"app": "indexer", "route": "chat"}))
        Limits(edit).create(limit("of-team", {"team": "search"}))
        Limits(edit).create(limit("of-target", {"target": "openai/gpt-5-mini", "model": "gpt-5-mini"}))
    with editing(furnished) as edit:
        Apps(edit).delete("indexer")
        assert [str(each) for each in edit.journal] == [
            "delete limit parallel",
            "delete limit of-app",
            "delete app indexer",
        ]
        assert edit.session.scalars(select(Key.name)).all() == []
    with editing(furnished) as edit:
        Teams(edit).delete("search")
        Routes(edit).delete("chat")
        Providers(edit).delete("openai")
        assert edit.session.scalars(select(LimitRule.name)).all() == []
        assert audit_trail.verify(edit.session).broken_at is None


def test_keys_are_made_shown_once_and_rotated(furnished: Engine) -> None:
    with editing(furnished) as edit:
        made = Keys(edit).create(KeyEntry(name="new", app="indexer", expires_at=datetime(2027, 1, 1, tzinfo=UTC)))
        assert made.key is not None
        assert made.key.startswith("sk-sg-")
        assert len(made.key) >= 6 + 32
        assert made.prefix == made.key[:10]
        assert (made.app, made.team, made.expires_at) == ("indexer", "search", datetime(2027, 1, 1, tzinfo=UTC))
        rotated = Keys(edit).rotate("indexer/new")
        assert rotated.key not in (None, made.key)
        assert rotated.id == made.id
        digest = edit.session.scalars(select(Key.digest).where(Key.id == made.id)).one()
        assert digest == hashlib.sha256((rotated.key or "").encode()).digest()
        assert Keys(edit).update("new", KeyPatch(expires_at=None)).expires_at is None
        with pytest.raises(Invalid, match="in use as another key"):
            Keys(edit).create(KeyEntry.model_validate({"name": "dup", "app": "indexer", "value": "sk-my-own-key"}))


def test_a_bare_key_name_must_be_unambiguous(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Apps(edit).create(AppEntry(name="other", team="search", routes="*"))
        Keys(edit).create(KeyEntry(name="ci", app="other"))
        with pytest.raises(Invalid, match="is ambiguous: indexer and other have a key 'ci'; write `indexer/ci`"):
            Limits(edit).create(limit("x", {"key": "ci"}))
        assert Limits(edit).create(limit("x", {"key": "other/ci"})).scope.key == "other/ci"
        assert Limits(edit).create(limit("y", {"key": "ci", "app": "indexer"})).scope.key == "indexer/ci"
        with pytest.raises(NotFound, match="more than one key is named 'ci'"):
            Keys(edit).get("ci")


def test_limits_keep_money_exact(furnished: Engine) -> None:
    with editing(furnished) as edit:
        view = Limits(edit).create(limit("money", {}, metric="cost_usd", window="month", at_most=0.1))
        assert view.at_most == 0.1
        assert edit.session.scalars(select(LimitRule.at_most)).one() == 100_000
        assert Limits(edit).update("money", LimitPatch.model_validate({"at_most": "1234567.890123"})).at_most == (
            1234567.890123
        )
        with pytest.raises(Invalid, match="at_most is finer than a micro-USD"):
            Limits(edit).update("money", LimitPatch.model_validate({"at_most": "0.0000001"}))
        for metric, amount in itertools.product(
            ["cost_usd", "requests"], ["1e16", "1.4761554118682313e+308", "1e999999", "0", "-1", "-1e999999"]
        ):
            with pytest.raises(Invalid, match="at_most is not above 0 and up to"):
                Limits(edit).update("money", LimitPatch.model_validate({"metric": metric, "at_most": amount}))
        with pytest.raises(Invalid, match="at_most is finer than a micro-USD"):
            Limits(edit).update("money", LimitPatch.model_validate({"at_most": "1e-999999"}))
        with pytest.raises(Invalid, match="window"):
            Limits(edit).update("money", LimitPatch.model_validate({"metric": "concurrent_requests"}))


def test_a_renamed_provider_keeps_its_limits(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Limits(edit).create(limit("of-target", {"target": "openai/gpt-5-mini"}))
        Providers(edit).update("openai", ProviderPatch(name="vendor"))
        assert Limits(edit).get("of-target").scope.target == "vendor/gpt-5-mini"
        assert Routes(edit).get("chat").targets[0].provider == "vendor"
        assert SEALER.open_row(edit.session.scalars(select(Credential)).one()) == SECRET


def test_prices_and_interception_rules(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Prices(edit).create(PriceDocument(provider="openai", model="gpt-*", input=1, output=2))
        assert Prices(edit).update("openai/gpt-*", PricePatch(cached_input=0)).cached_input == 0
        with pytest.raises(Conflict, match="has a price already"):
            Prices(edit).create(PriceDocument(provider="openai", model="gpt-*", input=1, output=2))
        with pytest.raises(Invalid, match="provider names no provider: 'x'"):
            Prices(edit).create(PriceDocument(provider="x", input=1, output=2))
        rule = {"name": "r", "destinations": {"hosts": ["API.openai.com"]}, "app": "indexer"}
        rules = InterceptionRules(edit)
        view = rules.create(InterceptionDocument.model_validate(rule))
        assert (view.destinations.hosts, view.destinations.ports, view.app) == (
            ["api.openai.com"],
            [80, 443],
            "indexer",
        )
        assert rules.update("r", InterceptionPatch.model_validate({"mode": "deny"})).mode == "deny"
        with pytest.raises(Conflict, match="charged by the interception rule 'r'"):
            Apps(edit).delete("indexer")
        Apps(edit).update("indexer", AppPatch(name="crawler"))
        assert rules.get("r").app == "crawler"
        rules.delete("r")


def test_lists_page_by_id_and_find_by_id_or_name(furnished: Engine) -> None:
    with editing(furnished) as edit:
        for number in range(5):
            Teams(edit).create(TeamEntry(name=f"team-{number}"))
        first = Teams(edit).list(limit=4)
        rest = Teams(edit).list(after_id=first[-1].id, limit=4)
        assert [each.name for each in first + rest] == ["search", *(f"team-{number}" for number in range(5))]
        assert Teams(edit).get(str(first[1].id)).name == "team-0"
        for reference in ("nobody", "99999999999999999999999", "0", "²", ""):
            with pytest.raises(NotFound, match="GET /api/v1/teams"):
                Teams(edit).get(reference)


def test_a_team_sees_and_changes_its_own_only(furnished: Engine) -> None:
    with editing(furnished) as edit:
        Teams(edit).create(TeamEntry(name="other"))
        Routes(edit).create(route("secret"))
        Apps(edit).create(AppEntry(name="theirs", team="other", routes=["secret"]))
        Keys(edit).create(KeyEntry(name="key", app="theirs"))
        Limits(edit).create(limit("theirs", {"app": "theirs"}))
        Limits(edit).create(limit("all", {}))
        Limits(edit).create(limit("mine", {"key": "ci"}))
        team_id = TeamId(Teams(edit).get("search").id)
    confined = Authority(actor="token:t", role=Role.TEAM_ADMIN, team_id=team_id)
    with editing(furnished, confined) as edit:
        names = {
            kind.__name__: [each.name for each in kind(edit).list()] for kind in (Teams, Apps, Keys, Routes, Limits)
        }
        assert names == {
            "Teams": ["search"],
            "Apps": ["indexer"],
            "Keys": ["ci"],
            "Routes": ["chat"],
            "Limits": ["mine"],
        }
        assert Providers(edit).list() == []
        for attempt in (
            lambda: Apps(edit).get("theirs"),
            lambda: Keys(edit).rotate("theirs/key"),
            lambda: Teams(edit).update("other", TeamPatch(name="x")),
        ):
            with pytest.raises(NotFound):
                attempt()
        with pytest.raises(Invalid, match="names no app: 'theirs'"):
            Keys(edit).create(KeyEntry(name="k", app="theirs"))
        with pytest.raises(Invalid, match="names no team: 'other'"):
            Apps(edit).create(AppEntry(name="search.a", team="other"))
        with pytest.raises(Forbidden, match="'secret'"):
            Apps(edit).create(AppEntry(name="search.a", team="search", routes=["chat", "secret"]))
        with pytest.raises(Forbidden):
            Apps(edit).update("indexer", AppPatch(routes="*"))
        assert Apps(edit).create(AppEntry(name="search.a", team="search", routes=["chat"])).routes == ["chat"]
        assert Keys(edit).create(KeyEntry(name="k", app="search.a")).key


def test_a_failed_change_leaves_nothing(furnished: Engine) -> None:
    with reading(furnished) as edit:
        generation, entries = compiler.generation(edit.session), len(audit_trail.entries(edit.session))

    def change_two_things() -> None:
        with editing(furnished) as edit:
            Teams(edit).create(TeamEntry(name="half"))
            Routes(edit).create(route("x", {"provider": "nobody", "model": "m"}))

    with pytest.raises(Invalid):
        change_two_things()
    with reading(furnished) as edit:
        assert [each.name for each in Teams(edit).list()] == ["search"]
        assert (compiler.generation(edit.session), len(audit_trail.entries(edit.session))) == (generation, entries)


def test_writers_at_once_lose_no_generation_and_keep_the_chain(furnished: Engine) -> None:
    with reading(furnished) as edit:
        generation = compiler.generation(edit.session)

    def create(number: int) -> None:
        for place in range(5):
            with editing(furnished) as edit:
                Teams(edit).create(TeamEntry(name=f"t{number}-{place}"))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(furnished) as edit:
        assert len(Teams(edit).list()) == 21
        assert compiler.generation(edit.session) == generation + 20
        assert audit_trail.verify(edit.session).broken_at is None


def test_a_forged_audit_log_is_found_out(furnished: Engine) -> None:
    with write_session(furnished) as session:
        third = session.get_one(AuditEntry, 3)
        third.actor = "user:someone-else"
    with read_session(furnished) as session:
        assert audit_trail.verify(session).broken_at == 3
    with write_session(furnished) as session:
        session.delete(session.get_one(AuditEntry, 2))
    with read_session(furnished) as session:
        assert audit_trail.verify(session).broken_at == 2

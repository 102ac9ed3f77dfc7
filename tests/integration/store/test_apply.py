"""`apply` and `export`: the contract's own document, both databases."""

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from sqlalchemy import Engine, func, select

from gateway.errors import Invalid
from gateway.policy import codec
from gateway.policy.roles import Authority, Role
from gateway.store import audit_trail, compiler, models
from gateway.store.apply import Applied, apply, export
from gateway.store.config import Editing
from gateway.store.database import read_session, write_session
from gateway.store.sealing import Sealer
from gateway.store.yaml_source import expanded

CONTRACT = (Path(__file__).parent / "contract.yaml").read_text()
ENVIRONMENT = {"OPENAI_API_KEY": "sk-openai-0123456789", "ANTHROPIC_API_KEY": "sk-ant-$x", "INDEXER_KEY": "indexer-key"}
SEALER = Sealer(lambda: [b"k" * 32])

Apply = Callable[..., Applied]


@pytest.fixture
def run(engine: Engine) -> Apply:
    def run(
        text: str, *, environment: Mapping[str, str] = ENVIRONMENT, sealer: Sealer = SEALER, **options: bool
    ) -> Applied:
        with write_session(engine) as session:
            editing = Editing(session=session, authority=Authority(actor="cli:root", role=Role.OWNER), sealer=sealer)
            return apply(editing, text, file="sluicegate.yaml", environment=environment, **options)

    return run


def exported(engine: Engine) -> str:
    with read_session(engine) as session:
        return export(Editing(session=session, authority=Authority(actor="-", role=Role.OWNER), sealer=SEALER))


def rows(engine: Engine) -> dict[str, int]:
    with read_session(engine) as session:
        return {
            table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for table in models.Base.metadata.sorted_tables
            if table.name != "audit_entry"
        }


def told(done: Applied) -> list[str]:
    return [str(change) for change in done.changes]


def test_the_contracts_document(engine: Engine, run: Apply) -> None:
    done = run(CONTRACT)
    assert told(done) == [
        "create provider openai",
        "create provider local",
        "create provider claude",
        "create provider crm",
        "create team search",
        "create route chat",
        "create route crm",
        "create app indexer",
        "create key indexer/ci",
        "create price local/*",
        "create limit month-budget",
        "create limit burst",
        "create limit parallel",
        "create interception rule openai-direct",
    ]
    assert done.keys == []
    with read_session(engine) as session:
        snapshot = codec.decode_snapshot(codec.encode_snapshot(compiler.compile_snapshot(session, SEALER)))
        assert audit_trail.verify(session).broken_at is None
    assert snapshot.keys[hashlib.sha256(b"indexer-key").digest()].name == "ci"
    assert snapshot.providers["claude"].credentials[0].secret == "sk-ant-$x"
    assert [(each.name, each.at_most) for each in snapshot.limits] == [
        ("month-budget", 50_000_000),
        ("burst", 100_000),
        ("parallel", 20),
    ]
    assert snapshot.limits[2].scope.key_id == snapshot.keys[hashlib.sha256(b"indexer-key").digest()].id
    assert snapshot.routes["chat"].timeouts.total_s == 600.0


def test_applying_twice_changes_nothing(engine: Engine, run: Apply) -> None:
    run(CONTRACT)
    with read_session(engine) as session:
        generation = compiler.generation(session)
    assert told(run(CONTRACT)) == []
    assert told(run(CONTRACT, prune=True)) == []
    with read_session(engine) as session:
        assert compiler.generation(session) == generation


def test_applying_an_export_changes_nothing(engine: Engine, run: Apply) -> None:
    run(CONTRACT.replace("name: openai-direct", 'name: "pri$$ce ${{x"').replace("${{x", "$${x"))
    text = exported(engine)
    assert told(run(text, environment={}, prune=True)) == []
    assert "sk-" not in text
    assert "indexer-key" not in text
    assert f"sha256:{hashlib.sha256(b'indexer-key').hexdigest()}" in text
    assert exported(engine) == text


def test_an_export_is_refused_elsewhere(engine: Engine, run: Apply) -> None:
    run(CONTRACT)
    text = exported(engine)
    run("{}", prune=True)
    with pytest.raises(Invalid, match=r"refers to a secret that this installation does not have; give .*OPENAI_MAIN"):
        run(text)


def test_a_dry_run_says_what_a_run_does_and_does_nothing(engine: Engine, run: Apply) -> None:
    before = rows(engine)
    planned = run(CONTRACT.replace(', value: "${INDEXER_KEY}"', ""), dry_run=True)
    assert rows(engine) == before
    assert planned.keys == ()
    done = run(CONTRACT.replace(', value: "${INDEXER_KEY}"', ""))
    assert told(done) == told(planned)
    assert [(each.app, each.name) for each in done.keys] == [("indexer", "ci")]
    assert done.keys[0].key not in repr(done)
    with read_session(engine) as session:
        digest = session.scalars(select(models.Key.digest)).one()
        assert digest == hashlib.sha256(done.keys[0].key.encode()).digest()
        assert compiler.generation(session) == 2
    assert not run(CONTRACT.replace(', value: "${INDEXER_KEY}"', "")).changes


def test_changes_are_named_field_by_field(run: Apply) -> None:
    run(CONTRACT)
    changed = (
        CONTRACT.replace("retries: 2", "retries: 5")
        .replace("weight: 3", "weight: 4")
        .replace("at_most: 50}", "at_most: 60.25}")
        .replace("routes: [chat, crm]", 'routes: "*"')
        .replace("mode: govern", "mode: observe")
    )
    assert told(run(changed)) == [
        "update route chat (targets, retries)",
        "update app indexer (routes)",
        "update limit month-budget (at_most)",
        "update interception rule openai-direct (mode)",
    ]
    assert told(
        run(CONTRACT, environment={**ENVIRONMENT, "INDEXER_KEY": "another-key", "OPENAI_API_KEY": "sk-new"})
    ) == [
        "update provider openai (credentials)",
        "update route chat (targets, retries)",
        "update app indexer (routes)",
        "update key indexer/ci",
        "update limit month-budget (at_most)",
        "update interception rule openai-direct (mode)",
    ]


def test_only_prune_removes(engine: Engine, run: Apply) -> None:
    run(CONTRACT)
    assert told(run("{}")) == []
    less = """
providers: [{name: openai, dialect: openai, base_url: "https://api.openai.com/v1"}]
routes: [{name: chat, targets: [{provider: openai, model: gpt-5-mini}]}]
teams: [{name: search, apps: [{name: indexer, routes: [chat]}]}]
"""
    done = told(run(less, prune=True))
    assert set(done) >= {
        "delete key indexer/ci",
        "delete route crm",
        "delete limit month-budget",
        "delete price local/*",
        "delete interception rule openai-direct",
        "delete provider claude",
        "update provider openai (credentials)",
    }
    assert told(run("{}", prune=True))[-3:] == ["delete app indexer", "delete team search", "delete provider openai"]
    assert {name for name, count in rows(engine).items() if count} == {"meta"} | {
        name for name in rows(engine) if name.startswith(("ledger", "limit_account", "lease"))
    } - {name for name, count in rows(engine).items() if not count}


def test_prune_lets_a_successor_take_over(run: Apply) -> None:
    """A key's value, a route's match and an app move to new names within one document."""
    run(CONTRACT)
    renamed = CONTRACT.replace("name: crm  ", "name: crm2 ").replace("[chat, crm]", "[chat, crm2]")
    renamed = renamed.replace("name: ci,", "name: ci2,").replace("key: ci}", "key: ci2}").replace("search", "find")
    done = told(run(renamed, prune=True))
    assert {"delete route crm", "create route crm2", "delete key indexer/ci", "create key indexer/ci2"} <= set(done)
    assert {"delete team search", "create team find", "update app indexer (team, routes)"} <= set(done)


FAULTS = {
    "unset variable": (
        CONTRACT,
        {},
        [r"sluicegate.yaml:6: providers\.0\.credentials\.0\.value: \$\{OPENAI_API_KEY\} is not set.*export OPENAI_A"],
    ),
    "no yaml": ("providers: [", ENVIRONMENT, [r"sluicegate.yaml:1: .*correct the YAML"]),
    "not a mapping": ("- a", ENVIRONMENT, [r"sluicegate.yaml:1: .*write a mapping"]),
    "unknown field": (
        CONTRACT.replace("strategy:", "stratgy:"),
        ENVIRONMENT,
        [r"sluicegate.yaml:18: routes\.0\.stratgy: is not known here; remove it, or use one of: name, strategy"],
    ),
    "two faults at once": (
        CONTRACT.replace("dialect: http,", "dialect: soap,").replace("window: month", "window: year"),
        ENVIRONMENT,
        [
            r"sluicegate.yaml:14: providers\.3\.dialect: is none of the allowed values; use 'openai'",
            r"sluicegate.yaml:39: limits\.0\.window: is none of",
        ],
    ),
    "unknown references": (
        CONTRACT.replace("provider: claude", "provider: clod").replace("app: indexer, route", "app: nobody, route"),
        ENVIRONMENT,
        [
            r"sluicegate.yaml:21: routes\.0\.targets\.1\.provider: names no provider: 'clod'; create the prov",
            r"sluicegate.yaml:40: limits\.1\.scope\.app: names no app: 'nobody'",
        ],
    ),
    "missing": (
        CONTRACT.replace(", metric: total_tokens", ""),
        ENVIRONMENT,
        [r"sluicegate.yaml:40: limits\.1\.metric: is missing; add it"],
    ),
    "key written twice": (
        CONTRACT.replace("    retries: 2", "    retries: 2\n    retries: 3"),
        ENVIRONMENT,
        [r"sluicegate.yaml:23: routes\.0\.retries: stands twice"],
    ),
    "name twice": (
        CONTRACT.replace("name: burst", "name: parallel"),
        ENVIRONMENT,
        [r"sluicegate.yaml:41: limits\.2: 'parallel' stands twice"],
    ),
    "bad duration": (
        CONTRACT.replace("idle: 60s", "idle: soon"),
        ENVIRONMENT,
        [r"sluicegate.yaml:23: routes\.0\.timeout\.idle: 'soon' is not a duration.*500ms"],
    ),
    "half a variable": (
        CONTRACT.replace("${INDEXER_KEY}", "${INDEXER"),
        ENVIRONMENT,
        [r"sluicegate.yaml:33: teams\.0\.apps\.0\.keys\.0\.value: has `\$\{` without"],
    ),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_a_fault_changes_nothing_and_is_told_with_its_line(
    engine: Engine, run: Apply, case: tuple[str, dict[str, str], list[str]]
) -> None:
    text, environment, expected = case
    before = rows(engine)
    with pytest.raises(Invalid) as caught:
        run(text, environment=environment)
    assert rows(engine) == before
    message = caught.value.message
    for pattern in expected:
        assert re.search(pattern, message), message
    if len(expected) > 1:
        assert len(message.splitlines()) == len(expected), message
    assert all(each["line"] and each["remedy"] for each in caught.value.fields["errors"])
    assert "sk-" not in message


def test_what_depends_on_a_fault_is_not_reported_again(run: Apply) -> None:
    with pytest.raises(Invalid) as caught:
        run(CONTRACT.replace("provider: claude, model: claude-haiku-4-5", "provider: clod, model: x"))
    assert len(caught.value.fields["errors"]) == 1  # neither the app nor the limit that name the route


def test_aliases_merges_and_their_bound(run: Apply) -> None:
    text = """
providers: [{name: a, dialect: openai, base_url: "http://a"}]
routes:
  - &base {name: one, targets: [{provider: a, model: m}], retries: 7}
  - {<<: *base, name: two}
"""
    assert told(run(text)) == ["create provider a", "create route one", "create route two"]
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(8)
    )
    began = time.monotonic()
    with pytest.raises(Invalid, match="grows beyond all bounds"):
        run(bomb)
    assert time.monotonic() - began < 20


def test_a_dollar_can_be_written(engine: Engine, run: Apply) -> None:
    run(
        'providers: [{name: a, dialect: openai, base_url: "http://a", credentials: [{name: m, value: "$$x-$$${A}$"}]}]',
        environment={"A": "${B}"},
    )
    with read_session(engine) as session:
        assert SEALER.open_row(session.scalars(select(models.Credential)).one()) == "$x-$${B}$"


def test_expanded_for_another_machine(engine: Engine, run: Apply) -> None:
    run(CONTRACT)
    sent = expanded(CONTRACT, file="x", environment=ENVIRONMENT)
    assert told(run(sent, environment={}, prune=True)) == []


def test_the_whole_export_is_plain_yaml(engine: Engine, run: Apply) -> None:
    run(CONTRACT)
    read = YAML(typ="safe").load(exported(engine))
    assert list(read) == ["providers", "routes", "teams", "prices", "limits", "interception"]
    assert read["limits"][0] == {
        "name": "month-budget",
        "scope": {"team": "search"},
        "metric": "cost_usd",
        "window": "month",
        "at_most": 50,
    }


@pytest.mark.serial
def test_many_apps_apply_in_bounded_time(run: Apply) -> None:
    apps = "".join(
        f"      - {{name: app-{n}, routes: [chat], keys: [{{name: k, value: key-value-{n}}}]}}\n" for n in range(300)
    )
    text = (
        'providers: [{name: a, dialect: openai, base_url: "http://a"}]\n'
        "routes: [{name: chat, targets: [{provider: a, model: m}]}]\n"
        f"teams:\n  - name: t\n    apps:\n{apps}"
    )
    began = time.monotonic()
    assert len(run(text).changes) == 603
    first_s, began = time.monotonic() - began, time.monotonic()
    assert not run(text).changes
    print(f"\n300 apps and keys: first {first_s:.1f} s, again {time.monotonic() - began:.1f} s")

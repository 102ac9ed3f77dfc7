"""A data folder as an operator has it before the first start: schema, configuration, an owner's token."""

import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import config, documents, migrate, passwords
from gateway.store.database import make_engine, write_session
from gateway.store.models import Token
from gateway.store.sealing import load_sealer

OWNER = Authority(actor="cli:tests", role=Role.OWNER)


def prepare(data: Path, database_url: str | None, yaml: str) -> str:
    """Make the data folder and its database with the configuration in it; returns a bearer token of role owner."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    mask = os.umask(0o077)
    settings = Settings(data=data, database=database_url)
    wanted = documents.GatewayDocument.model_validate(YAML(typ="safe").load(yaml))
    token = "sg-test-" + passwords.random_text(32)
    engine = make_engine(settings.database_url)
    try:
        migrate.upgrade(engine)
        with write_session(engine) as session:
            editing = config.Editing(session=session, authority=OWNER, sealer=load_sealer(settings))
            _fill(editing, wanted)
            session.add(
                Token(
                    name="tests", digest=passwords.digest(token), prefix=token[:8], role=Role.OWNER, created_by="tests"
                )
            )
    finally:
        engine.dispose()
        os.umask(mask)
    return token


def _fill(editing: config.Editing, wanted: documents.GatewayDocument) -> None:
    def create(collection: Any, entries: list[Any]) -> None:
        for entry in entries:
            collection(editing).create(entry)

    create(config.Providers, wanted.providers)
    create(config.Prices, wanted.prices)
    create(config.Routes, wanted.routes)
    for team in wanted.teams:
        config.Teams(editing).create(documents.TeamEntry(name=team.name))
        for app in team.apps:
            entry = documents.AppEntry.model_validate({**_plain(app, "keys"), "team": team.name})
            config.Apps(editing).create(entry)
            for key in app.keys:
                config.Keys(editing).create(documents.KeyEntry.model_validate({**_plain(key), "app": app.name}))
    create(config.Limits, wanted.limits)
    create(config.InterceptionRules, wanted.interception)


def _plain(document: documents.Document, *without: str) -> dict[str, Any]:
    return {name: getattr(document, name) for name in type(document).model_fields if name not in without}

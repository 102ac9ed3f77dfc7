"""Write the configuration as a sluicegate.yaml whose `apply` changes nothing on this installation.

No secret leaves: a key goes as `sha256:HEX`; a credential as `sealed:HEX`, which says nothing about the secret but
tells this installation whether it is the one it has. Elsewhere such a reference is refused, with the remedy.
"""

import io
from functools import lru_cache
from typing import Any, Final

import orjson
from ruamel.yaml import YAML
from sqlalchemy import select

from gateway.store.config import Apps, InterceptionRules, Keys, Limits, Prices, Providers, Routes, Teams
from gateway.store.config.editing import Editing
from gateway.store.config.teams import DIGEST_MARK
from gateway.store.document import Document
from gateway.store.models import Credential, ProviderSecret
from gateway.store.upstream_documents import PROXY_PASSWORD, SEALED_MARK, TLS_KEY
from gateway.store.yaml_source import escaped

_LINE_WIDTH: Final = 120


def export(editing: Editing) -> str:
    """The whole configuration as YAML. The session is one of `database.read_session`."""
    document = {
        "providers": _providers(editing),
        "routes": _plain(Routes(editing)),
        "teams": _teams(editing),
        "prices": _plain(Prices(editing)),
        "limits": _limits(editing),
        "interception": _plain(InterceptionRules(editing)),
    }
    return (
        "".join([f"{name}:\n" + "".join(map(_listed, section)) for name, section in document.items() if section])
        or "{}\n"
    )


def _listed(entry: dict[str, Any]) -> str:
    return _written(orjson.dumps(entry))


@lru_cache(1 << 13)
def _written(entry: bytes) -> str:
    """An entry in its list. Most stay as they are from export to export, and writing YAML takes its time."""
    return to_yaml([orjson.loads(entry)])


def to_yaml(values: Any) -> str:
    """Plain values as `apply` reads them."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = _LINE_WIDTH
    text = io.StringIO()
    yaml.dump(escaped(values), text)
    return text.getvalue()


def _plain(collection: Any) -> list[dict[str, Any]]:
    return [_shortest(collection.document_of(row)) for row in collection.rows()]


def _shortest(document: Document) -> dict[str, Any]:
    """Without what is as it would be anyway."""
    return document.model_dump(mode="json", exclude_defaults=True)


def _providers(editing: Editing) -> list[dict[str, Any]]:
    stored = {row.id: row for row in editing.session.scalars(select(Credential))}
    secrets = {(row.provider_id, row.name): row for row in editing.session.scalars(select(ProviderSecret))}

    def reference(row: Credential | ProviderSecret) -> str:
        return SEALED_MARK + editing.sealer.references(editing.sealer.open_row(row))[0]

    sections = []
    for row in Providers(editing).rows():
        section = _shortest(Providers(editing).document_of(row))
        section["credentials"] = [{"name": each.name, "value": reference(stored[each.id])} for each in row.credentials]
        for name in (PROXY_PASSWORD, TLS_KEY):
            part, _, field = name.partition(".")
            if (row.id, name) in secrets:
                section[part][field] = reference(secrets[row.id, name])
        if not section["credentials"]:
            del section["credentials"]
        sections.append(section)
    return sections


def _teams(editing: Editing) -> list[dict[str, Any]]:
    teams: dict[str, dict[str, Any]] = {row.name: {"name": row.name} for row in Teams(editing).rows()}
    apps: dict[str, dict[str, Any]] = {}
    for app in Apps(editing).rows():
        section = _shortest(Apps(editing).document_of(app))
        del section["team"]
        apps[app.name] = section
        teams[app.team.name].setdefault("apps", []).append(section)
    for key in Keys(editing).rows():
        section = _shortest(Keys(editing).document_of(key))
        del section["app"]
        section["value"] = DIGEST_MARK + key.digest.hex()
        apps[key.app.name].setdefault("keys", []).append(section)
    return list(teams.values())


def _limits(editing: Editing) -> list[dict[str, Any]]:
    sections = []
    for row in Limits(editing).rows():
        document = Limits(editing).document_of(row)
        at_most = document.at_most
        sections.append({**_shortest(document), "at_most": int(at_most) if at_most % 1 == 0 else float(at_most)})
    return sections

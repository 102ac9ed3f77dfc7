"""The commands over a running gateway's REST API, with a bearer token."""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import httpx2

from gateway.cli.control import Applied, Item, MadeKey
from gateway.cli.moments import rfc3339
from gateway.errors import NotFound, SluicegateError
from gateway.store.problems import Problem
from gateway.store.yaml_source import Source, refusal

PATIENCE_S: Final = 60.0
PAGE: Final = 1000


class Refused(SluicegateError):
    """The gateway said no: its own words (RFC 9457), and its remedy."""


class RemoteControl:
    def __init__(self, url: str, token: str | None) -> None:
        """Raises Refused where no token is given: nothing in the API is open."""
        if not token:
            raise Refused(
                "no token for the gateway",
                fix="set SLUICEGATE_TOKEN to what `sluicegate token create --role admin` printed on its host",
            )
        base = url.rstrip("/").removesuffix("/console").removesuffix("/api/v1")
        if not base.startswith(("http://", "https://")):
            raise Refused(f"{url!r} is not an http or https URL", fix="e.g. --url https://gateway.internal")
        self.url = base
        self.client = httpx2.Client(
            base_url=f"{base}/api/v1", timeout=PATIENCE_S, headers={"authorization": f"Bearer {token}"}
        )

    def apply(self, file: str, text: str, *, dry_run: bool, prune: bool) -> Applied:
        """`${NAME}` is our environment's, so that we put the values in; the gateway's own is never asked."""
        source = Source(text, file=file, environment=os.environ)
        options = {"dry_run": str(dry_run).lower(), "prune": str(prune).lower()}
        try:
            said = self._ask("POST", "/apply", params=options, json=_literal(source.values)).json()
        except Refused as error:
            raise _located(error, source) from None
        return Applied(
            changes=[change["text"] for change in said["changes"]],
            made_keys=[MadeKey(made["app"], made["name"], made["key"]) for made in said["keys"]],
        )

    def export(self) -> str:
        return str(self._ask("GET", "/export").text)

    def create_token(
        self,
        *,
        role: str,
        team: str | None,
        name: str | None,
        expires_at: datetime | None,
        scopes: Sequence[str] | None,
    ) -> Item:
        return self._create("/tokens", role=role, team=team, name=name, expires_at=expires_at, scopes=scopes)

    def tokens(self) -> list[Item]:
        return self._all("/tokens")

    def revoke_token(self, reference: str) -> None:
        self._ask("DELETE", f"/tokens/{quote(reference, safe='')}")

    def create_key(self, *, app: str, name: str | None, expires_at: datetime | None) -> Item:
        return self._create("/keys", app=app, name=name, expires_at=expires_at)

    def interception(self) -> Item:
        """What stands in the kernel of the gateway's host."""
        said: Item = self._ask("GET", "/interception").json()
        return said

    def ended_flows(self, rule: str | None, limit: int) -> list[Item]:
        """Captured connections that have ended, the newest first."""
        options = {"limit": str(limit), **({"rule": rule} if rule else {})}
        items: list[Item] = self._ask("GET", "/interception/flows", params=options).json()["items"]
        return items

    def keys(self, app: str | None) -> list[Item]:
        return self._all("/keys", **({"app": app} if app else {}))

    def revoke_key(self, reference: str) -> None:
        app, slash, name = reference.partition("/")
        if not slash and reference.isdigit():
            self._ask("DELETE", f"/keys/{reference}")
            return
        fitting = [key for key in self.keys(app if slash else None) if key["name"] == (name or reference)]
        self._ask("DELETE", f"/keys/{one_key(fitting, reference)['id']}")

    def set_password(self, user: str, password: str) -> None:
        self._ask("PATCH", f"/users/{quote(user, safe='')}", json={"password": password})

    def certificate_authority(self) -> Item:
        shown: Item = self._ask("GET", "/authority").json()
        return shown

    def make_certificate_authority(self, action: str) -> Item:
        return self._create("/authority", action=action)

    def remove_certificate_authority(self) -> None:
        self._ask("DELETE", "/authority")

    def usage(self, group_by: Sequence[str], since: datetime | None, until: datetime | None) -> list[Item]:
        asked = {"group_by": ",".join(group_by), "from": since and rfc3339(since), "to": until and rfc3339(until)}
        return self._all("/usage", **{name: value for name, value in asked.items() if value})

    def ledger(self, wanted: dict[str, Any], limit: int) -> list[Item]:
        query = {**_ledger_query(wanted), "limit": str(limit)}
        found: list[Item] = self._ask("GET", "/ledger", params=query).json()["items"]
        return found

    def export_ledger(self, wanted: dict[str, Any], format_: str) -> Iterator[bytes]:
        """The file, piece by piece. Raises Refused, also where it breaks off."""
        return self._pieces("/ledger/export", {**_ledger_query(wanted), "format": format_})

    def verify_audit(self, noted: str | None) -> Item:
        verdict: Item = self._ask("GET", "/audit/verify", params={} if noted is None else {"noted": noted}).json()
        return verdict

    def export_audit(self, wanted: dict[str, Any]) -> Iterator[bytes]:
        return self._pieces("/audit/export", _ledger_query(wanted))

    def _pieces(self, path: str, asked: dict[str, str]) -> Iterator[bytes]:
        try:
            with self.client.stream("GET", path, params=asked) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _problem(answer)
                yield from answer.iter_bytes()
        except httpx2.HTTPError as error:
            raise Refused(f"{self.url}: {error}", fix="the file is not whole and was removed; try again") from None

    def explain(self, route: str, question: Item) -> Item:
        """What would happen to a request on this route."""
        answer: Item = self._ask("POST", f"/routes/{quote(route, safe='')}/explain", json=question).json()
        return answer

    def discoveries(self, wanted: dict[str, Any], limit: int) -> tuple[list[Item], str | None]:
        page = self._ask("GET", "/discoveries", params={**_query(wanted), "limit": str(limit)}).json()
        return page["items"], page["reason"]

    def coverage(self) -> Item:
        found: Item = self._ask("GET", "/discoveries/coverage").json()
        return found

    def discovery(self, number: int) -> Item:
        found: Item = self._ask("GET", f"/discoveries/{number}").json()
        return found

    def decide(self, number: int, decision: dict[str, Any]) -> Item:
        return self._create(f"/discoveries/{number}/action", **decision)

    def denials(self) -> list[Item]:
        return self._all("/denials")

    def add_denial(self, denial: dict[str, Any]) -> Item:
        return self._create("/denials", **denial)

    def remove_denial(self, reference: str) -> None:
        self._ask("DELETE", f"/denials/{quote(reference, safe='')}")

    def alerts(self, wanted: dict[str, Any], limit: int) -> list[Item]:
        items: list[Item] = self._ask("GET", "/alerts", params={**_query(wanted), "limit": str(limit)}).json()["items"]
        return items

    def _create(self, path: str, **fields: Any) -> Item:
        body = {
            name: rfc3339(value) if isinstance(value, datetime) else value
            for name, value in fields.items()
            if value is not None
        }
        made: Item = self._ask("POST", path, json=body).json()
        return made

    def _all(self, path: str, **query: str) -> list[Item]:
        """Every page of a list."""
        items: list[Item] = []
        cursor: str | None = None
        while True:
            page = self._ask(
                "GET", path, params={"limit": str(PAGE), **query, **({"cursor": cursor} if cursor else {})}
            ).json()
            items += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return items

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            answer = self.client.request(method, path, **options)
        except httpx2.HTTPError as error:
            raise Refused(f"{self.url}: {error}", fix="is the gateway running, and --url right?") from None
        if answer.is_success:
            return answer
        raise _problem(answer)


def _query(wanted: dict[str, Any]) -> dict[str, str]:
    return {name: rfc3339(value) if isinstance(value, datetime) else str(value) for name, value in wanted.items()}


def _ledger_query(wanted: dict[str, Any]) -> dict[str, str]:
    """Filters as the query string names them."""
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in _query(wanted).items()}


def _problem(answer: httpx2.Response) -> Refused:
    try:
        problem = answer.json()
        said = problem.get("detail") or problem["title"]
    except (ValueError, KeyError, AttributeError):
        return Refused(f"the gateway answered {answer.status_code}", fix="is --url that of a Sluicegate?")
    fix = problem.get("fix") or ""
    if answer.status_code == 401:
        fix = fix or "set SLUICEGATE_TOKEN to a valid token (sluicegate token create)"
    return Refused(said, fix=fix, errors=problem.get("errors"))


def _literal(value: Any) -> Any:
    """A document in which no sign stands for a variable any more."""
    match value:
        case str():
            return value.replace("$", "$$")
        case dict():
            return {name: _literal(each) for name, each in value.items()}
        case list():
            return [_literal(each) for each in value]
        case _:
            return value


def _located(error: Refused, source: Source) -> SluicegateError:
    """The gateway's complaint with the lines of our file: it saw no lines."""
    found = [problem for problem in error.fields.get("errors") or () if problem.get("field")]
    if not found:
        return error
    steps = [
        tuple(int(step) if step.isdecimal() else step for step in problem["field"].split(".")) for problem in found
    ]
    return refusal(
        [
            source.locate(Problem(path, problem.get("problem", ""), problem.get("remedy", "")))
            for path, problem in zip(steps, found, strict=True)
        ]
    )


def one_key(fitting: list[Item], reference: str) -> Item:
    """The one key that a reference names. Raises NotFound, also where several fit."""
    if not fitting:
        raise NotFound(f"there is no key {reference!r}", fix="sluicegate key list")
    if len(fitting) > 1:
        named = ", ".join(f"{key['app']}/{key['name']}" for key in fitting)
        raise NotFound(f"several keys are named {reference!r}: {named}", fix="name the app too: APP/NAME")
    return fitting[0]

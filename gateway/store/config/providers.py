"""Providers and their sealed credentials; price overrides."""

from pydantic import SecretStr
from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import joinedload, selectinload

from gateway.errors import Conflict, Invalid
from gateway.policy.model import Dialect
from gateway.store import problems
from gateway.store.config import provider_upstream
from gateway.store.config.editing import Collection, is_new, joined
from gateway.store.document import Document
from gateway.store.documents import CredentialDocument, PriceDocument, ProviderDocument
from gateway.store.draft_models import DraftSecret
from gateway.store.models import Credential, LimitRule, PriceOverride, Provider, ProviderSecret, Route, Target
from gateway.store.upstream_documents import PROXY_PASSWORD, SEALED_MARK, TLS_KEY, is_pair
from gateway.store.views import CredentialView, PriceView, ProviderView

_SHORTEST_TO_SHOW = 12
"""Of a shorter secret four characters would give too much away."""


class Providers(Collection[Provider, ProviderDocument, ProviderView]):
    kind = "provider"
    path = "providers"
    row_type = Provider
    document_type = ProviderDocument

    def query(self) -> Select[Provider]:
        return select(Provider).options(selectinload(Provider.credentials), selectinload(Provider.secrets))

    def show(self, row: Provider) -> ProviderView:
        return ProviderView(
            id=row.id,
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            dialect=Dialect(row.dialect),
            base_url=row.base_url,
            credentials=[
                CredentialView(id=each.id, name=each.name, last_four=each.last_four) for each in row.credentials
            ],
            zone=row.zone,
            tags=row.tags or [],
            **provider_upstream.views(row),
        )

    def document_of(self, row: Provider) -> ProviderDocument:
        return ProviderDocument.model_construct(
            name=row.name,
            dialect=Dialect(row.dialect),
            base_url=row.base_url,
            credentials=[CredentialDocument.model_construct(name=each.name, value=None) for each in row.credentials],
            zone=row.zone,
            tags=row.tags or [],
            **provider_upstream.documents(row),
        )

    def normal(self, row: Provider | None, wanted: ProviderDocument) -> ProviderDocument:
        """A secret that is stored already is left out; references to stored secrets are resolved."""
        present = {each.name: each for each in row.credentials} if row is not None else {}
        credentials = []
        for place, each in enumerate(wanted.credentials):
            value = self._resolved(each.value, f"credentials.{place}.value", wanted.name, each.name)
            stored = present.get(each.name)
            if value is None and stored is None:
                raise problems.refuse(
                    f"credentials.{place}.value",
                    "is missing, and no secret is stored under this name",
                    "give the secret, e.g. ${OPENAI_API_KEY}",
                    self._subject(wanted.name),
                )
            if value is not None and stored is not None and self.editing.sealer.open_row(stored) == value:
                value = None
            secret = None if value is None else SecretStr(value)
            credentials.append(CredentialDocument.model_construct(name=each.name, value=secret))
        return wanted.model_copy(update={"credentials": credentials, **self._normal_secrets(row, wanted)})

    def _normal_secrets(self, row: Provider | None, wanted: ProviderDocument) -> dict[str, Document]:
        """`proxy` and `tls` with what is secret in them resolved, and left out where it is stored already."""
        stored = {each.name: each for each in row.secrets} if row is not None else {}

        def fresh(given: SecretStr | None, name: str) -> tuple[SecretStr | None, str | None]:
            """What is to be stored, and the secret as it will stand."""
            value = self._resolved(given, name, wanted.name, name)
            present = self.editing.sealer.open_row(stored[name]) if name in stored else None
            return (None, present) if value in (None, present) else (SecretStr(str(value)), value)

        normal: dict[str, Document] = {}
        if wanted.proxy is not None:
            password, _ = fresh(wanted.proxy.password, PROXY_PASSWORD)
            normal["proxy"] = wanted.proxy.model_copy(update={"password": password})
        if wanted.tls is not None:
            key, standing = fresh(wanted.tls.key, TLS_KEY)
            if wanted.tls.cert is not None:
                self._require_pair(wanted.tls.cert, standing, wanted.name)
            normal["tls"] = wanted.tls.model_copy(update={"key": key})
        return normal

    def _require_pair(self, cert: str, key: str | None, provider: str) -> None:
        if key is None:
            raise problems.refuse(
                "tls.key", "is missing: a certificate needs its private key", "add it", self._subject(provider)
            )
        if not is_pair(cert, key):
            raise problems.refuse(
                "tls.key", "does not belong to the certificate", "give the key of `tls.cert`", self._subject(provider)
            )

    def fill(self, row: Provider, wanted: ProviderDocument) -> None:
        new = is_new(row)
        if not new and (row.dialect == Dialect.HTTP) != (wanted.dialect is Dialect.HTTP):
            self._refuse_in_use(row, f"cannot become a provider of dialect {wanted.dialect} while it is in use")
        row.name, row.dialect, row.base_url = wanted.name, wanted.dialect, wanted.base_url
        row.zone, row.tags = wanted.zone, list(wanted.tags) or None
        provider_upstream.fill(row, wanted)
        if new:
            row.credentials, row.secrets = [], []
            self.session.add(row)
            self.session.flush()  # a secret is sealed to its provider's id
        present = {each.name: each for each in row.credentials}
        gone = [each.id for name, each in present.items() if name not in {each.name for each in wanted.credentials}]
        if gone:
            self.editing.remove_limits(LimitRule.credential_id.in_(gone), "credential of " + self._subject(row.name))
        row.credentials = [present.get(each.name) or Credential(name=each.name) for each in wanted.credentials]
        for position, (credential, each) in enumerate(zip(row.credentials, wanted.credentials, strict=True)):
            credential.position = position
            if each.value is not None:
                secret = each.value.get_secret_value()
                sealed = self.editing.sealer.seal(secret, row.id, each.name)
                credential.sealed, credential.sealing_key_id = sealed.ciphertext, sealed.key_id
                credential.last_four = secret[-4:] if len(secret) >= _SHORTEST_TO_SHOW else ""
        provider_upstream.fill_secrets(row, wanted, self.editing.sealer)

    def limits_naming(self, row: Provider) -> ColumnElement[bool]:
        credentials = select(Credential.id).where(Credential.provider_id == row.id)
        return or_(
            LimitRule.provider_id == row.id,
            LimitRule.target_provider_id == row.id,
            LimitRule.credential_id.in_(credentials),
        )

    def refuse_deletion(self, row: Provider) -> None:
        self._refuse_in_use(row, "is in use")

    def _refuse_in_use(self, row: Provider, problem: str) -> None:
        routes = self.session.scalars(
            select(Route.name).join(Target).where(Target.provider_id == row.id).distinct().order_by(Route.name)
        ).all()
        if routes:
            raise Conflict(
                f"the provider {row.name!r} {problem} by the route {joined(routes)}",
                fix="take it out of the targets of those routes first",
            )

    def _resolved(self, given: SecretStr | None, field: str, provider: str, name: str) -> str | None:
        """The secret itself, where a reference to a stored one was given."""
        if given is None:
            return None
        value = given.get_secret_value()
        if not value.startswith(SEALED_MARK):
            return value
        reference = value.removeprefix(SEALED_MARK)
        for stored in (
            *self.session.scalars(select(Credential)),
            *self.session.scalars(select(ProviderSecret)),
            *self.session.scalars(select(DraftSecret)),
        ):
            secret = self.editing.sealer.open_row(stored)
            if reference in self.editing.sealer.references(secret):
                return secret
        raise problems.refuse(
            field,
            "refers to a secret that this installation does not have",
            f"give the secret itself, e.g. ${{{_variable(provider, name)}}}",
            self._subject(provider),
        )


class Prices(Collection[PriceOverride, PriceDocument, PriceView]):
    """Named by what they price: `provider/model`."""

    kind = "price"
    path = "prices"
    row_type = PriceOverride
    document_type = PriceDocument

    def query(self) -> Select[PriceOverride]:
        return select(PriceOverride).options(joinedload(PriceOverride.provider))

    def named(self, query: Select[PriceOverride], name: str) -> Select[PriceOverride]:
        provider, _, model = name.partition("/")
        return query.join(PriceOverride.provider).where(Provider.name == provider, PriceOverride.model == model)

    def name_of(self, row: PriceOverride) -> str:
        return f"{row.provider.name}/{row.model}"

    def name_in(self, wanted: PriceDocument) -> str:
        return f"{wanted.provider}/{wanted.model}"

    def show(self, row: PriceOverride) -> PriceView:
        return PriceView(
            id=row.id,
            name=self.name_of(row),
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            **self.document_of(row).model_dump(),
        )

    def document_of(self, row: PriceOverride) -> PriceDocument:
        return PriceDocument.model_construct(
            provider=row.provider.name,
            model=row.model,
            input=row.input,
            output=row.output,
            cached_input=row.cached_input,
            cache_write=row.cache_write,
            reasoning=row.reasoning,
            per_request=row.per_request,
        )

    def fill(self, row: PriceOverride, wanted: PriceDocument) -> None:
        row.provider = self._provider(wanted)
        row.model = wanted.model
        row.input, row.output = wanted.input, wanted.output
        row.cached_input, row.cache_write = wanted.cached_input, wanted.cache_write
        row.reasoning, row.per_request = wanted.reasoning, wanted.per_request

    def _provider(self, wanted: PriceDocument) -> Provider:
        found = self.session.scalars(select(Provider).where(Provider.name == wanted.provider)).one_or_none()
        if found is None:
            raise unknown("provider", "provider", wanted.provider, self._subject(self.name_in(wanted)))
        return found

    def _require_free_name(self, wanted: PriceDocument, row: PriceOverride | None) -> None:
        taken = self.session.scalars(self.named(select(PriceOverride), self.name_in(wanted))).first()
        if taken is not None and taken is not row:
            raise Conflict(
                f"{self.name_in(wanted)} has a price already",
                fix="change that one, or choose another pattern",
            )


def unknown(field: str, kind: str, name: str, subject: str) -> Invalid:
    """The error for a reference to nothing."""
    return problems.refuse(
        field, f"names no {kind}: {name!r}", f"create the {kind} first, or correct the name", subject
    )


def _variable(provider: str, credential: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in f"{provider}_{credential}".upper())

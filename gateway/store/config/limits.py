"""Limits."""

from decimal import Decimal

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import joinedload

from gateway.policy.model import Metric, WhenUnknown, Window
from gateway.store.config.editing import Collection
from gateway.store.config.scopes import ScopeRows, resolve
from gateway.store.documents import MICRO, LimitDocument
from gateway.store.models import App, Credential, Key, LimitRule
from gateway.store.views import LimitView, ScopeView


class Limits(Collection[LimitRule, LimitDocument, LimitView]):
    kind = "limit"
    path = "limits"
    row_type = LimitRule
    document_type = LimitDocument

    def query(self) -> Select[LimitRule]:
        return select(LimitRule).options(
            joinedload(LimitRule.team),
            joinedload(LimitRule.app),
            joinedload(LimitRule.key).joinedload(Key.app),
            joinedload(LimitRule.route),
            joinedload(LimitRule.provider),
            joinedload(LimitRule.credential).joinedload(Credential.provider),
            joinedload(LimitRule.target_provider),
        )

    def visible(self, query: Select[LimitRule], team_id: int) -> Select[LimitRule]:
        """Those that count the team, its apps or their keys alone."""
        apps = select(App.id).where(App.team_id == team_id)
        keys = select(Key.id).where(Key.app_id.in_(apps))
        return query.where(or_(LimitRule.team_id == team_id, LimitRule.app_id.in_(apps), LimitRule.key_id.in_(keys)))

    def show(self, row: LimitRule) -> LimitView:
        document = self.document_of(row)
        at_most = document.at_most
        return LimitView(
            id=row.id,
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            scope=ScopeView(**document.scope.model_dump()),
            metric=document.metric,
            window=document.window,
            at_most=int(at_most) if at_most % 1 == 0 else float(at_most),
            unpriced=document.unpriced,
            when_unavailable=document.when_unavailable,
        )

    def document_of(self, row: LimitRule) -> LimitDocument:
        metric, amount = Metric(row.metric), Decimal(row.at_most)
        return LimitDocument.model_construct(
            name=row.name,
            scope=ScopeRows.of(row).document(),
            metric=metric,
            window=None if metric is Metric.CONCURRENT_REQUESTS else Window(row.window),
            at_most=amount / MICRO if metric is Metric.COST_USD else amount,
            unpriced=WhenUnknown(row.unpriced),
            when_unavailable=WhenUnknown(row.when_unavailable),
        )

    def normal(self, row: LimitRule | None, wanted: LimitDocument) -> LimitDocument:
        return wanted.model_copy(update={"scope": self._resolve(wanted).document()})

    def fill(self, row: LimitRule, wanted: LimitDocument) -> None:
        scope = self._resolve(wanted)
        row.name, row.metric = wanted.name, wanted.metric
        row.window = wanted.window or Window.LIFETIME
        row.at_most = wanted.amount
        row.unpriced, row.when_unavailable = wanted.unpriced, wanted.when_unavailable
        row.team, row.app, row.key, row.route = scope.team, scope.app, scope.key, scope.route
        row.provider, row.credential = scope.provider, scope.credential
        row.target_provider, row.target_model, row.model = scope.target_provider, scope.target_model, scope.model

    def _resolve(self, wanted: LimitDocument) -> ScopeRows:
        return resolve(self.session, wanted.scope, self._subject(wanted.name))

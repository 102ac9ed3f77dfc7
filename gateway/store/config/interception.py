"""Interception rules: kept as they were validated, acted upon by the agent."""

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import joinedload

from gateway.store.config.editing import Collection
from gateway.store.config.providers import unknown
from gateway.store.documents import InterceptionDocument
from gateway.store.models import App, InterceptionRule
from gateway.store.views import InterceptionView


class InterceptionRules(Collection[InterceptionRule, InterceptionDocument, InterceptionView]):
    kind = "interception rule"
    path = "interception-rules"
    row_type = InterceptionRule
    document_type = InterceptionDocument

    def query(self) -> Select[InterceptionRule]:
        return select(InterceptionRule).options(joinedload(InterceptionRule.app))

    def show(self, row: InterceptionRule) -> InterceptionView:
        document: dict[str, Any] = self.document_of(row).model_dump(mode="json")
        return InterceptionView(
            id=row.id, version=row.version, created_at=row.created_at, updated_at=row.updated_at, **document
        )

    def document_of(self, row: InterceptionRule) -> InterceptionDocument:
        app = row.app.name if row.app is not None else None
        return InterceptionDocument.model_validate({**row.document, "name": row.name, "app": app})

    def fill(self, row: InterceptionRule, wanted: InterceptionDocument) -> None:
        row.app = self._app(wanted)
        row.name = wanted.name
        row.document = wanted.model_dump(mode="json", exclude={"name", "app"})

    def _app(self, wanted: InterceptionDocument) -> App | None:
        if wanted.app is None:
            return None
        found = self.session.scalars(select(App).where(App.name == wanted.app)).one_or_none()
        if found is None:
            raise unknown("app", "app", wanted.app, self._subject(wanted.name))
        return found

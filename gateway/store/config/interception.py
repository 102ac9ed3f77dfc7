"""Interception rules: kept as they were validated, acted upon by the agent."""

from typing import Any, Final

from sqlalchemy import Select, select
from sqlalchemy.orm import joinedload, selectinload

from gateway.store.config.editing import Collection
from gateway.store.config.providers import unknown
from gateway.store.documents import InterceptionDocument
from gateway.store.models import App, InterceptionCaller, InterceptionRule
from gateway.store.views import InterceptionView

WHOLE: Final = (
    joinedload(InterceptionRule.app),
    selectinload(InterceptionRule.callers).joinedload(InterceptionCaller.app),
)
"""What of a rule its document needs."""


class InterceptionRules(Collection[InterceptionRule, InterceptionDocument, InterceptionView]):
    kind = "interception rule"
    path = "interception-rules"
    row_type = InterceptionRule
    document_type = InterceptionDocument

    def query(self) -> Select[InterceptionRule]:
        return select(InterceptionRule).options(*WHOLE)

    def show(self, row: InterceptionRule) -> InterceptionView:
        document: dict[str, Any] = self.document_of(row).model_dump(mode="json")
        return InterceptionView(
            id=row.id, version=row.version, created_at=row.created_at, updated_at=row.updated_at, **document
        )

    def document_of(self, row: InterceptionRule) -> InterceptionDocument:
        callers = [{**each.document, "app": _name(each.app)} for each in row.callers]
        return InterceptionDocument.model_validate(
            {**row.document, "name": row.name, "app": _name(row.app), "callers": callers}
        )

    def fill(self, row: InterceptionRule, wanted: InterceptionDocument) -> None:
        app = self._app(wanted, "app", wanted.app)
        callers = [
            InterceptionCaller(
                position=place,
                app=self._app(wanted, f"callers.{place}.app", each.app),
                document=each.model_dump(mode="json", exclude={"app"}, exclude_none=True),
            )
            for place, each in enumerate(wanted.callers)
        ]
        row.app, row.callers = app, callers
        row.name = wanted.name
        row.document = wanted.model_dump(mode="json", exclude={"name", "app", "callers"})

    def _app(self, wanted: InterceptionDocument, field: str, name: str | None) -> App | None:
        if name is None:
            return None
        found = self.session.scalars(select(App).where(App.name == name)).one_or_none()
        if found is None:
            raise unknown(field, "app", name, self._subject(wanted.name))
        return found


def _name(app: App | None) -> str | None:
    return None if app is None else app.name

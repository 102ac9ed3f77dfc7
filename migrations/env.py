"""Alembic's environment: `gateway.store.migrate` hands in the open connection, and with it the transaction."""

from alembic import context

from gateway.store.base import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()

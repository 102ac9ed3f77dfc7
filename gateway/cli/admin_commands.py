"""`sluicegate admin …`: the way back in, for whoever holds the data folder."""

from typing import Annotated

import typer

from gateway.cli.options import Data, Database, settings_from

admin_app = typer.Typer(no_args_is_help=True, help="The way back in when nobody can sign in any more.")


@admin_app.command("reset")
def admin_reset(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="Default: admin, or the only owner.")] = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Break the glass: let a user in again, whatever was lost.

    Sets a new password, printed this once, alone on the last line. Removes the
    authenticator app, passkeys and recovery codes, ends all sessions, enables the
    account where it was disabled, and ends waits after failed sign-ins. Works on
    the gateway's host only, as root or the data folder's owner, whether the
    gateway runs or not; the audit log tells of it.

    Examples:
      sudo sluicegate admin reset
      sudo sluicegate admin reset mia
    """
    from gateway.cli import admin

    admin.reset(settings_from(data=data, database=database), user)

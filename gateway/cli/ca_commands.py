"""`sluicegate ca …`: on the gateway's host (--data) or over the REST API (--url, --token)."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Data, Database, Json, Token, Url

ca_app = typer.Typer(
    no_args_is_help=True,
    help="The certificate authority for intercepted TLS (`tls: terminate`): create, export, trust, renew.",
)


@ca_app.command("create")
def ca_create(url: Url = None, token: Token = None, data: Data = None, database: Database = None) -> None:
    """Make it, where there is none.

    It can sign for the hosts and networks of the interception rules with
    `tls: terminate`, and for nothing else: clients refuse all other names. Its key
    is sealed like a provider credential and never shown.

    Example:
      sluicegate ca create && sudo sluicegate ca trust
    """
    from gateway.cli import ca

    ca.create(url=url, token=token, data=data, database=database)


@ca_app.command("renew")
def ca_renew(
    new_key: Annotated[bool, typer.Option("--new-key", help="Also a new key: where the old one may be known.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make a new certificate for the hosts that rules terminate now.

    Needed when such hosts come or go, and before it expires. With the same key,
    clients that trust the former certificate go on with the former hosts; for new
    ones they need the new certificate.

    Example:
      sluicegate ca renew && sudo sluicegate ca trust
    """
    from gateway.cli import ca

    ca.renew(new_key=new_key, url=url, token=token, data=data, database=database)


@ca_app.command("export")
def ca_export(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default: stdout.")] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Write its certificate (PEM), for clients that shall trust it. Made first where there is none.

    Examples:
      sluicegate ca export > sluicegate-ca.pem
      sluicegate ca export --url https://gateway.internal sluicegate-ca.pem
    """
    from gateway.cli import ca

    ca.export(file, url=url, token=token, data=data, database=database)


@ca_app.command("trust")
def ca_trust(url: Url = None, token: Token = None, data: Data = None, database: Database = None) -> None:
    """Let this host trust it (root; Debian's store), and say which runtimes need more.

    Made first where there is none. Again after `ca renew`: the new certificate
    takes the former one's place.

    Examples:
      sudo sluicegate ca trust
      sudo -E sluicegate ca trust --url https://gateway.internal
    """
    from gateway.cli import ca

    ca.trust(url=url, token=token, data=data, database=database)


@ca_app.command("untrust")
def ca_untrust(
    all_: Annotated[bool, typer.Option("--all", help="Those of all gateways; none is asked.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Take it out of this host's store again (root); all is then as it was.

    Example:
      sudo sluicegate ca untrust
    """
    from gateway.cli import ca

    ca.untrust(all_=all_, url=url, token=token, data=data, database=database)


@ca_app.command("status")
def ca_status(
    json: Json = False, url: Url = None, token: Token = None, data: Data = None, database: Database = None
) -> None:
    """Whom it signs for, whether that is what rules need, and whether this host trusts it.

    Exit code 1 where rules need more than it may sign for, or it has expired.
    """
    from gateway.cli import ca

    raise typer.Exit(ca.status(json=json, url=url, token=token, data=data, database=database))


@ca_app.command("remove")
def ca_remove(url: Url = None, token: Token = None, data: Data = None, database: Database = None) -> None:
    """Forget it with its key: the TLS of all rules passes through from then on."""
    from gateway.cli import ca

    ca.remove(url=url, token=token, data=data, database=database)

"""`sluicegate import …`: from other gateways' configuration to ours."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Data, Database, Token, Url

import_app = typer.Typer(no_args_is_help=True, help="Bring another gateway's configuration over: litellm.")


@import_app.callback()
def _group() -> None:
    """Keeps the word `litellm` although there is one command as yet."""


@import_app.command("litellm")
def import_litellm(
    file: Annotated[str, typer.Argument(metavar="FILE", help="LiteLLM's config.yaml; `-` reads stdin.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write sluicegate.yaml here. Default: stdout.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Apply it at once instead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what applying it would change.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Turn LiteLLM's config.yaml into sluicegate.yaml.

    Carries over models with their providers, keys (os.environ/NAME becomes
    ${NAME}), weights, order, rpm and tpm, prices, budgets, aliases, fallbacks,
    retries, timeouts and the master key. What it cannot carry over it names on
    stderr with line and reason, and guesses nothing: Azure, Bedrock, Vertex and
    wildcard models among them.

    Examples:
      sluicegate import litellm config.yaml -o sluicegate.yaml
      sluicegate apply -f sluicegate.yaml --dry-run
      sluicegate import litellm config.yaml --apply
    """
    from gateway.cli import importing

    importing.litellm(file, to=output, apply=apply, dry_run=dry_run, url=url, token=token, data=data, database=database)

"""`sluicegate prices update`: a newer table of model prices, from a file or from where its project publishes it."""

import tempfile
from pathlib import Path
from typing import Final

from gateway.cli import output
from gateway.cli.owner import become_owner
from gateway.errors import BadRequest
from gateway.settings import Settings

PATIENCE_S: Final = 60.0
MAX_BYTES: Final = 64 * 1024 * 1024


def update(settings: Settings, source: str | None) -> None:
    """`source`: a file or URL; None = the address that the genai-prices library itself updates from."""
    is_file = source is not None and not source.startswith(("http://", "https://"))
    with tempfile.TemporaryDirectory(prefix="sluicegate-prices-") as folder:
        table = Path(folder) / "data.json"
        table.write_bytes(Path(source).read_bytes() if is_file and source else _fetched(source))
        Path(folder).chmod(0o755)  # the data folder's owner reads it
        become_owner(settings.data)
        from gateway.store import prices

        count = prices.update(settings, table)
    output.say(
        f"{count} models have prices; they count as soon as the configuration changes next, or the gateway restarts"
    )


def _fetched(url: str | None) -> bytes:
    import httpx2
    from genai_prices.update_prices import DEFAULT_UPDATE_URL

    address = url or DEFAULT_UPDATE_URL
    try:
        with output.step(f"fetching {address}"):
            answer = httpx2.get(address, timeout=PATIENCE_S, follow_redirects=True)
            answer.raise_for_status()
    except httpx2.HTTPError as error:
        raise BadRequest(
            f"{address}: {error}", fix="fetch data.json by other means, then: sluicegate prices update FILE"
        ) from None
    if len(answer.content) > MAX_BYTES:
        raise BadRequest(f"{address} has {len(answer.content)} bytes: no price table")
    return answer.content

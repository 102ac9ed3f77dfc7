"""LiteLLM's proxy (Python): one uvicorn worker, its master key as the caller's, no database.

Without a database it has no virtual keys, teams or budgets: its database client (Prisma) fetches an engine from its own
host when first used, which no registry has. So it does less here than it would with them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.compare import PROVIDER_PORT
from tests.bench.rivals.process import rival
from tests.support.ports import answers, free_port

PACKAGES: Final = ("litellm[proxy]==1.108.7",)
LACKS: Final = "key checked (the master key); no virtual keys, limits or ledger, which need its database"

_KEY: Final = "sk-bench-0123456789abcdef"
_CONFIGURATION: Final = f"""
model_list:
  - model_name: bench
    litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{PROVIDER_PORT}/v1", api_key: sk-x}}
  - model_name: bench-paced
    litellm_params: {{model: openai/pace-20, api_base: "http://127.0.0.1:{PROVIDER_PORT}/v1", api_key: sk-x}}
litellm_settings: {{set_verbose: false, telemetry: false, num_retries: 0}}
general_settings: {{master_key: {_KEY}, disable_spend_logs: true, disable_error_logs: true}}
"""
# As its production page advises: errors only in the log, the price table that came with the package.
_ENV: Final = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@contextmanager
def serve(python: Path, folder: Path) -> Iterator[str]:
    (folder / "config.yaml").write_text(_CONFIGURATION)
    port = free_port()
    command: list[str | Path] = [python.parent / "litellm", "--config", folder / "config.yaml", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    with rival(command, folder / "log", env=_ENV, ready=lambda _: answers(port), within_s=300) as pid:
        yield f"litellm=http://127.0.0.1:{port},bench,{_KEY},{pid}"

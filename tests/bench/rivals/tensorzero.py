"""TensorZero's gateway (Rust): the one in its Python package, which serves HTTP in that process, on a Tokio thread.

The stand-alone program is in no registry. The package's does not check keys (that stands only in the stand-alone one,
and needs PostgreSQL), so it does less here than it would there. Python itself sleeps meanwhile.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.compare import PROVIDER_PORT
from tests.bench.rivals.process import rival

PACKAGES: Final = ("tensorzero==2026.6.0",)
LACKS: Final = "no key is checked; no limits, no ledger (observability off: it needs a database server)"

_MODEL: Final = """
[models.{name}]
routing = ["mock"]
[models.{name}.providers.mock]
type = "openai"
api_base = "http://127.0.0.1:{port}/v1/"
model_name = "{model}"
api_key_location = "env::MOCK_KEY"
"""
_CONFIGURATION: Final = (
    "[gateway]\nobservability.enabled = false\ndisable_pseudonymous_usage_analytics = true\n"
    + _MODEL.format(name="bench", model="bench", port=PROVIDER_PORT)
    + _MODEL.format(name="bench-paced", model="pace-20", port=PROVIDER_PORT)
)
# `patch_openai_client` starts the gateway by this function; nothing public does it without a client.
_PROGRAM: Final = """
import signal, sys
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print("serves", gateway.base_url, flush=True)
signal.pause()
"""
_SERVES: Final = re.compile(r"^serves (\S+?)/v1/?$", re.MULTILINE)


@contextmanager
def serve(python: Path, folder: Path) -> Iterator[str]:
    (folder / "tensorzero.toml").write_text(_CONFIGURATION)
    command: list[str | Path] = [python, "-c", _PROGRAM, folder / "tensorzero.toml"]
    log = folder / "log"
    env = {"MOCK_KEY": "sk-x"}
    with rival(command, log, env=env, ready=lambda said: bool(_SERVES.search(said)), within_s=60) as pid:
        found = _SERVES.search(log.read_text())
        assert found is not None
        yield f"tensorzero={found[1]},tensorzero::model_name::bench,sk-unchecked,{pid}"

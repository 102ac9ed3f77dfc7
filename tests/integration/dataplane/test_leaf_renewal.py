"""A renewed authority before clients that trust the former certificate, the new one, or both."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.dataplane.leaves import LeafMinter
from gateway.store.authority import MakeAction
from gateway.store.config import InterceptionRules
from gateway.store.patches import InterceptionPatch
from tests.integration.dataplane.test_leaf_clients import CLIENTS, Site
from tests.support.authority import AuthorityStore
from tests.support.leaf_server import LeafServer

OLD_HOST, NEW_HOST = "api.openai.example", "api.mistral.example"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str, int]]:
    """A folder, the former certificate, the new one, and the port of a server that has the new one."""
    folder = tmp_path_factory.mktemp("renewal")
    store = AuthorityStore(f"sqlite:///{folder / 'authority.sqlite'}")
    store.intercept("rule", [OLD_HOST])
    former = store.make(now=datetime.now(UTC) - timedelta(days=100))
    patch = InterceptionPatch.model_validate({"destinations": {"hosts": [OLD_HOST, NEW_HOST]}})
    with store.editing() as editing:
        InterceptionRules(editing).update("rule", patch)
    present = store.make(MakeAction.RENEW)
    store.engine.dispose()
    server = LeafServer(LeafMinter(present))
    yield folder, former.certificate, present.certificate, server.port
    server.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_trusts_decides(served: tuple[Path, str, str, int], client: str) -> None:
    folder, former, present, port = served

    def accepted(name: str, *trusted: str) -> bool:
        ca = folder / f"{client}.pem"
        ca.write_text("".join(trusted))
        return CLIENTS[client](Site(folder=folder, ca=ca, port=port, forged_port=0), name, port)[0]

    assert accepted(OLD_HOST, former), "who has the former certificate goes on with the former hosts"
    assert not accepted(NEW_HOST, former)
    assert accepted(OLD_HOST, present)
    assert accepted(NEW_HOST, present)
    assert accepted(NEW_HOST, present, former), "both: OpenSSL looks no further than the first of a name and key"

"""What the long tests of an installation share."""

from collections.abc import Iterator

import pytest

from tests.support.docker_engine import Engine, docker_engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A Docker engine with a bare Debian in it."""
    with docker_engine(tmp_path_factory.mktemp("docker")) as found:
        yield found

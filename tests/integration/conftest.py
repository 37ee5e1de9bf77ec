"""Workers that several tests share."""

import pytest

from advisor.engine.runner import Runner


@pytest.fixture(scope="session")
def runner():
    """Real workers, each a fork of one server."""
    with Runner(None) as workers:
        yield workers

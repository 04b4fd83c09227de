"""What the tests of several stages share."""

from collections.abc import Iterator

import pytest

from tasks.pool import PoolConfig, open_pool


@pytest.fixture(scope="module")
def pool() -> Iterator[str]:
    """The address of a pool of two processes."""
    with open_pool(PoolConfig(workers=2)) as address:
        yield address

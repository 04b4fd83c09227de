"""What the tests of several stages share."""

from collections.abc import Iterator

import pytest
import torch

from tasks.pool import PoolConfig, open_pool


@pytest.fixture(scope="module")
def pool() -> Iterator[str]:
    """The address of a pool of two processes."""
    with open_pool(PoolConfig(workers=2)) as address:
        yield address


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Convolutions of a few voxels each: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""Out of memory on one rung, the next is tried."""

import pytest
import torch

from unet.ladder import climb_down


def full() -> int:
    raise torch.OutOfMemoryError("no memory left")


def broken() -> int:
    raise ValueError("another error")


def test_the_first_rung_that_holds_is_taken():
    assert climb_down([("as planned", full), ("smaller tiles", full), ("the CPU", lambda: 3)]) == ("the CPU", 3)
    assert climb_down([("as planned", lambda: 1), ("the CPU", full)]) == ("as planned", 1)


def test_when_the_last_rung_breaks_the_error_is_told():
    with pytest.raises(torch.OutOfMemoryError, match="no memory left"):
        climb_down([("as planned", full), ("the CPU", full)])


def test_another_error_is_no_reason_to_climb_down():
    with pytest.raises(ValueError, match="another error"):
        climb_down([("as planned", broken), ("the CPU", lambda: 1)])

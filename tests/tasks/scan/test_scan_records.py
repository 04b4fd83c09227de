"""What a record refuses to hold."""

import math
from dataclasses import replace

import pytest

from tests.tasks.report.cases import score


@pytest.mark.parametrize("jaccard", [0.5, math.nan])
def test_a_score_whose_jaccard_does_not_belong_to_its_dice_cannot_be_made(jaccard):
    with pytest.raises(ValueError, match=r"does not belong to dice 0.5: it must be 0.333"):
        replace(score(1, 0.5), jaccard=jaccard)


def test_a_score_without_dice_has_no_jaccard():
    assert math.isnan(score(1, math.nan, "both_empty").jaccard)
    with pytest.raises(ValueError, match="does not belong to dice nan"):
        replace(score(1, math.nan, "both_empty"), jaccard=0.0)

"""Labels that follow one another along an axis: found in references, restored in masks, on volumes counted by hand."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from tasks.model import SliceOrder
from tasks.slice_order import STRAYS, Ordering, common_order, in_order, orderings
from tests.phantoms import box

SHAPE = (6, 8, 5)
HEAD, BODY = 1, 2
ALONG_Y = SliceOrder(axis=1, labels=(BODY, HEAD))


def drawn(border: int = 4) -> np.ndarray:
    """Body from y = 1 up to `border`, head from there to y = 7."""
    return box(SHAPE, (1, 1, 1), (5, border, 4), BODY) + box(SHAPE, (1, border, 1), (5, 7, 4), HEAD)


def test_a_ragged_border_becomes_the_plane_that_most_voxels_agree_with():
    ragged = drawn()
    ragged[1:3, 4, 1:3] = BODY  # 4 of the 12 voxels of that slice
    ragged[1, 3, 1] = HEAD
    ragged[4, 6, 3] = BODY  # far from the border
    assert np.array_equal(in_order(ragged, ALONG_Y), drawn())


def test_a_slice_goes_to_the_label_that_has_most_of_it():
    ragged = drawn()
    ragged[1:5, 4, 1:3] = BODY  # 8 of 12
    assert np.array_equal(in_order(ragged, ALONG_Y), drawn(border=5))


def test_what_is_already_in_order_stays_as_it_is():
    assert np.array_equal(in_order(drawn(), ALONG_Y), drawn())


def test_a_mask_in_which_a_label_or_all_are_missing_has_the_others():
    head = drawn() * (drawn() == HEAD)
    assert np.array_equal(in_order(head, ALONG_Y), head)
    assert not in_order(np.zeros(SHAPE, np.uint8), ALONG_Y).any()


def test_without_an_order_slices_may_hold_several():
    assert np.array_equal(in_order(drawn()[::-1], SliceOrder()), drawn()[::-1])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("labels", [(HEAD, BODY), (3, 700, 40)])
def test_no_other_planes_agree_with_more_voxels(axis, labels):
    """All ways to give slices a label in that order are tried."""
    noise = np.random.default_rng(axis).choice([0, *labels], SHAPE).astype(np.uint16)
    restored = in_order(noise, SliceOrder(axis=axis, labels=labels))
    assert np.array_equal(restored > 0, noise > 0)
    assert restored.dtype == noise.dtype
    slices = np.moveaxis(noise, axis, 0)
    ways = combinations_with_replacement(labels, SHAPE[axis])
    most = max(sum(int((part == value).sum()) for part, value in zip(slices, way, strict=True)) for way in ways)
    assert int(((restored == noise) & (noise > 0)).sum()) == most
    ranks = [labels.index(value) for part in np.moveaxis(restored, axis, 0) for value in np.unique(part[part > 0])]
    assert ranks == sorted(ranks)
    assert len(ranks) <= SHAPE[axis]


def test_the_ordering_of_a_reference_and_its_strays_are_counted():
    labels = drawn()
    labels[1, 4, 1] = BODY  # of 72 voxels
    along_x, along_y, along_z = orderings(labels)
    assert along_y == Ordering(labels=(BODY, HEAD), strays=pytest.approx(1 / 72))
    assert along_x.strays == pytest.approx(35 / 72)
    assert along_z.strays == pytest.approx(35 / 72)


def reference(*labels: int, strays: float = 0.0, elsewhere: float = 0.5) -> tuple[Ordering, ...]:
    """A reference whose `labels` lie in that order along the second axis."""
    other = Ordering(labels=tuple(sorted(labels)), strays=elsewhere)
    return (other, Ordering(labels=labels, strays=strays), other)


def test_an_order_is_found_that_all_references_keep():
    found = common_order([reference(7, 3, 5, strays=0.002), reference(7, 5), reference(3)], (3, 5, 7))
    assert found == SliceOrder(axis=1, labels=(7, 3, 5), evidence={"references": 3, "strays": 0.0007})


def test_of_several_axes_the_one_with_the_fewest_strays_is_taken():
    found = common_order([reference(BODY, HEAD, strays=0.001, elsewhere=0.002)], (HEAD, BODY))
    assert (found.axis, found.labels) == (1, (BODY, HEAD))


@pytest.mark.parametrize(
    "references",
    [
        [reference(BODY, HEAD), reference(HEAD, BODY)],
        [reference(BODY, HEAD, strays=3 * STRAYS), reference(BODY, HEAD)],
        [reference(BODY), reference(HEAD)],
        [],
    ],
)
def test_there_is_no_order_where_references_disagree_or_none_shows_it(references):
    found = common_order(references, (HEAD, BODY))
    assert found.labels == ()
    assert found.evidence["why"] == "the references' labels do not follow one another along an axis"


def test_a_single_label_has_no_order():
    assert common_order([reference(HEAD)], (HEAD,)).labels == ()

"""The cubic spline is scipy's, in little memory: each block by itself is that part of the whole."""

import numpy as np
import pytest
from scipy.ndimage import zoom

from tasks.scan.resample import coarse_axis, resample_block, resample_image, value_limits

SIZES = [
    ((30, 41, 25), (47, 33, 60)),
    ((20, 70, 30), (150, 140, 29)),  # over several blocks
    ((3, 5, 2), (7, 5, 4)),
    ((40, 40, 40), (20, 13, 11)),
    ((1, 9, 9), (1, 20, 5)),
]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def scipys(image: np.ndarray, shape: tuple[int, ...], order: int = 3) -> np.ndarray:
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    return zoom(image.astype(float), factors, order=order, mode="nearest", grid_mode=True)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_an_image_is_resampled_by_scipys_spline_within_its_own_range(before, after):
    image = noise(before)
    expected = scipys(image, after).clip(image.min(), image.max())
    assert np.abs(resample_image(image, after, None) - expected).max() < 1e-5


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_through_thick_slices_the_nearest_is_taken_and_each_slice_keeps_its_range(thick):
    image, after = noise((12, 14, 10)), (18, 9, 21)
    within = [old if axis == thick else new for axis, (old, new) in enumerate(zip(image.shape, after, strict=True))]
    slices = [
        scipys(one, [n for axis, n in enumerate(within) if axis != thick]).clip(one.min(), one.max())
        for one in np.moveaxis(image, thick, 0)
    ]
    expected = scipys(np.stack(slices, thick), after, order=0)
    assert np.abs(resample_image(image, after, thick) - expected).max() < 1e-5


def test_a_block_is_that_part_of_the_whole_wherever_it_is_cut():
    image, shape = noise((40, 30, 20)), (71, 45, 33)
    whole, limits = resample_image(image, shape, None), value_limits(image, None)
    for block in ((slice(0, 7), slice(3, 45), slice(9, 10)), (slice(33, 71), slice(0, 1), slice(0, 33))):
        assert np.abs(resample_block(image, shape, None, block, limits) - whole[block]).max() < 1e-5


def test_a_block_reads_no_more_of_the_image_than_it_depends_on():
    """What is more than 16 voxels away may be anything."""
    image, shape = noise((60, 10, 10)), (90, 10, 10)
    block = (slice(0, 9), slice(0, 10), slice(0, 10))
    expected = resample_block(image, shape, None, block, value_limits(image, None))
    spoilt = image.copy()
    spoilt[6 + 17 :] = np.nan
    assert np.array_equal(resample_block(spoilt, shape, None, block, value_limits(image, None)), expected)


def test_thick_slices_are_those_of_the_scan_or_else_of_the_target():
    assert coarse_axis((1.0, 1.0, 4.0), (1.0, 5.0, 1.0)) == 2
    assert coarse_axis((1.0, 1.0, 1.0), (1.0, 5.0, 1.0)) == 1
    assert coarse_axis((1.0, 1.0, 3.0), (1.0, 1.0, 1.0)) is None
    assert coarse_axis((1.0, 4.0, 4.0), (1.0, 5.0, 1.0)) is None

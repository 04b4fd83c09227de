"""The way back to the scan's grid is the argmax over all classes at full size, without ever holding that."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.nn.functional import interpolate

from tasks.scan import restore
from tasks.scan.restore import restore_labels


def full_argmax(logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    axes = [restore._axis(n, length) for n, length in zip(logits.shape[1:], shape, strict=True)]
    whole = tuple(slice(0, length) for length in shape)
    return np.stack([restore.interpolate(volume, axes, whole).numpy() for volume in logits]).argmax(axis=0)


@pytest.mark.parametrize("shape", [(9, 12, 7), (17, 11, 20), (3, 4, 5), (6, 8, 7), (1, 1, 1)])
def test_labels_are_those_of_the_argmax_over_all_classes(shape, monkeypatch):
    monkeypatch.setattr(restore, "SLAB_VOXELS", 150)
    logits = np.random.default_rng(0).normal(size=(5, 6, 8, 7)).astype(np.float32)
    logits[1:, 3:] -= 2  # regions in which most classes have no chance
    logits[4, :, :5] -= 20
    assert np.array_equal(restore_labels(logits, shape), full_argmax(logits, shape))


def test_a_class_that_is_largest_at_no_voxel_wins_between_two():
    logits = np.zeros((3, 2, 1, 1), np.float32)
    logits[0, :, 0, 0], logits[1, :, 0, 0], logits[2, :, 0, 0] = (1, 0), (0, 1), (0.9, 0.9)
    assert restore_labels(logits, (8, 1, 1)).ravel().tolist() == [0, 0, 2, 2, 2, 2, 1, 1]


def test_of_equal_logits_the_first_class_wins():
    assert restore_labels(np.zeros((3, 2, 2, 2), np.float32), (4, 4, 4)).max() == 0


def test_values_are_those_of_torch():
    volume = np.random.default_rng(0).normal(size=(6, 8, 7)).astype(np.float32)
    axes = [restore._axis(n, length) for n, length in zip(volume.shape, (11, 9, 20), strict=True)]
    found = restore.interpolate(volume, axes, (slice(0, 11), slice(0, 9), slice(0, 20)))
    expected = interpolate(torch.from_numpy(volume)[None, None], size=(11, 9, 20), mode="trilinear")[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_more_than_256_classes_have_wider_labels():
    logits = np.zeros((300, 2, 2, 2), np.float32)
    logits[299] = 1
    labels = restore_labels(logits, (3, 3, 3))
    assert (labels.dtype, int(labels.min())) == (np.uint16, 299)


def test_logits_may_stay_in_their_file(tmp_path):
    logits = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float16)
    np.save(tmp_path / "logits.npy", logits)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    assert np.array_equal(restore_labels(mapped, (7, 7, 7)), restore_labels(logits.astype(np.float32), (7, 7, 7)))


@pytest.mark.parametrize(("length", "wanted"), [(4, 12), (17, 66), (11, 45), (6, 3), (50, 13)])
def test_along_thick_slices_the_nearest_is_the_one_that_scipy_takes(length, wanted):
    """nnU-Net's `map_coordinates(order=0)`, also where two slices are as near."""
    logits = np.zeros((length, length, 1, 1), np.float32)
    logits[np.arange(length), np.arange(length)] = 1
    places = length / wanted * (np.arange(wanted) + 0.5) - 0.5
    expected = map_coordinates(np.arange(length), places[None], order=0, mode="nearest")
    assert restore_labels(logits, (wanted, 1, 1), 0).ravel().tolist() == expected.tolist()

"""What a segmentation says of itself: pieces, borders, uncertainty; and the flags made of them."""

import math

import numpy as np
import pytest

from tasks import signs
from tasks.scan.records import Signs
from tasks.signs import boundary_entropy, count_at_border, count_pieces, expected_dice, read_signs, sign_flags
from tests.phantoms import box

NAMES = {3: "head", 7: "body"}
KNOWN = {
    "components": {"3": 1, "7": 2},
    "volume_ml": {"3": {"p1": 2.0, "p99": 4.0}, "7": {"p1": 0.0, "p99": 4.0}},
}


def flags(*, volume_ml=3.0, fingerprint=KNOWN, value=3, **own):
    sign = Signs(**{"components": 1, "border_voxels": 0} | own)
    return sign_flags({value: sign}, {value: volume_ml}, NAMES, fingerprint)


def test_pieces_are_counted_by_label_and_a_shared_corner_is_one_piece():
    labels = box((9, 9, 9), (0, 0, 0), (2, 2, 2), 3) + box((9, 9, 9), (2, 2, 2), (3, 3, 3), 3)
    labels += box((9, 9, 9), (3, 3, 3), (4, 4, 4), 7) + box((9, 9, 9), (6, 6, 6), (8, 8, 8), 3)
    assert count_pieces(labels) == {3: 2, 7: 1}
    assert count_pieces(np.zeros((3, 3, 3), np.uint8)) == {}


def test_voxels_in_the_outermost_layer_are_counted_by_label():
    labels = box((5, 6, 7), (0, 2, 2), (3, 4, 4), 3) + box((5, 6, 7), (2, 4, 4), (4, 5, 6), 7)
    assert count_at_border(labels) == {3: 4}
    assert count_at_border(np.full((1, 3, 3), 3, np.uint8)) == {3: 8}  # an axis of one voxel has no outside
    assert count_at_border(np.full((4, 4, 4), 7, np.uint16)) == {7: 64 - 8}


def logits(*margins):
    """A row of voxels of two classes: the second's logit is above the first's by so much."""
    return np.stack([np.zeros(len(margins)), np.array(margins)]).astype(np.float32)[:, :, None, None]


def answer(*margins):
    """Those logits, and the class of each voxel."""
    return logits(*margins), logits(*margins).argmax(axis=0)


def test_entropy_is_read_at_the_boundary_only_and_a_guess_is_one():
    # Voxels 1 to 3 are of class 1; its boundary voxels are 1 and 3. Voxel 2, a mere guess, is inside.
    assert boundary_entropy(*answer(-9, 1e-6, 1e-6, 1e-6, -9))[1] == pytest.approx(1)
    assert boundary_entropy(*answer(-9, 40, 1e-6, 40, -9))[1] == pytest.approx(0, abs=1e-9)


def test_entropy_is_that_of_the_probabilities():
    # Of 3/4 and 1/4: −(0.75 ln 0.75 + 0.25 ln 0.25) / ln 2 = 0.811278
    assert boundary_entropy(*answer(-9, math.log(3), math.log(3), -9)) == {1: pytest.approx(0.811278, abs=1e-6)}


def test_a_class_that_is_nowhere_or_everywhere_has_no_boundary():
    assert boundary_entropy(*answer(-9, -9, -9)) == {}
    assert boundary_entropy(*answer(9, 9, 9)) == {}


def test_the_expected_dice_is_that_of_the_probabilities():
    # p of class 1: 1/4, 3/4, 3/4, 1/4. Two voxels are of it: 2·(3/4 + 3/4) / (2 + 2) = 0.75.
    assert expected_dice(*answer(-math.log(3), math.log(3), math.log(3), -math.log(3))) == {1: pytest.approx(0.75)}
    assert expected_dice(*answer(-99, 99, -99)) == {1: pytest.approx(1)}
    assert expected_dice(*answer(-99, -99)) == {}


def test_what_is_read_slab_by_slab_is_what_the_whole_says(monkeypatch):
    random = np.random.default_rng(0)
    volume = random.normal(size=(3, 9, 8, 7)).astype(np.float32)
    whole = volume.argmax(axis=0)
    entropy, dice = boundary_entropy(volume, whole), expected_dice(volume, whole)
    monkeypatch.setattr(signs, "SLAB_NUMBERS", 2 * 3 * 8 * 7)
    assert np.array_equal(signs.classes_of(volume), whole)
    assert boundary_entropy(volume, whole) == pytest.approx(entropy, rel=1e-12)
    assert expected_dice(volume, whole) == pytest.approx(dice, rel=1e-12)


def test_every_label_has_its_signs_also_one_that_is_not_there():
    found = read_signs(
        box((5, 5, 5), (1, 1, 1), (2, 2, 2), 3), NAMES, {"boundary_entropy": {3: 0.25}, "agreement": {3: 0.5}}
    )
    assert found[3] == Signs(components=1, border_voxels=0, boundary_entropy=0.25, agreement=0.5)
    assert (found[7].components, found[7].border_voxels, math.isnan(found[7].boundary_entropy)) == (0, 0, True)


@pytest.mark.parametrize(
    ("case", "flag"),
    [
        ({}, None),
        ({"border_voxels": 4}, "cut by the image border: head, 4 voxels lie in the outermost layer"),
        ({"components": 2}, "in pieces: head, 2, in the training data at most 1"),
        ({"components": 2, "value": 7}, None),
        ({"relabelled": 0.11}, "out of order: head, 11% of what was found lay in the slices of other labels"),
        ({"relabelled": 0.1}, None),
        ({"removed": 0.11}, "in pieces: head, 11% of what was found was taken away beside the largest piece"),
        ({"removed": 0.1}, None),
        ({"agreement": 0.69}, "networks disagree: head, mean Dice between their answers 0.69"),
        ({"agreement": 0.7}, None),
        ({"dice_expected": 0.74}, "the network is unsure: head, it expects a Dice of 0.74 of itself"),
        ({"dice_expected": 0.75}, None),
        ({"volume_ml": 1.4}, "volume unlike the training data: head, 1.4 mL, 2 to 4 mL in the training data"),
        ({"volume_ml": 1.5}, None),
        ({"volume_ml": 4.5}, None),
        ({"volume_ml": 4.6}, "volume unlike the training data: head, 4.6 mL, 2 to 4 mL in the training data"),
        ({"volume_ml": 0.0}, "not found: head, 2 to 4 mL in the training data"),
        ({"volume_ml": 0.0, "value": 7}, None),
    ],
)
def test_a_flag_says_what_is_unlike_the_training_data(case, flag):
    assert flags(**case) == ([flag] if flag else [])


def test_a_model_that_knows_neither_volumes_nor_pieces_flags_neither():
    assert flags(volume_ml=99.0, components=9, fingerprint={}) == []

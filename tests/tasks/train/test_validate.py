"""What is kept of a segmentation follows from the cases that training never saw."""

import numpy as np
import pytest
import torch

from tasks.model import KeepLargest, Plan
from tasks.scan.files import save_array
from tasks.train.prepare import TrainingVolume
from tasks.train.validate import Evidence, decide, dice_by_class, weigh
from tests.phantoms import box
from unet import UNet, UNetConfig

SHAPE = (8, 8, 8)
LABELS = {3: "head", 7: "body"}


def evidence(plain, together, alone, alone_together=(0.0, 0.0)) -> Evidence:
    """Dice of classes 1 and 2: plain, of the largest of both together, of the largest of each."""
    dice = {(False, 0): dict(enumerate(plain, 1)), (True, 0): dict(enumerate(together, 1))}
    for number in (1, 2):
        dice[False, number] = {number: alone[number - 1]}
        dice[True, number] = {number: alone_together[number - 1]}
    return Evidence(name="a", dice=dice)


@pytest.mark.parametrize(
    ("cases", "foreground", "labels"),
    [
        ([evidence((0.8, 0.8), (0.8, 0.8), (0.8, 0.8))], False, ()),
        ([evidence((0.8, 0.8), (0.8, 0.8), (0.9, 0.7))], False, (3,)),
        ([evidence((0.8, 0.8), (0.9, 0.8), (0.9, 0.9), (0.9, 0.8))], True, ()),
        ([evidence((0.8, 0.8), (0.9, 0.8), (0.9, 0.9), (0.9, 0.85))], True, (7,)),
        ([evidence((0.8, 0.8), (0.9, 0.79), (0.8, 0.8))], False, ()),
        ([evidence((0.8, 0.8), (0.8, 0.8), (0.7, 0.8)), evidence((0.5, 0.8), (0.5, 0.8), (0.9, 0.8))], False, (3,)),
        ([evidence((np.nan, 0.8), (np.nan, 0.8), (np.nan, 0.9))], False, (7,)),
    ],
)
def test_the_largest_component_is_kept_where_held_out_dice_rises_and_none_falls(cases, foreground, labels):
    kept = decide(cases, LABELS)
    assert (kept.foreground, kept.labels) == (foreground, labels)


def test_the_evidence_is_stored_by_name():
    kept = decide([evidence((0.8, 0.7), (0.8, 0.6), (0.9, 0.5))], LABELS)
    assert kept.evidence == {
        "cases": 1,
        "mean_dice": {"head": 0.8, "body": 0.7},
        "mean_dice_largest_of_all_together": {"head": 0.8, "body": 0.6},
        "mean_dice_largest_of_each_then": {"head": 0.9, "body": 0.5},
    }


def test_without_held_out_cases_all_is_kept_and_it_is_said_why():
    kept = decide([], LABELS)
    assert (kept.foreground, kept.labels) == (False, ())
    assert "no case was held out" in kept.evidence["why"]


def test_dice_of_a_class_that_is_nowhere_has_no_value():
    dice = dice_by_class(box(SHAPE, (0, 0, 0), (2, 2, 2), 1), box(SHAPE, (0, 0, 0), (2, 2, 1), 1), (1, 2))
    assert dice[1] == pytest.approx(2 * 4 / 12)
    assert np.isnan(dice[2])


def brightness_network() -> UNet:
    """Class 1 where the image is above one half."""
    network = UNet(UNetConfig(dimensions=3, out_channels=2, features=(1,)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for convolution in (network.encoder[0][0], network.encoder[0][2]):
            convolution.weight[0, 0, 1, 1, 1] = 1
        network.head.weight[1], network.head.bias[1] = 1, -0.5
    return network.eval()


def test_a_stray_piece_costs_dice_that_the_largest_component_wins_back(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (4, 4, 4), 1)
    seen = truth + box(SHAPE, (6, 6, 6), (8, 8, 8), 1)
    volume = TrainingVolume(
        name="a",
        image=save_array(tmp_path / "i.npy", seen[None].astype(np.float32)),
        labels=save_array(tmp_path / "l.npy", truth.astype(np.uint8)),
        present=(1,),
        sha256="",
    )
    plan = Plan(network=brightness_network().config, spacing_mm=(1, 1, 1), patch=SHAPE, batch_size=1)
    weighed = weigh(brightness_network(), volume, plan, torch.float32)
    assert weighed.dice[False, 0][1] == pytest.approx(2 * 64 / (72 + 64))
    assert weighed.dice[True, 0][1] == weighed.dice[False, 1][1] == 1.0
    assert decide([weighed], {1: "cube"}) == KeepLargest(
        foreground=True,
        evidence={
            "cases": 1,
            "mean_dice": {"cube": 0.9412},
            "mean_dice_largest_of_all_together": {"cube": 1.0},
            "mean_dice_largest_of_each_then": {"cube": 1.0},
        },
    )

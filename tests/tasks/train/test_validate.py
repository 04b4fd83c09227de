"""What is kept of a segmentation follows from the cases that training never saw."""

import numpy as np
import pytest
import torch

from tasks.model import KeepLargest, Plan, SliceOrder
from tasks.scan.files import save_array
from tasks.slice_order import common_order, orderings
from tasks.train.prepare import TrainingVolume
from tasks.train.validate import Evidence, decide_largest, decide_order, dice_by_class, numbered, weigh
from tests.phantoms import box
from unet import UNet, UNetConfig

SHAPE = (8, 8, 8)
LABELS = {3: "head", 7: "body"}


def evidence(plain, together, alone, alone_together=(0.0, 0.0)) -> Evidence:
    """Dice of classes 1 and 2: plain, of the largest of both together, of the largest of each."""
    dice = {(False, False, 0): dict(enumerate(plain, 1)), (False, True, 0): dict(enumerate(together, 1))}
    for number in (1, 2):
        dice[False, False, number] = {number: alone[number - 1]}
        dice[False, True, number] = {number: alone_together[number - 1]}
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
    kept = decide_largest(cases, LABELS, ordered=False)
    assert (kept.foreground, kept.labels) == (foreground, labels)


ORDER = SliceOrder(axis=1, labels=(7, 3), evidence={"references": 9, "strays": 0.002})


def ordered(plain, in_order) -> Evidence:
    """Dice of classes 1 and 2: plain, and with the labels in order."""
    return Evidence(
        name="a",
        dice={(choice, False, 0): dict(enumerate(dice, 1)) for choice, dice in ((False, plain), (True, in_order))},
    )


@pytest.mark.parametrize(
    ("cases", "labels"),
    [
        ([ordered((0.8, 0.8), (0.9, 0.8))], (7, 3)),
        ([ordered((0.8, 0.8), (0.7, 0.8)), ordered((0.8, 0.8), (0.91, 0.8))], (7, 3)),
        ([ordered((0.8, 0.8), (0.8, 0.8))], ()),
        ([ordered((0.8, 0.8), (0.9, 0.79))], ()),
    ],
)
def test_labels_are_put_in_order_where_held_out_dice_rises_and_none_falls(cases, labels):
    assert decide_order(cases, LABELS, [ORDER, ORDER]).labels == labels


def test_the_evidence_for_an_order_is_stored_whether_it_is_taken_or_not():
    for head, labels in ((0.9, (7, 3)), (0.7, ())):
        decided = decide_order([ordered((0.8, 0.8), (head, 0.8))], LABELS, [ORDER])
        assert decided == SliceOrder(
            axis=1 if labels else 0,
            labels=labels,
            evidence={
                "references": 9,
                "strays": 0.002,
                "cases": 1,
                "mean_dice": {"head": 0.8, "body": 0.8},
                "mean_dice_in_order": {"head": head, "body": 0.8},
            },
        )


def test_an_order_that_nothing_was_held_out_for_is_not_taken():
    decided = decide_order([], LABELS, [ORDER])
    assert decided.labels == ()
    assert "no case was held out" in decided.evidence["why"]


@pytest.mark.parametrize("other", [SliceOrder(axis=2, labels=(7, 3)), SliceOrder(axis=1, labels=(3, 7)), SliceOrder()])
def test_an_order_that_the_references_of_one_member_do_not_keep_is_not_taken(other):
    decided = decide_order([ordered((0.8, 0.8), (0.9, 0.9))], LABELS, [ORDER, other])
    assert decided == SliceOrder(evidence={"why": "the references of the folds do not keep one order"})


def test_an_order_of_label_values_is_one_of_class_numbers_too():
    assert numbered(ORDER, LABELS).labels == (2, 1)


def test_the_largest_is_decided_of_what_is_in_order_where_that_was_chosen():
    of_choice = {(True, False, 0): {1: 0.9}, (True, True, 0): {1: 0.9}, (True, False, 1): {1: 0.8}}
    of_choice |= {(False, *choice[1:]): {1: 1.0} for choice in of_choice}
    kept = decide_largest([Evidence(name="a", dice=of_choice)], {1: "head"}, ordered=True)
    assert kept.evidence["mean_dice"] == {"head": 0.9}
    assert kept.labels == ()


def test_the_evidence_is_stored_by_name():
    kept = decide_largest([evidence((0.8, 0.7), (0.8, 0.6), (0.9, 0.5))], LABELS, ordered=False)
    assert kept.evidence == {
        "cases": 1,
        "mean_dice": {"head": 0.8, "body": 0.7},
        "mean_dice_largest_of_all_together": {"head": 0.8, "body": 0.6},
        "mean_dice_largest_of_each_then": {"head": 0.9, "body": 0.5},
    }


def test_without_held_out_cases_all_is_kept_and_it_is_said_why():
    kept = decide_largest([], LABELS, ordered=False)
    assert (kept.foreground, kept.labels) == (False, ())
    assert "no case was held out" in kept.evidence["why"]


def test_dice_of_a_class_that_is_nowhere_has_no_value():
    dice = dice_by_class(box(SHAPE, (0, 0, 0), (2, 2, 2), 1), box(SHAPE, (0, 0, 0), (2, 2, 1), 1), (1, 2))
    assert dice[1] == pytest.approx(2 * 4 / 12)
    assert np.isnan(dice[2])


def brightness_network(classes: int = 1) -> UNet:
    """Class 1 where the image is above one half, class 2 where it is above three halves."""
    network = UNet(UNetConfig(dimensions=3, out_channels=1 + classes, features=(1,)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for convolution in (network.encoder[0][0], network.encoder[0][2]):
            convolution.weight[0, 0, 1, 1, 1] = 1
        for number in range(1, 1 + classes):
            network.head.weight[number], network.head.bias[number] = number, -0.5 * number**2
    return network.eval()


def written(folder, truth, seen) -> TrainingVolume:
    """A held-out case in which the network sees `seen` where `truth` was drawn."""
    return TrainingVolume(
        name="a",
        image=save_array(folder / "i.npy", seen[None].astype(np.float32)),
        labels=save_array(folder / "l.npy", truth.astype(np.uint8)),
        present=(1,),
        orderings=orderings(truth),
        sha256="",
    )


def test_a_ragged_border_costs_dice_that_the_order_wins_back(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (8, 4, 8), 2) + box(SHAPE, (0, 4, 0), (8, 8, 8), 1)
    seen = truth.copy()
    seen[:2, 4, :2] = 2
    network = brightness_network(2)
    plan = Plan(network=network.config, spacing_mm=(1, 1, 1), patch=SHAPE, batch_size=1)
    volume = written(tmp_path, truth, seen)
    order = common_order([volume.orderings], (3, 7))
    assert (order.axis, order.labels) == (1, (2, 1))
    weighed = weigh(network, volume, plan, torch.float32, order)
    assert weighed.dice[False, False, 0][1] == pytest.approx(2 * 252 / (252 + 256))
    assert weighed.dice[True, False, 0] == weighed.dice[True, True, 0] == {1: 1.0, 2: 1.0}
    assert weighed.dice[True, True, 2] == {2: 1.0}


def test_a_stray_piece_costs_dice_that_the_largest_component_wins_back(tmp_path):
    truth = box(SHAPE, (0, 0, 0), (4, 4, 4), 1)
    seen = truth + box(SHAPE, (6, 6, 6), (8, 8, 8), 1)
    volume = written(tmp_path, truth, seen)
    plan = Plan(network=brightness_network().config, spacing_mm=(1, 1, 1), patch=SHAPE, batch_size=1)
    weighed = weigh(brightness_network(), volume, plan, torch.float32)
    assert weighed.dice[False, False, 0][1] == pytest.approx(2 * 64 / (72 + 64))
    assert weighed.dice[False, True, 0][1] == weighed.dice[False, False, 1][1] == 1.0
    assert decide_largest([weighed], {1: "cube"}, ordered=False) == KeepLargest(
        foreground=True,
        evidence={
            "cases": 1,
            "mean_dice": {"cube": 0.9412},
            "mean_dice_largest_of_all_together": {"cube": 1.0},
            "mean_dice_largest_of_each_then": {"cube": 1.0},
        },
    )

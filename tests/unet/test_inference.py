"""Tiles and weights that can be checked by eye."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from unet import UNet, UNetConfig, memory, predict
from unet.agreement import count_pairs, mean_pairwise_dice
from unet.backends import ready
from unet.inference import Sums, gaussian_weights, predict_in, tile_starts, tiles, tiles_with_cores
from unet.memory import best_tile


class Echo(UNet):
    """A network that returns its input twice, and remembers the sizes it saw."""

    def __init__(self) -> None:
        super().__init__(UNetConfig(dimensions=3, out_channels=2, features=(1,)))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(image.shape[2:]))
        return torch.cat((image, 2 * image), dim=1)


def test_tiles_end_at_the_border_and_are_spread_evenly():
    assert tile_starts(110, 64) == [0, 23, 46]


def test_an_axis_that_fits_has_one_tile():
    assert tile_starts(64, 64) == [0]
    assert tile_starts(10, 64) == [0]


def test_every_voxel_is_in_some_tile():
    seen = torch.zeros(9, 5, 4)
    for place in tiles((9, 5, 4), (4, 4, 4)):
        seen[place] += 1
    assert seen.min() >= 1


def test_weights_are_one_at_the_centre_and_nowhere_zero():
    weights = gaussian_weights((65, 9, 9))
    assert weights[32, 4, 4] == 1
    assert weights.min() > 0


def test_a_volume_that_fits_is_one_pass():
    network = Echo()
    predict([network], torch.zeros(1, 8, 8, 8), (8, 8, 4))
    assert network.sizes == [(8, 8, 8)]


def test_tiles_go_from_end_to_end_where_they_can_and_are_halves_of_the_rest():
    assert best_tile((40, 40, 60), (16, 16, 16), 76_800) == (40, 32, 60)  # two along one axis, at 0 and at 8


def test_a_tile_is_never_smaller_than_the_patch():
    assert best_tile((100, 100, 100), (32, 32, 32), 40_000) == (32, 32, 32)
    assert best_tile((100, 100, 100), (64, 64, 64), 40_000) == (64, 64, 64)


def test_a_tile_is_no_longer_than_the_image():
    assert best_tile((20, 100, 100), (32, 32, 32), 41_000) == (20, 32, 64)


def test_tiles_of_an_echo_are_the_image_itself(monkeypatch):
    monkeypatch.setattr(memory, "ONE_PASS_VOXELS", 300)
    image = torch.arange(18 * 7 * 6, dtype=torch.float32).reshape(1, 18, 7, 6)
    network = Echo()
    logits = predict([network], image, (8, 6, 4)).logits
    assert len(network.sizes) > 1
    assert torch.allclose(logits[0], image[0], rtol=1e-5)
    assert torch.allclose(logits[1], 2 * image[0], rtol=1e-5)


def test_mirroring_averages_over_all_flips_of_the_named_axes():
    network = Echo()
    image = torch.rand(1, 4, 4, 4)
    logits = predict([network], image, (4, 4, 4), mirror_axes=(0, 2)).logits
    assert len(network.sizes) == 4
    assert torch.allclose(logits[0], image[0])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_real_network_gives_the_same_tiled_and_whole_where_tiles_see_enough(precision, monkeypatch):
    torch.manual_seed(0)
    network = UNet(UNetConfig(dimensions=3, out_channels=2, features=(2,))).eval()
    image = torch.rand(1, 30, 8, 8)
    run = ready(network, "torch", torch.device("cpu"), precision)
    whole = predict([run], image, (12, 8, 8)).logits
    monkeypatch.setattr(memory, "ONE_PASS_VOXELS", 1000)
    tiled = predict([run], image, (12, 8, 8)).logits
    assert (tiled - whole)[:, 2:-2].abs().max() < 0.1 * (whole.max() - whole.min())


def test_an_ensemble_averages_its_logits():
    first, second = (UNet(UNetConfig(dimensions=2, out_channels=2, features=(2,))).eval() for _ in range(2))
    image = torch.rand(1, 6, 5)
    logits = predict([first, second], image, (4, 4)).logits
    with torch.inference_mode():
        expected = (first(image[None])[0] + second(image[None])[0]) / 2
    assert torch.allclose(logits, expected, atol=1e-6)


def constant(labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network of three classes that says `labels`, whatever it is shown."""
    return lambda _: one_hot(labels.long(), 3).movedim(-1, 0)[None].float()


def test_the_agreement_of_an_ensemble_is_the_mean_dice_over_its_pairs():
    members = [torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4)]
    members[0][0, :2], members[1][0, :2], members[2][0, 1:3] = 1, 1, 1  # pairs: 1, ½, ½
    members[0][0, 3] = 2  # pairs: 0, 0, and one in which neither has it
    answer = predict([constant(member) for member in members], torch.zeros(1, 1, 4), (1, 4))
    assert answer.agreement == {1: pytest.approx(2 / 3), 2: 0}


def test_a_class_that_no_member_has_has_no_agreement():
    answer = predict([constant(torch.zeros(1, 4))] * 2, torch.zeros(1, 1, 4), (1, 4))
    assert [math.isnan(value) for value in answer.agreement.values()] == [True, True]


def test_a_single_answer_agrees_with_nobody():
    assert predict([constant(torch.ones(1, 4))], torch.zeros(1, 1, 4), (1, 4)).agreement == {}


def test_the_answers_to_flipped_images_of_one_network_are_compared():
    labels = torch.tensor([[1, 1, 0, 0]])  # whatever it is shown, it says left: flipped back, right
    assert predict([constant(labels)], torch.zeros(1, 1, 4), (1, 4), mirror_axes=(1,)).agreement[1] == 0


def test_pairs_counted_piece_by_piece_are_those_of_the_whole():
    maps = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(0))
    pieces = count_pairs(maps[:, :2], 3) + count_pairs(maps[:, 2:], 3)
    assert torch.equal(pieces, count_pairs(maps, 3))
    assert mean_pairwise_dice(pieces) == mean_pairwise_dice(count_pairs(maps, 3))


def test_the_cores_of_tiles_are_the_volume_once():
    seen = torch.zeros(9, 5, 4)
    for place, core in tiles_with_cores((9, 5, 4), (4, 4, 4)):
        seen[place][core] += 1
    assert torch.equal(seen, torch.ones(9, 5, 4))


def test_the_agreement_in_tiles_counts_each_voxel_once(monkeypatch):
    monkeypatch.setattr(memory, "ONE_PASS_VOXELS", 10)
    same = predict([Echo(), Echo()], torch.rand(1, 9, 7, 6) + 1, (4, 4, 4))
    assert same.agreement == {1: 1}


def test_sums_in_a_file_are_those_in_memory(tmp_path):
    image, let_go = torch.rand(1, 9, 7, 6), []
    mapped = np.lib.format.open_memmap(tmp_path / "sums.npy", "w+", np.float32, (2, 9, 7, 6))
    sums = Sums(values=torch.from_numpy(mapped), let_go=lambda: let_go.append(1))
    in_file = predict_in((4, 4, 4), [Echo()], image, sums=sums).logits
    assert torch.equal(in_file, predict_in((4, 4, 4), [Echo()], image).logits)
    assert np.array_equal(np.load(tmp_path / "sums.npy"), in_file.numpy())
    assert len(let_go) > 2


def test_of_the_tiles_that_hold_one_value_everywhere_one_is_computed():
    image = torch.zeros(1, 24, 4, 4)
    image[:, 18:] = torch.rand(1, 6, 4, 4)
    network = Echo()
    logits = predict_in((4, 4, 4), [network], image).logits
    assert len(network.sizes) == 4  # of 11 tiles, 8 are air
    assert torch.allclose(logits[0], image[0], rtol=1e-5)

"""Tiles and weights that can be checked by eye."""

import pytest
import torch

from unet import UNet, UNetConfig, inference, predict
from unet.inference import gaussian_weights, largest_tile, tile_starts, tiles


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
    predict([network], torch.zeros(1, 8, 8, 8), (8, 8, 4), torch.float32)
    assert network.sizes == [(8, 8, 8)]


def test_tiles_are_the_largest_multiple_of_the_patch_that_may_pass():
    assert largest_tile((40, 56, 40)) == (120, 168, 120)
    assert largest_tile((256, 256, 128)) == (256, 256, 128)


def test_tiles_of_an_echo_are_the_image_itself(monkeypatch):
    monkeypatch.setattr(inference, "ONE_PASS_VOXELS", 300)
    image = torch.arange(18 * 7 * 6, dtype=torch.float32).reshape(1, 18, 7, 6)
    network = Echo()
    logits = predict([network], image, (8, 6, 4), torch.float32)
    assert len(network.sizes) > 1
    assert torch.allclose(logits[0], image[0], rtol=1e-5)
    assert torch.allclose(logits[1], 2 * image[0], rtol=1e-5)


def test_mirroring_averages_over_all_flips_of_the_named_axes():
    network = Echo()
    image = torch.rand(1, 4, 4, 4)
    logits = predict([network], image, (4, 4, 4), torch.float32, mirror_axes=(0, 2))
    assert len(network.sizes) == 4
    assert torch.allclose(logits[0], image[0])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_real_network_gives_the_same_tiled_and_whole_where_tiles_see_enough(precision, monkeypatch):
    torch.manual_seed(0)
    network = UNet(UNetConfig(dimensions=3, out_channels=2, features=(2,))).eval()
    image = torch.rand(1, 30, 8, 8)
    whole = predict([network], image, (12, 8, 8), precision)
    monkeypatch.setattr(inference, "ONE_PASS_VOXELS", 1000)
    tiled = predict([network], image, (12, 8, 8), precision)
    assert (tiled - whole)[:, 2:-2].abs().max() < 0.1 * (whole.max() - whole.min())


def test_an_ensemble_averages_its_logits():
    first, second = (UNet(UNetConfig(dimensions=2, out_channels=2, features=(2,))).eval() for _ in range(2))
    image = torch.rand(1, 6, 5)
    logits = predict([first, second], image, (4, 4), torch.float32)
    with torch.inference_mode():
        expected = (first(image[None])[0] + second(image[None])[0]) / 2
    assert torch.allclose(logits, expected, atol=1e-6)

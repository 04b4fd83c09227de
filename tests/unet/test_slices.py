"""A 2-D network on a volume sees each of its slices once, and nothing of the others."""

import pytest
import torch

from unet.inference import Seams, nnunet_weights, predict_in, tile_weights, tiles
from unet.slices import by_slice


@pytest.mark.parametrize(("axis", "size"), [(0, (3, 4)), (1, (2, 4)), (2, (2, 3))])
def test_slices_are_a_batch_in_which_the_other_axes_keep_their_order(axis, size):
    seen = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return torch.cat((images, -images), dim=1)

    volume = torch.rand(1, 1, 2, 3, 4)
    logits = by_slice(network, axis)(volume)
    assert seen == [(volume.shape[axis + 2], 1, *size)]
    assert torch.equal(logits, torch.cat((volume, -volume), dim=1))


def test_a_slice_is_computed_by_itself_whatever_is_beside_it():
    def network(images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images)
        return torch.cat((means, images), dim=1)

    image = torch.arange(5.0).reshape(1, 1, 5, 1).expand(1, 4, 5, 6)
    found = predict_in((4, 2, 6), [by_slice(network, 1)], image, seams=Seams(slice_axis=1))
    assert torch.allclose(found.logits[0], image[0])


def test_tiles_do_not_overlap_along_slices_and_weigh_the_same_there():
    assert [place[0] for place in tiles((8, 4), (4, 4), slice_axis=0)] == [slice(0, 4), slice(4, 8)]
    weights = tile_weights((3, 9), Seams(slice_axis=0))
    assert torch.equal(weights[0], weights[2])
    assert weights[1, 4] == 1


def test_nnunets_weights_have_their_middle_after_half_of_an_even_side():
    """Of 8 voxels, σ = 1: voxel 4 is the middle, 5 and 3 have exp(−½)."""
    weights = nnunet_weights((8,))
    assert weights[4] == 10
    assert weights[3] == weights[5] == pytest.approx(10 * 0.60653, rel=1e-3)
    assert weights[0] == pytest.approx(10 * 0.000335, rel=1e-2)

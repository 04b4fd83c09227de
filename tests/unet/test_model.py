"""The network against the lecture's numbers, and against sizes no one would choose."""

import pytest
import torch

from unet import UNet, UNetConfig, convolution_parameters
from unet.model import Block, Join, Residual, _upsampling

REFERENCE = UNetConfig()
SMALL = (2, 4, 8)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_reference_network_has_the_parameters_of_the_lecture():
    network = UNet(REFERENCE)
    assert [parameters(network.encoder[0]), parameters(network.encoder[1])] == [9_568, 55_424]
    assert parameters(network.decoder[0]) == 2_359_808
    assert convolution_parameters(network) == 7_846_081


def test_batch_normalisation_adds_a_scale_and_a_shift_for_each_map():
    assert parameters(UNet(UNetConfig(normalisation="batch"))) == 7_851_969


@pytest.mark.parametrize("size", [(31,), (17, 30), (9, 14, 21)])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "linear"])
def test_any_size_comes_back_as_it_went_in(size, upsampling):
    config = UNetConfig(dimensions=len(size), out_channels=3, features=SMALL, upsampling=upsampling)
    assert UNet(config)(torch.zeros(2, 1, *size)).shape == (2, 3, *size)


def test_the_last_voxel_of_an_odd_side_is_pooled_alone():
    pooling = UNet(UNetConfig(dimensions=1, features=(1, 1))).poolings[0]
    assert pooling(torch.tensor([[[1.0, 3.0, 2.0, 1.0, 4.0]]])).flatten().tolist() == [3, 2, 4]


def test_what_comes_up_is_cut_at_the_far_end_and_stands_first():
    joined = Join()(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[5.0, 6.0, 7.0]]]))
    assert joined.tolist() == [[[1, 2, 3], [5, 6, 7]]]


def test_an_axis_of_thick_slices_can_be_left_unpooled():
    config = UNetConfig(
        dimensions=3, features=SMALL, poolings=((2, 2, 1), (2, 2, 2)), kernels=((3, 3, 1),) + ((3, 3, 3),) * 2
    )
    first = UNet(config).encoder[0]
    assert isinstance(first, Block)
    assert first[0].weight.shape == (2, 1, 3, 3, 1)


def test_skip_connections_carry_the_image_past_a_dead_bottleneck():
    torch.manual_seed(0)
    network = UNet(UNetConfig(features=SMALL))
    for parameter in network.encoder[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert not torch.equal(network(torch.rand(1, 1, 8, 8)), network(torch.rand(1, 1, 8, 8)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dimensions": 4}, "dimensions must be 1, 2 or 3"),
        ({"features": ()}, "at least one level"),
        ({"poolings": ((2, 2),)}, "5 levels need 4 poolings, not 1"),
        ({"kernels": ((3, 3),)}, "5 levels need 5 kernels, not 1"),
        ({"features": (2, 4), "poolings": ((2,),)}, "every pooling and kernel needs 2 numbers"),
        ({"features": (2,), "kernels": ((4, 4),)}, "kernel sizes must be odd"),
        ({"convolutions": (2, 2)}, "5 levels need 5 counts of convolutions of at least 1, not .2, 2."),
        ({"decoder_convolutions": (1, 1, 1, 0)}, "5 levels need 4 counts of convolutions of at least 1"),
        ({"encoder": "residual"}, "downsampling must be 'strided'"),
    ],
)
def test_a_description_that_cannot_be_built_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**wrong)


def test_batch_normalisation_keeps_running_statistics():
    """Twice run ← 0.9·run + 0.1·batch, by hand, from mean 0 and variance 1; then y = (x − mean) / √(var + ε)·γ + β."""
    block = Block(UNetConfig(dimensions=1, features=(1,), normalisation="batch"), (1, 1), level=0)
    with torch.no_grad():
        block[0].weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
        block[0].bias.zero_()
        block[1].weight.fill_(2.0)
        block[1].bias.fill_(0.5)
    for values in ([1.0, 3.0], [5.0, 9.0]):  # means 2 and 7, variances (n − 1) 2 and 8
        block.train()(torch.tensor([[values]]))
    assert block[1].running_mean.item() == pytest.approx(0.9 * 0.2 + 0.7)
    assert block[1].running_var.item() == pytest.approx(0.9 * (0.9 + 0.2) + 0.8)
    normalised = block[1].eval()(torch.tensor([[[1.0]]])).item()
    assert normalised == pytest.approx((1.0 - 0.88) / (1.79 + 1e-5) ** 0.5 * 2.0 + 0.5)


def test_instance_normalisation_makes_each_image_its_own_scale():
    block = Block(UNetConfig(dimensions=2, features=(3,), normalisation="instance"), (1, 3), level=0).eval()
    image = torch.rand(1, 1, 12, 12)
    maps, brighter = block[0](image), block[0](image * 40)
    assert not torch.allclose(maps, brighter, atol=1.0)
    with torch.no_grad():
        block[0].bias.zero_()
    assert torch.allclose(block[1](block[0](image)), block[1](block[0](image * 40)), atol=1e-2)


@pytest.mark.parametrize(
    ("upsampling", "row"),
    [("nearest", [0, 0, 4, 4]), ("linear", [0, 1, 3, 4])],
)
def test_upsampling_repeats_or_interpolates(upsampling, row):
    layer, _ = _upsampling(UNetConfig(dimensions=1, features=(1, 1), upsampling=upsampling), 0)
    assert layer(torch.tensor([[[0.0, 4.0]]])).flatten().tolist() == row


def test_a_residual_block_adds_what_came_in_shrunk_by_its_mean():
    """Convolutions of zeros leave the shortcut alone: pairs of 1, 3 and −5, 1 have the means 2 and −2, leaky: −0.02."""
    config = UNetConfig(dimensions=1, activation="leaky", downsampling="strided", encoder="residual")
    block = Residual(config, (1, 1), level=0, stride=(2,))
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    assert block(torch.tensor([[[1.0, 3.0, -5.0, 1.0]]])).flatten().tolist() == pytest.approx([2.0, -0.02])
    assert block(torch.tensor([[[1.0, 3.0, 5.0]]])).flatten().tolist() == [2, 5]


def test_a_strided_network_has_no_pooling_and_gives_any_size_back():
    config = UNetConfig(
        dimensions=3, features=SMALL, downsampling="strided", encoder="residual", convolutions=(1, 2, 2)
    )
    network = UNet(config)
    assert [type(layer) for layer in network.poolings] == [torch.nn.Identity] * 2
    assert network(torch.zeros(1, 1, 9, 14, 7)).shape == (1, 1, 9, 14, 7)

"""Every backend says what the network itself says."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tests.threads import busy_threads
from unet import UNet, UNetConfig
from unet.backends import choose_backend, folding, ready

CPU = torch.device("cpu")
CONFIGS = {
    "1-D": UNetConfig(dimensions=1, in_channels=2, out_channels=3, features=(2, 4), normalisation="batch"),
    "2-D as in the lecture": UNetConfig(dimensions=2, features=(4, 8, 16), normalisation="batch"),
    "2-D linear": UNetConfig(dimensions=2, out_channels=2, features=(4, 8), upsampling="linear"),
    "3-D": UNetConfig(
        dimensions=3, out_channels=3, features=(4, 8, 16), upsampling="transposed", normalisation="batch"
    ),
    "3-D instance": UNetConfig(dimensions=3, out_channels=2, features=(4, 8), normalisation="instance"),
    "3-D linear": UNetConfig(dimensions=3, out_channels=2, features=(4, 8), upsampling="linear"),
    "thick slices": UNetConfig(
        dimensions=3,
        out_channels=2,
        features=(4, 8, 16),
        poolings=((2, 2, 1), (2, 2, 2)),
        kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3)),
        upsampling="transposed",
        normalisation="batch",
    ),
    "nnU-Net": UNetConfig(
        dimensions=3,
        out_channels=2,
        features=(4, 6, 8),
        poolings=((1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        upsampling="transposed",
        normalisation="instance",
        activation="leaky",
        downsampling="strided",
        convolutions=(1, 3, 2),
        decoder_convolutions=(2, 1),
    ),
    "nnU-Net, residual encoder": UNetConfig(
        dimensions=2,
        in_channels=2,
        out_channels=3,
        features=(4, 6, 6),
        upsampling="transposed",
        normalisation="batch",
        activation="leaky",
        downsampling="strided",
        encoder="residual",
        convolutions=(1, 2, 2),
        decoder_convolutions=(1, 1),
    ),
}


def trained(config: UNetConfig) -> UNet:
    """A network whose norms have seen something: their means are not 0, their variances not 1."""
    torch.manual_seed(0)
    network = UNet(config).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_(0, 0.5)
        if isinstance(layer, nn.InstanceNorm3d):
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_(0, 0.5)
    return network


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_backend_computes_what_the_network_does(name, backend):
    config = CONFIGS[name]
    network = trained(config)
    run = ready(network, backend, CPU, torch.float32)
    for sides in ((16, 12, 8), (9, 10, 11)):  # the second are no multiples of anything
        image = torch.randn(2, config.in_channels, *sides[: config.dimensions])
        with torch.inference_mode():
            expected = network(image)
        found = run(image)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["1-D", "2-D as in the lecture", "3-D", "thick slices", "nnU-Net, residual encoder"])
def test_an_image_of_a_voxel_or_two_is_computed_and_nothing_of_it_is_left_for_the_next(name):
    """A scan may be a slab or a rod: sides of 1 are what pooling makes of 2."""
    config = CONFIGS[name]
    network = trained(config)
    run = ready(network, "openvino", CPU, torch.float32)
    chance = torch.Generator().manual_seed(0)
    for _ in range(60):
        sides = torch.tensor((1, 2, 3, 5, 9, 16))[torch.randint(6, (config.dimensions,), generator=chance)].tolist()
        image = torch.randn(1, config.in_channels, *sides, generator=chance)
        found = run(image)
        if config.encoder == "plain" or min(sides) > 4:  # torch's average pooling has no window for a side of 1
            with torch.inference_mode():
                torch.testing.assert_close(found, network(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_bfloat16_stays_within_two_hundredths_of_the_range_of_the_logits(backend):
    network = trained(CONFIGS["3-D"])
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        expected = network(image)
    difference = (ready(network, backend, CPU, torch.bfloat16)(image) - expected).abs().max()
    assert 0 < difference < 0.02 * (expected.max() - expected.min())


def test_torch_in_bfloat16_rounds_nothing_in_its_last_block_and_its_head():
    """With these rounded, too, the difference is 0.0029 of the range."""
    network = trained(CONFIGS["3-D"])
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(image)
    difference = (ready(network, "torch", CPU, torch.bfloat16)(image) - expected).abs().max()
    assert difference < 0.0015 * (expected.max() - expected.min())


def test_openvino_computes_many_small_images_at_once_and_each_as_if_it_were_alone():
    run = ready(trained(CONFIGS["3-D"]), "openvino", CPU, torch.float32)
    images = [torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    alone = [run(image) for image in images]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(run, images))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_what_one_call_returned_is_not_changed_by_the_next(backend):
    run = ready(trained(CONFIGS["3-D"]), backend, CPU, torch.float32)
    first = run(torch.zeros(1, 1, 8, 8, 8))
    before = first.clone()
    run(torch.ones(1, 1, 8, 8, 8))
    assert torch.equal(first, before)


def test_folding_leaves_no_norm_and_the_network_itself_alone():
    network = trained(CONFIGS["3-D"])
    copy = folding.folded(network)
    assert [layer for layer in copy.modules() if isinstance(layer, nn.BatchNorm3d)] == []
    assert len([layer for layer in network.modules() if isinstance(layer, nn.BatchNorm3d)]) == 10


def test_an_image_in_two_parts_of_bfloat16_has_sixteen_bits():
    image = torch.tensor([[[1 + 2**-12, 1000.125]]])
    first, second, again = folding.split_image(image)[0]
    assert first.tolist() == again.tolist() == [1, 1000]
    assert second.tolist() == [2**-12, 0.125]


def test_a_split_first_convolution_computes_what_it_did():
    network = trained(CONFIGS["1-D"])
    image = torch.randn(1, 2, 16)
    with torch.inference_mode():
        expected = network(image)
        found = folding.with_split_image(folding.folded(network))(folding.split_image(image))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_auto_is_openvino_on_the_cpu_and_torch_on_a_gpu():
    assert choose_backend("auto", CPU) == "openvino"
    assert choose_backend("auto", torch.device("cuda")) == "torch"
    assert choose_backend("torch", CPU) == "torch"


def test_openvino_on_a_gpu_is_refused():
    with pytest.raises(RuntimeError, match="backend 'openvino' runs on the CPU alone, not on 'cuda'"):
        choose_backend("openvino", torch.device("cuda"))


def test_a_layer_that_openvino_has_no_entry_for_is_named():
    network = trained(CONFIGS["3-D"])
    network.head = nn.Sequential(nn.Softsign())
    with pytest.raises(TypeError, match="Softsign cannot be run by OpenVINO; use --backend torch"):
        ready(network, "openvino", CPU, torch.float32)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_backend_computes_in_no_more_threads_than_it_was_given(backend):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        run = ready(trained(CONFIGS["3-D"]), backend, CPU, torch.float32)
        assert busy_threads(lambda: run(torch.zeros(1, 1, 96, 96, 96))) == 1
    finally:
        torch.set_num_threads(before)

"""On a real GPU: what the CPU says, and what is done when its memory ends. Skipped where there is none."""

import numpy as np
import pytest
import torch

from tasks.infer import InferenceConfig
from tasks.infer.case import infer_case
from tests.tasks.test_infer import MODEL, NETWORK, prepared
from tests.unet.test_backends import CONFIGS, trained
from tests.unet.test_training import bright_cube, config, ignore, network
from unet import UNet, predict, train
from unet.backends import ready
from unet.checkpoint import load_tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_gpu_computes_what_the_network_does(name):
    model = trained(CONFIGS[name])
    run = ready(model, "torch", GPU, torch.float32)
    image = torch.randn(2, CONFIGS[name].in_channels, *(9, 10, 11)[: CONFIGS[name].dimensions])
    with torch.inference_mode():
        expected = model(image)
    torch.testing.assert_close(run(image), expected, rtol=1e-4, atol=1e-4)
    assert run(image.to(GPU)).device.type == "cuda"


def test_bfloat16_stays_within_two_hundredths_of_the_range_of_the_logits():
    model = trained(CONFIGS["3-D"])
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        expected = model(image)
    difference = (ready(model, "torch", GPU, torch.bfloat16)(image) - expected).abs().max()
    assert 0 < difference < 0.02 * (expected.max() - expected.min())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_bright_cube_is_learnt(precision):
    steps = []
    found = train(
        network().to(GPU), [bright_cube()], config(steps=150, precision=precision), lambda step, _: steps.append(step)
    )
    labels = predict([found], bright_cube().image.to(GPU), (16, 12, 8)).logits.argmax(0).cpu()
    truth = bright_cube().target
    assert 2 * ((labels == 1) & (truth == 1)).sum() / ((labels == 1).sum() + (truth == 1).sum()) > 0.9
    assert steps[-1].loss < 0.6 * steps[0].loss


def test_training_goes_on_from_a_checkpoint(tmp_path):
    path = tmp_path / "checkpoint"
    train(network().to(GPU), [bright_cube()], config(steps=5, checkpoint=path), ignore)
    train(network().to(GPU), [bright_cube()], config(steps=8, checkpoint=path), ignore)
    assert load_tensors(path)[1]["steps"] == "8"


def test_less_and_less_memory_is_climbed_down_a_rung_at_a_time(tmp_path):
    torch.manual_seed(0)
    model = UNet(NETWORK).eval()
    case = prepared(tmp_path, (160, 160, 160))
    with torch.inference_mode():
        expected = model(torch.from_numpy(np.load(case.voxels))[None])[0].argmax(0)
    run, on_cpu = (ready(model, "torch", device, torch.float32) for device in (GPU, CPU))
    settings = InferenceConfig(device="cuda", precision="float32", memory_gb=1)
    total, seen = torch.cuda.get_device_properties(GPU).total_memory, []
    try:
        for megabytes in (2048, 512, 256, 128, 64, 48, 32, 24, 1):
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(megabytes * 2**20 / total)
            answer = infer_case(case, [run], MODEL, settings, tmp_path, lambda: [on_cpu])
            agree = (torch.from_numpy(np.load(answer.logits)).argmax(0) == expected).float().mean()
            assert agree > 0.95  # at the seams of tiles of 8³ voxels the network sees less
            seen.append((answer.device, answer.fallback))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert list(dict.fromkeys(seen)) == [
        ("cuda", ""),
        ("cuda", "in smaller tiles"),
        ("cuda", "in smaller tiles, summed on the CPU"),
        ("cpu", "on the CPU"),
    ]

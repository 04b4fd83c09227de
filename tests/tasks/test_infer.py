"""A case runs in the way that fits into memory, and what does not fit is refused before it is tried."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.infer import InferenceConfig
from tasks.infer.case import infer_case, sums_in_file
from tasks.infer.machine import resolve
from tasks.model import Model, Plan
from tasks.scan.errors import NotEnoughMemory, UnknownSetting
from tasks.scan.records import Prediction, Prepared, Shape
from tests.prepared import prepared_from
from tests.small_gpu import GPU, SmallGpu
from unet import UNet, UNetConfig, memory
from unet.backends import ready

SIDE = 12
NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4))
MODEL = Model(
    plan=Plan(network=NETWORK, spacing_mm=(1, 1, 1), patch=(8, 8, 8), batch_size=1), labels={1: "a"}, weights_sha256=""
)


def prepared(folder: Path, shape: Shape = (SIDE, SIDE, SIDE)) -> Prepared:
    voxels = folder / "c.image.npy"
    np.save(voxels, np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    return prepared_from(voxels, "c", shape)


def echo(image: torch.Tensor) -> torch.Tensor:
    return torch.cat((image, 2 * image), dim=1)


def echo_in_little_memory(image: torch.Tensor) -> torch.Tensor:
    """Has no memory for more than a patch."""
    if image[0, 0].numel() > 8**3:
        raise torch.OutOfMemoryError("no memory left")
    return echo(image)


CPU = InferenceConfig(device="cpu", precision="float32")


def test_a_case_is_computed(tmp_path):
    case = prepared(tmp_path)
    image = np.load(case.voxels)
    prediction = infer_case(case, [echo], MODEL, CPU, tmp_path)
    assert np.array_equal(np.load(prediction.logits)[1], 2 * image[0])
    assert prediction.prepared.case.warnings == ()


def test_sums_on_disk_give_the_logits_that_sums_in_memory_give(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PASS_BYTES", 512 * 70)
    in_memory = np.load(infer_case(prepared(tmp_path), [echo], MODEL, CPU, tmp_path).logits)
    monkeypatch.setattr(memory, "SUMS_IN_MEMORY_BYTES", 100)
    on_disk = infer_case(prepared(tmp_path), [echo], MODEL, CPU, tmp_path).logits
    assert np.array_equal(np.load(on_disk), in_memory)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.image.npy", "c.logits.npy"]


def test_a_device_without_memory_takes_smaller_tiles_and_the_case_says_so(tmp_path):
    case = prepared(tmp_path)
    image = np.load(case.voxels)
    prediction = infer_case(case, [echo_in_little_memory], MODEL, CPU, tmp_path)
    assert np.allclose(np.load(prediction.logits)[0], image[0], rtol=1e-4, atol=1e-5)
    expected = ("cpu ran out of memory: computed in smaller tiles",)
    assert prediction.prepared.case.warnings == expected


def test_a_case_that_fits_in_no_way_is_refused_with_the_numbers(tmp_path):
    tiny = InferenceConfig(device="cpu", precision="float32", memory_gb=1e-5)
    numbers = r"12 × 12 × 12 voxels .* 0\.0 GB are needed at least.* 0\.0 GB that are free"
    with pytest.raises(NotEnoughMemory, match=numbers):
        infer_case(prepared(tmp_path), [echo], MODEL, tiny, tmp_path)


def test_torch_has_one_case_at_a_time_and_its_cost_leaves_out_what_it_waited(tmp_path):
    """On a GPU two at once would share its memory, of which each was promised all that is free."""
    inside: list[int] = []
    most: list[int] = []

    def slow(image: torch.Tensor) -> torch.Tensor:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.4)
        inside.pop()
        return echo(image)

    def one(number: int) -> Prediction:
        folder = tmp_path / str(number)
        folder.mkdir()
        return infer_case(prepared(folder), [slow], MODEL, replace(CPU, backend="torch"), folder)

    with ThreadPoolExecutor(2) as lanes:
        first, second = sorted(lanes.map(one, range(2)), key=lambda answer: answer.began)
    assert max(most) == 1
    assert second.began >= first.began + first.seconds - 0.01
    assert second.seconds < 0.8


def test_a_file_of_sums_that_was_not_finished_is_not_taken_for_logits(tmp_path):
    with pytest.raises(ZeroDivisionError), sums_in_file(tmp_path / "logits.npy", (1, 2, 2, 2), np.zeros(1)):
        raise ZeroDivisionError
    assert not (tmp_path / "logits.npy").exists()


def test_a_backend_that_the_device_does_not_have_is_refused_before_the_first_case(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UnknownSetting, match="backend 'openvino' runs on the CPU alone"):
        resolve(InferenceConfig(device="cuda", backend="openvino"))


SCAN = (24, 24, 24)


def small_gpu_answers(megabytes: float, tmp_path: Path, monkeypatch) -> Prediction:
    """What a GPU of so much memory makes of a scan, whose image alone has a twentieth of a megabyte; and checks that
    it is what the network says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    torch.manual_seed(0)
    network = UNet(NETWORK).eval()
    case = prepared(tmp_path, SCAN)
    with torch.inference_mode():
        expected = network(torch.from_numpy(np.load(case.voxels))[None])[0].argmax(0)
    config = InferenceConfig(device="cuda", precision="float32", memory_gb=1)
    with SmallGpu(megabytes):
        run = ready(network, "torch", GPU, torch.float32)
        on_cpu = ready(network, "torch", torch.device("cpu"), torch.float32)
        answer = infer_case(case, [run], MODEL, config, tmp_path, lambda: [on_cpu])
    agree = (torch.from_numpy(np.load(answer.logits)).argmax(0) == expected).float().mean()
    assert agree > 0.95  # at the seams of tiles of 8³ voxels the network sees less
    return answer


@pytest.mark.usefixtures("one_thread")
def test_a_gpu_with_memory_enough_computes_a_scan_in_one_pass(tmp_path, monkeypatch):
    answer = small_gpu_answers(64, tmp_path, monkeypatch)
    assert (answer.device, answer.fallback, answer.prepared.case.warnings) == ("cuda", "", ())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("megabytes", "device", "computed"),
    [
        (0.33, "cuda", "in smaller tiles"),
        (0.09, "cuda", "in smaller tiles, summed on the CPU"),
        (0.01, "cpu", "on the CPU"),
    ],
)
def test_a_gpu_with_less_memory_climbs_down_a_rung_at_a_time(megabytes, device, computed, tmp_path, monkeypatch):
    answer = small_gpu_answers(megabytes, tmp_path, monkeypatch)
    assert (answer.device, answer.fallback) == (device, computed)
    assert answer.prepared.case.warnings == (f"cuda ran out of memory: computed {computed}",)

"""A case runs in the way that fits into memory, and what does not fit is refused before it is tried."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.infer import InferenceConfig, infer_case, sums_in_file
from tasks.model import Model, Plan
from tasks.scan.errors import NotEnoughMemory, UnknownSetting
from tasks.scan.records import Case, Geometry, Prepared, Source
from unet import UNetConfig, memory
from unet.memory import OPENVINO_BFLOAT16, pass_bytes

SIDE = 12
NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4))
MODEL = Model(
    plan=Plan(network=NETWORK, spacing_mm=(1, 1, 1), patch=(8, 8, 8), batch_size=1), labels={1: "a"}, weights_sha256=""
)


def prepared(folder: Path) -> Prepared:
    voxels = folder / "c.image.npy"
    np.save(voxels, np.random.default_rng(0).normal(size=(1, SIDE, SIDE, SIDE)).astype(np.float32))
    shape = (SIDE, SIDE, SIDE)
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    image = Source(format="nifti", files=(folder / "c.nii",))
    return Prepared(
        case=Case(name="c", image=image, geometry=Geometry(shape=shape, affine=affine)),
        voxels=voxels,
        canonical_shape=shape,
        crop_start=(0, 0, 0),
        crop_shape=shape,
        resampled_shape=shape,
        input_sha256="",
    )


def echo(image: torch.Tensor) -> torch.Tensor:
    return torch.cat((image, 2 * image), dim=1)


def echo_in_little_memory(image: torch.Tensor) -> torch.Tensor:
    """Has no memory for more than a patch."""
    if image[0, 0].numel() > 8**3:
        raise torch.OutOfMemoryError("no memory left")
    return echo(image)


CPU = InferenceConfig(device="cpu", precision="float32")


def test_a_case_is_computed_and_its_image_is_no_longer_on_disk(tmp_path):
    case = prepared(tmp_path)
    image = np.load(case.voxels)
    prediction = infer_case(case, [echo], MODEL, CPU, tmp_path)
    assert np.array_equal(np.load(prediction.logits)[1], 2 * image[0])
    assert not case.voxels.exists()
    assert prediction.prepared.case.warnings == ()


def test_sums_on_disk_give_the_logits_that_sums_in_memory_give(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PASS_BYTES", 512 * pass_bytes(NETWORK, 1, OPENVINO_BFLOAT16))
    in_memory = np.load(infer_case(prepared(tmp_path), [echo], MODEL, CPU, tmp_path).logits)
    monkeypatch.setattr(memory, "SUMS_IN_MEMORY_BYTES", 100)
    on_disk = infer_case(prepared(tmp_path), [echo], MODEL, CPU, tmp_path).logits
    assert np.array_equal(np.load(on_disk), in_memory)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.logits.npy"]


def test_a_device_without_memory_takes_smaller_tiles_and_the_case_says_so(tmp_path):
    case = prepared(tmp_path)
    image = np.load(case.voxels)
    prediction = infer_case(case, [echo_in_little_memory], MODEL, CPU, tmp_path)
    assert np.allclose(np.load(prediction.logits)[0], image[0], rtol=1e-4, atol=1e-5)
    expected = ("cpu ran out of memory: computed in tiles of the training's patch",)
    assert prediction.prepared.case.warnings == expected


def test_a_case_that_fits_in_no_way_is_refused_with_the_numbers(tmp_path):
    tiny = InferenceConfig(device="cpu", precision="float32", memory_gb=1e-5)
    numbers = r"12 × 12 × 12 voxels .* 0\.0 GB are needed at least.* 0\.0 GB that are free"
    with pytest.raises(NotEnoughMemory, match=numbers):
        infer_case(prepared(tmp_path), [echo], MODEL, tiny, tmp_path)


def test_a_file_of_sums_that_was_not_finished_is_not_taken_for_logits(tmp_path):
    with pytest.raises(ZeroDivisionError), sums_in_file(tmp_path / "logits.npy", (1, 2, 2, 2), np.zeros(1)):
        raise ZeroDivisionError
    assert not (tmp_path / "logits.npy").exists()


def test_a_backend_that_the_device_does_not_have_is_refused_before_the_first_case(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UnknownSetting, match="backend 'openvino' runs on the CPU alone"):
        InferenceConfig(device="cuda", backend="openvino").resolved()

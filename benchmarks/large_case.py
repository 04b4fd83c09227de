"""Of the time that a large case takes, how much is the network, and is it as fast there as on one warm pass?

    python -m benchmarks.large_case [--side 192] [--maps 32] [--classes 3] [--patch 96] [--rounds 3]

A cube of noise passes through `infer_case`: read from disk, in one pass or in tiles as its size has it, logits written
to disk. Beside it the same network on one tile, warm, alone. Rounds take turns, and the medians are printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from tasks.infer import InferenceConfig, Machine
from tasks.infer.case import infer_case, plan_way
from tasks.infer.machine import ready_on, resolve
from tasks.model import Model, Plan
from tasks.scan.records import Case, Geometry, Prepared, Source
from unet import UNet, UNetConfig
from unet.backends import Network


def main() -> None:
    """Print the share of the network, and its speed beside a warm pass."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--side", type=int, default=192)
    arguments.add_argument("--maps", type=int, default=32)
    arguments.add_argument("--classes", type=int, default=3)
    arguments.add_argument("--patch", type=int, default=96)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    network = plain_network(given.maps, given.classes)
    model = model_of(network, given.patch)
    config = InferenceConfig()
    machine = resolve(config)
    run = ready_on(machine, UNet(network).eval())
    tile = plan_way("a", (given.side,) * 3, model.plan, config, machine).tile or (given.side,) * 3
    shares, speeds = [], []
    if machine.backend == "openvino":  # as in a night: torch's threads would keep cores from OpenVINO's
        torch.set_num_threads(1)
    warm_pass(run, tile)
    for _ in range(given.rounds):
        whole, inside, voxels = case(run, model, config, given.side)
        shares.append(inside / whole)
        speeds.append((voxels / inside) / (float(np.prod(tile)) / warm_pass(run, tile)))
    print(f"{given.side}³ voxels in tiles of {tile}, {describe(machine)}")
    print(f"in the network: {median(shares):.0%} of the time; as fast as a warm pass: {median(speeds):.0%}")


def plain_network(maps: int, classes: int) -> UNetConfig:
    """Four levels of `maps` and twice as many each time, in 3-D."""
    return UNetConfig(
        dimensions=3,
        out_channels=classes,
        features=tuple(maps * 2**level for level in range(4)),
        upsampling="transposed",
        normalisation="batch",
    )


def model_of(network: UNetConfig, patch: int, spacing_mm: float = 1.0) -> Model:
    """A model with a network like that, which has learnt nothing, and labels for all of its classes."""
    plan = Plan(network=network, spacing_mm=(spacing_mm,) * 3, patch=(patch,) * 3, batch_size=1)
    return Model(plan=plan, labels={k: f"label {k}" for k in range(1, network.out_channels)}, weights_sha256="")


def describe(machine: Machine) -> str:
    return f"{machine.backend} {machine.precision} on {machine.device}"


def warm_pass(run: Network, tile: tuple[int, ...]) -> float:
    """Seconds of the second of two passes."""
    image = torch.randn(1, 1, *tile)
    run(image)
    start = time.perf_counter()
    run(image)
    return time.perf_counter() - start


def case(run: Network, model: Model, config: InferenceConfig, side: int) -> tuple[float, float, float]:
    """Seconds of the case, seconds in the network, and voxels that passed through it."""
    inside = {"seconds": 0.0, "voxels": 0.0}

    def timed(image: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        logits = run(image)
        inside["seconds"] += time.perf_counter() - start
        inside["voxels"] += image[0, 0].numel()
        return logits

    with tempfile.TemporaryDirectory() as folder:
        prepared = noise(Path(folder), side)
        start = time.perf_counter()
        infer_case(prepared, [timed], model, config, Path(folder))
        return time.perf_counter() - start, inside["seconds"], inside["voxels"]


def noise(folder: Path, side: int) -> Prepared:
    """A prepared case of `side`³ voxels."""
    shape = (side, side, side)
    affine = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    image = Source(format="nifti", files=(folder / "a.nii",))
    return Prepared(
        case=Case(name="a", image=image, geometry=Geometry(shape=shape, affine=affine)),
        voxels=folder / "a.npy",
        canonical_shape=shape,
        crop_start=(0, 0, 0),
        crop_shape=shape,
        resampled_shape=shape,
        input_sha256="",
    )


if __name__ == "__main__":
    main()

"""What a pass over an image, and a case, needs in memory: measured, beside what was forecast.

    python -m benchmarks.memory [--backend openvino torch] [--precision bfloat16 float32] [--sides 64 96 128]

Each row is a process of its own: by how much its largest resident set exceeded the one before the pass. A case is a
cube that is too large for one pass: read from its file, in tiles, its sums in memory (3 classes) or on disk (25).
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from itertools import product
from pathlib import Path

import torch

from benchmarks.large_case import model_of, noise, plain_network
from benchmarks.peak import measured
from tasks.infer import InferenceConfig, Machine
from tasks.infer.case import infer_case, plan_way
from tasks.infer.machine import appetite_of, ready_on
from unet import UNet, UNetConfig
from unet.memory import pass_bytes

NNUNET = {"upsampling": "transposed", "normalisation": "instance", "activation": "leaky", "downsampling": "strided"}
NETWORKS = {
    "16 maps, 3 classes": plain_network(16, 3),
    "32 maps, 3 classes": plain_network(32, 3),
    "16 maps, 117 classes": plain_network(16, 117),
    "32 maps, 25 classes": UNetConfig(
        dimensions=3, out_channels=25, features=(32, 64, 128, 256, 320), upsampling="transposed", normalisation="batch"
    ),
    "nnU-Net's plain": UNetConfig(dimensions=3, out_channels=3, features=(32, 64, 128, 256, 320), **NNUNET),
    "nnU-Net's residual": UNetConfig(
        dimensions=3,
        out_channels=3,
        features=(32, 64, 128, 256, 320),
        encoder="residual",
        convolutions=(1, 3, 4, 6, 6),
        decoder_convolutions=(1, 1, 1, 1),
        **NNUNET,
    ),
}
CASES = {
    "case of 3 classes": (plain_network(16, 3), 204),
    "case of 25 classes": (plain_network(16, 25), 180),
}


def main() -> None:
    """Print one line a row, and the largest error."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--backend", nargs="+", default=("openvino", "torch"))
    arguments.add_argument("--precision", nargs="+", default=("bfloat16", "float32"))
    arguments.add_argument("--sides", type=int, nargs="+", default=(64, 96, 128))
    given = arguments.parse_args()
    worst = 0.0
    print(f"{'':<20}{'':<24}{'side':>6}{'forecast MB':>13}{'measured MB':>13}{'error':>8}", flush=True)
    for backend, precision in product(given.backend, given.precision):
        machine = Machine(device="cpu", precision=precision, backend=backend)
        rows = [(name, side, config, one_pass) for name, config in NETWORKS.items() for side in given.sides]
        rows += [(name, side, config, one_case) for name, (config, side) in CASES.items()]
        for name, side, config, work in rows:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                forecast, found = pool.apply(work, (config, side, machine))
            error = forecast / found - 1
            worst = max(worst, abs(error))
            kind = f"{backend} {precision}"
            print(f"{kind:<20}{name:<24}{side:>6}{forecast:>13.0f}{found:>13.0f}{error:>8.0%}", flush=True)
    print(f"largest error: {worst:.0%}")


def one_pass(config: UNetConfig, side: int, machine: Machine) -> tuple[float, float]:
    """Megabytes that a pass over a cube is forecast to add to the process, and that it does."""
    run = ready_on(machine, UNet(config).eval())
    run(torch.zeros(1, 1, 32, 32, 32))
    _, found, _ = measured(run, torch.randn(1, 1, side, side, side))
    return pass_bytes(config, side**3, appetite_of(machine)) / 2**20, found


def one_case(config: UNetConfig, side: int, machine: Machine) -> tuple[float, float]:
    """The same of a cube that passes in tiles, from its file on."""
    model = model_of(config, patch=64)
    settings = InferenceConfig(
        device="cpu",
        backend=machine.backend,
        precision=machine.precision,
    )
    run = ready_on(machine, UNet(config).eval())
    way = plan_way("a", (side, side, side), model.plan, settings, machine)
    with tempfile.TemporaryDirectory() as folder:
        prepared = noise(Path(folder), side)
        run(torch.zeros(1, 1, 32, 32, 32))
        _, found, _ = measured(infer_case, prepared, [run], model, settings, Path(folder))
    return way.needed_bytes / 2**20, found


if __name__ == "__main__":
    main()

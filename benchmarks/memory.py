"""What a pass over an image needs in memory, measured beside what was forecast: `python -m benchmarks.memory`.

Each row is a process of its own; what its largest resident set grew by in one pass, after a small one.
"""

from __future__ import annotations

import multiprocessing
import resource
from itertools import product

import torch

from tasks.infer import Machine
from unet import UNet, UNetConfig
from unet.backends import ready
from unet.memory import pass_bytes

BACKENDS = (("openvino", "bfloat16"), ("openvino", "float32"), ("torch", "bfloat16"), ("torch", "float32"))
NETWORKS = (((16, 32, 64, 128), 3), ((32, 64, 128, 256), 3), ((32, 64, 128, 256, 320), 25))
SIDES = (64, 96, 128)


def main() -> None:
    """Print one line a case, and the largest error."""
    worst = 0.0
    print(f"{'':<22}{'maps':>6}{'classes':>9}{'side':>6}{'forecast MB':>13}{'measured MB':>13}{'error':>8}")
    for (backend, precision), (features, classes), side in product(BACKENDS, NETWORKS, SIDES):
        config = UNetConfig(
            dimensions=3, out_channels=classes, features=features, upsampling="transposed", normalisation="batch"
        )
        machine = Machine(device=torch.device("cpu"), precision=getattr(torch, precision), backend=backend)
        forecast = pass_bytes(config, side**3, machine.width) / 2**20
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(grown_mb, (config, side, backend, precision))
        error = forecast / measured - 1
        worst = max(worst, abs(error))
        name = f"{backend} {precision}"
        print(f"{name:<22}{features[0]:>6}{classes:>9}{side:>6}{forecast:>13.0f}{measured:>13.0f}{error:>8.0%}")
    print(f"largest error: {worst:.0%}")


def grown_mb(config: UNetConfig, side: int, backend: str, precision: str) -> float:
    """Megabytes that a pass over an image of `side`³ voxels adds to the process."""
    run = ready(UNet(config).eval(), backend, torch.device("cpu"), getattr(torch, precision))
    small, image = torch.zeros(1, 1, 16, 16, 16), torch.zeros(1, 1, side, side, side)
    run(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(image)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    main()

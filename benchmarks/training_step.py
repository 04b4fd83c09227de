"""Seconds of one training step, ours beside nnU-Net's and MONAI's, of one network, in one run.

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0 nnunetv2==2.8.1 monai==1.6.1
    python -m benchmarks.training_step --peers peers/bin/python

The network is the same object in all three: our 3-D U-Net of 16 to 128 maps, batch normalisation, 4 patches of
40 × 56 × 40 voxels. A step is what each does by its own defaults on this machine: draw the patches from volumes in
memory, augment them, forward, loss, backward, optimiser; in one process, without workers beside it. Rounds alternate;
the table has medians, of the whole step and of drawing its patches, and the ratios of each peer to ours.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from unet import UNet, UNetConfig

PATCH, BATCH, WARM_UP, STEPS = (40, 56, 40), 4, 2, 8
Batch = tuple[torch.Tensor, torch.Tensor]
Step = tuple[Callable[[], Batch], Callable[[Batch], None]]
"""How a contestant draws a batch, and what it does with one."""


def main() -> None:
    """Print the table, or, with --one, the seconds of drawing and of each whole step of one contestant as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peers", default=None, help="python of an environment with nnunetv2 and monai")
    arguments.add_argument("--rounds", type=int, default=3, help="times that each is measured (default: 3)")
    arguments.add_argument("--one", choices=("ours", "nnunet", "monai"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(measure(importlib.import_module(f"benchmarks.training_step_{given.one}").step())))
        return
    contestants = {"ours": sys.executable}
    if given.peers:
        contestants |= {"nnunet": given.peers, "monai": given.peers}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, python in contestants.items():
            command = [python, "-m", "benchmarks.training_step", "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[name] += json.loads(done.stdout.splitlines()[-1])
    ours = [median(part) for part in zip(*seconds["ours"], strict=True)]
    print(f"{'':<8}{'drawing, s':>12}{'ratio to ours':>16}{'whole step, s':>16}{'ratio to ours':>16}")
    for name, of_steps in seconds.items():
        drawing, whole = (median(part) for part in zip(*of_steps, strict=True))
        print(f"{name:<8}{drawing:>12.3f}{drawing / ours[0]:>16.2f}{whole:>16.3f}{whole / ours[1]:>16.2f}")
    if not given.peers:
        print("nnU-Net and MONAI are left out: name the python of their environment with --peers")


def optimise(net: UNet, optimiser: torch.optim.Optimizer, value: torch.Tensor) -> None:
    """What both peers do with the loss of a batch: backward, gradients clipped to a norm of 12, one update."""
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
    optimiser.step()


def measure(step: Step) -> list[tuple[float, float]]:
    """Seconds of drawing a batch, and of the whole step, for 8 steps after 2 that do not count."""
    draw, learn = step
    seconds = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        batch = draw()
        drawn = time.perf_counter()
        learn(batch)
        seconds.append((drawn - start, time.perf_counter() - start))
    return seconds[WARM_UP:]


def network() -> UNet:
    """The network that all train."""
    torch.manual_seed(0)
    config = UNetConfig(
        dimensions=3, out_channels=3, features=(16, 32, 64, 128), upsampling="transposed", normalisation="batch"
    )
    return UNet(config).train()


def volume() -> tuple[torch.Tensor, torch.Tensor]:
    """An image (1, X, Y, Z) and labels (X, Y, Z), a little larger than a patch, as a scan of the hippocampus is."""
    random = torch.Generator().manual_seed(0)
    labels = torch.zeros(44, 60, 44, dtype=torch.uint8)
    labels[10:30, 10:30, 10:30], labels[10:30, 30:50, 10:30] = 1, 2
    return torch.randn(1, *labels.shape, generator=random) + labels, labels


if __name__ == "__main__":
    main()

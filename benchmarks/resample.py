"""Resampling by this program, by scipy, and by nnU-Net (scikit-image), in one run: differences, seconds and memory.

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    python -m benchmarks.resample --peers peers/bin/python [--side 200] [--factor 2] [--threads 1]

Three tasks: an image of side³ voxels to `factor` times as many along each axis, by a cubic spline; the same of thick
slices, by nnU-Net's rule; a map of 24 labels, one by one. Each row is a process of its own; memory is what its largest
resident set grew by over the input. The first row of a task is ours, and the difference is the largest of any voxel to
it, where the image has a standard deviation of 1 (of labels: how many voxels differ). `in blocks` is ours, block by
block of an odd size, as processes that share an image would compute it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, zoom

from benchmarks.peak import measured
from tasks.scan.resample import resample_block, resample_image, resample_labels, value_limits

LABELS, BLOCK = 24, 101


def main() -> None:
    """Print a line for each task and way."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--side", type=int, default=200)
    arguments.add_argument("--factor", type=float, default=2.0)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--peers", help="python of an environment with nnunetv2")
    given = arguments.parse_args()
    small = tuple(given.side - offset for offset in (0, 7, 3))  # unequal sides, so that no axis stands for another
    thin = (*small[:2], small[2] // 5)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for task, shape, ways in (
            ("image", small, (ours, in_blocks, by_scipy)),
            ("thick", thin, (ours_thick, in_blocks_thick)),
            ("labels", thin, (ours_labels,)),
        ):
            np.save(work / f"{task}.npy", label_map(shape) if task == "labels" else image(shape))
            wanted = tuple(round(length * given.factor) for length in shape)
            compare(task, wanted, ways, work, given)


def compare(
    task: str,
    wanted: tuple[int, ...],
    ways: tuple[Callable[..., np.ndarray], ...],
    work: Path,
    given: argparse.Namespace,
) -> None:
    """One line for each way to do `task`."""
    rows = {}
    for way in ways:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows[way.__name__] = pool.apply(measure, (way, work / f"{task}.npy", wanted, given.threads))
    if given.peers:
        done = work / "peer.npy"
        command = [given.peers, "-m", "benchmarks.resample_peer", task, work / f"{task}.npy", done, *map(str, wanted)]
        said = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if said.returncode:
            sys.exit(said.stderr[-3000:])
        rows["nnU-Net"] = (*json.loads(said.stdout.splitlines()[-1]), np.load(done))
    first = next(iter(rows.values()))
    print(f"{task} to {' × '.join(map(str, wanted))}", flush=True)
    for name, (seconds, megabytes, result) in rows.items():
        apart = np.count_nonzero(result != first[2]) if task == "labels" else np.abs(result - first[2]).max()
        times = f"{seconds / first[0]:.1f} times as long, {megabytes / first[1]:.1f} times as much"
        print(f"  {name:<16}{seconds:>8.2f} s {megabytes:>8.0f} MB   difference {apart:<9.2g} {times}", flush=True)


def measure(
    way: Callable[..., np.ndarray], file: Path, wanted: tuple[int, ...], threads: int
) -> tuple[float, float, np.ndarray]:
    """Seconds, megabytes above the input, and result."""
    torch.set_num_threads(threads)
    volume = np.load(file)
    way(
        volume[:8, :8, :8], tuple(8 * new // old for new, old in zip(wanted, volume.shape, strict=True))
    )  # what is loaded late
    return measured(way, volume, wanted)


def ours(volume, wanted):
    return resample_image(volume, wanted, None)


def in_blocks(volume, wanted, thick=None):
    result, limits = np.empty(wanted, np.float32), value_limits(volume, thick)
    for starts in product(*(range(0, length, BLOCK) for length in wanted)):
        block = tuple(slice(start, min(start + BLOCK, length)) for start, length in zip(starts, wanted, strict=True))
        result[block] = resample_block(volume, wanted, thick, block, limits)
    return result


def by_scipy(volume, wanted):
    factors = [new / old for new, old in zip(wanted, volume.shape, strict=True)]
    result = zoom(volume, factors, order=3, mode="nearest", grid_mode=True)
    return np.clip(result, volume.min(), volume.max(), out=result)


def ours_thick(volume, wanted):
    return resample_image(volume, wanted, 2)


def in_blocks_thick(volume, wanted):
    return in_blocks(volume, wanted, 2)


def ours_labels(volume, wanted):
    return resample_labels(volume, wanted)


def image(shape):
    """Structures of a few voxels, and noise; mean 0, standard deviation 1."""
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    smooth = gaussian_filter(noise, 3)
    whole = smooth / smooth.std() + 0.2 * noise
    return (whole - whole.mean()) / whole.std()


def label_map(shape):
    """`LABELS` balls, some on others."""
    random, labels = np.random.default_rng(0), np.zeros(shape, np.uint16)
    places = np.ogrid[tuple(slice(0, length) for length in shape)]
    for value in range(1, LABELS + 1):
        centre = [random.uniform(0, length) for length in shape]
        radii = [max(2, 0.15 * length) for length in shape]
        ball = sum(((place - c) / r) ** 2 for place, c, r in zip(places, centre, radii, strict=True)) < 1
        labels[ball] = value
    return labels


if __name__ == "__main__":
    main()

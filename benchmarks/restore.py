"""Seconds and memory of the way back for many classes, beside the argmax over all of them at full size, in one run.

    python -m benchmarks.restore [--classes 24] [--shape 100 120 120] [--onto 200 240 240] [--threads 1]

The logits are those of round structures in a volume, as blurred as a network's. Memory is what the process's largest
resident set grew by over the logits in memory. Prints whether both label maps are bit for bit the same.
"""

from __future__ import annotations

import argparse
import multiprocessing

import numpy as np
import torch

from benchmarks.peak import measured
from tasks.scan import restore


def main() -> None:
    """Print one line for each way."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--classes", type=int, default=24)
    arguments.add_argument("--shape", type=int, nargs=3, default=(100, 120, 120))
    arguments.add_argument("--onto", type=int, nargs=3, default=(200, 240, 240))
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    found = {}
    for way in (in_little_memory, at_full_size):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, megabytes, found[way.__name__] = pool.apply(measure, (way, given))
        print(f"{way.__name__:<18}{seconds:>8.2f} s {megabytes:>8.0f} MB")
    print("bit for bit the same:", np.array_equal(*found.values()))


def measure(way, given):
    """Seconds, megabytes above the input, and labels."""
    torch.set_num_threads(given.threads)
    logits = structures(given.classes, tuple(given.shape))
    return measured(way, logits, tuple(given.onto))


def in_little_memory(logits, shape):
    return restore.restore_labels(logits, shape)


def at_full_size(logits, shape):
    axes = [restore._axis(n, length) for n, length in zip(logits.shape[1:], shape, strict=True)]
    whole = tuple(slice(0, length) for length in shape)
    return (
        torch.stack([restore.interpolate(volume, axes, whole) for volume in logits]).argmax(0).numpy().astype(np.uint8)
    )


def structures(classes, shape):
    """Logits (K, X, Y, Z), float32: background, and balls at random places."""
    random = np.random.default_rng(0)
    logits = np.empty((classes, *shape), np.float32)
    logits[0] = 2
    places = np.ogrid[tuple(slice(0, length) for length in shape)]
    for value in range(1, classes):
        centre, radius = [random.uniform(0.2, 0.8) * length for length in shape], random.uniform(5, 20)
        distance = np.sqrt(sum((place - middle) ** 2 for place, middle in zip(places, centre, strict=True)))
        logits[value] = np.clip((radius - distance) * 2, -8, 8)
        logits[value] += random.normal(0, 0.3, shape)
    return logits


if __name__ == "__main__":
    main()

"""nnU-Net 2.8.1's own resampling, for `benchmarks/resample.py`: TASK IN.npy OUT.npy SHAPE…

Prints seconds and megabytes above the input. Needs nothing of ours.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg

from benchmarks.peak import measured

RULES = {
    "image": {"order": 3},
    "thick": {"order": 3, "axis": 2, "do_separate_z": True, "order_z": 0},
    "labels": {"is_seg": True, "order": 1},
}


def main() -> None:
    """Write the result of the task."""
    task, source, target, *shape = sys.argv[1:]
    wanted, volume = tuple(map(int, shape)), np.load(source)
    resample_data_or_seg(volume[None, :8, :8, :8], (12, 12, 12), **RULES[task])  # what is loaded late
    seconds, megabytes, result = measured(lambda: resample_data_or_seg(volume[None], wanted, **RULES[task]))
    np.save(target, result[0])
    print(json.dumps([seconds, megabytes]))


if __name__ == "__main__":
    main()

"""How long the metrics of a whole-brain label map take, beside DeepMind's surface-distance and MONAI, on one core.

python benchmarks/metrics.py [--labels FILE] [--shift 2 1 1] [--peers PYTHON]

FILE is a label map, compared with itself shifted by so many voxels; without it, the 116 regions of the AAL atlas as
Debian has them (apt-get install mricron-data). surface-distance comes with the development environment; MONAI is best
kept in an environment of its own, whose Python is then given as PYTHON. A peer that neither has is left out.

    python3.11 -m venv peers && peers/bin/pip install monai && python benchmarks/metrics.py --peers peers/bin/python
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

from tasks.evaluate.metrics import measure

ATLAS = Path("/usr/share/mricron/templates/aal.nii.gz")
TOLERANCE_MM = 1.0
ROUNDS = 3
COLUMNS = {"ours": "all metrics", "surface_distance": "HD95 and NSD", "monai": "HD95"}


def main():
    arguments = parse()
    if not arguments.labels.is_file():
        sys.exit(f"'{arguments.labels}' is not there: apt-get install mricron-data, or name a label map: --labels FILE")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    image = nibabel.Nifti1Image.from_filename(arguments.labels)
    reference = np.ascontiguousarray(np.asarray(image.dataobj).astype(np.uint16))
    prediction = np.roll(reference, arguments.shift, (0, 1, 2))
    spacing_mm = tuple(float(length) for length in image.header.get_zooms()[:3])
    values = [int(value) for value in np.unique(reference) if value]
    print(f"{len(values)} labels, {reference.shape} voxels, shifted by {arguments.shift}; seconds on one core")
    with tempfile.TemporaryDirectory() as folder:
        maps = Path(folder) / "maps.npz"
        named = {"values": values, "spacing_mm": spacing_mm, "tolerance_mm": TOLERANCE_MM}
        np.savez(maps, reference=reference, prediction=prediction, **named)
        rounds = [one_round(reference, prediction, values, spacing_mm, (maps, arguments.peers)) for _ in range(ROUNDS)]
    show(rounds)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, default=ATLAS)
    parser.add_argument("--shift", type=int, nargs=3, default=(2, 1, 1))
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    return parser.parse_args()


def one_round(reference, prediction, values, spacing_mm, peers):
    """Everybody once, one after the other, so that a busy machine is busy for all."""
    start = time.perf_counter()
    measured = measure(reference, prediction, spacing_mm, dict.fromkeys(values, TOLERANCE_MM))
    seconds = time.perf_counter() - start
    surfaces = [measured[value].surface for value in values]
    found = {"hd95_mm": [one.hd95_mm for one in surfaces], "nsd": [one.nsd for one in surfaces]}
    return {"ours": {"seconds": seconds, **found}} | {name: ask(name, *peers) for name in ("surface_distance", "monai")}


def ask(name, maps, python):
    """What the peer found, or None where it is not installed."""
    for interpreter in dict.fromkeys((python, sys.executable)):
        command = [interpreter, Path(__file__).with_name("peers.py"), name, maps]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if done.returncode != 3:
            sys.exit(done.stderr)
    return None


def show(rounds):
    ours = rounds[0]["ours"]
    print(f"{'':<18}{'computes':<14}{'median':>8}{'rounds':>24}   largest difference from ours")
    for name, computes in COLUMNS.items():
        if rounds[0][name] is None:
            print(f"{name:<18}not installed: see --help")
            continue
        times = [one[name]["seconds"] for one in rounds]
        apart = {
            metric: np.abs(np.subtract(ours[metric], rounds[0][name][metric])).max()
            for metric in ("hd95_mm", "nsd")
            if metric in rounds[0][name]
        }
        differs = "" if name == "ours" else ", ".join(f"{metric} {value:.2g}" for metric, value in apart.items())
        each = " ".join(f"{seconds:.2f}" for seconds in times)
        print(f"{name:<18}{computes:<14}{statistics.median(times):>8.2f}{each:>24}   {differs}")
    print("The HD95 of surface-distance is between surfels, weighted by area: another definition, see docs/metrics.md.")


if __name__ == "__main__":
    main()

"""A model of nnU-Net, run by nnU-Net's own predictor and by this program: are the masks the same?

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    segment-cohort up
    python -m benchmarks.nnunet_model FOLDER SCANS --peers peers/bin/python [--cases 8] [--mirror]

FOLDER is what nnU-Net's training wrote (`nnUNetTrainer__nnUNetPlans__3d_fullres`), SCANS a folder of NIfTI files.
Prints for each label the smallest Dice between the two masks of a case, and how many voxels differ in all: of one kind
with `--backend` and `--precision`, else of float32 through both backends. Seconds are of the whole process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

from tasks.model.folder import read_model


def main() -> None:
    """Print one line for each way to run ours."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("scans", type=Path)
    arguments.add_argument("--peers", required=True, help="python of an environment with nnunetv2")
    arguments.add_argument("--cases", type=int, default=8)
    arguments.add_argument("--mirror", action="store_true")
    arguments.add_argument("--backend", choices=("torch", "openvino"), action="append")
    arguments.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = arguments.parse_args()
    labels = read_model(given.folder).labels
    files = sorted(given.scans.glob("[!.]*.nii.gz"))[: given.cases]
    names = [file.name.removesuffix(".nii.gz").removesuffix("_0000") for file in files]
    mirror = ["--mirror"] if given.mirror else []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cohort = work / "cohort.csv"
        lines = [f"{name},{file.resolve()}" for name, file in zip(names, files, strict=True)]
        cohort.write_text("case,image\n" + "\n".join(lines) + "\n")
        theirs = work / "nnunet"
        peer = [given.peers, "-m", "benchmarks.nnunet_model_peer", cohort, given.folder.resolve(), theirs, *mirror]
        print(f"{len(names)} scans; nnU-Net {run(peer):.1f} s", flush=True)
        for backend in given.backend or ("torch", "openvino"):
            ours = work / backend
            program = Path(sys.executable).with_name("segment-cohort")
            command = [program, "run", cohort, "--model", given.folder, "--output", ours, *mirror]
            seconds = run([*command, "--backend", backend, "--precision", given.precision])
            found = compared(names, theirs, ours / "segmentations", labels)
            print(f"{backend} {given.precision} {seconds:.1f} s: {found}")


def run(command: list[object]) -> float:
    """Seconds of `command`; ends this program, with what it said, when it fails."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - start


def compared(names: list[str], theirs: Path, ours: Path, labels: dict[int, str]) -> str:
    """The smallest Dice of each label between the masks in two folders, and the number of voxels that differ."""
    smallest, differing, voxels = dict.fromkeys(labels, 1.0), 0, 0
    for name in names:
        one, other = (np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj) for folder in (theirs, ours))
        differing += int(np.count_nonzero(one != other))
        voxels += int(np.count_nonzero(one))
        for label in labels:
            size = np.count_nonzero(one == label) + np.count_nonzero(other == label)
            both = np.count_nonzero((one == label) & (other == label))
            smallest[label] = min(smallest[label], 2 * both / size if size else 1.0)
    worst = ", ".join(f"{labels[label]} {dice:.5f}" for label, dice in smallest.items())
    return f"smallest Dice {worst}; {differing} voxels differ, of {voxels} that nnU-Net labelled"


if __name__ == "__main__":
    main()

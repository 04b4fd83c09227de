"""How evaluation scales from one process to two: `python benchmarks/scaling.py [--cases 24]`.

The cases are the 116 regions of the AAL atlas (apt-get install mricron-data; or --labels FILE) against a shifted copy,
read from NIfTI files as a night reads them. Each round measures both, in turn, in a pool that is warm.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

from tasks.evaluate import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.pool import PoolConfig, map_cases, open_pool
from tasks.report.tables import write_metrics
from tasks.scan.geometry import as_affine
from tasks.scan.records import Case, Geometry, Outcome, Segmentation, Source

ATLAS = Path("/usr/share/mricron/templates/aal.nii.gz")
ROUNDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, default=ATLAS)
    parser.add_argument("--cases", type=int, default=24)
    arguments = parser.parse_args()
    if not arguments.labels.is_file():
        sys.exit(f"'{arguments.labels}' is not there: apt-get install mricron-data, or name a label map: --labels FILE")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases, labels = make_cases(arguments.labels, arguments.cases, folder)
        print(f"{len(cases)} cases of {len(labels)} labels on {os.cpu_count()} cores; seconds")
        seconds, tables = {1: [], 2: []}, {}
        for _ in range(ROUNDS):
            for workers, times in seconds.items():
                with open_pool(PoolConfig(workers=workers)) as pool:
                    evaluated(pool, cases[: 2 * workers], labels, folder)
                    taken, tables[workers] = evaluated(pool, cases, labels, folder)
                times.append(taken)
    for workers, times in seconds.items():
        print(f"{workers} process{'es' * (workers > 1):<3}" + "".join(f"{one:8.2f}" for one in times))
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(f"speed-up: {statistics.median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})")
    print(f"the same bytes: {tables[1] == tables[2]}")


def evaluated(pool, cases, labels, folder):
    """Seconds for all cases in the pool, and the table."""
    start = time.perf_counter()
    scored = map_cases(pool, "evaluate", evaluate_case, cases, labels, EvaluationConfig())
    seconds = time.perf_counter() - start
    write_metrics(scored, labels, folder / "metrics.csv")
    return seconds, (folder / "metrics.csv").read_bytes()


def make_cases(path, count, folder):
    """`count` cases with the same reference and the same mask; the labels of the atlas, named by their numbers."""
    image = nibabel.Nifti1Image.from_filename(path)
    reference = np.asarray(image.dataobj).astype(np.uint16)
    labels = {int(value): str(value) for value in np.unique(reference) if value}
    files = folder / "reference.nii.gz", folder / "mask.nii.gz"
    for file, voxels in zip(files, (reference, np.roll(reference, (2, 1, 1), (0, 1, 2))), strict=True):
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine), file)
    truth, mask = (Source(format="nifti", files=(file,)) for file in files)
    geometry = Geometry(shape=reference.shape, affine=as_affine(image.affine))
    cases = [Case(name=f"c{i:03d}", image=mask, geometry=geometry, reference=truth) for i in range(count)]
    return [Outcome(name=case.name, case=case, value=segmentation(case)) for case in cases], labels


def segmentation(case):
    return Segmentation(case=case, mask=case.image.files[0], mask_sha256="", input_sha256="", volumes_ml={})


if __name__ == "__main__":
    main()

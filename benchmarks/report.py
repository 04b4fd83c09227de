"""How large the page of a large night is, and how long a case takes: `python -m benchmarks.report [--cases 500]`.

Every case is a simulated head of 160 × 192 × 160 voxels at 1 mm (or --side) with so many labels, a reference, and a
mask that is off by a voxel; read from compressed NIfTI files as a night reads them. Goals: 3 MB beside the pictures,
and 0.2 s a case for tables, pictures and page together.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from tasks.evaluate.config import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.pool import PoolConfig, map_cases, open_pool
from tasks.report.page import Beside, write_page
from tasks.report.pictures import draw_pictures
from tasks.report.tables import write_tables
from tasks.report.trends import add_night
from tasks.scan.geometry import as_affine
from tasks.scan.records import Case, Geometry, Outcome, Segmentation, Source

FILES = 10
"""Different scans; the cases share them, each under its own name."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--labels", type=int, default=4)
    parser.add_argument("--side", type=int, nargs=3, default=(160, 192, 160))
    arguments = parser.parse_args()
    labels = {value: f"structure {value}" for value in range(1, arguments.labels + 1)}
    with tempfile.TemporaryDirectory() as name, open_pool(PoolConfig()) as pool:
        folder = Path(name)
        scans = [
            make_scan(folder / "in" / str(number), tuple(arguments.side), number, labels) for number in range(FILES)
        ]
        scored = map_cases(pool, "evaluate", evaluate_case, scans, labels, EvaluationConfig())
        outcomes = [named(scored[number % FILES], f"case_{number:04d}") for number in range(arguments.cases)]
        report(outcomes, labels, folder / "out", pool)


def report(outcomes, labels, output, pool):
    start = time.perf_counter()
    write_tables(outcomes, labels, output)
    tables = time.perf_counter()
    pictures = draw_pictures(outcomes, output / "pictures", pool)
    drawn = time.perf_counter()
    run = {"cohort": "simulated", "finished": "2026-01-01"}
    write_page(
        outcomes, labels, run, output, Beside(pictures=pictures, nights=add_night(outcomes, labels, run, output))
    )
    written = time.perf_counter()
    sizes = [path.stat().st_size for path in (output / "pictures").iterdir()]
    print(f"{len(outcomes)} cases of {len(labels)} labels")
    print(f"page                {(output / 'report.html').stat().st_size / 1e6:8.2f} MB")
    print(f"pictures            {sum(sizes) / len(sizes) / 1e3:8.1f} kB a case, {len(sizes)} of them")
    steps = {"tables": tables - start, "pictures": drawn - tables, "page": written - drawn, "all": written - start}
    for step, seconds in steps.items():
        print(f"{step:<20}{seconds / len(outcomes) * 1000:8.1f} ms a case")


def make_scan(stem, shape, seed, labels):
    """A case: smooth noise in a head, ellipsoids in a grid of places, and a mask that is shifted by a voxel."""
    random = np.random.default_rng(seed)
    index = np.indices(shape).reshape(3, -1).T / np.array(shape) - 0.5
    head = (np.linalg.norm(index, axis=1) < 0.48).reshape(shape)
    reference = np.zeros(shape, np.uint16)
    for value in labels:
        centre, radius = random.uniform(-0.25, 0.25, 3), random.uniform(0.05, 0.12)
        reference[(np.linalg.norm(index - centre, axis=1) < radius).reshape(shape)] = value
    image = (head * (400 + 60 * reference) + random.normal(0, 30, shape)).astype(np.int16)
    stem.mkdir(parents=True)
    files = [stem / f"{part}.nii.gz" for part in ("image", "reference", "mask")]
    for file, voxels in zip(files, (image, reference, np.roll(reference, 1, 0)), strict=True):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)
    scan, truth, mask = (Source(format="nifti", files=(file,)) for file in files)
    geometry = Geometry(shape=shape, affine=as_affine(np.eye(4)))
    case = Case(name=stem.name, image=scan, geometry=geometry, reference=truth)
    volumes = {value: float((reference == value).sum()) / 1000 for value in labels}
    segmentation = Segmentation(
        case=case, mask=mask.files[0], mask_sha256="b" * 64, input_sha256="a" * 64, volumes_ml=volumes
    )
    return Outcome(name=case.name, case=case, value=segmentation)


def named(outcome, name):
    """The same scores under another name."""
    case = replace(outcome.case, name=name)
    segmentation = replace(outcome.value.segmentation, case=case)
    return replace(outcome, name=name, case=case, value=replace(outcome.value, segmentation=segmentation))


if __name__ == "__main__":
    main()

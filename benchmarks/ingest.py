"""How long it takes to look at a cohort of 10,000 small files, the first time and again when nothing has changed.

    python -m benchmarks.ingest [--files 10000] [--workers 2] [--folder DIR]

Half of the files are NIfTI scans, half slices of DICOM series of 50. Prints seconds and files a second.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tasks.ingest import IngestConfig
from tasks.ingest.ingest import find_cases
from tasks.pool import PoolConfig, open_pool
from tests.phantoms import affine, box, picture, write_dicom_series, write_nifti

SLICES = 50


def make_cohort(folder: Path, files: int) -> None:
    """`files` small files in `folder`: scans of 8 × 8 × 8 voxels, and series of 50 slices of 8 × 8."""
    scan = write_nifti(folder / "nifti" / "scan-00000.nii.gz", picture(box((8, 8, 8), (1, 1, 1), (5, 5, 5))))
    for number in range(1, files // 2):
        shutil.copyfile(scan, scan.with_name(f"scan-{number:05d}.nii.gz"))
    shape = (8, 8, SLICES)
    for number in range(files // 2 // SLICES):
        voxels = picture(box(shape, (1, 1, 1), (5, 5, 5)))
        write_dicom_series(folder / "dicom" / f"series-{number:04d}", voxels, affine((1, 1, 2)), str(number))


def main() -> None:
    arguments = _arguments()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="ingest-"))
    cohort = folder / "cohort"
    if not cohort.exists():
        make_cohort(cohort, arguments.files)
    with open_pool(PoolConfig(workers=arguments.workers)) as pool:
        for title in ("first look", "second look, nothing changed"):
            start = time.perf_counter()
            intake = find_cases(cohort, None, None, IngestConfig(), pool, folder / "state")
            seconds = time.perf_counter() - start
            good = sum(outcome.problem is None for outcome in intake.cases)
            print(f"{title}: {seconds:.1f} s, {arguments.files / seconds:.0f} files/s, {good} cases without a problem")
    if not arguments.folder:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=0, help="0: one for each core")
    parser.add_argument("--folder", help="keep cohort and memory here; default: a temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Seeded damage to valid scans: whatever becomes of a file, it is read right or refused by name.

    python -m benchmarks.fuzz [--files 2000] [--seed 0] [--workers 2]

Each file is a scan of `bases` with bytes flipped, cut off, swapped or overwritten. It goes through discovery, its
header's checks and its voxels in the pool's processes. Prints how many were refused for which reason, and every file
that was read with another geometry than the unharmed one's and without a warning, unless nibabel or SimpleITK reads
that geometry from the harmed file, too: a header without a checksum can be changed into another valid one.
Exit code 1 if there is such a file, or an error without a name, or a process that died.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.pool import MANY, PoolConfig, map_cases, open_pool
from tasks.scan.errors import CaseError
from tasks.scan.geometry import grid_distance_mm
from tasks.scan.records import Geometry, Outcome
from tasks.scan.volume import read_voxels
from tests.phantoms import oblique_affine, picture, sphere, write_dicom_series, write_nifti

SHAPE = (12, 10, 8)
CLOSE_MM = 1.0
"""Corners that moved less are not a wrong geometry: what readers of NIfTI allow sform and qform to differ by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What became of one case of a harmed file: its geometry, or the reason why it was refused."""

    reason: str = ""
    geometry: Geometry | None = None
    warned: bool = False


def write_bases(folder: Path) -> list[Path]:
    """Unharmed scans in a folder each, of every format, with voxels that hardly compress."""
    voxels, grid = picture(sphere(SHAPE, (6, 5, 4), 3.5)), oblique_affine((1, 1.5, 2))
    for name in ("a.nii", "b.nii.gz", "c.hdr"):
        image = nibabel.load(write_nifti(folder / name[0] / name.replace(".hdr", ".nii"), voxels, grid))
        if name == "c.hdr":
            nibabel.save(nibabel.Nifti1Pair(image.get_fdata().astype(np.int16), grid), folder / "c" / name)
            (folder / "c" / "c.nii").unlink()
    for name, packed in (("d.nrrd", False), ("e.nrrd", True), ("f.mha", False), ("g.mha", True)):
        itk = SimpleITK.GetImageFromArray(voxels.T)
        itk.SetSpacing((1.0, 1.5, 2.0))
        (folder / name[0]).mkdir(parents=True)
        SimpleITK.WriteImage(itk, folder / name[0] / name, packed)
    write_dicom_series(folder / "h", voxels, grid)
    return sorted(folder.iterdir())


def harm(content: bytes, random: np.random.Generator) -> bytes:
    """`content` with one of five kinds of damage, as often in its first KB, where headers are, as anywhere."""
    data = np.frombuffer(content, np.uint8).copy()
    reach = len(data) if random.random() < 0.5 else min(len(data), 1024)
    place, other = sorted(int(value) for value in random.integers(0, reach, 2))
    length = int(random.integers(1, 64))
    match random.integers(0, 5):
        case 0:
            places = random.integers(0, reach, int(random.integers(1, 9)))
            data[places] ^= random.integers(1, 256, len(places)).astype(np.uint8)
        case 1:
            data = data[:place]
        case 2:
            data = np.concatenate([data[:place], data[other:]])
        case 3:
            length = min(length, len(data) - other)
            data[place : place + length], data[other : other + length] = (
                data[other : other + length].copy(),
                data[place : place + length].copy(),
            )
        case _:
            data[place : place + length] = random.integers(0, 256)
    return data.tobytes()


def read_folder(folder: Path) -> list[Reading]:
    """What becomes of every case in `folder`."""
    return [_read(found) for found in discover(folder, None)[0]]


def _read(found) -> Reading:
    try:
        case = ingest_case(found)
        _, geometry = read_voxels(case.image, case.name)
    except CaseError as error:
        return Reading(reason=error.reason())
    return Reading(geometry=geometry, warned=bool(case.warnings))


def independent_geometry(folder: Path) -> Geometry | None:
    """What nibabel or SimpleITK reads from the one header in `folder`; None where neither can, or for DICOM."""
    file = next((file for file in sorted(folder.iterdir()) if file.suffix != ".img"), folder)
    try:
        if file.suffix in (".nii", ".gz", ".hdr"):
            image = nibabel.load(file)
            return _geometry(image.shape[:3], image.affine)
        if file.suffix in (".nrrd", ".mha"):
            itk = SimpleITK.ReadImage(file)
            matrix = np.eye(4)
            matrix[:3, :3] = np.reshape(itk.GetDirection(), (3, 3)) * itk.GetSpacing()
            matrix[:3, 3] = itk.GetOrigin()
            return _geometry(itk.GetSize(), np.diag([-1, -1, 1, 1]) @ matrix)
    except Exception:  # noqa: BLE001 - whatever an independent reader raises, it has no opinion
        return None
    return None


def _geometry(shape, affine) -> Geometry:
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    return Geometry(shape=tuple(int(length) for length in shape), affine=rows)


def judge(readings: list[Reading], true: Geometry, folder: Path) -> str:
    """`right`, `warned` or `refused` by name, `changed` where the header now says so, or `wrong`.

    A reason or a warning anywhere in the folder speaks for all of it: a slice that left its series is a case then.
    """
    if not readings:
        return "refused: set_aside"
    refused = [reading.reason for reading in readings if reading.reason]
    if refused:
        return f"refused: {refused[0]}"
    (first, *others) = (reading.geometry for reading in readings)
    if not others and first and grid_distance_mm(first, true) <= CLOSE_MM:
        return "right"
    if any(reading.warned for reading in readings):
        return "warned"
    seen = independent_geometry(folder)
    return "changed" if seen and first and grid_distance_mm(first, seen) <= CLOSE_MM else "wrong"


def fuzz(folder: Path, files: int, seed: int, pool: str, say: Callable[[str], None] = print) -> Counter[str]:
    """How many of `files` harmed scans, made in `folder`, came to which end; `say` gets a line for each bad one."""
    random = np.random.default_rng(seed)
    bases = write_bases(folder / "bases")
    truths = {base: read_folder(base)[0].geometry for base in bases}
    cases, bases_of = [], {}
    for number in range(files):
        base = bases[number % len(bases)]
        harmed = folder / f"{number:05d}-{base.name}"
        shutil.copytree(base, harmed)
        target = sorted(harmed.iterdir())[int(random.integers(0, len(list(harmed.iterdir()))))]
        target.write_bytes(harm(target.read_bytes(), random))
        cases.append(Outcome(name=harmed.name, value=harmed))
        bases_of[harmed.name] = base
    ends: Counter[str] = Counter()
    for case, done in zip(cases, map_cases(pool, "fuzz", read_folder, cases, seconds=60.0, together=MANY), strict=True):
        if done.value is None:
            end = f"crashed: {done.problem.reason}"
            say(f"{case.name}: {done.problem.message}")
        else:
            end = judge(done.value, truths[bases_of[case.name]], case.value)
        if end == "wrong":
            say(f"{case.name}: {[reading.geometry for reading in done.value]}")
        ends[end] += 1
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="0: one for each core")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_pool(PoolConfig(workers=arguments.workers)) as pool:
        ends = fuzz(Path(folder), arguments.files, arguments.seed, pool)
    for end, count in sorted(ends.items()):
        print(f"{count:6d}  {end}")
    return int(any(end == "wrong" or end.startswith("crashed") for end in ends))


if __name__ == "__main__":
    sys.exit(main())

"""Is a DICOM SEG of ours what another reader finds in it? `python -m benchmarks.dicom_seg COHORT --peers PYTHON`.

Every DICOM series of COHORT gets a label map without symmetry, as NIfTI and as DICOM SEG; pydicom-seg reads the latter,
and each of its voxels is looked for, by its place in the patient, in the former. pydicom-seg wants an older pydicom
than ours, so it is kept in an environment of its own, whose Python is given as PYTHON:

    python3.11 -m venv peers && peers/bin/pip install pydicom-seg nibabel
"""

import argparse
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.export import export_case
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import CaseError
from tasks.scan.records import Scores, Segmentation
from tasks.scan.volume import read_voxels, write_mask

LABELS = {2: "left part", 5: "right part", 7: "one voxel"}
PEER = Path(__file__).with_name("dicom_seg_peer.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--peers", required=True, metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = [pair for found in discover(arguments.cohort, None)[0] for pair in written(found, folder)]
        subprocess.run([arguments.peers, PEER, *map(str, pairs)], check=True)


def written(found, folder):
    """The NIfTI mask and the DICOM SEG of a series; nothing of a case that is none, or cannot be read."""
    try:
        case = ingest_case(found)
        voxels, grid = read_voxels(case.image, case.name)
    except CaseError as error:
        print(f"{found.name}: left out, {error.reason()}")
        return []
    case, mask = replace(case, geometry=grid), folder / f"{case.name}.nii.gz"
    write_mask(odd_map(voxels.shape), case, mask)
    segmentation = Segmentation(case=case, mask=mask, mask_sha256="m", input_sha256="i", volumes_ml={})
    seg = export_case(Scores(segmentation=segmentation, scores=()), LABELS, folder / "dicom").segmentation.dicom_seg
    return [] if seg is None else [mask, seg]


def odd_map(shape):
    """Two boxes and a voxel, on RAS+ axes, that no flip or turn takes into themselves."""
    x, y, z = shape
    labels = np.zeros(shape, np.uint8)
    labels[x // 4 : x // 2, y // 3 : y // 2, z // 4 : 3 * z // 4] = 2
    labels[x // 2 : x // 2 + 3, y // 5 : y // 2, z // 2 :] = 5
    labels[3, 4, 0] = 7
    return labels


if __name__ == "__main__":
    main()

"""Real scans as other programs read them: places of corner voxels, and every voxel."""

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.pixels import apply_rescale
from pydicom.uid import JPEGExtended12Bit

from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.scan.errors import CaseError
from tasks.scan.frames import is_dicom, read_frames
from tasks.scan.geometry import canonical_geometry, to_canonical
from tasks.scan.pixels import read_pixels
from tasks.scan.records import Geometry, Source
from tasks.scan.volume import read_voxels

REAL = Path(__file__).parents[3] / "../shared/data"
DICOM, SEG, HIPPOCAMPUS = REAL / "dicom", REAL / "seg", REAL / "hippocampus"
WHEEL = Path(pydicom.__file__).parent / "data/test_files"
REFUSED = {
    "MR_truncated.dcm": "truncated_pixels",
    "JPEG-lossy.dcm": "unreadable_image",  # a JPEG stream that breaks its own rules
    "JPEG2000-embedded-sequence-delimiter.dcm": "unreadable_image",  # pixels that end in their middle
    "badVR.dcm": "unreadable_image",
    "liver_1frame.dcm": "unreadable_image",  # three headers for one frame
    "liver_expb_1frame.dcm": "unreadable_image",
}
needs_real_scans = pytest.mark.skipif(not REAL.is_dir(), reason="real scans are not part of this repository")
needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")

Volume = tuple[np.ndarray, np.ndarray]
"""Voxels on RAS+ axes, and the RAS+ positions (8, 3) of the corners."""


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    ends = [(0, length - 1) for length in shape[:3]]
    return np.array([(affine @ (x, y, z, 1))[:3] for x in ends[0] for y in ends[1] for z in ends[2]])


def ours(source: Source) -> Volume:
    voxels, geometry = read_voxels(source, "C07")
    return voxels, corners(np.array(canonical_geometry(geometry).affine), voxels.shape)


def by_nibabel(file: Path) -> Volume:
    image = nibabel.as_closest_canonical(nibabel.load(file))
    return image.get_fdata(dtype=np.float32), corners(image.affine, image.shape)


def by_simpleitk(*files: Path) -> Volume:
    """A file, or the slices of a series in the order in which GDCM sorts them."""
    image = SimpleITK.ReadImage([str(file) for file in files] if len(files) > 1 else files[0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    matrix = np.diag([-1, -1, 1, 1]) @ matrix
    geometry = Geometry(shape=image.GetSize(), affine=tuple(map(tuple, matrix.tolist())))
    voxels = to_canonical(SimpleITK.GetArrayFromImage(image).transpose(), geometry)
    return voxels, corners(np.array(canonical_geometry(geometry).affine), voxels.shape)


def by_dcm2niix(source: Path, folder: Path, count: int) -> list[Volume]:
    """The volumes that dcm2niix makes of a folder or file, with the rescale tags and not Philips' private ones."""
    command = ["dcm2niix", "-b", "n", "-z", "n", "-p", "n", "-o", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    made = sorted(folder.glob("*.nii"))
    assert len(made) == count
    return [by_nibabel(file) for file in made]


def assert_same(first: Volume, second: Volume) -> None:
    np.testing.assert_allclose(first[1], second[1], rtol=0, atol=1e-3)
    np.testing.assert_allclose(first[0], second[0], rtol=1e-6, atol=1e-3)


@needs_real_scans
@needs_dcm2niix
@pytest.mark.parametrize("name", ["HFS", "HFDL"])
def test_a_real_series_is_what_dcm2niix_and_simpleitk_read(tmp_path: Path, name: str):
    ((found,), _) = discover(DICOM / "decubitus/In" / name, None)
    case = ingest_case(found)
    (theirs,) = by_dcm2niix(DICOM / "decubitus/In" / name, tmp_path, 1)
    assert_same(ours(case.image), theirs)
    assert_same(ours(case.image), by_simpleitk(*case.image.files))


@needs_real_scans
@needs_dcm2niix
def test_the_two_volumes_of_a_real_enhanced_object_are_those_of_dcm2niix(tmp_path: Path):
    cases = [ingest_case(found) for found in discover(DICOM / "enhanced/In/Philips", None)[0]]
    read = sorted((ours(case.image) for case in cases), key=lambda volume: float(volume[0].min()))
    theirs = by_dcm2niix(DICOM / "enhanced/In/Philips", tmp_path, 2)
    for mine, other in zip(read, sorted(theirs, key=lambda volume: float(volume[0].min())), strict=True):
        assert_same(mine, other)


@needs_real_scans
@needs_dcm2niix
def test_each_real_time_point_is_that_of_dcm2niix(tmp_path: Path):
    ((voxels, places),) = by_dcm2niix(DICOM / "enhanced/In/Siemens", tmp_path, 1)
    for time in range(4):
        file = DICOM / f"enhanced/In/Siemens/XA10/6_{time + 1}.dcm"
        assert_same(ours(Source(format="dicom", files=(file,))), (voxels[..., time], places))


@needs_real_scans
@needs_dcm2niix
def test_a_real_ct_is_what_dcm2niix_reads_where_there_is_no_padding(tmp_path: Path):
    ((found,), _) = discover(SEG / "ct-3slice", None)
    voxels, places = ours(ingest_case(found).image)
    ((other, other_places),) = by_dcm2niix(SEG / "ct-3slice", tmp_path, 1)
    measured = other > -2000 - 1024
    assert 0.7 < measured.mean() < 1
    assert_same((voxels[measured], places), (other[measured], other_places))
    assert np.unique(voxels[~measured]).tolist() == [voxels.min()]


@needs_real_scans
def test_every_real_label_map_in_nrrd_is_what_simpleitk_reads():
    files = sorted(SEG.glob("*.nrrd"))
    assert len(files) == 3
    for file in files:
        assert_same(ours(Source(format="itk", files=(file,))), by_simpleitk(file))


@needs_real_scans
@pytest.mark.parametrize("reader", [by_nibabel, by_simpleitk])
def test_every_real_nifti_is_what_others_read(reader: Callable[[Path], Volume]):
    files = [*sorted(HIPPOCAMPUS.glob("images*/*.nii*")), *DICOM.rglob("*.nii")]
    assert len(files) > 200
    for file in files:
        assert_same(ours(Source(format="nifti", files=(file,))), reader(file))


@pytest.mark.filterwarnings("ignore")
def test_a_real_series_of_the_pydicom_wheel_is_what_simpleitk_reads():
    ((found,), _) = discover(WHEEL / "dicomdirtests/98892001/CT5N", None)
    case = ingest_case(found)
    assert case.geometry.shape == (16, 16, 5)
    assert_same(ours(case.image), by_simpleitk(*case.image.files))


def grey_files_of_the_wheel() -> list[Path]:
    """Files with pixels in one grey value and without padding, which others do not replace."""
    files = []
    for file in sorted(WHEEL.rglob("*")):
        if file.is_file() and is_dicom(file):
            with warnings.catch_warnings(action="ignore"):
                dataset = pydicom.dcmread(file, force=True)
            grey = str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME")
            if grey and "PixelData" in dataset and "PixelPaddingValue" not in dataset:
                files.append(file)
    return files


@pytest.mark.parametrize("file", grey_files_of_the_wheel(), ids=lambda file: file.name)
def test_a_file_of_the_pydicom_wheel_has_the_pixels_that_simpleitk_reads_or_is_refused(file: Path):
    if file.name in REFUSED:
        with pytest.raises(CaseError) as caught:
            read_pixels(read_frames(file, "C07"), "C07")
        assert caught.value.reason() == REFUSED[file.name]
        return
    pixels = read_pixels(read_frames(file, "C07")[:1], "C07")[:, :, 0]
    dataset = pydicom.dcmread(file)
    if file.name.startswith("rtdose"):  # a shape that SimpleITK reads in one transfer syntax only
        theirs = apply_rescale(dataset.pixel_array, dataset)
        theirs = (theirs if theirs.ndim == 2 else theirs[0]).transpose()
    else:
        theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)).transpose()[:, :, 0]
    lossy = dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    np.testing.assert_allclose(pixels, theirs, rtol=1e-6, atol=1 if lossy else 1e-3)


def test_there_are_files_in_the_pydicom_wheel():
    assert len(grey_files_of_the_wheel()) > 40

"""Tiny volumes that can be counted on paper, and writers of them as NIfTI files and DICOM series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

Shape = Sequence[int]


def box(shape: Shape, start: Shape, stop: Shape, label: int = 1) -> np.ndarray:
    """Label map (uint8): `label` from index `start` up to and without `stop`, 0 elsewhere."""
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))] = label
    return labels


def sphere(shape: Shape, centre: Sequence[float], radius: float, label: int = 1) -> np.ndarray:
    """Label map (uint8): `label` where the distance to `centre` is at most `radius`, both in voxels."""
    offsets = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return np.where((offsets**2).sum(axis=0) <= radius**2, label, 0).astype(np.uint8)


def picture(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Scan (int16) of a label map: 100 per label value, plus noise from 0 to 9 that makes every voxel its own."""
    noise = np.random.default_rng(seed).integers(0, 10, labels.shape)
    return (100 * labels.astype(int) + noise).astype(np.int16)


def affine(
    spacing_mm: Sequence[float] = (1, 1, 1),
    axes: str = "RAS",
    shape: Shape = (2, 2, 2),
    origin_mm: Sequence[float] = (0, 0, 0),
) -> np.ndarray:
    """Affine (4, 4), index to RAS+ mm, of a grid stored along `axes`, for example "LPS".

    `origin_mm` is its voxel most to the left, posterior and inferior. `spacing_mm` and `shape` are in the stored order.
    """
    orientation = axcodes2ornt(axes)
    canonical = np.eye(4)
    canonical[:3, 3] = origin_mm
    for stored, (world, _) in enumerate(orientation.astype(int)):
        canonical[world, world] = spacing_mm[stored]
    back = np.linalg.inv(inv_ornt_aff(orientation, shape))
    return np.asarray(canonical @ back)


def oblique_affine(
    spacing_mm: Sequence[float] = (1, 1, 1), degrees: float = 20, origin_mm: Sequence[float] = (-5, 7, 11)
) -> np.ndarray:
    """Affine of a grid on RAS axes turned by `degrees` about the superior axis, then about the right axis."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    result = np.eye(4)
    result[:3, :3] = about_x @ about_z @ np.diag(spacing_mm)
    result[:3, 3] = origin_mm
    return result


def write_nifti(path: Path, voxels: np.ndarray, grid: np.ndarray | None = None) -> Path:
    """`path`, a NIfTI-1 file of `voxels` (x, y, z) with sform and qform `grid` (both code 1; default: 1 mm RAS)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, np.eye(4) if grid is None else grid)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    nibabel.save(image, path)
    return path


def write_dicom_series(
    folder: Path, voxels: np.ndarray, grid: np.ndarray, series: str = "one", tags: dict[str, Any] | None = None
) -> list[Path]:
    """The files of a CT series of int16 `voxels` (column, row, slice), in the order of the slices' positions.

    `grid` takes (column, row, slice) to RAS+ mm. File names and instance numbers run against the positions, as in
    real exports they may. `tags` are set on every slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = voxels.shape[2]
    files = [folder / f"{count - index:03d}.dcm" for index in range(count)]
    for index, file in enumerate(files):
        dataset = _slice(voxels[:, :, index], grid, index, series)
        dataset.InstanceNumber = count - index
        for name, value in (tags or {}).items():
            setattr(dataset, name, value)
        dataset.save_as(file, enforce_file_format=True)
    return files


def edit_dicom(file: Path, **tags: Any) -> None:
    """Sets `tags` in a DICOM file; a tag set to None is deleted."""
    dataset = pydicom.dcmread(file)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(file)


def truncate(file: Path, fraction: float) -> Path:
    """`file`, of which only the first `fraction` of the bytes is left."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * fraction)])
    return file


def _slice(pixels: np.ndarray, grid: np.ndarray, index: int, series: str) -> Dataset:
    """One CT slice; DICOM's axes are LPS, so the first two world axes change sign."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    across, down = lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(
        entropy_srcs=[series, str(index)]
    )
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Phantom^Tiny", "0", "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = _decimals((lps @ (0, 0, index, 1))[:3])
    dataset.ImageOrientationPatient = _decimals([*across, *down])
    dataset.PixelSpacing = _decimals([spacing[1], spacing[0]])
    dataset.SliceThickness = "99"  # a lie: the spacing of slices is the distance of their positions
    dataset.Rows, dataset.Columns = pixels.shape[1], pixels.shape[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    dataset.PixelData = pixels.T.astype("<i2").tobytes()
    return dataset


def _decimals(numbers: Sequence[float]) -> list[str]:
    return [f"{number:.10f}" for number in numbers]

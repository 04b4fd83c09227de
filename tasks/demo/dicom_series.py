"""One volume written as a DICOM series of MR slices (DICOM PS3.3, section A.4), with everything that places it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from tasks.scan.records import Geometry

RESCALE_SLOPE = 0.5
RESCALE_INTERCEPT = -20.0
"""A voxel's value is the stored number × slope + intercept, here unlike 1 and 0 so that forgetting them shows."""

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who the series says it is of. `identifier` also seeds the UIDs: one identifier, the same UIDs."""

    name: str
    identifier: str


def write_series(folder: Path, voxels: NDArray[np.float32], geometry: Geometry, patient: Patient) -> list[Path]:
    """The files `0001.dcm`, … in `folder`, one for each slice of `voxels` (column, row, slice), in this order.

    `geometry` gives the place of the voxels. A reader that sorts the slices by position gets them in this order where
    the axes of `geometry` are right-handed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.rint((voxels - RESCALE_INTERCEPT) / RESCALE_SLOPE).clip(0, np.iinfo(np.uint16).max).astype("<u2")
    common = _series(geometry, patient)
    affine = _LPS_FROM_RAS @ np.array(geometry.affine)
    files = [folder / f"{index + 1:04d}.dcm" for index in range(geometry.shape[2])]
    for index, file in enumerate(files):
        dataset = _empty_file(_uid(patient, f"slice {index}"))
        dataset.update(common)
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = _decimals((affine @ (0, 0, index, 1))[:3])
        dataset.PixelData = np.ascontiguousarray(stored[:, :, index].T).tobytes()  # DICOM wants row by row
        dataset.save_as(file, enforce_file_format=True)
    return files


def _series(geometry: Geometry, patient: Patient) -> Dataset:
    """What all slices have in common."""
    dataset = Dataset()
    _identify(dataset, patient)
    _describe_acquisition(dataset)
    x_mm, y_mm, z_mm = geometry.spacing_mm
    directions = (_LPS_FROM_RAS @ np.array(geometry.affine))[:3, :3] / geometry.spacing_mm
    dataset.ImageOrientationPatient = _decimals([*directions[:, 0], *directions[:, 1]])
    dataset.PixelSpacing = _decimals([y_mm, x_mm])  # between rows first, between columns second
    dataset.SliceThickness = dataset.SpacingBetweenSlices = format_number_as_ds(z_mm)
    dataset.Columns, dataset.Rows, _ = geometry.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = RESCALE_SLOPE, RESCALE_INTERCEPT, "US"
    return dataset


def _identify(dataset: Dataset, patient: Patient) -> None:
    dataset.PatientName, dataset.PatientID = patient.name, patient.identifier
    dataset.PatientBirthDate, dataset.PatientSex = "19000101", "O"
    dataset.StudyInstanceUID = _uid(patient, "study")
    dataset.SeriesInstanceUID = _uid(patient, "series")
    dataset.FrameOfReferenceUID = _uid(patient, "frame of reference")
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20000101", "120000", "1"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    dataset.SeriesNumber, dataset.AcquisitionNumber = 1, 1


def _describe_acquisition(dataset: Dataset) -> None:
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "MR", "synthetic", "T1 demo"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    dataset.PatientPosition = "HFS"
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "MP", ""
    dataset.MRAcquisitionType = "3D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = "2300", "3", "900"
    dataset.EchoTrainLength = "1"


def _uid(patient: Patient, what: str) -> UID:
    return generate_uid(entropy_srcs=[patient.identifier, what])


def _empty_file(uid: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, uid
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, uid
    return dataset


def _decimals(numbers: Iterable[float]) -> list[str]:
    """The numbers as decimal strings of at most 16 characters, which is what the standard allows."""
    return [format_number_as_ds(float(number)) for number in numbers]

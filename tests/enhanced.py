"""Enhanced multi-frame DICOM objects of tiny volumes, and DICOM segmentations of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import EnhancedMRImageStorage, SegmentationStorage, generate_uid

from tests.phantoms import write_dicom_series

FRAME_TAGS = {
    "FrameType": "MRImageFrameTypeSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "StackID": "FrameContentSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


def write_enhanced(
    file: Path, volumes: Sequence[np.ndarray], grid: np.ndarray, kinds: Sequence[dict[str, Any]] = ({},)
) -> Path:
    """`file`, an enhanced MR object of int16 `volumes` (column, row, slice) on one grid, to RAS+ mm.

    `kinds` gives the frame tags of each volume. Slices run from the last to the first, and volumes alternate within
    them, so that nothing is in order.
    """
    slices = write_dicom_series(file.parent / ".slices", volumes[0], grid)
    result = pydicom.dcmread(slices[0])
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    result.SOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[file.name])
    shared = Dataset()
    shared.PixelMeasuresSequence = [_part(result, "PixelSpacing")]
    shared.PlaneOrientationSequence = [_part(result, "ImageOrientationPatient")]
    result.SharedFunctionalGroupsSequence = [shared]
    pixels, frames = [], []
    for index in reversed(range(volumes[0].shape[2])):
        for volume, kind in zip(volumes, kinds, strict=True):
            frame = Dataset()
            frame.PlanePositionSequence = [_part(pydicom.dcmread(slices[index]), "ImagePositionPatient")]
            for name, value in kind.items():
                if FRAME_TAGS[name] not in frame:
                    setattr(frame, FRAME_TAGS[name], [Dataset()])
                setattr(frame[FRAME_TAGS[name]][0], name, value)
            frames.append(frame)
            pixels.append(volume[:, :, index].T)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(result, name)
    result.PerFrameFunctionalGroupsSequence, result.NumberOfFrames = frames, len(frames)
    result.PixelData = np.stack(pixels).astype("<i2").tobytes()
    result.save_as(file, enforce_file_format=True)
    for one in slices:
        one.unlink()
    return file


def write_segmentation(file: Path, series: Sequence[Path], segments: dict[int, np.ndarray], **tags: Any) -> Path:
    """`file`, a DICOM SEG of binary `segments` (column, row, slice) on the slices of `series`, in their order.

    Frames without a voxel are left out, as most writers do. `tags` are set at the top level.
    """
    slices = [pydicom.dcmread(one) for one in series]
    result = pydicom.dcmread(series[0])
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    result.SOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[file.name])
    result.SeriesInstanceUID = generate_uid(entropy_srcs=["segmentation"])
    result.Modality, result.SegmentationType = "SEG", "BINARY"
    result.SegmentSequence = [_segment(number) for number in segments]
    reference = Dataset()
    reference.SeriesInstanceUID = slices[0].SeriesInstanceUID
    reference.ReferencedInstanceSequence = [_referenced(one) for one in slices]
    result.ReferencedSeriesSequence = [reference]
    shared = Dataset()
    shared.PixelMeasuresSequence = [_part(result, "PixelSpacing")]
    shared.PlaneOrientationSequence = [_part(result, "ImageOrientationPatient")]
    result.SharedFunctionalGroupsSequence = [shared]
    planes = [(number, i) for number, mask in segments.items() for i in range(len(slices)) if mask[:, :, i].any()]
    result.PerFrameFunctionalGroupsSequence = [_plane(slices[index], number) for number, index in planes]
    result.NumberOfFrames = len(planes)
    result.BitsAllocated, result.BitsStored, result.HighBit, result.PixelRepresentation = 1, 1, 0, 0
    result.PixelData = pack_bits(
        np.stack([segments[number][:, :, index].T for number, index in planes]).astype(np.uint8)
    )
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(result, name)
    for name, value in tags.items():
        setattr(result, name, value)
    result.save_as(file, enforce_file_format=True)
    return file


def _part(dataset: Dataset, name: str) -> Dataset:
    part = Dataset()
    setattr(part, name, dataset[name].value)
    return part


def _segment(number: int) -> Dataset:
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = number, f"segment {number}"
    return segment


def _referenced(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    return item


def _plane(dataset: Dataset, number: int) -> Dataset:
    frame, segment = Dataset(), Dataset()
    segment.ReferencedSegmentNumber = number
    frame.SegmentIdentificationSequence = [segment]
    frame.PlanePositionSequence = [_part(dataset, "ImagePositionPatient")]
    return frame

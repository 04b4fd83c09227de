"""DICOM segmentations as label maps: each segment's number in the voxels of the image that it was made on.

A segmentation has one binary frame for each segment and slice, or (label maps) one frame of numbers for each slice, and
says where each frame lies. Frames are put into the image's voxels one for one; nothing is resampled. It names the
series and images that it was made on by their UIDs, which never leave this file in a message.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from tasks.scan.errors import ForeignReference, GridMismatch, OverlappingSegments, UnsupportedImage, UnusableGeometry
from tasks.scan.frame import SEGMENTATIONS, Frame, Referenced
from tasks.scan.frames import is_dicom, read_frames
from tasks.scan.geometry import affine_from_lps
from tasks.scan.pixels import check_complete
from tasks.scan.reading import reading
from tasks.scan.records import Geometry, Source

PLANE_TOLERANCE_MM = 0.01
"""How far a segmentation's voxel may lie from the image's: positions are written with two decimals or more."""


def is_segmentation(source: Source, case: str) -> bool:
    """Whether the one file of `source` is a DICOM segmentation. Raises UnreadableImage."""
    if source.format != "dicom" or len(source.files) != 1:
        return False
    file = source.files[0]
    with reading(file, case):
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"], force=is_dicom(file))
        return dataset.get("SOPClassUID") in SEGMENTATIONS


def read_referenced(file: Path, case: str) -> Referenced:
    """What the segmentation in `file` was made on. Raises UnreadableImage."""
    with reading(file, case):
        return _referenced(pydicom.dcmread(file, stop_before_pixels=True, force=is_dicom(file)))


def read_segment_numbers(source: Source, case: str) -> set[int]:
    """The numbers of the segments that a segmentation describes. Raises UnreadableImage."""
    file = source.files[0]
    with reading(file, case):
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=["SegmentSequence"], force=is_dicom(file)
        )
        return {int(segment.SegmentNumber) for segment in dataset.SegmentSequence} - {0}


def read_stored_labels(source: Source, grid: Geometry, image: Source | None, case: str) -> NDArray[np.uint16]:
    """The segments' numbers in the voxels of `grid` (stored order), 0 where there is no segment.

    `image` is the scan that the segmentation must have been made on; None, or no DICOM: the grid has to do.

    Raises:
        UnreadableImage, TruncatedPixels; UnsupportedImage: probabilities instead of labels.
        ForeignReference: made on another series. GridMismatch: on other planes or voxels than the grid's.
        OverlappingSegments: a voxel belongs to two segments.
    """
    file = source.files[0]
    frames = read_frames(file, case)
    with reading(file, case):
        dataset = pydicom.dcmread(file, force=is_dicom(file))
        _check_binary(dataset, case)
        if image is not None and image.dicom_files:
            _check_own(_referenced(dataset), image, case)
        check_complete(dataset, file, case)
        labels = np.zeros(grid.shape, np.uint16)
        for frame, pixels in zip(frames, iter_pixels(dataset), strict=True):
            numbers = pixels if _is_label_map(dataset) else (pixels > 0) * _segment_number(dataset, frame.index)
            _put(numbers.astype(np.uint16).transpose(), labels, _steps(frame, grid, case), case)
        return labels


def _put(numbers: NDArray[np.uint16], labels: NDArray[np.uint16], steps: NDArray[np.int64], case: str) -> None:
    """Writes `numbers` (column, row) that are not 0 into `labels`, whose index grows by `steps`."""
    columns, rows = np.nonzero(numbers)
    index = tuple(steps @ np.stack([columns, rows, np.ones_like(rows)]))
    taken = (labels[index] != 0) & (labels[index] != numbers[columns, rows])
    if taken.any():
        raise OverlappingSegments(
            case,
            found=f"a segmentation with {int(taken.sum())} voxels of a slice in two segments",
            needed="one label a voxel",
            remedy="save the segments that overlap as references of their own, or decide which one comes first",
        )
    labels[index] = numbers[columns, rows]


def _steps(frame: Frame, grid: Geometry, case: str) -> NDArray[np.int64]:
    """How the index in `grid` grows with a column and a row of `frame`, and where it begins: a (3, 3) matrix.

    Raises GridMismatch unless the frame's voxels are voxels of the grid, and UnusableGeometry without a place.
    """
    if not (frame.position_mm and frame.orientation and frame.spacing_mm):
        raise UnusableGeometry(
            case,
            found="a frame of the segmentation lacks its position, orientation or pixel spacing",
            needed="segments that say where they lie",
            remedy="export the segmentation again, or save it as NIfTI",
        )
    directions = np.stack([frame.orientation[:3], frame.orientation[3:], frame.normal], axis=1)
    spacing_mm = np.array([frame.spacing_mm[1], frame.spacing_mm[0], 1])
    plane = np.array(affine_from_lps(directions, spacing_mm, np.array(frame.position_mm)))
    exact = (np.linalg.inv(np.array(grid.affine)) @ plane)[:3][:, [0, 1, 3]]
    steps: NDArray[np.int64] = np.rint(exact).astype(np.int64)
    ends = [(c, r, 1) for c in (0, frame.columns - 1) for r in (0, frame.rows - 1)]
    corners = np.array(ends).T
    apart_mm = np.linalg.norm(np.array(grid.affine)[:3, :3] @ ((exact - steps) @ corners), axis=0).max()
    places = steps @ corners
    is_inside = (places >= 0).all() and (places.max(axis=1) < grid.shape).all()
    if apart_mm > PLANE_TOLERANCE_MM or not is_inside:
        raise GridMismatch(
            case,
            found=f"a plane of the segmentation lies {apart_mm:.3g} mm beside the image's voxels"
            if is_inside
            else "a plane of the segmentation reaches beyond the image",
            needed="a segmentation of exactly the image's voxels",
            remedy="make sure that image and segmentation belong together, and that the image is complete",
        )
    return steps


def _segment_number(dataset: Dataset, index: int) -> int:
    """Which segment a frame is of: of its own functional groups, or, where all frames are of one, of the shared."""
    groups = [dataset.PerFrameFunctionalGroupsSequence[index], *dataset.get("SharedFunctionalGroupsSequence", ())]
    own = next(group for group in groups if "SegmentIdentificationSequence" in group)
    return int(own.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _is_label_map(dataset: Dataset) -> bool:
    return str(dataset.get("SegmentationType")) == "LABELMAP"


def _check_binary(dataset: Dataset, case: str) -> None:
    if str(dataset.get("SegmentationType")) == "FRACTIONAL":
        raise UnsupportedImage(
            case,
            found="a segmentation of fractions (probability or occupancy)",
            needed="segments that hold a voxel or do not",
            remedy="save it as a binary segmentation, at the threshold that is right for it",
        )


def _check_own(referenced: Referenced, image: Source, case: str) -> None:
    """Raises ForeignReference if no file of `image` is one that the segmentation was made on."""
    frames = (frame for file in image.dicom_files for frame in read_frames(file, case)[:1])
    if not any(referenced.has(frame) for frame in frames):
        raise ForeignReference(
            case,
            found="a segmentation that was made on another series",
            needed="a segmentation of this scan",
            remedy="give the scan the segmentation that references it, or none",
        )


def _referenced(dataset: Dataset) -> Referenced:
    series = list(dataset.get("ReferencedSeriesSequence", ()))
    groups = dataset.get("PerFrameFunctionalGroupsSequence", ())
    sources = [
        image
        for group in groups
        for derivation in group.get("DerivationImageSequence", ())
        for image in derivation.get("SourceImageSequence", ())
    ]
    named = [image for item in series for image in item.get("ReferencedInstanceSequence", ())]
    return Referenced(
        series=_uids("SeriesInstanceUID", series), instances=_uids("ReferencedSOPInstanceUID", [*named, *sources])
    )


def _uids(name: str, items: Iterable[Dataset]) -> frozenset[str]:
    return frozenset(str(item.get(name)) for item in items if item.get(name))

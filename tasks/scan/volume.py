"""The volume of a case: read from whatever format, on RAS+ axes; and a mask written back on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.scan import dicom, itk, nifti, segmentation, tilt
from tasks.scan.errors import ChannelMismatch, EmptyImage, GridMismatch, NonFiniteVoxels, UnknownLabel, UnsupportedImage
from tasks.scan.geometry import (
    GRID_TOLERANCE_MM,
    canonical_geometry,
    canonical_shape,
    check_geometry,
    from_canonical,
    grid_distance_mm,
    to_canonical,
)
from tasks.scan.planes import planes
from tasks.scan.reading import Header
from tasks.scan.records import Case, Geometry, Source, join_channels

_READ_HEADER: dict[str, Callable[[Source, str], Header]] = {
    "dicom": dicom.read_header,
    "sheared": tilt.read_header,
    "nifti": nifti.read_header,
    "itk": itk.read_header,
}
_READ_STORED: dict[str, Callable[[Source, str], tuple[NDArray[np.float32], Geometry]]] = {
    "dicom": dicom.read_stored,
    "sheared": tilt.read_stored,
    "nifti": nifti.read_stored,
    "itk": itk.read_stored,
}

CHANNEL_TOLERANCE = 0.01
"""Channels are on one grid when no corner is further apart than this fraction of a voxel's shortest side.

Two series of one examination repeat their positions to the decimals that each was written with; a hundredth of a voxel
is below what any interpolation or network can tell, while a shift that somebody made is a good part of a voxel.
"""

LABEL_TOLERANCE = 1e-4
"""A stored number this close to a whole one is that label: scaling in float32 leaves 0.99999994."""


def read_header(source: Source, case: str) -> Header:
    """What the headers of `source` say; a DICOM series' files come back in the order of their positions.

    Of several channels it is the grid that they share.

    Raises:
        CaseError: unreadable, unsupported, or no usable geometry; a series with missing, double or uneven slices;
        channels on different grids, or other ones than the file holds.
    """
    if source.parts:
        return _read_shared_header(source, case)
    header = _READ_HEADER[source.format](source, case)
    check_geometry(header.geometry, case)
    shape = header.geometry.shape
    if min(shape) < 2:
        raise UnsupportedImage(
            case,
            found=f"a single slice ({' × '.join(str(length) for length in shape)} voxels)",
            needed="a volume of at least two voxels along each axis",
            remedy="put the slices of the scan into one volume",
        )
    return header


def read_geometry(source: Source, case: str) -> Geometry:
    """The grid as stored, from the headers only. Raises what `read_header` raises."""
    return read_header(source, case).geometry


def read_channels(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """The voxels (C, X, Y, Z) of each channel on the closest RAS+ axes, and the grid as stored.

    Raises what `read_voxels` raises; GridMismatch.
    """
    if not source.parts:
        voxels, geometry = read_voxels(source, case)
        return voxels[None], geometry
    shared = read_header(source, case)
    whole = np.empty((len(source.parts), *canonical_shape(shared.geometry)), np.float32)
    for channel, part in zip(whole, source.parts, strict=True):
        voxels, geometry = read_voxels(part, case)
        check_same_channel_grid(geometry, shared.geometry, case)
        channel[:] = voxels
    return whole, shared.geometry


def read_voxels(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """The voxels (X, Y, Z) on the closest RAS+ axes, and the grid as stored; of several channels those of the first.

    Raises:
        CaseError: as `read_header`; NonFiniteVoxels; EmptyImage if all voxels have one value.
    """
    voxels, geometry = _read(source.channels[0], case)
    finite = np.isfinite(voxels)
    if not finite.all():
        raise NonFiniteVoxels(
            case,
            found=f"{int(voxels.size - finite.sum())} of {voxels.size} voxels are NaN or infinite",
            needed="a number in every voxel",
            remedy="find out which step of the conversion made them, and convert again",
        )
    if voxels.min() == voxels.max():
        raise EmptyImage(
            case,
            found=f"every voxel has the value {voxels.flat[0]:g}",
            needed="an image",
            remedy="export the scan again",
        )
    return np.ascontiguousarray(to_canonical(voxels, geometry)), geometry


def read_labels(source: Source, grid: Geometry, case: str, image: Source | None = None) -> NDArray[np.uint16]:
    """The label map (X, Y, Z) on the closest RAS+ axes. `grid` is the image's, as stored.

    The label map may be stored in another order of axes, as long as it covers the same voxels. A DICOM segmentation
    may leave out slices; it must be one of `image`, where that is given and is DICOM too.

    Raises:
        CaseError: as `read_header`; GridMismatch; UnknownLabel for a value that is not 0, 1, … 65535; ForeignReference,
        OverlappingSegments.
    """
    if segmentation.is_segmentation(source, case):
        return np.ascontiguousarray(to_canonical(segmentation.read_stored_labels(source, grid, image, case), grid))
    check_same_grid(read_geometry(source, case), grid, case)  # before its voxels are read: they may claim any size
    voxels, geometry = _read(source, case)
    return np.ascontiguousarray(to_canonical(_whole_numbers(voxels, case), geometry))


def _whole_numbers(voxels: NDArray[np.float32], case: str) -> NDArray[np.uint16]:
    """`voxels` as labels. Raises UnknownLabel."""
    labels, wrong, first = np.empty(voxels.shape, np.uint16), 0, 0.0
    for part in planes(voxels):
        with np.errstate(invalid="ignore"):
            rounded = np.rint(voxels[part])
            strange = ~((np.abs(voxels[part] - rounded) <= LABEL_TOLERANCE) & (rounded >= 0) & (rounded <= 65535))
        if strange.any():
            first = first if wrong else float(voxels[part][strange][0])
            wrong += int(strange.sum())
            continue
        labels[part] = rounded
    if wrong:
        raise UnknownLabel(
            case,
            found=f"the reference holds {first:g} in {wrong} voxels",
            needed="whole numbers from 0 to 65535",
            remedy="save the reference as a label map; a resampled one needs nearest-neighbour interpolation",
        )
    return labels


def read_label_values(source: Source, case: str) -> set[int]:
    """The labels of a label map on whatever grid, without 0; of a DICOM segmentation those that it describes.

    Raises what `read_labels` raises.
    """
    if segmentation.is_segmentation(source, case):
        return segmentation.read_segment_numbers(source, case)
    return set(np.unique(read_labels(source, read_header(source, case).geometry, case)).tolist()) - {0}


def write_mask(labels: NDArray[np.uint8 | np.uint16], case: Case, path: Path) -> None:
    """Writes `labels` (RAS+ axes) on the stored grid of `case` as `.nii.gz`, whole or not at all, and reads it back.

    The bytes are the same for the same labels. The geometry of a NIfTI scan is copied field by field.

    Raises:
        ValueError: `labels` is not on the canonical grid of `case`.
        RuntimeError: what was read back is not what was written.
    """
    shape = canonical_shape(case.geometry)
    if labels.shape != shape:
        raise ValueError(f"labels of shape {labels.shape} are not on the grid {shape} of the scan")
    stored = from_canonical(labels, case.geometry)
    image = case.image.channels[0]
    nifti.write(stored, case.geometry, image if image.format == "nifti" else None, path)
    written, geometry = nifti.read_stored(Source(format="nifti", files=(path,)), case.name)
    if grid_distance_mm(geometry, case.geometry) > GRID_TOLERANCE_MM or not np.array_equal(written, stored):
        raise RuntimeError(
            f"the mask of case '{case.name}' reads back differently: the disk or file system is at fault"
        )


def _read(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    read_header(source, case)
    return _READ_STORED[source.format](source, case)


def _read_shared_header(source: Source, case: str) -> Header:
    """What the headers of all channels say. Raises ChannelMismatch, GridMismatch, and what each of them may raise."""
    headers: list[Header] = []
    for part in source.parts:
        header = read_header(part, case)
        named = sum(1 for other in source.parts if other.files == part.files)
        if part.volume is not None and header.volumes != named:
            raise ChannelMismatch(
                case,
                found=f"a file of {header.volumes} volume{'s' * (header.volumes > 1)}",
                needed=f"{named}, one for each channel that the data set names",
                remedy="make the file hold a volume for each channel, or correct dataset.json",
            )
        check_same_channel_grid(header.geometry, (headers or [header])[0].geometry, case)
        headers.append(header)
    return Header(
        source=join_channels([header.source for header in headers]),
        geometry=headers[0].geometry,
        warnings=tuple(dict.fromkeys(warning for header in headers for warning in header.warnings)),
    )


def check_same_grid(reference: Geometry, image: Geometry, case: str) -> None:
    """Nothing, if `reference` covers the voxels of `image`. Raises GridMismatch."""
    if found := _difference(reference, image, "reference", GRID_TOLERANCE_MM):
        remedy = "resample the reference onto the image with nearest-neighbour interpolation"
        raise GridMismatch(case, found, needed="one grid", remedy=remedy)


def check_same_channel_grid(channel: Geometry, image: Geometry, case: str) -> None:
    """Nothing, if `channel` covers the voxels of `image` to a hundredth of their shortest side. Raises GridMismatch."""
    tolerance_mm = max(GRID_TOLERANCE_MM, CHANNEL_TOLERANCE * min(image.spacing_mm))
    if found := _difference(channel, image, "channel", tolerance_mm):
        raise GridMismatch(case, found, needed="one grid", remedy="resample the other channels onto the first")


def _difference(other: Geometry, image: Geometry, what: str, tolerance_mm: float) -> str:
    """How the grid of `other`, which is called `what`, differs from that of `image`; empty if it does not."""
    first, second = canonical_geometry(other), canonical_geometry(image)
    if first.shape != second.shape:
        return f"image {second.shape} and {what} {first.shape} are on different grids (voxels on RAS+ axes)"
    apart_mm = grid_distance_mm(first, second)
    far = f"image and {what} are on different grids: a corner is {apart_mm:.3g} mm apart"
    return far if apart_mm > tolerance_mm else ""

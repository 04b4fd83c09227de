"""DICOM slices and series, read with pydicom: its headers and its pixels.

SimpleITK leaves a truncated slice out and reads the rest with a warning; pydicom raises. DICOM's axes are LPS; the
change to RAS+ happens in `affine_from_lps`. No name, identifier or UID of a header ever leaves this file in a message.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
from numpy.typing import NDArray

from tasks.scan.errors import UnreadableImage, UnsupportedImage, UnusableGeometry
from tasks.scan.geometry import affine_from_lps
from tasks.scan.reading import Header, reading, shown
from tasks.scan.records import Geometry, Source
from tasks.scan.slices import check_spacing

# pydicom's warnings quote the header's values, and the header names the patient.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

ORIENTATION_TOLERANCE = 1e-4
"""Direction cosines of one series differ by 1e-7 in real data; this much moves a corner by less than 0.1 mm."""

_HEADER_TAGS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceHeader:
    """What a series is put together from. `position_mm`, `orientation` (row, then column direction) are on LPS axes.

    `spacing_mm` is the distance of rows, then of columns. Empty tuples stand for what the header lacks.
    """

    file: Path
    sop_class: str
    series: str
    rows: int
    columns: int
    frames: int
    samples: int
    image_type: tuple[str, ...]
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector at right angles to the slice."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height_mm(self) -> float:
        """Where the slice lies along its normal."""
        return float(np.dot(self.position_mm, self.normal))


def is_dicom(file: Path) -> bool:
    """Whether the file begins as DICOM does: with the mark after the preamble, or with a tag and a class of image.

    The first tag alone would do for old files without a preamble, but raw voxels of 8, 8 begin like it too.
    """
    with file.open("rb") as stream:
        start = stream.read(1024)
    return start[128:132] == b"DICM" or (start[:2] in (b"\2\0", b"\x08\0") and b"1.2.840.10008.5.1.4.1.1" in start)


def read_slice_header(file: Path, case: str) -> SliceHeader:
    """The header of one DICOM file.

    Raises:
        UnreadableImage: no DICOM file, or damaged before its pixels.
    """
    with reading(file, case):
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_HEADER_TAGS, force=is_dicom(file))
        return SliceHeader(
            file=file,
            sop_class=str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", "")),
            series=str(dataset.get("SeriesInstanceUID", "")),
            rows=int(dataset.get("Rows") or 0),
            columns=int(dataset.get("Columns") or 0),
            frames=int(dataset.get("NumberOfFrames") or 1),
            samples=int(dataset.get("SamplesPerPixel") or 1),
            image_type=tuple(str(part) for part in dataset.get("ImageType") or ()),
            position_mm=_numbers(dataset.get("ImagePositionPatient"), 3),
            orientation=_numbers(dataset.get("ImageOrientationPatient"), 6),
            spacing_mm=_numbers(dataset.get("PixelSpacing"), 2),
        )


def read_header(source: Source, case: str) -> Header:
    """The grid of a series, index (column, row, slice), and its files in the order of the slices' positions.

    The spacing of slices is the distance of their positions, and every gap is checked.

    Raises:
        UnreadableImage, UnsupportedImage, UnusableGeometry, MissingSlice, DuplicateSlice, UnevenSlices
    """
    headers = [read_slice_header(file, case) for file in source.files]
    _check_whole(headers, case)
    _check_supported(headers, case)
    _check_placed(headers, case)
    headers.sort(key=lambda header: header.height_mm)
    positions_mm = np.array([header.position_mm for header in headers])
    first = headers[0]
    step_mm = check_spacing(positions_mm, first.normal, case)
    directions = np.stack([first.orientation[:3], first.orientation[3:], first.normal], axis=1)
    spacing_mm = np.array([first.spacing_mm[1], first.spacing_mm[0], step_mm])
    return Header(
        source=Source(format="dicom", files=tuple(header.file for header in headers)),
        geometry=Geometry(
            shape=(first.columns, first.rows, len(headers)),
            affine=affine_from_lps(directions, spacing_mm, positions_mm[0]),
        ),
    )


def read_stored(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """All voxels, index (column, row, slice), in the units of the rescale tags, and the grid.

    Padding becomes the lowest real value, so that it is neither a value of its own nor counted as missing.

    Raises:
        what `read_header` raises; UnreadableImage for a slice whose pixels are cut short or cannot be decoded.
    """
    header = read_header(source, case)
    voxels = np.empty(header.geometry.shape, np.float32, order="F")
    for index, file in enumerate(header.source.files):
        with reading(file, case):
            voxels[:, :, index] = decode_slice(pydicom.dcmread(file, force=is_dicom(file)))
    padding = np.isnan(voxels)
    if padding.any():
        voxels[padding] = voxels[~padding].min(initial=np.inf) if not padding.all() else 0
    return voxels, header.geometry


def decode_slice(dataset: pydicom.Dataset) -> NDArray[np.float32]:
    """The pixels of one slice, index (column, row), after the rescale tags; NaN where there is padding.

    MONOCHROME1 is inverted within its stored bits. pydicom clears the bits above those (old overlays).
    """
    stored = dataset.pixel_array
    padding = _padding(dataset, stored)
    values = stored.astype(np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (-1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1) - values
    values = values * np.float32(dataset.get("RescaleSlope", 1)) + np.float32(dataset.get("RescaleIntercept", 0))
    values[padding] = np.nan
    return np.asarray(values, np.float32).transpose()


def _padding(dataset: pydicom.Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    ends = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """`value` as that many finite floats; empty if it is anything else."""
    numbers = tuple(float(part) for part in value) if value is not None and not isinstance(value, str | float) else ()
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else ()


def _check_whole(headers: list[SliceHeader], case: str) -> None:
    """Raises UnreadableImage if a file ends before it gives the picture's size: pydicom takes that for a header."""
    for header in headers:
        if header.rows == 0 or header.columns == 0:
            raise UnreadableImage(
                case,
                found=f"'{shown(header.file)}' ends before its pixels",
                needed="complete slices",
                remedy="send the series again from the scanner or archive",
            )


def _check_supported(headers: list[SliceHeader], case: str) -> None:
    """Raises UnsupportedImage unless the headers are slices of one series, one grey value a pixel, one slice a file."""
    series = len({header.series for header in headers})
    sizes = {(header.rows, header.columns) for header in headers}
    frames = max(header.frames for header in headers)
    wrong = {
        f"{series} series instead of one": series > 1,
        "a series in colour": any(header.samples > 1 for header in headers),
        "a series of mosaics (many slices in one picture)": any("MOSAIC" in header.image_type for header in headers),
        f"a multi-frame image of {frames} frames": frames > 1,
        "slices of different sizes": len(sizes) > 1,
        "a series of a single slice": len(headers) == 1,
    }
    for found, is_so in wrong.items():
        if is_so:
            raise UnsupportedImage(
                case,
                found=found,
                needed="one series of at least two single-frame grey slices",
                remedy="export it as such a series, or convert it to NIfTI",
            )


def _check_placed(headers: list[SliceHeader], case: str) -> None:
    """Raises UnusableGeometry unless every slice says where it is, and all are parallel and have equal pixels."""
    first = headers[0]
    found = ""
    if not all(header.position_mm and header.orientation and header.spacing_mm for header in headers):
        found = "a slice lacks its position, orientation or pixel spacing"
    elif not all(np.allclose(header.orientation, first.orientation, atol=ORIENTATION_TOLERANCE) for header in headers):
        found = "the slices are not parallel"
    elif not all(np.allclose(header.spacing_mm, first.spacing_mm, rtol=1e-4) for header in headers):
        found = "the slices have different pixel spacings"
    elif abs(np.linalg.norm(first.normal) - 1) > 1e-3:
        found = "the row and column directions of the slices are not at right angles"
    if found:
        raise UnusableGeometry(
            case,
            found=found,
            needed="parallel slices with position, orientation and pixel spacing",
            remedy="export the series again",
        )

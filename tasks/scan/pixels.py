"""The pixels of DICOM frames, in the units of their rescale tags, decoded by pydicom and its plug-ins.

Which plug-in decodes which transfer syntax is in `docs/dicom.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import get_expected_length, iter_pixels
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tasks.scan.errors import TruncatedPixels, UnsupportedImage
from tasks.scan.frame import Frame
from tasks.scan.frames import is_dicom
from tasks.scan.reading import reading, shown

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_pixels(frames: Sequence[Frame], case: str) -> NDArray[np.float32]:
    """The pixels of `frames` in their order, index (column, row, frame), after the rescale tags of each.

    Padding becomes the lowest real value, so that it is neither a value of its own nor counted as missing.

    Raises:
        TruncatedPixels: a file ends before its pixels do. UnreadableImage: they cannot be decoded.
        UnsupportedImage: their values go through a table.
    """
    voxels = np.empty((frames[0].columns, frames[0].rows, len(frames)), np.float32, order="F")
    places: dict[Path, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.file].append(place)
    for file, inside in places.items():
        with reading(file, case):
            dataset = pydicom.dcmread(file, force=is_dicom(file))
            _name_syntax(dataset)
            check_complete(dataset, file, case)
            _check_plain(dataset, case)
            for place, picture in zip(inside, _decode(dataset, [frames[place] for place in inside]), strict=True):
                voxels[:, :, place] = picture
    padding = np.isnan(voxels)
    if padding.any():
        voxels[padding] = voxels[~padding].min(initial=np.inf) if not padding.all() else 0
    return voxels


def _decode(dataset: Dataset, frames: Sequence[Frame]) -> Iterator[NDArray[np.float32]]:
    """Each of `frames` of `dataset`, index (column, row); NaN where there is padding, infinity for a stored NaN.

    MONOCHROME1 is inverted within its stored bits. pydicom clears the bits above those (old overlays).
    """
    indices = [frame.index for frame in frames]
    for frame, stored in zip(frames, iter_pixels(dataset, indices=indices), strict=True):
        values = stored.astype(np.float32)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            values = (-1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1) - values
        values = values * np.float32(frame.slope) + np.float32(frame.intercept)
        values[np.isnan(values)] = np.inf
        values[_padding(dataset, stored)] = np.nan
        yield np.asarray(values, np.float32).transpose()


def _padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Where `stored` holds a value that stands for no measurement."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    ends = sorted(_as_stored(int(end), dataset) for end in (value, dataset.get("PixelPaddingRangeLimit", value)))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _as_stored(value: int, dataset: Dataset) -> int:
    """`value` with the sign of the pixels: scanners write 63536 for -2000, and pydicom cannot know."""
    bits = int(dataset.BitsAllocated)
    signed = bool(dataset.PixelRepresentation)
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def check_complete(dataset: Dataset, file: Path, case: str) -> None:
    """Raises TruncatedPixels. pydicom drops compressed pixels that end too early, and reports only plain ones."""
    pixels = next((dataset[name] for name in _PIXELS if name in dataset), None)
    found = ""
    if pixels is None:
        found = "ends before its pixels do"
    elif not pixels.is_undefined_length and len(pixels.value) < get_expected_length(dataset):
        found = f"has {len(pixels.value)} of {get_expected_length(dataset)} bytes of pixels"
    if found:
        raise TruncatedPixels(
            case,
            found=f"'{shown(file)}' {found}",
            needed="complete slices",
            remedy="send the series again from the scanner or archive",
        )


def _name_syntax(dataset: Dataset) -> None:
    """Old files without a preamble do not name their transfer syntax; pydicom found out which it is by reading them."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = plain if is_little else ExplicitVRBigEndian


def _check_plain(dataset: Dataset, case: str) -> None:
    """Raises UnsupportedImage if the values mean something only after a look into a table."""
    if "ModalityLUTSequence" in dataset:
        raise UnsupportedImage(
            case,
            found="pixels whose values are looked up in a table (Modality LUT)",
            needed="values from a slope and an intercept",
            remedy="convert the series to NIfTI with a tool that applies the table",
        )

"""NRRD and MetaImage (`.nrrd`, `.nhdr`, `.mha`, `.mhd`), read with SimpleITK."""

# mypy: allow-untyped-calls
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from tasks.scan.errors import UnsupportedImage, UnusableGeometry
from tasks.scan.geometry import affine_from_lps
from tasks.scan.reading import Header, reading
from tasks.scan.records import Geometry, Source

MOST_DIMENSIONS = 10
"""MetaIO has room for so many, and writes beyond it where a header claims more."""

_DIMENSIONS = re.compile(rb"^NDims\s*=\s*(\d+)", re.MULTILINE)
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*([^\r\n]*?)\s*$", re.MULTILINE)


def data_file(header: Path) -> Path | None:
    """The file beside `header`, or below, that holds its voxels; None where they follow the header, or are elsewhere.

    Raises:
        OSError: the header cannot be read.
    """
    name = _data_name(header)
    return None if name.upper() == "LOCAL" or _is_elsewhere(name) else header.parent / name


def read_header(source: Source, case: str) -> Header:
    """The grid of an NRRD or MetaImage file.

    Raises:
        UnreadableImage, UnsupportedImage, UnusableGeometry
    """
    reader = _open(source, case)
    stored = reader.GetSize()
    if reader.GetDimension() not in (3, 4) or any(length > 1 for length in stored[3:]):
        raise _unsupported(case, f"an image of {' × '.join(str(length) for length in stored)} voxels")
    pixel = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in pixel:
        raise _unsupported(case, f"voxels of type '{pixel}'")
    if _is_nowhere(reader):
        raise UnusableGeometry(
            case,
            found="an NRRD header without `space`, which says which way its axes run in the patient",
            needed="a header that places the voxels in the patient",
            remedy="save the volume again with a program that knows where it lies",
        )
    dimension = reader.GetDimension()
    directions = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    affine = affine_from_lps(directions, np.array(reader.GetSpacing()[:3]), np.array(reader.GetOrigin()[:3]))
    return Header(source=source, geometry=Geometry(shape=(stored[0], stored[1], stored[2]), affine=affine))


def read_stored(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """All voxels (in the stored order) and the grid.

    Raises:
        UnreadableImage, UnsupportedImage
    """
    geometry = read_header(source, case).geometry
    with reading(source.files[-1], case), np.errstate(over="ignore"):
        image = SimpleITK.ReadImage(source.files[0])
        voxels = SimpleITK.GetArrayViewFromImage(image).astype(np.float32)
    # SimpleITK hands out (z, y, x); a fourth axis, here of length 1, comes first.
    return voxels.reshape(geometry.shape[::-1]).transpose(), geometry


def _open(source: Source, case: str) -> SimpleITK.ImageFileReader:
    file = source.files[0]
    with reading(file, case):
        file.open("rb").close()  # SimpleITK has one error for everything; this tells a missing file from a broken one
        if not file.stat().st_size:
            raise EOFError("an empty file")
        detached = file.suffix.lower() in (".nhdr", ".mhd") and len(source.files) == 1 and data_file(file) is None
        if detached or _is_elsewhere(_data_name(file)):  # MetaIO corrupts memory over a name that it cannot open
            raise _unsupported(case, "a header whose voxels are in several files, in another folder, or nowhere")
        if any(part.exists() and not part.is_file() for part in source.files):  # a pipe would be waited for
            raise _unsupported(case, "a header whose voxels are in no file, but a folder, pipe or device")
        dimensions = _DIMENSIONS.search(_head(file))
        if dimensions and int(dimensions.group(1)) > MOST_DIMENSIONS:
            raise _unsupported(case, f"an image of {int(dimensions.group(1))} dimensions")
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(file)
        reader.ReadImageInformation()
        return reader


def _is_nowhere(reader: SimpleITK.ImageFileReader) -> bool:
    """Whether the header leaves the patient out: ITK takes such an NRRD for LPS; known spaces it turns into LPS.

    With four axes NRRD has no name for the space, and ITK itself writes none.
    """
    is_nrrd = reader.HasMetaDataKey("ITK_InputFilterName") and "Nrrd" in reader.GetMetaData("ITK_InputFilterName")
    space = reader.GetMetaData("NRRD_space") if reader.HasMetaDataKey("NRRD_space") else ""
    return is_nrrd and reader.GetDimension() == 3 and not space.startswith("left-posterior-superior")


def _data_name(header: Path) -> str:
    """The file with the voxels, or the pattern of several, as the header says it; LOCAL where it says nothing."""
    match = _DATA_FILE.search(_head(header))
    name = match.group(1).partition(b"\0")[0] if match else b"LOCAL"  # where ITK, written in C, ends it too
    return name.decode(errors="replace")


def _head(header: Path) -> bytes:
    with header.open("rb") as stream:
        return stream.read(1 << 16).split(b"\n\n")[0]


def _is_elsewhere(name: str) -> bool:
    """Whether the voxels are in several files, or in one that a header may not name: it could be any on the machine."""
    return name.upper().startswith("LIST") or "%" in name or name.startswith("/") or ".." in name.split("/")


def _unsupported(case: str, found: str) -> UnsupportedImage:
    return UnsupportedImage(
        case,
        found=found,
        needed="one 3-D volume of one number per voxel in one file",
        remedy="save the volume to segment as .nrrd or .mha",
    )

"""NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`, `.hdr`/`.img`), read and written with nibabel.

The header is read without nibabel's repairs, which turn a spacing of 0 into 1 mm and say so in a log only; and never
by SimpleITK, which fills what a truncated file lacks with zeros.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from tasks.scan.errors import DecompressionBomb, UnreadableImage, UnsupportedImage, UnusableGeometry
from tasks.scan.files import write_whole
from tasks.scan.geometry import as_affine, grid_distance_mm
from tasks.scan.reading import Header, reading, shown
from tasks.scan.records import Affine, Geometry, Shape, Source

FORM_DISTANCE_MM = 1.0
"""sform and qform that put a corner further apart than this are worth a warning."""

MOST_TRAILING_BLOCKS = 64
"""Megabytes that may follow the voxels before the file is refused."""

_HEADERS = {348: Nifti1Header, 540: Nifti2Header}
_MAGIC = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # the spatial codes of xyzt_units; anything else is taken as mm
_GEOMETRY_FIELDS = (
    "pixdim",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
)


def read_header(source: Source, case: str) -> Header:
    """The grid of a NIfTI file: sform before qform, as nibabel has it.

    Raises:
        UnreadableImage, UnsupportedImage, UnusableGeometry
    """
    header = _raw_header(source.files[0], case)
    if bytes(header["magic"])[:2] == b"ni" and len(source.files) == 1:
        raise UnreadableImage(
            case,
            found=f"'{shown(source.files[0])}' is a header without its .img file",
            needed="the pair of .hdr and .img",
            remedy="copy both files again",
        )
    shape, volumes = _shape(header, source.volume, case)
    sform, qform = _forms(header, case)
    used = sform or qform
    if used is None:
        raise UnusableGeometry(
            case,
            found="neither sform nor qform of the NIfTI header is set",
            needed="a header that places the voxels in the patient",
            remedy="convert the scan again from the DICOM series, or set the sform if you know it",
        )
    geometry = Geometry(shape=shape, affine=used)
    return Header(source=source, geometry=geometry, warnings=_warnings(header, geometry, qform), volumes=volumes)


def read_stored(source: Source, case: str) -> tuple[NDArray[np.float32], Geometry]:
    """All voxels (scaled, in the stored order) and the grid. Every byte is read, so that gzip's checksum is checked.

    Raises:
        UnreadableImage, UnsupportedImage, UnusableGeometry, DecompressionBomb
    """
    found = read_header(source, case)
    header = _raw_header(source.files[0], case)
    file = source.files[-1]
    with reading(file, case), _open(file) as stream, np.errstate(over="ignore"):
        proxy = ArrayProxy(stream, header, mmap=False)
        voxels = np.asarray(proxy[..., source.volume] if found.volumes > 1 else proxy, dtype=np.float32)
        _skip_to_last_voxel(stream, header)
        _drain(stream, case)
        return voxels.reshape(found.geometry.shape), found.geometry


def write(labels: NDArray[np.uint8 | np.uint16], geometry: Geometry, source: Source | None, path: Path) -> None:
    """Writes `labels` (stored order) as a gzipped NIfTI file: the same bytes for the same labels, whole or not at all.

    With a NIfTI `source` every geometry field is a copy of the source's; nothing else of its header is taken, since
    free text may name the patient. Otherwise sform and qform (code 1) hold the affine.
    """
    original = None if source is None else _raw_header(source.files[0], path.name)
    header = (Nifti2Header if isinstance(original, Nifti2Header) else Nifti1Header)()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape)
    if original is None:
        header.set_sform(np.array(geometry.affine), code=1)
        header.set_qform(np.array(geometry.affine), code=1)
        header.set_xyzt_units("mm")
    else:
        for field in _GEOMETRY_FIELDS:
            header[field] = original[field]
    image = nibabel.Nifti2Image if isinstance(header, Nifti2Header) else nibabel.Nifti1Image
    write_whole(path, gzip.compress(image(labels, None, header).to_bytes(), compresslevel=6, mtime=0))


def read_geometry_fields(file: Path, case: str) -> bytes:
    """The fields that a mask of `file` copies, as they are stored. Raises UnreadableImage."""
    header = _raw_header(file, case)
    return bytes([header.sizeof_hdr % 256]) + b"".join(header[field].tobytes() for field in _GEOMETRY_FIELDS)


@contextmanager
def _open(file: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if they are gzip, whatever its name."""
    with file.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if packed else stream


def _skip_to_last_voxel(stream: BinaryIO, header: Nifti1Header) -> None:
    """Moves on over the volumes that were not read. Raises EOFError where the file ends before they do."""
    size = header.get_data_dtype().itemsize * math.prod(int(length) for length in header.get_data_shape())
    stream.seek(int(header["vox_offset"]) + size - 1)
    if not stream.read(1):
        raise EOFError("the file ends before its last voxel")


def _drain(stream: BinaryIO, case: str) -> None:
    """Reads on to the end. Raises DecompressionBomb if that is further from the voxels than anything NIfTI allows."""
    for _ in range(MOST_TRAILING_BLOCKS):
        if not stream.read(1 << 20):
            return
    raise DecompressionBomb(
        case,
        found=f"the file goes on for more than {MOST_TRAILING_BLOCKS} MB after its last voxel",
        needed="a file that ends with its voxels",
        remedy="look at where the file comes from, and copy or convert it again",
    )


def _raw_header(file: Path, case: str) -> Nifti1Header:
    with reading(file, case), _open(file) as stream:
        content = stream.read(540)
        sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
        size = next(iter(sizes & _HEADERS.keys()), None)
        if size is None or len(content) < size:
            raise _not_nifti(file, case)
        header = _HEADERS[size](content[:size], check=False)
        if bytes(header["magic"]) not in _MAGIC:
            raise _not_nifti(file, case)
        return _as_the_standard_reads(header)


def _as_the_standard_reads(header: Nifti1Header) -> Nifti1Header:
    """`header`, with the two values that old writers leave at 0 and nibabel takes at their word.

    Voxels in a `.nii` begin behind the header: with an offset of 0 its own bytes would be read as voxels. The sign of
    the third axis is negative or it is not (nifti1.h: "if pixdim[0]=0, this value is treated as +1").
    """
    if bytes(header["magic"])[:2] == b"n+":
        header["vox_offset"] = max(int(header["vox_offset"]), header.single_vox_offset)
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    return header


def _not_nifti(file: Path, case: str) -> UnreadableImage:
    return UnreadableImage(
        case,
        found=f"'{shown(file)}' does not begin with a NIfTI header",
        needed="a NIfTI-1 or NIfTI-2 file",
        remedy="copy or convert it again; Analyze 7.5 files do not say where the voxels are",
    )


def _shape(header: Nifti1Header, volume: int | None, case: str) -> tuple[Shape, int]:
    """Voxels along the three axes, and how many volumes there are, which is one unless a `volume` was asked for."""
    try:
        kind = header.get_data_dtype().kind
        shape = tuple(int(length) for length in header.get_data_shape())
    except (HeaderDataError, KeyError) as error:
        raise _unsupported(case, "voxels of a type that NIfTI does not define") from error
    if kind not in "iuf":
        raise _unsupported(case, "voxels that are colours or complex numbers")
    volumes = shape[3] if len(shape) == 4 and volume is not None else 1
    if len(shape) < 3 or (volumes == 1 and any(length > 1 for length in shape[3:])):
        remedy = "extract the volume to segment, or, of a file of several, name it with the setting ingest.volume"
        raise _unsupported(case, f"an image of {' × '.join(str(length) for length in shape)} voxels", remedy)
    if volume is not None and volumes > 1 and volume >= volumes:
        raise _unsupported(
            case, f"a file of {volumes} volumes, of which number {volume}, counted from 0, was asked for"
        )
    if min(shape) < 1:
        raise UnreadableImage(
            case, found="the header gives an axis no voxel", needed="a valid header", remedy="convert the scan again"
        )
    return (shape[0], shape[1], shape[2]), volumes


def _forms(header: Nifti1Header, case: str) -> tuple[Affine | None, Affine | None]:
    """sform and qform in millimetres; None where the code is 0."""
    scale = np.diag([_MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, 1.0)] * 3 + [1.0])
    try:
        forms = (header.get_sform(coded=True)[0], header.get_qform(coded=True)[0])
    except (HeaderDataError, ValueError) as error:
        raise UnusableGeometry(
            case,
            found="the qform of the NIfTI header is not a rotation, or a spacing is negative",
            needed="a valid sform or qform",
            remedy="convert the scan again from the DICOM series",
        ) from error
    sform, qform = (None if form is None else as_affine(scale @ form) for form in forms)
    return sform, qform


def _warnings(header: Nifti1Header, geometry: Geometry, qform: Affine | None) -> tuple[str, ...]:
    warnings = []
    if qform is not None:
        apart = grid_distance_mm(geometry, Geometry(shape=geometry.shape, affine=qform))
        if apart > FORM_DISTANCE_MM:
            warnings.append(f"sform and qform place a corner {apart:.1f} mm apart; the sform is used")
    if int(header["xyzt_units"]) % 8 in (1, 3):
        warnings.append("the header's lengths are not in mm; they were converted")
    return tuple(warnings)


def _unsupported(
    case: str, found: str, remedy: str = "extract the volume that should be segmented"
) -> UnsupportedImage:
    return UnsupportedImage(
        case,
        found=found,
        needed="one 3-D volume of one number per voxel",
        remedy=remedy,
    )

"""What a scan is, whatever its file is called and however it is packed: the checksum of its voxels and geometry."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from tasks.scan import nifti
from tasks.scan.reading import reading
from tasks.scan.records import Geometry, Source
from tasks.scan.volume import read_channels


def hash_content(voxels: NDArray[np.float32], geometry: Geometry, source: Source, case: str) -> str:
    """SHA-256 of `voxels` (C, X, Y, Z), the grid, and what else of the header reaches a result.

    That is: of a NIfTI file the fields that its mask copies, of a DICOM series the modality, which a flag names. Two
    files that differ elsewhere (name, compression, free text) have one content.
    """
    digest = sha256(repr((source.format, voxels.shape, geometry.shape, geometry.affine)).encode())
    for channel in source.channels:
        digest.update(_header_part(channel, case))
    digest.update(np.ascontiguousarray(voxels, dtype="<f4").data)
    return digest.hexdigest()


def read_content(source: Source, case: str) -> str:
    """The content of `source`, read from its files. Raises what `read_channels` raises."""
    return hash_content(*read_channels(source, case), source, case)


def _header_part(source: Source, case: str) -> bytes:
    file = source.files[0]
    if source.format == "nifti":
        return nifti.read_geometry_fields(file, case)
    if source.format in ("dicom", "sheared"):
        with reading(file, case):
            header: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"], force=True)
            return str(header.get("Modality", "")).encode("utf-8", "backslashreplace")
    return b""

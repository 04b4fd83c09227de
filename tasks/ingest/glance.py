"""What one look into a file told, and what else is asked of a path. The look itself is in `tasks/ingest/look.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tasks.scan.frame import Frame, Referenced
from tasks.scan.records import FORBID_UNKNOWN, Format, Source

NOT_READABLE = "may not be read by this account"


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What one look into a file told. A file that is not `aside` is a scan, or has the name of one."""

    __pydantic_config__ = FORBID_UNKNOWN

    format: Format
    aside: str = ""
    """Why it is no scan."""
    voxels: Path | None = None
    """The file beside an NRRD or MetaImage header that holds its voxels."""
    frames: tuple[Frame, ...] = ()
    """Of DICOM; none where it cannot be read."""
    referenced: Referenced | None = None
    """What a DICOM segmentation was made on."""


Look: TypeAlias = Callable[[Sequence[Path]], dict[Path, Glance]]
"""How files are looked into: one after the other here, or in parallel and with a memory (`tasks/ingest/ingest.py`)."""


def source_of(file: Path, look: Glance) -> Source:
    """The file, with the one that holds its voxels where that is another."""
    if suffix(file) == ".img" and is_there(header := file.with_suffix(".hdr" if file.suffix == ".img" else ".HDR")):
        file = header
    voxels = look.voxels
    if suffix(file) == ".hdr":
        voxels = next(
            (other for other in (file.with_suffix(".img"), file.with_suffix(".IMG")) if other.is_file()), None
        )
    return Source(format=look.format, files=(file,) if voxels is None else (file, voxels))


def is_there(file: Path) -> bool:
    """Whether there is something that this account may see; no OSError for a name that is too long for any file."""
    return os.path.exists(file)  # noqa: PTH110 - Path.exists raises where a folder may not be entered


def is_folder(file: Path) -> bool:
    """Whether there is a folder that this account may see."""
    return os.path.isdir(file)  # noqa: PTH112 - as above


def is_link(file: Path) -> bool:
    """Whether there is a link, wherever it leads, that this account may see."""
    return os.path.islink(file)  # noqa: PTH114 - as above


def suffix(file: Path) -> str:
    """The extension in small letters; `.nii.gz` is one."""
    return ".nii.gz" if file.name.lower().endswith(".nii.gz") else file.suffix.lower()

"""Which DICOM files are one volume: by series, then by size and orientation; by folder and image type where needed."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.uid import UID

from tasks.ingest.found import Found, SetAside
from tasks.ingest.names import name_of_folder, with_suffix
from tasks.scan.dicom import ORIENTATION_TOLERANCE, SliceHeader, read_slice_header
from tasks.scan.errors import UnreadableImage
from tasks.scan.records import Source
from tasks.scan.slices import SAME_POSITION_MM

Volume = list[SliceHeader]
ReadHeader = Callable[[Path, str], SliceHeader]
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_NOT_SCANS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a DICOM segmentation, not a scan",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose, not a scan",
}


def find_series(
    files: Iterable[Path], root: Path, read: ReadHeader = read_slice_header
) -> tuple[list[Found], list[SetAside]]:
    """One case for each volume among DICOM `files`, named by its folder below `root`, and what is no scan.

    `read` gives the header of a file, as `read_slice_header` does: it may have read them all before, in parallel.

    A file that cannot be read belongs to the volume of its folder, which is then refused when its headers are checked;
    where the folder has none or several, such files are a case of their own.
    """
    headers, broken, set_aside = _read(files, read)
    by_series = _grouped(headers, lambda header: header.series or header.file.parent)
    volumes = [(volume, len(parts)) for parts in map(_split, by_series) for volume in parts]
    in_folder = Counter(_folder(volume) for volume, _ in volumes)
    cases = []
    for volume, parts in volumes:
        folder = _folder(volume)
        name = name_of_folder(folder, root)
        if in_folder[folder] > 1:
            name = with_suffix(name, _identity(volume, root, whole_series=parts == 1))
        more = tuple(broken.pop(folder)) if in_folder[folder] == 1 and folder in broken else ()
        image = Source(format="dicom", files=tuple(sorted((*(header.file for header in volume), *more))))
        warnings = _warnings(len(broken.get(folder, ())))
        cases.append(Found(name=name, image=image, warnings=warnings))
    for folder, unread in broken.items():
        name = name_of_folder(folder, root)
        name = f"{name[:69]}-unreadable" if in_folder[folder] else name
        cases.append(Found(name=name, image=Source(format="dicom", files=tuple(unread))))
    return cases, set_aside


def only_series(
    files: Sequence[Path], folder: Path, read: ReadHeader = read_slice_header
) -> tuple[Found, list[SetAside]]:
    """The one volume among `files` as a case; all of them, to be refused, where they are several; `folder` if none."""
    cases, set_aside = find_series(files, folder, read)
    together = tuple(sorted(file for case in cases for file in case.image.files)) or (folder,)
    case = cases[0] if len(cases) == 1 else Found(name="", image=Source(format="dicom", files=together))
    return replace(case, name=folder.name), set_aside


def _read(files: Iterable[Path], read: ReadHeader) -> tuple[Volume, dict[Path, list[Path]], list[SetAside]]:
    """The headers of slices; files that cannot be read, by folder; and what is no scan."""
    headers, set_aside = [], []
    broken: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        try:
            header = read(file, file.name)
        except UnreadableImage:
            broken[file if file.is_dir() else file.parent].append(file)
            continue
        reason = _not_a_scan(header)
        if reason:
            set_aside.append(SetAside(path=file, reason=reason))
        elif header.rows == 0 or header.columns == 0:
            broken[file.parent].append(file)
        else:
            headers.append(header)
    return headers, dict(broken), set_aside


def _not_a_scan(header: SliceHeader) -> str:
    """Why the object is set aside; empty if it is (or, before it was cut short, was) an image of a scan."""
    if header.sop_class in _NOT_SCANS:
        return _NOT_SCANS[header.sop_class]
    is_image = "Image Storage" in UID(header.sop_class).name if header.sop_class else True
    if header.rows == 0 and not is_image:
        return "a DICOM object without an image"
    if "LOCALIZER" in header.image_type:
        return "a localiser"
    if header.sop_class.startswith(_SECONDARY_CAPTURE) and not header.position_mm:
        return "a secondary capture without a position"
    return ""


def _split(series: Volume) -> list[Volume]:
    """The volumes of one series."""
    planes: list[Volume] = []
    for header in series:
        plane = next((plane for plane in planes if _same_plane(plane[0], header)), None)
        if plane is None:
            planes.append([header])
        else:
            plane.append(header)
    return [volume for plane in planes for volume in _split_doubles(plane)]


def _split_doubles(plane: Volume) -> list[Volume]:
    """Slices at one position come from two volumes if folder or image type tells them apart completely."""
    keys: tuple[Callable[[SliceHeader], Hashable], ...] = (
        lambda header: header.file.parent,
        lambda header: header.image_type,
    )
    for key in keys:
        parts = _grouped(plane, key)
        if len(parts) > 1 and _has_doubles(plane) and not any(_has_doubles(part) for part in parts):
            return parts
    return [plane]


def _has_doubles(volume: Volume) -> bool:
    heights_mm = np.sort([header.height_mm for header in volume if header.position_mm and header.orientation])
    return bool((np.diff(heights_mm) < SAME_POSITION_MM).any())


def _same_plane(first: SliceHeader, second: SliceHeader) -> bool:
    same_size = (first.rows, first.columns) == (second.rows, second.columns)
    if not same_size or len(first.orientation) != len(second.orientation):
        return False
    return bool(np.allclose(first.orientation, second.orientation, rtol=0, atol=ORIENTATION_TOLERANCE))


def _grouped(headers: Volume, key: Callable[[SliceHeader], Hashable]) -> list[Volume]:
    groups: dict[Hashable, Volume] = defaultdict(list)
    for header in headers:
        groups[key(header)].append(header)
    return list(groups.values())


def _folder(volume: Volume) -> Path:
    return Path(os.path.commonpath([header.file.parent for header in volume]))


def _identity(volume: Volume, root: Path, *, whole_series: bool) -> str:
    """What stays the same for this volume whatever else arrives: the series' UID, and what splits it from its like."""
    first = volume[0]
    if whole_series:
        return first.series
    directions = ",".join(f"{cosine:.2f}" for cosine in first.orientation)
    where = os.path.relpath(_folder(volume), root)
    return "|".join((first.series, f"{first.rows}x{first.columns}", directions, where, *first.image_type))


def _warnings(broken: int) -> tuple[str, ...]:
    if not broken:
        return ()
    return (f"{broken} DICOM files beside this series cannot be read and may belong to it",)

"""Which DICOM frames are one volume: by series, size, stack and orientation; where needed by folder and contrast."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.ingest.found import Found, SetAside
from tasks.ingest.glance import is_folder
from tasks.ingest.names import name_of_folder, with_suffix
from tasks.scan.errors import UnreadableImage
from tasks.scan.frame import SEGMENTATIONS, Frame, have_echoes, source_of
from tasks.scan.records import Source, join_channels
from tasks.scan.slices import SAME_POSITION_MM

Volume = list[Frame]
Part = tuple[Volume, str]
"""A volume, and a warning about how it was told from the others of its series; mostly none."""
ReadFrames = Callable[[Path, str], Sequence[Frame]]
SEGMENTATION = "a DICOM segmentation, not a scan"
NEARLY_PARALLEL = 0.02
"""Direction cosines of two stacks of one series differ by more; slices that differ by less, about 1°, are one stack,
which is refused when it is read if they differ by more than rounding does."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_IMAGES = ("Image Storage", "US Volume Storage", "Parametric Map Storage")
_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_KINDS: tuple[Callable[[Frame], Hashable], ...] = (
    lambda frame: frame.file.parent,
    lambda frame: frame.image_type,
    lambda frame: frame.echo_ms,
    lambda frame: (frame.image_type, frame.echo_ms),
    lambda frame: frame.description,
)
"""What tells two volumes of one series apart, where slices share positions. Time does not: see `TimeSeries`."""


def find_series(files: Iterable[Path], root: Path, read: ReadFrames) -> tuple[list[Found], list[SetAside]]:
    """One case for each volume among DICOM `files`, named by its folder below `root`, and what is no scan.

    `read` gives the frames of a file, as `tasks/scan/frames.py` reads them, or raises UnreadableImage.

    A file that cannot be read belongs to the volume of its folder, which is then refused when its headers are checked;
    where the folder has none or several, such files are a case of their own.
    """
    frames, broken, set_aside = _read(files, read)
    by_series = _grouped(frames, lambda frame: frame.series or frame.file.parent)
    volumes = [(*part, len(parts)) for parts in map(_split, by_series) for part in parts]
    in_folder = Counter(_folder(volume) for volume, _, _ in volumes)
    cases = []
    for volume, warning, parts in volumes:
        folder = _folder(volume)
        name = name_of_folder(folder, root)
        if in_folder[folder] > 1:
            name = with_suffix(name, _identity(volume, root, whole_series=parts == 1))
        more = tuple(broken.pop(folder)) if in_folder[folder] == 1 and folder in broken else ()
        warnings = _warnings(len(broken.get(folder, ())), warning)
        cases.append(Found(name=name, image=_source(volume, more), warnings=warnings))
    for folder, unread in broken.items():
        name = name_of_folder(folder, root)
        name = f"{name[:69]}-unreadable" if in_folder[folder] else name
        cases.append(Found(name=name, image=Source(format="dicom", files=tuple(unread))))
    return cases, set_aside


def shear_tilted(found: Found) -> Found:
    """`found`, read so that a gantry tilt is sheared out instead of refused."""
    sheared = [replace(one, format="sheared") if one.format == "dicom" else one for one in found.image.channels]
    return replace(found, image=join_channels(sheared))


def _source(volume: Volume, unreadable: Sequence[Path]) -> Source:
    """The volume's files, and those that cannot be read but belong to it, for which its case will be refused."""
    image = source_of(sorted(volume, key=lambda frame: (frame.file, frame.index)))
    frames = image.frames and (*image.frames, *(() for _ in unreadable))
    return replace(image, files=(*image.files, *unreadable), frames=frames)


def _read(files: Iterable[Path], read: ReadFrames) -> tuple[Volume, dict[Path, list[Path]], list[SetAside]]:
    """The frames of scans; files that cannot be read, by folder; and what is no scan."""
    frames: Volume = []
    set_aside: list[SetAside] = []
    broken: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        try:
            inside = read(file, file.name)
        except UnreadableImage:
            broken[file if is_folder(file) else file.parent].append(file)
            continue
        reason = _not_a_scan(inside[0])
        if reason:
            set_aside.append(SetAside(path=file, reason=reason, dicom=True))
        elif inside[0].rows == 0 or inside[0].columns == 0:
            broken[file.parent].append(file)
        else:
            frames += inside
    return frames, dict(broken), set_aside


def _not_a_scan(frame: Frame) -> str:
    """Why the object is set aside: a code and its meaning; empty if it is, or was before it was cut, a scan."""
    is_image = not frame.sop_class or any(kind in frame.class_name for kind in _IMAGES)
    is_known = frame.class_name != ""
    if frame.sop_class in SEGMENTATIONS:
        return SEGMENTATION
    if frame.sop_class == _DOSE:
        return "a radiotherapy dose, not a scan"
    if not is_image and (is_known or frame.rows == 0):
        return "a DICOM object without an image"
    if "LOCALIZER" in frame.image_type:
        return "a localiser: a picture to plan the scan on"
    if frame.sop_class.startswith(_SECONDARY_CAPTURE) and not frame.position_mm:
        return "a secondary capture without a position"
    return ""


def _split(series: Volume) -> list[Part]:
    """The volumes of one series. Slices of which each lies across all others are no volumes, and stay together."""
    alike = _grouped(series, lambda frame: (frame.rows, frame.columns, frame.stack, len(frame.orientation)))
    planes = [plane for frames in alike for plane in _parallel(frames)]
    if len(planes) == len(series):
        return [(series, "")]
    return [part for plane in planes for part in _split_contrasts(plane)]


def _split_contrasts(plane: Volume) -> list[Part]:
    """The volumes of parallel slices.

    Slices at one position come from two volumes if folder, type, echo or description tells them apart completely;
    without such, slices whose contrasts take turns do.
    """
    if not _has_doubles(plane):
        return _split_turns(plane)
    for kind in _KINDS:
        parts = _grouped(plane, kind)
        if len(parts) > 1 and not any(_has_doubles(part) for part in parts):
            return [(part, "") for part in parts]
    return [(plane, "")]


def _split_turns(plane: Volume) -> list[Part]:
    """Two volumes, say, if every second slice is of another contrast; `plane` otherwise, to be judged when it is read.

    Only a complete round of turns is believed: twice at least, in the same order to the end.
    """
    if not all(frame.position_mm and frame.orientation for frame in plane):
        return [(plane, "")]
    upwards = sorted(plane, key=lambda frame: frame.height_mm)
    echoes = have_echoes(plane)
    parts = _grouped(upwards, lambda frame: (frame.contrast, frame.echo_ms if echoes else ""))
    count = len(parts)
    turns = all(upwards[index::count] == part for index, part in enumerate(parts))
    if count == 1 or not turns or len(plane) < 2 * count:
        return [(plane, "")]
    return [(part, f"one of {count} volumes of a series whose slices take turns along the stack") for part in parts]


def _has_doubles(volume: Volume) -> bool:
    heights_mm = np.sort([frame.height_mm for frame in volume if frame.position_mm and frame.orientation])
    return bool((np.diff(heights_mm) < SAME_POSITION_MM).any())


def _parallel(frames: Volume) -> list[Volume]:
    """`frames` by orientation, each with the first one that it is nearly parallel to."""
    planes: list[Volume] = []
    firsts = np.full((len(frames), len(frames[0].orientation)), np.inf)
    for frame in frames:
        near = (np.abs(firsts[: len(planes)] - frame.orientation) <= NEARLY_PARALLEL).all(axis=1)
        number = int(near.argmax()) if near.any() else len(planes)
        if number == len(planes):
            firsts[number] = frame.orientation
            planes.append([])
        planes[number].append(frame)
    return planes


def _grouped(frames: Volume, key: Callable[[Frame], Hashable]) -> list[Volume]:
    groups: dict[Hashable, Volume] = defaultdict(list)
    for frame in frames:
        groups[key(frame)].append(frame)
    return list(groups.values())


def _folder(volume: Volume) -> Path:
    return Path(os.path.commonpath([frame.file.parent for frame in volume]))


def _identity(volume: Volume, root: Path, *, whole_series: bool) -> str:
    """What stays the same for this volume whatever else arrives: the series' UID, and what splits it from its like."""
    first = volume[0]
    if whole_series:
        return first.series
    directions = ",".join(f"{cosine:.4f}" for cosine in first.orientation)
    where = os.path.relpath(_folder(volume), root)
    kind = (first.stack, first.echo_ms, *first.image_type)
    return "|".join((first.series, f"{first.rows}x{first.columns}", directions, where, *kind))


def _warnings(broken: int, *others: str) -> tuple[str, ...]:
    beside = f"{broken} DICOM files beside this series cannot be read and may belong to it" if broken else ""
    return tuple(warning for warning in (beside, *others) if warning)

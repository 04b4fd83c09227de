"""A folder of scans in no particular order, and a CSV manifest. Public data sets' layouts are in `datasets.py`."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from tasks.ingest.found import Found, SetAside
from tasks.ingest.glance import Glance, Look, is_folder, is_link, is_there, source_of
from tasks.ingest.names import make_unique, name_of_file, safe_name
from tasks.ingest.references import match_by_series, say_unused, with_segmentations
from tasks.ingest.series import find_series
from tasks.named import Named
from tasks.scan.errors import UnknownSetting, UnreadableImage
from tasks.scan.frame import Frame
from tasks.scan.records import Source, join_channels

Finding = tuple[list[Found], list[SetAside]]
OUTSIDE = "read through a link that leads out of the cohort"
_LOOK_HERE = Named("tasks.ingest.look", "look_here")
_NO_IMAGE = ("dicom_object_without_an_image", "no_image")
_COLUMNS = ("case", "image", "reference")
_FURTHER = re.compile("image_([2-9]|[1-9][0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How a cohort is searched."""

    excluded: tuple[Path, ...] = ()
    """Folders that are not looked at, for example an output folder inside the cohort."""
    follow_links: bool = False
    """Whether a link may lead out of `root`."""
    root: Path | None = None
    """The whole of what is searched, below which a link may always lead; None: each folder by itself."""
    look: Look = _LOOK_HERE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """A walk through the folders: where it is and was, and what it met that is no file to look into."""

    root: Path
    follow_links: bool
    seen: set[Path]
    set_aside: list[SetAside] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)


def find_in_folder(folder: Path, search: Search) -> Finding:
    """Every scan below `folder`, in the order of the paths; what is hidden or excluded is not looked at."""
    walk = _walk_of(folder, search)
    seen = search.look(list(_files(folder, walk)))
    set_aside = [
        *walk.set_aside,
        *(SetAside(path=file, reason=look.aside) for file, look in seen.items() if look.aside),
    ]
    scans = {file: look for file, look in seen.items() if not look.aside}
    sources = {file: source_of(file, look) for file, look in scans.items() if look.format != "dicom"}
    refused = {item.path for item in walk.set_aside}
    astray = {file for file, source in sources.items() if not refused.isdisjoint(source.files)}
    set_aside += [SetAside(path=file, reason="a link that leads out of the cohort") for file in sorted(astray)]
    sources = {file: source for file, source in sources.items() if file not in astray}
    parts = {part for source in sources.values() for part in source.files[1:]}
    cases = [
        Found(name=name_of_file(file, folder), image=source) for file, source in sources.items() if file not in parts
    ]
    dicom = [file for file, look in scans.items() if look.format == "dicom"]
    series, objects = find_series(dicom, folder, _Headers(seen).read)
    doubtful = Counter(item.path.parent for item in objects if item.code in _NO_IMAGE)
    series = [_with_doubt(case, doubtful) for case in series]
    outside = set(walk.outside)
    found = [_with_warning(case, outside) for case in cases + series]
    return found, [item for item in set_aside if item.path not in parts] + objects


def find_in_manifest(manifest: Path, search: Search) -> Finding:
    """One case a row of `case,image[,reference][,…]`; paths are relative to the manifest. A missing file is a case too.

    The columns `image_2`, `image_3` … hold the further channels of a case, as `image` holds its first.
    Other columns (subject, site, scanner …) are kept as the groups that the case belongs to.

    Raises:
        UnknownSetting: no text in UTF-8, no columns of these names, or one that is nearly called so.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = [str(name) for name in reader.fieldnames or ()], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnknownSetting(f"the manifest '{manifest}' is not CSV in UTF-8; save it as such") from error
    if not {"case", "image"} <= set(columns) or len(set(columns)) < len(columns) or any(map(_is_misspelt, columns)):
        raise UnknownSetting(
            f"the manifest '{manifest}' has the columns {', '.join(sorted(columns)) or 'none'}; "
            "needed: case,image and, if there are any, reference and image_2, image_3 …, each once, with commas between"
        )
    rows = [{str(name): str(value or "").strip() for name, value in row.items() if name is not None} for row in rows]
    files = {file for row in rows for file in _files_of(row, manifest.parent, search)}
    seen = search.look(sorted(files))
    known = replace(search, look=lambda asked: _known(asked, seen))
    found = [_row(row, manifest.parent, known) for row in rows]
    return [case for case, _ in found], [item for _, items in found for item in items]


def add_references(cases: Sequence[Found], folder: Path, search: Search) -> Finding:
    """The cases, each without a reference now having the one in `folder`: of its name, else made on its series.

    Two references of one name are used by no case: which of them is right is not for a program to say.
    """
    found, set_aside = with_segmentations(*find_in_folder(folder, replace(search, excluded=())), folder)
    references = {case.name: case.image for case in make_unique(found, folder)}
    by_name = references.keys() & {case.name for case in cases}
    by_series, several = match_by_series(
        cases, {name: references[name] for name in sorted(references.keys() - by_name)}, search.look
    )
    chosen = {case.name: case.name if case.name in by_name else by_series.get(case.name, "") for case in cases}
    set_aside += say_unused(references.keys() - set(chosen.values()), several, folder)
    return [replace(case, reference=case.reference or references.get(chosen[case.name])) for case in cases], set_aside


@dataclass(frozen=True, slots=True)
class _Headers:
    """The DICOM headers among what was seen, as `find_series` asks for them."""

    seen: dict[Path, Glance]

    def read(self, file: Path, case: str) -> Sequence[Frame]:
        """The frames of `file`. Raises UnreadableImage where there were none."""
        frames = self.seen[file].frames
        if not frames:
            raise UnreadableImage(case, "no readable header", "a complete file", "copy or export it again")
        return frames


def looked_at_once(folders: Sequence[Path], search: Search) -> Search:
    """`search` with a look that knows all files below `folders`: one journey to the pool instead of one for each."""
    seen = search.look([file for folder in folders for file in _files(folder, _walk_of(folder, search))])

    def look(files: Sequence[Path]) -> dict[Path, Glance]:
        return {
            **{file: seen[file] for file in files if file in seen},
            **search.look([f for f in files if f not in seen]),
        }

    return replace(search, look=look)


def _walk_of(folder: Path, search: Search) -> _Walk:
    excluded = {path.resolve() for path in search.excluded}
    own, whole = folder.resolve(), (search.root or folder).resolve()
    root = whole if own.is_relative_to(whole) else own
    return _Walk(root=root, follow_links=search.follow_links, seen=excluded)


def _files(folder: Path, walk: _Walk) -> Iterator[Path]:
    """Files below `folder`, sorted; each real folder once, so that a loop of links ends. An unreadable folder too."""
    walk.seen.add(folder.resolve())
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:  # it was there when its parent was listed
        return
    except OSError:
        yield folder
        return
    for entry in entries:
        if not _may_enter(entry, walk):
            continue
        if not is_folder(entry):
            yield entry
        elif entry.resolve() not in walk.seen:
            yield from _files(entry, walk)
        elif entry.is_symlink():
            walk.set_aside.append(SetAside(path=entry, reason="a link to a folder that is searched already"))


def _may_enter(entry: Path, walk: _Walk) -> bool:
    if entry.name.startswith("."):
        walk.set_aside.append(SetAside(path=entry, reason="a hidden folder" if is_folder(entry) else "a hidden file"))
        return False
    if not is_link(entry) or not is_there(entry) or entry.resolve().is_relative_to(walk.root):
        return True
    if walk.follow_links:
        walk.outside.append(entry)
        return True
    walk.set_aside.append(SetAside(path=entry, reason="a link that leads out of the cohort"))
    return False


def _with_warning(case: Found, outside: set[Path]) -> Found:
    led = bool(outside) and any(not outside.isdisjoint((file, *file.parents)) for file in case.image.files)
    return replace(case, warnings=(*case.warnings, OUTSIDE)) if led else case


def _with_doubt(case: Found, doubtful: Mapping[Path, int]) -> Found:
    """The series with a warning if DICOM objects without an image lie among its slices: damage may have made one so.

    `doubtful` is how many of those each folder has.
    """
    count = sum(doubtful.get(folder, 0) for folder in {file.parent for file in case.image.files})
    if not count:
        return case
    warning = f"{count} DICOM files without an image lie beside this series; they may be slices that are damaged"
    return replace(case, warnings=(*case.warnings, warning))


def _is_misspelt(column: str) -> bool:
    """Whether a column that means nothing here is nearly called like one that does."""
    if column in _COLUMNS or _FURTHER.fullmatch(column):
        return False
    return bool(get_close_matches(column.lower(), _COLUMNS, 1, 0.8))


def _images_of(row: dict[str, str], folder: Path) -> dict[str, Path]:
    """What a row of a manifest names as the channels of its case, by column; the first is always there."""
    further = sorted((name for name in row if _FURTHER.fullmatch(name) and row[name]), key=lambda name: int(name[6:]))
    return {"image": folder / (row["image"] or "(no image named)"), **{name: folder / row[name] for name in further}}


def _reference_of(row: dict[str, str], folder: Path) -> Path | None:
    return folder / row["reference"] if row.get("reference") else None


def _files_of(row: dict[str, str], folder: Path, search: Search) -> list[Path]:
    """The files that a row of a manifest is about: a folder's own, or those that it names."""
    reference = _reference_of(row, folder)
    named = [] if reference is None else [reference]
    for image in _images_of(row, folder).values():
        named += list(_files(image, _walk_of(image, search))) if is_folder(image) else [image]
    return named


def _row(row: dict[str, str], folder: Path, search: Search) -> tuple[Found, list[SetAside]]:
    images, reference = _images_of(row, folder), _reference_of(row, folder)
    channels, others = zip(*(_channel(image, search) for image in images.values()), strict=True)
    needed = ("image", *(f"image_{number}" for number in range(2, len(images) + 1)))
    case = Found(
        name=safe_name(row["case"] or name_of_file(Path(images["image"].name), Path())),
        image=join_channels([channel.image for channel in channels]),
        reference=None if reference is None else _named_source(reference, search),
        warnings=tuple(dict.fromkeys(warning for channel in channels for warning in channel.warnings)),
        channels=() if tuple(images) == needed else tuple(images),
        scans=max(channel.scans for channel in channels),
        needed=needed,
        groups={name: row[name] for name in row if name not in _COLUMNS and not _FURTHER.fullmatch(name)},
    )
    return case, [item for items in others for item in items]


def _channel(image: Path, search: Search) -> tuple[Found, list[SetAside]]:
    """The file, or the one scan in the folder, that a manifest names; and what else lies there.

    Several scans are all of it, to be refused; where there is none, the folder is.
    """
    if not is_folder(image):
        return Found(name="", image=_named_source(image, search)), []
    cases, set_aside = find_in_folder(image, search)
    if len(cases) == 1:
        return cases[0], set_aside
    together = tuple(sorted({file for case in cases for file in case.image.files})) or (image,)
    return Found(name="", image=Source(format="dicom", files=together), scans=max(1, len(cases))), set_aside


def _named_source(file: Path, search: Search) -> Source:
    """The source that a manifest names: whatever it looks like, it is meant to be one."""
    return source_of(file, search.look([file])[file])


def _known(files: Sequence[Path], seen: dict[Path, Glance]) -> dict[Path, Glance]:
    return {file: seen[file] for file in files if file in seen}

"""Layouts of public data sets: Medical Segmentation Decathlon, nnU-Net raw, BIDS."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.ingest.found import Found, SetAside
from tasks.ingest.glance import source_of
from tasks.ingest.layouts import Finding, Search, add_references, find_in_folder, looked_at_once
from tasks.ingest.names import name_of_file
from tasks.scan.errors import UnknownSetting
from tasks.scan.records import Source, join_channels

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_NOT_ANATOMY = ("func", "dwi", "fmap", "perf", "eeg", "meg", "ieeg", "beh", "mrs", "nirs", "motion")
_BIDS_LABELS = re.compile(r"_(dseg|mask|seg|probseg|defacemask)$")


def find_in_decathlon(folder: Path, search: Search) -> Finding:
    """The cases of `imagesTr`, each with its label map of `labelsTr`, of `imagesTs`, and listed files that are missing.

    Where `dataset.json` names several modalities, each file holds one volume for each.

    Raises:
        UnknownSetting: `dataset.json` does not list the training images.
    """
    cases, set_aside = find_in_folder(folder / "imagesTr", search)
    present = {file for case in cases for file in case.image.files}
    known = present | {item.path for item in set_aside}
    listed = [file for file in _listed(folder) if file not in known]
    missing = [file for file in listed if file.resolve().is_relative_to(folder.resolve())]
    reason = "listed outside of the data set"
    set_aside = set_aside + [SetAside(path=file, reason=reason) for file in listed if file not in missing]
    looks = search.look(missing)
    cases += [Found(name=name_of_file(file, file.parent), image=source_of(file, looks[file])) for file in missing]
    cases, set_aside = _with_labels_and_tests(folder, (cases, set_aside), search)
    count = len(_channels_of(folder))
    return [replace(case, image=_volumes(case.image, count)) for case in cases], set_aside


def find_in_nnunet(folder: Path, search: Search) -> Finding:
    """The cases of `imagesTr` and `imagesTs`, `CASE_0000` and its further channels being one, with those of `labelsTr`.

    A case with other channels than `dataset.json` names is found, and refused when its headers are checked.
    """
    found = find_in_folder(folder / "imagesTr", search) if (folder / "imagesTr").is_dir() else ([], [])
    return _with_labels_and_tests(folder, _join_channels(found, folder), search)


def find_in_bids(folder: Path, search: Search) -> Finding:
    """The anatomical images of `sub-*`, with subject and session as groups, and their label maps under `derivatives`.

    A label map belongs to an image when it begins with its name, or with its entities and ends in `_dseg`. Where
    several do, none is used: which of them is right is not for a program to say.
    """
    cases: list[Found] = []
    set_aside: list[SetAside] = []
    subjects = sorted(path for path in folder.glob("sub-*") if path.is_dir())
    search = looked_at_once(subjects, search)
    for subject in subjects:
        found, others = find_in_folder(subject, search)
        cases += [_bids_case(case) for case in found]
        set_aside += others
    scans = [case for case in cases if not _not_an_anatomical_image(case)]
    set_aside += [
        SetAside(path=case.image.files[0], reason=reason)
        for case in cases
        if (reason := _not_an_anatomical_image(case))
    ]
    if not (folder / "derivatives").is_dir():
        return scans, set_aside
    labels, others = find_in_folder(folder / "derivatives", search)
    stems: dict[str, list[Found]] = defaultdict(list)
    for label in labels:
        stems[name_of_file(label.image.files[0], label.image.files[0].parent)].append(label)
    matched = [_with_bids_reference(case, stems) for case in scans]
    return [case for case, _ in matched], [*set_aside, *others, *(item for _, items in matched for item in items)]


def is_decathlon(folder: Path) -> bool:
    """Whether the folder holds `dataset.json` and `imagesTr`."""
    return (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir()


def is_nnunet(folder: Path) -> bool:
    """Whether `dataset.json` is nnU-Net's, which names channels or a file ending, or a file is called `…_0000`."""
    images = [folder / name for name in ("imagesTr", "imagesTs") if (folder / name).is_dir()]
    if not images or not (folder / "dataset.json").is_file():
        return False
    if _description(folder).keys() & {"channel_names", "file_ending"}:
        return True
    return any(next(images_folder.glob("*_0000.*"), None) for images_folder in images)


def is_bids(folder: Path) -> bool:
    """Whether the folder holds `dataset_description.json` and a subject."""
    return (folder / "dataset_description.json").is_file() and any(folder.glob("sub-*"))


def _with_labels_and_tests(folder: Path, finding: Finding, search: Search) -> Finding:
    cases, set_aside = finding
    if (folder / "labelsTr").is_dir():
        cases, unused = add_references(cases, folder / "labelsTr", search)
        set_aside = set_aside + unused
    if (folder / "imagesTs").is_dir():
        tests = find_in_folder(folder / "imagesTs", search)
        tests = _join_channels(tests, folder) if is_nnunet(folder) else tests
        cases, set_aside = cases + tests[0], set_aside + tests[1]
    return cases, set_aside


def _join_channels(finding: Finding, folder: Path) -> Finding:
    """The files `CASE_0000`, `CASE_0001` … as one case each; others stay what they are."""
    names = _channels_of(folder)
    channels: dict[str, list[tuple[str, Found]]] = defaultdict(list)
    for case in finding[0]:
        match = _CHANNEL.fullmatch(case.name)
        name, number = match.groups() if match else (case.name, "0000")
        channels[name].append((number, case))
    cases = []
    for name, numbered in channels.items():
        numbered.sort(key=lambda pair: pair[0])
        numbers = tuple(number for number, _ in numbered)
        needed = tuple(f"{channel:04d}" for channel in range(len(names) or len(numbers)))
        image = join_channels([case.image for _, case in numbered])
        warnings = tuple(dict.fromkeys(warning for _, case in numbered for warning in case.warnings))
        found = replace(numbered[0][1], name=name, image=image, warnings=warnings, needed=needed)
        cases.append(found if numbers == needed else replace(found, channels=numbers))
    return cases, finding[1]


def _volumes(image: Source, count: int) -> Source:
    """A NIfTI file as the source of `count` channels, one volume each; anything else as it is."""
    if image.format != "nifti" or count < 2:
        return image
    return join_channels([replace(image, volume=number) for number in range(count)])


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / entry["image"] for entry in _description(folder)["training"]]
    except (KeyError, TypeError) as error:
        raise UnknownSetting(
            f"'{folder / 'dataset.json'}' does not list its training images as the Decathlon does"
        ) from error


def channel_names(description: Mapping[str, Any]) -> tuple[str, ...]:
    """What `dataset.json` calls its channels (nnU-Net) or modalities (Decathlon), in their order; empty: nothing.

    Raises TypeError or ValueError when it names them otherwise than by number.
    """
    named = description.get("channel_names", description.get("modality", {}))
    numbered = sorted(dict(named).items(), key=lambda item: (len(item[0]), item[0]))
    return tuple(str(name) for _, name in numbered)


def _channels_of(folder: Path) -> tuple[str, ...]:
    try:
        return channel_names(_description(folder))
    except (TypeError, ValueError) as error:
        raise UnknownSetting(
            f'\'{folder / "dataset.json"}\' does not name its channels by number; write them as {{"0": "T1"}}'
        ) from error


def _description(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnknownSetting(f"'{folder / 'dataset.json'}' is not JSON; copy or write it again") from error
    return content if isinstance(content, dict) else {}


def _bids_case(case: Found) -> Found:
    """The case under its file's name, which BIDS makes unique, with the entities that group it."""
    file = case.image.files[0]
    entities = dict(re.findall(r"(?:^|_)(sub|ses)-([A-Za-z0-9]+)", file.name))
    words = {"sub": "subject", "ses": "session"}
    return replace(
        case,
        name=name_of_file(file, file.parent),
        groups={words[entity]: value for entity, value in entities.items()},
    )


def _not_an_anatomical_image(case: Found) -> str:
    if case.image.files[0].parent.name in _NOT_ANATOMY:
        return "not an anatomical image: BIDS keeps those in anat"
    return "a label map beside the scans" if _BIDS_LABELS.search(case.name) else ""


def _with_bids_reference(case: Found, stems: Mapping[str, list[Found]]) -> tuple[Found, list[SetAside]]:
    """The case with its one label map among those of `stems`, or why it has none of several."""
    of_scan = f"{case.name.rsplit('_', 1)[0]}_dseg"
    fitting = [stem for stem in stems if stem in (case.name, of_scan) or stem.startswith(f"{case.name}_")]
    own = [label for stem in fitting for label in stems[stem]]
    if len(own) > 1:
        reason = f"several references of one case: {len(own)} begin with '{case.name}'"
        return case, [SetAside(path=own[0].image.files[0].parent, reason=reason)]
    return replace(case, reference=own[0].image if own else None), []

"""A cohort of people who never lived, with real anatomy: each is the MNI152 brain, deformed and scanned differently."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tasks.demo.person import Floor, Person, make_person
from tasks.demo.scanner import Protocol
from tasks.demo.template import Template, load_template
from tasks.scan.errors import UnknownSetting, UnwritableOutput

VERSION = 1
"""Grows when the same seed gives another cohort."""

LABELS = {1: "grey matter", 2: "white matter"}

PROTOCOLS = (  # odd people become NIfTI files, even people DICOM series
    Protocol(axes="RAS", spacing_mm=(1, 1, 1)),
    Protocol(axes="LPS", spacing_mm=(1, 1, 2)),
    Protocol(axes="LPS", spacing_mm=(1, 1, 4)),
    Protocol(axes="PIR", spacing_mm=(1, 1, 1)),
    Protocol(axes="RSA", spacing_mm=(1, 1, 3)),
    Protocol(axes="LIP", spacing_mm=(1, 1, 2)),
    Protocol(axes="ASL", spacing_mm=(1, 1, 1.5)),
    Protocol(axes="LPS", spacing_mm=(1, 1, 3), tilt_degrees=10),
    Protocol(axes="LAS", spacing_mm=(1, 1, 1)),
    Protocol(axes="PIR", spacing_mm=(1, 1, 2)),
    Protocol(axes="RSA", spacing_mm=(1, 1, 3), tilt_degrees=-8),
    Protocol(axes="LPS", spacing_mm=(1, 1, 4), tilt_degrees=12),
)
"""Axial, sagittal, coronal and oblique, cubes and thick slices, among those to train on and among the incoming."""

_BROKEN_PROTOCOL = Protocol(axes="LPS", spacing_mm=(1, 1, 4))
_MANIFEST = "cohort.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoCohort:
    """Where the demo's scans are.

    `training_manifest`: CSV `case,image,reference` of two thirds of the people, paths relative to its folder.
    `incoming`: the scans of the others, and two broken ones. `references`: a label map for each person, on the grid of
    the scan. `labels`: JSON, the name of each label value. `floor`: by case and label, the Dice of the undeformed
    template; a model that learned where tissue usually is, and nothing of how it looks, gets about this.
    """

    training_manifest: Path
    incoming: Path
    references: Path
    labels: Path
    floor: dict[str, Floor]


def make_cohort(
    folder: Path, *, people: int = 12, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> DemoCohort:
    """The cohort of `seed` in `folder`; if it was made before, without any work.

    `progress` is called with the number of scans made so far and of all scans.

    Raises:
        DemoUnavailable: if the template is not installed.
        UnknownSetting: if there are fewer than 3 people.
        UnwritableOutput: if `folder` holds anything else.
    """
    if people < 3:
        raise UnknownSetting(f"a demo cohort of {people} people; needed: 3 or more, since two of three are trained on")
    if not is_made(folder, people=people, seed=seed):
        make_cohort_of(load_template(), folder, people=people, seed=seed, progress=progress)
    return read_cohort(folder)


def make_cohort_of(
    template: Template, folder: Path, *, people: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Makes the cohort from any template. `folder` appears when all of it is written, and not before."""
    making = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)  # left by a run that was killed
    for part in ("training", "incoming", "references"):
        (making / part).mkdir(parents=True)
    everyone = _list_people(making, people, seed)
    floor = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # scipy and zlib release Python's lock as they work
        for person, dice in zip(everyone, pool.map(partial(make_person, template), everyone), strict=True):
            floor[person.case] = dice
            if progress is not None:
                progress(len(floor), len(everyone))
    _break_scans(everyone[people:])
    _write_tables(making, everyone[: people - people // 3])
    unbroken = {person.case: floor[person.case] for person in everyone[:people]}
    _write_json(making / _MANIFEST, {**_description(people, seed), "floor": unbroken})
    making.replace(folder)


def is_made(folder: Path, *, people: int, seed: int) -> bool:
    """Whether `folder` holds this very cohort; False if that is empty or not there.

    Raises:
        UnwritableOutput: if it holds something else, which is not ours to delete.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    manifest = folder / _MANIFEST
    made = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    wanted = _description(people, seed)
    if wanted.items() <= made.items():
        return True
    raise UnwritableOutput(
        f"'{folder}' holds something other than the demo cohort of {people} people with seed {seed} "
        f"(version {VERSION}): remove it, or name another folder"
    )


def read_cohort(folder: Path) -> DemoCohort:
    """The record of the cohort that lies in `folder`."""
    floor = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["floor"]
    return DemoCohort(
        training_manifest=folder / "training.csv",
        incoming=folder / "incoming",
        references=folder / "references",
        labels=folder / "labels.json",
        floor={case: {int(label): dice for label, dice in row.items()} for case, row in floor.items()},
    )


def _list_people(folder: Path, people: int, seed: int) -> list[Person]:
    """All who are to be made: those to train on, the incoming, and the two whose scans will be broken."""
    everyone = []
    for number in range(1, people + 1):
        case = f"person-{number:02d}"
        part = "training" if number <= people - people // 3 else "incoming"
        everyone.append(
            Person(
                case=case,
                image=folder / part / (case if number % 2 == 0 else f"{case}.nii.gz"),
                reference=folder / "references" / f"{case}.nii.gz",
                protocol=PROTOCOLS[(number - 1) % len(PROTOCOLS)],
                seed=(seed, number),
            )
        )
    for number, name in ((people + 1, "missing-slice"), (people + 2, "truncated.nii.gz")):
        case = f"person-{number:02d}-{name}"
        image = folder / "incoming" / case
        everyone.append(Person(case=case, image=image, reference=None, protocol=_BROKEN_PROTOCOL, seed=(seed, number)))
    return everyone


def _break_scans(broken: Sequence[Person]) -> None:
    """Takes the middle slice away from the first scan, a series, and half of its bytes from the second, a file."""
    series, file = (person.image for person in broken)
    slices = sorted(series.iterdir())
    slices[len(slices) // 2].unlink()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _write_tables(folder: Path, training: Sequence[Person]) -> None:
    with (folder / "training.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("case", "image", "reference"))
        for person in training:
            rows.writerow((person.case, person.image.relative_to(folder), f"references/{person.case}.nii.gz"))
    _write_json(folder / "labels.json", {str(label): name for label, name in LABELS.items()})


def _description(people: int, seed: int) -> dict[str, int]:
    return {"version": VERSION, "seed": seed, "people": people}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

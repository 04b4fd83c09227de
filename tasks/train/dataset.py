"""What a data set says of itself: names of its labels, modality, folds."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.scan.errors import EmptyCohort, UnknownSetting
from tasks.scan.records import Case, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Names of the foreground labels by value, and whether intensities have a scale of their own (CT)."""

    labels: dict[int, str]
    quantitative: bool


def describe_dataset(dataset: Path) -> Dataset:
    """From `dataset.json` (Medical Segmentation Decathlon, nnU-Net) in a folder, or `labels.json` beside a manifest.

    Raises UnknownSetting when neither is there or it names no foreground label.
    """
    folder = dataset if dataset.is_dir() else dataset.parent
    for name in ("dataset.json", "labels.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            break
    else:
        raise UnknownSetting(
            f'\'{folder}\' names no labels: add labels.json, for example {{"1": "liver", "2": "tumour"}}'
        )
    labels = _by_value(content.get("labels", content))
    if not labels:
        raise UnknownSetting(f'\'{folder / name}\' names no label above 0; add one, for example {{"1": "liver"}}')
    channels = content.get("modality", content.get("channel_names", {}))
    return Dataset(labels=labels, quantitative=str(channels.get("0", "")).upper() == "CT")


def read_folds(path: Path) -> dict[str, int]:
    """The fold of each case, from a CSV with the columns `case` and `fold`. Raises UnknownSetting."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {row["case"]: int(row["fold"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError) as error:
        raise UnknownSetting(f"folds '{path}': {error!r}; it needs the columns case and fold (a number)") from error


def hold_out(
    cases: Sequence[Outcome[Case]], folds: Path | None, fold: int | None
) -> tuple[list[Outcome[Case]], list[Outcome[Case]]]:
    """The cases to train on, and those of `fold`; without folds, all and none.

    Cases that `folds` does not name are left out of both. Raises EmptyCohort when one side would be empty.
    """
    if folds is None:
        return list(cases), []
    fold_of = read_folds(folds)
    held_out = [case for case in cases if fold_of.get(case.name) == fold]
    training = [case for case in cases if fold_of.get(case.name, fold) != fold]
    if not held_out or not training:
        raise EmptyCohort(
            f"fold {fold} holds out {len(held_out)} of {len(cases)} cases and leaves {len(training)} to train on; "
            f"'{folds}' knows the folds {sorted(set(fold_of.values()))}, under the case names of the data set"
        )
    return training, held_out


def refused(volumes: Sequence[Outcome[Any]]) -> list[Outcome[Any]]:
    """The training cases that could not be used, as the report lists them."""
    return [volume for volume in volumes if volume.problem]


def _by_value(labels: dict[str, object]) -> dict[int, str]:
    """Label names by value, from {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net), without the background."""
    pairs = [(int(key), str(value)) if key.isdigit() else (int(str(value)), key) for key, value in labels.items()]
    return {value: name for value, name in sorted(pairs) if value > 0}

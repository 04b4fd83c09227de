"""What a data set says of itself: names of its labels, modality, folds."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefect import get_run_logger

from tasks.ingest.datasets import channel_names
from tasks.model import LARGEST_LABEL, LONGEST_NAME, is_label_name
from tasks.scan.errors import EmptyCohort, UnknownSetting
from tasks.scan.records import Case, Outcome

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Names of the foreground labels by value, and what the channels are, as far as the data set says it."""

    labels: dict[int, str]
    modalities: tuple[str, ...] = ()
    """The name of each channel, in their order; empty: unknown, and so is their number."""


def describe_dataset(dataset: Path) -> Dataset:
    """From `dataset.json` (Medical Segmentation Decathlon, nnU-Net) in a folder, or `labels.json` beside a manifest.

    Raises UnknownSetting when neither is there, or it does not name foreground labels in the one way or the other.
    """
    folder = dataset if dataset.is_dir() else dataset.parent
    file = next((folder / name for name in ("dataset.json", "labels.json") if (folder / name).is_file()), None)
    if file is None:
        raise UnknownSetting(
            f'\'{folder}\' names no labels: add labels.json, for example {{"1": "liver", "2": "tumour"}}'
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        labels = _by_value(content.get("labels", content))
        modalities = channel_names(content)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:  # or JSON of another shape
        raise UnknownSetting(
            f'\'{file}\' cannot be read as names of labels ({error}); write them as {{"1": "liver", "2": "tumour"}}'
        ) from error
    if not labels:
        raise UnknownSetting(f'\'{file}\' names no label above 0; add one, for example {{"1": "liver"}}')
    if max(labels) > LARGEST_LABEL:
        raise UnknownSetting(f"'{file}' names label {max(labels)}; label values go up to {LARGEST_LABEL}")
    if not all(is_label_name(name) for name in labels.values()):
        raise UnknownSetting(
            f"'{file}' has a label whose name is not 1 to {LONGEST_NAME} characters that can be printed"
        )
    return Dataset(labels=labels, modalities=modalities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which cases one network learns from and which it never sees, by name; `fold` is None when it learns from all."""

    fold: int | None
    training: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """The fold of each case, and what must be known before a score on a held-out fold is believed."""

    fold_of: dict[str, int]
    warning: str = ""


def read_folds(path: Path) -> Folds:
    """The folds in a CSV with the columns `case`, `fold` and, so that leaks can be seen, `subject`.

    Raises UnknownSetting when it cannot be read that way.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        fold_of = {row["case"]: int(row["fold"]) for row in rows}
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UnknownSetting(f"folds '{path}': {error!r}; it needs the columns case and fold (a number)") from error
    if not rows or "subject" not in rows[0]:
        warning = "names no subject: if one person has several cases, scores on a held-out fold may be too good"
        return Folds(fold_of=fold_of, warning=f"'{path.name}' {warning}; add a column subject")
    folds_of: dict[str, set[int]] = {}
    for row in rows:
        folds_of.setdefault(row["subject"], set()).add(int(row["fold"]))
    leaking = sorted(subject for subject, folds in folds_of.items() if len(folds) > 1)
    if leaking:
        warning = f"puts {len(leaking)} of {len(folds_of)} subjects into several folds: scores will be too good"
        return Folds(fold_of=fold_of, warning=f"'{path.name}' {warning}; keep each subject in one fold")
    return Folds(fold_of=fold_of)


def split_cases(cases: Sequence[Outcome[Case]], folds: Path | None, fold: int | None) -> list[Split]:
    """One split that holds out `fold`; one for each fold when `fold` is None; one of all cases without `folds`.

    Cases that `folds` does not name are in none. Logs what `Folds` warns of. Raises EmptyCohort when one side of a
    split would be empty.
    """
    if folds is None:
        return [Split(fold=None, training=tuple(case.name for case in cases), held_out=())]
    known = read_folds(folds)
    if known.warning:
        get_run_logger().warning("folds: %s", known.warning)
    numbers = sorted(set(known.fold_of.values())) if fold is None else [fold]
    splits = []
    for number in numbers:
        held_out = tuple(case.name for case in cases if known.fold_of.get(case.name) == number)
        training = tuple(case.name for case in cases if known.fold_of.get(case.name, number) != number)
        if not held_out or not training:
            raise EmptyCohort(
                f"fold {number} holds out {len(held_out)} of {len(cases)} cases, leaving {len(training)} to train on; "
                f"'{folds}' knows the folds {sorted(set(known.fold_of.values()))}, under the case names of the data set"
            )
        splits.append(Split(fold=number, training=training, held_out=held_out))
    return splits


def involved(cases: Sequence[Outcome[T]], splits: Sequence[Split]) -> list[Outcome[T]]:
    """The cases that any of `splits` learns from or holds out."""
    return select(cases, [name for one in splits for name in (*one.training, *one.held_out)])


def select(cases: Sequence[Outcome[T]], names: Sequence[str]) -> list[Outcome[T]]:
    """The cases called one of `names`, in their order."""
    wanted = set(names)
    return [case for case in cases if case.name in wanted]


def refused(volumes: Sequence[Outcome[Any]], splits: Sequence[Split]) -> list[Outcome[Any]]:
    """The cases that could not be learnt from and are held out nowhere: the report lists them."""
    held_out = {name for one in splits for name in one.held_out}
    return [volume for volume in volumes if volume.problem and volume.name not in held_out]


def _by_value(labels: dict[str, object]) -> dict[int, str]:
    """Label names by value, from {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net), without the background."""
    pairs = [(int(key), str(value)) if key.isdigit() else (int(str(value)), key) for key, value in labels.items()]
    return {value: name for value, name in sorted(pairs) if value > 0}

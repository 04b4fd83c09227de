"""Tonight against the ledger: which results still hold, which masks must only be scored again, which scans are due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from statistics import median
from typing import TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.attempt import OF_CASE
from tasks.export import DICOM
from tasks.ledger.keys import STAGES, Recipes, chain, differences
from tasks.ledger.look import Now, look_at_cases
from tasks.ledger.table import Entry, read_entries, read_recipes, read_waiting, renew_ledger, write_night
from tasks.scan.records import Case, Outcome, Scores, Segmentation

V = TypeVar("V")
NAMED = 10
"""Of the reasons why cases are to be done, so many have a line in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the ledger is, and by what tonight's results would be made."""

    path: Path
    masks: Path
    recipes: Recipes
    retry: bool = False
    """Whether what was quarantined is tried again, though nothing of it changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tonight:
    """The cases of tonight, each in one of three lists."""

    settled: list[Outcome[Scores]] = field(default_factory=list)
    """Nothing is to be done: refused by ingest, or the result of an earlier night that holds."""
    segmented: list[Outcome[Segmentation]] = field(default_factory=list)
    """The mask holds; it is to be scored again."""
    due: list[Outcome[Case]] = field(default_factory=list)
    """To be segmented."""
    why: dict[str, str] = field(default_factory=dict)
    """By case, of those that are to be done: what is new."""


@task(name="recall", cache_policy=NO_CACHE)
def recall(cases: Sequence[Outcome[Case]], ledger: Ledger | None, pool: str) -> Tonight:
    """What is to be done for each of `cases`. Raises UnreadableLedger or UnwritableOutput."""
    tonight = Tonight(due=list(cases)) if ledger is None else look_up(cases, ledger, pool)
    logger = get_run_logger()
    for why, count in Counter(tonight.why.values()).most_common(NAMED):
        logger.info("recall: %d cases to be done: %s", count, why)
    for name, why in tonight.why.items():
        extra = {OF_CASE: {"case": name, "stage": "recall", "status": "due", "why": why}, "send_to_api": False}
        logger.info("recall: case '%s' is to be done: %s", name, why, extra=extra)
    logger.info("recall: nothing is to be done for %d of %d cases", len(tonight.settled), len(cases))
    return tonight


def look_up(cases: Sequence[Outcome[Case]], ledger: Ledger, pool: str) -> Tonight:
    """What is to be done for each of `cases`. Only files whose stamps do not tell are read, in the pool.

    Raises UnreadableLedger or UnwritableOutput.
    """
    readable = [case.value for case in cases if case.value]
    renew_ledger(ledger.path)
    entries = read_entries(ledger.path, [case.name for case in readable])
    recipes = read_recipes(ledger.path)
    now = look_at_cases([(case, entries.get(case.name)) for case in readable], ledger.masks, pool)
    tonight, pending = Tonight(), {}
    for outcome in cases:
        case, entry = outcome.value, entries.get(outcome.name)
        if case is None:  # refused by ingest, which looks at every scan every night
            tonight.settled.append(_as(outcome, None))
            continue
        stage, why = _first_to_do(now[case.name], entry, ledger, recipes)
        if stage:
            tonight.why[case.name], pending[case.name] = why, now[case.name].seen
        if entry is None or stage == STAGES[0]:
            tonight.due.append(outcome)
        elif stage:
            tonight.segmented.append(_segmented(outcome, case, entry, now[case.name], ledger.masks))
        else:
            tonight.settled.append(_settled(outcome, case, entry, now[case.name], ledger.masks))
    waiting = read_waiting(ledger.path)
    seconds = _expect_seconds(tonight.due, entries)
    tonight.due.sort(key=lambda case: (case.name not in waiting, -seconds[case.name]))
    renewed = [_renewed(entry, now[name]) for name, entry in entries.items()]
    write_night(
        ledger.path,
        pending,
        seconds if _has_times(entries) else {},
        [one for one in renewed if one != entries[one.name]],
    )
    return tonight


def _has_times(entries: Mapping[str, Entry]) -> bool:
    return any(entry.result.scores for entry in entries.values())


def _expect_seconds(due: Sequence[Outcome[Case]], entries: Mapping[str, Entry]) -> dict[str, float]:
    """Processor seconds that each of `due` will take: what it took, else what others took a voxel, times its voxels.

    Without any history they are voxels: good for an order, no times.
    """
    took = {name: sum(cost.seconds for cost in entry.result.costs) for name, entry in entries.items()}
    sizes = {
        name: prod(entry.result.scores.segmentation.case.geometry.shape)
        for name, entry in entries.items()
        if entry.result.scores
    }
    pace = median(took[name] / size for name, size in sizes.items()) if sizes else 1.0
    return {
        case.name: took[case.name] if case.name in sizes else pace * prod(case.value.geometry.shape)
        for case in due
        if case.value
    }


def _first_to_do(
    now: Now, entry: Entry | None, ledger: Ledger, recipes: Mapping[str, Mapping[str, str]]
) -> tuple[str | None, str]:
    """From which stage on a case is to be done, and why: the first, the scoring alone, or none."""
    if entry is None:
        return STAGES[0], "new"
    keys = chain(now.content, ledger.recipes, now.seen.reference_sha256)
    needed = STAGES[: STAGES.index(entry.last_stage) + 1]
    stale = next((stage for stage in needed if keys[stage] != entry.keys.get(stage)), None)
    if stale not in (None, "evaluate"):
        return STAGES[0], _why(str(stale), now, entry, ledger.recipes, recipes)
    if entry.result.scores and not now.mask_holds:
        return STAGES[0], "its mask is not there as it was written"
    gone = entry.result.scores and not _export_holds(entry.result.scores.segmentation, ledger.masks)
    if stale or gone:
        why = _why(stale, now, entry, ledger.recipes, recipes) if stale else "its DICOM SEG is not there"
        return STAGES[-1], why
    if ledger.retry and entry.result.problem:
        return "evaluate" if entry.result.scores else STAGES[0], "it is to be tried again"
    return None, ""


def _why(stage: str, now: Now, entry: Entry, tonight: Recipes, recipes: Mapping[str, Mapping[str, str]]) -> str:
    """What is new, in words, for a case whose `stage` is the first that must be done again."""
    if stage not in entry.keys:
        return f"{entry.result.problem.stage if entry.result.problem else stage} did not end well"
    if now.content != entry.content:
        return "the scan changed"
    changed = differences(recipes.get(entry.recipes[stage], {}), tonight[stage].ingredients)
    return f"{stage}: {', '.join(changed)}" if changed else "the reference changed"


def _segmented(outcome: Outcome[Case], case: Case, entry: Entry, now: Now, masks: Path) -> Outcome[Segmentation]:
    """The case as it was before it was scored."""
    scores = _scores(case, entry, now, masks)
    costs = tuple(cost for cost in entry.result.costs if cost.stage != "evaluate")
    return replace(_as(outcome, scores.segmentation if scores else None), costs=costs)


def _settled(outcome: Outcome[Case], case: Case, entry: Entry, now: Now, masks: Path) -> Outcome[Scores]:
    """The case with the result of an earlier night, which still holds."""
    result = entry.result
    value = _scores(case, entry, now, masks)
    return replace(_as(outcome, value), problem=result.problem, costs=result.costs, unchanged=True)


def _as(outcome: Outcome[Case], value: V | None) -> Outcome[V]:
    """`outcome` with another value."""
    return Outcome(
        name=outcome.name,
        case=outcome.case,
        value=value,
        problem=outcome.problem,
        costs=outcome.costs,
        found=outcome.found,
    )


def _scores(case: Case, entry: Entry, now: Now, masks: Path) -> Scores | None:
    """The scores that the ledger has, of the scan, reference and groups as they are called tonight."""
    scores = entry.result.scores
    if scores is None:
        return None
    segmentation = scores.segmentation
    known = replace(case, geometry=segmentation.case.geometry, warnings=(*case.warnings, *entry.result.flags))
    moved = replace(segmentation, mask=masks / segmentation.mask.name, dicom_seg=_exported(segmentation, masks))
    return replace(scores, segmentation=replace(moved, case=known, input_sha256=now.input_sha256))


def _exported(segmentation: Segmentation, masks: Path) -> Path | None:
    """Where the DICOM SEG of a case is tonight, if it was exported."""
    return masks.with_name(DICOM) / segmentation.dicom_seg.name if segmentation.dicom_seg else None


def _export_holds(segmentation: Segmentation, masks: Path) -> bool:
    """Whether what was exported is still there; `verify` looks at what is in it."""
    file = _exported(segmentation, masks)
    return file is None or file.is_file()


def _renewed(entry: Entry, now: Now) -> Entry:
    """`entry` with tonight's stamps of those files that are what it says they are."""
    same_scan = now.content == entry.content
    same_reference = now.seen.reference_sha256 == entry.seen.reference_sha256
    seen = replace(
        entry.seen,
        input=now.seen.input if same_scan else entry.seen.input,
        reference=now.seen.reference if same_reference else entry.seen.reference,
    )
    return replace(
        entry,
        seen=seen,
        mask=now.mask if now.mask_holds else entry.mask,
        input_sha256=now.input_sha256 if same_scan else entry.input_sha256,
    )

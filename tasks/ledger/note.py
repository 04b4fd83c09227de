"""What became of a case goes into the ledger as soon as its outputs have their names: a kill costs what is in hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tasks.ledger.keys import STAGES, chain
from tasks.ledger.look import BYTES, hash_or_nothing, stamp_files
from tasks.ledger.recall import Ledger
from tasks.ledger.table import Entry, Result, Seen, read_seen, write_entries
from tasks.pool import map_small_cases
from tasks.scan.records import Outcome, Scores, Source

PASSING = frozenset({"not_enough_memory"})
"""Reasons that are of the moment, not of the scan: what was free when its turn came."""


def note(outcomes: list[Outcome[Scores]], ledger: Ledger | None, pool: str) -> list[Outcome[Scores]]:
    """`outcomes`, after they were written into the `ledger`, if there is one. Raises UnwritableOutput.

    A case that the program failed on (`failed`) is written without a key for that stage, so that the next night tries
    it again; so is one whose files changed since they were looked at.
    """
    if ledger is None:
        return outcomes
    seen = read_seen(ledger.path, [outcome.name for outcome in outcomes])
    unread = [one for one in outcomes if one.name in seen and one.value is None and one.case]
    files = [Outcome(name=one.name, value=one.case.image.files) for one in unread if one.case]
    checksums = {one.name: one.value or "" for one in map_small_cases(pool, "compare", hash_or_nothing, files)}
    entries = [_entry(one, seen[one.name], checksums.get(one.name, ""), ledger) for one in outcomes if one.name in seen]
    recipes = {recipe.sha256: recipe.ingredients for recipe in ledger.recipes.values()}
    write_entries(ledger.path, entries, recipes)
    return outcomes


def _entry(outcome: Outcome[Scores], seen: Seen, checksum: str, ledger: Ledger) -> Entry:
    """`checksum` is that of the files of a case that has no result."""
    segmentation = outcome.value.segmentation if outcome.value else None
    content = segmentation.content_sha256 if segmentation else f"{BYTES}{checksum}"
    done = _stages_done(outcome, seen)
    keys = chain(content, ledger.recipes, seen.reference_sha256)
    return Entry(
        name=outcome.name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seen=seen,
        mask=None,
        input_sha256=segmentation.input_sha256 if segmentation else checksum,
        content=content,
        keys={stage: keys[stage] for stage in done},
        recipes={stage: ledger.recipes[stage].sha256 for stage in done},
        result=_result(outcome),
    )


def _stages_done(outcome: Outcome[Scores], seen: Seen) -> tuple[str, ...]:
    """The stages of which the outcome is the result, and will be next night if nothing changes."""
    problem = outcome.problem
    if problem is None:
        return STAGES
    stage = STAGES[-1] if problem.stage == "export" else problem.stage
    if stage not in STAGES:
        return ()
    place = STAGES.index(stage)
    if problem.status == "failed" or problem.reason in PASSING:
        return STAGES[:place] if outcome.value else ()
    if outcome.value is None and (
        outcome.case is None or seen.input is None or stamp_files(outcome.case.image.files) != seen.input
    ):
        return ()  # the bytes that were refused may not be those whose checksum is known, or are not there any more
    return STAGES[: place + 1]


def _result(outcome: Outcome[Scores]) -> Result:
    """What is kept of `outcome`: everything but which files the scan and the reference were."""
    scores = outcome.value
    flags: tuple[str, ...] = ()
    if scores and outcome.case:
        case = scores.segmentation.case
        flags = case.warnings[len(outcome.case.warnings) :]
        image = Source(format=case.image.channels[0].format, files=case.image.files[:1])
        kept = replace(case, image=image, reference=None, groups={})
        scores = replace(scores, segmentation=replace(scores.segmentation, case=kept))
    return Result(scores=scores, problem=outcome.problem, costs=outcome.costs, flags=flags)

"""The pictures of a run: which cases need one, and who draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.named import Named
from tasks.picture import Picture, picture_at, picture_file
from tasks.pool import MANY, map_cases
from tasks.report.tables import case_status
from tasks.scan.records import Outcome, Scores

DRAW = Named("tasks.drawing", "draw_picture")


def draw_pictures(outcomes: Sequence[Outcome[Scores]], folder: Path, pool: str) -> dict[str, Picture]:
    """The picture of every segmented case, by the case's name, drawn into `folder` by the pool; others go away.

    The picture of a case that is `unchanged` since an earlier run is kept, if it is there.
    """
    segmented = [outcome for outcome in outcomes if outcome.value]
    kept = {
        outcome.name: picture_at(folder, outcome.name)
        for outcome in segmented
        if case_status(outcome) == "unchanged" and picture_file(folder, outcome.name).is_file()
    }
    cases = [
        Outcome(name=outcome.name, case=outcome.case, value=outcome.value)
        for outcome in segmented
        if outcome.name not in kept
    ]
    drawn: list[Outcome[Picture]] = map_cases(pool, "picture", DRAW, cases, folder, together=MANY)
    pictures = kept | {outcome.name: _picture_of(outcome) for outcome in drawn}
    for former in set(folder.glob("*.png")) - {folder.parent / picture.path for picture in pictures.values()}:
        former.unlink()
    return pictures


def _picture_of(outcome: Outcome[Picture]) -> Picture:
    return outcome.value or Picture(problem=outcome.problem.message if outcome.problem else "")

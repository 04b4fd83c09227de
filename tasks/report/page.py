"""The page for people: what ran, what failed and how to mend it, how good the rest is, and how it looks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.ingest import SetAside
from tasks.report.pictures import OUTLINES, draw_planes
from tasks.report.summary import summary_frame
from tasks.report.tables import case_of, case_problem, case_status, metrics_frame, scores_of
from tasks.scan.errors import CaseError
from tasks.scan.files import write_whole
from tasks.scan.records import Outcome, Scores

LISTED = 50
STATUSES = ("segmented", "unchanged", "quarantined", "failed", "carried_over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A case to look at: why it was chosen, and its pictures by plane, or the reason why there are none."""

    title: str
    scores: Scores
    mean_dice: float
    pictures: Mapping[str, str]
    problem: str


def write_page(
    outcomes: Sequence[Outcome[Scores]],
    labels: Mapping[int, str],
    run: Mapping[str, Any],
    output: Path,
    set_aside: Sequence[SetAside] = (),
) -> None:
    """Write `report.html` and the folder `pictures` beside it, which holds what this page shows and nothing else.

    `labels` names the foreground labels by value. `run` says what ran: every entry that is not None is shown, in its
    order, under its key; an entry may be a mapping (versions, settings), which is folded away. Of the files in
    `set_aside`, which are no case, the first `LISTED` are named with the reason.
    """
    output.mkdir(parents=True, exist_ok=True)
    ordered = sorted(outcomes, key=lambda outcome: outcome.name)
    folder = output / "pictures"
    examples = [draw_example(title, scores, folder) for title, scores in choose_examples(ordered)]
    metrics = metrics_frame(ordered, labels)
    page = _template().render(
        facts={key: entry for key, entry in run.items() if entry is not None and not isinstance(entry, Mapping)},
        lists={key: flatten(entry) for key, entry in run.items() if isinstance(entry, Mapping)},
        set_aside=set_aside[:LISTED],
        not_listed=max(0, len(set_aside) - LISTED),
        outcomes=ordered,
        labels=dict(sorted(labels.items())),
        counts=Counter(case_status(outcome) for outcome in ordered),
        statuses=STATUSES,
        troubled=[outcome for outcome in ordered if case_problem(outcome)],
        summary=summary_frame(metrics, labels).to_dict("records"),
        strips={label: rows.to_dict("records") for label, rows in metrics.dropna(subset="dice").groupby("label")},
        ticks=dice_ticks(metrics["dice"]),
        examples=examples,
        outlines=OUTLINES,
    )
    write_whole(output / "report.html", page.encode("utf-8", "backslashreplace"))
    shown = {Path(picture).name for example in examples for picture in example.pictures.values()}
    for former in folder.glob("*.png"):
        if former.name not in shown:
            former.unlink()


def choose_examples(outcomes: Sequence[Outcome[Scores]]) -> list[tuple[str, Scores]]:
    """The three worst cases and the median one by mean Dice; by volume the extremes and the median without any Dice."""
    by_name = sorted(outcomes, key=lambda outcome: outcome.name)
    segmented = [outcome.value for outcome in by_name if outcome.value]
    compared = sorted((scores for scores in segmented if not math.isnan(mean_dice(scores))), key=mean_dice)
    if compared:
        median = (len(compared) - 1) // 2
        return _pick(compared, ((0, "worst"), (1, "second worst"), (2, "third worst"), (median, "median")))
    by_volume = sorted(segmented, key=lambda scores: sum(scores.segmentation.volumes_ml.values()))
    last, median = len(by_volume) - 1, (len(by_volume) - 1) // 2
    return _pick(by_volume, ((0, "smallest volume"), (median, "median volume"), (last, "largest volume")))


def _pick(ordered: Sequence[Scores], places: Sequence[tuple[int, str]]) -> list[tuple[str, Scores]]:
    # A case may hold several places: of three cases the second worst is the median too.
    titles: dict[int, list[str]] = {}
    for place, title in places:
        if 0 <= place < len(ordered):
            titles.setdefault(place, []).append(title)
    return [(" and ".join(titles[place]), ordered[place]) for place in sorted(titles)]


def mean_dice(scores: Scores) -> float:
    """The mean Dice over the labels where it is defined; NaN where it is defined for none."""
    defined = [score.dice for score in scores.scores if not math.isnan(score.dice)]
    return sum(defined) / len(defined) if defined else math.nan


def draw_example(title: str, scores: Scores, folder: Path) -> Example:
    """The example with its pictures drawn into `folder`, or with the reason why they could not be drawn."""
    pictures: dict[str, str] = {}
    problem = ""
    try:
        pictures = {plane: f"{folder.name}/{path.name}" for plane, path in draw_planes(scores, folder).items()}
    except (CaseError, OSError, MemoryError) as error:
        problem = str(error) or type(error).__name__
    return Example(title=title, scores=scores, mean_dice=mean_dice(scores), pictures=pictures, problem=problem)


def dice_ticks(dice: pd.Series[float]) -> list[float]:
    """The ticks of the Dice axis, the first one at or below every value, the last one 1; empty without values.

    >>> dice_ticks(pd.Series([0.83, 0.91]))
    [0.8, 0.85, 0.9, 0.95, 1.0]
    """
    if dice.isna().all():
        return []
    room = 1 - float(dice.min())
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if room <= 5 * step)
    first = min(math.floor(round(float(dice.min()) / step, 6)), round(1 / step) - 1)
    return [round(float(tick), 2) for tick in np.arange(first, round(1 / step) + 1) * step]


def _template() -> Any:
    # Everything that reaches the page was written by somebody else: headers, file names, labels. All of it is escaped.
    environment = Environment(
        loader=PackageLoader("tasks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": as_text,
        "volume": as_volume,
        "status": case_status,
        "problem": case_problem,
        "case": case_of,
        "scores": scores_of,
    }
    return environment.get_template("report.html.j2")


def flatten(entries: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The leaves of nested mappings under dotted keys.

    >>> flatten({"inference": {"device": "auto"}})
    {'inference.device': 'auto'}
    """
    leaves: dict[str, Any] = {}
    for key, entry in entries.items():
        leaves |= flatten(entry, f"{above}{key}.") if isinstance(entry, Mapping) else {f"{above}{key}": entry}
    return leaves


def as_text(number: float, digits: int) -> str:
    """`number` with that many decimals; ∞ where infinite, – where undefined."""
    if math.isnan(number):
        return "–"
    return "∞" if math.isinf(number) else f"{number:.{digits}f}"


def as_volume(volume_ml: float) -> str:
    """`volume_ml` with three significant digits, and every digit before the point; – where undefined.

    >>> [as_volume(0.001234), as_volume(1234.5), as_volume(9.999), as_volume(0.0)]
    ['0.00123', '1234', '10.0', '0']
    """
    if not volume_ml or not math.isfinite(volume_ml):
        return as_text(volume_ml, 0)
    rounded = float(f"{volume_ml:.3g}")
    return as_text(volume_ml, max(0, 2 - math.floor(math.log10(rounded))))

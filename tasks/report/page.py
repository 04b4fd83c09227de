"""The page for people: what ran, what failed and how to mend it, how good the rest is, and how every case looks."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.ingest import SetAside
from tasks.picture import OUTLINES, PLANES, Picture
from tasks.report.charts import bland_altman, dice_strips, volume_strips
from tasks.report.delta import Delta, worth_a_look
from tasks.report.summary import summary_frame
from tasks.report.tables import case_of, case_problem, case_status, metrics_frame, scores_of
from tasks.report.trends import STATUSES, drifts, night_counts, trend_lines
from tasks.scan.files import write_whole
from tasks.scan.reading import veiled_words
from tasks.scan.records import Case, Outcome, Problem, Score, Scores

LISTED = 50
OF_THE_DELTA = "since_last_night"
"""What `run.json` says in a line, and the page in a section of its own."""
POINTS = 4000
"""Cases times labels that the page shows one by one; the tables beside it hold all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What the page shows beside the cases: files that are none, pictures by case, the nights before, groups."""

    set_aside: Sequence[SetAside] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    nights: pd.DataFrame | None = None
    groups: pd.DataFrame | None = None
    """The summary by site, scanner …"""
    delta: Delta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case as the page shows it; `number` is its anchor. Means and sums are NaN where nothing is defined."""

    number: int
    name: str
    status: str
    case: Case | None
    problem: Problem | None
    segmented: bool
    scores: Sequence[Score]
    mean_dice: float
    lowest: Score | None
    volume_ml: float
    reference_ml: float
    lost: bool
    """Whether a structure was missed, or found where there is none."""
    seconds: float
    flags: Sequence[str]
    picture: Picture


def write_page(
    outcomes: Sequence[Outcome[Scores]],
    labels: Mapping[int, str],
    run: Mapping[str, Any],
    output: Path,
    beside: Beside = Beside(),
) -> None:
    """Write `report.html` into `output`.

    `labels` names the foreground labels by value. `run` says what ran: every entry that is not None is shown, in its
    order, under its key; an entry may be a mapping (versions, settings), which is folded away. Of the files that are no
    case the first `LISTED` are named with the reason, from the cohort downwards.
    """
    output.mkdir(parents=True, exist_ok=True)
    ordered = sorted(outcomes, key=lambda outcome: outcome.name)
    metrics = metrics_frame(ordered, labels)
    shown = shown_labels(metrics, labels)
    rows = [_row(number, outcome, shown, beside.pictures) for number, outcome in enumerate(ordered)]
    environment = _environment()
    script, _, _ = PackageLoader("tasks.report", ".").get_source(environment, "report.js.j2")
    page = environment.get_template("report.html.j2").render(
        facts=_facts(run),
        lists={key: flatten(entry) for key, entry in run.items() if isinstance(entry, Mapping)},
        set_aside=[(_place(item, run), item.reason) for item in beside.set_aside[:LISTED]],
        not_listed=max(0, len(beside.set_aside) - LISTED),
        rows=rows,
        number={row.name: row.number for row in rows},
        labels=dict(sorted(labels.items())),
        shown=shown,
        counts=Counter(row.status for row in rows),
        statuses=STATUSES,
        troubled=[row for row in rows if row.problem],
        summary=summary_frame(metrics, labels).to_dict("records"),
        dice=dice_strips(metrics, shown),
        volumes=[] if metrics["dice"].notna().any() else volume_strips(metrics, shown),
        agreement=bland_altman(metrics, shown),
        **_before(beside, shown),
        groups=[] if beside.groups is None else beside.groups[beside.groups["label"].isin(shown)].to_dict("records"),
        examples=[(title, rows[index]) for title, index in choose_examples(rows)],
        outlines=OUTLINES,
        planes=tuple(PLANES),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_whole(output / "report.html", page.encode("utf-8", "backslashreplace"))


def shown_labels(metrics: pd.DataFrame, labels: Mapping[int, str]) -> dict[int, str]:
    """The labels that are shown case by case: all, or those with the lowest mean Dice where they are too many."""
    most = max(1, POINTS // max(1, metrics["case"].nunique()))
    means = metrics.groupby("label")["dice"].mean()
    worst_first = sorted(labels, key=lambda label: (means.get(label, math.nan) if len(means) else 0.0, label))
    return {label: labels[label] for label in sorted(worst_first[:most])}


def choose_examples(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """The three worst cases and the median one by mean Dice; by volume the extremes and the median without any Dice."""
    compared = sorted((row for row in rows if not math.isnan(row.mean_dice)), key=lambda row: row.mean_dice)
    if compared:
        median = (len(compared) - 1) // 2
        return _pick(compared, ((0, "worst"), (1, "second worst"), (2, "third worst"), (median, "median")))
    by_volume = sorted((row for row in rows if row.segmented), key=lambda row: row.volume_ml)
    last, median = len(by_volume) - 1, (len(by_volume) - 1) // 2
    return _pick(by_volume, ((0, "smallest volume"), (median, "median volume"), (last, "largest volume")))


def _pick(ordered: Sequence[Row], places: Sequence[tuple[int, str]]) -> list[tuple[str, int]]:
    # A case may hold several places: of three cases the second worst is the median too.
    titles: dict[int, list[str]] = {}
    for place, title in places:
        if 0 <= place < len(ordered):
            titles.setdefault(place, []).append(title)
    return [(" and ".join(titles[place]), ordered[place].number) for place in sorted(titles)]


def _row(number: int, outcome: Outcome[Scores], shown: Mapping[int, str], pictures: Mapping[str, Picture]) -> Row:
    own = outcome.value.scores if outcome.value else ()
    defined = [score for score in own if not math.isnan(score.dice)]
    case = case_of(outcome)
    return Row(
        number=number,
        name=outcome.name,
        status=case_status(outcome),
        case=case,
        problem=case_problem(outcome),
        segmented=outcome.value is not None,
        scores=scores_of(outcome, shown),
        mean_dice=sum(score.dice for score in defined) / len(defined) if defined else math.nan,
        lowest=min(defined, key=lambda score: score.dice) if defined else None,
        volume_ml=sum(outcome.value.segmentation.volumes_ml.values()) if outcome.value else math.nan,
        reference_ml=sum(score.volume_reference_ml for score in own) if own else math.nan,
        lost=any(score.status in ("missed", "false_positive") for score in own),
        seconds=sum(cost.seconds for cost in outcome.costs),
        flags=case.warnings if case else (),
        picture=pictures.get(outcome.name, Picture(problem="none was drawn")),
    )


def _before(beside: Beside, shown: Mapping[int, str]) -> dict[str, Any]:
    """What the page says of the nights before: what changed since the last of them, and the trends of all."""
    changed = [*worth_a_look(beside.delta, LISTED)] if beside.delta else []
    since = {"delta": beside.delta, "changed": changed, "trends": [], "nights": [], "drifts": []}
    if beside.nights is None or not (lines := trend_lines(beside.nights, shown)):
        return since
    return since | {"trends": lines, "nights": night_counts(beside.nights), "drifts": drifts(beside.nights)}


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """What `run` says in a word or number."""
    known = {key: entry for key, entry in run.items() if entry is not None and key != OF_THE_DELTA}
    return {key: entry for key, entry in known.items() if not isinstance(entry, Mapping)}


def _place(item: SetAside, run: Mapping[str, Any]) -> str:
    """Where a file that was set aside lies; of a DICOM object without words that may be the patient's."""
    place = _below(item.path, run)
    return veiled_words(place) if item.dicom else place


def _below(path: Path, run: Mapping[str, Any]) -> str:
    """`path` from the cohort downwards, for what is above is nobody's business; its name where it lies elsewhere."""
    cohort = Path(str(run.get("cohort", "")))
    cohort = cohort.parent if cohort.suffix == ".csv" else cohort
    return str(path.relative_to(cohort)) if path.is_relative_to(cohort) and path != cohort else path.name


def _environment() -> Environment:
    # Everything that reaches the page was written by somebody else: headers, file names, labels. All of it is escaped.
    environment = Environment(
        loader=PackageLoader("tasks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": as_text, "volume": as_volume, "at": as_percent, "known": as_known}
    return environment


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


def as_known(cell: object, nothing: str = "–") -> str:
    """A text, or `nothing` where the cell of a table is empty."""
    return cell if isinstance(cell, str) and cell else nothing


def as_volume(volume_ml: float) -> str:
    """`volume_ml` with three significant digits, and every digit before the point; – where undefined.

    >>> [as_volume(0.001234), as_volume(1234.5), as_volume(9.999), as_volume(0.0)]
    ['0.00123', '1234', '10.0', '0']
    """
    if not volume_ml or not math.isfinite(volume_ml):
        return as_text(volume_ml, 0)
    rounded = float(f"{volume_ml:.3g}")
    return as_text(volume_ml, max(0, 2 - math.floor(math.log10(rounded))))


def as_percent(place: float) -> str:
    """`place` (0 to 100) as an attribute: `93.1%`."""
    return f"{place:.1f}%"

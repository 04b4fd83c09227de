"""What a comparison leaves behind: two tables, and a page for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from tasks.compare.differences import CASE_COLUMNS, CHANGES, HIGHER_IS_BETTER, Comparison
from tasks.report.tables import as_csv
from tasks.scan.files import write_whole

SHOWN = 50
"""How many cases the page shows of each kind; the table beside it has all of them."""


def write_comparison(
    comparison: Comparison, runs: tuple[Path, Path], fallen: Mapping[str, float], margin: float | None, output: Path
) -> None:
    """Write `comparison.csv`, `comparison_cases.csv` and `comparison.html` into the folder `output`.

    `fallen` are the labels whose mean Dice fell by more than `margin`; without a margin there is no gate to speak of.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "comparison.csv", as_csv(comparison.labels))
    write_whole(output / "comparison_cases.csv", as_csv(comparison.cases))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("tasks.compare", "."), PackageLoader("tasks.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = signed
    environment.filters["p"] = as_p
    cases = comparison.cases
    page = environment.get_template("comparison.html.j2").render(
        runs=[str(run) for run in runs],
        fallen=dict(fallen),
        margin=margin,
        counts={change: int((cases["change"] == change).sum()) for change in CHANGES},
        metrics={
            metric: comparison.labels[comparison.labels["metric"] == metric].to_dict("records")
            for metric in HIGHER_IS_BETTER
        },
        reach=reach(comparison.labels),
        lists={change: worst_first(cases[cases["change"] == change]) for change in CHANGES if change != "same"},
        shown=SHOWN,
    )
    write_whole(output / "comparison.html", page.encode("utf-8"))


def worst_first(cases: pd.DataFrame) -> list[dict[str, object]]:
    """The first `SHOWN` rows: the largest change first; without a difference (new, gone) in the order of the table."""
    order = cases["difference"].abs().sort_values(ascending=False, kind="stable").index
    return [dict(zip(CASE_COLUMNS, row, strict=True)) for row in cases.loc[order].head(SHOWN).to_numpy()]


def reach(labels: pd.DataFrame) -> float:
    """Half the width of the axis of Dice differences: the smallest of 0.01, 0.02, 0.05, … that holds all intervals."""
    dice = labels[labels["metric"] == "dice"]
    ends = dice[["difference_mean", "difference_ci95_low", "difference_ci95_high"]].abs().max().max()
    return next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if ends <= step), 1.0)


def signed(number: float, digits: int) -> str:
    """`number` with its sign; ±∞ where infinite, – where undefined.

    >>> signed(-0.0123, 3)
    '−0.012'
    """
    if math.isnan(number):
        return "–"
    text = "∞" if math.isinf(number) else f"{abs(number):.{digits}f}"
    return text if number == 0 else f"{'−' if number < 0 else '+'}{text}"


def as_p(p: float) -> str:
    """A p-value for people; – where there was no test."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"

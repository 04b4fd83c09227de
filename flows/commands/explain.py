"""`segment-cohort explain`: everything that is known of one case of a run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pandas as pd

from tasks.report import read_run
from tasks.scan.errors import EmptyCohort, UnreadableRun

OF_THE_RUN = ("started", "finished", "flow_run", "model", "model_sha256", "device", "precision")


def execute(arguments: Namespace) -> int:
    """0 when the run knows the case; its row of `cases.csv`, its metrics, its files and the run are printed."""
    run, name = read_run(arguments.output), arguments.case
    row = _rows_of(name, arguments.output / "cases.csv")
    metrics = _rows_of(name, arguments.output / "metrics.csv")
    if name not in run.cases or row.empty:
        known = ", ".join(list(run.cases)[:10])
        raise EmptyCohort(f"the run in '{arguments.output}' has no case '{name}'; it has {known} …")
    for column, value in row.iloc[0].items():
        if value:
            print(f"{column:<20} {value}")
    print(metrics.drop(columns="case").to_string(index=False))
    for kind in ("input", "reference"):
        for file in getattr(run.cases[name], kind):
            print(f"{kind:<20} {file}")
    for key in OF_THE_RUN:
        print(f"{key:<20} {getattr(run, key)}")
    return 0


def _rows_of(case: str, path: Path) -> pd.DataFrame:
    """The rows of `case` in a table of the run, as texts. Raises UnreadableRun when the table is not what it was."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table[table["case"] == case]
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableRun(
            f"'{path}' cannot be read ({error!r}); `segment-cohort verify` says what changed"
        ) from error

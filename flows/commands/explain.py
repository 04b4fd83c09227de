"""`segment-cohort explain`: everything that is known of one case of a run."""

from __future__ import annotations

from argparse import Namespace

import pandas as pd

from tasks.report import read_run
from tasks.scan.errors import EmptyCohort


def execute(arguments: Namespace) -> int:
    """0 when the run knows the case; its row of `cases.csv`, its metrics, its input files and the run are printed."""
    run = read_run(arguments.output)
    cases = pd.read_csv(arguments.output / "cases.csv", dtype=str, keep_default_na=False)
    rows = cases[cases["case"] == arguments.case]
    if rows.empty:
        known = ", ".join(cases["case"].head(10))
        raise EmptyCohort(f"the run in '{arguments.output}' has no case '{arguments.case}'; it has {known} …")
    for column, value in rows.iloc[0].items():
        if value:
            print(f"{column:<20} {value}")
    metrics = pd.read_csv(arguments.output / "metrics.csv", dtype={"case": str})
    print(metrics[metrics["case"] == arguments.case].drop(columns="case").to_string(index=False))
    for file in run["cases"][arguments.case]["input"]:
        print(f"{'input':<20} {file}")
    for key in ("started", "finished", "flow_run", "model", "model_sha256", "device", "precision"):
        print(f"{key:<20} {run[key]}")
    return 0

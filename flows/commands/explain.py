"""`segment-cohort explain`: what a case is, what was done to it, when, by what, and why."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from flows.journal import lines_of
from tasks.ledger import LEDGER, Entry, looked_at, read_entries, read_recipes
from tasks.report import RUN, Run, read_run
from tasks.report.delta import previous_name
from tasks.scan.errors import EmptyCohort, SetupError, UnreadableRun, printable

OF_THE_RUN = ("started", "finished", "flow_run", "model", "model_sha256", "device", "precision")
LAST = 30
"""So many of the newest lines of the log are shown."""


def execute(arguments: Namespace) -> int:
    """0 when the run knows the case; what tables, record, ledger and log say of it is printed."""
    output, name = arguments.output, arguments.case
    run, named = _last_run(output)
    row = _rows_of(name, output / named("cases.csv"))
    metrics = _rows_of(name, output / named("metrics.csv"))
    if name not in run.cases or row.empty:
        known = ", ".join(list(run.cases)[:10])
        raise EmptyCohort(f"the run in '{output}' has no case '{name}'; it has {known} …")
    _print_known(row.iloc[0].to_dict())
    _print_metrics(metrics)
    if (output / "delta.csv").exists() and len(delta := _rows_of(name, output / "delta.csv")):
        _print("since the night before", delta.iloc[0].drop(["case", "status", "label"]).to_dict())
    _explain_making(name, output)
    _print("files", {"input": ", ".join(run.cases[name].input), "reference": ", ".join(run.cases[name].reference)})
    _print("the run that wrote these tables", {key: str(getattr(run, key)) for key in OF_THE_RUN})
    _print_log(name, output, run)
    return 0


def _last_run(output: Path) -> tuple[Run, Callable[[str], str]]:
    """The run that wrote its report last, and what its files are called: while one is at work, the one before it."""
    try:
        return read_run(output), str
    except UnreadableRun:
        if (output / RUN).exists() or not (output / previous_name(RUN)).exists():
            raise
    print("a run is at work here, or was killed: this is what the one before it made\n")
    return read_run(output, previous_name(RUN)), previous_name


def _explain_making(name: str, output: Path) -> None:
    """What the ledger knows: when the result was made, stage by stage, and by which settings, weights and packages."""
    try:
        with looked_at(output / LEDGER) as ledger:
            entry = read_entries(ledger, [name]).get(name)
            recipes = read_recipes(ledger)
    except SetupError as error:
        print(f"\nthe ledger cannot be read: {error}")
        return
    if entry is None:
        print("\nthe ledger does not know this case: no stage after ingest has had it")
        return
    print(f"\nmade {entry.made}")
    rows = [
        {
            "stage": cost.stage,
            "began": datetime.fromtimestamp(cost.began, UTC).isoformat(timespec="seconds") if cost.began else "",
            "seconds": f"{cost.seconds:.2f}",
            "peak_memory_mb": f"{cost.peak_memory_mb:.0f}",
            "key": entry.keys.get(cost.stage, "")[:12],
        }
        for cost in entry.result.costs
    ]
    print(pd.DataFrame(rows).to_string(index=False))
    _print("made by", _ingredients(entry, recipes))


def _ingredients(entry: Entry, recipes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Settings, weights and versions of packages that the stages were done with; of all there is one checksum a stage.

    What the weights stand for, as the plan and the fingerprint of the training data, `model.json` has.
    """
    known: dict[str, str] = {}
    for stage, checksum in entry.recipes.items():
        for name, value in recipes.get(checksum, {}).items():
            is_setting = name.startswith(("inference.", "evaluation.", "export.", "model.weights"))
            is_package = name.startswith("code.") and not name.startswith(("code.tasks.", "code.unet."))
            if is_setting or is_package:
                known[name.removeprefix("code.")] = value.strip("'")
        known[f"recipe of {stage}"] = checksum[:12]
    return known


def _print_log(name: str, output: Path, run: Run) -> None:
    """The newest lines of the log about the case; those of the last run are marked."""
    lines = lines_of(name, output)
    if not lines:
        return
    print(f"\nlog (* in the last run; {max(0, len(lines) - LAST)} older lines are in log.jsonl)")
    for line in lines[-LAST:]:
        mark = "*" if line.get("run") == run.flow_run else " "
        print(printable(f"{mark} {str(line.get('time', ''))[:19]} {line.get('message', '')}"))


def _print_metrics(metrics: pd.DataFrame) -> None:
    """One column a label, one line a number that any of them has."""
    by_label = metrics.drop(columns="case").set_index("name").T if "name" in metrics else metrics.T
    print(by_label[(by_label != "").any(axis=1)].to_string())


def _print(title: str, facts: Mapping[Any, object]) -> None:
    print(f"\n{title}")
    _print_known(facts)


def _print_known(facts: Mapping[Any, object]) -> None:
    for key, value in facts.items():
        if value:
            print(printable(f"{key:<20} {value}"))


def _rows_of(case: str, path: Path) -> pd.DataFrame:
    """The rows of `case` in a table of the run, as texts. Raises UnreadableRun when the table is not what it was."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table[table["case"] == case]
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableRun(
            f"'{path}' cannot be read ({error!r}); `segment-cohort verify` says what changed"
        ) from error

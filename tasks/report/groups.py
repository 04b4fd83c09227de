"""The summary by site, by scanner, or by whatever else is known of the cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tasks.ingest import Found
from tasks.report.summary import SUMMARY_COLUMNS, summary_frame
from tasks.report.tables import as_csv, case_of, metrics_frame
from tasks.scan.errors import UnreadableTable
from tasks.scan.files import write_whole
from tasks.scan.records import Outcome, Scores

GROUPS = "summary_groups.csv"
GROUPS_COLUMNS = ("column", "value", *SUMMARY_COLUMNS)
MOST_VALUES = 50
"""A column with more values than this tells cases apart, it does not group them."""


def write_groups(
    outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], groups: pd.DataFrame, path: Path
) -> None:
    """Write the summary of each group of cases to `path`; `groups` as `read_groups` returns them."""
    write_whole(path, as_csv(groups_frame(metrics_frame(outcomes, labels), labels, groups)))


def write_own_groups(outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], output: Path) -> pd.DataFrame:
    """The summary by group of `own_groups`, written to `summary_groups.csv` in `output`; no file without a group."""
    groups = own_groups(outcomes)
    table = groups_frame(metrics_frame(outcomes, labels), labels, groups)
    if table.empty:
        (output / GROUPS).unlink(missing_ok=True)
    else:
        write_whole(output / GROUPS, as_csv(table))
    return table


def own_groups(outcomes: Sequence[Outcome[Scores]]) -> pd.DataFrame:
    """What manifest or layout say of the cases (site, scanner …), by case; also of those that could not be read.

    Left out are columns in which no two cases share a value, or which have more than `MOST_VALUES` of them (subjects).
    """
    table = pd.DataFrame(
        [_groups_of(outcome) for outcome in outcomes], index=[outcome.name for outcome in outcomes], dtype=str
    ).fillna("")
    counts = {column: table[column][table[column] != ""].value_counts() for column in table}
    kept = [column for column, count in counts.items() if 0 < len(count) <= MOST_VALUES and count.iloc[0] > 1]
    return table[kept]


def _groups_of(outcome: Outcome[Scores]) -> dict[str, str]:
    if case := case_of(outcome):
        return case.groups
    return outcome.found.groups if isinstance(outcome.found, Found) else {}


def read_groups(path: Path) -> pd.DataFrame:
    """The columns of the CSV `case,site,…` at `path`, all text, by case. Raises UnreadableTable."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UnreadableTable(f"'{path}': {error}; needed: a CSV with a column case and one or more others") from error
    if "case" not in table or len(table.columns) < 2:
        raise UnreadableTable(
            f"'{path}' has the columns {', '.join(map(str, table.columns))}; needed: case, and one or more others"
        )
    twice = table["case"][table["case"].duplicated()]
    if len(twice):
        raise UnreadableTable(f"'{path}' has the case '{twice.iloc[0]}' twice; needed: one row for each case")
    return table.set_index("case")


def groups_frame(metrics: pd.DataFrame, labels: Mapping[int, str], groups: pd.DataFrame) -> pd.DataFrame:
    """`summary_frame` of each group of cases that share a value in a column of `groups`, which has cases as its index.

    Cases without a value are a group of their own, whose value is empty: nobody is left out.
    """
    parts = [
        summary_frame(rows, labels).assign(column=column, value=value)
        for column in sorted(map(str, groups.columns))
        for value, rows in metrics.groupby(metrics["case"].map(groups[column]).fillna("").rename("value"))
    ]
    return pd.concat([pd.DataFrame(columns=list(GROUPS_COLUMNS)), *parts])[list(GROUPS_COLUMNS)]

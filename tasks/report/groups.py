"""The summary by site, by scanner, or by whatever else is known of the cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tasks.report.summary import SUMMARY_COLUMNS, summary_frame
from tasks.report.tables import as_csv, metrics_frame
from tasks.scan.errors import UnreadableTable
from tasks.scan.files import write_whole
from tasks.scan.records import Outcome, Scores

GROUPS_COLUMNS = ("column", "value", *SUMMARY_COLUMNS)


def write_groups(
    outcomes: Sequence[Outcome[Scores]], labels: Mapping[int, str], groups: pd.DataFrame, path: Path
) -> None:
    """Write the summary of each group of cases to `path`; `groups` as `read_groups` returns them."""
    write_whole(path, as_csv(groups_frame(metrics_frame(outcomes, labels), labels, groups)))


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

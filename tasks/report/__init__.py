"""What analysts open in the morning: three tables, a page, and the record of the run."""

from tasks.report.delta import check_runs_before, previous_name, put_aside
from tasks.report.died import say_died
from tasks.report.groups import read_groups, write_groups
from tasks.report.intake import intake_lines, write_intake
from tasks.report.page import write_page
from tasks.report.provenance import MASKS, RUN, Run, read_run, verify_output
from tasks.report.report import FILES, FOLDERS, Report, report
from tasks.report.tables import write_metrics, write_tables

__all__ = [
    "FILES",
    "FOLDERS",
    "MASKS",
    "RUN",
    "Report",
    "Run",
    "check_runs_before",
    "intake_lines",
    "previous_name",
    "put_aside",
    "read_groups",
    "read_run",
    "report",
    "say_died",
    "verify_output",
    "write_groups",
    "write_intake",
    "write_metrics",
    "write_page",
    "write_tables",
]

"""What analysts open in the morning: three tables, a page, and the record of the run."""

from tasks.report.provenance import MASKS, RUN, Run, read_run, verify_output

__all__ = ["MASKS", "RUN", "Run", "read_run", "verify_output"]

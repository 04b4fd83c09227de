"""`segment-cohort verify`: is everything a run wrote still as it was written?"""

from __future__ import annotations

from argparse import Namespace

from tasks.report import read_run, verify_output


def execute(arguments: Namespace) -> int:
    """0 when every checksum holds, else 1, with one line for each file that differs."""
    findings = verify_output(arguments.output)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"{len(read_run(arguments.output).files)} files are as they were written")
    return 1 if findings else 0

"""`segment-cohort verify`: is everything a run wrote still as it was written?"""

from __future__ import annotations

from argparse import Namespace

from tasks.ledger import LEDGER, ledger_findings
from tasks.report import read_run, verify_output
from tasks.scan.errors import printable


def execute(arguments: Namespace) -> int:
    """0 when every checksum holds, else 1, with one line for each file that differs."""
    run = read_run(arguments.output)
    findings = verify_output(arguments.output)
    ledger = arguments.output / LEDGER
    findings += ledger_findings(ledger, {name: one.output_sha256 for name, one in run.cases.items()})
    for finding in findings:
        print(printable(finding))
    if not findings:
        said = "the ledger agrees" if ledger.exists() else "there is no ledger: a run into this folder does every case"
        print(f"{len(run.files)} files are as they were written, and {said}")
    return 1 if findings else 0

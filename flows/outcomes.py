"""What a run's end means: the Prefect state that says it, and the exit code. The only file that looks at states."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from prefect import State
from prefect.states import Completed, Failed, get_state_exception

from tasks.attempt import FULL, unwritable
from tasks.belt import LineStoppedError
from tasks.progress import outlive_the_terminal
from tasks.report import read_run
from tasks.report.report import Report
from tasks.scan.errors import SetupError, UnreadableRun

NAMED = 5
OF_THE_DISK = {*FULL, errno.EIO, errno.ESTALE}
"""What the system says when the disk of the output, not the program, is at fault: here no scan is read."""
P = ParamSpec("P")


def refuses_by_name(story: Callable[P, State[None]]) -> Callable[P, State[None]]:
    """`story`, which ends Failed with one line instead of a traceback when the run itself is wrong (SetupError).

    Prefect reads the parameters' types from what this returns, so the modules of stories do not postpone annotations.
    """

    @wraps(story)
    def named(*arguments: P.args, **keywords: P.kwargs) -> State[None]:
        outlive_the_terminal()
        logging.getLogger("prefect.task_runs").addFilter(_plainly)
        try:
            return story(*arguments, **keywords)
        except SetupError as error:
            return _refused(error)
        except OSError as error:
            if error.errno not in OF_THE_DISK:
                raise
            return _refused(unwritable(error))

    return named


def _refused(error: SetupError) -> State[None]:
    return Failed(message=f"{type(error).__name__}: {error}", data=error)


def _plainly(record: logging.LogRecord) -> bool:
    """A task that ended by a SetupError, or by that of another, is logged without a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], SetupError | LineStoppedError):
        record.exc_info = None
    return True


def verdict(report: Report) -> State[None]:
    """Completed when every case is segmented, tonight or earlier, else Failed; both say how many, the second which."""
    total = sum(report.counts.values())
    if not total:
        return Completed(message="every case was trained on, none was held out")
    if not report.troubled:
        unchanged = report.counts.get("unchanged", 0)
        since = f", {unchanged} of them unchanged since an earlier night" if unchanged else ""
        return Completed(message=f"{total} of {total} cases segmented{since}")
    names = ", ".join(report.troubled[:NAMED]) + (", …" if len(report.troubled) > NAMED else "")
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
    return Failed(message=f"{len(report.troubled)} of {total} cases need attention ({counts}): {names}")


def exit_code(state: State[Any]) -> int:
    """0: every case segmented; 1: some were not. Raises the SetupError that ended the run, if one did."""
    if state.is_completed():
        return 0
    error = get_state_exception(state)
    if isinstance(error, SetupError):
        raise error
    return 1


def wrote_report(state: State[Any], output: Path) -> bool:
    """Whether the report in `output` is the one of the run that ended in `state`, not of an earlier one."""
    try:
        return read_run(output).flow_run == str(state.state_details.flow_run_id)
    except UnreadableRun:
        return False


def say_state(state: State[Any]) -> str:
    """The end of a run, in one line for people."""
    return f"{state.name}: {state.message}"

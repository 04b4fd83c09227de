"""One case in one stage: what it becomes, whatever happens to it."""

from __future__ import annotations

import errno
import os
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tasks.scan.errors import CaseError, OutOfMemory, UnwritableOutput
from tasks.scan.records import Case, Cost, Located, Outcome, Problem

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""What the system says when nothing more can be written: no case after this one would fare better.

Not that a disk fails (EIO, ESTALE): it may be the one that the case is read from."""
OF_CASE = "of_case"
"""The attribute of a log record that holds, for programs, what the line says of a case."""
DISK = "see to the disk or share, which may be full or away; the next run tries the case again"


def attempt(stage: str, function: Callable[..., Any], case: Outcome[Any], *arguments: Any) -> Outcome[Any]:
    """The outcome of `case` after `function(case.value, *arguments)`: its result, or the problem, and what it cost.

    An `OSError` is tried once more: shared storage has hiccups, and a bad scan does not get better. Raises
    UnwritableOutput when the disk is full: that is no fault of the case, and ends the run.
    """
    began, start = time.time(), time.monotonic()
    try:
        try:
            value = function(case.value, *arguments)
        except OSError:
            value = function(case.value, *arguments)
        result = replace(case, value=value, case=value if isinstance(value, Case) else case.case)
    except CaseError as error:
        result = failed(case, problem_of(error, stage))
    except MemoryError:
        result = failed(case, problem_of(_out_of_memory(case.name, stage), stage))
    except Exception as error:  # noqa: BLE001 - the one place where whatever a case raises becomes its outcome
        _stop_where_full(error)
        result = failed(case, unforeseen(error, stage, case.name))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = Cost(stage=stage, seconds=time.monotonic() - start, peak_memory_mb=peak_mb, began=began)
    return replace(result, costs=(*result.costs, cost))


def _stop_where_full(error: Exception) -> None:
    if isinstance(error, OSError) and error.errno in FULL:
        raise unwritable(error) from error


def unwritable(error: OSError) -> UnwritableOutput:
    """What ends the run where `error` says that its disk cannot be written."""
    where = f" ('{error.filename}')" if error.filename else ""
    return UnwritableOutput(f"{error.strerror}{where}; see to the disk, then start the run again")


def failed(case: Outcome[Any], problem: Problem) -> Outcome[Any]:
    """`case`, stopped by `problem`; the files it was to be read from stay known."""
    found = case.value if isinstance(case.value, Located) else case.found
    return replace(case, value=None, problem=problem, found=found)


def problem_of(error: CaseError, stage: str) -> Problem:
    """`error` as the tables show it: the input is at fault."""
    return Problem(stage=stage, status="quarantined", reason=error.reason(), message=error.message, remedy=error.remedy)


def _out_of_memory(case: str, stage: str) -> OutOfMemory:
    return OutOfMemory(
        case,
        f"stage {stage} was refused the memory it asked for",
        "a scan that fits into memory",
        "run with fewer --workers, which leaves more for each, or on a larger machine; then --retry",
    )


def unforeseen(error: Exception, stage: str, name: str) -> Problem:
    """An error that has no name here, with the place it was raised: the program, or the disk, is at fault."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - a name for people, not a path
    return Problem(
        stage=stage,
        status="failed",
        reason=type(error).__name__,
        message=f"case '{name}': {type(error).__name__}: {error} ({place})",
        remedy=DISK if isinstance(error, OSError) else "this is an error of the program: report it with run.json",
    )

"""What a run's end means: the Prefect state that says it, and the exit code. The only file that looks at states."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from prefect import State
from prefect.states import Completed, Failed, get_state_exception

from tasks.report import Report
from tasks.scan.errors import SetupError

NAMED = 5
P = ParamSpec("P")


def refuses_by_name(story: Callable[P, State[None]]) -> Callable[P, State[None]]:
    """`story`, which ends Failed with one line instead of a traceback when the run itself is wrong (SetupError).

    Prefect reads the parameters' types from what this returns, so the modules of stories do not postpone annotations.
    """

    @wraps(story)
    def named(*arguments: P.args, **keywords: P.kwargs) -> State[None]:
        try:
            return story(*arguments, **keywords)
        except SetupError as error:
            return Failed(message=f"{type(error).__name__}: {error}", data=error)

    return named


def verdict(report: Report) -> State[None]:
    """Completed when every case was segmented, else Failed; both say how many, the second says which."""
    total = sum(report.counts.values())
    if not total:
        return Completed(message="every case was trained on, none was held out")
    if not report.troubled:
        return Completed(message=f"{total} of {total} cases segmented")
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


def say_state(state: State[Any]) -> str:
    """The end of a run, in one line for people."""
    return f"{state.name}: {state.message}"

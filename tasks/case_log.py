"""The line that the run's log has of a case in a stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from prefect import get_run_logger

from tasks.attempt import OF_CASE
from tasks.scan.records import Outcome

B = TypeVar("B")


def logged(stage: str, outcomes: Iterable[Outcome[B]]) -> Iterator[Outcome[B]]:
    """`outcomes`, each with a line in the run's log if this stage had it in hand: what became of it, and how long.

    A case that is well is not told to the server: its database grows with what goes wrong, not with the cohort.
    """
    logger = get_run_logger()
    for outcome in outcomes:
        problem, cost = outcome.problem, outcome.costs[-1] if outcome.costs else None
        cost = cost if cost and cost.stage == stage else None  # a case that killed its process left none
        facts: dict[str, object] = {"case": outcome.name, "stage": stage}
        if cost:
            facts |= {"seconds": round(cost.seconds, 3), "peak_memory_mb": round(cost.peak_memory_mb)}
        if problem and problem.stage == stage:
            facts |= {"status": problem.status, "reason": problem.reason}
            logger.warning("%s: %s: %s", stage, problem.status, problem.message, extra={OF_CASE: facts})
        elif cost:
            extra = {OF_CASE: facts | {"status": "done"}, "send_to_api": False}
            logger.info("%s: case '%s' done in %.1f s", stage, outcome.name, cost.seconds, extra=extra)
        yield outcome

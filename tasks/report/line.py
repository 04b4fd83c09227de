"""Where the time of a run went: seconds by stage, and how much of the time the network was at work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.scan.records import Cost, Outcome

BEFORE_THE_LINE = "ingest"
STEP_SECONDS = 2.0
"""By how much a clock that is kept right may move during a run."""


def line_times(outcomes: Sequence[Outcome[Any]], since: float, clock_moved: float) -> dict[str, Any]:
    """Of the stages that work side by side: the seconds of each, over all its processes, and of all together.

    `network_busy` is the share of the seconds from the start of the first case to the end of the last in which `infer`
    had a case in hand. Only what began after `since`, in seconds since 1970; empty where nothing did. A clock that was
    set meanwhile, by `clock_moved` seconds, does not tell what went on at once: then only the stages have theirs.
    """
    first = since + min(0.0, clock_moved)
    tonight = [cost for outcome in outcomes if not outcome.unchanged for cost in outcome.costs if cost.began >= first]
    costs = [cost for cost in tonight if cost.stage != BEFORE_THE_LINE]
    if not costs:
        return {}
    stages = dict.fromkeys(cost.stage for cost in sorted(costs, key=lambda cost: cost.began))
    seconds = {stage: sum(cost.seconds for cost in costs if cost.stage == stage) for stage in stages}
    rounded = {stage: round(of_stage, 2) for stage, of_stage in seconds.items()}
    if abs(clock_moved) > STEP_SECONDS:
        return {"seconds_by_stage": rounded}
    wall = max(cost.began + cost.seconds for cost in costs) - min(cost.began for cost in costs)
    busy = seconds_with_one([cost for cost in costs if cost.stage == "infer"])
    return {
        "seconds_by_stage": {**rounded, "all_side_by_side": round(wall, 2)},
        "network_busy": round(busy / wall, 3) if wall else 0.0,
    }


def seconds_with_one(costs: Sequence[Cost]) -> float:
    """For how many seconds at least one of `costs` was going on; several may at once."""
    total, until = 0.0, 0.0
    for cost in sorted(costs, key=lambda cost: cost.began):
        end = cost.began + cost.seconds
        total += max(0.0, end - max(cost.began, until))
        until = max(until, end)
    return total

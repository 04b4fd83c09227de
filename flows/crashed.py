"""Runs whose process is gone. The server of a machine that was switched off would show them as running for ever."""

from __future__ import annotations

import psutil
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

from flows.alarm import KILLED, tell


def mark_crashed_runs() -> list[str]:
    """The names of the runs that were Running without a process, and now are Crashed.

    Only for a server that listens on this machine alone: a process id says nothing about another machine's processes.
    """
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        dead = [run for run in client.read_flow_runs(flow_run_filter=running) if _is_dead(run)]
        for run in dead:
            state: State[None] = Crashed(message=KILLED)
            client.set_flow_run_state(run.id, state)
            tell(client.read_flow(run.flow_id).name, run, state)
    return [run.name for run in dead]


def _is_dead(run: FlowRun) -> bool:
    """Whether the process that a worker started for `run` ended; runs that no worker started are not judged."""
    if not run.infrastructure_pid or not run.infrastructure_pid.isdigit():
        return False
    try:
        process = psutil.Process(int(run.infrastructure_pid))
        began_later = run.start_time is not None and process.create_time() > run.start_time.timestamp() + 1
        return process.status() == psutil.STATUS_ZOMBIE or began_later
    except psutil.NoSuchProcess:
        return True

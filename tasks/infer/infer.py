"""Infer: logits of the network for every prepared case, in a process apart that alone has the GPU, or all cores.

A case that kills that process, or hangs in it, costs itself and no other: those that were in it beside are done again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Literal

import psutil
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.apart import MOST_LINES, Apart, DiedError, OverdueError, ask, end
from tasks.attempt import failed, problem_of
from tasks.belt import Belt, Line, hand_on
from tasks.case_log import logged
from tasks.infer.config import InferenceConfig, Job, Opened, Weights, cores
from tasks.lanes import side_by_side
from tasks.model import Model
from tasks.named import Named
from tasks.progress import progress_bar
from tasks.scan.errors import CaseError, CaseTimedOut, OutOfMemory, ServiceUnavailable, WorkerDied
from tasks.scan.records import Outcome, Prediction, Prepared
from unet.config import SMALL_VOXELS

OPEN = Named("tasks.infer.there", "open_model")
WARM_UP = Named("tasks.infer.there", "warm_up")
INFER = Named("tasks.infer.there", "infer_there")
GIVE_BACK = Named("tasks.infer.there", "give_back")
_one_at_a_time = threading.Lock()
"""The network has the machine's cores, or the GPU, to itself: a second shard waits with its own till it ends."""
CASE_SECONDS, VOXEL_SECONDS = 1800.0, 1e-3
"""How long a case may be in the network, and how much longer for each of its voxels, each time it is flipped, before
its process is ended: an ensemble of five takes two cores a tenth of that, overlapping tiles and all."""
KEPT_BYTES = 1e9
"""What the process may keep between two shards, and while the last cases are with other stages."""
LANES = {"openvino": MOST_LINES, "torch": 2}
"""How many cases may be in the process at once. torch computes one at a time, and the other is read, or written."""
_network = Apart(lines=min(cores(), MOST_LINES))
"""The process apart, which has one thread for each core."""
_beside = ThreadPoolExecutor(1)


@contextmanager
def open_network(weights: Weights, config: InferenceConfig) -> Iterator[Opened]:
    """The model of `weights`, opened in the process apart, which is gone after this block.

    Raises ModelNotFound, CheckpointMismatch, UnsupportedModel, or UnknownSetting where there is no such device.
    """
    try:
        yield _opened(weights, config)
    finally:
        end(_network)


def _opened(weights: Weights, config: InferenceConfig) -> Opened:
    try:
        opened: Opened = ask(_network, CASE_SECONDS, OPEN, weights, config)
    except (DiedError, OverdueError) as error:
        raise ServiceUnavailable(
            f"the network's process {str(error) or 'never answered'} while it opened the model '{weights.folder}'; "
            "see to the machine's memory, then start the run again"
        ) from error
    return opened


def warm_up(weights: Weights, opened: Opened, config: InferenceConfig) -> None:
    """The networks are made ready beside what comes next; what that raises is raised again when they are used."""
    _beside.submit(ask, _network, CASE_SECONDS, WARM_UP, weights, opened.model, config, _network.lines)


@task(name="infer", cache_policy=NO_CACHE)
def infer(
    cases: Line[Prepared],
    opened: Opened,
    weights: Weights,
    config: InferenceConfig,
    work: Path,
    belt: Belt[Prediction] | None = None,
) -> list[Outcome[Prediction]]:
    """Logits for every case of the shard, each put on `belt`; the networks of the model are loaded once."""
    job = Job(model=opened.model, weights=weights, config=config, work=work)
    return list(hand_on(_told(logged("infer", _inferred(cases, job, opened))), belt))


def _told(outcomes: Iterator[Outcome[Prediction]]) -> Iterator[Outcome[Prediction]]:
    """`outcomes`; the log is told of each that a device had no memory for."""
    for outcome in outcomes:
        if outcome.value and outcome.value.fallback:
            said = "infer: case '%s': the device ran out of memory: computed %s"
            get_run_logger().warning(said, outcome.name, outcome.value.fallback)
        yield outcome


def _inferred(cases: Line[Prepared], job: Job, opened: Opened) -> Iterator[Outcome[Prediction]]:
    """As they are finished. Those whose process ended are tried again at the end, alone: who did it is then known."""
    with _one_at_a_time, progress_bar("infer", None) as bar:
        lanes = min(_network.lines, LANES[opened.machine.backend])
        suspects: dict[str, Outcome[Prepared]] = {}

        def is_alone(case: Outcome[Prepared]) -> bool:
            return lanes == 1 or not (case.value and goes_beside(case.value, opened, lanes))

        def one(case: Outcome[Prepared]) -> Outcome[Prediction]:
            outcome, end = _asked(case, job)
            if end == "died" or (end == "overdue" and not is_alone(case)):
                suspects[case.name] = case
            return outcome

        for outcome in side_by_side(one, cases, lanes, is_alone):
            if outcome.name not in suspects:
                yield outcome
                bar.advance()
        for case in suspects.values():
            yield _asked(case, job)[0]
            bar.advance()
        if _network.life and opened.machine.device == "cpu":
            with suppress(DiedError, OverdueError):  # then it keeps nothing any more
                ask(_network, CASE_SECONDS, GIVE_BACK, KEPT_BYTES)


def _asked(case: Outcome[Prepared], job: Job) -> tuple[Outcome[Prediction], Literal["", "died", "overdue"]]:
    """What becomes of `case` in the process apart, and what that ended of, if it did; then that is its problem."""
    if case.value is None:
        return replace(case, value=None), ""  # type: ignore[return-value]
    seconds = longest_seconds(case.value, job.model, job.config)
    try:
        done: Outcome[Prediction] = ask(_network, seconds, INFER, case, job, _network.lines)
    except DiedError as death:
        return failed(case, problem_of(_of_memory_or_not(case.name, death), "infer")), "died"
    except OverdueError:
        error = CaseTimedOut(
            case.name,
            f"stage infer took more than {seconds:.0f} s",
            "a case that ends",
            "look at the scan's size with `segment-cohort ingest`, or run it alone",
        )
        return failed(case, problem_of(error, "infer")), "overdue"
    case.value.voxels.unlink()
    return done, ""


def longest_seconds(prepared: Prepared, model: Model, config: InferenceConfig) -> float:
    """How long `prepared` may be in the network."""
    flips = 2 ** len(model.plan.augment.mirror_axes) if config.mirror else 1
    return CASE_SECONDS + VOXEL_SECONDS * flips * prod(prepared.resampled_shape)


def _of_memory_or_not(case: str, death: DiedError) -> CaseError:
    """What is wrong with a `case` whose process ended each time it was tried."""
    if death.out_of_memory:
        return OutOfMemory(
            case,
            "the system ended the network's process each time it was tried, because memory ran out",
            "a scan that fits into memory",
            "run it with nothing beside it, on a larger machine, or with a smaller inference.memory_gb; then --retry",
        )
    return WorkerDied(
        case,
        f"the network's process {death} each time it was tried",
        "a scan that the network can be computed for",
        "run it alone, and with another --backend; if it dies again, report it with run.json",
    )


def goes_beside(prepared: Prepared, opened: Opened, lanes: int) -> bool:
    """Whether `prepared` may be in hand beside others: with torch, which computes one at a time, any may; else one that
    is small, when there is memory for `lanes` like it at once."""
    if opened.machine.backend == "torch":
        return True
    plan = opened.model.plan
    voxels = max(prod(prepared.resampled_shape), prod(plan.patch) if plan.fixed_tile else 0)
    needed = lanes * (opened.network_bytes + voxels * opened.voxel_bytes)
    return voxels <= SMALL_VOXELS and needed <= psutil.virtual_memory().available

"""Infer: logits of the network for every prepared case, in a process apart that alone has the GPU, or all cores.

A case that kills that process, or hangs in it, costs itself and no other: those that were in it beside are done again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.apart import MOST_LINES, Apart, DiedError, OverdueError, ask, end
from tasks.attempt import attempt, failed, logged, problem_of
from tasks.belt import Belt, Line, hand_on
from tasks.infer.case import free_bytes, infer_case
from tasks.infer.machine import InferenceConfig, Machine, Weights
from tasks.lanes import side_by_side
from tasks.model import Model, Plan
from tasks.progress import progress_bar
from tasks.scan.errors import CaseError, CaseTimedOut, OutOfMemory, WorkerDied
from tasks.scan.records import Outcome, Prediction, Prepared
from unet.backends import Network
from unet.memory import SMALL_VOXELS, pass_bytes

_one_at_a_time = threading.Lock()
"""The network has the machine's cores, or the GPU, to itself: a second shard waits with its own till it ends."""
CASE_SECONDS, VOXEL_SECONDS = 1800.0, 1e-3
"""How long a case may be in the network, and how much longer for each of its voxels, each time it is flipped, before
its process is ended: an ensemble of five takes two cores a tenth of that, overlapping tiles and all."""
KEPT_BYTES = 1e9
"""What the process may keep between two shards, and while the last cases are with other stages."""
LANES = {"openvino": MOST_LINES, "torch": 2}
"""How many cases may be in the process at once. torch computes one at a time, and the other is read, or written."""
_network = Apart(lines=min(torch.get_num_threads(), MOST_LINES))
"""The process apart, which has one thread for each core."""
_kept: dict[Any, list[Network]] = {}
"""There: the networks that are ready."""
_keeping = threading.Lock()
_beside = ThreadPoolExecutor(1)


@contextmanager
def open_network(weights: Weights | None, model: Model, config: InferenceConfig) -> Iterator[None]:
    """The process apart is there when it is needed, and is gone after this block.

    In it, the networks of `weights` (None: those that are asked for first) are made ready beside what comes next; what
    that raises is raised again when they are used.
    """
    if weights is not None:
        _beside.submit(ask, _network, CASE_SECONDS, _warm_up, weights, model, config, _network.lines)
    try:
        yield
    finally:
        end(_network)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is the same for all cases of a shard."""

    model: Model
    weights: Weights
    config: InferenceConfig
    work: Path


@task(name="infer", cache_policy=NO_CACHE)
def infer(
    cases: Line[Prepared],
    model: Model,
    weights: Weights,
    config: InferenceConfig,
    work: Path,
    belt: Belt[Prediction] | None = None,
) -> list[Outcome[Prediction]]:
    """Logits for every case of the shard, each put on `belt`; the networks of the model are loaded once."""
    job = _Job(model=model, weights=weights, config=config, work=work)
    return list(hand_on(_told(logged("infer", _inferred(cases, job))), belt))


def _told(outcomes: Iterator[Outcome[Prediction]]) -> Iterator[Outcome[Prediction]]:
    """`outcomes`; the log is told of each that a device had no memory for."""
    for outcome in outcomes:
        if outcome.value and outcome.value.fallback:
            said = "infer: case '%s': the device ran out of memory: computed %s"
            get_run_logger().warning(said, outcome.name, outcome.value.fallback)
        yield outcome


def _inferred(cases: Line[Prepared], job: _Job) -> Iterator[Outcome[Prediction]]:
    """As they are finished. Those whose process ended are tried again at the end, alone: who did it is then known."""
    with _one_at_a_time, progress_bar("infer", None) as bar:
        machine = job.config.resolved()
        lanes = min(_network.lines, LANES[machine.backend])
        suspects: dict[str, Outcome[Prepared]] = {}

        def is_alone(case: Outcome[Prepared]) -> bool:
            return lanes == 1 or not (case.value and goes_beside(case.value, job.model.plan, machine, lanes))

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
        if _network.life and machine.device.type == "cpu":
            with suppress(DiedError, OverdueError):  # then it keeps nothing any more
                ask(_network, CASE_SECONDS, _give_back, KEPT_BYTES)


def _asked(case: Outcome[Prepared], job: _Job) -> tuple[Outcome[Prediction], Literal["", "died", "overdue"]]:
    """What becomes of `case` in the process apart, and what that ended of, if it did; then that is its problem."""
    if case.value is None:
        return replace(case, value=None), ""  # type: ignore[return-value]
    seconds = longest_seconds(case.value, job.model, job.config)
    try:
        done: Outcome[Prediction] = ask(_network, seconds, _infer_there, case, job, _network.lines)
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


def _infer_there(case: Outcome[Prepared], job: _Job, threads: int) -> Outcome[Prediction]:
    """What becomes of `case`, in the process apart. One that fails without a name is tried again with new networks, for
    what failed may be what another case left in them."""
    outcome = _tried(case, job, threads)
    if outcome.problem and outcome.problem.status == "failed":
        with _keeping:
            _kept.clear()
        outcome = _tried(case, job, threads)
    return _in_network(outcome)


def _tried(case: Outcome[Prepared], job: _Job, threads: int) -> Outcome[Prediction]:
    def on_cpu() -> list[Network]:
        there = replace(job.config, device="cpu", backend="auto")
        return ready_networks(job.weights, job.model, there, threads)

    networks = ready_networks(job.weights, job.model, job.config, threads)
    return attempt("infer", infer_case, case, networks, job.model, job.config, job.work, on_cpu)


def _in_network(outcome: Outcome[Prediction]) -> Outcome[Prediction]:
    """`outcome`, whose cost is what the network took: reading, writing and waiting for its turn are beside others."""
    if outcome.value is None:
        return outcome
    *before, cost = outcome.costs
    return replace(outcome, costs=(*before, replace(cost, began=outcome.value.began, seconds=outcome.value.seconds)))


def goes_beside(prepared: Prepared, plan: Plan, machine: Machine, lanes: int) -> bool:
    """Whether `prepared` may be in hand beside others: with torch, which computes one at a time, any may; else one that
    is small, when there is memory for `lanes` like it at once."""
    if machine.backend == "torch":
        return True
    voxels = max(prod(prepared.resampled_shape), prod(plan.patch) if plan.fixed_tile else 0)
    needed = lanes * pass_bytes(plan.network, voxels, machine.appetite)
    return voxels <= SMALL_VOXELS and needed <= free_bytes(machine.device)


def _give_back(most: float) -> None:
    """The networks, which keep what their largest case needed, are let go of in the process apart if it has more than
    `most` bytes to itself: the cases are with other stages now, which need memory, too."""
    if psutil.Process().memory_full_info().uss > most:
        with _keeping:
            _kept.clear()


def _warm_up(weights: Weights, model: Model, config: InferenceConfig, threads: int) -> None:
    ready_networks(weights, model, config, threads)


def ready_networks(weights: Weights, model: Model, config: InferenceConfig, threads: int) -> list[Network]:
    """What `weights.ready` returns for so many `threads`, kept for the next who asks. Raises CheckpointMismatch.

    Beside OpenVINO's threads, torch has one: while its others wait, they keep cores from them.
    """
    machine = config.resolved()
    key = (weights, model.weights_sha256, machine)
    with _keeping:
        if key not in _kept:
            if len(_kept) > 1:  # those of a GPU, and of the CPU that helps it out
                _kept.clear()
            torch.set_num_threads(threads)
            _kept[key] = weights.ready(model, machine)
            torch.set_num_threads(1 if machine.backend == "openvino" else threads)
        return _kept[key]

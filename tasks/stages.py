"""The stages that the pool computes, as Prefect tasks: each hands the cases of a shard on as they are finished.

What a stage does to a case is in the module that it names here, which only the processes of the pool import; what an
export needs is imported when there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.belt import Belt, Line, arriving, hand_on
from tasks.case_log import logged
from tasks.evaluate.config import EvaluationConfig
from tasks.evaluate.unscored import keep_refused
from tasks.export import DICOM, ExportConfig, export_case
from tasks.model import Model
from tasks.named import Named
from tasks.pool import stream_cases
from tasks.scan.records import Case, Outcome, Prediction, Prepared, Scores, Segmentation

PREPROCESS = Named("tasks.preprocess", "preprocess_case")
POSTPROCESS = Named("tasks.postprocess", "postprocess_case")
EVALUATE = Named("tasks.evaluate.evaluate", "evaluate_case")


@task(name="preprocess", cache_policy=NO_CACHE)
def preprocess(
    cases: Line[Case], model: Model, work: Path, pool: str, belt: Belt[Prepared] | None = None
) -> list[Outcome[Prepared]]:
    """Every case of the shard on the network's grid, in parallel, in the order they were finished and put on `belt`."""
    done = stream_cases(pool, "preprocess", PREPROCESS, cases, model.plan, work, model.fingerprint)
    return list(hand_on(logged("preprocess", (after for _, after in done)), belt))


@task(name="postprocess", cache_policy=NO_CACHE)
def postprocess(
    cases: Line[Prediction], model: Model, masks: Path, pool: str, belt: Belt[Segmentation] | None = None
) -> list[Outcome[Segmentation]]:
    """Every case of the shard back on its own grid, in parallel, in the order they were finished and put on `belt`."""
    done = stream_cases(pool, "postprocess", POSTPROCESS, cases, model, masks)
    return list(hand_on(logged("postprocess", _without_logits(done)), belt))


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate(
    cases: Line[Segmentation],
    labels: Mapping[int, str],
    config: EvaluationConfig,
    pool: str,
    belt: Belt[Scores] | None = None,
) -> list[Outcome[Scores]]:
    """Every case of the shard scored, in parallel. A case whose reference is refused keeps its mask, unscored."""
    done = stream_cases(pool, "evaluate", EVALUATE, cases, labels, config)
    scored = (keep_refused(before, after, labels, config) for before, after in done)
    return list(hand_on(logged("evaluate", scored), belt))


@task(name="export", cache_policy=NO_CACHE)
def export(
    cases: Line[Scores],
    labels: Mapping[int, str],
    config: ExportConfig,
    output: Path,
    pool: str,
    belt: Belt[Scores] | None = None,
) -> list[Outcome[Scores]]:
    """Every case of the shard, exported as asked for. One that cannot be keeps its mask and its scores."""
    done = _exported(cases, labels, output / DICOM, pool) if config.dicom_seg else arriving(cases)
    return list(hand_on(logged("export", done), belt))


def _without_logits(
    done: Iterable[tuple[Outcome[Prediction], Outcome[Segmentation]]],
) -> Iterator[Outcome[Segmentation]]:
    """What is done; the logits go only now: a process that died at its end leaves them for the one that repeats it."""
    for before, after in done:
        if before.value:
            before.value.logits.unlink(missing_ok=True)
        yield after


def _exported(cases: Line[Scores], labels: Mapping[int, str], folder: Path, pool: str) -> Iterator[Outcome[Scores]]:
    for before, after in stream_cases(pool, "export", export_case, cases, labels, folder):
        yield replace(after, value=after.value or before.value, problem=before.problem or after.problem)

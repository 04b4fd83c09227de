"""Whole nights in one process: real scans, a real network, the real ledger; no server, no pool for the stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tasks.attempt import attempt
from tasks.evaluate import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.evaluate.unscored import keep_refused
from tasks.export import ExportConfig
from tasks.infer import InferenceConfig, Weights
from tasks.infer.case import infer_case
from tasks.infer.machine import make_ready, resolve
from tasks.infer.there import open_model
from tasks.ingest import IngestConfig
from tasks.ingest.ingest import find_cases
from tasks.ledger import LEDGER, describe_recipes
from tasks.ledger.note import note
from tasks.ledger.recall import Ledger, Tonight, look_up
from tasks.model import Model, Plan
from tasks.model.folder import read_model, save_model
from tasks.postprocess import postprocess_case
from tasks.preprocess import preprocess_case
from tasks.report.tables import write_tables
from tasks.scan.records import Outcome, Scores
from unet import AugmentConfig, UNet, UNetConfig

NETWORK = UNetConfig(dimensions=3, out_channels=2, features=(2, 4), normalisation="batch", upsampling="nearest")


@dataclass(frozen=True)
class Home:
    """Where a cohort, its model and its output are, and how it is segmented."""

    folder: Path
    pool: str
    inference: InferenceConfig = field(default_factory=lambda: InferenceConfig(device="cpu"))
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    retry: bool = False
    output: str = "out"

    def path(self, name: str) -> Path:
        return self.folder / name


def train_nothing(folder: Path, seed: int = 0) -> Model:
    """A model with random weights, written to `folder`."""
    plan = Plan(
        network=NETWORK, spacing_mm=(1, 1, 1), patch=(8, 8, 8), batch_size=2, augment=AugmentConfig(mirror_axes=(0,))
    )
    torch.manual_seed(seed)
    return save_model(Model(plan=plan, labels={1: "head"}, weights_sha256=""), [UNet(NETWORK).eval()], folder)


def look(home: Home, pool: str | None = None) -> tuple[Tonight, Ledger]:
    """What tonight has to do. `pool`: where files would be read."""
    output = home.path(home.output)
    opened = open_model(Weights(folder=home.path("model")), home.inference)
    recipes = describe_recipes(opened, home.inference, home.evaluation, ExportConfig())
    ledger = Ledger(path=output / LEDGER, masks=output / "segmentations", recipes=recipes, retry=home.retry)
    references = home.path("references") if home.path("references").is_dir() else None
    config = IngestConfig(settle_seconds=0)
    cases = find_cases(home.path("in"), references, None, config, home.pool, home.path("state")).cases
    return look_up(cases, ledger, pool or home.pool), ledger


def night(home: Home, pool: str | None = None) -> tuple[Tonight, dict[str, Outcome[Scores]]]:
    """What tonight had to do, and what every case is after it."""
    output, work = home.path(home.output), home.path("work")
    for folder in (output / "segmentations", work):
        folder.mkdir(parents=True, exist_ok=True)
    tonight, ledger = look(home, pool)
    model = read_model(home.path("model"))
    segmented: list[Outcome[Any]] = list(tonight.segmented)
    for case in tonight.due:
        prepared = step("preprocess", preprocess_case, case, model.plan, work)
        networks = make_ready(Weights(folder=home.path("model")), model, resolve(home.inference))
        predicted = step("infer", infer_case, prepared, networks, model, home.inference, work)
        segmented.append(step("postprocess", postprocess_case, predicted, model, output / "segmentations"))
    scored = [
        keep_refused(
            case, step("evaluate", evaluate_case, case, model.labels, home.evaluation), model.labels, home.evaluation
        )
        for case in segmented
    ]
    outcomes = tonight.settled + note(scored, ledger, home.pool)
    write_tables(outcomes, model.labels, output)
    return tonight, {outcome.name: outcome for outcome in outcomes}


def step(stage: str, function: Any, outcome: Outcome[Any], *arguments: Any) -> Outcome[Any]:
    """What a pool does with a case: one that stopped passes by."""
    return attempt(stage, function, outcome, *arguments) if outcome.value is not None else outcome


def todo(tonight: Tonight) -> dict[str, str]:
    """What is to be done for which case: `segment` or `score`."""
    return {case.name: "segment" for case in tonight.due} | {case.name: "score" for case in tonight.segmented}

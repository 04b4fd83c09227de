"""`segment-cohort demo`: the main job, end to end, on a cohort made from real anatomy.

The same flows, server, worker, deployment and commands as in real use; nothing here is for show only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd

from flows import services
from flows.outcomes import exit_code
from flows.settings import TrainSettings
from flows.train_unet import train_unet
from tasks.demo import DemoCohort, make_cohort
from tasks.progress import progress_bar
from tasks.train import PlanConfig, TrainConfig

SPACING_MM = (2.0, 2.0, 2.0)
MAPS = 8


def execute(arguments: Namespace) -> int:
    """0 when the night did what it should: four people segmented, two broken scans quarantined."""
    folder = arguments.output.resolve()
    cohort = _make_cohort(folder / "cohort")
    print("2/4 the local Prefect server and worker, and the deployments")
    running = services.up()
    try:
        with services.recorded_by_server():
            _train(cohort, folder / "model", arguments.epochs)
        _run_deployment(cohort, folder)
    finally:
        services.down(running.started)
    return _show(cohort, folder / "night")


def _make_cohort(folder: Path) -> DemoCohort:
    print("1/4 a cohort of 12 people, and two broken scans, from the MNI152 brain")
    with progress_bar("cohort", 14) as bar:
        return make_cohort(folder, progress=lambda done, total: bar.show(done / total, ""))


def _train(cohort: DemoCohort, model: Path, epochs: int) -> None:
    if (model / "model.json").exists():
        print(f"3/4 the model of an earlier demo is used; delete {model} to train again")
        return
    print(
        f"3/4 a small U-Net, trained on 8 of them for {epochs} epochs by the flow train-unet: about a minute and a half"
    )
    settings = TrainSettings(training=TrainConfig(epochs=epochs), plan=PlanConfig(spacing_mm=SPACING_MM, maps=MAPS))
    exit_code(train_unet(cohort.training_manifest, model, settings, return_state=True))


def _run_deployment(cohort: DemoCohort, folder: Path) -> None:
    parameters = {
        "cohort": str(cohort.incoming),
        "model": str(folder / "model"),
        "output": str(folder / "night"),
        "settings": {"references": str(cohort.references)},
    }
    command = ["deployment", "run", "segment-cohort", "--watch", "--params", json.dumps(parameters)]
    print(f"4/4 prefect {' '.join(command[:4])}: the others, by the worker")
    subprocess.run([sys.executable, "-m", "prefect", *command], check=False, env=services.prefect_environment())


def _show(cohort: DemoCohort, night: Path) -> int:
    """Print what became of each case, and the Dice beside the floor; 0 if it is what the demo promises."""
    cases = pd.read_csv(night / "cases.csv", keep_default_na=False)
    metrics = pd.read_csv(night / "metrics.csv")
    print("\nWhat became of each case (two were broken on purpose, so the night ends Failed and says which):")
    for case in cases.to_dict("records"):
        print(f"  {case['case']:<26} {case['status']:<12} {case['reason'] and case['reason'] + ': ' + case['remedy']}")
    print("\nDice, beside the floor (the undeformed template laid over each person):")
    beaten = True
    for name, rows in metrics[metrics["status"] == "scored"].groupby("name"):
        floor = [cohort.floor[row["case"]][row["label"]] for row in rows.to_dict("records")]
        print(f"  {name:<14} {rows['dice'].mean():.3f}   floor {sum(floor) / len(floor):.3f}   ({len(rows)} people)")
        beaten &= bool(rows["dice"].mean() > sum(floor) / len(floor) + 0.1)
    print(f"\ntable: {night / 'metrics.csv'}\ncases: {night / 'cases.csv'}\npage:  {night / 'report.html'}")
    became = cases["status"].replace("unchanged", "segmented").value_counts().to_dict()  # by a demo before this one
    promised = became == {"segmented": 4, "quarantined": 2}
    if not promised:
        print("\nThis is not what the demo promises: 4 cases segmented, 2 quarantined.", file=sys.stderr)
    if not beaten:
        print("\nThis is not what the demo promises: each Dice at least 0.1 above its floor.", file=sys.stderr)
    return 0 if beaten and promised else 1

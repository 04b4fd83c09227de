"""`segment-cohort train`: the training flow, in this process, recorded by the Prefect server."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pandas as pd

from flows.commands.arguments import pool_flags
from flows.outcomes import exit_code, say_state, wrote_report
from flows.services import recorded_by_server
from flows.settings import TrainSettings, load_settings
from flows.train_unet import train_unet
from flows.training import VALIDATION
from tasks.scan.errors import UnknownSetting


def execute(arguments: Namespace) -> int:
    """The exit code of the training."""
    if arguments.all and arguments.folds:
        raise UnknownSetting("--all and --folds exclude each other; leave one out")
    machine = {"device": arguments.device, "precision": arguments.precision}
    flags = {
        "folds": arguments.folds,
        "fold": arguments.fold,
        "resume": arguments.resume,
        "training": {"minutes": arguments.minutes, "epochs": arguments.epochs, "seed": arguments.seed, **machine},
        "plan": {"spacing_mm": arguments.spacing, "maps": arguments.maps},
        "run": {"references": arguments.references, "inference": machine, "pool": pool_flags(arguments)},
    }
    settings = load_settings(TrainSettings, arguments.settings, flags)
    with recorded_by_server():
        state = train_unet(arguments.dataset, arguments.output, settings, return_state=True)
    code = exit_code(state)
    print(say_state(state))
    if wrote_report(state, arguments.output / VALIDATION):
        print(f"model:  {arguments.output}")
        if settings.folds:
            _show(arguments.output / VALIDATION)
    return code


def _show(validation: Path) -> None:
    """Print the mean Dice of each label on the held-out cases, and where the rest is."""
    print(f"page:   {validation / 'report.html'}\nheld-out cases, mean Dice (95 % interval):")
    for label in pd.read_csv(validation / "summary.csv").to_dict("records"):
        interval = f"{label['dice_ci95_low']:.4f} to {label['dice_ci95_high']:.4f}"
        print(f"  {label['name']:<14} {label['dice_mean']:.4f} ({interval}), {label['dice_n_valid']} cases")

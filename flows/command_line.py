"""The command `segment-cohort`. Each sub-command's work is in `flows/commands/`, loaded only when it is called."""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from tasks.nursery import prepare_nursery, unwatched
from tasks.scan.errors import PipelineError

POOLED = ("ingest", "train", "run", "evaluate")
"""The commands that need a pool of processes."""
INTERRUPTED, GO_ON = 130, "interrupted; what is on record stays: `run` goes on from there, and `train` with --resume"
"""What a shell has of a command that Ctrl-C ended, and what its user is told."""
EXIT_CODES = """exit codes: 0 every case segmented or unchanged; 1 some case quarantined, failed or carried over (the
report is written); 2 the run itself could not start, and nothing was touched, or could not go on (a full disk): what is
on record stays, and the next run goes on from there; 130 it was interrupted (Ctrl-C), of which the same is true"""
INGEST_EPILOG = """reads headers only, and of an unchanged folder not even those; a refused case has its reason, what
was found, what was needed and the remedy (docs/reasons.md); files that are no scan come last. Exit codes: 0 every case
can be read; 1 some cannot; 2 the look could not start"""
TRAINING_EXIT_CODES = """exit codes: 0 the model is written, and no case needs attention; 1 some case could not be
learnt from or segmented (validation/report.html); 2 the training could not start, or its loss was no number any more;
130 it was interrupted (Ctrl-C): --resume goes on"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the sub-command in `argv`; errors that have a name are one line on standard error."""
    arguments = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that is not UTF-8 must not end a command that prints it
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments.command in POOLED:
        prepare_nursery()
    try:
        code = int(_load(f"flows.commands.{arguments.command}").execute(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads what is printed, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PipelineError as error:
        print(f"segment-cohort: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"segment-cohort: {GO_ON}", file=sys.stderr)
        return INTERRUPTED


def _load(command: str) -> ModuleType:
    """The module of a command, whose million objects the garbage collector never looks at: they are no garbage.

    By itself it would, again and again while they come, and once more, for over a second, when the process ends.
    """
    atexit.register(gc.freeze)
    with unwatched():
        return import_module(command)


def parser() -> argparse.ArgumentParser:
    """All sub-commands with their arguments."""
    whole = argparse.ArgumentParser(
        prog="segment-cohort",
        description="Segments every scan of a cohort with a U-Net, and says exactly what happened to each.",
        epilog=EXIT_CODES + ". Not a medical device.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"segment-cohort {version('segment-cohort')}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_ingest(commands)
    _add_train(commands)
    _add_run(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_after(commands)
    _add_services(commands)
    return whole


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add(commands: Commands, name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=text, epilog=epilog)


def _add_demo(commands: Commands) -> None:
    demo = _add(commands, "demo", "make a cohort from real anatomy, train on it, run the nightly deployment")
    demo.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything (default: demo)")
    demo.add_argument(
        "--epochs", type=int, default=55, help="passes over the 8 people in training (default: 55, 220 steps)"
    )


def _add_ingest(commands: Commands) -> None:
    ingest = _add(
        commands,
        "ingest",
        "what would be segmented: one line a case, with geometry, warnings and reasons",
        INGEST_EPILOG,
    )
    _cohort(ingest)
    ingest.add_argument("--output", type=Path, metavar="CSV", help="write the table there too")
    _pool(ingest)
    _settings(ingest)


def _add_train(commands: Commands) -> None:
    train = _add(commands, "train", "train a model on scans with references", TRAINING_EXIT_CODES)
    train.add_argument(
        "dataset",
        type=Path,
        metavar="DATASET",
        help="folder in the layout of Decathlon, nnU-Net or BIDS, or CSV: case,image,reference",
    )
    train.add_argument(
        "--output", type=Path, default=Path("model"), metavar="MODEL", help="folder of the model (default: model)"
    )
    train.add_argument("--folds", type=Path, metavar="CSV", help="columns: case,fold")
    train.add_argument(
        "--fold", type=int, metavar="K", help="the fold to hold out and to score the model on (default: each)"
    )
    train.add_argument("--all", action="store_true", help="train on all cases (the default without --folds)")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="time budget of training (default: 10)")
    length.add_argument("--epochs", type=int, help="passes over the cases instead: same seed, same weights")
    train.add_argument("--seed", type=int, help="seed of weights, patches and augmentation (default: 0)")
    train.add_argument("--resume", action="store_true", default=None, help="go on from the last checkpoint in MODEL")
    train.add_argument(
        "--spacing", type=float, nargs=3, metavar="MM", help="work at this spacing instead of the median"
    )
    train.add_argument("--maps", type=int, help="maps of the first level (default: 16, on a GPU 32)")
    _references(train)
    _machine(train)
    _pool(train)
    _settings(train)


def _add_run(commands: Commands) -> None:
    run = _add(commands, "run", "segment every scan of a cohort and report what became of each", EXIT_CODES)
    _cohort(run)
    run.add_argument("--model", type=Path, required=True, help="folder that `train` wrote, or nnU-Net v2 its results")
    run.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for masks, tables and page; what an earlier run left in it is kept where nothing changed",
    )
    run.add_argument("--until", metavar="HH:MM", help="begin no case that would not be done by then; carry it over")
    run.add_argument(
        "--retry", action="store_true", default=None, help="try what was quarantined again, changed or not"
    )
    run.add_argument("--mirror", action="store_true", default=None, help="average over the flips that training used")
    _machine(run)
    run.add_argument("--backend", choices=("auto", "torch", "openvino"), help="library of the network (default: auto)")
    _pool(run)
    _settings(run)


def _add_evaluate(commands: Commands) -> None:
    evaluate = _add(
        commands,
        "evaluate",
        "compare label maps with references: one row per case and label",
        "exit codes: 0 every case compared; 1 some not; 2 the comparison could not start",
    )
    evaluate.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="label maps")
    evaluate.add_argument(
        "references", type=Path, metavar="REFERENCES", help="folder with label maps of the same names"
    )
    evaluate.add_argument("--output", type=Path, default=Path("metrics.csv"), help="the table (default: metrics.csv)")
    evaluate.add_argument("--groups", type=Path, metavar="CSV", help="columns: case,site,…; adds summary_groups.csv")
    _pool(evaluate)
    _settings(evaluate)


def _add_compare(commands: Commands) -> None:
    compare = _add(commands, "compare", "what became better or worse from one run to another, and may that be chance")
    compare.add_argument("first", type=Path, metavar="OUT_A", help="output folder of a run, or its metrics.csv")
    compare.add_argument("second", type=Path, metavar="OUT_B", help="the same of the run to judge")
    compare.add_argument("--output", type=Path, default=Path("comparison"), help="folder (default: comparison)")
    compare.add_argument(
        "--gate", type=float, metavar="MARGIN", help="exit 1 if a label loses more mean Dice than this"
    )


def _add_after(commands: Commands) -> None:
    explain = _add(commands, "explain", "why a case has the result it has: run, inputs, hashes, stages, times, flags")
    explain.add_argument("output", type=Path, metavar="OUT", help="output folder of a run")
    explain.add_argument("case", metavar="CASE", help="name of the case, as in cases.csv")
    verify = _add(
        commands,
        "verify",
        "recompute the checksums of everything a run wrote",
        "exit codes: 0 all is as it was written; 1 something is not, a line each; 2 there is no finished run",
    )
    verify.add_argument("output", type=Path, metavar="OUT", help="output folder of a run")


def _add_services(commands: Commands) -> None:
    up = _add(commands, "up", "start the local Prefect server and worker, and register the deployments")
    up.add_argument(
        "--register-only",
        action="store_true",
        help="start nothing; register deployments and automations at a server that runs otherwise",
    )
    _add(commands, "down", "stop exactly what `up` (or `run`) started")


def _cohort(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "cohort", type=Path, metavar="COHORT", help="folder of scans, or CSV: case,image[,image_2 …][,reference]"
    )
    _references(command)


def _references(command: argparse.ArgumentParser) -> None:
    command.add_argument("--references", type=Path, metavar="DIR", help="one label map a case, under the case's name")


def _machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where the network runs (default: auto)")
    command.add_argument("--precision", choices=("auto", "float32", "bfloat16"), help="number type (default: auto)")


def _pool(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, metavar="N", help="processes of the local pool (default: one a core)")
    command.add_argument("--dask", metavar="ADDRESS", help="use this Dask scheduler instead of a local pool")


def _settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--settings", type=Path, metavar="TOML", help="settings file; flags win over it")


if __name__ == "__main__":
    sys.exit(main())

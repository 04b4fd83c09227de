"""The night's frame: everything is checked before the first case, and put away after the last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from flows.deadline import in_time, seconds_until
from flows.journal import JOURNAL, Journal, keep_journal
from flows.output import check_parts, hold_folder, workspace, writing
from flows.server import state_folder
from flows.settings import Settings
from tasks.infer import Opened, Weights
from tasks.infer.infer import open_network, warm_up
from tasks.ledger import LEDGER, check_ledger, describe_recipes, read_expected
from tasks.ledger.recall import Ledger
from tasks.model import Model
from tasks.pool import open_pool
from tasks.report import MASKS
from tasks.report.delta import check_runs_before, put_aside
from tasks.report.report import FILES, FOLDERS
from tasks.scan.errors import EmptyCohort, UnknownSetting, UnwritableOutput
from tasks.scan.records import Case, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What the stages of one run share: the model, where to write, and who computes."""

    cohort: Path
    opened: Opened
    weights: Weights
    output: Path
    work: Path
    masks: Path
    pool: str
    settings: Settings
    state: Path
    """Folder of what is remembered from run to run, beside Prefect's history."""
    started: datetime
    began: float
    """When it started, as `time.monotonic` has it."""
    deadline: float | None
    """When no case may be in hand any more, as `time.monotonic` has it: a clock that is set does not move it."""
    ledger: Ledger | None
    """What is known of each case from the nights before; None: every case is done."""
    journal: Journal

    @property
    def model(self) -> Model:
        """What its networks say, and how scans are prepared for them."""
        return self.opened.model


@contextmanager
def open_night(
    cohort: Path, model: Path, output: Path, settings: Settings, *, remember: bool = True
) -> Iterator[Night]:
    """The night, when cohort, model, device and output are fit for it; nothing is touched before all are checked.

    `remember`: whether there is a ledger. Raises EmptyCohort, ModelNotFound, CheckpointMismatch, UnknownSetting,
    UnwritableOutput, UnreadableLedger, UnreadableRun or ServiceUnavailable.
    """
    cohort, model, output = cohort.resolve(), model.resolve(), output.resolve()
    check_inputs(cohort, settings.references, output)
    check_parts(output, (*FILES, JOURNAL, LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm"), FOLDERS)
    weights = Weights(folder=model)
    with open_network(weights, settings.inference) as opened:
        settings.evaluation.tolerances_mm(opened.model.labels)
        if settings.inference.mirror:
            check_mirrored(opened.model, model)
        check_ledger(output / LEDGER)
        check_runs_before(output)
        if remember:
            warm_up(weights, opened, settings.inference)
        recipes = describe_recipes(opened, settings.inference, settings.evaluation, settings.export)
        ledger = Ledger(path=output / LEDGER, masks=output / MASKS, recipes=recipes, retry=settings.retry)
        with (
            hold_folder(output),
            workspace(output) as work,
            open_pool(settings.pool) as pool,
            keep_journal(work) as journal,
        ):
            yield Night(
                cohort=cohort,
                opened=opened,
                weights=weights,
                output=output,
                work=work,
                masks=output / MASKS,
                pool=pool,
                settings=settings,
                state=state_folder(),
                started=datetime.now(UTC),
                began=time.monotonic(),
                deadline=_deadline(settings.until) if remember else None,
                ledger=ledger if remember else None,
                journal=journal,
            )


def check_mirrored(description: Model, folder: Path) -> None:
    """Raises UnknownSetting when the model in `folder` was trained without mirroring."""
    if not description.plan.augment.mirror_axes:
        raise UnknownSetting(
            f"mirror: the model in '{folder}' was trained without mirroring, and would do worse with it; leave "
            "--mirror out, or train with plan.augment.mirror_axes"
        )


def _deadline(until: str | None) -> float | None:
    return None if until is None else time.monotonic() + seconds_until(until, datetime.now())


def begin(night: Night) -> None:
    """From here on the output is tonight's: its cases are known, and the record of the run before is put aside.

    So neither a run that refuses changes what was there, nor does one that is killed leave a record that is not true.
    """
    with writing(night.output):
        night.masks.mkdir(exist_ok=True)
        put_aside(night.output)
        night.journal.move_to(night.output)


def seen_by(night: Night, member: int) -> Night:
    """`night`, with that one network of the model alone: the one that never saw the cases it is to be scored on."""
    return replace(night, weights=replace(night.weights, member=member))


def check_cohort(cohort: Path) -> None:
    """Raises EmptyCohort when `cohort` is neither a folder nor a manifest."""
    if not cohort.is_dir() and not (cohort.is_file() and cohort.suffix == ".csv"):
        raise EmptyCohort(f"'{cohort}' is neither a folder of scans nor a CSV manifest; is the share mounted?")


def check_inputs(cohort: Path, references: Path | None, output: Path) -> None:
    """Raises EmptyCohort or UnknownSetting when cohort or references are not there.

    Raises UnwritableOutput when one of them is the output: last night's masks would be tonight's scans or references.
    """
    check_cohort(cohort)
    if references is not None and not references.is_dir():
        raise UnknownSetting(f"references '{references}' are not a folder; name a folder with a label map a case")
    own = [output / name for name in FOLDERS]
    for name, read in {"cohort": cohort, "references": references and references.resolve()}.items():
        if read and (read == output or any(read.is_relative_to(folder) for folder in own)):
            raise UnwritableOutput(f"output '{output}' is where the {name} would be read from; choose another folder")


def shards(cases: list[Outcome[Case]], night: Night) -> Iterator[Sequence[Outcome[Case]]]:
    """`cases`, a shard at a time, while there is time; they leave the list."""
    expected = read_expected(night.ledger.path) if night.ledger else {}
    return in_time(cases, night.settings.shard, expected, night.deadline)


def provenance(night: Night) -> dict[str, object]:
    """What `run.json` and the page say of the run itself, before anything is known of its cases."""
    machine = night.opened.machine
    by_the_clock = (datetime.now(UTC) - night.started).total_seconds()
    return {
        "started": night.started.isoformat(timespec="seconds"),
        "cohort": str(night.cohort),
        "model": str(night.weights.folder),
        "model_sha256": night.model.weights_sha256,
        "device": machine.device,
        "precision": machine.precision,
        "backend": machine.backend,
        "clock_moved_seconds": round(by_the_clock - (time.monotonic() - night.began)) or None,
        "settings": TypeAdapter(Settings).dump_python(night.settings, mode="json"),
    }

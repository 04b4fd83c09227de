"""The cases of a cohort, from their headers alone: read in the pool's processes, and only those that are new."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import TypeAdapter

from tasks.attempt import failed, problem_of
from tasks.case_log import logged
from tasks.ingest.desk import Desk, Question, ask
from tasks.ingest.discover import discover
from tasks.ingest.found import Found, IngestConfig, Intake
from tasks.ingest.glance import NOT_READABLE, Glance
from tasks.ingest.layouts import Search
from tasks.ingest.memory import Memory, Stamp, remembering, stamp
from tasks.ingest.privacy import keyed, load_key
from tasks.ingest.series import shear_tilted
from tasks.named import Named
from tasks.scan.errors import EmptyCohort, StillBeingWritten
from tasks.scan.reading import shown
from tasks.scan.records import Case, Outcome


def find_cases(
    cohort: Path, references: Path | None, output: Path | None, config: IngestConfig, pool: str, state: Path
) -> Intake:
    """Every case of `cohort`, its headers read in parallel. Raises EmptyCohort when there is none.

    `output`, where it lies inside of `cohort`, is not searched: last night's masks are not tonight's scans. `state` is
    the folder for what is remembered of headers, and for the key of names where the settings give none.
    """
    key = load_key(config.key or state / "names.key")
    started = time.time()
    with remembering(memory_of(cohort, state)) as memory:
        desk = Desk(pool=pool, memory=memory)
        search = Search(
            excluded=(output,) if output else (),
            follow_links=config.follow_links,
            look=lambda files: look_in_pool(files, desk, key),
        )
        found, set_aside = discover(cohort, references, search)
        if not found:
            raise EmptyCohort(f"'{cohort}' holds no scan ({len(set_aside)} other files); is the share mounted?")
        named = found if cohort.is_file() else veil_names(found, cohort, desk, key)
        if config.tilt == "shear":
            named = [shear_tilted(one) for one in named]
        if config.volume is not None:
            named = [choose_volume(one, config.volume) for one in named]
        cases = ask(_CASE, [Outcome(name=one.name, value=one) for one in named], desk, config.most_voxels)
        moving = find_moving(desk.stamps, started, config.settle_seconds)
    settled = [_refuse_moving(outcome, one, moving) for outcome, one in zip(cases, named, strict=True)]
    return Intake(cases=tuple(settled), set_aside=tuple(set_aside))


@task(name="ingest", cache_policy=NO_CACHE)
def ingest(cohort: Path, references: Path | None, output: Path, config: IngestConfig, pool: str, state: Path) -> Intake:
    """Every case of `cohort` outside of `output`, its headers read in parallel."""
    intake = find_cases(cohort, references, output, config, pool, state)
    list(logged("ingest", intake.cases))
    for code, count in Counter(item.code for item in intake.set_aside).items():
        get_run_logger().info("ingest: %d files set aside: %s", count, code)
    return intake


def memory_of(cohort: Path, state: Path) -> Path:
    """The file in `state` that remembers the headers of `cohort`."""
    return state / f"headers-{sha256(str(cohort).encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.json"


def search_in_pool(pool: str) -> Search:
    """A search that opens files in the pool's processes only, and remembers them until it ends."""
    desk, key = Desk(pool=pool, memory=Memory()), secrets.token_bytes()
    return Search(look=lambda files: look_in_pool(files, desk, key), follow_links=True)  # somebody named the folders


def look_in_pool(files: Sequence[Path], desk: Desk, key: bytes) -> dict[Path, Glance]:
    """A glance at each of `files`, remembered or taken in the pool; one that ends its process is an unreadable scan."""
    desk.stamps.update((file, stamp(file)) for file in files)
    seen = ask(_GLANCE, [Outcome(name=shown(file), value=file) for file in files], desk, key)
    return {file: outcome.value or Glance(format="dicom") for file, outcome in zip(files, seen, strict=True)}


def veil_names(found: Sequence[Found], root: Path, desk: Desk, key: bytes) -> list[Found]:
    """The cases, sorted; a DICOM one whose path repeats what its header calls the patient is named by a keyed hash."""
    series = [one for one in found if one.image.dicom_files]
    firsts = [one.image.dicom_files[0] for one in series]
    questions = [
        Outcome(name=one.name, value=(file, _below(file, root))) for one, file in zip(series, firsts, strict=True)
    ]
    told = ask(_TELLS, questions, desk)
    hidden = {one.name for one, answer in zip(series, told, strict=True) if answer.value is not False}
    named = [replace(one, name=f"scan-{keyed(key, one.name)[:12]}") if one.name in hidden else one for one in found]
    return sorted(named, key=lambda one: one.name)


def choose_volume(found: Found, volume: int) -> Found:
    """`found`, of which that volume is read, where it is one NIfTI file that may hold several."""
    return replace(found, image=replace(found.image, volume=volume)) if found.image.format == "nifti" else found


def find_moving(stamps: dict[Path, Stamp | None], started: float, settle_seconds: float) -> set[Path]:
    """The files that changed since their stamp was taken, looked for among those younger than `settle_seconds`.

    Waits, once for all of them, until that many seconds have passed since `started` (seconds since the epoch).
    """
    young = {file: one for file, one in stamps.items() if one and started - one[1] / 1e9 < settle_seconds}
    if young:
        time.sleep(min(settle_seconds, max(0.0, started + settle_seconds - time.time())))  # the clock may be set back
    return {file for file, one in young.items() if stamp(file) != one}


def _refuse_moving(outcome: Outcome[Case], found: Found, moving: set[Path]) -> Outcome[Case]:
    files = [*found.image.files, *(found.reference.files if found.reference else ())]
    changed = [file for file in files if file in moving]
    if not changed:
        return outcome
    error = StillBeingWritten(
        found.name,
        found=f"'{shown(changed[0])}' changed while the cohort was looked at",
        needed="files that are complete",
        remedy="nothing, if the copy goes on: the next run takes it",
    )
    return failed(outcome, problem_of(error, "ingest"))


def _below(file: Path, root: Path) -> str:
    """The part of the path that names come from."""
    return str(file.parent.relative_to(root)) if file.parent.is_relative_to(root) else str(file.parent)


_GLANCE = Question(
    stage="headers",
    function=Named("tasks.ingest.look", "glance_veiled"),
    files=lambda file: [file],
    answer=TypeAdapter(Glance),
    lasting=lambda look: look.aside != NOT_READABLE and (look.format != "dicom" or bool(look.frames)),
)
_TELLS = Question(
    stage="names",
    function=Named("tasks.ingest.look", "names_patient"),
    files=lambda question: [question[0]],
    answer=TypeAdapter(bool),
)
_CASE = Question(
    stage="ingest",
    function=Named("tasks.ingest.case", "ingest_case"),
    files=lambda found: found.image.files,
    answer=TypeAdapter(Case),
)

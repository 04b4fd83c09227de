"""`run.json`: what ran, with which versions, from what, and the checksum of everything it wrote."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.export import DICOM
from tasks.scan.errors import UnreadableRun
from tasks.scan.files import hash_files, write_whole
from tasks.scan.records import Outcome, Scores

RUN, MASKS = "run.json", "segmentations"
FORMAT = 1
"""Of `run.json` and of the tables: raised when what is in them already means something else, not when there is more."""
RETIRED = ".old"
"""Added to the name of a mask of an earlier run, so that nobody takes it for one of this run."""
PACKAGES = (
    "segment-cohort",
    "torch",
    "openvino",
    "prefect",
    "dask",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "scipy",
    "numpy",
    "pandas",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """What went into a case and came out; a checksum is None where the case did not get so far."""

    input: tuple[str, ...]
    reference: tuple[str, ...]
    input_sha256: str | None
    output_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What other commands read from `run.json`, which holds more. Files by name below the folder, with checksums."""

    started: str
    finished: str
    flow_run: str | None
    model: str
    model_sha256: str
    device: str
    precision: str
    cases: dict[str, CaseFiles]
    files: dict[str, str]
    since_last_night: str = ""


_ADAPTER = TypeAdapter(Run)


def describe_run(provenance: Mapping[str, Any], flow_run: str | None) -> dict[str, Any]:
    """`provenance` with the time of the end, the id of the Prefect flow run, and the versions that ran."""
    versions = {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {"format": FORMAT, **provenance, "finished": finished, "flow_run": flow_run, "versions": versions}


def write_run(
    run: Mapping[str, Any], outcomes: Sequence[Outcome[Scores]], set_aside: Sequence[Mapping[str, str]], output: Path
) -> None:
    """Write `run.json`, last of all: its existence says that everything it lists is there.

    A file name that is not UTF-8 is written as JSON writes it in ASCII, `\\udcff`, and is read back as it was.
    """
    content = {
        **run,
        "cases": {outcome.name: asdict(_case(outcome)) for outcome in sorted(outcomes, key=lambda one: one.name)},
        "set_aside": list(set_aside),
        "files": {str(path.relative_to(output)): hash_files([path]) for path in written_files(output, outcomes)},
    }
    write_whole(output / RUN, json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def read_run(output: Path, name: str = RUN) -> Run:
    """The record `name` of the run in `output`. Raises UnreadableRun when there is none, or one that is damaged."""
    try:
        content = json.loads((output / name).read_text(encoding="utf-8"))
        _refuse_newer(content, output / name)
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or RUN
        raise UnreadableRun(f"'{output / name}' is damaged ({place}: {first['msg']}); run the night again") from error
    except (OSError, ValueError, RecursionError) as error:
        begun = " (one is at work, or was killed: run the night again)" if (output / ".lock").exists() else ""
        raise UnreadableRun(
            f"'{output}' holds no finished run{begun}: {error}; name the folder given as --output"
        ) from error


def check_record(record: Path) -> None:
    """Raises UnreadableRun when `record` is the `run.json` of a newer version: its tables may mean something else.

    One that cannot be read says nothing; a run puts it aside.
    """
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    _refuse_newer(content, record)


def _refuse_newer(content: Any, record: Path) -> None:
    found = content.get("format", FORMAT) if isinstance(content, dict) else FORMAT
    if isinstance(found, int) and found > FORMAT:
        versions = content.get("versions")
        wrote = versions.get("segment-cohort", "") if isinstance(versions, dict) else ""
        raise UnreadableRun(
            f"'{record}' was written by a newer version of this program ({f'{wrote}, ' * bool(wrote)}format {found}, "
            f"this one reads up to {FORMAT}); use that version, or choose another output folder"
        )


def verify_output(output: Path) -> list[str]:
    """What differs from `run.json`: a line for each file that is missing, changed, or a result that it does not know.

    Empty when all is as written. Results of earlier runs that were put aside (`.old`) are let be.
    """
    files = read_run(output).files
    findings = []
    for name, checksum in files.items():
        path = output / name
        if not path.resolve().is_relative_to(output.resolve()):
            findings.append(f"{name}: not in this folder")
        elif not path.is_file():
            findings.append(f"{name}: missing")
        elif hash_files([path]) != checksum:
            findings.append(f"{name}: changed since it was written")
    found = sorted(str(path.relative_to(output)) for folder in (MASKS, DICOM) for path in (output / folder).glob("*"))
    findings += [f"{name}: not of this run" for name in found if name not in files and not name.endswith(RETIRED)]
    return findings


def written_files(output: Path, outcomes: Sequence[Outcome[Scores]]) -> list[Path]:
    """All files of this run in `output`: masks, DICOM SEGs, tables, page and pictures."""
    found = [outcome.value.segmentation for outcome in outcomes if outcome.value]
    return sorted(
        [
            *(one.mask for one in found),
            *(one.dicom_seg for one in found if one.dicom_seg),
            *(path for path in output.glob("*.csv") if ".previous" not in path.suffixes),
            *output.glob("*.parquet"),
            output / "report.html",
            *(output / "pictures").glob("*"),
        ]
    )


def _case(outcome: Outcome[Scores]) -> CaseFiles:
    segmentation = outcome.value.segmentation if outcome.value else None
    found = outcome.case or outcome.found
    reference = found.reference if found else None
    return CaseFiles(
        input=tuple(str(path) for path in found.image.files) if found else (),
        reference=tuple(str(path) for path in reference.files) if reference else (),
        input_sha256=segmentation.input_sha256 if segmentation else None,
        output_sha256=segmentation.mask_sha256 if segmentation else None,
    )

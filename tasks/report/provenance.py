"""`run.json`: what ran, with which versions, from what, and the checksum of everything it wrote."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.scan.errors import UnreadableRun
from tasks.scan.files import hash_files, write_whole
from tasks.scan.records import Outcome, Scores

RUN = "run.json"
PACKAGES = ("segment-cohort", "torch", "prefect", "dask", "nibabel", "pydicom", "SimpleITK", "scipy", "numpy", "pandas")


def describe_run(provenance: Mapping[str, Any], flow_run: str | None) -> dict[str, Any]:
    """`provenance` with the time of the end, the id of the Prefect flow run, and the versions that ran."""
    versions = {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {**provenance, "finished": finished, "flow_run": flow_run, "versions": versions}


def write_run(
    run: Mapping[str, Any], outcomes: Sequence[Outcome[Scores]], set_aside: Sequence[Mapping[str, str]], output: Path
) -> None:
    """Write `run.json`, last of all: its existence says that everything it lists is there.

    A file name that is not UTF-8 is written as JSON writes it in ASCII, `\\udcff`, and is read back as it was.
    """
    content = {
        **run,
        "cases": {outcome.name: _case(outcome) for outcome in outcomes},
        "set_aside": list(set_aside),
        "files": {str(path.relative_to(output)): hash_files([path]) for path in written_files(output, outcomes)},
    }
    write_whole(output / RUN, json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def read_run(output: Path) -> dict[str, Any]:
    """The content of `run.json` in `output`. Raises UnreadableRun when there is none."""
    try:
        content: dict[str, Any] = json.loads((output / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableRun(f"'{output}' holds no finished run ({error}); name the folder given as --output") from error
    return content


def verify_output(output: Path) -> list[str]:
    """What differs from `run.json`: one line for each file that is missing or changed; empty when all is as written."""
    findings = []
    for name, checksum in read_run(output)["files"].items():
        path = output / name
        if not path.is_file():
            findings.append(f"{name}: missing")
        elif hash_files([path]) != checksum:
            findings.append(f"{name}: changed since it was written")
    return findings


def written_files(output: Path, outcomes: Sequence[Outcome[Scores]]) -> list[Path]:
    """All files of this run in `output`: masks, tables, page and pictures."""
    masks = [outcome.value.segmentation.mask for outcome in outcomes if outcome.value]
    return sorted([*masks, *output.glob("*.csv"), output / "report.html", *(output / "pictures").glob("*")])


def _case(outcome: Outcome[Scores]) -> dict[str, Any]:
    segmentation = outcome.value.segmentation if outcome.value else None
    image = outcome.case.image.files if outcome.case else ()
    reference = outcome.case.reference.files if outcome.case and outcome.case.reference else ()
    return {
        "input": [str(path) for path in image],
        "reference": [str(path) for path in reference],
        "input_sha256": segmentation.input_sha256 if segmentation else None,
        "output_sha256": segmentation.mask_sha256 if segmentation else None,
    }

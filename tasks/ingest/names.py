"""Names of cases: safe as file names everywhere, unique, and the same each night."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tasks.ingest.found import Found

LONGEST_NAME = 80
_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd")


def safe_name(text: str) -> str:
    """`text` in at most 80 of the characters A-Z a-z 0-9 . _ -, beginning and ending with none of `.` and `-`.

    >>> safe_name("ward 3/Müller.v2")
    'ward-3-Muller.v2'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "case"
    return slug if len(slug) <= LONGEST_NAME else with_suffix(slug, text)


def with_suffix(name: str, identity: str) -> str:
    """`name` with eight hexadecimal digits that stand for `identity`, for example a series' UID, and do not tell it."""
    digits = sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9].rstrip('-.')}-{digits}"


def name_of_file(file: Path, root: Path) -> str:
    """The case name of an image file: its path below `root` without the extension."""
    relative = file.relative_to(root).as_posix()
    suffix = next((suffix for suffix in _SUFFIXES if relative.lower().endswith(suffix)), "")
    return safe_name(relative[: len(relative) - len(suffix)])


def name_of_folder(folder: Path, root: Path) -> str:
    """The case name of a folder that is one scan: its path below `root`, or the name of `root` itself."""
    return safe_name(root.resolve().name if folder == root else folder.relative_to(root).as_posix())


def make_unique(cases: Sequence[Found], root: Path) -> list[Found]:
    """The cases; all those that share a name, upper or lower case, get a suffix that comes from their paths.

    Each of them gets one, so that no name depends on the order in which files are found, and single files a warning.
    Only where a manifest names one scan twice under one name does the second get another suffix than the first.
    """
    uses = Counter(case.name.casefold() for case in cases)
    taken = {name for name, count in uses.items() if count == 1}
    return [case if uses[case.name.casefold()] == 1 else _renamed(case, root, taken) for case in cases]


def _renamed(case: Found, root: Path, taken: set[str]) -> Found:
    """`case` under a name that is not among `taken`, and is from now on."""
    identity = paths = "\n".join(os.path.relpath(file, root) for file in case.image.files)
    times = 1
    while (name := with_suffix(case.name, identity)).casefold() in taken:
        times += 1
        identity = f"{paths}\n{times}"
    taken.add(name.casefold())
    if case.image.dicom_files:  # what lies in one folder shares its name as a rule
        return replace(case, name=name)
    shared = f"another scan is called '{case.name}', too; a reference of that name is taken for neither"
    return replace(case, name=name, warnings=(*case.warnings, shared))

"""The page of a night that died: at its top it says that it did, when and why, for people who look at nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import escape

from tasks.report.provenance import RUN
from tasks.scan.files import write_whole

PAGE = "report.html"
_WORD = re.compile(r'<aside id="died".*?</aside>\n', re.DOTALL)
_STYLE = "margin: 0; padding: 16px 24px; background: #b3261e; color: #fff; font: 16px/1.5 system-ui, sans-serif"


def say_died(output: Path, run: str, began: str, ended: str, why: str) -> bool:
    """Whether the page in `output` now says that the run `run`, which had begun to write there, ended early.

    A run that wrote its record, `run.json`, has a page of its own. What is below the word is the page of the run
    before, if there is one.
    """
    if not output.is_dir() or (output / RUN).exists():
        return False
    page = output / PAGE
    former = page.read_text(encoding="utf-8", errors="replace") if page.exists() else _EMPTY
    word = (
        f'<aside id="died" role="alert" style="{_STYLE}"><b>A night died.</b> It began {escape(began)} and ended '
        f"{escape(ended)}: {escape(why)}. What is below may be of the night before. The next run goes on where "
        f"this one was. Run {escape(run)}</aside>\n"
    )
    before, body, after = _WORD.sub("", former).partition("<body>\n")
    write_whole(page, f"{before}{body}{word}{after}".encode("utf-8", "backslashreplace"))
    return True


_EMPTY = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Segmentation report</title></head>
<body>
<p>No night has written a report here yet.</p>
</body></html>
"""

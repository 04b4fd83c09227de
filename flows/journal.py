"""`log.jsonl` in the output folder: what a run's log says, one JSON object a line, for programs and for `explain`.

Every line that a flow or task of the run logs through Prefect is written, where it is about a case with the case, its
stage and what it cost. Each line is flushed by itself, so that a kill costs the line in hand. What is well is told to
the journal alone: on a terminal that a thousand cases pass, nobody would find the one that did not.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.attempt import OF_CASE

JOURNAL, JOURNAL_BEFORE = "log.jsonl", "log.previous.jsonl"
MOST_BYTES = 64 * 1024 * 1024
"""When a run begins with a longer file, that becomes `log.previous.jsonl`: two of them are kept, no more."""
LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what is not known of it is left out."""

    def format(self, record: logging.LogRecord) -> str:
        """`time` (UTC, ISO 8601), `level`, `run`, `task`, what it says of a case, and `message`."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "run": getattr(record, "flow_run_id", None),
            "task": getattr(record, "task_run_name", None),
            **getattr(record, OF_CASE, {}),
            "message": record.getMessage(),
        }
        known = {key: value for key, value in line.items() if value is not None}
        return json.dumps(known, ensure_ascii=True)  # a file name that is not UTF-8 cannot end a line


class Journal(logging.FileHandler):
    """Where the lines go: first to the folder of work, for a run that refuses leaves the output as it was."""

    def move_to(self, output: Path) -> None:
        """From here on the file is `log.jsonl` in `output`; what was written so far is at its end. Raises OSError."""
        path = output / JOURNAL
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(output / JOURNAL_BEFORE)
        self.acquire()
        try:
            self.close()
            with path.open("ab") as file, Path(self.baseFilename).open("rb") as written:
                shutil.copyfileobj(written, file)
            self.baseFilename = str(path)
        finally:
            self.release()


@contextmanager
def keep_journal(work: Path) -> Iterator[Journal]:
    """In this block, what flows and tasks of this process log is written to the journal, at first below `work`."""
    handler = Journal(work / JOURNAL, encoding="utf-8")
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in LOGGERS]
    consoles = list(logging.getLogger().handlers)
    for logger in loggers:
        logger.addHandler(handler)
    for console in consoles:
        console.addFilter(_is_for_all)
    try:
        yield handler
    finally:
        for console in consoles:
            console.removeFilter(_is_for_all)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def _is_for_all(record: logging.LogRecord) -> bool:
    """Whether a line is told to the server, and shown on the terminal."""
    return bool(getattr(record, "send_to_api", True))


def lines_of(case: str, output: Path) -> list[dict[str, Any]]:
    """What the journal in `output` says of `case`, oldest first; a line that a kill has torn is left out."""
    quoted = json.dumps(case)
    found = []
    for path in (output / JOURNAL_BEFORE, output / JOURNAL):
        if not path.exists():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            likely = [line for line in file if quoted in line]
        found += [line for line in map(_parsed, likely) if line.get("case") == case]
    return found


def has_begun(run: str, output: Path) -> bool:
    """Whether the run began to write to `output`: its journal is there, for one that refuses leaves it as it was."""
    path = output / JOURNAL
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return any(run in line for line in file)


def _parsed(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}

"""What a run that did not end well leads to: a word at the top of its page, and a message to whoever should know.

The message is sent to a webhook and given to a command, if they are configured. It holds no name of a case, no path and
no text of a header. The URL may hold a secret: it comes from the environment or a Prefect block, and is never logged.
Whatever goes wrong with the message is said in the run's log and changes nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from prefect import Flow, State
from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger

from flows.journal import has_begun
from tasks.report.died import say_died

URL, COMMAND, BLOCK = "SEGMENT_COHORT_ALERT_URL", "SEGMENT_COHORT_ALERT_COMMAND", "segment-cohort-alert"
"""Two variables of the environment, and the name of a Prefect block of the type Webhook."""
SECONDS = 10.0
"""How long the webhook may take to answer, and the command to end."""
NIGHT = "segment-cohort"
KILLED = "its process ended without a word: it was killed, stopped by `segment-cohort down`, or the machine restarted"
_REASONS = (
    (re.compile(r"(\d+ of \d+ cases need attention \([a-z_0-9, ]*\))"), "{}"),
    (re.compile(f"({re.escape(KILLED)})"), "{}"),
    (re.compile(r"exited with(?: non-zero)? status code:? (-?\d+)"), "its process ended with code {}"),
    (re.compile(r"exception:? (?:\w+\.)*(\w+)"), "the program ended with {}"),
    (re.compile(r"^([A-Z]\w+): "), "it could not go on: {}"),
)
"""What of a state's message is told: numbers and names of errors, for the rest may name a case or a path."""


def tell_end(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """The hook of a flow that failed or crashed."""
    tell(flow.name, flow_run, state)


def tell(flow: str, run: FlowRun, state: State[Any]) -> None:
    """Write a word on the page of `run`, if it died as it wrote, and send the message about it. Raises nothing."""
    logger = flow_run_logger(run)
    message = describe_end(flow, run, state)
    ways: Mapping[str, Callable[[], object]] = {
        "page": lambda: _tell_page(flow, run, message),
        "webhook": lambda: _tell_webhook(message),
        "command": lambda: _tell_command(message),
    }
    for way, tell_it in ways.items():
        try:
            if tell_it():
                logger.info("alarm: the %s was told", way)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a message, the run is what it is
            # not its text: that may hold the URL
            said = error.code if isinstance(error, HTTPError) else getattr(error, "returncode", "")
            logger.warning("alarm: the %s could not be told: %s %s", way, type(error).__name__, said)


def describe_end(flow: str, run: FlowRun, state: State[Any]) -> dict[str, str]:
    """The message: which run, when it began and ended, as what, and why."""
    ended = state.timestamp or datetime.now(UTC)
    began = run.start_time or run.created or ended
    return {
        "program": NIGHT,
        "flow": flow,
        "run": str(run.id),
        "name": run.name,
        "state": str(state.name),
        "why": why(str(state.name), state.message or ""),
        "began": began.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
    }


def why(state: str, message: str) -> str:
    """What of a state's message may be told to anybody.

    >>> why("Failed", "1 of 3 cases need attention (2 segmented, 1 failed): C07")
    '1 of 3 cases need attention (2 segmented, 1 failed)'
    >>> why("Crashed", "Flow run encountered an exception: KeyError: 'C07'")
    'the program ended with KeyError'
    """
    for pattern, told in _REASONS:
        if found := pattern.search(message):
            return told.format(found[1])
    return f"it ended as {state}"


def _tell_page(flow: str, run: FlowRun, message: Mapping[str, str]) -> bool:
    output = run.parameters.get("output") if flow == NIGHT else None
    if not output or not has_begun(message["run"], Path(str(output))):
        return False
    return say_died(Path(str(output)), message["run"], message["began"], message["ended"], message["why"])


class _NoRedirect(HTTPRedirectHandler):
    """A webhook that leads elsewhere is not followed: what it says would be sent to whom nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Nothing: the redirection stays an HTTPError."""


def _tell_webhook(message: Mapping[str, str]) -> bool:
    url, headers = _webhook()
    if not url:
        return False
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("no http or https")
    content = json.dumps(message).encode()
    request = Request(url, data=content, headers={"Content-Type": "application/json", **headers}, method="POST")
    build_opener(_NoRedirect).open(request, timeout=SECONDS).close()
    return True


def _webhook() -> tuple[str, dict[str, str]]:
    """URL and headers of the webhook: of the environment, else of the block; an empty URL where there is neither."""
    if url := os.environ.get(URL, ""):
        return url, {}
    try:
        block = Webhook.load(BLOCK)
    except ValueError:  # there is no such block
        return "", {}
    if not isinstance(block, Webhook):  # Block.load may be a coroutine, in a loop; hooks run in a thread without one
        raise TypeError("a hook in an event loop")
    return block.url.get_secret_value(), dict(block.headers.get_secret_value())


def _tell_command(message: Mapping[str, str]) -> bool:
    command = shlex.split(os.environ.get(COMMAND, ""))
    if not command:
        return False
    subprocess.run(
        command,
        input=json.dumps(message).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=SECONDS,
        check=True,
    )
    return True

"""Lets `prefect deployment run segment-cohort` mean `segment-cohort/nightly`: Prefect itself has no default deployment.

An entry point of the group `prefect.plugins`: Prefect calls it while it is imported, before its command line reads its
arguments, where `plugins.enabled` is true (`docs/operations.md`). That the hook is for environments, not for arguments,
is known; nothing of Prefect is patched, and every other program, command and name is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath

from prefect.plugins import HookContext, SetupResult, register_hook

SHORT, FULL = "segment-cohort", "segment-cohort/nightly"
LOCAL_API = "http://127.0.0.1:4200/api"
BEFORE_A_NAME = {"run", "--watch", "--no-watch", "--name"}
"""After these comes the name of a deployment; after any other option of `deployment run` comes that option's value."""


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """For the command `prefect`: the local server where no other is configured, and the deployment's full name."""
    if not _is_prefect(sys.argv, sys.orig_argv):
        return None
    position = position_of_name(sys.argv)
    if position:
        sys.argv[position] = FULL
        sys.stderr.write(f"segment-cohort: '{SHORT}' is the deployment '{FULL}'\n")
    return None if ctx.api_url else SetupResult(env={"PREFECT_API_URL": LOCAL_API}, note="the local server")


def position_of_name(argv: Sequence[str]) -> int:
    """Where `argv` says `deployment run segment-cohort`; 0 if it does not."""
    first = 1
    while first < len(argv) and argv[first].startswith("-"):
        first += 2 if argv[first] in {"-p", "--profile"} else 1
    if list(argv[first : first + 2]) not in (["deployment", "run"], ["deployments", "run"]):
        return 0
    for position in range(first + 2, len(argv)):
        before = argv[position - 1]
        if argv[position] == SHORT and (before in BEFORE_A_NAME or "=" in before or not before.startswith("-")):
            return position
    return 0


def _is_prefect(argv: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether the program is `prefect` or `python -m prefect`; the latter's first argument is still `-m` by now."""
    return PurePath(argv[0]).stem == "prefect" or list(whole[-len(argv) - 1 :][:2]) == ["-m", "prefect"]

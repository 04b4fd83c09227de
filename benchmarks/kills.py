"""Kill anything at any moment: does the next run finish, to the same bytes? `python -m benchmarks.kills [--kills 36]`.

Every kill is a night of its own, into an empty folder: at a random moment of it (seeded) one process gets SIGKILL. What
was killed is started again the way `docs/operations.md` says, and the next run must end Completed, with `metrics.csv`,
`summary.csv` and masks byte for byte those of an undisturbed night. Nothing half-written and no process may be left.

- by the deployment: the flow, a process of its Dask pool, that of the network, the process that these are born of, the
  Prefect worker, the Prefect server
- by the command, on a Dask cluster of its own: a worker, its nanny, the scheduler, the command itself

The server, its database and its port are of their own. Exit code 1 when anything was not as it must be.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.kills_sites import (
    BY_COMMAND,
    BY_DEPLOYMENT,
    Night,
    Site,
    clustered,
    command_of,
    deployed,
    environment,
    ours,
)
from benchmarks.scale import make_cohort, make_model, server_of_its_own

LONGEST_SECONDS = 900.0
"""How long a night of these few cases may take, and how long what belonged to one may outlive it."""
POLL_SECONDS = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every next run was as it must be."""
    arguments = _arguments(argv)
    chosen = random.Random(arguments.seed)
    os.environ["PREFECT_WORKER_QUERY_SECONDS"] = (
        "2"  # a worker looks every 15 s otherwise, which takes most of the time
    )
    troubled = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name, server_of_its_own(Path(name)), ExitStack() as stack:
        home = Path(name)
        make_model(home / "model")
        make_cohort(home / "in", arguments.cases, arguments.side)
        only = arguments.only or [*BY_DEPLOYMENT, *BY_COMMAND]
        ways = {BY_DEPLOYMENT: deployed(), BY_COMMAND: clustered(home)}
        sites = {names: stack.enter_context(way) for names, way in ways.items() if {*names} & {*only}}
        targets = [(site, target) for names, site in sites.items() for target in names if target in only]
        seconds = {site.name: undisturbed(home, site) for site in sites.values()}
        for number in range(arguments.kills):
            site, target = targets[number % len(targets)]
            masks = chosen.randrange(-(arguments.cases // 2), arguments.cases)
            moment = Moment(masks=max(masks, 0), seconds=chosen.uniform(0, seconds[site.name] if masks < 0 else 1))
            troubled += bool(kill_once(home, site, target, number, moment))
    print(f"{arguments.kills} kills, {troubled} with a problem")
    return 1 if troubled else 0


def undisturbed(home: Path, site: Site) -> float:
    """Seconds of a night that nobody disturbs; all of them, wherever they run, have the same results."""
    out = home / "undisturbed"
    start = time.monotonic()
    night = site.start(home, out if not out.exists() else home / "undisturbed-again")
    problems = wait_for(night)
    seconds = time.monotonic() - start
    print(f"undisturbed, {site.name}: {seconds:.0f} s; {night.said()}", *problems, flush=True)
    if (again := home / "undisturbed-again").exists() and results(again) != results(out):
        sys.exit("the undisturbed nights differ")
    return seconds


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to kill: so many `seconds` after the start, or, where `masks` are named, after there are so many of them."""

    masks: int
    seconds: float


def kill_once(home: Path, site: Site, target: str, number: int, moment: Moment) -> list[str]:
    """What was wrong after `target` was killed at that `moment` and the next run had ended."""
    out = home / f"{number:02d}-{target.replace(' ', '-')}"
    night = site.start(home, out)
    began = time.monotonic()
    killed = kill_at(night, target, out, moment)
    seconds, masks = time.monotonic() - began, count_masks(out)
    problems = wait_for(night)
    said = night.said()
    site.mend()
    problems += wait_for(night)  # what its server or worker was killed of may go on now
    again = site.start(home, out)
    problems += wait_for(again)
    if not again.said().startswith(("Completed", "exit 0")):
        problems.append(f"the next run: {again.said()}")
    problems += [*differences(home / "undisturbed", out), *left_behind(out)]
    print(
        f"{number:02d} {target:<11} {'killed' if killed else 'not there'} at {seconds:5.1f} s, with {masks:2d} masks; "
        f"'{said}', then '{again.said()}'" + "".join(f"\n   PROBLEM {problem}" for problem in problems),
        flush=True,
    )
    return problems


def kill_at(night: Night, target: str, out: Path, moment: Moment) -> bool:
    """Whether `target` was killed: at that moment, or as soon as there is one."""
    while night.goes_on() and count_masks(out) < moment.masks:
        time.sleep(POLL_SECONDS)
    until = time.monotonic() + moment.seconds
    while night.goes_on() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    while night.goes_on():
        if found := night.find(target):
            try:
                found.kill()
            except psutil.NoSuchProcess:
                continue
            return True
        time.sleep(POLL_SECONDS)
    return False


def count_masks(out: Path) -> int:
    """How many masks are whole."""
    return len(list((out / "segmentations").glob("*.nii.gz")))


def wait_for(night: Night) -> list[str]:
    """Returns when the night has ended, or with a problem when it does not."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if not night.goes_on():
            return []
        time.sleep(0.2)
    return [f"it did not end within {LONGEST_SECONDS:.0f} s"]


def results(out: Path) -> dict[str, bytes]:
    """The files that must be the same whatever happened."""
    files = [out / "metrics.csv", out / "summary.csv", *sorted((out / "segmentations").glob("*"))]
    return {str(file.relative_to(out)): file.read_bytes() for file in files if file.exists()}


def differences(expected: Path, found: Path) -> list[str]:
    """The files in which two outputs differ."""
    first, second = results(expected), results(found)
    other = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    return [f"{len(other)} files are not those of an undisturbed night: {', '.join(other[:3])}"] if other else []


def left_behind(out: Path) -> list[str]:
    """Halves of files, work files, and processes that belonged to a night."""
    halves = [str(path.relative_to(out)) for path in [*out.rglob("*.part"), *out.glob(".work")]]
    deadline = time.monotonic() + 30
    while (lost := _without_a_parent()) and time.monotonic() < deadline:
        time.sleep(0.5)
    told = [f"{process.pid} {' '.join(command_of(process))[:120]}" for process in lost if process.is_running()]
    return [*(f"left behind: {half}" for half in halves), *(f"process left behind: {one}" for one in told)]


def _without_a_parent() -> list[psutil.Process]:
    """Processes of ours that belong to a night; what belongs to the services is not meant."""
    return [one for one in ours() if "PREFECT__FLOW_RUN_ID" in environment(one)]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--side", type=int, default=48, help="voxels along each axis of a scan")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="kill these alone: flow, pool, nursery, worker …")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

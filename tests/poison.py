"""Work on a case that goes wrong in one way each. A module of its own, so that worker processes can import it."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar, Self

from distributed import get_worker

from tasks.scan.errors import MissingSlice
from tasks.scan.records import Outcome


def numbers(count: int) -> list[Outcome[int]]:
    """Cases that are numbers, from 0."""
    return [Outcome(name=f"n{number}", value=number) for number in range(count)]


def double(number: int) -> int:
    return 2 * number


class Unpacked:
    """A value that remembers, in the process that unpacks it, that it was unpacked there."""

    here: ClassVar[list[Self]] = []

    def __setstate__(self, state: dict[str, object]) -> None:
        self.here.append(self)


def count_unpacked(value: Unpacked) -> int:
    """How often this process has unpacked one."""
    return len(value.here)


def die_at_three(number: int) -> int:
    """Kills its process, as a segmentation fault or the kernel's memory killer would, when `number` is 3."""
    if number == 3:
        os._exit(139)
    return number


def die(*_: object) -> None:
    os._exit(139)


def hang(*_: object) -> None:
    time.sleep(3600)


def outgrow_at_two(number: int) -> int:
    """Takes memory, 20 MB at a time and all of it touched, until it is stopped, when `number` is 2."""
    taken = []
    while number == 2:
        taken.append(b"x" * 20_000_000)
        time.sleep(0.01)
    return number


def ask_for_too_much(_: int) -> bytes:
    return b"\0" * 2**62


def count(number: int, folder: Path) -> int:
    """Leaves a file for each future that has it called."""
    (folder / str(get_worker().get_current_task())).touch()
    return number


def count_slowly(number: int, folder: Path) -> int:
    time.sleep(0.15)
    return count(number, folder)


def linger(number: int, folder: Path) -> int:
    """Says which process has it in hand, and stays there for a second."""
    (folder / str(os.getpid())).touch()
    time.sleep(1.0)
    return number


def doze(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def refuse_odd(number: int) -> int:
    return refuse_at_one(number % 2) + number


def die_at_thirty(number: int) -> int:
    die_at_three(3 if number == 30 else 0)
    return number


def hang_at_thirty(number: int) -> int:
    hang_at_two(2 if number == 30 else 0)
    return number


def count_and_die_at(number: int, bad: int, folder: Path) -> int:
    """Leaves a file for each time it is called, and kills its process when `number` is `bad`."""
    (folder / f"{number}-{time.monotonic_ns()}").touch()
    if number == bad:
        os._exit(139)
    return number


def hang_at_two(number: int) -> int:
    if number == 2:
        time.sleep(600)
    return number


def refuse_at_one(number: int) -> int:
    if number == 1:
        raise MissingSlice("n1", "a gap of 6 mm at 12 mm", "slices 3 mm apart", "export the series again")
    return number


def break_at_one(number: int) -> int:
    return 1 // (number - 1)


def stumble_once(_: int, marker: Path) -> str:
    """Fails with an OSError the first time, and only then."""
    if not marker.exists():
        marker.touch()
        raise OSError("stale file handle")
    return "done"


def process_id(_: int) -> int:
    return os.getpid()


def die_at_six(number: int) -> int:
    return die_at_three(number // 2) * 2


def environment(_: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PREFECT_PLUGINS_ENABLED")
    return {name: os.environ.get(name, "") for name in names}


def die_twice_at_three(number: int, folder: Path) -> int:
    """Kills its process the first two times that `number` is 3, as one does that is beside a case that kills."""
    if number == 3 and len(list(folder.iterdir())) < 2:
        (folder / f"{os.getpid()}").touch()
        os._exit(139)
    return number


class Fatal:
    """An answer that kills its process when it is fetched, as chance does with one that has just ended."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        os._exit(139)


def die_fetched_then_working(number: int, folder: Path) -> int | Fatal:
    """The first process dies as its answer is fetched, the second at work; the third is well."""
    deaths = len(list(folder.iterdir()))
    (folder / str(os.getpid())).touch()
    if deaths == 1:
        os._exit(139)
    return Fatal() if deaths == 0 else number


def be_killed(counts: Path, then: str) -> None:
    """Kills its process as the kernel does, after the kernel's `counts` say `then`."""
    counts.write_text(then)
    os.kill(os.getpid(), signal.SIGKILL)

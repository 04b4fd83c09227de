"""The short version of `python -m benchmarks.fuzz`."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import Reading, fuzz, harm, judge, read_folder, write_bases
from tasks.pool import PoolConfig, open_pool
from tasks.scan.records import Geometry

TRUE = Geometry(shape=(2, 2, 2), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
MOVED = Geometry(shape=(2, 2, 2), affine=((1, 0, 0, 2), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))


def test_harmed_files_are_read_right_or_refused_by_name(tmp_path: Path):
    said: list[str] = []
    with open_pool(PoolConfig(workers=1)) as pool:
        ends = fuzz(tmp_path, 120, 7, pool, said.append)
    assert ends.total() == 120
    assert {end for end in ends if end.startswith(("wrong", "crashed"))} == set(), said
    assert ends["right"] > 10
    assert sum(count for end, count in ends.items() if end.startswith("refused")) > 40


def test_unharmed_files_are_read(tmp_path: Path):
    bases = write_bases(tmp_path)
    assert len(bases) == 8
    assert all(len(readings := read_folder(base)) == 1 and readings[0].geometry for base in bases)


def test_harm_changes_nearly_every_file_and_depends_on_the_seed_alone():
    content = bytes(range(256)) * 8
    first, second = ([harm(content, np.random.default_rng(seed)) for seed in range(100)] for _ in range(2))
    assert first == second
    assert sum(harmed != content for harmed in first) > 95


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        ([], "refused: set_aside"),
        ([Reading(reason="missing_slice")], "refused: missing_slice"),
        ([Reading(geometry=TRUE)], "right"),
        ([Reading(geometry=TRUE), Reading(geometry=TRUE)], "wrong"),
        ([Reading(geometry=MOVED, warned=True)], "warned"),
        ([Reading(geometry=MOVED)], "wrong"),
    ],
)
def test_a_geometry_that_moved_without_a_word_is_wrong(tmp_path, readings, verdict):
    assert judge(readings, TRUE, tmp_path) == verdict

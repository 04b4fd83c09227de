"""What lies on the shelf comes back as it was, and is small meanwhile."""

import pickle
import sys
from pathlib import Path

from tasks.scan.records import Case, Geometry, Outcome, Source
from tasks.shelf import Shelf


def outcomes(count: int) -> list[Outcome[Case]]:
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    image = Source(format="nifti", files=(Path("a.nii"),))
    cases = [Case(name=f"c{n}", image=image, geometry=Geometry(shape=(n, 1, 1), affine=affine)) for n in range(count)]
    return [Outcome(name=case.name, case=case, value=case) for case in cases]


def test_all_comes_back_in_order_and_once():
    shelf: Shelf[Outcome[Case]] = Shelf()
    for first in (0, 3, 3):
        shelf.put(outcomes(7)[first : first + 3])
    assert list(shelf.take()) == [*outcomes(3), *outcomes(7)[3:6], *outcomes(7)[3:6]]
    assert list(shelf.take()) == []


def test_a_shard_takes_a_fifth_of_its_pickled_size():
    shelf: Shelf[Outcome[Case]] = Shelf()
    shelf.put(outcomes(200))
    assert 5 * sum(map(sys.getsizeof, shelf._parcels)) < len(pickle.dumps(outcomes(200)))

"""Evaluation over Dask: the same bytes as one case after the other, whatever the order and whoever the workers are."""

from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from tasks.evaluate import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.pool import PoolConfig, map_cases, open_pool
from tasks.report.tables import write_metrics
from tasks.scan.records import Case, Geometry, Outcome, Segmentation, Source
from tests.clusters import dask_cluster
from tests.phantoms import affine, sphere, write_nifti

SHAPE = (24, 20, 16)
LABELS = {1: "inner", 2: "outer"}
CONFIG = EvaluationConfig()


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[Outcome[Segmentation]]:
    """Seven cases with references, one of them without the first label."""
    folder = tmp_path_factory.mktemp("cases")
    return [segmented(folder, number) for number in range(7)]


def segmented(folder: Path, number: int) -> Outcome[Segmentation]:
    grid = affine((1, 1, 1 + number / 4), shape=SHAPE)
    reference = np.maximum(sphere(SHAPE, (10, 9, 7), 7, 2) - sphere(SHAPE, (10, 9, 7), 4, 1), 0)
    prediction = np.roll(reference, number % 3, axis=0)
    prediction[prediction == (1 if number == 3 else 9)] = 0
    mask = write_nifti(folder / f"c{number}.nii.gz", prediction, grid)
    truth = write_nifti(folder / f"c{number}_reference.nii.gz", reference, grid)
    geometry = Geometry(shape=SHAPE, affine=tuple(tuple(row) for row in grid.tolist()))
    image, reference_source = (Source(format="nifti", files=(file,)) for file in (mask, truth))
    case = Case(name=f"c{number}", image=image, geometry=geometry, reference=reference_source)
    value = Segmentation(case=case, mask=mask, mask_sha256="", input_sha256="", volumes_ml={})
    return Outcome(name=case.name, case=case, value=value)


@pytest.fixture(scope="module")
def serial(cases, tmp_path_factory) -> bytes:
    """The table of one case after the other, in this process."""
    scored = [Outcome(name=case.name, value=evaluate_case(case.value, LABELS, CONFIG)) for case in cases]
    return table(scored, tmp_path_factory.mktemp("serial"))


def table(scored, folder: Path) -> bytes:
    write_metrics(scored, LABELS, folder / "metrics.csv")
    return (folder / "metrics.csv").read_bytes()


def test_the_table_to_compare_with_has_something_in_it(serial):
    rows = serial.decode().splitlines()
    assert len(rows) == 1 + 7 * 2
    assert sum(",missed," in row for row in rows) == 1
    assert sum(",scored," in row for row in rows) == 13


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pool_gives_the_bytes_of_one_case_after_the_other(cases, serial, workers, tmp_path):
    with open_pool(PoolConfig(workers=workers)) as pool:
        assert table(map_cases(pool, "evaluate", evaluate_case, cases, LABELS, CONFIG), tmp_path) == serial
        backwards = map_cases(pool, "evaluate", evaluate_case, cases[::-1], LABELS, CONFIG)
    assert [outcome.name for outcome in backwards] == [case.name for case in cases[::-1]]
    assert table(backwards, tmp_path) == serial


@pytest.fixture
def cluster(tmp_path):
    with dask_cluster(tmp_path / "cluster") as address:
        yield address


def test_an_external_scheduler_with_two_workers_gives_the_same_bytes(cases, serial, cluster, tmp_path):
    with open_pool(PoolConfig(address=cluster)) as pool:
        scored = map_cases(pool, "evaluate", evaluate_case, cases, LABELS, CONFIG, together=1)
        with Client(pool) as client:
            executed = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert table(scored, tmp_path) == serial
    assert (len(executed), min(executed.values()) > 0, sum(executed.values())) == (2, True, len(cases))

"""The pool loses no case, whatever a case does to its process."""

import os
import re
import signal
import sys
import threading
import time

import dask
import psutil
import pytest
from distributed import LocalCluster

from tasks import pool as pool_module
from tasks import work as work_module
from tasks.attempt import attempt
from tasks.cluster import client_of
from tasks.ingest.case import ingest_case
from tasks.ingest.found import Found
from tasks.pool import PoolConfig, map_cases, open_pool, stream_cases
from tasks.scan.errors import ServiceUnavailable
from tasks.scan.records import Outcome, Source
from tests import poison
from tests.clusters import dask_cluster
from tests.poison import numbers
from tests.threads import busy_with_all_libraries


def test_results_come_back_in_the_order_of_the_cases(pool):
    results = map_cases(pool, "double", poison.double, numbers(7))
    assert [result.value for result in results] == [0, 2, 4, 6, 8, 10, 12]
    assert all(result.costs[-1].stage == "double" and result.costs[-1].peak_memory_mb > 1 for result in results)


def test_work_is_done_in_other_processes(pool):
    (result,) = map_cases(pool, "pid", poison.process_id, numbers(1))
    assert result.value != os.getpid()


def test_a_process_waits_before_its_first_case_unless_dask_saw_it_up(monkeypatch):
    """One that dies earlier is never started again. The first of a pool were seen; one that replaces them was not."""
    waited: list[float] = []
    monkeypatch.setattr(work_module, "UP_SECONDS", 1e9)
    monkeypatch.setattr(time, "sleep", waited.append)
    work_module._settle_in(frozenset({os.getpid()}))
    assert waited == []
    work_module._settle_in(frozenset({os.getpid() + 1}))
    assert waited[0] > 0
    monkeypatch.undo()
    with open_pool(PoolConfig(workers=1)) as address:
        seen = pool_module._own[address].seen
        first = map_cases(address, "pid", poison.process_id, numbers(1))[0].value
        map_cases(address, "die", poison.die_at_three, numbers(4))
        later = map_cases(address, "pid", poison.process_id, numbers(1))[0].value
    assert (seen, later in seen) == ({first}, False)


def test_a_case_is_unpacked_where_its_work_is_done_and_nowhere_else(pool):
    """The scheduler, here in this process, would take apart whatever it can."""
    value = poison.Unpacked()
    value.name = "it is pickled with a state"
    (result,) = map_cases(pool, "count", poison.count_unpacked, [Outcome(name="n", value=value)])
    assert (result.value, poison.Unpacked.here) == (1, [])


def test_a_case_that_failed_before_is_passed_by(pool):
    before = map_cases(pool, "refuse", poison.refuse_at_one, numbers(2))
    after = map_cases(pool, "double", poison.double, before)
    assert after[1] == before[1]
    assert after[0].value == 0


def test_a_bad_case_is_quarantined_with_reason_and_remedy(pool):
    results = map_cases(pool, "ingest", poison.refuse_at_one, numbers(3))
    problem = results[1].problem
    assert [result.value for result in results] == [0, None, 2]
    assert (problem.stage, problem.status, problem.reason) == ("ingest", "quarantined", "missing_slice")
    assert problem.message == "case 'n1': a gap of 6 mm at 12 mm; needed: slices 3 mm apart"
    assert problem.remedy == "export the series again"


def test_a_case_that_is_refused_keeps_the_files_it_was_found_as(tmp_path):
    source = Source(format="nifti", files=(tmp_path / "gone.nii",))
    found = Found(name="n", image=source, reference=source)
    refused = attempt("ingest", ingest_case, Outcome(name="n", value=found))
    assert (refused.value, refused.case, refused.found) == (None, None, found)
    assert attempt("double", poison.double, Outcome(name="n", value=1)).found is None


def test_an_error_without_a_name_is_ours(pool):
    results = map_cases(pool, "work", poison.break_at_one, numbers(3))
    assert results[1].problem.status == "failed"
    assert results[1].problem.reason == "ZeroDivisionError"
    assert "poison.py:" in results[1].problem.message
    assert [results[0].problem, results[2].problem] == [None, None]


def test_a_case_that_kills_its_worker_takes_no_other_with_it(pool):
    results = map_cases(pool, "infer", poison.die_at_three, numbers(9))
    assert [result.value for result in results] == [0, 1, 2, None, 4, 5, 6, 7, 8]
    assert results[3].problem.reason == "worker_died"


@pytest.mark.parametrize("bad", [7, 49])
def test_one_bad_case_of_fifty_costs_less_than_ten_executions_more(pool, tmp_path, bad):
    results = map_cases(pool, "infer", poison.count_and_die_at, numbers(50), bad, tmp_path)
    assert [result.value for result in results] == [number if number != bad else None for number in range(50)]
    assert len(list(tmp_path.iterdir())) < 60


def test_what_has_ended_is_not_done_again_when_another_stage_ends_the_processes_that_did_it(pool, tmp_path):
    """Its own stage may have no time yet to look at it: the outcomes are fetched all the same."""
    slow = stream_cases(pool, "count", poison.count_and_die_at, numbers(2), -1, tmp_path)
    first = next(slow)
    map_cases(pool, "die", poison.die, numbers(2))
    assert sorted(after.value for _, after in [first, *slow]) == [0, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_outcomes_that_do_not_come_in_time_are_waited_for_again(pool, monkeypatch, tmp_path):
    monkeypatch.setattr(work_module, "FETCH_SECONDS", 1e-9)
    later = threading.Timer(1.0, monkeypatch.setattr, (work_module, "FETCH_SECONDS", 10))
    later.start()
    began = time.monotonic()
    results = map_cases(pool, "double", poison.double, numbers(9))
    assert [result.value for result in results] == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert time.monotonic() - began >= 0.9
    later.join()
    map_cases(pool, "linger", poison.linger, numbers(2), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # both processes are still given something


def test_a_case_that_outgrows_its_memory_is_told_from_one_that_dies():
    with open_pool(PoolConfig(workers=1, memory_mb=900)) as address:
        results = map_cases(address, "preprocess", poison.outgrow_at_two, numbers(4))
    assert [result.value for result in results] == [0, 1, None, 3]
    assert results[2].problem.reason == "out_of_memory"
    assert re.search(r"stage preprocess was stopped when it held (0\.[89]|[1-9]\.\d) GB", results[2].problem.message)


def test_a_case_that_is_refused_its_memory_is_quarantined():
    result = attempt("infer", poison.ask_for_too_much, Outcome(name="n", value=1))
    assert (result.problem.status, result.problem.reason) == ("quarantined", "out_of_memory")


def test_a_case_that_hangs_is_ended_and_the_others_go_on(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "CASE_SECONDS", 10.0)
    results = map_cases(pool, "read", poison.hang_at_two, numbers(5))
    assert [result.value for result in results] == [0, 1, None, 3, 4]
    assert results[2].problem.reason == "case_timed_out"


def test_quick_cases_travel_together_and_come_back_in_order(pool, tmp_path):
    results = map_cases(pool, "count", poison.count, numbers(200), tmp_path)
    assert [result.name for result in results] == [f"n{number}" for number in range(200)]
    assert all(result.costs[-1].stage == "count" for result in results)
    assert len(list(tmp_path.iterdir())) < 60  # futures, of up to four cases


def test_slow_cases_travel_alone(pool, tmp_path):
    map_cases(pool, "count", poison.count_slowly, numbers(8), tmp_path)
    assert len(list(tmp_path.iterdir())) == 8


def test_quick_cases_that_failed_before_pass_by_in_their_places(pool):
    before = map_cases(pool, "refuse", poison.refuse_odd, numbers(40))
    after = map_cases(pool, "double", poison.double, before)
    assert [result.value for result in after] == [None if number % 2 else 2 * number for number in range(40)]
    assert after[1::2] == before[1::2]


def test_a_case_that_kills_its_worker_among_quick_ones_costs_only_itself(pool):
    results = map_cases(pool, "headers", poison.die_at_thirty, numbers(90), together=50)
    assert [result.value for result in results] == [None if number == 30 else number for number in range(90)]
    assert results[30].problem.reason == "worker_died"


def test_a_case_that_hangs_among_quick_ones_costs_only_itself(pool, monkeypatch):
    monkeypatch.setattr(work_module, "BATCH_SECONDS", 2.0)
    results = map_cases(pool, "headers", poison.hang_at_thirty, numbers(60), seconds=6.0)
    assert [result.value for result in results] == [None if number == 30 else number for number in range(60)]
    assert results[30].problem.reason == "case_timed_out"
    assert "took more than 6 s" in results[30].problem.message


def test_a_hiccup_of_the_storage_is_tried_once_more(tmp_path):
    result = attempt("read", poison.stumble_once, Outcome(name="n", value=1), tmp_path / "marker")
    assert (result.value, result.problem) == ("done", None)


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(pool_module, "CONNECT_SECONDS", 0.5)
    expected = pytest.raises(ServiceUnavailable, match="no Dask scheduler with a worker answers at tcp://127.0.0.1:9")
    with expected, open_pool(PoolConfig(address="tcp://127.0.0.1:9")):
        pass


@pytest.mark.parametrize("address", ["garbage", "pigeon://garden:9", "tcp://127.0.0.1:port", "a:b:c", "tcp://h:99999"])
def test_what_is_no_address_is_refused_before_it_is_tried(address):
    with pytest.raises(ValueError, match=f"'{address}' is no address like tcp://10.0.0.5:8786"):
        PoolConfig(address=address)


def test_a_cluster_without_workers_is_refused_before_the_first_case(monkeypatch):
    monkeypatch.setattr(pool_module, "CONNECT_SECONDS", 0.5)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty:
        expected = pytest.raises(ServiceUnavailable, match="with a worker")
        with expected, open_pool(PoolConfig(address=empty.scheduler_address)):
            pass


def test_an_existing_cluster_is_used():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        open_pool(PoolConfig(address=cluster.scheduler_address)) as address,
    ):
        assert address == cluster.scheduler_address
        assert map_cases(address, "double", poison.double, numbers(1))[0].value == 0


def test_pools_beside_each_other_listen_on_loopback_alone(pool):
    with open_pool(PoolConfig(workers=1)):
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers must be 0"):
        PoolConfig(workers=-1)


def test_a_worker_that_dies_at_once_each_time_comes_back(pool):
    """Deaths in a row, each the first work of a new process: Dask's nanny forgets one that it never saw alive."""
    for _ in range(2):
        results = map_cases(pool, "infer", poison.die_at_three, numbers(5))
        assert [result.value for result in results] == [0, 1, 2, None, 4]


def test_a_case_whose_processes_died_is_tried_alone_before_it_is_blamed(pool, tmp_path):
    """Dask counts a death against all that waits in the process, not only against what it was doing."""
    results = map_cases(pool, "infer", poison.die_twice_at_three, numbers(5), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert [result.value for result in results] == [0, 1, 2, 3, 4]
    assert results[3].problem is None


def test_a_case_that_is_done_again_for_its_answer_was_lost_is_not_blamed_for_the_next_death(pool, tmp_path):
    results = map_cases(pool, "infer", poison.die_fetched_then_working, numbers(1), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert [(result.value, result.problem) for result in results] == [(0, None)]


def test_what_ends_one_process_after_the_other_for_a_while_is_no_cases_fault(pool, tmp_path):
    """As when the process that they are born of is killed: no case is blamed for having been in each of them."""
    killed = []

    def kill_whoever_begins():
        began = time.monotonic()
        while time.monotonic() - began < 4.0:
            for begun in tmp_path.iterdir():
                os.kill(int(begun.name), signal.SIGKILL)
                killed.append(begun.name)
                begun.unlink()
            time.sleep(0.05)

    killer = threading.Thread(target=kill_whoever_begins)
    killer.start()
    results = map_cases(pool, "infer", poison.linger, numbers(1), tmp_path)
    killer.join()
    assert killed
    assert [result.value for result in results] == [0]


def test_a_pool_that_lost_all_its_processes_ends_the_run_by_name(monkeypatch):
    monkeypatch.setattr(pool_module, "CONNECT_SECONDS", 3)
    monkeypatch.setattr(pool_module, "GONE_SECONDS", 3)
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        threading.Timer(4, lambda: cluster.scale(0)).start()
        with pytest.raises(ServiceUnavailable, match="all worker processes of the pool are gone"):
            map_cases(cluster.scheduler_address, "read", poison.hang_at_two, numbers(3))


def test_a_cluster_whose_scheduler_is_killed_ends_the_run_by_name_and_soon(tmp_path, monkeypatch):
    """Its client would ask for it for as long as it may be busy: ten minutes."""
    monkeypatch.setattr(pool_module, "GONE_SECONDS", 5)
    with dask_cluster(tmp_path) as address:
        (scheduler,) = (one for one in psutil.Process().children() if "scheduler" in one.cmdline())
        threading.Timer(3, scheduler.kill).start()
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="this Dask scheduler is gone.*start it and its workers"):
            map_cases(address, "read", poison.hang_at_two, numbers(5))
        assert time.monotonic() - began < 60


def test_a_pool_of_our_own_that_lost_all_its_processes_is_filled_anew(monkeypatch):
    monkeypatch.setattr(pool_module, "GONE_SECONDS", 2)
    with open_pool(PoolConfig(workers=1)) as address:
        with client_of(address, 60) as client:
            client.retire_workers(close_workers=True)
        assert [result.value for result in map_cases(address, "double", poison.double, numbers(3))] == [0, 2, 4]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what a thread has computed")
def test_a_process_of_the_pool_computes_in_one_thread(pool):
    done = map_cases(pool, "stage", busy_with_all_libraries, numbers(2))
    assert [case.value for case in done] == [1, 1]


DYING = """
import os, pathlib
births = pathlib.Path({births!r})
births.write_text(births.read_text() + "x")
if len(births.read_text()) <= {deaths}:
    os._exit(1)
"""


@pytest.fixture
def dying(tmp_path):
    """A setting of Dask with which so many processes of a pool, the first that are born, end while they start."""

    def until(deaths: int):
        births = tmp_path / "births"
        births.touch()
        script = tmp_path / "dying.py"
        script.write_text(DYING.format(births=str(births), deaths=deaths))
        return dask.config.set({"distributed.worker.preload": [str(script)]})

    return until


def test_a_pool_of_which_a_process_ends_while_it_starts_is_started_again(dying):
    with dying(1), open_pool(PoolConfig(workers=1)) as address:
        assert [one.value for one in map_cases(address, "double", poison.double, numbers(2))] == [0, 2]


def test_a_pool_whose_processes_always_end_while_they_start_ends_the_run_by_name(dying):
    expected = pytest.raises(ServiceUnavailable, match="a process of the pool ended while it started, twice")
    with dying(10**6), expected, open_pool(PoolConfig(workers=1)):
        pass

"""Searches on engines that exist: loky, a Dask cluster of processes, MPI ranks; what is left when parts are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minigrad.search import BiasedRandomSearch, RandomSearch, load
from tests.search.toys import SPACE, blas_threads, slow_valley, suicide, valley

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SECONDS = 120  # after which an engine hangs


def biased(n_trials=16, fn=valley, executor=None, path=None, **how):
    return BiasedRandomSearch(SPACE, 1, path).run(fn, n_trials, executor, batch=4, **how)


def killing(path, victim, trials):
    """A thread that kills the process `victim()` when the history has so many trials, and says what it had then."""
    found = []

    def work():
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not (path.exists() and path.read_bytes().count(b"\n") > trials):
            time.sleep(0.01)
        found.extend([load(path).trials, victim()])
        os.kill(found[1], signal.SIGKILL)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, found


# --- loky -------------------------------------------------------------------------------------------------


@pytest.fixture
def loky_of():
    loky = pytest.importorskip("loky")
    pools = []
    yield lambda count: pools.append(loky.ProcessPoolExecutor(count, timeout=SECONDS)) or pools[-1]
    for pool in pools:
        pool.shutdown(kill_workers=True)


def test_loky_takes_functions_of_a_notebook(loky_of):
    shift = 2.0
    history = biased(executor=loky_of(2), fn=lambda trial: valley(trial) + shift)
    assert history.trials == biased(fn=lambda trial: valley(trial) + shift).trials


def test_a_loky_pool_whose_process_is_killed(loky_of, tmp_path):
    path = tmp_path / "search.jsonl"
    with pytest.raises(RuntimeError, match=r"TerminatedWorkerError: .* finished trials are in .*search.jsonl"):
        biased(fn=suicide, executor=loky_of(2), path=path)
    done = [each.number for each in load(path).trials]
    assert set(range(4)) <= set(done) <= {0, 1, 2, 3, 4, 6, 7}
    assert biased(path=path).trials == biased().trials


# --- Dask -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    """A Dask cluster of two processes; a trial that has killed two workers is given up (by default, four)."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    patience = {"distributed.scheduler.allowed-failures": 1}
    processes = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with dask.config.set(patience), distributed.LocalCluster(**processes, silence_logs=50) as cluster:
        with distributed.Client(cluster, timeout=SECONDS) as client:
            yield client


def pids(client):
    client.wait_for_workers(2, timeout=SECONDS)
    return sorted(client.run(os.getpid).values())


def test_dask(client):
    history = biased(executor=client.get_executor(pure=False))
    assert history.trials == biased().trials
    found = RandomSearch(SPACE).run(blas_threads, 2, client.get_executor(pure=False)).trials
    assert {(each.loss, each.notes["slices"]) for each in found} == {(1, 1)}


def test_dask_without_pure_false(client):
    """Dask makes equal calls once; trials differ in their numbers, so that one search loses nothing by it."""
    history = RandomSearch(SPACE).run(valley, 4, client.get_executor(pure=True))
    assert history.trials == RandomSearch(SPACE).run(valley, 4).trials


def test_a_dask_worker_that_is_killed_loses_no_finished_trial(client, tmp_path):
    """The trial that it was at is run again on another worker: the history is that of an undisturbed search."""
    path, before = tmp_path / "search.jsonl", pids(client)
    thread, found = killing(path, lambda: before[0], trials=3)
    history = biased(fn=slow_valley, executor=client.get_executor(pure=False), path=path, workers=2)
    thread.join(SECONDS)
    at_the_kill, victim = found
    assert victim not in pids(client)
    assert 3 <= len(at_the_kill) < 16
    assert history.trials == load(path).trials == biased().trials
    assert all(each in history.trials for each in at_the_kill)


def test_a_trial_that_kills_its_dask_workers_has_failed(client):
    history = biased(8, suicide, client.get_executor(pure=False), workers=2)
    assert [each.number for each in history.trials] == list(range(8))
    assert [each.number for each in history.trials if each.failed] == [5]
    assert history.trials[5].failed.startswith("killed its workers: ")


# --- MPI --------------------------------------------------------------------------------------------------


def mpi(path, fn, ranks=3):
    """(exit code, output) of the script on so many ranks."""
    pytest.importorskip("mpi4py")
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("no mpiexec beside this Python: pip install mpich")
    script = ROOT / "tests" / "search" / "mpi_search.py"
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "mpi4py.futures", script, path, fn]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = child.communicate(timeout=SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return child.returncode, output


def test_mpi(tmp_path):
    path = tmp_path / "search.jsonl"
    code, output = mpi(path, "valley")
    assert code == 0, output
    assert load(path).trials == biased().trials


def test_a_killed_mpi_rank_ends_its_job_and_the_search_resumes(tmp_path):
    path = tmp_path / "search.jsonl"
    code, output = mpi(path, "suicide")
    assert code != 0
    done = load(path).trials
    assert set(range(4)) <= {each.number for each in done} <= {0, 1, 2, 3, 4, 6, 7}, output
    code, output = mpi(path, "valley")
    assert code == 0, output
    resumed = load(path).trials
    assert all(each in resumed for each in done)
    assert resumed == biased().trials

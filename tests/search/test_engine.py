"""Running trials: the same history whoever runs them, failures, deadlines, executors that die, Ctrl-C."""

import functools
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import pytest

from minigrad import backend
from minigrad.search import BiasedRandomSearch, RandomSearch, engine, load
from tests.search.toys import SPACE, Immediate, Shuffling, blas_threads, hang, moody, nap, slow_valley, suicide, valley

ROOT = Path(__file__).parents[2]
pool_of = lambda count: ProcessPoolExecutor(count, mp_context=get_context("spawn"))  # a fork would copy threads' locks


def biased(fn=valley, n_trials=30, **how):
    return BiasedRandomSearch(SPACE, seed=1).run(fn, n_trials, **how)


# --- one history ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [valley, moody])
@pytest.mark.parametrize("workers", [None, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_batch_mode_does_not_depend_on_who_is_fast(fn, workers, seed):
    wanted = biased(fn)
    with Shuffling(seed) as executor:
        found = biased(fn, executor=executor, workers=workers)
    assert found.trials == wanted.trials and found.best == wanted.best


@pytest.mark.parametrize("batch", [1, 4, 30, 100])
def test_a_round_knows_earlier_rounds_alone(batch):
    history = biased(batch=batch)
    again = BiasedRandomSearch(SPACE, seed=1)
    for start in range(0, 30, batch):
        trials = [again.ask() for _ in range(start, min(start + batch, 30))]
        for trial in reversed(trials):
            again.tell(trial, valley(trial))
    assert again.history.trials == history.trials


def test_batches_differ_from_one_another():
    assert biased(batch=1).trials != biased(batch=8).trials
    assert biased(batch=8).trials == biased().trials


def test_async_mode_proposes_when_a_worker_is_free():
    """With one worker it is one after another, each trial knowing all before it."""
    one_by_one = biased(batch=1).trials
    assert biased(mode="async").trials == one_by_one
    assert biased(mode="async", executor=Immediate(), workers=1).trials == one_by_one
    with Shuffling(0) as executor:
        history = biased(mode="async", executor=executor, workers=4)
    assert [each.number for each in history.trials] == list(range(30))
    first = [BiasedRandomSearch(SPACE, 1).trial(number).parameters for number in range(4)]
    assert [each.parameters for each in history.trials[:4]] == first  # asked for before anything was told


def test_not_more_than_workers_are_submitted():
    running, most, lock = [0], [0], threading.Lock()

    def fn(trial):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002)
        with lock:
            running[0] -= 1
        return 0.5

    for mode, workers, allowed in [("batch", 2, 2), ("batch", None, 5), ("async", 3, 3), ("async", None, 5)]:
        most[0] = 0
        with Shuffling(0) as executor:
            biased(fn, 20, executor=executor, mode=mode, batch=5, workers=workers)
        assert 2 <= most[0] <= allowed


@pytest.mark.parametrize("mode", ["batch", "async"])
def test_gaps_are_filled(mode):
    """Trials told by hand, or left over from another run, are not run again."""
    search, ran = RandomSearch(SPACE, 1), []
    asked = [search.ask() for _ in range(6)]
    for number in (1, 4):
        search.tell(asked[number], 0.5)

    def fn(trial):
        ran.append(trial.number)
        return valley(trial)

    search.run(fn, 8, mode=mode)
    assert ran == [0, 2, 3, 5, 6, 7]
    assert search.history.trials[0].parameters == asked[0].parameters


def test_failures_are_the_worst_results_and_never_lost():
    history = biased(moody)
    assert [each.number for each in history.trials] == list(range(30))
    assert [each.failed is None for each in history.trials] == [number % 6 == 0 for number in range(30)]
    assert all(math.isfinite(each.loss) == (each.failed is None) for each in history.trials)
    assert history.best.number % 6 == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mode": "asynk"}, "unknown mode 'asynk'; did you mean 'async'"),
        ({"threads": 1}, "unknown threads 1"),
        ({"n_trials": 0}, "run: n_trials must be a whole number of at least 1, got 0"),
        ({"n_trials": True}, "run: n_trials must be a whole number of at least 1, got True"),
        ({"batch": 1.5}, "run: batch must be a whole number of at least 1, got 1.5"),
        ({"batch": None}, "run: batch must be a whole number of at least 1, got None"),
        ({"workers": 0}, "run: workers must be a whole number of at least 1, got 0"),
        ({"deadline": 0}, "run: deadline must be a positive finite number of seconds, got 0"),
        ({"deadline": True}, "run: deadline must be a positive finite number of seconds, got True"),
        ({"deadline": math.inf}, "run: deadline must be a positive finite number of seconds, got inf"),
        ({"give_up": "1"}, "run: give_up must be a positive finite number of seconds, got '1'"),
        ({"give_up": 1, "workers": 2}, "give_up needs an executor, and workers"),
        ({"give_up": 1, "executor": Immediate()}, "give_up needs an executor, and workers"),
    ],
)
def test_arguments_that_make_no_sense(how, message):
    with pytest.raises(ValueError, match=message):
        biased(None, **{"n_trials": 3} | how)


def test_what_is_no_executor():
    with pytest.raises(TypeError, match=r"run: an executor has `submit`, .*; got 7"):
        RandomSearch(SPACE).run(valley, 3, executor=7)


def test_progress_shows_the_best_so_far(capsys):
    search = RandomSearch(SPACE, 1)
    search.run(moody, 3)
    search.run(moody, 14, progress="toy search")
    shown = capsys.readouterr().err
    best = search.history.best
    assert "toy search" in shown and "14/14" in shown and f"best {best.loss:.4g}, trial {best.number}" in shown
    assert " 3/14" in shown and "2/14" not in shown.replace("12/14", "")  # it goes on where it was
    RandomSearch(SPACE, 1).run(valley, 2)
    assert capsys.readouterr().err == ""


def test_progress_where_nothing_succeeds(capsys):
    RandomSearch(SPACE, 1).run(lambda trial: "no", 2, progress="toy")
    assert "2/2" in capsys.readouterr().err


# --- deadlines --------------------------------------------------------------------------------------------


def test_a_deadline_is_handed_to_fn():
    for how in ({}, {"deadline": 2.5}):
        history = biased(lambda trial: (1.0, {"seconds": trial.seconds}), 3, **how)
        assert [each.notes["seconds"] for each in history.trials] == [how.get("deadline")] * 3


class Puppets:
    """An executor whose trials end when the test says so."""

    def __init__(self, end_at_once):
        self.end_at_once, self.futures, self.calls = end_at_once, {}, {}

    def submit(self, fn, trial):
        future = self.futures[trial.number] = Future()
        future.set_running_or_notify_cancel()
        self.calls[trial.number] = functools.partial(fn, trial)
        if self.end_at_once(trial.number):
            self.end(trial.number)
        return future

    def end(self, number):
        self.futures[number].set_result(self.calls[number]())


def test_a_trial_that_hangs_is_given_up():
    executor = Puppets(lambda number: number != 1)
    history = biased(n_trials=6, executor=executor, workers=2, give_up=0.05)
    assert [each.failed for each in history.trials] == [
        None, "timed out: given up after 0.05 s", None, None, None, None,
    ]  # fmt: skip
    others = [each for each in biased(n_trials=6).trials if each.number != 1]
    assert [each for each in history.trials if each.number != 1] == others
    executor.end(1)  # too late: nobody looks
    assert history.trials[1].failed is not None


def test_who_is_in_time_is_not_given_up_and_nobody_asks_all_the_time(monkeypatch):
    waits = []
    monkeypatch.setattr(engine, "wait", lambda *how: waits.append(how) or wait(*how))
    with ThreadPoolExecutor(2) as pool:
        history = biased(slow_valley, 4, executor=pool, workers=2, give_up=60)
    assert all(each.failed is None for each in history.trials)
    assert len(waits) <= 4 and all(0 < patience <= 60 for _, patience, _ in waits)


def test_an_executor_s_words_in_one_short_line():
    assert engine._in_a_line(ValueError("gone\n  for good")) == "ValueError: gone for good"
    assert len(engine._in_a_line(ValueError("x" * 1000))) == 300


@pytest.mark.parametrize("batch", [1, 6])
def test_a_worker_that_hangs_is_not_counted_on(batch):
    """With trial 1 hanging in one of two workers, one trial at a time is submitted to the other."""
    executor = Puppets(lambda number: number == 0)

    def play():
        for number in range(2, 6):
            while number not in executor.futures:
                time.sleep(0.001)
            together = [k for k, future in executor.futures.items() if not future.done() and k != 1]
            seen.append(together)
            executor.end(number)

    seen, player = [], threading.Thread(target=play)
    player.start()
    search = BiasedRandomSearch(SPACE, 1)
    search.run(valley, 6, executor, batch=batch, workers=2, give_up=0.3)
    player.join()
    # in a round of its own, or while trial 1 is not yet given up, two may be there
    assert all(len(together) <= 2 for together in seen) and [len(together) for together in seen[1:]] == [1] * 3
    assert [each.number for each in search.history.trials if each.failed] == [1]


def test_no_worker_left_is_an_error_and_a_late_one_is_used():
    executor = Puppets(lambda number: number == 0)
    search = BiasedRandomSearch(SPACE, 1)
    with pytest.raises(
        RuntimeError, match=r"all 1 workers hang in trials that were given up; 2 finished trials are in "
    ):
        search.run(valley, 4, executor, workers=1, give_up=0.05)
    assert [each.number for each in search.history.trials] == [0, 1]

    executor = Puppets(lambda number: number != 2)
    threading.Timer(0.3, lambda: executor.end(2)).start()
    search.run(valley, 5, executor, workers=1, give_up=0.2)
    assert [each.failed is None for each in search.history.trials] == [True, False, False, True, True]


# --- executors that die -----------------------------------------------------------------------------------


class Dying(Immediate):
    """Its futures fail from trial 5 on; or it takes no more."""

    def __init__(self, how):
        self.how, self.count = how, itertools.count()

    def submit(self, fn, /, *args):
        if next(self.count) < 5:
            return super().submit(fn, *args)
        if self.how == "future":
            future = Future()
            future.set_exception(ConnectionError("the cluster is gone"))
            return future
        raise RuntimeError("cannot schedule new futures after shutdown")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("future", "the executor failed at trial 5: ConnectionError: the cluster is gone; 5 finished trials are in "),
        ("submit", "the executor takes no trials: RuntimeError: cannot schedule new .*; 5 finished trials are in "),
    ],
)
@pytest.mark.parametrize("mode", ["batch", "async"])
def test_an_executor_that_dies(tmp_path, how, message, mode):
    wanted = biased(batch=4, mode=mode).trials
    search = BiasedRandomSearch(SPACE, 1, history=tmp_path / "search.jsonl")
    with pytest.raises(RuntimeError, match=message + str(tmp_path)):
        search.run(valley, 30, Dying(how), batch=4, workers=1, mode=mode)
    assert load(tmp_path / "search.jsonl").trials == wanted[:5]
    again = BiasedRandomSearch(SPACE, 1, history=tmp_path / "search.jsonl")
    assert again.run(valley, 30, batch=4, mode=mode).trials == wanted


def test_trials_beside_the_one_that_broke_are_kept():
    """What was done when the executor failed is in the history, whatever its place."""

    class Broken(Immediate):
        def submit(self, fn, trial):
            if trial.number != 1:
                return super().submit(fn, trial)
            future = Future()
            future.set_exception(ConnectionError("gone"))
            return future

    search = BiasedRandomSearch(SPACE, 1)
    with pytest.raises(RuntimeError, match="the executor failed at trial 1"):
        search.run(valley, 8, Broken())
    assert [each.number for each in search.history.trials] == [0, 2, 3, 4, 5, 6, 7]
    assert search.run(valley, 30).trials == biased().trials


def test_an_error_in_the_search_itself_keeps_what_is_done():
    def model(told, values, at):
        raise ZeroDivisionError("in the model")

    search = BiasedRandomSearch(SPACE, 1, model=model)
    with pytest.raises(ZeroDivisionError, match="in the model"):
        search.run(valley, 30, batch=8)
    assert len(search.history) == 8


# --- Ctrl-C -----------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_done(tmp_path):
    def pressed(trial):
        if trial.number == 5:
            raise KeyboardInterrupt
        return valley(trial)

    search = BiasedRandomSearch(SPACE, 1, history=tmp_path / "search.jsonl")
    history = search.run(pressed, 30)
    assert history.interrupted and len(history) == 5
    assert load(history.path).trials == history.trials
    history = search.run(valley, 30)
    assert not history.interrupted and history.trials == biased().trials


def test_ctrl_c_while_waiting_for_workers():
    """Those that have not begun are cancelled, those that are done are kept."""
    executor = Puppets(lambda number: number in (0, 2))
    pressed = threading.Timer(0.2, lambda: (executor.end(3), os.kill(os.getpid(), signal.SIGINT)))
    search = BiasedRandomSearch(SPACE, 1)
    pressed.start()
    history = search.run(valley, 8, executor)
    assert history.interrupted and {0, 2} <= {each.number for each in history.trials} <= {0, 2, 3}


@pytest.mark.parametrize("of_a_worker", [True, False])
def test_ctrl_c_in_a_worker_ends_the_run_too(of_a_worker):
    """A terminal's Ctrl-C goes to all processes of a pool, and comes back as a future's exception."""

    class Interrupted(Immediate):
        def submit(self, fn, trial):
            if trial.number < 3:
                return super().submit(fn, trial)
            future = Future()
            future.set_exception(KeyboardInterrupt())
            return future

    history = BiasedRandomSearch(SPACE, 1).run(valley, 8, Interrupted(), workers=None if of_a_worker else 1)
    assert history.interrupted and len(history) == 3


# --- threads ----------------------------------------------------------------------------------------------


def test_a_worker_has_one_thread(monkeypatch):
    monkeypatch.setattr(backend, "_cores", lambda: 4)
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(4, "blas"):
        before = max(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        found = lambda **how: {
            (each.loss, each.notes["slices"]) for each in RandomSearch(SPACE).run(blas_threads, 6, **how).trials
        }
        assert found() == {(before, 4)}  # here: as it is
        with ThreadPoolExecutor(3) as pool:
            assert found(executor=pool) == {(1, 1)}
            assert found(executor=pool, threads="all") == {(before, 4)}
        assert found() == {(before, 4)}  # given back


# --- processes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes():
    with pool_of(2) as pool:
        history = biased(executor=pool, n_trials=16)
        threads = RandomSearch(SPACE).run(blas_threads, 2, pool)
    assert history.trials == biased(n_trials=16).trials
    assert {(each.loss, each.notes["slices"]) for each in threads.trials} == {(1, 1)}


@pytest.mark.slow
def test_a_function_that_processes_cannot_have():
    with pool_of(1) as pool:
        search = RandomSearch(SPACE)
        with pytest.raises(RuntimeError, match=r"the executor failed at trial 0: .*(pickle|lambda)"):
            search.run(lambda trial: 0.5, 3, pool)


@pytest.mark.slow
def test_a_pool_whose_process_is_killed(tmp_path):
    """A clear error, finished trials on the disk, and the resumed search has the same sequence."""
    path = tmp_path / "search.jsonl"
    with pool_of(1) as pool:
        with pytest.raises(RuntimeError, match=r"BrokenProcessPool: .* finished trials are in .*search.jsonl"):
            BiasedRandomSearch(SPACE, 1, path).run(suicide, 16, pool, batch=4, workers=1)
    assert [each.number for each in load(path).trials] == [0, 1, 2, 3, 4]
    again = BiasedRandomSearch(SPACE, 1, path).run(valley, 16, batch=4)
    assert again.trials == biased(n_trials=16, batch=4).trials


KILLED = """
import sys
from minigrad.search import BiasedRandomSearch
from tests.search.toys import SPACE, slow_valley
BiasedRandomSearch(SPACE, 1, sys.argv[1]).run(slow_valley, 1000)
"""


@pytest.mark.slow
def test_a_search_killed_at_any_time_resumes(tmp_path):
    path = tmp_path / "search.jsonl"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT)
    try:
        for _ in range(600):
            if path.exists() and path.read_bytes().count(b"\n") > 3:
                break
            time.sleep(0.1)
    finally:
        child.kill()
        child.wait()
    done = len(load(path))
    assert 3 <= done < 1000
    again = BiasedRandomSearch(SPACE, 1, path).run(valley, done + 5)
    assert again.trials == biased(n_trials=done + 5).trials


@pytest.mark.slow
def test_giving_up_on_a_process():
    with pool_of(2) as pool:
        wait([pool.submit(nap) for _ in range(2)])  # both have started
        history = biased(hang, 6, executor=pool, workers=2, give_up=1.5)
    assert [each.number for each in history.trials if each.failed] == [1]

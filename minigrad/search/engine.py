"""Running trials: here, or on any executor of concurrent.futures.

`run` asks an executor for nothing but `submit`, and a future for nothing but `result`, `done` and `cancel`; it waits
with `concurrent.futures.wait`. So these work unchanged:

    ProcessPoolExecutor(2)                                the cores of this machine; fn of a module
    loky.get_reusable_executor(2)                         the same, and fn may be of a notebook
    dask.distributed.Client(...).get_executor(pure=False) a cluster; without pure=False equal calls are made once
    mpi4py.futures.MPIPoolExecutor()                      ranks: mpiexec -n 4 python -m mpi4py.futures script.py

The executor stays the caller's: it is not shut down. What becomes of a trial whose worker dies is the executor's
affair. Dask runs it again elsewhere, and when it has killed four workers in a row gives it up: it has failed. Trials
that wait in such a worker's queue are blamed as well, so say how many `workers` there are. A pool of processes is
broken for good, and `run` raises RuntimeError; a dead MPI rank ends the job. Finished trials are in the history, and
the same call on the same history file goes on from there. A Dask client that is closed under a search may leave
futures that never end: press Ctrl-C, which keeps what is finished.
"""

import contextlib
import functools
import math
import numbers
import sys
import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait

from ..backend import check_name, one_thread
from .trial import evaluate, failure

MODES = ("batch", "async")


def run(
    search,
    fn,
    n_trials,
    executor=None,
    mode="batch",
    *,
    batch=8,
    workers=None,
    deadline=None,
    give_up=None,
    threads="one",
    progress=None,
):
    """Try fn(trial) until the search has n_trials of its own, those of a resumed history included; returns the History.

    fn: gets a Trial, returns a loss, or (loss, notes). What raises, or returns no finite number, has failed.
    executor: of concurrent.futures; None: one by one, here.
    mode: "batch": trials go in rounds of `batch`, and a proposal knows the outcomes of earlier rounds alone; a history
    is then the same to the last bit whoever runs it, and however often it is killed and resumed. batch=1 is algorithm
    1; a round waits for its slowest trial, so that many workers want a larger batch.
    "async": a proposal knows what there is when a worker is free; nobody waits, and the history depends on who is fast.
    workers: how many trials are submitted at once, at most; None: as many as `batch`.
    deadline: seconds, handed to fn as trial.seconds; it is fn that ends in time.
    give_up: seconds after which a submitted trial is left alone and has failed. It needs an executor, and `workers`, so
    that no trial waits in a queue. Its worker goes on with it, and is not counted on until it is done; when none is
    left, `run` waits as long again, then raises RuntimeError. To end a process that hangs is the executor's affair. Who
    is given up depends on the clock, and so does all that follows.
    threads: "one": on an executor, BLAS and minigrad have one thread in each trial, since several workers share a
    machine; "all": leave them alone, for one worker a machine.
    progress: label of a progress bar, which shows the best so far; None: none.

    Ctrl-C ends the run: trials that are finished are kept, and `history.interrupted` is True. An fn that takes Ctrl-C
    politely, as `fit` does, must raise KeyboardInterrupt itself, or a trial cut short counts as finished.
    Raises ValueError or TypeError for arguments that make no sense, RuntimeError when the executor dies.
    """
    check_name("mode", mode, MODES)
    check_name("threads", threads, ("one", "all"))
    _check_counts(n_trials=n_trials, batch=batch, workers=workers)
    _check_seconds(deadline=deadline, give_up=give_up)
    search.check_count(n_trials)
    if give_up is not None and (executor is None or workers is None):
        raise ValueError("give_up needs an executor, and workers: how many trials it runs at once")
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"run: an executor has `submit`, as those of concurrent.futures have; got {executor!r}")
    limit = one_thread if threads == "one" and executor is not None else contextlib.nullcontext
    work = functools.partial(_evaluate, fn, limit)
    submit, slots = (_here, 1) if executor is None else (executor.submit, workers or batch)
    running = Running(functools.partial(submit, work), slots, give_up)
    history = search.history
    history.interrupted = False
    with limit(), _bar(progress, history, n_trials) as show:  # limited here too, for an executor of threads

        def keep(outcome):
            history.add(outcome)
            show(outcome)

        try:
            try:
                for trials in _rounds(search, n_trials, batch if mode == "batch" else None, deadline):
                    running.drain(trials, keep)
            finally:
                running.stop(keep)
        except KeyboardInterrupt:
            history.interrupted = True
        except _ExecutorFailed as error:
            where = f"in {history.path}" if history.path else "in search.history"
            kept = f"{len(history)} finished trials are {where}, and the next run goes on from there"
            raise RuntimeError(f"{error}; {kept}") from error.__cause__
    return history


def _rounds(search, n_trials, batch, deadline):
    """The trials that are missing, in rounds that start at multiples of `batch`; None: in one, proposed when taken."""
    for start in range(0, n_trials, batch or n_trials):
        stop, before = min(start + (batch or n_trials), n_trials), start if batch else None
        missing = [number for number in range(start, stop) if number not in search.history]
        yield map(functools.partial(search.trial, before=before, seconds=deadline), missing)


def _evaluate(fn, limit, trial):
    """What a worker does with a trial. It returns always, so that an exception is the executor's own."""
    with limit():
        return evaluate(fn, trial)


def _here(work, trial):
    """Submit to nobody: a future that is done."""
    future = Future()
    future.set_result(work(trial))
    return future


class _ExecutorFailed(Exception):
    """The executor, not fn, is at fault."""


class Running:
    """The trials that are with an executor, `slots` of them at most."""

    def __init__(self, submit, slots, give_up):
        self.submit, self.slots, self.give_up = submit, slots, give_up
        self.since = {}  # future: (its trial, when it was submitted)
        self.hung = []  # futures that were given up, each with a worker

    def drain(self, trials, keep):
        """Submit all, each when there is room, and keep(outcome) as they come."""
        trials, more = iter(trials), True
        while more or self.since:
            while more and len(self.since) < self.room():
                trial = next(trials, None)
                more = trial is not None
                if more:
                    self._submit(trial)
            if self.since:
                wait(self.since, self._patience(), FIRST_COMPLETED)
                self.collect(keep)
            elif more:
                self._wait_for_the_hung()

    def room(self):
        """Slots whose worker does not hang."""
        self.hung = [future for future in self.hung if not future.done()]
        return self.slots - len(self.hung)

    def collect(self, keep):
        """Keep what is done, then give up what takes too long. Raises _ExecutorFailed after all others are kept."""
        errors = []
        for future in [future for future in self.since if future.done()]:
            try:
                outcome = _outcome(future, self.since[future][0])
            except (_ExecutorFailed, KeyboardInterrupt) as error:  # Ctrl-C reaches the processes of a pool too
                errors.append(error)
            else:
                keep(outcome)
            del self.since[future]
        if errors:
            raise errors[0]
        for future, (trial, start) in list(self.since.items()):
            if self.give_up is not None and time.monotonic() - start >= self.give_up:
                keep(failure(trial, f"timed out: given up after {self.give_up:g} s"))
                self.hung.append(future)
                del self.since[future]

    def stop(self, keep):
        """Submit no more, keep what is done all the same."""
        for future in self.since:
            future.cancel()
        self.give_up = None
        with contextlib.suppress(_ExecutorFailed, KeyboardInterrupt):
            self.collect(keep)

    def _submit(self, trial):
        try:
            self.since[self.submit(trial)] = trial, time.monotonic()
        except (BrokenExecutor, RuntimeError) as error:  # RuntimeError: it was shut down
            raise _ExecutorFailed(f"the executor takes no trials: {_in_a_line(error)}") from error

    def _patience(self):
        if self.give_up is None:
            return None
        return max(0.0, min(start for _, start in self.since.values()) + self.give_up - time.monotonic())

    def _wait_for_the_hung(self):
        if not wait(self.hung, self.give_up, FIRST_COMPLETED).done:
            raise _ExecutorFailed(f"all {self.slots} workers hang in trials that were given up")


def _outcome(future, trial):
    """What the worker found; what went wrong between here and there is the executor's fault, but for what Dask says."""
    try:
        return future.result()
    except Exception as error:
        if _killed_its_workers(error):
            return failure(trial, f"killed its workers: {error}")
        raise _ExecutorFailed(f"the executor failed at trial {trial.number}: {_in_a_line(error)}") from error


def _in_a_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _killed_its_workers(error):
    """Dask's verdict on a trial, not on the cluster: so many workers died of it in a row that it is not run again."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(error, distributed.scheduler.KilledWorker)


@contextlib.contextmanager
def _bar(label, history, n_trials):
    """A function to call with each outcome; it draws the bar, if there is a label."""
    if label is None:
        yield lambda outcome: None
        return
    from tqdm.auto import tqdm

    done = sum(number in history for number in range(n_trials))
    with tqdm(total=n_trials, initial=done, desc=label, unit="trial", dynamic_ncols=True) as bar:

        def show(outcome):
            with contextlib.suppress(ValueError):  # none succeeded yet
                bar.set_postfix_str(f"best {history.best.loss:.4g}, trial {history.best.number}", refresh=False)
            bar.update()

        yield show


def _check_counts(**values):
    for name, value in values.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
        if not whole and not (name == "workers" and value is None):
            raise ValueError(f"run: {name} must be a whole number of at least 1, got {value!r}")


def _check_seconds(**values):
    for name, value in values.items():
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (real and 0 < value < math.inf):
            raise ValueError(f"run: {name} must be a positive finite number of seconds, got {value!r}")

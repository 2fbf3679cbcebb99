"""What the tests of searches share: a space, functions that workers can import, executors that misbehave."""

import math
import os
import random
import signal
import threading
import time
from concurrent.futures import Executor, Future

from minigrad.search import Choice, Integer, LogUniform, Space

SPACE = Space(lr=LogUniform(1e-4, 1.0), layers=Integer(1, 4), init=Choice("Glorot", "sparse"))


def valley(trial):
    """Least at lr 0.01, one layer, Glorot; a little noise from the trial's own seed."""
    away = (math.log10(trial["lr"]) + 2) ** 2 + 0.1 * trial["layers"] + (trial["init"] == "sparse")
    return away + 1e-3 * random.Random(trial.seed).random()


def moody(trial):
    """Every way to fail, by the trial's number; every sixth succeeds."""
    kind = trial.number % 6
    if kind == 0:
        return valley(trial)
    if kind == 1:
        raise ValueError("diverged at\nupdate 3")
    return [math.nan, math.inf, "0.3", None][kind - 2]


def blas_threads(trial):
    """How many threads the BLAS and minigrad's slices have in this trial."""
    import threadpoolctl

    from minigrad import backend

    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return max(pools), {"slices": backend.threads()}


def nap():
    """A worker that has done this has imported what it needs."""
    time.sleep(0.3)


def slow_valley(trial):
    """A fifth of a second."""
    time.sleep(0.2)
    return valley(trial)


def hang(trial):
    """Trial 1 takes three seconds, as an endless one would."""
    if trial.number == 1:
        time.sleep(3)
    return valley(trial)


def suicide(trial):
    """Trial 5 takes its whole process down."""
    if trial.number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return valley(trial)


class Shuffling(Executor):
    """Runs what it was given on threads, in any order; only submit."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.threads = []

    def submit(self, fn, /, *args):
        future = Future()
        wait = self.random.random() * 0.01

        def work():
            time.sleep(wait)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args))
                except BaseException as error:
                    future.set_exception(error)

        thread = threading.Thread(target=work)
        self.threads.append(thread)
        thread.start()
        return future

    def __exit__(self, *error):
        for thread in self.threads:
            thread.join()


class Immediate(Executor):
    """Runs at once, on the caller's thread."""

    def submit(self, fn, /, *args):
        future = Future()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future

"""`python -m benchmarks.search`: what a search costs beside its trials: ask and tell, and how well it fills two
processes.

The overhead is processor time, and holds on a busy machine too; the pool's efficiency is wall-clock time, and needs
free cores.
"""

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from minigrad.search import (
    BiasedRandomSearch,
    Kernel,
    KNearest,
    LogUniform,
    NearestNeighbour,
    Outcome,
    Space,
    by_loss,
    by_rank,
)
from minigrad.training import machine

SPACE = Space({name: LogUniform(1e-4, 1.0) for name in ("lr", "damping", "decay", "alpha")})
MEASURED = 50  # trials asked for and told at each size
WORKERS, TRIALS, SECONDS = 2, 40, 1.0


def loss(trial):
    """A valley in two of the four hyper-parameters."""
    return sum((np.log10(trial[name]) + 2) ** 2 for name in ("lr", "damping"))


def busy(trial):
    """A trial of a second of one core."""
    end = time.process_time() + SECONDS
    while time.process_time() < end:
        pass
    return loss(trial)


def overhead(trials, model, acceptance):
    """Milliseconds of processor time of an ask and a tell after so many trials; the median of MEASURED."""
    search, rng = BiasedRandomSearch(SPACE, model=model, acceptance=acceptance), np.random.default_rng(0)
    for number in range(trials):
        parameters = SPACE.parameters(rng.random(len(SPACE)))
        search.history.add(Outcome(number, parameters, loss(parameters)))
    times = []
    for _ in range(MEASURED):
        begin = time.process_time()
        trial = search.ask()
        search.tell(trial, loss(trial))
        times.append(1e3 * (time.process_time() - begin))
    return statistics.median(times)


def efficiency(mode):
    """Seconds of trials / (seconds of the run x workers), with a pool that has started."""
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        BiasedRandomSearch(SPACE).run(busy, WORKERS, pool)
        begin = time.perf_counter()
        BiasedRandomSearch(SPACE, seed=1).run(busy, TRIALS, pool, mode, workers=WORKERS)
        return TRIALS * SECONDS / (WORKERS * (time.perf_counter() - begin))


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--pool", action="store_true", help="the pool's efficiency too; needs two free cores, a minute")
    pool = parser.parse_args().pool
    print(f"{machine.machine()['cpu']}; {len(SPACE)} hyper-parameters; processor time of an ask and a tell, ms")
    print(f"{'model':28} {'acceptance':12} {'1,000 trials':>12} {'20,000 trials':>14}")
    for model in (NearestNeighbour(), KNearest(3), Kernel(0.1)):
        for rule in (by_loss, by_rank):
            small, large = (overhead(trials, model, rule) for trials in (1_000, 20_000))
            print(f"{model!s:28} {rule.__name__:12} {small:12.2f} {large:14.2f}")
    print("wanted for NearestNeighbour: under 1 and under 10")
    if pool:
        for mode in ("batch", "async"):
            share = efficiency(mode)
            print(
                f"{WORKERS} processes, {TRIALS} trials of {SECONDS:g} s, {mode}: {share:.1%} busy (wanted: over 90 %)"
            )


if __name__ == "__main__":
    main()

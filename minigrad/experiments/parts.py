"""What experiments share: how a run is resumed, by named parts or by trials, and how a caption names its seeds."""

import contextlib
import itertools
import math
import multiprocessing
import os
import shutil
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace

import numpy as np

from ..training import records
from ..training.progress import interruptible


def run_parts(name, options, settings, seeds, parts, dtype="float64"):
    """The record of an experiment whose results are {part: parts[part]()}; after Ctrl-C as far as it went.

    name: the experiment's. parts: {part: function of the results so far}, run in order; each gives a dict that JSON can
    hold, or None if Ctrl-C ended it, and then it counts as not begun.
    With options.resume, parts that the record in options.out holds are kept; ValueError if it is of other settings.
    """
    path = options.out / "record.json"
    settings = {"scale": options.scale} | settings
    record = earlier(path, name, settings, seeds) if options.resume else None
    if record is None:
        record = records.new(name, settings=settings, seeds=seeds, dtype=dtype)
        record["results"] = {"complete": False}
    results = record["results"]
    with interruptible() as pressed:
        for part, compute in parts.items():
            if part in results:
                continue
            if pressed.is_set():
                return record
            if options.progress:
                print(f"{name}: {part}", flush=True)
            found = compute(results)
            if found is None:
                return record
            results[part] = found
            results["complete"] = part == list(parts)[-1]
            records.save(record, path)
    return record


def run_trials(name, options, settings, dtype, count, methods, draw, train):
    """The record of a search: `count` trials of each method, the methods in turns; after Ctrl-C as far as it went.

    draw(method, number): the parameters of a trial. train(method, number, parameters, options): its History, with
    "test_error" among the curves; options.out is a folder of the trial's own. A trial that diverged has error NaN.
    Results: {"trials": {method: [parameters with "error" and "updates"]}, "best": {method: parameters}}.
    """
    path = options.out / "record.json"
    record = earlier(path, name, settings, [0]) if options.resume else None
    if record is None:
        record = records.new(name, settings=settings, seeds=[0], dtype=dtype)
        record["results"] = {"complete": False, "trials": {method: [] for method in methods}, "best": {}}
    trials = record["results"]["trials"]

    for number, method in itertools.product(range(count), methods):
        if number < len(trials[method]):
            continue  # done before the interruption
        parameters, part = draw(method, number), replace(options, out=options.out / f"trial-{number}")
        history = train(method, number, parameters, part)
        if history.interrupted:
            break
        error = math.nan if history.stopped == "diverged" else history.curves["test_error"][-1]
        trials[method].append(parameters | {"error": error, "updates": history.update})
        record["results"]["best"] = {method: best(done) for method, done in trials.items() if done}
        record["results"]["complete"] = (number, method) == (count - 1, list(methods)[-1])
        records.save(record, path)
        shutil.rmtree(part.out)
    return record


def on_cores(work, jobs, cores, label=None):
    """Yield (job, work(job)) as they are done, each by one of `cores` processes, which has one core to itself.

    One thread each, so that every job has the same means, however many run at once. work: a function of a module, which
    handles Ctrl-C itself (as `fit` does); after it no further job begins. label: of a progress bar, None for none.
    """
    from tqdm.auto import tqdm

    one_each = dict.fromkeys(("MINIGRAD_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit this process's BLAS threads
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(one_each))
        pool = stack.enter_context(ProcessPoolExecutor(cores, fresh, _leave_interrupts_to_the_work))
        pressed = stack.enter_context(interruptible())
        bar = stack.enter_context(tqdm(total=len(jobs), desc=label, unit="run", disable=label is None))
        waiting, running = list(jobs), {}
        while running or (waiting and not pressed.is_set()):
            while waiting and len(running) < cores and not pressed.is_set():
                job = waiting.pop(0)
                running[pool.submit(work, job)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
                bar.update()


def _leave_interrupts_to_the_work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _environment(changes):
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def best(trials):
    """The parameters of the trial with the smallest error, without the error; of the first if all diverged."""
    error = records.numbers([trial["error"] for trial in trials])
    winner = trials[int(np.argmin(np.where(np.isnan(error), np.inf, error)))]
    return {parameter: value for parameter, value in winner.items() if parameter not in ("error", "updates")}


def earlier(path, name, settings, seeds):
    """The record that an interrupted run left, None if there is none; ValueError if it is of other settings."""
    if not path.exists():
        return None
    record = records.load(path, name)
    theirs, ours = ({"seeds": s, **t} for s, t in ((record["seeds"], record["settings"]), (seeds, settings)))
    for part in ours:
        if theirs.get(part) != ours[part]:
            found = f"{part} is {theirs.get(part)!r} there, {ours[part]!r} here"
            raise ValueError(f"{path} is of another run: {found}; leave out --resume, or give another --out")
    return record


def drawn(seeds):
    """What a curve shows, in a caption's words."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"median and range of {len(seeds)} seeds"

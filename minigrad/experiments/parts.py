"""What experiments share: how a run is resumed, by named parts or by trials, and how a caption names its seeds."""

import contextlib
import itertools
import math
import multiprocessing
import operator
import os
import shutil
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial

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


def run_seeds(name, options, settings, dtype, seeds, methods, work, cores=None, once=()):
    """The record of every method with every seed, results {"complete", "runs": {method: {seed: what work gave}}}.

    work(options, (method, seed)): a dict that JSON can hold, or None if Ctrl-C ended it; such a run begins anew when
    the experiment is resumed, or goes on from what it left in its folder of `checkpoints`, which are removed with the
    run's end. cores: so many runs at once, each on one core; None: one by one, on all. once: methods that no seed
    changes, which have the first one only.
    With options.resume, the runs that the record in options.out holds are kept, also if it is of the first few of the
    seeds; ValueError if it is of other settings.
    """
    path, settings = options.out / "record.json", {"scale": options.scale} | settings
    record = _of_fewer_seeds(path, name, settings, seeds) if options.resume else None
    if record is None:
        record = records.new(name, settings=settings, seeds=seeds, dtype=dtype)
        record["results"] = {"complete": False, "runs": {method: {} for method in methods}}
        shutil.rmtree(options.out / "checkpoints", ignore_errors=True)
        records.save(record, path)  # from now on, checkpoints are this record's
    runs = record["results"]["runs"]
    every = [(method, seed) for seed in seeds for method in methods if seed == seeds[0] or method not in once]
    jobs = [(method, seed) for method, seed in every if str(seed) not in runs[method]]
    for (method, seed), found in run_jobs(work, jobs, options, cores):
        if found is None:
            continue
        runs[method][str(seed)] = found
        record["results"]["complete"] = all(str(seed) in runs[method] for method, seed in every)
        records.save(record, path)
        shutil.rmtree(checkpoints(options, (method, seed)), ignore_errors=True)
    return record


def _of_fewer_seeds(path, name, settings, seeds):
    """The `earlier` record, of these seeds or the first of them: then what was made of all is made anew."""
    known = records.load(path, name)["seeds"] if path.exists() else seeds
    record = earlier(path, name, settings, seeds[: len(known)])
    if known != seeds:
        record |= {"seeds": seeds, "results": {"complete": False, "runs": record["results"]["runs"]}}
    return record


def checkpoints(options, job):
    """The folder of a job's own checkpoints, in `run_seeds`."""
    method, seed = job
    return options.out / "checkpoints" / f"{method}, seed {seed}"


def run_trials(name, options, settings, dtype, count, methods, draw, train, cores=None):
    """The record of a search: `count` trials of each method, the methods in turns; after Ctrl-C as far as it went.

    draw(method, number): the parameters of a trial. train(method, number, parameters, options): its History, with
    "test_error" among the curves; options.out is a folder of the trial's own. A trial that diverged has error NaN.
    cores: so many trials at once, each on one core (train is then a module's function); None: one by one, on all.
    Results: {"trials": {method: [parameters with "number", "error", "updates"]}, "best": {method: parameters}}.
    """
    path = options.out / "record.json"
    record = earlier(path, name, settings, [0]) if options.resume else None
    if record is None:
        record = records.new(name, settings=settings, seeds=[0], dtype=dtype)
        record["results"] = {"complete": False, "trials": {method: [] for method in methods}, "best": {}}
    trials = record["results"]["trials"]
    done = {(trial["number"], method) for method in methods for trial in trials[method]}
    jobs = [job for job in itertools.product(range(count), methods) if job not in done]

    for (number, method), outcome in run_jobs(partial(_trial, train, draw), jobs, options, cores):
        if outcome is None:
            continue  # interrupted
        trials[method].append({"number": number} | outcome)
        trials[method].sort(key=operator.itemgetter("number"))
        record["results"]["best"] = {method: best(done) for method, done in trials.items() if done}
        record["results"]["complete"] = sum(map(len, trials.values())) == count * len(trials)
        records.save(record, path)
    return record


def _trial(train, draw, options, job):
    """Parameters, error and updates of one trial; None if it was interrupted."""
    number, method = job
    parameters, part = draw(method, number), replace(options, out=options.out / f"trial-{number}-{method}")
    history = train(method, number, parameters, part)
    if history.interrupted:
        return None
    shutil.rmtree(part.out, ignore_errors=True)  # its checkpoints, if it wrote any
    error = math.nan if history.stopped == "diverged" else history.curves["test_error"][-1]
    return parameters | {"error": error, "updates": history.update}


def run_jobs(work, jobs, options, cores):
    """Yield (job, work(options, job)) for jobs on `cores`, or with None one by one in this process.

    work returns None when Ctrl-C ended it: the last that is yielded.
    """
    if cores is not None:
        quiet = replace(options, progress=False)  # one bar for all of them
        yield from on_cores(partial(work, quiet), jobs, cores, "all runs" if options.progress else None)
        return
    for job in jobs:
        outcome = work(options, job)
        yield job, outcome
        if outcome is None:
            return


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
    """The parameters of the trial with the smallest error, and nothing else; of the first if all diverged."""
    error = records.numbers([trial["error"] for trial in trials])
    winner = trials[int(np.argmin(np.where(np.isnan(error), np.inf, error)))]
    return {parameter: value for parameter, value in winner.items() if parameter not in ("number", "error", "updates")}


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


def rounded(column, digits=5):
    """A column of a record, to so many digits."""
    return [float(f"{number:.{digits}g}") for number in np.asarray(column, float)]


def kept(history, columns):
    """What a record keeps of a History, {"curves": ...}, and "diverged" with the update; None after Ctrl-C."""
    if history.interrupted:
        return None
    curves = {"curves": {column: rounded(history.curves[column]) for column in columns}}
    return curves | ({"diverged": history.update} if history.stopped == "diverged" else {})


def curves_of(runs):
    """The curves of {seed: run}, a list."""
    return [run["curves"] for run in runs.values()]


def seeds_together(curves, axis, column="test_error"):
    """(x, errors (seeds, points)): all seeds' curves at the first one's evaluations, as far as every seed came."""
    columns = [(records.numbers(each[axis]), records.numbers(each[column])) for each in curves]
    grid = columns[0][0]
    grid = grid[grid <= min(x[-1] for x, _ in columns)]
    return grid, np.array([np.interp(grid, x, error) for x, error in columns])


def drawn(seeds):
    """What a curve shows, in a caption's words."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"median and range of {len(seeds)} seeds"


def of_seeds(count):
    """How many, in words."""
    return f"{count} seed{'' if count == 1 else 's'}"


def set_or_excerpt(name, whole, train, test):
    """What images are of, in words: a set with `whole` training images, or an excerpt. train, test: their numbers."""
    return name if train == whole else f"an excerpt of {name} with {train + test:,} images"


def form(settings):
    """Of which scale a record is, in words; a usual form is one that was reduced."""
    return {"quick": "quick", "usual": "reduced", "full": "full"}[settings["scale"]] + " form"


def verdict(finding):
    """A finding in a caption's words: what is claimed, the numbers, held or not."""
    return f"{finding['claim']}: {finding['numbers']} ({'held' if finding['held'] else 'not held'})"

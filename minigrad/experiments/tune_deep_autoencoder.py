"""Search for the deep autoencoder's hyper-parameters: as many trials of as many seconds for each method.

Every trial trains on 50,000 of the training images and is judged by its reconstruction error on the other 10,000, when
its time is over; test images are not looked at. A trial that diverges counts as the worst. Spaces and methods stand in
`deep_autoencoder_methods.py`. Each trial has one core, whose seconds are counted: the usual form tries the five methods
of the demo, the full form all of them.

By itself this is random search, with --tune biased random search. `deep-autoencoder --tune` does the latter and goes
on with what that found. To replace what `deep_autoencoder.py` reads otherwise, copy record.json to
deep_autoencoder_tuned.json.
"""

import functools
import time
from dataclasses import dataclass

import numpy as np

from .. import plot as look
from ..search import BiasedRandomSearch, RandomSearch, Space
from ..training import records
from .deep_autoencoder_methods import METHODS, OF_THE_DEMO, objective
from .deep_autoencoder_task import held_out, train_one
from .parts import best, checkpoints, run_seeds

NAME = "tune-deep-autoencoder"
DESCRIPTION = "random search of the hyper-parameters of deep-autoencoder, equal trials for each method"
PAPER = "George, section 2.3"

SEARCHES = {"random": RandomSearch, "biased": BiasedRandomSearch}


@dataclass(frozen=True)
class Scale:
    """Trials of each method, seconds of each, images (None: all), methods; cores: searches at once, one core each, or
    None for one by one on all cores."""

    trials: int
    seconds: float
    images: int | None
    methods: tuple
    cores: int | None = None


SCALES = {
    "quick": Scale(1, 0.2, 500, OF_THE_DEMO),
    "usual": Scale(6, 45.0, None, OF_THE_DEMO, cores=2),
    "full": Scale(16, 45.0, None, tuple(METHODS), cores=2),
}


def run(options):
    """A random search for each method, with options.tune a biased one; returns the record, see `tune`."""
    return tune(options, "biased" if options.tune else "random")


def tune(options, kind):
    """One of SEARCHES for each method; returns the record, after Ctrl-C as far as it went; see `run_seeds`.

    Results: {"runs": {method: {"0": {"trials": [parameters with "number", "error", "updates"]}}}}.
    """
    scale = SCALES[options.scale]
    train, held, source = held_out(scale.images)
    settings = {
        "search": kind,
        "trials": scale.trials,
        "seconds": scale.seconds,
        "cores": scale.cores,
        "data": f"{len(train)} images to train on and {len(held)} to judge by, all training images of {source}",
        "objectives": {name: repr(objective(name)) for name in scale.methods},
        "spaces": {name: repr(Space(METHODS[name].space)) for name in scale.methods},
    }
    work = functools.partial(search, scale, kind)
    return run_seeds(NAME, options, settings, train.dtype, [0], scale.methods, work, scale.cores)


def search(scale, kind, options, job):
    """All trials of a method, one after the other; None after Ctrl-C. It goes on where it was."""
    name, _ = job
    seed = list(METHODS).index(name)
    searching = SEARCHES[kind](Space(METHODS[name].space), seed, checkpoints(options, job) / "history.jsonl")
    history = searching.run(functools.partial(trial, scale, name, options), scale.trials, batch=1)
    if history.interrupted:
        return None
    kept = lambda each: {"number": each.number, **each.parameters, "error": np.nan if each.failed else each.loss}
    return {"trials": [kept(each) | (each.notes or {}) for each in history.trials]}


def trial(scale, name, options, trial):
    """(error, {"updates"}) of a trial. Raises KeyboardInterrupt."""
    train, held, _ = held_out(scale.images)
    clock = time.perf_counter if scale.cores is None else time.process_time
    measured = train[: len(held)], held
    history = train_one(
        name, trial.parameters, train, measured, scale.seconds, 0, options, clock, evaluate_every=at_the_end
    )
    if history.interrupted:
        raise KeyboardInterrupt
    diverged = history.stopped == "diverged"
    return np.nan if diverged else history.curves["test_error"][-1], {"updates": history.update}


def at_the_end(update):
    """No evaluation but those at the start and the end."""
    return False


def trials(record):
    """{method: its trials}, of methods that have been searched."""
    return {name: each["0"]["trials"] for name, each in record["results"]["runs"].items() if each}


def winners(record):
    """{method: the parameters of its best trial}."""
    return {name: best(done) for name, done in trials(record).items()}


def plot(record, folder):
    """Error against each method's step: learning rate, or initial damping."""
    done = trials(record)
    columns = max(1, min(len(done), 4))
    rows = max(1, -(-len(done) // columns))
    fig, axes = look.figure(rows, columns, height=0.6 + 2.0 * rows, width=9.0, sharey=True, squeeze=False)
    for ax, (name, tried) in zip(axes.flat, done.items()):
        step = "lr" if "lr" in METHODS[name].space else "damping"
        style = look.look(name)
        x, y = ([trial[key] for trial in tried] for key in (step, "error"))
        ax.plot(x, records.numbers(y), style.marker, color=style.colour)
        ax.set(xscale="log", yscale="log", title=name, xlabel=step)
        for side in (ax.xaxis, ax.yaxis):
            look.plain_numbers(side)
    for ax in axes.flat[len(done) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("squared held-out error")
    settings = record["settings"]
    return [look.save(fig, folder / f"{NAME}.png", caption=(
        "Squared reconstruction error of an image (sum over 784 pixels, mean over images) after "
        f"{settings['seconds']:g} s of training, one point a trial of {settings['search']} search, for "
        f"{settings['data']}."
    ))]  # fmt: skip

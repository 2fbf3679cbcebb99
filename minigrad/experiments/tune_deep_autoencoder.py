"""Random search of the deep autoencoder's hyper-parameters: as many trials of as many seconds for each method.

Every trial trains on 50,000 of the training images and is judged by its reconstruction error on the other 10,000, when
its time is over; test images are not looked at. A trial that diverges counts as the worst. The record is what
`deep_autoencoder.py` reads its parameters from: to replace them, copy record.json to deep_autoencoder_tuned.json.
Spaces and methods stand in `deep_autoencoder_methods.py`. Each trial has one core, whose seconds are counted: the
usual form tries the five methods of the demo, the full form all of them.
"""

import functools
import time
from dataclasses import dataclass

import numpy as np

from .. import plot as look
from ..data import split
from ..training import records
from . import deep_autoencoder as experiment
from .deep_autoencoder_methods import METHODS, objective
from .parts import run_trials

NAME = "tune-deep-autoencoder"
DESCRIPTION = "random search of the hyper-parameters of deep-autoencoder, equal trials for each method"
PAPER = "George, section 2.3"


@dataclass(frozen=True)
class Scale:
    """Trials of each method, seconds of each, images (None: all), methods; cores: trials at once, one core each, or
    None for one by one on all cores."""

    trials: int
    seconds: float
    images: int | None
    methods: tuple
    cores: int | None = None


SCALES = {
    "quick": Scale(1, 0.2, 500, experiment.OF_THE_DEMO),
    "usual": Scale(6, 45.0, None, experiment.OF_THE_DEMO, cores=2),
    "full": Scale(16, 45.0, None, tuple(METHODS), cores=2),
}


def run(options):
    """Run all trials, the methods in turns; returns the record, after Ctrl-C as far as it went."""
    scale = SCALES[options.scale]
    train, held_out, source = images(scale.images)
    settings = {
        "trials": scale.trials,
        "seconds": scale.seconds,
        "cores": scale.cores,
        "data": f"{len(train)} images to train on and {len(held_out)} to judge by, all training images of {source}",
        "objectives": {name: repr(objective(name)) for name in scale.methods},
    }
    train_one = functools.partial(trial, scale)
    return run_trials(
        NAME, options, settings, train.dtype, scale.trials, scale.methods, draw, train_one, cores=scale.cores
    )


def trial(scale, name, number, parameters, options):
    """The History of one trial."""
    train, held_out, _ = images(scale.images)
    clock = time.perf_counter if scale.cores is None else time.process_time
    measured = train[: len(held_out)], held_out
    return experiment.train_one(
        name, parameters, train, measured, scale.seconds, 0, options, clock, evaluate_every=at_the_end
    )


def at_the_end(update):
    """No evaluation but those at the start and the end."""
    return False


@functools.cache
def images(count):
    """(images to train on, images to judge by, what they are of)."""
    train, _, source = experiment.images(count)
    (train, _), (held_out, _) = split(train, None, len(train) // 6, np.random.default_rng(0))
    return train, held_out, source


def draw(name, number):
    """The parameters of a method's trial: a function of its number, so that a resumed search goes on in order."""
    rng = np.random.default_rng([list(METHODS).index(name), number])
    return {parameter: rule(rng) for parameter, rule in METHODS[name].space.items()}


def plot(record, folder):
    """Error against each method's step: learning rate, or initial damping."""
    trials = {name: done for name, done in record["results"]["trials"].items() if done}
    columns = min(len(trials), 4)
    rows = -(-len(trials) // columns)
    fig, axes = look.figure(rows, columns, height=0.6 + 2.0 * rows, width=9.0, sharey=True, squeeze=False)
    for ax, (name, done) in zip(axes.flat, trials.items()):
        step = "lr" if "lr" in METHODS[name].space else "damping"
        style = look.look(name)
        x, y = ([trial[key] for trial in done] for key in (step, "error"))
        ax.plot(x, records.numbers(y), style.marker, color=style.colour)
        ax.set(xscale="log", yscale="log", title=name, xlabel=step)
        look.plain_numbers(ax.yaxis)
    for ax in axes.flat[len(trials) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("squared held-out error")
    path = folder / f"{NAME}.png"
    settings = record["settings"]
    look.save(fig, path, caption=(
        "Squared reconstruction error of an image (sum over 784 pixels, mean over images) after "
        f"{settings['seconds']:g} s of training, one point a random trial, for {settings['data']}."
    ))  # fmt: skip
    return [path]

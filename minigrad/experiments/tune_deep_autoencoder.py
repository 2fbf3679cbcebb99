"""Random search of the deep autoencoder's hyper-parameters: as many trials of as many seconds for each method.

Every trial trains on 50,000 of the training images and is judged by its reconstruction error on the other 10,000, when
its time is over; test images are not looked at. A trial that diverges counts as the worst. The record is what
`deep_autoencoder.py` reads its parameters from: to replace them, copy record.json to deep_autoencoder_tuned.json.
"""

import math

import numpy as np

from .. import plot as look
from ..data import split
from ..training import records
from . import deep_autoencoder as experiment
from .parts import run_trials

NAME = "tune-deep-autoencoder"
DESCRIPTION = "random search of the hyper-parameters of deep-autoencoder, equal trials for each method"
PAPER = "George, section 2.3"

TRIALS = {"quick": (1, 0.3), "usual": (6, 40.0), "full": (30, 40.0)}  # trials of each method, seconds of each


def log_uniform(low, high):
    """Draws evenly on a logarithmic scale, to two digits."""
    return lambda rng: float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.1e}")


def choice(*values):
    """Draws one of the values."""
    return lambda rng: values[rng.integers(len(values))]


INITIAL = choice(*experiment.INITIAL)
SPACES = {
    "momentum": {
        "lr": log_uniform(1e-3, 1e-1),
        "momentum": choice(0.9, 0.95, 0.99),
        "batch_size": choice(50, 100, 200, 500),
        "init": INITIAL,
    },
    "Adam": {"lr": log_uniform(3e-4, 1e-2), "batch_size": choice(50, 100, 200, 500), "init": INITIAL},
    "natural gradient": {
        "damping": log_uniform(1e-1, 1e1),
        "iterations": choice(5, 10, 15, 30),
        "batch_size": choice(100, 250, 500, 1000),
        "init": INITIAL,
    },
}


def run(options):
    """Run all trials, the methods in turns; returns the record, after Ctrl-C as far as it went."""
    count, seconds = TRIALS[options.scale]
    train, _, source = experiment.images(experiment.SCALES[options.scale].images)
    (train, _), (held_out, _) = split(train, None, len(train) // 6, np.random.default_rng(0))
    settings = {
        "trials": count,
        "seconds": seconds,
        "data": f"{len(train)} images to train on and {len(held_out)} to judge by, all training images of {source}",
        "objective": repr(experiment.objective()),
    }

    def train_one(name, number, parameters, part):
        return experiment.train_one(name, parameters, train, held_out, seconds, 0, part)

    return run_trials(NAME, options, settings, train.dtype, count, SPACES, draw, train_one)


def draw(name, number):
    """The parameters of a method's trial: a function of its number, so that a resumed search goes on in order."""
    rng = np.random.default_rng([list(SPACES).index(name), number])
    return {parameter: rule(rng) for parameter, rule in SPACES[name].items()}


def plot(record, folder):
    """Error against each method's step: learning rate, or initial damping."""
    trials = {name: done for name, done in record["results"]["trials"].items() if done}
    fig, axes = look.figure(1, len(trials), height=2.6, sharey=True, squeeze=False)
    for ax, (name, done) in zip(axes[0], trials.items()):
        step = "lr" if "lr" in SPACES[name] else "damping"
        style = look.look(name)
        x, y = ([trial[key] for trial in done] for key in (step, "error"))
        ax.plot(x, records.numbers(y), style.marker, color=style.colour)
        ax.set(xscale="log", yscale="log", title=name, xlabel=step)
        look.plain_numbers(ax.yaxis)
    axes[0, 0].set_ylabel("squared held-out error")
    path = folder / f"{NAME}.png"
    settings = record["settings"]
    look.save(fig, path, caption=(
        "Squared reconstruction error of an image (sum over 784 pixels, mean over images) after "
        f"{settings['seconds']:g} s of training, one point a random trial, for {settings['data']}."
    ))  # fmt: skip
    return [path]

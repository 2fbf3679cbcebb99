"""Grid search of the learning rates and dampings of metric-batch: as many trials for each method, the paper's first.

Every trial learns from 5,000 labelled images out of 50,000 training images of MNIST and is judged by its error on the
other 10,000 after its last update; test images are not looked at. A trial that diverges counts as the worst. A trial
has a fifth of the experiment's updates at most, which favours fast steps over patient ones. The record is what
`metric_batch.py` reads its parameters from: to replace them, copy record.json to metric_batch_tuned.json.
"""

import itertools
from dataclasses import replace

import numpy as np

from .. import plot as look
from ..data import split
from ..training import records
from . import metric_batch as experiment
from .parts import run_trials

NAME = "tune-metric-batch"
DESCRIPTION = "grid search of the learning rates and dampings of metric-batch, equal trials for each method"
PAPER = "Pascanu & Bengio, section 8.5"


def grid(lrs, dampings):
    """All pairs; the first of each are the paper's."""
    return [{"lr": lr, "damping": damping} for damping, lr in itertools.product(dampings, lrs)]


GRID = {
    "SGD": [{"lr": lr} for lr in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)],
    "KL, unlabeled": grid((5.0, 2.0, 1.0), (2.0, 0.2)),
    "KL, different batch": grid((0.1, 0.3, 1.0), (0.01, 0.1)),
    "KL, same batch": grid((0.1, 0.3, 1.0), (0.01, 0.1)),
    "TONGA": grid((5.0, 2.0, 1.0), (0.1, 0.01)),
}
SCALES = {  # trials of each method, and what a trial is
    "quick": (2, replace(experiment.SCALES["quick"], updates=1)),
    "usual": (2, replace(experiment.SCALES["usual"], updates=10)),
    "full": (6, replace(experiment.SCALES["usual"], updates=60)),
}


def run(options):
    """Run all trials, the methods in turns; returns the record, after Ctrl-C as far as it went."""
    count, scale = SCALES[options.scale]
    (x, t), _ = experiment.SETS["MNIST"]()
    train, held_out = split(x, t, len(x) // 6, np.random.default_rng(0))
    settings = {
        "trials": count,
        "updates": {name: experiment.schedule(name, scale)[0] for name in GRID},
        "data": f"{scale.labelled:,} labelled images out of {len(train[0]):,}, judged by {len(held_out[0]):,} others, "
        "all of them training images of MNIST",
        "objective": repr(experiment.objective(scale)),
        "iterations": experiment.ITERATIONS,
    }

    def train_one(name, number, parameters, part):
        return experiment.train_one(
            name,
            parameters,
            train,
            held_out,
            scale,
            0,
            part,
            evaluate_every=experiment.schedule(name, scale)[0],  # at the end
            label=f"trial {number + 1} of {count}: {name}",
        )

    return run_trials(NAME, options, settings, "float32", count, GRID, lambda name, k: GRID[name][k], train_one)


def plot(record, folder):
    """Held-out error against learning rate, one curve a damping."""
    trials = {name: done for name, done in record["results"]["trials"].items() if done}
    fig, axes = look.figure(1, len(trials), height=2.4, width=8.4, sharey=True, squeeze=False)
    for ax, (name, done) in zip(axes[0], trials.items()):
        style = look.look(name)
        for damping, line in zip(dict.fromkeys(trial.get("damping") for trial in done), ("-", ":")):
            some = sorted((trial["lr"], trial["error"]) for trial in done if trial.get("damping") == damping)
            lrs, errors = zip(*some)
            ax.plot(lrs, 100 * records.numbers(errors), line, marker=style.marker, color=style.colour,
                    label=None if damping is None else f"damping {damping:g}")  # fmt: skip
        ax.set(xscale="log", yscale="log", title=name, xlabel="lr")
        ax.set_xticks([], minor=True)
        lrs = sorted({trial["lr"] for trial in done})
        ax.set_xticks(lrs, [f"{lr:g}" for lr in lrs], fontsize=7)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7, frameon=False)
    look.plain_numbers(axes[0, 0].yaxis)
    axes[0, 0].set_ylabel("held-out error (%)")
    path = folder / f"{NAME}.png"
    updates = record["settings"]["updates"]
    look.save(fig, path, caption=(
        f"Error on held-out images after {updates['TONGA']} updates ({updates['SGD']} of SGD), one point a trial, "
        f"for {record['settings']['data']}."
    ))  # fmt: skip
    return [path]

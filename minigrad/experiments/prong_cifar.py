"""PRONG against SGD, RMSProp and batch normalization on CIFAR-10 (Desjardins et al. 2015, section 4.3, figure 4a-b).

From the paper: "a deep convolutional model inspired by the VGG architecture", 24 x 24 random crops with flips, pixels
of a map whitened as independent samples, momentum, model selection on 5,000 held-out images, and "waterfall" annealing:
the learning rate is divided by 10 when the held-out error failed to improve after a set number of evaluations.

What it leaves to a supplement, and so ours to state: the net (`nets.vgg`), momentum 0.9, batches, the number of
updates; of PRONG T = 100, 1,000 crops for the statistics, epsilon 0.1; how pixels are scaled, here each colour to mean
0 and variance 1. Errors are those of the central crop. What the annealing watches is the held-out loss, which is
smoother than the error. RMSProp is without momentum, which theirs had. Learning rates are chosen for each method from
as many candidates, by the held-out error that seed 0 has after a short training; PRONG's candidates were moved once,
after such a training at 0.001, 0.003 and 0.01, the others' never.

The usual form is reduced for a CPU of two cores: a quarter of the net's width (16, 32 and 64 maps), 10,000 training
images, 1,000 of them held out, and 2,000 test images; batches of 64, 700 updates, which are 5 epochs; three candidates
at 100 updates each; 2 seeds. The paper's scale, 100 epochs, for whoever has a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run prong-cifar --full
"""

import math
import shutil
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from .. import plot as look
from ..data import RandomCrops, split
from ..losses import Categorical
from ..nets import BatchNorm, vgg
from ..objective import Objective
from ..optimizers import PRONG, SGD, RMSProp, Waterfall
from ..training import records
from .classifiers import COLUMNS, standardized_cifar, train_classifier
from .comparison import below_zero, difference, lost, signed, times_sooner
from .parts import curves_of, drawn, form, kept, run_seeds, run_trials, seeds_together

NAME = "prong-cifar"
DESCRIPTION = "SGD, RMSProp, batch normalization and PRONG on a VGG-like net, by updates and time"
PAPER = "Desjardins et al. 2015, figure 4a-b"

RATES = {  # of each method, the candidates; the first is the quick form's
    "momentum": (0.01, 0.03, 0.003),
    "RMSProp": (0.001, 0.003, 0.0003),
    "batch norm": (0.03, 0.1, 0.01),
    "PRONG": (0.01, 0.03, 0.003),
}
METHODS = tuple(RATES)
MOMENTUM, EPSILON, INTERVAL = 0.9, 0.1, 100
CROPS = RandomCrops(24, flips=True)


@dataclass(frozen=True)
class Scale:
    """width: of the net. images, held_out, test: so many training images, of which so many are held out, and test
    images (None: all). batch_size, updates, every: between evaluations, `patience` of which the annealing waits.
    measured: training images for the curves. trials, trial_updates: candidates for a learning rate, and how long each
    is tried. samples: for PRONG's statistics. seeds; cores: runs at once (None: one, on all cores)."""

    width: int
    images: int | None
    held_out: int
    test: int | None
    batch_size: int
    updates: int
    every: int
    patience: int
    measured: int
    trials: int
    trial_updates: int
    samples: int
    seeds: int
    cores: int | None = None


SCALES = {
    "quick": Scale(4, 500, 100, 200, 50, 8, 2, 2, 100, 1, 1, 200, 1),
    "usual": Scale(16, 10_000, 1000, 2000, 64, 700, 50, 2, 1000, 3, 100, 1000, 2, cores=2),
    "full": Scale(64, None, 5000, None, 128, 35_100, 351, 5, 5000, 3, 1755, 1000, 3),
}


def run(options):
    """Learning rates, then every method with every seed; returns the record, see `run_seeds`."""
    scale = SCALES[options.scale]
    *parts, source = data(scale)
    dtype = parts[0][0].dtype
    tuning = tuned(scale, options)
    rates = {name: best["lr"] for name, best in tuning["results"]["best"].items()}
    settings = {
        "sizes": {"width": scale.width, "batch_size": scale.batch_size, "updates": scale.updates},
        "data": "{:,} training, {:,} held-out and {:,} test images of ".format(*(len(x) for x, _ in parts)) + source,
        "objectives": {name: repr(objective(name, scale)) for name in METHODS},
        "optimizers": {name: repr(optimizer(name, lr, scale)) for name, lr in rates.items()},
        "crops": repr(CROPS),
        "evaluations": {"every": scale.every, "patience": scale.patience, "measured": scale.measured},
        "rates": rates,
        "tuning": {"updates": scale.trial_updates, "trials": tuning["results"]["trials"]},
        "cores": scale.cores,
    }
    seeds = list(range(options.seeds or scale.seeds))
    if not tuning["results"]["complete"]:  # interrupted
        record = records.new(NAME, settings={"scale": options.scale} | settings, seeds=seeds, dtype=dtype)
        record["results"] = {"complete": False, "runs": {name: {} for name in METHODS}}
        return record
    work = partial(outcome, scale, rates)
    return run_seeds(NAME, options, settings, dtype, seeds, METHODS, work, scale.cores)


def tuned(scale, options):
    """The record of the learning rates tried, in a folder of its own; see `run_trials`."""
    folder = options.out / "tuning"
    if not options.resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    train, *_, source = data(scale)
    rates = {name: list(tried) for name, tried in RATES.items()}
    settings = {"scale": options.scale, "updates": scale.trial_updates, "rates": rates, "data": source}
    own = replace(options, out=folder)
    train_one = partial(trial, scale)
    return run_trials(NAME, own, settings, train[0].dtype, scale.trials, METHODS, candidate, train_one, scale.cores)


def candidate(name, number):
    """The parameters of a trial."""
    return {"lr": RATES[name][number]}


def trial(scale, name, number, parameters, options):
    """The History of a trial, whose test images are those held out."""
    train, held_out, _, _ = data(scale)
    return trained(scale, name, parameters["lr"], (train, held_out, held_out), scale.trial_updates, options, (name, 0))


def outcome(scale, rates, options, job):
    """What the record keeps of a method and seed; None after Ctrl-C."""
    parts = data(scale)[:3]
    history = trained(scale, job[0], rates[job[0]], parts, scale.updates, options, job)
    return kept(history, (*COLUMNS, "validation_error"))


def trained(scale, name, lr, parts, updates, options, job):
    """The History of a method from this learning rate on; parts: images to train on, held out, to test on."""
    train, held_out, test = parts
    return train_classifier(
        objective(name, scale),
        optimizer(name, lr, scale),
        train,
        test,
        options,
        job,
        batch_size=scale.batch_size,
        updates=updates,
        every=scale.every,
        measured=scale.measured,
        cores=scale.cores,
        augment=CROPS,
        validation=held_out,
    )


def objective(name, scale):
    """The VGG-like net under cross-entropy, batch-normalized for the method of that name."""
    return Objective(vgg(width=scale.width, normalization=BatchNorm() if name == "batch norm" else None), Categorical())


def optimizer(name, lr, scale):
    """One of METHODS, from this learning rate on."""
    lr = Waterfall(lr, factor=0.1, patience=scale.patience)
    if name == "RMSProp":
        return RMSProp(lr)
    if name == "PRONG":
        return PRONG(lr, MOMENTUM, interval=INTERVAL, samples=scale.samples, epsilon=EPSILON)
    return SGD(lr, MOMENTUM)


@cache
def data(scale):
    """(pair to train on, pair held out, test pair, what they are of)."""
    (x, t), test, source = standardized_cifar(scale.images, scale.test)
    return *split(x, t, scale.held_out, np.random.default_rng(0)), test, source


# --- what came out ---------------------------------------------------------------------------------------


def findings(record):
    """The paper's claims, each with numbers and whether it held: [{"claim", "numbers", "held"}]; none if unfinished.

    A difference is one if its 95 % interval leaves out 0 (of one seed: if it is not 0).
    """
    if not record["results"]["complete"]:
        return []
    runs = record["results"]["runs"]
    apart = {name: difference(record, "PRONG", name, "test_error") for name in METHODS[:3]}
    found = [
        {
            "claim": "PRONG achieves better test error",
            "numbers": "in percent " + ", ".join(f"{signed(pair)} against {name}" for name, pair in apart.items()),
            "held": all(below_zero(pair) for pair in apart.values()),
        }
    ]
    for axis, word in (("update", "updates"), ("seconds", "time")):
        times = {name: times_sooner(runs["momentum"], runs[name], axis) for name in METHODS}
        numbers = ", ".join(f"{times[name]:.2g} times by {name}" for name in METHODS)
        found.append({
            "claim": f"PRONG converges faster than all others, by {word}",
            "numbers": f"momentum's last training error is reached in 1 / n of its {word}, n = {numbers}",
            "held": all(times["PRONG"] > times[name] for name in METHODS[:3]),
        })  # fmt: skip
        if axis == "update":
            ratio = times["PRONG"] / times["batch norm"] if times["batch norm"] else math.nan
            found.append({
                "claim": "PRONG and batch normalization offer similar speedups in training error",
                "numbers": f"{times['PRONG']:.2g} and {times['batch norm']:.2g} times",
                "held": 0.75 < ratio < 1 / 0.75 and times["PRONG"] > 1,
            })  # fmt: skip
    return found


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: training and held-out error, by updates and by seconds of training."""
    rows = {"train_error": "training error (%)", "validation_error": "held-out error (%)"}
    seconds = "seconds of training" if record["settings"]["cores"] is None else "seconds of one core"
    columns = {"update": "updates", "seconds": seconds}
    fig, axes = look.mosaic([[f"{row} {axis}" for axis in columns] for row in rows], width=8.4, height=5.6)
    for row, error in rows.items():
        for axis, label in columns.items():
            ax = axes[f"{row} {axis}"]
            for name in METHODS:
                if curves := curves_of(record["results"]["runs"][name]):
                    x, errors = seeds_together(curves, axis, row)
                    look.curves(ax, {name: (x[1:], 100 * errors[:, 1:])})  # the start is the same for all
            ax.set(xlabel=label, ylabel=error if axis == "update" else "")
            if ax.get_lines():
                look.label_ends(ax)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """One sentence: what is shown, which rates were chosen, test errors at the end, from the record."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    sizes = settings["sizes"]
    text = (
        f"Errors of central crops of {settings['data']}, by a VGG-like net of width {sizes['width']} trained on "
        f"24 x 24 random crops, batches of {sizes['batch_size']} ({form(settings)}), {drawn(seeds)}"
    )
    if not results["complete"]:
        return text + ": unfinished."
    count, updates = len(settings["tuning"]["trials"]["PRONG"]), settings["tuning"]["updates"]
    how = f"the best of {count} by held-out error after {updates:,} updates" if count > 1 else "not tuned"
    text += f"; learning rates, {how}: " + ", ".join(f"{lr:g} for {name}" for name, lr in settings["rates"].items())
    ends = []
    for name in METHODS:
        last = [100 * run["curves"]["test_error"][-1] for run in results["runs"][name].values()]
        ends.append(f"{np.median(last):.2f} by {name}")
    return f"{text}; median test error after {sizes['updates']:,} updates, in percent: {', '.join(ends)}{lost(record)}."

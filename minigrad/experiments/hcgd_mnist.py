"""SGD against HCGD on MNIST, by epochs and by passes through the net (Benjamin et al. 2018, figures 1 and 2).

From the paper: a net of 90 and 50 ReLU units under cross-entropy; learning rate 0.04 with momentum and 0.1 without;
lam 0.5, eta 0.02, validation batches of 256 training images; n = 1 and n = 10 corrections; ten seeds. Its net has "850"
inputs, but a digit has 784 pixels, and so has ours. Not in the paper, so ours to state: momentum 0.9, batches of 128,
Glorot's initial weights, 40 epochs, and one validation batch an update, as its algorithm box draws it.

A pass is a forward or a backward sweep, whatever its batch: 2 an update of SGD, 3 more for a first correction and 2 for
each further one. A seed means the same initial weights and batches to all methods, so they are compared seed by seed.

All corrections but the first step down the loss too, by eta g: ten of them are SGD at lr + 9 eta, before the penalty
says anything. So plain SGD at that rate runs beside them, which the paper has not.
"""

import math
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from .. import backend
from .. import plot as look
from ..data import mnist
from ..losses import Categorical
from ..nets import mlp
from ..objective import Objective
from ..optimizers import HCGD, SGD
from ..training import Diverged, fit, records, share_wrong
from .comparison import below_zero, difference, differs, lost, signed
from .parts import curves_of, drawn, kept, run_seeds, seeds_together, set_or_excerpt

NAME = "hcgd-mnist"
DESCRIPTION = "SGD and HCGD, with and without momentum, by epochs and by passes"
PAPER = "Benjamin et al. 2018, figures 1 and 2"

RATES = {"momentum": (0.04, 0.9), "no momentum": (0.1, 0.0)}  # lr, momentum
ETA = 0.02
METHODS = {"SGD": 0, "SGD, lr + 9 eta": 0, "HCGD, n = 1": 1, "HCGD, n = 10": 10}  # corrections
RUNS = {f"{method}, {base}": (method, base) for base in RATES for method in METHODS}
SIZES, BATCH, VALIDATION, MEASURED = (784, 90, 50, 10), 128, 256, 10_000


@dataclass(frozen=True)
class Scale:
    """Epochs, training and test images (None: all), seeds, runs at once (None: one, on all cores)."""

    epochs: int
    images: int | None
    seeds: int
    cores: int | None = None


SCALES = {"quick": Scale(2, 1000, 1), "usual": Scale(3, None, 1), "full": Scale(40, None, 10, cores=2)}


def run(options):
    """All methods with all seeds; returns the record, see `run_seeds`."""
    further = {"passes": {method: passes(method) for method in METHODS}}
    return run_all(NAME, options, SCALES[options.scale], RUNS, outcome, further)


def run_all(name, options, scale, runs, outcome, further):
    """The record of these of RUNS with all seeds; outcome(scale, options, (run, seed)); further: settings."""
    (x, _), (test, _), source = images(scale.images)
    settings = {
        "epochs": scale.epochs,
        "batch_size": BATCH,
        "data": f"{len(x):,} training and {len(test):,} test images of {source}",
        "objective": repr(objective()),
        "optimizers": {name: repr(optimizer(*of)) for name, of in runs.items()},
        "cores": scale.cores,
    } | further
    seeds = list(range(options.seeds or scale.seeds))
    return run_seeds(name, options, settings, x.dtype, seeds, runs, partial(outcome, scale), scale.cores)


def outcome(scale, options, job):
    """What the record keeps of a method and seed: its curves, a row an epoch; None after Ctrl-C."""
    columns = ("update", "seconds", "loss", "train_error", "test_error")
    return kept(train_one(scale, options, *job), columns)


def train_one(scale, options, name, seed, theta=None, callbacks=()):
    """The History of one of RUNS, from theta if that is given; of one that diverged what there was."""
    train, test, _ = images(scale.images)
    the, epoch = objective(), len(train[0]) // BATCH
    seen, unseen = (tuple(backend.asarray(part[:MEASURED]) for part in pair) for pair in (train, test))
    try:
        return fit(
            the,
            optimizer(*RUNS[name]),
            train,
            theta=theta,
            batch_size=BATCH,
            updates=scale.epochs * epoch,
            seed=seed,
            metrics={
                "train_error": lambda theta: share_wrong(the, theta, seen),
                "test_error": lambda theta: share_wrong(the, theta, unseen),
            },
            evaluate_every=epoch,
            callbacks=callbacks,
            progress=f"{name:28} seed {seed}" if options.progress else False,
        )
    except Diverged as failure:
        return failure.history


def objective():
    """784-90-50-10, ReLU and softmax, under cross-entropy."""
    return Objective(mlp(list(SIZES), activation="relu"), Categorical())


def optimizer(method, base):
    """SGD, or its updates corrected with the paper's parameters."""
    lr, momentum = RATES[base]
    if method.endswith("9 eta"):
        lr += 9 * ETA
    sgd, n = SGD(lr, momentum), METHODS[method]
    return HCGD(sgd, n, ETA, lam=0.5, validation=VALIDATION) if n else sgd


def passes(method):
    """Sweeps through the net, an update: 2 for the gradient, f_theta on the validation batch, 2 for a correction."""
    n = METHODS[method]
    return 2 + (1 + 2 * n if n else 0)


@cache
def images(count):
    """(training pair, test pair, what they are of); count: so many of each at most."""
    train, test = mnist()
    source = set_or_excerpt("MNIST", 60_000, len(train[0]), len(test[0]))
    return tuple(part[:count] for part in train), tuple(part[:count] for part in test), source


# --- what came out ---------------------------------------------------------------------------------------


def compare(record, base):
    """{method: {column: its difference from SGD}}; see `difference`."""
    return {
        method: {
            column: difference(record, f"{method}, {base}", f"SGD, {base}", column)
            for column in ("train_error", "test_error")
        }
        for method in list(METHODS)[1:]
    }


def until(run, column, level):
    """The first evaluation, counted in epochs, at which the column is at most `level`; infinite if none is."""
    below = np.flatnonzero(records.numbers(run["curves"][column]) <= level)
    return float(below[0]) if below.size else math.inf


def early(record, base):
    """{method: (epochs, passes) until the test error is first down to SGD's median at the end}, medians over seeds.

    Passes are counted in epochs of SGD; infinite where most seeds never are.
    """
    runs = record["results"]["runs"]
    level = np.median([run["curves"]["test_error"][-1] for run in runs[f"SGD, {base}"].values()])
    found = {}
    for method in METHODS:
        epochs = float(np.median([until(run, "test_error", level) for run in runs[f"{method}, {base}"].values()]))
        found[method] = epochs, epochs * passes(method) / passes("SGD")
    return found


def findings(record):
    """The paper's claims and one of ours, each with numbers and whether it held: [{"claim", "numbers", "held"}].

    A difference is one if its interval leaves out 0 (of one seed: if it is not 0).
    """
    found = []
    for base in RATES:
        one, ten = (difference(record, f"{name}, {base}", f"SGD, {base}", "test_error") for name in list(METHODS)[2:])
        apart = difference(record, f"HCGD, n = 10, {base}", f"HCGD, n = 1, {base}", "test_error")
        plain = difference(record, f"HCGD, n = 10, {base}", f"SGD, lr + 9 eta, {base}", "test_error")
        soon = early(record, base)
        (epochs, cost), sgd = soon["HCGD, n = 1"], soon["SGD"][0]
        found += [
            {
                "claim": f"HCGD tests better than SGD, {base}",
                "numbers": f"test error {signed(one)} % for n = 1, {signed(ten)} % for n = 10",
                "held": below_zero(one) and below_zero(ten),
            },
            {
                "claim": f"HCGD converges faster, {base}",
                "numbers": f"SGD's last test error is reached in epoch {sgd:g} by SGD, {epochs:g} for n = 1, "
                f"{soon['HCGD, n = 10'][0]:g} for n = 10",
                "held": epochs < sgd,
            },
            {
                "claim": f"n = 1 takes about SGD's passes, {base}",
                "numbers": f"{cost:g} for SGD's {sgd:g}, in epochs of SGD",
                "held": cost < 1.25 * sgd,
            },
            {
                "claim": f"n = 1 and n = 10 behave alike, {base}",
                "numbers": f"test error {signed(apart)} % for n = 10",
                "held": not differs(apart),
            },
            {
                "claim": f"(not the paper's) SGD at lr + 9 eta does what n = 10 does, {base}",
                "numbers": f"test error {signed(plain)} % for n = 10",
                "held": not differs(plain),
            },
        ]
    return found


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: test and training error by epoch and test error by passes, a row with and one without momentum."""
    layout = [[f"{panel}, {base}" for panel in ("test", "train", "passes")] for base in RATES]
    fig, axes = look.mosaic(layout, width=8.4, height=5.4)
    for name, (method, base) in RUNS.items():
        done = curves_of(record["results"]["runs"][name])
        if not done:
            continue
        cost = passes(method) / passes("SGD")
        for panel, column, scale in (
            ("test", "test_error", 1),
            ("train", "train_error", 1),
            ("passes", "test_error", cost),
        ):
            updates, errors = seeds_together(done, "update", column)
            epochs = scale * updates[1:] / updates[1]
            look.curves(axes[f"{panel}, {base}"], {method: (epochs, 100 * errors[:, 1:])})
    for base in RATES:
        axes[f"test, {base}"].set(xlabel="epochs", ylabel=f"{base}: test error (%)")
        axes[f"train, {base}"].set(xlabel="epochs", ylabel="training error (%)")
        axes[f"passes, {base}"].set(xlabel="passes, in epochs of SGD", ylabel="test error (%)")
        axes[f"passes, {base}"].set_xlim(0, record["settings"]["epochs"])
    for ax in axes.values():
        ax.set_yscale("log")
        look.plain_numbers(ax.yaxis)
    for name, ax in axes.items():
        if ax.get_lines() and not name.startswith("passes"):
            look.label_ends(ax)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """One sentence: what is shown, and what came of the paper's claims, from the record."""
    settings, seeds = record["settings"], record["seeds"]
    text = (
        f"Errors of a {'-'.join(map(str, SIZES))} net on {settings['data']}, {drawn(seeds)}, in {settings['epochs']} "
        "epochs, and by passes through the net as far as SGD goes"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    text += "; at the end, in percent against SGD"
    if len(seeds) > 1:
        text += " with 95 % intervals"
    words = []
    for base in RATES:
        differences = ", ".join(
            f"{name} {signed(found['test_error'])} in test and {signed(found['train_error'])} in training error"
            for name, found in compare(record, base).items()
        )
        words.append(f"with {base} {differences}")
    return text + ": " + "; ".join(words) + lost(record) + "."

"""The deep autoencoder on MNIST: momentum, Adam and natural gradient, for equal training time (George, section 2.5).

The net is 784-1000-500-250-30 and back, deep and narrow in the middle: the classic test of whether a method can train
through many layers. Layers are sigmoid but for the code, which is linear (as in Hinton & Salakhutdinov 2006 and Martens
2010). Outputs are Bernoulli in logit form, a matched pair, so that the Fisher metric in r is the Hessian in r; the
error shown is the thesis' squared error of the image, ||sigmoid(r) - x||^2.

From Glorot's own variance, or with a sigmoid code, signals are so faint in the middle that methods stay long where the
net reproduces nothing but the mean image, at an error of 51. So weights start sparse (Martens 2010, section 5) or with
a larger variance alpha / (n_in + n_out); a sigmoid's slope of 1/4 makes alpha = 2 into 32. Which of these, the batch
size, and learning rate or damping are each method's own, found by equally many random trials
(`tune_deep_autoencoder.py`; its record lies beside this file). One choice was not equal: that the code is linear was
settled by some ten runs of natural gradient, more than the others had, which were judged on 1,000 of the test images.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import backend
from .. import plot as look
from ..data import mnist
from ..losses import Bernoulli
from ..nets import Glorot, Sparse, autoencoder
from ..objective import Objective
from ..optimizers import SGD, Adam, ConjugateGradient, LevenbergMarquardt, NaturalGradient
from ..training import Diverged, fit, records
from .parts import drawn, earlier

NAME = "deep-autoencoder"
DESCRIPTION = "momentum, Adam and natural gradient train a deep autoencoder on MNIST for equal time"
PAPER = "George, section 2.5"

METHODS = ("momentum", "Adam", "natural gradient")
TUNED = Path(__file__).with_name("deep_autoencoder_tuned.json")
PICTURES = 12


@dataclass(frozen=True)
class Scale:
    """Seconds of training for each method and seed, images of each set (None: all), seeds."""

    seconds: float
    images: int | None
    seeds: int


SCALES = {"quick": Scale(0.7, 500, 1), "usual": Scale(40.0, None, 1), "full": Scale(1200.0, None, 3)}


def run(options):
    """Train every method with every seed; returns the record: complete, or as far as it went when Ctrl-C ended it."""
    scale, path = SCALES[options.scale], options.out / "record.json"
    train, test, source = images(scale.images)
    seeds = list(range(options.seeds or scale.seeds))
    parameters = tuned()
    settings = {
        "scale": options.scale,
        "seconds": scale.seconds,
        "data": f"{len(train)} training and {len(test)} test images of {source}",
        "objective": repr(objective()),
        "parameters": parameters,
    }
    before = earlier(path, NAME, settings, seeds) if options.resume else None
    if before and before["results"]["complete"]:
        return before
    record = records.new(NAME, settings=settings, seeds=seeds, dtype=train.dtype)
    results = {"complete": False, "curves": {}, "diverged": {}, "pictures": {"digits": picture(test[:PICTURES])}}
    record["results"] = results

    for name, seed in [(name, seed) for name in METHODS for seed in seeds]:
        history = train_one(name, parameters[name], train, test, scale.seconds, seed, options)
        results["curves"].setdefault(name, []).append(history.curves)
        if history.stopped == "diverged":
            results["diverged"][name] = f"seed {seed}, update {history.update}"
        if seed == 0:
            results["pictures"][name] = picture(objective().predict(history.theta, backend.asarray(test[:PICTURES])))
        results["complete"] = not history.interrupted and (name, seed) == (METHODS[-1], seeds[-1])
        records.save(record, path)
        if history.interrupted:
            return record
    shutil.rmtree(options.out / "checkpoints")  # the record is whole: nothing is left to resume
    return record


def train_one(name, parameters, train, test, seconds, seed, options):
    """The History of one method and seed, with "test_error" among its curves; of a diverged run what there was."""
    the, inputs = objective(parameters["init"]), backend.asarray(test)
    try:
        return fit(
            the,
            optimizer(name, parameters),
            (train, train),
            batch_size=min(parameters["batch_size"], len(train) // 5),
            time_limit=seconds,
            seed=seed,
            metrics={"test_error": lambda theta: reconstruction_error(the, theta, inputs)},
            evaluate_every=now_and_then,
            checkpoint=options.out / "checkpoints" / f"{name.replace(' ', '-')}-{seed}.npz",
            resume=options.resume,
            progress=f"{name:16} seed {seed}" if options.progress else False,
        )
    except Diverged as failure:
        return failure.history


INITIAL = {"sparse": Sparse(connections=15), "Glorot 16": Glorot(alpha=16.0), "Glorot 32": Glorot(alpha=32.0)}


def objective(initial="sparse"):
    """The papers' deep autoencoder under the Bernoulli loss."""
    return Objective(autoencoder(code="linear", init=INITIAL[initial]), Bernoulli())


def optimizer(name, parameters):
    """A method's optimizer with the given parameters (its batch size, which is the loop's, among them)."""
    if name == "momentum":
        return SGD(parameters["lr"], momentum=parameters["momentum"])
    if name == "Adam":
        return Adam(parameters["lr"])
    solver = ConjugateGradient(maxiter=parameters["iterations"])
    return NaturalGradient(damping=LevenbergMarquardt(lam=parameters["damping"]), solver=solver)


def tuned():
    """{method: its parameters}, the winners of the tuning record."""
    return records.load(TUNED)["results"]["best"]


def reconstruction_error(the, theta, x):
    """Squared error of an image, summed over its pixels, mean over images: ||sigmoid(r) - x||^2 / N."""
    e = the.predict(theta, x) - x
    return backend.item((e * e).sum()) / x.shape[0]


RARE = {round(1.35**k) for k in range(60)}


def now_and_then(update):
    """Evaluate at updates 1, 2, 3, 4, 6, 8, ..., evenly on a logarithmic scale, and at every 250th."""
    return update in RARE or update % 250 == 0


def images(count):
    """(training images (N, 784), test images, what they are of); count: so many of each at most."""
    (train, _), (test, _) = mnist()
    source = "MNIST" if len(train) == 60_000 else f"an excerpt of MNIST with {len(train) + len(test):,} images"
    return train[:count], test[:count], source


def picture(x):
    """Images in [0, 1] as whole numbers 0..255, for the record."""
    return np.rint(255 * backend.to_host(x)).astype(int)


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: test error against updates and against seconds, and digits with their reconstructions."""
    results = record["results"]
    methods = [name for name in METHODS if name in results["curves"]]
    fig, axes = look.mosaic([["update", "seconds"], ["digits", "digits"]], height=5.0, height_ratios=[3, 2.0])
    for axis, label in (("update", "updates"), ("seconds", "seconds of training")):
        ax = axes[axis]
        for name in methods:
            x, errors = seeds_together(results["curves"][name], axis)
            look.curves(ax, {name: (x[1:], errors[:, 1:])})  # the start is the same for all
        ax.set(yscale="log", xlabel=label, xscale="log" if axis == "update" else "linear")
        for side in (ax.xaxis, ax.yaxis):
            look.plain_numbers(side)
    axes["update"].set_ylabel("squared test error of an image")
    rows = {"digits": results["pictures"]["digits"]}
    rows |= {f"{name}\n{stated(record, name)}": results["pictures"][name] for name in methods}
    look.strip(axes["digits"], {label: np.array(row) / 255 for label, row in rows.items()})
    for axis in ("update", "seconds"):
        look.label_ends(axes[axis])
    path = folder / f"{NAME}.png"
    look.save(fig, path, caption=caption(record))
    return [path]


def seeds_together(runs, axis):
    """(x, errors (seeds, points)): all seeds at the first one's evaluations, as far as every seed came."""
    columns = [(records.numbers(run[axis]), records.numbers(run["test_error"])) for run in runs]
    grid = columns[0][0]
    grid = grid[grid <= min(x[-1] for x, _ in columns)]
    return grid, np.array([np.interp(grid, x, error) for x, error in columns])


def caption(record):
    """One sentence: what is shown, and which method is ahead by updates and by seconds, read off the record."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    text = (
        "Squared reconstruction error of an image (sum over 784 pixels, mean over the test images) of the "
        f"784-1000-500-250-30 autoencoder, trained on cross-entropy with {settings['data']}, {drawn(seeds)}"
    )
    curves = {axis: {} for axis in ("update", "seconds")}
    for axis, name in [(axis, name) for axis in curves for name in results["curves"]]:
        x, errors = seeds_together(results["curves"][name], axis)
        curves[axis][name] = x, np.median(errors, axis=0)
    if len(curves["update"]) < len(METHODS):
        return text + ": unfinished."
    text += f": after {ahead(curves['update'], 'updates')}; after {ahead(curves['seconds'], 's of training')}"
    return text + "".join(f"; {name} diverged ({when})" for name, when in results["diverged"].items()) + "."


def ahead(curves, unit):
    """Which of {method: (x, error)} is best at the last x that all have reached."""
    where = min(x[-1] for x, _ in curves.values())
    (least, first), *others = sorted((float(np.interp(where, x, error)), name) for name, (x, error) in curves.items())
    rest = " and ".join(f"{error:.3g} for {name}" for error, name in others)
    return f"{where:.0f} {unit} {first} is ahead, with {least:.3g} against {rest}"


def stated(record, name):
    """The parameters of a method in a few words."""
    words = {"batch_size": "batch", "lr": "lr", "momentum": "mu", "damping": "lam", "iterations": "CG"}
    parameters = record["settings"]["parameters"][name]
    numbers = ", ".join(f"{word} {parameters[key]:.3g}" for key, word in words.items() if key in parameters)
    return f"{parameters['init']}, {numbers}"

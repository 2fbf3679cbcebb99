"""Centring the gradient, or the net: SGD, centred gradient descent, mean-only batch normalization (George, figure 3.1).

The thesis leaves this figure "WIP" and says neither net nor numbers; so they are ours. An autoencoder of sigmoid units
with a linear code, 784-250-30 and back, learns MNIST under Bernoulli outputs from Glorot's weights, in batches of 100:
sigmoids lie around 1/2, so a layer's input has a mean of length sqrt(n) / 2, far from the zero that centring wants. No
momentum, no weight decay; the learning rate is constant.

    SGD                    the gradient
    centred GD             weights see their input less the batch's mean: no gradient of anything (`CentredGD`)
    mean-only BN           SGD on a net that takes the batch's mean off each hidden pre-activation, and is judged with
                           the means of 1,000 training images instead

In one layer the last two move the weights alike: E[(h - mu)' delta]. They differ in what goes further down, for batch
normalization takes the mean off delta too, and in the bias, which it holds beside the mean; and the last layer is not
normalized.

Every method has the same learning rates to choose from, one short run each, on 50,000 of the training images, judged by
its reconstruction error on the other 10,000. All runs have equally many updates; the seconds are what those took.
"""

import math
from dataclasses import dataclass

import numpy as np

from .. import backend
from .. import plot as look
from ..backend import xp
from ..curvature import input_means
from ..data import split
from ..losses import Bernoulli
from ..nets import MeanOnly, autoencoder
from ..objective import Objective
from ..optimizers import SGD, CentredGD
from ..training import Diverged, fit, records
from .deep_autoencoder_task import images, now_and_then, reconstruction_error
from .parts import drawn, run_parts, seeds_together

NAME = "centering"
DESCRIPTION = "SGD, centred gradient descent and mean-only batch normalization train an autoencoder"
PAPER = "George, figure 3.1"

METHODS = {  # optimizer, normalization of the net
    "SGD": (SGD, None),
    "centred GD": (CentredGD, None),
    "mean-only BN": (SGD, MeanOnly()),
}
RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES, BATCH, PROBE = (784, 250, 30), 100, 1000


@dataclass(frozen=True)
class Scale:
    """Updates of a run and of a trial, images of each set (None: all), seeds."""

    updates: int
    trial: int
    images: int | None
    seeds: int


SCALES = {"quick": Scale(10, 2, 600, 1), "usual": Scale(1000, 250, None, 1), "full": Scale(10_000, 2500, None, 3)}


def run(options):
    """The trials of each method, then all seeds at its best learning rate; returns the record, see `run_parts`."""
    scale = SCALES[options.scale]
    train, test, source = images(scale.images)
    (shown, _), (held_out, _) = split(train, None, len(train) // 6, np.random.default_rng(0))
    seeds = list(range(options.seeds or scale.seeds))
    settings = {
        "updates": scale.updates,
        "trial": scale.trial,
        "batch_size": BATCH,
        "rates": list(RATES),
        "methods": list(METHODS),
        "data": f"{len(train)} training and {len(test)} test images of {source}",
        "objective": repr(objective(None)),
    }
    parts = {}
    for method in METHODS:
        for lr in RATES:
            parts[trial(method, lr)] = lambda results, method=method, lr=lr: train_one(
                method, lr, shown, held_out, scale.trial, 0, options, evaluate_every=scale.trial
            )
    for seed in seeds:
        for method in METHODS:
            parts[final(method, seed)] = lambda results, method=method, seed=seed: train_one(
                method, best(results, method), train, test, scale.updates, seed, options
            )
    return run_parts(NAME, options, settings, seeds, parts, train.dtype)


def trial(method, lr):
    """The name of a trial's part of the results."""
    return f"{method}, lr {lr:g}"


def final(method, seed):
    """The name of a run's part of the results."""
    return f"{method}, seed {seed}"


def objective(normalization):
    """The autoencoder under the Bernoulli loss."""
    return Objective(autoencoder(SIZES, code="linear", normalization=normalization), Bernoulli())


def best(results, method):
    """The learning rate of the trial with the smallest error; a diverged one has NaN."""
    errors = records.numbers([results[trial(method, lr)]["curves"]["test_error"][-1] for lr in RATES])
    return RATES[int(np.argmin(np.where(np.isnan(errors), np.inf, errors)))]


def train_one(method, lr, train, test, updates, seed, options, evaluate_every=now_and_then):
    """One run: {"lr", "curves", "means": {layer: |E[h]|} at the end}; None after Ctrl-C.

    A diverged run has NaN at the end of its curves, and no means.
    Curves: test_error, and cosine: of the angle between the gradient and the centred gradient, on training images.
    """
    kind, normalization = METHODS[method]
    the, inputs, probe = objective(normalization), backend.asarray(test), backend.asarray(train[:PROBE])
    metrics = {"test_error": lambda theta: reconstruction_error(the.settled(theta, probe), theta, inputs)}
    if normalization is None:
        metrics["cosine"] = lambda theta: cosine(the, theta, (probe, probe))
    try:
        history = fit(
            the,
            kind(lr),
            (train, train),
            batch_size=BATCH,
            updates=updates,
            seed=seed,
            metrics=metrics,
            evaluate_every=evaluate_every,
            train_samples=PROBE,
            progress=f"{method:20} lr {lr:g} seed {seed}" if options.progress else False,
        )
    except Diverged as failure:
        curves = {name: [*column, math.nan] for name, column in failure.history.curves.items()}
        return {"lr": lr, "curves": curves, "means": {}}
    if history.interrupted:
        return None
    _, J = the.linearize(history.theta, probe)
    means = {name: backend.item(xp.linalg.norm(mean)) for name, mean in input_means(J).items()}
    return {"lr": lr, "curves": history.curves, "means": means}


def cosine(the, theta, batch):
    """Of the angle between the gradient and the centred gradient: negative where centring leads uphill."""
    _, g = the.value_and_grad(theta, batch)
    _, centred, _ = CentredGD(1.0).gradient(theta, {}, the, batch, None, None)
    return backend.item(g @ centred / (xp.linalg.norm(g) * xp.linalg.norm(centred)))


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: test error by updates and seconds, held-out error by learning rate, the centred gradient's angle."""
    fig, axes = look.mosaic([["update", "seconds"], ["lr", "cosine"]], height=5.2)
    for method, found in finished(record).items():
        curves = [run["curves"] for run in found]
        for axis in ("update", "seconds"):
            x, errors = seeds_together(curves, axis)
            look.curves(axes[axis], {method: (x[1:], errors[:, 1:])})  # the start is the same for all
        if "cosine" in curves[0]:
            cosines = np.array([records.numbers(run["cosine"]) for run in curves])
            look.curves(axes["cosine"], {method: (curves[0]["update"][1:], cosines[:, 1:])})
    for method in METHODS:
        done = [record["results"].get(trial(method, lr)) for lr in RATES]
        pairs = [(run["lr"], run["curves"]["test_error"][-1]) for run in done if run and run["means"]]
        if pairs:
            look.curves(axes["lr"], {method: tuple(zip(*pairs))})
    axes["update"].set(xlabel="updates", ylabel="squared test error of an image")
    axes["seconds"].set(xlabel="seconds of training")
    axes["lr"].set(xlabel="learning rate", ylabel="held-out error of a trial")
    axes["cosine"].set(xlabel="updates", ylabel="cos(gradient, centred)", ylim=(-1, 1))
    logarithmic = {"update": "xy", "seconds": "y", "lr": "xy", "cosine": "x"}
    for name, ax in axes.items():
        if ax.get_lines():
            ax.set(**{f"{side}scale": "log" for side in logarithmic[name]})
            for side in (ax.xaxis, ax.yaxis):
                look.plain_numbers(side)
            look.label_ends(ax)
    axes["cosine"].axhline(0.0, color=look.GREY, linewidth=0.8)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def finished(record):
    """{method: its runs so far, seed by seed}, without methods that have none and runs that diverged."""
    results, seeds = record["results"], record["seeds"]
    found = {}
    for method in METHODS:
        runs = [results[final(method, seed)] for seed in seeds if final(method, seed) in results]
        runs = [run for run in runs if run["means"]]
        if runs:
            found[method] = runs
    return found


def caption(record):
    """One sentence: what is shown, and what came of it, read off the record."""
    settings, runs = record["settings"], finished(record)
    text = (
        f"Squared reconstruction error of an image (sum over 784 pixels, mean over the test images) of the "
        f"784-250-30 autoencoder of sigmoids, trained on cross-entropy with {settings['data']}, in batches of "
        f"{settings['batch_size']}, {drawn(record['seeds'])}; below, trials of {settings['trial']} updates, and the "
        "cosine between gradient and centred gradient (a negative one leads uphill)"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    words = []
    for method, found in runs.items():
        error = np.median([run["curves"]["test_error"][-1] for run in found])
        seconds = np.median([run["curves"]["seconds"][-1] for run in found])
        cost = 1000 * seconds / settings["updates"]
        words.append(f"{error:.3g} for {method} (lr {found[0]['lr']:g}, {cost:.3g} ms each)")
    text += f": after {settings['updates']} updates " + ", ".join(words)
    if "centred GD" in runs:
        lowest = min(min(run["curves"]["cosine"]) for run in runs["centred GD"])
        longest = max(max(run["means"].values()) for run in runs["centred GD"])
        text += f"; on centred GD's way the cosine is {lowest:.2g} at least"
        text += f", and at its end a layer's mean input is up to {longest:.0f} long"
    lost = [method for method in METHODS if len(runs.get(method, [])) < len(record["seeds"])]
    return text + "".join(f"; {method} diverged" for method in lost) + "."

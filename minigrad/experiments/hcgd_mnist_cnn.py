"""SGD, Adam and HCGD train a convolutional net with batch normalization on MNIST (Benjamin et al. 2018, figure 3).

From the paper: "a 3-layer convolutional neural network with Batch Normalization", one correction an update, lam 0.5,
eta 0.02, validation batches of 256 training images, SGD's own learning rate for HCGD too, ten seeds. It says "tuned" of
that rate, and neither which it is for this net, nor momentum, nor anything of Adam. Ours to state: the rate 0.04 with
momentum 0.9, which its perceptron has; Adam at 0.001, its authors'; batches of 128; 40 epochs; the net, for which see
`nets.three_layer_convnet`. Nothing is tuned here. The net is evaluated with the statistics of 1,000 training images;
HCGD's distance is between nets that are normalized by the validation batch itself.

An update of HCGD costs 11/3 gradients of a batch: its own, and on a validation batch of twice the size another and a
forward pass. So errors are shown by that cost too.

The usual form is reduced for a CPU of two cores: 5,000 training and 5,000 test images, 10 epochs, 3 seeds. The paper's
scale, for whoever has a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run hcgd-mnist-cnn --full
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import plot as look
from ..losses import Categorical
from ..nets import three_layer_convnet
from ..objective import Objective
from ..optimizers import HCGD, SGD, Adam
from ..training import records
from .classifiers import COLUMNS, train_classifier
from .comparison import below_zero, difference, lost, signed, whole
from .hcgd_mnist import images
from .parts import curves_of, drawn, form, kept, run_seeds, seeds_together

NAME = "hcgd-mnist-cnn"
DESCRIPTION = "SGD, Adam and HCGD on a batch-normalized convolutional net"
PAPER = "Benjamin et al. 2018, figure 3"

RATE, MOMENTUM, ETA, LAM, VALIDATION = 0.04, 0.9, 0.02, 0.5, 256
METHODS = ("SGD", "Adam", "HCGD, n = 1")
BATCH = 128


@dataclass(frozen=True)
class Scale:
    """Epochs, and how many between evaluations; training and test images (None: all), training images that errors are
    measured on; seeds, runs at once (None: one, on all cores)."""

    epochs: int
    every: int
    images: int | None
    measured: int
    seeds: int
    cores: int | None = None


SCALES = {
    "quick": Scale(2, 1, 256, 100, 1),
    "usual": Scale(10, 2, 5000, 1000, 3, cores=2),
    "full": Scale(40, 1, None, 10_000, 10),
}


def run(options):
    """Every method with every seed; returns the record, see `run_seeds`."""
    scale = SCALES[options.scale]
    (x, _), (test, _), source = images(scale.images)
    settings = {
        "epochs": scale.epochs,
        "epoch": len(x) // BATCH,  # its updates
        "batch_size": BATCH,
        "data": f"{len(x):,} training and {len(test):,} test images of {source}",
        "measured": min(scale.measured, len(x)),
        "objective": repr(objective()),
        "optimizers": {name: repr(optimizer(name)) for name in METHODS},
        "cores": scale.cores,
    }
    seeds = list(range(options.seeds or scale.seeds))
    return run_seeds(NAME, options, settings, x.dtype, seeds, METHODS, partial(outcome, scale), scale.cores)


def outcome(scale, options, job):
    """What the record keeps of a method and seed; None after Ctrl-C."""
    train, test, _ = images(scale.images)
    epoch = len(train[0]) // BATCH
    history = train_classifier(
        objective(),
        optimizer(job[0]),
        train,
        test,
        options,
        job,
        batch_size=BATCH,
        updates=scale.epochs * epoch,
        every=scale.every * epoch,
        measured=scale.measured,
        cores=scale.cores,
    )
    return kept(history, COLUMNS)


def objective():
    """The net of figure 3 under cross-entropy."""
    return Objective(three_layer_convnet(), Categorical())


def optimizer(name):
    """One of METHODS; HCGD corrects that same SGD."""
    sgd = SGD(RATE, MOMENTUM)
    return {"SGD": sgd, "Adam": Adam(), "HCGD, n = 1": HCGD(sgd, 1, ETA, lam=LAM, validation=VALIDATION)}[name]


# --- what came out ---------------------------------------------------------------------------------------


def findings(record):
    """The paper's claim, and one of ours about cost: [{"claim", "numbers", "held"}].

    A difference is one if its 95 % interval leaves out 0 (of one seed: if it is not 0).
    """
    hcgd, found = METHODS[2], []
    for other in METHODS[:2]:
        apart = difference(record, hcgd, other, "test_error")
        found.append({
            "claim": f"HCGD tests better than {other}",
            "numbers": f"test error {signed(apart)} %",
            "held": below_zero(apart),
        })  # fmt: skip
    then = at_equal_cost(record, hcgd, "SGD")
    found.append({
        "claim": "(not the paper's) HCGD tests better than SGD for as many gradients",
        "numbers": ", ".join(f"{100 * a:.2f} against {100 * b:.2f} %" for a, b in then) or "no seed ended",
        "held": bool(then) and all(a < b for a, b in then),
    })  # fmt: skip
    return found


def at_equal_cost(record, one, other):
    """[(one's test error at the other's last count of gradients, the other's last test error)], seed by seed."""
    ones, others = (whole(record["results"]["runs"][name]) for name in (one, other))
    pairs = []
    for seed in ones:
        if seed not in others:
            continue
        curves, last = ones[seed]["curves"], others[seed]["curves"]
        cost, errors = records.numbers(curves["gradients"]), records.numbers(curves["test_error"])
        pairs.append((float(np.interp(last["gradients"][-1], cost, errors)), last["test_error"][-1]))
    return pairs


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: test and training error by epochs, test error by cost."""
    fig, axes = look.mosaic([["test", "train", "cost"]], width=9.6, height=3.2)
    for name in METHODS:
        curves = curves_of(record["results"]["runs"][name])
        if not curves:
            continue
        updates, test = seeds_together(curves, "update")
        _, train = seeds_together(curves, "update", "train_error")
        epochs = updates / record["settings"]["epoch"]
        cost, by_cost = seeds_together(curves, "gradients")
        look.curves(axes["test"], {name: (epochs[1:], 100 * test[:, 1:])})
        look.curves(axes["train"], {name: (epochs[1:], 100 * train[:, 1:])})
        look.curves(axes["cost"], {name: (cost[1:], 100 * by_cost[:, 1:])})
    axes["test"].set(xlabel="epochs", ylabel="test error (%)")
    axes["train"].set(xlabel="epochs", ylabel="training error (%)")
    axes["cost"].set(xlabel="gradients of a batch", ylabel="test error (%)")
    for ax in axes.values():
        ax.set_ylim(bottom=0)
    for name in ("test", "train"):
        if axes[name].get_lines():
            look.label_ends(axes[name])
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """One sentence: what is shown, and what came of the paper's claim, from the record."""
    settings, seeds = record["settings"], record["seeds"]
    text = (
        f"Errors of a 3-layer convolutional net with batch normalization on {settings['data']}, {drawn(seeds)}, in "
        f"{settings['epochs']} epochs ({form(settings)}; training error on {settings['measured']:,} images), "
        "and test error by what updates cost"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    words = []
    for other in METHODS[:2]:
        test, train = (signed(difference(record, METHODS[2], other, f"{part}_error")) for part in ("test", "train"))
        words.append(f"against {other} {test} in test and {train} in training error")
    interval = " with its 95 % interval" if len(seeds) > 1 else ""
    return f"{text}; HCGD at the end, in percent{interval}: {', '.join(words)}{lost(record)}."

"""An LSTM reads digits pixel by pixel: SGD and Adam, and both with corrections (Benjamin et al. 2019, figure 6).

From the paper: one layer of 128 hidden units reads the 784 pixels of MNIST's digits, one a step, all digits in the same
permuted order; SGD and Adam at learning rate 0.01; n = 1, 2 and 5 corrections of SGD's updates, and one of Adam's; lam
0.5, eta 0.02, validation batches of 256 training images. Not in the paper, so ours to state: the order is that of seed
0, pixels are scaled to mean 0 and variance 1, batches of 128, Glorot's initial weights and a forget bias of 1, no
momentum, one validation batch an update, and ten epochs.

The full form takes 784 steps a pass, one after the other, and is meant for a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run sequential-mnist --full

It goes on with --resume from where it was stopped, within a run too. The usual form is reduced to what one core does in
some twenty minutes: digits averaged to 7 x 7, so 49 steps; 32 hidden
units; batches of 32, validation batches of 64; 1,000 updates, which see half of the training images once; errors on
2,000 test images. Learning rates, eta, lam and n are the paper's.

Section 3.3 says of eta = 0.02 that it is "about 10 times less" than the learning rate, but of 0.01 it is the double. So
two methods run at eta = 0.1 lr as well. And all corrections but the first step down the loss too, by eta g: five of
them are SGD at lr + 4 eta, nine times its rate, before the penalty says anything. So plain SGD runs at that rate too.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from .. import backend
from .. import plot as look
from ..losses import Categorical
from ..nets import lstm
from ..objective import Objective
from ..optimizers import HCGD, SGD, Adam
from ..training import Diverged, fit, records, share_wrong
from . import hcgd_mnist
from .comparison import below_zero, difference, differs, lost, signed, whole
from .parts import checkpoints, curves_of, drawn, kept, rounded, run_seeds, seeds_together, verdict

NAME = "sequential-mnist"
DESCRIPTION = "SGD and Adam, with and without corrections, for an LSTM that reads permuted pixels"
PAPER = "Benjamin et al. 2019, figure 6"

RATE, ETA, LAM = 0.01, 0.02, 0.5
SMALL = "eta = 0.1 lr"
METHODS = {  # base, its learning rate, corrections, eta
    "SGD": (SGD, RATE, 0, None),
    "SGD, lr + 4 eta": (SGD, RATE + 4 * ETA, 0, None),
    "SGD+HC, n = 1": (SGD, RATE, 1, ETA),
    "SGD+HC, n = 2": (SGD, RATE, 2, ETA),
    "SGD+HC, n = 5": (SGD, RATE, 5, ETA),
    f"SGD+HC, n = 1, {SMALL}": (SGD, RATE, 1, RATE / 10),
    "Adam": (Adam, RATE, 0, None),
    "Adam+HC": (Adam, RATE, 1, ETA),
    f"Adam+HC, {SMALL}": (Adam, RATE, 1, RATE / 10),
}


@dataclass(frozen=True)
class Scale:
    """Pixels along a side, hidden units, training images (None: all), batch and validation batch, updates, test images
    that errors are measured on, seeds. reduced: from what to what, None if it is not."""

    side: int
    hidden: int
    images: int | None
    batch: int
    validation: int
    updates: int
    measured: int
    seeds: int
    reduced: str | None


REDUCED = "reduced from 28 x 28 pixels, 128 hidden units, batches of 128 and 256, and ten epochs"
SCALES = {
    "quick": Scale(7, 8, 1000, 32, 64, 20, 200, 1, REDUCED),
    "usual": Scale(7, 32, None, 32, 64, 1000, 2000, 3, REDUCED),
    "full": Scale(28, 128, None, 128, 256, 4680, 10_000, 3, None),
}
EVALUATIONS = 20


def run(options):
    """All methods with all seeds, one by one; returns the record, see `run_seeds`."""
    scale = SCALES[options.scale]
    (x, _), (test, _), source = sequences(scale)
    settings = {
        "updates": scale.updates,
        "batch_size": scale.batch,
        "validation": scale.validation,
        "side": scale.side,
        "hidden": scale.hidden,
        "reduced": scale.reduced,
        "data": f"{len(x):,} training and {min(scale.measured, len(test)):,} test images of {source}",
        "objective": repr(objective(scale)),
        "optimizers": {method: repr(optimizer(scale, method)) for method in METHODS},
    }
    seeds = list(range(options.seeds or scale.seeds))
    return run_seeds(NAME, options, settings, x.dtype, seeds, METHODS, partial(outcome, scale))


def outcome(scale, options, job):
    """What the record keeps of a method and seed; None after Ctrl-C, and then a checkpoint has it.

    curves: at some twenty evaluations. pull, of methods with corrections of SGD: the median over all updates of how
    long the sum of the corrections is, over how long the step lr |g| that it corrects.
    """
    history = train_one(scale, options, job)
    found, steps = kept(history, ("update", "loss", "test_error")), history.steps
    if found and "correction" in steps and METHODS[job[0]][0] is SGD and history.update:
        step = np.multiply(steps["lr"], steps["gradient_norm"])
        found["pull"] = rounded([np.median(np.divide(steps["correction"], step))])[0]
    return found


def train_one(scale, options, job):
    """The History of one of METHODS with a seed; of one that diverged what there was."""
    method, seed = job
    train, test, _ = sequences(scale)
    the = objective(scale)
    unseen = tuple(backend.asarray(part[: scale.measured]) for part in test)
    try:
        return fit(
            the,
            optimizer(scale, method),
            train,
            batch_size=scale.batch,
            updates=scale.updates,
            seed=seed,
            metrics={"test_error": lambda theta: share_wrong(the, theta, unseen)},
            evaluate_every=max(5, scale.updates // EVALUATIONS),
            checkpoint=checkpoints(options, job) / "run.npz",
            resume=options.resume,
            progress=f"{method:28} seed {seed}" if options.progress else False,
        )
    except Diverged as failure:
        return failure.history


def objective(scale):
    """One LSTM layer over single pixels, and a softmax after the last, under cross-entropy."""
    return Objective(lstm(1, scale.hidden, 10), Categorical())


def optimizer(scale, method):
    """SGD or Adam, or their updates corrected."""
    base, lr, n, eta = METHODS[method]
    return HCGD(base(lr), n, eta, lam=LAM, validation=scale.validation) if n else base(lr)


@cache
def sequences(scale):
    """(training pair, test pair, what they are of), x (N, side * side, 1): pixels in an order that all digits share."""
    (x, t), (test, test_t), source = hcgd_mnist.images(scale.images)
    x, test = averaged(x, scale.side), averaged(test, scale.side)
    mean, deviation = x.mean(), x.std()
    order = np.random.default_rng(0).permutation(scale.side**2)
    x, test = ((((part - mean) / deviation)[:, order, None]) for part in (x, test))
    return (x, t), (test, test_t), source


def averaged(x, side):
    """Images (N, 28 * 28) as (N, side * side), each pixel the mean of a square of theirs."""
    width = 28 // side
    return x.reshape(-1, side, width, side, width).mean(axis=(2, 4)).reshape(-1, side**2)


# --- what came out ---------------------------------------------------------------------------------------


def findings(record):
    """The paper's claims and ours, each with numbers and whether it held: [{"claim", "numbers", "held"}].

    All are about test errors at the end, compared seed by seed; a difference is one if its interval leaves out 0 (of
    one seed: if it is not 0).
    """
    apart = partial(difference, record, column="test_error")
    one, two, five = (f"SGD+HC, n = {n}" for n in (1, 2, 5))
    better, worse = below_zero, lambda pair: differs(pair) and not below_zero(pair)
    pulls = {method: pull(record, method) for method in (one, f"{one}, {SMALL}")}
    second, more = apart(two, one), apart(five, two)
    judged = [
        ("SGD+HC tests better than SGD, n = 1", apart(one, "SGD"), better),
        (f"SGD+HC tests better than SGD, n = 1, {SMALL}", apart(f"{one}, {SMALL}", "SGD"), better),
        ("SGD+HC tests worse than Adam, n = 5", apart(five, "Adam"), worse),
        ("Adam+HC tests better than Adam", apart("Adam+HC", "Adam"), better),
        (f"Adam+HC tests better than Adam, {SMALL}", apart(f"Adam+HC, {SMALL}", "Adam"), better),
        ("(not the paper's) n = 5 tests better than SGD at lr + 4 eta", apart(five, "SGD, lr + 4 eta"), better),
    ]  # fmt: skip
    found = [{"claim": claim, "numbers": f"{signed(pair)} %", "held": held(pair)} for claim, pair, held in judged]
    found[2:2] = [
        {
            "claim": "more corrections test better",
            "numbers": f"{signed(second)} % for n = 2 against 1, {signed(more)} % for 5 against 2",
            "held": below_zero(second) and below_zero(more),
        }
    ]
    return [
        *found,
        {
            "claim": "(not the paper's) a correction is shorter than the step that it corrects",
            "numbers": f"{pulls[one]:.2g} times as long at eta = {ETA}, {pulls[f'{one}, {SMALL}']:.2g} at {SMALL}",
            "held": all(length < 1 for length in pulls.values()),
        },
    ]


def pull(record, method):
    """The median over seeds of a method's "pull", see `outcome`; NaN where every run diverged."""
    runs = whole(record["results"]["runs"][method])
    return float(np.median([run["pull"] for run in runs.values()])) if runs else np.nan


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: test error by updates, of the methods that start from SGD and of those that start from Adam."""
    fig, axes = look.figure(1, 2, width=8.4, height=3.8, sharey=True)
    for method, (base, *_) in METHODS.items():
        done = curves_of(record["results"]["runs"][method])
        if done:
            updates, errors = seeds_together(done, "update", "test_error")
            look.curves(axes[0 if base is SGD else 1], {method: (updates, 100 * errors)})
    axes[0].set(xlabel="updates", ylabel="test error (%)")
    axes[1].set(xlabel="updates")
    for ax in axes:
        ax.tick_params(labelleft=True)
        if ax.get_lines():
            look.label_ends(ax)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """What is shown, how far it is reduced, and what came of the claims, from the record."""
    settings, seeds = record["settings"], record["seeds"]
    side = settings["side"]
    form = f"{settings['reduced']} to " if settings["reduced"] else ""
    text = (
        f"Test errors of an LSTM that reads {settings['data']} pixel by pixel, {drawn(seeds)}; {form}{side} x {side} "
        f"pixels, {settings['hidden']} hidden units, batches of {settings['batch_size']} and {settings['validation']}, "
        f"{settings['updates']:,} updates"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    text += lost(record) + ". At the end"
    if len(seeds) > 1:
        text += ", differences with 95 % intervals"
    ends = "; ".join(f"{method} {100 * end(record, method):.1f} %" for method in METHODS)
    words = "; ".join(map(verdict, findings(record)))
    return f"{text}: {ends}. {words}."


def end(record, method):
    """The median over seeds of a method's last test error; NaN where every run diverged."""
    runs = whole(record["results"]["runs"][method])
    return float(np.median([records.numbers(run["curves"]["test_error"])[-1] for run in runs.values()] or [np.nan]))

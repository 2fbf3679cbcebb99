"""Whose batch measures the metric: restricted MNIST (Pascanu & Bengio, section 8.5: figure 4, first row of table 1).

Natural gradient is said to overfit less if its metric is measured on samples other than the gradient's, best on
unlabeled ones (their section 5). A net of one hidden layer learns from few labelled images by five methods:

    SGD                    the paper's MSGD, batches of a tenth
    KL, unlabeled          exact Fisher information, measured on images whose labels are not used
    KL, different batch    ... on another batch of the labelled images
    KL, same batch         ... on the gradient's own batch: Hessian-free
    TONGA                  the paper's "covariance": U = E[gg'] over the gradient's batch (eq. 13, uncentred)

From the paper: 1500 hidden units, batches of 2500 and 250, constant learning rates, Levenberg-Marquardt with eq. 30 for
unlabeled data alone, 20 updates of SGD for one of the others, solves that start from zero (algorithm 1).
Not in the paper, so ours to state: 5,000 labelled images, drawn anew for each seed but shared by the methods, the other
training images unlabeled; tanh; Glorot's initial weights. Other than in the paper: 300 and 6,000 updates for its 2000
and 40000; at most 15 iterations a solve for its 20, by conjugate gradients, which also stop when they gain nothing, for
its MINRES-QLP; the covariance's system solved exactly, in the space of samples. A step is theta + lr d and taken
without a test, but that Levenberg-Marquardt does not take one that raises the loss of its batch. Two batches of 2,500
out of 5,000 share half of their images.

Each method's learning rate and damping are the best of equally many trials on held-out training images of MNIST, the
paper's own first among them (`tune_metric_batch.py`; its record lies beside this file), for Fashion-MNIST too.

The paper's table has no intervals. On 10,000 test images an error of 5 % has a standard error of 0.2 %, as much as most
of the table's differences; so whether a claim holds is counted seed by seed, on the same images.
"""

import itertools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import backend
from .. import plot as look
from ..data import fashion_mnist, mnist, split
from ..losses import Categorical
from ..nets import mlp
from ..objective import Objective
from ..optimizers import (
    SGD,
    TONGA,
    ConjugateGradient,
    FixedDamping,
    LevenbergMarquardt,
    NaturalGradient,
    Unlabeled,
)
from ..training import Diverged, fit, records, share_wrong
from .parts import drawn, earlier, of_seeds

NAME = "metric-batch"
DESCRIPTION = "whose batch measures the metric: natural gradient, TONGA and SGD on few labelled images"
PAPER = "Pascanu & Bengio, figure 4, table 1"

METHODS = ("SGD", "KL, unlabeled", "KL, different batch", "KL, same batch", "TONGA")
PAPERS_TABLE = {  # (training cross-entropy, test error in percent)
    "SGD": (0.0523, 5.22),
    "KL, unlabeled": (0.0017, 4.63),
    "KL, different batch": (0.0012, 4.89),
    "KL, same batch": (0.0023, 4.91),
    "TONGA": (0.0006, 4.74),
}
PAPERS_PARAMETERS = {  # damping: lam, or where Levenberg-Marquardt starts
    "SGD": {"lr": 1.0},
    "KL, unlabeled": {"lr": 5.0, "damping": 2.0},
    "KL, different batch": {"lr": 0.1, "damping": 0.01},
    "KL, same batch": {"lr": 0.1, "damping": 0.01},
    "TONGA": {"lr": 5.0, "damping": 0.1},
}
CLAIMS = {  # what the table says: this column is lower for each of these than for any of those
    "the unlabeled metric has the lowest test error": ("test", METHODS[1:2], METHODS[:1] + METHODS[2:]),
    "a different batch tests better than the same": ("test", METHODS[2:3], METHODS[3:4]),
    "all metrics test better than SGD": ("test", METHODS[1:], METHODS[:1]),
    "TONGA fits the training images best": ("train", METHODS[4:], METHODS[:4]),
    "yet tests worse than the unlabeled metric": ("test", METHODS[1:2], METHODS[4:]),
}
TUNED = Path(__file__).with_name("metric_batch_tuned.json")
SETS = {"MNIST": mnist, "Fashion-MNIST": fashion_mnist}
UPDATES_OF_SGD, BATCHES_OF_SGD = 20, 10  # for one update of the others; out of one batch of theirs
ITERATIONS = 15  # of a solve, at most


@dataclass(frozen=True)
class Scale:
    """Updates and batch of the metric methods, labelled images, hidden units, seeds, data sets."""

    updates: int
    batch: int
    labelled: int
    hidden: int
    seeds: int
    sets: tuple


SCALES = {
    "quick": Scale(3, 200, 400, 30, 1, ("MNIST",)),
    "usual": Scale(60, 2500, 5000, 1500, 1, ("MNIST",)),
    "full": Scale(300, 2500, 5000, 1500, 3, ("MNIST", "Fashion-MNIST")),
}


def run(options):
    """Train every method with every seed; returns the record: complete, or as far as it went when Ctrl-C ended it."""
    scale, path = SCALES[options.scale], options.out / "record.json"
    sets = {name: SETS[name]() for name in scale.sets}  # all of them now, not after hours with the first
    seeds = list(range(options.seeds or scale.seeds))
    parameters = tuned()
    settings = {
        "scale": options.scale,
        "hidden": scale.hidden,
        "updates": {name: schedule(name, scale)[0] for name in METHODS},
        "batches": {name: schedule(name, scale)[1] for name in METHODS},
        "data": {name: described(name, train, test, scale) for name, (train, test) in sets.items()},
        "objective": repr(objective(scale)),
        "iterations": ITERATIONS,
        "parameters": parameters,
        "paper's parameters": PAPERS_PARAMETERS,
    }
    before = earlier(path, NAME, settings, seeds) if options.resume else None
    if before and before["results"]["complete"]:
        return before
    record = records.new(NAME, settings=settings, seeds=seeds, dtype="float32")
    results = {"complete": False, "curves": {name: {} for name in sets}, "solves": {name: {} for name in sets}}
    results |= {"diverged": {name: {} for name in sets}, "table": {}, "claims": {}, "paper's table": PAPERS_TABLE}
    record["results"] = results

    everything = list(itertools.product(sets, METHODS, seeds))
    for number, (data, name, seed) in enumerate(everything, start=1):
        label = f"{number} of {len(everything)}: {data}, {name}, seed {seed}"
        history = train_one(name, parameters[name], *sets[data], scale, seed, options, data, label=label)
        results["curves"][data].setdefault(name, []).append(history.curves)
        results["solves"][data].setdefault(name, []).append(solves(history))
        if history.stopped == "diverged":
            results["diverged"][data][name] = f"seed {seed}, update {history.update}"
        results["table"] = {each: table(curves, settings["updates"]) for each, curves in results["curves"].items()}
        results["claims"] = {each: claims(rows) for each, rows in results["table"].items()}
        results["complete"] = not history.interrupted and (data, name, seed) == everything[-1]
        records.save(record, path)
        if history.interrupted:
            return record
    shutil.rmtree(options.out / "checkpoints")  # the record is whole: nothing is left to resume
    return record


RARE = {round(1.2**k) for k in range(60)}


def now_and_then(update):
    """Evaluate at updates 1, 2, 3, 4, 5, 6, 7, 9, 11, ..., evenly on a logarithmic scale."""
    return update in RARE


def train_one(
    name, parameters, train, test, scale, seed, options, data="MNIST", evaluate_every=now_and_then, label=NAME
):
    """The History of one method and seed, with "test_error" among its curves; of a diverged run what there was.

    The labelled images are the seed's draw from `train`, the same for every method; all others are the unlabeled ones.
    """
    need = scale.labelled + scale.batch
    if len(train[0]) < need:
        raise ValueError(f"{NAME}: {data} must have {need} training images at this scale, got {len(train[0])}")
    (unlabeled, _), labelled = split(*train, scale.labelled, np.random.default_rng(seed))
    the, test = objective(scale), tuple(map(backend.asarray, test))
    updates, batch = schedule(name, scale)
    file = f"{data}-{name}-{seed}.npz".replace(", ", "-").replace(" ", "-")
    try:
        return fit(
            the,
            optimizer(name, parameters, unlabeled, batch),
            labelled,
            updates=updates,
            batch_size=batch,
            seed=seed,
            train_samples=scale.labelled,
            metrics={"test_error": lambda theta: share_wrong(the, theta, test)},
            evaluate_every=evaluate_every,
            checkpoint=options.out / "checkpoints" / file,
            resume=options.resume,
            progress=label if options.progress else False,
        )
    except Diverged as failure:
        return failure.history


def schedule(name, scale):
    """(updates, batch size) of a method."""
    if name == "SGD":
        return UPDATES_OF_SGD * scale.updates, scale.batch // BATCHES_OF_SGD
    return scale.updates, scale.batch


def objective(scale):
    """784-hidden-10, tanh and softmax, under cross-entropy."""
    return Objective(mlp([784, scale.hidden, 10], activation="tanh"), Categorical())


def optimizer(name, parameters, unlabeled, batch):
    """A method's optimizer; unlabeled: inputs, for the method that measures its metric on them."""
    lr = parameters["lr"]
    if name == "SGD":
        return SGD(lr)
    if name == "TONGA":
        return TONGA(lr, damping=FixedDamping(parameters["damping"]), metric="empirical")
    samples = {"KL, unlabeled": Unlabeled(unlabeled, batch), "KL, different batch": batch, "KL, same batch": None}
    damping = FixedDamping(parameters["damping"])
    if name == "KL, unlabeled":
        damping = LevenbergMarquardt(parameters["damping"], reduction="linear")
    return natural_gradient(lr, damping, samples[name])


def natural_gradient(lr, damping, source):
    """Natural gradient by the exact Fisher information of the source's samples, solved as stated above."""
    solver = ConjugateGradient(maxiter=ITERATIONS, rtol=1e-4)
    return NaturalGradient(lr, damping, solver, metric_batch=source, warm_start=0.0)


def tuned():
    """{method: its parameters}, the winners of the tuning record."""
    return records.load(TUNED)["results"]["best"]


def described(name, train, test, scale):
    """The data set in a few words."""
    rest = len(train[0]) - scale.labelled
    return f"{scale.labelled:,} labelled and {rest:,} unlabeled images of {name}, tested on {len(test[0]):,}"


def solves(history):
    """Mean iterations a solve and share of steps taken, of methods that solve."""
    steps = history.steps
    return {name: float(np.mean(steps[name])) for name in ("iterations", "taken") if name in steps}


# --- what came out ---------------------------------------------------------------------------------------


def table(curves, updates):
    """{method: {"train": cross-entropy, "test": percent wrong}}, one number a seed after the last update; NaN if none.

    curves: {method: columns of each seed}; updates: {method: how many the last one is}.
    """
    rows = {}
    for name, runs in curves.items():
        done = [run["update"][-1] == updates[name] for run in runs]
        last = {column: [run[column][-1] for run in runs] for column in ("loss", "test_error")}
        rows[name] = {
            "train": [float(value) if there else math.nan for value, there in zip(last["loss"], done)],
            "test": [100 * float(value) if there else math.nan for value, there in zip(last["test_error"], done)],
        }
    return rows


def claims(rows, wanted=CLAIMS):
    """{claim: (seeds in which it holds, seeds)}, for the seeds and claims whose methods all have their numbers."""
    found, seeds = {}, min((len(row["test"]) for row in rows.values()), default=0)
    for claim, (column, low, high) in wanted.items():
        if not {*low, *high} <= set(rows):
            continue
        lows, highs = (np.array([rows[name][column][:seeds] for name in names]) for names in (low, high))
        holds = lows.max(axis=0) < highs.min(axis=0)  # NaN, of a run that diverged, is not lower and not higher
        found[claim] = int(holds.sum()), len(holds)
    return found


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure a data set: training cross-entropy and test error against updates; the table beside the paper's."""
    return [plot_one(record, data, folder) for data, curves in record["results"]["curves"].items() if curves]


def plot_one(record, data, folder):
    """The figure of one data set."""
    results, several = record["results"], len(record["seeds"]) > 1
    fig = draw(results["curves"][data], results["table"][data], record["settings"]["parameters"], PAPERS_TABLE, several)
    return look.save(fig, folder / f"{NAME}-{data.lower()}.png", caption=caption(record, data))


def draw(curves, rows, parameters, papers_table, several):
    """The figure of {method: columns of each seed}, their `table`, and the paper's; several: are there more seeds?"""
    methods = [name for name in papers_table if curves.get(name)]
    fig, axes = look.mosaic([["train", "test"], ["table", "table"]], height=4.9, height_ratios=[3, 1.3])
    for panel, column, factor in (("train", "loss", 1), ("test", "test_error", 100)):
        ax = axes[panel]
        for name in methods:
            x, values = together(curves[name], column)
            look.curves(ax, {name: (x[1:], factor * values[:, 1:])})
        ax.set(xscale="log", yscale="log", xlabel="updates")
        for side in (ax.xaxis, ax.yaxis):
            look.plain_numbers(side)
    axes["train"].set_ylabel("cross-entropy of all labelled images")
    axes["test"].set_ylabel("test error (%)")
    draw_table(axes["table"], rows, parameters, papers_table, several)
    look.label_ends(axes["test"])
    return fig


def together(runs, column):
    """(updates, values (seeds, points)) at the evaluations that every seed has reached."""
    points = min(len(run["update"]) for run in runs)
    values = np.array([records.numbers(run[column][:points]) for run in runs])
    return records.numbers(runs[0]["update"][:points]), values


def draw_table(ax, rows, parameters, papers_table, several):
    """Rows: parameters, then train and test, the paper's and ours; a column a method."""
    cells = {"lr, damping": [stated(parameters[name]) for name in papers_table]}
    for i, (column, unit) in enumerate((("train", "cross-entropy"), ("test", "test error, %"))):
        done = [rows.get(name, {}).get(column) or [math.nan] for name in papers_table]
        values = list(map(records.numbers, done))
        cells[f"{unit}: paper"] = [f"{numbers[i]:g}" for numbers in papers_table.values()]
        cells[f"{unit}: here"] = [number(each.mean()) for each in values]
        if several:
            cells[f"{unit}: range"] = ["\N{EN DASH}".join(map(number, (each.min(), each.max()))) for each in values]
    ax.axis("off")
    ax.set(xlim=(0, 1), ylim=(len(cells) + 1, 0))
    places = np.linspace(0.3, 0.93, len(papers_table))
    for name, x in zip(papers_table, places):
        ax.text(x, 0.5, name, ha="center", va="center", fontsize=8, color=look.look(name).colour)
    for y, (label, row) in enumerate(cells.items(), start=1):
        for x, text in zip((0, *places), (label, *row)):
            size = 6.2 if x and label.endswith("range") else 7.5
            ax.text(x, y + 0.5, text, ha="center" if x else "left", va="center", fontsize=size)


def stated(parameters):
    """Learning rate and damping in a few words."""
    return ", ".join(f"{value:g}" for value in parameters.values())


def number(value):
    """Three digits; "unfinished" for the NaN of a run that did not reach its last update."""
    return "unfinished" if math.isnan(value) else f"{value:.3g}"


def caption(record, data):
    """One sentence: what is shown, and in how many seeds each claim of the paper's table came out, from the record."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    updates, table = settings["updates"], " (table: mean and range)" if len(seeds) > 1 else ""
    text = (
        f"Training and test error of a 784-{settings['hidden']}-10 net that learns from {settings['data'][data]}, "
        f"{drawn(seeds)}{table}, in {updates['KL, unlabeled']:,} updates ({updates['SGD']:,} of SGD)"
    )
    found = results["claims"].get(data, {})
    if len(found) < len(CLAIMS):
        return text + ": unfinished."
    text += "; of what the paper's table for MNIST says, here " + ", ".join(
        f"{claim} in {count} of {of_seeds(of)}" for claim, (count, of) in found.items()
    )
    return text + "".join(f"; {name} diverged ({when})" for name, when in results["diverged"][data].items()) + "."

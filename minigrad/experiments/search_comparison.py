"""Grid, random and biased random search: what a hundred trials find (George, section 2.3, figures 2.2 and 2.3, table).

The task is the thesis' deep autoencoder after 100 updates of plain SGD with batches of 20, and its squared error on
1,000 training images. Two hyper-parameters are searched: the learning rate, and alpha, the initial weights' variance
in units of 1 / (n_in + n_out). All trials start from the same draw of weights, scaled, and see the same batches, so
that a loss is a function of the two, and the grid has one result.

The thesis gives neither ranges nor batch size. Its nets have sigmoids, but after so few updates none of ours had left
the mean image, whose error is 51 to 53: with batches of 50 the best of 24 random pairs came to 50.6 (cross-entropy) and
52.4 (quadratic error). So hidden units are tanh here; the code is linear, outputs are sigmoids under the thesis'
quadratic error.

Where biased search fails is shown by landscapes that are formulas: a narrow well where all around it is bad, and a
corner so bad that the thesis' rule takes all else for equal. And what other models and rules would have found is played
on the landscape of the random searches' trials, at any point the loss of the nearest one.
"""

import itertools
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from .. import plot as look
from ..backend import asarray
from ..data import mnist
from ..losses import Gaussian
from ..nets import Glorot, autoencoder
from ..objective import Objective
from ..optimizers import SGD
from ..search import (
    BiasedRandomSearch,
    GridSearch,
    Kernel,
    KNearest,
    LogUniform,
    RandomSearch,
    Space,
    Uniform,
    by_rank,
)
from ..training import fit, records
from .parts import checkpoints, rounded, run_seeds, verdict

NAME = "search-comparison"
DESCRIPTION = "a hundred searches of a hundred trials: grid, random and biased random search"
PAPER = "George, section 2.3, figures 2.2 and 2.3"

SPACE = Space(lr=LogUniform(1e-3, 1e-1), alpha=LogUniform(0.5, 50.0))
SEARCHES = {"random search": RandomSearch, "biased random search": BiasedRandomSearch}
GRID = "grid search"
PAPERS_TABLE = {GRID: (None, 0.0), "random search": (27.02, 0.28), "biased random search": (26.61, 0.13)}  # mean, sd
UPDATES, BATCH, MEASURED = 100, 20, 1000


@dataclass(frozen=True)
class Scale:
    """Values on each axis of the grid, whose square is the trials of a search; updates of a trial, training images;
    searches, those on formulas; searches at once, each on one core (None: one by one)."""

    side: int
    updates: int
    images: int | None
    searches: int
    played: int
    cores: int | None = None

    @property
    def trials(self):
        return self.side**2


SCALES = {
    "quick": Scale(2, 3, 500, 2, 3),
    "usual": Scale(5, UPDATES, None, 2, 20, cores=2),
    "full": Scale(10, UPDATES, None, 100, 100, cores=2),
}


def run(options):
    """All searches, then those on formulas; returns the record, see `run_seeds`, and its "played"."""
    scale = SCALES[options.scale]
    count = len(images(scale.images))
    settings = {
        "space": repr(SPACE),
        "trials": scale.trials,
        "updates": scale.updates,
        "batch_size": BATCH,
        "data": f"{count:,} training images of MNIST, {min(count, MEASURED):,} of them to measure on",
        "objective": repr(objective(1.0)),
        "cores": scale.cores,
        "played": scale.played,
    }
    seeds, work = list(range(options.seeds or scale.searches)), partial(outcome, scale)
    record = run_seeds(NAME, options, settings, "float32", seeds, (GRID, *SEARCHES), work, scale.cores, once=(GRID,))
    if record["results"]["complete"] and "played" not in record["results"]:
        record["results"]["played"] = played(record, scale)
        records.save(record, options.out / "record.json")
    return record


def outcome(scale, options, job):
    """The losses of one search's trials in order, NaN for those that diverged; None after Ctrl-C. It goes on."""
    method, seed = job
    history = search(method, seed, checkpoints(options, job) / "history.jsonl", scale.side).run(
        partial(trial, scale), scale.trials, batch=1, progress=f"{method}, seed {seed}" if options.progress else None
    )
    if history.interrupted:
        return None
    losses = [np.nan if each.failed else each.loss for each in history.trials]
    kept = {"losses": rounded(losses, 4)}
    if seed == 0:
        kept |= {name: rounded([each[name] for each in history.trials], 4) for name in SPACE.dimensions}
    return kept


def search(method, seed, history=None, side=10):
    """The grid or one of SEARCHES."""
    if method == GRID:
        return GridSearch(SPACE, side, history=history)
    return SEARCHES[method](SPACE, seed, history)


def trial(scale, trial):
    """The squared error of an image after the updates. Raises Diverged, and KeyboardInterrupt."""
    x = asarray(images(scale.images))
    history = fit(
        objective(trial["alpha"]),
        SGD(trial["lr"]),
        (x, x),
        updates=scale.updates,
        batch_size=BATCH,
        seed=0,
        evaluate_every=lambda update: False,
        train_samples=MEASURED,
        progress=False,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return history.curves["loss"][-1]


def objective(alpha):
    """||y - x||^2 of the deep autoencoder."""
    net = autoencoder(activation="tanh", code="linear", output="sigmoid", init=Glorot(alpha))
    return Objective(net, Gaussian(beta=0.5**0.5))


@cache
def images(count):
    """Training images; count: so many at most."""
    return mnist()[0][0][:count]


# --- what came out ---------------------------------------------------------------------------------------


def best(record):
    """{method: the least loss of each search, (searches,)}."""
    return {
        method: np.array([np.nanmin(records.numbers(run["losses"])) for run in runs.values()])
        for method, runs in record["results"]["runs"].items()
        if runs
    }


def table(record):
    """[{"method", "mean", "sd", "searches", "paper"}]."""
    return [
        {
            "method": method,
            "mean": float(least.mean()),
            "sd": float(least.std(ddof=1)) if len(least) > 1 else 0.0,
            "searches": len(least),
            "paper": PAPERS_TABLE[method],
        }
        for method, least in best(record).items()
    ]


def findings(record):
    """The thesis' claims, each with numbers and whether it held: [{"claim", "numbers", "held"}].

    Searches with one seed draw the same numbers, so they are compared in pairs, two-sided, at 5 %: means by Student's t
    test, ranks by Wilcoxon's, spreads by Pitman & Morgan's (sums and differences of pairs are uncorrelated if both vary
    alike).
    """
    from scipy import stats

    least = best(record)
    random, biased = (least[name] for name in SEARCHES)
    alike = len(random) < 3 or np.array_equal(random, biased)
    means = np.nan if alike else stats.ttest_rel(biased, random).pvalue
    ranks = np.nan if alike else stats.wilcoxon(biased, random).pvalue
    spreads = np.nan if alike else stats.pearsonr(biased + random, biased - random).pvalue
    sd = [each.std(ddof=1) if len(each) > 1 else np.nan for each in (biased, random)]
    return [
        {
            "claim": "biased random search finds comparable or better results than random search",
            "numbers": f"{biased.mean():.2f} against {random.mean():.2f} (p = {means:.2g} by Student, {ranks:.2g} by "
            f"Wilcoxon, {len(biased)} searches each); the thesis: 26.61 against 27.02",
            "held": bool(biased.mean() < random.mean() and max(means, ranks) < 0.05),
        },
        {
            "claim": "consistently: its results vary less",
            "numbers": f"standard deviation {sd[0]:.2f} against {sd[1]:.2f} (p = {spreads:.2g} by Pitman & Morgan); "
            "the thesis: 0.13 against 0.28",
            "held": bool(sd[0] < sd[1] and spreads < 0.05),
        },
    ]


# --- searches on formulas, and on the trials that there are ----------------------------------------------

SQUARE = Space(x=Uniform(0.0, 1.0), y=Uniform(0.0, 1.0))
RULES = {
    **SEARCHES,
    "biased, by rank": partial(BiasedRandomSearch, acceptance=by_rank),
    "biased, 3 neighbours": partial(BiasedRandomSearch, model=KNearest(3)),
    "biased, kernel": partial(BiasedRandomSearch, model=Kernel(0.1)),
}
WELL, RADIUS = (0.85, 0.85), 0.07


def bowl(x, y):
    """The distance from (0.3, 0.4)."""
    return float(np.hypot(x - 0.3, y - 0.4))


def deceptive(x, y):
    """The bowl, and far up on its rim a narrow well of loss -1."""
    return -1.0 if np.hypot(x - WELL[0], y - WELL[1]) < RADIUS else bowl(x, y)


def diverging(x, y):
    """The bowl, and a corner of loss 10^6: beside it all others are nearly equal."""
    return 1e6 if min(x, y) > 0.8 else bowl(x, y)


FORMULAS = {"bowl": bowl, "deceptive": deceptive, "diverging": diverging}


def played(record, scale):
    """{landscape: {rule: {"mean", "sd"}}} of the least losses; "deceptive" also has "found", the share in the well."""
    landscapes = {name: (SQUARE, lambda trial, f=f: f(trial["x"], trial["y"])) for name, f in FORMULAS.items()}
    landscapes["recorded"] = (SPACE, recorded(record))
    results = {name: {} for name in landscapes}
    for (name, (space, loss)), (rule, make) in itertools.product(landscapes.items(), RULES.items()):
        least = np.array([make(space, seed).run(loss, scale.trials, batch=1).best.loss for seed in range(scale.played)])
        results[name][rule] = {"mean": least.mean(), "sd": least.std(ddof=1)}
        if name == "deceptive":
            results[name][rule]["found"] = np.mean(least < 0)
    return results


def random_trials(record):
    """(points of the unit cube (n, 2), losses (n,)) of all random searches; the points are drawn again."""
    points, losses = [], []
    for seed, run in record["results"]["runs"]["random search"].items():
        again = search("random search", int(seed))
        points += [again.propose(number) for number in range(len(run["losses"]))]
        losses += run["losses"]
    return np.array(points), records.numbers(losses)


def recorded(record):
    """A loss: that of the nearest trial of all random searches, NaN where it diverged."""
    points, losses = random_trials(record)

    def loss(trial):
        apart = points - SPACE.point(trial.parameters)
        return losses[np.argmin((apart * apart).sum(axis=1))]

    return loss


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: what three searches tried, the landscape of all random trials, the best so far, and at the end."""
    runs = record["results"]["runs"]
    fig, axes = look.mosaic([[GRID, *SEARCHES], ["relation", "best", "end"]], width=9.6, height=5.6)
    shown = {method: runs[method]["0"] for method in (GRID, *SEARCHES) if "0" in runs[method]}
    norm = look.loss_colours([loss for run in shown.values() for loss in records.numbers(run["losses"])])
    for method, run in shown.items():
        points = look.tried(axes[method], run["lr"], run["alpha"], records.numbers(run["losses"]), norm)
        axes[method].set_title(method, fontsize=9)
    if runs["random search"]:
        points = draw_relation(axes["relation"], record, norm)
    for name in (GRID, *SEARCHES, "relation"):
        ranges = (SPACE.dimensions[key] for key in ("lr", "alpha"))
        xlim, ylim = ((0.9 * each.low, each.high / 0.9) for each in ranges)
        axes[name].set(xscale="log", yscale="log", xlabel="learning rate", ylabel="alpha", xlim=xlim, ylim=ylim)
        axes[name].set_xticks([0.001, 0.01, 0.1], ["0.001", "0.01", "0.1"])
        look.plain_numbers(axes[name].yaxis)
    if shown:
        fig.colorbar(points, ax=[axes[name] for name in (GRID, *SEARCHES)], label="squared error", extend="max")
    searches = {name: [records.numbers(run["losses"]) for run in each.values()] for name, each in runs.items() if each}
    look.best_so_far(axes["best"], searches)
    axes["best"].set(xscale="log", yscale="log", ylabel="best squared error so far")
    for side in (axes["best"].xaxis, axes["best"].yaxis):
        look.plain_numbers(side)
    for name, least in best(record).items():
        style = look.look(name)
        axes["end"].plot(np.sort(least), (np.arange(len(least)) + 0.5) / len(least), style.marker, color=style.colour,
                         markersize=3, label=name)  # fmt: skip
    axes["end"].set(xlabel="best of a search", ylabel="share of searches below")
    axes["end"].legend(frameon=False, fontsize=8)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def draw_relation(ax, record, norm):
    """All trials of the random searches, the best on top."""
    points, losses = random_trials(record)
    ax.set_title(f"all {len(losses):,} random trials", fontsize=9)
    there = np.isfinite(losses)
    order = np.argsort(-losses[there])
    parameters = [SPACE.parameters(point) for point in points[there][order]]
    lr, alpha = ([each[name] for each in parameters] for name in ("lr", "alpha"))
    return ax.scatter(lr, alpha, c=losses[there][order], norm=norm, s=3, linewidths=0)


def caption(record):
    """One sentence: what is shown, and which of the thesis' claims held."""
    settings, results = record["settings"], record["results"]
    text = (
        f"Searches of {settings['trials']} trials for the learning rate and the initial variance of the deep "
        f"autoencoder (squared error of an image after {settings['updates']} updates of SGD, {settings['data']}): what "
        "three of them tried, best ringed; the same for all random ones; the best so far, median and range of "
        f"{len(record['seeds'])} searches; and the best of each"
    )
    if not results["complete"]:
        return text + ": unfinished."
    rows = ", ".join(f"{row['method']} {row['mean']:.2f} ± {row['sd']:.2f}" for row in table(record))
    return f"{text}; mean and standard deviation {rows}; {'; '.join(map(verdict, findings(record)))}."

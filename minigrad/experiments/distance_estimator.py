"""How many samples does a distance between functions take? (Benjamin et al. 2019, figures 3 and A.2)

Along a training run (`measured.py` has the net) squared distances of single test images are measured between updates,
between epochs and from the start. From their mean D2 and standard deviation sd follow the 95 % bounds of an estimate
from n images (`function_space.estimate`), which are compared with what batches of n images give: drawn with replacement
from the test set, which stands for the distribution.

    percent of D       z sd / (2 D2 sqrt(n))
    percent of D2      z sd / (D2 sqrt(n))        z = 1.96

"Within a few percent" is taken as 5 %, "a few hundred" as 500 at most.
"""

from dataclasses import dataclass

import numpy as np

from .. import plot as look
from ..backend import to_host
from ..function_space import Estimate, estimate, squared_distances
from ..function_space.trajectory import SCALES as DISTANCES
from .measured import SIZES, SMALL, Convolutional, instead, span, task_of
from .parts import of_seeds, rounded, run_parts, verdict

NAME = "distance-estimator"
DESCRIPTION = "a distance between functions by the number of samples, and its 95 % bounds"
PAPER = "Benjamin et al. 2019, figures 3, A.2"

COUNTS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
FEW_PERCENT, FEW_HUNDRED, DRAWS = 0.05, 500, 1000


@dataclass(frozen=True)
class Scale:
    """The net (`task_of`), training images (None: all), test images, epochs, those looked at closely, updates measured
    in each."""

    net: tuple | Convolutional
    images: int | None
    measured: int
    epochs: int
    shown: tuple
    points: int
    seeds: int


SCALES = {
    "quick": Scale(SMALL, 1300, 1000, 4, (1, 4), 5, 1),
    "usual": Scale(SIZES, 10_000, 10_000, 8, (1, 2, 4, 8), 4, 1),
    "full": Scale(SIZES, None, 10_000, 30, (1, 3, 10, 30), 4, 3),
}


def run(options):
    """The record: {"seed 0": {"tables": {distance: columns}, "pairs": {distance: [one a shown epoch]}}, ...}."""
    return run_scale(NAME, options, SCALES[options.scale])


def run_scale(name, options, scale):
    """The same, of any scale and under any name."""
    seeds = list(range(options.seeds or scale.seeds))
    task = task_of(scale.net, scale.images, scale.measured)
    counts = [count for count in COUNTS if count <= scale.measured]
    settings = task.settings() | {"epochs": scale.epochs, "shown": list(scale.shown), "counts": counts}
    parts = {}
    for seed in seeds:
        parts[f"seed {seed}"] = lambda results, seed=seed: train(task, scale, counts, seed, options.progress)
    return run_parts(name, options, settings, seeds, parts, dtype="float32")


def train(task, scale, counts, seed, progress=False):
    """One run; None after Ctrl-C."""
    ends = [epoch * task.epoch for epoch in scale.shown]
    before = {
        "update": [end - 1 for end in ends],
        "epoch": [end - task.epoch for end in ends],
        "start": [0] * len(ends),
    }
    wanted = {0, *ends}.union(*before.values())
    label = f"{NAME}, seed {seed}" if progress else False
    every = max(1, task.epoch // scale.points)
    history, recorder = task.run(seed, scale.epochs, every=every, snapshots=wanted.__contains__, progress=label)
    if history.interrupted:
        return None
    y = dict(zip(recorder.snapshots["update"], recorder.snapshots["outputs"], strict=True))
    rng = np.random.default_rng(seed)
    tables = {
        distance: {
            "epoch": rounded(np.array(table["update"]) / task.epoch, 4),
            "function": rounded(table["function"], 4),
            "deviation": rounded(table["deviation"], 4),
        }
        for distance, table in recorder.tables.items()
    }
    pairs = {
        distance: [pair(y[end], y[start], counts, rng) for end, start in zip(ends, starts, strict=True)]
        for distance, starts in before.items()
    }
    return {"tables": tables, "pairs": pairs}


def pair(f, g, counts, rng):
    """Of two functions: D2, sd, D of n samples for more and more of them, the share of batches of n in the bounds."""
    whole = estimate(f, g)
    squares = to_host(squared_distances(f, g)).astype("float64")
    running = np.cumsum(rng.permutation(squares)) / np.arange(1, len(squares) + 1)
    coverage = []
    for count in counts:
        low, high = whole.interval(count)
        batches = rng.choice(squares, (DRAWS, count)).mean(axis=1)
        coverage.append(np.mean((low <= batches) & (batches <= high)))
    return {
        "mean_square": whole.mean_square,
        "deviation": whole.deviation,
        "samples": whole.samples,
        "running": rounded([running[count - 1] ** 0.5 for count in counts], 4),
        "coverage": rounded(coverage, 4),
    }


# --- what came out ---------------------------------------------------------------------------------------


def spread(table):
    """sd / D2 of each measurement: what decides how many samples it takes."""
    return np.array(table["deviation"]) / np.array(table["function"]) ** 2


def samples_for(table, error=FEW_PERCENT, root=True):
    """The median number of samples that bound D (or D2) to the error, over a table's measurements."""
    return float(np.median([Estimate(1.0, s, 1).samples_for(2 * error if root else error) for s in spread(table)]))


def slope(table):
    """Of log sd against log D2, by least squares: 1 where a batch of one size gives equal percentages everywhere."""
    return float(np.polyfit(2 * np.log(table["function"]), np.log(table["deviation"]), 1)[0])


def findings(record):
    """The paper's claims, each with numbers (median or range over seeds) and whether it held."""
    runs = [record["results"][f"seed {seed}"] for seed in record["seeds"]]
    tables = {distance: [run["tables"][distance] for run in runs] for distance in DISTANCES}
    need = {d: np.median([samples_for(table) for table in tables[d]]) for d in DISTANCES}
    squared = {d: np.median([samples_for(table, root=False) for table in tables[d]]) for d in DISTANCES}
    slopes = {d: [slope(table) for table in tables[d]] for d in DISTANCES}
    fall = [spread(table)[0] / spread(table)[-1] for table in tables["start"]]
    counts = record["settings"]["counts"]
    covered = {
        count: [pair["coverage"][i] for run in runs for d in DISTANCES for pair in run["pairs"][d]]
        for i, count in enumerate(counts)
        if count in (100, 1000)
    }
    return [
        {
            "claim": "a few hundred examples give a distance within a few percent",
            "numbers": f"for 5 % of D {words(need)} images, for 5 % of D2 {words(squared)}",
            "held": max(need["update"], need["start"]) <= FEW_HUNDRED,
        },
        {
            "claim": "between epochs it takes near 1,000",
            "numbers": f"{need['epoch']:.0f} for D, {squared['epoch']:.0f} for D2",
            "held": 300 <= need["epoch"] <= 3000,
        },
        {
            "claim": "between updates sd is proportional to the distance, so that percentages are alike",
            "numbers": f"slope of log sd against log D2 {span(slopes['update'])}; sd / D2 varies by "
            f"{np.median([spread(table).max() / spread(table).min() for table in tables['update']]):.2g} times",
            "held": all(abs(number - 1) < 0.1 for number in slopes["update"]),
        },
        {
            "claim": "from the start it is not, early distances have the larger percentage",
            "numbers": f"sd / D2 at the first measurement over that at the last {span(fall)}",
            "held": min(fall) > 1,
        },
        {
            "claim": "95 % of batches lie within the bounds",
            "numbers": ", ".join(f"{span(shares)} of batches of {count}" for count, shares in covered.items()),
            "held": all(0.93 <= share <= 0.97 for shares in covered.values() for share in shares),
        },
    ]


def words(numbers):
    """{distance: number} in words."""
    return ", ".join(f"{number:.0f} ({distance})" for distance, number in numbers.items())


TITLES = {"update": "between updates", "epoch": "between epochs", "start": "from the start"}
BLUES = ("#9ECAE1", "#4292C6", "#08519C", "#041F4A")


def plot(record, folder):
    """One figure, a row a scale: the estimate by n with its bounds, these in percent, and sd against D2."""
    fig, axes = look.figure(3, 3, width=9.6, height=7.2)
    settings, results = record["settings"], record["results"]
    done = [results[f"seed {seed}"] for seed in record["seeds"] if f"seed {seed}" in results]
    for (left, middle, right), distance in zip(axes, DISTANCES, strict=True):
        if done:
            for found, epoch, colour in zip(done[0]["pairs"][distance], settings["shown"], BLUES, strict=False):
                draw_pair(left, middle, settings["counts"], found, f"epoch {epoch}", colour)
            left.set_ylim(bottom=0.5 * min(min(found["running"]) for found in done[0]["pairs"][distance]))
            shown = draw_deviations(right, [run["tables"][distance] for run in done])
            fig.colorbar(shown, ax=right, label="epoch")
        left.set(xscale="log", yscale="log", xlabel="images n", ylabel=f"D {TITLES[distance]}")
        middle.set(xscale="log", yscale="log", xlabel="images n", ylabel="95 % bounds, % of D")
        right.set(xscale="log", yscale="log", xlabel="D2", ylabel="sd of single images")
        middle.axhline(100 * FEW_PERCENT, color=look.GREY, linewidth=0.8)
        for ax in (left, middle, right):
            look.plain_numbers(ax.xaxis)
            look.plain_numbers(ax.yaxis)
    if done:
        axes[0, 0].legend(fontsize=7, frameon=False)
    return [look.save(fig, folder / f"{record['name']}.png", caption=caption(record))]


def draw_pair(left, middle, counts, found, label, colour):
    """The estimate from the first n images and its bounds; half the bounds' width in percent."""
    whole = Estimate(found["mean_square"], found["deviation"], found["samples"])
    low, high = np.array([whole.root_interval(count) for count in counts]).T
    left.plot(counts, found["running"], color=colour, label=label)
    left.fill_between(
        counts, np.maximum(low, 1e-3 * whole.root_mean_square), high, color=colour, alpha=0.15, linewidth=0
    )
    middle.plot(counts, 50 * (high - low) / whole.root_mean_square, color=colour)


def draw_deviations(ax, tables):
    """sd against D2 in the colour of the epoch, and the line of the median proportion."""
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    squares = columns["function"] ** 2
    ends = np.array([squares.min(), squares.max()])
    ax.plot(ends, np.median(columns["deviation"] / squares) * ends, color=look.GREY, linewidth=0.8)
    return ax.scatter(squares, columns["deviation"], c=columns["epoch"], s=5, cmap="viridis")


def caption(record):
    """One sentence: what is shown, and which of the paper's claims held."""
    settings, seeds = record["settings"], record["seeds"]
    text = (
        f"Distances between functions at three scales: estimated from n test images with 95 % bounds (seed {seeds[0]}; "
        f"grey: 5 %), and standard deviation of single images against D2 ({of_seeds(len(seeds))}; grey: proportional), "
        f"{settings['net']}, {settings['data']}, {settings['optimizer']} ({instead(settings)})"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    return f"{text}; {'; '.join(verdict(finding) for finding in findings(record))}."

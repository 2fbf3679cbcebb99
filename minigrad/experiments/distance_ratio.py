"""How far a function moves when its parameters move: three scales, along training (2019, figures 2, A.1, A.3, A.5).

A `Recorder` measures distances of parameters |theta - phi| and of functions D (root mean square, test images, after the
softmax) from the update before, from the epoch before, and from the start, along SGD with and without weight decay
(`measured.py` has the net). Some updates of each epoch are measured; their means over an epoch make the ratio

    D / |theta - phi|      of an epoch, at a scale

The test error has reached its plateau in the first epoch in which it is within a tenth of its mean over the last fifth
of training; where that is the last epoch, claims about the time after it count as not held. Correlations are of ranks
(Spearman), over epochs after the first.
"""

from dataclasses import dataclass

import numpy as np

from .. import plot as look
from ..function_space.trajectory import SCALES as DISTANCES
from .measured import DECAY, SIZES, SMALL, Convolutional, instead, span, task_of
from .parts import of_seeds, rounded, run_parts, verdict

NAME = "distance-ratio"
DESCRIPTION = "parameter against function distance between updates, epochs and from the start"
PAPER = "Benjamin et al. 2019, figures 2, A.1, A.3, A.5"

DECAYS = (DECAY, 0.0)
STEADY = 1.5  # a ratio that changes by less than this factor counts as steady


@dataclass(frozen=True)
class Scale:
    """The net (`task_of`), training images (None: all), test images that compare, epochs, updates measured in each."""

    net: tuple | Convolutional
    images: int | None
    measured: int
    epochs: int
    points: int
    seeds: int


SCALES = {
    "quick": Scale(SMALL, 1300, 300, 5, 5, 1),
    "usual": Scale(SIZES, 10_000, 1000, 12, 5, 1),
    "full": Scale(SIZES, None, 5000, 50, 8, 3),
}


def run(options):
    """The record: {"decay 0.0001, seed 0": {"test_error", "epochs": {distance: columns}, "points": ...}, ...}."""
    return run_scale(NAME, options, SCALES[options.scale])


def run_scale(name, options, scale):
    """The same, of any scale and under any name."""
    seeds = list(range(options.seeds or scale.seeds))
    task = task_of(scale.net, scale.images, scale.measured)
    settings = task.settings() | {"epochs": scale.epochs, "decays": list(DECAYS)}
    parts = {}
    for seed in seeds:
        for decay in DECAYS:
            each = part(decay, seed)
            parts[each] = lambda results, decay=decay, seed=seed: train(task, scale, decay, seed, options.progress)
    return run_parts(name, options, settings, seeds, parts, dtype="float32")


def part(decay, seed):
    """The name of a run's part of the results."""
    return f"decay {decay:g}, seed {seed}"


def train(task, scale, decay, seed, progress=False):
    """One run; None after Ctrl-C. "points" are the first seed's measurements, "epochs" each epoch's means."""
    label = f"{NAME}, {part(decay, seed)}" if progress else False
    every = max(1, task.epoch // scale.points)
    history, recorder = task.run(seed, scale.epochs, decay, every=every, progress=label)
    if history.interrupted:
        return None
    found = {"test_error": rounded(history.curves["validation_error"][1:]), "epochs": {}}
    for distance, table in recorder.tables.items():
        found["epochs"][distance] = {name: rounded(column) for name, column in by_epoch(table, task.epoch).items()}
    if seed == 0:
        found["points"] = {
            distance: {
                "epoch": rounded(np.array(recorder.tables[distance]["update"]) / task.epoch, 4),
                **{name: rounded(recorder.tables[distance][name], 4) for name in ("parameters", "function")},
            }
            for distance in DISTANCES
        }
    return found


def by_epoch(table, epoch):
    """Means of a recorder's columns over each epoch, updates 1 .. epoch being the first."""
    number = (np.array(table["update"]) - 1) // epoch
    means = lambda column: [np.mean(np.array(column)[number == k]) for k in range(number[-1] + 1)]
    return {name: np.array(means(table[name])) for name in ("parameters", "function")}


# --- what came out ---------------------------------------------------------------------------------------


def ratio(found, distance):
    """D / |theta - phi| by epoch."""
    columns = found["epochs"][distance]
    return np.array(columns["function"]) / np.array(columns["parameters"])


def plateau(errors):
    """The number (from 0) of the first epoch whose test error is within a tenth of the last fifth's mean."""
    errors = np.array(errors)
    return int(np.argmax(errors <= 1.1 * errors[-max(1, len(errors) // 5) :].mean()))


def rank_correlation(x, y):
    """Spearman's, of columns without ties."""
    ranks = [np.argsort(np.argsort(column)) for column in (x, y)]
    return float(np.corrcoef(ranks)[0, 1])


def findings(record):
    """The paper's claims, each with numbers (every seed's, or their range) and whether it held in all seeds."""
    with_decay, without = ([record["results"][part(decay, seed)] for seed in record["seeds"]] for decay in DECAYS)
    end = -1
    falls = {d: [ratio(run, d)[0] / ratio(run, d)[end] for run in with_decay] for d in DISTANCES}
    flats = [plateau(run["test_error"]) for run in with_decay]
    settles = {
        d: [ratio(run, d)[flat] / ratio(run, d)[end] for run, flat in zip(with_decay, flats, strict=True)]
        for d in DISTANCES
    }
    reached = all(flat < len(run["test_error"]) - 1 for run, flat in zip(with_decay, flats, strict=True))
    moves = [function(run, "epoch")[end] / function(run, "epoch")[flat] for run, flat in zip(with_decay, flats)]
    after = lambda run, column, distance: np.array(run["epochs"][distance][column])[1:]
    correlation = {
        d: [rank_correlation(after(run, "parameters", d), after(run, "function", d)) for run in with_decay]
        for d in DISTANCES
    }
    trend = lambda runs: [
        rank_correlation(np.arange(len(run["test_error"]) - 1), after(run, "function", "epoch")) for run in runs
    ]
    shorter = {
        d: [a["epochs"][d]["parameters"][end] / b["epochs"][d]["parameters"][end] for a, b in zip(with_decay, without)]
        for d in DISTANCES
    }
    return [
        {
            "claim": "early epochs move the function more for a change of parameters",
            "numbers": f"ratio in the first epoch over that in the last: {scales(falls)}",
            "held": all(number > 1 for numbers in falls.values() for number in numbers),
        },
        {
            "claim": "the ratio is steady once the test error is",
            "numbers": f"ratio at the plateau (epoch {span([flat + 1 for flat in flats])}) over the last: "
            f"{scales(settles)}",
            "held": reached and all(1 / STEADY < number < STEADY for numbers in settles.values() for number in numbers),
        },
        {
            "claim": "functions still move much between epochs after the plateau",
            "numbers": f"D between epochs at the end over that at the plateau: {span(moves)}",
            "held": reached and min(moves) > 0.5,
        },
        {
            "claim": "between epochs the two distances are negatively correlated",
            "numbers": f"rank correlation {span(correlation['epoch'])}",
            "held": max(correlation["epoch"]) < 0,
        },
        {
            "claim": "from the start their relation is clean and positive",
            "numbers": f"rank correlation {span(correlation['start'])}",
            "held": min(correlation["start"]) > 0.9,
        },
        {
            "claim": "D between epochs falls with weight decay and rises without",
            "numbers": f"rank correlation with the epoch {span(trend(with_decay))}, {span(trend(without))}",
            "held": max(trend(with_decay)) < 0 < min(trend(without)),
        },
        {
            "claim": "weight decay shortens the parameters' way at all scales",
            "numbers": f"with over without, last epoch: {scales(shorter)}",
            "held": all(number < 1 for numbers in shorter.values() for number in numbers),
        },
    ]


def function(run, distance):
    """D by epoch."""
    return run["epochs"][distance]["function"]


def scales(numbers):
    """{distance: numbers} in words."""
    return ", ".join(f"{span(found)} ({distance})" for distance, found in numbers.items())


# --- the figures -----------------------------------------------------------------------------------------

TITLES = {"update": "from the update before", "epoch": "from the epoch before", "start": "from the start"}


def plot(record, folder):
    """Two figures: the first seed's measurements by epoch; all seeds' epochs by test error, and the ratio."""
    drawing = ((".png", measurements), ("-by-epoch.png", averages))
    paths = []
    for ending, draw in drawing:
        fig, text = draw(record)
        paths.append(look.save(fig, folder / f"{record['name']}{ending}", caption=text))
    return paths


def measurements(record):
    """Parameter against function distance at the three scales, one row with and one without weight decay."""
    fig, axes = look.figure(2, 3, width=9.6, height=5.2)
    for row, decay in zip(axes, DECAYS, strict=True):
        found = record["results"].get(part(decay, 0), {})
        for ax, distance in zip(row, DISTANCES, strict=True):
            ax.set_title(f"{TITLES[distance]}, decay {decay:g}", fontsize=9)
            if "points" in found:
                points = found["points"][distance]
                shown = scatter(ax, points, points["epoch"])
        if "points" in found:
            fig.colorbar(shown, ax=row, label="epoch")
    text = (
        f"{describe(record)}: single measurements of seed 0, in the colour of their epoch; a line through the origin "
        "would be one ratio"
    )
    return fig, text + ("." if record["results"]["complete"] else ": unfinished.")


def averages(record):
    """Above, epochs of all seeds with weight decay in the colour of their test error; below, the ratio."""
    fig, axes = look.figure(2, 3, width=9.6, height=5.2)
    finished = {
        decay: [record["results"][part(decay, s)] for s in record["seeds"] if part(decay, s) in record["results"]]
        for decay in DECAYS
    }
    for above, below, distance in zip(*axes, DISTANCES, strict=True):
        errors = [100 * error for run in finished[DECAY] for error in run["test_error"]]
        columns = {
            name: [number for run in finished[DECAY] for number in run["epochs"][distance][name]]
            for name in ("parameters", "function")
        }
        if errors:
            shown = scatter(above, columns, np.log10(errors))
        above.set_title(f"{TITLES[distance]}, decay {DECAY:g}", fontsize=9)
        for decay, colour in zip(DECAYS, (look.BLACK, look.ORANGE), strict=True):
            for i, run in enumerate(finished[decay]):
                label = f"weight decay {decay:g}" if i == 0 else None
                y = ratio(run, distance)
                below.plot(1 + np.arange(len(y)), y, color=colour, linewidth=1, label=label)
                flat = plateau(run["test_error"])
                below.plot(1 + flat, y[flat], "o", color=colour)
        if finished[DECAY]:
            below.set(yscale="log", xscale="log")
            look.plain_numbers(below.xaxis)
            look.plain_numbers(below.yaxis)
        below.set(xlabel="epoch", ylabel="$D / |\\theta - \\phi|$")
    if finished[DECAY]:
        axes[1, 2].legend(fontsize=7, frameon=False)
        fig.colorbar(shown, ax=axes[0], label="log10 test error (%)")
    text = (
        f"{describe(record)}: means over epochs, a point (above) or line (below) a seed, "
        f"{of_seeds(len(record['seeds']))}; dots where the test error reaches its plateau"
    )
    if not record["results"]["complete"]:
        return fig, text + ": unfinished."
    return fig, f"{text}; {'; '.join(verdict(finding) for finding in findings(record))}."


def scatter(ax, columns, colours):
    """Function against parameter distance."""
    ax.set(xlabel="parameter distance", ylabel="function distance D")
    return ax.scatter(columns["parameters"], columns["function"], c=colours, s=5, cmap="viridis")


def describe(record):
    """What was trained, in a caption's words."""
    settings = record["settings"]
    return (
        f"Distances of parameters and functions, {settings['net']}, {settings['data']}, {settings['optimizer']}, "
        f"{settings['epochs']} epochs, measured {settings['measured']} ({instead(settings)})"
    )

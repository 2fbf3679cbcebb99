"""Do nets from different starts take the same way? Paths through function space and parameter space (2019, figure 1).

Several seeds train on the same 5,000 images (`measured.py` has the net). Outputs on one large batch of test images and
parameters are kept at the start, every so often within the first epoch, in which most of the way is made, and at the
end of each epoch. All distances between all of them, of all seeds, are shown in the plane by multidimensional scaling,
once for functions (root mean square) and once for parameters (Euclidean).

Pictures can mislead; what is claimed is also measured. With b the mean distance between runs at equal updates and s
that of a run from its own start: two runs that go unrelated ways from one point have b = sqrt(2) s, those that take the
same way have b = 0. "Largely one path" is taken as b < s / 2, half-way, where s first reaches half of its final value.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .. import plot as look
from ..backend import to_host
from ..function_space import distances, embed, mean_square, parameter_square
from .measured import SIZES, SMALL, Convolutional, instead, task_of
from .parts import of_seeds, rounded, run_parts, verdict

NAME = "trajectories"
DESCRIPTION = "paths of three seeds through function space and parameter space, embedded in the plane"
PAPER = "Benjamin et al. 2019, figure 1"

SPACES = {"function": ("outputs", mean_square), "parameters": ("theta", parameter_square)}
WITHIN = 10  # points within the first epoch


@dataclass(frozen=True)
class Scale:
    """The net (`task_of`), training images, test images that compare, epochs, seeds, random starts of the embedding."""

    net: tuple | Convolutional
    images: int
    measured: int
    epochs: int
    seeds: int
    starts: int


SCALES = {
    "quick": Scale(SMALL, 1300, 300, 4, 3, 1),
    "usual": Scale(SIZES, 5000, 2000, 15, 3, 4),
    "full": Scale(SIZES, 5000, 10_000, 50, 3, 8),
}


def run(options):
    """The record: {"paths": {"update", "test_error", space: {"points", "stress", "between", "start"}}}.

    Raises ValueError for a single seed, which has no other to be compared with.
    """
    return run_scale(NAME, options, SCALES[options.scale])


def run_scale(name, options, scale):
    """The same, of any scale and under any name."""
    seeds = list(range(options.seeds or scale.seeds))
    if len(seeds) < 2:
        raise ValueError(f"{name}: paths are compared, so it takes at least 2 seeds, got {len(seeds)}")
    task = task_of(scale.net, scale.images, scale.measured)
    settings = task.settings() | {"epochs": scale.epochs}
    parts = {"paths": lambda results: paths(task, scale.epochs, seeds, scale.starts, options.progress)}
    return run_parts(name, options, settings, seeds, parts, dtype="float32")


def paths(task, epochs, seeds, starts, progress=False):
    """Train every seed, then measure and embed; None after Ctrl-C."""
    step = max(1, task.epoch // WITHIN)
    kept = lambda update: update % task.epoch == 0 or (update < task.epoch and update % step == 0)
    snapshots, errors = [], []
    for seed in seeds:
        label = f"{NAME}, seed {seed}" if progress else False
        history, recorder = task.run(seed, epochs, every=task.epoch, snapshots=kept, progress=label)
        if history.interrupted:
            return None
        snapshots.append(recorder.snapshots)
        errors.append(rounded(history.curves["validation_error"]))
    found = {"update": snapshots[0]["update"], "epoch": task.epoch, "test_error": errors}
    for space, (column, square) in SPACES.items():
        D = distances([point for each in snapshots for point in each[column]], square)
        picture = embed(D, rng=np.random.default_rng(0), starts=starts)
        points = to_host(picture.points).reshape(len(seeds), -1, 2)
        found[space] = {
            "points": [[rounded(point, 4) for point in path] for path in points],
            "stress": picture.stress,
            "stresses": rounded(picture.stresses),
            "converged": picture.converged,
            **{name: rounded(curve) for name, curve in curves(to_host(D), len(seeds)).items()},
        }
    return found


def curves(D, runs):
    """{"between", "start"}: b and s at each point of the paths, from the distances D of all points of all runs."""
    D = D.reshape(runs, -1, runs, D.shape[0] // runs)
    pairs = [np.diagonal(D[i, :, j]) for i, j in combinations(range(runs), 2)]
    return {"between": np.mean(pairs, axis=0), "start": np.mean([D[i, :, i, 0] for i in range(runs)], axis=0)}


# --- what came out ---------------------------------------------------------------------------------------


def findings(record):
    """The paper's claims, each with numbers and whether it held: [{"claim", "numbers", "held"}]."""
    found = record["results"]["paths"]
    b, s = ({space: np.array(found[space][name]) for space in SPACES} for name in ("between", "start"))
    f, p = "function", "parameters"
    half = int(np.argmax(s[f] >= s[f][-1] / 2))
    shared = {space: b[space][half] / s[space][half] for space in SPACES}
    apart = {space: b[space][0] / s[space][-1] for space in SPACES}
    return [
        {
            "claim": "all begin at about the same function, with very different parameters",
            "numbers": f"they start {apart[f]:.2g} of the way to their end apart as functions, {apart[p]:.2g} as "
            "parameters",
            "held": apart[f] < 0.1 and apart[p] > 0.5,
        },
        {
            "claim": "at first they follow largely one path of functions",
            "numbers": f"half-way (update {found['update'][half]}) b / s is {shared[f]:.2f} (0 one way, 1.41 unrelated "
            f"ways), of parameters {shared[p]:.2g}",
            "held": shared[f] < 0.5,
        },
        {
            "claim": "late, they diverge as functions",
            "numbers": f"b is {b[f][half]:.2g} half-way, {b[f].max():.2g} at its largest, {b[f][-1]:.2g} at the end",
            "held": b[f][-1] > b[f][half:].min() * 1.1,
        },
        {
            "claim": "parameters diverge yet further",
            "numbers": f"b grows from {b[p][0]:.3g} to {b[p][-1]:.3g}",
            "held": b[p][-1] > b[p][0],
        },
    ]


def plot(record, folder):
    """One figure: the embeddings of both spaces, and b and s along training."""
    fig, axes = look.figure(1, 3, width=9.6, height=3.5, width_ratios=[1, 1, 1])
    found = record["results"].get("paths")
    if found:
        for ax, space in zip(axes, SPACES, strict=False):
            draw_paths(ax, found, space)
        draw_curves(axes[2], found)
    return [look.save(fig, folder / f"{record['name']}.png", caption=caption(record))]


COLOURS = (look.BLUE, look.VERMILLION, look.GREEN, look.PURPLE, look.ORANGE, look.SKY)


def draw_paths(ax, found, space):
    """Each seed's path, arrows in its direction, a ring around its start."""
    for i, path in enumerate(found[space]["points"]):
        colour, path = COLOURS[i % len(COLOURS)], np.array(path)
        ax.plot(*path.T, "-", color=colour, linewidth=0.8)
        ax.plot(*path.T, "o", color=colour, markersize=2)
        ax.plot(*path[0], "o", markersize=8, markerfacecolor="none", markeredgecolor=colour)
        way = np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))
        for k in sorted({int(np.searchsorted(way, share * way[-1])) for share in (0.1, 0.3, 0.6, 0.9)}):
            arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 0.8, "mutation_scale": 8}
            ax.annotate("", xy=path[k + 1], xytext=path[k], arrowprops=arrow)
    ax.set_aspect("equal", adjustable="datalim")
    title = {"function": "functions", "parameters": "parameters"}[space]
    ax.set_title(f"{title} (stress {found[space]['stress']:.2f})", fontsize=9)


def draw_curves(ax, found):
    """b and s of both spaces, in units of s at the end."""
    for space, colour in zip(SPACES, (look.BLACK, look.ORANGE), strict=True):
        end = found[space]["start"][-1]
        for name, line in (("between", "-"), ("start", ":")):
            label = f"{space}: {'between runs' if name == 'between' else 'from own start'}"
            curve = np.array(found[space][name]) / end
            ax.plot(np.array(found["update"]) / found["epoch"], curve, line, color=colour, label=label)
    ax.set(xscale="symlog", xlabel="epochs", ylabel="distance / way from start to end", ylim=(0, None))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title("distances at equal updates", fontsize=9)
    ax.legend(fontsize=6.5, frameon=False)


def caption(record):
    """One sentence: what is shown, and which of the paper's claims held."""
    settings, seeds = record["settings"], record["seeds"]
    text = (
        f"Paths of {of_seeds(len(seeds))} through functions and parameters, in the plane by multidimensional scaling "
        f"(rings: starts; arrows: direction), {settings['net']}, {settings['data']}, {settings['optimizer']}, "
        f"{settings['epochs']} epochs, functions compared {settings['measured']} "
        f"({instead(settings)})"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    return f"{text}; {'; '.join(verdict(finding) for finding in findings(record))}."

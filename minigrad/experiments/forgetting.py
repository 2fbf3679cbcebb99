"""Eight permuted tasks, one after another: what is left of the first? (Benjamin et al. 2019, figure 4)

A net of two hidden layers learns MNIST, then MNIST with its pixels in another order, and so on; shown is the test
accuracy on the first task, and its mean over all tasks so far. Five methods, with the paper's hyper-parameters:

    Adam            nothing
    Adam+retrain    every 10 updates one more on the loss of the working memory, 1,024 examples
    L2 memory       lam/2 times the root mean square distance from the outputs remembered for the memory, lam = 1.3
    EWC             lam = 500, on the mean Fisher information of 60,000 images, labels drawn from the model
    SI              c = 0.1, xi = 0.1

"L2 memory, squared" has the mean square distance, at the same lam, which was not chosen for it.

What the paper does not say, and is ours: rectified linear units, Glorot's weights, batches of 100 images, Adam begun
anew with each task; the first task is MNIST as it is; retraining and the distance see the whole memory each time; the
accuracy is that on all 10,000 test images. No hyper-parameter is tuned here.
"""

import functools
import math
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .. import backend
from .. import plot as look
from ..continual import EWC, SI, L2Memory, Plain, Retrain, learn, numbers_kept
from ..data import Permuted, mnist
from ..losses import Categorical
from ..nets import mlp
from ..objective import Objective
from ..optimizers import Adam
from ..training import Diverged, share_wrong
from .parts import checkpoints, drawn, rounded, run_seeds

NAME = "forgetting"
DESCRIPTION = "permuted MNIST tasks one after another: working memory, L2 distance, EWC, SI"
PAPER = "Benjamin et al. 2019, figure 4"

METHODS = {
    "Adam": Plain(),
    "Adam+retrain": Retrain(size=1024, interval=10),
    "L2 memory": L2Memory(lam=1.3, size=1024),
    "L2 memory, squared": L2Memory(lam=1.3, size=1024, distance="mean square"),
    "EWC": EWC(lam=500.0),
    "SI": SI(c=0.1, xi=0.1),
}
OF_THE_PAPER = ("L2 memory", "Adam", "Adam+retrain", "EWC", "SI")  # the longest first
PIXELS, BATCH, LR = 784, 100, 1e-3


@dataclass(frozen=True)
class Scale:
    """Training and test images (None: all), units of a hidden layer, tasks, epochs of each, examples in the memory,
    methods, seeds; cores: runs at once, one core each, or None for one by one on all cores."""

    images: int | None
    shown: int | None
    width: int
    tasks: int
    epochs: int
    memory: int
    methods: tuple
    seeds: int
    cores: int | None = None


SCALES = {
    "quick": Scale(2000, 500, 30, 3, 2, 100, tuple(METHODS), 1),
    "usual": Scale(10_000, None, 100, 5, 3, 1024, tuple(METHODS), 1, cores=2),
    "full": Scale(None, None, 400, 8, 10, 1024, OF_THE_PAPER, 3, cores=2),
}


def run(options):
    """All methods, seed after seed; returns the record, after Ctrl-C as far as it went. Runs go on within a task."""
    scale = SCALES[options.scale]
    seeds = list(range(options.seeds or scale.seeds))
    (x, _), (x_test, _) = images(scale)
    settings = {
        "data": f"{len(x)} training and {len(x_test)} test images of MNIST, pixels permuted",
        "objective": repr(objective(scale)),
        "tasks": scale.tasks,
        "epochs": scale.epochs,
        "updates": updates(scale),
        "batch_size": BATCH,
        "base": repr(Adam(LR)),
        "methods": {name: repr(method(name, scale)) for name in scale.methods},
        "cores": scale.cores,
    }
    return run_seeds(NAME, options, settings, x.dtype, seeds, scale.methods, partial(train, scale), scale.cores)


def objective(scale):
    """The classifier."""
    return Objective(mlp([PIXELS, scale.width, scale.width, 10], activation="relu"), Categorical())


def method(name, scale):
    """The method, with a memory of this scale."""
    given = METHODS[name]
    return replace(given, size=scale.memory) if hasattr(given, "size") else given


def updates(scale):
    """Of one task."""
    return scale.epochs * (len(images(scale)[0][0]) // BATCH)


@functools.cache
def images(scale):
    """((x, t), (x, t)) to learn from and to be judged by."""
    train, test = mnist()
    return tuple(tuple(part[:count] for part in data) for data, count in ((train, scale.images), (test, scale.shown)))


def train(scale, options, job):
    """One run, see `report`; {"diverged": why} where it did; None if it was interrupted."""
    name, seed = job
    the, (training, test) = objective(scale), images(scale)
    tests = [tuple(map(backend.asarray, task)) for task in Permuted(*test, scale.tasks, seed)]
    accuracy = lambda k: lambda theta: 1 - share_wrong(the, theta, tests[k])
    metrics = lambda number: {str(k): accuracy(k) for k in range(number + 1)}
    try:
        lessons = learn(
            the,
            method(name, scale),
            Permuted(*training, scale.tasks, seed),
            base=Adam(LR),
            updates=updates(scale),
            batch_size=BATCH,
            seed=seed,
            metrics=metrics,
            evaluate_every=updates(scale) // scale.epochs,
            folder=checkpoints(options, job),
            resume=options.resume,
            progress=f"{name}, seed {seed}" if options.progress else False,
            clock=time.perf_counter if scale.cores is None else time.process_time,
        )
    except Diverged as failure:
        return {"diverged": str(failure)}
    if len(lessons) < scale.tasks or lessons[-1].history.interrupted:
        return None
    return report(lessons)


def report(lessons):
    """{"epoch", "first", "mean", "final", "seconds", "kept", "running"} of a run.

    epoch, first, mean: after each epoch of all tasks the accuracy on the first, and its mean over those so far (that
    being learned counts). final: after each task the accuracy on each so far. seconds: of an update, task by task.
    kept: numbers kept after each task. running: further ones that the optimizer's state held beside Adam's in the last.
    """
    found = {"epoch": [], "first": [], "mean": [], "final": [], "seconds": [], "kept": []}
    for number, lesson in enumerate(lessons):
        curves = lesson.history.curves
        of_tasks = np.array([curves[str(k)][1:] for k in range(number + 1)])  # the first row is the last task's end
        epochs = of_tasks.shape[1]
        found["epoch"] += [number * epochs + i + 1 for i in range(epochs)]
        found["first"] += rounded(of_tasks[0])
        found["mean"] += rounded(of_tasks.mean(axis=0))
        found["final"].append(rounded(of_tasks[:, -1]))
        found["seconds"] += rounded([lesson.history.seconds / lesson.history.update])
        found["kept"].append(numbers_kept(lesson.kept))
    last = lessons[-1].history
    plain = Adam(LR).init(None, last.theta)
    return found | {"running": numbers_kept(last.state) - numbers_kept(plain)}


def ewc_numbers(sizes):
    """What EWC keeps of a net of these widths: theta and the diagonal, two numbers a parameter."""
    return 2 * mlp(sizes, activation="relu").layout.size


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: accuracy on the first task and over all, memory in images, and seconds of an update."""
    runs, settings = finished(record), record["settings"]
    fig, axes = look.mosaic([["first", "mean"], ["kept", "seconds"]], width=9.0, height=4.8, height_ratios=[2.2, 1])
    for name, found in runs.items():
        x = np.array(found[0]["epoch"]) / settings["epochs"]
        for part in ("first", "mean"):
            look.curves(axes[part], {name: (x, 100 * np.array([run[part] for run in found]))})
    axes["first"].set(ylabel="accuracy on the first task (%)")
    axes["mean"].set(ylabel="mean over the tasks so far (%)")
    for part in ("first", "mean"):
        axes[part].set(xlabel="tasks learned", xticks=range(settings["tasks"] + 1))
        look.label_ends(axes[part])
    names = [name for name in settings["methods"] if name in runs]
    bars(axes["kept"], {name: largest(runs[name]) / PIXELS for name in names})
    axes["kept"].set(xlabel="numbers held beside Adam's, in MNIST images")
    bars(axes["seconds"], {name: 1000 * seconds(runs[name]) for name in names})
    axes["seconds"].set(xlabel="ms of an update" + (" (one core)" if settings["cores"] else ""))
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def bars(ax, lengths):
    """A bar for each method, in its colour."""
    for i, (name, length) in enumerate(reversed(lengths.items())):
        ax.barh(i, length, color=look.look(name).colour, hatch="//" if look.look(name).line == ":" else None)
        ax.text(length, i, f" {length:,.0f}" if length >= 100 else f" {length:.3g}", va="center", fontsize=7)
    ax.set(yticks=range(len(lengths)))
    ax.set_yticklabels(list(reversed(lengths)), fontsize=7)
    ax.margins(x=0.15)


def finished(record):
    """{method: its runs, seed by seed}, without methods that have none and runs that diverged."""
    found = {}
    for name, runs in record["results"]["runs"].items():
        whole = [run for run in runs.values() if "diverged" not in run]
        if whole:
            found[name] = whole
    return found


def largest(found):
    """The most numbers that a method keeps between two tasks, and holds more than Adam while it learns one."""
    return max(found[0]["kept"]) + found[0]["running"]


def seconds(found):
    """Of an update once there is something to remember: the median over tasks and seeds."""
    return float(np.median([run["seconds"][1:] or math.nan for run in found]))


def caption(record):
    """One sentence: what is shown, and what came of it, read off the record."""
    settings, runs = record["settings"], finished(record)
    text = (
        f"Accuracy on test images of a net that learns {settings['tasks']} tasks of permuted pixels in turn, "
        f"{settings['epochs']} epochs each ({settings['data']}), {drawn(record['seeds'])}; below, what is kept of "
        "former tasks, and how long an update takes"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    end = lambda name, part: 100 * np.median([run[part][-1] for run in runs[name]])
    ends = [f"{name} {end(name, 'first'):.1f} / {end(name, 'mean'):.1f}" for name in runs]
    text += ": at the end, on the first task / on all, in %, " + ", ".join(ends)
    if "Adam" in runs:
        times = [f"{name} {seconds(runs[name]) / seconds(runs['Adam']):.2f}" for name in runs if name != "Adam"]
        text += "; an update takes, times Adam's, " + ", ".join(times)
    names = settings["methods"]
    lost = [name for name in names if len(runs.get(name, [])) < len(record["seeds"])]
    return text + "".join(f"; {name} diverged" for name in lost) + "."

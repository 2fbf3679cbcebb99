"""How much do epsilon and T matter to PRONG, and how much its start? (Desjardins et al., figures 3a and 3b)

An autoencoder on MNIST, trained by PRONG without momentum; shown is the squared error of training images. First epsilon
and the learning rate, at one T. Then T, at one epsilon and learning rate, from three starts:

    whitened         V is drawn fan-in, so that whitened inputs meet weights of the usual size; W = U' V follows
    fan-in           W is drawn fan-in, and whitened at update 0, which changes no function (algorithm 1 as printed)
    fan-in, later    W is drawn fan-in, and whitened at update T first; until then this is SGD

The paper calls the first "a proper whitened initialization" and compares it with "fan-in" without saying which of the
other two that is. T = never keeps the coefficients of the start: PRONG in fixed coordinates, or plain SGD, at a
learning rate that was not chosen for it.

Not as in the paper: the net is smaller, 784-128-64-32-16 and back (theirs is Martens', of 8 layers), with tanh units,
and trains for 2,500 updates of 100 images where figure 3 has up to 10^5; so T ends at 1,000. Learning rates are a grid;
nothing is tuned.
"""

from dataclasses import dataclass

import numpy as np

from .. import plot as look
from ..backend import asarray, item
from ..curvature import input_moments
from ..data import mnist
from ..losses import Bernoulli
from ..nets import FanIn, autoencoder, from_whitened, whitening
from ..objective import Objective
from ..optimizers import PRONG
from ..training import Diverged, fit, records
from .conditioning import small
from .parts import drawn, run_parts

NAME = "prong-sensitivity"
DESCRIPTION = "PRONG's epsilon, learning rate, T and start, on an autoencoder"
PAPER = "Desjardins et al., figures 3a and 3b"

STARTS = ("whitened", "fan-in", "fan-in, later")
SMALL = 10 * 10
BATCH = 100


@dataclass(frozen=True)
class Scale:
    """Widths from the image (784 or 10 x 10 pixels) to the code, training images (None: all), updates, N_s; epsilons,
    learning rates and the T of figure 3a; the Ts, epsilon and learning rate of figure 3b; seeds."""

    sizes: tuple
    images: int | None
    updates: int
    samples: int
    epsilons: tuple
    rates: tuple
    interval: int
    intervals: tuple
    epsilon: float
    rate: float
    seeds: int


SCALES = {
    "quick": Scale((SMALL, 16, 8), 1000, 40, 200, (1e-1, 1e-2), (0.03,), 20, (20, None), 1e-2, 0.03, 1),
    "usual": Scale((784, 128, 64, 32, 16), None, 500, 2000, (1e-1, 1e-2, 1e-3), (0.003, 0.01), 100, (100, None), 1e-2,
                   0.003, 1),
    "full": Scale((784, 128, 64, 32, 16), None, 2500, 2000, (1e-1, 1e-2, 1e-3, 1e-4), (0.001, 0.003, 0.01), 100,
                  (10, 100, 1000, None), 1e-2, 0.003, 2),
}  # fmt: skip


def run(options):
    """All runs of figure 3a, then those of 3b, seed after seed; returns the record."""
    scale = SCALES[options.scale]
    seeds = list(range(options.seeds or scale.seeds))
    task = Task(scale)
    settings = {
        "net": f"autoencoder{scale.sizes} tanh, {task.objective.layout.size} parameters",
        "data": f"MNIST, {len(task.x)} training images of {scale.sizes[0]} pixels",
        "batch_size": BATCH,
        "updates": scale.updates,
        "samples": scale.samples,
        "epsilons": list(scale.epsilons),
        "learning rates": list(scale.rates),
        "interval": scale.interval,
        "intervals": list(scale.intervals),
        "epsilon": scale.epsilon,
        "learning rate": scale.rate,
        "starts": list(STARTS),
    }
    parts = {}
    for seed in seeds:
        for key, arguments in runs(settings):
            parts[f"{key}, seed {seed}"] = lambda results, a=arguments, s=seed: task.train(*a, s)
    return run_parts(NAME, options, settings, seeds, parts, dtype="float32")


def runs(settings):
    """[(its name, (epsilon, learning rate, T, start))] of every run, those of figure 3a first."""
    first = [
        (f"epsilon {epsilon:g}, lr {lr:g}", (epsilon, lr, settings["interval"], "whitened"))
        for epsilon in settings["epsilons"]
        for lr in settings["learning rates"]
    ]
    second = [
        (f"T {interval}, {start}", (settings["epsilon"], settings["learning rate"], interval, start))
        for interval in settings["intervals"]
        for start in STARTS
    ]
    return first + second


class Task:
    """The images, the autoencoder, and a run of it."""

    def __init__(self, scale):
        (x, _), _ = mnist()
        x = x[: scale.images]
        self.scale, self.x = scale, small(x).astype(x.dtype) if scale.sizes[0] == SMALL else x
        self.objective = Objective(autoencoder(scale.sizes, "tanh", init=FanIn()), Bernoulli())
        self.sample = asarray(self.x[: scale.samples])

    def train(self, epsilon, lr, interval, start, seed):
        """{"update": [...], "error": squared error on 1,000 training images, None once it diverged}."""
        first = 0 if start != "fan-in, later" else self.scale.updates if interval is None else interval
        optimizer = PRONG(lr, interval=interval, samples=self.scale.samples, epsilon=epsilon, first=first)
        theta = self.objective.net.init(np.random.default_rng(seed), self.x.dtype)
        if start == "whitened":
            theta = drawn_white(self.objective, theta, self.sample, epsilon)
        shown = asarray(self.x[:1000])
        error = lambda theta: item(((self.objective.predict(theta, shown) - shown) ** 2).sum(axis=1).mean())
        try:
            history = fit(self.objective, optimizer, (self.x, self.x), theta=theta, updates=self.scale.updates,
                          seed=seed, batch_size=BATCH, evaluate_every=max(1, self.scale.updates // 20),
                          metrics={"error": error}, progress=False)  # fmt: skip
        except Diverged as diverged:
            history = diverged.history
        return {"update": history.curves["update"], "error": history.curves["error"], "stopped": history.stopped}


def drawn_white(objective, omega, x, epsilon):
    """theta whose whitened parameters are omega: layer after layer, for each is measured where those below are set."""
    layers = []
    for i in range(len(objective.net.names)):
        theta = from_whitened(layers, omega.shape[0]) @ omega
        m = input_moments(objective.linearize(theta, x)[1])[i]
        layers.append(whitening(m.name, m.span, m.covariance, m.mean, epsilon))
    return from_whitened(layers, omega.shape[0]) @ omega


# --- the figure ------------------------------------------------------------------------------------------

BLUES = ("#9ECAE1", "#4292C6", "#08519C", "#041F4A")


def plot(record, folder):
    """One figure: error against updates for each epsilon (a line style a learning rate), and for each T and start."""
    settings, results = record["settings"], record["results"]
    fig, (left, right) = look.figure(1, 2, width=9.0, height=4.4)
    for name, (epsilon, lr, _, _) in runs(settings)[: len(settings["epsilons"]) * len(settings["learning rates"])]:
        colour = BLUES[settings["epsilons"].index(epsilon) % len(BLUES)]
        line = (":", "--", "-")[settings["learning rates"].index(lr) % 3]
        draw(left, results, record["seeds"], name, colour, line, f"ε = {epsilon:g}, lr = {lr:g}")
    for name, (_, _, interval, start) in runs(settings)[-len(settings["intervals"]) * len(STARTS) :]:
        colour = BLUES[settings["intervals"].index(interval) % len(BLUES)]
        line = dict(zip(STARTS, ("-", "--", ":"), strict=True))[start]
        label = f"T = {'never' if interval is None else interval}, {start}"
        draw(right, results, record["seeds"], name, colour, line, label)
    for ax in (left, right):
        ax.set(yscale="log", xlabel="updates", ylabel="squared error of a training image")
        look.plain_numbers(ax.yaxis)
        ax.legend(fontsize=6.5, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def draw(ax, results, seeds, name, colour, line, label):
    """The median over seeds of a run's error, as far as every seed came."""
    found = [results[f"{name}, seed {seed}"] for seed in seeds if f"{name}, seed {seed}" in results]
    if found:
        errors, updates = together(found)
        ax.plot(updates, errors, line, color=colour, label=label, linewidth=1.3)


def together(found):
    """(median error, updates) over runs, as far as all of them came."""
    length = min(len(run["error"]) for run in found)
    errors = np.array([records.numbers(run["error"])[:length] for run in found])
    return np.median(errors, axis=0), found[0]["update"][:length]


def finals(record):
    """{run: median of its last error over seeds, inf if any seed diverged}."""
    results, seeds, ends = record["results"], record["seeds"], {}
    for name, _ in runs(record["settings"]):
        found = [results[f"{name}, seed {seed}"] for seed in seeds]
        diverged = any(run["stopped"] == "diverged" for run in found)
        ends[name] = np.inf if diverged else float(np.median([run["error"][-1] for run in found]))
    return ends


def caption(record):
    """One sentence: what is shown, and the numbers at the end."""
    settings, results, seeds = record["settings"], record["results"], drawn(record["seeds"]).replace(" and range", "")
    text = (
        f"Squared error of training images by PRONG, {seeds}, {settings['net']}, "
        f"{settings['updates']} updates; left by epsilon and learning rate at T = {settings['interval']}, right by T "
        f"and start at epsilon = {settings['epsilon']:g}, lr = {settings['learning rate']:g}"
    )
    if not results["complete"]:
        return text + ": unfinished."
    ends = finals(record)
    say = lambda error: "diverged" if np.isinf(error) else f"{error:.3g}"
    best = {
        epsilon: min(ends[f"epsilon {epsilon:g}, lr {lr:g}"] for lr in settings["learning rates"])
        for epsilon in settings["epsilons"]
    }
    text += "; at the end, at the best learning rate, " + ", ".join(f"ε = {e:g}: {say(best[e])}" for e in best)
    text += "; " + ", ".join(
        f"T = {'never' if T is None else T}: {' / '.join(say(ends[f'T {T}, {start}']) for start in STARTS)}"
        for T in settings["intervals"]
    )
    return f"{text} ({' / '.join(STARTS)})."

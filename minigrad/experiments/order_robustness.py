"""How much of the trained net depends on when a sample came? (Pascanu & Bengio, section 6, figure 3, appendix 8.8)

A net learns online from a stream; no sample comes twice. The first half of the stream is cut into ten segments. Five
runs differ in one segment alone, which is drawn anew for each, and the variance of their outputs at the end, on samples
held out, says how much that segment has shaped the net; so for each segment in turn. The paper finds that early
segments matter more than late ones, for SGD and for natural gradient, and that natural gradient has the lower variance.

As in the paper: 500 hidden units, batches of 512 for gradient and metric alike, constant learning rates, .1 for SGD,
and a constant damping of 3. With so much of it natural gradient is nearly SGD here, so it runs with 0.1 as well.
Whoever moves less varies less, so all are brought to equal validation error at the end of the stream: natural
gradient's learning rate (the paper has .2) is searched until it meets SGD's error, in runs on the first seed's stream,
before the others start (`match`; the record holds all trials).

Not as in the paper: deformed MNIST digits stand in place of NISTP; a full run sees 512,000 of them (1,000 updates), the
paper's saw 32.7 million; held out are 10,000, not 100,000; the system is solved by conjugate gradients, to 5 % of the
gradient's norm or ten iterations, not by MINRES-QLP. Hidden units are tanh (the paper does not say). Variances are
unbiased, over five runs of which the first is the same for all segments.

All runs advance together, part by part of the stream: what differs in segment k branches off there, each image is made
once, and every run is bit for bit what it would be if trained alone from the start.
"""

import contextlib
import shutil
from dataclasses import asdict, dataclass

import numpy as np

from .. import backend
from .. import plot as look
from ..backend import xp
from ..data import DeformedDigits, mnist, split
from ..losses import Categorical
from ..nets import mlp
from ..objective import Objective
from ..optimizers import SGD, ConjugateGradient, FixedDamping, NaturalGradient
from ..training import checkpoint, records
from ..training.files import writable_folder
from .parts import drawn, earlier

NAME = "order-robustness"
DESCRIPTION = "one tenth of the stream drawn anew: how much do SGD's and natural gradient's nets vary?"
PAPER = "Pascanu & Bengio, figure 3"

METHODS = {  # the first one's learning rate is kept, the others' are where the search begins
    "SGD": {"lr": 0.1},
    "natural gradient": {"lr": 0.2, "damping": 3.0},
    "natural gradient, damping 0.1": {"lr": 0.02, "damping": 0.1},
}
RTOL, ITERATIONS = 0.05, 10
NEAR = 1e-3  # a difference in validation error that ends the search
SEGMENTS = 10  # of the first half of the stream; the second half is as many parts again, the same for all runs
PARTS = 2 * SEGMENTS
BASE = (0, 0)  # a run is called (segment drawn anew, which drawing); this one is the first drawing of every segment


@dataclass(frozen=True)
class Scale:
    """Updates in each part of the stream, samples of an update, hidden units, runs that differ in a segment, trials of
    a learning rate, samples for validation and as many held out, seeds."""

    updates: int
    batch_size: int
    hidden: int
    runs: int
    trials: int
    held_out: int
    seeds: int


SCALES = {
    "quick": Scale(1, 32, 20, 2, 2, 500, 1),
    "usual": Scale(10, 256, 100, 5, 6, 5000, 1),
    "full": Scale(50, 512, 500, 5, 6, 10_000, 1),
}


def run(options):
    """Match the methods, train all runs of every seed; returns the record, after Ctrl-C as far as it went."""
    scale, path, folder = SCALES[options.scale], options.out / "record.json", options.out / "checkpoints"
    task, seeds = Task(scale), list(range(options.seeds or scale.seeds))
    settings = {
        "scale": options.scale,
        "sizes": asdict(scale),
        "methods": METHODS,
        "solver": f"CG, rtol {RTOL}, maxiter {ITERATIONS}",
        "data": task.source,
        "objective": repr(task.objective),
    }
    record = earlier(path, NAME, settings, seeds) if options.resume else None
    if record is None:
        record = records.new(NAME, settings=settings, seeds=seeds, dtype=task.held_out[0].dtype)
        record["results"] = {"complete": False, "trials": {name: [] for name in METHODS}, "seeds": []}
        shutil.rmtree(folder, ignore_errors=True)
    results = record["results"]
    if results["complete"]:
        return record

    writable_folder(folder)
    with contextlib.suppress(KeyboardInterrupt):  # what a part has found is kept at once
        with bar(options.progress, "equal errors") as tick:
            for _ in match(task, results["trials"], seeds[0], tick):
                records.save(record, path)
        rates = learning_rates(results["trials"])
        total = len(seeds) * len(METHODS) * updates_until(PARTS, scale)
        with bar(options.progress, "all runs", total) as tick:
            for number, seed in enumerate(seeds):
                for found in train(task, rates, seed, folder / f"{seed}.npz", tick):
                    results["seeds"][number:] = [found]
                    records.save(record, path)
        results |= {"complete": True, "claims": claims(results["seeds"])}
        records.save(record, path)
        shutil.rmtree(folder)
    return record


class Task:
    """What all runs share: the net and its loss, the digits to learn from, validation and held-out samples."""

    def __init__(self, scale):
        (x, t), test = mnist()
        train, rest = split(x, t, len(x) // 6, np.random.default_rng(0))
        self.scale, self.objective = scale, Objective(mlp([784, scale.hidden, 10]), Categorical())
        self.train, *others = (DeformedDigits(*digits, seed=0) for digits in (train, rest, test))
        self.validation, self.held_out = (on_device(stream.samples(0, scale.held_out)) for stream in others)
        self.source = (
            f"deformed MNIST digits, made of {len(train[0]):,} images to learn from, {len(rest[0]):,} for validation "
            f"and {len(test[0]):,} held out"
        )

    def error(self, theta):
        """The share of wrong labels among the validation samples."""
        x, t = self.validation
        return backend.item((self.objective.predict(theta, x).argmax(axis=1) != t).mean())

    def updates(self, seed, part, drawing):
        """(batch, further) of each update in a part of the stream; further() makes the update's own (draw, rng)."""
        size = self.scale.batch_size
        for update in range(self.scale.updates):

            def samples(purpose, n=size, u=update):
                return on_device(self.train.samples(n * u, n * (u + 1), seed, part, drawing, purpose))

            def further(samples=samples, u=update):
                return lambda n=size: samples(1, n), np.random.default_rng([seed, part, drawing, u])

            yield samples(0), further


def on_device(batch):
    """(x, t) as arrays of the active backend."""
    return tuple(backend.asarray(part) for part in batch)


def optimizer(name, lr):
    """A method with this learning rate."""
    if name == "SGD":
        return SGD(lr)
    solver = ConjugateGradient(maxiter=ITERATIONS, rtol=RTOL, stop=None)
    return NaturalGradient(lr, damping=FixedDamping(METHODS[name]["damping"]), solver=solver)


# --- runs: {(method, (segment drawn anew, drawing)): (theta, state)} ---------------------------------------


def start(task, optimizers, seed):
    """Every method's base run, all from the same parameters."""
    theta = task.objective.net.init(np.random.default_rng(seed), dtype=task.train.x.dtype)
    return {(name, BASE): (theta, method.init(task.objective, theta)) for name, method in optimizers.items()}


def branch(runs, segment, count):
    """The runs and, before a segment begins, those that will differ in it: theta and state as the base run has them."""
    new = [(name, (segment, drawing)) for name, which in runs if which == BASE for drawing in range(1, count)]
    return runs | {(name, which): runs[name, BASE] for name, which in new}


def advance(task, optimizers, runs, seed, part, tick):
    """The runs after a part of the stream: each sees the drawing of it that is its own, most of them drawing 0."""
    runs, groups = dict(runs), {}
    for name, (segment, drawing) in runs:
        groups.setdefault(drawing if segment == part else 0, []).append((name, (segment, drawing)))
    for drawing, keys in groups.items():
        for batch, further in task.updates(seed, part, drawing):
            for key in keys:
                theta, state, _ = optimizers[key[0]].step(*runs[key], task.objective, batch, *further())
                runs[key] = theta, state
                tick()
    return runs


def updates_until(part, scale):
    """Updates of all runs of a method before a part of the stream begins: of the base, and of those branched off."""
    branched = sum(part - segment for segment in range(min(part, SEGMENTS)))
    return scale.updates * (part + (scale.runs - 1) * branched)


def train(task, rates, seed, path, tick):
    """All runs of a seed, from the checkpoint if it is there: gives what has been found after each part of the stream.

    {"samples": [seen so far], "error": {method: [of the base run]}, "variance": {method: [for each segment so far]}},
    at the end "errors": {method: [of all its runs]}; errors on the validation samples, variances on held-out ones.
    """
    optimizers = {name: optimizer(name, lr) for name, lr in rates.items()}
    fingerprint = {"task": f"{task.scale} {task.source} {METHODS}", "rates": str(rates), "seed": str(seed)}
    if path.exists():
        found, runs = restored(checkpoint.load(path, fingerprint))
        tick(len(rates) * updates_until(len(found["samples"]), task.scale))
        yield found
    else:
        found, runs = {"samples": [], "error": {name: [] for name in rates}}, start(task, optimizers, seed)
    for part in range(len(found["samples"]), PARTS):
        if part < SEGMENTS:
            runs = branch(runs, part, task.scale.runs)
        runs = advance(task, optimizers, runs, seed, part, tick)
        found = {
            "samples": [*found["samples"], (part + 1) * task.scale.updates * task.scale.batch_size],
            "error": {name: [*found["error"][name], task.error(runs[name, BASE][0])] for name in rates},
            "variance": {name: variances(task, runs, name) for name in rates},
        }
        if part == PARTS - 1:
            found["errors"] = {name: [] for name in rates}
            for (name, _), (theta, _) in runs.items():
                found["errors"][name].append(task.error(theta))
        checkpoint.save(path, content(found, runs), fingerprint)
        yield found


def variances(task, runs, name):
    """[v_k]: v_k = sum_r ||y_r - mean of y||^2 / (R - 1), mean over outputs and held-out samples, over the R runs that
    differ in segment k alone."""
    y = {which: task.objective.predict(theta, task.held_out[0]) for (whose, which), (theta, _) in runs.items()
         if whose == name}  # fmt: skip
    together = lambda k: xp.stack([y[BASE], *(y[which] for which in y if which != BASE and which[0] == k)])
    segments = sorted({segment for segment, _ in y})
    return [backend.item(together(k).var(axis=0, ddof=1).mean()) for k in segments]


def content(found, runs):
    """Findings and runs as a checkpoint holds them."""
    states = {f"{i}.{part}": value for i, (theta, state) in enumerate(runs.values())
              for part, value in {"theta": theta, **state}.items()}  # fmt: skip
    return {"found": found, "runs": [[name, list(which)] for name, which in runs], **states}


def restored(content):
    """(findings, runs) of a checkpoint's content."""
    runs = {}
    for i, (name, which) in enumerate(content["runs"]):
        parts = {key.split(".", 1)[1]: value for key, value in content.items() if key.startswith(f"{i}.")}
        runs[name, tuple(which)] = parts.pop("theta"), parts
    return content["found"], runs


# --- equal validation error ------------------------------------------------------------------------------


def match(task, trials, seed, tick):
    """Fill {method: [{"lr": ..., "error": ...}]}, one entry at a time: one for SGD, for others until one is near it."""
    for name, done in trials.items():
        while not done or (gap(nearest(done, trials), trials) > NEAR and len(done) < task.scale.trials):
            lr = next_lr(done, trials["SGD"][0]["error"]) if done else METHODS[name]["lr"]
            optimizers = {name: optimizer(name, lr)}
            runs = start(task, optimizers, seed)
            for part in range(PARTS):
                runs = advance(task, optimizers, runs, seed, part, tick)
            done.append({"lr": lr, "error": task.error(runs[name, BASE][0])})
            yield


def gap(trial, trials):
    """How far from SGD's error a trial ends."""
    return abs(trial["error"] - trials["SGD"][0]["error"])


def nearest(done, trials):
    """The trial that ends nearest to SGD's error."""
    return min(done, key=lambda trial: gap(trial, trials))


def learning_rates(trials):
    """{method: the learning rate of its best trial}."""
    return {name: nearest(done, trials)["lr"] for name, done in trials.items()}


def next_lr(trials, error):
    """The learning rate to try next, if a larger one means a smaller error: by factors of 2 until trials lie on both
    sides of `error`, then where the line through the nearest two, in log(lr), meets it."""
    far = [trial for trial in trials if trial["error"] <= error]
    if not far:
        return 2 * max(trial["lr"] for trial in trials)
    fast = min(far, key=lambda trial: trial["lr"])
    slower = [trial for trial in trials if trial["lr"] < fast["lr"]]
    if not slower:
        return fast["lr"] / 2
    slow = max(slower, key=lambda trial: trial["lr"])
    share = (slow["error"] - error) / (slow["error"] - fast["error"])
    return slow["lr"] * (fast["lr"] / slow["lr"]) ** min(max(share, 0.1), 0.9)


@contextlib.contextmanager
def bar(shown, what, total=None):
    """Gives tick(n=1), to be called after n updates; with a counter of them on stderr if it is to be shown."""
    from tqdm.auto import tqdm

    settings = {"unit": " updates", "disable": not shown, "dynamic_ncols": True, "mininterval": 1}
    with tqdm(desc=f"{NAME}, {what}", total=total, **settings) as counter:
        yield counter.update


# --- the paper's claims ----------------------------------------------------------------------------------


def claims(seeds):
    """What the variances v_1 .. v_10 at the end (median over seeds) say of the paper's two claims, {method: {...}}:

    "first / last": v_1 / v_10; "trend": rank correlation of v_k with k; "early matters more": does it fall with k?
    For natural gradient also "ratio": geometric mean of v_k / SGD's; "lower in": how many segments; "varies less".
    Verdicts are "reproduced", "reversed" or "undecided", the trend's from a correlation of 0.65 on, the ratio's from 9
    of 10 segments on: ten independent numbers without trend or difference go so far once in 20, and in 50.
    """
    v = {name: np.median(together([found["variance"][name] for found in seeds]), axis=0) for name in METHODS}
    found = {}
    for name, own in v.items():
        trend = float(np.corrcoef(np.arange(SEGMENTS), own.argsort().argsort())[0, 1])
        found[name] = {
            "first / last": float(own[0] / own[-1]),
            "trend": trend,
            "early matters more": verdict(-trend, 0.65),
        }
        if name != "SGD":
            lower = int((own < v["SGD"]).sum())
            ratio = float(np.exp(np.log(own / v["SGD"]).mean()))
            found[name] |= {"ratio": ratio, "lower in": lower, "varies less": verdict(2 * lower / SEGMENTS - 1, 0.8)}
    return found


def verdict(evidence, enough):
    """Of a number in [-1, 1], positive if the paper's claim holds."""
    return "reproduced" if evidence >= enough else "reversed" if evidence <= -enough else "undecided"


def together(columns):
    """One column of each seed as rows of an array, as far as every seed came."""
    length = min(map(len, columns))
    return np.array([records.numbers(column)[:length] for column in columns])


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: variance against the segment that was drawn anew, and validation error against samples seen."""
    sizes, seeds = record["settings"]["sizes"], record["results"]["seeds"]
    fig, (left, right) = look.figure(1, 2, height=3.4, width_ratios=[3, 2])
    for name in METHODS if seeds else ():
        variance = together([found["variance"][name] for found in seeds])
        error = 100 * together([found["error"][name] for found in seeds])
        draw(left, name, np.arange(1, variance.shape[1] + 1), variance)
        draw(right, name, np.array(seeds[0]["samples"][: error.shape[1]]) / 1000, error)
    left.set(yscale="log", xlabel="segment drawn anew", ylabel="variance of an output", xticks=range(1, SEGMENTS + 1))
    right.set(xlabel="thousands of samples seen", ylabel="validation error, %")
    right.axvspan(0, SEGMENTS * sizes["updates"] * sizes["batch_size"] / 1000, color="#F2F2F2", zorder=0)
    look.label_ends(left)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def draw(ax, name, x, y):
    """One method's curve: the same colour for natural gradient at either damping, dashed at the smaller one."""
    family, _, variant = name.partition(", ")
    look.curves(ax, {family: (x, y)})
    if variant:
        ax.get_lines()[-1].set(linestyle="--", label=variant)


def caption(record):
    """One sentence: what is shown, and whether the paper's claims hold in these numbers."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    sizes = settings["sizes"]
    samples = PARTS * sizes["updates"] * sizes["batch_size"]
    text = (
        f"Variance of an output over {sizes['runs']} runs that differ in one tenth of the first half of the stream, "
        f"mean over outputs and {sizes['held_out']:,} held-out samples, and validation error of the runs' common base "
        f"(grey: the ten segments), for 784-{sizes['hidden']}-10 and {samples:,} samples a run where the paper had "
        f"32.7 million, {drawn(seeds)}, {settings['data']}"
    )
    if not results["complete"]:
        return text + ": unfinished."
    for name, lr in learning_rates(results["trials"]).items():
        found, errors = results["claims"][name], np.concatenate([found["errors"][name] for found in results["seeds"]])
        damping = f", damping {METHODS[name]['damping']:g}" if "damping" in METHODS[name] else ""
        text += f"; {name.partition(',')[0]} (lr {lr:.3g}{damping}, final error {100 * errors.mean():.3g} %)"
        if "ratio" in found:
            text += (
                f" has {found['ratio']:.2g} times SGD's variance, less in {found['lower in']} of {SEGMENTS} segments"
            )
            text += f" (that it varies less: {found['varies less']}), and"
        text += f" varies {found['first / last']:.2g} times as much by the first segment as by the last"
        text += f" (that early segments matter more: {found['early matters more']})"
    return text + "."

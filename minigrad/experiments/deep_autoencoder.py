"""The deep autoencoder on MNIST: the thesis' benchmark, which it left open (George, sections 2.5, 3.4.3).

The net is 784-1000-500-250-30 and back, deep and narrow in the middle: the classic test of whether a method can train
through many layers. Layers are sigmoid but for the code, which is linear (as in Hinton & Salakhutdinov 2006 and Martens
2010). Outputs are Bernoulli in logit form, a matched pair, so that the Fisher metric in r is the Hessian in r; the
error shown is the thesis' squared error of the image, ||sigmoid(r) - x||^2.

From Glorot's own variance, or with a sigmoid code, signals are so faint in the middle that methods stay long where the
net reproduces nothing but the mean image, at an error of 51. So weights start sparse (Martens 2010, section 5) or with
a larger variance alpha / (n_in + n_out); a sigmoid's slope of 1/4 makes alpha = 2 into 32. Which of these, the batch
size, and a method's own parameters are found by equally many random trials of equal time for each method
(`tune_deep_autoencoder.py`; its record lies beside this file), or, with `--tune`, anew by biased random search. One
choice was not equal: that the code is linear was settled by some ten runs of natural gradient, more than the others
had, which were judged on 1,000 of the test images.

Five methods train for the usual form, one after the other on all cores. The full form has all of
`deep_autoencoder_methods.py`, each run on one core; a second is then one of the processor, so that runs beside each
other can be compared.
"""

import functools
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import backend
from .. import plot as look
from ..optimizers.phases import stopwatch
from ..training import records
from .deep_autoencoder_methods import METHODS, OF_THE_DEMO, objective
from .deep_autoencoder_report import findings as findings
from .deep_autoencoder_report import plot_report
from .deep_autoencoder_task import images, measured, train_one
from .parts import curves_of, drawn, kept, run_seeds, seeds_together
from .tune_deep_autoencoder import trials, tune, winners

NAME = "deep-autoencoder"
DESCRIPTION = "sixteen methods train a deep autoencoder on MNIST for equal time"
PAPER = "George, section 2.5, figure 3.2; Desjardins et al., figure 3c-d"

TUNED = Path(__file__).with_name("deep_autoencoder_tuned.json")
PICTURES = 12


@dataclass(frozen=True)
class Scale:
    """Seconds of training for each method and seed, images of each set to train on and to measure errors on (None:
    all), seeds, methods; cores: runs at once, one core each, or None for one by one on all cores."""

    seconds: float
    images: int | None
    measured: int | None
    seeds: int
    methods: tuple
    cores: int | None = None


SCALES = {
    "quick": Scale(0.25, 500, None, 1, OF_THE_DEMO),
    "usual": Scale(25.0, None, 2000, 1, OF_THE_DEMO),
    "full": Scale(180.0, None, 5000, 3, tuple(METHODS), cores=2),
}


def run(options):
    """Train every method with every seed; returns the record: complete, or as far as it went when Ctrl-C ended it.

    With options.tune the hyper-parameters are searched first, in a folder of its own in options.out. No run is long:
    one that was interrupted begins anew when the experiment is resumed.
    """
    scale = SCALES[options.scale]
    seeds, tuning = list(range(options.seeds or scale.seeds)), tuned(options)
    train, test, source = images(scale.images)
    settings = {
        "seconds": scale.seconds,
        "cores": scale.cores,
        "data": f"{len(train)} training images of {source}",
        "measured": measured(scale, test),
        "objectives": {name: repr(objective(name)) for name in scale.methods},
        "parameters": parameters_of(tuning, scale.methods),
        "tuning": {key: tuning["settings"][key] for key in ("search", "trials", "seconds")}
        | {"errors": {name: [trial["error"] for trial in done] for name, done in trials(tuning).items()}},
    }
    if not tuning["results"]["complete"]:  # interrupted
        record = records.new(NAME, settings={"scale": options.scale} | settings, seeds=seeds, dtype=train.dtype)
        record["results"] = {"complete": False, "runs": {name: {} for name in scale.methods}}
        return record
    work = functools.partial(outcome, scale, settings["parameters"])
    return run_seeds(NAME, options, settings, train.dtype, seeds, scale.methods, work, scale.cores)


def outcome(scale, parameters, options, job):
    """What the record keeps of a method and seed, in the demo with pictures; None if it was interrupted."""
    name, seed = job
    train, test, _ = images(scale.images)
    count = measured(scale, test)
    clock = time.perf_counter if scale.cores is None else time.process_time
    with stopwatch(clock) as phases:
        history = train_one(
            name, parameters[name], train, (train[:count], test[:count]), scale.seconds, seed, options, clock
        )
    found = kept(history, ("update", "seconds", "train_error", "test_error"))
    if found is None:
        return None
    found |= {"updates": history.update, "seconds": history.seconds, "phases": phases}
    if scale.methods == OF_THE_DEMO:
        the = objective(name).settled(history.theta, backend.asarray(train[:count]))
        y = the.predict(history.theta, backend.asarray(test[:PICTURES]))
        found["pictures"] = {"digits": picture(test[:PICTURES]), "reproduced": picture(y)}
    return found


def tuned(options):
    """The tuning record: the one that comes with minigrad, or with options.tune that of a biased search."""
    if not options.tune:
        return records.load(TUNED, "tune-deep-autoencoder")
    folder = options.out / "tuning"
    folder.mkdir(exist_ok=True)
    return tune(replace(options, out=folder), "biased")


def parameters_of(tuning, methods):
    """{method: the winner of its trials}. ValueError naming a method that a whole tuning record lacks."""
    best = winners(tuning)
    for name in methods:
        if name not in best and tuning["results"]["complete"]:
            raise ValueError(f"the tuning record has no parameters of {name}: run tune-deep-autoencoder --full")
    return {name: best[name] for name in methods if name in best}


def picture(x):
    """Images in [0, 1] as whole numbers 0..255, for the record."""
    return np.rint(255 * backend.to_host(x)).astype(int)


# --- the demo's figure -----------------------------------------------------------------------------------


def plot(record, folder):
    """Of the demo one figure: test error against updates and seconds, and digits as each method reproduces them.

    Of the full form those of `deep_autoencoder_report.py`.
    """
    if record["settings"]["scale"] == "full":
        return plot_report(record, folder)
    results = record["results"]
    methods = [name for name in OF_THE_DEMO if results["runs"].get(name)]
    fig, axes = look.mosaic([["update", "seconds"], ["digits", "digits"]], height=5.6, height_ratios=[3, 2.6])
    for axis, label in (("update", "updates"), ("seconds", "seconds of training")):
        ax = axes[axis]
        for name in methods:
            x, errors = seeds_together(curves_of(results["runs"][name]), axis)
            look.curves(ax, {name: (x[1:], errors[:, 1:])})  # the start is the same for all
        ax.set(yscale="log", xlabel=label, xscale="log" if axis == "update" else "linear")
        for side in (ax.xaxis, ax.yaxis):
            look.plain_numbers(side)
    axes["update"].set_ylabel("squared test error of an image")
    rows = {}
    for name in methods:
        pictures = next(iter(results["runs"][name].values()))["pictures"]
        rows |= {"digits": pictures["digits"], f"{name}\n{stated(record, name)}": pictures["reproduced"]}
    look.strip(axes["digits"], {label: np.array(row) / 255 for label, row in rows.items()})
    for axis in ("update", "seconds"):
        look.label_ends(axes[axis])
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """One sentence: what is shown, and which method is ahead by updates and by seconds, read off the record."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    text = (
        f"Squared reconstruction error of an image (sum over 784 pixels, mean over {settings['measured']:,} test "
        f"images) of the 784-1000-500-250-30 autoencoder, trained on cross-entropy with {settings['data']}, "
        f"{drawn(seeds)}"
    )
    if not results["complete"]:
        return text + ": unfinished."
    curves = {axis: {} for axis in ("update", "seconds")}
    for axis, (name, runs) in itertools.product(curves, results["runs"].items()):
        x, errors = seeds_together(curves_of(runs), axis)
        curves[axis][name] = x, np.median(errors, axis=0)
    text += f": after {ahead(curves['update'], 'updates')}; after {ahead(curves['seconds'], 's of training')}"
    return text + "".join(f"; {name} diverged ({when})" for name, when in diverged(results["runs"]).items()) + "."


def diverged(runs):
    """{method: when} of the runs that diverged."""
    return {
        name: ", ".join(f"seed {seed}, update {run['diverged']}" for seed, run in each.items() if "diverged" in run)
        for name, each in runs.items()
        if any("diverged" in run for run in each.values())
    }


def ahead(curves, unit):
    """Which of {method: (x, error)} is best at the last x that all have reached."""
    where = min(x[-1] for x, _ in curves.values())
    (least, first), *others = sorted((float(np.interp(where, x, error)), name) for name, (x, error) in curves.items())
    rest = ", ".join(f"{error:.3g} for {name}" for error, name in others)
    return f"{where:.0f} {unit} {first} is ahead, with {least:.3g} against {rest}"


def stated(record, name):
    """The parameters of a method in a few words."""
    words = {"batch_size": "batch", "lr": "lr", "momentum": "mu", "damping": "lam", "iterations": "CG", "interval": "T"}
    parameters = record["settings"]["parameters"][name]
    numbers = ", ".join(f"{word} {parameters[key]:.4g}" for key, word in words.items() if key in parameters)
    return f"{parameters['init']}, {numbers}"

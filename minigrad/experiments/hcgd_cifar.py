"""SGD and HCGD train SqueezeNet v1.1 on CIFAR-10 (Benjamin et al. 2018, figure 4; 2019, figure 5).

From the papers: SqueezeNet v1.1 with batch normalization; SGD at a learning rate of 0.1, HCGD at 0.1 and 0.3, divided
by 10 at epoch 150, and eta with it; one correction, lam 0.5, eta 0.02, validation batches of 256 training images;
errors are averaged over the last 40 epochs. Not in the papers, so ours to state: 200 epochs, momentum 0.9, weight decay
5e-4, batches of 128, images shifted by up to 4 pixels and flipped, how pixels are scaled (each colour to mean 0 and
variance 1), how the net is fitted to 32 x 32 images (`nets.squeezenet`), the number of seeds. Nothing is tuned here.
Training errors are those of training images as they are. For evaluation the net is normalized with the statistics of
at most 1,000 training images; HCGD's distance is between nets that the validation batch itself normalizes.

The papers' standard errors, "8.00.01" and "7.80.025" with the sign lost, are small enough to be over epochs of a run:
so they are given here too, though epochs that follow each other are no independent draws. Whether methods differ is
judged by seeds. On the training error at 0.3 the papers say the opposite of each other; both are judged.

The usual form is reduced for a CPU of two cores: a quarter of SqueezeNet's width, 2,500 training and 1,000 test images,
8 epochs (the rate falls after 6; the last 2 are averaged), batches of 64 and validation batches of 128, no crops, 2
seeds. Nothing that needs the whole training can be seen there. The papers' scale, for whoever has a GPU:

    MINIGRAD_BACKEND=cupy python -m minigrad run hcgd-cifar --full
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from .. import plot as look
from ..data import RandomCrops
from ..losses import Categorical
from ..nets import squeezenet
from ..objective import Objective
from ..optimizers import HCGD, SGD, Steps
from ..training import records
from .classifiers import COLUMNS, standardized_cifar, train_classifier
from .comparison import below_zero, interval, lost, signed, whole
from .parts import curves_of, drawn, form, kept, run_seeds, seeds_together

NAME = "hcgd-cifar"
DESCRIPTION = "SqueezeNet by SGD and by HCGD at two learning rates, divided late"
PAPER = "Benjamin et al. 2018, figure 4; 2019, figure 5"

METHODS = {"SGD": 0.1, "HCGD, lr 0.1": 0.1, "HCGD, lr 0.3": 0.3}  # learning rates
MOMENTUM, DECAY, ETA, LAM = 0.9, 5e-4, 0.02, 0.5
CROPS = RandomCrops(32, padding=4, flips=True)


@dataclass(frozen=True)
class Scale:
    """width: of the net, 64 is SqueezeNet's. images, test: so many to train and test on (None: all). batch_size,
    validation: samples. epochs; drop: the one after which the rate falls; late: so many last ones are averaged.
    measured: training images for the curves. crops: are training images shifted and flipped? seeds; cores: runs at
    once (None: one, on all cores)."""

    width: int
    images: int | None
    test: int | None
    batch_size: int
    validation: int
    epochs: int
    drop: int
    late: int
    measured: int
    crops: bool
    seeds: int
    cores: int | None = None


SCALES = {
    "quick": Scale(4, 100, 100, 25, 50, 2, 1, 2, 50, False, 1),
    "usual": Scale(16, 2500, 1000, 64, 128, 8, 6, 2, 500, False, 2, cores=2),
    "full": Scale(64, None, None, 128, 256, 200, 150, 40, 2000, True, 3),
}


def run(options):
    """Every method with every seed; returns the record, see `run_seeds`."""
    scale = SCALES[options.scale]
    train, test, source = data(scale)
    settings = {
        "sizes": {"width": scale.width, "batch_size": scale.batch_size, "validation": scale.validation},
        "epochs": {"all": scale.epochs, "drop": scale.drop, "late": scale.late, "updates": epoch(scale)},
        "data": f"{len(train[0]):,} training and {len(test[0]):,} test images of {source}",
        "measured": min(scale.measured, len(train[0])),
        "objective": repr(objective(scale)),
        "optimizers": {name: repr(optimizer(name, scale)) for name in METHODS},
        "crops": repr(CROPS) if scale.crops else "none",
        "cores": scale.cores,
    }
    seeds = list(range(options.seeds or scale.seeds))
    work = partial(outcome, scale)
    return run_seeds(NAME, options, settings, train[0].dtype, seeds, METHODS, work, scale.cores)


def outcome(scale, options, job):
    """What the record keeps of a method and seed, a row of the curves an epoch; None after Ctrl-C."""
    train, test, _ = data(scale)
    history = train_classifier(
        objective(scale),
        optimizer(job[0], scale),
        train,
        test,
        options,
        job,
        batch_size=scale.batch_size,
        updates=scale.epochs * epoch(scale),
        every=epoch(scale),
        measured=scale.measured,
        cores=scale.cores,
        augment=CROPS if scale.crops else None,
    )
    return kept(history, COLUMNS)


def epoch(scale):
    """Its updates."""
    return len(data(scale)[0][0]) // scale.batch_size


def objective(scale):
    """SqueezeNet under cross-entropy with weight decay."""
    return Objective(squeezenet(width=scale.width), Categorical(), weight_decay=DECAY)


def optimizer(name, scale):
    """One of METHODS; the inner rate of HCGD falls with the learning rate by itself."""
    sgd = SGD(Steps(METHODS[name], scale.drop * epoch(scale), 0.1), MOMENTUM)
    return sgd if name == "SGD" else HCGD(sgd, 1, ETA, lam=LAM, validation=scale.validation)


@cache
def data(scale):
    """(training pair, test pair, what they are of)."""
    return standardized_cifar(scale.images, scale.test)


# --- what came out ---------------------------------------------------------------------------------------


def averaged(record, name, column, drop=False):
    """{seed: errors of the last epochs (late,), in percent} of a method's runs that did not diverge.

    drop: of the last before the rate falls instead of the very last.
    """
    epochs = record["settings"]["epochs"]
    stop = 1 + (epochs["drop"] if drop else epochs["all"])  # the first row is the start's
    start = max(1, stop - epochs["late"])
    runs = whole(record["results"]["runs"][name])
    return {seed: 100 * records.numbers(run["curves"][column][start:stop]) for seed, run in runs.items()}


def level(record, name, column="test_error"):
    """(mean, standard error over epochs) of the last epochs' errors, averaged over seeds; NaN for want of numbers."""
    errors = list(averaged(record, name, column).values())
    if not errors:
        return np.nan, np.nan
    curve = np.mean(errors, axis=0)
    n = len(curve)
    return float(curve.mean()), float(curve.std(ddof=1) / n**0.5) if n > 1 else np.nan


def against(record, name, column, drop=False):
    """(mean, half its 95 % interval) of how much a method's averaged errors are above SGD's, seed by seed."""
    ones, sgd = (averaged(record, method, column, drop) for method in (name, "SGD"))
    return interval([ones[seed].mean() - sgd[seed].mean() for seed in ones if seed in sgd])


def findings(record):
    """The papers' claims, each with numbers and whether it held: [{"claim", "numbers", "held"}]; none if unfinished.

    A difference is one if its 95 % interval leaves out 0 (of one seed: if it is not 0).
    """
    if not record["results"]["complete"]:
        return []
    early, slow, fast = (
        against(record, name, "test_error", drop)
        for name, drop in (("HCGD, lr 0.1", True), ("HCGD, lr 0.1", False), ("HCGD, lr 0.3", False))
    )
    trained = against(record, "HCGD, lr 0.3", "train_error")
    above = lambda pair: below_zero((-pair[0], pair[1]))
    return [
        {"claim": claim, "numbers": f"{error} error {signed(pair)} % against SGD", "held": held}
        for claim, error, pair, held in (
            ("at SGD's rate, HCGD tests better while the rate is high", "test", early, below_zero(early)),
            ("at SGD's rate, HCGD tests worse once it is divided by 10", "test", slow, above(slow)),
            ("at 0.3, HCGD tests better than SGD at the end", "test", fast, below_zero(fast)),
            ("(2018) at 0.3, HCGD's training error ends below SGD's", "training", trained, below_zero(trained)),
            ("(2019) at 0.3, HCGD's training accuracy is less than SGD's", "training", trained, above(trained)),
        )
    ]


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: training and test error by epochs, a line where the rate falls."""
    fig, axes = look.mosaic([["train", "test"]], width=8.4, height=3.4)
    epochs = record["settings"]["epochs"]
    for panel, word in (("train", "training"), ("test", "test")):
        ax = axes[panel]
        for name in METHODS:
            if curves := curves_of(record["results"]["runs"][name]):
                updates, errors = seeds_together(curves, "update", f"{panel}_error")
                look.curves(ax, {name: (updates[1:] / epochs["updates"], 100 * errors[:, 1:])})
        ax.axvline(epochs["drop"], color=look.GREY, linewidth=0.8, linestyle=":", label="_drop")
        ax.set(xlabel="epochs", ylabel=f"{word} error (%)")
        look.label_ends(ax)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """One sentence: what is shown, and the errors of the last epochs, from the record."""
    settings, seeds = record["settings"], record["seeds"]
    epochs, sizes = settings["epochs"], settings["sizes"]
    text = (
        f"Errors of SqueezeNet v1.1 (width {sizes['width']}; the paper's is 64) on {settings['data']}, {drawn(seeds)}, "
        f"batches of {sizes['batch_size']} ({form(settings)}), learning rates divided by 10 after epoch "
        f"{epochs['drop']} of {epochs['all']}"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    ends = "; ".join(f"{name} {stated(level(record, name))}" for name in METHODS)
    differences = ", ".join(f"{signed(against(record, name, 'test_error'))} by {name}" for name in list(METHODS)[1:])
    how = " with its 95 % interval over seeds" if len(seeds) > 1 else ""
    return (
        f"{text}; test error in percent, mean of the last {epochs['late']} epochs with its standard error over epochs: "
        f"{ends}; against SGD{how} {differences}{lost(record)}."
    )


def stated(pair):
    """A mean with its standard error, if it has one."""
    mean, error = pair
    return f"{mean:.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")

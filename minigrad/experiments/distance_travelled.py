"""How far a net travels while it learns, as a function and in its parameters (Benjamin et al. 2018, fig. 5; 2019, C.7).

The nets of `hcgd-mnist` learn by SGD and by HCGD with one correction. Summed over all updates so far are

    function space     D2 = 1/N sum_i |f_after(x_i) - f_before(x_i)|^2       on one validation batch of 256 test images
    parameter space    ||theta_after - theta_before||^2

The squares are summed because a random walk's then grow linearly (2019, caption of C.7). The papers' claims are about the
end: SGD drifts on in function space after its test error is down, HCGD's function comes to rest while its parameters
move on. So the record states each sum's growth over the last quarter of the updates, as a share of the whole.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import plot as look
from ..backend import asarray, item
from ..function_space import mean_square
from ..linalg.vectors import dot
from ..training import records
from . import hcgd_mnist
from .hcgd_mnist import BATCH, RATES, SIZES, digits, objective, optimizer, train_one
from .parts import drawn, run_seeds

NAME = "distance-travelled"
DESCRIPTION = "cumulative squared distance of SGD and HCGD in function and parameter space"
PAPER = "Benjamin et al. 2018, figure 5; 2019, figure C.7"

METHODS = ("SGD", "HCGD, n = 1")
RUNS = {f"{method}, {base}": (method, base) for base in RATES for method in METHODS}
SPACES = {"function": "function space", "parameters": "parameter space"}
VALIDATION, POINTS = 256, 80


@dataclass(frozen=True)
class Scale(hcgd_mnist.Scale):
    """As in `hcgd-mnist`."""


SCALES = {"quick": Scale(2, 1000, 1), "usual": Scale(3, None, 1), "full": Scale(40, None, 5, cores=2)}


def run(options):
    """Both methods with and without momentum, all seeds; returns the record, see `run_seeds`."""
    scale = SCALES[options.scale]
    (x, _), (test, _), source = digits(scale.images)
    settings = {
        "epochs": scale.epochs,
        "batch_size": BATCH,
        "validation": VALIDATION,
        "data": f"{len(x):,} training images of {source}",
        "objective": repr(objective()),
        "optimizers": {name: repr(optimizer(*of)) for name, of in RUNS.items()},
        "cores": scale.cores,
    }
    seeds = list(range(options.seeds or scale.seeds))
    return run_seeds(NAME, options, settings, x.dtype, seeds, RUNS, partial(outcome, scale), scale.cores)


def outcome(scale, options, job):
    """A run's sums at some eighty updates, and its test errors epoch by epoch; None after Ctrl-C."""
    _, test, _ = digits(scale.images)
    travel = Travel(objective(), asarray(test[0][:VALIDATION]))
    history = train_one(scale, options, *job, callbacks=(travel,))
    if history.interrupted:
        return None
    shown = np.unique(np.linspace(0, history.update, POINTS + 1).round().astype(int))
    sums = {space: np.concatenate([[0.0], np.cumsum(squares)])[shown] for space, squares in travel.squares.items()}
    errors = history.curves["test_error"]
    kept = {
        "curves": {"update": shown} | {space: five_digits(values) for space, values in sums.items()},
        "epochs": {"update": history.curves["update"], "test_error": five_digits(errors)},
    }
    return kept | ({"diverged": history.update} if history.stopped == "diverged" else {})


class Travel:
    """A callback of `fit`: the squared distance of every update, {"function": [D2, ...], "parameters": [...]}."""

    def __init__(self, objective, x):
        self.objective, self.x, self.before = objective, x, None
        self.squares = {space: [] for space in SPACES}

    def __call__(self, history):
        """Measure what the update before this call did. The first has nothing before it, and is left out."""
        theta = history.theta
        y = self.objective.predict(theta, self.x)
        if self.before is not None:
            theta_before, y_before = self.before
            step = theta - theta_before
            self.squares["function"].append(mean_square(y, y_before))
            self.squares["parameters"].append(item(dot(step, step)))
        self.before = theta, y


def five_digits(values):
    """Numbers for the record."""
    return [float(f"{value:.5g}") for value in values]

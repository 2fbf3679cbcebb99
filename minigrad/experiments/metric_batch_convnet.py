"""Whose samples measure a convolutional net's metric: what `mnist-convnet` and `unlabeled-convnet` share.

Pascanu & Bengio, sections 8.6 and 8.7. From the paper: learning rates l0, constant for 200 updates, then
l0 / (1 + (t - 200) / 20) at update t; dampings, adapted by Levenberg and Marquardt's rule (eq. 30) but for the
covariance. As in `metric_batch.py`, which has reasons and further words: at most 15 iterations of conjugate gradients
from zero a solve, the covariance uncentred and its system solved exactly in the space of samples, steps taken without a
test but those of Levenberg-Marquardt. Ours: relu and He's initial weights (`nets/zoo.py` has what is chosen of the
nets). Test errors are in percent of images, as in the paper's table; its figure 5 has cross-entropies.

A run may have fewer updates, images and units than the paper's (`Scale`): the caption says what it had.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import backend
from .. import plot as look
from ..data import images, split
from ..losses import Categorical
from ..objective import Objective
from ..optimizers import TONGA, FixedDamping, InverseTime, LevenbergMarquardt, Unlabeled
from ..training import Diverged, fit, share_wrong
from . import metric_batch
from .metric_batch import ITERATIONS, claims, natural_gradient, now_and_then, number, solves, table
from .parts import checkpoints, curves_of, drawn, form, kept, of_seeds, run_seeds, verdict


@dataclass(frozen=True)
class Scale:
    """Updates, those of them before the rate decays, the gradient's batch, training images, test images (None: all of
    either), widths of the net's layers, seeds."""

    updates: int
    constant: int
    batch: int
    images: int | None
    tested: int | None
    widths: tuple
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """An experiment: some methods of `source` on one net and data set.

    name: the experiment's. data: a name of metric_batch.SETS. net: a function of `widths`. parameters: {method: {"lr",
    "damping"}}. papers_table: {method: (training cross-entropy, test error in percent)}. claims: as metric_batch.CLAIMS
    has them. paper: what its run had, in a caption's words. scales: {name: Scale}.
    """

    name: str
    data: str
    net: Callable
    parameters: dict
    papers_table: dict
    claims: dict
    paper: str
    scales: dict

    def run(self, options):
        """Train every method with every seed; returns the record, see `run_seeds`."""
        scale = self.scales[options.scale]
        train, test = self.load(scale)
        labelled = scale.images or len(train[0])
        settings = {
            "updates": scale.updates,
            "constant": scale.constant,
            "batch": scale.batch,
            "unlabeled": scale.batch // 2 if "KL, unlabeled" in self.parameters else 0,
            "images": labelled,
            "tested": len(test[0]),
            "data": self.data,
            "widths": list(scale.widths),
            "objective": repr(self.objective(scale)),
            "iterations": ITERATIONS,
            "parameters": self.parameters,
        }
        seeds = list(range(options.seeds or scale.seeds))
        work = partial(self.outcome, scale, train, test)
        return run_seeds(self.name, options, settings, "float32", seeds, self.parameters, work)

    def load(self, scale):
        """((x, t), (x_test, t_test)), the images (N, 28, 28, 1). ValueError if they are too few."""
        train, (x, t) = metric_batch.SETS[self.data]()
        need = max(scale.images or 0, scale.batch) + ("KL, unlabeled" in self.parameters) * scale.batch // 2
        if len(train[0]) < need:
            raise ValueError(
                f"{self.name}: {self.data} must have {need} training images at this scale, got {len(train[0])}"
            )
        return (images(train[0], 1), train[1]), (images(x[: scale.tested], 1), t[: scale.tested])

    def objective(self, scale):
        """The net under cross-entropy."""
        return Objective(self.net(widths=scale.widths), Categorical())

    def outcome(self, scale, train, test, options, job):
        """What the record keeps of a method and seed; None after Ctrl-C."""
        method, seed = job
        history = self.train_one(scale, train, test, options, method, seed)
        found = kept(history, ("update", "seconds", "gradients", "loss", "test_error"))
        return found and found | {"solves": solves(history)}

    def train_one(self, scale, train, test, options, method, seed):
        """The History of one method; of a diverged run what there was.

        Where not all images are labelled, those that are are the seed's draw, the same for every method.
        """
        unlabeled = None
        if scale.images and scale.images < len(train[0]):
            (unlabeled, _), train = split(*train, scale.images, np.random.default_rng(seed))
        the, test = self.objective(scale), tuple(map(backend.asarray, test))
        try:
            return fit(
                the,
                optimizer(method, self.parameters[method], scale, unlabeled),
                train,
                updates=scale.updates,
                batch_size=scale.batch,
                seed=seed,
                train_samples=len(train[0]),
                metrics={"test_error": lambda theta: share_wrong(the, theta, test)},
                evaluate_every=now_and_then,
                checkpoint=checkpoints(options, (method, seed)) / "state.npz",
                resume=options.resume,
                progress=f"{method}, seed {seed}" if options.progress else False,
            )
        except Diverged as failure:
            return failure.history

    def rows(self, record):
        """The paper's table of a record: see `metric_batch.table`."""
        curves = {method: curves_of(runs) for method, runs in record["results"]["runs"].items()}
        return table(curves, dict.fromkeys(curves, record["settings"]["updates"]))

    def findings(self, record):
        """The paper's claims, each with numbers (means) and whether it held in every seed."""
        rows = self.rows(record)
        found = claims(rows, self.claims)
        unit = {"train": "", "test": " %"}
        mean = lambda method, column: number(float(np.mean(rows[method][column]))) + unit[column]
        return [
            {
                "claim": claim,
                "numbers": ", ".join(f"{mean(name, column)} ({name})" for name in (*low, *high))
                + f", in {count} of {of_seeds(seeds)}",
                "held": count == seeds,
            }
            for claim, (column, low, high) in self.claims.items()
            for count, seeds in [found[claim]]
        ]

    def plot(self, record, folder):
        """One figure: training cross-entropy and test error against updates; the table beside the paper's."""
        curves = {method: curves_of(runs) for method, runs in record["results"]["runs"].items()}
        several, parameters = len(record["seeds"]) > 1, record["settings"]["parameters"]
        fig = metric_batch.draw(curves, self.rows(record), parameters, self.papers_table, several)
        return [look.save(fig, folder / f"{self.name}.png", caption=self.caption(record))]

    def caption(self, record):
        """One sentence: what is shown, how the run was smaller than the paper's, and which of its claims held."""
        settings, seeds, results = record["settings"], record["seeds"], record["results"]
        unlabeled = settings["unlabeled"]
        text = (
            f"Training and test error of a {'-'.join(map(str, settings['widths']))} convolutional net, "
            f"{drawn(seeds)}{' (table: mean and range)' if len(seeds) > 1 else ''}, in {settings['updates']:,} "
            f"updates, the first {settings['constant']:,} at a constant rate, batches of {settings['batch']:,} out of "
            f"{settings['images']:,} images of {settings['data']}"
            f"{f' and {unlabeled:,} unlabeled ones for the metric' if unlabeled else ''}, tested on "
            f"{settings['tested']:,} ({form(settings)}; the paper: {self.paper})"
        )
        if not results["complete"]:
            return text + ": unfinished."
        for method, runs in results["runs"].items():
            for seed, run in runs.items():
                text += f"; {method} diverged (seed {seed}, update {run['diverged']})" if "diverged" in run else ""
        return f"{text}; {'; '.join(verdict(finding) for finding in self.findings(record))}."


def optimizer(method, parameters, scale, unlabeled):
    """A method's optimizer; unlabeled: images whose labels are not used, for the method that needs some."""
    lr = InverseTime(parameters["lr"], decay=1 / 20, after=scale.constant)
    if method == "TONGA":
        return TONGA(lr, damping=FixedDamping(parameters["damping"]), metric="empirical")
    damping = LevenbergMarquardt(parameters["damping"], reduction="linear")
    return natural_gradient(lr, damping, source(method, scale.batch, unlabeled))


def source(method, batch, unlabeled):
    """The metric's samples: the gradient's own, so many others, or its own and half as many unlabeled ones."""
    if method == "KL, unlabeled":
        return Unlabeled(unlabeled, batch // 2, added=True)
    return {"KL, different batch": batch, "KL, same batch": None}[method]

"""How well conditioned is the Fisher information along the path of training? (Desjardins et al., figure 2)

A tanh net with four hidden layers of ten units classifies MNIST digits of 10 x 10 pixels. Its exact Fisher information
J' M J, on 500 test images, is formed whole: in each method's own coordinates, where its gradient step is taken.

    SGD                   F, of theta
    RMSProp               F, of theta; and in its own metric, P^1/2 F P^1/2 with P = 1 / (root mean square gradient)
    batch norm            J' M J of the batch-normalized net in all its parameters, J through the batch's statistics
    PRONG                 B' F B, of the whitened parameters; and F, of the same nets' theta
    K-FAC                 K^-1/2 F K^-1/2 at PRONG's theta, K = A kron S + lam I measured where PRONG measures

Measurements are made just before PRONG's next reparametrization, when its B, and K, are oldest.

F is singular: pixels that are always blank, outputs that may all be shifted. So lam_max / lam_min is no number, and
each cut-off would make its own. We take lam_1 / lam_(q n), for several shares q of the n eigenvalues in falling order
(n is the plain net's number for all nets); and lam_1 over the mean eigenvalue, which asks nothing of the small ones.
All are relative to those of the plain net before training.

Images are padded to 30 x 30 and averaged over 3 x 3 pixels. Learning rates were set by hand, on seed 0, so that methods
end near the same training error, as in the paper; the record holds the losses. PRONG's epsilon, T and N_s are one
choice, not tuned, and lam is epsilon times S's mean eigenvalue: what epsilon adds to A, in K-FAC's terms.
"""

from dataclasses import dataclass

import numpy as np

from .. import plot as look
from ..backend import asarray, one_blas_thread, to_host, xp
from ..curvature import factored_fisher, fisher, kronecker_factors
from ..data import mnist
from ..linalg import BlockDiagonal
from ..losses import Categorical
from ..nets import BatchNorm, WhitenedNet, mlp
from ..objective import Objective
from ..optimizers import PRONG, SGD, RMSProp
from ..optimizers.prong import coefficients
from ..training import fit
from .parts import drawn, run_parts

NAME = "conditioning"
DESCRIPTION = "the condition of the exact Fisher information in each method's coordinates, before and along training"
PAPER = "Desjardins et al., figure 2"

SHARES = (0.1, 0.25, 0.5, 0.75)
SHOWN = "0.5"
ROUNDING = 1e-13
EPSILON = 1e-2
BATCH = 100
RATES = {"SGD": 0.3, "RMSProp": 3e-3, "batch norm": 0.08, "PRONG": 0.02}
CURVES = ("SGD", "RMSProp", "RMSProp, own metric", "batch norm", "PRONG", "PRONG, in theta", "K-FAC")
MIDDLE = ("layer1", "layer2")


@dataclass(frozen=True)
class Scale:
    """Training images (None: all), units of each hidden layer, images on which F is measured, and on which PRONG
    measures (N_s), updates between reparametrizations (T), updates after which F is measured, seeds."""

    train: int | None
    hidden: int
    images: int
    samples: int
    interval: int
    points: tuple
    seeds: int


SCALES = {
    "quick": Scale(2000, 5, 100, 200, 5, (20,), 1),
    "usual": Scale(None, 10, 500, 2000, 100, (100, 500, 1500), 1),
    "full": Scale(None, 10, 500, 2000, 100, (100, 200, 500, 1000, 1500), 5),
}


def run(options):
    """Fisher matrices as images, then along training, seed after seed; returns the record."""
    scale = SCALES[options.scale]
    seeds = list(range(options.seeds or scale.seeds))
    task = Task(scale)
    settings = {
        "net": f"mlp{task.sizes} tanh, {mlp(task.sizes).layout.size} parameters",
        "data": f"MNIST at 10 x 10, {len(task.x)} training images; F on {scale.images} test images",
        "batch_size": BATCH,
        "updates": scale.points[-1],
        "learning rates": RATES,
        "PRONG": {"epsilon": EPSILON, "interval": scale.interval, "samples": scale.samples},
        "shares": list(SHARES),
    }
    parts = {"images": lambda results: pictures(task, seeds[0])}
    for seed in seeds:
        for method in RATES:
            parts[f"{method}, seed {seed}"] = lambda results, m=method, s=seed: path(task, m, s)
    parts["table"] = lambda results: table(results, seeds)
    with one_blas_thread():  # small matrices: more threads would mostly wait for each other
        return run_parts(NAME, options, settings, seeds, parts)


class Task:
    """The digits, the nets and the methods, and what is measured of them."""

    def __init__(self, scale):
        (x, t), (probe, _) = mnist()
        self.scale, self.sizes = scale, (100, *(scale.hidden,) * 4, 10)
        self.x, self.t = small(x[: scale.train]), t[: scale.train]
        self.probe = asarray(small(probe[: scale.images]))
        self.sample = asarray(self.x[: scale.samples])

    def objective(self, method):
        """The plain net's, or the batch-normalized one's."""
        part = BatchNorm() if method == "batch norm" else None
        return Objective(mlp(self.sizes, "tanh", normalization=part), Categorical())

    def optimizer(self, method):
        """With the learning rate that was set for it."""
        lr, scale = RATES[method], self.scale
        if method == "PRONG":
            return PRONG(lr, interval=scale.interval, samples=scale.samples, epsilon=EPSILON)
        return RMSProp(lr) if method == "RMSProp" else SGD(lr)

    def fisher(self, net, theta):
        """The exact Fisher information (n, n) of a net at theta, dense: by rows, or by products if samples couple."""
        objective = Objective(net, Categorical())
        if objective.couples_samples:
            return fisher(objective, theta, self.probe).dense()
        rows = factored_fisher(objective, theta, self.probe).P.dense()
        return rows.T @ rows / rows.shape[0]


def small(x):
    """Images (N, 784) as 10 x 10, in float64: a rim of one pixel, then means of 3 x 3."""
    padded = np.pad(x.reshape(-1, 28, 28), ((0, 0), (1, 1), (1, 1)))
    return padded.reshape(-1, 10, 3, 10, 3).mean(axis=(2, 4), dtype=np.float64).reshape(-1, 100)


# --- along training --------------------------------------------------------------------------------------


def path(task, method, seed):
    """Train; {"points": updates, "loss": on 5,000 training images, curve: {"whole" or "middle": {measure: [...]}}}."""
    objective, optimizer = task.objective(method), task.optimizer(method)
    theta, points, found = objective.net.init(np.random.default_rng(seed), "float64"), task.scale.points, {}
    anchor = [theta]  # where PRONG has measured last

    def measure(point, state):
        for name, F in matrices(task, objective, method, point, state, anchor[0]).items():
            for part, numbers in conditions(F, objective.net.layout).items():
                for kind, number in numbers.items():
                    found.setdefault(name, {}).setdefault(part, {}).setdefault(kind, []).append(number)

    def after(history):
        if history.update in points:
            measure(history.point, history.state)
        if history.update % task.scale.interval == 0:
            anchor[0] = history.theta

    point, state = theta, optimizer.init(objective, theta)
    if method == "PRONG":
        point, state = optimizer.reparametrized(point, state, objective, task.sample)
    measure(point, state)
    history = fit(objective, optimizer, (task.x, task.t), theta=theta, updates=points[-1], seed=seed, batch_size=BATCH,
                  evaluate_every=lambda update: update in points, train_samples=5000, callbacks=(after,),
                  progress=False)  # fmt: skip
    return {"points": [0, *points], "loss": history.curves["loss"], **found}


def matrices(task, objective, method, point, state, anchor):
    """{curve: dense Fisher information} where the optimizer is; anchor: theta where K is measured."""
    theta = task.optimizer("PRONG").canonical(point, state) if method == "PRONG" else point
    F = task.fisher(objective.net, theta)
    if method == "RMSProp":
        rates = 1 / (xp.sqrt(state["squares"]) + task.optimizer(method).eps)
        return {"RMSProp": F, "RMSProp, own metric": xp.sqrt(rates)[:, None] * F * xp.sqrt(rates)}
    if method == "PRONG":
        white = task.fisher(WhitenedNet(objective.net, coefficients(state)), point)
        root = kfac_root(task, objective, anchor)
        return {"PRONG": white, "PRONG, in theta": F, "K-FAC": root @ F @ root}
    return {method: F}


def kfac_root(task, objective, theta):
    """K^-1/2 dense, K = A kron S + epsilon tr(S) / out I of each layer, exact factors at theta on PRONG's sample."""
    blocks = []
    for factors in kronecker_factors(objective, theta, task.sample):
        damped = factors.block.eigen().damped_inverse(EPSILON * xp.trace(factors.S) / factors.S.shape[0])
        blocks.append(damped.power(0.5))
    return BlockDiagonal(blocks).dense()


def conditions(F, layout):
    """{"whole", "middle": {share or "mean": lam_1 over lam_(share n), over the mean}}; middle: layers 1 and 2."""
    span = slice(layout.slices[MIDDLE[0]].start, layout.slices[MIDDLE[-1]].stop)
    return {"whole": ratios(F, plain_size(layout)), "middle": ratios(F[span, span], plain_size(layout, MIDDLE))}


def plain_size(layout, names=None):
    """How many numbers the affine layers (those of `names`) have: as many as the plain net."""
    shapes = {
        name: shape for name, shape in layout.shapes.items() if len(shape) == 2 and name in (names or layout.names)
    }
    return sum(rows * columns for rows, columns in shapes.values())


def ratios(F, n):
    """{share: lam_1 / lam_(share n), "mean": n lam_1 / trace}, lam the eigenvalues of F from the largest on.

    Those below ROUNDING lam_1 count as that.
    """
    lam = to_host(xp.linalg.eigvalsh(F))[::-1]
    lam = np.maximum(lam, ROUNDING * lam[0])
    found = {f"{share:g}": float(lam[0] / lam[int(share * n)]) for share in SHARES}
    return found | {"mean": float(n * lam[0] / lam.sum())}


# --- pictures --------------------------------------------------------------------------------------------


def pictures(task, seed):
    """|F| of the middle hidden layers at the start, before and after whitening: {"before", "after": {...}}."""
    objective, optimizer = task.objective("PRONG"), task.optimizer("PRONG")
    theta, layout = objective.net.init(np.random.default_rng(seed), "float64"), objective.layout
    span = slice(layout.slices[MIDDLE[0]].start, layout.slices[MIDDLE[-1]].stop)
    point, state = optimizer.reparametrized(theta, optimizer.init(objective, theta), objective, task.sample)
    white = task.fisher(WhitenedNet(objective.net, coefficients(state)), point)
    pairs = {"before": task.fisher(objective.net, theta), "after": white}
    return {name: encoded(to_host(F[span, span])) for name, F in pairs.items()}


def encoded(F):
    """|F| as text: its largest entry, and each row's |F| / largest as 255 + 85 log10, two hexadecimal digits each."""
    largest = float(np.abs(F).max())
    with np.errstate(divide="ignore"):
        levels = np.clip(np.rint(255 + 85 * np.log10(np.abs(F) / largest)), 0, 255).astype(np.uint8)
    return {"largest": largest, "rows": [row.tobytes().hex() for row in levels]}


def decoded(picture):
    """log10(|F| / largest) from -3, which stands for all below, to 0."""
    return np.array([np.frombuffer(bytes.fromhex(row), np.uint8) for row in picture["rows"]]) / 85.0 - 3.0


# --- what came out ---------------------------------------------------------------------------------------


def table(results, seeds):
    """{curve: {"whole" or "middle": {measure: {"first", "last": median over seeds, over SGD's at the start}}}}."""
    rows = {}
    for curve in CURVES:
        for part in ("whole", "middle"):
            for kind in (*(f"{share:g}" for share in SHARES), "mean"):
                values = relative(results, seeds, curve, part, kind)
                cell = {"first": float(np.median(values[:, 0])), "last": float(np.median(values[:, -1]))}
                rows.setdefault(curve, {}).setdefault(part, {})[kind] = cell
    return rows


def relative(results, seeds, curve, part, kind):
    """(seeds, points): a curve's condition numbers over SGD's at the start, of the same seed."""
    values = [results[f"{owner(curve)}, seed {seed}"][curve][part][kind] for seed in seeds]
    start = [results[f"SGD, seed {seed}"]["SGD"][part][kind][0] for seed in seeds]
    return np.array(values) / np.array(start)[:, None]


def owner(curve):
    """On whose path a curve is measured."""
    return "PRONG" if curve == "K-FAC" else curve.partition(",")[0]


def plot(record, folder):
    """One figure: |F| before and after; the condition along training; its end by every measure."""
    results, seeds = record["results"], record["seeds"]
    fig, axes = look.mosaic(
        [["before", "after", "path"], ["before", "after", "measures"]], width=9.6, height=4.6, width_ratios=[4, 4, 5]
    )
    for name in ("before", "after"):
        ax = axes[name]
        if "images" in results:
            shown = ax.imshow(decoded(results["images"][name]), cmap="magma", vmin=-3, vmax=0)
            fig.colorbar(shown, ax=ax, orientation="horizontal", label="log10 |F| / largest", shrink=0.9)
        ax.set_title({"before": "|F|, middle layers, in theta", "after": "in whitened parameters"}[name])
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    if "table" in results:
        for curve in CURVES:
            values = relative(results, seeds, curve, "whole", SHOWN)
            points = results[f"{owner(curve)}, seed {seeds[0]}"]["points"]
            draw(axes["path"], curve, points, 100 * values)
            last = [100 * results["table"][curve]["whole"][kind]["last"] for kind in results["table"][curve]["whole"]]
            draw(axes["measures"], curve, range(len(last)), last)
    axes["path"].set(yscale="log", xlabel="updates", ylabel="% of start, q = 0.5")
    axes["measures"].set(yscale="log", ylabel="% of start, at the end", xticks=range(len(SHARES) + 1))
    axes["measures"].set_xticklabels([*(f"q = {share:g}" for share in SHARES), "mean"])
    look.plain_numbers(axes["path"].yaxis)
    look.plain_numbers(axes["measures"].yaxis)
    look.label_ends(axes["path"])
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def draw(ax, curve, x, y):
    """A curve in its method's look; its second one, in another metric or other coordinates, dotted."""
    method, _, variant = curve.partition(", ")
    look.curves(ax, {method: (x, y)})
    if variant:
        ax.get_lines()[-1].set(linestyle=":", label=curve)


def caption(record):
    """One sentence: what is shown, and how far the condition fell."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    text = (
        f"Entries of the Fisher information of the middle hidden layers before and after the first reparametrization, "
        f"and its condition lam_1 / lam_(q n) relative to the plain net's start, {drawn(seeds)}, {settings['net']}, "
        f"{settings['data']}"
    )
    if not results["complete"]:
        return text + ": unfinished."
    rows = results["table"]

    def share(curve, when):
        numbers = [100 * rows[curve]["whole"][kind][when] for kind in rows[curve]["whole"] if kind != "mean"]
        return f"{min(numbers):.2g} to {max(numbers):.3g} %"

    losses = {m: np.median([results[f"{m}, seed {seed}"]["loss"][-1] for seed in seeds]) for m in RATES}
    rest = ", ".join(f"{curve} {share(curve, 'last')}" for curve in CURVES if curve != "PRONG")
    return (
        f"{text}; the first whitening leaves {share('PRONG', 'first')} of it, by four shares q of the spectrum, and at "
        f"the end of training {share('PRONG', 'last')} is left (the paper: less than 5 %; {rest}); final training "
        f"losses {', '.join(f'{m} {loss:.3f}' for m, loss in losses.items())}."
    )

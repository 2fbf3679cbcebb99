"""Hessian-free and Krylov subspace descent beside natural gradient (Pascanu & Bengio, section 7).

Under a matched pair of output and loss the Gauss-Newton matrix, cut at r, is the exact Fisher information. So with the
same samples, damping and CG iterations Hessian-free takes natural gradient's step, to rounding. The two are computed
apart here: J_r' H J_r, with H the loss differentiated twice in r at the data's targets (eq. 14), and J_y' M J_y, with M
the metric in y (eq. 9-11), which knows no targets. They part where the Gauss-Newton matrix is another one:

    another batch         measured on other inputs than the metric
    cut at y              J_y' (Hessian of the loss in y) J_y; with labels as targets that is E[g g'] at these targets,
                          the empirical Fisher
    mismatched            squared error after a sigmoid, cut before it: diag(s'^2 + (y - t) s'') in place of the
                          metric's diag(s'^2), where s', s'' are the sigmoid's derivatives

Krylov subspace descent searches span(g, G g, ..., G^(K-1) g), which holds CG's first K iterates for every damping, for
the best point of the objective itself. BFGS finds a stationary point there: that it does at least as well as CG's
iterate is likely, not certain. Late iterates of CG carry its rounding errors, much amplified: two runs on matrices
that differ by 1e-16 part for a while, before both arrive.

Data are drawn from a random net. Damping is DAMPING where steps are compared; along the paths it is adapted by the
same rule, with the same warm start. Hessian-free is there without preconditioner, and goes back over no iterates.
"""

from dataclasses import dataclass

import numpy as np

from .. import backend
from .. import plot as look
from ..autodiff import grad, linearize, ops
from ..backend import xp
from ..curvature import gauss_newton, through_y
from ..linalg import Diagonal, Matrix, cg, identity
from ..losses import Bernoulli, Categorical, Gaussian
from ..nets import mlp
from ..objective import Objective
from ..optimizers import ConjugateGradient, HessianFree, KrylovSubspaceDescent, NaturalGradient
from ..optimizers.krylov_subspace_descent import krylov_basis
from ..training import records
from .parts import drawn, run_parts

NAME = "hessian-free-is-natural-gradient"
DESCRIPTION = "Hessian-free takes natural gradient's steps; Krylov subspace descent searches the space of CG's iterates"
PAPER = "Pascanu & Bengio, section 7"

SIZES, SAMPLES, DAMPING = (10, 8, 6, 4), 200, 0.01
EARLY = 10  # iterations before CG has lost its conjugacy
SAME = 1e-9  # relative distance up to which two paths are one
PAIRS = {"Gaussian": Gaussian(), "Bernoulli": Bernoulli(), "Categorical": Categorical()}
PARTINGS = ("another batch", "cut at y", "mismatched")


@dataclass(frozen=True)
class Scale:
    """CG iterations, updates of the paths, seeds."""

    iterations: int
    updates: int
    seeds: int


SCALES = {"quick": Scale(8, 4, 1), "usual": Scale(30, 20, 1), "full": Scale(30, 30, 5)}


def run(options):
    """Steps, subspaces and paths, seed after seed."""
    scale = SCALES[options.scale]
    seeds = list(range(options.seeds or scale.seeds))
    settings = {
        "net": f"mlp{SIZES} tanh, {mlp(SIZES).layout.size} parameters",
        "data": f"{SAMPLES} samples of a random net",
        "damping": DAMPING,
        "iterations": scale.iterations,
        "updates": scale.updates,
    }
    parts = {f"seed {seed}": lambda results, seed=seed: one_seed(seed, scale) for seed in seeds}
    return run_parts(NAME, options, settings, seeds, parts)


def one_seed(seed, scale):
    """{"matrices", "steps", "partings", "subspace", "paths"} of one seed."""
    rng = np.random.default_rng(seed)
    the, theta, batch, other = problem("Categorical", rng)
    found = {
        "matrices": {name: difference(name, rng) for name in PAIRS},
        "steps": {name: matched(name, rng, scale.iterations) for name in PAIRS},
    }
    warm = train(natural_gradient(10), the, theta, batch, 3)["theta"]
    found["partings"] = partings(the, warm, batch, other, scale.iterations)
    found["subspace"] = subspace(the, warm, batch, scale.iterations)
    found["paths"] = paths(the, theta, batch, scale)
    return found


def problem(pair, rng):
    """(objective, theta, batch, another batch) of a loss: inputs are normal, targets drawn from a net of its own."""
    the = Objective(mlp(SIZES), PAIRS[pair])
    teacher, theta = (the.net.init(rng, "float64") for _ in range(2))
    batches = []
    for _ in range(2):
        x = backend.asarray(rng.standard_normal((SAMPLES, SIZES[0])))
        batches.append((x, the.loss.sample(the.net.apply(3 * teacher, x), rng)))
    return the, theta, *batches


# --- the same step --------------------------------------------------------------------------------------


def solutions(G, g, iterations):
    """CG's iterates 1 .. iterations of (G + lam I) d = -g, from zero."""
    A = G + DAMPING * identity(g.shape[0])
    _, info = cg(A, -g, rtol=0.0, maxiter=iterations, store=range(1, iterations + 1))
    return [info.iterates[k] for k in range(1, iterations + 1)]


def distances(ours, theirs):
    """||d - d'|| / ||d||, iterate by iterate."""
    return [backend.item(xp.linalg.norm(a - b) / xp.linalg.norm(a)) for a, b in zip(ours, theirs, strict=True)]


def matched(pair, rng, iterations):
    """How far Hessian-free's step is from natural gradient's after 1, 2, ... iterations, under a matched pair."""
    the, theta, batch, _ = problem(pair, rng)
    g = the.value_and_grad(theta, batch)[1]
    matrices = metric_in_y(the, theta, batch[0]), hessian_in_r(the, theta, batch)
    return distances(*(solutions(G, g, iterations) for G in matrices))


def difference(pair, rng):
    """||G - G'|| / ||G|| (Frobenius) of the two matrices themselves."""
    the, theta, batch, _ = problem(pair, rng)
    G, other = metric_in_y(the, theta, batch[0]).dense(), hessian_in_r(the, theta, batch).dense()
    return backend.item(xp.linalg.norm(G - other) / xp.linalg.norm(G))


def metric_in_y(the, theta, x):
    """Natural gradient's matrix, J_y' M J_y (Pascanu & Bengio, eq. 9-11)."""
    r, J = the.linearize(theta, x)
    return J.T @ through_y(the.loss, r, the.loss.metric_y) @ J


def hessian_in_r(the, theta, batch):
    """Hessian-free's matrix, J_r' H J_r (eq. 14), with H = d2 loss / dr2 by differentiating the loss's value twice."""
    x, t = batch
    r, J = the.linearize(theta, x)
    H = linearize(grad(lambda r: the.loss.value(r, t)), r)[1]
    H.symmetric = H.psd = True  # the loss is convex in r
    return J.T @ H @ J


def partings(the, theta, batch, other, iterations):
    """The same where the second matrix is not natural gradient's."""
    g = the.value_and_grad(theta, batch)[1]
    natural = solutions(metric_in_y(the, theta, batch[0]), g, iterations)
    matrices = {
        "another batch": gauss_newton(the, theta, other),
        "cut at y": gauss_newton(the, theta, batch, at="y"),
    }
    found = {name: distances(natural, solutions(G, g, iterations)) for name, G in matrices.items()}
    return found | {"mismatched": mismatched(the.net, theta, batch, iterations)}


def mismatched(net, theta, batch, iterations):
    """Squared error after a sigmoid: the metric against the Gauss-Newton matrix that is cut before the sigmoid.

    The loss is ||y - t||^2 / 2 with y = sigmoid(a), its Hessian in a is s'^2 + (y - t) s''. Targets are one-hot labels.
    """
    x, labels = batch
    a, J = Objective(net, Gaussian()).linearize(theta, x)
    y = ops.sigmoid(a)
    t = xp.eye(SIZES[-1])[labels]
    s1, s2, n = y * (1 - y), y * (1 - y) * (1 - 2 * y), len(x)
    g = J.lop((y - t) * s1 / n)
    metric = J.T @ Diagonal((s1 * s1 / n).reshape(-1), psd=True) @ J
    H = (s1 * s1 + (y - t) * s2) / n
    cut = Matrix((J.T @ Diagonal(H.reshape(-1)) @ J).dense(), psd=True)  # its products are checked by CG
    return distances(solutions(metric, g, iterations), solutions(cut, g, iterations))


# --- the same subspace ----------------------------------------------------------------------------------


def subspace(the, theta, batch, iterations):
    """CG's iterates and Krylov subspace descent at one theta: {"outside", "loss", "CG", "KSD"}, one a dimension.

    outside: the share of CG's iterate that lies outside of the Krylov basis. CG, KSD: the objective at the iterate, and
    at the point that BFGS finds in the subspace of the same dimension.
    """
    loss, g = the.value_and_grad(theta, batch)
    G = gauss_newton(the, theta, batch)
    iterates = solutions(G, g, iterations)
    V, _ = krylov_basis(G, g, xp.zeros_like(g), iterations)
    outside, reached = [], {"CG": [], "KSD": []}
    for k, d in enumerate(iterates, start=1):
        rows = V[: min(k, len(V))]
        outside.append(backend.item(xp.linalg.norm(d - (rows @ d) @ rows) / xp.linalg.norm(d)))
        reached["CG"].append(the.value(theta + d, batch))
        ksd = KrylovSubspaceDescent(dimension=k, maxiter=100)
        moved, _, _ = ksd.step(theta, ksd.init(the, theta), the, batch, None)
        reached["KSD"].append(the.value(moved, batch))
    return {"outside": outside, "loss": loss} | reached


# --- the same path --------------------------------------------------------------------------------------


def natural_gradient(iterations):
    """Natural gradient with so many CG iterations an update."""
    return NaturalGradient(solver=ConjugateGradient(maxiter=iterations, stop=None))


def paths(the, theta, batch, scale):
    """{method: losses}, and how far natural gradient and matched Hessian-free are apart, update by update.

    "matched": Hessian-free without what natural gradient has not, but for its line search, which shortens a step that
    natural gradient refuses; "together": the updates before that. "Hessian-free": as Martens runs it.
    """
    k = scale.iterations // 2
    matched = HessianFree(maxiter=k, stop=None, exponent=None, spacing=1e9)
    runs = {
        "natural gradient": natural_gradient(k),
        "matched": matched,
        "Hessian-free": HessianFree(maxiter=k),
        "KSD": KrylovSubspaceDescent(dimension=k),
    }
    runs = {name: train(optimizer, the, theta, batch, scale.updates) for name, optimizer in runs.items()}
    apart = distances(runs["natural gradient"]["path"], runs["matched"]["path"])
    together = next((k for k, distance in enumerate(apart) if distance > SAME), len(apart)) - 1
    return {"losses": {name: found["losses"] for name, found in runs.items()}, "apart": apart, "together": together}


def train(optimizer, the, theta, batch, updates):
    """{"theta", "path", "losses", "logs"} of so many updates on one batch."""
    state, path, logs = optimizer.init(the, theta), [theta], []
    for _ in range(updates):
        theta, state, log = optimizer.step(theta, state, the, batch, None, None)
        path.append(theta)
        logs.append(log)
    return {"theta": theta, "path": path, "losses": [the.value(theta, batch) for theta in path], "logs": logs}


# --- the figure ------------------------------------------------------------------------------------------

FLOOR = 1e-17  # of relative distances, as drawn
SHADES = {
    "Gaussian": (look.VERMILLION, "o"),
    "Bernoulli": (look.VERMILLION, "s"),
    "Categorical": (look.VERMILLION, "v"),
    "another batch": (look.BLUE, "o"),
    "cut at y": (look.BLUE, "s"),
    "mismatched": (look.BLUE, "D"),
    "outside KSD's space": (look.GREY, "x"),
}


def plot(record, folder):
    """One figure: distances of steps, the objective within one step, and the paths."""
    results = record["results"]
    seeds = [results[key] for key in results if key.startswith("seed")]
    fig, axes = look.figure(1, 3, 10.0, 4.0)
    draw_distances(axes[0], seeds)
    draw_step(axes[1], seeds)
    draw_paths(axes[2], seeds)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def curve(ax, x, rows, label, colour, marker, line="-"):
    """The median of rows (seeds, points), and a band over all of them."""
    rows = np.array([records.numbers(row) for row in rows])
    ax.fill_between(x, rows.min(axis=0), rows.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    every = max(1, len(x) // 6)
    ax.plot(x, np.median(rows, axis=0), ls=line, color=colour, marker=marker, markevery=every, label=label, lw=1.2)


def draw_distances(ax, seeds):
    """||d - d'|| / ||d|| after k CG iterations, for all pairs of matrices."""
    series = {name: [seed["steps"][name] for seed in seeds] for name in PAIRS}
    series |= {name: [seed["partings"][name] for seed in seeds] for name in PARTINGS}
    series["outside KSD's space"] = [seed["subspace"]["outside"] for seed in seeds]
    for name, rows in series.items():
        rows = np.maximum([records.numbers(row) for row in rows], FLOOR)
        label = f"{name}: 0" if rows.max() == FLOOR else name
        curve(ax, np.arange(1, rows.shape[1] + 1), rows, label, *SHADES[name])
    ax.set(yscale="log", xlabel="CG iterations", title="between the two steps")
    ax.set_ylabel("relative distance")
    ax.legend(fontsize=7, frameon=False, loc=(0.01, 0.45))


def draw_step(ax, seeds):
    """The objective at CG's iterate k, and at the best point of the subspace of dimension k, over that before."""
    for name, method in (("CG", "natural gradient"), ("KSD", "KSD")):
        rows = [np.array(seed["subspace"][name]) / seed["subspace"]["loss"] for seed in seeds]
        style = look.look(method)
        curve(ax, np.arange(1, len(rows[0]) + 1), rows, f"{name}", style.colour, style.marker, style.line)
    ax.set(xlabel="CG iterations, dimension", ylabel="objective after one step / before", title="within one subspace")
    look.label_ends(ax)


def draw_paths(ax, seeds):
    """The objective along the paths; matched Hessian-free lies on natural gradient, as long as they are one."""
    for name in ("natural gradient", "Hessian-free", "KSD"):
        rows, style = [seed["paths"]["losses"][name] for seed in seeds], look.look(name)
        curve(ax, np.arange(len(rows[0])), rows, name, style.colour, style.marker, style.line)
    rows = [seed["paths"]["losses"]["matched"] for seed in seeds]
    curve(ax, np.arange(len(rows[0])), rows, "matched", look.GREY, ".", (0, (2, 2)))
    ax.set(xlabel="updates", ylabel="objective", title="along the path", yscale="log")
    look.label_ends(ax)


def caption(record):
    """What is shown, and how near, how contained, how often better, read off the record."""
    settings, results, seeds = record["settings"], record["results"], record["seeds"]
    text = f"Natural gradient and Hessian-free on {settings['net']}, {settings['data']}, {drawn(seeds)}"
    if not results["complete"]:
        return text + ": unfinished."
    found = [results[key] for key in results if key.startswith("seed")]
    same = max(seed["matrices"][name] for seed in found for name in PAIRS)
    steps = np.array([seed["steps"][name] for seed in found for name in PAIRS])
    early, late = steps[:, :EARLY].max(), steps.max()
    outside = max(max(seed["subspace"]["outside"]) for seed in found)
    apart = {name: np.median([seed["partings"][name][-1] for seed in found]) for name in PARTINGS}
    pairs = [pair for seed in found for pair in zip(seed["subspace"]["CG"], seed["subspace"]["KSD"])]
    least = sum(ksd <= cg + 1e-12 for cg, ksd in pairs)
    together = " / ".join(str(seed["paths"]["together"]) for seed in found)
    parted = ", ".join(f"{distance:.2g} ({name})" for name, distance in apart.items())
    return (
        f"{text}: under matched pairs the matrices differ by {same:.0e} relatively, the steps by {early:.0e} up to "
        f"iteration {EARLY} and by {late:.0e} at most, as CG amplifies rounding; with another matrix they end {parted} "
        f"apart; CG's iterates lie in KSD's subspace up to {outside:.0e}; its BFGS does at least as well as CG in "
        f"{least} of {len(pairs)} subspaces; natural gradient and matched Hessian-free are on one path for {together} "
        f"of {settings['updates']} updates, until a step is shortened that the other refuses."
    )

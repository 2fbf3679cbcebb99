"""Which methods keep their path through function space when parameters are changed? (Pascanu & Bengio, 2 and 4.1)

The same net, net(theta), is trained in coordinates xi, theta = phi(xi), from the same function. With Phi = dphi/dxi,

    gradient     g_xi = Phi' g          (a covector)
    metric       G_xi = Phi' G Phi      (a tensor: Fisher information, covariance of gradients)
    Hessian      H_xi = Phi' H Phi + sum_i g_i d2 phi_i / dxi2    (no tensor, unless phi is affine or g = 0)

The step -lr G_xi^-1 g_xi moves theta by -lr G^-1 g + O(lr^2): the same step if phi is affine, the same path as lr
shrinks if it is not. With H only the first holds. Without a metric neither does: Phi Phi' g is another direction than
g. Damping adds I, which is no tensor, and breaks both; carried along, as lam Phi'Phi, it does not. A rotation, with
Phi'Phi = I, everything survives. The covariance of gradients transforms like the metric, so TONGA undamped is as
invariant as natural gradient, though the paper says (4.1) that this "does not transfer directly".

Where G is singular (fewer samples than parameters), the pseudo-inverse picks the shortest of many steps, and what is
shortest depends on the coordinates: an affine map then is felt at second order in lr, a rotation not.

Everything is float64, with dense solves, on a net of 9 parameters with noisy targets. Learning rates are h times the
method's own unit; a run has 2 / h steps. "Deviation" is the largest distance between the outputs of the two runs at
equal times, in units of the farthest distance that the original run gets from its first outputs.
"""

from dataclasses import dataclass

import numpy as np

from .. import backend
from .. import plot as look
from ..autodiff import ops
from ..backend import to_host, xp
from ..curvature import fisher, gradient_covariance, hessian
from ..losses import Gaussian
from ..nets import Layout, mlp
from ..objective import Objective
from ..training import records
from .parts import drawn, run_parts

NAME = "reparametrization"
DESCRIPTION = "the path through function space under a change of parameters: who keeps it, and at which step sizes"
PAPER = "Pascanu & Bengio, sections 2 and 4.1"

SIZES, SAMPLES, FEW, NOISE, CONDITION = (2, 2, 1), 300, 5, 0.1, 1e3
TIME = 2.0  # a run has TIME / h steps
EXACT, ORDER = 1e-6, 0.7  # a deviation below the first is rounding; a slope above the second vanishes with the step


# --- coordinates ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Affine:
    """theta = A xi + c."""

    A: object
    c: object

    def __call__(self, xi):
        """theta (n,); differentiable in xi."""
        return ops.matmul(self.A, xi) + self.c

    def inverse(self, theta):
        """xi (n,)."""
        return xp.linalg.solve(self.A, theta - self.c)

    def jacobian(self, xi):
        """Phi (n, n)."""
        return self.A


@dataclass(frozen=True)
class Sinh:
    """theta_i = sinh(k xi_i) / k: stretches large parameters, sqrt(1 + k^2 theta_i^2) times."""

    k: float = 2.0

    def __call__(self, xi):
        """theta (n,); differentiable in xi."""
        return (ops.exp(self.k * xi) - ops.exp(-self.k * xi)) * (0.5 / self.k)

    def inverse(self, theta):
        """xi (n,)."""
        return xp.arcsinh(self.k * theta) / self.k

    def jacobian(self, xi):
        """Phi (n, n)."""
        return xp.diag(xp.cosh(self.k * xi))


@dataclass(frozen=True)
class Reparametrized:
    """The functions of `net` in coordinates xi: net(phi(xi))."""

    net: object
    phi: object

    @property
    def layout(self):
        """xi, in one piece."""
        return Layout({"xi": (self.net.layout.size,)})

    def apply(self, xi, x):
        """r (N, O)."""
        return self.net.apply(self.phi(xi), x)


def rotation(rng, n):
    """A random orthogonal matrix (n, n)."""
    return backend.asarray(np.linalg.qr(rng.standard_normal((n, n)))[0])


def maps(rng, n):
    """{name: phi}: a rotation, an affine map that stretches by 1/3 to 3, and a nonlinear one."""
    stretch = backend.asarray(np.geomspace(1 / 3, 3, n))
    shift = backend.asarray(rng.standard_normal(n))
    return {
        "rotation": Affine(rotation(rng, n), shift),
        "affine": Affine((rotation(rng, n) * stretch) @ rotation(rng, n), shift),
        "nonlinear": Sinh(),
    }


# --- methods --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """theta -= h lr (metric + lam I)^+ g, in whichever coordinates; without a metric theta -= h lr g.

    carried: lam I is that of the original coordinates, lam Phi'Phi in these. few: on FEW samples, so that the metric is
    singular.
    """

    metric: object = None
    lr: float = 1.0
    lam: float = 0.0
    carried: bool = False
    few: bool = False

    def step(self, the, theta, batch, Phi, h):
        """theta after one step; Phi (n, n), of the coordinates."""
        _, g = the.value_and_grad(theta, batch)
        if self.metric is None:
            return theta - h * self.lr * g
        M = self.metric(the, theta, batch).dense()
        I = Phi.T @ Phi if self.carried else xp.eye(theta.shape[0])
        M = M + self.lam * I
        d = xp.linalg.pinv(M, rcond=1e-10, hermitian=True) @ g if self.few else xp.linalg.solve(M, g)
        return theta - h * self.lr * d


def exact(the, theta, batch):
    """The exact Fisher information."""
    return fisher(the, theta, batch[0])


METHODS = {
    "SGD": Method(lr=2e-4),
    "natural gradient": Method(exact),
    "natural gradient, damped": Method(exact, lam=1.0),
    "natural gradient, damping carried along": Method(exact, lam=1.0, carried=True),
    "natural gradient, singular": Method(exact, few=True),
    "TONGA": Method(gradient_covariance),
    "TONGA, damped": Method(gradient_covariance, lam=1.0),
    "Newton": Method(hessian),
}


# --- the experiment -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Step sizes h = 1, 1/2, ..., 2^-halvings; seeds."""

    halvings: int
    seeds: int


SCALES = {"quick": Scale(2, 1), "usual": Scale(5, 2), "full": Scale(6, 5)}


def run(options):
    """Deviations of every method, map and step size, seed after seed; then the table."""
    scale = SCALES[options.scale]
    seeds = list(range(options.seeds or scale.seeds))
    steps = [2.0**-k for k in range(scale.halvings + 1)]
    settings = {
        "net": f"mlp{SIZES} tanh, {mlp(SIZES).layout.size} parameters",
        "data": f"{SAMPLES} samples ({FEW} where the metric is to be singular), teacher plus noise {NOISE}",
        "steps": steps,
        "time": TIME,
        "methods": {name: {"lr": m.lr, "damping": m.lam} for name, m in METHODS.items()},
    }
    parts = {f"seed {seed}": lambda results, seed=seed: deviations(seed, steps) for seed in seeds}
    parts["table"] = lambda results: table(results, steps)
    return run_parts(NAME, options, settings, seeds, parts)


def deviations(seed, steps):
    """{method: {map: {"path": deviation, "one step": root mean square after the first step; one a step size}}}."""
    rng = np.random.default_rng(seed)
    the, theta, batch, probe = problem(rng)
    phis = maps(rng, theta.shape[0])
    found = {name: {label: {"path": [], "one step": []} for label in phis} for name in METHODS}
    for name, h in [(name, h) for name in METHODS for h in steps]:
        data = tuple(part[:FEW] for part in batch) if METHODS[name].few else batch
        x = data[0] if METHODS[name].few else probe
        original = outputs(METHODS[name], the, None, theta, data, x, h)
        reach = np.linalg.norm(original - original[0], axis=1).max()
        for label, phi in phis.items():
            apart = np.linalg.norm(outputs(METHODS[name], the, phi, theta, data, x, h) - original, axis=1)
            found[name][label]["path"].append(apart.max() / reach)
            found[name][label]["one step"].append(apart[1] / np.sqrt(original.shape[1]))
    return found


def problem(rng):
    """(objective, theta, batch, probe inputs): a teacher's noisy outputs, and a theta near it where H > 0 too.

    Teachers are drawn until the metric's condition is below CONDITION, for dense solves lose that many digits.
    """
    net = mlp(SIZES)
    the = Objective(net, Gaussian(beta=NOISE))
    x, probe = (backend.asarray(rng.standard_normal((SAMPLES, SIZES[0]))) for _ in range(2))
    teacher = None
    while teacher is None or not well_conditioned(exact(the, teacher, (x, None))):
        teacher = backend.asarray(rng.standard_normal(net.layout.size))
    batch = (x, net.apply(teacher, x) + backend.asarray(NOISE * rng.standard_normal((SAMPLES, SIZES[-1]))))
    away, distance = backend.asarray(rng.standard_normal(net.layout.size)), 0.3
    while not well_conditioned(hessian(the, teacher + distance * away, batch), 10 * CONDITION):
        distance *= 0.8
    return the, teacher + distance * away, batch, probe


def well_conditioned(A, most=CONDITION):
    """Is A positive definite, with a condition below `most`?"""
    eigenvalues = xp.linalg.eigvalsh(A.dense())
    return backend.item(eigenvalues[0] * most > eigenvalues[-1])


def outputs(method, the, phi, theta, batch, probe, h):
    """r(theta_k) on the probe inputs, (K + 1, N O), when trained in coordinates phi; None: the original ones.

    Rows after a breakdown are NaN.
    """
    I = xp.eye(theta.shape[0])
    if phi is not None:
        the, theta = Objective(Reparametrized(the.net, phi), the.loss), phi.inverse(theta)
    steps = round(TIME / h)
    rows = [the.net.apply(theta, probe)]
    for _ in range(steps):
        try:
            theta = method.step(the, theta, batch, I if phi is None else phi.jacobian(theta), h)
        except (np.linalg.LinAlgError, FloatingPointError):  # a singular Hessian, say, or a step far out
            break
        rows.append(the.net.apply(theta, probe))
    rows += [xp.full_like(rows[0], xp.nan)] * (steps + 1 - len(rows))
    return to_host(xp.stack(rows)).reshape(len(rows), -1)


def table(results, steps):
    """{method: {map: {"verdict", "largest", "slope", "one step slope", "broken"}}}: medians over seeds.

    slope: of log deviation in log h, over the smaller half of the step sizes. broken: how many of the runs broke down;
    they count as infinitely far.
    """
    seeds = [results[key] for key in results if key.startswith("seed")]
    found = {}
    for name in METHODS:
        found[name] = {}
        for label in seeds[0][name]:
            runs = [[records.numbers(seed[name][label][key]) for seed in seeds] for key in ("path", "one step")]
            path, one = (np.median(np.where(np.isnan(run), np.inf, run), axis=0) for run in runs)
            largest, falls = path.max(), slope(steps, path)
            found[name][label] = {
                "verdict": verdict(largest, falls),
                "largest": largest if np.isfinite(largest) else None,
                "slope": falls,
                "one step slope": slope(steps, one),
                "broken": int(np.isnan(runs[0]).sum()),
            }
    return found


def slope(steps, deviations):
    """The exponent p of deviation ~ h^p, over the smaller half of the steps; None for rounding alone, or breakdown."""
    half = slice(-max(2, len(steps) // 2), None)
    if np.max(deviations) < EXACT or not np.isfinite(deviations[half]).all():
        return None
    return np.polyfit(np.log(steps[half]), np.log(deviations[half]), 1)[0]


def verdict(largest, slope):
    """Is it kept: "any step", "small steps", or "no"."""
    if largest < EXACT:
        return "any step"
    return "small steps" if slope is not None and slope > ORDER else "no"


# --- the figure ------------------------------------------------------------------------------------------

LINES = {"": ("-", True), "damped": ("--", False), "damping carried along": ("-.", False), "singular": (":", True)}
TITLES = {"rotation": "rotation", "affine": "affine map", "nonlinear": r"$\theta_i = \sinh(2\,\xi_i)\,/\,2$"}
WORDS = {"any step": "yes, at any step", "small steps": "as the step shrinks", "no": "no"}


def plot(record, folder):
    """One figure: deviation against step size for each map, and the table."""
    results, steps = record["results"], record["settings"]["steps"]
    seeds = [results[key] for key in results if key.startswith("seed")]
    fig, axes = look.mosaic([[*TITLES], ["table"] * 3], 9.5, 6.6, height_ratios=[2.1, 1.35])
    for label, title in TITLES.items():
        ax = axes[label]
        for name in METHODS:
            draw(ax, name, steps, np.array([records.numbers(seed[name][label]["path"]) for seed in seeds]))
        ax.set(xscale="log", yscale="log", title=title, xlabel="step size h", ylim=(3e-16, 30))
        ax.set_xlim(1.4 * steps[0], steps[-1] / 1.4)  # shrinking to the right
        ax.set_xticks(steps, [f"1/{round(1 / h)}" if h < 1 else "1" for h in steps])
        ax.minorticks_off()
        ax.tick_params(labelleft=label == "rotation")
    h = np.array([steps[0], steps[-1]])
    axes["nonlinear"].plot(h, 1e-3 * h, color=look.GREY, lw=0.8)
    axes["nonlinear"].annotate("~ h", (h[-1], 1e-3 * h[-1]), xytext=(-4, -10), textcoords="offset points", fontsize=8)
    axes["rotation"].set_ylabel("deviation in function space")
    fig.legend(*axes["rotation"].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8,
               frameon=False)  # fmt: skip
    draw_table(axes["table"], results.get("table", {}))
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def draw(ax, name, steps, deviations):
    """The median over seeds, and a band over all of them; hollow markers for damped methods."""
    base, _, variant = name.partition(", ")
    style, (line, filled) = look.look(base), LINES[variant]
    deviations = np.where(np.isnan(deviations), np.inf, deviations)
    look.band(ax, steps, deviations.min(axis=0), np.minimum(deviations.max(axis=0), 1e3), base)
    ax.plot(steps, np.median(deviations, axis=0), line, color=style.colour, marker=style.marker, label=name, lw=1.3,
            markerfacecolor=style.colour if filled else "white")  # fmt: skip


def draw_table(ax, found):
    """Methods against maps: is the path kept, and with which slope does the deviation fall?"""
    ax.axis("off")
    ax.set(xlim=(0, 1), ylim=(len(METHODS) + 0.6, -0.6))
    columns = dict(zip(TITLES, (0.33, 0.49, 0.77)))
    for label, x in columns.items():
        ax.text(x, 0, TITLES[label], fontsize=8.5, weight="bold", va="center")
    ax.text(0.0, 0, "is the path kept?", fontsize=8.5, weight="bold", va="center")
    for row, (name, cells) in enumerate(found.items(), start=1):
        ax.text(0.0, row, name, fontsize=8.5, va="center")
        for label, cell in cells.items():
            power = "" if cell["slope"] is None else f"  (~ h^{max(cell['slope'], 0):.2f})"
            ax.text(columns[label], row, WORDS[cell["verdict"]] + power, fontsize=8.5, va="center")


def caption(record):
    """What is shown, and who survives what, read off the record."""
    settings, found, seeds = record["settings"], record["results"].get("table"), record["seeds"]
    text = (
        "How far training in other coordinates departs from the original run at most, in units of how far that gets: "
        f"{settings['net']}, {settings['data']}, {drawn(seeds)}"
    )
    if found is None:
        return text + ": unfinished."
    kept = {kind: survivors(found, "affine", kind) for kind in ("any step", "small steps")}
    small = survivors(found, "nonlinear", "small steps")
    return (
        f"{text}; under the affine map {kept['any step']} keep the path at any step and {kept['small steps']} as the "
        f"step shrinks, under the nonlinear one {small} as the step shrinks."
    )


def survivors(found, label, kind):
    """The methods with this verdict under this map, in words."""
    names = [name.split(", ") for name in found if found[name][label]["verdict"] == kind]
    words = [f"{name} ({variant[0]})" if variant else name for name, *variant in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words or ["none"])

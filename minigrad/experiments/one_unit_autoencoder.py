"""Four methods on the error of an auto-encoder with one hidden unit (Pascanu & Bengio, figure 1, sections 4 and 8.4).

The net reconstructs a number x from one unit, with w and b used twice: y = w sigmoid(w x + b) - b. The paper minimizes
(x - y)^2, which is -log p(x) of a Gaussian with beta^2 = 1/2, up to a constant; its metric is G = 2 E[(dy)'(dy)].

The paper states the learning rates and dampings (METHODS below), not the data, nor the starts. Ours are eleven numbers
evenly in [-1/2, 1/2]. They lie symmetrically about 0, so that the odd "+ b" in the paper's error,
(x - w sigmoid(w x + b) + b)^2, does not matter: the usual sign, y = w sigmoid(w x + b) + b, mirrors the surface in w.
It has two minima. Start [1] was chosen where natural gradient's step is shorter than gradient descent's and Newton's
longer; from start [3] natural gradient and gradient descent end in different minima. [2] and [4] lie halfway along
natural gradient's two paths. "Covariance of gradients" is TONGA, uncentred; centred, it takes the same direction.
"""

from dataclasses import dataclass

import numpy as np

from .. import backend
from .. import plot as look
from ..autodiff import ops
from ..backend import to_host, xp
from ..curvature import fisher, gradient_covariance, hessian
from ..losses import Gaussian
from ..nets import Layout
from ..objective import Objective
from ..optimizers import SGD, TONGA, ConjugateGradient, FixedDamping, NaturalGradient, Newton
from .parts import run_parts

NAME = "one-unit-autoencoder"
DESCRIPTION = "four methods on the error surface of a one-unit auto-encoder, and on natural gradient's KL surfaces"
PAPER = "Pascanu & Bengio, figure 1"

DATA = tuple(float(x) for x in np.linspace(-0.5, 0.5, 11))
STARTS = {"1": (-2.75, 0.75), "3": (-1.0, 3.0)}  # (w, b)
STEPS = 100
SETTLED = 1e-3  # the gradient's norm at which a path counts as arrived


@dataclass(frozen=True)
class OneUnit:
    """y = w sigmoid(w x + b) + sign b, for theta = (w, b) and x (N, 1)."""

    sign: int = -1

    @property
    def layout(self):
        """w, then b."""
        return Layout({"w": (1,), "b": (1,)})

    def __call__(self, p, x):
        """y (N, 1) for p["w"] and p["b"] (1,); stacks of them, (..., 1, 1), give stacks of y, (..., N, 1)."""
        return p["w"] * ops.sigmoid(p["w"] * x + p["b"]) + self.sign * p["b"]

    def apply(self, theta, x):
        """y (N, 1)."""
        return self(self.layout.views(theta), x)


EXACT = ConjugateGradient(maxiter=8, rtol=1e-13, stop=None)  # two unknowns: two iterations, but for rounding
METHODS = {  # learning rates and dampings of section 8.4; every step is taken, whatever it does to the error
    "SGD": SGD(0.1),
    "Newton": Newton(1.0, FixedDamping(1.0)),
    "natural gradient": NaturalGradient(0.5, FixedDamping(0.01), EXACT, warm_start=0.0),
    "TONGA": TONGA(1.0, FixedDamping(1.0), EXACT, metric="empirical", warm_start=0.0),
}
VARIANTS = {
    "TONGA, centred": TONGA(1.0, FixedDamping(1.0), EXACT, metric="covariance", warm_start=0.0),
    "TONGA, undamped": TONGA(1.0, FixedDamping(0.0), EXACT, metric="empirical", warm_start=0.0),
}
IN_WORDS = {"SGD": "gradient descent", "TONGA": "covariance of gradients"}


@dataclass(frozen=True)
class Scale:
    """Steps after which gradient descent is given up if not settled (others: a tenth); starts along each side."""

    patience: int
    side: int


SCALES = {"quick": Scale(200, 2), "usual": Scale(3000, 5), "full": Scale(4000, 9)}
GRID, EDGE = 4.0, 4.5  # the grid of starts, and the surface that is drawn, reach so far in both w and b
SETTLING = ("SGD", "natural gradient", "Newton")  # the methods of which the grid of starts asks where they arrive


def objective(sign=-1):
    """The mean of (x - y)^2."""
    return Objective(OneUnit(sign), Gaussian(beta=0.5**0.5))


def batch():
    """(x, x), (11, 1): an auto-encoder's targets are its inputs."""
    x = backend.asarray(np.array(DATA)[:, None])
    return x, x


def run(options):
    """Minima, paths, steps at four points, stability, and where many starts lead; nothing is random."""
    if options.seeds not in (None, 1):
        raise ValueError(f"{NAME}: nothing here is random, so there is one seed; got {options.seeds}")
    scale = SCALES[options.scale]
    settings = {
        "data": list(DATA),
        "starts": {label: list(theta) for label, theta in STARTS.items()},
        "steps": STEPS,
        "patience": scale.patience,
        "grid": np.linspace(-GRID, GRID, scale.side).tolist(),
        "methods": {name: repr(method) for name, method in METHODS.items()},
    }
    parts = {
        "minima": lambda results: minima(),
        "paths": lambda results: paths(results["minima"], scale.patience),
        "points": lambda results: points(results["paths"]),
        "stability": lambda results: stability(results["minima"]),
        "starts": lambda results: starts(settings["grid"], results["minima"], scale.patience),
        "statements": statements,
    }
    return run_parts(NAME, options, settings, [0], parts)


# --- the parts ------------------------------------------------------------------------------------------


def step(method, theta):
    """The step (2,) that an optimizer proposes at theta, as from a fresh start."""
    the = objective()
    return method.step(theta, method.init(the, theta), the, batch(), None, None)[0] - theta


def follow(method, theta, steps):
    """[theta_0, ..., theta_steps], arrays of the backend."""
    path = [theta]
    for _ in range(steps):
        path.append(path[-1] + step(method, path[-1]))
    return path


def minima():
    """{"A": the minimum with w < 0, "B": with w > 0, "saddle": between}: theta, error, eigenvalues of the Hessian."""
    ends = {"A": (-2.0, -1.0), "B": (2.5, 2.0), "saddle": (0.0, 0.0)}  # theta = 0 is stationary as the data's mean is 0
    return {name: stationary(backend.asarray(np.array(start)), polish=name != "saddle") for name, start in ends.items()}


def stationary(theta, polish):
    """{"theta", "error", "eigenvalues"}, after natural gradient and Newton's method proper, if asked."""
    if polish:
        theta = follow(Newton(1.0, FixedDamping(0.0)), follow(METHODS["natural gradient"], theta, 60)[-1], 8)[-1]
    eigenvalues = xp.linalg.eigvalsh(hessian(objective(), theta, batch()).dense())
    error = objective().value(theta, batch())
    return {"theta": to_host(theta), "error": error, "eigenvalues": to_host(eigenvalues)}


def paths(minima, patience):
    """{start: {method: its first 100 steps, and the stationary point where it arrives in the end (None: nowhere)}}."""
    found = {}
    for start, theta in STARTS.items():
        found[start] = {}
        for name, method in METHODS.items():
            path = follow(method, backend.asarray(np.array(theta)), STEPS)
            w, b = np.array([to_host(theta) for theta in path]).T
            error = [objective().value(theta, batch()) for theta in path]
            at, more = arrival(method, path[-1], minima, patience if name == "SGD" else patience // 10)
            found[start][name] = {"w": w, "b": b, "error": error, "arrives": at, "further steps": more}
    return found


def arrival(method, theta, minima, patience):
    """(the stationary point to which theta comes down, steps); None if it has not settled after `patience` steps."""
    for count in range(patience):
        if backend.item(xp.linalg.norm(objective().value_and_grad(theta, batch())[1])) < SETTLED:
            distance = {name: np.linalg.norm(end["theta"] - to_host(theta)) for name, end in minima.items()}
            return min(distance, key=distance.get), count
        theta = theta + step(method, theta)
    return None, patience


def points(paths):
    """{"1" .. "4": where on natural gradient's path, and what each method proposes there}: see `proposals`."""
    found = {}
    for label, start, share in (("1", "1", 0.0), ("2", "1", 0.5), ("3", "3", 0.0), ("4", "3", 0.5)):
        path = paths[start]["natural gradient"]
        track = np.array([path["w"], path["b"]]).T
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(track, axis=0), axis=1))])
        index = int(np.searchsorted(length, share * length[-1]))
        found[label] = {"theta": track[index], "step": index, "proposed": proposals(track[index])}
    return found


def proposals(point):
    """{method: its step d at this theta, length, cos of the angle to gradient descent's, KL(p_theta || p_theta+d)}.

    "half dGd" is the KL's second-order term.
    """
    theta = backend.asarray(np.array(point))
    G = to_host(fisher(objective(), theta, batch()[0]).dense())
    steps = {name: to_host(step(method, theta)) for name, method in METHODS.items()}
    downhill = steps["SGD"] / np.linalg.norm(steps["SGD"])
    return {
        name: {
            "d": d,
            "length": np.linalg.norm(d),
            "cos": d @ downhill / np.linalg.norm(d),
            "kl": divergence(point, d),
            "half dGd": 0.5 * d @ G @ d,
        }
        for name, d in steps.items()
    }


def divergence(point, d):
    """KL(p_theta || p_(theta + d)), the mean over the data."""
    the, (x, _) = objective(), batch()
    theta, d = (backend.asarray(np.array(v, dtype=float)) for v in (point, d))
    return backend.item(the.loss.kl(the.net.apply(theta, x), the.net.apply(theta + d, x)))


def stability(minima):
    """{minimum: {"methods": {method: spectral radius of its iteration there, largest stable lr}, "traces" of H, G, U}}.

    Near a minimum the iteration is theta - theta* <- (I - lr (metric + lam I)^-1 H) (theta - theta*). Its matrix is
    measured by central differences of the step itself. With eigenvalues 1 - lr e, it settles if lr < 2 / max(e).
    """
    found = {}
    for name in ("A", "B"):
        theta = backend.asarray(np.array(minima[name]["theta"]))
        methods = {label: iteration(method, theta) for label, method in (METHODS | VARIANTS).items()}
        operators = {
            "H": hessian(objective(), theta, batch()),
            "G": fisher(objective(), theta, batch()[0]),
            "U": gradient_covariance(objective(), theta, batch()),
        }
        traces = {letter: np.trace(to_host(operator.dense())) for letter, operator in operators.items()}
        found[name] = {"methods": methods, "traces": traces}
    return found


def iteration(method, theta, h=1e-6):
    """{"radius", "largest lr"} of a method's iteration about theta."""
    ahead, behind = ([to_host(step(method, theta + s * e)) for e in xp.eye(2)] for s in (h, -h))
    S = (np.array(ahead) - np.array(behind)).T / (2 * h)  # of the step
    eigenvalues = np.linalg.eigvals(S).real
    return {"radius": np.abs(1 + eigenvalues).max(), "largest lr": -2 * method.lr.rate({}) / eigenvalues.min()}


def starts(grid, minima, patience):
    """Where each method arrives from a grid of starts: {method: rows over w of "A", "B", "-"}, and the steps compared.

    "shorter": starts at which natural gradient's step is shorter than gradient descent's; "and Newton's longer": there
    Newton's is longer than gradient descent's; "of": all starts.
    """
    arrives, lengths = {name: [] for name in SETTLING}, []
    for w in grid:
        rows = dict.fromkeys(SETTLING, "")
        for b in grid:
            theta = backend.asarray(np.array([w, b]))
            lengths.append({name: np.linalg.norm(to_host(step(method, theta))) for name, method in METHODS.items()})
            for name in SETTLING:
                at, _ = arrival(METHODS[name], theta, minima, patience if name == "SGD" else patience // 10)
                rows[name] += at if at in ("A", "B") else "-"
        for name, row in rows.items():
            arrives[name].append(row)
    shorter = [n for n in lengths if n["natural gradient"] < n["SGD"]]
    longer = [n for n in shorter if n["SGD"] < n["Newton"]]
    return {"arrives": arrives, "shorter": len(shorter), "and Newton's longer": len(longer), "of": len(lengths)}


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """One figure: the error surface with the four methods' paths, and four KL surfaces with their proposed steps."""
    from matplotlib import patheffects

    results = record["results"]
    fig, axes = look.mosaic([["error", "1", "2"], ["error", "3", "4"]], 10.0, 4.9, width_ratios=[2.15, 1, 1])
    halo = [patheffects.withStroke(linewidth=2.2, foreground="white")]
    draw_paths(axes["error"], results, halo)
    for label in ("1", "2", "3", "4"):
        draw_divergence(axes[label], label, results["points"][label], halo)
    for label in ("1", "3"):
        axes[label].set_ylabel(r"$\Delta w$")
    for label in ("3", "4"):
        axes[label].set_xlabel(r"$\Delta b$")
    handles, labels = axes["error"].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def draw_paths(ax, results, halo):
    """The error over (b, w), on a logarithmic scale, the paths, the minima, and the four points."""
    ticks = np.linspace(-EDGE, EDGE, 91)
    error = squared(outputs(ticks, ticks) - np.array(DATA))
    levels = np.geomspace(results["minima"]["A"]["error"] * 1.5, np.max(error), 18)
    ax.contour(ticks, ticks, error, levels, colors="#9A9A9A", linewidths=0.6)
    for start, name in [(start, name) for start in STARTS for name in METHODS]:
        track, style = results["paths"][start][name], look.look(name)
        label = IN_WORDS.get(name, name) if start == "1" else None
        ax.plot(track["b"], track["w"], style.line, color=style.colour, marker=style.marker, lw=1.1, ms=4, mec="white",
                mew=0.25, label=label)  # fmt: skip
    for end in ("A", "B"):
        w, b = results["minima"][end]["theta"]
        ax.text(b, w, end, ha="center", va="center", fontsize=9, weight="bold", path_effects=halo, zorder=9)
    for label, point in results["points"].items():
        w, b = point["theta"]
        offset = {"1": (14, -14), "2": (44, 8), "3": (10, 12), "4": (-6, 26)}[label]
        ax.annotate(f"[{label}]", (b, w), xytext=offset, textcoords="offset points", fontsize=9, path_effects=halo,
                    arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 0.8}, zorder=9)  # fmt: skip
    ax.set(xlabel="b", ylabel="w", title="error, and the first 100 steps", xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE))
    ax.grid(False)


def outputs(w, b):
    """y (len(w), len(b), N) for all pairs, on the host."""
    w, b = (backend.asarray(np.array(part, dtype=float)) for part in (w, b))
    stacks = {"w": w[:, None, None, None], "b": b[None, :, None, None]}
    return to_host(objective().net(stacks, batch()[0]))[..., 0]


def squared(e):
    """The mean of e^2 over the data."""
    return (e**2).mean(axis=-1)


def draw_divergence(ax, label, point, halo):
    """KL(p_theta || p_theta+d) over d, and the steps d that the methods propose."""
    steps = {name: proposed["d"] for name, proposed in point["proposed"].items()}
    reach = 1.15 * max(abs(part) for d in steps.values() for part in d)
    ticks = np.linspace(-reach, reach, 41)
    w, b = point["theta"]
    kl = squared(outputs(w + ticks, b + ticks) - outputs([w], [b]))  # of a Gaussian with 2 beta^2 = 1
    ax.contour(ticks, ticks, kl, np.geomspace(1e-3, 1, 9) * kl.max(), colors="#9A9A9A", linewidths=0.6)
    for name, (dw, db) in steps.items():
        style = look.look(name)
        ax.annotate("", (db, dw), (0, 0), arrowprops={"arrowstyle": "-|>", "color": style.colour, "lw": 1.6,
                    "linestyle": style.line, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9})  # fmt: skip
    ax.plot(0, 0, "o", color="#777777", ms=3)
    ax.set(title=f"KL at [{label}]", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.grid(False)


def caption(record):
    """What is shown; where the paths lead, and what did not reproduce, read off the record."""
    results = record["results"]
    text = (
        "Left: the error (x - w sigmoid(wx + b) + b)^2 of the one-unit auto-encoder, and the first 100 steps of four "
        "methods with the paper's learning rates and dampings, from two starts of ours. Right: the KL at four "
        "points of natural gradient's paths, and the steps proposed there"
    )
    if not results["complete"]:
        return text + ": unfinished."
    found = results["statements"]
    return f"{text}. {found['minima']} {found['steps']} {found['stability']}"


def statements(results):
    """{what a statement of the paper is about: what was found}."""
    return {
        "minima": where_they_lead(results),
        "steps": which_is_shorter(results),
        "directions": how_far_apart(results),
        "stability": what_is_unstable(results),
        "convergence": what_agrees(results),
        "sign": mirrored(),
    }


def where_they_lead(results):
    """The paper: "these paths can result in qualitatively different kinds of minima", as from [3]."""
    told = []
    for start, tracks in results["paths"].items():
        ends = {name: track["arrives"] for name, track in tracks.items()}
        groups = {end: [IN_WORDS.get(name, name) for name in ends if ends[name] == end] for end in ends.values()}
        parts = (f"{' and '.join(names)} to {end or 'no minimum'}" for end, names in groups.items())
        told.append(f"from [{start}] " + ", ".join(parts))
    arrives, errors = results["starts"]["arrives"], {end: results["minima"][end]["error"] for end in "AB"}
    rows = zip(arrives["SGD"], arrives["natural gradient"])
    settled = [pair for row in rows for pair in zip(*row) if "-" not in pair]
    apart = [pair for pair in settled if pair[0] != pair[1]]
    return (
        f"In the end the paths lead {'; '.join(told)} (error {errors['A']:.2g} at A, {errors['B']:.2g} at B). Of "
        f"{len(settled)} starts on a grid, {len(apart)} take natural gradient and gradient descent apart, natural "
        f"gradient to the better minimum in {sum(mine == 'A' for _, mine in apart)}."
    )


def which_is_shorter(results):
    """The paper, of [3]: natural gradient's step "can be smaller than gradient descent ... Newton's is larger"."""
    found = []
    for label, point in results["points"].items():
        natural, descent, newton = (point["proposed"][name]["length"] for name in ("natural gradient", "SGD", "Newton"))
        if natural < descent < newton:
            found.append(f"[{label}] ({natural:.2f} < {descent:.2f} < {newton:.2f})")
    counts = results["starts"]
    many = counts["and Newton's longer"]
    return (
        "Natural gradient's step is shorter than gradient descent's while Newton's is longer at "
        f"{' and '.join(found) or 'none'} of the four points, and from {many} of {counts['of']} starts."
    )


def how_far_apart(results):
    """The paper: the direction of natural gradient "can be quite different", as at [3] and [4]."""
    cos = {label: point["proposed"]["natural gradient"]["cos"] for label, point in results["points"].items()}
    angles = ", ".join(f"{np.degrees(np.arccos(c)):.0f} at [{label}]" for label, c in cos.items())
    return f"Degrees between the steps of natural gradient and gradient descent: {angles}."


def what_is_unstable(results):
    """The paper, 8.4: hyper-parameters were chosen "to ensure stability of training". At the minima they do, or not."""
    at, told = results["stability"], []
    for name in METHODS:
        numbers = {end: at[end]["methods"][name] for end in "AB"}
        if all(number["radius"] < 1 for number in numbers.values()):
            continue
        radius = " and ".join(f"{number['radius']:.2g} at {end}" for end, number in numbers.items())
        lr = " and ".join(f"{number['largest lr']:.2g}" for number in numbers.values())
        told.append(f"{IN_WORDS.get(name, name)} (spectral radius of its iteration {radius}; stable up to lr {lr})")
    return f"Not stable at the minima with the paper's numbers: {' and '.join(told) or 'none'}."


def what_agrees(results):
    """The paper, 4.1: "at convergence, U, G and the Hessian are very similar"."""
    told = []
    for end in "AB":
        traces = results["stability"][end]["traces"]
        told.append(f"{traces['H']:.3g}, {traces['G']:.3g} and {traces['U']:.2g} at {end}")
    return f"Traces of Hessian, metric and uncentred covariance: {'; '.join(told)}."


def mirrored():
    """The "+ b" of the printed error: over these data the other sign gives the same surface, mirrored in w."""
    rng = np.random.default_rng(0)
    printed, usual = objective(-1), objective(+1)
    points = [backend.asarray(theta) for theta in rng.uniform(-EDGE, EDGE, (50, 2))]
    mirror = backend.asarray(np.array([-1.0, 1.0]))
    apart = max(abs(printed.value(theta, batch()) - usual.value(mirror * theta, batch())) for theta in points)
    return f"With the usual sign, (x - w sigmoid(wx + b) - b)^2, the surface is mirrored in w, up to {apart:.0e}."

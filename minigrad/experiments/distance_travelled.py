"""How far a net travels while it learns, as a function and in its parameters (Benjamin et al. 2018, fig. 5; 2019, C.7).

The nets of `hcgd-mnist` learn by SGD and by HCGD with one correction. Summed over all updates so far are

    function space     D2 = 1/N sum_i |f_after(x_i) - f_before(x_i)|^2       on one validation batch of 256 test images
    parameter space    |theta_after - theta_before|^2

The squares are summed because a random walk's then grow linearly (2019, caption of C.7). The papers' claims are about
the end: SGD drifts on in function space when its test error no longer falls, HCGD's function comes to rest while its
parameters move on. So the caption states how much of each sum the last quarter of the updates brought: 25 % is a drift
that does not slow down, 0 % is rest.
"""

import numpy as np

from .. import plot as look
from ..backend import asarray
from ..function_space import Recorder
from ..training import records
from .hcgd_mnist import BATCH, RATES, SIZES, Scale, images, objective, run_all, train_one
from .parts import drawn, rounded

NAME = "distance-travelled"
DESCRIPTION = "cumulative squared distance of SGD and HCGD in function and parameter space"
PAPER = "Benjamin et al. 2018, figure 5; 2019, figure C.7"

COMPARED = ("SGD", "HCGD, n = 1")
RUNS = {f"{method}, {base}": (method, base) for base in RATES for method in COMPARED}
SPACES = {"function": "function space", "parameters": "parameter space"}
VALIDATION, POINTS = 256, 80

SCALES = {"quick": Scale(2, 1000, 1), "usual": Scale(4, None, 1), "full": Scale(40, None, 5, cores=2)}


def run(options):
    """Both methods with and without momentum, all seeds; returns the record, see `run_seeds`."""
    return run_all(NAME, options, SCALES[options.scale], RUNS, outcome, {"validation": VALIDATION})


def outcome(scale, options, job):
    """A run's sums at some eighty updates, and its test errors epoch by epoch; None after Ctrl-C."""
    name, seed = job
    train, test, _ = images(scale.images)
    the, x = objective(), asarray(test[0][:VALIDATION])
    theta = the.net.init(np.random.default_rng(seed), train[0].dtype)
    path = Recorder(lambda theta: the.predict(theta, x), theta, len(train[0]) // BATCH)
    history = train_one(scale, options, name, seed, theta, (path,))
    if history.interrupted:
        return None
    shown = np.unique(np.linspace(0, history.update, POINTS + 1).round().astype(int))
    steps = {space: np.array([0.0, *path.tables["update"][space]]) for space in SPACES}
    kept = {
        "curves": {"update": shown.tolist()} | {space: rounded(np.cumsum(d**2)[shown]) for space, d in steps.items()},
        "epochs": {"update": history.curves["update"], "test_error": rounded(history.curves["test_error"])},
    }
    return kept | ({"diverged": history.update} if history.stopped == "diverged" else {})


# --- what came out ---------------------------------------------------------------------------------------


def last_quarter(curves, space):
    """Which share of the sum the last quarter of the updates brought, in percent."""
    updates, sums = records.numbers(curves["update"]), records.numbers(curves[space])
    return 100 * (1 - np.interp(0.75 * updates[-1], updates, sums) / sums[-1])


def found(record, base):
    """{method: {space: (median sum at the end, median share of the last quarter in percent)}}."""
    runs, shares = record["results"]["runs"], {}
    for method in COMPARED:
        curves = [run["curves"] for run in runs[f"{method}, {base}"].values()]
        shares[method] = {
            space: (
                float(np.median([each[space][-1] for each in curves])),
                float(np.median([last_quarter(each, space) for each in curves])),
            )
            for space in SPACES
        }
    return shares


def findings(record):
    """The papers' claims, each with numbers and whether it held: [{"claim", "numbers", "held"}].

    Something drifts on if the last quarter of the updates brought more than 12.5 % of its sum, and rests under 5 %.
    """
    sums, claims = {base: found(record, base) for base in RATES}, []
    for base, (sgd, hcgd) in ((base, each.values()) for base, each in sums.items()):
        shares = [each[space][1] for each, space in ((sgd, "function"), (hcgd, "function"), (hcgd, "parameters"))]
        words = ("SGD's function drifts on", "HCGD's function comes to rest", "its parameters drift on")
        for claim, share, held in zip(words, shares, (shares[0] > 12.5, shares[1] < 5, shares[2] > 12.5), strict=True):
            claims.append(
                {"claim": f"{claim}, {base}", "numbers": f"{share:.2g} % of the sum came late", "held": bool(held)}
            )
        ratio = hcgd["function"][0] / sgd["function"][0]
        claims.append(
            {
                "claim": f"HCGD travels less in function space, {base}",
                "numbers": f"{ratio:.2g} times SGD's sum",
                "held": ratio < 1,
            }
        )
    ratio = sums["momentum"]["SGD"]["function"][0] / sums["no momentum"]["SGD"]["function"][0]
    claims.append(
        {
            "claim": "momentum makes SGD travel less in function space",
            "numbers": f"{ratio:.2g} times the sum without",
            "held": ratio < 1,
        }
    )
    return claims


# --- the figure ------------------------------------------------------------------------------------------


def plot(record, folder):
    """Sums by epoch, function space above and parameter space below, with momentum on the left; a line a seed."""
    fig, axes = look.mosaic([[f"{space}, {base}" for base in RATES] for space in SPACES], height=5.0)
    runs = record["results"]["runs"]
    for name, (method, base) in RUNS.items():
        for run in runs[name].values():
            updates = records.numbers(run["curves"]["update"])
            epochs = updates / run["epochs"]["update"][1] if len(run["epochs"]["update"]) > 1 else updates
            for space in SPACES:
                ax = axes[f"{space}, {base}"]
                style = look.look(method)
                (line,) = ax.plot(epochs, run["curves"][space], color=style.colour, linestyle=style.line, linewidth=1.0)
                line.set_label(method if run is next(iter(runs[name].values())) else "_")
    for (space, label), base in ((item, base) for item in SPACES.items() for base in RATES):
        ax = axes[f"{space}, {base}"]
        ax.set(xlabel="epochs", ylim=(0, None))
        if base == next(iter(RATES)):
            ax.set_ylabel(f"cumulative squared distance\nin {label}")
        if space == "function":
            ax.set_title(base)
        if ax.get_lines():
            ax.legend(frameon=False, fontsize=8)
    return [look.save(fig, folder / f"{NAME}.png", caption=caption(record))]


def caption(record):
    """One sentence: what is shown, and how much of each sum came late, from the record."""
    settings, seeds = record["settings"], record["seeds"]
    text = (
        f"Cumulative squared distance of all updates of a {'-'.join(map(str, SIZES))} net on {settings['data']}, as a "
        f"function on {settings['validation']} test images and in its parameters, "
        f"{drawn(seeds).replace('median and range of', 'a line for each of')}"
    )
    if not record["results"]["complete"]:
        return text + ": unfinished."
    words = []
    for base in RATES:
        late = ", ".join(
            f"{method} {sums['function'][1]:.0f} and {sums['parameters'][1]:.0f}"
            for method, sums in found(record, base).items()
        )
        words.append(f"with {base} {late}")
    return text + "; percent of the sums that the last quarter of the updates brought: " + "; ".join(words) + "."

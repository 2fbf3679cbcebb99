"""What the full form of deep-autoencoder shows: errors of all methods, where their time goes, what tuning is worth."""

import math

import numpy as np

from .. import plot as look
from ..training import records
from .comparison import times_sooner
from .parts import curves_of, drawn, seeds_together

FAMILIES = {
    "first order": ("momentum", "Nesterov", "RMSProp", "Adam"),
    "centred, normalized": ("centred GD", "mean-only BN", "batch norm"),
    "Kronecker factors": ("ACP", "ACP, alpha from g", "K-FAC", "EKFAC", "PRONG", "PRONG+"),
    "Krylov subspaces": ("natural gradient", "NG by MINRES-QLP", "Hessian-free"),
}
SEARCHES = {"random": "random search", "biased": "biased random search"}
PHASES = {"gradient": look.SKY, "statistics": look.ORANGE, "inversion": look.VERMILLION, "rest": look.GREY}


def plot_report(record, folder):
    """Two figures and a table: training errors, costs and the worth of trials, and the numbers in Markdown."""
    paths = [folder / f"deep-autoencoder-{part}" for part in ("errors.png", "costs.png", "table.md")]
    plot_errors(record, paths[0])
    plot_costs(record, paths[1])
    paths[2].write_text(markdown(table(record)))
    return paths


# --- the errors ------------------------------------------------------------------------------------------


def plot_errors(record, path):
    """Training error against updates and against seconds; one column a family, all other methods in grey behind it."""
    runs = {name: each for name, each in record["results"]["runs"].items() if each}
    fig, axes = look.figure(2, len(FAMILIES), width=11.0, height=6.0, sharey=True)
    for row, (axis, label) in zip(axes, (("update", "updates"), ("seconds", "seconds of one core"))):
        lines = {name: together(each, axis) for name, each in runs.items()}
        for ax, (family, names) in zip(row, FAMILIES.items()):
            for name in set(lines) - set(names):
                x, errors = lines[name]
                ax.plot(x, np.median(errors, axis=0), color="#DDDDDD", lw=0.8, zorder=1, label=f"_{name}")
            look.curves(ax, {name: lines[name] for name in names if name in lines})
            ax.set(xscale="log", yscale="log", xlabel=label, title=family if axis == "update" else "")
            for side in (ax.xaxis, ax.yaxis):
                look.plain_numbers(side)
            look.label_ends(ax)
        row[0].set_ylabel("squared training error of an image")
    settings = record["settings"]
    look.save(fig, path, caption=(
        f"Squared reconstruction error of an image (mean over {settings['measured']:,} training images) of the deep "
        f"autoencoder, each method with its best parameters of a {settings['tuning']['search']} search, "
        f"{settings['seconds']:g} s of one core, "
        f"{drawn(record['seeds'])}; in grey the other families' methods; {best_of(record)}."
    ))  # fmt: skip


def together(runs, axis):
    """(x, training errors (seeds, points)) after the start."""
    x, errors = seeds_together(curves_of(runs), axis, "train_error")
    return x[1:], errors[:, 1:]


def best_of(record):
    """Which methods are best, at the end and at the last update that all have made."""
    if not record["results"]["complete"]:
        return "unfinished"
    runs = record["results"]["runs"]
    where = min(run["updates"] for each in runs.values() for run in each.values())
    by_update = {name: np.median(errors_at(each, "update", where)) for name, each in runs.items()}
    by_second = {row["method"]: row["train"][0] for row in table(record)}
    words = []
    for when, errors in ((f"after {where} updates", by_update), ("at the end", by_second)):
        first, second, third = sorted(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))[:3]
        words.append(f"{when} {first} ({errors[first]:.3g}) is ahead of {second} ({errors[second]:.3g}) and {third} "
                     f"({errors[third]:.3g})")  # fmt: skip
    return ", ".join(words)


# --- the table -------------------------------------------------------------------------------------------


def table(record):
    """One dict a method, by training error: errors (median, least, most), updates, milliseconds an update by phase."""
    rows = []
    for name, each in record["results"]["runs"].items():
        runs = list(each.values())
        if not runs:
            continue
        errors = {
            kind: [math.nan if "diverged" in run else run["curves"][f"{kind}_error"][-1] for run in runs]
            for kind in ("train", "test")
        }
        parameters = record["settings"]["parameters"][name]
        row = {"method": name, "parameters": parameters, "updates": int(np.median([run["updates"] for run in runs]))}
        row |= {kind: (np.median(values), min(values), max(values)) for kind, values in errors.items()}
        rows.append(row | {"milliseconds": split(runs)})
    return sorted(rows, key=lambda row: (math.isnan(row["train"][0]), row["train"][0]))


def split(runs):
    """{phase: milliseconds an update} over all runs; "rest" is what no phase claims."""
    updates = sum(run["updates"] for run in runs)
    parts = {
        phase: 1000 * sum(run["phases"].get(phase, 0.0) for run in runs) / updates
        for phase in ("gradient", "statistics", "inversion")
    }
    whole = 1000 * sum(run["seconds"] for run in runs) / updates
    return parts | {"rest": max(whole - sum(parts.values()), 0.0)}


def markdown(rows):
    """The table as text."""
    head = "| method | training error | test error | updates | ms an update | gradient, statistics, inversion |"
    lines = [head, "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        errors = [f"{mid:.3g} ({low:.3g} - {high:.3g})" for mid, low, high in (row["train"], row["test"])]
        parts = row["milliseconds"]
        known = ", ".join(f"{parts[phase]:.3g}" for phase in ("gradient", "statistics", "inversion"))
        known = known if parts["gradient"] else ""
        cells = [row["method"], *errors, f"{row['updates']:,}", f"{sum(parts.values()):.3g}", known]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# --- what the paper claims -------------------------------------------------------------------------------

BASELINES = ("momentum", "RMSProp", "batch norm")  # of Desjardins et al., figure 3c-d
EPOCHS = {"PRONG": 3.2, "batch norm": 2.3, "RMSProp": 9.0}  # an epoch's time, in SGD's (section 4.2)


def findings(record):
    """Desjardins et al., figure 3c-d and section 4.2: claims, numbers, held or not; none before the runs are complete.

    "Ahead" means with every seed. Methods have batch sizes of their own, so an epoch's time is that of an image.
    """
    runs = record["results"]["runs"]
    if not record["results"]["complete"] or not {"PRONG", *BASELINES} <= set(runs):
        return []
    where = min(run["updates"] for name in ("PRONG", *BASELINES) for run in runs[name].values())
    last = min(run["seconds"] for name in ("PRONG", *BASELINES) for run in runs[name].values())
    found = []
    both = (("update", where, "per update", f"after {where:,} updates"), ("seconds", last, "per second", "at the end"))
    for axis, at, what, when in both:
        errors = {name: errors_at(runs[name], axis, at) for name in ("PRONG", *BASELINES)}
        ahead = all(max(errors["PRONG"]) < min(errors[name]) for name in BASELINES)
        numbers = ", ".join(f"{name} {np.median(each):.3g}" for name, each in errors.items())
        found.append({"claim": f"PRONG is ahead of {', '.join(BASELINES)} {what}", "numbers": f"{when} {numbers}",
                      "held": ahead})  # fmt: skip
    fewer = {name: times_sooner(runs[name], runs["PRONG"], "update", where) for name in BASELINES}
    found.append({
        "claim": "PRONG needs up to ten times fewer updates",
        "numbers": "; ".join(
            f"it has {name}'s error {f'in {n:.2g} times fewer' if n else 'at no time'}" for name, n in fewer.items()
        ),
        "held": bool(max(fewer.values()) >= 10),
    })  # fmt: skip
    costs = {
        row["method"]: sum(row["milliseconds"].values()) / row["parameters"]["batch_size"] for row in table(record)
    }
    ratios = {name: costs[name] / costs["momentum"] for name in EPOCHS}
    found.append({
        "claim": "an epoch takes " + ", ".join(f"{ratio:g} of SGD's by {name}" for name, ratio in EPOCHS.items()),
        "numbers": ", ".join(f"{ratio:.2f} by {name}" for name, ratio in ratios.items()),
        "held": all(abs(ratios[name] / ratio - 1) < 0.2 for name, ratio in EPOCHS.items()),
    })  # fmt: skip
    return found


def errors_at(each, axis, at):
    """Training errors of a method's seeds at an update or second."""
    x, errors = together(each, axis)
    return [float(np.interp(at, x, row)) for row in errors]


# --- the costs -------------------------------------------------------------------------------------------


def plot_costs(record, path):
    """Left: milliseconds an update by phase. Right: the error to be expected of the best of k trials."""
    fig, axes = look.figure(1, 2, width=9.6, height=4.6)
    bars, right = axes
    rows = table(record)
    for i, row in enumerate(reversed(rows)):
        left = 0.0
        for phase, colour in PHASES.items():
            width = row["milliseconds"][phase]
            bars.barh(i, width, left=left, color=colour, height=0.7, label=phase if i == 0 else None)
            left += width
    bars.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)], fontsize=8)
    bars.set(xlabel="milliseconds an update, one core")
    bars.legend(frameon=False, fontsize=8)
    tuning = record["settings"]["tuning"]
    for name, errors in tuning["errors"].items():
        expected = best_of_k(errors)
        look.curves(right, {name: (np.arange(1, len(expected) + 1), expected)})
    right.set(xscale="log", yscale="log", xlabel="trials", ylabel="expected error of the best trial")
    for side in (right.xaxis, right.yaxis):
        look.plain_numbers(side)
    look.label_ends(right)
    look.save(fig, path, caption=(
        "Left: where an update's time goes, at each method's own batch size; a method without phases is all gradient "
        f"and rest. Right: what to expect of the best of k trials of {tuning['seconds']:g} s, over all choices of k "
        f"out of the {tuning['trials']} of a {tuning['search']} search; a trial that diverged counts as the worst of "
        "the method's others."
    ))  # fmt: skip


def best_of_k(errors):
    """[expected least of k errors, k = 1..n], drawn without replacement: sum_i e_(i) C(n - i, k - 1) / C(n, k).

    NaN, of a trial that diverged, counts as the largest of the others.
    """
    errors = records.numbers(errors)
    errors = np.sort(np.where(np.isnan(errors), np.nanmax(errors), errors))
    n = len(errors)
    return [
        sum(e * math.comb(n - i, k - 1) for i, e in enumerate(errors, start=1)) / math.comb(n, k)
        for k in range(1, n + 1)
    ]


# --- two tunings -----------------------------------------------------------------------------------------


def compared(one, other):
    """One dict a method of two records, whose searches differ: "trial", the least held-out error of a trial in each
    search, and "train", the median training error at the end; by the second record's."""
    ends = [{row["method"]: row["train"][0] for row in table(record)} for record in (one, other)]
    tried = [record["settings"]["tuning"]["errors"] for record in (one, other)]
    least = lambda errors: float(np.nanmin(records.numbers(errors)))
    return [
        {"method": name, "trial": [least(errors[name]) for errors in tried], "train": [end[name] for end in ends]}
        for name in ends[1]
        if name in ends[0]
    ]


def plot_compared(one, other, path):
    """A line a method, from the first record's error to the second's: of the best trial, and at the end of training."""
    rows, settings = compared(one, other), [record["settings"] for record in (one, other)]
    seconds = f"{settings[1]['tuning']['seconds']:g}", f"{settings[1]['seconds']:g}"
    titles = f"best of {settings[1]['tuning']['trials']} trials of {seconds[0]} s", f"trained for {seconds[1]} s"
    fig, axes = look.figure(1, 2, width=9.0, height=0.8 + 0.24 * len(rows), sharey=True)
    for ax, key, title in zip(axes, ("trial", "train"), titles, strict=True):
        for i, row in enumerate(reversed(rows)):
            ax.plot(row[key], [i, i], color=look.GREY, lw=1.2)
        for k, search in enumerate(SEARCHES[each["tuning"]["search"]] for each in settings):
            style = look.look(search)
            ends = [row[key][k] for row in reversed(rows)]
            ax.plot(ends, range(len(rows)), style.marker, color=style.colour, label=search, ls="")
        ax.set(xscale="log", xlabel=f"squared {'held-out' if key == 'trial' else 'training'} error", title=title)
        look.plain_numbers(ax.xaxis)
    axes[0].set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)], fontsize=8)
    axes[1].legend(frameon=False, fontsize=8)
    return look.save(fig, path, caption=caption_of_two(one, other))


def caption_of_two(one, other):
    """For how many methods the second record's search was the better one; and whether seconds can be compared."""
    rows, tuning = compared(one, other), other["settings"]["tuning"]
    better = {key: sum(row[key][1] < row[key][0] for row in rows) for key in ("trial", "train")}
    machines = [record["machine"]["cpu"] for record in (one, other)]
    apart = (
        "" if machines[0] == machines[1] else f" Their seconds are of two machines, {machines[0]} and {machines[1]}."
    )
    return (
        f"The deep autoencoder's {len(rows)} methods, with the best parameters of two searches, equally long. The "
        f"{tuning['search']} search's best trial is better for {better['trial']} methods, and its parameters train "
        f"further for {better['train']}.{apart}"
    )

"""Two methods compared seed by seed: differences with Student's intervals, and how they are said."""

import math

import numpy as np

from .parts import curves_of, of_seeds, seeds_together


def difference(record, one, other, column):
    """(mean, half its 95 % interval) of how much one method ends above another, in percent, seed by seed.

    See `interval`. Seeds of which either run diverged are left out.
    """
    ones, others = (whole(record["results"]["runs"][name]) for name in (one, other))
    both = [seed for seed in ones if seed in others]
    return interval([100 * (ones[seed]["curves"][column][-1] - others[seed]["curves"][column][-1]) for seed in both])


def interval(changes):
    """(mean, half its 95 % interval) of seeds' numbers: Student's t times their standard error.

    The half is NaN of a single number, both are of none.
    """
    from scipy.stats import t as student

    changes, n = np.asarray(changes, float), len(changes)
    if n < 2:
        return float(changes[0]) if n else math.nan, math.nan
    return float(changes.mean()), float(student.ppf(0.975, n - 1) * changes.std(ddof=1) / n**0.5)


def times_sooner(baseline, other, axis, at=None):
    """`at`, an update or second of a baseline's, over another's first with no larger a training error; 0 without one.

    Of medians over {seed: run}, at the other's evaluations. at: None for the baseline's last.
    """
    x, errors = seeds_together(curves_of(baseline), axis, "train_error")
    at = x[-1] if at is None else at
    level = np.median([np.interp(at, x, row) for row in errors])
    x, errors = seeds_together(curves_of(other), axis, "train_error")
    reached = np.flatnonzero(np.median(errors, axis=0) <= level)
    return float(at / x[reached[0]]) if reached.size and x[reached[0]] else 0.0


def whole(runs):
    """Those of {seed: run} that did not diverge."""
    return {seed: run for seed, run in runs.items() if "diverged" not in run}


def below_zero(pair):
    """Is a difference below 0, all of its interval?"""
    mean, half = pair
    return mean + (0.0 if math.isnan(half) else half) < 0


def differs(pair):
    """Is 0 outside of the interval?"""
    mean, half = pair
    return below_zero(pair) or below_zero((-mean, half))


def lost(record):
    """Which runs diverged, in words; empty if none did."""
    runs = record["results"]["runs"].items()
    counts = {name: len(each) - len(whole(each)) for name, each in runs}
    words = [f"{name} ({of_seeds(count)})" for name, count in counts.items() if count]
    return "; diverged: " + ", ".join(words) if words else ""


def signed(pair):
    """A difference with its interval, if it has one."""
    mean, half = pair
    return f"{mean:+.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")

"""The estimate of a distance: its numbers by hand, and how often its intervals hold the truth."""

import math
import statistics

import numpy as np
import pytest

from minigrad.function_space import Estimate, estimate, mean_square, root_mean_square
from tests.helpers import dev

Z95 = 1.959963984540054  # of the normal distribution, from a table


def heavy(samples, rng):
    """Outputs (samples, 3) whose squared distance is chi-square with 3 degrees of freedom: mean 3, variance 6."""
    f = rng.standard_normal((samples, 3))
    return f, f + rng.standard_normal((samples, 3))


def test_estimate_is_mean_and_standard_deviation_of_single_samples(device):
    f, g = heavy(7, np.random.default_rng(0))
    singles = [sum((f[i, k] - g[i, k]) ** 2 for k in range(3)) for i in range(7)]
    found = estimate(dev(f), dev(g))
    assert found.samples == 7
    assert found.mean_square == pytest.approx(mean_square(dev(f), dev(g)), rel=1e-14)
    assert found.root_mean_square == pytest.approx(root_mean_square(dev(f), dev(g)), rel=1e-14)
    assert found.deviation == pytest.approx(statistics.stdev(singles), rel=1e-13)


def test_interval_by_hand():
    found = Estimate(mean_square=0.25, deviation=0.5, samples=400)
    low, high = found.interval()
    assert (low, high) == pytest.approx((0.25 - Z95 * 0.025, 0.25 + Z95 * 0.025), rel=1e-14)
    assert found.root_interval() == pytest.approx((low**0.5, high**0.5), rel=1e-14)
    assert found.interval(samples=100) == pytest.approx((0.25 - Z95 * 0.05, 0.25 + Z95 * 0.05), rel=1e-14)
    assert found.interval(level=0.6826894921370859)[1] == pytest.approx(0.275, rel=1e-12)  # one standard error
    assert found.interval(samples=1)[0] == 0 == found.root_interval(samples=1)[0]


def test_bounds_of_the_root_are_those_of_the_delta_method_to_first_order():
    for samples, off in ((10**4, 3e-3), (10**6, 3e-4)):  # relative to the half width, 1 / sqrt(samples)
        found = Estimate(mean_square=0.25, deviation=0.1, samples=samples)
        half = Z95 * 0.1 / (2 * 0.5 * math.sqrt(samples))
        low, high = found.root_interval()
        assert (high - 0.5) / half == pytest.approx(1, abs=off) and (0.5 - low) / half == pytest.approx(1, abs=off)


def test_95_percent_of_intervals_hold_the_truth():
    """Both ways to read them: around an estimate, and around the expectation for what batches give."""
    rng, trials, samples = np.random.default_rng(1), 2000, 400
    population = estimate(*map(dev, heavy(200_000, rng)))
    low, high = population.interval(samples)
    held = roots = within = 0
    for _ in range(trials):
        found = estimate(*map(dev, heavy(samples, rng)))
        a, b = found.interval()
        held += a <= 3.0 <= b
        a, b = found.root_interval()
        roots += a <= 3.0**0.5 <= b
        within += low <= found.mean_square <= high
    sigma = math.sqrt(0.95 * 0.05 / trials)
    for count in (held, within):
        assert count / trials == pytest.approx(0.95, abs=4 * sigma)
    assert roots == held  # a monotone function of the bounds


def test_benjamin_2019_figure_3_bounds_come_from_squared_distances():
    """How much D scatters from batch to batch: sd of s over 2 D sqrt(n), not sd of the distances over sqrt(n)."""
    rng, n = np.random.default_rng(5), 100
    f, g = (sides.reshape(2000, n, 3) for sides in heavy(2000 * n, rng))
    measured = np.std([root_mean_square(dev(a), dev(b)) for a, b in zip(f, g, strict=True)])
    whole = estimate(dev(f.reshape(-1, 3)), dev(g.reshape(-1, 3)))
    assert whole.deviation / (2 * whole.root_mean_square * n**0.5) == pytest.approx(measured, rel=0.05)
    singles = np.linalg.norm((f - g).reshape(-1, 3), axis=1)
    assert singles.std() / n**0.5 < 0.97 * measured


def test_level_is_the_share():
    rng, trials = np.random.default_rng(2), 1000
    held = 0
    for _ in range(trials):
        low, high = estimate(*map(dev, heavy(300, rng))).interval(level=0.6)
        held += low <= 3.0 <= high
    assert held / trials == pytest.approx(0.6, abs=4 * math.sqrt(0.6 * 0.4 / trials))


def test_samples_for_an_error():
    found = Estimate(mean_square=0.2, deviation=0.3, samples=50)
    n = found.samples_for(0.05)
    assert n == math.ceil((Z95 * 0.3 / (0.05 * 0.2)) ** 2)
    half = lambda n: found.interval(n)[1] - 0.2
    assert half(n) <= 0.05 * 0.2 < half(n - 1)
    low, high = found.root_interval(n)
    assert (high - low) / 2 / found.root_mean_square == pytest.approx(0.025, rel=1e-2)
    assert found.samples_for(0.05, level=0.5) < n


def test_precision_is_enough_in_float32():
    f, g = heavy(1000, np.random.default_rng(3))
    single, double = (estimate(dev(f, dtype), dev(g, dtype)) for dtype in ("float32", "float64"))
    assert single.deviation == pytest.approx(double.deviation, rel=1e-5)


REFUSED = {
    "one sample": (lambda: estimate(dev([[1.0]]), dev([[2.0]])), "at least two samples, got 1"),
    "other shapes": (lambda: estimate(dev([[1.0]]), dev([[2.0, 3.0]])), r"got \(1, 1\) and \(1, 2\)"),
    "no samples": (lambda: Estimate(1.0, 1.0, 10).interval(0), "at least one sample, got 0"),
    "level of 1": (lambda: Estimate(1.0, 1.0, 10).root_interval(level=1), "between 0 and 1, got 1"),
    "level of 0": (lambda: Estimate(1.0, 1.0, 10).interval(level=0), "between 0 and 1, got 0"),
    "error of 0": (lambda: Estimate(1.0, 1.0, 10).samples_for(0), "must be positive, got 0"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_equal_functions_need_no_samples_to_be_told_apart():
    f = dev([[1.0], [2.0]])
    found = estimate(f, f)
    assert found.interval() == (0, 0) == found.root_interval()
    with pytest.raises(ZeroDivisionError):
        found.samples_for(0.1)

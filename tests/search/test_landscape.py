"""Models of the landscape against plain loops; rules of acceptance by hand, and what may not change them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minigrad.search import Choice, Integer, Kernel, KNearest, NearestNeighbour, Space, Uniform, by_loss, by_rank

inf = math.inf


def k_nearest(told, values, a, k):
    """Sort, take the first k; where trials tie for the last places, the mean over all ways to choose among them."""
    distances = [sum((x - y) ** 2 for x, y in zip(row, a)) for row in told]
    last = sorted(distances)[min(k, len(told)) - 1]
    nearer = [value for value, d in zip(values, distances) if d < last]
    tied = [value for value, d in zip(values, distances) if d == last]
    places = min(k, len(told)) - len(nearer)
    return (sum(nearer) + places * sum(tied) / len(tied)) / min(k, len(told))


def kernel(told, values, a, width):
    weights = [math.exp(-sum((x - y) ** 2 for x, y in zip(row, a)) / (2 * width**2)) for row in told]
    return sum(w * value for w, value in zip(weights, values)) / sum(weights)


MODELS = [
    (NearestNeighbour(), lambda told, values, a: k_nearest(told, values, a, 1)),
    (KNearest(1), lambda told, values, a: k_nearest(told, values, a, 1)),
    (KNearest(3), lambda told, values, a: k_nearest(told, values, a, 3)),
    (KNearest(100), lambda told, values, a: k_nearest(told, values, a, 100)),
    (Kernel(0.1), lambda told, values, a: kernel(told, values, a, 0.1)),
    (Kernel(0.5), lambda told, values, a: kernel(told, values, a, 0.5)),
]
name = lambda model: str(model) if not callable(model) or hasattr(model, "__dataclass_fields__") else ""
SPACES = [
    Space(a=Uniform(0, 1), b=Uniform(0, 1)),
    Space(a=Uniform(0, 1), b=Choice("x", "y", "z")),
    Space(a=Integer(1, 3), b=Choice("x", "y")),  # many trials at one point
]


@pytest.mark.parametrize("space", SPACES, ids=["numbers", "mixed", "discrete"])
@pytest.mark.parametrize(("model", "by_hand"), MODELS, ids=name)
@pytest.mark.parametrize("count", [1, 2, 7, 40, 1000])
def test_models_against_plain_loops(space, model, by_hand, count):
    rng = np.random.default_rng(count)
    told, at = space.features(rng.random((count, 2))), space.features(rng.random((15, 2)))
    values = rng.normal(size=count)
    found = model(told, values, at)
    assert found.shape == (15,)
    np.testing.assert_allclose(found, [by_hand(told, values, a) for a in at], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", [model for model, _ in MODELS], ids=name)
def test_a_model_is_a_mean(model, rng):
    """So it commutes with a c + b, keeps a constant, and stays within what it was told."""
    told, at, values = rng.random((20, 3)), rng.random((9, 3)), rng.normal(size=20)
    found = model(told, values, at)
    np.testing.assert_allclose(model(told, 3 * values - 2, at), 3 * found - 2, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model(told, np.full(20, 0.3), at), 0.3, rtol=1e-12)
    assert np.all((found >= values.min() - 1e-12) & (found <= values.max() + 1e-12))


def test_the_nearest_neighbour_knows_what_it_was_told(rng):
    told, values = rng.random((50, 2)), rng.normal(size=50)
    np.testing.assert_array_equal(NearestNeighbour()(told, values, told), values)


def test_defaults():
    assert KNearest() == KNearest(3) and Kernel() == Kernel(0.1)


def test_a_kernel_far_from_everything_is_the_nearest(rng):
    """Where all weights underflow, the mean is still defined."""
    told, values = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([2.0, 5.0])
    np.testing.assert_allclose(Kernel(1e-3)(told, values, np.array([[0.4, 0.4], [0.6, 0.6]])), [2.0, 5.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNearest(0), "KNearest: k must be a whole number of at least 1, got 0"),
        (lambda: KNearest(1.5), "KNearest: k must be a whole number of at least 1, got 1.5"),
        (lambda: KNearest(True), "KNearest: k must be a whole number of at least 1, got True"),
        (lambda: Kernel(0), "Kernel: width must be a positive finite number, got 0"),
        (lambda: Kernel(inf), "Kernel: width must be a positive finite number, got inf"),
        (lambda: Kernel("wide"), "Kernel: width must be a positive finite number, got 'wide'"),
        (lambda: Kernel(True), "Kernel: width must be a positive finite number, got True"),
    ],
)
def test_models_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- acceptance -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "losses", "p"),
    [
        (by_loss, [], []),
        (by_loss, [3.0], [1]),
        (by_loss, [3.0, 3.0], [1, 1]),
        (by_loss, [1.0, 2.0, 5.0], [1, 0.75, 0]),
        (by_loss, [1.0, inf, 2.0, 5.0], [1, 0, 0.75, 0]),
        (by_loss, [inf, 3.0, 3.0], [0, 1, 1]),
        (by_loss, [inf, inf], [0, 0]),
        (by_loss, [-1e308, 0.0, 1e308], [1, 0.5, 0]),
        (by_loss, [26.0, 30.0, 40.0, 1e9], [1, 1, 1, 0]),  # one diverged trial: random search
        (by_rank, [], []),
        (by_rank, [3.0], [1]),
        (by_rank, [3.0, 3.0], [1, 1]),
        (by_rank, [1.0, 2.0, 5.0], [1, 0.5, 0]),
        (by_rank, [1.0, inf, 2.0, 5.0], [1, 0, 0.5, 0]),
        (by_rank, [inf, 3.0], [0, 1]),
        (by_rank, [inf, inf], [0, 0]),
        (by_rank, [2.0, 2.0, 5.0], [0.75, 0.75, 0]),
        (by_rank, [26.0, 30.0, 40.0, 1e9], [1, 2 / 3, 1 / 3, 0]),  # which this rule survives
    ],
)
def test_acceptance_by_hand(rule, losses, p):
    np.testing.assert_allclose(rule(np.array(losses)), p, rtol=1e-7, atol=1e-12)


losses = st.lists(st.one_of(st.floats(-100, 100), st.just(inf)), min_size=1, max_size=12).map(np.array)


@given(losses)
def test_rank_is_the_share_of_the_others_that_are_beaten(losses):
    finite = [c for c in losses if c < inf]
    for p, c in zip(by_rank(losses), losses):
        others = len(finite) - 1
        if c == inf:
            assert p == 0
        elif len(set(finite)) == 1:
            assert p == 1
        else:
            beaten = sum(d > c for d in finite) + (sum(d == c for d in finite) - 1) / 2
            assert p == pytest.approx(beaten / others)


@given(losses)
def test_rank_is_the_same_for_every_increasing_function(losses):
    mapped = np.exp(losses / 30) * 5 - 2
    assume(len(np.unique(mapped)) == len(np.unique(losses)))  # increasing in floating point too
    np.testing.assert_array_equal(by_rank(mapped), by_rank(losses))


@given(losses, st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_the_thesis_rule_is_the_same_for_affine_functions(losses, a, b):
    finite = losses[np.isfinite(losses)]
    assume(not len(finite) or np.ptp(finite) > 1e-3)  # else the rounding of a c + b decides
    np.testing.assert_allclose(by_loss(a * losses + b), by_loss(losses), atol=1e-8)


@pytest.mark.parametrize("model", [NearestNeighbour(), KNearest(3), Kernel(0.2)], ids=str)
def test_george_2_3_acceptance_of_the_estimate_is_the_estimate_of_the_acceptance(model, rng):
    """Algorithm 1 estimates c, and then p; here p comes first. For the thesis' rule it is the same."""
    told, at, c = rng.random((30, 2)), rng.random((50, 2)), rng.normal(size=30)
    estimate = model(told, c, at)
    printed = (c.max() - estimate) / (c.max() - c.min())
    np.testing.assert_allclose(model(told, by_loss(c), at), printed, rtol=1e-12, atol=1e-12)


def test_george_2_3_the_rule_as_printed_and_a_diverged_trial():
    """One loss of 1e9 leaves p within 1.5e-8 of 1 at all others; an infinite one makes it NaN: x < p never holds."""
    p = lambda c: (c.max() - c) / (c.max() - c.min())
    assert p(np.array([26.0, 30.0, 40.0, 1e9]))[:3].min() > 1 - 1.5e-8
    with np.errstate(invalid="ignore"):
        printed = p(np.array([26.0, 30.0, 40.0, inf]))
        alone = p(np.array([26.0]))
    assert np.isnan(printed).all() and np.isnan(alone).all() and not (0.0 < printed).any()
    np.testing.assert_allclose(by_loss(np.array([26.0, 30.0, 40.0, inf])), [1, 5 / 7, 0, 0])

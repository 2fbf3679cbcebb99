"""Damping: the two reduction ratios and their relation, the rule, what is taken."""

import math

import numpy as np
import pytest

from minigrad.optimizers import FixedDamping, LevenbergMarquardt, NaturalGradient
from minigrad.optimizers.damping import reduction_ratio
from tests.helpers import close, host
from tests.optimizers.problems import LOSSES, problem, take
from tests.optimizers.test_natural_gradient import EXACT


def quadratic(n=6, lam=0.0, eta=1.0, seed=0):
    """(change of f, g's, s'Gs, lam d'd) for f = theta'G theta / 2 - b'theta, s = eta d and (G + lam I) d = -g."""
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((n, n))
    G, b, theta = B @ B.T + 0.1 * np.eye(n), rng.standard_normal(n), rng.standard_normal(n)
    f = lambda theta: 0.5 * theta @ G @ theta - b @ theta
    g = G @ theta - b
    d = -np.linalg.solve(G + lam * np.eye(n), g)
    s = eta * d
    return f(theta + s) - f(theta), g @ s, s @ G @ s, lam * d @ d


# --- the ratios ----------------------------------------------------------------------------------------------


def test_reduction_ratio_by_hand():
    """f falls by 3; the slope promises 8, the quadratic model 8 - 6 / 2 = 5."""
    assert reduction_ratio(-3.0, -8.0, 6.0) == reduction_ratio(-3.0, -8.0, 6.0, "quadratic") == 3 / 5
    assert reduction_ratio(-3.0, -8.0, 6.0, "linear") == 3 / 8


@pytest.mark.parametrize("kind", ["quadratic", "linear"])
def test_sign_of_rho(kind):
    """Positive where the loss fell, negative where it rose, zero where it stayed."""
    assert reduction_ratio(-1.0, -8.0, 6.0, kind) > 0
    assert reduction_ratio(0.0, -8.0, 6.0, kind) == 0
    assert reduction_ratio(1.0, -8.0, 6.0, kind) < 0


@pytest.mark.parametrize(
    "change, slope, curvature, kind",
    [
        (-1.0, -1.0, 2.0, "quadratic"),  # promises 0
        (-1.0, -1.0, 3.0, "quadratic"),  # promises a rise
        (-1.0, 0.0, -1.0, "linear"),
        (-1.0, 1.0, -9.0, "linear"),
        (math.nan, -8.0, 6.0, "quadratic"),
        (math.inf, -8.0, 6.0, "linear"),
        (-1.0, math.nan, 6.0, "quadratic"),
        (-1.0, -8.0, math.nan, "quadratic"),
    ],
)
def test_rho_is_nan_where_nothing_was_promised_or_nothing_known(change, slope, curvature, kind):
    assert math.isnan(reduction_ratio(change, slope, curvature, kind))


def test_martens_2010_section_4_1_rho_is_1_where_the_model_is_the_function():
    for lam, eta in [(0.0, 1.0), (0.0, 0.3), (2.0, 1.0), (50.0, 1.7)]:
        change, slope, curvature, _ = quadratic(lam=lam, eta=eta)
        assert reduction_ratio(change, slope, curvature) == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.1, 1.9])
def test_pascanu_bengio_equation_30_is_1_minus_half_eta_times_martens(eta):
    """For d = -G^-1 g the model promises (1 - eta / 2) of the slope; the ratios do not "behave identically"."""
    change, slope, curvature, _ = quadratic(eta=eta)
    assert slope + 0.5 * curvature == pytest.approx((1 - eta / 2) * slope, rel=1e-10)
    rho = {kind: reduction_ratio(change, slope, curvature, kind) for kind in ("quadratic", "linear")}
    assert rho["linear"] == pytest.approx((1 - eta / 2) * rho["quadratic"], rel=1e-10)


def test_pascanu_bengio_equation_30_never_lowers_the_damping_of_a_full_step_on_a_quadratic():
    """Martens' rho is 1 there, and lam falls; eq. 30's is 1/2, between the thresholds 1/4 and 3/4."""
    for seed in range(20):
        change, slope, curvature, _ = quadratic(seed=seed)
        for policy, expected, lam in [
            (LevenbergMarquardt(), 1.0, 2 / 1.5),
            (LevenbergMarquardt(reduction="linear"), 0.5, 2.0),
        ]:
            rho = policy.ratio(change, slope, curvature)
            assert rho == pytest.approx(expected, rel=1e-9) and policy.adapt(2.0, rho) == lam


@pytest.mark.parametrize("lam", [1e-3, 0.3, 1.0, 10.0, 1e3])
def test_pascanu_bengio_equation_30_of_a_damped_step(lam):
    """rho = 1/2 + lam d'd / (2 |g'd|), above 3/4 exactly where lam d'd exceeds d'Gd: damping falls to the curvature."""
    for seed in range(10):
        change, slope, curvature, damped = quadratic(lam=lam, seed=seed)
        rho = reduction_ratio(change, slope, curvature, "linear")
        assert rho == pytest.approx(0.5 + 0.5 * damped / abs(slope), rel=1e-9)
        assert (rho > 0.75) == (damped > curvature)


def test_both_ratios_in_an_optimizer():
    """On linear least squares, where the model is the function; lam = 1e-9 counts for nothing."""
    objective, theta, batch = problem(LOSSES[0], sizes=(5, 2))
    for reduction, expected in [("quadratic", 1.0), ("linear", 0.5)]:
        damping = LevenbergMarquardt(lam=1e-6, reduction=reduction)
        _, state, log = take(NaturalGradient(damping=damping, solver=EXACT), objective, theta, batch)
        assert log["rho"] == pytest.approx(expected, abs=1e-4)
        assert state["lam"] == (1e-6 / 1.5 if reduction == "quadratic" else 1e-6)


# --- the rule ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rho, expected",
    [
        (-1.0, 3.0),
        (0.0, 3.0),
        (0.2499, 3.0),
        (0.25, 2.0),
        (0.75, 2.0),
        (0.7501, 2 / 1.5),
        (9.0, 2 / 1.5),
        (math.nan, 3.0),
    ],
)
def test_levenberg_marquardt(rho, expected):
    """Martens (2010), section 4.1."""
    assert LevenbergMarquardt().adapt(2.0, rho) == pytest.approx(expected)
    assert LevenbergMarquardt(reduction="linear").adapt(2.0, rho) == pytest.approx(expected)
    assert FixedDamping(2.0).adapt(2.0, rho) == 2.0


def test_defaults_are_martens():
    policy = LevenbergMarquardt()
    assert (policy.lam, policy.factor, policy.low, policy.high) == (1.0, 1.5, 0.25, 0.75)
    assert (policy.least, policy.most, policy.reduction) == (1e-8, 1e8, "quadratic")
    assert FixedDamping().lam == 1e-3
    change, slope, curvature = -3.0, -8.0, 6.0
    assert policy.ratio(change, slope, curvature) == FixedDamping().ratio(change, slope, curvature) == 3 / 5


def test_damping_stays_in_bounds():
    policy = LevenbergMarquardt(lam=1.0, factor=10, least=0.5, most=3.0)
    assert policy.adapt(1.0, 1.0) == 0.5
    assert policy.adapt(1.0, 0.0) == 3.0


@pytest.mark.parametrize("change, taken", [(-1e-9, True), (0.0, False), (1.0, False), (math.nan, False)])
def test_levenberg_marquardt_takes_what_lowers_the_loss_and_fixed_damping_everything(change, taken):
    assert LevenbergMarquardt().takes(change) is taken
    assert FixedDamping().takes(change) is True


def test_a_retry_from_the_same_state_is_the_same_step():
    """Nothing but the state is remembered: two tries from one state agree bit for bit, whatever came between."""
    objective, theta, batch = problem(LOSSES[1])
    optimizer = NaturalGradient()
    _, state, _ = take(optimizer, objective, theta, batch)
    first = optimizer.step(theta, state, objective, batch, None, None)
    optimizer.step(theta + 1.0, dict(first[1]), objective, batch, None, None)
    again = optimizer.step(theta, state, objective, batch, None, None)
    close(again[0], first[0], rtol=0)
    assert again[2] == first[2] and again[1]["lam"] == first[1]["lam"]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FixedDamping(-1.0), "FixedDamping: lam must be a finite number of at least 0, got -1.0"),
        (lambda: FixedDamping(math.inf), "FixedDamping: lam must be a finite number of at least 0, got inf"),
        (lambda: FixedDamping(math.nan), "FixedDamping: lam must be a finite number of at least 0, got nan"),
        (lambda: LevenbergMarquardt(lam=-1.0), "LevenbergMarquardt: lam must be a positive finite number, got -1.0"),
        (lambda: LevenbergMarquardt(lam=0.0), "lam must be"),
        (lambda: LevenbergMarquardt(least=0.0), "least must be"),
        (lambda: LevenbergMarquardt(most=math.inf), "most must be"),
        (lambda: LevenbergMarquardt(factor=1.0), "factor must be greater than 1, got 1.0"),
        (lambda: LevenbergMarquardt(low=0.75), "low must be less than high, got 0.75 and 0.75"),
        (lambda: LevenbergMarquardt(reduction="linaer"), "unknown reduction ratio 'linaer'; did you mean 'linear'"),
    ],
)
def test_bad_damping(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lam_0_is_no_damping():
    objective, theta, batch = problem(LOSSES[0], sizes=(2, 2))
    _, state, _ = take(NaturalGradient(damping=FixedDamping(0.0), solver=EXACT), objective, theta, batch)
    x1 = np.hstack([host(batch[0]), np.ones((40, 1))])
    G = np.kron(x1.T @ x1 / 40, np.eye(2)) / 0.6**2
    g = host(objective.value_and_grad(theta, batch)[1])
    close(G @ host(state["d"]), -g, rtol=1e-9)

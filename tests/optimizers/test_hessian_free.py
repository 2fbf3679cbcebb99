"""Hessian-free: the same step as natural gradient, and each of Martens' additions by itself."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import Objective
from minigrad.linalg import MartensStop
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.optimizers import ConjugateGradient, FixedDamping, HessianFree, LevenbergMarquardt, NaturalGradient
from minigrad.optimizers.hessian_free import backtrack, line_search
from tests.helpers import close, dev, host
from tests.optimizers.problems import draw_of, each_loss, no_draw, problem, sample_rows, take

PLAIN = {"exponent": None, "stop": None, "warm_start": 0.0}


def outputs_hessian(objective, theta, batch):
    """G = J'HJ + weight decay, J by finite differences, H by its formula for each loss; (n, n)."""
    x, loss = batch[0], objective.loss
    h, n = 1e-6, theta.shape[0]
    r = lambda point: host(objective.net.apply(dev(point), x))
    J = np.stack([(r(host(theta) + h * e) - r(host(theta) - h * e)) / (2 * h) for e in np.eye(n)], axis=-1)
    y = host(loss.predict(dev(r(host(theta)))))
    blocks = {
        Gaussian: lambda y: np.eye(len(y)) / loss.beta**2,
        Bernoulli: lambda y: np.diag(y * (1 - y)),
        Categorical: lambda y: np.diag(y) - np.outer(y, y),
    }[type(loss)]
    G = sum(j.T @ blocks(row) @ j for j, row in zip(J, y, strict=True)) / len(x)
    return G + objective.weight_decay * np.eye(n)


# --- it is natural gradient ----------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("iterations", [1, 4, 12, 60])
def test_pascanu_bengio_section_7_the_same_step_as_natural_gradient(loss, iterations):
    """The same G, batch and damping: the step is natural gradient's, its CG stopped at the iterate gone back to."""
    objective, theta, batch = problem(loss, sizes=(4, 5, 2))
    damping = LevenbergMarquardt(lam=0.5)
    new, state, log = take(HessianFree(damping, iterations, **PLAIN), objective, theta, batch)
    assert log["lr"] == log["taken"] == 1.0 and log["iterations"] == iterations
    natural = NaturalGradient(1.0, damping, ConjugateGradient(log["iterate"], stop=None), warm_start=0.0)
    expected, other, natural_log = take(natural, objective, theta, batch)
    close(new - theta, expected - theta, rtol=1e-12)
    assert log["rho"] == pytest.approx(natural_log["rho"], rel=1e-10) and state["lam"] == other["lam"]


@each_loss
def test_the_converged_step_is_the_damped_dense_solution(loss):
    """Weight decay is part of G; the preconditioner changes the way there, not the solution."""
    objective, theta, batch = problem(loss, weight_decay=0.2)
    lam = 0.3
    G, g = outputs_hessian(objective, theta, batch), host(objective.value_and_grad(theta, batch)[1])
    d = -np.linalg.solve(G + lam * np.eye(len(g)), g)
    for exponent in (None, 0.75, 1.0):
        optimizer = HessianFree(FixedDamping(lam), 150, None, 0.0, exponent)
        new, state, log = take(optimizer, objective, theta, batch)
        close(state["d"], d, rtol=1e-7)
        close(new - theta, log["lr"] * d, rtol=1e-2)  # an earlier iterate may be a little better


def test_martens_2010_section_4_1_rho_has_the_undamped_model():
    """Of a truncated, warm-started, preconditioned solve, at the iterate that is taken."""
    objective, theta, batch = problem(Bernoulli(), sizes=(4, 6, 2), weight_decay=0.05)
    optimizer = HessianFree(FixedDamping(0.05), 5, None, 0.9)
    state = optimizer.init(objective, theta)
    for _ in range(3):
        before, (theta, state, log) = theta, optimizer.step(theta, state, objective, batch, no_draw)
    assert log["lr"] == 1.0
    s = host(theta - before)
    G, g = outputs_hessian(objective, before, batch), host(objective.value_and_grad(before, batch)[1])
    actual = objective.value(theta, batch) - log["loss"]
    assert log["rho"] == pytest.approx(actual / (g @ s + 0.5 * s @ G @ s), rel=1e-5)
    assert abs(log["rho"] - actual / (g @ s + 0.5 * s @ (G + 0.05 * np.eye(len(s))) @ s)) > 1e-3


# --- the preconditioner --------------------------------------------------------------------------------------


def preconditioned_step(objective, theta, batch, lam, exponent):
    """One CG iteration from 0, by hand: d = alpha z with z = -M g, M = (diag(mean of g^2) + decay + lam)^-exponent."""
    squares = (sample_rows(objective, theta, batch) ** 2).mean(axis=0)
    G, g = outputs_hessian(objective, theta, batch), host(objective.value_and_grad(theta, batch)[1])
    z = -g * (squares + objective.weight_decay + lam) ** -exponent
    return z * (-g @ z) / (z @ (G + lam * np.eye(len(g))) @ z)


@pytest.mark.parametrize("exponent", [0.75, 1.0, 0.5])
def test_martens_2010_section_4_7_preconditioner(exponent):
    objective, theta, batch = problem(Categorical(), weight_decay=0.03)
    optimizer = HessianFree(FixedDamping(0.01), 1, None, 0.0, exponent)
    _, state, _ = take(optimizer, objective, theta, batch)
    close(state["d"], preconditioned_step(objective, theta, batch, 0.01, exponent), rtol=1e-7)


def test_curvature_on_its_own_batch():
    """G and the preconditioner belong to the drawn samples; gradient, backtracking and line search to the batch."""
    objective, theta, batch = problem(Categorical())
    other = problem(Categorical(), samples=15, seed=9)[2]
    draw, asked = draw_of(other)
    _, state, log = take(
        HessianFree(FixedDamping(0.1), 1, None, 0.0, curvature_batch=15), objective, theta, batch, draw
    )
    G, g = outputs_hessian(objective, theta, other), host(objective.value_and_grad(theta, batch)[1])
    z = -g * ((sample_rows(objective, theta, other) ** 2).mean(axis=0) + 0.1) ** -0.75
    close(state["d"], z * (-g @ z) / (z @ G @ z + 0.1 * z @ z), rtol=1e-7)
    assert asked == [15] and log["loss"] == objective.value(theta, batch)
    # the gradient, one value (of CG's one iterate); forward pass of G, per-sample gradients, one product
    assert log["gradients"] == pytest.approx(1 + 1 / 3 + 15 / 40 * (1 / 3 + 1 + 4 / 3))


# --- warm start, stored iterates, stop -----------------------------------------------------------------------


def test_martens_2010_section_4_8_warm_start_decays_the_last_solution():
    """One iteration of CG from xi d: d1 = x0 + alpha r, r = -g - (G + lam I) x0."""
    objective, theta, batch = problem(Bernoulli())
    optimizer = HessianFree(FixedDamping(0.2), 1, None, 0.6, None)
    theta, state, _ = take(optimizer, objective, theta, batch)
    x0 = 0.6 * host(state["d"])
    A = outputs_hessian(objective, theta, batch) + 0.2 * np.eye(len(x0))
    r = -host(objective.value_and_grad(theta, batch)[1]) - A @ x0
    _, state, _ = optimizer.step(theta, state, objective, batch, no_draw)
    close(state["d"], x0 + r * (r @ r) / (r @ A @ r), rtol=1e-7)


def test_the_next_solve_starts_from_cgs_solution_not_from_the_step_taken():
    objective, theta, batch = problem(Categorical())
    optimizer = HessianFree(FixedDamping(1e-6), 60, None, 0.0, None)
    new, state, log = take(optimizer, objective, 3.0 * theta, batch)
    assert log["iterate"] < log["iterations"] or log["lr"] < 1
    assert abs(host(new - 3.0 * theta) - host(state["d"])).max() > 1e-3


def test_martens_2010_section_4_6_iterates_are_kept_at_powers_of_1_3():
    stored = HessianFree(maxiter=30)._stored()
    assert sorted(set(stored)) == [1, 2, 3, 4, 5, 7, 9, 11, 14, 18, 24]
    assert HessianFree(maxiter=1)._stored() == [1]
    assert sorted(set(HessianFree(maxiter=16, spacing=2.0)._stored())) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    "values, found",
    [
        ({1: 9.0, 2: 5.0, 4: 3.0, 6: 4.0}, 4),  # back one, then it rises
        ({1: 9.0, 2: 5.0, 4: 3.0, 6: 2.0}, 6),  # the last is the best
        ({1: 1.0, 2: 5.0, 4: 3.0, 6: 4.0}, 4),  # stops at the first rise, whatever lies behind
        ({1: 9.0, 2: 5.0, 4: 5.0, 6: 6.0}, 4),  # no fall is no reason to go on
        ({1: 9.0, 2: 5.0, 4: math.nan, 6: math.nan}, 2),  # out of where the loss overflows
        ({1: 9.0, 2: math.nan, 4: 3.0, 6: 4.0}, 4),
        ({6: 1.0}, 6),
    ],
)
def test_backtracking(values, found):
    """Iterate k is the number k, and the loss there values[k]; CG's solution is the last, stored or not."""
    solution = max(values)
    for stored in (set(values), set(values) - {solution}):
        info = SimpleNamespace(iterations=solution, iterates={k: k for k in stored})
        k, d, value = backtrack(values.get, info, solution)
        assert k == d == found and value == values[found]


def test_the_stop_rule_is_martens_and_can_be_another():
    objective, theta, batch = problem(Bernoulli(), sizes=(6, 10, 4))
    lengths = [
        take(HessianFree(FixedDamping(1e-3), stop=stop, exponent=None), objective, theta, batch)[2]["iterations"]
        for stop in (MartensStop(eps=0.05), MartensStop(), None)
    ]
    assert lengths[0] < lengths[1] < lengths[2] == 250
    assert HessianFree().stop == MartensStop() and HessianFree().maxiter == 250


# --- the line search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, slope, expected",
    [
        ([0.98], -1.0, 1.0),
        ([0.9901, 0.9919], -1.0, 0.8),  # Armijo: 1 - 0.01, then 1 - 0.008
        ([math.nan, math.inf, 0.5], -1.0, 0.64),
        ([1.0], 5.0, 1.0),  # uphill: no rise is asked for, none allowed
        ([1.1, 0.999], 5.0, 0.8),
        ([1.004, 0.999], 0.5, 0.8),
    ],
)
def test_line_search(values, slope, expected):
    """f has these values at d, 0.8 d, 0.64 d, for d = 2; the loss before is 1."""
    asked = []
    value = line_search(lambda d: asked.append(d) or values[len(asked)], 1.0, slope, 2.0, values[0])
    assert value == pytest.approx(expected)
    assert asked == pytest.approx([1.6, 1.28][: len(values) - 1])


def test_line_search_gives_up():
    calls = []
    assert line_search(lambda d: calls.append(d) or 2.0, 1.0, -1.0, 1.0, 2.0) == 0.0
    assert len(calls) == 60 and calls[-1] == pytest.approx(0.8**60)


def test_work_is_counted_in_gradients():
    """Gradient 1, each value 1/3, forward pass of G 1/3, per-sample gradients 1, each product 4/3."""
    objective, theta, batch = problem(Categorical())
    values = []

    class Counting(Objective):
        def value(self, theta, batch):
            values.append(theta)
            return super().value(theta, batch)

    for exponent, preconditioner in ((None, 0), (0.75, 1)):
        values.clear()
        optimizer = HessianFree(maxiter=7, stop=None, exponent=exponent)
        log = take(optimizer, Counting(objective.net, objective.loss), theta, batch)[2]
        assert log["gradients"] == pytest.approx(1 + len(values) / 3 + 1 / 3 + preconditioner + 7 * 4 / 3)
        assert len(values) >= 2  # CG's last iterate, and the one before


class Stubborn(Objective):
    """A loss that is higher wherever one goes."""

    def value(self, theta, batch):
        return super().value(theta, batch) + 10.0


def test_a_step_of_no_acceptable_length_leaves_theta_bit_for_bit():
    objective, theta, batch = problem(Categorical())
    before = host(theta).copy()
    new, state, log = take(HessianFree(), Stubborn(objective.net, objective.loss), theta, batch)
    assert new is theta and np.array_equal(host(theta), before)
    assert log["taken"] == log["lr"] == 0.0 and log["rho"] < 0 and state["lam"] == 1.5


# --- all together --------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_lowers_the_loss_in_every_step(loss, dtype):
    objective, theta, batch = problem(loss, sizes=(4, 6, 3), dtype=dtype)
    optimizer, losses = HessianFree(), []
    state = optimizer.init(objective, theta)
    for _ in range(8):
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw)
        losses.append(log["loss"])
    assert theta.dtype == state["d"].dtype == dtype and state["update"] == 8
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1 * abs(losses[0])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: HessianFree(maxiter=0), "HessianFree: maxiter must be a whole number of at least 1, got 0"),
        (lambda: HessianFree(warm_start=1.0), r"HessianFree: warm_start must be a number in \[0, 1\), got 1.0"),
        (lambda: HessianFree(spacing=1.0), "HessianFree: spacing must be a number greater than 1, got 1.0"),
        (lambda: HessianFree(spacing=math.inf), "HessianFree: spacing must be a number greater than 1, got inf"),
        (lambda: HessianFree(exponent=0.0), r"exponent must be None or a number in \(0, 1\], got 0.0"),
        (lambda: HessianFree(exponent=1.1), r"exponent must be None or a number in \(0, 1\], got 1.1"),
        (lambda: HessianFree(curvature_batch=0), "curvature_batch must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_preconditioner_needs_damping():
    objective, theta, batch = problem(Bernoulli())
    with pytest.raises(ValueError, match="martens_preconditioner: lam must be positive, got 0"):
        take(HessianFree(FixedDamping(0.0)), objective, theta, batch)

"""Newton's method against finite differences of the gradient; what it does where the Hessian is indefinite."""

import math

import numpy as np
import pytest

from minigrad.linalg import Matrix
from minigrad.losses import Bernoulli, Gaussian
from minigrad.optimizers import FixedDamping, LevenbergMarquardt, Newton
from tests.helpers import close, dev, host
from tests.optimizers.problems import Quadratic, each_loss, numerical_hessian, problem, reparametrized, take


def test_one_step_reaches_the_minimum_of_a_quadratic():
    objective, theta, (x, t) = problem(Gaussian(0.7), sizes=(5, 2), weight_decay=0.1)
    new, _, log = take(Newton(damping=FixedDamping(0.0)), objective, theta, (x, t))
    x1 = np.hstack([host(x), np.ones((40, 1))])
    best = np.linalg.solve(x1.T @ x1 / 40 / 0.49 + 0.1 * np.eye(6), x1.T @ host(t) / 40 / 0.49)
    close(new, best.reshape(-1), rtol=1e-11)
    assert log["rho"] == pytest.approx(1.0, abs=1e-9) and log["taken"] == 1.0


@each_loss
@pytest.mark.parametrize("lam, lr", [(0.3, 1.0), (2.0, 0.5)])
def test_step_is_the_damped_dense_solution(loss, lam, lr):
    objective, theta, batch = problem(loss, weight_decay=0.05)
    new, state, log = take(Newton(lr, FixedDamping(lam)), objective, theta, batch)
    H, g = numerical_hessian(objective, theta, batch), host(objective.value_and_grad(theta, batch)[1])
    s = -lr * np.linalg.solve(H + lam * np.eye(len(g)), g)
    close(new - theta, s, rtol=1e-6)  # of the finite differences, times the condition of H + lam I
    actual = objective.value(theta + (new - theta), batch) - log["loss"]
    assert log["rho"] == pytest.approx(actual / (g @ s + 0.5 * s @ H @ s), rel=1e-6)
    assert log["smallest_eigenvalue"] == pytest.approx(np.linalg.eigvalsh(H)[0], abs=1e-8)
    assert log["gradient_norm"] == pytest.approx(np.linalg.norm(g)) and log["loss"] == objective.value(theta, batch)
    assert log["gradients"] == pytest.approx(8 / 3 + 2 * len(g)) and log["lr"] == lr and log["damping"] == lam
    assert state == {"update": 1, "lam": lam}


def saddle():
    """A net where H has negative eigenvalues, and the undamped model promises a rise of the loss."""
    objective, theta, batch = problem(Bernoulli(), seed=3)
    return objective, 3.0 * theta, batch


def test_negative_eigenvalues_are_left_as_they_are():
    """Along an eigenvector with e + lam < 0 the step follows the gradient uphill (plain Tikhonov, P & B Figure 1)."""
    objective, theta, batch = saddle()
    H, g = numerical_hessian(objective, theta, batch), host(objective.value_and_grad(theta, batch)[1])
    e, Q = np.linalg.eigh(H)
    assert e[0] < -1e-3
    lam = -0.5 * e[0]
    new, _, log = take(Newton(damping=FixedDamping(lam)), objective, theta, batch)
    along = Q.T @ host(new - theta)
    assert along[0] * (Q.T @ g)[0] > 0  # uphill
    assert along[-1] * (Q.T @ g)[-1] < 0  # downhill
    close(along, -(Q.T @ g) / (e + lam), rtol=1e-4)
    assert log["taken"] == 1.0


def test_levenberg_marquardt_stays_until_a_step_lowers_the_loss():
    """Each rejected step leaves theta bit for bit and lam times 3/2, until the loss falls."""
    objective, theta, batch = saddle()
    optimizer = Newton(damping=LevenbergMarquardt(lam=1e-4))
    state, logs, point = optimizer.init(objective, theta), [], theta
    for _ in range(40):
        new, state, log = optimizer.step(point, state, objective, batch)
        logs.append(log)
        if log["taken"]:
            break
        assert new is point and not log["rho"] > 0
    assert 1 < len(logs) < 40 and objective.value(new, batch) < logs[0]["loss"]
    for k, log in enumerate(logs):
        assert log["damping"] == pytest.approx(1e-4 * 1.5**k)
    assert math.isnan(logs[0]["rho"])


def test_invariant_under_affine_reparametrization():
    objective, theta, batch = problem(Bernoulli(), samples=200)
    other, phi = reparametrized(objective, theta)
    optimizer = Newton(0.5, FixedDamping(0.0))
    new, new_phi = take(optimizer, objective, theta, batch)[0], take(optimizer, other, phi, batch)[0]
    moved = host(objective.predict(new, batch[0]) - objective.predict(theta, batch[0]))
    gap = host(objective.predict(new, batch[0]) - other.predict(new_phi, batch[0]))
    assert abs(moved).max() > 1e-2 and abs(gap).max() < 1e-5 * abs(moved).max()


def test_a_singular_system_is_named():
    """Zero inputs: the weights have no curvature, and nothing is added to it."""
    objective, theta, (x, t) = problem(Gaussian(), sizes=(2, 2))
    with pytest.raises(
        FloatingPointError, match="Newton: H \\+ lam I is singular; its smallest eigenvalue in size is 0"
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            take(Newton(damping=FixedDamping(0.0)), objective, theta, (0.0 * x, t))


def test_the_error_names_the_eigenvalue_that_the_damping_cancels(monkeypatch):
    """H = diag(-1/2, 2) and lam = 1/2."""
    H = Matrix(dev(np.diag([-0.5, 2.0])), symmetric=True)
    monkeypatch.setattr("minigrad.optimizers.newton.hessian", lambda *anything: H)
    objective = Quadratic(H.matrix, dev([1.0, 1.0]))
    with pytest.raises(FloatingPointError, match=r"smallest eigenvalue in size is 0$"), np.errstate(all="ignore"):
        take(Newton(damping=FixedDamping(0.5)), objective, dev([0.0, 0.0]), None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_theta(dtype):
    objective, theta, batch = problem(Bernoulli(), dtype=dtype)
    new, _, log = take(Newton(), objective, theta, batch, steps=3)
    assert new.dtype == dtype and objective.value(new, batch) < objective.value(theta, batch)


def test_large_nets_are_refused():
    objective, theta, _ = problem(Bernoulli())
    assert theta.shape == (23,)
    Newton(largest=23).init(objective, theta)
    with pytest.raises(ValueError, match="Newton: forms a Hessian of 23 x 23 numbers; the limit is 22 parameters"):
        Newton(largest=22).init(objective, theta)
    assert Newton().largest == 5000


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Newton(lr=-1), "lr must be a positive finite number, got -1"),
        (lambda: Newton(largest=0), "Newton: largest must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""SGD, classical and Nesterov momentum, against closed forms and the equations of Sutskever et al. 2013 written out."""

import numpy as np
import pytest

from minigrad.optimizers import SGD
from tests.helpers import close, dev, host, spd
from tests.optimizers.problems import Quadratic, path, run


@pytest.fixture
def quadratic(rng):
    return Quadratic(spd(rng, 6), dev(rng.standard_normal(6)))


def test_a_step_is_minus_lr_times_the_gradient(rng, quadratic):
    theta = dev(rng.standard_normal(6))
    found, state, _ = run(SGD(0.3), quadratic, theta, [None])
    close(found, theta - 0.3 * (quadratic.A @ theta - quadratic.b))
    assert state == {"update": 1}


def test_on_a_quadratic_each_eigenvector_shrinks_by_1_minus_lr_times_its_eigenvalue():
    eigenvalues, start = np.array([0.5, 1.0, 3.0]), np.array([1.0, -2.0, 0.7])
    theta, _, _ = run(SGD(0.4), Quadratic(dev(np.diag(eigenvalues)), dev(np.zeros(3))), dev(start), [None] * 7)
    close(theta, (1 - 0.4 * eigenvalues) ** 7 * start)


def test_without_momentum_nesterov_changes_nothing(rng, quadratic):
    theta = dev(rng.standard_normal(6))
    plain, _, _ = run(SGD(0.2), quadratic, theta, [None] * 3)
    nesterov, _, _ = run(SGD(0.2, nesterov=True), quadratic, theta, [None] * 3)
    close(nesterov, plain, rtol=0)


def test_momentum_under_a_constant_gradient_approaches_a_rate_of_lr_over_1_minus_momentum():
    g, lr, mu, steps = np.array([1.0, -0.2]), 0.1, 0.8, 5
    theta, state = path(SGD(lr, momentum=mu), [g] * steps)
    close(state["v"], -lr * g * (1 - mu**steps) / (1 - mu))
    close(theta, -lr * g / (1 - mu) * (steps - mu * (1 - mu**steps) / (1 - mu)))


def test_sutskever_2013_equations_1_and_2(rng, quadratic):
    A, b = host(quadratic.A), host(quadratic.b)
    start = rng.standard_normal(6)
    theta, v, lr, mu = start.copy(), np.zeros(6), 0.15, 0.7
    for _ in range(9):
        v = mu * v - lr * (A @ theta - b)
        theta = theta + v
    found, state, _ = run(SGD(lr, momentum=mu), quadratic, dev(start), [None] * 9)
    close(found, theta)
    close(state["v"], v)


def test_sutskever_2013_equations_3_and_4_followed_at_the_look_ahead_point(rng, quadratic):
    A, b = host(quadratic.A), host(quadratic.b)
    start = rng.standard_normal(6)
    theta, v, lr, mu = start.copy(), np.zeros(6), 0.15, 0.7
    for _ in range(9):
        v = mu * v - lr * (A @ (theta + mu * v) - b)
        theta = theta + v
    found, state, _ = run(SGD(lr, momentum=mu, nesterov=True), quadratic, dev(start), [None] * 9)
    close(found, theta + mu * v)
    close(state["v"], v)
    close(found - mu * state["v"], theta)


def test_the_first_step_of_classical_momentum_is_a_gradient_step_and_of_nesterov_a_longer_one():
    g = np.array([2.0, -1.0])
    close(path(SGD(0.1, momentum=0.9), [g])[0], -0.1 * g)
    close(path(SGD(0.1, momentum=0.9, nesterov=True), [g])[0], -0.19 * g)


def test_the_logged_loss_is_at_theta_before_the_step(rng, quadratic):
    optimizer = SGD(0.1, momentum=0.9, nesterov=True)
    theta = dev(rng.standard_normal(6))
    state = optimizer.init(quadratic, theta)
    for _ in range(3):
        before = quadratic.value(theta)
        theta, state, log = optimizer.step(theta, state, quadratic, None)
        assert log["loss"] == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"momentum": 1.0}, r"SGD: momentum must be a number in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"SGD: momentum must be a number in \[0, 1\), got -0.1"),
        ({"momentum": None}, r"SGD: momentum must be a number in \[0, 1\), got None"),
        ({"momentum": float("nan")}, "SGD: momentum .* got nan"),
        ({"nesterov": "yes"}, "SGD: nesterov must be True or False, got 'yes'"),
    ],
)
def test_bad_hyper_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        SGD(0.1, **options)

"""Adagrad, RMSProp and Adam, against their papers' algorithms written out, and what those promise."""

import numpy as np
import pytest

from minigrad.optimizers import Adagrad, Adam, RMSProp
from tests.helpers import close
from tests.optimizers.problems import path

METHODS = [Adagrad, RMSProp, Adam]


@pytest.fixture
def gradients(rng):
    return rng.standard_normal((8, 5))


# --- the papers' algorithms, one number at a time ------------------------------------------------------------


def test_duchi_2011_figure_1(gradients):
    lr, eps = 0.3, 0.2
    theta = np.zeros(5)
    for t in range(len(gradients)):
        s = np.linalg.norm(gradients[: t + 1], axis=0)  # s_i = ||g_{1:t,i}||
        H = np.diag(eps + s)
        theta = theta - lr * np.linalg.solve(H, gradients[t])
    found, state = path(Adagrad(lr, eps=eps), gradients)
    close(found, theta)
    close(state["squares"], (gradients**2).sum(axis=0))
    assert state["update"] == 8


def test_tieleman_hinton_2012_lecture_6_5(gradients):
    lr, decay, eps = 0.3, 0.8, 0.2
    theta, mean_square = np.zeros(5), np.zeros(5)
    for g in gradients:
        mean_square = decay * mean_square + (1 - decay) * g**2
        theta = theta - lr * g / (mean_square**0.5 + eps)
    found, state = path(RMSProp(lr, decay=decay, eps=eps), gradients)
    close(found, theta)
    close(state["squares"], mean_square)


def test_kingma_ba_2015_algorithm_1(gradients):
    lr, beta1, beta2, eps = 0.3, 0.7, 0.95, 0.2
    theta, m, v, t = np.zeros(5), np.zeros(5), np.zeros(5), 0
    for g in gradients:
        t = t + 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
    found, state = path(Adam(lr, beta1=beta1, beta2=beta2, eps=eps), gradients)
    close(found, theta)
    close(state["m"], m)
    close(state["v"], v)
    assert state["update"] == 8


def test_the_defaults_are_the_papers():
    adam = Adam()
    assert (adam.lr.lr, adam.beta1, adam.beta2, adam.eps) == (1e-3, 0.9, 0.999, 1e-8)
    assert (RMSProp().lr.lr, RMSProp().decay) == (1e-3, 0.9)


# --- closed forms under a constant gradient ------------------------------------------------------------------


def test_adagrad_under_a_constant_gradient_steps_as_one_over_the_root_of_t():
    theta, _ = path(Adagrad(0.1, eps=1e-300), [[3.0, -1e-3]] * 6)
    close(theta, -0.1 * sum(t**-0.5 for t in range(1, 7)) * np.array([1.0, -1.0]))


def test_rmsprop_under_a_constant_gradient_starts_long_because_its_mean_starts_at_0():
    theta, _ = path(RMSProp(0.1, decay=0.9, eps=1e-300), [[3.0, -1e-3]] * 6)
    close(theta, -0.1 * sum((1 - 0.9**t) ** -0.5 for t in range(1, 7)) * np.array([1.0, -1.0]))


def test_adam_under_a_constant_gradient_steps_by_lr_times_its_sign_from_the_first_step_on():
    for steps in (1, 2, 6):
        theta, _ = path(Adam(0.1, eps=1e-300), [[3.0, -1e-3]] * steps)
        close(theta, -0.1 * steps * np.array([1.0, -1.0]))


# --- invariances and limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_steps_do_not_depend_on_the_scale_of_each_parameters_gradient(method, gradients):
    scale = np.array([1e-4, 0.1, 1.0, 30.0, 1e5])
    plain, _ = path(method(0.1, eps=1e-300), gradients)
    scaled, _ = path(method(0.1, eps=1e-300), gradients * scale)
    close(scaled, plain)


@pytest.mark.parametrize("method", METHODS)
def test_steps_turn_with_the_sign_of_the_gradient(method, gradients):
    close(path(method(0.1), -gradients)[0], -path(method(0.1), gradients)[0], rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_far_below_eps_gives_a_gradient_step_of_lr_over_eps(method):
    g = np.array([1e-3, -2e-3])
    close(path(method(0.1, eps=1e6), [g])[0], -0.1 / 1e6 * g, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_that_never_had_a_gradient_stay(method, dtype):
    theta, _ = path(method(0.1), [[0.0, 1.0]] * 3, dtype)
    close(theta[:1], np.zeros(1))


def test_adam_without_memory_is_sign_descent_and_rmsprop_too(gradients):
    expected = -0.1 * np.sign(gradients).sum(axis=0)
    close(path(Adam(0.1, beta1=0, beta2=0, eps=1e-300), gradients)[0], expected, rtol=1e-11)
    close(path(RMSProp(0.1, decay=0, eps=1e-300), gradients)[0], expected, rtol=1e-11)


@pytest.mark.parametrize(
    "method, options, message",
    [
        (Adam, {"beta1": 1.0}, r"Adam: beta1 must be a number in \[0, 1\), got 1.0"),
        (Adam, {"beta2": -0.5}, r"Adam: beta2 must be a number in \[0, 1\), got -0.5"),
        (Adam, {"beta2": "0.9"}, r"Adam: beta2 must be a number in \[0, 1\), got '0.9'"),
        (Adam, {"eps": 0}, "Adam: eps must be a positive finite number, got 0"),
        (Adagrad, {"eps": -1e-8}, "Adagrad: eps must be a positive finite number, got -1e-08"),
        (RMSProp, {"decay": 1}, r"RMSProp: decay must be a number in \[0, 1\), got 1"),
        (RMSProp, {"eps": float("inf")}, "RMSProp: eps must be a positive finite number, got inf"),
    ],
)
def test_bad_hyper_parameters(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)

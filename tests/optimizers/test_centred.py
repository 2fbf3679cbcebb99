"""Centred gradient descent: its rule by plain NumPy, when it descends, where it rests and why it converges anyway."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.losses import Gaussian
from minigrad.nets import MeanOnly, mlp
from minigrad.optimizers import SGD, CentredGD
from tests.curvature.cases import cut_into_two_slices
from tests.helpers import close, dev, host
from tests.optimizers.problems import each_loss, problem, sample_rows, take


def layers_of(objective, theta, batch):
    """[(slice of theta, h (N, in), delta (N, out))] of each layer, by a forward loop of its own and gradients of single
    samples, whose bias's row is delta."""
    net, theta = objective.net, host(theta).astype(float)
    rows, h, found = sample_rows(objective, dev(theta), tuple(map(dev, map(host, batch)))), host(batch[0]), []
    for name, activation in zip(net.names, net.activations, strict=True):
        where, (n, out) = net.layout.slices[name], net.layout.shapes[name]
        W = theta[where].reshape(n, out)
        found.append((where, h, rows[:, where.stop - out : where.stop]))
        h = {"tanh": np.tanh, "linear": lambda a: a}[activation](h @ W[:-1] + W[-1])
    return found


def centred_by_hand(objective, theta, batch):
    """(n,): E[(h - E[h])' delta] and E[delta], layer by layer."""
    out = np.zeros(theta.shape[0])
    for where, h, delta in layers_of(objective, theta, batch):
        out[where] = np.concatenate([(h - h.mean(axis=0)).T @ delta / len(h), delta.mean(axis=0)[None]]).ravel()
    return out


@each_loss
def test_alg_2_weights_see_their_input_less_its_mean(loss):
    """With a minus where the thesis prints a plus."""
    objective, theta, batch = problem(loss, (4, 3, 3, 2))
    new, state, log = take(CentredGD(0.3), objective, theta, batch)
    expected = centred_by_hand(objective, theta, batch)
    close(theta - new, 0.3 * expected, 1e-10)
    assert log["loss"] == objective.value(theta, batch) and state == {"update": 1} and log["gradients"] == 1.0
    assert log["gradient_norm"] == pytest.approx(np.linalg.norm(expected))
    assert new.shape == theta.shape and objective.value(new, batch) < log["loss"]


def test_alg_2_as_printed_is_ascent():
    objective, theta, batch = problem(Gaussian(), (4, 3, 3, 2))
    printed = host(theta) + 0.01 * centred_by_hand(objective, theta, batch)
    assert objective.value(dev(printed), batch) > objective.value(theta, batch)


def test_slices_of_a_batch_give_the_same(monkeypatch):
    objective, theta, batch = problem(Gaussian(), (4, 3, 3, 2))
    whole = take(CentredGD(0.3), objective, theta, batch)[0]
    cut_into_two_slices(monkeypatch)
    close(take(CentredGD(0.3), objective, theta, batch)[0], whole)


def test_momentum_and_clip_act_on_the_centred_gradient():
    objective, theta, batch = problem(Gaussian())
    found, state, log = take(CentredGD(0.1, momentum=0.7, nesterov=True, clip=0.2), objective, theta, batch, steps=3)
    point, v = host(theta), 0.0
    for _ in range(3):
        g = centred_by_hand(objective, dev(point), batch)
        g *= min(1.0, 0.2 / np.linalg.norm(g))
        v = 0.7 * v - 0.1 * g
        point = point + 0.7 * v - 0.1 * g
    close(found, point, 1e-10)
    close(state["v"], v, 1e-10)


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-10), ("float32", 1e-5)])
def test_dtype_follows_theta(dtype, rtol):
    """float32: some ten operations, each exact to 6e-8 of its result, on numbers of like size."""
    objective, theta, batch = problem(Gaussian(), (4, 3, 3, 2), dtype=dtype)
    new, _, _ = take(CentredGD(1.0), objective, theta, batch)
    assert new.dtype == dtype
    close(host(theta).astype(float) - host(new), centred_by_hand(objective, theta, batch), rtol, atol=rtol)


# --- when it descends: |mu| <= 2 ---------------------------------------------------------------------------


def P(mu):
    return np.block([[np.eye(len(mu)), -mu[:, None]], [np.zeros((1, len(mu))), np.ones((1, 1))]])


def linear_layer(rng, length, worst=True, samples=50, beta=1.0):
    """(objective, theta, batch, h): a linear layer under squared error whose input has a mean of this length.

    worst: targets are such that the gradient's weights are mu' g / 2, of all gradients the one that P turns most.
    """
    h = rng.standard_normal((samples, 3))
    mu = rng.standard_normal(3)
    mu *= length / np.linalg.norm(mu)
    h += mu - h.mean(axis=0)
    objective = Objective(mlp([3, 2]), Gaussian(beta))
    theta = rng.standard_normal(8)
    delta = rng.standard_normal((samples, 2))
    if worst:  # delta_i = g + (h_i - mu) M has E[delta] = g, and E[h' delta] = C M + mu' g
        C, g = np.cov(h.T, bias=True), rng.standard_normal(2)
        delta = g + (h - mu) @ np.linalg.solve(C, -np.outer(mu, g) / 2)
    t = h @ theta.reshape(4, 2)[:-1] + theta.reshape(4, 2)[-1] - delta
    return objective, dev(theta), (dev(h), dev(t)), h


@pytest.mark.parametrize("length", [0.0, 0.5, 1.9, 2.0, 2.1, 5.0])
def test_the_symmetric_part_of_its_preconditioner_is_psd_up_to_a_mean_of_length_2(rng, length):
    """Eigenvalues 1, 1 - |mu| / 2, 1 + |mu| / 2 of (P + P') / 2."""
    mu = rng.standard_normal(6)
    mu *= length / np.linalg.norm(mu)
    values = np.linalg.eigvalsh((P(mu) + P(mu).T) / 2)
    close(values, [1 - length / 2, *[1.0] * 5, 1 + length / 2], atol=1e-12)


@pytest.mark.parametrize("length", [0.5, 1.9, 2.1, 5.0])
def test_beyond_a_mean_of_length_2_there_are_gradients_at_which_each_small_step_raises_the_loss(rng, length):
    """The slope of the loss along the step is -(1 - |mu|^2 / 4) |g|^2 at the worst gradient."""
    objective, theta, batch, _ = linear_layer(rng, length)
    g = host(objective.value_and_grad(theta, batch)[1]).reshape(4, 2)[-1]
    for lr in (1e-3, 1e-5, 1e-7):
        new = take(CentredGD(lr), objective, theta, batch)[0]
        change = objective.value(new, batch) - objective.value(theta, batch)
        assert (change > 0) == (length > 2)
    slope = objective.value_and_grad(theta, batch)[1] @ (new - theta) / lr
    close(slope, (length**2 / 4 - 1) * g @ g, 1e-7)  # theta + lr d holds nine digits of lr d


@pytest.mark.parametrize("length", [0.5, 1.9])
def test_below_it_no_gradient_is_such(rng, length):
    for _ in range(20):
        objective, theta, batch, _ = linear_layer(rng, length, worst=False)
        new = take(CentredGD(1e-6), objective, theta, batch)[0]
        assert objective.value(new, batch) < objective.value(theta, batch)


# --- where it rests, and why it converges ------------------------------------------------------------------


def test_a_linear_layers_hessian_becomes_triangular_with_the_covariances_eigenvalues_and_1(rng):
    _, _, _, h = linear_layer(rng, 4.0)
    mu, C = h.mean(axis=0), np.cov(h.T, bias=True)
    h1 = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    A = h1.T @ h1 / len(h)
    close(P(mu) @ A, np.block([[C, np.zeros((3, 1))], [mu[None], np.ones((1, 1))]]))
    values = np.sort(np.linalg.eigvals(P(mu) @ A).real)
    close(values, np.sort([*np.linalg.eigvalsh(C), 1.0]))
    assert np.linalg.cond(A) > 10 * values[-1] / values[0]


def test_on_a_linear_layer_it_converges_though_its_steps_may_raise_the_loss(rng):
    """|mu| = 5: gradient descent needs lr < 2 / 27, centred less than 2 over the largest of C's eigenvalues and 1."""
    objective, theta, batch, h = linear_layer(rng, 5.0, beta=1.0)
    h1 = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    best = np.linalg.lstsq(h1, host(batch[1]), rcond=None)[0].ravel()
    first = take(CentredGD(0.8), objective, theta, batch)[0]
    assert objective.value(first, batch) > objective.value(theta, batch)
    close(take(CentredGD(0.8), objective, theta, batch, steps=120)[0], best, 1e-9)
    plain = take(SGD(0.8), objective, theta, batch, steps=20)[0]
    assert objective.value(plain, batch) > 1e6


def test_weight_decay_is_centred_too_and_rests_where_the_penalized_objective_does(rng):
    _, theta, (x, t), h = linear_layer(rng, 3.0)
    objective = Objective(mlp([3, 2]), Gaussian(), weight_decay=0.3)
    h1 = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    ridge = np.linalg.solve(h1.T @ h1 / len(h) + 0.3 * np.eye(4), h1.T @ host(t) / len(h)).ravel()
    close(take(CentredGD(1.0), objective, dev(ridge), (x, t))[0], ridge)
    plain = Objective(mlp([3, 2]), Gaussian())
    decay = take(CentredGD(1.0), objective, theta, (x, t))[0] - take(CentredGD(1.0), plain, theta, (x, t))[0]
    close(decay, -0.3 * (P(h.mean(axis=0)) @ host(theta).reshape(4, 2)).ravel())


def test_without_a_mean_it_is_gradient_descent(rng):
    objective, theta, batch, _ = linear_layer(rng, 0.0, worst=False)
    close(take(CentredGD(0.2), objective, theta, batch)[0], take(SGD(0.2), objective, theta, batch)[0])


# --- mean-only batch normalization --------------------------------------------------------------------------


def test_in_one_layer_mean_only_batch_normalization_moves_the_weights_alike(rng):
    """Its gradient in them is E[(h - mu)' delta] too, and so is that of each normalized layer, with its own delta."""
    plain, normalized = mlp([4, 3, 2]), mlp([4, 3, 2], normalization=MeanOnly())
    x, t = dev(rng.standard_normal((30, 4)) + 1.0), dev(rng.standard_normal((30, 2)))
    theta = normalized.init(rng, "float64")
    p = normalized.layout.views(theta)
    mean = x.mean(axis=0) @ p["layer0"][:-1]
    shifted = dev(np.concatenate([host(p["layer0"])[:-1], host(p["layer0.shift"] - mean)[None]]))  # the same function
    same = plain.layout.pack({"layer0": shifted, "layer1": p["layer1"]})
    gradients = Objective(normalized, Gaussian()).value_and_grad(theta, (x, t))[1]
    centred = same - take(CentredGD(1.0), Objective(plain, Gaussian()), same, (x, t))[0]
    close(gradients[:12], centred[:12], 1e-10)
    close(gradients[15:18], centred[12:15], 1e-10)  # the shift moves as the bias does
    close(gradients[12:15], np.zeros(3), atol=1e-14)  # and its bias not at all


def test_parameters_that_are_no_affine_layers_follow_their_gradient(rng):
    net = mlp([4, 3, 2], normalization=MeanOnly())
    objective, theta = Objective(net, Gaussian()), net.init(rng, "float64")
    batch = dev(rng.standard_normal((30, 4))), dev(rng.standard_normal((30, 2)))
    g = objective.value_and_grad(theta, batch)[1]
    step = theta - take(CentredGD(1.0), objective, theta, batch)[0]
    shift = net.layout.slices["layer0.shift"]
    close(step[shift], g[shift])
    assert abs(host(step - g)).max() > 1e-3

"""Nets, likelihoods and targets written from the formulas in plain NumPy. They share nothing with the library, and take
complex theta, so that derivatives come from complex steps."""

import itertools

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


ACTIVATIONS = {"sigmoid": sigmoid, "tanh": np.tanh, "relu": lambda a: a * (a.real > 0), "linear": lambda a: a}


def forward(net, theta, x):
    """r of an MLP: weights row by row, then biases, layer after layer in theta."""
    h, start = x, 0
    for n_in, n_out, activation in zip(net.sizes[:-1], net.sizes[1:], net.activations, strict=True):
        weights = theta[start : start + n_in * n_out].reshape(n_in, n_out)
        start += n_in * n_out
        h = ACTIVATIONS[activation](h @ weights + theta[start : start + n_out])
        start += n_out
    assert start == theta.size
    return h


def distribution(loss, r):
    """The output distribution's parameters."""
    kind = type(loss).__name__
    return {"Gaussian": lambda: r, "Bernoulli": lambda: sigmoid(r), "Categorical": lambda: softmax(r)}[kind]()


def softmax(r):
    return np.exp(r) / np.exp(r).sum(-1, keepdims=True)


def sample_losses(loss, r, t):
    """-log p(t | r) of each sample, without Gaussian's constant; r and t may have further axes in front."""
    kind = type(loss).__name__
    if kind == "Gaussian":
        return ((r - t) ** 2).sum(-1) / (2 * loss.beta**2)
    if kind == "Bernoulli":
        return -(t * np.log(sigmoid(r)) + (1 - t) * np.log(sigmoid(-r))).sum(-1)
    return -np.log((np.eye(r.shape[-1])[t] * softmax(r)).sum(-1))


def all_targets(loss, r):
    """(targets (K, N, ...), probabilities (K, N)): every target there is; Gauss-Hermite nodes for Gaussian."""
    n, outputs = r.shape
    kind = type(loss).__name__
    if kind == "Categorical":
        return np.repeat(np.arange(outputs)[:, None], n, axis=1), softmax(r).T
    if kind == "Bernoulli":
        t = np.array(list(itertools.product([0.0, 1.0], repeat=outputs)))[:, None, :] * np.ones((n, 1))
        return t, np.where(t == 1, sigmoid(r), sigmoid(-r)).prod(-1)
    nodes, weights = np.polynomial.hermite.hermgauss(3)
    z = np.array(list(itertools.product(nodes, repeat=outputs)))[:, None, :]
    w = np.array(list(itertools.product(weights, repeat=outputs))).prod(-1)[:, None]
    return r + np.sqrt(2) * loss.beta * z, w / np.pi ** (outputs / 2) * np.ones(n)


def complex_jacobian(f, z, h=1e-30):
    """df/dz for a vector z, as the last axis; f analytic."""
    return np.stack([f(z + 1j * h * e).imag / h for e in np.eye(z.size)], axis=-1)


def targets_for(loss, r, rng):
    """Targets that are no special case: Bernoulli's lie inside (0, 1)."""
    kind = type(loss).__name__
    if kind == "Gaussian":
        return rng.standard_normal(r.shape)
    return rng.random(r.shape) if kind == "Bernoulli" else rng.integers(r.shape[1], size=r.shape[0])

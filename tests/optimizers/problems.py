"""Objectives simple enough to work out by hand."""

from dataclasses import dataclass

import numpy as np
import pytest

from minigrad import Objective
from minigrad.backend import item
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from tests.helpers import dev, host


@dataclass(frozen=True)
class Quadratic:
    """theta'A theta / 2 - b'theta; the batch plays no part."""

    A: object
    b: object

    def value(self, theta, batch=None):
        return item(0.5 * (theta @ (self.A @ theta)) - self.b @ theta)

    def value_and_grad(self, theta, batch=None):
        return self.value(theta), self.A @ theta - self.b


class Slope:
    """The gradient is the batch, whatever theta is; the loss is the sum of the first two numbers of theta."""

    def value_and_grad(self, theta, batch):
        return item(theta[:2].sum()), batch


def run(optimizer, objective, theta, batches):
    """theta, state and logs after one step on each batch."""
    state, logs = optimizer.init(objective, theta), []
    for batch in batches:
        theta, state, log = optimizer.step(theta, state, objective, batch)
        logs.append(log)
    return theta, state, logs


def path(optimizer, gradients, dtype="float64"):
    """theta and state after steps from 0 along given gradients, an array (steps, n)."""
    theta = dev([0.0] * len(gradients[0]), dtype)
    theta, state, _ = run(optimizer, Slope(), theta, [dev(g, dtype) for g in gradients])
    return theta, state


# --- small nets ----------------------------------------------------------------------------------------------

LOSSES = [Gaussian(0.6), Bernoulli(), Categorical()]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def problem(loss, sizes=(4, 3, 2), samples=40, seed=0, dtype="float64", weight_decay=0.0):
    """(objective, theta, batch) of a small net on random data."""
    rng = np.random.default_rng(seed)
    net = mlp(list(sizes), activation="tanh")
    x = rng.standard_normal((samples, sizes[0]))
    if isinstance(loss, Categorical):
        t = dev(rng.integers(0, sizes[-1], samples))
    else:
        t = dev(rng.random((samples, sizes[-1])), dtype)
    return Objective(net, loss, weight_decay), net.init(rng, dtype), (dev(x, dtype), t)


def no_draw(size=None):
    raise AssertionError("no further batch was asked for")


def draw_of(*batches):
    """A draw that hands out these batches in turn, and `asked`, the sizes that it was asked for."""
    asked, left = [], list(batches)

    def draw(size=None):
        asked.append(size)
        return left.pop(0)

    return draw, asked


def take(optimizer, objective, theta, batch, draw=no_draw, rng=None, steps=1):
    """theta, state, log after steps on one batch."""
    state = optimizer.init(objective, theta)
    for _ in range(steps):
        theta, state, log = optimizer.step(theta, state, objective, batch, draw, rng)
    return theta, state, log


def numerical_hessian(objective, theta, batch, h=1e-5):
    """Central differences of the gradient, (n, n), symmetrized."""
    theta = host(theta)
    gradient = lambda point: host(objective.value_and_grad(dev(point), batch)[1])
    rows = [(gradient(theta + h * e) - gradient(theta - h * e)) / (2 * h) for e in np.eye(len(theta))]
    return (np.array(rows) + np.array(rows).T) / 2


def sample_rows(objective, theta, batch):
    """The gradient of each sample's own loss, (N, n), one sample at a time; without weight decay."""
    x, t = batch
    alone = Objective(objective.net, objective.loss)
    return np.array([host(alone.value_and_grad(theta, (x[i : i + 1], t[i : i + 1]))[1]) for i in range(len(x))])


class Reparametrized:
    """The net at theta = B phi + c, as a net in phi."""

    def __init__(self, net, B, c):
        self.net, self.B, self.c = net, B, c
        self.layout = Layout({"phi": (net.layout.size,)})

    def apply(self, phi, x):
        return self.net.apply(self.B @ phi + self.c, x)


def reparametrized(objective, theta, seed=3):
    """The same function in other parameters: (objective, phi)."""
    rng = np.random.default_rng(seed)
    n = theta.shape[0]
    B, c = np.eye(n) + 0.3 * rng.standard_normal((n, n)), rng.standard_normal(n)
    phi = dev(np.linalg.solve(B, host(theta) - c))
    return Objective(Reparametrized(objective.net, dev(B), dev(c)), objective.loss), phi

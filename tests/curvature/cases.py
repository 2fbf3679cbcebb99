"""Small nets under each loss, and their derivatives by complex steps on plain NumPy: what the tests compare with."""

import numpy as np
import pytest

from minigrad import Objective, backend, objective
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import autoencoder, mlp
from tests.helpers import dev
from tests.nets.reference import complex_jacobian, forward, sample_losses, targets_for

N = 3
CASES = {
    "Gaussian": (mlp([4, 3, 2]), Gaussian()),
    "Gaussian beta": (mlp([2, 3, 3], activation="sigmoid"), Gaussian(beta=0.4)),
    "Gaussian after sigmoid": (autoencoder([4, 2], output="sigmoid"), Gaussian(beta=2.0)),
    "Bernoulli": (autoencoder([4, 3, 2], code="linear"), Bernoulli()),
    "Bernoulli relu": (mlp([3, 5, 3], activation="relu"), Bernoulli()),
    "Categorical": (mlp([4, 5, 4]), Categorical()),
    "Categorical, two layers": (mlp([3, 4, 4, 5], activation="sigmoid"), Categorical()),
}
each_case = pytest.mark.parametrize(("net", "loss"), CASES.values(), ids=CASES)


def problem(net, loss, n=N, seed=1):
    """theta, x, t on the host."""
    rng = np.random.default_rng(seed)
    theta, x = 0.7 * rng.standard_normal(net.layout.size), rng.standard_normal((n, net.sizes[0]))
    assert theta.size < 300
    return theta, x, targets_for(loss, forward(net, theta, x), rng)


def on_device(loss, theta, x, t, dtype="float64"):
    """theta, (x, t) on the active backend; labels stay integers."""
    return dev(theta, dtype), (dev(x, dtype), dev(t, None if isinstance(loss, Categorical) else dtype))


def made(build, net, loss, theta, x, t, dtype="float64", weight_decay=0.0, **options):
    """build(objective, theta, batch, **options) on the active backend."""
    return build(Objective(net, loss, weight_decay), *on_device(loss, theta, x, t, dtype), **options)


def scores(net, loss, theta, x, targets):
    """d/dtheta log p(t | x), (K, N, n), for K targets a sample, by complex steps."""
    return -complex_jacobian(lambda theta: sample_losses(loss, forward(net, theta, x), targets), theta)


def second_derivative(f, z, h=1e-3):
    """The Hessian of f: complex steps one way, central differences of order four the other; good to about 1e-11."""
    gradient = lambda z: complex_jacobian(f, z)
    rows = []
    for e in np.eye(z.size) * h:
        near, far = gradient(z + e) - gradient(z - e), gradient(z + 2 * e) - gradient(z - 2 * e)
        rows.append((8 * near - far) / (12 * h))
    return np.array(rows)


def cut_into_two_slices(monkeypatch):
    """From here on, every batch goes in two slices on two threads."""
    monkeypatch.setattr(objective, "WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: 2)

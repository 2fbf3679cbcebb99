"""Initializers: variances, bounds, sparsity, seeds."""

import numpy as np
import pytest

from minigrad.nets import FanIn, Glorot, He, Sparse, mlp
from tests.helpers import host

ROWS, COLUMNS = 200, 300  # 60,000 weights

VARIANCE = {
    Glorot(): 2 / 500,
    Glorot(alpha=0.7): 0.7 / 500,
    FanIn(): 1 / 200,
    FanIn(alpha=3.0): 3 / 200,
    He(): 2 / 200,
    He(alpha=0.5): 0.5 / 200,
}


def drawn(initializer, n_in=ROWS, n_out=COLUMNS, dtype="float64", seed=0):
    return host(initializer(np.random.default_rng(seed), n_in, n_out, np.dtype(dtype)))


@pytest.mark.parametrize(("initializer", "variance"), VARIANCE.items(), ids=str)
def test_variance(initializer, variance):
    w = drawn(initializer)[:-1]
    kurtosis = 3.0 if isinstance(initializer, He) else 1.8
    assert abs((w**2).mean() / variance - 1) < 5 * np.sqrt((kurtosis - 1) / w.size)
    assert abs((w**4).mean() / variance**2 - kurtosis) < 0.1  # normal, or uniform
    assert abs(w.mean()) < 5 * np.sqrt(variance / w.size)


@pytest.mark.parametrize(("initializer", "variance"), list(VARIANCE.items())[:4], ids=str)
def test_uniform_bounds(initializer, variance):
    w = drawn(initializer)[:-1]
    limit = np.sqrt(3 * variance)
    assert -limit <= w.min() < -0.999 * limit
    assert 0.999 * limit < w.max() <= limit


@pytest.mark.parametrize(("n_in", "connections", "expected"), [(200, 15, 15), (200, 1, 1), (15, 15, 15), (7, 15, 7)])
def test_sparse_counts(n_in, connections, expected):
    W = drawn(Sparse(connections=connections), n_in=n_in)
    assert ((W != 0).sum(axis=0) == expected).all()


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_sparse_weights_are_normal_and_anywhere(alpha):
    W = drawn(Sparse(alpha=alpha))[:-1]
    w = W[W != 0]
    assert abs((w**2).mean() / alpha - 1) < 5 * np.sqrt(2 / w.size)
    used = (W != 0).sum(axis=1)  # each row by a share 15 / 200 of 300 columns
    assert abs(used - 22.5).max() < 6 * np.sqrt(300 * 0.075 * 0.925)


def test_sparse_rows_are_drawn_for_one_unit_too():
    used = sum(drawn(Sparse(connections=10), n_in=40, n_out=1, seed=seed) != 0 for seed in range(200))[:-1]
    assert abs(used - 50).max() < 5 * np.sqrt(200 * 0.25 * 0.75)


def test_defaults():
    assert (Glorot().alpha, FanIn().alpha, He().alpha) == (2, 1, 2)
    assert Sparse() == Sparse(connections=15, alpha=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("initializer", [Glorot(), FanIn(), He(), Sparse()], ids=str)
def test_shape_bias_dtype_and_seed(initializer, dtype):
    W = drawn(initializer, 5, 4, dtype)
    assert W.shape == (6, 4)
    assert W.dtype == dtype
    assert (W[-1] == 0).all()
    assert (W[:-1] != 0).all()
    np.testing.assert_array_equal(W, drawn(initializer, 5, 4, dtype))
    assert (W != drawn(initializer, 5, 4, dtype, seed=1))[:-1].all()


def test_a_net_draws_its_layers_in_order():
    net = mlp([4, 3, 2], init=He())
    generator = np.random.default_rng(3)
    layers = [host(He()(generator, n_in, n_out, np.dtype("float64"))) for n_in, n_out in ((4, 3), (3, 2))]
    theta = net.init(np.random.default_rng(3), "float64")
    np.testing.assert_array_equal(host(theta), np.concatenate([W.ravel() for W in layers]))
    assert net.init(np.random.default_rng(3)).dtype == "float32"


def test_the_default_is_glorot():
    a, b = (mlp([4, 3, 2], init=init).init(np.random.default_rng(0)) for init in (None, Glorot()))
    np.testing.assert_array_equal(host(a), host(b))

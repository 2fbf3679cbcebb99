"""Distances between networks against loops over samples and complex steps; their gradients; what they refuse."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.function_space import (
    mean_square,
    mean_square_and_grad,
    root_mean_square,
    root_mean_square_and_grad,
    squared_distances,
)
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import mlp
from tests.helpers import close, dev, host
from tests.optimizers.problems import LOSSES, problem

each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def outputs(samples=5, width=3, seed=0, dtype="float64"):
    """Outputs of two functions on the same inputs, host arrays."""
    f, g = np.random.default_rng(seed).standard_normal((2, samples, width)).astype(dtype)
    return f, g


def test_mean_square_is_the_mean_over_samples_of_the_sum_over_outputs():
    f, g = outputs()
    by_hand = sum((f[i, k] - g[i, k]) ** 2 for i in range(5) for k in range(3)) / 5
    assert mean_square(dev(f), dev(g)) == pytest.approx(by_hand, rel=1e-14)
    assert root_mean_square(dev(f), dev(g)) == pytest.approx(by_hand**0.5, rel=1e-14)


def test_squared_distances_are_those_of_single_samples(device):
    f, g = outputs()
    singles = [mean_square(dev(f[i : i + 1]), dev(g[i : i + 1])) for i in range(5)]
    close(squared_distances(dev(f), dev(g)), np.array(singles), rtol=1e-14)
    images = (5, 1, 3)
    close(squared_distances(dev(f.reshape(images)), dev(g.reshape(images))), np.array(singles), rtol=1e-14)


def test_distances_are_a_norm():
    f, g = outputs()
    h = outputs(seed=1)[0]

    def d(a, b):
        return root_mean_square(dev(a), dev(b))

    assert d(f, f) == 0 and d(f, g) == d(g, f) > 0
    assert d(f, h) <= d(f, g) + d(g, h)
    assert d(3 * f, 3 * g) == pytest.approx(3 * d(f, g), rel=1e-14)


def test_benjamin_2019_figure_2_classifiers_are_up_to_root_2_apart():
    sure = np.eye(4)
    assert root_mean_square(dev(sure), dev(sure[[1, 2, 3, 0]])) == pytest.approx(2**0.5, rel=1e-15)
    p, q = np.random.default_rng(0).dirichlet(0.05 * np.ones(4), size=(2, 500))
    assert 1 < host(squared_distances(dev(p), dev(q))).max() <= 2


def test_benjamin_2019_section_1_the_root_of_the_mean_square_is_not_the_mean_distance():
    f, g = outputs(samples=100)
    mean = np.mean([np.linalg.norm(a - b) for a, b in zip(f, g, strict=True)])
    assert root_mean_square(dev(f), dev(g)) ** 2 == pytest.approx(mean**2 + np.var(np.linalg.norm(f - g, axis=1)))
    assert mean < 0.98 * root_mean_square(dev(f), dev(g))


def distance(root, objective, theta, x, f):
    """D or D2 on the host by plain matrix algebra; theta may be complex."""
    W = theta.reshape(4, 3)
    r = x @ W[:-1] + W[-1]
    if isinstance(objective.loss, Gaussian):
        y = r
    else:
        e = np.exp(r)
        y = e / e.sum(axis=1, keepdims=True) if isinstance(objective.loss, Categorical) else e / (1 + e)
    square = ((y - f) ** 2).sum() / len(x)
    return square**0.5 if root else square


@each_loss
@pytest.mark.parametrize("root", [False, True], ids=["mean", "root"])
@pytest.mark.parametrize("rows", [None, 2], ids=["whole", "slices of two"])
def test_gradient_is_the_complex_step_of_the_distance(loss, root, rows):
    rng = np.random.default_rng(0)
    objective = Objective(mlp([3, 3]), loss, rows=rows)
    theta, x, f = rng.standard_normal(12), rng.standard_normal((5, 3)), rng.random((5, 3))
    measure = root_mean_square_and_grad if root else mean_square_and_grad
    value, g = measure(objective, dev(theta), dev(x), dev(f))
    assert value == pytest.approx(distance(root, objective, theta, x, f), rel=1e-14)
    steps = [distance(root, objective, theta + 1e-30j * e, x, f).imag / 1e-30 for e in np.eye(12)]
    close(g, np.array(steps), rtol=1e-13)  # a complex step has no error but rounding


@each_loss
def test_the_value_is_the_distance_of_what_the_nets_predict(loss):
    objective, theta, (x, _) = problem(loss)
    f = objective.predict(theta + 0.1, x)
    value, _ = root_mean_square_and_grad(objective, theta, x, f)
    assert value == pytest.approx(root_mean_square(objective.predict(theta, x), f), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_follows_theta(dtype):
    objective, theta, (x, _) = problem(LOSSES[0], dtype=dtype)
    for measure in (mean_square_and_grad, root_mean_square_and_grad):
        _, g = measure(objective, theta, x, objective.predict(theta + 0.1, x))
        assert g.dtype == theta.dtype


def test_root_has_gradient_zero_where_the_functions_are_equal():
    objective, theta, (x, _) = problem(LOSSES[0])
    value, g = root_mean_square_and_grad(objective, theta, x, objective.predict(theta, x))
    assert value == 0 and not host(g).any()


REFUSED = {
    "other widths": (lambda f: mean_square(f, f[:, :2]), r"one shape, got \(5, 3\) and \(5, 2\)"),
    "other samples": (lambda f: mean_square(f, f[:4]), r"one shape, got \(5, 3\) and \(4, 3\)"),
    "singles of other samples": (lambda f: squared_distances(f, f[:4]), r"one shape, got \(5, 3\) and \(4, 3\)"),
    "no sample": (lambda f: root_mean_square(f[:0], f[:0]), r"at least one sample, got shape \(0, 3\)"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(dev(outputs()[0]))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (np.zeros((39, 2)), r"\(39,\) of them for 40 inputs"),
        (np.zeros((40, 3)), r"one shape, got \(40, 2\) and \(40, 3\)"),
    ],
    ids=["samples", "widths"],
)
def test_gradient_refuses_outputs_that_do_not_fit(f, message):
    objective, theta, (x, _) = problem(LOSSES[0])
    with pytest.raises(ValueError, match=message):
        mean_square_and_grad(objective, theta, x, dev(f))

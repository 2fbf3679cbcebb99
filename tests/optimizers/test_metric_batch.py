"""Sources of samples for a metric: unlabeled inputs, drawn so that a run can resume; what is refused."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.backend import is_array
from minigrad.losses import Categorical
from minigrad.nets import mlp
from minigrad.optimizers import ConjugateGradient, FixedDamping, NaturalGradient, Unlabeled
from minigrad.optimizers.metric_batch import curvature_batch
from tests.helpers import close, dev, host


@pytest.mark.parametrize("where", ["host", "backend"])
def test_unlabeled_draws_different_rows_of_x(where, device):
    x = np.arange(24.0).reshape(12, 2)
    draw = Unlabeled(x if where == "host" else dev(x), 5)
    rng = np.random.default_rng(0)
    batches = [draw(rng) for _ in range(40)]
    assert all(is_array(batch) and batch.shape == (5, 2) for batch in batches)
    rows = [host(batch)[:, 0].astype(int) // 2 for batch in batches]
    assert all(len(set(row)) == 5 for row in rows)  # without repetition within a batch
    assert set(np.concatenate(rows)) == set(range(12))  # every sample comes
    assert all((host(batch) == x[row]).all() for batch, row in zip(batches, rows, strict=True))
    assert len({tuple(row) for row in rows}) > 30  # anew each time


def test_samples_of_any_shape():
    rng = np.random.default_rng(0)
    assert Unlabeled(np.zeros(6), 2)(rng).shape == (2,) and Unlabeled(np.zeros((6, 3, 4)), 2)(rng).shape == (2, 3, 4)


def test_unlabeled_goes_on_where_the_rng_stands():
    draw = Unlabeled(np.arange(24.0).reshape(12, 2), 5)
    rng = np.random.default_rng(0)
    draw(rng)
    stand = rng.bit_generator.state
    following = [draw(rng) for _ in range(3)]
    rng = np.random.default_rng(99)
    rng.bit_generator.state = stand
    for batch in following:
        close(draw(rng), batch, rtol=0)


def test_unlabeled_is_printed_so_that_a_checkpoint_knows_it():
    """Shape, dtype, size and content decide what is printed; where the array lies does not."""
    x = np.arange(24.0).reshape(12, 2)
    text = repr(Unlabeled(x, 5))
    assert text.startswith("Unlabeled(x=(12, 2) float64 ") and text.endswith(", size=5)")
    assert text == repr(Unlabeled(x.copy(), 5)) == repr(Unlabeled(dev(x), 5))
    y = x.copy()
    y[6, 1] += 1
    assert len({text, repr(Unlabeled(y, 5)), repr(Unlabeled(x, 4)), repr(Unlabeled(x.astype("float32"), 5))}) == 4


@pytest.mark.parametrize(
    "x, size, error, message",
    [
        (np.zeros((4, 2)), 5, ValueError, r"size must be 1..M for x \(M, ...\), got 5 and x of shape \(4, 2\)"),
        (np.zeros((4, 2)), 0, ValueError, "Unlabeled: size must be a whole number of at least 1, got 0"),
        (np.zeros((4, 2)), 1.5, ValueError, "Unlabeled: size must be a whole number of at least 1, got 1.5"),
        (np.zeros((4, 2), int), 2, TypeError, "x must be an array of floating-point numbers, got int64"),
        ([[0.0]], 1, TypeError, "x must be an array of floating-point numbers, got list"),
        (np.array(0.0), 1, ValueError, r"got 1 and x of shape \(\)"),
    ],
)
def test_bad_unlabeled(x, size, error, message):
    with pytest.raises(error, match=message):
        Unlabeled(x, size)


def test_curvature_batch():
    batch, other = (dev(np.zeros((3, 2))), dev(np.ones(3))), (dev(np.zeros((4, 2))), dev(np.ones(4)))
    assert curvature_batch(None, batch, None, None) is batch
    asked = []
    found = curvature_batch(4, batch, lambda size: asked.append(size) or other, None)
    assert found[0] is other[0] and found[1] is other[1] and asked == [4]
    x, t = curvature_batch(lambda rng: other[0], batch, None, None)
    assert x is other[0] and t is None


def test_added_unlabeled_join_the_gradients_batch(device):
    """Pascanu & Bengio, section 8.7: first the batch's inputs, then the others; no targets."""
    own, others = np.arange(6.0).reshape(3, 2), 100 + np.arange(8.0).reshape(4, 2)
    x, t = curvature_batch(Unlabeled(others, 4, added=True), (dev(own), None), None, np.random.default_rng(0))
    assert t is None and is_array(x)
    close(x[:3], own, rtol=0)
    np.testing.assert_array_equal(np.sort(host(x[3:]), axis=0), others)
    assert repr(Unlabeled(others, 4, added=True)) == repr(Unlabeled(others, 4))[:-1] + ", added=True)"
    with pytest.raises(
        ValueError, match=r"metric batch: samples must have the gradient batch's shape \(2,\), got \(3,\)"
    ):
        curvature_batch(Unlabeled(np.zeros((4, 3)), 2, added=True), (dev(own), None), None, np.random.default_rng(0))


def test_the_metric_of_added_samples_is_the_mean_over_all():
    """A step whose metric has 3 of its own and 2 more samples is the dense one with F of the five."""
    rng = np.random.default_rng(0)
    objective = Objective(mlp([2, 3]), Categorical())
    theta, x, more = dev(rng.normal(size=9)), dev(rng.normal(size=(3, 2))), rng.normal(size=(2, 2))
    batch = (x, dev(np.array([0, 2, 1])))
    solver = ConjugateGradient(maxiter=30, rtol=1e-12, stop=None)
    optimizer = NaturalGradient(1.0, FixedDamping(0.3), solver, metric_batch=Unlabeled(more, 2, added=True))
    moved, _, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, None, rng)
    F = 0.0
    for row in [*host(x), *more]:
        p = host(objective.predict(theta, dev(row[None])))[0]
        J = np.kron(np.append(row, 1.0), np.eye(3))
        F = F + J.T @ (np.diag(p) - np.outer(p, p)) @ J / 5
    g = host(objective.value_and_grad(theta, batch)[1])
    close(host(moved) - host(theta), -np.linalg.solve(F + 0.3 * np.eye(9), g), rtol=1e-8)
    assert log["gradients"] == pytest.approx(4 / 3 + 5 / 3 * (1 / 3 + 4 / 3 * log["iterations"]))

"""Permuted tasks: the same images, one order of pixels a task."""

import numpy as np
import pytest

from minigrad import backend
from minigrad.data import Permuted

X, T = np.arange(24.0).reshape(4, 6), np.arange(4)


def test_a_task_is_the_data_in_its_own_order_of_columns():
    tasks = Permuted(X, T, 4, seed=5)
    assert len(tasks) == 4 and len(list(tasks)) == 4
    for k, (x, t) in enumerate(tasks):
        order = tasks.order(k)
        assert sorted(order) == list(range(6)) and t is T
        np.testing.assert_array_equal(x, X[:, order])
        assert x.flags.c_contiguous
    np.testing.assert_array_equal(tasks[0][0], X)
    assert len({tuple(tasks.order(k)) for k in range(4)}) == 4


def test_orders_are_a_function_of_seed_and_number():
    """So that test data, and more tasks, have the training data's orders."""
    one, more, other = Permuted(X, T, 3, 5), Permuted(X[:2], T[:2], 9, 5), Permuted(X, T, 3, 6)
    np.testing.assert_array_equal(more[2][0], one[2][0][:2])
    assert (other.order(2) != one.order(2)).any()


def test_on_the_backend(device):
    x = backend.asarray(X)
    found, t = Permuted(x, T, 2)[1]
    assert backend.is_array(found)
    np.testing.assert_array_equal(backend.to_host(found), Permuted(X, T, 2)[1][0])


def test_one_task_is_the_data():
    ((x, t),) = Permuted(X, T, 1)
    assert np.array_equal(x, X) and t is T


@pytest.mark.parametrize("k", [-1, 3])
def test_refuses_tasks_that_there_are_not(k):
    with pytest.raises(IndexError, match=f"tasks 0 to 2, not {k}"):
        Permuted(X, T, 3)[k]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Permuted(X.reshape(4, 2, 3), T, 2), ValueError, r"x must be \(N, width\), got shape \(4, 2, 3\)"),
        (lambda: Permuted(X, T, 0), ValueError, "a count of at least 1 and a seed of at least 0, got 0, 0"),
        (lambda: Permuted(X, T, 2, -1), ValueError, "a count of at least 1 and a seed of at least 0, got 2, -1"),
        (lambda: Permuted(X, T, 2.0), TypeError, "float"),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()

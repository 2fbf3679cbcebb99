"""Multidimensional scaling: planes are recovered, stress never rises, minima are minima, bad distances are refused."""

import itertools

import numpy as np
import pytest

from minigrad.function_space import classical_scaling, embed, stress
from minigrad.function_space.embedding import guttman, pairwise, principal_axes, smacof
from tests.helpers import close, dev, host, host_only


def points(count=12, dimensions=2, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def between(X):
    """Distances by a loop."""
    return np.array([[np.linalg.norm(a - b) for b in X] for a in X])


def raw(D, X):
    """The stress sigma(X), over pairs i < j, by a loop."""
    return sum((np.linalg.norm(X[i] - X[j]) - D[i, j]) ** 2 for i in range(len(X)) for j in range(i))


def high_dimensional(count=15, seed=3):
    return between(points(count, 6, seed))


def rng():
    return np.random.default_rng(7)


def test_distances_of_points():
    X = points()
    close(pairwise(dev(X)), between(X), rtol=1e-14)


def test_classical_scaling_recovers_a_plane(device):
    X = points()
    found = classical_scaling(dev(between(X)))
    close(between(host(found)), between(X), rtol=1e-12)
    close(found.mean(axis=0), np.zeros(2), atol=1e-12)
    line = classical_scaling(dev(between(X[:, :1])), 1)
    assert line.shape == (12, 1)
    close(between(host(line)), between(X[:, :1]), rtol=1e-12)


def test_classical_scaling_is_the_best_gram_matrix():
    """Not of a plane: X X' is the nearest psd matrix of rank 2 to the centred Gram matrix, here by an SVD."""
    X = points(9, 5)
    X = X - X.mean(axis=0)
    U, s, _ = np.linalg.svd(X @ X.T)
    found = host(classical_scaling(dev(between(X))))
    close(found @ found.T, (U[:, :2] * s[:2]) @ U[:, :2].T, rtol=1e-12)


def test_distances_of_no_space_still_give_points():
    D = np.array([[0, 1, 9], [1, 0, 1], [9, 1, 0.0]])  # no triangle: an eigenvalue is negative
    found = embed(dev(D), rng=rng())
    assert found.converged and found.stress < stress(dev(D), classical_scaling(dev(D)))
    close(found.points[:, 1], np.zeros(3), atol=1e-3)  # a line is best


def test_a_plane_is_recovered_up_to_a_rigid_motion(device):
    X = points(seed=1)
    found = embed(dev(between(X)), rng=rng())
    assert found.converged and found.stress < 1e-12
    close(between(host(found.points)), between(X), rtol=1e-12)
    X = X - X.mean(axis=0)  # the motion, by Procrustes: X = found R
    U, _, Vt = np.linalg.svd(host(found.points).T @ X)
    close(host(found.points) @ (U @ Vt), X, rtol=1e-12)


def test_stress_by_hand():
    D, X = high_dimensional(), points(15)
    by_hand = np.sqrt(raw(D, X) / sum(D[i, j] ** 2 for i in range(15) for j in range(i)))
    assert stress(dev(D), dev(X)) == pytest.approx(by_hand, rel=1e-14)


def test_stress_never_rises():
    D, X = high_dimensional(), points(15, seed=5)
    values = [raw(D, X)]
    for _ in range(60):
        X = host(guttman(dev(D), dev(X)))
        values.append(raw(D, X))
    assert all(after <= before * (1 + 1e-14) for before, after in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[0]


def test_the_gradient_of_the_stress_is_how_far_the_transform_moves():
    D, X, h = high_dimensional(8), points(8), 1e-6
    steps = np.eye(16).reshape(16, 8, 2) * h
    slope = np.array([(raw(D, X + e) - raw(D, X - e)) / (2 * h) for e in steps]).reshape(8, 2)
    close(2 * 8 * (X - X.mean(axis=0) - host(guttman(dev(D), dev(X)))), slope, rtol=1e-8)


def test_what_is_returned_is_a_minimum():
    D = high_dimensional()
    found = embed(dev(D), rng=rng(), rtol=1e-8)
    X, h = host(found.points), 1e-5
    steps = np.eye(X.size).reshape(-1, *X.shape) * h
    slopes = np.array([(raw(D, X + e) - raw(D, X - e)) / (2 * h) for e in steps])
    assert found.converged and np.abs(slopes).max() < 1e-6 * raw(D, X)
    bends = np.array([raw(D, X + e) + raw(D, X - e) - 2 * raw(D, X) for e in steps])
    assert bends.min() > 0
    squares = [[np.linalg.norm(a - b) ** 2 for b in X] for a in X]  # at a minimum the stress is what is missing in d^2
    assert found.stress**2 == pytest.approx(1 - np.sum(squares) / np.sum(D**2), rel=1e-6)


@host_only
def test_no_worse_than_a_general_minimizer():
    """From SciPy's best of as many random starts; and where we end, it finds nothing lower."""
    from scipy.optimize import minimize

    D = high_dimensional(10)
    objective = lambda flat: raw(D, flat.reshape(10, 2))
    found = embed(dev(D), rng=rng(), starts=5, rtol=1e-8)
    reached = raw(D, host(found.points))
    assert reached <= min(minimize(objective, points(10, seed=seed).ravel()).fun for seed in range(5)) * (1 + 1e-6)
    assert minimize(objective, host(found.points).ravel()).fun == pytest.approx(reached, rel=1e-9)


def test_the_best_start_is_taken():
    D = dev(high_dimensional(10, seed=8))
    found = embed(D, rng=rng(), starts=6)
    assert len(found.stresses) == 7 and found.stress == min(found.stresses) < max(found.stresses)
    assert stress(D, found.points) == pytest.approx(found.stress, rel=1e-12)
    alone = embed(D, rng=rng(), starts=0)
    assert alone.stresses == found.stresses[:1]


def test_a_unit_of_distance_changes_nothing_else():
    D = high_dimensional(10)
    found, larger = embed(dev(D), rng=rng()), embed(dev(1024 * D), rng=rng())
    assert len(found.stresses) == 5 and larger.stresses == found.stresses  # scaling by 2^10 rounds nothing
    close(larger.points, 1024 * host(found.points), rtol=0)


def test_same_seed_same_picture():
    D = dev(high_dimensional(10))
    one, two = embed(D, rng=rng()), embed(D, rng=rng())
    close(one.points, two.points, rtol=0)


def test_a_picture_is_turned_to_its_principal_axes():
    X = points(20, 3) @ np.array([[1.0, 2.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 1.0]]) + 5.0
    found = host(principal_axes(dev(X)))
    close(between(found), between(X), rtol=1e-13)
    close(found.mean(axis=0), np.zeros(3), atol=1e-13)
    scatter = found.T @ found
    close(scatter, np.diag(np.linalg.eigvalsh(np.cov(X.T, bias=True) * 20)[::-1]), rtol=1e-12)
    assert (found.max(axis=0) >= -found.min(axis=0)).all()
    close(principal_axes(dev(-X)), found, rtol=1e-12)


def test_stops_after_maxiter_and_says_so():
    D = high_dimensional()
    found = embed(dev(D), rng=rng(), maxiter=2)
    assert not found.converged
    X, converged = smacof(dev(D), dev(points(15)), rtol=1e-5, maxiter=1)
    assert not converged
    close(X, guttman(dev(D), dev(points(15))), rtol=0)


def test_points_that_coincide_are_no_division_by_zero():
    D = high_dimensional(5)
    X = np.zeros((5, 2))
    X[0] = 1.0
    with np.errstate(all="raise"):
        moved = guttman(dev(D), dev(X))
    assert np.isfinite(host(moved)).all()
    twins = between(np.repeat(points(4), 2, axis=0))
    assert embed(dev(twins), rng=rng()).stress < 1e-6


def test_float32_distances_are_embedded_in_float64():
    X = points(30)
    D = between(X).astype("float32")
    D[0, 1] *= 1 + 2e-7
    found = embed(dev(D), rng=rng())
    assert found.points.dtype == "float64" and found.stress < 1e-6


def test_how_far_from_symmetric_is_relative_to_the_largest():
    D = between(points(4))
    for scale in (1e-4, 1.0, 1e4):
        nearly, not_at_all = scale * D, scale * D
        nearly[0, 1] *= 1 + 1e-7
        not_at_all[0, 1] *= 1 + 1e-4
        assert embed(dev(nearly), rng=rng()).stress < 1e-6
        with pytest.raises(ValueError, match="must be symmetric"):
            embed(dev(not_at_all), rng=rng())


def test_two_points_have_a_line():
    found = embed(dev([[0.0, 3.0], [3.0, 0.0]]), 1, rng=rng())
    close(np.abs(host(found.points)), np.full((2, 1), 1.5), rtol=1e-12)


def changed(i, j, value, both=True):
    D = between(points(4))
    D[i, j] = value
    if both:
        D[j, i] = value
    return D


REFUSED = {
    "no matrix": (np.ones(3), r"square matrix of at least two points, got shape \(3,\)"),
    "not square": (np.zeros((3, 2)), r"got shape \(3, 2\)"),
    "one point": (np.zeros((1, 1)), r"got shape \(1, 1\)"),
    "NaN": (changed(0, 1, np.nan), "must be finite"),
    "infinite": (changed(0, 1, np.inf), "must be finite"),
    "negative": (changed(0, 1, -1.0), "not be negative, got -1"),
    "all zero": (np.zeros((3, 3)), "all distances are 0"),
    "not symmetric": (changed(0, 1, 2.0, both=False), "must be symmetric"),
    "a point far from itself": (changed(2, 2, 0.5), "must be 0 on the diagonal, got 0.5 off"),
}


@pytest.mark.parametrize(("D", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(D, message):
    with pytest.raises(ValueError, match=message):
        embed(dev(D), rng=rng())


@pytest.mark.parametrize("dimensions", [0, 4])
def test_refuses_dimensions_that_the_points_do_not_have(dimensions):
    with pytest.raises(ValueError, match=r"4 points have 1\.\.3 dimensions, got"):
        embed(dev(between(points(4))), dimensions, rng=rng())
    assert embed(dev(between(points(4))), 3, rng=rng()).points.shape == (4, 3)

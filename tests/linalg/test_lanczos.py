"""The Lanczos process against dense eigenvalues; its breakdown; what is read off it."""

import inspect

import numpy as np
import pytest

from minigrad import backend
from minigrad.linalg import Diagonal, Matrix, condition_number, identity, lanczos, largest_eigenvalue, spectrum
from tests.helpers import close, dev, host


def matrix(rng, eigenvalues):
    Q = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))[0]
    return Q * np.asarray(eigenvalues, float) @ Q.T


def symmetric(A, dtype=None):
    return Matrix(dev(A, dtype), symmetric=True)


def tridiagonal(alphas, betas):
    return np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_the_relation(rng, device, k):
    """V orthonormal, A V = V T + beta v e_k' with v orthogonal to V; beta > 0."""
    A = matrix(rng, np.logspace(-8, 2, 40) * rng.choice([-1, 1], 40))
    start = rng.standard_normal(40)
    operator, kept = symmetric(A), dev(start)
    alphas, betas, V = lanczos(operator, kept, k)
    V = host(V)
    assert operator.products == k == len(alphas) == len(betas) and V.shape == (40, k)
    close(kept, start)
    close(V.T @ V, np.eye(k), rtol=1e-13)
    close(V[:, 0], start / np.linalg.norm(start))
    rest = A @ V - V @ tridiagonal(alphas, betas)
    np.testing.assert_allclose(rest[:, :-1], 0, atol=1e-11)
    assert np.linalg.norm(rest[:, -1]) == pytest.approx(betas[-1], abs=1e-11)
    np.testing.assert_allclose(V.T @ rest, 0, atol=1e-11)
    assert (betas >= 0).all() and (k == 40) == (betas[-1] == 0)


def test_more_steps_than_rows_end_at_the_last(rng):
    alphas, betas, V = lanczos(symmetric(matrix(rng, [1.0, 2.0, 5.0])), dev(rng.standard_normal(3)), 9)
    assert len(alphas) == 3 and betas[-1] == 0
    np.testing.assert_allclose(np.linalg.eigvalsh(tridiagonal(alphas, betas)), [1, 2, 5], rtol=1e-12)


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_breakdown_is_an_invariant_subspace(device, dtype, power):
    """Three distinct eigenvalues: three steps. Exactly equal ones, and a start that has a like share in each."""
    size = np.finfo(dtype).eps ** power  # of 2
    A = size * np.diag([3.0] * 4 + [-1.0] * 3 + [0.0] * 3)
    alphas, betas, V = lanczos(symmetric(A, dtype), dev(np.arange(1.0, 11.0) * (-1.0) ** np.arange(10), dtype), 8)
    assert len(alphas) == 3 and betas[-1] == 0 and V.shape == (10, 3) and V.dtype == dtype
    np.testing.assert_allclose(
        np.linalg.eigvalsh(tridiagonal(alphas, betas)) / size, [-1, 0, 3], atol=10 * np.finfo(dtype).eps
    )
    alphas, betas, V = lanczos(symmetric(np.zeros((3, 3))), dev(np.ones(3)), 3)
    assert alphas.tolist() == [0.0] and betas.tolist() == [0.0]
    assert lanczos(identity(4), dev([0.0, 2.0, 0.0, 0.0]), 4)[0].tolist() == [1.0]


def test_spectrum(rng, device):
    eigenvalues = np.concatenate([np.linspace(-1, 1, 57), [4.0, 7.0, -5.0]])
    A = matrix(rng, eigenvalues)
    found = spectrum(symmetric(A), 20, np.random.default_rng(1))
    assert found.values.shape == found.errors.shape == found.weights.shape == (20,)
    assert (np.diff(found.values) > 0).all() and found.weights.sum() == pytest.approx(1)
    distance = abs(found.values[:, None] - eigenvalues).min(1)
    assert (distance <= found.errors + 1e-12).all()
    assert found.errors[0] < 1e-6 and found.errors[-1] < 1e-6 < found.errors[10]
    np.testing.assert_allclose(found.values[[0, -2, -1]], [-5, 4, 7], rtol=1e-8)
    v = host(backend.normal(np.random.default_rng(1), (60,), np.float64))
    v /= np.linalg.norm(v)
    assert found.weights @ found.values == pytest.approx(v @ A @ v)  # Gauss quadrature
    assert found.weights @ found.values**5 == pytest.approx(v @ np.linalg.matrix_power(A, 5) @ v)
    alphas, betas, V = lanczos(symmetric(A), dev(v), 20)
    vectors = np.linalg.eigh(tridiagonal(alphas, betas))[1]
    np.testing.assert_allclose(found.errors, betas[-1] * abs(vectors[-1]), atol=1e-9)


@pytest.mark.parametrize(
    "eigenvalues, expected", [([1.0, -9.0, 4.0, 2.5], 4.0), ([-3.0, -1.0, -2.0], -1.0), ([0.0] * 3, 0.0)]
)
def test_largest_eigenvalue(rng, device, eigenvalues, expected):
    found = largest_eigenvalue(symmetric(matrix(rng, eigenvalues)), np.random.default_rng(2), rtol=1e-10)
    assert found == pytest.approx(expected, abs=1e-9) and isinstance(found, float)
    small = matrix(rng, eigenvalues)
    assert largest_eigenvalue(symmetric(small, np.float32), rng) == pytest.approx(expected, abs=1e-2)


def test_largest_eigenvalue_looks_no_longer_than_it_must(rng):
    A = symmetric(matrix(rng, np.r_[np.linspace(0, 1, 99), 3.0]))
    counts = []
    for rtol in (1e-1, 1e-3, 1e-8):
        before = A.products
        assert largest_eigenvalue(A, np.random.default_rng(0), rtol=rtol) == pytest.approx(3, abs=3 * rtol)
        counts.append(A.products - before)
    assert counts == sorted(counts) and 2 < counts[0] < counts[1] < counts[2] < 30
    before = A.products
    largest_eigenvalue(A, np.random.default_rng(0))
    assert A.products - before == counts[1]  # the default is 1e-3
    assert inspect.signature(largest_eigenvalue).parameters["rtol"].default == 1e-3
    for size in (1e-5, 1e5):
        before = A.products
        largest_eigenvalue(size * A, np.random.default_rng(0))
        assert A.products - before == counts[1]
    with pytest.raises(ArithmeticError, match="largest_eigenvalue: not within rtol 1e-08 after 4 steps"):
        largest_eigenvalue(A, rng, rtol=1e-8, maxiter=4)
    with pytest.raises(ArithmeticError, match=r"not within rtol 0\.0 after 50 steps"):
        wide = Diagonal(dev([1.0, 2.0, 3.0, 4.0, 5.5]))
        wide._matvec = lambda v: dev(np.random.default_rng(int(1e6 * abs(host(v)[0])) % 999).standard_normal(5))
        largest_eigenvalue(wide, rng, rtol=0.0)


def test_condition_number(rng, device):
    for eigenvalues, expected in [
        ([4.0, -2.0, 1.0, 0.5], 8.0),
        ([4.0, 4.0, -1e-6, 0.0, 0.0], 4e6),
        ([4e8, 4e8, -2e5, 0.0, 0.0], 2e3),
        ([7.0], 1.0),
    ]:
        assert condition_number(symmetric(matrix(rng, eigenvalues)), np.random.default_rng(0)) == pytest.approx(
            expected, rel=1e-8
        )
    A = symmetric(np.diag([1.0, 1e-3, -1e-6]))
    assert condition_number(A, rng, tol=1e-4) == pytest.approx(1e3)
    assert condition_number(A, rng, tol=1e-7) == pytest.approx(1e6, rel=1e-8)
    assert condition_number(symmetric(matrix(rng, [2.0, 1.0, 0.0]), np.float32), rng) == pytest.approx(2.0, rel=1e-4)
    with pytest.raises(ValueError, match="condition_number: A is zero"):
        condition_number(symmetric(np.zeros((2, 2))), rng)


def test_mistakes(rng):
    A, v = symmetric(np.eye(3)), dev(np.ones(3))
    for call, error, message in [
        (lambda: lanczos(A, v, 0), ValueError, "lanczos: k must be at least 1, got 0"),
        (lambda: lanczos(A, dev(np.zeros(3)), 2), ValueError, "lanczos: the start v must not be zero"),
        (lambda: lanczos(A, dev(np.ones(4)), 2), ValueError, r"lanczos: A must be \(4, 4\)"),
        (lambda: lanczos(Matrix(dev(np.eye(3))), v, 2), ValueError, "lanczos: needs an operator tagged symmetric"),
        (lambda: largest_eigenvalue(Matrix(dev(np.eye(3))), rng), ValueError, "largest_eigenvalue: needs an operator"),
        (
            lambda: lanczos(symmetric(np.nan * np.eye(3)), v, 2),
            FloatingPointError,
            "lanczos: non-finite .* iteration 1",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_one_read_a_step(device):
    before = backend.host_reads.count
    lanczos(Diagonal(dev(np.arange(9.0))), dev(np.ones(9)), 5)
    assert backend.host_reads.count - before <= 5 + 3

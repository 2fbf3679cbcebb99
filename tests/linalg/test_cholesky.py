"""Cholesky factors and substitution by blocks, against NumPy's dense solve."""

import numpy as np
import pytest

from minigrad.linalg import cholesky as module
from minigrad.linalg.cholesky import cholesky, cholesky_solve, inverse_root
from tests.helpers import close, dev, host, spd


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 130])
def test_solves(rng, n, device):
    A, b = spd(rng, n), rng.standard_normal(n)
    kept = dev(b)
    L = cholesky(A)
    close(L, np.linalg.cholesky(host(A)))
    close(cholesky_solve(L, kept), np.linalg.solve(host(A), b))
    close(kept, b)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 8])
def test_blocks_of_any_size(rng, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    A, b = spd(rng, 7), rng.standard_normal(7)
    close(cholesky_solve(cholesky(A), dev(b)), np.linalg.solve(host(A), b))


@pytest.mark.parametrize("eigenvalues", [[1.0, -1e-3], [1.0, 0.0], [np.nan, 1.0]])
def test_what_is_not_positive_definite_has_no_factor(eigenvalues, device):
    assert cholesky(dev(np.diag(eigenvalues))) is None


def test_small_numbers_are_positive_too():
    close(cholesky(dev(1e-12 * np.eye(2))), 1e-6 * np.eye(2))


@pytest.mark.parametrize("left", [[1.0, -2.0], [1.0, 0.0], [1.0, np.nan]])
def test_a_library_that_does_not_raise(left, monkeypatch):
    """CuPy leaves what it has got to: a factor with a pivot that is none."""
    monkeypatch.setattr(module.xp.linalg, "cholesky", lambda A: dev(np.diag(left)))
    assert cholesky(dev(np.eye(2))) is None


def test_float32_stays_float32(rng):
    A, b = spd(rng, 9, "float32"), dev(rng.standard_normal(9), "float32")
    x = cholesky_solve(cholesky(A), b)
    assert x.dtype == np.float32
    close(x, np.linalg.solve(host(A).astype(float), host(b)), rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 130, 257])
def test_inverse_root(rng, n, device):
    A = spd(rng, n)
    kept, root = host(A).copy(), inverse_root(A)
    close(root, np.linalg.inv(np.linalg.cholesky(kept)))
    close(root.T @ root, np.linalg.inv(kept))
    close(A, kept, rtol=0)
    assert not np.triu(host(root), 1).any()


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_inverse_root_by_halves_of_any_size(rng, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    for n in range(1, 10):
        A = spd(rng, n)
        expected = np.linalg.inv(np.linalg.cholesky(host(A)))
        close(inverse_root(A), expected)
        single = inverse_root(A.astype("float32"))
        assert single.dtype == np.float32
        close(single, expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_what_is_not_positive_definite_has_no_inverse_root(rng, bad, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 2)
    d = np.ones(7)
    d[bad] = 0.0
    assert inverse_root(dev(np.diag(d))) is None

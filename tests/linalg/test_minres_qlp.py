"""MINRES-QLP where MINRES is not enough: singular and ill-conditioned systems, against the pseudo-inverse."""

import inspect
import sys

import numpy as np
import pytest

from minigrad.linalg import Diagonal, Matrix, cg, minres, minres_qlp
from tests.helpers import close, dev, host

EPS = np.finfo(float).eps
SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]  # 50 cases each


def random_case(rng, decades, rank=None, n=None):
    """A of that rank with |eigenvalues| in [10^-decades, 1], its pseudo-inverse, an orthonormal basis of its range."""
    n = int(rng.integers(20, 61)) if n is None else n
    rank = int(rng.integers(1, n)) if rank is None else rank
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0][:, :rank]
    eigenvalues = 10 ** (-decades * rng.random(rank)) * rng.choice([-1, 1], rank)
    eigenvalues[0] = 1.0
    eigenvalues[-1] = -(10.0**-decades) if rank > 1 else 1.0
    A = Q * eigenvalues @ Q.T
    return (A + A.T) / 2, Q / eigenvalues @ Q.T, Q


def relative(x, expected):
    return np.linalg.norm(host(x) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_compatible_singular_systems(seed):
    """x = pinv(A) b to 1e-8; in fact to 10 condition eps."""
    rng = np.random.default_rng(seed)
    for _ in range(50):
        A, pinv, Q = random_case(rng, decades=4)
        b = Q @ rng.standard_normal(Q.shape[1])
        x, info = minres_qlp(dev(A), dev(b), rtol=0.0, maxiter=2000)
        assert relative(x, pinv @ b) < 10 * 1e4 * EPS
        assert (info.reason, info.compatible, info.converged) == ("precision", True, True)
        assert info.condition < 1.5e4
    x, info = minres_qlp(dev(A), dev(b), rtol=1e-13, maxiter=2000)
    assert relative(x, pinv @ b) < 1e-8 and info.reason in ("rtol", "precision")


@pytest.mark.parametrize("seed", SEEDS)
def test_incompatible_systems(seed):
    """The shortest least-squares solution to 10 condition^2 eps, here 2e-7, and it is called that."""
    rng = np.random.default_rng(seed)
    for _ in range(50):
        A, pinv, Q = random_case(rng, decades=4)
        b = rng.standard_normal(A.shape[0])
        x, info = minres_qlp(dev(A), dev(b), rtol=0.0, maxiter=1000)
        assert relative(x, pinv @ b) < 10 * 1e8 * EPS
        assert (info.reason, info.compatible, info.converged) == ("least squares", False, True)
        assert info.residual == pytest.approx(np.linalg.norm(b - Q @ (Q.T @ b)), rel=1e-6)
        assert info.a_residuals[-1] < 1e-10


@pytest.mark.parametrize("decades, kappa", [(0.5, 3.2), (2, 1e2)])
def test_incompatible_systems_of_small_condition(rng, decades, kappa):
    for _ in range(10):
        A, pinv, Q = random_case(rng, decades)
        b = rng.standard_normal(A.shape[0])
        assert relative(minres_qlp(dev(A), dev(b), rtol=0.0)[0], pinv @ b) < 100 * kappa**2 * EPS


@pytest.mark.parametrize("decades", [6, 8, 10])
def test_beyond_four_decades(decades):
    """Compatible: the error stays within 100 condition eps. Incompatible: no long vector is called a success."""
    rng = np.random.default_rng(decades)
    for _ in range(4):
        A, pinv, Q = random_case(rng, decades, n=24)
        b = Q @ rng.standard_normal(Q.shape[1])
        x, info = minres_qlp(dev(A), dev(b), rtol=0.0, maxiter=5000)
        assert (info.reason, info.compatible) == ("precision", True)
        assert relative(x, pinv @ b) < 100 * 10**decades * EPS
        b = rng.standard_normal(24)
        x, info = minres_qlp(dev(A), dev(b), rtol=0.0, maxiter=1000)
        assert not info.converged or np.linalg.norm(x) < 10 * np.linalg.norm(pinv @ b)


@pytest.mark.parametrize("transfer", [1.0, 30.0, 1e7])
def test_the_phases_agree(rng, device, transfer):
    """Every iterate is MINRES's, whenever the recurrence changes."""
    A, _, _ = random_case(rng, 2, rank=30, n=30)
    b = rng.standard_normal(30)
    theirs = minres(dev(A), dev(b), rtol=0.0, maxiter=25, store=range(26))[1]
    x, info = minres_qlp(dev(A), dev(b), rtol=0.0, maxiter=25, store=range(26), transfer=transfer)
    for k in range(1, 26):
        close(info.iterates[k], host(theirs.iterates[k]), rtol=1e-8)
    close(x, info.iterates[25])


def test_transfer_is_the_condition_estimate_at_which_the_recurrence_changes(rng, monkeypatch):
    module = sys.modules["minigrad.linalg.minres_qlp"]
    A, b = Diagonal(dev([2.0, -1.0, 0.1, 5.0])), dev(np.ones(4))
    conditions, used = [], []
    for k in range(1, 5):
        conditions.append(minres_qlp(A, b, rtol=1e-12, maxiter=k, transfer=1.0)[1].condition)
    monkeypatch.setattr(
        module, "rotation", lambda qlp, beta, real=module.rotation: used.append(qlp.k) or real(qlp, beta)
    )
    first = next(k for k in range(1, 5) if conditions[k - 1] >= conditions[2])
    assert first > 1
    minres_qlp(A, b, rtol=1e-12, transfer=conditions[2])
    assert used == list(range(first, 5))


def test_rank_one_and_definite(rng, device):
    u = rng.standard_normal(9)
    for A in (np.outer(u, u), -np.outer(u, u), np.outer(u, u) + 2 * np.eye(9)):
        b = rng.standard_normal(9)
        x, info = minres_qlp(dev(A), dev(b), rtol=0.0)
        close(x, np.linalg.pinv(A) @ b, rtol=1e-12)
        assert info.converged


@pytest.mark.parametrize("rtol", [0.0, 1e-7])
def test_a_start_is_kept_out_of_the_null_space_question(rng, device, rtol):
    """x - x0 is the shortest correction."""
    A, pinv, Q = random_case(rng, 1, rank=6, n=10)
    x0 = rng.standard_normal(10)
    for b in (Q @ rng.standard_normal(6), rng.standard_normal(10)):
        x, _ = minres_qlp(dev(A), dev(b), dev(x0), rtol=rtol)
        close(x, x0 + pinv @ (b - A @ x0), rtol=1e-4 if rtol else 1e-11)


@pytest.mark.parametrize("rtol", [0.0, 1e-7])
@pytest.mark.parametrize("kind", ["diagonal", "dense"])
@pytest.mark.parametrize("start", [False, True])
def test_preconditioned_solutions_are_shortest_in_the_preconditioners_norm(rng, device, kind, start, rtol):
    """M^(-1/2) x is the pseudo-inverse solution of M^(1/2) A M^(1/2)."""
    A, _, Q = random_case(rng, 1, rank=6, n=10)
    B = rng.standard_normal((10, 10)) / 4
    M = np.diag(rng.random(10) + 0.5) if kind == "diagonal" else B @ B.T + np.eye(10)
    values, vectors = np.linalg.eigh(M)
    root = vectors * np.sqrt(values) @ vectors.T
    x0 = rng.standard_normal(10) if start else np.zeros(10)
    for b, reason in ((Q @ rng.standard_normal(6), None), (rng.standard_normal(10), "least squares")):
        x, info = minres_qlp(dev(A), dev(b), dev(x0) if start else None, M=Matrix(dev(M), psd=True), rtol=rtol)
        expected = x0 + root @ np.linalg.pinv(root @ A @ root, rcond=1e-9) @ root @ (b - A @ x0)
        close(x, expected, rtol=1e-4 if rtol else 1e-10)
        assert info.converged and (reason is None or info.reason == reason)
        r = b - A @ host(x)
        if reason:
            assert info.residual == pytest.approx(np.sqrt(r @ M @ r))
            assert info.a_residuals[-1] < 1e-5


def test_float32(rng, device):
    A, pinv, Q = random_case(rng, 1, rank=6, n=10)
    for b, reason in ((Q @ rng.standard_normal(6), "rtol"), (rng.standard_normal(10), "least squares")):
        x, info = minres_qlp(dev(A, np.float32), dev(b, np.float32))
        assert x.dtype == np.float32
        close(host(x), (pinv @ b).astype(np.float32), rtol=2e-3)
        assert info.reason == reason and info.converged


def test_max_norm():
    A, b = Diagonal(dev([1.0, 1e-3, 3.0])), dev(np.ones(3))
    x, info = minres_qlp(A, b, rtol=1e-12, max_norm=100.0)
    assert (info.reason, info.converged, info.compatible) == ("max_norm", False, None)
    assert np.linalg.norm(host(x)) <= 100.0
    close(host(x)[[0, 2]], [1.0, 1 / 3], rtol=1e-2)
    assert minres_qlp(A, b, rtol=1e-12, max_norm=1001.0)[1].reason == "rtol"
    assert info.residual == pytest.approx(np.linalg.norm(1 - np.array([1.0, 1e-3, 3.0]) * host(x)))


def test_max_condition():
    A, b = Diagonal(dev([1.0, 1e-3, 3.0])), dev(np.ones(3))
    x, info = minres_qlp(A, b, rtol=1e-12, max_condition=1000.0)
    assert (info.reason, info.converged) == ("max_condition", False) and info.condition > 1000
    assert np.linalg.norm(host(x)) < 10
    assert minres_qlp(A, b, rtol=1e-12, max_condition=3001.0)[1].reason == "rtol"


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_rtol_decides_what_counts_as_zero(size):
    """An eigenvalue below rtol ||A|| is left out, as if it were zero; a smaller rtol takes it in."""
    A, b = Diagonal(size * dev([1.0, 1e-7, 2.0])), dev(np.ones(3))
    x, info = minres_qlp(A, b, rtol=1e-5)
    assert info.reason == "least squares"
    close(size * x, [1.0, 0.0, 0.5], rtol=1e-5)
    x, info = minres_qlp(A, b, rtol=1e-10)
    close(size * x, [1.0, 1e7, 0.5], rtol=1e-6)
    assert info.reason in ("rtol", "precision")


def test_the_others_do_not_do_this(rng):
    """On an incompatible system cg breaks off, minres gives some solution, minres_qlp the shortest."""
    A, pinv, _ = random_case(rng, 1, rank=6, n=10)
    A, pinv = A @ A, pinv @ pinv
    b = rng.standard_normal(10)
    assert not cg(Matrix(dev(A), psd=True), dev(b))[1].converged
    ours, theirs = (host(solver(dev(A), dev(b), rtol=1e-7)[0]) for solver in (minres_qlp, minres))
    close(A @ theirs, A @ ours, rtol=1e-4)
    assert np.linalg.norm(theirs) > 1.001 * np.linalg.norm(ours)


@pytest.mark.parametrize("options, products", [({"rtol": 1e-6}, 2), ({"rtol": 0.0}, None)])
def test_products_beyond_the_iterations(rng, options, products):
    """An incompatible system: two at the end for r and A r; below sqrt(eps), those of the second solve."""
    A, _, _ = random_case(rng, 1, rank=6, n=10)
    operator = Matrix(dev(A), symmetric=True)
    info = minres_qlp(operator, dev(rng.standard_normal(10)), **options)[1]
    if products is not None:
        assert operator.products == info.iterations + products
    else:
        assert info.iterations + 10 < operator.products < info.iterations + 60


def test_defaults_and_the_second_solves_limit(rng, monkeypatch):
    defaults = {name: p.default for name, p in inspect.signature(minres_qlp).parameters.items()}
    assert (defaults["transfer"], defaults["max_norm"], defaults["max_condition"]) == (1e3, np.inf, np.inf)
    module, limits = sys.modules["minigrad.linalg.minres_qlp"], []

    class Spy(module.Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            limits.append(self.maxiter)

    monkeypatch.setattr(module, "Run", Spy)
    A, _, _ = random_case(rng, 1, rank=6, n=10)
    minres_qlp(dev(A), dev(rng.standard_normal(10)), rtol=0.0, maxiter=70)
    assert limits == [70, 700]

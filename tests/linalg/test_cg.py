"""Conjugate gradients against dense solves and SciPy's iterates; why it stops; what it reads from the device."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg

from minigrad import backend
from minigrad.autodiff import grad, linearize
from minigrad.linalg import Diagonal, LinearOperator, MartensStop, Matrix, cg, identity, vectors
from tests.fake_device import fake_device
from tests.helpers import close, dev, host, host_only, spd

N = 12


@pytest.fixture
def problem(rng):
    """(A, b) as host arrays: positive definite, of condition 1e3."""
    Q = np.linalg.qr(rng.standard_normal((N, N)))[0]
    return Q @ np.diag(np.logspace(-1, 2, N)) @ Q.T, rng.standard_normal(N)


def psd(A, dtype=None):
    return Matrix(dev(A, dtype), psd=True)


def phi(A, b, x):
    return x @ A @ x / 2 - b @ x


def residual(A, b, x):
    return np.linalg.norm(b - A @ x)


# --- the solution and the way to it ---------------------------------------------------------------------


def test_solves(problem, device):
    A, b = problem
    kept = dev(b)
    x, info = cg(psd(A), kept, rtol=1e-12)
    close(x, np.linalg.solve(A, b), rtol=1e-9)
    assert info.reason == "rtol" and info.converged
    assert info.iterations <= 2 * N
    close(kept, b)  # the right-hand side is left alone
    for operator in (dev(A), psd(A) + 0.0 * identity(N)):
        close(cg(operator, dev(b), rtol=1e-12)[0], host(x), rtol=1e-9)


@host_only
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterates_are_scipys(problem, rng, start, preconditioned):
    A, b = problem
    x0 = rng.standard_normal(N) if start else None
    M = np.diag(1 / np.diag(A)) + 0.1 * np.ones((N, N)) / N if preconditioned else None
    ours, theirs = [], []
    x0_kept = None if x0 is None else x0.copy()
    x, info = cg(psd(A), b, x0, rtol=1e-8, M=M, callback=lambda x: ours.append(x.copy()))
    y, code = scipy.sparse.linalg.cg(A, b, x0, rtol=1e-8, M=M, callback=lambda x: theirs.append(x.copy()))
    assert code == 0 and len(ours) == len(theirs) == info.iterations
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, rtol=1e-10)
    close(x, y, rtol=1e-10)
    np.testing.assert_array_equal(x0, x0_kept)


def test_scipys_operator_and_preconditioner(problem):
    A, b = problem
    wrap = scipy.sparse.linalg.aslinearoperator
    if backend.name() == "numpy":
        x, _ = cg(wrap(A), b, rtol=1e-12, M=wrap(np.linalg.inv(A)))
        close(x, np.linalg.solve(A, b), rtol=1e-10)
        sparse = scipy.sparse.csr_array(A)
        close(cg(sparse, b, rtol=1e-12)[0], np.linalg.solve(A, b), rtol=1e-9)


def test_a_perfect_preconditioner_needs_one_iteration(problem, device):
    A, b = problem
    x, info = cg(psd(A), dev(b), rtol=1e-8, M=psd(np.linalg.inv(A)))
    assert info.iterations == 1
    close(x, np.linalg.solve(A, b), rtol=1e-8)
    d = np.arange(1.0, N + 1)
    assert cg(Diagonal(dev(d), psd=True), dev(b), M=Diagonal(dev(1 / d)))[1].iterations == 1
    assert cg(identity(N), dev(b))[1].iterations == 1


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("rtol", [0.0, 1e-7])
def test_info_is_what_it_says(problem, rng, device, start, preconditioned, rtol):
    """Residuals, quadratics and curvatures equal those computed from the iterates."""
    A, b = problem
    x0 = rng.standard_normal(N) if start else np.zeros(N)
    M = Diagonal(dev(1 / np.diag(A))) if preconditioned else None
    x, info = cg(psd(A), dev(b), dev(x0) if start else None, rtol=rtol, M=M, maxiter=8, store=range(1, 9))
    assert info.iterations == 8 and sorted(info.iterates) == list(range(1, 9))
    path = [x0, *(host(info.iterates[i]) for i in range(1, 9))]
    close(path[-1], x)
    np.testing.assert_allclose(info.residuals, [residual(A, b, x) for x in path], rtol=1e-9)
    np.testing.assert_allclose(info.quadratics, [phi(A, b, x) for x in path], rtol=1e-9, atol=1e-12)
    assert len(info.curvature) == 8
    for before, after, pAp in zip(path[:-1], path[1:], info.curvature, strict=True):
        r, step = b - A @ before, after - before  # step = alpha p with alpha = r'z / p'Ap
        z = r / np.diag(A) if preconditioned else r
        np.testing.assert_allclose(pAp, (r @ z) ** 2 / (step @ A @ step), rtol=1e-7)
    assert all(isinstance(value, float) for value in [*info.residuals, *info.quadratics, *info.curvature])


def test_store_keeps_copies_of_what_is_asked(problem):
    A, b = problem
    x, info = cg(psd(A), dev(b), rtol=0, maxiter=5, store=(2, 4, 9))
    assert sorted(info.iterates) == [2, 4]
    close(info.iterates[2], cg(psd(A), dev(b), rtol=0, maxiter=2)[0])
    close(info.iterates[4], cg(psd(A), dev(b), rtol=0, maxiter=4)[0])
    assert info.iterates[4] is not x
    assert cg(psd(A), dev(b))[1].iterates == {}
    assert "iterates" not in repr(info)


# --- why it stops ---------------------------------------------------------------------------------------


def test_stops_by_rtol_and_atol_as_promised(problem):
    A, b = problem
    norm = np.linalg.norm(b)
    for rtol in (1e-1, 1e-3, 1e-6):
        info = cg(psd(A), dev(b), rtol=rtol)[1]
        assert info.reason == "rtol" and info.residuals[-1] <= rtol * norm < min(info.residuals[:-1])
    info = cg(psd(A), dev(b), rtol=0, atol=0.01)[1]
    assert (info.reason, info.converged) == ("atol", True)
    assert info.residuals[-1] <= 0.01 < min(info.residuals[:-1])
    for rtol, atol in ((0.01, 1e-5 * norm), (1e-5, 0.01 * norm)):  # the looser of the two
        assert 1e-5 * norm < cg(psd(A), dev(b), rtol=rtol, atol=atol)[1].residuals[-1] <= 0.01 * norm
    assert cg(psd(A), dev(b))[1].residuals[-1] <= 1e-5 * norm  # the default
    solved = dev(np.linalg.solve(A, b))
    assert (cg(psd(A), dev(b), solved, rtol=1e-8)[1].iterations, cg(psd(A), dev(b), solved)[1].reason) == (0, "rtol")


def test_an_exact_solution_ends_it_even_without_tolerance():
    x, info = cg(identity(3), dev([1.0, 2.0, 3.0]), rtol=0, atol=0, stop=lambda quadratics: False)
    assert (info.iterations, info.reason) == (1, "rtol")
    close(x, [1.0, 2.0, 3.0])
    equal = dev([3.0, 4.0])
    assert (
        cg(identity(2), dev([6.0, 8.0]), equal, rtol=0.5, maxiter=0)[1].reason == "rtol"
    )  # a residual of just rtol |b|
    assert cg(identity(2), dev([6.0, 8.0]), equal, rtol=0, atol=5.0, maxiter=0)[1].reason == "atol"


def test_maxiter(problem):
    A, b = problem
    x, info = cg(psd(A), dev(b), rtol=1e-12, maxiter=3)
    assert (info.iterations, info.reason, info.converged) == (3, "maxiter", False)
    x, info = cg(psd(A), dev(b), maxiter=0)
    assert (info.iterations, info.reason) == (0, "maxiter")
    close(x, np.zeros(N))
    ill = Diagonal(dev(np.logspace(-14, 0, 4)), psd=True)
    assert cg(ill, dev(np.ones(4)), rtol=1e-16, stop=lambda quadratics: False)[1].iterations <= 40
    calls = LinearOperator((3, 3), np.float64, psd=True)
    calls._matvec = lambda v: 2.0 * v + 0.1 * dev(np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 0]])) @ v  # never converges
    assert cg(calls, dev([1.0, 2.0, 3.0]), rtol=1e-300, stop=lambda quadratics: False)[1].iterations == 30  # 10 n


def test_zero_right_hand_side(problem, device):
    A, _ = problem
    for x0 in (None, dev(np.ones(N))):
        x, info = cg(psd(A), dev(np.zeros(N)), x0)
        close(x, np.zeros(N))
        assert (info.iterations, info.reason, info.converged) == (0, "zero right-hand side", True)
        assert info.residuals == [0.0] and info.quadratics == [0.0]
    x, info = cg(psd(A), dev(np.zeros(N)), rtol=0, maxiter=3)  # fixed mode: nobody looks
    close(x, np.zeros(N))
    assert (info.iterations, info.reason) == (3, "maxiter")
    assert cg(psd(np.eye(0)), dev(np.zeros(0)))[1].reason == "zero right-hand side"


def test_negative_curvature(device):
    A = np.diag([4.0, 1.0, -2.0])
    b = np.array([1.0, 1.0, 0.5])
    operator = psd(A)  # a false promise
    seen = []
    x, info = cg(operator, dev(b), rtol=1e-10, callback=lambda x: seen.append(host(x).copy()), store=range(10))
    assert info.reason == "negative curvature" and not info.converged
    assert info.curvature[-1] < 0 < info.curvature[0]
    assert len(info.curvature) == info.iterations == len(seen) + 1 == len(info.iterates) + 1
    close(x, seen[-1])  # the iterate before it
    assert info.quadratics[-1] == info.quadratics[-2] == pytest.approx(phi(A, b, host(x)))
    fixed, again = cg(operator, dev(b), rtol=0, maxiter=8)
    close(fixed, host(x))  # it stays there
    assert (again.reason, again.iterations) == ("negative curvature", 8)
    x, info = cg(psd(-np.eye(3)), dev(b))
    close(x, np.zeros(3))
    assert info.iterations == 1


def test_zero_curvature_counts_as_negative(device):
    x, info = cg(psd(np.zeros((2, 2))), dev([1.0, 1.0]))
    assert info.reason == "negative curvature" and info.curvature == [0.0]
    close(x, [0.0, 0.0])
    x, info = cg(psd(np.zeros((2, 2))), dev([1e-3, 1e-3]), rtol=0, maxiter=2)
    assert info.reason == "negative curvature"
    close(x, [0.0, 0.0])


def test_singular_systems(rng, device):
    U = rng.standard_normal((N, 4))
    A = U @ U.T
    b = A @ rng.standard_normal(N)
    x, info = cg(psd(A), dev(b), rtol=1e-10)
    assert info.reason == "rtol"
    close(A @ host(x), b, rtol=1e-8)
    close(x, np.linalg.lstsq(A, b, rcond=1e-10)[0], rtol=1e-7)  # from zero: the shortest solution
    x, info = cg(psd(np.diag([1.0, 0.0])), dev([1.0, 1.0]), rtol=1e-10)
    assert info.reason in ("maxiter", "negative curvature") and not info.converged


def test_a_fixed_number_of_iterations_survives_convergence(device):
    """Past the solution nothing can be divided by zero, and nothing moves."""
    b = np.array([1.0, 2.0])
    x, info = cg(psd(np.diag([2.0, 2.0])), dev(b), rtol=0, maxiter=6)
    close(x, b / 2)
    assert (info.iterations, info.reason, info.residuals[-1]) == (6, "maxiter", 0.0)
    assert info.curvature[1:] == [0.0] * 5


# --- stopping by progress -------------------------------------------------------------------------------


def martens(quadratics, eps, least, fraction):
    """Martens' rule, from the paper: relative gain over the last k iterations below k eps."""
    i = len(quadratics) - 1
    k = max(least, math.ceil(fraction * i))
    now = quadratics[-1]
    return i > k and now < 0 and (now - quadratics[i - k]) / now < k * eps


def test_martens_stop_by_hand(problem):
    A, b = problem
    full = cg(psd(A), dev(b), rtol=0, maxiter=40)[1].quadratics
    for options in ({"eps": 1e-2, "least": 2, "fraction": 0.1}, {"eps": 1e-1, "least": 1, "fraction": 0.5}):
        rule = MartensStop(**options)
        expected = [martens(full[: i + 1], **options) for i in range(len(full))]
        assert [rule(full[: i + 1]) for i in range(len(full))] == expected
        assert 2 < expected.index(True) < 30
        x, info = cg(psd(A), dev(b), rtol=0, stop=rule)
        assert (info.iterations, info.reason, info.converged) == (expected.index(True), "progress", True)


def test_martens_stop_at_its_edges():
    rule = MartensStop(eps=0.25, least=2, fraction=0.1)
    flat = [0.0, -1.0, -1.0, -1.0]
    assert not rule(flat[:3])  # i = k: not yet
    assert rule(flat)
    assert not rule([0.0, 1.0, 1.0, 1.0])  # phi must be negative
    assert not rule([0.0, 0.0, 0.0, 0.0])
    assert not rule([0.0, -1.0, -1.5, -2.0])  # a gain of 1 in 2 is k eps: not below it
    assert rule([0.0, -1.01, -1.5, -2.0])
    assert not MartensStop(eps=0.1, least=1, fraction=0.5)([0.0, -1.0, -2.0, -4.0, -4.0])  # k = 2, not 1
    assert MartensStop(eps=0.1, least=1, fraction=0.4)([0.0, -1.0, -4.0, -4.0, -4.0])  # ceil(1.6) = 2
    assert MartensStop() == MartensStop(5e-4, 10, 0.1)


def test_own_stop_rules_see_all_quadratics(problem):
    A, b = problem
    seen = []
    _, info = cg(psd(A), dev(b), rtol=0, stop=lambda quadratics: seen.append(list(quadratics)) or len(quadratics) == 4)
    assert [len(quadratics) for quadratics in seen] == [1, 2, 3, 4]
    assert (info.iterations, info.reason) == (3, "progress")
    np.testing.assert_allclose(seen[-1], info.quadratics)
    assert cg(psd(A), dev(b), rtol=0, stop=lambda quadratics: True)[1].iterations == 0


# --- the device -----------------------------------------------------------------------------------------


def reads(**options):
    A = spd(np.random.default_rng(0), N)
    b = dev(np.ones(N))
    before = backend.host_reads.count
    info = cg(A, b, **options)[1]
    return backend.host_reads.count - before, info.iterations


@pytest.mark.parametrize(
    "options",
    [{"rtol": 1e-9}, {"rtol": 0, "atol": 1e-9}, {"rtol": 0, "stop": MartensStop(1e-5, 2), "callback": lambda x: None}],
)
def test_one_host_read_an_iteration(options, device):
    count, iterations = reads(**options)
    assert 3 < iterations < count <= iterations + 3


def test_no_host_reads_in_a_fixed_number_of_iterations(device):
    assert reads(rtol=0, maxiter=2) == (1, 2)
    assert reads(rtol=0, maxiter=9, store=(1, 5)) == (1, 9)
    assert reads(rtol=0, maxiter=9, M=identity(N)) == (1, 9)


def test_products_an_iteration(problem):
    A, M = psd(problem[0]), identity(N)
    cg(A, dev(problem[1]), rtol=0, maxiter=5)
    assert A.products == 5
    cg(A, dev(problem[1]), dev(np.ones(N)), rtol=0, maxiter=5, M=M)
    assert A.products == 11 and M.products <= 6


@pytest.mark.parametrize("options", [{"rtol": 1e-4}, {"rtol": 0, "maxiter": 30}])
def test_float32_stays_float32(problem, device, options):
    A, b = problem
    A = A + np.eye(N)
    x, info = cg(psd(A, np.float32) + 1e-3 * identity(N), dev(b, np.float32), **options, store=(2,))
    assert x.dtype == info.iterates[2].dtype == np.float32
    close(x, np.linalg.solve(A + 1e-3 * np.eye(N), b).astype(np.float32), rtol=1e-2)
    mixed, _ = cg(psd(A), dev(b, np.float32), dev(np.ones(N)))  # x takes b's precision
    assert mixed.dtype == np.float32


# --- mistakes -------------------------------------------------------------------------------------------

EYE, ONES = np.eye(3), np.ones(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda: (psd(EYE), dev(np.ones((3, 1)))), ValueError, r"cg: b must be a vector, got shape \(3, 1\)"),
        (lambda: (psd(EYE), dev(1.0)), ValueError, r"cg: b must be a vector, got shape \(\)"),
        (lambda: (psd(EYE), dev([1, 2, 3])), TypeError, "cg: b must hold floating-point numbers, got int64"),
        (lambda: (psd(EYE), dev(ONES + 0j)), TypeError, "cg: b must hold floating-point numbers, got complex128"),
        (lambda: (psd(EYE), [1.0, 2.0, 3.0]), TypeError, "cg: b must be an array of the active backend, got list"),
        (
            lambda: (psd(EYE), dev(ONES), [1.0] * 3),
            TypeError,
            "cg: x0 must be an array of the active backend, got list",
        ),
        (lambda: (psd(EYE), dev(np.ones(2))), ValueError, r"cg: A must be \(2, 2\) for b \(2,\), got \(3, 3\)"),
        (lambda: (dev(np.ones((2, 3))), dev(ONES)), ValueError, r"cg: A must be \(3, 3\) for b \(3,\), got \(2, 3\)"),
        (lambda: (psd(EYE), dev(ONES), dev(np.ones(4))), ValueError, r"cg: x0 must have b's shape \(3,\), got \(4,\)"),
        (lambda: ([[1.0]], dev(np.ones(1))), TypeError, "expected an operator .* got list"),
        (
            lambda: (Matrix(dev(EYE)), dev(ONES)),
            ValueError,
            r"cg: needs an operator tagged psd, got A  \(3 x 3\); .*minres",
        ),
        (
            lambda: (Diagonal(dev(ONES), name="M"), dev(ONES)),
            ValueError,
            r"tagged psd, got M  \(3 x 3, symmetric\); for indefinite ones use minres",
        ),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        cg(*arguments())


def test_a_wrong_preconditioner():
    with pytest.raises(ValueError, match=r"cg: M must be \(3, 3\) for b \(3,\), got \(2, 2\)"):
        cg(psd(EYE), dev(ONES), M=identity(2))
    with pytest.raises(TypeError, match="expected an operator"):
        cg(psd(EYE), dev(ONES), M="diagonal")


def test_host_vectors_are_refused_on_a_device():
    with fake_device(), pytest.raises(TypeError, match="cg: b must be an array of the active backend, got ndarray"):
        cg(psd(EYE), ONES)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_numbers_end_it(bad, device):
    A = np.diag([1.0, bad, 1.0])
    fixed = {"rtol": 0, "maxiter": 2}
    with np.errstate(all="ignore"):
        with pytest.raises(FloatingPointError, match=r"cg: non-finite numbers at iteration 0 .*\|b\| (nan|inf)"):
            cg(psd(EYE), dev([1.0, bad, 1.0]))
        with pytest.raises(FloatingPointError, match="cg: non-finite numbers at iteration 0"):
            cg(psd(EYE), dev(ONES), dev([1.0, bad, 1.0]))
        with pytest.raises(FloatingPointError, match=r"cg: non-finite numbers at iteration 1 \(residual"):
            cg(psd(A), dev(ONES))
        for arguments in ((psd(EYE), dev([1.0, bad, 1.0])), (psd(A), dev(ONES))):
            with pytest.raises(FloatingPointError, match="cg: non-finite numbers within 2 iterations"):
                cg(*arguments, **fixed)
        with pytest.raises(FloatingPointError, match="cg: non-finite numbers within 0 iterations"):
            cg(psd(EYE), dev([1.0, bad, 1.0]), rtol=0, maxiter=0)


# --- long vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 10, 11, 95])
def test_long_vectors_go_in_blocks_on_threads(monkeypatch, rng, size, threads):
    """Every element once, whatever the cuts; the same numbers as in one piece."""
    monkeypatch.setattr(vectors, "_BLOCK", 10)
    monkeypatch.setattr(vectors, "_WORTH_A_THREAD", 20)
    monkeypatch.setattr(vectors, "threads", lambda: threads)
    x, r, p, Ap = rng.standard_normal((4, size))
    moved = [dev(v.copy()) for v in (x, r, p, Ap)]
    rr = vectors.advance(*moved, 0.3)
    close(moved[0], x + 0.3 * p)
    close(moved[1], r - 0.3 * Ap)
    close(rr, ((r - 0.3 * Ap) ** 2).sum(), atol=1e-15)
    vectors.combine(moved[2], moved[1], 0.5)
    close(moved[2], host(moved[1]) + 0.5 * p)
    close(vectors.add_up([dev(x.copy()), dev(r), dev(p)]), x + r + p)
    one = dev(x.copy())
    assert vectors.add_up([one]) is one
    close(vectors.dot(dev(x), dev(r)), x @ r, atol=1e-15)


def test_on_a_tape_vectors_stay_whole(rng, monkeypatch):
    monkeypatch.setattr(vectors, "over_blocks", None)
    w, v = dev(rng.standard_normal(5)), dev(rng.standard_normal(5))
    for f, gradient in (
        (lambda v: vectors.dot(v, w), w),
        (lambda v: vectors.dot(w, v), w),
        (lambda v: 0.5 * vectors.dot(v, v), v),
    ):
        close(grad(f)(v), host(gradient))
    y, J = linearize(lambda v: vectors.add_up([2 * v, 3 * v, v * v]), v)
    close(y, 5 * host(v) + host(v) ** 2)
    close(J @ w, (5 + 2 * host(v)) * host(w))


def test_plain_vectors_are_added_in_place(rng):
    first, second = dev(np.ones(5)), dev(rng.standard_normal(5))
    assert vectors.add_up([first, second]) is first
    close(first, 1 + host(second))

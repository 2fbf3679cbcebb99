"""MINRES against dense solves and SciPy's iterates; its scalars against dense factorizations; why it stops."""

import numpy as np
import pytest
import scipy.sparse.linalg

from minigrad import backend
from minigrad.linalg import Diagonal, LinearOperator, MartensStop, Matrix, identity, minres, minres_qlp
from minigrad.linalg.qlp import QLP, reflection
from minigrad.linalg.vectors import mix, three_term
from tests.fake_device import fake_device
from tests.helpers import close, dev, host, host_only

N = 12
EPS = np.finfo(float).eps


def matrix(rng, eigenvalues):
    Q = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))[0]
    A = Q * np.asarray(eigenvalues, float) @ Q.T
    return (A + A.T) / 2


def symmetric(A, dtype=None):
    return Matrix(dev(A, dtype), symmetric=True)


@pytest.fixture
def problem(rng):
    """(A, b): indefinite, of condition 100."""
    return matrix(rng, np.logspace(-1, 1, N) * (-1) ** np.arange(N)), rng.standard_normal(N)


def norm(v):
    return np.linalg.norm(host(v))


# --- the scalars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("a, b", [(3.0, 4.0), (-3.0, 4.0), (0.0, -2.0), (5.0, 0.0), (0.0, 0.0)])
def test_reflection(a, b):
    c, s, r = reflection(a, b)
    assert r == np.hypot(a, b)
    np.testing.assert_allclose([c * a + s * b, s * a - c * b, c * c + s * s], [r, 0, 1], atol=1e-15)


@pytest.mark.parametrize("growth", [1.0, 30.0])  # with it, the first entry of L's diagonal stays the smallest
def test_qlp_factorization_step_by_step(rng, growth):
    """x_k, its length, ||r_k||, ||A r_{k-1}||, phi and L's diagonal, from T_k by dense least squares, QR and LQ."""
    alphas, betas, beta = rng.standard_normal(8), rng.random(8) + 0.3, 1.7
    alphas[2:] *= growth
    betas[2:] *= growth
    T = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    T = np.vstack([T, np.eye(8)[-1] * betas[-1]])
    qlp = QLP(beta)
    e1, before, largest = beta * np.eye(9)[0], np.zeros(9), 0.0
    for k in range(1, 9):
        qlp.column(alphas[k - 1], betas[k - 1])
        Tk = T[: k + 1, :k]
        y = np.linalg.lstsq(Tk, e1[: k + 1], rcond=None)[0]
        r, r_before = e1[: k + 1] - Tk @ y, e1[: k + 1] - Tk @ before[:k]
        assert qlp.phi == pytest.approx(np.linalg.norm(r), rel=1e-12)
        assert qlp.phi_old * qlp.decay == pytest.approx(np.linalg.norm(Tk @ r_before[:k]), rel=1e-10)
        assert qlp.length == pytest.approx(np.linalg.norm(y), rel=1e-12)
        assert qlp.quadratic == pytest.approx(y @ Tk[:k] @ y / 2 - beta * y[0], rel=1e-10)
        R = np.linalg.qr(Tk)[1]
        assert [abs(qlp.epsilon), abs(qlp.delta), qlp.gamma] == pytest.approx(
            [abs(R[k - 3, k - 1]) if k > 2 else 0, abs(R[k - 2, k - 1]) if k > 1 else 0, abs(R[k - 1, k - 1])],
            abs=1e-12,
        )
        diagonal = abs(np.diag(np.linalg.qr(R.T)[1]))
        gammas = [abs(row.gamma) for row in (qlp.first, qlp.second, qlp.third)][-min(k, 3) :]
        np.testing.assert_allclose(gammas, diagonal[-3:], rtol=1e-10)
        largest = max(largest, *np.linalg.norm(Tk, axis=0), *diagonal)
        assert qlp.norm == pytest.approx(largest, rel=1e-12)
        assert qlp.norm <= np.linalg.norm(Tk, 2) * (1 + 1e-12)
        assert qlp.condition == pytest.approx(largest / diagonal.min(), rel=1e-9)
        before = np.append(y, np.zeros(9))


def test_vector_passes(rng, device):
    u, p, z = (dev(v) for v in rng.standard_normal((3, 7)))
    expected = 2.0 * host(p) - 3.0 * host(z) + 0.5 * host(u)
    close(three_term(u, p, z, 2.0, -3.0, 0.5), expected @ expected)
    close(u, expected)
    rows, C = rng.standard_normal((4, 7)), rng.standard_normal((3, 4))
    there = dev(rows.copy())
    mix(dev(C), there, there[1:4])
    close(there, np.vstack([rows[:1], C @ rows]))


# --- the solution and the way to it ---------------------------------------------------------------------


@host_only
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("shift", [0.0, 0.37])
@pytest.mark.parametrize("definite", [False, True])
def test_iterates_are_scipys(problem, rng, definite, shift, preconditioned, start):
    A, b = problem
    A = A + 11 * np.eye(N) if definite else A
    x0 = rng.standard_normal(N) if start else None
    M = np.diag(rng.random(N) + 0.5) + 0.1 if preconditioned else None
    ours, theirs = [], []
    minres(A, b, x0, rtol=1e-30, maxiter=8, M=M, shift=shift, callback=lambda x: ours.append(x.copy()))
    if start:  # SciPy forgets the shift in its first residual b - A x0
        A, shift = A - shift * np.eye(N), 0.0
    scipy.sparse.linalg.minres(
        A, b, x0, rtol=1e-30, maxiter=8, M=M, shift=shift, callback=lambda x: theirs.append(x.copy())
    )
    assert len(ours) == len(theirs) == 8
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, rtol=1e-9)


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize(
    "options", [{}, {"M": "diagonal"}, {"M": "dense"}, {"M": "identity"}, {"shift": 0.3}, {"shift": 1.0}]
)
@pytest.mark.parametrize("start", [False, True])
def test_solves_and_says_how(problem, rng, device, solver, options, start):
    """The solution, and every number in info from the stored iterates; no argument is changed."""
    A, b = problem
    options = dict(options)
    x0 = rng.standard_normal(N) if start else np.zeros(N)
    dense = A - options.get("shift", 0.0) * np.eye(N)
    B = rng.standard_normal((N, N)) / 5
    weight = {"diagonal": np.diag(1 / abs(np.diag(A))), "dense": B @ B.T + np.eye(N)}.get(options.get("M"), np.eye(N))
    if options.get("M") == "identity":
        options["M"] = identity(N)
    elif "M" in options:
        options["M"] = Matrix(dev(weight), psd=True)
    kept, kept0, operator = dev(b), dev(x0), symmetric(A)
    x, info = solver(operator, kept, kept0 if start else None, rtol=1e-11, store=range(99), **options)
    close(x, np.linalg.solve(dense, b), rtol=1e-8)
    close(kept, b)
    close(kept0, x0)
    assert (info.reason, info.converged, info.compatible) == ("rtol", True, True)
    k = info.iterations
    assert operator.products == k + 1 + start
    assert k >= N - 1 and sorted(info.iterates) == list(range(1, k + 1))
    path = [x0, *(host(info.iterates[i]) for i in range(1, k + 1))]
    close(path[-1], x)
    rs = [b - dense @ x for x in path]
    np.testing.assert_allclose(
        info.residuals, [np.sqrt(r @ weight @ r) for r in rs], rtol=1e-5, atol=1e-13 * np.linalg.norm(b)
    )
    np.testing.assert_allclose(info.quadratics, [x @ dense @ x / 2 - b @ x for x in path], rtol=1e-8, atol=1e-9)
    a_residuals = [np.sqrt((dense @ weight @ r) @ weight @ (dense @ weight @ r)) for r in rs]
    np.testing.assert_allclose(info.a_residuals, a_residuals[:-1], rtol=1e-5, atol=1e-9)
    root = np.linalg.cholesky(weight)
    s = np.linalg.svd(root.T @ dense @ root)[1]
    assert s[0] / 2 < info.norm <= s[0] * (1 + 1e-9)
    assert s[0] / s[-1] / 10 < info.condition <= s[0] / s[-1] * 1.5
    assert info.quadratic == info.quadratics[-1] and info.residual == info.residuals[-1]
    r = b - dense @ host(x)
    assert info.residual == pytest.approx(np.sqrt(r @ weight @ r), rel=1e-3)


@host_only
def test_foreign_operators(problem):
    A, b = problem
    wrap = scipy.sparse.linalg.aslinearoperator
    for solver in (minres, minres_qlp):
        for operator in (A, wrap(A), scipy.sparse.csr_array(A)):
            close(solver(operator, b, rtol=1e-12, M=wrap(np.eye(N)))[0], np.linalg.solve(A, b), rtol=1e-9)


# --- why it stops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_stops_by_rtol_atol_maxiter_and_progress(problem, solver):
    A, b = problem
    size = np.linalg.norm(b)
    for rtol, atol, bound, reason in [
        (1e-3, 0.0, 1e-3, "rtol"),
        (1e-6, 0.0, 1e-6, "rtol"),
        (0.0, 1e-3 * size, 1e-3, "atol"),
        (1e-6, 0.3 * size, 0.3, "atol"),
    ]:
        info = solver(symmetric(A), dev(b), rtol=rtol, atol=atol)[1]
        assert (info.reason, info.converged, info.compatible) == (reason, True, True)
        assert info.residuals[-1] <= bound * size * (1 + 1e-9) < min(info.residuals[:-1])
    assert 1e-9 < solver(symmetric(A), dev(b))[1].residuals[-1] / size <= 1e-5
    x, info = solver(symmetric(A), dev(b), maxiter=3)
    assert (info.iterations, info.reason, info.converged, info.compatible) == (3, "maxiter", False, None)
    x, info = solver(symmetric(A), dev(b), dev(np.ones(N)), maxiter=0)
    close(x, np.ones(N))
    assert (info.iterations, info.reason, info.norm) == (0, "maxiter", None)
    seen = []
    x, info = solver(symmetric(A), dev(b), stop=lambda q: seen.append(list(q)) or len(q) == 4)
    assert (info.iterations, info.reason, info.converged, info.compatible) == (3, "progress", True, None)
    assert [len(q) for q in seen] == [1, 2, 3, 4]
    definite = symmetric(A @ A)
    assert solver(definite, dev(b), rtol=0, stop=MartensStop(0.1, 2))[1].reason == "progress"
    solved = dev(np.linalg.solve(A, b))
    assert (lambda info: (info.iterations, info.reason))(solver(symmetric(A), dev(b), solved)[1]) == (0, "rtol")
    exact = solver(identity(2), dev([6.0, 8.0]), dev([3.0, 4.0]), rtol=0.5)[1]  # a residual of just rtol |b|
    assert (exact.iterations, exact.reason, exact.residual) == (0, "rtol", 5.0)
    assert solver(identity(2), dev([6.0, 8.0]), dev([3.0, 4.0]), rtol=0, atol=5.0)[1].iterations == 0
    spin = LinearOperator((3, 3), np.float64, symmetric=True)  # never converges: 10 n
    spin._matvec = lambda v: v[dev([1, 2, 0])] * dev([1.0, 2.0, 3.0])
    assert solver(spin, dev([1.0, 2.0, 4.0]), rtol=1e-300)[1].iterations <= 30


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_the_tenfold_size_is_the_default_limit(solver):
    ill = Diagonal(dev(np.logspace(-9, 0, 30) * (-1) ** np.arange(30)))
    assert solver(ill, dev(np.ones(30)), rtol=1e-30, stop=lambda q: False)[1].iterations <= 300
    info = solver(ill, dev(np.ones(30)), rtol=0, maxiter=301)[1]
    if info.iterations > 300:
        assert solver(ill, dev(np.ones(30)), rtol=0)[1].iterations == 300


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_zero_right_hand_side(problem, device, solver):
    for x0 in (None, dev(np.ones(N))):
        x, info = solver(symmetric(problem[0]), dev(np.zeros(N)), x0)
        close(x, np.zeros(N))
        assert (info.iterations, info.reason, info.converged) == (0, "zero right-hand side", True)
        assert info.compatible and info.residuals == [0.0] and info.quadratics == [0.0]
    assert solver(symmetric(np.eye(0)), dev(np.zeros(0)))[1].reason == "zero right-hand side"


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_small_and_exact_cases(device, solver):
    """One element, A = 0, b an eigenvector (exact breakdown), b in the null space, the shift an eigenvalue."""
    D = np.diag([2.0, 5.0, 0.0])
    for A, b, shift, expected, reason in [
        ([[4.0]], [8.0], 0.0, [2.0], "rtol"),
        ([[-4.0]], [8.0], 0.0, [-2.0], "rtol"),
        ([[0.0]], [8.0], 0.0, [0.0], "least squares"),
        (np.zeros((2, 2)), [1.0, 2.0], 0.0, [0.0, 0.0], "least squares"),
        (D, [0.0, 3.0, 0.0], 0.0, [0.0, 0.6, 0.0], "rtol"),
        (D, [0.0, 0.0, 3.0], 0.0, [0.0, 0.0, 0.0], "least squares"),
        (D, [1.0, 2.0, 0.0], 0.0, [0.5, 0.4, 0.0], "rtol"),
        (D, [1.0, 0.0, 4.0], 5.0, [-1 / 3, 0.0, -0.8], "rtol"),
        (D, [0.0, 3.0, 0.0], 5.0, [0.0, 0.0, 0.0], "least squares"),
    ]:
        for dtype, tol in ((np.float64, 1e-14), (np.float32, 1e-6)):
            x, info = solver(symmetric(A, dtype), dev(b, dtype), rtol=1e-6, shift=shift)
            assert x.dtype == dtype
            close(host(x), np.asarray(expected, dtype), rtol=tol, atol=tol)
            assert (info.reason, info.converged) == (reason, True)
            assert info.compatible == (reason != "least squares")


def test_incompatible_least_squares(problem, rng, device):
    """b has a share in the null space: both end with A r below rtol, minres_qlp with the shortest x."""
    A = matrix(rng, [*np.linspace(-2, 3, 9), 0.0, 0.0])
    b = rng.standard_normal(11)
    best = np.linalg.pinv(A, rcond=1e-10) @ b
    for solver in (minres, minres_qlp):
        x, info = solver(symmetric(A), dev(b), rtol=1e-6)
        assert (info.reason, info.converged, info.compatible) == ("least squares", True, False)
        close(A @ host(x), A @ best, rtol=1e-4)
        r = b - A @ host(x)
        assert info.a_residuals[-1] == pytest.approx(np.linalg.norm(A @ r), rel=1e-6)
        assert info.residual == pytest.approx(np.linalg.norm(r), rel=1e-12)
        assert len(info.a_residuals) == info.iterations + 1 == len(info.residuals)
        assert info.a_residuals[-1] <= 2e-6 * info.norm * info.residual
    close(x, best, rtol=1e-4)


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_precision(problem, solver):
    A, b = problem
    x, info = solver(symmetric(A), dev(b), rtol=0.0)
    assert (info.reason, info.converged, info.compatible) == ("precision", True, True)
    close(x, np.linalg.solve(A, b), rtol=1e-12)
    x, info = solver(symmetric(A), dev(b), rtol=1e-16)  # the estimate gets there, the residual cannot
    assert info.reason == "precision"


def fickle(honest):
    """diag(1, 2, 0) for the first `honest` products, then 0.01 I more."""
    operator, D = LinearOperator((3, 3), np.float64, symmetric=True), dev([1.0, 2.0, 0.0])
    operator._matvec = lambda v: D * v if operator.products <= honest else D * v + 0.01 * v
    return operator


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_inaccurate(solver, scale):
    """The true residual, and for least squares the true A r, may be twice what the estimate promised."""
    b = scale * np.array([1.0, 1.0, 0.0])  # two steps, then r = b - A x
    residual = 0.01 * np.linalg.norm([1, 0.5])
    for excess, reason in ((1.5, "rtol"), (2.5, "inaccurate")):
        info = solver(fickle(2), dev(b), rtol=residual / np.sqrt(2) / excess)[1]
        assert info.reason == reason and info.residual == pytest.approx(residual * scale, rel=1e-6)
    assert (info.converged, info.compatible) == (False, None)
    b = scale * np.ones(3)  # three steps, then r, then A r
    norm = solver(fickle(9), dev(b), rtol=1e-9)[1].norm
    for excess, reason in ((1.5, "least squares"), (2.5, "inaccurate")):
        info = solver(fickle(4), dev(b), rtol=0.01 / norm / excess)[1]
        assert info.reason == reason and info.a_residuals[-1] == pytest.approx(0.01 * scale, rel=1e-3)


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize("size", [0.25, 4.0])
def test_a_residual_that_rounding_may_leave(solver, size):
    """Up to 1000 eps (||A|| ||x|| + ||b||), and up to a hundredth of ||b||, where that is less.

    The operator is A for the two steps, of which every number is exact, and A + shift I for the look at the residual.
    """
    for dtype, A, x, floor in [
        (np.float64, [[0.0, 2.0], [2.0, 0.0]], [0.0, 0.5], 1000 * EPS * (2 * 0.5 + 1)),
        (np.float32, [[1.0, 1.0], [1.0, 513 / 512]], [513.0, -512.0], 0.01),
    ]:
        for share, reason in ((0.7, "precision"), (1.4, "inaccurate")):
            operator, A = LinearOperator((2, 2), dtype, symmetric=True), dev(A, dtype)
            shift = share * floor / np.linalg.norm(x)
            operator._matvec = lambda v, A=A, of=operator, shift=shift: A @ v + (shift if of.products > 2 else 0) * v
            found, info = solver(operator, dev([size, 0.0], dtype), rtol=0.0)
            close(host(found), size * np.array(x, dtype), rtol=1e-4)
            assert (info.iterations, info.reason) == (2, reason)
            assert info.residual == pytest.approx(share * floor * size, rel=0.1)


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize("size_of_A, size_of_b", [(1e6, 1.0), (1e-6, 1.0), (1.0, 1e5), (1.0, 1e-5)])
@pytest.mark.parametrize("rtol", [0.0, 1e-7])
def test_units_do_not_matter(rng, solver, size_of_A, size_of_b, rtol):
    A = matrix(rng, [*np.linspace(-2, 3, 6), 0.0, 0.0])
    for b in (A @ rng.standard_normal(8), rng.standard_normal(8)):
        if solver is minres and rtol == 0:
            b = A @ b
        x, info = solver(symmetric(A), dev(b), rtol=rtol)
        y, other = solver(symmetric(size_of_A * A), dev(size_of_b * b), rtol=rtol)
        close(host(y) * size_of_A / size_of_b, host(x), rtol=1e-6)
        assert (info.reason, info.converged) == (other.reason, True)
        if rtol:
            assert other.norm == pytest.approx(info.norm * size_of_A, rel=1e-6)
            assert min(other.condition, 1e6) == pytest.approx(min(info.condition, 1e6), rel=1e-3)
        else:  # how long it goes on is up to the rounding, and an estimate from below grows as it goes on
            assert 0.5 < other.norm / (info.norm * size_of_A) < 2


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_precision_at_once_and_after_a_trace_of_the_null_space(solver):
    """diag(4, 1) x = (1, t)/2: after one step ||r|| = 3t/8, and eps (||A|| ||x|| + ||b||) = eps."""
    for t, iterations in ((2 * EPS, 1), (4 * EPS, 2)):
        info = solver(Diagonal(dev([4.0, 1.0])), dev([0.5, 0.5 * t]), rtol=0.0)[1]
        assert (info.iterations, info.reason) == (iterations, "precision")
        assert iterations == 2 or info.residual == pytest.approx(0.375 * t)
    x, info = solver(Diagonal(dev([1.0, 2.0, 0.0])), dev([1.0, 1.0, 1e-14]), rtol=0.0)
    assert (info.reason, info.compatible) == ("precision", True)
    close(x, [1.0, 0.5, 0.0], rtol=1e-12, atol=1e-10 if solver is minres else 0)


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_the_last_numbers_are_true_ones(problem, rng, solver, start):
    A, b = problem
    x, info = solver(symmetric(A), dev(b), dev(rng.standard_normal(N)) if start else None, maxiter=3)
    x = host(x)
    assert info.residual == pytest.approx(np.linalg.norm(b - A @ x), rel=1e-12)
    assert info.quadratic == pytest.approx(x @ A @ x / 2 - b @ x, rel=1e-12)


@pytest.mark.parametrize("solver, verdict", [(minres, "max_condition"), (minres_qlp, "least squares")])
def test_singular_is_a_condition_of_a_hundredth_over_eps(solver, verdict):
    """A's eigenvalues are 2 and d/2. Its entries and b = e_1 make every number of the Lanczos process exact."""
    for d, singular in ((300 * EPS, True), (500 * EPS, False)):
        info = solver(symmetric([[1.0, 1.0], [1.0, 1.0 + d]]), dev([1.0, 0.0]), rtol=1e-16)[1]
        assert info.condition == pytest.approx(4 / d, rel=0.02)
        assert (info.condition > 0.01 / EPS) == singular == (info.reason == verdict)


def test_max_condition_of_minres(rng):
    A = matrix(rng, [1.0, 2.0, -3.0, 4.0, -5.0, 0.0, 0.0, 0.5])
    x, info = minres(symmetric(A), dev(rng.standard_normal(8)), rtol=1e-15)
    assert info.reason in ("max_condition", "least squares")
    assert (info.reason == "max_condition") != info.converged


# --- the device -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_one_host_read_and_one_product_an_iteration(problem, device, solver, preconditioned):
    A, M = symmetric(problem[0]), identity(N) if preconditioned else None
    before = backend.host_reads.count
    k = solver(A, dev(problem[1]), rtol=1e-9, M=M)[1].iterations
    assert backend.host_reads.count - before == k + 2  # the start, and the truth at the end
    assert A.products == k + 1
    assert M is None or M.products == k + 2


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_float32_stays_float32(problem, device, solver):
    A, b = problem
    x, info = solver(symmetric(A, np.float32), dev(b, np.float32), store=(2,))
    assert x.dtype == info.iterates[2].dtype == np.float32 and info.converged
    close(x, np.linalg.solve(A, b).astype(np.float32), rtol=1e-3)
    assert solver(symmetric(A), dev(b, np.float32), dev(np.ones(N)))[0].dtype == np.float32


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_store_and_callback(problem, solver):
    A, b = problem
    seen = []
    x, info = solver(symmetric(A), dev(b), maxiter=5, store=(2, 4, 9), callback=lambda x: seen.append(host(x).copy()))
    assert sorted(info.iterates) == [2, 4] and len(seen) == 5
    for i in (2, 4):
        close(info.iterates[i], solver(symmetric(A), dev(b), maxiter=i)[0])
        close(info.iterates[i], seen[i - 1])
    close(seen[-1], x)
    assert "iterates" not in repr(info)


# --- mistakes -------------------------------------------------------------------------------------------

EYE, ONES = np.eye(3), np.ones(3)


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda: (symmetric(EYE), dev(np.ones((3, 1)))), ValueError, r"b must be a vector, got shape \(3, 1\)"),
        (lambda: (symmetric(EYE), dev([1, 2, 3])), TypeError, "b must hold floating-point numbers, got int64"),
        (lambda: (symmetric(EYE), [1.0]), TypeError, "b must be an array of the active backend, got list"),
        (lambda: (symmetric(EYE), dev(np.ones(2))), ValueError, r"A must be \(2, 2\) for b \(2,\), got \(3, 3\)"),
        (lambda: (symmetric(EYE), dev(ONES), dev(np.ones(4))), ValueError, r"x0 must have b's shape \(3,\), got \(4,"),
        (lambda: (Matrix(dev(EYE)), dev(ONES)), ValueError, r"needs an operator tagged symmetric, got A  \(3 x 3\)"),
    ],
)
def test_wrong_arguments(solver, arguments, error, message):
    with pytest.raises(error, match=f"{solver.__name__}: {message}"):
        solver(*arguments())


@pytest.mark.parametrize("solver", [minres, minres_qlp])
def test_preconditioner_must_be_positive_definite(problem, solver):
    A, b = problem
    bad = Diagonal(dev(np.where(np.arange(N) < 3, -9.0, 0.1)))
    with pytest.raises(
        ValueError, match=f"{solver.__name__}: the preconditioner M must be positive definite, got r'Mr"
    ):
        solver(symmetric(A), dev(b), M=bad)
    for size in (1e-3, 1.0):
        with pytest.raises(ValueError, match=r"M must be positive definite, got r'Mr = 0.0 at iteration 0"):
            solver(symmetric(A), dev(size * b), M=0.0 * identity(N))
    late = Diagonal(dev([1.0, 1.0, -2.0]))  # b does not see it, the second vector does
    with pytest.raises(ValueError, match="at iteration 1"):
        solver(symmetric(np.ones((3, 3))), dev([2.0, 1.0, 0.0]), M=late)
    with pytest.raises(ValueError, match=r"M must be \(12, 12\) for b"):
        solver(symmetric(A), dev(b), M=identity(2))


@pytest.mark.parametrize("solver", [minres, minres_qlp])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_numbers_end_it(solver, bad, device):
    A = np.diag([1.0, bad, 1.0])
    name = solver.__name__
    with np.errstate(all="ignore"):
        for arguments in ((symmetric(EYE), dev([1.0, bad, 1.0])), (symmetric(EYE), dev(ONES), dev([1.0, bad, 1.0]))):
            with pytest.raises(FloatingPointError, match=f"{name}: non-finite numbers at iteration 0"):
                solver(*arguments)
        with pytest.raises(FloatingPointError, match=f"{name}: non-finite numbers at iteration 1"):
            solver(symmetric(A), dev(ONES))


def test_host_vectors_are_refused_on_a_device():
    with fake_device(), pytest.raises(TypeError, match="minres: b must be an array of the active backend, got ndarray"):
        minres(symmetric(EYE), ONES)

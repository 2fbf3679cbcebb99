"""Kronecker products, their eigenvectors and damping, the blockwise inverse of E[(h 1)(h 1)'], against dense ones."""

import numpy as np
import pytest

from minigrad import backend
from minigrad.linalg import (
    Diagonal,
    Eigenbasis,
    Kronecker,
    Matrix,
    as_operator,
    factored_damping,
    homogeneous_inverse,
    identity,
    kronecker,
)
from minigrad.linalg.kronecker import eigh, homogeneous, shifted, spd_inverse, times
from tests.helpers import close, dev, host, spd

TOL = 1e-10


def matrix(rng, *shape):
    return dev(rng.standard_normal(shape))


def symmetric(rng, n, dtype=None):
    """Indefinite."""
    B = rng.standard_normal((n, n))
    return dev(B + B.T, dtype)


def psd(rng, n, rank):
    """Of a rank below n."""
    B = rng.standard_normal((n, rank))
    return dev(B @ B.T)


def dense(factor):
    """A factor, array or operator, as a host matrix."""
    return host(as_operator(factor).dense())


def orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


# --- A kron S ---------------------------------------------------------------------------------------------

FACTORS = {
    "rectangular": lambda rng: (matrix(rng, 4, 3), matrix(rng, 2, 5)),
    "tall and wide": lambda rng: (matrix(rng, 6, 1), matrix(rng, 1, 7)),
    "square": lambda rng: (matrix(rng, 3, 3), matrix(rng, 4, 4)),
    "positive definite": lambda rng: (spd(rng, 3), spd(rng, 5)),
    "identity left": lambda rng: (identity(3), matrix(rng, 2, 4)),
    "identity right": lambda rng: (matrix(rng, 4, 2), identity(3)),
    "identities": lambda rng: (identity(3), identity(2)),
}
each_pair = pytest.mark.parametrize("make", FACTORS.values(), ids=FACTORS)


@each_pair
def test_products(make, rng, device):
    """With a vector, its transpose with one, and the vec identities (A kron S) vec(V) = vec(A V S')."""
    A, S = make(rng)
    K, expected = Kronecker(A, S), np.kron(dense(A), dense(S))
    assert K.shape == expected.shape
    v, u = (rng.standard_normal(n) for n in K.shape[::-1])
    close(K @ dev(v), expected @ v, rtol=TOL)
    close(K.T @ dev(u), u @ expected, rtol=TOL)
    V = v.reshape(dense(A).shape[1], dense(S).shape[1])
    close(K @ dev(v), (dense(A) @ V @ dense(S).T).ravel(), rtol=TOL)
    columns = (dense(S) @ V.T @ dense(A).T).ravel(order="F")  # vec by columns: A and S change places
    close(K @ dev(V.T.ravel(order="F").copy()), columns, rtol=TOL)
    close(K.dense(), expected, rtol=TOL)
    close(K.T.dense(), expected.T, rtol=TOL)
    kept = dev(v)
    product = K @ kept
    product += 1
    close(kept, v, rtol=0)  # never the operand itself, even of I kron I


@each_pair
def test_diagonal_and_trace_of_square_products(make, rng, device):
    A, S = make(rng)
    if A.shape[0] != A.shape[1] or S.shape[0] != S.shape[1]:
        return
    expected = np.kron(dense(A), dense(S))
    close(Kronecker(A, S).diagonal(), np.diag(expected), rtol=TOL)
    close(Kronecker(A, S).trace(), np.trace(expected), rtol=TOL)


def test_a_product_of_products_is_one_of_the_factors_products(rng):
    """(A kron S)(B kron T) = AB kron ST."""
    A, S, B, T = matrix(rng, 4, 3), matrix(rng, 2, 5), matrix(rng, 3, 2), matrix(rng, 5, 3)
    expected = np.kron(host(A) @ host(B), host(S) @ host(T))
    close((Kronecker(A, S) @ Kronecker(B, T)).dense(), expected, rtol=TOL)
    close(Kronecker(A @ B, S @ T).dense(), expected, rtol=TOL)


@pytest.mark.parametrize(
    "shapes",
    [((2, 9), (9, 2)), ((9, 2), (2, 9)), ((2, 9), (2, 9)), ((9, 2), (9, 2)), ((3, 4), (4, 4)), ((4, 3), (4, 4))],
)
def test_the_order_of_multiplication_is_the_cheaper_one(shapes, rng):
    """Whichever comes first, the result is one; and of the two orders, the cheaper is taken."""
    (m, p), (n, q) = shapes
    A, V, B = rng.standard_normal((m, p)), rng.standard_normal((p, q)), rng.standard_normal((q, n))
    close(times(dev(A), dev(V), dev(B)), A @ V @ B)

    work = []

    class Counting:
        def __init__(self, shape):
            self.shape = shape

        def __matmul__(self, other):
            work.append(self.shape[0] * self.shape[1] * other.shape[1])
            return Counting((self.shape[0], other.shape[1]))

    times(Counting((m, p)), Counting((p, q)), Counting((q, n)))
    assert sum(work) == min(m * p * q + m * q * n, p * q * n + m * p * n)


@pytest.mark.parametrize("left, right", [(True, True), (True, False), (False, True)])
def test_large_products_go_in_parts_on_threads(left, right, rng, monkeypatch):
    """Of any number of rows, fewer than threads too; the parts are the whole's bits."""
    monkeypatch.setattr(backend, "_cores", lambda: 3)
    for m, p, q, n in [(7, 3, 5, 4), (3, 7, 4, 5), (2, 2, 2, 2), (1, 5, 1, 5), (4, 2, 3, 4)]:
        A, V, B = (dev(rng.standard_normal(shape)) for shape in ((m, p), (p, q), (q, n)))
        A, B = A if left else None, B if right else None
        monkeypatch.setattr(kronecker, "WORTH_A_THREAD", 1)
        found = times(A, V, B)
        monkeypatch.setattr(kronecker, "WORTH_A_THREAD", 1 << 40)
        close(found, times(A, V, B), rtol=1e-14)


@each_pair
def test_tags(make, rng):
    """Symmetric or psd where both factors are said to be, whatever the numbers are."""
    A, S = make(rng)
    known = hasattr(A, "psd") and hasattr(S, "psd")
    assert (Kronecker(A, S).symmetric, Kronecker(A, S).psd) == (known, known)


def test_tags_of_matrices(rng):
    B, C = matrix(rng, 3, 3), matrix(rng, 2, 2)
    psd_, symmetric_ = dict(psd=True), dict(symmetric=True)
    for one, other, expected in [
        (psd_, psd_, (True, True)),
        (psd_, symmetric_, (True, False)),
        (symmetric_, psd_, (True, False)),
        (symmetric_, symmetric_, (True, False)),
        (psd_, {}, (False, False)),
        ({}, psd_, (False, False)),
    ]:
        K = Kronecker(Matrix(B, **one), Matrix(C, **other))
        assert (K.symmetric, K.psd) == expected
        assert (K.T is K) == K.symmetric


def test_names(rng):
    A, S = matrix(rng, 2, 3), matrix(rng, 4, 4)
    assert repr(Kronecker(A, S)) == "A kron S  (8 x 12)"
    assert str(Kronecker(identity(2), S)) == "I kron S"
    assert str(Kronecker(Matrix(A, name="Q"), Matrix(S, name="R"))) == "Q kron R"
    assert str(Kronecker(A, S, name="G")) == "G"
    P = Kronecker(spd(rng, 2), spd(rng, 3))
    assert str(P.inverse()) == "(A kron S)^-1"
    E = Eigenbasis(None, None, dev(np.ones((2, 3))), name="E")
    assert (str(E.damped_inverse(0.5)), str(E.power(-0.5))) == ("(E + lam I)^-1", "(E)^-0.5")


def test_it_joins_the_algebra(rng):
    """Damped, summed, solved with like any other operator."""
    A, S = spd(rng, 3), spd(rng, 2)
    K = Kronecker(Matrix(A, psd=True), Matrix(S, psd=True))
    G = K + 0.1 * identity(6)
    assert G.psd
    close(G.dense(), np.kron(host(A), host(S)) + 0.1 * np.eye(6), rtol=TOL)
    close((2.0 * K - Kronecker(A, S)).dense(), np.kron(host(A), host(S)), rtol=TOL)
    close(K.matmat(dev(np.eye(6)[:, :2])), np.kron(host(A), host(S))[:, :2], rtol=TOL)


@pytest.mark.parametrize("bad", [lambda rng: Diagonal(matrix(rng, 3)), lambda rng: Matrix(matrix(rng, 3, 3)).T])
def test_factors_are_matrices_or_the_identity(bad, rng):
    for pair in ((bad(rng), matrix(rng, 2, 2)), (matrix(rng, 2, 2), bad(rng))):
        with pytest.raises(TypeError, match=r"Kronecker: factors are matrices or the identity, got .*3 x 3"):
            Kronecker(*pair)
    with pytest.raises(TypeError, match="expected an operator"):
        Kronecker([[1.0]], matrix(rng, 2, 2))
    with pytest.raises(ValueError, match=r"Matrix: expected two dimensions, got shape \(3,\)"):
        Kronecker(matrix(rng, 3), matrix(rng, 2, 2))
    with pytest.raises(ValueError, match=r"A kron S: A @ v expects a vector of shape \(6,\), got \(5,\)"):
        Kronecker(matrix(rng, 3, 3), matrix(rng, 2, 2)) @ matrix(rng, 5)


# --- inverse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 1), (3, 4), (70, 2), (2, 130)])
def test_inverse(sizes, rng, device):
    A, S = (spd(rng, n) for n in sizes)
    K = Kronecker(A, S).inverse()
    close(K.A.dense(), np.linalg.inv(host(A)), rtol=TOL)
    close(K.S.dense(), np.linalg.inv(host(S)), rtol=TOL)
    assert K.psd
    v = rng.standard_normal(K.shape[0])
    close(Kronecker(A, S) @ (K @ dev(v)), v, rtol=TOL)


def test_inverse_with_an_identity(rng):
    S = spd(rng, 3)
    for K in (Kronecker(identity(2), S), Kronecker(S, identity(2))):
        close(K.inverse().dense(), np.linalg.inv(host(K.dense())), rtol=TOL)
    assert Kronecker(identity(2), identity(3)).inverse().dense().shape == (6, 6)


def test_the_inverse_is_symmetric_to_the_bit(rng):
    inverse = host(spd_inverse(spd(rng, 70)).matrix)
    np.testing.assert_array_equal(inverse, inverse.T)


@pytest.mark.parametrize("which", ["A", "S"])
@pytest.mark.parametrize("singular", [lambda rng: np.diag([1.0, 0, 1]), lambda rng: np.diag([1.0, -1, 1])])
def test_a_singular_factor_without_damping_is_refused(which, singular, rng, device):
    good, bad = spd(rng, 2), dev(singular(rng))
    pair = (bad, good) if which == "A" else (good, bad)
    with pytest.raises(ArithmeticError, match=r"\(3 x 3\) is not positive definite in float64: add damping"):
        Kronecker(*pair).inverse()
    with pytest.raises(ArithmeticError, match=r"the input of layer 'a' \(3 x 3\) is not positive definite"):
        spd_inverse(bad, "the input of layer 'a'")
    close(spd_inverse(shifted(bad, 2.0)).dense(), np.linalg.inv(host(bad) + 2 * np.eye(3)))


# --- eigenvectors -----------------------------------------------------------------------------------------

SYMMETRIC = {
    "positive definite": lambda rng: (Matrix(spd(rng, 3), psd=True), Matrix(spd(rng, 4), psd=True)),
    "singular": lambda rng: (Matrix(psd(rng, 4, 2), psd=True), Matrix(psd(rng, 3, 1), psd=True)),
    "indefinite": lambda rng: (
        Matrix(symmetric(rng, 3), symmetric=True),
        Matrix(symmetric(rng, 4), symmetric=True),
    ),
    "identity left": lambda rng: (identity(3), Matrix(spd(rng, 4), psd=True)),
    "identity right": lambda rng: (Matrix(spd(rng, 4), psd=True), identity(2)),
    "identities": lambda rng: (identity(3), identity(2)),
}


@pytest.mark.parametrize("make", SYMMETRIC.values(), ids=SYMMETRIC)
def test_eigen(make, rng, device):
    """The same operator, (Q kron R) diag(a s') (Q kron R)'."""
    A, S = make(rng)
    K = Kronecker(A, S)
    E, expected = K.eigen(), np.kron(host(A.dense()), host(S.dense()))
    assert (E.shape, E.symmetric, E.psd) == (K.shape, True, K.psd)
    close(E.dense(), expected, rtol=TOL)
    close(E.diagonal(), np.diag(expected), rtol=TOL)
    close(E.trace(), np.trace(expected), rtol=TOL)
    close(np.sort(host(E.d).ravel()), np.linalg.eigvalsh(expected), rtol=TOL)


def test_eigen_needs_symmetric_factors(rng):
    with pytest.raises(ValueError, match=r"A kron S .*: only symmetric factors have orthogonal eigenvectors"):
        Kronecker(spd(rng, 2), spd(rng, 3)).eigen()


def test_rounding_errors_of_a_psd_matrix_are_no_negative_eigenvalues(rng):
    A = psd(rng, 6, 2)
    plain, clean = (host(eigh(Matrix(A, **tag))[0]) for tag in (dict(symmetric=True), dict(psd=True)))
    assert plain.min() < 0 <= clean.min()
    np.testing.assert_array_equal(clean, np.maximum(plain, 0))


BASES = {"Q and R": (True, True), "Q alone": (True, False), "R alone": (False, True), "neither": (False, False)}


@pytest.mark.parametrize("given", BASES.values(), ids=BASES)
def test_eigenbasis(given, rng, device):
    """Against the dense (Q kron R) diag(d) (Q kron R)', for a d that is no outer product, as EKFAC's is not."""
    d = rng.random((3, 4)) + 0.1
    Q, R = (orthogonal(rng, n) if has else None for n, has in zip(d.shape, given))
    E = Eigenbasis(*(None if B is None else dev(B) for B in (Q, R)), dev(d), psd=True)
    QR = np.kron(np.eye(3) if Q is None else Q, np.eye(4) if R is None else R)
    V = rng.standard_normal(d.shape)
    kept = dev(V.ravel())
    close(E.coordinates(dev(V)), (QR.T @ V.ravel()).reshape(d.shape), rtol=TOL)
    close(E @ kept, QR @ (d.ravel() * (QR.T @ V.ravel())), rtol=TOL)
    close(kept, V.ravel(), rtol=0)
    close(E.dense(), QR * d.ravel() @ QR.T, rtol=TOL)
    close(E.diagonal(), np.diag(QR * d.ravel() @ QR.T), rtol=TOL)
    close(E.trace(), d.sum(), rtol=TOL)
    assert E.psd and E.T is E
    for lam in (0.0, 0.3):
        inverse = E.damped_inverse(lam)
        close(inverse.dense(), np.linalg.inv(QR * d.ravel() @ QR.T + lam * np.eye(12)), rtol=TOL)
        assert inverse.psd
    half = host(E.power(0.5).dense())
    close(half @ half, QR * d.ravel() @ QR.T, rtol=TOL)
    close(E.power(-0.5).dense(), np.linalg.inv(half), rtol=TOL)
    close(E.power(-1).dense(), np.linalg.inv(QR * d.ravel() @ QR.T), rtol=TOL)
    assert E.power(-0.5).psd


def test_power_of_a_product_is_the_product_of_powers(rng):
    """(A kron S)^a = A^a kron S^a."""
    A, S = spd(rng, 3), spd(rng, 4)
    root = lambda M, a: (lambda e, Q: Q * e**a @ Q.T)(*np.linalg.eigh(host(M)))
    E = Kronecker(Matrix(A, psd=True), Matrix(S, psd=True)).eigen()
    for a in (-0.5, 0.5, -0.25):
        close(E.power(a).dense(), np.kron(root(A, a), root(S, a)), rtol=TOL)


def test_exact_damping(rng):
    """(A kron S + lam I)^-1, for singular factors too."""
    A, S, lam = psd(rng, 4, 2), psd(rng, 3, 2), 0.05
    E = Kronecker(Matrix(A, psd=True), Matrix(S, psd=True)).eigen().damped_inverse(lam)
    close(E.dense(), np.linalg.inv(np.kron(host(A), host(S)) + lam * np.eye(12)), rtol=TOL)


@pytest.mark.parametrize(
    ("Q", "R", "d"), [((3, 3), (4, 4), (3, 5)), ((3, 2), (4, 4), (3, 4)), ((4, 4), (3, 3), (3, 4)), (None, None, (3,))]
)
def test_eigenbasis_refuses_other_shapes(Q, R, d):
    Q, R = (None if shape is None else dev(np.zeros(shape)) for shape in (Q, R))
    with pytest.raises(ValueError, match=r"Eigenbasis: expected Q \(p, p\), R \(q, q\) and d \(p, q\), got \["):
        Eigenbasis(Q, R, dev(np.zeros(d)))


# --- factored damping -------------------------------------------------------------------------------------


def surplus(A, S, lam_A, lam_S):
    """(A + lam_A I) kron (S + lam_S I) - A kron S - lam_A lam_S I."""
    I, J = np.eye(len(A)), np.eye(len(S))
    return np.kron(A + lam_A * I, S + lam_S * J) - np.kron(A, S) - lam_A * lam_S * np.kron(I, J)


def test_factored_damping_multiplies_to_lam(rng, device):
    A, S = spd(rng, 4), 7.0 * spd(rng, 3)
    for lam in (1e-4, 0.3, 5.0):
        lam_A, lam_S = factored_damping(A, S, lam)
        close(lam_A * lam_S, lam, rtol=TOL)
        pi2 = (np.trace(host(A)) / 4) / (np.trace(host(S)) / 3)
        close(lam_A / lam_S, pi2, rtol=TOL)  # pi^2


def test_factored_damping_adds_the_least_in_trace_norm(rng):
    """Martens & Grosse 2015, section 6.3: of all pi, the chosen one; and the surplus is what the module says it is."""
    A, S, lam = host(spd(rng, 4)), 50.0 * host(spd(rng, 3)), 0.2
    lam_A, lam_S = (host(number) for number in factored_damping(dev(A), dev(S), lam))
    chosen = np.sqrt(lam_A / lam_S)
    pi = lambda c: np.linalg.norm(surplus(A, S, c * lam**0.5, lam**0.5 / c), "nuc")
    at = chosen * np.exp(np.linspace(-3, 3, 121))
    values = [pi(c) for c in at]
    assert np.argmin(values) == 60
    assert min(values) == pytest.approx(pi(chosen), rel=1e-12) and pi(1.0) > 1.5 * pi(chosen)
    expected = lam**0.5 * (chosen * np.kron(np.eye(4), S) + np.kron(A, np.eye(3)) / chosen)
    close(surplus(A, S, lam_A, lam_S), expected, rtol=TOL)


def test_factored_damping_does_not_depend_on_how_scale_is_shared(rng):
    """cA kron S/c is A kron S, and its damped factors are those times c and 1/c."""
    A, S, lam = spd(rng, 4), spd(rng, 3), 0.1
    lam_A, lam_S = factored_damping(A, S, lam)
    for c in (1e3, 1e-3):
        other_A, other_S = factored_damping(c * A, S / c, lam)
        close(other_A, c * lam_A, rtol=TOL)
        close(other_S, lam_S / c, rtol=TOL)


def test_factored_damping_of_dead_units(rng, device):
    """Where a factor is zero, pi is 1: finite numbers that multiply to lam."""
    zero, S = dev(np.zeros((3, 3))), spd(rng, 2)
    for A, B in ((zero, S), (S, zero), (zero, zero)):
        close(factored_damping(A, B, 0.04)[0], 0.2, rtol=TOL)
        close(factored_damping(A, B, 0.04)[1], 0.2, rtol=TOL)


def test_shifted(rng, device):
    A = spd(rng, 3)
    before = host(A).copy()
    close(shifted(A, 0.5), before + 0.5 * np.eye(3))
    close(A, before, rtol=0)


# --- the matrix of (h 1) ----------------------------------------------------------------------------------


def moments(rng, n=20, p=4):
    """h (n, p) and E[(h 1)(h 1)'], both on the host."""
    h = rng.standard_normal((n, p)) * rng.random(p) + rng.standard_normal(p)
    h1 = np.hstack([h, np.ones((n, 1))])
    return h, h1.T @ h1 / n


def test_homogeneous(rng, device):
    h, A = moments(rng)
    second, mean = dev(h.T @ h / len(h)), dev(h.mean(axis=0))
    close(homogeneous(second, mean), A, rtol=TOL)
    close(homogeneous(second, mean, 3.0)[-1, -1], 3.0)


def test_george_section_3_3_3_block_inverse(rng, device):
    """E[(h 1)(h 1)']^-1 has C^-1 in its corner, -C^-1 E[h] beside it, and 1 + E[h]' C^-1 E[h] below."""
    h, A = moments(rng)
    mean, C = h.mean(axis=0), np.cov(h.T, bias=True)
    found = host(homogeneous_inverse(dev(h.T @ h / len(h)), dev(mean)))
    close(found, np.linalg.inv(A), rtol=TOL)
    close(found[:-1, :-1], np.linalg.inv(C), rtol=TOL)
    close(found[:-1, -1], -np.linalg.solve(C, mean), rtol=TOL)
    close(found[-1, -1], 1 + mean @ np.linalg.solve(C, mean), rtol=TOL)


@pytest.mark.parametrize("lam", [1e-3, 0.3, 4.0])
def test_homogeneous_inverse_with_damping(lam, rng, device):
    """The damped matrix's inverse; whose corner is not (C + lam I)^-1, because the bias's 1 is damped, too."""
    h, A = moments(rng)
    found = host(homogeneous_inverse(dev(h.T @ h / len(h)), dev(h.mean(axis=0)), lam))
    close(found, np.linalg.inv(A + lam * np.eye(5)), rtol=TOL)
    K, C, mean = found[:-1, :-1], np.cov(h.T, bias=True), h.mean(axis=0)
    wrong = np.linalg.inv(C + lam * np.eye(4))
    assert np.linalg.norm(K - wrong) > 1e-4 * np.linalg.norm(wrong)
    close(K, np.linalg.inv(C + lam * np.eye(4) + lam / (1 + lam) * np.outer(mean, mean)), rtol=TOL)


def test_centred_inputs_need_no_correction(rng):
    """E[h] = 0: the blocks part."""
    h, _ = moments(rng)
    h = h - h.mean(axis=0)
    found = host(homogeneous_inverse(dev(h.T @ h / len(h)), dev(np.zeros(4)), 0.1))
    close(found[:-1, :-1], np.linalg.inv(np.cov(h.T, bias=True) + 0.1 * np.eye(4)), rtol=TOL)
    close(found[-1], [0, 0, 0, 0, 1 / 1.1], rtol=TOL)


def test_fewer_samples_than_inputs_need_damping(rng, device):
    h, A = moments(rng, n=3)
    second, mean = dev(h.T @ h / len(h)), dev(h.mean(axis=0))
    with pytest.raises(ArithmeticError, match=r"the covariance of h \(4 x 4\) is not positive definite in float64"):
        homogeneous_inverse(second, mean)
    close(homogeneous_inverse(second, mean, 0.1), np.linalg.inv(A + 0.1 * np.eye(5)), rtol=TOL)


# --- float32 ----------------------------------------------------------------------------------------------


def test_float32_stays_float32(rng):
    """And its numbers are good to 1e-5: these matrices have condition numbers below 20."""
    A, S = spd(rng, 4), spd(rng, 3)
    a, s = dev(host(A), "float32"), dev(host(S), "float32")
    V = rng.standard_normal(12)
    v = dev(V, "float32")
    wide, K = (Kronecker(Matrix(M, psd=True), Matrix(N, psd=True)) for M, N in ((A, S), (a, s)))
    for found, expected in [
        (K @ v, wide @ dev(V)),
        (K.diagonal(), wide.diagonal()),
        (K.trace(), wide.trace()),
        (K.inverse() @ v, wide.inverse() @ dev(V)),
        (K.eigen() @ v, wide @ dev(V)),
        (K.eigen().damped_inverse(0.1) @ v, wide.eigen().damped_inverse(0.1) @ dev(V)),
        (K.eigen().power(-0.5) @ v, wide.eigen().power(-0.5) @ dev(V)),
        (Kronecker(identity(4), s) @ v, Kronecker(identity(4), S) @ dev(V)),
        (Kronecker(a, identity(3)) @ v, Kronecker(A, identity(3)) @ dev(V)),
        (factored_damping(a, s, 0.1)[0], factored_damping(A, S, 0.1)[0]),
        (shifted(a, 0.1), shifted(A, 0.1)),
        (homogeneous_inverse(a, v[:4], 0.1), homogeneous_inverse(A, dev(V[:4]), 0.1)),
    ]:
        assert found.dtype == np.float32
        close(found, expected, rtol=1e-5)
    assert K.dtype == Kronecker(identity(4), s).dtype == Kronecker(a, identity(3)).dtype == np.float32
    assert Kronecker(a, S).dtype == Kronecker(A, s).dtype == np.float64
    assert Kronecker(identity(2, np.float32), identity(2, np.float32)).dtype == np.float32

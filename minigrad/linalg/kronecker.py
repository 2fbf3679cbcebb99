"""Kronecker products: operators on matrices V (p, q), raveled row by row, that are never formed.

    (A kron S) vec(V) = vec(A V S')                      vec by rows; by columns it is vec(S V A'), as George prints it
    (A kron S)' = A' kron S',   (A kron S)(B kron T) = AB kron ST,   (A kron S)^a = A^a kron S^a for psd A, S
    A = Q diag(a) Q', S = R diag(s) R':      A kron S = (Q kron R) diag(a s') (Q kron R)'

An affine layer's slice of theta is such a V: its rows belong to the layer's inputs (the last one to the bias), its
columns to its outputs. So a layer's block of a curvature matrix is A kron S with A (in + 1, in + 1) and S (out, out).

lam I added to A kron S is no Kronecker product, but it is diagonal in the same eigenvectors: exact damping. Factored
damping (Martens & Grosse 2015, section 6.3) stays a product, and adds what it should not:

    (A + pi sqrt(lam) I) kron (S + sqrt(lam) / pi I) = A kron S + lam I + sqrt(lam) (pi I kron S + A / pi kron I)
"""

from ..backend import WORTH_A_THREAD, is_array, parallel, threads, xp
from .cholesky import inverse_root
from .operator import Identity, LinearOperator, Matrix, as_operator


class Kronecker(LinearOperator):
    """A kron S for A (m, p), S (n, q): matrices, or `identity(n)`, with which nothing is multiplied.

    It is symmetric, or psd, if both factors are said to be: Matrix(A, psd=True).
    """

    def __init__(self, A, S, name=None):
        A, S = (Matrix(B, name=name) if is_array(B) else as_operator(B) for B, name in ((A, "A"), (S, "S")))
        for factor in (A, S):
            if not isinstance(factor, Matrix | Identity):
                raise TypeError(f"Kronecker: factors are matrices or the identity, got {factor!r}")
        super().__init__(
            (A.shape[0] * S.shape[0], A.shape[1] * S.shape[1]),
            xp.promote_types(*_dtypes(A, S)),
            symmetric=A.symmetric and S.symmetric,
            psd=A.psd and S.psd,
            name=name or f"{A.name} kron {S.name}",
        )
        self.A, self.S = A, S

    def _matvec(self, v):
        V = v.reshape(self.A.shape[1], self.S.shape[1])
        return times(_entries(self.A), V, _transposed(self.S)).reshape(-1)

    def _rmatvec(self, u):
        U = u.reshape(self.A.shape[0], self.S.shape[0])
        return times(_transposed(self.A), U, _entries(self.S)).reshape(-1)

    def diagonal(self):
        """The outer product of the factors' diagonals, raveled."""
        return xp.outer(self.A.diagonal(), self.S.diagonal()).reshape(-1)

    def trace(self):
        """tr(A) tr(S), on the device."""
        return self.A.diagonal().sum() * self.S.diagonal().sum()

    def eigen(self):
        """The same operator in its eigenvectors, for symmetric factors: an Eigenbasis with d = a s'."""
        if not self.symmetric:
            raise ValueError(f"{self!r}: only symmetric factors have orthogonal eigenvectors")
        (a, Q), (s, R) = eigh(self.A), eigh(self.S)
        return Eigenbasis(Q, R, xp.outer(a, s), psd=self.psd)

    def inverse(self):
        """A^-1 kron S^-1, by Cholesky factors. Raises ArithmeticError naming a factor that is not positive definite.

        Formed, because it is applied to every gradient until the next one is: a product then costs two of matrices.
        """
        return Kronecker(*(spd_inverse(factor) for factor in (self.A, self.S)), name=f"({self.name})^-1")


class Eigenbasis(LinearOperator):
    """(Q kron R) diag(d) (Q kron R)' for orthogonal Q (p, p), R (q, q) and d (p, q).

    K-FAC's block has d = a s', the outer product of its factors' eigenvalues; EKFAC's has better d in the same basis.
    Q or R may be None for the identity: with both, it is a diagonal matrix.
    """

    def __init__(self, Q, R, d, *, psd=False, name="(Q kron R) diag(d) (Q kron R)'"):
        if d.ndim != 2 or any(B is not None and B.shape != (n, n) for B, n in zip((Q, R), d.shape)):
            shapes = [getattr(B, "shape", None) for B in (Q, R)]
            raise ValueError(f"Eigenbasis: expected Q (p, p), R (q, q) and d (p, q), got {shapes} and {d.shape}")
        super().__init__((d.size, d.size), d.dtype, symmetric=True, psd=psd, name=name)
        self.Q, self.R, self.d = Q, R, d

    def coordinates(self, V):
        """Q' V R, for V (p, q)."""
        return times(_t(self.Q), V, self.R)

    def _matvec(self, v):
        V = self.coordinates(v.reshape(self.d.shape))
        V *= self.d
        return times(self.Q, V, _t(self.R)).reshape(-1)

    def diagonal(self):
        """sum_kl Q_ik^2 d_kl R_jl^2, raveled."""
        squared = lambda B: None if B is None else B * B
        return times(squared(self.Q), self.d, _t(squared(self.R))).reshape(-1)

    def trace(self):
        """The sum of d, on the device."""
        return self.d.sum()

    def damped_inverse(self, lam):
        """(this + lam I)^-1: exact damping. d + lam must be positive."""
        return Eigenbasis(self.Q, self.R, 1.0 / (self.d + lam), psd=True, name=f"({self.name} + lam I)^-1")

    def power(self, exponent):
        """This matrix to a power, d^exponent in the same basis; negative powers need a positive d."""
        return Eigenbasis(self.Q, self.R, self.d**exponent, psd=True, name=f"({self.name})^{exponent:g}")


# --- damping --------------------------------------------------------------------------------------------


def factored_damping(A, S, lam):
    """(lam_A, lam_S) with lam_A lam_S = lam: A + lam_A I and S + lam_S I are the damped factors.

    lam_A = pi sqrt(lam), lam_S = sqrt(lam) / pi; pi^2, the ratio of the factors' mean eigenvalues tr(A) / p and
    tr(S) / q, makes the surplus pi I kron S + A / pi kron I least in trace norm (Martens & Grosse 2015, section 6.3).
    Where a factor is zero (dead units), pi is 1. Numbers on the device.
    """
    a, s = (xp.trace(factor) / factor.shape[0] for factor in (A, S))
    alive = (a > 0) & (s > 0)
    pi = xp.sqrt(xp.where(alive, a, 1) / xp.where(alive, s, 1))
    return pi * lam**0.5, lam**0.5 / pi


def shifted(A, lam):
    """A + lam I, a copy."""
    out, diagonal = A.copy(), xp.arange(A.shape[0])
    out[diagonal, diagonal] += lam
    return out


# --- the matrix of (h 1) --------------------------------------------------------------------------------


def homogeneous(second, mean, corner=1.0):
    """[[E[hh'], E[h]], [E[h]', corner]], from the raw moments of h: with corner 1 it is E[(h 1)(h 1)']."""
    p = mean.shape[0]
    A = xp.empty((p + 1, p + 1), second.dtype)
    A[:p, :p], A[:p, p], A[p, :p], A[p, p] = second, mean, mean, corner
    return A


def homogeneous_inverse(second, mean, lam=0.0):
    """(E[(h 1)(h 1)'] + lam I)^-1, blockwise, from E[hh'] and E[h] (George, section 3.3.3, which has lam = 0).

        [[ K,                       -K E[h] / (1 + lam)                         ],
         [ -E[h]' K / (1 + lam),    1 / (1 + lam) + E[h]' K E[h] / (1 + lam)^2  ]]

    K = (E[hh'] + lam I - E[h] E[h]' / (1 + lam))^-1: the inverse covariance C^-1 without damping, but not
    (C + lam I)^-1 with it. Raises ArithmeticError where the damped covariance is singular.
    """
    s = 1.0 + lam
    K = spd_inverse(shifted(second, lam) - xp.outer(mean, mean) / s, "the covariance of h").matrix
    Km = K @ mean / s
    return homogeneous(K, -Km, 1.0 / s + (mean @ Km) / s)


# --- factors --------------------------------------------------------------------------------------------


def spd_inverse(A, what="a Kronecker factor"):
    """A^-1 as a Matrix, for a symmetric positive definite one (or the identity); ArithmeticError, naming `what`."""
    if isinstance(A, Identity):
        return A
    A = A.matrix if isinstance(A, Matrix) else A
    root, n = inverse_root(A), len(A)
    if root is None:
        raise ArithmeticError(f"{what} ({n} x {n}) is not positive definite in {A.dtype}: add damping")
    return Matrix(root.T @ root, psd=True, name="A^-1")


def eigh(A):
    """(eigenvalues, eigenvectors) of a symmetric Matrix, negative rounding errors of a psd one set to 0; I has None."""
    if isinstance(A, Identity):
        return xp.ones(A.shape[0], A.dtype), None
    a, Q = xp.linalg.eigh(A.matrix)
    return (xp.maximum(a, 0) if A.psd else a), Q


def times(A, V, B):
    """A V B, in the order that needs fewer multiplications; None is the identity. Large ones in parts, on threads."""
    if A is None or B is None:
        return V.copy() if A is B else _by_rows(V, B) if A is None else _by_rows(A, V)
    (m, p), (q, n) = A.shape, B.shape
    return _by_rows(A, B, V) if m * q * (p + n) <= p * n * (m + q) else _by_rows(A, _by_rows(V, B))


def _by_rows(A, B, V=None):
    """A B or A V B, from the left; where that pays, in parts of A's rows, on threads."""
    left = (lambda rows: rows) if V is None else (lambda rows: rows @ V)
    (m, p), n = A.shape, B.shape[1]
    count = min(threads(), m, m * p * n // WORTH_A_THREAD)
    if count < 2:
        return left(A) @ B
    out = xp.empty((m, n), xp.promote_types(A.dtype, B.dtype))
    parts = [slice(m * i // count, m * (i + 1) // count) for i in range(count)]
    parallel(lambda part: xp.matmul(left(A[part]), B, out=out[part]), parts)
    return out


def _entries(A):
    return None if isinstance(A, Identity) else A.matrix


def _transposed(A):
    return _t(_entries(A))


def _t(B):
    return None if B is None else B.T


def _dtypes(A, S):
    """Both factors' dtypes; the identity has no say."""
    known = [factor.dtype for factor in (A, S) if not isinstance(factor, Identity)] or [A.dtype]
    return known[0], known[-1]

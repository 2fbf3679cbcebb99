"""The Lanczos process: A seen through a tridiagonal matrix T, and what T knows of A's spectrum.

Lanczos (1950), as arranged by Paige (1972): beta_{k+1} v_{k+1} = A v_k - alpha_k v_k - beta_k v_{k-1}. The alphas are
T's diagonal, the betas its neighbours; A V_k = V_k T_k + beta_{k+1} v_{k+1} e_k'. T's eigenvalues (Ritz values) tend
to A's, the outer ones first.
"""

import math
from dataclasses import dataclass

from ..backend import normal, to_host, xp
from .info import checked
from .operator import as_operator
from .vectors import dot, three_term


class Process:
    """One column of T a step, by one product and one host read; the solvers in this folder stand on it.

    With a preconditioner M it is the process of M^(1/2) A M^(1/2), written in A's own space: the v are orthonormal in
    the inner product of M^-1, and z = M^-1 v beside them (Choi, Paige & Saunders 2011, section 6). Vectors are kept
    unscaled, z = beta_k M^-1 v_k and y = M z = beta_k v_k, which saves a pass over memory a step.
    ends: two vectors to work in, the second holding the start. basis: an array whose rows are to become v_1, v_2, ...,
    each made orthogonal to those before it once more.
    """

    def __init__(self, solver, A, ends, M=None, basis=None):
        self.solver, self.A, self.M, self.basis = solver, A, M, basis
        self.z_old, self.z = ends
        self.k, self.beta_old = 0, 1.0  # z_0 = 0: any beta_0 does
        self.y, length2 = self._preconditioned(dot(self.z, self.z))
        self._start = length2

    def begin(self, *others):
        """beta_1 = the start's norm, and the numbers `others`, all in one read."""
        length2, zz, *others = self.read(self._start, dot(self.z, self.z), *others)
        self.beta = self._root(length2, singular=zz > 0)
        self._keep()
        return self.beta, *others

    def step(self):
        """alpha_k and beta_{k+1}; then y_k is `used`, y_{k+1} is `y`."""
        beta, self.used = self.beta, self.y
        p = self.A.matvec(self.y)
        alpha = dot(self.y, p) / beta / beta
        length2 = three_term(self.z_old, p, self.z, 1 / beta, -alpha / beta, -beta / self.beta_old)
        self.z_old, self.z = self.z, self.z_old
        if self.basis is not None:
            length2 = self._orthogonalize()
        self.y, length2 = self._preconditioned(length2)
        self.k += 1
        alpha, length2 = self.read(alpha, length2)
        self.beta_old, self.beta = beta, self._root(length2)
        self._keep()
        return alpha, self.beta

    def _preconditioned(self, length2):
        """y = M z and y'z, given z'z."""
        if self.M is None:
            return self.z, length2
        y = self.M.matvec(self.z)
        return y, dot(y, self.z)

    def _orthogonalize(self):
        """Twice is enough (Parlett 1980, section 6.9)."""
        V = self.basis[: self.k + 1]
        for _ in range(2):
            self.z -= (V @ self.z) @ V
        return dot(self.z, self.z)

    def _keep(self):
        if self.basis is not None and self.k < self.basis.shape[0] and self.beta > 0:
            self.basis[self.k] = self.z / self.beta

    def read(self, *scalars):
        """Numbers of the device, all in one read, finite or an error."""
        numbers = to_host(xp.stack(scalars)).tolist()
        if not all(map(math.isfinite, numbers)):
            raise FloatingPointError(f"{self.solver}: non-finite numbers at iteration {self.k} ({numbers})")
        return numbers

    def _root(self, length2, singular=False):
        if length2 < 0 or (singular and length2 == 0):
            raise ValueError(
                f"{self.solver}: the preconditioner M must be positive definite, got r'Mr = {length2} "
                f"at iteration {self.k}"
            )
        return math.sqrt(length2)


def lanczos(A, v, k):
    """k steps from v: (alphas, betas, V) with A V = V T + beta_{k+1} v_{k+1} e_k', V (n, k) orthonormal to rounding.

    alphas: T's diagonal; betas: beta_2 .. beta_{k+1}, of which the last stands outside T. Both are host arrays. It ends
    sooner, with a last beta of 0, when V spans an invariant subspace. Keeps all of V and orthogonalizes against it.
    Raises ValueError for an operator of ours not tagged symmetric, wrong shapes, k < 1 or v = 0; FloatingPointError for
    non-finite numbers.
    """
    A, _ = checked("lanczos", A, v, None, None, tag="symmetric")
    n = v.shape[0]
    if not 1 <= k:
        raise ValueError(f"lanczos: k must be at least 1, got {k}")
    k = min(k, n)
    V = xp.zeros((k, n), v.dtype)
    process = Process("lanczos", A, (xp.zeros_like(v), v.copy()), basis=V)
    if process.begin()[0] == 0:
        raise ValueError("lanczos: the start v must not be zero")
    alphas, betas, norm = [], [], 0.0
    while len(alphas) < k:
        alpha, beta = process.step()
        norm = max(norm, math.hypot(alpha, beta))
        alphas.append(alpha)
        betas.append(beta)
        if beta <= n * float(xp.finfo(v.dtype).eps) * norm:
            betas[-1] = 0.0
            break
    return to_host(xp.asarray(alphas)), to_host(xp.asarray(betas)), V[: len(alphas)].T


@dataclass(frozen=True)
class Spectrum:
    """Ritz values, ascending, as host arrays.

    values: each within errors[i] of an eigenvalue of A (Paige's bound beta_{k+1} |last entry of T's eigenvector|).
    weights: the squared first entries; the sum of weights f(values) estimates v'f(A)v for the unit start v.
    """

    values: object
    errors: object
    weights: object


def spectrum(A, k, rng):
    """Spectrum of A from k Lanczos steps with a random normal start. Raises as `lanczos` does."""
    alphas, betas, _ = lanczos(A, _start("spectrum", A, rng), k)
    return _ritz(alphas, betas)


def largest_eigenvalue(A, rng, rtol=1e-3, maxiter=None):
    """A's largest eigenvalue, to rtol of A's norm by the error bound; 1 over it is LeCun's learning rate.

    LeCun, Simard & Pearlmutter (1993). Two vectors of memory. It is a Ritz value, so never above the true one but by
    rounding; a start without a share in the top eigenvector would miss it, which a random one has with probability 1.
    Raises ArithmeticError if maxiter (10 n) steps do not suffice; else as `lanczos`.
    """
    v = _start("largest_eigenvalue", A, rng)
    A, _ = checked("largest_eigenvalue", A, v, None, None, tag="symmetric")
    maxiter = 10 * v.shape[0] if maxiter is None else maxiter
    process = Process("largest_eigenvalue", A, (xp.zeros_like(v), v))
    process.begin()
    alphas, betas = [], []
    for _ in range(maxiter):
        alpha, beta = process.step()
        alphas.append(alpha)
        betas.append(beta)
        ritz = _ritz(alphas, betas)
        if ritz.errors[-1] <= rtol * abs(ritz.values).max():
            return float(ritz.values[-1])
    raise ArithmeticError(f"largest_eigenvalue: not within rtol {rtol} after {maxiter} steps of the Lanczos process")


def condition_number(A, rng, tol=None):
    """The largest over the smallest |eigenvalue| of A, leaving out those below tol times the largest (n eps).

    Runs the process to its end, n steps at most, keeping V: for operators of up to some thousand columns. The smallest
    eigenvalue is known to about eps ||A||, so a condition of c is right to about c eps, relatively.
    Raises as `lanczos` does, and ValueError for A = 0.
    """
    v = _start("condition_number", A, rng)
    alphas, betas, _ = lanczos(A, v, v.shape[0])
    sizes = abs(_ritz(alphas, betas).values)
    tol = v.shape[0] * float(xp.finfo(v.dtype).eps) if tol is None else tol
    if sizes.max() == 0:
        raise ValueError("condition_number: A is zero")
    return float(sizes.max() / sizes[sizes > tol * sizes.max()].min())


def _start(name, A, rng):
    A = as_operator(A)
    return normal(rng, (A.shape[1],), A.dtype)


def _ritz(alphas, betas):
    k = len(alphas)
    T = xp.diag(xp.asarray(alphas, dtype=xp.float64))
    if k > 1:
        beside = xp.diag(xp.asarray(betas, dtype=xp.float64)[:-1], 1)
        T = T + beside + beside.T
    values, vectors = (to_host(array) for array in xp.linalg.eigh(T))
    return Spectrum(values, betas[-1] * abs(vectors[-1]), vectors[0] ** 2)

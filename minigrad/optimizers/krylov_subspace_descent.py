"""Krylov subspace descent (Vinyals & Povey 2012): a few directions from the curvature, then the true objective in them.

    1. g, the gradient; G, the Gauss-Newton matrix, on a batch of its own if asked
    2. V, orthonormal rows that span g, Gg, ..., G^(K-1) g, and the last step
    3. T = V G V', its eigenvalues not below floor times the largest; B = T^(-1/2) V
    4. a* = argmin over a of f(theta + B'a), by BFGS from a = 0, on a third batch if asked
    5. theta += B'a*

CG's iterates from zero, for any damping, lie in the span of V: G + lam I has the Krylov space of G. So no damping is
needed; the true objective says how far to trust each direction. T^(-1/2) makes the quadratic model round in a, a good
start for BFGS. Left out of the paper: the division by a diagonal Fisher while the basis grows.
"""

import math
from dataclasses import dataclass

from ..backend import asarray, item, to_host, xp
from ..curvature import gauss_newton
from ..linalg.vectors import dot
from .checks import check_counts, check_fraction, check_positive
from .metric_batch import curvature_batch


@dataclass(frozen=True)
class KrylovSubspaceDescent:
    """theta += B'a*, the best point that BFGS finds in a Krylov subspace.

    dimension: K. maxiter: of BFGS. rtol: it stops when the gradient in a has fallen by so much. floor: see above.
    curvature_batch, search_batch: None for the gradient's batch, or a number of other samples, for G and for BFGS; a
    small search batch is fitted at any price, for no damping holds the step back. Where BFGS finds nothing better,
    theta stays bit for bit. Needs SciPy. Memory: twice K + 1 vectors.
    """

    dimension: int = 20
    maxiter: int = 30
    rtol: float = 1e-4
    floor: float = 1e-4
    curvature_batch: int | None = None
    search_batch: int | None = None

    def __post_init__(self):
        owner = "KrylovSubspaceDescent"
        check_counts(owner, dimension=self.dimension, maxiter=self.maxiter)
        check_fraction(owner, rtol=self.rtol)
        check_positive(owner, floor=self.floor)
        for name in ("curvature_batch", "search_batch"):
            if getattr(self, name) is not None:
                check_counts(owner, **{name: getattr(self, name)})

    def init(self, objective, theta):
        """update count, last step d."""
        return {"update": 0, "d": xp.zeros_like(theta)}

    def step(self, theta, state, objective, batch, draw, rng=None):
        """One update; returns theta, state, log."""
        loss, g = objective.value_and_grad(theta, batch)
        data = curvature_batch(self.curvature_batch, batch, draw, rng)
        G = gauss_newton(objective, theta, data)

        # the subspace
        V, T = krylov_basis(G, g, state["d"], self.dimension)
        B = rounded(V, T, self.floor)

        # the best of it
        search = curvature_batch(self.search_batch, batch, draw, rng)
        f = lambda a: _value_and_grad(objective, theta, B, a, search)
        start = (loss, _host(B @ g)) if self.search_batch is None else f(_host(xp.zeros(len(B))))
        a, calls = minimize(f, start, self.maxiter, self.rtol)
        evaluations = calls + (self.search_batch is not None)
        taken = bool(a.any())
        d = asarray(a, dtype=theta.dtype) @ B

        samples = batch[0].shape[0]
        metric_work = data[0].shape[0] / samples * (1 + 4 * len(B)) / 3
        log = {
            "loss": loss,
            "gradient_norm": math.sqrt(item(dot(g, g))),
            "dimension": len(B),
            "evaluations": evaluations,
            "taken": float(taken),
            "gradients": 1 + metric_work + search[0].shape[0] / samples * evaluations,
        }
        return (theta + d if taken else theta), {"update": state["update"] + 1, "d": d}, log


def krylov_basis(G, g, last, dimension):
    """(V, T): V (m, n) orthonormal rows that span g, Gg, ..., G^(K-1) g and `last`; T = V G V', (m, m).

    m is K + 1, less where the space is exhausted before, or `last` lies in it (or is zero).
    """
    V = xp.empty((dimension + 1, g.shape[0]), g.dtype)
    T = xp.zeros((dimension + 1, dimension + 1), g.dtype)

    def multiply(m):
        """G times row m, and T's row m from it."""
        w = G.matvec(V[m])
        T[m, : m + 1] = T[: m + 1, m] = V[: m + 1] @ w
        return w

    m, u, size = 0, g, _length(g)
    while m < dimension and _orthonormalize(V, m, u, size):
        u = multiply(m)
        # a product's rounding errors are of the size of G, not of the product: it may be short
        size = _length(u) if m == 0 else max(size, _length(u))
        m += 1
    if _orthonormalize(V, m, last, _length(last)):
        multiply(m)
        m += 1
    return V[:m], T[:m, :m]


def _orthonormalize(V, m, u, size):
    """Write u, less its part in the first m rows of V, at length 1 into row m.

    False where only rounding is left of it; size: of the numbers that u is made of.
    """
    for _ in range(2):  # once leaves rounding errors times |u| / |rest|; twice is enough (Kahan, in Parlett 1980)
        u = u - (V[:m] @ u) @ V[:m]
    rest = _length(u)
    if not math.isfinite(rest):
        raise FloatingPointError(f"Krylov subspace: vector {m} is not finite")
    if rest <= 100 * float(xp.finfo(u.dtype).eps) * size:
        return False
    V[m] = u * (1.0 / rest)
    return True


def _length(u):
    return math.sqrt(item(dot(u, u)))


def rounded(V, T, floor):
    """B = S V with S = T^(-1/2), the eigenvalues of T raised to floor times the largest; V itself where T is zero."""
    if len(V) == 0:
        return V
    e, Q = xp.linalg.eigh(T)
    e = xp.where(e[-1] > 0, xp.maximum(e, floor * e[-1]), 1)
    return ((Q * e**-0.5) @ Q.T).astype(V.dtype) @ V


def minimize(f, first, maxiter, rtol):
    """(a, calls): the best point that SciPy's BFGS meets on its way from 0, and how often f ran.

    f(a) -> (value, gradient) on the host; first is f(0). Stops when the gradient's largest entry has fallen by rtol.
    """
    zero = 0.0 * first[1]
    if zero.size == 0:
        return zero, 0
    from scipy import optimize

    met = [(first[0], zero)]

    def remembered(a):
        if not a.any():
            return first
        value, gradient = f(a)
        met.append((value, a.copy()))
        return value, gradient

    options = {"maxiter": maxiter, "gtol": rtol * abs(first[1]).max()}
    optimize.minimize(remembered, zero, jac=True, method="BFGS", options=options)
    return min(met, key=lambda point: point[0])[1], len(met) - 1


def _value_and_grad(objective, theta, B, a, batch):
    """f(theta + B'a) and its gradient in a, on the host in float64; (inf, 0) where f overflows."""
    try:
        value, g = objective.value_and_grad(theta + asarray(a, dtype=theta.dtype) @ B, batch)
    except FloatingPointError:
        return math.inf, 0.0 * a
    return value, _host(B @ g)


def _host(vector):
    return to_host(vector).astype("float64")

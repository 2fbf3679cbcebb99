"""(G + lam I) x = b solved exactly where G = P' W P has few rows: in the space of samples (Woodbury, push-through).

W = C / N, with C = I, or centred C = I - 11'/N, a projection. K = P P' is the Gram matrix, which the layers give
without forming P or J (`SampleGradients.gram`). For any b,

    (G + lam I)^-1 b = (b - P' w) / lam,      w = C s,    (C K C + N lam I) s = C P b

Where b = P' c is known, there is a form without that difference of vectors which nearly cancel: with G uncentred,

    (G + lam I)^-1 P' c = P' z,               (K + N lam I) z = N c

and with G centred, which is the uncentred one less g g' with g = P' 1/N (Sherman-Morrison), P' applied to

    z + z1 (sum c - lam sum z) / (lam sum z1),          (K + N lam I) z1 = 1

A batch's gradient is P' 1/N of its own per-sample gradients, so this is the step of the empirical Fisher and of TONGA.
Then z = z1: whether the covariance is centred changes the length of the step alone, by 1 / (lam sum z).
"""

import math
from dataclasses import dataclass

from ..backend import is_array, item, xp
from ..linalg.cholesky import cholesky, cholesky_solve
from ..linalg.vectors import combine, dot
from .samples import SampleMetric


@dataclass(frozen=True)
class DirectInfo:
    """What a direct solve did.

    rows: size of the system that was factored. condition: of G + lam I, at most 1 + trace(P'P / N) / lam.
    quadratics: phi(x) = x'(G + lam I)x / 2 - b'x at 0 and at the solution. iterations: none were made.
    """

    rows: int
    condition: float
    quadratics: list
    reason: str = "direct"
    iterations: int = 0
    converged: bool = True


def sample_space_solve(G, b, lam):
    """x with (G + lam I) x = b, for a SampleMetric G and b (n,). Returns (x, DirectInfo).

    Cost: the Gram matrix, one product with P and one with P' (a product of G), a Cholesky factor of rows x rows, in
    float64 whatever theta's dtype. The residual is about the precision of theta's dtype times info.condition.
    Raises ValueError for lam <= 0 or b of another shape, TypeError for another G; NotImplementedError where the net has
    parameters other than affine layers' (`affine_layers` says why); FloatingPointError for non-finite numbers;
    ArithmeticError where lam is lost in the rounding of G.
    """
    _check(G, lam)
    _check_vector("b", b, G.shape[0])
    P, wide = G.P, xp.float64
    A = G.centre(G.centre(P.gram().astype(wide)).T)
    L, condition = _factor(A, lam, b.dtype)
    w = G.centre(cholesky_solve(L, G.centre(P.matvec(b).astype(wide))))
    x = P.rmatvec((w * (1.0 / lam)).astype(b.dtype))
    combine(x, b * (1.0 / lam), -1.0)
    return x, _info(P, condition, dot(b, x))


def row_space_solve(G, c, lam):
    """x with (G + lam I) x = P' c, for a SampleMetric G = P' W P and c, one number a row of P. Returns (x, DirectInfo).

    Uncentred, with linearly independent rows, the residual is about theta's precision however small lam is. Cost and
    errors are those of `sample_space_solve`, less the product with P.
    """
    _check(G, lam)
    _check_vector("c", c, G.P.shape[0])
    P, N = G.P, G.P.shape[0]
    K, c = P.gram().astype(xp.float64), c.astype(xp.float64)
    L, condition = _factor(K.copy(), lam, P.dtype)
    z = cholesky_solve(L, N * c)
    if G.centred:
        z1 = cholesky_solve(L, xp.ones_like(c))
        z = z + z1 * ((c.sum() - lam * z.sum()) / (lam * z1.sum()))
    return P.rmatvec(z.astype(P.dtype)), _info(P, condition, dot(c, K @ z))


def _factor(A, lam, dtype):
    """(L, condition) with L L' = A + N lam I for A (N, N), which gets N lam added in place."""
    N = A.shape[0]
    trace, diagonal = item(xp.trace(A)), xp.arange(N)
    if not math.isfinite(trace):
        raise FloatingPointError(f"sample space: the Gram matrix is not finite, its trace is {trace}")
    A[diagonal, diagonal] += N * lam
    L = cholesky(A)
    if L is None:
        raise ArithmeticError(
            f"sample space: G + lam I is not positive definite in {dtype}: lam = {lam:g} is lost in the rounding of G, "
            f"whose trace is {trace / N:.3g}; take a larger lam, or theta in float64"
        )
    return L, 1 + trace / (N * lam)


def _info(P, condition, b_x):
    b_x = item(b_x)
    if not math.isfinite(b_x):
        raise FloatingPointError(f"sample space: b'x is {b_x}, though G is finite")
    return DirectInfo(P.shape[0], condition, [0.0, -0.5 * b_x])


def _check(G, lam):
    if not isinstance(G, SampleMetric):
        raise TypeError(f"sample space: G must be a SampleMetric (mc or empirical Fisher, covariance), got {G!r}")
    if not (lam > 0 and math.isfinite(lam)):
        raise ValueError(f"sample space: lam must be positive and finite, got {lam}")


def _check_vector(name, vector, size):
    if not is_array(vector):
        raise TypeError(f"sample space: {name} must be an array of the active backend, got {type(vector).__name__}")
    if vector.shape != (size,):
        raise ValueError(f"sample space: {name} must have shape ({size},), got {vector.shape}")

"""Conjugate gradients for positive (semi-)definite systems, as truncated Newton methods need them.

Hestenes & Stiefel (1952); preconditioned form of Nocedal & Wright (2006), algorithm 5.3, with three additions
from Martens (2010): a stop by relative progress of the quadratic, stored iterates to backtrack over, and an exit at
negative curvature instead of a division by it.

Scalars stay on the device: one host read an iteration decides whether to go on, and none is made when nothing can
stop the iteration (rtol = atol = 0, no stop rule, no callback): it then runs exactly maxiter times.

Symbols: r residual b - A x; z = M r preconditioned residual; p search direction; alpha step; beta how much of the last
direction stays; phi(x) = x'Ax/2 - b'x, the quadratic that CG minimizes.
"""

import math

from ..backend import to_host, xp
from .info import Info, checked
from .vectors import advance, combine, dot


def cg(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None, stop=None, store=()):
    """Solve A x = b for symmetric positive (semi-)definite A by products with A alone. Returns (x, Info).

    A, M: operators (ours, SciPy's, or dense arrays) of shape (n, n); M approximates the inverse of A. b, x0: (n,).
    Stops when ||b - A x|| <= max(rtol ||b||, atol), as SciPy's cg, or by `stop(quadratics)`, or after maxiter (10 n).
    store: iteration numbers whose x is kept in info.iterates. callback(x) after each iteration, as in SciPy; x is the
    live vector: copy it to keep it. On a singular, compatible system CG gives a solution; on an incompatible one it
    ends with "maxiter" or "negative curvature" and says so.
    Raises ValueError for wrong shapes or an operator of ours not tagged psd, FloatingPointError for non-finite numbers.
    """
    A, M = checked("cg", A, b, x0, M, tag="psd", instead="; for indefinite ones use minres")
    n = b.shape[0]
    maxiter = 10 * n if maxiter is None else maxiter
    store = frozenset(store)
    reads = rtol > 0 or atol > 0 or stop is not None or callback is not None
    precondition = M.matvec if M is not None else None

    x = xp.zeros_like(b) if x0 is None else x0.astype(b.dtype, copy=True)
    r = b.copy() if x0 is None else b - A.matvec(x)
    z = r if precondition is None else precondition(r)
    p = z.copy()
    rz, rr, bb = dot(r, z), dot(r, r), dot(b, b)
    phi = xp.zeros_like(rr) if x0 is None else -0.5 * (dot(x, r) + dot(x, b))
    tests = _Tests(rtol, atol, stop, bb if reads else None)
    history = [xp.stack([rr, phi, xp.ones_like(rr)])]
    reason = tests.first(history[0]) if reads else None
    if reason == "zero right-hand side":  # whatever x0 was
        x, history = xp.zeros_like(b), [xp.zeros_like(history[0])]

    iterates, i = {}, 0
    alive = rr == rr  # on the device: no negative curvature so far
    while reason is None and i < maxiter:
        Ap = A.matvec(p)
        pAp = dot(p, Ap)
        alive = xp.logical_and(alive, pAp > 0)
        alpha = xp.where(alive, rz / xp.where(alive, pAp, 1), 0).astype(b.dtype)
        rr = advance(x, r, p, Ap, alpha)
        phi = phi - 0.5 * alpha * rz  # phi falls by (r'z)^2 / 2p'Ap along a conjugate direction
        history.append(xp.stack([rr, phi, pAp]))
        i += 1
        if reads:
            reason = tests.after(history)
            if reason == "negative curvature":
                break
        if i in store:
            iterates[i] = x.copy()
        if callback is not None:
            callback(x)
        z = r if precondition is None else precondition(r)
        rz_new = rr if precondition is None else dot(r, z)
        beta = xp.where(rz > 0, rz_new / xp.where(rz > 0, rz, 1), 0).astype(b.dtype)
        combine(p, z, beta)
        rz = rz_new
    return x, _info(history, reason, i, iterates)


class _Tests:
    """The stopping tests: one read of the device a call."""

    def __init__(self, rtol, atol, stop, bb):
        self.rtol, self.atol, self.stop = rtol, atol, stop
        self.b_norm = None if bb is None else math.sqrt(float(to_host(bb)))
        self.quadratics = []

    def first(self, row):
        if self.b_norm == 0.0:
            return "zero right-hand side"
        return self.after([row])

    def after(self, history):
        rr, phi, pAp = (float(value) for value in to_host(history[-1]))
        if not all(map(math.isfinite, (rr, phi, pAp, self.b_norm))):
            raise FloatingPointError(
                f"cg: non-finite numbers at iteration {len(history) - 1} "
                f"(residual^2 {rr}, p'Ap {pAp}, |b| {self.b_norm})"
            )
        self.quadratics.append(phi)
        if pAp <= 0:
            return "negative curvature"
        if math.sqrt(rr) <= self.rtol * self.b_norm:
            return "rtol"
        if math.sqrt(rr) <= self.atol:
            return "atol"
        return "progress" if self.stop is not None and self.stop(self.quadratics) else None


def _info(history, reason, iterations, iterates):
    rows = to_host(xp.stack(history))
    if reason is None:
        reason = "maxiter"
        if not all(map(math.isfinite, rows.ravel().tolist())):
            raise FloatingPointError(f"cg: non-finite numbers within {iterations} iterations")
        if (rows[:, 2] <= 0).any() and rows[-1, 0] > 0:
            reason = "negative curvature"
    return Info(
        iterations=iterations,
        reason=reason,
        residuals=[math.sqrt(rr) for rr in rows[:, 0].tolist()],
        quadratics=rows[:, 1].tolist(),
        curvature=rows[1:, 2].tolist(),
        iterates=iterates,
    )

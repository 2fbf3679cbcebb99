"""MINRES for symmetric systems, definite or not (Paige & Saunders 1975).

The iterate x_k makes ||b - A x|| smallest over the Krylov space of b, A b, .. A^{k-1} b. With A V_k = V_{k+1} T_k from
the Lanczos process and Q T_k = R from reflections, x_k = V_k R^-1 t = D_k t: a new direction d_k a step, from three
terms, and x_k = x_{k-1} + tau_k d_k.

Symbols: r residual b - A x; v Lanczos vector; d direction; M the preconditioner; the scalars are in qlp.py.
"""

import math

from ..backend import xp
from .info import SOLVED, Info, checked
from .lanczos import Process
from .operator import Wrapped, identity
from .qlp import QLP
from .vectors import dot, mix

ROUNDING = 1000.0  # times eps (||A|| ||x|| + ||b||): a residual up to this is taken for what rounding leaves,
GROSS = 0.01  # but never one above this share of ||b||
SINGULAR = 0.01  # over eps: a condition estimate beyond it says that A is singular


def minres(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, shift=0.0, callback=None, stop=None, store=()):
    """Solve (A - shift I) x = b for symmetric A by products with A alone. Returns (x, Info).

    A, M: operators (ours, SciPy's, or dense arrays) of shape (n, n). M approximates the inverse of A, as SciPy's does,
    and must be positive definite; every norm below is then that of the preconditioned system, ||r|| = sqrt(r'Mr).
    Stops when ||r|| <= max(rtol ||b||, atol); when ||A r|| <= rtol ||A|| ||r||, "least squares"; when ||r|| has sunk to
    eps (||A|| ||x|| + ||b||), "precision"; by `stop(quadratics)`; when A's condition estimate passes 0.01 / eps,
    "max_condition" ("precision", if r is small enough by then); or after maxiter (10 n). store, callback: as in cg.
    On an incompatible system x is a least-squares solution, not the shortest: for that use minres_qlp. rtol below about
    sqrt(eps) is out of reach there: it ends as "max_condition", with a long x.
    rtol decides what counts as zero: a system with eigenvalues below rtol ||A|| may end as "least squares".
    One product at the end makes the last residual and quadratic true ones (a second, for a least-squares solution,
    ||A r||); if they belie the estimates, the reason is "inaccurate": A is too ill conditioned for this solver
    (minres_qlp does better), or it is not symmetric.
    Raises ValueError for wrong shapes, an operator of ours not tagged symmetric (a foreign one is taken at its word) or
    a preconditioner with r'Mr < 0, FloatingPointError for non-finite numbers.
    """
    run = Run("minres", A, b, x0, rtol, atol, maxiter, M, shift, callback, stop, store)
    while run.reason is None:
        qlp, beta = run.step()
        run.reason = run.singular() or ("max_condition" if qlp.condition > run.limit else None)
        if run.reason is None:  # else x_{k-1} it is
            run.mix(direction(qlp, beta))
            run.after(lambda: run.x)
    return run.report(run.x)


def direction(qlp, beta):
    """The step from (x, d_{k-2}, d_{k-1}, y_k = beta_k v_k) to (x, d_{k-1}, d_k), as a matrix.

    d_k = (v_k - epsilon d_{k-2} - delta d_{k-1}) / gamma and x += tau d_k.
    """
    d = [0.0, -qlp.epsilon / qlp.gamma, -qlp.delta / qlp.gamma, 1 / (beta * qlp.gamma)]
    x = [1.0, *(qlp.tau * entry for entry in d[1:])]
    return [x, [0.0, 0.0, 1.0, 0.0], d]


class Run:
    """What minres and minres_qlp share: the start, a Lanczos step, the stopping tests, the report.

    x and two directions stand as rows 1, 2, 3 of one array, between the two vectors of the Lanczos process. So the
    vector that a step needs stands next to them on one side or the other, and the step is one small matrix product.
    """

    def __init__(self, solver, A, b, x0, rtol, atol, maxiter, M, shift, callback, stop, store):
        A, M = checked(solver, A, b, x0, M, tag="symmetric")
        n = b.shape[0]
        A = A if A.symmetric else Wrapped(A, symmetric=True)  # foreign: taken at its word
        M = M if M is None or M.symmetric else Wrapped(M, symmetric=True)
        self.A = A if shift == 0 else A + (-shift) * identity(n)
        self.M, self.b, self.rtol, self.stop, self.callback = M, b, rtol, stop, callback
        self.start = x0
        self.maxiter, self.store = 10 * n if maxiter is None else maxiter, frozenset(store)
        self.eps = float(xp.finfo(b.dtype).eps)
        self.limit = SINGULAR / self.eps

        self.rows = xp.zeros((5, n), b.dtype)
        self.x = self.rows[1]
        self.ends = self.rows[0], self.rows[4]
        ends = self.ends if M is None else tuple(xp.zeros((2, n), b.dtype))
        ends[1][:] = b
        known = []  # of the start: ||b||^2 and -2 phi(x_0), unless they follow from ||r||
        if x0 is not None:
            self.x[:] = x0
            ends[1][:] -= self.A.matvec(self.x)
            known = [dot(b, b if M is None else M.matvec(b)), dot(self.x, b) + dot(self.x, ends[1])]
        self.process = Process(solver, self.A, ends, M)
        beta, *known = self.process.begin(*known)
        self.b_norm = math.sqrt(known[0]) if known else beta
        self.tolerance = max(rtol * self.b_norm, atol)
        self.qlp = QLP(beta)
        self.residuals, self.a_residuals, self.iterates = [beta], [], {}
        self.quadratics = [-0.5 * known[1] if known else 0.0]
        self.k, self.reason = 0, None
        if self.b_norm == 0:  # whatever x0 was
            self.x[:] = 0
            self.reason, self.residuals, self.quadratics = "zero right-hand side", [0.0], [0.0]
        self._test()

    def step(self):
        """One Lanczos step and its column of the factorization; returns that, and beta_k."""
        beta = self.process.beta
        self.qlp.column(*self.process.step())
        self.a_residuals.append(self.qlp.phi_old * self.qlp.decay)
        return self.qlp, beta

    def singular(self):
        """ "least squares" if A r_{k-1} counts as zero, else None."""
        return "least squares" if self.qlp.decay <= max(self.rtol, self.eps) * self.qlp.norm else None

    def mix(self, C):
        """x and the two directions become C times (x, directions, y_k)."""
        y, rows = self.process.used, self.rows
        if self.M is not None:
            rows[4][:] = y
        above = y is self.ends[0]
        if above:
            C = [[row[-1], *row[:-1]] for row in C]
        mix(xp.asarray(C, rows.dtype), rows[:4] if above else rows[1:], rows[1:4])

    def after(self, form):
        """Note what iteration k has reached; form() gives its x."""
        self.k += 1
        self.residuals.append(self.qlp.phi)
        self.quadratics.append(self.quadratics[0] + self.qlp.quadratic)
        self._test()
        if self.k in self.store or self.callback is not None:
            x = form()
            if self.k in self.store:
                self.iterates[self.k] = x.copy()
            if self.callback is not None:
                self.callback(x)

    def _test(self):
        if self.reason is not None:
            return
        phi = self.residuals[-1]
        if phi <= self.rtol * self.b_norm:
            self.reason = "rtol"
        elif phi <= self.tolerance:
            self.reason = "atol"
        elif self.k > 0 and phi <= self.eps * (self.qlp.norm * self.qlp.length + self.b_norm):
            self.reason = "precision"
        elif self.stop is not None and self.stop(self.quadratics):
            self.reason = "progress"
        elif self.k >= self.maxiter:
            self.reason = "maxiter"

    def report(self, x, refine=None):
        """x and Info, after a look at the true residual. refine(run): a better x, if it is least-squares."""
        qlp, estimates = self.qlp, {}
        if qlp.k > 0:
            estimates = {"norm": qlp.norm, "condition": qlp.condition}
            r, floor = self._look(x)
            if self.reason in ("least squares", "max_condition") and self.residuals[-1] <= max(self.tolerance, floor):
                self.reason = "rtol"  # no matter how singular A looks: x is a solution
            if self.reason == "least squares":
                if refine is not None:
                    x = refine(self)
                    r, floor = self._look(x)
                self._verify_least_squares(r, floor)
            elif self.reason in SOLVED and (self.reason == "precision" or self.residuals[-1] > 2 * self.tolerance):
                self.reason = "precision" if self.residuals[-1] <= floor else "inaccurate"
        return x.copy(), Info(
            iterations=self.k,
            reason=self.reason,
            residuals=self.residuals,
            quadratics=self.quadratics,
            a_residuals=self.a_residuals,
            iterates=self.iterates,
            **estimates,
        )

    def precondition(self, v):
        """M v, or v."""
        return v if self.M is None else self.M.matvec(v)

    def _look(self, x):
        """r and the norm to which rounding leaves it; notes ||r|| and phi(x)."""
        r = self.b - self.A.matvec(x)
        rr, xx, bx, rx = self.process.read(dot(r, self.precondition(r)), dot(x, x), dot(self.b, x), dot(r, x))
        self.residuals[-1], self.quadratics[-1] = math.sqrt(max(rr, 0.0)), -0.5 * (bx + rx)
        length = math.sqrt(xx) if self.M is None else self.qlp.length
        return r, min(ROUNDING * self.eps * (self.qlp.norm * length + self.b_norm), GROSS * self.b_norm)

    def _verify_least_squares(self, r, floor):
        p = self.A.matvec(self.precondition(r))
        (pp,) = self.process.read(dot(p, self.precondition(p)))
        self.a_residuals[self.k :] = [math.sqrt(max(pp, 0.0))]
        small = self.qlp.norm * (2 * max(self.rtol, self.eps) * self.residuals[-1] + floor)
        if self.a_residuals[-1] > small:
            self.reason = "inaccurate"

"""MINRES-QLP for symmetric systems, indefinite or singular: the shortest solution, or least-squares solution.

Choi, Paige & Saunders (2011), SIAM J. Sci. Comput. 33(4); Choi & Saunders (2014), algorithm 937, ACM TOMS 40(2). Where
MINRES solves R y = t and x = V y, which fails as R becomes singular, MINRES-QLP turns R into L = R P by reflections
from the right, solves L u = t, and x = W u with W = V P. W has orthonormal columns, so nothing grows that x does not
need, and a last entry of u that belongs to a zero of L is left out.

As long as A looks well conditioned the cheaper recurrence of MINRES is followed; D L = W turns its directions into W's.
Symbols: as in minres.py and qlp.py; w a column of W; f the sum of w_j u_j that are final (j <= k - 2), x_0 included.
"""

import math
from functools import partial

from .minres import Run, direction


def minres_qlp(
    A,
    b,
    x0=None,
    *,
    rtol=1e-5,
    atol=0.0,
    maxiter=None,
    M=None,
    shift=0.0,
    callback=None,
    stop=None,
    store=(),
    transfer=1e3,
    max_norm=float("inf"),
    max_condition=float("inf"),
):
    """Solve (A - shift I) x = b for symmetric A, shortest x among all that make ||b - A x|| smallest. (x, Info).

    Arguments, tests, reasons and errors as in `minres`, and:
    transfer: the condition estimate at which the recurrence changes from MINRES to MINRES-QLP (1: at once). The paper
    has 1e7; by then MINRES's x has lost some digits, and here both recurrences cost the same.
    max_norm, max_condition: the first iterate with ||x - x0|| or the condition estimate beyond it drops the component
    that led there, and ends the solve with the reason of that name. A condition beyond 0.01 / eps counts as singular.
    With x0 it is the correction x - x0 that is shortest, and with M the norm is sqrt(x'M^-1 x): M^(-1/2) x is the
    shortest solution of the preconditioned system.
    On a compatible system x is right to about condition eps, if rtol asks for it. On an incompatible one
    ("least squares") to about condition^2 max(rtol, eps); where rtol < sqrt(eps) that takes a second solve with A M A,
    of at most 10 maxiter iterations (not in info.iterations).
    """
    run = Run("minres_qlp", A, b, x0, rtol, atol, maxiter, M, shift, callback, stop, store)
    return run.report(iterate(run, transfer, max_norm, max_condition), refine if rtol < math.sqrt(run.eps) else None)


def iterate(run, transfer, max_norm=float("inf"), max_condition=float("inf")):
    """Run until there is a reason to stop; returns x."""
    transferred = False
    while run.reason is None:
        qlp, beta = run.step()
        run.reason = run.singular()
        if qlp.condition > run.limit:
            run.reason = "least squares"
        elif run.reason is None and qlp.condition > max_condition:
            run.reason = "max_condition"
        elif run.reason is None and qlp.length > max_norm:
            run.reason = "max_norm"
        if run.reason is not None:
            qlp.truncate()
        if not transferred and (run.reason is not None or qlp.condition >= transfer):
            run.mix(change(*qlp.before))
            transferred = True
        run.mix(rotation(qlp, beta) if transferred else direction(qlp, beta))
        run.after(partial(form, run, transferred))
    return form(run, transferred)


def refine(run):
    """The shortest least-squares solution, where ||A r|| was to be below sqrt(eps) ||A|| ||r||.

    b's residual tends to a null vector of A, and as the Lanczos process finds it, it loses orthogonality to it (Paige
    1971): near sqrt(eps) ||A r|| turns and rises again. A M A d = A M r_0 has the same solution and is compatible.
    """
    A, M, b = run.A, run.M, run.b
    r = b if run.start is None else b - A.matvec(run.start)
    square = A @ A if M is None else A @ M @ A
    z = A.matvec(run.precondition(r))
    inner = Run("minres_qlp", square, z, None, 0.0, 0.0, 10 * run.maxiter, M, 0.0, None, None, ())
    d = iterate(inner, transfer=1.0)
    return d if run.start is None else run.start + d


def change(gamma_before, theta, gamma, u_before, u):
    """(x, d_{k-2}, d_{k-1}, .) to (f, w_{k-2}, w_{k-1}), as a matrix: W = D L, before column k is taken in."""
    w_before, w = [0.0, gamma_before, theta, 0.0], [0.0, 0.0, gamma, 0.0]
    f = [1.0, *(-u_before * p - u * q for p, q in zip(w_before[1:], w[1:], strict=True))]
    return [f, w_before, w]


def rotation(qlp, beta):
    """(f, w_{k-2}, w_{k-1}, y_k = beta_k v_k) to (f, w_{k-1}, w_k), as a matrix.

    P_{k-2,k} mixes w_{k-2} and v_k, P_{k-1,k} mixes w_{k-1} and what came of v_k; w_{k-2} is final and goes into f.
    """
    (c2, s2), (c3, s3) = qlp.left, qlp.right
    u = qlp.first.u
    f = [1.0, u * c2, 0.0, u * s2 / beta]
    w_before = [0.0, s3 * s2, c3, -s3 * c2 / beta]
    w = [0.0, -c3 * s2, s3, c3 * c2 / beta]
    return [f, w_before, w]


def form(run, transferred):
    """x_k = f + u_{k-1} w_{k-1} + u_k w_k."""
    if not transferred:
        return run.x
    x, w_before, w = run.rows[1:4]
    return x + run.qlp.second.u * w_before + run.qlp.third.u * w

"""What the solvers have in common: their arguments, their report, a rule to stop by progress."""

import math
from dataclasses import dataclass, field

from ..backend import is_array
from .operator import LinearOperator, as_operator

SOLVED = ("rtol", "atol", "precision", "zero right-hand side")  # the residual is small: b lies in A's range


@dataclass(frozen=True)
class Info:
    """What a solve did.

    reason: why it stopped. All: "rtol", "atol" (the residual is small enough), "progress" (the stop rule), "maxiter",
    "zero right-hand side" (x is zero). cg: "negative curvature" (p'Ap <= 0: x is the iterate before it). minres,
    minres_qlp: "least squares" (A r is small, r is not), "precision" (r is what rounding leaves), "max_condition",
    "max_norm" (the bounds given), "inaccurate" (the estimates say solved, the true residual does not).
    residuals: the norm of r = b - A x before each iteration and after the last; with a preconditioner M, minres and
    minres_qlp report sqrt(r'Mr). The last of minres and minres_qlp is computed from x, all others are recurrences.
    quadratics: phi(x) = x'Ax/2 - b'x likewise. a_residuals: the norms of A r (cg: none), one for each residual but
    the last; a least-squares solution adds that one, computed from x. iterates: {iteration: x} as asked for.
    curvature: p'Ap of each iteration (cg). norm, condition: estimates of ||A|| and ||A|| ||A^+|| from below
    (of M^(1/2) A M^(1/2) with a preconditioner; cg: None).
    """

    iterations: int
    reason: str
    residuals: list
    quadratics: list
    a_residuals: list = field(default_factory=list)
    curvature: list = field(default_factory=list)
    iterates: dict = field(default_factory=dict, repr=False)
    norm: float | None = None
    condition: float | None = None

    @property
    def converged(self):
        """Is x what was asked for: a solution, a least-squares solution, or as good as the stop rule wanted it?"""
        return self.reason in (*SOLVED, "progress", "least squares")

    @property
    def compatible(self):
        """Does A x = b have a solution, as far as the solve can tell? None if it stopped before it knew."""
        return True if self.reason in SOLVED else False if self.reason == "least squares" else None

    @property
    def quadratic(self):
        """phi(x) of the x returned."""
        return self.quadratics[-1]

    @property
    def residual(self):
        """The residual's norm at the x returned."""
        return self.residuals[-1]


@dataclass(frozen=True)
class MartensStop:
    """Stop when phi has gained less than k eps, relatively, over the last k iterations (Martens 2010, section 4.4).

    (phi_i - phi_{i-k}) / phi_i < k eps with k = max(least, fraction i), once phi_i < 0 and i > k.
    """

    eps: float = 5e-4
    least: int = 10
    fraction: float = 0.1

    def __call__(self, quadratics):
        """quadratics: phi_0 .. phi_i. Stop now?"""
        i = len(quadratics) - 1
        k = max(self.least, math.ceil(self.fraction * i))
        if i <= k or quadratics[i] >= 0:
            return False
        return (quadratics[i] - quadratics[i - k]) / quadratics[i] < k * self.eps


def checked(solver, A, b, x0, M, *, tag, instead=""):
    """A and M as operators; A, if it is ours, must carry `tag`. Raises what the solvers promise, by their name."""
    for name, vector in (("b", b), ("x0", x0)):
        if vector is not None and not is_array(vector):
            raise TypeError(f"{solver}: {name} must be an array of the active backend, got {type(vector).__name__}")
    if b.ndim != 1:
        raise ValueError(f"{solver}: b must be a vector, got shape {b.shape}")
    if b.dtype.kind != "f":
        raise TypeError(f"{solver}: b must hold floating-point numbers, got {b.dtype}")
    ours = isinstance(A, LinearOperator)
    A, M = as_operator(A), None if M is None else as_operator(M)
    if ours and not getattr(A, tag):
        raise ValueError(f"{solver}: needs an operator tagged {tag}, got {A!r}{instead}")
    for name, operator in (("A", A), ("M", M)):
        if operator is not None and tuple(operator.shape) != (b.shape[0], b.shape[0]):
            size = (b.shape[0], b.shape[0])
            raise ValueError(f"{solver}: {name} must be {size} for b {b.shape}, got {operator.shape}")
    if x0 is not None and x0.shape != b.shape:
        raise ValueError(f"{solver}: x0 must have b's shape {b.shape}, got {x0.shape}")
    return A, M

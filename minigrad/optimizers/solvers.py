"""How (G + lam I) d = b is solved: policies that get the metric G and the damping lam apart, and return (d, info).

    solver(G, lam, b, x0) -> d, info        info.quadratics[-1] is phi(d) = d'(G + lam I)d / 2 - b'd
    solver.work(info)                       what the solve cost, in gradients of the metric's batch

Apart, because a solve in the space of samples needs the structure of G, which G + lam I hides. phi comes out of every
solve for nothing; the optimizer has from it what the model promises, without a further product.
"""

from dataclasses import dataclass, field

from ..curvature import sample_space_solve
from ..linalg import MartensStop, cg, identity, minres, minres_qlp
from .checks import check_counts, check_numbers


@dataclass(frozen=True)
class Iterative:
    """What the iterative solvers share: at most maxiter products, until `stop` sees no progress or ||r|| <= rtol ||b||.

    They start from x0. MINRES-QLP gives the minimum-length solution of a singular system only from x0 = 0.
    """

    maxiter: int = 50
    rtol: float = 0.0
    stop: MartensStop | None = field(default_factory=MartensStop)

    def __post_init__(self):
        check_counts(type(self).__name__, maxiter=self.maxiter)
        check_numbers(type(self).__name__, "a number in [0, 1)", lambda value: 0 <= value < 1, rtol=self.rtol)

    def __call__(self, G, lam, b, x0):
        """(d, info) of (G + lam I) d = b."""
        A = G + lam * identity(b.shape[0]) if lam else G
        return self.solve(A, b, x0, rtol=self.rtol, maxiter=self.maxiter, stop=self.stop)

    def work(self, info):
        """In gradients: a product is an R-op and an L-op, 4/3."""
        return 4 * info.iterations / 3


@dataclass(frozen=True)
class ConjugateGradient(Iterative):
    """Conjugate gradients, for positive definite systems: phi falls with every iteration."""

    solve = staticmethod(cg)


@dataclass(frozen=True)
class Minres(Iterative):
    """MINRES (Paige & Saunders 1975): the residual falls with every iteration."""

    solve = staticmethod(minres)


@dataclass(frozen=True)
class MinresQLP(Iterative):
    """MINRES-QLP (Choi, Paige & Saunders 2011), right on singular systems too; Pascanu & Bengio's solver."""

    solve = staticmethod(minres_qlp)


@dataclass(frozen=True)
class SampleSpace:
    """Exactly, by a Cholesky factor of one row a sample: for metrics made of per-sample gradients, not "exact"."""

    def __call__(self, G, lam, b, x0):
        """(d, info) of (G + lam I) d = b; x0 plays no part."""
        return sample_space_solve(G, b, lam)

    def work(self, info):
        """In gradients: P b and P' w are one product, 4/3; the Gram matrix is counted as another."""
        return 8 / 3

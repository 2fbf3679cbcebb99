"""Natural gradient by gradient descent (Benjamin et al. 2018, algorithm 2; 2019, algorithm 3).

The natural gradient step minimizes the linearized loss and a penalty on the change of the output distribution,

    C(d) = g'd + lam/2 d'F d + delta/2 |d|^2,      at its minimum (lam F + delta I) d = -g

(2018 eq. 4-5, which lose the minus sign). Instead of solving, descend C from what a base method proposes:

    d <- d - eta (g + (lam F + delta I) d),        n times

one product with F each. It converges from every start if eta < 2 / (lam mu + delta), mu the largest eigenvalue of F. A
Fisher matrix is singular: along its null space, where the printed form has delta = 0, d stays what the base proposed,
and where another batch measures F than the gradient's, it leaves by -eta g a correction and never settles.

The papers form F d = G (G'd) from the gradients of single samples. Here F d is an R-op, the loss's metric and an L-op:
exact, and nothing is stored for a sample.
"""

from dataclasses import dataclass

from ..backend import check_name
from ..curvature import fisher
from ..curvature.fisher import KINDS
from .checks import check_counts, check_nonnegative, check_positive
from .corrected import Corrected
from .metric_batch import check_batch, curvature_batch


@dataclass(frozen=True)
class NaturalDescent(Corrected):
    """The base's updates, corrected n times towards d = -(lam F + damping I)^-1 g.

    base, n, eta: see Corrected. lam: weight of the penalty. metric: F is "exact", "mc" (`samples` draws an input) or
    "empirical". metric_batch: None measures F on the gradient's own batch; or a number of other samples, or a function
    of rng such as Unlabeled(x, size). damping: delta.
    """

    lam: float = 1.0
    damping: float = 0.0
    metric: str = "exact"
    samples: int = 1
    metric_batch: object = None

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        check_positive(owner, lam=self.lam)
        check_nonnegative(owner, damping=self.damping)
        check_name("metric", self.metric, KINDS)
        check_counts(owner, samples=self.samples)
        check_batch(owner, metric_batch=self.metric_batch)
        if self.samples > 1 and self.metric != "mc":
            raise ValueError(f"{owner}: samples={self.samples} is for metric 'mc', got metric {self.metric!r}")
        if callable(self.metric_batch) and self.metric == "empirical":
            raise ValueError(f"{owner}: metric 'empirical' needs targets, which an unlabeled metric_batch has not")

    def inner(self, theta, g, objective, batch, draw, rng):
        """The slope, from one forward pass; a product with F costs 4/3 of a gradient."""
        x, t = curvature_batch(self.metric_batch, batch, draw, rng)
        data = (x, t) if self.metric == "empirical" else x
        F = fisher(objective, theta, data, self.metric, rng=rng, samples=self.samples)

        def slope(j, d):
            return g + self.lam * (F @ d) + self.damping * d

        return slope, x.shape[0] / batch[0].shape[0] * (1 / 3 + self.n * 4 / 3)

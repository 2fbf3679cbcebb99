"""TONGA, Le Roux's natural gradient: (C + lam I) d = -g with C the covariance of the samples' gradients.

    covariance   C = E[(g - E[g]) (g - E[g])']     Pascanu & Bengio, eq. 12; Le Roux et al. 2008
    empirical    U = E[g g']                       eq. 13, uncentred

It is not Amari's natural gradient, although it carries the same name (Pascanu & Bengio, section 4.1). g is the gradient
at the targets of the data: C says how much the samples disagree, and moves where they agree. Amari's G takes targets
from the model, and says how much its distribution changes; it needs no labels. C has rank N at most, G has N O.

On the gradient's own batch U = C + E[g] E[g]', so by Sherman and Morrison both directions are one, whatever lam is:

    (U + lam I)^-1 g = (C + lam I)^-1 g / (1 + g' (C + lam I)^-1 g),    g the batch's gradient

only the length differs: the step of U stays finite where C vanishes.
"""

from dataclasses import dataclass, field

from ..backend import check_name
from .damping import FixedDamping
from .natural_gradient import NaturalGradient
from .solvers import SampleSpace


@dataclass(frozen=True)
class TONGA(NaturalGradient):
    """theta -= lr (C + lam I)^-1 g, solved exactly in the space of samples.

    metric: "covariance" (centred) or "empirical" (uncentred). The default damping is Pascanu & Bengio's, section 8.5;
    everything else is NaturalGradient's.
    """

    damping: object = field(default_factory=lambda: FixedDamping(0.1))
    solver: object = field(default_factory=SampleSpace)
    metric: str = "covariance"

    def __post_init__(self):
        check_name("TONGA metric", self.metric, ("covariance", "empirical"))
        super().__post_init__()

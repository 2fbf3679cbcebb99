"""Hilbert-constrained gradient descent: updates that change the function little (Benjamin et al. 2018, algorithm 1).

A step d of the parameters changes the function that the net is, and that is penalized (2018 eq. 6; 2019 eq. 1):

    C(d) = g'd + lam P(d),    P = D  = sqrt(1/N sum_i |f_theta+d(x_i) - f_theta(x_i)|^2)    penalty "root", the boxes'
                              P = D2 = D^2                                                 penalty "mean", 2019 eq. 2

on a validation batch x_i, for a batch judges its own gradient badly. A base method proposes d_0, and n corrections
descend:

    as printed            d_1 = d_0 - eta lam grad P(d_0),     d_j = d_{j-1} - eta (g + lam grad P(d_{j-1}))
    damping delta         d_j = d_{j-1} - eta (g + lam grad P(d_{j-1}) + delta d_{j-1}),      j = 1, ..., n

The printed form has no g in its first correction. That is no slip if the proposal is SGD's, d_0 = -lr g: it minimizes
g'd + |d|^2 / (2 lr), so with damping 1 / lr the first g + d_0 / lr is 0 and both forms begin alike. But the printed
form goes on without the damping, and then C need have no minimum: P grows no faster than |d|, and not at all where d
leaves the function unchanged. With "mean" and damping, C has one: to second order in d the solution of

    (2 lam J'J / N + delta I) d = -g,    J the Jacobian of y, all samples and outputs

which is a damped natural gradient of a Gaussian with mean y (chapter 82). The box prints the loop as 1 < j < n, for
which n = 2 were one correction and n = 10 nine; n corrections are what its text counts, so j runs to n.
"""

from dataclasses import dataclass

from ..backend import check_name
from ..function_space import mean_square_and_grad, root_mean_square_and_grad
from .checks import check_nonnegative, check_positive
from .corrected import Corrected
from .metric_batch import check_batch, curvature_batch

PENALTIES = {"root": root_mean_square_and_grad, "mean": mean_square_and_grad}


@dataclass(frozen=True)
class HCGD(Corrected):
    """The base's updates, corrected n times towards d = argmin g'd + lam P(d) + delta |d|^2 / 2.

    base, n, eta: see Corrected. lam: weight of the penalty. penalty: "root" or "mean". validation: where P is measured,
    a number of further training samples, None for the gradient's own batch, or a function of rng such as
    Unlabeled(x, 256). fresh: another validation batch for every correction, at a forward pass more each.
    damping: delta, or None for the printed form.
    A proposal that changes nothing has a root penalty of slope 0, the shortest of its subgradients.
    """

    lam: float = 0.5
    penalty: str = "root"
    validation: object = 256
    fresh: bool = False
    damping: float | None = None

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        check_positive(owner, lam=self.lam)
        check_name("penalty", self.penalty, tuple(PENALTIES))
        check_batch(owner, validation=self.validation)
        if not isinstance(self.fresh, bool):
            raise ValueError(f"{owner}: fresh must be True or False, got {self.fresh!r}")
        if self.damping is not None:
            check_nonnegative(owner, damping=self.damping)

    def inner(self, theta, g, objective, batch, draw, rng):
        """The corrections' slopes. Each costs a gradient on its validation batch, f_theta there a third of one."""
        distance = PENALTIES[self.penalty]
        batches = [
            curvature_batch(self.validation, batch, draw, rng, what="validation batch")[0]
            for _ in range(self.n if self.fresh else 1)
        ]
        functions = [(x, objective.predict(theta, x)) for x in batches]

        def slope(j, d):
            _, change = distance(objective, theta + d, *functions[j - 1 if self.fresh else 0])
            if self.damping is not None:
                return g + self.lam * change + self.damping * d
            return self.lam * change if j == 1 else g + self.lam * change

        share = batches[0].shape[0] / batch[0].shape[0]
        return slope, share * (self.n + len(batches) / 3)

"""Damping lam: how far the quadratic model g'd + d'Gd / 2 is trusted. It enters a solve as the operator G + lam I.

lam is a number in the optimizer's state; these policies say where it starts, how it changes, and which steps are taken.
The operator is made anew from the state's lam in every update, so nothing accumulates when a rejected step is retried.

How good a model was is told by the reduction ratio, for a step s = eta d and the loss f:

    Martens (2010), section 4.1              rho = (f(theta + s) - f(theta)) / (g's + s'Gs / 2)      "quadratic"
    Pascanu & Bengio, eq. 30                 rho = (f(theta + s) - f(theta)) / g's                   "linear"

G is without lam in both. For the exact direction, G d = -g, the first denominator is 1 - eta / 2 times the second. So
the ratios do not "behave identically", as the paper says: where f is its quadratic model, Martens' is 1 and eq. 30 is
1 - eta / 2, at eta = 1 never above 3/4, and lam never falls. With (G + lam I) d = -g instead, eq. 30 at eta = 1 is
1/2 + lam d'd / (2 |g'd|): lam falls only while lam d'd exceeds d'Gd, that is to the curvature along d, no further.
"""

import math
from dataclasses import dataclass

from ..backend import check_name
from .checks import check_nonnegative, check_positive

RATIOS = ("quadratic", "linear")


def reduction_ratio(change, slope, curvature, kind="quadratic"):
    """rho of a step s: change = f(theta + s) - f(theta), slope = g's, curvature = s'Gs; `kind` as above.

    Positive where the loss fell as promised; NaN where the model promises no decrease, or the change is not finite.
    """
    promised = slope + 0.5 * curvature if kind == "quadratic" else slope
    return change / promised if promised < 0 and math.isfinite(change) else math.nan


@dataclass(frozen=True)
class FixedDamping:
    """lam stays as it is (0: no damping), and every step is taken, as in Pascanu & Bengio's algorithm 1."""

    lam: float = 1e-3

    adapts = False  # nobody needs to know the reduction ratio, which costs a forward pass

    def __post_init__(self):
        check_nonnegative("FixedDamping", lam=self.lam)

    def ratio(self, change, slope, curvature):
        """The reduction ratio with Martens' denominator; only for the log."""
        return reduction_ratio(change, slope, curvature)

    def adapt(self, lam, rho):
        """The next lam."""
        return lam

    def takes(self, change):
        """Is a step taken that changes the loss by so much?"""
        return True


@dataclass(frozen=True)
class LevenbergMarquardt:
    """lam *= factor where the model promised too much (rho < low), lam /= factor where it was good (rho > high).

    reduction: which ratio rho is, "quadratic" or "linear", see above (factor 3/2: Martens 2010, section 4.1). A rho of
    NaN counts as the worst. lam stays within [least, most]. A step that does not lower the loss is not taken: theta
    stays bit for bit, and the next try has a larger lam.
    """

    lam: float = 1.0
    factor: float = 1.5
    low: float = 0.25
    high: float = 0.75
    least: float = 1e-8
    most: float = 1e8
    reduction: str = "quadratic"

    adapts = True

    def __post_init__(self):
        check_positive("LevenbergMarquardt", lam=self.lam, least=self.least, most=self.most)
        check_name("reduction ratio", self.reduction, RATIOS)
        if not self.factor > 1:
            raise ValueError(f"LevenbergMarquardt: factor must be greater than 1, got {self.factor}")
        if not self.low < self.high:
            raise ValueError(f"LevenbergMarquardt: low must be less than high, got {self.low} and {self.high}")

    def ratio(self, change, slope, curvature):
        """The reduction ratio, with the denominator asked for."""
        return reduction_ratio(change, slope, curvature, self.reduction)

    def adapt(self, lam, rho):
        """The next lam."""
        if rho > self.high:
            lam = lam / self.factor
        elif not rho >= self.low:
            lam = lam * self.factor
        return min(max(lam, self.least), self.most)

    def takes(self, change):
        """Is a step taken that changes the loss by so much? NaN: no."""
        return change < 0

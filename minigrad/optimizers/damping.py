"""Damping lam: how far the quadratic model g'd + d'Gd / 2 is trusted. It enters a solve as the operator G + lam I.

lam is a number in the optimizer's state; these policies say where it starts and how it changes. A retry after a
rejected step starts from the state's lam, so nothing accumulates inside a step.
"""

from dataclasses import dataclass

from .checks import check_positive


@dataclass(frozen=True)
class FixedDamping:
    """lam stays as it is."""

    lam: float = 1e-3

    def __post_init__(self):
        check_positive("FixedDamping", lam=self.lam)

    def adapt(self, lam, rho):
        """The next lam."""
        return lam


@dataclass(frozen=True)
class LevenbergMarquardt:
    """lam *= factor where the model promised too much (rho < low), lam /= factor where it was good (rho > high).

    rho = (actual change of the loss) / (change that the undamped model predicts) (Martens 2010, section 4.1, with
    factor 3/2; Pascanu & Bengio, appendix). rho is NaN for a step that was not finite, which counts as the worst.
    lam stays within [least, most].
    """

    lam: float = 1.0
    factor: float = 1.5
    low: float = 0.25
    high: float = 0.75
    least: float = 1e-8
    most: float = 1e8

    def __post_init__(self):
        check_positive("LevenbergMarquardt", lam=self.lam, least=self.least, most=self.most)
        if not self.factor > 1:
            raise ValueError(f"LevenbergMarquardt: factor must be greater than 1, got {self.factor}")
        if not self.low < self.high:
            raise ValueError(f"LevenbergMarquardt: low must be less than high, got {self.low} and {self.high}")

    def adapt(self, lam, rho):
        """The next lam."""
        if rho > self.high:
            lam = lam / self.factor
        elif not rho >= self.low:
            lam = lam * self.factor
        return min(max(lam, self.least), self.most)

"""How well do N samples know a distance between functions (Benjamin et al. 2019, section 2.3, figures 3 and A.2)?

D2 = 1/N sum_i s_i is a mean of the independent numbers s_i = |f(x_i) - g(x_i)|^2, so by the central limit theorem

    D2 +- z sd / sqrt(N)      sd the standard deviation of s_i, z the normal quantile of the level (1.96 for 95 %)

holds the expectation of s for about that share of all batches; read around the expectation, it holds that share of the
batches' D2. The root is a monotone function of D2, so the bounds' roots bound D with the same certainty. To first order
these are D +- z sd / (2 D sqrt(N)) (delta method): in percent, half of what D2 has.

A few samples on which the functions differ much carry most of D2. Where N is too small to have met one, D2 and sd
are both too small, and fewer intervals than promised hold the truth.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from ..backend import item
from .distance import squared_distances


@dataclass(frozen=True)
class Estimate:
    """D2 of `samples` inputs, and the standard deviation (over N - 1) of a single sample's squared distance."""

    mean_square: float
    deviation: float
    samples: int

    @property
    def root_mean_square(self):
        """D = sqrt(D2)."""
        return self.mean_square**0.5

    def interval(self, samples=None, level=0.95):
        """(low, high) of D2, where no bound is below 0. samples: for batches of that size instead of this one's.

        Raises ValueError for no samples, or a level outside of (0, 1).
        """
        half = self._half(self.samples if samples is None else samples, level)
        return max(0.0, self.mean_square - half), self.mean_square + half

    def root_interval(self, samples=None, level=0.95):
        """(low, high) of D: the roots of `interval`."""
        low, high = self.interval(samples, level)
        return low**0.5, high**0.5

    def samples_for(self, error, level=0.95):
        """How many samples bound D2 to that relative error: the least N with z sd / sqrt(N) <= error D2.

        Half of the error is then D's. Raises ValueError unless error is positive, ZeroDivisionError where D2 is 0.
        """
        if not error > 0:
            raise ValueError(f"estimate: the relative error must be positive, got {error}")
        return math.ceil((self._half(1, level) / (error * self.mean_square)) ** 2)

    def _half(self, samples, level):
        if samples < 1:
            raise ValueError(f"estimate: need at least one sample, got {samples}")
        if not 0 < level < 1:
            raise ValueError(f"estimate: the level must lie between 0 and 1, got {level}")
        return NormalDist().inv_cdf(0.5 + 0.5 * level) * self.deviation / samples**0.5


def estimate(f, g):
    """The Estimate of the distance between outputs f and g (N, ...) on the same N >= 2 inputs.

    Raises ValueError for a single sample, which has no deviation, and as `mean_square`.
    """
    s = squared_distances(f, g)
    n = s.shape[0]
    if n < 2:
        raise ValueError(f"estimate: a standard deviation needs at least two samples, got {n}")
    mean = s.mean()
    return Estimate(item(mean), item(((s - mean) ** 2).sum() / (n - 1)) ** 0.5, n)

"""Batch normalization as a part of a net: each hidden pre-activation standardized over the batch (George, 3.6.2).

    h = f(gamma * BN(h W + b) + beta),    BN(a) = (a - mu) / sqrt(var + epsilon)

mu and var are the batch's mean and variance, unit by unit, and gradients go through them. So a sample's output depends
on the other samples: the net says that it `couples_samples`. b has no effect, for mu takes it away: its gradient is 0.
gamma ("layer0.scale", 1 at the start) and beta ("layer0.shift", 0) are parameters like all others.

Of feature maps (N, H, W, C) each channel is a unit, and each place a row: mu and var are over samples and places, and
gamma and beta serve all places alike (Ioffe & Szegedy 2015, section 3.2).

`Objective` works on slices of the batch side by side, each by `net.among(slices)`, whose statistics are of them all.

For use after training, `net.settled(theta, x)` is the net with mu and var of x for constants, the population's. That
is Ioffe & Szegedy 2015, algorithm 2, for one large batch: theirs averages over many, with var N / (N - 1).
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from ..autodiff.normalization import batch_norm, centre, row_count
from ..autodiff.ops import rows_of
from ..backend import WHOLE, xp


@dataclass(frozen=True)
class _OverRows:
    """What the parts below have in common.

    population: {layer: moments}, constants; None takes the batch's, of at least two rows: samples, or places of maps.
    among: who has the other slices of the batch, a Meeting; `Objective` says it, for one pass.
    """

    population: dict | None = field(default=None, repr=False, compare=False, kw_only=True)
    among: object = field(default=WHOLE, repr=False, compare=False, kw_only=True)


@dataclass(frozen=True)
class BatchNorm(_OverRows):
    """gamma (a - mu) / sqrt(var + epsilon) + beta; `population` {layer: (mu, var)}, see above."""

    epsilon: float = 1e-5

    start: ClassVar = {"scale": 1.0, "shift": 0.0}  # parameters, and what they are at first

    def __post_init__(self):
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"BatchNorm: epsilon must be a positive finite number, got {self.epsilon!r}")

    def __call__(self, a, p, name):
        """The normalized pre-activations of layer `name` for a (N, ..., out); p holds its scale and shift.

        Raises ValueError for a batch of one sample, unless it has several places.
        """
        if self.population is None:
            check_batch(a, name, self.among)
            return batch_norm(a, p[f"{name}.scale"], p[f"{name}.shift"], self.epsilon, self.among)
        mean, variance = self.population[name]
        return (a - mean) * (1.0 / xp.sqrt(variance + self.epsilon)) * p[f"{name}.scale"] + p[f"{name}.shift"]

    def moments(self, a):
        """(mu, var), each (out,), of a (N, ..., out): what `population` holds."""
        return rows_of(a).mean(axis=0), rows_of(a).var(axis=0)


@dataclass(frozen=True)
class MeanOnly(_OverRows):
    """a - mu + beta: batch normalization that leaves the variance alone (Salimans & Kingma 2016, section 4).

    `population` {layer: (mu,)}, see above.
    """

    start: ClassVar = {"shift": 0.0}

    def __call__(self, a, p, name):
        """The centred pre-activations of layer `name` for a (N, ..., out); p holds its shift. Raises as BatchNorm."""
        if self.population is None:
            check_batch(a, name, self.among)
            return centre(a, self.among) + p[f"{name}.shift"]
        (mean,) = self.population[name]
        return a - mean + p[f"{name}.shift"]

    def moments(self, a):
        """(mu,), (out,), of a (N, ..., out): what `population` holds."""
        return (rows_of(a).mean(axis=0),)


def check_batch(a, name, among=WHOLE):
    """Raise ValueError for a batch of a single row: less its mean it is zero, whatever the weights."""
    if row_count(a, among) < 2:
        raise ValueError(f"batch normalization of {name!r} needs at least two samples, got a batch of {a.shape[0]}")

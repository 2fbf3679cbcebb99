"""Models of the landscape: what to expect at a point, from the trials nearby (George, section 2.3; algorithm 1's M).

A model is called as model(told, values, at): the features of n trials (n, f), a value of each (n,), and the features of
m points (m, f); it returns an estimate at each of these (m,). Each estimate here is a weighted mean of the values, with
weights that sum to one and do not depend on the values. So a model commutes with a c + b: it does not matter whether
the losses are modelled and the acceptance is read off, or the other way round.

    NearestNeighbour()     the value of the nearest trial: the thesis' own
    KNearest(k)            the mean of the k nearest
    Kernel(width)          Nadaraya & Watson's mean, weights exp(-distance^2 / (2 width^2))
"""

import math
import numbers
from dataclasses import dataclass

import numpy as np


def squared_distances(at, told):
    """||a - x||^2 of m points and n trials, (m, n). By differences, column by column: equal points are at 0 exactly."""
    total = np.zeros((len(at), len(told)))
    for a, x in zip(np.ascontiguousarray(at.T), np.ascontiguousarray(told.T)):
        difference = a[:, None] - x
        total += np.square(difference, out=difference)
    return total


@dataclass(frozen=True)
class NearestNeighbour:
    """The value of the nearest trial, the mean of those that are equally near."""

    def __call__(self, told, values, at):
        distance = squared_distances(at, told)
        return _mean(distance == distance.min(axis=1, keepdims=True), values)


@dataclass(frozen=True)
class KNearest:
    """The mean of the k nearest trials, of all where there are fewer; those that tie for the last places share them."""

    k: int = 3

    def __post_init__(self):
        if isinstance(self.k, bool) or not isinstance(self.k, numbers.Integral) or self.k < 1:
            raise ValueError(f"KNearest: k must be a whole number of at least 1, got {self.k!r}")

    def __call__(self, told, values, at):
        k = min(self.k, len(told))
        distance = squared_distances(at, told)
        last = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
        nearer, tied = distance < last, distance == last
        places = k - nearer.sum(axis=1, keepdims=True)
        return _mean(nearer + tied * (places / tied.sum(axis=1, keepdims=True)), values)


@dataclass(frozen=True)
class Kernel:
    """The mean of all trials, with weights that fall like a Gaussian bell of this width, in units of a range."""

    width: float = 0.1

    def __post_init__(self):
        if isinstance(self.width, bool) or not isinstance(self.width, numbers.Real) or not 0 < self.width < math.inf:
            raise ValueError(f"Kernel: width must be a positive finite number, got {self.width!r}")

    def __call__(self, told, values, at):
        distance = squared_distances(at, told)
        distance -= distance.min(axis=1, keepdims=True)  # cancels in the mean; without it, far away, 0 / 0
        return _mean(np.exp(-distance / (2 * self.width**2)), values)


def _mean(weights, values):
    weights = weights.astype(float)
    return weights @ values / weights.sum(axis=1)

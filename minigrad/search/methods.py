"""The three searches of George, section 2.3: grid, random, and biased random search."""

import functools
import math
import numbers

import numpy as np

from .acceptance import by_loss
from .core import Search
from .landscape import NearestNeighbour
from .space import Choice, Integer
from .trial import rng

NEAREST = NearestNeighbour()
PROPOSALS = 1000  # a biased search looks at so many points for one trial, at most


class GridSearch(Search):
    """All combinations of evenly spaced values, both ends included; the last hyper-parameter changes fastest.

    values: how many of each number, for all or as {name: how many}; a Choice has all its options, and so has an Integer
    with fewer numbers than that. len(search) is the number of trials. Raises ValueError for fewer than two values of a
    range, for an unknown name or a missing one.
    """

    def __init__(self, space, values=None, seed=0, history=None):
        per_name = values if isinstance(values, dict) else dict.fromkeys(space.dimensions, values)
        for name in per_name:
            if name not in space.dimensions:
                raise ValueError(f"unknown hyper-parameter {name!r}; known are {', '.join(space.dimensions)}")
        self.values = values
        self.axes = [_axis(name, dimension, per_name.get(name)) for name, dimension in space.dimensions.items()]
        super().__init__(space, seed, history)

    def __repr__(self):
        return f"GridSearch(values={self.values}, seed={self.seed})"

    def __len__(self):
        return math.prod(map(len, self.axes))

    def check_count(self, n_trials):
        """Raise ValueError for more trials than the grid has."""
        if n_trials > len(self):
            raise ValueError(f"the grid has {len(self)} trials; got n_trials={n_trials}")

    def propose(self, number, before=None):
        """The grid's point with this number. Raises ValueError beyond the last."""
        self.check_count(number + 1)
        places = np.unravel_index(number, [len(axis) for axis in self.axes])
        return np.array([axis[place] for axis, place in zip(self.axes, places)])


def _axis(name, dimension, count):
    """The values of one hyper-parameter, as points of [0, 1]."""
    if isinstance(dimension, Choice):
        return (np.arange(dimension.count) + 0.5) / dimension.count
    if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 2:
        raise ValueError(f"GridSearch: {name} needs a whole number of at least 2 values, got {count!r}")
    if isinstance(dimension, Integer):
        whole = np.linspace(dimension.low, dimension.high, min(count, dimension.count)).round()
        return np.array([dimension.where(int(value)) for value in whole])
    return np.linspace(0, 1, count)


class RandomSearch(Search):
    """Points drawn evenly from the space."""

    def propose(self, number, before=None):
        """A point of the cube."""
        return rng(self.seed, number).random(len(self.space))


class BiasedRandomSearch(Search):
    """Random search that keeps a point with the probability p of the landscape there (algorithm 1).

    model: of the landscape. acceptance: the rule that makes p of losses. See the modules of these names.

    A point has the density p(a) / integral of p, exactly, as long as one of PROPOSALS points is kept. Where none is,
    one of these is drawn with weights p / (1 - p): rejected points have the density 1 - p, so that their weighted draw
    has p's in the limit of many. Where p is 0 all over, at all trials or at all these points, a point is drawn evenly:
    before the first trial has ended, and as long as every one has failed, this is random search.
    """

    def __init__(self, space, seed=0, history=None, model=NEAREST, acceptance=by_loss):
        self.model, self.acceptance = model, acceptance
        super().__init__(space, seed, history)

    def __repr__(self):
        rule = getattr(self.acceptance, "__name__", repr(self.acceptance))
        return f"BiasedRandomSearch(seed={self.seed}, model={self.model}, acceptance={rule})"

    def propose(self, number, before=None):
        """Lines 4 to 12: the first point kept. A row of numbers is the point `a`, and the `x` to compare p with."""
        draw = rng(self.seed, number)
        told, losses = self.history.seen(before)
        p_told = self.p_of(losses)
        if not np.any(p_told > 0):
            return draw.random(len(self.space))
        p_at = functools.partial(self.p_at, told, p_told)
        points, chances = np.empty((0, len(self.space))), np.empty(0)
        while len(points) < PROPOSALS:
            count = min(max(8, len(points)), PROPOSALS - len(points))  # 8, 8, 16, 32, ...: one after another in effect
            rows = draw.random((count, len(self.space) + 1))
            a, x = rows[:, :-1], rows[:, -1]
            p = p_at(a)
            kept = np.flatnonzero(x < p)
            if kept.size:
                return a[kept[0]]
            points, chances = np.concatenate([points, a]), np.concatenate([chances, p])
        weights = chances / (1 - chances) if np.any(chances > 0) else np.ones(PROPOSALS)
        return points[draw.choice(PROPOSALS, p=weights / weights.sum())]

    def p_of(self, losses):
        """What the rule makes of losses. Raises ValueError where that is not in [0, 1]."""
        p = np.asarray(self.acceptance(losses), float)
        if p.shape != losses.shape or not np.all((p >= 0) & (p <= 1)):
            raise ValueError(f"the acceptance of {self} must give {len(losses)} numbers in [0, 1], got {p}")
        return p

    def p_at(self, told, p_told, points):
        """The probability to keep each of these points (m, names) of the cube: the model's, cut off at 0 and 1."""
        p = self.model(told, p_told, self.space.features(points))
        if np.shape(p) != (len(points),) or not np.all(np.isfinite(p)):
            raise ValueError(f"the model of {self} must give {len(points)} finite numbers, got {p}")
        return np.clip(p, 0, 1)

    def expect(self, points):
        """The loss that the model expects at points (m, names) of the cube; a failed trial counts as the worst other.

        Raises ValueError where no trial has succeeded.
        """
        told, losses = self.history.seen()
        finite = np.isfinite(losses)
        if not finite.any():
            raise ValueError(f"of {len(losses)} trials none succeeded, so that there is no loss to expect")
        return self.model(told, np.where(finite, losses, losses[finite].max()), self.space.features(points))

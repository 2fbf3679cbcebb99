"""Spaces of named hyper-parameters, mapped to the unit cube and back.

    space = Space(lr=LogUniform(1e-4, 1.0), layers=Integer(1, 5), init=Choice("Glorot", "sparse"))
    space.parameters([0.5, 0.0, 0.9])              {"lr": 0.01, "layers": 1, "init": "sparse"}
    space.point({"lr": 0.01, ...})                 back, up to rounding; a whole number or an option is the middle of
                                                   its share of [0, 1]

A search draws points of the cube, so that a uniform point is a draw of every hyper-parameter as its kind says. A model
of the landscape needs distances, and these are Euclidean between `features`: a number counts by where it stands in its
range, an option by being the same (0) or another (1).
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Uniform:
    """A real number between low and high, evenly."""

    low: float
    high: float

    def __post_init__(self):
        _check_range(self, "finite numbers, low < high", lambda low, high: low < high, numbers.Real)

    def at(self, u):
        """low at u = 0, high at u = 1."""
        return min(max(float(self.low * (1 - u) + self.high * u), self.low), self.high)

    def where(self, value):
        """The u of a value; halves, since high - low may overflow."""
        _check_inside(self, value, numbers.Real)
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def features(self, u):
        """Columns for distances: u itself."""
        return u[:, None]


@dataclass(frozen=True)
class LogUniform:
    """A positive number between low and high, evenly on a logarithmic scale."""

    low: float
    high: float

    def __post_init__(self):
        expected = "finite numbers, 0 < low < high"
        _check_range(self, expected, lambda low, high: 0 < low < high and math.log(low) < math.log(high), numbers.Real)

    def at(self, u):
        """low at u = 0, high at u = 1."""
        value = math.exp(math.log(self.low) * (1 - u) + math.log(self.high) * u)
        return min(max(value, float(self.low)), float(self.high))

    def where(self, value):
        """The u of a value."""
        _check_inside(self, value, numbers.Real)
        return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))

    def features(self, u):
        """Columns for distances: u itself."""
        return u[:, None]


@dataclass(frozen=True)
class Integer:
    """A whole number from low to high, both included, evenly."""

    low: int
    high: int

    def __post_init__(self):
        _check_range(self, "whole numbers, low <= high", lambda low, high: low <= high, numbers.Integral)

    @property
    def count(self):
        """How many numbers there are."""
        return int(self.high) - int(self.low) + 1

    def at(self, u):
        """[0, 1] cut into as many equal parts as there are numbers."""
        return int(self.low) + _part(u, self.count)

    def where(self, value):
        """The middle of the value's part."""
        _check_inside(self, value, numbers.Integral)
        return (value - self.low + 0.5) / self.count

    def features(self, u):
        """Columns for distances: the middle of u's part."""
        return (np.minimum(np.floor(u * self.count), self.count - 1)[:, None] + 0.5) / self.count


@dataclass(frozen=True, init=False)
class Choice:
    """One of some options, each as likely: numbers, strings, True, False or None."""

    options: tuple

    def __init__(self, *options):
        options = tuple(option.item() if isinstance(option, np.generic) else option for option in options)
        object.__setattr__(self, "options", options)
        if not options:
            raise ValueError("Choice: expected at least one option, got none")
        for option in options:
            kept = option is None or isinstance(option, str | int | float)
            if not kept or (isinstance(option, float) and not math.isfinite(option)):
                expected = "finite numbers, strings, True, False or None"
                raise ValueError(f"Choice: options must be {expected}, got {option!r}")
        if len(set(options)) < len(options):
            raise ValueError(f"Choice: every option must be another, got {options}")

    def __repr__(self):
        return f"Choice({', '.join(map(repr, self.options))})"

    @property
    def count(self):
        """How many options there are."""
        return len(self.options)

    def at(self, u):
        """[0, 1] cut into as many equal parts as there are options."""
        return self.options[_part(u, self.count)]

    def where(self, value):
        """The middle of the option's part."""
        if value not in self.options:
            raise ValueError(f"expected one of {self.options}, got {value!r}")
        return (self.options.index(value) + 0.5) / self.count

    def features(self, u):
        """A column an option, 1/sqrt(2) in its own: two different options are at distance 1."""
        part = np.minimum(np.floor(u * self.count), self.count - 1)
        return (part[:, None] == np.arange(self.count)) * math.sqrt(0.5)


KINDS = {kind.__name__: kind for kind in (Uniform, LogUniform, Integer, Choice)}


class Space:
    """Hyper-parameters by name, in order: Space(lr=Uniform(0, 1)), Space({"lr": ...}) or Space([("lr", ...)]).

    Raises ValueError for none, for a name given twice, and for what is no Uniform, LogUniform, Integer or Choice.
    """

    def __init__(self, dimensions=(), /, **more):
        pairs = [*(dimensions.items() if isinstance(dimensions, Mapping) else dimensions), *more.items()]
        self.dimensions = dict(pairs)
        if not pairs:
            raise ValueError("Space: expected at least one hyper-parameter, got none")
        for name, dimension in pairs:
            if not isinstance(name, str) or not isinstance(dimension, tuple(KINDS.values())):
                raise ValueError(f"Space: {name!r} must be one of {', '.join(KINDS)}, got {dimension!r}")
        if len(self.dimensions) < len(pairs):
            twice = [name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])]
            raise ValueError(f"Space: {', '.join(twice)} given twice")

    def __len__(self):
        return len(self.dimensions)

    def __repr__(self):
        return f"Space({', '.join(f'{name}={dimension}' for name, dimension in self.dimensions.items())})"

    def parameters(self, point):
        """{name: value} at a point of the unit cube."""
        return {name: dimension.at(u) for (name, dimension), u in zip(self.dimensions.items(), map(float, point))}

    def point(self, parameters):
        """The point (names,) of the unit cube where these parameters are.

        Raises ValueError for a name that is missing or unknown, and for a value outside its range.
        """
        for name in parameters:
            if name not in self.dimensions:
                raise ValueError(f"unknown hyper-parameter {name!r}; known are {', '.join(self.dimensions)}")
        point = []
        for name, dimension in self.dimensions.items():
            if name not in parameters:
                raise ValueError(f"hyper-parameter {name!r} is missing; needed are {', '.join(self.dimensions)}")
            try:
                point.append(dimension.where(parameters[name]))
            except ValueError as error:
                raise ValueError(f"hyper-parameter {name!r}: {error}") from None
        return np.array(point)

    def features(self, points):
        """Points (n, names) as rows whose Euclidean distance is that of the models: numbers by u, options 0 or 1."""
        points = np.asarray(points, float).reshape(-1, len(self))
        columns = [dimension.features(u) for dimension, u in zip(self.dimensions.values(), points.T)]
        return np.concatenate(columns, axis=1)

    def to_json(self):
        """[[name, kind, arguments], ...], from which `from_json` makes the same space."""
        return [[name, type(each).__name__, _arguments(each)] for name, each in self.dimensions.items()]

    @classmethod
    def from_json(cls, described):
        """The space that `to_json` described. Raises ValueError for anything else."""
        try:
            return cls([(name, KINDS[kind](*arguments)) for name, kind, arguments in described])
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected a space [[name, kind, arguments], ...], got {described!r:.80}") from error


def _arguments(dimension):
    if isinstance(dimension, Choice):
        return list(dimension.options)
    kind = int if isinstance(dimension, Integer) else float
    return [kind(dimension.low), kind(dimension.high)]


def _part(u, count):
    return min(int(u * count), count - 1)


def _check_range(dimension, expected, accepts, kind):
    low, high = dimension.low, dimension.high
    real = all(isinstance(x, kind) and not isinstance(x, bool) and math.isfinite(x) for x in (low, high))
    if not real or not accepts(low, high):
        hint = "; for a single value write Choice(value)" if real and low == high else ""
        raise ValueError(f"{type(dimension).__name__}: expected {expected}, got low={low!r}, high={high!r}{hint}")


def _check_inside(dimension, value, kind):
    if isinstance(value, bool) or not isinstance(value, kind) or not dimension.low <= value <= dimension.high:
        raise ValueError(f"expected a value of {dimension}, got {value!r}")

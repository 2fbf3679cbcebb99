"""Hyper-parameters are checked once, when an optimizer or a policy is made."""

import math
import numbers


def check_numbers(owner, expected, accepts, **values):
    """Raise ValueError, naming owner, hyper-parameter, expectation and value, unless `accepts` every number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not accepts(value):
            raise ValueError(f"{owner}: {name} must be {expected}, got {value!r}")


def check_positive(owner, **values):
    """Raise ValueError unless every value is a number in (0, inf)."""
    check_numbers(owner, "a positive finite number", lambda value: 0 < value < math.inf, **values)


def check_nonnegative(owner, **values):
    """Raise ValueError unless every value is a finite number of at least 0."""
    check_numbers(owner, "a finite number of at least 0", lambda value: 0 <= value < math.inf, **values)


def check_fraction(owner, **values):
    """Raise ValueError unless every value is a number in [0, 1)."""
    check_numbers(owner, "a number in [0, 1)", lambda value: 0 <= value < 1, **values)


def check_counts(owner, **values):
    """Raise ValueError unless every value is a whole number of at least 1."""
    accepts = lambda value: isinstance(value, numbers.Integral) and value >= 1
    check_numbers(owner, "a whole number of at least 1", accepts, **values)

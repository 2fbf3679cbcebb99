"""Learning rates that change while training: an optimizer's `lr` is a number or one of these.

A schedule remembers nothing itself; what it must remember lives in the optimizer's state, where checkpoints find it:

    init() -> dict                             its entries of the state
    rate(state) -> float                       the learning rate of the next update; state["update"] updates are done
    observe(state, validation_loss) -> state   called after each evaluation
"""

import math
from dataclasses import dataclass

from .checks import check_counts, check_nonnegative, check_numbers, check_positive


class Schedule:
    """A schedule that only counts updates: nothing to remember, nothing to observe."""

    def init(self):
        """Its entries of the state."""
        return {}

    def observe(self, state, validation_loss):
        """The state after an evaluation."""
        return state


@dataclass(frozen=True)
class Constant(Schedule):
    """lr, always."""

    lr: float

    def __post_init__(self):
        check_positive("Constant", lr=self.lr)

    def rate(self, state):
        """The learning rate of the next update."""
        return float(self.lr)


@dataclass(frozen=True)
class InverseTime(Schedule):
    """lr / (1 + decay t) after t updates (Robbins & Monro 1951): the sum diverges, the sum of squares does not.

    after: t counts from the end of so many updates at lr, 200 in Pascanu & Bengio, section 8.6, with decay 1 / 20.
    """

    lr: float
    decay: float
    after: int = 0

    def __post_init__(self):
        check_positive("InverseTime", lr=self.lr, decay=self.decay)
        check_nonnegative("InverseTime", after=self.after)

    def rate(self, state):
        """The learning rate of the next update."""
        return float(self.lr / (1 + self.decay * max(0, state["update"] - self.after)))


@dataclass(frozen=True)
class Steps(Schedule):
    """lr, multiplied by `factor` once each of the numbers of updates `at` is done."""

    lr: float
    at: tuple
    factor: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "at", tuple(self.at) if isinstance(self.at, (tuple, list)) else (self.at,))
        check_positive("Steps", lr=self.lr, factor=self.factor)
        for number in self.at:
            check_counts("Steps", at=number)

    def rate(self, state):
        """The learning rate of the next update."""
        return float(self.lr * self.factor ** sum(state["update"] >= number for number in self.at))


@dataclass(frozen=True)
class Waterfall(Schedule):
    """lr, multiplied by `factor` whenever `patience` evaluations in a row brought no new best validation loss.

    Desjardins et al. 2015, section 4.2: divided by 10 "when the validation error failed to improve after a set number
    of evaluations". A loss that is NaN is no improvement.
    """

    lr: float
    factor: float = 0.1
    patience: int = 5

    def __post_init__(self):
        check_positive("Waterfall", lr=self.lr)
        check_numbers("Waterfall", "a number in (0, 1)", lambda value: 0 < value < 1, factor=self.factor)
        check_counts("Waterfall", patience=self.patience)

    def init(self):
        """The best validation loss, evaluations since then or since the last drop, and drops so far."""
        return {"best": math.inf, "stalled": 0, "drops": 0}

    def rate(self, state):
        """The learning rate of the next update."""
        return float(self.lr * self.factor ** state["drops"])

    def observe(self, state, validation_loss):
        """The state after an evaluation."""
        if validation_loss < state["best"]:
            return state | {"best": float(validation_loss), "stalled": 0}
        stalled = state["stalled"] + 1
        if stalled < self.patience:
            return state | {"stalled": stalled}
        return state | {"stalled": 0, "drops": state["drops"] + 1}


def as_schedule(lr):
    """`lr` itself if it is a schedule, Constant(lr) for a positive number; ValueError for anything else."""
    if isinstance(lr, Schedule):
        return lr
    check_positive("optimizer", lr=lr)
    return Constant(lr)

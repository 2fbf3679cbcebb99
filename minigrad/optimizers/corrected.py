"""What HCGD and natural gradient by descent share: a method proposes an update, an inner descent corrects it.

    g  <- gradient of the loss
    d  <- the base method's update                       the proposal
    for j in 1, ..., n:   d <- d - eta slope_j(d)        the corrections
    theta <- theta + d

A subclass says what it descends: `inner` returns slope, of which slope(j, d) is the gradient in d that correction j
follows. Where the base keeps a velocity, the velocity takes the corrections too, for it is what the next proposal goes
on with (Benjamin et al. 2018, algorithm 1, lines 13 and 17).
"""

import math
from dataclasses import dataclass, field

from ..backend import item
from ..linalg.vectors import dot
from .checks import check_counts, check_positive
from .first_order import FirstOrder
from .sgd import SGD


@dataclass(frozen=True)
class Corrected:
    """n corrections of a base method's updates, at an inner rate eta that falls as the base's learning rate does.

    base: a first-order method, e.g. SGD(0.1), Adam(). eta: the inner rate at the base's first learning rate (2018,
    section 3: "we also decrease the inner learning rate by a factor of 10").
    """

    base: object = field(default_factory=lambda: SGD(0.1))
    n: int = 1
    eta: float = 0.02

    def __post_init__(self):
        owner = type(self).__name__
        if not isinstance(self.base, FirstOrder) or hasattr(self.base, "canonical"):
            raise TypeError(
                f"{owner}: base must be a first-order method in theta itself, such as SGD, got {self.base!r}"
            )
        check_counts(owner, n=self.n)
        check_positive(owner, eta=self.eta)

    def init(self, objective, theta):
        """The base's state."""
        return self.base.init(objective, theta)

    def observe(self, state, validation_loss):
        """Tell the base's schedule a validation loss."""
        return self.base.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw, rng):
        """One update; returns theta, state, log. FloatingPointError if a proposal or a correction is not finite."""
        loss, g, state = self.base.gradient(theta, state, objective, batch, draw, rng)
        cost = self.base.cost(state, batch)
        proposed, state, log = self.base.follow(theta, state, loss, g)
        eta = self.eta * log["lr"] / self.base.lr.rate({"update": 0} | self.base.lr.init())

        slope, work = self.inner(theta, g, objective, batch, draw, rng)
        d0 = d = proposed - theta
        for j in range(1, self.n + 1):
            d = d - eta * slope(j, d)
            length = _length(d)
            if not math.isfinite(length):
                raise FloatingPointError(
                    f"update {state['update']}: correction {j} has length {length}; try a smaller eta"
                )

        if isinstance(self.base, SGD) and self.base.momentum:
            state = state | {"v": state["v"] + (d - d0)}
        return theta + d, state, log | {"eta": eta, "correction": _length(d - d0), "gradients": cost + work}

    def inner(self, theta, g, objective, batch, draw, rng):
        """(slope, work): slope(j, d) is what correction j descends; work, in gradients of the batch, what all cost."""
        raise NotImplementedError


def _length(d):
    return math.sqrt(item(dot(d, d)))

"""Optimizers: frozen dataclasses of hyper-parameters with init(objective, theta), step(...) and observe(...).

    state = optimizer.init(objective, theta)
    theta, state, log = optimizer.step(theta, state, objective, batch, draw, rng)
    state = optimizer.observe(state, validation_loss)      # after an evaluation, for schedules that watch it

They are pure: a step returns new theta and state and leaves the old ones intact, so going back is keeping them. state
is a flat dict of numbers and vectors, log one of floats.
"""

from ..backend import check_name
from .adaptive import Adagrad, Adam, RMSProp
from .damping import FixedDamping, LevenbergMarquardt
from .natural_gradient import ConjugateGradient, NaturalGradient
from .schedules import Constant, InverseTime, Steps, Waterfall
from .sgd import SGD

OPTIMIZERS = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "natural-gradient": NaturalGradient,
}


def by_name(name):
    """The optimizer's class, e.g. by_name("adam"). Raises ValueError for an unknown name, offering the nearest."""
    check_name("optimizer", name, tuple(OPTIMIZERS))
    return OPTIMIZERS[name]


__all__ = [
    "SGD",
    "Adagrad",
    "RMSProp",
    "Adam",
    "NaturalGradient",
    "ConjugateGradient",
    "FixedDamping",
    "LevenbergMarquardt",
    "Constant",
    "InverseTime",
    "Steps",
    "Waterfall",
    "OPTIMIZERS",
    "by_name",
]

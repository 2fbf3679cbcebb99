"""Optimizers: frozen dataclasses of hyper-parameters with init(objective, theta), step(...) and observe(...).

    state = optimizer.init(objective, theta)
    theta, state, log = optimizer.step(theta, state, objective, batch, draw, rng)
    state = optimizer.observe(state, validation_loss)      # after an evaluation, for schedules that watch it

They are pure: a step returns new theta and state and leaves the old ones intact, so going back is keeping them. state
is a flat dict of numbers and vectors, log one of floats.
"""

from ..backend import check_name
from .acp import ACP, SquaredGradient
from .adaptive import Adagrad, Adam, RMSProp
from .centred import CentredGD
from .damping import FixedDamping, LevenbergMarquardt
from .hcgd import HCGD
from .hessian_free import HessianFree
from .kfac import EKFAC, KFAC, DiagonalFisher
from .krylov_subspace_descent import KrylovSubspaceDescent
from .metric_batch import Unlabeled
from .natural_descent import NaturalDescent
from .natural_gradient import NaturalGradient
from .newton import Newton
from .phases import stopwatch
from .prong import PRONG
from .schedules import Constant, InverseTime, Steps, Waterfall
from .sgd import SGD
from .solvers import ConjugateGradient, Minres, MinresQLP, SampleSpace
from .tonga import TONGA

OPTIMIZERS = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "newton": Newton,
    "hessian-free": HessianFree,
    "krylov-subspace-descent": KrylovSubspaceDescent,
    "natural-gradient": NaturalGradient,
    "tonga": TONGA,
    "centred-gd": CentredGD,
    "acp": ACP,
    "prong": PRONG,
    "kfac": KFAC,
    "ekfac": EKFAC,
    "diagonal-fisher": DiagonalFisher,
    "hcgd": HCGD,
    "natural-descent": NaturalDescent,
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
    "Newton",
    "HessianFree",
    "KrylovSubspaceDescent",
    "NaturalGradient",
    "TONGA",
    "CentredGD",
    "ACP",
    "SquaredGradient",
    "PRONG",
    "KFAC",
    "EKFAC",
    "DiagonalFisher",
    "HCGD",
    "NaturalDescent",
    "ConjugateGradient",
    "Minres",
    "MinresQLP",
    "SampleSpace",
    "Unlabeled",
    "FixedDamping",
    "LevenbergMarquardt",
    "Constant",
    "InverseTime",
    "Steps",
    "Waterfall",
    "stopwatch",
    "OPTIMIZERS",
    "by_name",
]

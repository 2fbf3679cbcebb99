"""The methods of the deep-autoencoder comparison: how each is made of its parameters, and where these are searched.

Each method may choose its batch size and its initial weights, and has one to four parameters of its own. The ranges
hold what the papers use; they were set before any result was seen, but for momentum's, Adam's and natural gradient's,
which come from an earlier, smaller comparison, and PRONG's, which were moved once: with epsilon down to 1e-4 none of
six trials got below the mean image's error.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..losses import Bernoulli
from ..nets import BatchNorm, Glorot, MeanOnly, Sparse, autoencoder
from ..objective import Objective
from ..optimizers import (
    ACP,
    EKFAC,
    KFAC,
    PRONG,
    SGD,
    Adam,
    CentredGD,
    ConjugateGradient,
    HessianFree,
    LevenbergMarquardt,
    MinresQLP,
    NaturalGradient,
    RMSProp,
    SquaredGradient,
)
from ..search import Choice, LogUniform

OF_THE_DEMO = ("momentum", "Adam", "natural gradient", "K-FAC", "PRONG")

INITIAL = {"sparse": Sparse(connections=15), "Glorot 16": Glorot(alpha=16.0), "Glorot 32": Glorot(alpha=32.0)}
START = {"init": Choice(*INITIAL)}
SMALL = START | {"batch_size": Choice(50, 100, 200, 500)}  # for methods whose update costs little more than a gradient
LARGE = START | {"batch_size": Choice(100, 250, 500, 1000)}  # for those that measure curvature on each batch
LR = {"lr": LogUniform(1e-3, 1e-1)}
WIDE_LR = {"lr": LogUniform(1e-3, 1.0)}  # where the scale of gradients is not the net's own
MOMENTUM = {"momentum": Choice(0.9, 0.95, 0.99)}
DAMPING = {"damping": LogUniform(1e-1, 1e1)}
AMORTIZED = {"interval": Choice(20, 50, 100, 200), "samples": Choice(1000, 2000, 5000)}
ITERATIONS = {"iterations": Choice(5, 10, 15, 30)}


@dataclass(frozen=True)
class Method:
    """make: its optimizer, of its parameters p. space: {parameter: where it is searched}. normalization: the net's."""

    make: Callable
    space: dict
    normalization: object = None


def sgd(p):
    """Classical momentum."""
    return SGD(p["lr"], momentum=p["momentum"])


def acp(alpha):
    """ACP by the damped system; alpha(p) gives its alpha."""
    return lambda p: ACP(
        p["lr"],
        momentum=p["momentum"],
        alpha=alpha(p),
        damping=p["damping"],
        interval=p["interval"],
        samples=p["samples"],
    )


def prong(p):
    """PRONG; with a batch-normalized net it is PRONG+."""
    return PRONG(p["lr"], momentum=p["momentum"], interval=p["interval"], samples=p["samples"], epsilon=p["epsilon"])


def kronecker(optimizer):
    """K-FAC or EKFAC, whose step and momentum are those of the exact quadratic model."""
    return lambda p: optimizer(damping=LevenbergMarquardt(p["damping"]), interval=p["interval"])


def natural_gradient(solver):
    """Natural gradient by an iterative solver."""
    return lambda p: NaturalGradient(damping=LevenbergMarquardt(p["damping"]), solver=solver(maxiter=p["iterations"]))


METHODS = {
    "momentum": Method(sgd, SMALL | MOMENTUM | LR),
    "Nesterov": Method(lambda p: SGD(p["lr"], momentum=p["momentum"], nesterov=True), SMALL | MOMENTUM | LR),
    "RMSProp": Method(
        lambda p: RMSProp(p["lr"], decay=p["decay"]),
        SMALL | {"lr": LogUniform(1e-4, 1e-2), "decay": Choice(0.9, 0.99)},
    ),
    "Adam": Method(lambda p: Adam(p["lr"]), SMALL | {"lr": LogUniform(3e-4, 1e-2)}),
    "centred GD": Method(lambda p: CentredGD(p["lr"], momentum=p["momentum"]), SMALL | MOMENTUM | LR),
    "mean-only BN": Method(sgd, SMALL | MOMENTUM | LR, MeanOnly()),
    "batch norm": Method(sgd, SMALL | MOMENTUM | WIDE_LR, BatchNorm()),
    "ACP": Method(
        acp(lambda p: p["alpha"]),
        SMALL | MOMENTUM | AMORTIZED | WIDE_LR | {"alpha": LogUniform(1e-2, 1e1), "damping": LogUniform(1e-3, 1e0)},
    ),
    "ACP, alpha from g": Method(
        acp(lambda p: SquaredGradient()),
        SMALL | MOMENTUM | AMORTIZED | WIDE_LR | {"damping": LogUniform(1e-3, 1e0)},
    ),
    "K-FAC": Method(kronecker(KFAC), LARGE | DAMPING | {"interval": Choice(5, 10, 20, 50)}),
    "EKFAC": Method(kronecker(EKFAC), LARGE | DAMPING | {"interval": Choice(5, 10, 20, 50)}),
    "PRONG": Method(
        prong, SMALL | MOMENTUM | AMORTIZED | {"lr": LogUniform(1e-4, 1e-2), "epsilon": LogUniform(1e-2, 1e0)}
    ),
    "PRONG+": Method(
        prong,
        SMALL | MOMENTUM | AMORTIZED | {"lr": LogUniform(1e-3, 1e0), "epsilon": LogUniform(1e-2, 1e0)},
        BatchNorm(),
    ),
    "natural gradient": Method(natural_gradient(ConjugateGradient), LARGE | DAMPING | ITERATIONS),
    "NG by MINRES-QLP": Method(natural_gradient(MinresQLP), LARGE | DAMPING | ITERATIONS),
    "Hessian-free": Method(
        lambda p: HessianFree(damping=LevenbergMarquardt(p["damping"]), maxiter=p["iterations"]),
        LARGE | DAMPING | {"iterations": Choice(10, 30, 50)},
    ),
}


def objective(name, initial="sparse"):
    """The papers' deep autoencoder under the Bernoulli loss, normalized as the method wants it."""
    net = autoencoder(code="linear", init=INITIAL[initial], normalization=METHODS[name].normalization)
    return Objective(net, Bernoulli())

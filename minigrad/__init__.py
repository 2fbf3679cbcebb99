"""minigrad: natural-gradient and second-order training, from scratch in NumPy and CuPy."""

from . import (
    autodiff,
    backend,
    continual,
    curvature,
    data,
    function_space,
    linalg,
    losses,
    nets,
    optimizers,
    parallel,
    search,
)
from .backend import use
from .objective import Objective
from .training import fit

__version__ = "0.1.0"
__all__ = [
    "Objective",
    "fit",
    "use",
    "autodiff",
    "backend",
    "continual",
    "curvature",
    "data",
    "function_space",
    "linalg",
    "losses",
    "nets",
    "optimizers",
    "parallel",
    "search",
]

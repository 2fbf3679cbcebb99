"""minigrad: natural-gradient and second-order training, from scratch in NumPy and CuPy."""

from . import autodiff, backend, curvature, data, linalg, losses, nets
from .backend import use
from .objective import Objective

__version__ = "0.1.0"
__all__ = ["Objective", "autodiff", "backend", "curvature", "data", "linalg", "losses", "nets", "use"]

"""Forward and reverse mode from one tape of linear maps: see tape.py, then ops.py."""

from . import check, ops
from .tape import PRIMITIVES, Jacobian, Linear, Var, grad, jacobian, linearize, primitive, untraced, value_and_grad

__all__ = [
    "PRIMITIVES",
    "Jacobian",
    "Linear",
    "Var",
    "check",
    "grad",
    "jacobian",
    "linearize",
    "ops",
    "primitive",
    "untraced",
    "value_and_grad",
]

"""Linear operators and the solvers that only need their products."""

from .cg import MartensStop, cg
from .operator import (
    BlockDiagonal,
    Diagonal,
    Identity,
    LinearOperator,
    LowRank,
    Matrix,
    SliceRows,
    SliceSum,
    as_operator,
    identity,
)

__all__ = [
    "BlockDiagonal",
    "Diagonal",
    "Identity",
    "LinearOperator",
    "LowRank",
    "MartensStop",
    "Matrix",
    "SliceRows",
    "SliceSum",
    "as_operator",
    "cg",
    "identity",
]

"""Linear operators and the solvers that only need their products."""

from .cg import cg
from .info import Info, MartensStop
from .lanczos import Spectrum, condition_number, lanczos, largest_eigenvalue, spectrum
from .minres import minres
from .minres_qlp import minres_qlp
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
    "Info",
    "LinearOperator",
    "LowRank",
    "MartensStop",
    "Matrix",
    "SliceRows",
    "SliceSum",
    "Spectrum",
    "as_operator",
    "cg",
    "condition_number",
    "identity",
    "lanczos",
    "largest_eigenvalue",
    "minres",
    "minres_qlp",
    "spectrum",
]

"""Linear operators and the solvers that only need their products."""

from .cg import cg
from .info import Info, MartensStop
from .kronecker import Eigenbasis, Kronecker, factored_damping, homogeneous_inverse
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
    "Eigenbasis",
    "Identity",
    "Info",
    "Kronecker",
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
    "factored_damping",
    "homogeneous_inverse",
    "identity",
    "lanczos",
    "largest_eigenvalue",
    "minres",
    "minres_qlp",
    "spectrum",
]

"""Networks as functions: distances between them, how well these are known, paths through function space, pictures."""

from .distance import (
    mean_square,
    mean_square_and_grad,
    root_mean_square,
    root_mean_square_and_grad,
    squared_distances,
)
from .embedding import Embedding, classical_scaling, embed, stress
from .estimate import Estimate, estimate
from .trajectory import Recorder, distances, parameter_square, travelled

__all__ = [
    "Embedding",
    "Estimate",
    "Recorder",
    "classical_scaling",
    "distances",
    "embed",
    "estimate",
    "mean_square",
    "mean_square_and_grad",
    "parameter_square",
    "root_mean_square",
    "root_mean_square_and_grad",
    "squared_distances",
    "stress",
    "travelled",
]

"""Networks as pure functions of a parameter dict, and the layout of their parameters in one vector."""

from .autoencoder import autoencoder
from .dropout import Dropout
from .init import FanIn, Glorot, He, Sparse
from .layout import Layout
from .lstm import LSTM, lstm
from .mlp import ACTIVATIONS, MLP, mlp
from .normalization import BatchNorm, MeanOnly
from .whitening import WhitenedNet, Whitening, from_whitened, to_whitened, whitening

__all__ = [
    "mlp",
    "autoencoder",
    "Layout",
    "MLP",
    "LSTM",
    "lstm",
    "ACTIVATIONS",
    "Glorot",
    "He",
    "FanIn",
    "Sparse",
    "BatchNorm",
    "MeanOnly",
    "Dropout",
    "Whitening",
    "WhitenedNet",
    "from_whitened",
    "to_whitened",
    "whitening",
]

"""Networks as pure functions of a parameter dict, and the layout of their parameters in one vector."""

from .autoencoder import autoencoder
from .init import FanIn, Glorot, He, Sparse
from .layout import Layout
from .mlp import ACTIVATIONS, MLP, mlp

__all__ = ["mlp", "autoencoder", "Layout", "MLP", "ACTIVATIONS", "Glorot", "He", "FanIn", "Sparse"]

"""Networks as pure functions of a parameter dict, and the layout of their parameters in one vector."""

from .autoencoder import autoencoder
from .convnet import AveragePool, ConvNet, Convolution, Dense, Fire, GlobalAverage, MaxPool, convnet
from .dropout import Dropout
from .init import FanIn, Glorot, He, Sparse
from .layout import Layout
from .lstm import LSTM, lstm
from .mlp import MLP, mlp
from .net import ACTIVATIONS
from .normalization import BatchNorm, MeanOnly
from .squeezenet import squeezenet
from .whitening import WhitenedNet, Whitening, from_whitened, to_whitened, whitening
from .zoo import large_filter_convnet, mnist_convnet, six_layer_convnet, three_layer_convnet, vgg

__all__ = [
    "mlp",
    "autoencoder",
    "convnet",
    "mnist_convnet",
    "large_filter_convnet",
    "three_layer_convnet",
    "six_layer_convnet",
    "vgg",
    "squeezenet",
    "Layout",
    "MLP",
    "LSTM",
    "lstm",
    "ConvNet",
    "Convolution",
    "Fire",
    "Dense",
    "MaxPool",
    "AveragePool",
    "GlobalAverage",
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

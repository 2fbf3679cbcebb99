"""Autoencoders: an encoder down to a code, a decoder back up, trained to reproduce the input (George, 1.4.3, 2.5)."""

from .init import Glorot
from .mlp import MLP


def autoencoder(
    sizes=(784, 1000, 500, 250, 30), activation="sigmoid", code=None, output="linear", init=None, normalization=None
):
    """An MLP sizes[0]-...-sizes[-1]-...-sizes[0]; the default is the papers' deep autoencoder for 28 x 28 digits.

    activation: of all hidden layers; code: of the code layer, if another ("linear" in Hinton & Salakhutdinov 2006).
    output: "linear" for logits under a Bernoulli loss; "sigmoid" for squared error after it, the thesis' benchmark.
    normalization: of all hidden pre-activations, the code's too, BatchNorm() or MeanOnly(); None by default.
    Layers are named enc0, enc1, ..., dec0, dec1, ...; train it with the input as target: batch = (x, x).
    """
    depth = len(sizes) - 1
    hidden = [activation] * (2 * depth - 1)
    if code is not None and depth > 0:
        hidden[depth - 1] = code
    return MLP(
        (*sizes, *reversed(sizes[:-1])),
        (*hidden, output),
        tuple(f"enc{i}" for i in range(depth)) + tuple(f"dec{i}" for i in range(depth)),
        init or Glorot(),
        normalization,
    )

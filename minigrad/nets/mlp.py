"""Multilayer perceptrons: h_{l+1} = activation(h_l W_l + b_l), the last layer linear (George, 1.4.1)."""

from dataclasses import dataclass
from numbers import Integral

from ..autodiff import ops
from ..backend import check_name
from .init import Glorot
from .net import ACTIVATIONS, Net


@dataclass(frozen=True)
class MLP(Net):
    """Affine layers `names` of widths `sizes` (one more than layers), each followed by its activation's name.

    normalization: None, or a part that stands before the activation of every layer but the last (`normalization.py`).
    dropout: None, or Dropout(rate), behind the activation of every layer but the last.
    net(p, x): x (N, sizes[0]) -> r (N, sizes[-1]), p a dict of views. net.apply(theta, x): the same from flat theta.
    """

    sizes: tuple
    activations: tuple
    names: tuple
    initializer: object
    normalization: object = None
    dropout: object = None

    def __post_init__(self):
        if len(self.sizes) < 2 or any(not isinstance(n, Integral) or n < 1 for n in self.sizes):
            raise ValueError(f"mlp: sizes must be at least two positive whole numbers, got {list(self.sizes)}")
        for activation in self.activations:
            check_name("activation", activation, tuple(ACTIVATIONS))

    @property
    def matrices(self):
        """{layer: (in + 1, out)}, in order."""
        pairs = zip(self.names, self.sizes[:-1], self.sizes[1:], strict=True)
        return {name: (n_in + 1, n_out) for name, n_in, n_out in pairs}

    def _forward(self, p, x, normalization):
        h = x
        for name, activation in zip(self.names, self.activations, strict=True):
            h = self._outputs(ops.affine(h, p[name], name=name), name, p, activation, normalization)
        return h


def mlp(sizes, activation="tanh", output="linear", init=None, normalization=None, dropout=None):
    """An MLP of the given widths, e.g. mlp([784, 1500, 10], activation="tanh").

    activation: of the hidden layers; output: of the last ("linear" leaves it to the loss, as a matched pair needs).
    init: an initializer of `minigrad.nets.init`, Glorot() by default. normalization: of the hidden layers' pre-
    activations, BatchNorm() or MeanOnly(); None by default. dropout: of the hidden units, e.g. Dropout(0.5).
    Raises ValueError for unknown activations (naming the nearest) or sizes that are not positive whole numbers.
    """
    count = len(sizes) - 1
    return MLP(
        tuple(sizes),
        (activation,) * (count - 1) + (output,),
        tuple(f"layer{i}" for i in range(count)),
        init or Glorot(),
        normalization,
        dropout,
    )

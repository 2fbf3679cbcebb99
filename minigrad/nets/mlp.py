"""Multilayer perceptrons: h_{l+1} = activation(h_l W_l + b_l), the last layer linear (George, 1.4.1).

A net is a pure function net(p, x) of a dict of parameters and a batch of rows. It returns r, what comes before the
output activation, which belongs to the loss. Nets own no parameters and no state.
"""

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

from ..autodiff import ops
from ..backend import check_name, xp
from .init import Glorot
from .layout import Layout

ACTIVATIONS = {"sigmoid": ops.sigmoid, "tanh": ops.tanh, "relu": ops.relu, "linear": lambda a: a}


@dataclass(frozen=True)
class MLP:
    """Affine layers `names` of widths `sizes` (one more than layers), each followed by its activation's name.

    net(p, x): x (N, sizes[0]) -> r (N, sizes[-1]), p a dict of views. net.apply(theta, x): the same from flat theta.
    """

    sizes: tuple
    activations: tuple
    names: tuple
    initializer: object

    def __post_init__(self):
        if len(self.sizes) < 2 or any(not isinstance(n, Integral) or n < 1 for n in self.sizes):
            raise ValueError(f"mlp: sizes must be at least two positive whole numbers, got {list(self.sizes)}")
        for activation in self.activations:
            check_name("activation", activation, tuple(ACTIVATIONS))

    @cached_property
    def layout(self):
        """Where each layer's (in + 1, out) matrix lies in theta."""
        widths = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return Layout({name: (n_in + 1, n_out) for name, (n_in, n_out) in zip(self.names, widths, strict=True)})

    def init(self, rng, dtype="float32"):
        """A fresh flat theta on the active backend, from the net's initializer."""
        layers = self.layout.shapes.items()
        return self.layout.pack(
            {name: self.initializer(rng, rows - 1, columns, xp.dtype(dtype)) for name, (rows, columns) in layers}
        )

    def __call__(self, p, x):
        h = x
        for name, activation in zip(self.names, self.activations, strict=True):
            h = ACTIVATIONS[activation](ops.affine(h, p[name], name=name))
        return h

    def apply(self, theta, x):
        """r (N, out) for flat theta and x (N, in)."""
        return self(self.layout.views(theta), x)


def mlp(sizes, activation="tanh", output="linear", init=None):
    """An MLP of the given widths, e.g. mlp([784, 1500, 10], activation="tanh").

    activation: of the hidden layers; output: of the last ("linear" leaves it to the loss, as a matched pair needs).
    init: an initializer of `minigrad.nets.init`, Glorot() by default.
    Raises ValueError for unknown activations (naming the nearest) or sizes that are not positive whole numbers.
    """
    count = len(sizes) - 1
    return MLP(
        tuple(sizes),
        (activation,) * (count - 1) + (output,),
        tuple(f"layer{i}" for i in range(count)),
        init or Glorot(),
    )

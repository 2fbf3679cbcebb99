"""Multilayer perceptrons: h_{l+1} = activation(h_l W_l + b_l), the last layer linear (George, 1.4.1).

A net is a pure function net(p, x) of a dict of parameters and a batch of rows. It returns r, what comes before the
output activation, which belongs to the loss. Nets own no parameters and no state.
"""

from dataclasses import dataclass, replace
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

    @cached_property
    def layout(self):
        """Where each layer's (in + 1, out) matrix lies in theta, and after it its normalization's vectors."""
        shapes = {}
        for name, n_in, n_out in zip(self.names, self.sizes[:-1], self.sizes[1:], strict=True):
            shapes[name] = (n_in + 1, n_out)
            if self._normalizes(name):
                shapes |= {f"{name}.{part}": (n_out,) for part in self.normalization.start}
        return Layout(shapes)

    @property
    def couples_samples(self):
        """Does a sample's output depend on the others of its batch? Batch normalization's does, until it is settled."""
        return self.normalization is not None and self.normalization.population is None

    def init(self, rng, dtype="float32"):
        """A fresh flat theta on the active backend: matrices from the net's initializer, the rest as its part says."""
        parameters = {}
        for name, shape in self.layout.shapes.items():
            _, _, part = name.partition(".")
            if part:
                parameters[name] = xp.full(shape, self.normalization.start[part], dtype)
            else:
                parameters[name] = self.initializer(rng, shape[0] - 1, shape[1], xp.dtype(dtype))
        return self.layout.pack(parameters)

    def __call__(self, p, x):
        return self._forward(p, x, self.normalization)

    def apply(self, theta, x):
        """r (N, out) for flat theta and x (N, in)."""
        return self(self.layout.views(theta), x)

    def settled(self, theta, x):
        """The net whose normalization has the statistics of x (N, in) for constants; itself, if it has none."""
        if self.normalization is None:
            return self
        population, part = {}, replace(self.normalization, population=None)

        def noting(a, p, name):
            population[name] = part.moments(a)
            return part(a, p, name)

        self._forward(self.layout.views(theta), x, noting)
        return replace(self, normalization=replace(part, population=population))

    def thinned(self, rng, dtype):
        """The net without the units that dropout leaves out, drawn anew; itself, if it has no dropout."""
        if self.dropout is None:
            return self
        widths = dict(zip(self.names[:-1], self.sizes[1:-1], strict=True))
        return replace(self, dropout=self.dropout.drawn(rng, widths, dtype))

    def _forward(self, p, x, normalization):
        h = x
        for name, activation in zip(self.names, self.activations, strict=True):
            a = ops.affine(h, p[name], name=name)
            if self._normalizes(name):
                a = normalization(a, p, name)
            h = ACTIVATIONS[activation](a)
            if self.dropout is not None and name != self.names[-1]:
                h = self.dropout(h, name)
        return h

    def _normalizes(self, name):
        return self.normalization is not None and name != self.names[-1]


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

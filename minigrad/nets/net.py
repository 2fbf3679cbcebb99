"""What all nets share. A net is a pure function net(p, x) of a dict of parameters and a batch.

It returns r, what comes before the output activation, which belongs to the loss. Nets own no parameters and no state:
layers are affine, on a sample's row or on the patches of its image, and each hidden one is

    h <- dropout(activation(normalization(a)))        a its pre-activations
"""

from dataclasses import replace
from functools import cached_property

from ..autodiff import ops
from ..backend import xp
from .layout import Layout

ACTIVATIONS = {"sigmoid": ops.sigmoid, "tanh": ops.tanh, "relu": ops.relu, "linear": lambda a: a}  # all are monotone


class Net:
    """The base of MLP and ConvNet, frozen dataclasses with fields initializer, normalization and dropout.

    They say what `names` their layers have, in order, the output layer last; {name: (in + 1, out)}, their `matrices`;
    and how a batch goes through: _forward(p, x, normalization), with `_outputs` for what follows an affine map.
    """

    @cached_property
    def layout(self):
        """Where each layer's (in + 1, out) matrix lies in theta, and after it its normalization's vectors."""
        shapes = {}
        for name, shape in self.matrices.items():
            shapes[name] = shape
            if self.normalization is not None and self._hidden(name):
                shapes |= {f"{name}.{part}": shape[1:] for part in self.normalization.start}
        return Layout(shapes)

    @property
    def work(self):
        """Multiply-adds of a forward pass, a sample."""
        return self.layout.size  # each number of theta is used once

    @property
    def couples_samples(self):
        """Does a sample's output depend on the others of its batch? Batch normalization's does, until it is settled."""
        return self.normalization is not None and self.normalization.population is None

    def init(self, rng, dtype="float32"):
        """A fresh flat theta on the active backend: matrices from the net's initializer, the rest as its part says."""
        parameters = {}
        for name, shape in self.layout.shapes.items():
            if name in self.matrices:
                parameters[name] = self.initializer(rng, shape[0] - 1, shape[1], xp.dtype(dtype))
            else:
                _, _, part = name.rpartition(".")
                parameters[name] = xp.full(shape, self.normalization.start[part], dtype)
        return self.layout.pack(parameters)

    def __call__(self, p, x):
        return self._forward(p, x, self.normalization)

    def apply(self, theta, x):
        """r (N, out) for flat theta and x (N, ...)."""
        return self(self.layout.views(theta), x)

    def among(self, slices):
        """The net for one of several slices of a batch, whose statistics are the batch's: `slices.total` adds up."""
        return replace(self, normalization=replace(self.normalization, among=slices))

    def settled(self, theta, x):
        """The net whose normalization has the statistics of x (N, ...) for constants; itself, if it has none.

        They are those of all of x, which goes through in one piece.
        """
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
        widths = {name: shape[1] for name, shape in self.matrices.items() if self._hidden(name)}
        return replace(self, dropout=self.dropout.drawn(rng, widths, dtype))

    def _outputs(self, a, name, p, activation, normalization, pool=None):
        """What layer `name` makes of its pre-activations a: normalized, pooled, activated, thinned.

        Of the output layer's, only activated.
        """
        hidden = self._hidden(name)
        if normalization is not None and hidden:
            a = normalization(a, p, name)
        if pool is not None:
            a = pool(a)
        h = ACTIVATIONS[activation](a)
        return self.dropout(h, name) if self.dropout is not None and hidden else h

    def _hidden(self, name):
        return name != self.names[-1]

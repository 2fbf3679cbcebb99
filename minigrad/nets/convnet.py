"""Convolutional nets, as lists of stages.

    convnet((28, 28, 1), [Convolution(32, 5), MaxPool(2), Convolution(64, 5), MaxPool(2), Dense(750), Dense(10)])

Images are (N, H, W, C), channels last: `minigrad.data.images` makes them. A stage says what comes out of it for what
goes in, a shape (H, W, C) or (units,), which layers it has, and how a batch goes through. A convolution is an affine
layer on patches (`autodiff.conv`), so layers are matrices (kh kw C + 1, channels), and all that is made for affine
layers works for them.

A MaxPool right behind a Convolution is taken before the activation, which is monotone: the largest number stays the
largest, so nothing changes but that the activation has fewer numbers to work on. (Normalization comes before both.)
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from numbers import Integral
from typing import ClassVar, NamedTuple

from ..autodiff import ops
from ..autodiff.conv import Window, average_pool, convolution, global_average, max_pool
from ..backend import check_name
from .init import He
from .net import ACTIVATIONS, Net

# --- stages ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convolution:
    """`channels` maps of what a window sees. window: a Window, or the size of a square kernel."""

    channels: int
    window: object = 3

    kind: ClassVar = "conv"

    def __post_init__(self):
        _check_counts("Convolution", channels=self.channels)
        if not isinstance(self.window, Window):
            object.__setattr__(self, "window", Window(self.window))

    def out(self, shape, name):
        """The shape that comes out for a `shape` that goes in. Raises ValueError, naming `name`, if none can."""
        return (*self.window.places((1, *_image(shape, name)), name), self.channels)

    def layers(self, shape, name):
        """{layer: (how often it is used in a sample, the shape of its matrix)}."""
        rows, columns, _ = self.out(shape, name)
        return {name: (rows * columns, (self.window.count * shape[2] + 1, self.channels))}

    def forward(self, h, p, name, outputs):
        """What comes out for h (N, ...); `outputs` makes a layer's outputs of its pre-activations and name."""
        return outputs(convolution(h, p[name], self.window, name), name)


@dataclass(frozen=True)
class Fire:
    """SqueezeNet's module: `squeeze` maps by 1 x 1, of which expand1 by 1 x 1 and expand3 by 3 x 3, side by side."""

    squeeze: int
    expand1: int
    expand3: int

    kind: ClassVar = "fire"

    def __post_init__(self):
        _check_counts("Fire", squeeze=self.squeeze, expand1=self.expand1, expand3=self.expand3)

    @property
    def parts(self):
        """{name: Convolution}."""
        return {
            "squeeze": Convolution(self.squeeze, 1),
            "expand1": Convolution(self.expand1, 1),
            "expand3": Convolution(self.expand3, Window(3, padding=1)),
        }

    def out(self, shape, name):
        """As Convolution.out."""
        return (*_image(shape, name)[:2], self.expand1 + self.expand3)

    def layers(self, shape, name):
        """As Convolution.layers."""
        squeezed, found = (*shape[:2], self.squeeze), {}
        for part, stage in self.parts.items():
            found |= stage.layers(shape if part == "squeeze" else squeezed, f"{name}.{part}")
        return found

    def forward(self, h, p, name, outputs):
        """As Convolution.forward."""
        through = lambda part, h: self.parts[part].forward(h, p, f"{name}.{part}", outputs)
        h = through("squeeze", h)
        return ops.concatenate([through("expand1", h), through("expand3", h)], axis=3)


@dataclass(frozen=True)
class Dense:
    """An affine layer of all numbers of a sample; of an image in the order row, column, channel."""

    units: int

    kind: ClassVar = "dense"

    def __post_init__(self):
        _check_counts("Dense", units=self.units)

    def out(self, shape, name):
        """As Convolution.out."""
        return (self.units,)

    def layers(self, shape, name):
        """As Convolution.layers."""
        return {name: (1, (math.prod(shape) + 1, self.units))}

    def forward(self, h, p, name, outputs):
        """As Convolution.forward."""
        return outputs(ops.affine(ops.reshape(h, (h.shape[0], math.prod(h.shape[1:]))), p[name], name=name), name)


class _NoLayers:
    """Stages that have no parameters."""

    kind = "pool"

    def layers(self, shape, name):
        """None."""
        return {}

    def forward(self, h, p, name, outputs):
        """What comes out for h (N, H, W, C)."""
        return self(h)


class _Pool(_NoLayers):
    def __post_init__(self):
        if not isinstance(self.window, Window):
            object.__setattr__(self, "window", Window(self.window, stride=self.window))
        if self.window.padding != (0, 0):
            raise ValueError(f"{type(self).__name__}: padding must be 0, got {self.window.padding}")

    def out(self, shape, name):
        """As Convolution.out."""
        return (*self.window.places((1, *_image(shape, name)), name), shape[2])


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest of what a window sees, map by map. window: a Window, or a number: windows of this size side by side.

    Places that would reach over the edge are left out.
    """

    window: object = 2

    def __call__(self, h):
        return max_pool(h, self.window)


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of what a window sees, map by map; windows as MaxPool's."""

    window: object = 2

    def __call__(self, h):
        return average_pool(h, self.window)


@dataclass(frozen=True)
class GlobalAverage(_NoLayers):
    """The mean of each map: (H, W, C) to (C,)."""

    def out(self, shape, name):
        """As Convolution.out."""
        return _image(shape, name)[2:]

    def __call__(self, h):
        return global_average(h)


STAGES = (Convolution, Fire, Dense, MaxPool, AveragePool, GlobalAverage)


def _check_counts(stage, **counts):
    for what, n in counts.items():
        if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
            raise ValueError(f"{stage}: {what} must be a positive whole number, got {n!r}")


def _image(shape, name):
    if len(shape) != 3:
        raise ValueError(f"{name}: needs images (H, W, C), got what comes out of a layer of units, {shape}")
    return shape


# --- the net --------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """A stage of a net: its name, the shape that goes in, the shape that comes out, the MaxPool that is part of it."""

    name: str
    stage: object
    shape: tuple
    out: tuple
    pool: object = None


@dataclass(frozen=True)
class ConvNet(Net):
    """Images of one shape (H, W, C) through `stages`, of which the last with a layer has the outputs.

    activation: of hidden layers, a name; output: of the output layer. normalization: None, or a part that stands before
    the activation of every hidden layer. dropout: None, or Dropout(rate), behind it: of dense layers it leaves out
    units, of others whole maps; one mask serves all samples of a batch.
    net(p, x): x (N, H, W, C), or rows (N, H W) for one channel, -> r (N, out), p a dict of views.
    Layers are named by kind and number, "conv0", "conv1", "fire0.squeeze", "dense0", the last one "output".
    """

    image: tuple
    stages: tuple
    activation: str
    output: str
    initializer: object
    normalization: object = None
    dropout: object = None

    def __post_init__(self):
        for activation in (self.activation, self.output):
            check_name("activation", activation, tuple(ACTIVATIONS))
        if len(self.image) != 3 or any(not isinstance(n, Integral) or n < 1 for n in self.image):
            raise ValueError(f"convnet: images must have a shape (H, W, C) of positive numbers, got {self.image}")
        for stage in self.stages:
            if not isinstance(stage, STAGES):
                raise TypeError(f"convnet: a stage is one of {[s.__name__ for s in STAGES]}, got {stage!r}")
        if not any(step.name == "output" and isinstance(step.stage, Convolution | Dense) for step in self._steps):
            raise ValueError(f"convnet: the last layer must be a Dense or a Convolution, got {list(self.stages)}")
        shape = self._steps[-1].out
        if len(shape) != 1:
            raise ValueError(f"convnet: a vector must come out, of Dense or GlobalAverage, got maps of shape {shape}")

    @cached_property
    def _steps(self):
        """The stages with their names and shapes; a MaxPool behind a Convolution is taken into the Convolution's."""
        last = max((i for i, stage in enumerate(self.stages) if not isinstance(stage, _NoLayers)), default=None)
        steps, counts, shape = [], {}, tuple(self.image)
        for i, stage in enumerate(self.stages):
            number = counts[stage.kind] = counts.get(stage.kind, -1) + 1
            name = "output" if i == last else f"{stage.kind}{number}"
            out = stage.out(shape, name)
            before = steps[-1] if steps else None
            if isinstance(stage, MaxPool) and before and isinstance(before.stage, Convolution) and before.pool is None:
                steps[-1] = before._replace(pool=stage, out=out)
            else:
                steps.append(_Step(name, stage, shape, out))
            shape = out
        return steps

    @cached_property
    def _layers(self):
        """{layer: (how often it is used in a sample, the shape of its matrix)}."""
        found = {}
        for step in self._steps:
            found |= step.stage.layers(step.shape, step.name)
        return found

    @cached_property
    def matrices(self):
        """{layer: (in + 1, out)}, in order."""
        return {name: shape for name, (_, shape) in self._layers.items()}

    @property
    def names(self):
        """Of the layers, in order."""
        return tuple(self._layers)

    @cached_property
    def work(self):
        """Multiply-adds of a forward pass, a sample: a layer's numbers count once for each place."""
        places = {name: count for name, (count, _) in self._layers.items()}
        owner = lambda name: name if name in places else name.rpartition(".")[0]  # of normalization's vectors
        return sum(places[owner(name)] * math.prod(shape) for name, shape in self.layout.shapes.items())

    def _forward(self, p, x, normalization):
        h = self._images(x)
        for step in self._steps:
            activation = self.output if step.name == "output" else self.activation
            outputs = partial(self._outputs, p=p, activation=activation, normalization=normalization, pool=step.pool)
            h = step.stage.forward(h, p, step.name, outputs)
        return h

    def _images(self, x):
        H, W, C = self.image
        if x.shape[1:] == tuple(self.image):
            return x
        if C == 1 and x.shape[1:] == (H * W,):
            return ops.reshape(x, (x.shape[0], H, W, 1))
        raise ValueError(f"x must be images (N, {H}, {W}, {C}), got {x.shape}; minigrad.data.images makes them of rows")


def convnet(image, stages, activation="relu", output="linear", init=None, normalization=None, dropout=None):
    """A net for images of shape (H, W, C), made of stages, e.g. [Convolution(32, 5), MaxPool(2), Dense(10)].

    activation: of hidden layers; output: of the output layer, the last that is a Convolution or Dense. init: an
    initializer, He() by default; it is told of the numbers in a patch, and of channels. normalization: BatchNorm() or
    MeanOnly(), of all hidden layers; None by default. dropout: e.g. Dropout(0.5), of all hidden layers.
    Raises ValueError for a stage that cannot take what goes into it, naming it; for unknown activations; where no
    vector comes out.
    """
    return ConvNet(tuple(image), tuple(stages), activation, output, init or He(), normalization, dropout)

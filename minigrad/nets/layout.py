"""One flat vector theta, and a dict of named, shaped views into it.

Methods see theta: one vector, so that CG, finite differences, distances and checkpoints are plain vector code.
Networks see `p["enc0"]`: zero-copy views. Traced, a view is one node on the tape, and its cotangent lands in its
slice of the gradient.
"""

import math

from ..autodiff import Var, ops
from ..autodiff.tape import view


class Layout:
    """Names and shapes of the parameters, in the order in which they lie in theta.

    shapes: {name: shape}. size: length of theta. `slices[name]` is the parameter's slice of theta.
    """

    def __init__(self, shapes):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.slices, start = {}, 0
        for name, shape in self.shapes.items():
            if not shape or min(shape) < 1:
                raise ValueError(f"layout: parameter {name!r} needs positive sizes, got {shape}")
            stop = start + math.prod(shape)
            self.slices[name] = slice(start, stop)
            start = stop
        self.size = start

    @property
    def names(self):
        """The parameters' names, in order."""
        return tuple(self.shapes)

    def views(self, theta):
        """{name: view of theta in the parameter's shape}; no copies. Raises ValueError unless theta is (size,)."""
        self.check(theta)
        if type(theta) is Var:
            return {
                name: view(theta, start=self.slices[name].start, shape=shape, name=name)
                for name, shape in self.shapes.items()
            }
        return {name: theta[self.slices[name]].reshape(shape) for name, shape in self.shapes.items()}

    def pack(self, parameters):
        """The flat theta of {name: array}. Raises ValueError for missing or unknown names or wrong shapes."""
        if set(parameters) != set(self.shapes):
            missing, unknown = set(self.shapes) - set(parameters), set(parameters) - set(self.shapes)
            raise ValueError(f"layout: missing parameters {sorted(missing)}, unknown {sorted(unknown)}")
        for name, shape in self.shapes.items():
            if parameters[name].shape != shape:
                raise ValueError(f"layout: {name!r} must have shape {shape}, got {parameters[name].shape}")
        return ops.concatenate([parameters[name].reshape(-1) for name in self.shapes])

    def owner(self, i):
        """The name of the parameter to which theta[i] belongs."""
        for name, where in self.slices.items():
            if where.start <= i < where.stop:
                return name
        raise IndexError(f"layout: index {i} is outside of theta ({self.size},)")

    def check(self, theta):
        """Raise unless theta is a float vector of this layout's size."""
        if getattr(theta, "shape", None) != (self.size,):
            raise ValueError(f"theta must have shape ({self.size},), got {getattr(theta, 'shape', type(theta))}")
        if theta.dtype.kind not in "fc":
            raise TypeError(f"theta must hold floating-point numbers, got {theta.dtype}")

    def __repr__(self):
        rows = [f"  {name:12} {shape!s:16} theta[{self.slices[name].start}:{self.slices[name].stop}]"
                for name, shape in self.shapes.items()]  # fmt: skip
        return "\n".join([f"Layout of {self.size} parameters", *rows])

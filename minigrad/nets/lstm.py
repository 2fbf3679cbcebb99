"""A recurrent net: a sequence is swept by one LSTM layer, and what it has in the end goes through an affine layer.

A step is an affine layer of (x_t h), with one matrix for all steps, and the cell:

    a_t = (x_t h_{t-1} 1) W,   (h_t | c_t) = cell(a_t, (h_{t-1} | c_{t-1}))     from h_0 = c_0 = 0

To the engine it is a deep net whose layers share their matrix: backpropagation through time is its L-op.
"""

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

from ..autodiff import ops
from ..autodiff.recurrent import lstm_cell, lstm_input
from ..backend import xp
from .init import Glorot
from .layout import Layout


@dataclass(frozen=True)
class LSTM:
    """`hidden` cells over sequences of `n_in` inputs a step; `n_out` outputs after the last step.

    net(p, x): x (N, T, n_in) -> r (N, n_out), p a dict of views: "lstm" (n_in + hidden + 1, 4 hidden), whose columns
    are the gates i, f, o and the candidate g, and "output" (hidden + 1, n_out). net.apply(theta, x): the same from flat
    theta. The tape has three nodes a step, so memory grows like T.
    """

    n_in: int
    hidden: int
    n_out: int
    initializer: object
    forget_bias: float

    def __post_init__(self):
        sizes = (self.n_in, self.hidden, self.n_out)
        if any(not isinstance(n, Integral) or n < 1 for n in sizes):
            raise ValueError(f"lstm: n_in, hidden and n_out must be positive whole numbers, got {list(sizes)}")

    @cached_property
    def layout(self):
        """Where the two matrices lie in theta."""
        return Layout({"lstm": (self.n_in + self.hidden + 1, 4 * self.hidden), "output": (self.hidden + 1, self.n_out)})

    def init(self, rng, dtype="float32"):
        """A fresh flat theta on the active backend: each gate's matrix drawn as a layer of its own, the forget gate's
        bias as the net has it."""
        H, dtype = self.hidden, xp.dtype(dtype)
        gates = [self.initializer(rng, self.n_in + H, H, dtype) for _ in range(4)]
        gates[1][-1] += self.forget_bias
        return self.layout.pack(
            {"lstm": xp.concatenate(gates, axis=1), "output": self.initializer(rng, H, self.n_out, dtype)}
        )

    def __call__(self, p, x):
        if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] != self.n_in:
            raise ValueError(f"lstm: x must have shape (N, T, {self.n_in}) with T at least 1, got {x.shape}")
        H, W = self.hidden, ops.reused(p["lstm"])
        s = xp.zeros((x.shape[0], 2 * H), x.dtype)
        for t in range(x.shape[1]):
            s = lstm_cell(ops.affine(lstm_input(x[:, t], s), W, name="lstm"), s)
        return ops.affine(s[:, :H], p["output"], name="output")

    def apply(self, theta, x):
        """r (N, n_out) for flat theta and x (N, T, n_in)."""
        return self(self.layout.views(theta), x)


def lstm(n_in, hidden, n_out, init=None, forget_bias=1.0):
    """An LSTM, e.g. lstm(1, 128, 10) for images as sequences of pixels.

    init: an initializer of `minigrad.nets.init`, Glorot() by default. forget_bias: the forget gate's bias at the start;
    1 lets the memory live longer (Gers et al. 2000; Jozefowicz et al. 2015).
    Raises ValueError for sizes that are not positive whole numbers.
    """
    return LSTM(n_in, hidden, n_out, init or Glorot(), float(forget_bias))

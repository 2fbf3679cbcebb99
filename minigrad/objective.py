"""Objective(net, loss): what every method asks for - value, gradient, the linearized net.

A batch is a sum: losses are means over samples, so value, gradient and J' M J are sums over slices of the batch, each
with the whole batch's 1/N. The slices run on threads (`backend.parallel`) and are added in a fixed order. `rows`
bounds a slice's length, so that a gradient's memory stays bounded too. Slices of a net that couples samples wait for
each other where it takes statistics of the batch (`Meeting`). Where several processes share the batch, each
has the slices of its own rows, and their sums are added up over `ranks` (`parallel`).
"""

import cmath
import math
from dataclasses import dataclass, field, replace

from .autodiff import Var, linearize, untraced
from .backend import Meeting, evenly, is_array, item, parallel, threads, xp
from .linalg import LinearOperator, SliceRows
from .linalg.vectors import add_up, dot
from .parallel import ALONE

WORTH_A_SLICE = 1 << 28  # multiply-adds of a forward pass below which a slice costs more than it gains


class SlicedJacobian(LinearOperator):
    """The Jacobian of a batch of n samples, its slices one above the other; rop, lop and sweep as a Jacobian has them.

    parts, slices: those of this process; the other rows are on the other ranks. R-op gives the tangents of all samples,
    L-op takes the cotangents of all and sums over all. Who goes over the parts by himself completes the sums by
    `ranks.total`, and has their products worked out by `run`: where samples are coupled, the parts wait for each other.
    """

    def __init__(self, parts, slices, n, ranks=ALONE, run=parallel):
        self.own, self.slices, self.ranks, self.run = SliceRows(parts, run=run), slices, ranks, run
        self.parts, first = self.own.parts, parts[0]
        self.x_shape, self.y_shape = first.x_shape, (n, *first.y_shape[1:])
        super().__init__((math.prod(self.y_shape), first.shape[1]), first.dtype, name="J")

    def _matvec(self, v):
        own = self.own.matvec(v)
        return self.ranks.gathered(own.reshape(-1, *self.y_shape[1:]), self.y_shape[0]).reshape(-1)

    def _rmatvec(self, u):
        own = u.reshape(self.y_shape)[self.slices[0].start : self.slices[-1].stop]
        return self.ranks.total([self.own.rmatvec(own.reshape(-1))])[0]

    def rop(self, v):
        """R-op: tangents (N, ...) of the outputs for the tangent v (n,) of theta."""
        return self.matvec(v).reshape(self.y_shape)

    def lop(self, u):
        """L-op: cotangent (n,) of theta for cotangents u (N, ...) of the outputs."""
        if u.shape != self.y_shape:
            raise ValueError(f"L-op: the cotangent must have shape {self.y_shape}, got {u.shape}")
        return self.rmatvec(u.reshape(-1))

    def sweep(self, u):
        """(node, cotangent) of every op, slice after slice: raw moments over its rows are sums over what it yields."""
        for part, rows in zip(self.parts, self.slices, strict=True):
            yield from part.sweep(u[rows])


@dataclass(frozen=True)
class Objective:
    """The mean loss of a net over a batch, plus weight_decay / 2 * ||theta||^2.

    net: has `layout` and `apply(theta, x)`; if it says that it `couples_samples`, a batch goes through in one piece, or
    in slices that meet, if it also has `among` (`nets.net.Net`). loss: one of minigrad.losses. A batch is (x, t):
    x (N, ...), t as the loss wants it. rows: at most so many samples are swept at once for a gradient (None: no limit).
    ranks: the processes that share the work on each batch, `parallel.Ranks(comm)`; every one is given all of it.
    Non-finite results raise FloatingPointError naming theta, x or the first layer with a non-finite output.
    """

    net: object
    loss: object
    weight_decay: float = 0.0
    rows: int | None = 1024
    ranks: object = field(default=ALONE, repr=False, compare=False)  # who computes changes no more than rounding

    def __post_init__(self):
        if not self.weight_decay >= 0:
            raise ValueError(f"Objective: weight_decay must not be negative, got {self.weight_decay}")
        object.__setattr__(self, "weight_decay", float(self.weight_decay))  # float32 beside it stays float32
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"Objective: rows must be at least 1, got {self.rows}")
        if not hasattr(self.ranks, "total"):
            raise TypeError(f"Objective: ranks must be minigrad.parallel.Ranks(communicator), got {self.ranks!r}")
        if self.couples_samples and self.ranks.size > 1 and not hasattr(self.net, "among"):
            raise NotImplementedError(
                "Objective: a net that couples the samples of a batch, and has no `among`, cannot be spread over ranks"
            )

    @property
    def layout(self):
        """The net's layout of theta."""
        return self.net.layout

    @property
    def couples_samples(self):
        """Does the net's output for a sample depend on the others of its batch (batch normalization)?"""
        return getattr(self.net, "couples_samples", False)

    @property
    def alone(self):
        """The same objective, worked out by this process by itself."""
        return self if self.ranks is ALONE else replace(self, ranks=ALONE)

    def value(self, theta, batch):
        """The objective, a number; for a traced theta a traced value, to be differentiated as often as you like."""
        if type(theta) is Var:
            x, t = self.checked(theta, batch)
            value = self._slice_value(theta, x, t, slice(None), x.shape[0], self.net)
            return value + self._decay(theta) if self.weight_decay else value
        with self.ranks.together("value", theta, batch):
            x, t = self.checked(theta, batch)
            n = x.shape[0]
            net, slices, run = self.cut(theta, n, self.rows)
            parts = run(lambda rows: self._slice_value(theta, x, t, rows, n, net), slices)
        (value,) = self.ranks.total([sum(parts[1:], parts[0])])
        return self._finite(value + self._decay(theta), theta, x)

    def value_and_grad(self, theta, batch):
        """(value, gradient (n,)) by one sweep each way a slice; the loss's own gradient is the cotangent of r."""
        ranks = self._partners(theta)
        with ranks.together("value_and_grad", theta, batch):
            x, t = self.checked(theta, batch)
            n = x.shape[0]
            net, slices, run = self.cut(theta, n, self.rows)

            def one_slice(rows):
                r, J = linearize(lambda theta: net.apply(theta, x[rows]), theta)
                self._check_targets(r, t[rows])
                value, u = self.loss.value_and_gradient(r, t[rows], n)
                return value, J.lop(u)

            values, gradients = zip(*run(one_slice, slices), strict=True)
        value, g = ranks.total([sum(values[1:], values[0]), add_up(gradients)])
        if self.weight_decay:
            g = g + self.weight_decay * theta
        if type(theta) is Var:
            return value + self._decay(theta), g
        return self._finite(value + self._decay(theta), theta, x), g

    def value_grad_and_linearize(self, theta, batch):
        """(value, gradient (n,), r (N, ...), J): what `value_and_grad` and `linearize` give, for one forward pass.

        The whole batch's tape is kept, so `rows` bounds no memory here. The ranks share the passes; the loss of all
        outputs is worked out by each.
        """
        with self._partners(theta).together("value_grad_and_linearize", theta, batch):
            x, t = self.checked(theta, batch)
        r, J = self.linearize(theta, x)
        n = r.shape[0]
        self._check_targets(r, t)
        slices = self.alone.slices(theta, n)
        values, cotangents = zip(
            *parallel(lambda rows: self.loss.value_and_gradient(r[rows], t[rows], n), slices), strict=True
        )
        g = J.lop(cotangents[0] if len(cotangents) == 1 else xp.concatenate(cotangents))
        if self.weight_decay:
            g = g + self.weight_decay * theta
        return self._finite(sum(values[1:], values[0]) + self._decay(theta), theta, x), g, r, J

    def linearize(self, theta, x):
        """(r, J): the outputs (N, ...) and their Jacobian in theta; any number of products cost no forward pass."""
        ranks = self._partners(theta)
        with ranks.together("linearize", theta, x):
            x = self.inputs(theta, x)
            n = x.shape[0]
            net, slices, run = self.cut(theta, n)
            pairs = run(lambda rows: linearize(lambda theta: net.apply(theta, x[rows]), theta), slices)
        outputs, parts = zip(*pairs, strict=True)
        for J in parts:
            J.couples_samples = self.couples_samples  # a layer's deltas then mix the samples' scores
        if len(pairs) == ranks.size == 1:
            return pairs[0]
        return ranks.gathered(xp.concatenate(outputs), n), SlicedJacobian(parts, slices, n, ranks, run)

    def predict(self, theta, x):
        """y = sigma(r), (N, ...): the output distribution's parameters."""
        ranks = self._partners(theta)
        with ranks.together("predict", theta, x):
            x = self.inputs(theta, x)
            net, slices, run = self.cut(theta, x.shape[0], self.rows)
            y = xp.concatenate(run(lambda rows: self.loss.predict(net.apply(theta, x[rows])), slices))
        return ranks.gathered(y, x.shape[0])

    def settled(self, theta, x):
        """The objective of the net as it is used after training: its population statistics fixed, measured on x.

        Itself, where the net has none (all but batch-normalized nets).
        """
        return replace(self, net=self.net.settled(theta, x)) if hasattr(self.net, "settled") else self

    def thinned(self, theta, rng):
        """The objective of the net with dropout masks drawn, for one update; itself, without dropout."""
        net = self.net.thinned(rng, theta.dtype) if hasattr(self.net, "thinned") else self.net
        return self if net is self.net else replace(self, net=net)

    # -- slices ------------------------------------------------------------------------------------------

    def slices(self, theta, n, limit=None):
        """Slices of this rank's share of n rows: as many as threads if it pays, more if `limit` rows are exceeded.

        One, whatever n is, where the net says that it couples the samples of a batch (batch normalization).
        """
        if self._partners(theta).size > 1 and self.couples_samples:
            raise NotImplementedError("a net that couples samples cannot be worked on by slices that do not meet")
        if type(theta) is Var or self.couples_samples:
            return [slice(None)]
        share = self.ranks.share(n)
        n = share.stop - share.start
        count = self._worth(theta, n)
        if limit is not None:
            count = min(n, count * math.ceil(n / (limit * count)))
        return evenly(share.start, share.stop, count)

    def cut(self, theta, n, limit=None):
        """(net, slices, run) for n rows: `slices`, or slices that meet, of a net that couples samples and allows it.

        run(function, slices): function(slice) of each, as `parallel`.
        """
        if type(theta) is not Var and self.couples_samples and hasattr(self.net, "among"):
            share = self.ranks.share(n)
            count = self._worth(theta, share.stop - share.start)
            if max(count, self.ranks.size) > 1:
                meeting = Meeting(count, n, self.ranks)
                return self.net.among(meeting), evenly(share.start, share.stop, count), meeting.run
        return self.net, self.slices(theta, n, limit), parallel

    def _worth(self, theta, n):
        """How many slices n rows are worth."""
        work = getattr(self.net, "work", theta.shape[0])  # of a sample; where the net does not say, a row of weights
        return max(1, min(threads(), n * work // WORTH_A_SLICE, n))

    def _partners(self, theta):
        """The ranks that share the work; a traced theta's values stay on this one's tape."""
        return ALONE if type(theta) is Var else self.ranks

    def _slice_value(self, theta, x, t, rows, n, net):
        r = net.apply(theta, x[rows])
        self._check_targets(r, t[rows])
        return self.loss.value(r, t[rows], n)

    def _decay(self, theta):
        return 0.5 * self.weight_decay * dot(theta, theta) if self.weight_decay else 0.0

    # -- checks ------------------------------------------------------------------------------------------

    def checked(self, theta, batch):
        """The batch (x, t), or an error that names what is wrong with it or with theta."""
        if not isinstance(batch, tuple) or len(batch) != 2:
            raise TypeError(f"a batch is a pair (x, t), got {type(batch).__name__}")
        x, t = batch
        rows = self.inputs(theta, x)
        if len(t) != len(x):
            raise ValueError(f"a batch needs one target a sample, got {len(x)} inputs and {len(t)} targets")
        return rows, rows if t is x else _follow(theta, t)

    def inputs(self, theta, x):
        """x in theta's precision, or an error that names what is wrong with it or with theta."""
        self.layout.check(untraced(theta))
        if not is_array(untraced(x)):
            raise TypeError(f"x must be an array of the active backend, got {type(x).__name__}")
        if x.ndim < 1 or x.shape[0] == 0:
            raise ValueError(f"empty batch: x has shape {x.shape}")
        if x.dtype.kind != "f":
            raise TypeError(f"x must hold floating-point numbers, got {x.dtype}")
        return _follow(theta, x)

    def _check_targets(self, r, t):
        self.loss.check(r.shape, t)

    def _finite(self, value, theta, x):
        value = item(value)
        if not cmath.isfinite(value):  # complex when a check takes a complex step in theta
            self.diagnose(theta, x)
            raise FloatingPointError(f"the objective is {value}; parameters, inputs and outputs are finite")
        return value

    def diagnose(self, theta, x):
        """Where do numbers stop being finite? FloatingPointError names theta's parameter, x, or the first op."""
        bad = xp.flatnonzero(~xp.isfinite(theta))
        if bad.size:
            owner = self.layout.owner(item(bad[0]))
            raise FloatingPointError(f"theta is not finite: {bad.size} of {theta.size} numbers, first in {owner!r}")
        finite = xp.isfinite(x)
        if not item(finite.all()):
            row = item(xp.argmin(finite.reshape(x.shape[0], -1).all(axis=1)))
            raise FloatingPointError(f"x is not finite, first in sample {row}")
        linearize(lambda theta: self.net.apply(theta, x), theta, check_finite=True)


def _follow(theta, x):
    """x in theta's precision: float64 data must not turn a float32 net into a slow float64 one."""
    both_real = getattr(x, "dtype", theta.dtype).kind == "f" == theta.dtype.kind
    return x.astype(theta.dtype, copy=False) if both_real and x.dtype != theta.dtype else x

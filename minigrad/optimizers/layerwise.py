"""One update by layerwise curvature, whatever is kept of a layer's (after Martens & Grosse 2015, algorithm 2).

    1. loss f, gradient g, and the net linearized at theta
    2. statistics of each layer, averaged over the updates; every so often, what is made of them
    3. direction  D = (P + (lam + eta) I)^-1 g, layer by layer: P the approximation, eta the weight decay
    4. step       d = mu d_before - alpha D, with alpha and mu least in the exact model of the batch (sections 6.4, 7)

           g'd + d'(G + (lam + eta) I)d / 2,    G the exact Fisher information

    5. damping lam, by the reduction ratio (section 6.5)

d'Gd = (J d)' M (J d) takes R-ops alone, one a vector. P may be crude: the model scales what comes of it. Where alpha
and mu are given, d is the velocity of SGD with momentum, and no model is asked unless lam adapts. The paper damps P by
a number of its own (section 6.6); here one lam serves both. The reduction ratio is the other methods', its G without
lam (`damping.py`).
"""

import math
import operator
from dataclasses import dataclass, field
from functools import reduce

from ..backend import check_name, item, one_blas_thread, to_host, xp
from ..curvature import scores
from ..curvature.fisher import KINDS
from ..linalg.vectors import over_blocks
from .checks import check_counts, check_fraction
from .damping import LevenbergMarquardt
from .natural_gradient import value_or_nan
from .phases import phase
from .quadratic_model import quadratic_model
from .schedules import as_schedule


@dataclass(frozen=True)
class Layerwise:
    """What KFAC, EKFAC and DiagonalFisher share.

    lr: alpha, a number or a schedule; momentum: mu, in [0, 1). None leaves either to the exact model. damping: a policy
    (LevenbergMarquardt, FixedDamping), which also decides whether a step is taken; after one that is not, momentum
    starts anew. kind: of the Fisher information: "mc" (`samples` draws an input, a backward sweep each), "exact" (a
    sweep an output) or "empirical". decay: of the running averages; the k-th update's statistics weigh
    max(1 / k, 1 - decay) in them (section 5).

    A subclass says what is kept of a layer's curvature P:

        measure(update, state, J, cotangents, lam) -> [(layer's name, span in theta)], entries of the state
        inverse(state, name, lam) -> (P + lam I)^-1, an operator
        work(sweeps) -> what measuring costs, in gradients

    Raises NotImplementedError for nets that are not made of affine layers (`affine_layers`), ArithmeticError naming a
    layer whose P is singular without damping, FloatingPointError naming update and layer for what is not finite.
    """

    lr: object = None
    momentum: float | None = None
    damping: object = field(default_factory=LevenbergMarquardt)
    kind: str = "mc"
    samples: int = 1
    decay: float = 0.95

    def __post_init__(self):
        owner = type(self).__name__
        if self.lr is not None:
            object.__setattr__(self, "lr", as_schedule(self.lr))
        if self.momentum is not None:
            check_fraction(owner, momentum=self.momentum)
        check_name("Fisher kind", self.kind, KINDS)
        check_counts(owner, samples=self.samples)
        check_fraction(owner, decay=self.decay)
        if self.samples > 1 and self.kind != "mc":
            raise ValueError(f"{owner}: samples={self.samples} is for kind 'mc', got kind {self.kind!r}")

    def init(self, objective, theta):
        """update count, damping lam, last step d, and what the schedule keeps; the first update adds its statistics."""
        schedule = {} if self.lr is None else self.lr.init()
        return {"update": 0, "lam": float(self.damping.lam), "d": xp.zeros_like(theta), **schedule}

    def observe(self, state, validation_loss):
        """Tell the learning-rate schedule a validation loss."""
        return state if self.lr is None else self.lr.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw=None, rng=None):
        """One update; returns theta, state, log."""
        update, lam, before = state["update"] + 1, state["lam"], state["d"]
        damped = lam + objective.weight_decay
        with phase("gradient"):
            loss, g, r, J = objective.value_grad_and_linearize(theta, batch)

        with phase("statistics"):
            cotangents = scores(objective.loss, r, batch[1], self.kind, rng=rng, samples=self.samples)
        layers, measured = self.measure(update, state, J, cotangents, damped)
        state = state | measured

        with phase("direction"):
            direction = self._direction(state, layers, g, damped)

        with phase("step"):
            c = [None if self.lr is None else -self.lr.rate(state), self.momentum]
            model = None
            if None in c or self.damping.adapts:
                model = quadratic_model(objective, g, r, J, [direction, before] if c[1] != 0 else [direction])
            c = model.minimum(c, lam) if None in c else c
            proposed, d, squares = _moved(theta, g, direction, before, *c)
            norm, length = to_host(xp.sqrt(squares)).tolist()
            if not (math.isfinite(norm) and math.isfinite(length)):
                raise FloatingPointError(_diagnosis(objective, update, gradient=g, direction=direction, step=d))

        work = 1 + self.work(len(cotangents)) + (2 / 3 * len(model.slopes) if model else 0)
        log = {"loss": loss, "gradient_norm": norm, "lr": -c[0], "momentum": c[1], "damping": lam}
        taken = True
        if self.damping.adapts:
            with phase("damping"):
                change = value_or_nan(objective, proposed, batch) - loss
                log["rho"] = self.damping.ratio(change, model.slope(c), model.curvature(c))
                lam, taken, work = self.damping.adapt(lam, log["rho"]), self.damping.takes(change), work + 1 / 3
        state = state | {"update": update, "lam": lam, "d": d if taken else xp.zeros_like(d)}
        return (proposed if taken else theta), state, log | {"taken": float(taken), "gradients": work}

    def _direction(self, state, layers, g, damped):
        """(P + damped I)^-1 g; a number of theta that no layer has stays."""
        direction = xp.zeros_like(g)
        with one_blas_thread():
            for name, span in layers:
                direction[slice(*span)] = self.inverse(state, name, damped) @ g[slice(*span)]
        return direction

    def averaged(self, update, state, new):
        """The running averages of {key: array}, fresh arrays; non-finite ones raise FloatingPointError by name."""
        keep, sums = min(1 - 1 / update, self.decay), []
        for key, array in new.items():
            mean = array.reshape(-1)
            old = state[key].reshape(-1) if keep else None

            def block(part, mean=mean, old=old):
                if keep:
                    mean[part] *= 1 - keep
                    mean[part] += keep * old[part]
                return mean[part].sum()

            sums.append(reduce(operator.add, over_blocks(mean.size, block)))
        for key, total in zip(new, to_host(xp.stack(sums)).tolist(), strict=True):
            if not math.isfinite(total):
                letter, _, name = key.partition(".")
                raise FloatingPointError(f"update {update}: the statistics {letter} of layer {name!r} are not finite")
        return new


def _moved(theta, g, direction, before, alpha, mu):
    """theta + d, d = alpha direction + mu before, and (g'g, d'd): each vector passes by once."""
    proposed, d = xp.empty_like(theta), xp.empty_like(theta)

    def work(part):
        xp.multiply(direction[part], alpha, out=d[part])
        if mu:
            d[part] += mu * before[part]
        xp.add(theta[part], d[part], out=proposed[part])
        return xp.stack([xp.dot(v[part], v[part]) for v in (g, d)])

    return proposed, d, reduce(operator.add, over_blocks(theta.shape[0], work))


def _diagnosis(objective, update, **vectors):
    """Which of the vectors is the first with a number that is not finite, and in which layer."""
    for name, vector in vectors.items():
        bad = xp.flatnonzero(~xp.isfinite(vector))
        if bad.size:
            return f"update {update}: the {name} is not finite, first in {objective.layout.owner(item(bad[0]))!r}"
    return f"update {update}: the gradient or the step is too long for {vector.dtype}; try a smaller lr"

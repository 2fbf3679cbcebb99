"""Natural gradient by truncated Newton: (F + lam I) d = -g by conjugate gradients (Pascanu & Bengio, algorithm 1).

F is the exact Fisher information of the net's output distribution, never formed: each product is one R-op, the loss's
metric, one L-op through the same tape (Pearlmutter 1994; Schraudolph 2002).
"""

import math
from dataclasses import dataclass, field

from ..backend import item, xp
from ..curvature import fisher
from ..linalg import MartensStop, cg, identity
from ..linalg.vectors import dot
from .checks import check_counts
from .damping import LevenbergMarquardt
from .schedules import as_schedule


@dataclass(frozen=True)
class ConjugateGradient:
    """How far to solve: at most maxiter iterations, until `stop` sees no progress (or ||residual|| <= rtol ||g||)."""

    maxiter: int = 50
    rtol: float = 0.0
    stop: MartensStop | None = field(default_factory=MartensStop)

    def __call__(self, A, b, x0):
        """(x, info) of A x = b."""
        return cg(A, b, x0, rtol=self.rtol, maxiter=self.maxiter, stop=self.stop)


@dataclass(frozen=True)
class NaturalGradient:
    """theta += lr d with (F + lam I) d = -g.

    lr: a number or a schedule. damping: a policy (LevenbergMarquardt, FixedDamping). solver: see ConjugateGradient.
    metric_batch: None measures F on the gradient's own batch; a number draws that many other samples, whose labels
    are not used. warm_start: the solve starts from warm_start times the last d (Martens 2010, section 4.8).
    A step that does not lower the loss on its own batch is not taken: theta stays bit for bit, lam grows.
    """

    lr: object = 1.0
    damping: object = field(default_factory=LevenbergMarquardt)
    solver: object = field(default_factory=ConjugateGradient)
    metric_batch: int | None = None
    warm_start: float = 0.95

    def __post_init__(self):
        object.__setattr__(self, "lr", as_schedule(self.lr))
        if self.metric_batch is not None:
            check_counts("NaturalGradient", metric_batch=self.metric_batch)
        if not 0 <= self.warm_start <= 1:
            raise ValueError(f"NaturalGradient: warm_start must lie in [0, 1], got {self.warm_start}")

    def init(self, objective, theta):
        """update count, damping lam, last direction d, and what the schedule keeps."""
        return {"update": 0, "lam": float(self.damping.lam), "d": xp.zeros_like(theta), **self.lr.init()}

    def observe(self, state, validation_loss):
        """Tell the learning-rate schedule a validation loss."""
        return self.lr.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw, rng):
        """One update; returns theta, state, log."""
        lam, lr = state["lam"], self.lr.rate(state)
        loss, g = objective.value_and_grad(theta, batch)

        # the metric, on its own batch if one is asked for
        x = batch[0] if self.metric_batch is None else draw(self.metric_batch)[0]
        F = fisher(objective, theta, x, kind="exact")

        # the direction
        d, info = self.solver(F + lam * identity(theta.shape[0]), -g, self.warm_start * state["d"])
        s = lr * d

        # what the undamped model g's + s'Fs/2 promises; s'Fs without a further product, from the solve's own quadratic
        # phi(d) = d'(F + lam I)d/2 + g'd
        slope, length2 = item(dot(g, d)), item(dot(d, d))
        predicted = lr * slope + lr * lr * (info.quadratics[-1] - slope - 0.5 * lam * length2)
        new_loss = _value_or_nan(objective, theta + s, batch)
        rho = (new_loss - loss) / predicted if predicted < 0 else math.nan

        taken = new_loss < loss
        log = {
            "loss": loss,
            "gradient_norm": math.sqrt(item(dot(g, g))),
            "lr": lr,
            "damping": lam,
            "rho": rho,
            "iterations": info.iterations,
            "taken": float(taken),
            "gradients": 4 / 3 + x.shape[0] / batch[0].shape[0] * (1 + 4 * info.iterations) / 3,
        }
        state = state | {"update": state["update"] + 1, "lam": self.damping.adapt(lam, rho), "d": d}
        return (theta + s if taken else theta), state, log


def _value_or_nan(objective, theta, batch):
    """The objective, or NaN where it overflows: such a step is rejected, not an error."""
    try:
        return objective.value(theta, batch)
    except FloatingPointError:
        return math.nan

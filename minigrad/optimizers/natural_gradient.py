"""Natural gradient by truncated Newton: (G + lam I) d = -g, theta += lr d (Pascanu & Bengio, algorithm 1).

G is a metric of the net's output distribution, never formed: each product is one R-op, the loss's metric, one L-op
through the same tape (Pearlmutter 1994; Schraudolph 2002). Which metric, on whose samples, solved how, damped how: all
combine. Sample-space natural gradient is NaturalGradient(metric="mc", solver=SampleSpace()): an exact solve, where CG
would take many products.
"""

import math
from dataclasses import dataclass, field

from ..backend import check_name, to_host, xp
from ..curvature import fisher, gradient_covariance
from ..linalg.vectors import dot
from .checks import check_counts
from .damping import LevenbergMarquardt
from .metric_batch import check_batch, curvature_batch
from .schedules import as_schedule
from .solvers import ConjugateGradient, SampleSpace

METRICS = ("exact", "mc", "empirical", "covariance")


@dataclass(frozen=True)
class NaturalGradient:
    """theta += lr d with (G + lam I) d = -g.

    lr: a number or a schedule. damping: a policy (LevenbergMarquardt, FixedDamping), which also decides whether a step
    is taken. solver: ConjugateGradient, Minres, MinresQLP, SampleSpace. metric: "exact", "mc" (`samples` draws an
    input), "empirical" (Pascanu & Bengio's eq. 13) or "covariance" (their eq. 12, centred; see TONGA); the last two use
    targets. metric_batch: None measures G on the gradient's own batch; a number on so many other samples; a function of
    rng, such as Unlabeled(x, size), on the inputs that it returns. warm_start: the solve starts from warm_start times
    the last d (Martens 2010, section 4.8).
    """

    lr: object = 1.0
    damping: object = field(default_factory=LevenbergMarquardt)
    solver: object = field(default_factory=ConjugateGradient)
    metric: str = "exact"
    samples: int = 1
    metric_batch: object = None
    warm_start: float = 0.95

    def __post_init__(self):
        owner = type(self).__name__
        object.__setattr__(self, "lr", as_schedule(self.lr))
        check_name("metric", self.metric, METRICS)
        check_counts(owner, samples=self.samples)
        check_batch(owner, metric_batch=self.metric_batch)
        if not 0 <= self.warm_start <= 1:
            raise ValueError(f"{owner}: warm_start must lie in [0, 1], got {self.warm_start}")
        if self.samples > 1 and self.metric != "mc":
            raise ValueError(f"{owner}: samples={self.samples} is for metric 'mc', got metric {self.metric!r}")
        if callable(self.metric_batch) and self.metric in ("empirical", "covariance"):
            raise ValueError(f"{owner}: metric {self.metric!r} needs targets, which an unlabeled metric_batch has not")
        if isinstance(self.solver, SampleSpace) and self.metric == "exact":
            raise ValueError(f"{owner}: SampleSpace needs one row a sample: metric 'mc', 'empirical' or 'covariance'")

    def init(self, objective, theta):
        """update count, damping lam, last direction d, and what the schedule keeps."""
        return {"update": 0, "lam": float(self.damping.lam), "d": xp.zeros_like(theta), **self.lr.init()}

    def observe(self, state, validation_loss):
        """Tell the learning-rate schedule a validation loss."""
        return self.lr.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw, rng):
        """One update; returns theta, state, log."""
        lam, lr = state["lam"], self.lr.rate(state)

        # the gradient; where the metric is measured on the same batch, it shares the forward pass
        data = curvature_batch(self.metric_batch, batch, draw, rng)
        if data is batch:
            loss, g, *linearized = objective.value_grad_and_linearize(theta, batch)
        else:
            (loss, g), linearized = objective.value_and_grad(theta, batch), None
        G = self._measure(objective, theta, data, linearized, rng)

        # the direction
        d, info = self.solver(G, lam, -g, self.warm_start * state["d"])

        # what the undamped model promises for lr d; d'Gd from phi(d) = d'(G + lam I)d / 2 + g'd
        slope, length2, gg = to_host(xp.stack([dot(g, d), dot(d, d), dot(g, g)])).tolist()
        curvature = 2 * (info.quadratics[-1] - slope) - lam * length2
        proposed = theta + lr * d
        change = value_or_nan(objective, proposed, batch) - loss
        rho = self.damping.ratio(change, lr * slope, lr * lr * curvature)

        taken = self.damping.takes(change)
        share = data[0].shape[0] / batch[0].shape[0]
        log = {
            "loss": loss,
            "gradient_norm": math.sqrt(gg),
            "lr": lr,
            "damping": lam,
            "rho": rho,
            "iterations": info.iterations,
            "taken": float(taken),
            "gradients": 4 / 3 + share * ((linearized is None) / 3 + self.solver.work(info)),
        }
        state = state | {"update": state["update"] + 1, "lam": self.damping.adapt(lam, rho), "d": d}
        return (proposed if taken else theta), state, log

    def _measure(self, objective, theta, data, linearized, rng):
        """G at theta; targets are given only to the kinds that use them."""
        if self.metric in ("empirical", "covariance"):
            return gradient_covariance(objective, theta, data, self.metric == "covariance", linearized)
        kind, x = self.metric, data[0]
        return fisher(objective, theta, x, kind, rng=rng, samples=self.samples, linearized=linearized)


def value_or_nan(objective, theta, batch):
    """The objective, or NaN where it overflows: such a step is rejected, not an error."""
    try:
        return objective.value(theta, batch)
    except FloatingPointError:
        return math.nan

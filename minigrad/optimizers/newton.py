"""Newton's method with Tikhonov damping: (H + lam I) d = -g, solved exactly by the eigenvectors of H. For small nets.

H = Q diag(e) Q' is indefinite in general, and it is used as it is (Pascanu & Bengio, Figure 1): along an eigenvector q

    q'd = -(q'g) / (e + lam)

so where e < -lam the step goes uphill, towards a saddle or a maximum. Nothing is clipped, flipped or reflected.
"""

import math
from dataclasses import dataclass, field

from ..backend import to_host, xp
from ..curvature import hessian
from ..linalg.vectors import dot
from .checks import check_counts
from .damping import LevenbergMarquardt
from .natural_gradient import value_or_nan
from .schedules import as_schedule


@dataclass(frozen=True)
class Newton:
    """theta += lr d with (H + lam I) d = -g; H is formed by one product a parameter.

    lr: a number or a schedule. damping: a policy; FixedDamping takes every step, LevenbergMarquardt stays and raises
    lam until a step lowers the loss. largest: nets of more parameters are refused (ValueError in init).
    FloatingPointError where H + lam I is singular to working precision.
    """

    lr: object = 1.0
    damping: object = field(default_factory=LevenbergMarquardt)
    largest: int = 5000

    def __post_init__(self):
        object.__setattr__(self, "lr", as_schedule(self.lr))
        check_counts("Newton", largest=self.largest)

    def init(self, objective, theta):
        """update count, damping lam, and what the schedule keeps."""
        if theta.shape[0] > self.largest:
            raise ValueError(
                f"Newton: forms a Hessian of {theta.shape[0]} x {theta.shape[0]} numbers; the limit is {self.largest} "
                "parameters. Set largest, or take a method that needs only products (HessianFree, NaturalGradient)"
            )
        return {"update": 0, "lam": float(self.damping.lam), **self.lr.init()}

    def observe(self, state, validation_loss):
        """Tell the learning-rate schedule a validation loss."""
        return self.lr.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw=None, rng=None):
        """One update; returns theta, state, log."""
        lam, lr = state["lam"], self.lr.rate(state)
        loss, g = objective.value_and_grad(theta, batch)

        # the direction, in the eigenvectors of H
        e, Q = xp.linalg.eigh(hessian(objective, theta, batch).dense())
        Qd = -(Q.T @ g) / (e + lam)
        d = Q @ Qd

        # what the undamped model promises for lr d
        numbers = [dot(g, d), dot(Qd, e * Qd), dot(g, g), e[0], abs(e + lam).min()]
        slope, curvature, gg, smallest, gap = to_host(xp.stack(numbers)).tolist()
        if not math.isfinite(slope):
            raise FloatingPointError(f"Newton: H + lam I is singular; its smallest eigenvalue in size is {gap:.3g}")
        proposed = theta + lr * d
        change = value_or_nan(objective, proposed, batch) - loss
        rho = self.damping.ratio(change, lr * slope, lr * lr * curvature)

        taken = self.damping.takes(change)
        log = {
            "loss": loss,
            "gradient_norm": math.sqrt(gg),
            "lr": lr,
            "damping": lam,
            "rho": rho,
            "smallest_eigenvalue": smallest,
            "taken": float(taken),
            "gradients": 8 / 3 + 2.0 * theta.shape[0],
        }
        state = state | {"update": state["update"] + 1, "lam": self.damping.adapt(lam, rho)}
        return (proposed if taken else theta), state, log

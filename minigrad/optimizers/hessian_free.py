"""Hessian-free optimization (Martens 2010): truncated Newton with the Gauss-Newton matrix, and everything around it.

    1. g, the gradient; G, the Gauss-Newton matrix of the objective (weight decay included), perhaps on another batch
    2. (G + lam I) d = -g by preconditioned CG from xi times its last solution, until phi makes no progress
       (sections 4.4, 4.7, 4.8)
    3. back over the iterates kept at 1, gamma, gamma^2, ..., as long as the true objective falls (4.6)
    4. lam by Levenberg and Marquardt's rule (4.1), rho with the undamped model
    5. a line search along d, for what the model did not see

Under a matched pair of output and loss G is the exact Fisher information, and steps 1 and 2 are natural gradient
(Pascanu & Bengio, section 7).
"""

import math
from dataclasses import dataclass, field

from ..backend import to_host, xp
from ..curvature import gauss_newton, martens_preconditioner, per_sample_gradients
from ..linalg import MartensStop, cg, identity
from ..linalg.vectors import dot
from .checks import check_counts, check_fraction, check_numbers
from .damping import LevenbergMarquardt
from .metric_batch import curvature_batch
from .natural_gradient import value_or_nan

SHRINK, SUFFICIENT, TRIES = 0.8, 1e-2, 60  # the line search: eta = 1, 0.8, 0.64, ..., with Armijo's condition


@dataclass(frozen=True)
class HessianFree:
    """Martens' Hessian-free optimizer.

    damping: LevenbergMarquardt or FixedDamping. maxiter, stop: of CG. warm_start: xi, how much of CG's last solution it
    starts from. exponent: of the preconditioner, None for none (nets with other parameters than affine layers' need
    None). spacing: gamma, of the iterates to go back over. curvature_batch: None measures G on the gradient's batch, a
    number on so many other samples. A step that no length makes acceptable is not taken: theta stays bit for bit.
    """

    damping: object = field(default_factory=LevenbergMarquardt)
    maxiter: int = 250
    stop: MartensStop | None = field(default_factory=MartensStop)
    warm_start: float = 0.95
    exponent: float | None = 0.75
    spacing: float = 1.3
    curvature_batch: int | None = None

    def __post_init__(self):
        check_counts("HessianFree", maxiter=self.maxiter)
        check_fraction("HessianFree", warm_start=self.warm_start)
        check_numbers(
            "HessianFree", "a number greater than 1", lambda value: 1 < value < math.inf, spacing=self.spacing
        )
        if self.exponent is not None:
            check_numbers("HessianFree", "None or a number in (0, 1]", lambda a: 0 < a <= 1, exponent=self.exponent)
        if self.curvature_batch is not None:
            check_counts("HessianFree", curvature_batch=self.curvature_batch)

    def init(self, objective, theta):
        """update count, damping lam, CG's last solution d."""
        return {"update": 0, "lam": float(self.damping.lam), "d": xp.zeros_like(theta)}

    def step(self, theta, state, objective, batch, draw, rng=None):
        """One update; returns theta, state, log."""
        lam = state["lam"]
        loss, g = objective.value_and_grad(theta, batch)
        f = _Counted(lambda d: value_or_nan(objective, theta + d, batch))

        # curvature
        data = curvature_batch(self.curvature_batch, batch, draw, rng)
        G = gauss_newton(objective, theta, data)

        # conjugate gradients
        A, M = G + lam * identity(theta.shape[0]), self._preconditioner(objective, theta, data, lam)
        x0, store = self.warm_start * state["d"], self._stored()
        solution, info = cg(A, -g, x0, rtol=0.0, maxiter=self.maxiter, M=M, stop=self.stop, store=store)

        # back over its iterates
        k, d, value = backtrack(f, info, solution)

        # how good was the model? d'Gd from phi(d) = d'(G + lam I)d / 2 + g'd
        slope, length2, gg = to_host(xp.stack([dot(g, d), dot(d, d), dot(g, g)])).tolist()
        curvature = 2 * (info.quadratics[k] - slope) - lam * length2
        rho = self.damping.ratio(value - loss, slope, curvature)

        # the length; after rho, for a step made short enough would let any model look good
        eta = line_search(f, loss, slope, d, value)
        share = data[0].shape[0] / batch[0].shape[0]
        log = {
            "loss": loss,
            "gradient_norm": math.sqrt(gg),
            "lr": eta,
            "damping": lam,
            "rho": rho,
            "iterations": info.iterations,
            "iterate": k,
            "taken": float(eta > 0),
            "gradients": 1 + f.calls / 3 + share * ((1 if M is None else 4) + 4 * info.iterations) / 3,
        }
        state = {"update": state["update"] + 1, "lam": self.damping.adapt(lam, rho), "d": solution}
        return (theta + eta * d if eta > 0 else theta), state, log

    def _preconditioner(self, objective, theta, data, lam):
        if self.exponent is None:
            return None
        return martens_preconditioner(
            per_sample_gradients(objective, theta, data), lam + objective.weight_decay, self.exponent
        )

    def _stored(self):
        """ceil(gamma^j) up to maxiter."""
        last = math.floor(math.log(self.maxiter) / math.log(self.spacing))
        return [math.ceil(self.spacing**j) for j in range(last + 1)]


def backtrack(f, info, solution):
    """(iteration, d, f(d)): from CG's solution back over its stored iterates as long as f falls (Martens 2010, 4.6)."""
    k, d, value = info.iterations, solution, f(solution)
    for i in sorted(set(info.iterates) - {k}, reverse=True):
        earlier = f(info.iterates[i])
        if math.isfinite(value) and not earlier < value:
            break
        k, d, value = i, info.iterates[i], earlier
    return k, d, value


def line_search(f, loss, slope, d, value):
    """The first eta of 1, 0.8, 0.64, ... with f(eta d) <= loss + 0.01 eta min(g'd, 0); 0 if there is none of 60.

    slope g'd; value f(d). Uphill, where the slope is positive, f may not rise all the same.
    """
    eta = 1.0
    for _ in range(TRIES):
        if value <= loss + SUFFICIENT * eta * min(slope, 0.0):
            return eta
        eta *= SHRINK
        value = f(eta * d)
    return 0.0


class _Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, d):
        self.calls += 1
        return self.function(d)

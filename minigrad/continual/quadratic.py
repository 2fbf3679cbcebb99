"""Penalties in parameter space: a sum of quadratic forms with diagonal weights, one a task learned before.

    EWC     lam/2 sum_k sum_i F_ki (theta_i - theta_ki)^2      F_k the Fisher information's diagonal after task k
    SI      c sum_i Omega_i (theta_i - theta_Ki)^2             Omega the sum over tasks, theta_K the last one's end

EWC's sum over tasks is again one quadratic form: with F = sum_k F_k and the weighted mean m = sum_k F_k theta_k / F,

    sum_k F_k (theta - theta_k)^2 = F (theta - m)^2 + sum_k F_k (theta_k - m)^2

whose last term no theta changes. So two vectors and a number are kept, however many tasks there were.
"""

from dataclasses import dataclass
from functools import reduce

from ..backend import check_name, item, xp
from ..curvature import fisher_diagonal
from ..curvature.fisher import KINDS
from ..linalg.vectors import dot, over_blocks
from ..optimizers.checks import check_counts, check_positive
from .methods import Penalty


@dataclass(frozen=True)
class EWC(Penalty):
    """Elastic weight consolidation: lam/2 sum_k sum_i F_ki (theta_i - theta_ki)^2 (Kirkpatrick et al. 2017).

    F_k is a mean over all samples of task k, at its end, of squared gradients of log p (never a sum over samples: lam
    would be 60,000 times too large for MNIST). kind, samples: which Fisher information, as in `fisher_diagonal`; by
    default labels are drawn from the model, one a sample. Every former task has its own penalty.
    Kept: F = sum_k F_k, the centre m, and the constant term (above).
    """

    lam: float = 500.0
    kind: str = "mc"
    samples: int = 1

    def __post_init__(self):
        check_positive("EWC", lam=self.lam)
        check_name("Fisher kind", self.kind, KINDS)
        check_counts("EWC", samples=self.samples)

    def penalty_and_grad(self, objective, theta, kept):
        """lam/2 (sum F (theta - m)^2 + rest) and lam F (theta - m)."""
        square, slope = quadratic(theta, kept["F"], kept["centre"], 0.5 * self.lam)
        return square + 0.5 * self.lam * kept["rest"], slope

    def keep(self, kept, objective, history, task, rng):
        """The sum of the quadratic forms so far and F_k (theta - theta_k)^2: weights add up, the centre moves."""
        theta, data = history.theta, task if self.kind == "empirical" else task[0]
        F_k = fisher_diagonal(objective, theta, data, self.kind, rng=rng, samples=self.samples)
        if not kept:
            return {"F": F_k, "centre": theta, "rest": 0.0}
        F, apart = kept["F"] + F_k, theta - kept["centre"]
        share = F_k / xp.where(F > 0, F, 1)  # where nothing has weight, the centre may lie anywhere
        rest = kept["rest"] + item(dot(kept["F"] * share, apart * apart))
        return {"F": F, "centre": kept["centre"] + share * apart, "rest": rest}


@dataclass(frozen=True)
class SI(Penalty):
    """Synaptic intelligence: c sum_i Omega_i (theta_i - theta_Ki)^2 (Zenke et al. 2017).

        omega_i = - sum over updates of g_i d_i            each parameter's share in the loss's decrease on a task
        Omega_i = sum over tasks of omega_i / (D_i^2 + xi)      D its way from the task's first update to its last

    g is the gradient of the task's own loss on the batch, d the whole update. There is no factor 1/2. Omega may be
    negative and is left so, as printed (the authors' own code clips it at 0).
    Kept: Omega and theta_K. While a task is learned, the optimizer's state holds omega, and the first one's start.
    """

    c: float = 0.1
    xi: float = 0.1

    def __post_init__(self):
        check_positive("SI", c=self.c, xi=self.xi)

    def penalty_and_grad(self, objective, theta, kept):
        """c sum Omega (theta - theta_K)^2 and 2 c Omega (theta - theta_K)."""
        return quadratic(theta, kept["Omega"], kept["centre"], self.c)

    def start(self, theta, kept):
        """omega = 0, and where the first task starts; every other starts where the last one ended."""
        return {"omega": xp.zeros_like(theta)} | ({} if kept else {"start": theta})

    def follow(self, state, g, theta, new):
        """omega - g d, elementwise; the vectors pass by once."""
        omega = xp.empty_like(theta)

        def work(block):
            share = new[block] - theta[block]
            share *= g[block]
            xp.subtract(state["omega"][block], share, out=omega[block])

        over_blocks(theta.shape[0], work)
        return state | {"omega": omega}

    def keep(self, kept, objective, history, task, rng):
        """Omega with the task's share, and its end."""
        theta, start = history.theta, kept["centre"] if kept else history.state["start"]
        share = history.state["omega"] / ((theta - start) ** 2 + self.xi)
        Omega = kept["Omega"] + share if kept else share
        return {"Omega": Omega, "centre": theta}


def quadratic(theta, weights, centre, scale):
    """scale sum_i w_i (theta_i - centre_i)^2, a number, and its gradient (n,); the vectors pass by once."""
    slope = xp.empty_like(theta)

    def work(block):
        apart = theta[block] - centre[block]
        weighted = weights[block] * apart
        xp.multiply(weighted, 2 * scale, out=slope[block])
        return xp.dot(weighted, apart)

    square = reduce(lambda a, b: a + b, over_blocks(theta.shape[0], work))
    return scale * item(square), slope

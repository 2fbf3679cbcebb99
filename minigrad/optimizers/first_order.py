"""What SGD, Adagrad, RMSProp and Adam share: one gradient, clipped if asked for, and a rule elementwise in it.

A subclass is its rule. `memory` names the vectors that it keeps from step to step, each as long as theta:

    rule(g, lr, t, *memory) -> (d, *memory)     the t-th update (1, 2, ...) is theta + d

The rule is called on blocks of the vectors that stay in the cache: theta, g and the memory stream through it once,
however many operations it has. It never writes into its arguments, so the old theta and state remain intact.
"""

import math
from dataclasses import dataclass, field

from ..backend import item, xp
from ..linalg.vectors import dot, over_blocks
from .checks import check_positive
from .phases import phase
from .schedules import as_schedule


@dataclass(frozen=True)
class FirstOrder:
    """A first-order method.

    lr: a number or a schedule. clip: gradients longer than this are scaled down to it; None leaves them.
    """

    lr: object
    clip: float | None = field(default=None, kw_only=True)

    memory = ()

    def __post_init__(self):
        object.__setattr__(self, "lr", as_schedule(self.lr))
        if self.clip is not None:
            check_positive(type(self).__name__, clip=self.clip)

    def init(self, objective, theta):
        """Update count, the rule's memory (zeros), and what the schedule keeps."""
        return {"update": 0} | {name: xp.zeros_like(theta) for name in self.memory} | self.lr.init()

    def observe(self, state, validation_loss):
        """Tell the learning-rate schedule a validation loss."""
        return self.lr.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw=None, rng=None):
        """One update; returns theta, state, log. FloatingPointError if the loss or the gradient is not finite."""
        loss, g, state = self.gradient(theta, state, objective, batch, draw, rng)
        cost = self.cost(state, batch)
        theta, state, log = self.follow(theta, state, loss, g)
        return theta, state, log | {"gradients": cost}

    def follow(self, theta, state, loss, g):
        """theta, state, log of the update that the rule makes of a gradient g; what `step` does once it has it."""
        t, lr = state["update"] + 1, self.lr.rate(state)
        norm = math.sqrt(item(dot(g, g)))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"update {t}: the gradient's norm is {norm} at a loss of {loss}; try a smaller lr")

        scale = clip_factor(norm, self.clip)
        old = [state[name] for name in self.memory]
        new_theta, new = xp.empty_like(theta), [xp.empty_like(theta) for _ in self.memory]

        def work(block):
            gradient = g[block] if scale == 1 else scale * g[block]
            d, *kept = self.rule(gradient, lr, t, *(vector[block] for vector in old))
            xp.add(theta[block], d, out=new_theta[block])
            for vector, part in zip(new, kept, strict=True):
                vector[block] = part

        over_blocks(theta.shape[0], work)
        log = {"loss": loss, "gradient_norm": norm, "lr": lr}
        return new_theta, state | {"update": t} | dict(zip(self.memory, new, strict=True)), log

    def gradient(self, theta, state, objective, batch, draw, rng):
        """loss, g, state: what the rule gets for a gradient. Preconditioned methods replace it, and keep statistics."""
        with phase("gradient"):
            return *objective.value_and_grad(theta, batch), state

    def cost(self, state, batch):
        """What an update with this state costs, in gradients of its batch; for the log."""
        return 1.0


def clip_factor(norm, clip):
    """What to multiply a gradient of this norm with, to make it at most `clip` (Pascanu et al. 2013, algorithm 1)."""
    return 1.0 if clip is None or norm <= clip else clip / norm

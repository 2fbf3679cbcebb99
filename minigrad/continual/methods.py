"""What methods against forgetting have in common.

Between tasks a method is its hyper-parameters and `kept`: a flat dict of arrays and numbers, {} until the first task is
over, which is all that it carries from task to task. While a task is learned it is an optimizer that wraps another, so
that the loop, its checkpoints and its records stay what they are; its state is the run's.
"""

from dataclasses import dataclass, field

from ..linalg.vectors import add_up


@dataclass(frozen=True)
class Plain:
    """Nothing is done about forgetting. The methods' base class: each replaces what it does otherwise."""

    def check(self, samples):
        """Raise ValueError if tasks of so many samples, a list, are none that the method can keep what it needs of."""

    def optimizer(self, base, kept):
        """The optimizer that learns the next task: `base`, a first-order one, and what the method adds to it."""
        return base

    def keep(self, kept, objective, history, task, rng):
        """`kept` after a task = (x, t), which `history` has just learned. rng: a numpy Generator."""
        return {}


@dataclass(frozen=True)
class Penalty(Plain):
    """A method that adds a penalty to the next task's loss: `penalty_and_grad`."""

    def optimizer(self, base, kept):
        """base, on the sum of loss and penalty."""
        return Penalized(base, self, kept)

    def penalty_and_grad(self, objective, theta, kept):
        """(penalty, its gradient (n,), a fresh vector) for what was kept of one task or more."""
        raise NotImplementedError

    def start(self, theta, kept):
        """What the method adds to the optimizer's state when a task begins at theta."""
        return {}

    def follow(self, state, g, theta, new):
        """The state after an update from theta to new, where g was the gradient of the task's own loss."""
        return state

    def cost(self, kept, batch):
        """What a penalty's gradient costs, in gradients of a batch."""
        return 0.0


@dataclass(frozen=True)
class Penalized:
    """A first-order optimizer `base` on the loss of a task and a method's penalty: g + dP in the place of g.

    The logged loss is the task's own; "penalty" is P. Until something is kept there is none.
    """

    base: object
    method: Penalty
    kept: dict = field(repr=False)

    def init(self, objective, theta):
        """base's state, and the method's own."""
        return self.base.init(objective, theta) | self.method.start(theta, self.kept)

    def observe(self, state, validation_loss):
        """Tell base's learning-rate schedule a validation loss."""
        return self.base.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw=None, rng=None):
        """One update; returns theta, state, log."""
        loss, g, state = self.base.gradient(theta, state, objective, batch, draw, rng)
        total, slope, penalty, cost = loss, g, 0.0, self.base.cost(state, batch)
        if self.kept:
            penalty, slope = self.method.penalty_and_grad(objective, theta, self.kept)
            total, slope, cost = loss + penalty, add_up([slope, g]), cost + self.method.cost(self.kept, batch)
        new, state, log = self.base.follow(theta, state, total, slope)
        state = self.method.follow(state, g, theta, new)
        return new, state, log | {"loss": loss, "penalty": penalty, "gradients": cost}


def numbers_kept(kept):
    """How many numbers these are: of arrays all entries, of plain numbers one each."""
    return sum(getattr(value, "size", 1) for value in kept.values())

"""A working memory: `size` examples of former tasks, equally many of each (Benjamin et al. 2019, section 3.1.1).

After k tasks there are size // k of each; what is left over by the division stays empty (1024 hold 341 of each of three
tasks). A task's examples are drawn once, in random order, and later ones take the place of the last of them.
"""

from dataclasses import dataclass, field

from ..backend import asarray, check_name, xp
from ..function_space import mean_square_and_grad, root_mean_square_and_grad
from ..optimizers.checks import check_counts, check_positive
from .methods import Penalty, Plain

DISTANCES = {"root mean square": root_mean_square_and_grad, "mean square": mean_square_and_grad}


@dataclass(frozen=True)
class Retrain(Plain):
    """After every `interval` updates one more on the loss of the whole memory, by the same optimizer ("+retrain").

    It is a step like any other: Adam's moments and a schedule's count of updates go through it.
    Kept: x and t of the examples, (tasks, examples of each, ...).
    """

    size: int = 1024
    interval: int = 10

    def __post_init__(self):
        check_counts("Retrain", size=self.size, interval=self.interval)

    def check(self, samples):
        """Raise ValueError where a task has fewer samples than its share, or a share would be none."""
        check_shares(self.size, samples)

    def optimizer(self, base, kept):
        """base, with further steps."""
        return Retraining(base, self.interval, kept)

    def keep(self, kept, objective, history, task, rng):
        """The memory, with examples of one task more."""
        x, t = drawn(kept, self.size, task, rng)
        return with_task(kept, {"x": x, "t": t})


@dataclass(frozen=True)
class Retraining:
    """`base`, and after every `interval` updates another on the examples that were kept."""

    base: object
    interval: int
    kept: dict = field(repr=False)

    def init(self, objective, theta):
        """base's state."""
        return self.base.init(objective, theta)

    def observe(self, state, validation_loss):
        """Tell base's learning-rate schedule a validation loss."""
        return self.base.observe(state, validation_loss)

    def step(self, theta, state, objective, batch, draw=None, rng=None):
        """One update on the batch and, when it is time, one on the memory; returns theta, state, log."""
        theta, state, log = self.base.step(theta, state, objective, batch, draw, rng)
        if self.kept and state["update"] % (self.interval + 1) == self.interval:  # base counts the further steps, too
            memory = together(self.kept["x"]), together(self.kept["t"])
            theta, state, further = self.base.step(theta, state, objective, memory, draw, rng)
            cost = log["gradients"] + further["gradients"] * relative_size(self.kept, batch)
            log |= {"memory_loss": further["loss"], "gradients": cost}
        return theta, state, log


@dataclass(frozen=True)
class L2Memory(Penalty):
    """lam/2 ||f_theta - f||, the distance on the memory from the outputs remembered there (2019, section 3.1).

    f (y, for a classifier probabilities) are an example's outputs at the end of its own task. distance: the "root mean
    square", as printed, or the "mean square", which the words "L2 regularization" suggest. The root pulls with the same
    force however near the outputs are; the square lets go.
    Kept: x and y of the examples, (tasks, examples of each, ...).
    """

    lam: float = 1.3
    size: int = 1024
    distance: str = "root mean square"

    def __post_init__(self):
        check_positive("L2Memory", lam=self.lam)
        check_counts("L2Memory", size=self.size)
        check_name("distance", self.distance, tuple(DISTANCES))

    def check(self, samples):
        """Raise ValueError where a task has fewer samples than its share, or a share would be none."""
        check_shares(self.size, samples)

    def penalty_and_grad(self, objective, theta, kept):
        """lam/2 times the distance over all examples, and its gradient."""
        x, y = together(kept["x"]), together(kept["y"])
        distance, slope = DISTANCES[self.distance](objective, theta, x, y)
        slope *= 0.5 * self.lam
        return 0.5 * self.lam * distance, slope

    def cost(self, kept, batch):
        """One sweep each way over the memory."""
        return relative_size(kept, batch)

    def keep(self, kept, objective, history, task, rng):
        """The memory, with examples of one task more and their outputs now; those of former tasks stay."""
        x, _ = drawn(kept, self.size, task, rng)
        return with_task(kept, {"x": x, "y": objective.predict(history.theta, x)})


def check_shares(size, samples):
    """See `share`: for tasks of so many samples, a list."""
    for number, count in enumerate(samples, 1):
        share(size, number, count)


def share(size, number, count):
    """How many examples of each of `number` tasks there are; the last has `count` samples.

    Raises ValueError where that is none, or more than the last task has.
    """
    each = size // number
    if each == 0:
        raise ValueError(f"working memory: {size} examples are less than one of each of {number} tasks")
    if each > count:
        raise ValueError(
            f"working memory: {size} examples are {each} of each of {number} tasks, but the last has {count} samples"
        )
    return each


def drawn(kept, size, task, rng):
    """(x, t) of a share of the task's samples, in random order."""
    x, t = task
    number = kept["x"].shape[0] + 1 if kept else 1
    index = asarray(rng.permutation(len(x))[: share(size, number, len(x))])
    return x[index], t[index]


def with_task(kept, new):
    """{name: (tasks, examples of each, ...)}: as many of the former tasks' examples as there are new ones."""
    if not kept:
        return {name: array[None] for name, array in new.items()}
    return {name: xp.concatenate([kept[name][:, : len(array)], array[None]]) for name, array in new.items()}


def together(array):
    """The examples of all tasks, one below the other."""
    return array.reshape(-1, *array.shape[2:])


def relative_size(kept, batch):
    """Samples in the memory, in batches."""
    tasks, each = kept["x"].shape[:2]
    return tasks * each / len(batch[0])

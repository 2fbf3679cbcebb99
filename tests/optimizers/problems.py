"""Objectives simple enough to work out by hand."""

from dataclasses import dataclass

from minigrad.backend import item
from tests.helpers import dev


@dataclass(frozen=True)
class Quadratic:
    """theta'A theta / 2 - b'theta; the batch plays no part."""

    A: object
    b: object

    def value(self, theta, batch=None):
        return item(0.5 * (theta @ (self.A @ theta)) - self.b @ theta)

    def value_and_grad(self, theta, batch=None):
        return self.value(theta), self.A @ theta - self.b


class Slope:
    """The gradient is the batch, whatever theta is; the loss is the sum of the first two numbers of theta."""

    def value_and_grad(self, theta, batch):
        return item(theta[:2].sum()), batch


def run(optimizer, objective, theta, batches):
    """theta, state and logs after one step on each batch."""
    state, logs = optimizer.init(objective, theta), []
    for batch in batches:
        theta, state, log = optimizer.step(theta, state, objective, batch)
        logs.append(log)
    return theta, state, logs


def path(optimizer, gradients, dtype="float64"):
    """theta and state after steps from 0 along given gradients, an array (steps, n)."""
    theta = dev([0.0] * len(gradients[0]), dtype)
    theta, state, _ = run(optimizer, Slope(), theta, [dev(g, dtype) for g in gradients])
    return theta, state

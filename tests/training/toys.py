"""A small problem, and an optimizer that uses everything the loop hands out: momentum, further batches, the rng."""

from dataclasses import dataclass, field

import numpy as np

from minigrad import Objective
from minigrad.autodiff import ops
from minigrad.backend import asarray
from minigrad.losses import Categorical
from minigrad.nets import mlp


@dataclass(frozen=True)
class Toy:
    """Momentum on the batch and a further one, noise from rng, and a rate that halves when validation gets worse."""

    lr: float = 0.1
    noise: float = 1e-3

    def init(self, objective, theta):
        return {"m": 0 * theta, "rate": self.lr, "best": float("inf"), "count": 0}

    def observe(self, state, validation_loss):
        worse = validation_loss > state["best"]
        return state | {"rate": state["rate"] * (0.5 if worse else 1.0), "best": min(state["best"], validation_loss)}

    def step(self, theta, state, objective, batch, draw, rng):
        loss, g = objective.value_and_grad(theta, batch)
        _, other = objective.value_and_grad(theta, draw())
        _, third = objective.value_and_grad(theta, draw(3))
        m = 0.9 * state["m"] + g + 0.1 * other + 0.1 * third
        m = m + self.noise * asarray(rng.standard_normal(theta.shape[0]), theta.dtype)
        log = {"loss": loss, "gradients": 2.0, "lr": state["rate"], "gradient_norm": float(loss)}
        return theta - state["rate"] * m, state | {"m": m, "count": state["count"] + 1}, log


@dataclass(frozen=True)
class Stretched(Toy):
    """The toy in coordinates of its own, theta = stretch point; stretch grows by a tenth at every step."""

    def init(self, objective, theta):
        return super().init(objective, theta) | {"stretch": 1.0}

    def canonical(self, point, state):
        return state["stretch"] * point

    def step(self, point, state, objective, batch, draw, rng):
        theta, state, log = super().step(self.canonical(point, state), state, objective, batch, draw, rng)
        stretch = 1.1 * state["stretch"]
        return theta / stretch, state | {"stretch": stretch}, log


@dataclass(frozen=True)
class Watching(Toy):
    """The toy, which keeps its batches and the further ones."""

    batches: list = field(default_factory=list, repr=False)
    drawn: list = field(default_factory=list, repr=False)

    def step(self, theta, state, objective, batch, draw, rng):
        self.batches.append(batch)

        def watched(*size):
            self.drawn.append(draw(*size))
            return self.drawn[-1]

        return super().step(theta, state, objective, batch, watched, rng)


class OfPixels:
    """A net that sees the pixels of images (N, height, width, channels) as rows; its outputs are images if out says."""

    def __init__(self, net, out=None):
        self.net, self.layout, self.init, self.out = net, net.layout, net.init, out

    def __repr__(self):
        return f"OfPixels({self.net}, {self.out})"

    def apply(self, theta, x):
        r = self.net.apply(theta, x.reshape(len(x), -1))
        return ops.reshape(r, (len(x), *self.out)) if self.out else r


def objective(sizes=(5, 8, 3)):
    """A small classifier."""
    return Objective(mlp(list(sizes)), Categorical())


def data(n=60, features=5, classes=3, seed=0):
    """(x, t): points with the classes of a random linear map."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features))
    return x, (x @ rng.standard_normal((features, classes))).argmax(axis=1)


def pictures(n=60, seed=0):
    """(x, t): images of 4 x 4 pixels and 1 channel, classes by chance."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4, 4, 1)), rng.integers(3, size=n)


def of_pictures(height, width):
    """A classifier of images of height x width pixels."""
    return Objective(OfPixels(mlp([height * width, 8, 3])), Categorical())

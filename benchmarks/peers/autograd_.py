"""autograd (HIPS): reverse mode, and reverse over reverse for the forward map, as its make_ggnvp does."""

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp, value_and_grad

from . import Peer, conjugate_gradients

ACTIVATIONS = {
    "sigmoid": lambda a: 0.5 * (anp.tanh(0.5 * a) + 1),
    "tanh": anp.tanh,
    "relu": lambda a: anp.maximum(a, 0),
}


def outputs(work, x, params):
    """The net; params are [W, b, W, b, ...]."""
    act, h = ACTIVATIONS[work.activation], x
    for i in range(0, len(params), 2):
        a = anp.dot(h, params[i]) + params[i + 1]
        h = act(a) if i + 2 < len(params) else a
    return h


def loss_of(work, r, t):
    if work.loss == "bernoulli":
        return anp.sum(anp.maximum(r, 0) + anp.log1p(anp.exp(-anp.abs(r))) - t * r) / work.n
    top = anp.max(r, axis=1, keepdims=True)
    normalizer = top[:, 0] + anp.log(anp.sum(anp.exp(r - top), axis=1))
    return anp.mean(normalizer - r[anp.arange(work.n), t])


def metric(work, r):
    """The Hessian of the loss in the outputs r, as a function of a tangent."""
    if work.loss == "bernoulli":
        y = 0.5 * (np.tanh(0.5 * r) + 1)
        m = y * (1 - y) / work.n
        return lambda u: m * u
    p = np.exp(r - r.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return lambda u: p * (u - (p * u).sum(1, keepdims=True)) / work.n


class Autograd(Peer):
    title = "autograd"
    distributions = ("autograd", "numpy")

    def split(self, work, flat):
        return [part for layer in work.layers(flat) for part in (layer[:-1], layer[-1])]

    def gradient(self, work, problem):
        params, x, t = self.split(work, problem.theta), problem.x, problem.t
        gradient = value_and_grad(lambda p: loss_of(work, outputs(work, x, p), t))
        return lambda: gradient(params)

    def linearize(self, work, params, x):
        """Outputs, the vjp, and the Gauss-Newton product."""
        vjp, r = make_vjp(lambda p: outputs(work, x, p))(params)
        jvp, _ = make_vjp(vjp)(np.zeros_like(r))
        m = metric(work, r)
        return r, vjp, lambda v: vjp(m(jvp(v)))

    def product(self, work, problem):
        params, v = self.split(work, problem.theta), self.split(work, problem.v)
        return lambda: (None, self.linearize(work, params, problem.x)[2](v))

    def products(self, work, problem):
        _, _, product = self.linearize(work, self.split(work, problem.theta), problem.x)
        v = self.split(work, problem.v)
        return lambda: (None, product(v))

    def step(self, work, problem):
        params, x, t = self.split(work, problem.theta), problem.x, problem.t

        def run():
            r, vjp, product = self.linearize(work, params, x)
            loss, u = value_and_grad(lambda r: loss_of(work, r, t))(r)
            return loss, conjugate_gradients(product, [-g for g in vjp(u)], axpy, dot)

        return run

    def answer(self, result):
        loss, parts = result
        return None if loss is None else float(loss), np.concatenate([part.ravel() for part in parts])


def axpy(a, x, y):
    y += a * x


def dot(x, y):
    return sum(np.vdot(xi, yi) for xi, yi in zip(x, y))

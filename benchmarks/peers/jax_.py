"""JAX, jitted: jax.linearize and its transpose inside jit, the loss's Hessian in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from ..works import CG_ITERATIONS, DAMPING
from . import Peer

jax.config.update("jax_default_matmul_precision", "highest")

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}


def outputs(work, x, params):
    if work.net == "lstm":
        return lstm(work, x, params)
    if work.net == "convolutional":
        return work.outputs(x, params, Images)
    act, h = ACTIVATIONS[work.activation], x
    for w, b in params[:-1]:
        h = act(h @ w + b)
    w, b = params[-1]
    return h @ w + b


def lstm(work, x, params):
    """The inputs' share of all steps' pre-activations is one product; a scan does the rest."""
    (w, b), (w_out, b_out) = params
    n_in, hidden, _ = work.sizes

    def step(state, from_x):
        h, c = state
        i, f, o, g = jnp.split(from_x + h @ w[n_in:], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[0], hidden), x.dtype)
    (h, _), _ = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1) @ w[:n_in] + b)
    return h @ w_out + b_out


class Images:
    """What it takes for a convolutional net."""

    relu = staticmethod(jax.nn.relu)

    def convolution(h, W, b, layer):
        kernel = W.reshape(layer.kernel, layer.kernel, layer.channels, layer.out)
        around = [(layer.padding, layer.padding)] * 2
        return jax.lax.conv_general_dilated(h, kernel, (1, 1), around, dimension_numbers=("NHWC", "HWIO", "NHWC")) + b

    def dense(h, W, b):
        return h.reshape(h.shape[0], -1) @ W + b

    def normalized(a, scale, shift):
        mean, variance = a.mean((0, 1, 2)), a.var((0, 1, 2))
        return (a - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift

    def pool(h):
        N, H, W, C = h.shape
        return h.reshape(N, H // 2, 2, W // 2, 2, C).max((2, 4))

    def average(h):
        return h.mean((1, 2))

    def joined(h, other):
        return jnp.concatenate([h, other], 3)


def loss_of(work, r, t):
    if work.loss == "bernoulli":
        return jnp.sum(jax.nn.softplus(r) - t * r) / work.n
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(r), t[:, None], 1))


def metric(work, r, u):
    """The Hessian of the loss in the outputs r, times u."""
    if work.loss == "bernoulli":
        y = jax.nn.sigmoid(r)
        return y * (1 - y) * u / work.n
    p = jax.nn.softmax(r)
    return p * (u - jnp.sum(p * u, 1, keepdims=True)) / work.n


def gauss_newton(work, jvp, r, v):
    (product,) = jax.linear_transpose(jvp, v)(metric(work, r, jvp(v)))
    return product


def conjugate_gradients(product, b):
    add = lambda x, a, y: jax.tree.map(lambda xi, yi: xi + a * yi, x, y)
    dot = lambda x, y: sum(jnp.vdot(xi, yi) for xi, yi in zip(jax.tree.leaves(x), jax.tree.leaves(y)))

    def iteration(_, state):
        x, r, p, rr = state
        q = add(product(p), DAMPING, p)
        step = rr / dot(p, q)
        x, r = add(x, step, p), add(r, -step, q)
        new = dot(r, r)
        return x, r, add(r, new / rr, p), new

    state = jax.tree.map(jnp.zeros_like, b), b, b, dot(b, b)
    return jax.lax.fori_loop(0, CG_ITERATIONS, iteration, state)[0]


class Jax(Peer):
    title = "JAX (jit)"
    distributions = ("jax", "jaxlib")
    nets = ("mlp", "lstm", "convolutional")

    def setup(self, work, problem):
        split = lambda flat: [(jnp.asarray(m[:-1]), jnp.asarray(m[-1])) for m in work.layers(flat)]
        return split(problem.theta), jnp.asarray(problem.x), jnp.asarray(problem.t), split(problem.v)

    def compile(self, function, *args):
        """Compiled beforehand, so that a run only runs."""
        compiled = jax.jit(function).lower(*args).compile()
        return lambda: jax.block_until_ready(compiled(*args))

    def gradient(self, work, problem):
        params, x, t, _ = self.setup(work, problem)
        return self.compile(jax.value_and_grad(lambda p, x, t: loss_of(work, outputs(work, x, p), t)), params, x, t)

    def product(self, work, problem):
        params, x, _, v = self.setup(work, problem)

        def function(params, x, v):
            r, jvp = jax.linearize(lambda p: outputs(work, x, p), params)
            return None, gauss_newton(work, jvp, r, v)

        return self.compile(function, params, x, v)

    def products(self, work, problem):
        params, x, _, v = self.setup(work, problem)
        r, jvp = jax.jit(lambda params, x: jax.linearize(lambda p: outputs(work, x, p), params))(params, x)
        return self.compile(lambda jvp, r, v: (None, gauss_newton(work, jvp, r, v)), jvp, r, v)

    def step(self, work, problem):
        params, x, t, _ = self.setup(work, problem)

        def function(params, x, t):
            r, jvp = jax.linearize(lambda p: outputs(work, x, p), params)
            loss, u = jax.value_and_grad(lambda r: loss_of(work, r, t))(r)
            (g,) = jax.linear_transpose(jvp, params)(u)
            return loss, conjugate_gradients(lambda v: gauss_newton(work, jvp, r, v), jax.tree.map(jnp.negative, g))

        return self.compile(function, params, x, t)

    def answer(self, result):
        loss, layers = result
        flat = np.concatenate([np.asarray(part).ravel() for layer in layers for part in layer])
        return None if loss is None else float(loss), flat

    def device_peak(self, run):
        """The high-water mark cannot be reset: the worker is a fresh one."""
        device = jax.devices()[0]
        before = device.memory_stats()["bytes_in_use"]
        run()
        return device.memory_stats()["peak_bytes_in_use"] - before

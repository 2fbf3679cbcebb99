"""PyTorch, eager: autograd for gradients; dual numbers, or torch.func.linearize, with a vjp for products."""

import numpy as np
import torch
import torch.autograd.forward_ad as duals
import torch.nn.functional as F

from . import Peer, conjugate_gradients

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


def outputs(work, x, params):
    """The net; params are [W, b, W, b, ...]."""
    if work.net == "lstm":
        return lstm(work, x, params)
    if work.net == "convolutional":
        return work.outputs(x.permute(0, 3, 1, 2), paired(work, params), Images)
    act, h = ACTIVATIONS[work.activation], x
    for i in range(0, len(params), 2):
        a = torch.addmm(params[i + 1], h, params[i])
        h = act(a) if i + 2 < len(params) else a
    return h


def lstm(work, x, params):
    """What nn.LSTM calls, whose gates are i, f, g, o. oneDNN's, its default and the faster, knows no dual numbers."""
    w, b, w_out, b_out = params
    n_in, hidden, _ = work.sizes
    order = [0, 1, 3, 2]
    w = w.view(-1, 4, hidden)[:, order].flatten(1).T
    b = b.view(4, hidden)[order].flatten()
    weights = [w[:, :n_in].contiguous(), w[:, n_in:].contiguous(), b, torch.zeros_like(b)]
    state = (x.new_zeros(1, x.shape[0], hidden),) * 2
    with torch.backends.mkldnn.flags(enabled=work.kind == "gradient"):
        h, _, _ = torch.lstm(x, state, weights, True, 1, 0.0, True, False, True)
    return torch.addmm(b_out, h[:, -1], w_out)


def paired(work, params):
    """(W, b) of each matrix, (None, vector) of each vector."""
    params = iter(params)
    return [(next(params), next(params)) if rows > 1 else (None, next(params)) for rows, _ in work.shapes]


class Images:
    """What it takes for a convolutional net; images are channels first, and so are PyTorch's kernels."""

    relu = staticmethod(F.relu)

    def convolution(h, W, b, layer):
        kernel = W.view(layer.kernel, layer.kernel, layer.channels, layer.out).permute(3, 2, 0, 1)
        return F.conv2d(h, kernel, b, padding=layer.padding)

    def dense(h, W, b):
        rows = h.permute(0, 2, 3, 1).flatten(1) if h.ndim == 4 else h
        return torch.addmm(b, rows, W)

    def normalized(a, scale, shift):
        return F.batch_norm(a, None, None, scale, shift, training=True, eps=1e-5)

    def pool(h):
        return F.max_pool2d(h, 2)

    def average(h):
        return h.mean((2, 3))

    def joined(h, other):
        return torch.cat([h, other], 1)


def loss_of(work, r, t):
    if work.loss == "bernoulli":
        return F.binary_cross_entropy_with_logits(r, t, reduction="sum") / work.n
    return F.cross_entropy(r, t)


def metric(work, r):
    """The Hessian of the loss in the outputs r, as a function of a tangent."""
    with torch.no_grad():
        if work.loss == "bernoulli":
            y = torch.sigmoid(r)
            m = y * (1 - y) / work.n
            return lambda u: m * u
        p = torch.softmax(r, 1)
        return lambda u: p * (u - (p * u).sum(1, keepdim=True)) / work.n


class Torch(Peer):
    title = "PyTorch"
    distributions = ("torch",)
    nets = ("mlp", "lstm", "convolutional")

    def __init__(self, backend):
        super().__init__(backend)
        self.device = "cuda" if backend == "cupy" else "cpu"

    def setup(self, work, problem):
        x, t = (torch.as_tensor(a, device=self.device) for a in (problem.x, problem.t))
        params = [p.requires_grad_() for p in self.split(work, problem.theta)]
        return params, x, t, self.split(work, problem.v)

    def split(self, work, flat):
        flat = torch.as_tensor(flat, device=self.device)
        return [part.clone() for layer in work.layers(flat) for part in (layer[:-1], layer[-1]) if part.numel()]

    def gradient(self, work, problem):
        params, x, t, _ = self.setup(work, problem)

        def run():
            loss = loss_of(work, outputs(work, x, params), t)
            return loss, torch.autograd.grad(loss, params)

        return run

    def product(self, work, problem):
        """One forward pass carries the tangents and records the graph for the backward pass."""
        params, x, _, v = self.setup(work, problem)

        def run():
            with duals.dual_level():
                r, dr = duals.unpack_dual(outputs(work, x, [duals.make_dual(p, d) for p, d in zip(params, v)]))
            return None, torch.autograd.grad(r, params, metric(work, r)(dr.detach()))

        return run

    def linearize(self, work, params, x):
        """Outputs, and the Gauss-Newton product at params on lists."""
        r, jvp = torch.func.linearize(lambda *p: outputs(work, x, p), *(p.detach() for p in params))
        r = outputs(work, x, params)
        m = metric(work, r)
        return r, lambda v: torch.autograd.grad(r, params, m(jvp(*v)), retain_graph=True)

    def products(self, work, problem):
        params, x, _, v = self.setup(work, problem)
        _, product = self.linearize(work, params, x)
        return lambda: (None, product(v))

    def step(self, work, problem):
        params, x, t, _ = self.setup(work, problem)

        def run():
            r, product = self.linearize(work, params, x)
            loss = loss_of(work, r, t)
            return loss, self.solve(product, torch.autograd.grad(loss, params, retain_graph=True))

        return run

    @torch.no_grad()
    def solve(self, product, gradient):
        axpy = lambda a, x, y: y.add_(x, alpha=a) if isinstance(a, float) else y.addcmul_(x, a)
        dot = lambda x, y: sum(torch.dot(xi.flatten(), yi.flatten()) for xi, yi in zip(x, y))
        return conjugate_gradients(product, [-g for g in gradient], axpy, dot)

    def sync(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def answer(self, result):
        loss, parts = result
        flat = np.concatenate([part.detach().cpu().numpy().ravel() for part in parts])
        return None if loss is None else loss.item(), flat

    def device_peak(self, run):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before


class TorchStar(Torch):
    """The same on an AMD processor, with MKL made to use its fast path (`harness.fast_mkl`)."""

    title = "PyTorch*"

"""Gradients sample by sample, as the rows of an operator P, and the metrics P' W P that are made of them.

Row i of P is J_i' s_i, for the score s_i of sample i: the gradient of its loss, or of its log-likelihood at a target
drawn from the model. Neither P nor J is formed: P v is one R-op and a sum over outputs, P' c one L-op.
"""

import functools

from ..autodiff import ops
from ..backend import xp
from ..linalg import LinearOperator
from .layers import Layer, affine_layers


class SampleGradients(LinearOperator):
    """P, (K N, n): the rows s_ki' J_i, one a sample and draw; scores: K arrays (N, O), not averaged.

    What cannot be had by products alone (Gram matrix, squares, the rows themselves) is built layer by layer; that needs
    every parameter to be an affine layer's matrix, see `affine_layers`.
    """

    def __init__(self, J, scores):
        self.J, self.scores = J, scores
        super().__init__((len(scores) * J.y_shape[0], J.shape[1]), J.dtype, name="P")

    def _matvec(self, v):
        tangent = self.J.rop(v)
        rows = [ops.sum(s * tangent, axis=1) for s in self.scores]
        return rows[0] if len(rows) == 1 else ops.concatenate(rows)

    def _rmatvec(self, c):
        weights = c.reshape(len(self.scores), -1, 1)
        return self.J.lop(
            functools.reduce(lambda a, b: a + b, [s * w for s, w in zip(self.scores, weights, strict=True)])
        )

    @functools.cached_property
    def layers(self):
        """The affine layers, with one row of h and delta for each row of P."""
        draws = [affine_layers(self.J, s) for s in self.scores]
        return [_stacked(layer) for layer in zip(*draws, strict=True)]

    def gram(self):
        """P P', (K N, K N): the sum over layers of (h h' + 1) * (delta delta'), elementwise, by symmetric products."""
        terms = ((layer.h @ layer.h.T + 1) * (layer.delta @ layer.delta.T) for layer in self.layers)
        return functools.reduce(lambda a, b: a + b, terms)

    def squares(self):
        """The sum over rows of their elementwise squares, (n,): (h^2 1)' delta^2, layer by layer."""
        out = xp.zeros(self.shape[1], self.dtype)
        for layer in self.layers:
            d2 = layer.delta**2
            out[slice(*layer.span)] = xp.concatenate([(layer.h**2).T @ d2, d2.sum(axis=0)[None]]).reshape(-1)
        return out

    def dense(self):
        """The rows themselves, (K N, n), for small nets: (h 1)' delta, layer by layer."""
        out = xp.zeros(self.shape, self.dtype)
        for layer in self.layers:
            h1 = xp.concatenate([layer.h, xp.ones_like(layer.h[:, :1])], axis=1)
            out[:, slice(*layer.span)] = (h1[:, :, None] * layer.delta[:, None, :]).reshape(len(h1), -1)
        return out


def _stacked(draws):
    if len(draws) == 1:
        return draws[0]
    first = draws[0]
    h, delta = (xp.concatenate([getattr(layer, part) for layer in draws]) for part in ("h", "delta"))
    return Layer(first.name, first.span, h, delta)


class SampleMetric(LinearOperator):
    """G = P' W P, psd, for P (N, n): W = I / N, or centred (I - 11'/N) / N, which subtracts the rows' mean."""

    def __init__(self, P, centred=False):
        super().__init__((P.shape[1], P.shape[1]), P.dtype, psd=True, name="P.T @ W @ P")
        self.P, self.centred = P, centred

    def weigh(self, a):
        """W a for a (N,)."""
        a = a * (1.0 / self.P.shape[0])
        return a - ops.mean(a) if self.centred else a

    def _matvec(self, v):
        return self.P.rmatvec(self.weigh(self.P.matvec(v)))


def per_sample_gradients(objective, theta, batch):
    """P, (N, n): row i is the gradient of sample i's own loss (without weight decay), so that P' 1/N is the mean's.

    `P.dense()` forms it, for small nets; P @ v and P.T @ c do not. Raises what `objective.linearize` raises.
    """
    x, t = objective.checked(theta, batch)
    r, J = objective.linearize(theta, x)
    objective.loss.check(r.shape, t)
    return SampleGradients(J, [objective.loss.gradient(r, t, 1)])


def gradient_covariance(objective, theta, batch, centred=False):
    """The covariance of the samples' gradients as a psd operator (n, n), TONGA's metric (Le Roux et al. 2008).

    Uncentred, E[g g'], it is the empirical Fisher; centred, E[g g'] - E[g] E[g]'. Its rank is at most N, where that of
    the exact Fisher is at most N O. Weight decay is left out. Raises what `objective.linearize` raises.
    """
    return SampleMetric(per_sample_gradients(objective, theta, batch), centred)

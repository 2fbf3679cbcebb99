"""Gradients sample by sample, as the rows of an operator P, and the metrics P' W P that are made of them.

Row i of P is J_i' s_i, for the score s_i of sample i: the gradient of its loss, or of its log-likelihood at a target
drawn from the model. Neither P nor J is formed: P v is one R-op and a sum over outputs, P' c one L-op.
"""

import functools
import itertools
import math
from dataclasses import replace

from ..autodiff import ops
from ..backend import parallel, threads, xp
from ..linalg import LinearOperator
from .layers import affine_layers

_TILE = 256  # rows of a Gram matrix's tile


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

    @property
    def layers(self):
        """The affine layers: one row of h a sample, one row of delta a row of P; swept when first asked for."""
        if not hasattr(self, "_layers"):
            self._layers = self._swept()
        return self._layers

    def _swept(self):
        draws = [affine_layers(self.J, s) for s in self.scores]
        if len(draws) == 1:
            return draws[0]
        return [
            replace(layers[0], delta=xp.concatenate([layer.delta for layer in layers]))
            for layers in zip(*draws, strict=True)
        ]

    def gram(self):
        """P P', (K N, K N): the sum over layers of (h h' + 1) * (delta delta'), elementwise.

        By tiles on threads, those above the diagonal only: half of the products, and sums that stay in the cache.
        """
        K, N = len(self.scores), self.J.y_shape[0]
        layers = [(layer.h, layer.delta.reshape(K, N, -1)) for layer in self.layers]
        count = math.ceil(N / _TILE) if threads() > 1 else 1
        edges = [N * i // count for i in range(count + 1)]
        spans = [slice(a, b) for a, b in itertools.pairwise(edges)]
        out = xp.empty((K, N, K, N), self.dtype)

        def tile(pair):
            a, b = pair
            total = sum(_products(h[a], delta[:, a], h[b], delta[:, b]) for h, delta in layers)
            out[:, a, :, b] = total
            if a != b:
                out[:, b, :, a] = total.transpose(2, 3, 0, 1)

        tiles = list(itertools.combinations_with_replacement(spans, 2))
        parallel(tile, tiles[0::2] + tiles[1::2])  # so that each thread has its share of the diagonal
        return out.reshape(self.shape[0], -1)

    def squares(self):
        """The sum over rows of their elementwise squares, (n,): (h^2 1)' delta^2, layer by layer."""
        out = xp.zeros(self.shape[1], self.dtype)
        for layer in self.layers:
            squares = (layer.delta**2).reshape(len(self.scores), *layer.h.shape[:1], -1).sum(axis=0)
            out[slice(*layer.span)] = xp.concatenate([(layer.h**2).T @ squares, squares.sum(axis=0)[None]]).reshape(-1)
        return out

    def dense(self):
        """The rows themselves, (K N, n), for small nets: (h 1)' delta, layer by layer."""
        out = xp.zeros(self.shape, self.dtype)
        for layer in self.layers:
            h1 = xp.concatenate([layer.h, xp.ones_like(layer.h[:, :1])], axis=1)
            delta = layer.delta.reshape(len(self.scores), len(h1), 1, -1)
            out[:, slice(*layer.span)] = (h1[:, :, None] * delta).reshape(len(out), -1)
        return out


def _products(h, delta, h2, delta2):
    """Inner products of gradients, (K, N, K, M), within one layer; the draws of a sample share its h."""
    flat, flat2 = (d.reshape(-1, d.shape[-1]) for d in (delta, delta2))
    out = (flat @ flat2.T).reshape(*delta.shape[:2], *delta2.shape[:2])
    inputs = h @ h2.T
    inputs += 1
    out *= inputs[:, None, :]
    return out


class SampleMetric(LinearOperator):
    """G = P' W P, psd, for P (N, n): W = C / N with C = I, or centred C = I - 11'/N, which subtracts the rows' mean."""

    def __init__(self, P, centred=False):
        super().__init__((P.shape[1], P.shape[1]), P.dtype, psd=True, name="P.T @ W @ P")
        self.P, self.centred = P, centred

    def centre(self, a):
        """C a for a (N,) or (N, k)."""
        return a - a.mean(axis=0) if self.centred else a

    def weigh(self, a):
        """W a for a (N,) or (N, k)."""
        return self.centre(a) * (1.0 / self.P.shape[0])

    def _matvec(self, v):
        return self.P.rmatvec(self.weigh(self.P.matvec(v)))


def per_sample_gradients(objective, theta, batch, linearized=None):
    """P, (N, n): row i is the gradient of sample i's own loss (without weight decay), so that P' 1/N is the mean's.

    `P.dense()` forms it, for small nets; P @ v and P.T @ c do not. linearized: r, J of this theta and x, where they are
    at hand. Raises what `objective.linearize` raises.
    """
    x, t = objective.checked(theta, batch)
    r, J = linearized or objective.linearize(theta, x)
    objective.loss.check(r.shape, t)
    return SampleGradients(J, [objective.loss.gradient(r, t, 1)])


def gradient_covariance(objective, theta, batch, centred=False, linearized=None):
    """The covariance of the samples' gradients as a psd operator (n, n), TONGA's metric (Le Roux et al. 2008).

    Uncentred, E[g g'], it is the empirical Fisher; centred, E[g g'] - E[g] E[g]'. Its rank is at most N, where that of
    the exact Fisher is at most N O. Weight decay is left out. linearized: as in `per_sample_gradients`.
    Raises what `objective.linearize` raises.
    """
    return SampleMetric(per_sample_gradients(objective, theta, batch, linearized), centred)

"""Gradients sample by sample, as the rows of an operator P, and the metrics P' W P that are made of them.

Row i of P is J_i' s_i, for the score s_i of sample i: the gradient of its loss, or of its log-likelihood at a target
drawn from the model. Neither P nor J is formed: P v is one R-op and a sum over outputs, P' c one L-op.
"""

import functools
import itertools
import math

from ..autodiff import ops
from ..backend import evenly, parallel, threads, xp
from ..linalg import LinearOperator
from .layers import affine_layers, with_one

_TILE = 256  # rows of a Gram matrix's tile
_AT_ONCE = 1 << 22  # numbers in the samples' gradients, where these are formed for it


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
        """The affine layers, each K times: a Layer for each draw. Swept when first asked for."""
        if not hasattr(self, "_layers"):
            self._layers = list(zip(*(affine_layers(self.J, s) for s in self.scores), strict=True))
        return self._layers

    def gram(self):
        """P P', (K N, K N): the sum over layers of (h h' + 1) * (delta delta'), elementwise.

        Where a sample has several rows, the gradients themselves are formed and multiplied, some samples at a time. By
        tiles on threads, those above the diagonal only: half of the products, and sums that stay in the cache.
        """
        K, N = len(self.scores), self.J.y_shape[0]
        formed = max((K * math.prod(draws[0].shape) for draws in self.layers if draws[0].rows > 1), default=0)
        tile_rows = min(_TILE, max(1, _AT_ONCE // formed)) if formed else _TILE if threads() > 1 else N
        count = math.ceil(N / tile_rows)
        spans = evenly(0, N, count)
        out = xp.empty((K, N, K, N), self.dtype)

        def tile(pair):
            a, b = pair
            total = sum(_products(draws, a, b) for draws in self.layers)
            out[:, a, :, b] = total
            if a != b:
                out[:, b, :, a] = total.transpose(2, 3, 0, 1)

        tiles = list(itertools.combinations_with_replacement(spans, 2))
        parallel(tile, tiles[0::2] + tiles[1::2])  # so that each thread has its share of the diagonal
        return out.reshape(self.shape[0], -1)

    def squares(self):
        """The sum over rows of their elementwise squares, (n,): (h^2 1)' delta^2, layer by layer."""
        out = xp.zeros(self.shape[1], self.dtype)
        for draws in self.layers:
            if draws[0].rows == 1:  # one product for all draws
                h1 = with_one(draws[0].h)
                total = (h1 * h1).T @ (_deltas(draws) ** 2).sum(axis=0)
            else:
                total = sum(layer.squares() for layer in draws)
            out[slice(*draws[0].span)] = total.reshape(-1)
        return out

    def dense(self):
        """The rows themselves, (K N, n), for small nets: (h 1)' delta, layer by layer."""
        out = xp.zeros(self.shape, self.dtype)
        for draws in self.layers:
            out[:, slice(*draws[0].span)] = _gradients(draws).reshape(len(out), -1)
        return out


def _gradients(draws):
    """A layer's gradients, (K, N, in + 1, out): the sum over a sample's rows of (h 1)' delta."""
    parts = zip(*(layer.parts() for layer in draws), strict=True)
    return xp.concatenate([_outer(with_one(part[0].h), _deltas(part)) for part in parts], axis=1)


def _outer(h1, delta):
    return h1[:, :, None] * delta[:, :, None, :] if h1.ndim == 2 else h1.transpose(0, 2, 1) @ delta


def _deltas(draws):
    """(K, N, out), or (K, N, T, out)."""
    return xp.stack([layer.delta for layer in draws])


def _products(draws, a, b):
    """Inner products of gradients, (K, N, K, M), within one layer, of the samples a and b; all draws share an h."""
    one, other = ([layer.of(samples) for layer in draws] for samples in (a, b))
    if draws[0].rows > 1:
        G = _gradients(one)
        G2 = G if a == b else _gradients(other)
        flat, flat2 = (rows.reshape(rows.shape[0] * rows.shape[1], -1) for rows in (G, G2))
        return (flat @ flat2.T).reshape(*G.shape[:2], *G2.shape[:2])
    h, delta, h2, delta2 = one[0].h, _deltas(one), other[0].h, _deltas(other)
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

"""A layer's block of the Fisher information as a Kronecker product (George, section 3.3; Martens & Grosse 2015).

For one sample J_theta = (h 1)' kron J_a (eq. 3.3.1), so a layer's block of G = J' M J is

    E[(h 1)(h 1)' kron J_a' M J_a]                                    (eq. 3.3.2, exact)
    A kron S,  A = E[(h 1)(h 1)'],  S = E[J_a' M J_a]                 (K-FAC: as if the two were independent)

J_a' M J_a is the mean of delta delta' over the rows of M = mean of u u': the cotangents u = scores of sampled targets
(mc), of the data's (empirical), or the columns of M's factor (exact), delta being what a backward sweep makes of u at
the layer. A and S are sums over samples; a batch's slices give their parts on threads.
"""

import operator
from dataclasses import dataclass
from functools import reduce

from ..backend import parallel, xp
from ..linalg import Kronecker, Matrix
from .fisher import check_kind, scores
from .layers import inputs_by_slice, layers_by_slice


@dataclass(frozen=True)
class Factors:
    """A layer's A (in + 1, in + 1) and S (out, out); span (start, stop) is where its matrix lies in theta."""

    name: str
    span: tuple
    A: object
    S: object

    @property
    def block(self):
        """A kron S as a psd operator on the layer's slice of theta."""
        return Kronecker(Matrix(self.A, psd=True, name="A"), Matrix(self.S, psd=True, name="S"))


@dataclass(frozen=True)
class Moments:
    """A layer's input: second = E[hh'] (in, in), mean = E[h] (in,); span (start, stop) of its matrix in theta."""

    name: str
    span: tuple
    second: object
    mean: object

    @property
    def covariance(self):
        """C = E[hh'] - E[h] E[h]'."""
        return self.second - xp.outer(self.mean, self.mean)


def kronecker_factors(objective, theta, data, kind="exact", *, rng=None, samples=1):
    """The Factors of every affine layer, in theta's order, of the Fisher information that `fisher` calls `kind`.

    data, kind, rng, samples: as in `fisher`. "exact" sweeps backwards once an output.
    Raises what `fisher` raises, and NotImplementedError where the net is not made of affine layers (`affine_layers`).
    """
    check_kind(kind, rng, samples)
    x, t = objective.checked(theta, data) if kind == "empirical" else (data, None)
    r, J = objective.linearize(theta, x)
    return factors_of(J, scores(objective.loss, r, t, kind, rng=rng, samples=samples))


def factors_of(J, cotangents):
    """The Factors of every affine layer of J for cotangents [u (N, O), ...], one backward sweep each."""
    return factors_of_sweeps(J, (layers_by_slice(J, u) for u in cotangents))


def factors_of_sweeps(J, sweeps):
    """The same of sweeps done before: what `layers_by_slice` gave for each u."""
    squares, count = None, 0
    for parts in sweeps:
        parts = parallel(lambda layers: [layer.delta.T @ layer.delta for layer in layers], parts)
        squares, count = _added([squares, *parts] if squares else parts), count + 1
    weight = 1.0 / (J.y_shape[0] * count)
    return [
        Factors(layer.name, layer.span, A, xp.multiply(square, weight, out=square))
        for (layer, A), square in zip(_input_factors(J), squares, strict=True)
    ]


def second_moments(sweeps, bases):
    """[E[(Q' (h 1)' delta R)^2], elementwise], one (in + 1, out) a layer: George et al. 2018, the d of EKFAC.

    sweeps: as above. bases: one (Q, R) a layer, None for the identity. It is the diagonal of the layer's block of the
    Fisher information in the basis Q kron R, of all diagonals the nearest to it in Frobenius norm.
    """
    total, rows = None, 0
    for parts in sweeps:
        found = parallel(lambda layers: [_squares(*pair) for pair in zip(layers, bases, strict=True)], parts)
        total = _added([total, *found] if total else found)
        rows += sum(layers[0].h.shape[0] for layers in parts)
    return [(1.0 / rows) * square for square in total]


def _squares(layer, basis):
    """The sum of (Q' (h 1)' delta R)^2 over samples: of outer products, so a product of squares."""
    Q, R = basis
    h = xp.pad(layer.h, ((0, 0), (0, 1)), constant_values=1.0) if Q is None else layer.h @ Q[:-1] + Q[-1]
    delta = layer.delta if R is None else layer.delta @ R
    return (h * h).T @ (delta * delta)


def input_moments(J):
    """The Moments of every affine layer's input over J's batch; no sweep. Raises what `affine_layers` raises."""
    return [Moments(layer.name, layer.span, A[:-1, :-1], A[:-1, -1]) for layer, A in _input_factors(J)]


def _input_factors(J):
    """[(Layer, A)]: the weight 1/N goes in beside the 1, so one product gives all moments, and none is copied."""
    root = J.y_shape[0] ** -0.5

    def weighted(h):
        h1 = xp.empty((h.shape[0], h.shape[1] + 1), h.dtype)
        xp.multiply(h, root, out=h1[:, :-1])
        h1[:, -1] = root
        return h1.T @ h1

    parts = inputs_by_slice(J, lambda layers: [(layer, weighted(layer.h)) for layer in layers])
    layers, products = ([[entry[k] for entry in part] for part in parts] for k in range(2))
    return list(zip(layers[0], _added(products), strict=True))


def _added(parts):
    """[the first arrays' sum, the second arrays' sum, ...], in the order of the parts, in place of the first part's."""
    return [reduce(operator.iadd, arrays) for arrays in zip(*parts, strict=True)]

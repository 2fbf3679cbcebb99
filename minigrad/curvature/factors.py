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
from ..linalg.kronecker import homogeneous
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
        Factors(layer.name, layer.span, homogeneous(layer.second, layer.mean), weight * square)
        for layer, square in zip(input_moments(J), squares, strict=True)
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
    weight = 1.0 / J.y_shape[0]
    parts = inputs_by_slice(J, lambda layers: [(layer, layer.h.T @ layer.h, layer.h.sum(axis=0)) for layer in layers])
    layers, seconds, sums = ([[entry[k] for entry in part] for part in parts] for k in range(3))
    return [
        Moments(layer.name, layer.span, weight * second, weight * total)
        for layer, second, total in zip(layers[0], _added(seconds), _added(sums), strict=True)
    ]


def _added(parts):
    """[the first arrays' sum, the second arrays' sum, ...], added in the order of the parts."""
    return [reduce(operator.add, arrays) for arrays in zip(*parts, strict=True)]

"""A layer's block of the Fisher information as a Kronecker product (George, section 3.3; Martens & Grosse 2015).

For one sample J_theta = (h 1)' kron J_a (eq. 3.3.1), so a layer's block of G = J' M J is

    E[(h 1)(h 1)' kron J_a' M J_a]                                    (eq. 3.3.2, exact)
    A kron S,  A = E[(h 1)(h 1)'],  S = E[J_a' M J_a]                 (K-FAC: as if the two were independent)

J_a' M J_a is the mean of delta delta' over the rows of M = mean of u u': the cotangents u = scores of sampled targets
(mc), of the data's (empirical), or the columns of M's factor (exact), delta being what a backward sweep makes of u at
the layer. A and S are sums over samples; a batch's slices give their parts on threads, and ranks (`J.ranks`) theirs.
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
    layers, inputs = _inputs(J)
    weight, As, squares, count = 1.0 / J.y_shape[0], None, None, 0
    for parts in sweeps:
        jobs = [(False, [layer.delta for layer in slices]) for slices in zip(*parts, strict=True)]
        jobs = jobs if As else inputs + jobs  # side by side with those of the first sweep
        found = parallel(lambda job: _second_moment(*job, weight), jobs, cost=_work)
        As, found = As or found[: len(layers)], found[-len(layers) :]
        squares, count = _added([squares, found]) if squares else found, count + 1
    sums = J.ranks.total(As + squares)
    As, squares = sums[: len(layers)], sums[len(layers) :]
    if count > 1:
        squares = [xp.multiply(square, 1.0 / count, out=square) for square in squares]
    return [Factors(layer.name, layer.span, A, S) for layer, A, S in zip(layers, As, squares, strict=True)]


def second_moments(J, sweeps, bases):
    """[E[(Q' (h 1)' delta R)^2], elementwise], one (in + 1, out) a layer: George et al. 2018, the d of EKFAC.

    sweeps: as above. bases: one (Q, R) a layer, None for the identity. It is the diagonal of the layer's block of the
    Fisher information in the basis Q kron R, of all diagonals the nearest to it in Frobenius norm.
    """
    total, rows = None, J.y_shape[0] * len(sweeps)
    for parts in sweeps:
        found = parallel(lambda layers: [_squares(*pair) for pair in zip(layers, bases, strict=True)], parts)
        total = _added([total, *found] if total else found)
    return [(1.0 / rows) * square for square in J.ranks.total(total)]


def _squares(layer, basis):
    """The sum of (Q' (h 1)' delta R)^2 over samples: of outer products, so a product of squares."""
    Q, R = basis
    h = _with_one(layer.h, 1.0) if Q is None else layer.h @ Q[:-1] + Q[-1]
    delta = layer.delta if R is None else layer.delta @ R
    return (h * h).T @ (delta * delta)


def input_moments(J):
    """The Moments of every affine layer's input over J's batch; no sweep. Other parameters are passed over.

    Raises NotImplementedError for an affine layer whose matrix has other uses, or more rows than one a sample.
    """
    (layers, inputs), weight = _inputs(J), 1.0 / J.y_shape[0]
    As = J.ranks.total(parallel(lambda job: _second_moment(*job, weight), inputs, cost=_work))
    return [Moments(layer.name, layer.span, A[:-1, :-1], A[:-1, -1]) for layer, A in zip(layers, As, strict=True)]


def _inputs(J):
    """The layers, and a job for `_second_moment` each: their inputs h."""
    parts = inputs_by_slice(J, lambda layers: layers)
    return parts[0], [(True, [layer.h for layer in slices]) for slices in zip(*parts, strict=True)]


def _second_moment(one, parts, weight):
    """weight times the sum of v'v over rows v of all parts, or of (v 1)'(v 1).

    A matrix is one thread's, from the product, of which it needs one half, to the last pass. The weight's root goes in
    beside the 1.
    """
    total = reduce(operator.iadd, (v.T @ v for v in (_with_one(part, weight**0.5) if one else part for part in parts)))
    return total if one else xp.multiply(total, weight, out=total)


def _work(job):
    """Multiply-adds of `_second_moment`."""
    return sum(part.size * part.shape[1] for part in job[1]) // 2


def _with_one(h, weight):
    """weight (h 1)."""
    h1 = xp.empty((h.shape[0], h.shape[1] + 1), h.dtype)
    xp.multiply(h, weight, out=h1[:, :-1])
    h1[:, -1] = weight
    return h1


def input_means(J):
    """{layer's name: E[h] (in,)}, in theta's order: where `input_moments` would give more than is needed."""
    weight = 1.0 / J.y_shape[0]
    parts = inputs_by_slice(J, lambda layers: {layer.name: layer.h.sum(axis=0) for layer in layers})
    sums = J.ranks.total(_added(part.values() for part in parts))
    return {name: weight * total for name, total in zip(parts[0], sums, strict=True)}


def _added(parts):
    """[the first arrays' sum, the second arrays' sum, ...], in the order of the parts, in place of the first part's."""
    return [reduce(operator.iadd, arrays) for arrays in zip(*parts, strict=True)]

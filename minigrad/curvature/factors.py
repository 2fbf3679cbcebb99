"""A layer's block of the Fisher information as a Kronecker product (George, section 3.3; Martens & Grosse 2015).

For one sample J_theta = (h 1)' kron J_a (eq. 3.3.1), so a layer's block of G = J' M J is

    E[(h 1)(h 1)' kron J_a' M J_a]                                    (eq. 3.3.2, exact)
    A kron S,  A = E[(h 1)(h 1)'],  S = E[J_a' M J_a]                 (K-FAC: as if the two were independent)

J_a' M J_a is the mean of delta delta' over the rows of M = mean of u u': the cotangents u = scores of sampled targets
(mc), of the data's (empirical), or the columns of M's factor (exact), delta being what a backward sweep makes of u at
the layer. A and S are sums over samples; a batch's slices give their parts on threads, and ranks (`J.ranks`) theirs.

Where T rows of a sample share the matrix, places of a convolution or steps of a recurrence, the sample's gradient is
sum_t (h_t 1)' delta_t. Two ways to go on (Eschenhagen et al. 2023):

    "expand"   A = E[sum_t (h_t 1)(h_t 1)'] / T,  S = E[sum_t delta_t delta_t']
               each row a sample of its own: no pair of rows is correlated, and h_t is independent of delta_t. Then the
               block is sum_t E[(h_t 1)(h_t 1)'] kron E[delta_t delta_t'], which is taken for T times the product of the
               means over t: T (A) kron (S / T). One 1/T remains; A has it (Grosse & Martens 2016 leave it with S)
    "reduce"   A = E[(hbar 1)(hbar 1)'],  S = E[dbar dbar'],  hbar = sum_t h_t / T,  dbar = sum_t delta_t
               the gradient as if all its rows had their mean h: the 1/T is that of a mean

"expand" is exact for linear nets whose rows have losses of their own, "reduce" for linear nets whose rows are averaged.
"""

import operator
from dataclasses import dataclass, replace
from functools import reduce

from ..backend import check_name, parallel, xp
from ..linalg import Kronecker, Matrix
from .fisher import check_kind, scores
from .layers import inputs_by_slice, layers_by_slice

SHARED = ("expand", "reduce")  # what is made of several rows a sample


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
    """A layer's input: second = E[hh'] (in, in), mean = E[h] (in,); span (start, stop) of its matrix in theta.

    pixels: of how many pixels with these moments a row of its input is made, if it is one that `pixel_moments` gave.
    """

    name: str
    span: tuple
    second: object
    mean: object
    pixels: int = 1

    @property
    def covariance(self):
        """C = E[hh'] - E[h] E[h]'."""
        return self.second - xp.outer(self.mean, self.mean)


def kronecker_factors(objective, theta, data, kind="exact", *, rng=None, samples=1, shared="expand"):
    """The Factors of every affine layer, in theta's order, of the Fisher information that `fisher` calls `kind`.

    data, kind, rng, samples: as in `fisher`. "exact" sweeps backwards once an output. shared: "expand" or "reduce", for
    layers with several rows a sample.
    Raises what `fisher` raises, ValueError for an unknown `shared`, and NotImplementedError where the net is not made
    of affine layers (`affine_layers`).
    """
    check_kind(kind, rng, samples)
    check_name("way to share", shared, SHARED)
    x, t = objective.checked(theta, data) if kind == "empirical" else (data, None)
    r, J = objective.linearize(theta, x)
    return factors_of(J, scores(objective.loss, r, t, kind, rng=rng, samples=samples), shared)


def factors_of(J, cotangents, shared="expand"):
    """The Factors of every affine layer of J for cotangents [u (N, O), ...], one backward sweep each."""
    return factors_of_sweeps(J, (layers_by_slice(J, u) for u in cotangents), shared)


def factors_of_sweeps(J, sweeps, shared="expand"):
    """The same of sweeps done before: what `layers_by_slice` gave for each u."""
    As, squares, count = None, None, 0
    for parts in sweeps:
        slices = list(zip(*parts, strict=True))
        jobs = [("delta", layer) for layer in slices]
        jobs = jobs if As else [("h", layer) for layer in slices] + jobs  # side by side
        found = parallel(lambda job: _second_moment(*job, J.y_shape[0], shared), jobs, cost=_work)
        As, found = As or found[: len(slices)], found[-len(slices) :]
        squares, count = _added([squares, found]) if squares else found, count + 1
    sums = J.ranks.total(As + squares)
    As, squares = sums[: len(slices)], sums[len(slices) :]
    if count > 1:
        squares = [xp.multiply(square, 1.0 / count, out=square) for square in squares]
    layers = [first for first, *_ in slices]
    return [Factors(layer.name, layer.span, A, S) for layer, A, S in zip(layers, As, squares, strict=True)]


def second_moments(J, sweeps, bases):
    """[E[(Q' G R)^2], elementwise], one (in + 1, out) a layer: George et al. 2018, the d of EKFAC. G: a sample's
    gradient, the sum over its rows of (h 1)' delta.

    sweeps: as above. bases: one (Q, R) a layer, None for the identity. It is the diagonal of the layer's block of the
    Fisher information in the basis Q kron R, of all diagonals the nearest to it in Frobenius norm.
    """
    total, rows = None, J.y_shape[0] * len(sweeps)
    for parts in sweeps:
        found = parallel(
            lambda layers: [layer.squares(*basis) for layer, basis in zip(layers, bases, strict=True)], parts
        )
        total = _added([total, *found] if total else found)
    return [(1.0 / rows) * square for square in J.ranks.total(total)]


def input_moments(J):
    """The Moments of every affine layer's input over J's batch and a sample's rows; no sweep. Other parameters are
    passed over.

    Raises NotImplementedError for an affine layer whose matrix has other uses.
    """
    return _moments(J, _inputs(J))


def pixel_moments(J):
    """The same of the pixels that a layer's patches are made of, in place of the patches: PRONG whitens feature maps
    (Desjardins et al. 2015, section 4.3).

    mean (C,) and second (C, C) of images with C channels, their padding included, for the layer reads it too. Every
    pixel counts once, in however many patches it is.
    """
    layers = _inputs(J)
    moments = _moments(J, [[part.of_pixels() for part in slices] for slices in layers])
    return [
        replace(m, pixels=(slices[0].shape[0] - 1) // len(m.mean)) for m, slices in zip(moments, layers, strict=True)
    ]


def _moments(J, layers):
    jobs = [("h", slices) for slices in layers]
    As = J.ranks.total(parallel(lambda job: _second_moment(*job, J.y_shape[0]), jobs, cost=_work))
    return [Moments(part.name, part.span, A[:-1, :-1], A[:-1, -1]) for (part, *_), A in zip(layers, As, strict=True)]


def _inputs(J):
    """[a layer, slice by slice of the batch], their inputs alone."""
    return list(zip(*inputs_by_slice(J, lambda layers: layers), strict=True))


def _second_moment(what, layer, n, shared="expand"):
    """A or S of a layer, given slice by slice of n samples.

    A matrix is one thread's, from the product, of which it needs one half, to the last pass. One row a sample: the
    slices are put together for one long product; several: they pass by a few samples at a time.
    """
    several = layer[0].rows > 1
    reduced = several and shared == "reduce"  # one row a sample in place of T
    if what == "h":
        weight = 1.0 / (n if reduced else n * layer[0].rows)
        rows = (part.h.mean(axis=1) if reduced else part.h for slices in layer for part in slices.parts())
    else:
        weight = 1.0 / n
        rows = (slices.delta.sum(axis=1) if reduced else slices.delta for slices in layer)
    groups = ([block] for block in rows) if several else [list(rows)]
    weighed = (_weighed(blocks, weight**0.5, what == "h") for blocks in groups)
    return reduce(operator.iadd, (v.T @ v for v in weighed))


def _weighed(blocks, root, one):
    """root (v 1), or root v, for the rows v of all blocks: root^2 is then the weight of each row's square."""
    blocks = [_flat(block) for block in blocks]
    width = blocks[0].shape[1]
    out, start = xp.empty((sum(map(len, blocks)), width + one), blocks[0].dtype), 0
    for block in blocks:
        xp.multiply(block, root, out=out[start : start + len(block), :width])
        start += len(block)
    out[:, width:] = root
    return out


def _work(job):
    """Multiply-adds of `_second_moment`."""
    what, layer = job
    n = sum(slices.uses[0].input.shape[0] * slices.rows for slices in layer)
    return n * layer[0].shape[0 if what == "h" else 1] ** 2 // 2


def _flat(rows):
    """All rows of all samples as a matrix."""
    return rows if rows.ndim == 2 else rows.reshape(-1, rows.shape[-1])


def input_means(J):
    """{layer's name: E[h] (in,)}, over a sample's rows too: where `input_moments` would give more than is needed."""

    def sums(layers):
        return [(layer, sum(_flat(part.h).sum(axis=0) for part in layer.parts())) for layer in layers]

    parts = inputs_by_slice(J, sums)
    totals = J.ranks.total(_added([total for _, total in part] for part in parts))
    layers = [layer for layer, _ in parts[0]]
    return {
        layer.name: (1.0 / (layer.rows * J.y_shape[0])) * total for layer, total in zip(layers, totals, strict=True)
    }


def _added(parts):
    """[the first arrays' sum, the second arrays' sum, ...], in the order of the parts, in place of the first part's."""
    return [reduce(operator.iadd, arrays) for arrays in zip(*parts, strict=True)]

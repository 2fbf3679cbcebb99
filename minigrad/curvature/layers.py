"""What a backward sweep passes by: each affine layer's input h and the cotangent delta of its pre-activation.

A row h and its delta give the outer product (h 1)' delta, and a sample's gradient is the sum of these over the layer's
rows: one row in a dense layer; as many as places in a convolution, whose rows are patches; as many as steps in a
recurrent one, which uses its matrix again and again. So whatever is built from gradients (their squares, their inner
products, Kronecker factors) needs h and delta alone.
"""

import itertools
import math
import operator
from dataclasses import dataclass, replace
from functools import reduce

from ..autodiff.conv import patches
from ..backend import parallel, xp

_AT_ONCE = 1 << 22  # numbers in the patches, or samples' gradients, that are made at once


@dataclass(frozen=True)
class Use:
    """One use of a layer's matrix: its input (N, ..., in), or images (N, H, W, C) and the Window that makes patches of
    them; and delta (N, ..., out), the cotangent of what comes out."""

    input: object
    window: object = None
    delta: object = None

    @property
    def h(self):
        """The rows that meet the matrix, (N, ..., in)."""
        return self.input if self.window is None else patches(self.input, self.window)

    @property
    def places(self):
        """The axes of h between the first and the last."""
        shape = self.input.shape
        return shape[1:-1] if self.window is None else self.window.places(shape, "layerwise curvature")

    def of(self, samples):
        """The same for some samples."""
        return Use(self.input[samples], self.window, None if self.delta is None else self.delta[samples])


@dataclass(frozen=True)
class Layer:
    """An affine layer over a batch of N samples, its matrix of `shape` (in + 1, out) at span (start, stop) of theta."""

    name: str
    span: tuple
    shape: tuple
    uses: tuple

    @property
    def h(self):
        """(N, in), or (N, T, in) where a sample has T rows: all places of all uses."""
        return _side_by_side([use.h for use in self.uses])

    @property
    def delta(self):
        """(N, out), or (N, T, out)."""
        return _side_by_side([use.delta for use in self.uses])

    @property
    def rows(self):
        """T, how many rows a sample has."""
        return sum(math.prod(use.places) for use in self.uses)

    def of(self, samples):
        """The same layer for some samples, a slice."""
        return replace(self, uses=tuple(use.of(samples) for use in self.uses))

    def parts(self):
        """The same layer for some samples at a time, so that neither their h nor their gradients are too many."""
        n, (n_in, n_out) = self.uses[0].input.shape[0], self.shape
        step = n if self.rows == 1 else max(1, _AT_ONCE // max(self.rows * n_in, self.rows * n_out, n_in * n_out))
        for start in range(0, n, step):
            yield self.of(slice(start, start + step))

    def squares(self, Q=None, R=None):
        """The sum over samples of (Q' G R)^2, elementwise, (in + 1, out); None is the identity.

        G, the gradient of a sample, is the sum over its rows of (h 1)' delta; of one row, it is a product of squares.
        """
        return reduce(operator.iadd, (_squares(part, Q, R) for part in self.parts()))

    def of_pixels(self):
        """The layer with the pixels that its windows move over, padding included, for rows; without deltas."""
        uses = tuple(Use(use.input if use.window is None else use.window.padded(use.input)) for use in self.uses)
        return replace(self, shape=(uses[0].input.shape[-1] + 1, self.shape[1]), uses=uses)


def _squares(layer, Q, R):
    h = with_one(layer.h) if Q is None else layer.h @ Q[:-1] + Q[-1]
    delta = layer.delta if R is None else layer.delta @ R
    if layer.rows == 1:
        return (h * h).T @ (delta * delta)
    G = h.transpose(0, 2, 1) @ delta
    return xp.multiply(G, G, out=G).sum(axis=0)


def with_one(h):
    """(h 1)."""
    h1 = xp.empty((*h.shape[:-1], h.shape[-1] + 1), h.dtype)
    h1[..., :-1], h1[..., -1] = h, 1
    return h1


def _side_by_side(arrays):
    """Arrays (N, ..., k) as one, (N, T, k); (N, k) if T is 1."""
    if len(arrays) == 1 and arrays[0].ndim == 2:
        return arrays[0]
    flat = [a.reshape(a.shape[0], math.prod(a.shape[1:-1]), a.shape[-1]) for a in arrays]
    whole = flat[0] if len(flat) == 1 else xp.concatenate(flat, axis=1)
    return whole[:, 0] if whole.shape[1] == 1 else whole


def affine_layers(J, u):
    """The Layers of a net for cotangents u (N, O) of its outputs, in theta's order; one backward sweep.

    Raises NotImplementedError, with the reason, where a parameter is anything but the matrix of an affine layer, or
    where the net couples samples: then a sample's gradient is no sum of outer products.
    """
    return [_joined(J, parts) for parts in zip(*layers_by_slice(J, u), strict=True)]


def layers_by_slice(J, u, work=lambda layers: layers):
    """[work(Layers of a slice)], one a slice of the batch, each swept and worked on by its own thread."""
    return parallel(lambda pair: work(_swept(pair[0], u[pair[1]])), _slices(J))


def inputs_by_slice(J, work):
    """[work(Layers of a slice)] where the layers have their inputs h alone, and nothing is swept.

    Parameters that are no affine layer's matrix (batch normalization's) are passed over, and samples may be coupled.
    """
    return parallel(lambda pair: work([layer for layer, _ in _inputs(pair[0])]), _slices(J))


def _slices(J):
    """[(J of a slice, its rows)]."""
    return list(zip(J.parts, J.slices, strict=True)) if hasattr(J, "slices") else [(J, slice(None))]


def _swept(J, u):
    if getattr(J, "couples_samples", False):
        raise NotImplementedError(
            "layerwise curvature: the net couples the samples of a batch (batch normalization), so that a sample's "
            "gradient is no outer product of a layer's input and delta"
        )
    layers = _inputs(J, whole=True)
    if not layers:
        raise NotImplementedError("layerwise curvature: the net has no affine layer")
    used = set(itertools.chain(*(outputs for _, outputs in layers)))
    deltas = {node.out: delta for node, delta in J.sweep(u) if node.out in used}
    swept = []
    for layer, outputs in layers:
        reached = [(use, deltas[out]) for use, out in zip(layer.uses, outputs, strict=True) if out in deltas]
        if reached:
            swept.append(replace(layer, uses=tuple(replace(use, delta=delta) for use, delta in reached)))
    return swept


def _inputs(J, whole=False):
    """[(Layer without deltas, tape indices of its uses' outputs)] in theta's order; `whole`: they must cover theta."""
    matrices = _matrices(J, whole)
    found = {i: [] for i in sorted(matrices, key=lambda i: matrices[i].span)}
    for node in J.nodes:
        for i, linear in node.inputs:
            if i in matrices:
                x, window = linear.factor
                if x.shape[:1] != J.y_shape[:1]:
                    raise _refusal(matrices[i].name, f"is applied to rows {x.shape[:-1]}, of no sample each")
                found[i].append((Use(x, window), node.out))
    layers = []
    for i, pairs in found.items():
        uses, outputs = zip(*pairs, strict=True)
        layers.append((Layer(matrices[i].name, matrices[i].span, matrices[i].shape, uses), outputs))
    for (one, _), (other, _) in itertools.pairwise(layers):
        if one.span[1] > other.span[0]:
            raise _refusal(other.name, f"shares numbers of theta with {one.name!r}")
    return layers


def _matrices(J, whole):
    """{tape index: node} of the parameters that are affine layers' matrices, and nothing else; `whole`: all must be."""
    uses = {i: [] for i in J.parameters}
    for node in J.nodes:
        if node.span is None:
            for i, linear in node.inputs:
                if i == 0:
                    raise _refusal("theta", f"enters {node.op.name} whole")
                if i in uses:
                    uses[i].append((node.op.name, linear))
    matrices = {}
    for i, found in uses.items():
        affine = [linear.factor is not None for _, linear in found]
        if affine and all(affine):
            matrices[i] = J.parameters[i]
        elif whole or any(affine):
            uses_of_it = ", ".join(name for name, _ in found) or "no operation"
            raise _refusal(J.parameters[i].name, f"is used by {uses_of_it}")
    return matrices


def _refusal(name, why):
    return NotImplementedError(f"layerwise curvature: each parameter must be one affine layer's matrix; {name!r} {why}")


def _joined(J, layers):
    """One layer over the whole batch, of its slices."""

    def whole(parts):
        rows = parts[0] if len(parts) == 1 else xp.concatenate(parts)
        return J.ranks.gathered(rows, J.y_shape[0])

    def joined(uses):
        return Use(whole([use.input for use in uses]), uses[0].window, whole([use.delta for use in uses]))

    return replace(layers[0], uses=tuple(joined(uses) for uses in zip(*(layer.uses for layer in layers), strict=True)))

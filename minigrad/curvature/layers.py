"""What a backward sweep passes by: each affine layer's input h and the cotangent delta of its pre-activation.

An affine layer's share of a sample's gradient is the outer product (h 1)' delta. So sums over samples of whatever is
built from gradients (their squares, their inner products, Kronecker factors) need h and delta alone.
"""

import itertools
from dataclasses import dataclass

from ..backend import parallel, xp


@dataclass(frozen=True)
class Layer:
    """An affine layer over a batch: h (N, in), delta (N, out), span (start, stop) of its (in + 1, out) in theta."""

    name: str
    span: tuple
    h: object
    delta: object


def affine_layers(J, u):
    """The Layers of a net for cotangents u (N, O) of its outputs, in theta's order; one backward sweep.

    Raises NotImplementedError, with the reason, where a parameter is anything but the matrix of one affine layer with
    one row a sample: then a sample's gradient is no outer product.
    """
    if not hasattr(J, "slices"):
        return _layers(J, u)
    slices = zip(J.parts, J.slices, strict=True)
    parts = parallel(lambda pair: _layers(pair[0], u[pair[1]]), slices)
    return [_joined(layers) for layers in zip(*parts, strict=True)]


def _layers(J, u):
    matrices = _matrices(J)
    layers = []
    for node, delta in J.sweep(u):
        for i, linear in node.inputs:
            if i in matrices:
                parameter = matrices[i]
                if linear.factor.shape[:-1] != u.shape[:1]:
                    raise _refusal(parameter.name, f"is applied to rows {linear.factor.shape[:-1]}, not one a sample")
                layers.append(Layer(parameter.name, parameter.span, linear.factor, delta))
    layers.sort(key=lambda layer: layer.span)
    for one, other in itertools.pairwise(layers):
        if one.span[1] > other.span[0]:
            raise _refusal(other.name, f"shares numbers of theta with {one.name!r}")
    return layers


def _matrices(J):
    """{tape index: node} of the parameters, each the matrix of one affine layer."""
    uses = {i: [] for i in J.parameters}
    for node in J.nodes:
        if node.span is None:
            for i, linear in node.inputs:
                if i == 0:
                    raise _refusal("theta", f"enters {node.op.name} whole")
                if i in uses:
                    uses[i].append((node.op.name, linear))
    for i, found in uses.items():
        if len(found) != 1 or found[0][1].factor is None:
            uses_of_it = ", ".join(name for name, _ in found) or "no operation"
            raise _refusal(J.parameters[i].name, f"is used by {uses_of_it}")
    return J.parameters


def _refusal(name, why):
    return NotImplementedError(f"layerwise curvature: each parameter must be one affine layer's matrix; {name!r} {why}")


def _joined(layers):
    """One layer over the whole batch, of its slices."""
    first = layers[0]
    h, delta = (xp.concatenate([getattr(layer, part) for layer in layers]) for part in ("h", "delta"))
    return Layer(first.name, first.span, h, delta)

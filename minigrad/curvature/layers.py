"""What a backward sweep passes by: each affine layer's input h and the cotangent delta of its pre-activation.

An affine layer's share of a sample's gradient is the outer product (h 1)' delta. So sums over samples of whatever is
built from gradients (their squares, their inner products, Kronecker factors) need h and delta alone.
"""

import itertools
from dataclasses import dataclass, replace

from ..backend import parallel, xp


@dataclass(frozen=True)
class Layer:
    """An affine layer over a batch: h (N, in), delta (N, out), span (start, stop) of its (in + 1, out) in theta."""

    name: str
    span: tuple
    h: object
    delta: object = None


def affine_layers(J, u):
    """The Layers of a net for cotangents u (N, O) of its outputs, in theta's order; one backward sweep.

    Raises NotImplementedError, with the reason, where a parameter is anything but the matrix of one affine layer with
    one row a sample, or where the net couples samples: then a sample's gradient is no outer product.
    """
    return [_joined(J, parts) for parts in zip(*layers_by_slice(J, u), strict=True)]


def layers_by_slice(J, u, work=lambda layers: layers):
    """[work(Layers of a slice)], one a slice of the batch, each swept and worked on by its own thread."""
    return parallel(lambda pair: work(_swept(pair[0], u[pair[1]])), _slices(J))


def inputs_by_slice(J, work):
    """[work(Layers of a slice)] where the layers have their inputs h alone, and nothing is swept.

    Parameters that are no affine layer's matrix (batch normalization's) are passed over, and samples may be coupled.
    """
    return parallel(lambda pair: work([layer for _, layer in _inputs(pair[0])]), _slices(J))


def _slices(J):
    """[(J of a slice, its rows)]."""
    return list(zip(J.parts, J.slices, strict=True)) if hasattr(J, "slices") else [(J, slice(None))]


def _swept(J, u):
    if getattr(J, "couples_samples", False):
        raise NotImplementedError(
            "layerwise curvature: the net couples the samples of a batch (batch normalization), so that a sample's "
            "gradient is no outer product of a layer's input and delta"
        )
    layers = dict(_inputs(J, whole=True))
    deltas = {node.out: delta for node, delta in J.sweep(u) if node.out in layers}
    return [replace(layer, delta=deltas[out]) for out, layer in layers.items() if out in deltas]


def _inputs(J, whole=False):
    """[(tape index of the pre-activation, Layer without delta)] in theta's order; `whole`: they must cover theta."""
    matrices, layers = _matrices(J, whole), []
    for node in J.nodes:
        for i, linear in node.inputs:
            if i in matrices:
                parameter = matrices[i]
                if linear.factor.shape[:-1] != J.y_shape[:1]:
                    raise _refusal(parameter.name, f"is applied to rows {linear.factor.shape[:-1]}, not one a sample")
                layers.append((node.out, Layer(parameter.name, parameter.span, linear.factor)))
    layers.sort(key=lambda pair: pair[1].span)
    for (_, one), (_, other) in itertools.pairwise(layers):
        if one.span[1] > other.span[0]:
            raise _refusal(other.name, f"shares numbers of theta with {one.name!r}")
    return layers


def _matrices(J, whole):
    """{tape index: node} of the parameters that are the matrix of one affine layer; `whole`: all must be."""
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
        if affine == [True]:
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

    return replace(layers[0], h=whole([layer.h for layer in layers]), delta=whole([layer.delta for layer in layers]))

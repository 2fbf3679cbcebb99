"""The operations: each a value function, and one linear map an argument.

Read it as a formula sheet. `@primitive` computes the value from arrays; `@name.linear(i)` gives dy/d(argument i) as a
`Linear`, with the R-op (tangent forwards) and the L-op (cotangent backwards) side by side around one
coefficient, which is computed once, while the tape records. The rules use traced operations themselves, so they can be
differentiated again; transposes are plain (never conjugated), so values and R-ops accept complex steps.

Where a function has a kink (abs, maximum, relu, max, norm at 0), the derivative of one side, an even share
of ties, or zero is taken, and the docstring says which. Masks carry no derivative.
"""

import builtins
import itertools
import math
import operator

import numpy as np

from ..backend import scatter_add, xp
from .tape import Joint, Linear, Var, _shape, primitive, untraced

# --- linear maps that many rules share ------------------------------------------------------------------


def diagonal(s):
    """v -> s v, elementwise; its own transpose."""
    return Linear(lambda v: v * s, lambda u: u * s)


def spread(s, x, y):
    """v -> s v, broadcast from x's shape to y's; transposed: sum over what was broadcast. s None means 1."""
    x_shape, y_shape = _shape(x), _shape(y)
    times_s = (lambda v: v) if s is None else (lambda v: v * s)
    if x_shape == y_shape and _shape(s) in ((), y_shape):
        return Linear(times_s, times_s)
    return Linear(rop=lambda v: broadcast_to(times_s(v), y_shape), lop=lambda u: sum_to(times_s(u), x_shape))


def sum_to(u, shape):
    """Sum u over the axes along which an array of `shape` was broadcast: the adjoint of broadcast_to."""
    if _shape(u) == shape:
        return u
    extra = len(_shape(u)) - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, size in enumerate(shape) if size == 1 and u.shape[extra + i] != 1
    )
    return sum(u, axis=axes, keepdims=False).reshape(shape)


# --- arithmetic, with broadcasting ----------------------------------------------------------------------


@primitive
def add(x, y):
    """x + y"""
    return x + y


add.linear(0)(lambda z, x, y: spread(None, x, z))
add.linear(1)(lambda z, x, y: spread(None, y, z))


@primitive
def subtract(x, y):
    """x - y"""
    return x - y


subtract.linear(0)(lambda z, x, y: spread(None, x, z))
subtract.linear(1)(lambda z, x, y: spread(-1.0, y, z))


@primitive
def multiply(x, y):
    """x y"""
    return x * y


multiply.linear(0)(lambda z, x, y: spread(y, x, z))
multiply.linear(1)(lambda z, x, y: spread(x, y, z))


@primitive
def divide(x, y):
    """x / y"""
    return x / y


divide.linear(0)(lambda z, x, y: spread(1.0 / y, x, z))
divide.linear(1)(lambda z, x, y: spread(-z / y, y, z))


@primitive
def negative(x):
    """-x"""
    return -x


negative.linear(0)(lambda y, x: diagonal(-1.0))


@primitive
def power(x, p):
    """x ** p. The derivative in p is x**p log x: p may be traced only where x > 0."""
    return x**p


@power.linear(0)
def _(y, x, p):
    if isinstance(p, (int, float)) and p == 0:
        return spread(0.0, x, y)
    return spread(p * x ** (p - 1), x, y)


@power.linear(1)
def _(y, x, p):
    log_x = math.log(x) if isinstance(x, (int, float)) else log(x)  # a Python number has no say in the precision
    return spread(y * log_x, p, y)


# --- smooth elementwise functions -----------------------------------------------------------------------


@primitive
def exp(x):
    """e**x"""
    return xp.exp(x)


exp.linear(0)(lambda y, x: diagonal(y))


@primitive
def expm1(x):
    """e**x - 1, exact near 0"""
    return xp.expm1(x)


expm1.linear(0)(lambda y, x: diagonal(y + 1.0))


@primitive
def log(x):
    """natural logarithm"""
    return xp.log(x)


log.linear(0)(lambda y, x: diagonal(1.0 / x))


@primitive
def log1p(x):
    """log(1 + x), exact near 0"""
    return xp.log1p(x)


log1p.linear(0)(lambda y, x: diagonal(1.0 / (1.0 + x)))


@primitive
def sqrt(x):
    """square root; its derivative at 0 is infinite (use `norm` for lengths)"""
    return xp.sqrt(x)


sqrt.linear(0)(lambda y, x: diagonal(0.5 / y))


@primitive
def tanh(x):
    """hyperbolic tangent"""
    return xp.tanh(x)


tanh.linear(0)(lambda y, x: diagonal(1.0 - y * y))


@primitive
def sigmoid(x):
    """1 / (1 + e**-x), as (1 + tanh(x/2)) / 2: cannot overflow, and NumPy's tanh is vectorized.

    Accurate to machine epsilon absolutely, not relatively: below -17 (float32) or -37 (float64) it is 0. Losses
    never need its logarithm; they use `softplus`.
    """
    y = xp.asarray(x * 0.5)
    xp.tanh(y, out=y)
    y *= 0.5
    y += 0.5
    return y


@sigmoid.linear(0)
def _(y, x):
    s = 1.0 - y
    s *= y  # in place where y is an array: a pass over fresh memory costs three over cached
    return diagonal(s)


@primitive
def softplus(x):
    """log(1 + e**x), as max(x, 0) + log1p(e**-|x|): cannot overflow"""
    x = xp.asarray(x)
    y = xp.asarray(-abs.value(x))
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    y += relu.value(x)
    return y


softplus.linear(0)(lambda y, x: diagonal(sigmoid(x)))


def log_sigmoid(x):
    """log sigmoid(x) = -softplus(-x)"""
    return -softplus(-x)


# --- elementwise functions with a kink ------------------------------------------------------------------


@primitive
def abs(x):
    """|x|; the derivative at 0 is 0"""
    x = xp.asarray(x)
    return xp.abs(x) if x.dtype.kind != "c" else x * xp.sign(x.real)


abs.linear(0)(lambda y, x: diagonal(xp.sign(untraced(x).real)))


@primitive
def relu(x):
    """max(x, 0); the derivative at 0 is 0"""
    x = xp.asarray(x)
    return xp.maximum(x, 0) if x.dtype.kind == "f" else x * (x.real > 0)


relu.linear(0)(lambda y, x: diagonal((untraced(x).real > 0).astype(untraced(y).real.dtype)))


@primitive
def maximum(x, y):
    """The larger of x and y, elementwise; where they tie, the derivative goes to both, half each"""
    if xp.iscomplexobj(x) or xp.iscomplexobj(y):
        return xp.where(x.real >= y.real, x, y)
    return xp.maximum(x, y)


maximum.linear(0)(lambda z, x, y: spread(_share(x, y, z), x, z))
maximum.linear(1)(lambda z, x, y: spread(_share(y, x, z), y, z))


def _share(x, y, z):
    """1 where x is larger, 1/2 where x and y tie, 0 elsewhere, in z's precision."""
    x, y = untraced(x).real, untraced(y).real
    return _mask(x > y, z) + 0.5 * _mask(x == y, z)


def minimum(x, y):
    """The smaller of x and y, elementwise; ties as in maximum"""
    return -maximum(-x, -y)


def clip(x, low, high):
    """x limited to [low, high]; None means no limit. On the limit the derivative is 1/2, as in maximum."""
    x = x if low is None else maximum(x, low)
    return x if high is None else minimum(x, high)


@primitive
def where(condition, x, y):
    """x where condition, else y"""
    return xp.where(condition, x, y)


where.linear(1)(lambda z, condition, x, y: spread(_mask(condition, z), x, z))
where.linear(2)(lambda z, condition, x, y: spread(_mask(xp.logical_not(condition), z), y, z))


def _mask(condition, like):
    return xp.asarray(condition).astype(untraced(like).real.dtype)


# --- shapes ---------------------------------------------------------------------------------------------


@primitive
def _reshape(x, *, shape):
    """x with the same elements in another shape"""
    return x.reshape(shape)


@_reshape.linear(0)
def _(y, x, *, shape):
    x_shape, y_shape = x.shape, y.shape
    return Linear(lambda v: reshape(v, y_shape), lambda u: reshape(u, x_shape))


def reshape(x, shape):
    """x with the same elements in another shape; one size may be -1"""
    shape = _as_shape(shape)
    return x if _shape(x) == shape else _reshape(x, shape=shape)


@primitive
def _transpose(x, *, axes):
    """x with its axes permuted"""
    return x.transpose(axes)


@_transpose.linear(0)
def _(y, x, *, axes):
    back = tuple(int(i) for i in np.argsort(axes))
    return Linear(lambda v: transpose(v, axes), lambda u: transpose(u, back))


def transpose(x, axes=None):
    """x with its axes permuted; None reverses them"""
    axes = tuple(reversed(range(x.ndim))) if axes is None else _axes(tuple(axes), x.ndim)
    return _transpose(x, axes=axes)


@primitive
def _broadcast_to(x, *, shape):
    """x repeated along new axes and axes of size 1"""
    return xp.broadcast_to(x, shape)


@_broadcast_to.linear(0)
def _(y, x, *, shape):
    x_shape = _shape(x)
    return Linear(lambda v: broadcast_to(v, shape), lambda u: sum_to(u, x_shape))


def broadcast_to(x, shape):
    """x repeated along new axes and axes of size 1"""
    shape = _as_shape(shape)
    return x if _shape(x) == shape else _broadcast_to(x, shape=shape)


@primitive
def _concatenate(*xs, axis):
    """xs joined along an axis"""
    return xp.concatenate(xs, axis=axis)


@_concatenate.linear("jointly")
def _(y, *xs, axis):
    before, stops = (slice(None),) * axis, itertools.accumulate(x.shape[axis] for x in xs)
    keys = [(*before, slice(stop - x.shape[axis], stop)) for x, stop in zip(xs, stops)]
    return Joint(lambda *v: concatenate(v, axis), lambda u: [u[key] for key in keys])


def concatenate(xs, axis=0):
    """The arrays xs joined along an axis"""
    xs = list(xs)
    return _concatenate(*xs, axis=_axis(axis, xs[0].ndim))


def stack(xs, axis=0):
    """The arrays xs, all of one shape, joined along a new axis"""
    xs = list(xs)
    axis = _axis(axis, _ndim(xs[0]) + 1)
    return concatenate([reshape(x, _shape(x)[:axis] + (1,) + _shape(x)[axis:]) for x in xs], axis)


def split(x, sections, axis=0):
    """x cut along an axis into equal `sections` (a number), or at the given positions"""
    axis = _axis(axis, x.ndim)
    size = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or size % sections:
            raise ValueError(f"split: axis {axis} of shape {x.shape} does not divide into {sections} parts")
        sections = [size // sections * i for i in range(1, sections)]
    edges = [0, *sections, size]
    return [x[(slice(None),) * axis + (slice(a, b),)] for a, b in itertools.pairwise(edges)]


@primitive
def getitem(x, *, key):
    """x[key]: slices, integers, None, Ellipsis, integer or boolean arrays"""
    return x[key]


getitem.linear(0)(lambda y, x, *, key: _extract(key, x.shape))


@primitive
def scatter(u, *, key, shape, once=False):
    """zeros of `shape` with out[key] += u, repeated indices adding up: the adjoint of x[key]. once: none is repeated"""
    out = xp.zeros(shape, u.dtype)
    if once or _is_basic(key):
        out[key] = u
    else:
        scatter_add(out, key, u)
    return out


scatter.linear(0)(lambda y, u, *, key, shape, once=False: _extract(key, shape).T)


def _extract(key, shape):
    return Linear(lambda v: getitem(v, key=key), lambda u: scatter(u, key=key, shape=shape))


def _is_basic(key):
    """Does the key select each element at most once (slices and single integers only)?"""
    key = key if isinstance(key, tuple) else (key,)
    return all(k is None or k is Ellipsis or isinstance(k, (slice, int, np.integer)) for k in key)


def take_along_axis(x, index, axis):
    """x[..., index, ...] along one axis, as numpy.take_along_axis; index (N, 1), axis 1: each sample's own class"""
    axis = _axis(axis, x.ndim)
    if index.ndim != x.ndim:
        raise ValueError(f"take_along_axis: index {index.shape} must have as many axes as x {x.shape}")
    grid = [xp.arange(n).reshape((-1,) + (1,) * (x.ndim - d - 1)) for d, n in enumerate(x.shape)]
    grid[axis] = index
    return getitem(x, key=tuple(grid))


def pad(x, widths):
    """x with zeros around it; widths (before, after) for each axis"""
    widths = [tuple(pair) for pair in widths]
    if len(widths) != x.ndim or any(len(pair) != 2 or builtins.min(pair) < 0 for pair in widths):
        raise ValueError(f"pad: needs a pair (before, after) >= 0 for each axis of {x.shape}, got {widths}")
    shape = tuple(before + size + after for size, (before, after) in zip(x.shape, widths, strict=True))
    key = tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True))
    return scatter(x, key=key, shape=shape)


# --- reductions -----------------------------------------------------------------------------------------


@primitive
def _sum(x, *, axis, keepdims):
    """the sum over axes"""
    if axis == tuple(range(len(axis))) and 0 < len(axis) < x.ndim and x.dtype.kind in "fc" and x.flags.c_contiguous:
        total = sum_of_rows(x.reshape(math.prod(x.shape[: len(axis)]), math.prod(x.shape[len(axis) :])))
        return total.reshape(_kept(x.shape, axis) if keepdims else x.shape[len(axis) :])
    return x.sum(axis=axis, keepdims=keepdims)


def sum_of_rows(x):
    """1'x for an array x (N, k): BLAS reads a tall matrix thrice as fast as NumPy adds up its rows, and rounds less."""
    return xp.ones(x.shape[0], x.dtype) @ x


@_sum.linear(0)
def _(y, x, *, axis, keepdims):
    shape, kept = x.shape, _kept(x.shape, axis)
    return Linear(
        rop=lambda v: _sum(v, axis=axis, keepdims=keepdims),
        lop=lambda u: broadcast_to(reshape(u, kept), shape),
    )


def sum(x, axis=None, keepdims=False):
    """The sum over an axis, several, or all (None)"""
    return _sum(x, axis=_axes(axis, x.ndim), keepdims=keepdims)


def mean(x, axis=None, keepdims=False):
    """The mean over an axis, several, or all (None); of nothing, an error"""
    axes = _axes(axis, x.ndim)
    count = math.prod(x.shape[a] for a in axes)
    if count == 0:
        raise ValueError(f"mean: nothing to average over axes {axes} of shape {x.shape}")
    return _sum(x, axis=axes, keepdims=keepdims) * (1.0 / count)


@primitive
def _max(x, *, axis, keepdims):
    """the largest element over axes"""
    return xp.max(x, axis=axis, keepdims=keepdims)


@_max.linear(0)
def _(y, x, *, axis, keepdims):
    kept = _kept(x.shape, axis)
    ties = _mask(untraced(x) == reshape(untraced(y), kept), y)
    share = ties / xp.sum(ties, axis=axis, keepdims=True)
    return Linear(
        rop=lambda v: _sum(share * v, axis=axis, keepdims=keepdims),
        lop=lambda u: share * reshape(u, kept),
    )


def max(x, axis=None, keepdims=False):
    """The largest element over axes; elements that tie share the derivative evenly"""
    return _max(x, axis=_axes(axis, x.ndim), keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """The smallest element over axes; ties as in max"""
    return -max(-x, axis, keepdims)


@primitive
def _norm(x, *, axis, keepdims):
    """sqrt(sum x**2), with the largest |x| taken out first so that no square overflows"""
    if x.size == 0:
        return xp.sqrt(xp.sum(x, axis=axis, keepdims=keepdims))
    largest = xp.max(xp.abs(x.real), axis=axis, keepdims=True)
    scale = xp.where(largest > 0, largest, 1)
    length = xp.sqrt(xp.sum((x / scale) ** 2, axis=axis, keepdims=True)) * scale
    return length if keepdims else xp.squeeze(length, axis)


@_norm.linear(0)
def _(y, x, *, axis, keepdims):
    y = reshape(y, _kept(x.shape, axis))
    s = x / where(untraced(y).real > 0, y, 1.0)
    return Linear(
        rop=lambda v: _sum(s * v, axis=axis, keepdims=keepdims),
        lop=lambda u: s * reshape(u, y.shape),
    )


def norm(x, axis=None, keepdims=False):
    """Euclidean length over axes; the derivative at 0 is 0"""
    return _norm(x, axis=_axes(axis, x.ndim), keepdims=keepdims)


# --- softmax and its logarithm --------------------------------------------------------------------------


@primitive
def _softmax(x, *, axis):
    """e**x / sum e**x"""
    y = xp.exp(x - x.real.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y


@_softmax.linear(0)
def _(y, x, *, axis):
    product = lambda v: y * (v - sum(y * v, axis, keepdims=True))  # diag(y) - y y', symmetric
    return Linear(product, product)


def softmax(x, axis=-1):
    """e**x / sum e**x along an axis; the largest x is subtracted first, so nothing overflows"""
    return _softmax(x, axis=_axis(axis, x.ndim))


@primitive
def _logsumexp(x, *, axis, keepdims):
    """log sum e**x"""
    top = xp.max(x.real, axis=axis, keepdims=True)
    y = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else xp.squeeze(y, axis)


@_logsumexp.linear(0)
def _(y, x, *, axis, keepdims):
    kept = _kept(x.shape, axis)
    p = _softmax(x, axis=axis)  # exp(x - y) would lose digits where x is large
    return Linear(
        rop=lambda v: _sum(p * v, axis=axis, keepdims=keepdims),
        lop=lambda u: p * reshape(u, kept),
    )


def logsumexp(x, axis=None, keepdims=False):
    """log sum e**x over axes, without overflow"""
    return _logsumexp(x, axis=_axes(axis, x.ndim), keepdims=keepdims)


@primitive
def _log_softmax(x, *, axis):
    """x - log sum e**x"""
    y = x - x.real.max(axis=axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
    return y


@_log_softmax.linear(0)
def _(y, x, *, axis):
    p = exp(y)
    return Linear(
        rop=lambda v: v - sum(p * v, axis, keepdims=True),
        lop=lambda u: u - p * sum(u, axis, keepdims=True),
    )


def log_softmax(x, axis=-1):
    """log softmax(x) = x - log sum e**x along an axis"""
    return _log_softmax(x, axis=_axis(axis, x.ndim))


# --- matrix products ------------------------------------------------------------------------------------


@primitive
def _matmul(a, b):
    """a @ b for matrices, or stacks of them"""
    return xp.matmul(a, b)


@_matmul.linear(0)
def _(y, a, b):
    return Linear(lambda v: v @ b, lambda u: sum_to(u @ _mT(b), a.shape))


@_matmul.linear(1)
def _(y, a, b):
    into = None
    if type(a) is not Var and a.ndim == b.ndim == 2:
        into = lambda u, out: xp.matmul(a.T, u, out=out)
    return Linear(lambda v: a @ v, lambda u: sum_to(_mT(a) @ u, b.shape), into)


def matmul(a, b):
    """a @ b with NumPy's rules for vectors, matrices and stacks of matrices"""
    if _ndim(a) == 0 or _ndim(b) == 0:
        raise ValueError(f"matmul: needs vectors or matrices, got shapes {_shape(a)} and {_shape(b)}; use *")
    rows = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    columns = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    y = _matmul(rows, columns)
    if a.ndim == 1:
        y = reshape(y, y.shape[:-2] + y.shape[-1:])
    return reshape(y, y.shape[:-1]) if b.ndim == 1 else y


@primitive
def _affine(h, W, *, name, across=None):
    """h @ W[:-1] + W[-1]"""
    if h.ndim < 1 or W.ndim != 2 or h.shape[-1] + 1 != W.shape[0]:
        expected = (*h.shape[:-1], W.shape[0] - 1) if W.ndim == 2 else "(..., in) with W (in + 1, out)"
        raise ValueError(f"h {h.shape} does not match W {W.shape}: expected h {expected}")
    a = xp.matmul(h, W[:-1])
    a += W[-1]
    return a


@_affine.linear(0)
def _(a, h, W, *, name, across=None):
    weights, shape = W[:-1], h.shape
    across = weights.T if across is None or type(W) is Var else across
    return Linear(lambda v: v @ weights, lambda u: reshape(rows_of(u) @ across, shape))  # one product, not a stack


@_affine.linear(1)
def _(a, h, W, *, name, across=None):
    rows = rows_of(h)

    def rop(V):
        return _affine(h, V, name=name)

    def lop(u):
        u = rows_of(u)
        if type(u) is Var or type(rows) is Var:
            return concatenate([rows.T @ u, sum(u, axis=0, keepdims=True)])
        return into(u, xp.empty(W.shape, u.dtype))

    def into(u, out):
        u = rows_of(u)
        xp.matmul(rows.T, u, out=out[:-1])
        out[-1] = sum_of_rows(u)
        return out

    return Linear(rop, lop, None if type(h) is Var else into, factor=(h, None))


def rows_of(h):
    """h (..., k) as a matrix (N, k): every leading axis holds rows."""
    return h if h.ndim == 2 else reshape(h, (math.prod(h.shape[:-1]), h.shape[-1]))


def affine(h, W, name=None):
    """A layer's pre-activations, h @ W[:-1] + W[-1]: h (..., in), W (in + 1, out) with the bias as its last row.

    One matrix, because the homogeneous (h 1) is what curvature sees: the layer's Gauss-Newton block is E[(h 1)(h 1)'
    kron J_a' M J_a]. `name` is the layer's, for messages and the tape. Raises ValueError unless the widths match.
    W may be a matrix in other coordinates: whatever has `affine(h, name)` (a whitened layer's) is asked for it.
    """
    return W.affine(h, name) if hasattr(W, "affine") else _affine(h, W, name=name)


class _Reused:
    """A matrix that many affine layers share, and the transpose of its weights."""

    def __init__(self, W):
        self.W, self.across = W, xp.ascontiguousarray(untraced(W)[:-1].T)

    def affine(self, h, name):
        return _affine(h, self.W, name=name, across=self.across)


def reused(W):
    """W for many calls of `affine` with few rows each: its transpose is laid out anew, once, in the order of memory.

    For 32 rows that takes a third off the products u W', which otherwise read W against its order; where rows are many,
    they hide it. A W in other coordinates stays as it is.
    """
    return W if hasattr(W, "affine") else _Reused(W)


# --- arguments ------------------------------------------------------------------------------------------


def _axes(axis, ndim):
    """An axis argument as a tuple of non-negative axes."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of range for {ndim} dimensions")
    return tuple(a % ndim for a in axes)


def _axis(axis, ndim):
    """An argument that must be one axis, as a non-negative number."""
    return _axes(operator.index(axis), ndim)[0]


def _kept(shape, axes):
    """`shape` with size 1 along `axes`."""
    return tuple(1 if a in axes else size for a, size in enumerate(shape))


def _as_shape(shape):
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _ndim(x):
    return len(_shape(x))


def _mT(x):
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


# --- NumPy's syntax on traced values --------------------------------------------------------------------

_UFUNCS = {
    "add": add, "subtract": subtract, "multiply": multiply, "divide": divide, "true_divide": divide,
    "negative": negative, "power": power, "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "sqrt": sqrt,
    "tanh": tanh, "absolute": abs, "maximum": maximum, "minimum": minimum, "matmul": matmul,
    "square": lambda x: x * x, "positive": lambda x: x,
}  # fmt: skip
_COMPARISONS = {
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "equal",
    "not_equal",
    "isfinite",
    "isnan",
    "isinf",
    "sign",
}
_FUNCTIONS = {
    "sum": sum, "mean": mean, "max": max, "amax": max, "min": min, "amin": min, "concatenate": concatenate,
    "stack": stack, "split": split, "reshape": reshape, "transpose": transpose, "broadcast_to": broadcast_to,
    "where": where, "clip": clip, "take_along_axis": take_along_axis, "pad": pad, "dot": matmul,
}  # fmt: skip


def _not_traced(what):
    return TypeError(
        f"{what} does not know traced values; use the operations of minigrad.autodiff.ops "
        f"({', '.join(sorted(_FUNCTIONS))}, ...), or minigrad.autodiff.untraced(x) for a value without derivative"
    )


def _array_ufunc(self, ufunc, method, *inputs, **options):
    """np.exp(var), array * var and the like."""
    name = ufunc.__name__
    if method == "__call__" and not options:
        if name in _UFUNCS:
            return _UFUNCS[name](*inputs)
        if name in _COMPARISONS:
            return ufunc(*(untraced(x) for x in inputs))
    raise _not_traced(f"np.{name}" + ("" if method == "__call__" else f".{method}"))


def _array_function(self, function, types, args, options):
    """np.sum(var, axis=0) and the like."""
    name = function.__name__
    if name not in _FUNCTIONS:
        raise _not_traced(f"np.{name}")
    return _FUNCTIONS[name](*args, **options)


def _cupy_override(self, kernel, *inputs, **options):
    """cupy_array * var: CuPy's elementwise kernels are named cupy_multiply and so on."""
    name = kernel.name.removeprefix("cupy_")
    if name in _UFUNCS and not options:
        return _UFUNCS[name](*inputs)
    if name in _COMPARISONS and not options:
        return kernel(*(untraced(x) for x in inputs))
    raise _not_traced(f"cupy.{name}")


def _refuse(what, instead):
    def method(self, *args):
        raise TypeError(f"{what} of a traced value would lose its derivative; {instead}")

    return method


_ARITHMETIC = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "pow": power, "matmul": matmul,
}  # fmt: skip
for _name, _op in _ARITHMETIC.items():
    setattr(Var, f"__{_name}__", lambda self, other, op=_op: op(self, other))
    setattr(Var, f"__r{_name}__", lambda self, other, op=_op: op(other, self))
for _name in ("gt", "ge", "lt", "le", "eq", "ne"):
    setattr(
        Var,
        f"__{_name}__",
        lambda self, other, name=f"__{_name}__": getattr(untraced(self), name)(untraced(other)),
    )
Var.__hash__ = object.__hash__
Var.__neg__ = lambda self: negative(self)
Var.__abs__ = lambda self: abs(self)
Var.__getitem__ = lambda self, key: getitem(self, key=key)
Var.__setitem__ = _refuse("assignment into an element", "build the array with where, concatenate or pad")
Var.__float__ = _refuse("float()", "use minigrad.autodiff.untraced(x)")
Var.__int__ = _refuse("int()", "use minigrad.autodiff.untraced(x)")
Var.__bool__ = _refuse("the truth", "compare it (x > 0 gives a plain array) or use ops.where")
Var.__array__ = _refuse("the NumPy array", "use minigrad.autodiff.untraced(x)")
Var.__array_ufunc__ = _array_ufunc
Var.__array_function__ = _array_function
Var.__array_priority__ = 1000
Var.__cupy_override_elementwise_kernel__ = _cupy_override
Var.T = property(lambda self: transpose(self))
Var.real = property(lambda self: self)
Var.reshape = lambda self, *shape: reshape(self, shape[0] if len(shape) == 1 else shape)
Var.ravel = lambda self: reshape(self, (-1,))
Var.transpose = lambda self, *axes: transpose(self, (axes[0] if len(axes) == 1 else axes) or None)
Var.sum = lambda self, axis=None, keepdims=False: sum(self, axis, keepdims)
Var.mean = lambda self, axis=None, keepdims=False: mean(self, axis, keepdims)
Var.max = lambda self, axis=None, keepdims=False: max(self, axis, keepdims)
Var.min = lambda self, axis=None, keepdims=False: min(self, axis, keepdims)

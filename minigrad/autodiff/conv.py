"""Images: convolution as a matrix product of patches, and pooling.

An image is (H, W, C), channels last; a batch is (N, H, W, C). A window slides over it, and what it sees at a place, in
the order row, column, channel, is a patch: a row of kh kw C numbers. With the patches p of x as rows,

    a = p @ W[:-1] + W[-1]        W (kh kw C + 1, out)

so a convolution is an affine layer with a row for each place, and all that is said of affine layers holds for it. (It
is the correlation, as everywhere in the field: the kernel is not turned around.)

Patches repeat each pixel up to kh kw times, so they are made for a few samples at a time, 2 MiB of them in float32 (or
one sample's, if these are more), used while they are in the cache, and forgotten: whatever the batch, a thread has no
more. Three functions do all of the work, each the derivative of the others, for each is linear in its two arguments and
<u, convolve(x, W)> is one form in x, W and u:

    convolve(x, W)            the pre-activations
    convolve_inputs(u, W)     what u means for x: patches of cotangents, u @ W[:-1]', folded back onto the pixels
    convolve_weights(x, u)    what u means for W: p' u, and the sum of u for the bias
"""

import math
import operator
from dataclasses import dataclass

from ..backend import name as backend_name
from ..backend import xp
from . import ops
from .tape import Linear, Var, _shape, primitive, untraced

# --- the window -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """kernel (rows, columns), stride and zero padding (rows, columns); each may be given as one number for both."""

    kernel: object
    stride: object = 1
    padding: object = 0

    def __post_init__(self):
        for field, least in (("kernel", 1), ("stride", 1), ("padding", 0)):
            object.__setattr__(self, field, _pair(field, getattr(self, field), least))

    def places(self, shape, what):
        """How many rows and columns of places an image batch of this `shape` (N, H, W, C) has.

        Raises ValueError, naming `what`, for another number of axes or a kernel larger than the padded image.
        """
        if len(shape) != 4:
            raise ValueError(f"{what}: images must be (N, H, W, C), got shape {shape}")
        padded = [size + 2 * pad for size, pad in zip(shape[1:3], self.padding, strict=True)]
        if any(k > size for k, size in zip(self.kernel, padded, strict=True)):
            raise ValueError(
                f"{what}: the kernel {self.kernel} is larger than the image {tuple(padded)} with its padding"
            )
        return tuple((size - k) // s + 1 for size, k, s in zip(padded, self.kernel, self.stride, strict=True))

    @property
    def count(self):
        """How many pixels a patch has."""
        return self.kernel[0] * self.kernel[1]

    @property
    def offsets(self):
        """(row, column) of each element of the kernel."""
        return [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]

    def padded(self, x):
        """x with its zeros around it."""
        top, left = self.padding
        return ops.pad(x, [(0, 0), (top, top), (left, left), (0, 0)]) if top or left else x

    def cropped(self, x):
        """x without its padding."""
        top, left = self.padding
        return x[:, top : x.shape[1] - top, left : x.shape[2] - left]


def _pair(field, value, least):
    pair = value if isinstance(value, tuple) else (value, value)
    try:
        pair = tuple(operator.index(n) for n in pair)
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{field} must be a whole number of at least {least}, or two, got {value!r}")
    return pair


# --- patches and their adjoint --------------------------------------------------------------------------


@primitive
def _patches(x, *, window):
    """What the window sees at each place"""
    places = window.places(x.shape, "patches")
    N, C = x.shape[0], x.shape[3]
    seen = _seen(window.padded(x), window, places)
    if 2 * window.kernel[1] * C < places[1]:  # few channels: a row of places is the longer run to copy
        seen = seen.transpose(3, 4, 5, 0, 1, 2).copy().transpose(3, 4, 5, 0, 1, 2)
    return seen.reshape(N, *places, window.count * C)


def _seen(x, window, places):
    """A view of images with their padding: what the window sees at each place, (N, *places, *kernel, C)."""
    sample, row, column, channel = x.strides
    down, right = window.stride
    return xp.lib.stride_tricks.as_strided(
        x,
        (x.shape[0], *places, *window.kernel, x.shape[3]),
        (sample, down * row, right * column, row, column, channel),
    )


@_patches.linear(0)
def _(y, x, *, window):
    return _looking(window, _shape(x))


def _looking(window, shape):
    """From images of this shape to their patches; transposed: fold."""
    return Linear(lambda v: _patches(v, window=window), lambda u: _fold(u, window=window, shape=shape))


@primitive
def _fold(u, *, window, shape):
    """Patches added up, each number on the pixel that it was read from"""
    N, H, W, C = shape
    places, (rows, columns) = window.places(shape, "fold"), window.kernel
    u = u.reshape(N, *places, rows, columns, C)
    out = xp.zeros((N, H + 2 * window.padding[0], W + 2 * window.padding[1], C), u.dtype)
    seen = _seen(out, window, places)
    apart = -(-columns // window.stride[1])  # so many places further on, a window sees other pixels
    for row in range(rows):
        for first in range(min(apart, places[1])):
            seen[:, :, first::apart, row] += u[:, :, first::apart, row]
    return window.cropped(out)


@_fold.linear(0)
def _(y, u, *, window, shape):
    return _looking(window, shape).T


def patches(x, window):
    """What a Window sees of x (N, H, W, C) at each place: (N, rows, columns, kh kw C)."""
    if _is_pixelwise(window):
        window.places(_shape(x), "patches")
        return x
    return _patches(x, window=window)


def _is_pixelwise(window):
    """Is a patch one pixel, and each pixel a patch?"""
    return window == Window(1)


# --- convolution ----------------------------------------------------------------------------------------


@primitive
def _convolve(x, W, *, window, one, name):
    """p @ W[:-1] + one W[-1], p the patches of x"""
    places = window.places(x.shape, "convolution")
    columns = window.count * x.shape[3]
    if W.ndim != 2 or W.shape[0] != columns + 1:
        raise ValueError(
            f"W {W.shape} does not match x {x.shape}: {window.count} pixels of {x.shape[3]} channels need W "
            f"({columns + 1}, out)"
        )
    out = xp.empty((x.shape[0], *places, W.shape[1]), xp.result_type(x, W))
    for part in _parts(x, W, places):
        rows, flat = _rows(x[part], window), out[part].reshape(-1, W.shape[1])
        xp.matmul(rows, W[:-1], out=flat)
        if one:
            flat += W[-1]
    return out


@_convolve.linear(0)
def _(a, x, W, *, window, one, name):
    return _given_W(W, window, _shape(x), name)


@_convolve.linear(1)
def _(a, x, W, *, window, one, name):
    return _given_x(x, window, one, name)


@primitive
def _convolve_inputs(u, W, *, window, shape, name):
    """The patches u @ W[:-1]', folded"""
    places, out = u.shape[1:3], xp.empty(shape, xp.result_type(u, W))
    for part in _parts(out, W, places):
        flat = u[part].reshape(-1, W.shape[1]) @ W[:-1].T
        out[part] = _fold.value(flat, window=window, shape=out[part].shape)
    return out


@_convolve_inputs.linear(0)
def _(y, u, W, *, window, shape, name):
    return _given_W(W, window, shape, name).T


@_convolve_inputs.linear(1)
def _(y, u, W, *, window, shape, name):
    return _given_u(u, window, shape, name).T


@primitive
def _convolve_weights(x, u, *, window, one, name):
    """p' u, and below it one times the sum of u"""
    shape = (window.count * x.shape[3] + 1, u.shape[3])
    return _add_weights(x, u, xp.zeros(shape, xp.result_type(x, u)), window, one)


def _add_weights(x, u, out, window, one):
    """The same, added to `out`."""
    for part in _parts(x, out, u.shape[1:3]):
        flat = u[part].reshape(-1, u.shape[3])
        out[:-1] += _rows(x[part], window).T @ flat
        if one:
            out[-1] += ops.sum_of_rows(flat)
    return out


@_convolve_weights.linear(0)
def _(y, x, u, *, window, one, name):
    return _given_u(u, window, _shape(x), name)


@_convolve_weights.linear(1)
def _(y, x, u, *, window, one, name):
    return _given_x(x, window, one, name).T


# The form with one argument fixed is a linear map between the other two, and its transpose goes back.


def _given_W(W, window, shape, name):
    """x -> a; transposed: u -> what it means for x. No bias: it does not depend on x."""
    return Linear(
        rop=lambda x: _convolve(x, W, window=window, one=0, name=name),
        lop=lambda u: _convolve_inputs(u, W, window=window, shape=shape, name=name),
    )


def _given_x(x, window, one, name):
    """W -> a; transposed: u -> what it means for W."""

    def into(u, out):
        out[...] = 0
        return _add_weights(x, u, out, window, one)

    return Linear(
        rop=lambda W: _convolve(x, W, window=window, one=one, name=name),
        lop=lambda u: _convolve_weights(x, u, window=window, one=one, name=name),
        into=None if type(x) is Var else into,
        factor=(x, window),
    )


def _given_u(u, window, shape, name):
    """x -> what u then means for W; transposed: W -> what u then means for x."""
    return Linear(
        rop=lambda x: _convolve_weights(x, u, window=window, one=0, name=name),
        lop=lambda W: _convolve_inputs(u, W, window=window, shape=shape, name=name),
    )


_AT_ONCE = 1 << 19  # numbers in the patches made at once: 2 MiB of float32, between a core's cache and all cores'


def _parts(x, W, places):
    """Slices of the samples of x, their patches `_AT_ONCE` numbers at most; on a GPU 256 times as many."""
    limit = _AT_ONCE if backend_name() == "numpy" else _AT_ONCE << 8
    step = max(1, limit // (places[0] * places[1] * W.shape[0]))
    return [slice(i, i + step) for i in range(0, x.shape[0], step)]


def _rows(x, window):
    """The patches of x as a matrix."""
    return _patches.value(x, window=window).reshape(-1, window.count * x.shape[3])


def convolution(x, W, window, name=None):
    """A convolution's pre-activations (N, rows, columns, out): x (N, H, W, C), W (kh kw C + 1, out), bias last.

    window: a Window, or the size of a square kernel. `name` is the layer's, as in `ops.affine`. Raises ValueError for a
    kernel larger than the padded image, or a W of another number of channels.
    W may be a matrix in other coordinates: whatever has `convolution(x, window, name)` is asked for it.
    """
    window = window if isinstance(window, Window) else Window(window)
    if hasattr(W, "convolution"):
        return W.convolution(x, window, name)
    if _is_pixelwise(window):
        window.places(_shape(x), "convolution")
        return ops.affine(x, W, name=name)
    return _convolve(x, W, window=window, one=1, name=name)


# --- pooling --------------------------------------------------------------------------------------------


@primitive
def _max_pool(x, *, window):
    """The largest number of each channel that the window sees"""
    places = window.places(x.shape, "max_pool")
    first, *others = _by_offset(x, window, places)
    if not others:
        return first.copy()
    y = xp.maximum(first, others[0])
    for seen in others[1:]:
        xp.maximum(y, seen, out=y)
    return y


def _by_offset(x, window, places):
    """Views of what each element of the kernel sees from all places, (N, *places, C)."""
    seen = _seen(x, window, places)
    return [seen[:, :, :, i, j] for i, j in window.offsets]


@_max_pool.linear(0)
def _(y, x, *, window):
    shape, pooled = _shape(x), _shape(y)
    index = _largest(untraced(x), untraced(y), window).reshape(-1)
    apart = all(step >= size for step, size in zip(window.stride, window.kernel, strict=True))  # no pixel is read twice
    flat, size = (lambda v: ops.reshape(v, (-1,))), math.prod(shape)
    return Linear(
        rop=lambda v: ops.reshape(flat(v)[index], pooled),
        lop=lambda u: ops.reshape(ops.scatter(flat(u), key=index, shape=(size,), once=apart), shape),
    )


def _largest(x, y, window):
    """Where in x, raveled, each number of its pooled y stands: the first that is largest, by rows."""
    (H, W, C), places = x.shape[1:], y.shape[1:3]
    before = xp.zeros(y.shape, xp.uint8 if window.count <= 256 else xp.int32)
    missing = xp.ones(y.shape, bool)
    for seen in _by_offset(x, window, places)[:-1]:  # how many of the window's come before it
        missing &= seen != y
        before += missing
    index = xp.asarray([(i * W + j) * C for i, j in window.offsets]).take(before)
    down, right = window.stride
    sample, row, column, channel = (
        n * xp.arange(size) for n, size in zip((H * W * C, down * W * C, right * C, 1), y.shape, strict=True)
    )
    index += sample[:, None, None, None]
    index += row[:, None, None] + column[:, None] + channel
    return index


def max_pool(x, window):
    """The largest of what a Window without padding sees, channel by channel: x (N, H, W, C) -> (N, rows, columns, C).

    The derivative goes to the first, by rows, of those that are largest; where one is NaN, so is the result. Places
    that would reach over the edge are left out. Raises ValueError for a window with padding, or larger than the image.
    """
    return _max_pool(x, window=_pooling(window, "max_pool"))


def average_pool(x, window):
    """The mean of what a Window without padding sees, channel by channel; shapes and errors as in max_pool."""
    window = _pooling(window, "average_pool")
    seen = patches(x, window)
    return ops.mean(ops.reshape(seen, (*seen.shape[:3], window.count, x.shape[3])), axis=3)


def global_average(x):
    """The mean over all pixels: x (N, H, W, C) -> (N, C)."""
    return ops.mean(x, axis=(1, 2))


def _pooling(window, what):
    """The window; a number or pair means windows side by side, which share no pixel."""
    window = window if isinstance(window, Window) else Window(window, stride=window)
    if window.padding != (0, 0):
        raise ValueError(f"{what}: zeros around an image are no pixels of it: padding must be 0, got {window.padding}")
    return window

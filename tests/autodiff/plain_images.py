"""Convolution and pooling by loops over samples, places and pixels, in plain NumPy: what the op table compares with."""

import itertools

import numpy as np


def windows(x, kernel, stride, padding):
    """{(n, i, j): what the window sees there, (kh, kw, C)}, outside of the image zeros."""
    (N, H, W, C), found = x.shape, {}
    rows, columns = ((size + 2 * p - k) // s + 1 for size, k, s, p in zip((H, W), kernel, stride, padding, strict=True))
    for n, i, j in itertools.product(range(N), range(rows), range(columns)):
        seen = np.zeros((*kernel, C), x.dtype)
        for a, b in np.ndindex(*kernel):
            row, column = i * stride[0] + a - padding[0], j * stride[1] + b - padding[1]
            if 0 <= row < H and 0 <= column < W:
                seen[a, b] = x[n, row, column]
        found[n, i, j] = seen
    return found, (N, rows, columns)


def per_place(x, window, f, width):
    """f(what the window sees), (width,), at each place: (N, rows, columns, width)."""
    found, shape = windows(x, window.kernel, window.stride, window.padding)
    out = np.zeros((*shape, width), x.dtype)
    for place, seen in found.items():
        out[place] = f(seen)
    return out


def convolution(x, W, window):
    """Each output's sum over the window, channel by channel, and its bias."""
    kernel = W[:-1].reshape(*window.kernel, x.shape[3], W.shape[1])
    product = lambda seen: [(seen * kernel[..., o]).sum() + W[-1, o] for o in range(W.shape[1])]
    return per_place(x, window, product, W.shape[1]).astype(np.result_type(x, W))


def max_pool(x, window):
    """The largest, channel by channel."""
    return per_place(x, window, lambda seen: seen.max(axis=(0, 1)), x.shape[3])


def average_pool(x, window):
    """The mean, channel by channel."""
    return per_place(x, window, lambda seen: seen.mean(axis=(0, 1)), x.shape[3])


def patches(x, window):
    """What the window sees, raveled."""
    return per_place(x, window, np.ravel, np.prod(window.kernel) * x.shape[3])


def fold(u, window, shape):
    """Each patch added where it was read."""
    out = np.zeros(shape, u.dtype)
    reading = np.arange(1.0, out.size + 1).reshape(shape)  # the number of each pixel; 0 for padding
    for pixel, number in zip(patches(reading, window).ravel().astype(int), u.ravel(), strict=True):
        if pixel:
            out.flat[pixel - 1] += number
    return out

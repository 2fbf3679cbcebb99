"""Deformed digits without end: each image rotated, scaled, sheared, shifted and bent a little, by explicit numbers.

    stream = DeformedDigits(x, t, seed=0)
    x, t = stream.samples(0, 512)               # the first 512 of the sequence ()
    x, t = stream.samples(512, 1024, 3, 1)      # the next 512 of another sequence, the one called (3, 1)

A sample depends on the seed, the name of its sequence (any whole numbers) and its place there, on nothing else: each
part of each sequence can be made again by itself, bit for bit (with the same NumPy and BLAS). For that the samples come
in blocks of 64, each with a random generator of its own.

The image is a function on the plane, read between its pixels by bilinear interpolation and 0 outside. A deformation
moves its content, and the new image's pixel p takes what was moved there:

    y(p) = x(A^-1 (p - s) + e(p))       A the linear part, s the shift, e the elastic displacement at p

Points are (row, column), counted from the middle of the image for A, rows downwards.
"""

import math
import operator
from dataclasses import dataclass, fields

import numpy as np

BLOCK = 64  # samples that share a generator; also what fits in the cache at once


@dataclass(frozen=True)
class Deformation:
    """How far digits are deformed; 0 leaves a kind of deformation out. Draws are uniform but for the elastic part.

    rotation: degrees, drawn from [-rotation, rotation], positive counterclockwise. scale: each axis is stretched by a
    factor from 1 / (1 + scale) to 1 + scale, evenly in its logarithm. shear: degrees by which upright lines lean, drawn
    from [-shear, shear]. translation: pixels, drawn from [-translation, translation] for each axis.
    alpha: pixels, the standard deviation of the elastic displacement of each pixel along each axis. sigma: pixels, the
    width of the Gaussian that smooths it. Simard et al. (2003) smooth noise from [-1, 1] by a kernel of sum 1 and
    multiply by their alpha: a deviation of alpha / (sigma sqrt(12 pi)), 1.4 pixels for their 34 and sigma = 4.

    Raises ValueError for a strength that is negative, not finite or no number, for a shear of 90 degrees or more and
    for sigma = 0.
    """

    rotation: float = 15.0
    scale: float = 0.15
    shear: float = 10.0
    translation: float = 2.0
    alpha: float = 1.2
    sigma: float = 4.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"Deformation: {field.name} must be a finite number of at least 0, got {value!r}")
        if self.shear >= 90:
            raise ValueError(f"Deformation: shear must be less than 90 degrees, got {self.shear}")
        if self.sigma == 0:
            raise ValueError("Deformation: sigma must be positive, got 0; alpha = 0 leaves the elastic part out")

    def draw(self, n, side, rng, dtype=np.float32):
        """Where n deformed images of side x side pixels are read: (n, 2, side, side), rows and columns."""
        turn, tall, wide, lean, *shift = rng.uniform(-1, 1, (6, n))
        stretch = np.exp(np.log1p(self.scale) * np.array([tall, wide]))
        shift = self.translation * np.array(shift)
        where = affine(self.rotation * turn, stretch, self.shear * lean, shift, side, dtype)
        if self.alpha:
            where += elastic(n, self.alpha, self.sigma, side, rng, dtype)
        return where


class DeformedDigits:
    """Endless sequences of deformed images of (x, t), each drawn with its label, with replacement.

    x: (N, pixels) square images in [0, 1], float32 or float64. t: (N,) labels. seed: a whole number of at least 0.
    deformation: how far. Samples lie on the host and have x's dtype.
    Raises TypeError or ValueError for data and seeds that cannot be meant.
    """

    def __init__(self, x, t, seed, deformation=None):
        self.x, self.t, self.side = _check_images(x, t)
        self.seed = _check_count("seed", seed)
        self.deformation = Deformation() if deformation is None else deformation
        if not isinstance(self.deformation, Deformation):
            raise TypeError(f"deformation must be a Deformation, got {deformation!r}")

    def samples(self, start, stop, *name):
        """(x, t) of samples start, ..., stop - 1 of the sequence `name`, which is any whole numbers of at least 0."""
        start, stop = _check_count("start", start), _check_count("stop", stop)
        name = [_check_count("name of the sequence", part) for part in name]
        if start >= stop:
            raise ValueError(f"samples: start must be less than stop, got {start} and {stop}")
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        x, t = zip(*(self._block([*name, block]) for block in blocks))
        rows = slice(start - BLOCK * blocks[0], stop - BLOCK * blocks[0])
        return np.concatenate(x)[rows], np.concatenate(t)[rows]

    def _block(self, name):
        # SeedSequence takes zeros at the end of a name for padding: its length tells names apart that differ by these
        rng = np.random.default_rng([self.seed, len(name), *name])
        chosen = rng.integers(len(self.x), size=BLOCK)
        images = self.x[chosen].reshape(BLOCK, self.side, self.side)
        where = self.deformation.draw(BLOCK, self.side, rng, self.x.dtype)
        return warp(images, where).reshape(BLOCK, -1), self.t[chosen]


def affine(rotation, stretch, shear, shift, side, dtype=np.float32):
    """Where n images are read that are stretched, then sheared, then rotated, then shifted: (n, 2, side, side).

    rotation, shear: degrees (n,). stretch: factors (2, n) of rows and columns. shift: pixels (2, n), down and right.
    With R = [[cos, -sin], [sin, cos]] in (row, column), which turns counterclockwise, S = [[1, 0], [-tan(shear), 1]],
    which leans upright lines to the right, and D = diag(stretch): A = R S D, and the place read for p is A^-1 (p - s).
    """
    angle, lean = np.deg2rad(rotation), np.tan(np.deg2rad(shear))
    cos, sin = np.cos(angle), np.sin(angle)
    middle = (side - 1) / 2
    # A^-1 = D^-1 S^-1 R', row by row
    row, column = np.array([cos, sin]) / stretch[0], np.array([lean * cos - sin, lean * sin + cos]) / stretch[1]
    inverse = np.array([row, column])  # (2, 2, n)
    offset = middle - np.einsum("ijn,jn->in", inverse, shift + middle)
    grid = np.arange(side, dtype=dtype)
    along_rows, along_columns, offset = (
        part.T.astype(dtype)[..., None, None] for part in (*inverse.swapaxes(0, 1), offset)
    )
    return (along_rows * grid[:, None] + offset) + along_columns * grid


def elastic(n, alpha, sigma, side, rng, dtype=np.float32):
    """Smooth random displacements (n, 2, side, side) in pixels, of mean 0 and standard deviation alpha at each pixel.

    Noise Z from [-1, 1], of variance 1/3, is smoothed along both axes, K Z K'. The rows of K are Gaussians of unit
    length, so that at the border, where they are cut off, the deviation is the same.
    """
    place = np.arange(side)
    K = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    K = K / np.sqrt((K * K).sum(axis=1, keepdims=True))
    Z = 2 * rng.random((n, 2, side, side), dtype=dtype) - 1
    return (math.sqrt(3) * alpha * K).astype(dtype) @ Z @ K.T.astype(dtype)


def warp(x, where):
    """Images (n, side, side) read at `where` (n, 2, side, side), bilinearly; 0 outside."""
    n, side, _ = x.shape
    wide = side + 3  # a margin of zeros, one pixel before and two behind: whoever reads outside reads in it
    padded = np.zeros((n, wide, wide), x.dtype)
    padded[:, 1:-2, 1:-2] = x
    where = np.clip(where + 1, 0, side + 1)
    corner = where.astype(np.intp)
    row, column = (where - corner).swapaxes(0, 1)
    index = corner[:, 0] * wide + corner[:, 1] + wide * wide * np.arange(n)[:, None, None]
    flat = padded.reshape(-1)
    above, below = (between(flat[k:].take(index), flat[k + 1 :].take(index), column) for k in (0, wide))
    return between(above, below, row)


def between(a, b, share):
    """a + share (b - a), in the place of b."""
    b -= a
    b *= share
    b += a
    return b


# --- bad input ------------------------------------------------------------------------------------------


def _check_images(x, t):
    for name, array in (("x", x), ("t", t)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}")
    if x.ndim != 2 or not x.size or math.isqrt(x.shape[1]) ** 2 != x.shape[1]:
        raise ValueError(f"x must hold one square image a row, shape (N, side * side), got shape {x.shape}")
    if not (x.min() >= 0 and x.max() <= 1):  # false for NaN too
        raise ValueError(f"x must lie in [0, 1], got values in {x.min():g}..{x.max():g}")
    if t.shape != x.shape[:1]:
        raise ValueError(f"t must hold one label for each of the {len(x)} images, got shape {t.shape}")
    return x, t, math.isqrt(x.shape[1])


def _check_count(name, value):
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if count < 0:
        raise ValueError(f"{name} must be at least 0, got {count}")
    return count

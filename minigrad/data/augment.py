"""Images for convolutional nets: rows of pixels as images, random crops and flips of them, the central crop.

    x_train, x_test = images(x_train, 3), images(x_test, 3)     # CIFAR-10's rows to (N, 32, 32, 3)
    crops = RandomCrops(24, flips=True)                         # PRONG's CIFAR-10 run
    for x, t in Batches((x_train, t_train), 128, rng, augment=crops): ...
    predict(crops.central(x_test))

Images are channels last, (N, height, width, channels). They may lie on the host or on the backend, and stay there; the
draws are the host's, so that a seed means the same crops on both.
"""

import math
from dataclasses import dataclass

import numpy as np

from minigrad import backend
from minigrad.backend import xp
from minigrad.data.minibatches import check_array, check_rng


def images(x, channels):
    """The rows of a data set as square images: x (N, channels * side * side) to (N, side, side, channels).

    channels: 1 for MNIST and Fashion-MNIST, 3 for CIFAR-10. A row holds one channel's plane after the other, each row
    by row, as `cifar10` gives them.
    Raises ValueError where a row is not that many square planes, TypeError for what is no array.
    """
    check_array("x", x)
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"images: channels must be a whole number of at least 1, got {channels!r}")
    side = math.isqrt(x.shape[1] // channels) if x.ndim == 2 else 0
    if not side or channels * side * side != x.shape[1]:
        raise ValueError(f"images: x must be (N, {channels} * side * side) for {channels} channels, got {x.shape}")
    planes = x.reshape(len(x), channels, side, side)
    return _library(x).ascontiguousarray(planes.transpose(0, 2, 3, 1))


@dataclass(frozen=True)
class RandomCrops:
    """A crop of each image at a place of its own, each place as likely; with flips, a coin says whether it is mirrored.

    crops(x, rng): x (N, height, width, channels) to (N, *shape, channels), shape that of a crop: size, or size x size.
    padding: rows and columns of zeros put around the image first. crops.central(x): the middle of each image as it is,
    for evaluation.

        RandomCrops(24, flips=True)              crops of 32 x 32 images (Desjardins et al. 2015, section 4.3)
        RandomCrops(32, padding=4, flips=True)   shifts by up to 4 pixels, zeros coming in

    Raises ValueError for sizes that cannot be meant, for x that is no images and for crops larger than the padded
    image, TypeError for an rng that is no numpy.random.Generator.
    """

    size: int | tuple[int, int]
    padding: int = 0
    flips: bool = False

    def __post_init__(self):
        if not isinstance(self.shape, tuple) or len(self.shape) != 2 or not all(_whole(side, 1) for side in self.shape):
            raise ValueError(f"RandomCrops: size must be a side or (height, width) in pixels, got {self.size!r}")
        if not _whole(self.padding, 0):
            raise ValueError(f"RandomCrops: padding must be a whole number of at least 0, got {self.padding!r}")
        if not isinstance(self.flips, bool):
            raise ValueError(f"RandomCrops: flips must be True or False, got {self.flips!r}")

    @property
    def shape(self):
        """Height and width of a crop."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __call__(self, x, rng):
        self._check(x)
        check_rng(rng)
        x = self._padded(x)
        samples, height, width, channels = x.shape
        top, left, mirrored = self.draw(samples, height, width, rng)
        h, w = self.shape
        rows, columns = top[:, None] + np.arange(h), left[:, None] + np.arange(w)
        columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
        rows += height * np.arange(samples)[:, None]  # counted through all images
        if backend.is_array(x):
            rows, columns = backend.asarray(rows), backend.asarray(columns)
        return x.reshape(-1, channels).take(width * rows[:, :, None] + columns[:, None, :], axis=0)

    def draw(self, n, height, width, rng):
        """Where n crops lie in (padded) images of height x width: top row, left column, is it mirrored; each (n,)."""
        h, w = self.shape
        top, left = rng.integers(height - h + 1, size=n), rng.integers(width - w + 1, size=n)
        return top, left, rng.integers(2 if self.flips else 1, size=n).astype(bool)

    def central(self, x):
        """The middle of each image: a view of x, or of padded x where a crop is larger than the image.

        Where the middle lies between two pixels, the upper or left one is taken.
        """
        self._check(x)
        h, w = self.shape
        x = x if x.shape[1] >= h and x.shape[2] >= w else self._padded(x)
        top, left = (x.shape[1] - h) // 2, (x.shape[2] - w) // 2
        return x[:, top : top + h, left : left + w]

    def _padded(self, x):
        around = (self.padding, self.padding)
        return _library(x).pad(x, ((0, 0), around, around, (0, 0))) if self.padding else x

    def _check(self, x):
        check_array("x", x)
        if x.ndim != 4:
            hint = "; images(x, channels) makes them of rows" if x.ndim == 2 else ""
            raise ValueError(f"RandomCrops: x must be images (N, height, width, channels), got shape {x.shape}{hint}")
        (h, w), (height, width) = self.shape, x.shape[1:3]
        if h > height + 2 * self.padding or w > width + 2 * self.padding:
            raise ValueError(
                f"RandomCrops: crops of {h} x {w} do not fit images of {height} x {width}, padding {self.padding}"
            )


def _library(x):
    """What makes arrays where x lies."""
    return xp if backend.is_array(x) else np


def _whole(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

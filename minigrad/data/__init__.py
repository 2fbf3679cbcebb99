"""The papers' data sets as plain arrays, and the ways training reads them: a split, minibatches, a stream.

    (x_train, t_train), (x_test, t_test) = mnist()            # x in [0, 1], one image a row; t the labels
    train, validation = split(x_train, t_train, 10_000, rng)
    for x, t in Batches(train, 128, rng): ...                 # without end, and resumable from three numbers
    for x, t in batches(validation, 1000): ...                # one pass
    x = images(x, 3)                                          # colour images (N, 32, 32, 3) for a convolutional net
    for x, t in Batches((x, t), 128, rng, augment=RandomCrops(24, flips=True)): ...   # a fresh crop of each, each time
    x, t = DeformedDigits(*train, seed=0).samples(0, 128)     # of a sequence of deformed images without end
    x, t = Permuted(*train, count=8)[3]                       # the same images, their pixels in another order

Files are found where they already are (`sources.py` has the order), else downloaded and checked by hash.
Whatever is not the whole data set from its own place says so in one line on stderr; damaged files are
refused by name (`idx.py`, `cifar.py`).
"""

from minigrad.data.augment import RandomCrops, images
from minigrad.data.datasets import cifar10, fashion_mnist, mnist
from minigrad.data.deformed import Deformation, DeformedDigits
from minigrad.data.minibatches import Batches, batches, split
from minigrad.data.permuted import Permuted

__all__ = [
    "Batches",
    "batches",
    "cifar10",
    "fashion_mnist",
    "images",
    "mnist",
    "split",
    "DeformedDigits",
    "Deformation",
    "Permuted",
    "RandomCrops",
]

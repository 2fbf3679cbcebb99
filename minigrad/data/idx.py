"""IDX, the file format of MNIST: a header that says the shape, then the array.

    byte 0, 1     zero
    byte 2        element type: 0x08 is the unsigned byte, the only one that image data uses
    byte 3        number of dimensions d
    then          d sizes, 4 bytes each, most significant byte first
    then          the elements, last dimension fastest

The header fixes the length of the file to the byte, so whatever was cut off, appended or swapped shows.
MNIST and Fashion-MNIST are four such files of the same four names.
"""

import math

import numpy as np

from minigrad.data.files import check_labels, damaged, find, read_bytes

UNSIGNED_BYTE = 0x08
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def parse_idx(raw, name, ndim):
    """The uint8 array of `ndim` dimensions in the bytes `raw`; `name` is for messages.

    Raises ValueError for a wrong magic number, element type or dimension count, a cut header, a size of
    zero, and for fewer or more bytes than the header announces.
    """
    start = 4 + 4 * ndim
    if raw[:2] != b"\0\0":
        raise damaged(name, "an IDX file, which starts with bytes 00 00", raw[:2].hex(" ") or "an empty file")
    if len(raw) < start:
        raise damaged(name, f"a header of {start} bytes", f"{len(raw)} bytes")
    if raw[2] != UNSIGNED_BYTE:
        raise damaged(name, "element type 08 (unsigned byte)", f"{raw[2]:02x}")
    if raw[3] != ndim:
        raise damaged(name, f"dimension count {ndim}", raw[3])
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", count=ndim, offset=4))
    if 0 in shape:
        raise damaged(name, "sizes above zero", f"shape {shape}")
    if len(raw) - start != math.prod(shape):
        raise damaged(name, f"{math.prod(shape)} bytes for shape {shape}", f"{len(raw) - start} bytes")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read_idx(path, ndim):
    """The uint8 array in the plain or gzipped IDX file at `path`; ValueError as `parse_idx`."""
    return parse_idx(read_bytes(path), path, ndim)


def read_idx_folder(folder):
    """The four files of `folder` as ((images, labels), (images, labels)), train then test, all uint8.

    Images have shape (N, 28, 28), labels (N,). None when a file is not there; ValueError for a damaged one.
    """
    paths = [find(folder, name) for name in FILES]
    if None in paths:
        return None
    images_path, labels_path, *test_paths = paths
    return _read_pair(images_path, labels_path), _read_pair(*test_paths)


def _read_pair(images_path, labels_path):
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    check_digits(images, labels, images_path, labels_path)
    return images, labels


def check_digits(images, labels, images_name, labels_name):
    """Raise ValueError unless images are (N, 28, 28), N >= 1, and labels are N numbers 0..9."""
    if images.shape[1:] != (28, 28) or not len(images):
        raise damaged(images_name, "images of shape (N, 28, 28), N >= 1", f"shape {images.shape}")
    if labels.shape != images.shape[:1]:
        raise damaged(labels_name, f"{len(images)} labels, one for each image", f"shape {labels.shape}")
    check_labels(labels, labels_name)

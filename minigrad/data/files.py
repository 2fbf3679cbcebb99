"""Reading files that may be gzipped, missing or damaged.

Data sets travel as `name` or `name.gz`, and caches break: an interrupted download, a disk that filled up, a
web page saved under the name of a data file. Numbers read from such a file would train a network without any
sign of trouble, so every reader here states what it expected and what it got, through `damaged`.
"""

import gzip
import zlib

_GZIP = b"\x1f\x8b"  # the first two bytes of every gzip stream; no IDX or CIFAR file starts so


def find(folder, name):
    """The path of `name`, or of `name.gz`, in `folder`; None when neither is there."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_bytes(path):
    """The content of a plain or gzipped file, told apart by content. ValueError for a damaged gzip stream."""
    raw = path.read_bytes()
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, "a whole gzip stream", error) from error


def check_labels(labels, name, classes=10):
    """Raise ValueError unless every label is below `classes`."""
    if labels.max() >= classes:
        where = int((labels >= classes).argmax())
        raise damaged(name, f"labels 0..{classes - 1}", f"label {labels[where]} at position {where}")


def damaged(name, expected, actual):
    """The ValueError for a file that is not what it should be."""
    return ValueError(f"damaged file {name}: expected {expected}, got {actual}; replace or delete it")

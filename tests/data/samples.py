"""Small data sets as bytes and files, for the tests of the readers."""

import dataclasses
import gzip
import io
import tarfile

import numpy as np

from minigrad.data import cifar, datasets, idx


def change(monkeypatch, source, **fields):
    """Replace fields of datasets.MNIST and its like for one test."""
    monkeypatch.setattr(datasets, source, dataclasses.replace(getattr(datasets, source), **fields))


def idx_bytes(array):
    """`array` of uint8 as an IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def digits(n_train=7, n_test=3, seed=0):
    """((images, labels), (images, labels)) like MNIST's, of random bytes."""
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8)) for n in (n_train, n_test)
    )


def write_digits(folder, pairs, compress=True):
    """The four IDX files of `pairs` in `folder`; returns their content by name."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [array for pair in pairs for array in pair]
    files = {name: idx_bytes(array) for name, array in zip(idx.FILES, arrays, strict=True)}
    if compress:
        files = {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in files.items()}
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return files


def records(n, seed=0):
    """n CIFAR-10 records of random bytes, and the (images, labels) in them."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (n, 3072), np.uint8), rng.integers(0, 10, n, np.uint8)
    return np.column_stack([labels, images]).tobytes(), (images, labels)


def cifar_archive(sizes=(2, 1, 3, 1, 2, 4), leave_out=None):
    """The bytes of an archive like CIFAR-10's, with small files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for seed, (name, n) in enumerate(zip((*cifar.TRAIN_FILES, cifar.TEST_FILE), sizes, strict=True)):
            raw, _ = records(n, seed)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(raw)
            if name != leave_out:
                archive.addfile(member, io.BytesIO(raw))
    return buffer.getvalue()

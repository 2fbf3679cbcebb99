"""The binary form of CIFAR-10: records of 3073 bytes, one label and one 32 x 32 colour image.

    byte 0              label, 0..9
    1024 + 1024 + 1024  red, green and blue planes, each row by row

The canonical set is five training files and a test file of 10,000 records each, in a folder or in the archive
`cifar-10-binary.tar.gz` as its authors serve it (read in place, never unpacked). A file of fewer whole
records is an excerpt and is read; a broken record is an error. The Python version of CIFAR-10
(`cifar-10-batches-py`) is a pickle, which can run any code when opened: it is not read.
"""

import io
import tarfile

import numpy as np

from minigrad.data.files import check_labels, damaged, find, read_bytes

ARCHIVE = "cifar-10-binary.tar.gz"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
RECORD = 1 + 3 * 32 * 32
RECORDS = 10_000


def parse_cifar(raw, name):
    """The records in the bytes `raw` as uint8 images (N, 3072), channel first, and labels (N,).

    Raises ValueError for an empty file, a partial record, more than 10,000 records, a label above 9.
    """
    count, rest = divmod(len(raw), RECORD)
    if rest or not 1 <= count <= RECORDS:
        raise damaged(name, f"1..{RECORDS} whole records of {RECORD} bytes", f"{count} and {rest} bytes")
    records = np.frombuffer(raw, np.uint8).reshape(count, RECORD)
    check_labels(records[:, 0], name)
    return records[:, 1:], records[:, 0]


def read_cifar_folder(folder):
    """The plain or gzipped files of `folder` as ((images, labels), (images, labels)), train then test.

    Training files that are not there are left out; None without any, or without the test file.
    """
    train = [path for name in TRAIN_FILES if (path := find(folder, name))]
    test = find(folder, TEST_FILE)
    if not train or not test:
        return None
    return _join(parse_cifar(read_bytes(path), path) for path in train), parse_cifar(read_bytes(test), test)


def read_cifar_archive(folder):
    """As `read_cifar_folder`, from `cifar-10-binary.tar.gz` in `folder`; None when it is not there."""
    path = folder / ARCHIVE
    if not path.is_file():
        return None
    raw = read_bytes(path)  # all of it, so that gzip's checksum, which stands at the end, is looked at
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            members = {name: _member(archive, name) for name in (*TRAIN_FILES, TEST_FILE)}
    except (KeyError, tarfile.TarError) as error:
        raise damaged(path, "the CIFAR-10 archive", error) from error
    parts = [parse_cifar(raw, f"{path}:{name}") for name, raw in members.items()]
    return _join(parts[:-1]), parts[-1]


def _member(archive, name):
    return archive.extractfile(f"cifar-10-batches-bin/{name}").read()


def _join(parts):
    images, labels = zip(*parts)
    return np.concatenate(images), np.concatenate(labels)

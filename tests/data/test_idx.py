"""IDX files: what was written comes back; whatever is damaged is refused by name."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minigrad.data.idx import parse_idx, read_idx, read_idx_folder
from tests.data.samples import digits, idx_bytes, write_digits

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@given(arrays(np.uint8, shapes))
def test_roundtrip(array):
    back = parse_idx(idx_bytes(array), "file", array.ndim)
    assert back.shape == array.shape and back.dtype == np.uint8
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_plain_and_gzipped_whatever_the_name(tmp_path, compress):
    path = tmp_path / "array"
    path.write_bytes(compress(idx_bytes(ARRAY)))
    np.testing.assert_array_equal(read_idx(path, 3), ARRAY)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, compress):
    raw = compress(idx_bytes(ARRAY))
    path = tmp_path / "some-images"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=r"damaged file .*some-images: expected .*, got "):
            read_idx(path, 3)


def test_a_changed_byte_of_a_gzip_file_is_refused_or_harmless(tmp_path):
    """Harmless: the time stamp and the like in the gzip header. The content is guarded by its checksum."""
    raw = gzip.compress(idx_bytes(ARRAY), mtime=0)
    path, refused = tmp_path / "some-images", 0
    for position in range(len(raw)):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 0x55]) + raw[position + 1 :])
        try:
            np.testing.assert_array_equal(read_idx(path, 3), ARRAY)
        except ValueError as error:
            assert "some-images" in str(error)
            refused += 1
    assert refused >= len(raw) - 10


def edited(position, value):
    raw = bytearray(idx_bytes(ARRAY))
    raw[position] = value
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "expected", "got"),
    [
        (b"", "starts with bytes 00 00", "an empty file"),
        (b"<html>no such page</html>", "starts with bytes 00 00", "3c 68"),
        (edited(1, 1), "starts with bytes 00 00", "00 01"),
        (edited(2, 0x0D), "element type 08", "0d"),
        (edited(3, 1), "dimension count 3", "1"),
        (edited(4, 1), "bytes for shape (16777218, 3, 4)", "24 bytes"),
        (edited(7, 3), "36 bytes for shape (3, 3, 4)", "24 bytes"),
        (edited(7, 0), "sizes above zero", "shape (0, 3, 4)"),
        (idx_bytes(ARRAY) + b"\0", "24 bytes for shape (2, 3, 4)", "25 bytes"),
        (idx_bytes(ARRAY)[:10], "a header of 16 bytes", "10 bytes"),
    ],
)
def test_damage_is_named(raw, expected, got):
    with pytest.raises(ValueError) as caught:
        parse_idx(raw, "the/file", 3)
    head, tail = str(caught.value).split(", got ")
    assert head.startswith("damaged file the/file: expected") and expected in head
    assert tail == f"{got}; replace or delete it"


@pytest.mark.parametrize("compress", [False, True])
def test_folder(tmp_path, compress):
    pairs = digits()
    write_digits(tmp_path, pairs, compress)
    for (images, labels), (images_back, labels_back) in zip(pairs, read_idx_folder(tmp_path), strict=True):
        np.testing.assert_array_equal(images_back, images)
        np.testing.assert_array_equal(labels_back, labels)


def test_folder_with_a_file_missing_is_no_data_set(tmp_path):
    for name in write_digits(tmp_path, digits()):
        write_digits(tmp_path, digits())
        (tmp_path / name).unlink()
        assert read_idx_folder(tmp_path) is None


def mismatched():
    (images, labels), (test_images, test_labels) = digits()
    high = labels.copy()
    high[4] = 10
    yield (images[:-1], labels), (test_images, test_labels), "train-labels", "6 labels", "shape (7,)"
    yield (images, labels), (test_images, test_labels[:-1]), "t10k-labels", "3 labels", "shape (2,)"
    yield (images[:, 1:], labels), (test_images, test_labels), "train-images", "28, 28", "(7, 27, 28)"
    yield (images, high), (test_images, test_labels), "train-labels", "labels 0..9", "label 10 at position 4"


@pytest.mark.parametrize(("train", "test", "name", "expected", "got"), list(mismatched()))
def test_files_that_do_not_belong_together(tmp_path, train, test, name, expected, got):
    write_digits(tmp_path, (train, test))
    with pytest.raises(ValueError) as caught:
        read_idx_folder(tmp_path)
    head, tail = str(caught.value).split(", got ")
    assert name in head and expected in head and got in tail

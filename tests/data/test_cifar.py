"""CIFAR-10's binary files and archive: excerpts of whole records are read, anything else is refused."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import cifar
from tests.data.samples import cifar_archive, records


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_roundtrip(n, seed):
    raw, (images, labels) = records(n, seed)
    images_back, labels_back = cifar.parse_cifar(raw, "file")
    np.testing.assert_array_equal(images_back, images)
    np.testing.assert_array_equal(labels_back, labels)


@given(st.integers(0, 3 * cifar.RECORD - 1))
def test_a_partial_record_is_refused(length):
    raw = records(3)[0][:length]
    if length % cifar.RECORD == 0 and length:
        assert len(cifar.parse_cifar(raw, "file")[0]) == length // cifar.RECORD
        return
    with pytest.raises(ValueError, match=rf"file the/file: .*, got {length // 3073} and {length % 3073} bytes"):
        cifar.parse_cifar(raw, "the/file")


def test_more_records_than_the_format_has_are_refused():
    assert len(cifar.parse_cifar(bytes(10_000 * cifar.RECORD), "the/file")[0]) == 10_000
    with pytest.raises(ValueError, match=r"the/file: expected 1\.\.10000 whole records .* got 10001 and 0"):
        cifar.parse_cifar(bytes(10_001 * cifar.RECORD), "the/file")


def test_a_label_above_nine_is_refused():
    raw = bytearray(records(3)[0])
    raw[2 * cifar.RECORD] = 10
    with pytest.raises(ValueError, match=r"the/file: expected labels 0\.\.9, got label 10 at position 2"):
        cifar.parse_cifar(bytes(raw), "the/file")


def test_folder_joins_the_files_it_finds_in_their_order(tmp_path):
    for name, n in (("data_batch_1.bin", 2), ("data_batch_3.bin", 3), ("test_batch.bin", 1)):
        (tmp_path / name).write_bytes(records(n, seed=n)[0])
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(records(4, seed=4)[0]))
    (images, labels), (test_images, _) = cifar.read_cifar_folder(tmp_path)
    np.testing.assert_array_equal(images, np.concatenate([records(n, n)[1][0] for n in (2, 4, 3)]))
    np.testing.assert_array_equal(labels, np.concatenate([records(n, n)[1][1] for n in (2, 4, 3)]))
    np.testing.assert_array_equal(test_images, records(1, 1)[1][0])


@pytest.mark.parametrize("only", ["data_batch_1.bin", "test_batch.bin", "batches.meta.txt"])
def test_folder_without_both_parts_is_no_data_set(tmp_path, only):
    (tmp_path / only).write_bytes(records(1)[0])
    assert cifar.read_cifar_folder(tmp_path) is None


def test_folder_names_the_damaged_file(tmp_path):
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(records(2)[0][: -(name == "data_batch_2.bin") or None])
    with pytest.raises(ValueError, match=r"data_batch_2\.bin: .* got 1 and 3072 bytes"):
        cifar.read_cifar_folder(tmp_path)


def test_archive_is_read_in_place(tmp_path):
    assert cifar.read_cifar_archive(tmp_path) is None
    (tmp_path / cifar.ARCHIVE).write_bytes(cifar_archive(sizes=(2, 1, 3, 1, 2, 4)))
    (images, labels), (test_images, test_labels) = cifar.read_cifar_archive(tmp_path)
    parts = [records(n, seed)[1] for seed, n in enumerate((2, 1, 3, 1, 2))]
    np.testing.assert_array_equal(images, np.concatenate([part[0] for part in parts]))
    np.testing.assert_array_equal(labels, np.concatenate([part[1] for part in parts]))
    np.testing.assert_array_equal(test_images, records(4, seed=5)[1][0])
    np.testing.assert_array_equal(test_labels, records(4, seed=5)[1][1])
    assert {path.name for path in tmp_path.iterdir()} == {cifar.ARCHIVE, "home", "cwd"}  # nothing unpacked


def test_a_cut_archive_is_refused_by_name(tmp_path):
    path, raw = tmp_path / cifar.ARCHIVE, cifar_archive(sizes=(1, 1, 1, 1, 1, 1))
    for length in (*range(20), *range(20, len(raw), 997), *range(len(raw) - 20, len(raw))):
        path.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=r"damaged file .*cifar-10-binary\.tar\.gz: expected "):
            cifar.read_cifar_archive(tmp_path)


def test_a_changed_byte_in_an_archive_is_refused_by_name(tmp_path):
    path, raw = tmp_path / cifar.ARCHIVE, cifar_archive(sizes=(1, 1, 1, 1, 1, 1))
    for position in (*range(20, len(raw), 997), len(raw) - 6):  # the last one is in the checksum
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 0x55]) + raw[position + 1 :])
        with pytest.raises(ValueError, match=r"damaged file .*cifar-10-binary\.tar\.gz: expected a whole"):
            cifar.read_cifar_archive(tmp_path)


def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path):
    (tmp_path / cifar.ARCHIVE).write_bytes(b"<html>no such page</html>")
    with pytest.raises(ValueError, match=r"damaged file .*cifar-10-binary\.tar\.gz: expected the CIFAR-10"):
        cifar.read_cifar_archive(tmp_path)


def test_an_archive_without_a_file_is_refused_by_name(tmp_path):
    (tmp_path / cifar.ARCHIVE).write_bytes(cifar_archive(leave_out="data_batch_4.bin"))
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz: .*data_batch_4\.bin"):
        cifar.read_cifar_archive(tmp_path)

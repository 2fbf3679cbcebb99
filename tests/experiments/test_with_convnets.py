"""The experiments on function space with convolutional nets: quick runs on noise, and which net each of them trains."""

import dataclasses

import numpy as np
import pytest

from minigrad import experiments
from minigrad.experiments import Options, distance_estimator, distance_ratio, measured, trajectories, with_convnets
from minigrad.nets import BatchNorm, FanIn, He
from minigrad.training import records
from tests.experiments.noise import instead_of_mnist

NAMES = list(with_convnets.EXPERIMENTS)


@pytest.fixture
def noise(monkeypatch):
    """Images of 28 x 28 and, in colour, 8 x 8 pixels; batches of 20."""
    instead_of_mnist(monkeypatch)
    rng = np.random.default_rng(1)
    x, t = rng.random((160, 192), dtype="float32"), rng.integers(0, 10, 160)
    monkeypatch.setattr(measured, "cifar10", lambda: ((x[:100], t[:100]), (x[100:], t[100:])))


def small(variant):
    """Its quick scale, smaller."""
    changes = {"images": 40, "measured": 20, "epochs": 3 if variant.module is distance_ratio else 2}
    if variant.module is distance_estimator:
        changes["shown"] = (1, 2)
    return dataclasses.replace(variant.SCALES["quick"], **changes)


@pytest.mark.parametrize("name", ["trajectories-cnn", "distance-ratio-cnn-plain", "distance-estimator-cnn-mnist"])
def test_run_and_plot(name, noise, tmp_path, monkeypatch):
    """One of each module; the record and the figures have the variant's name, the caption what was trained."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.setattr(distance_estimator, "DRAWS", 50)
    variant = experiments.find(name)
    monkeypatch.setitem(variant.SCALES, "quick", small(variant))
    options = Options(tmp_path, "quick", progress=False)
    variant.run(options)
    loaded = records.load(tmp_path / "record.json", name)
    assert loaded["results"]["complete"] and variant.findings(loaded)
    paths = variant.plot(loaded, tmp_path)
    assert paths[0].name == f"{name}.png" and all(path.stat().st_size > 10_000 for path in paths)
    assert variant.run(dataclasses.replace(options, resume=True))["results"] == loaded["results"]
    draw = {distance_ratio: lambda record: distance_ratio.averages(record)[1]}.get(variant.module)
    text = (draw or variant.module.caption)(loaded)
    kind = "without" if name.endswith("plain") else "with"
    assert f"convnet(4, 4, 4, 4, 8, 10) relu, {kind} batch normalization, " in text
    data = "MNIST" if name.endswith("mnist") else "CIFAR-10"
    assert f"an excerpt of {data}, 40 training and 20 test images" in text
    assert f"(quick form; the paper: {variant.SCALES['quick'].net.paper()})" in text


def test_what_the_paper_has_instead_of_the_perceptron(noise):
    settings = measured.task_of(measured.SMALL, 80, 30).settings()
    words = measured.instead(settings | {"scale": "usual"})
    assert words == "reduced form; the paper: a convolutional net on CIFAR-10" and "paper" not in settings


@pytest.mark.parametrize("name", NAMES)
def test_the_nets_are_the_papers(name, noise):
    """Which data, normalized or not, reduced or not; PyTorch's initial weights, or where these do not learn, He's."""
    variant = experiments.find(name)
    assert variant.NAME == name and variant.module.NAME in name
    for scale, widths in {"quick": (4, 4, 8), "usual": (8, 16, 64), "full": (32, 64, 256)}.items():
        net = variant.SCALES[scale].net
        assert net.widths == widths and net.reduced == (scale != "full")
        assert net.data == ("MNIST" if name.endswith("mnist") else "CIFAR-10")
        task = measured.task_of(net, 80, 30)
        assert [len(part) for part in (*task.train, *task.test)] == [80, 80] + [30 if net.reduced else 60] * 2
        assert task.measured == 30 and task.data == f"an excerpt of {net.data}"
        side, channels = (28, 1) if name.endswith("mnist") else (8, 3)
        assert task.net.image == task.train[0].shape[1:] == task.test[0].shape[1:] == (side, side, channels)
        assert task.net.normalization == (None if name.endswith("plain") else BatchNorm())
        assert task.net.activation == "relu"
        assert (task.net.initializer, task.rate) == ((He(), 0.02) if name.endswith("plain") else (FanIn(1 / 3), 0.1))
        a, b, c = widths
        assert [out for _, out in task.net.matrices.values()] == [a, a, b, b, c, 10]


def test_a_whole_set_is_no_excerpt(monkeypatch):
    train, test = (np.zeros((50_000, 12), "float32"), np.zeros(50_000, int)), (np.zeros((10, 12), "float32"), None)
    monkeypatch.setattr(measured, "cifar10", lambda: (train, test))
    (x, _), _, name = measured.Convolutional("CIFAR-10").load()
    assert name == "CIFAR-10" and x.shape == (50_000, 2, 2, 3)


def test_full_scales_are_the_modules_own():
    """The whole nets are measured as the perceptrons are; the paper's three seeds and 5,000 images (figure 1)."""
    for variant in with_convnets.EXPERIMENTS.values():
        own, full = variant.module.SCALES["full"], variant.SCALES["full"]
        assert dataclasses.replace(full, net=own.net) == own
    usual = experiments.find("trajectories-cnn").SCALES["usual"]
    assert (usual.images, usual.seeds) == (5000, 3) and isinstance(usual, trajectories.Scale)


def test_what_the_paper_has_instead():
    paper = lambda *args, **given: measured.Convolutional(*args, **given).paper()
    assert paper("CIFAR-10") == "four convolutional and two dense layers of unstated widths"
    assert paper("CIFAR-10", normalized=False).endswith("unstated widths, learning rate 0.1")
    assert paper("MNIST") == "a convolutional net with batch normalization, not described further"

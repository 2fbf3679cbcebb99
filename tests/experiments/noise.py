"""Random images in place of data, and the options of a quick run: what tests of the experiments train on."""

import dataclasses

import numpy as np

from minigrad.experiments import Options, measured


def options(folder, **changes):
    """Of a quick run into this folder, without progress."""
    return dataclasses.replace(Options(folder, "quick", progress=False), **changes)


def shades(count, pixels):
    """(x (count, pixels), t): images of ten shades with noise, which can be learned in a few updates."""
    rng = np.random.default_rng(0)
    t = rng.integers(0, 10, count)
    return (t[:, None] / 10 + 0.1 * rng.random((count, pixels))).astype("float32"), t


def instead_of_mnist(monkeypatch):
    """For the experiments on function space: 100 training and 60 test images of noise, batches of 20."""
    rng = np.random.default_rng(0)
    x, t = rng.random((160, 784), dtype="float32"), rng.integers(0, 10, 160)
    monkeypatch.setattr(measured, "mnist", lambda: ((x[:100], t[:100]), (x[100:], t[100:])))
    monkeypatch.setattr(measured, "BATCH", 20)

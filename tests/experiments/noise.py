"""Random images in MNIST's place, and small batches: what tests of the experiments on function space train on."""

import numpy as np

from minigrad.experiments import measured


def instead_of_mnist(monkeypatch):
    """100 training and 60 test images of noise, batches of 20."""
    rng = np.random.default_rng(0)
    x, t = rng.random((160, 784), dtype="float32"), rng.integers(0, 10, 160)
    monkeypatch.setattr(measured, "mnist", lambda: ((x[:100], t[:100]), (x[100:], t[100:])))
    monkeypatch.setattr(measured, "BATCH", 20)

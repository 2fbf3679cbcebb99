"""Fixtures for every test. MINIGRAD_BACKEND=cupy runs the whole suite on a GPU."""

import signal
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import settings

from minigrad import backend
from tests.fake_device import fake_device

settings.register_profile("minigrad", deadline=None, derandomize=True)
settings.load_profile("minigrad")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background deaf to Ctrl-C


def pytest_collection_modifyitems(items):
    if backend.name() != "cupy":
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU: run with MINIGRAD_BACKEND=cupy"))


@pytest.fixture(autouse=True)
def figures_are_closed():
    """Matplotlib keeps every figure until it is closed, and warns at the twenty-first."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def rng():
    """A seeded generator of host numbers; `dev` moves them to the active backend."""
    return np.random.default_rng(0)


@pytest.fixture(params=["numpy", "fake"])
def device(request):
    """Run the test on the active backend, and on the fake device."""
    with fake_device() if request.param == "fake" else nullcontext():
        yield request.param

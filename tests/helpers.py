"""What tests of every folder use: the way onto the active backend and back, and draws that are easy to check."""

import numpy as np
import pytest

from minigrad import backend

host_only = pytest.mark.skipif(backend.name() != "numpy", reason="needs arrays that SciPy or NumPy can read")


def dev(x, dtype=None):
    """A host array, list or number as an array of the active backend."""
    return backend.asarray(x, dtype=dtype)


def host(x):
    """An array of the active backend as a NumPy array."""
    return backend.to_host(x)


def close(found, expected, rtol=1e-12, atol=0.0):
    """Assert that arrays of either place agree to rtol of the largest expected entry, and in shape."""
    found = host(found) if backend.is_array(found) else np.asarray(found)
    expected = host(expected) if backend.is_array(expected) else np.asarray(expected)
    assert found.shape == expected.shape
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * scale + atol)


def spd(rng, n, dtype=None):
    """A random symmetric positive definite matrix of modest condition, on the active backend."""
    B = rng.standard_normal((n, n))
    return dev(B @ B.T / n + np.eye(n), dtype)


class Recording:
    """A net that notes how many samples each forward pass had."""

    def __init__(self, net):
        self.net, self.layout, self.passes = net, net.layout, []

    def apply(self, theta, x):
        self.passes.append(x.shape[0])
        return self.net.apply(theta, x)

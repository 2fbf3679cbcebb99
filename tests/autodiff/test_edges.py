"""Where formulas are delicate: extreme inputs, kinks and ties, empty and broadcast arguments."""

import numpy as np
import pytest
from scipy import special

from minigrad import backend
from minigrad.autodiff import check, grad, jacobian, linearize, ops
from minigrad.backend import xp
from tests.helpers import close, dev, host

EXTREME = np.array([-1e4, -1e3, -88.0, -17.0, -1e-8, 0.0, 1e-8, 1.0, 17.0, 88.0, 1e3, 1e4])
ROWS = np.array([[-1e4, 1e4, 0.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [3.0, 2.0, 1.0]])
precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def swept(f, x):
    """f(x), its R-op along ones and its L-op of ones, with every floating-point warning but underflow an error."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, J = linearize(f, x)
        rop, lop = J.rop(xp.ones_like(x)), J.lop(xp.ones_like(y))
    assert y.dtype == rop.dtype == lop.dtype == x.dtype
    return host(y), host(rop), host(lop)


@precisions
@pytest.mark.parametrize(
    ("f", "value", "slope", "absolute"),
    [
        (ops.sigmoid, special.expit, lambda x: special.expit(x) * special.expit(-x), True),
        (ops.softplus, lambda x: np.logaddexp(0, x), special.expit, False),
        (ops.log_sigmoid, special.log_expit, lambda x: special.expit(-x), False),
        (ops.tanh, np.tanh, lambda x: 1 / np.cosh(np.clip(x, -300, 300)) ** 2, True),
        (lambda x: ops.expm1(ops.minimum(x, 80.0)), lambda x: np.expm1(np.minimum(x, 80)), None, False),
        (ops.relu, lambda x: np.maximum(x, 0), lambda x: x > 0, False),
        (ops.abs, np.abs, np.sign, False),
    ],
)
def test_elementwise_functions_at_extreme_inputs(f, value, slope, absolute, dtype):
    x = EXTREME.astype(dtype)
    y, rop, lop = swept(f, dev(x))
    eps = np.finfo(dtype).eps
    bounds = {"rtol": eps, "atol": eps} if absolute else {"rtol": 4 * eps, "atol": np.finfo(dtype).tiny}
    np.testing.assert_allclose(y, value(x.astype(np.float64)), **bounds)
    np.testing.assert_array_equal(rop, lop)
    if slope is not None:
        np.testing.assert_allclose(rop, slope(x.astype(np.float64)), rtol=4 * eps, atol=eps)
    assert np.isfinite(rop).all()


@precisions
@pytest.mark.parametrize(
    ("f", "value", "slope"),
    [
        (lambda x: ops.logsumexp(x, 1), lambda x: special.logsumexp(x, 1), lambda x: special.softmax(x, 1)),
        (ops.softmax, lambda x: special.softmax(x, 1), None),
        (ops.log_softmax, lambda x: special.log_softmax(x, 1), lambda x: 1 - 3 * special.softmax(x, 1)),
        (lambda x: ops.norm(x, 1), lambda x: np.linalg.norm(x, axis=1), None),
        (lambda x: ops.max(x, 1), lambda x: x.max(1), None),
    ],
)
def test_functions_of_rows_at_extreme_inputs(f, value, slope, dtype):
    x = ROWS.astype(dtype)
    y, rop, lop = swept(f, dev(x))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, value(x.astype(np.float64)), rtol=4 * eps, atol=np.finfo(dtype).tiny)
    assert np.isfinite(rop).all() and np.isfinite(lop).all()
    if slope is not None:
        np.testing.assert_allclose(lop, slope(x.astype(np.float64)), rtol=8 * eps, atol=4 * eps)


@precisions
@pytest.mark.parametrize("f", [ops.sigmoid, ops.softplus, lambda x: ops.logsumexp(x, 1), ops.softmax, ops.log_softmax])
def test_hessian_products_at_extreme_inputs_are_finite(f, dtype):
    gradient = lambda x: grad(lambda z: ops.sum(f(z) * dev([[0.5, -1.0, 2.0]], dtype)[0, : f(z).shape[-1]]))(x)
    x = ROWS[:, :3].astype(dtype)
    if f(dev(x)).ndim == 1:
        gradient = grad(lambda z: ops.sum(f(z)))
    assert all(np.isfinite(result).all() for result in swept(gradient, dev(x)))


@precisions
def test_small_numbers_keep_their_digits(dtype):
    tiny = dev([1e-12, -1e-12], dtype)
    for f in (ops.expm1, ops.log1p):
        np.testing.assert_allclose(host(f(tiny)), host(tiny), rtol=1e-6)


@precisions
@pytest.mark.parametrize("exponent", [-0.75, 0.75])
def test_norm_neither_overflows_nor_underflows(dtype, exponent):
    size = float(np.finfo(dtype).max) ** exponent  # its square is out of range
    y, rop, lop = swept(ops.norm, dev([3 * size, -4 * size], dtype))
    np.testing.assert_allclose(y, 5 * size, rtol=1e-6)
    np.testing.assert_allclose(rop, -0.2, rtol=1e-6)
    np.testing.assert_allclose(lop, [0.6, -0.8], rtol=1e-6)


def test_logits_of_minus_infinity_are_classes_ruled_out():
    x = dev([0.0, -np.inf, 0.0])
    close(ops.softmax(x), [0.5, 0.0, 0.5])
    close(ops.logsumexp(x), np.log(2))
    y, _, lop = swept(ops.softmax, x)
    assert np.isfinite(y).all() and np.isfinite(lop).all()
    np.testing.assert_array_equal(host(ops.softplus(dev([-np.inf, np.inf]))), [0.0, np.inf])
    np.testing.assert_array_equal(host(ops.sigmoid(dev([-np.inf, np.inf]))), [0.0, 1.0])
    np.testing.assert_array_equal(host(ops.relu(dev([-np.inf, np.inf]))), [0.0, np.inf])


@pytest.mark.parametrize(
    "f",
    [
        ops.relu,
        ops.abs,
        lambda x: ops.maximum(x, 0.5),
        lambda x: ops.maximum(0.5, x),
        lambda x: ops.minimum(x, 0.5),
        lambda x: ops.clip(x, -1.0, 1.0),
        ops.softplus,
        ops.sigmoid,
        lambda x: ops.max(x, keepdims=True),
        lambda x: ops.min(x, keepdims=True),
        ops.softmax,
        ops.logsumexp,
        ops.norm,
    ],
)
def test_nan_is_never_swallowed(f):
    assert np.isnan(host(f(dev([np.nan])))).all()


@pytest.mark.parametrize(
    ("f", "x", "derivative"),
    [
        (ops.abs, [-2.0, 0.0, 3.0], [-1, 0, 1]),
        (ops.relu, [-2.0, 0.0, 3.0], [0, 0, 1]),
        (lambda x: ops.maximum(x, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1]),
        (lambda x: ops.maximum(1.0, x), [0.0, 1.0, 2.0], [0, 0.5, 1]),
        (lambda x: ops.minimum(x, 1.0), [0.0, 1.0, 2.0], [1, 0.5, 0]),
        (lambda x: ops.maximum(x, x), [0.0, 1.0], [1, 1]),
        (lambda x: ops.minimum(x, 2.0 * x), [0.0, 1.0, -1.0], [1.5, 1, 2]),
        (lambda x: ops.clip(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 0.5, 1, 0.5, 0]),
        (lambda x: ops.clip(x, None, 1.0), [-2.0, 1.0, 2.0], [1, 0.5, 0]),
        (lambda x: ops.clip(x, -1.0, None), [-2.0, -1.0, 2.0], [0, 0.5, 1]),
        (lambda x: ops.clip(x, None, None), [-2.0, 2.0], [1, 1]),
        (ops.max, [1.0, 3.0, 3.0, 2.0], [0, 0.5, 0.5, 0]),
        (ops.min, [1.0, 3.0, 1.0, 1.0], [1 / 3, 0, 1 / 3, 1 / 3]),
        (ops.norm, [0.0, 0.0], [0, 0]),
        (ops.norm, [3.0, -4.0], [0.6, -0.8]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: x**0.0, [0.0, 2.0], [0, 0]),
        (lambda x: x**1, [0.0, 2.0], [1, 1]),
        (lambda x: x**2, [0.0, 2.0], [0, 4]),
    ],
)
def test_derivatives_at_kinks_and_ties(f, x, derivative):
    """Both sweeps take the same side: R-op and L-op of ones."""
    _, rop, lop = swept(f, dev(x))
    close(lop, np.array(derivative, float))
    close(rop if rop.ndim else rop[None], np.array(derivative, float) if rop.ndim else [float(np.sum(derivative))])


@pytest.mark.parametrize(
    "f",
    [
        ops.abs,
        ops.relu,
        lambda x: ops.maximum(x, 0.2),
        lambda x: ops.maximum(0.2, x),
        lambda x: ops.maximum(x, x[::-1]),
        lambda x: ops.minimum(x, 0.2),
        lambda x: ops.clip(x, -0.3, 0.3),
        lambda x: ops.where(x.real > 0, x, 2.0 * x),
        lambda x: ops.norm(x) * x,
        lambda x: ops.softplus(x) + ops.softmax(x) + ops.logsumexp(x),
    ],
)
def test_kinks_branch_on_the_real_part(f):
    """So that a complex step can be taken through them, away from the kink."""
    x, v = dev([-1.3, -0.1, 0.1, 0.7]), dev([1.0, 2.0, 3.0, 4.0])
    close(check.complex_step(f, x, v), linearize(f, x)[1].rop(v))
    close(f(x + 0j).real, f(x))
    assert backend.item(ops.maximum(dev([0.2 - 1j]), 0.2)) == 0.2 - 1j  # a tie takes the first, whatever its step


def test_a_complex_step_at_the_kink_finds_the_derivative_taken_there():
    zero, v = dev(np.zeros(2)), dev(np.array([1.0, -2.0]))
    assert host(check.complex_step(ops.abs, zero, v)).tolist() == [0, 0]
    assert host(linearize(ops.abs, zero)[1].rop(v)).tolist() == [0, 0]


def test_ties_along_an_axis():
    x = dev([[1.0, 1.0], [1.0, 0.0]])
    close(swept(lambda x: ops.max(x, 0), x)[2], [[0.5, 1], [0.5, 0]])
    close(swept(lambda x: ops.max(x, 1), x)[2], [[0.5, 0.5], [1, 0]])
    close(swept(lambda x: ops.max(x, (0, 1), keepdims=True), x)[2], [[1 / 3, 1 / 3], [1 / 3, 0]])


def test_norm_of_some_rows_being_zero():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    y, _, lop = swept(lambda x: ops.norm(x, 1), dev(x))
    close(y, [0, 5])
    close(lop, [[0, 0], [0.6, 0.8]])


def test_where_hides_what_it_does_not_take():
    """The branch that is not taken passes no derivative."""
    f = lambda x: ops.where(x > 0, ops.log(ops.where(x > 0, x, 1.0)), 0.0)
    y, rop, lop = swept(f, dev([-1.0, 0.0, 2.0]))
    close(y, [0, 0, np.log(2)])
    close(rop, [0, 0, 0.5])
    close(lop, [0, 0, 0.5])


def test_values_of_plain_arrays_and_numbers():
    """Operations work without a tape, on integers too."""
    close(ops.sigmoid(0.0), 0.5)
    close(ops.sigmoid(dev([0, 1])), special.expit([0, 1]))
    close(ops.relu(-2.0), 0.0)
    close(ops.relu(dev([-2, 3])), [0, 3])
    close(ops.maximum(2.0, dev([1.0, 3.0])), [2, 3])
    close(ops.softmax(dev([1, 2, 3])), special.softmax([1, 2, 3]))


def test_basic_keys_are_told_from_those_that_repeat(monkeypatch):
    """Slices and numbers are scattered by assignment; only arrays and lists need an addition an element."""
    added = []
    monkeypatch.setattr(ops, "scatter_add", lambda out, key, u: added.append(key))
    x = dev(np.ones((3, 4)))
    for key in (1, slice(1), (1, slice(2)), (..., 0), (None, 1), np.int64(2), -1):
        linearize(lambda x, key=key: x[key], x)[1].lop(x[key])
    assert added == []
    for key in ([0, 0], (slice(None), [1, 1]), dev([True, False, True])):
        linearize(lambda x, key=key: x[key], x)[1].lop(x[key])
    assert len(added) == 3


def test_coefficients_of_smaller_shapes_are_broadcast():
    """A coefficient may be smaller than what it multiplies, larger, or a number."""
    x, b = dev(np.ones((2, 3))), dev([2.0, 3.0, 4.0])
    close(linearize(lambda x: x * b, x)[1].lop(x), np.tile([2.0, 3.0, 4.0], (2, 1)))
    close(linearize(lambda x: x * b, x)[1].rop(x), np.tile([2.0, 3.0, 4.0], (2, 1)))
    close(linearize(lambda b: x * b, b)[1].lop(x), [2.0, 2.0, 2.0])
    close(jacobian(lambda c: c * b)(dev(2.0)), [2.0, 3.0, 4.0])


def test_a_matrix_in_other_coordinates_is_asked_for_the_layer():
    """It gets the input and the layer's name, and has the last word."""

    class Doubled:
        def __init__(self, W):
            self.W = W

        def affine(self, h, name):
            return ops.affine(h, 2.0 * self.W, name)

    h, W = dev([[1.0, 2.0]]), dev(np.arange(6.0).reshape(3, 2))
    y, J = linearize(lambda W: ops.affine(h, Doubled(W), "a"), W)
    close(y, 2 * np.array([[8.0, 12.0]]))
    close(J.rop(W), host(y))
    assert J.nodes[-1].name == "a"


def test_layers_give_their_input_as_factor():
    h, W = dev([[1.0, 2.0]]), dev(np.ones((3, 2)))
    _, J = linearize(lambda W: ops.affine(h, W, "a"), W)
    assert J.nodes[0].inputs[0][1].factor == (h, None) and J.nodes[0].name == "a"
    _, J = linearize(lambda h: ops.affine(h, W), h)
    assert J.nodes[0].inputs[0][1].factor is None
    check.adjoint(lambda W: ops.affine(h, W), W)

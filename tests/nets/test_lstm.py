"""The LSTM against plain loops over samples, steps and cells; its dense Gauss-Newton matrix, memory, messages."""

import dataclasses
import re
import tracemalloc

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import check, grad, linearize, ops
from minigrad.autodiff.recurrent import lstm_cell, lstm_input
from minigrad.curvature import gauss_newton, hessian
from minigrad.losses import Categorical
from minigrad.nets import FanIn, Glorot, lstm
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import complex_jacobian, sample_losses, sigmoid, softmax

SHAPES = [(2, 3, 2, 3, 2), (1, 1, 1, 1, 1), (3, 2, 4, 1, 3), (2, 7, 1, 2, 1)]  # N, T, H, n_in, n_out


def reference(theta, x, H, n_out):
    """r by the formulas, one cell after the other, every weight read from its place in theta; theta may be complex."""
    N, T, n_in = x.shape
    rows = n_in + H + 1
    weight = lambda row, gate, j: theta[row * 4 * H + gate * H + j]
    out = lambda j, k: theta[rows * 4 * H + j * n_out + k]
    r = np.zeros((N, n_out), theta.dtype)
    for n in range(N):
        h, c = [0.0] * H, [0.0] * H
        for t in range(T):
            inputs = [*x[n, t], *h, 1.0]
            for j in range(H):
                i, f, o, g = (sum(inputs[k] * weight(k, gate, j) for k in range(rows)) for gate in range(4))
                c[j] = sigmoid(f) * c[j] + sigmoid(i) * np.tanh(g)
                h[j] = sigmoid(o) * np.tanh(c[j])
        for k in range(n_out):
            r[n, k] = sum(h[j] * out(j, k) for j in range(H)) + out(H, k)
    return r


def point(shape, rng):
    """(net, theta, x, the reference as a function of theta), on the host."""
    N, T, H, n_in, n_out = shape
    net = lstm(n_in, H, n_out)
    theta, x = 0.8 * rng.standard_normal(net.layout.size), rng.standard_normal((N, T, n_in))
    return net, theta, x, lambda theta: reference(theta, x, H, n_out)


each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_shape
def test_value(shape, rng, device):
    net, theta, x, expected = point(shape, rng)
    close(net.apply(dev(theta), dev(x)), expected(theta), rtol=1e-13)
    close(net(net.layout.views(dev(theta)), dev(x)), expected(theta), rtol=1e-13)


@each_shape
def test_both_sweeps_against_the_dense_jacobian(shape, rng, device):
    net, theta, x, expected = point(shape, rng)
    jacobian = complex_jacobian(expected, theta)
    _, J = linearize(lambda theta: net.apply(theta, dev(x)), dev(theta))
    v, u = rng.standard_normal(theta.size), rng.standard_normal(jacobian.shape[:2])
    close(J.rop(dev(v)), jacobian @ v)
    close(J.lop(dev(u)), np.einsum("no,nop->p", u, jacobian))
    check.adjoint(lambda theta: net.apply(theta, dev(x)), dev(theta))


@each_shape
def test_second_order(shape, rng):
    """The Hessian of a nonlinear function of r: central differences of the reference's complex-step gradient."""
    net, theta, x, expected = point(shape, rng)
    gradient = lambda theta: complex_jacobian(lambda theta: np.sum(np.sin(1.0) * expected(theta) ** 3), theta)
    f = lambda theta: ops.sum(np.sin(1.0) * net.apply(theta, dev(x)) ** 3)
    close(grad(f)(dev(theta)), gradient(theta), rtol=1e-11)
    _, H = linearize(grad(f), dev(theta))
    for _ in range(3):
        v, h = rng.standard_normal(theta.size), 1e-5
        difference = (gradient(theta + h * v) - gradient(theta - h * v)) / (2 * h)
        close(H @ dev(v), difference, rtol=1e-7)
        close(H.T @ dev(v), difference, rtol=1e-7)


@each_shape
def test_in_the_input(shape, rng):
    """A sequence that is traced itself (a saliency map, or a layer below): both sweeps, and again."""
    net, theta, x, _ = point(shape, rng)
    N, T, H, n_in, n_out = shape
    _, J = linearize(lambda x: net.apply(dev(theta), x), dev(x))
    jacobian = complex_jacobian(
        lambda x: reference(theta + 0j, x.reshape(N, T, n_in), H, n_out).reshape(-1), x.reshape(-1)
    )
    close(J.dense(), jacobian)
    check.derivatives(lambda x: net.apply(dev(theta), x), dev(x))


def test_float32(rng):
    """Single precision throughout, and right to its rounding."""
    net, theta, x, expected = point((2, 5, 3, 2, 2), rng)
    single, sequence = dev(theta, "float32"), dev(x, "float32")
    r, J = linearize(lambda theta: net.apply(theta, sequence), single)
    v = rng.standard_normal(theta.size)
    tangent, cotangent = J.rop(dev(v, "float32")), J.lop(r)
    assert {part.dtype.name for part in (r, tangent, cotangent)} == {"float32"}
    jacobian = complex_jacobian(expected, theta)
    close(r, expected(theta), rtol=1e-5)
    close(tangent, jacobian @ v, rtol=1e-5)
    close(cotangent, np.einsum("no,nop->p", expected(theta), jacobian), rtol=1e-5)


@pytest.fixture
def tiny(rng):
    """An LSTM of 2 cells over 3 steps, its objective, and its Jacobian by complex steps of the reference."""
    net, theta, x, expected = point((4, 3, 2, 1, 3), rng)
    t = rng.integers(3, size=4)
    return Objective(net, Categorical()), theta, (dev(x), dev(t)), expected, t


def test_gauss_newton_is_the_dense_one(tiny):
    """G = J' M J with M = (diag y - y y') / N, J by complex steps."""
    objective, theta, batch, expected, _ = tiny
    y, J = softmax(expected(theta)), complex_jacobian(expected, theta)
    M = (np.einsum("no,op->nop", y, np.eye(3)) - np.einsum("no,np->nop", y, y)) / len(y)
    G = np.einsum("nop,noq,nqr->pr", J, M, J)
    close(gauss_newton(objective, dev(theta), batch).dense(), G, rtol=1e-11)


def test_gradient_and_hessian_of_the_objective(tiny):
    objective, theta, batch, expected, t = tiny
    loss = lambda theta: sample_losses(Categorical(), expected(theta), t).mean()
    gradient = lambda theta: complex_jacobian(loss, theta)
    value, g = objective.value_and_grad(dev(theta), batch)
    close(value, loss(theta))
    close(g, gradient(theta), rtol=1e-11)
    h = 1e-5
    H = np.stack([(gradient(theta + h * e) - gradient(theta - h * e)) / (2 * h) for e in np.eye(theta.size)])
    close(hessian(objective, dev(theta), batch).dense(), H, rtol=1e-7)


def test_only_the_memory_of_the_old_state_enters(rng):
    """h reaches the next step through a alone: no derivative in it, exactly."""
    a, s = dev(rng.standard_normal((3, 8))), rng.standard_normal((3, 4))
    other = np.concatenate([rng.standard_normal((3, 2)), s[:, 2:]], axis=1)
    close(lstm_cell(a, dev(s)), lstm_cell(a, dev(other)), rtol=0)
    _, J = linearize(lambda s: lstm_cell(a, s), dev(s))
    u = host(J.lop(dev(rng.standard_normal((3, 4)))))
    assert not u[:, :2].any() and u[:, 2:].all()


def test_extreme_pre_activations_saturate():
    """Gates closed or open, no overflow: c' = c or g, derivatives 0."""
    big = 1e4
    a = dev([[-big, big, big, 0.3], [big, -big, -big, big]])
    with np.errstate(all="raise"):
        y, J = linearize(lambda a: lstm_cell(a, dev([[0.5, 0.7], [0.5, 0.7]])), a)
        close(y, [[np.tanh(0.7), 0.7], [0.0, 1.0]], rtol=1e-15)
        close(J.rop(dev(np.ones((2, 4)))), np.zeros((2, 2)))


def test_the_tape_is_linear_in_the_length(rng):
    """Three nodes a step ((x h), a, s), whatever the length; the matrix is one parameter."""
    net, counts = lstm(1, 2, 1), []
    for T in (1, 2, 5, 9):
        _, J = linearize(lambda theta, T=T: net.apply(theta, dev(np.ones((2, T, 1)))), dev(np.ones(net.layout.size)))
        counts.append(len(J.nodes))
        names = [node.name for node in J.nodes if node.op.name == "affine"]
        assert names == ["lstm"] * T + ["output"]
        assert [node.name for node in J.parameters.values()] == ["lstm", "output"]
    assert np.diff(counts).tolist() == [3, 9, 12]


def test_layout_and_init():
    net = lstm(2, 3, 4, forget_bias=1.5)
    assert net.layout.shapes == {"lstm": (6, 12), "output": (4, 4)}
    p = {name: host(view) for name, view in net.layout.views(net.init(np.random.default_rng(0), "float64")).items()}
    assert p["lstm"][-1].tolist() == [0.0] * 3 + [1.5] * 3 + [0.0] * 6
    assert not p["output"][-1].any()
    rng, one = np.random.default_rng(0), Glorot()
    gates = [host(one(rng, 5, 3, np.dtype("float64")))[:-1] for _ in range(4)]
    close(p["lstm"][:-1], np.concatenate(gates, axis=1))
    close(p["output"], host(one(rng, 3, 4, np.dtype("float64"))))


def test_options():
    assert lstm(2, 3, 4).initializer == Glorot() and lstm(2, 3, 4, init=FanIn()).initializer == FanIn()
    assert lstm(2, 3, 4).forget_bias == 1.0
    assert lstm(2, 3, 4, forget_bias=0).init(np.random.default_rng(0)).dtype == np.float32
    with pytest.raises(dataclasses.FrozenInstanceError):
        lstm(2, 3, 4).hidden = 5


@pytest.mark.parametrize("sizes", [(0, 3, 4), (2, -1, 4), (2, 3, 0), (2, 2.5, 4), (2, 3, "4")], ids=str)
def test_sizes_are_checked(sizes):
    message = re.escape(f"lstm: n_in, hidden and n_out must be positive whole numbers, got {list(sizes)}")
    with pytest.raises(ValueError, match=message):
        lstm(*sizes)


@pytest.mark.parametrize("shape", [(5, 0, 2), (5, 7, 3), (5, 2), (5, 7, 2, 1), (7,)], ids=str)
@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_inputs_are_checked(shape, traced):
    """Empty sequences, a wrong width, a wrong number of axes."""
    net = lstm(2, 3, 4)
    theta, x = net.init(np.random.default_rng(0)), dev(np.zeros(shape), "float32")
    message = re.escape(f"lstm: x must have shape (N, T, 2) with T at least 1, got {shape}")
    with pytest.raises(ValueError, match=message):
        linearize(lambda theta: net.apply(theta, x), theta) if traced else net.apply(theta, x)


@pytest.mark.parametrize(
    ("a", "s"),
    [((3, 8), (3, 6)), ((3, 7), (3, 4)), ((3, 8), (2, 4)), ((3, 8), (4,)), ((8,), (3, 4)), ((3, 10), (3, 5)),
     ((3, 0), (3, 0)), ((3, 4), (3, 2, 1))], ids=str,
)  # fmt: skip
def test_cells_of_the_wrong_shape(a, s):
    message = re.escape(f"lstm_cell of shapes {a}, {s}: a {a} does not match the state {s}: expected a (N, 4 H)")
    with pytest.raises(ValueError, match=message):
        lstm_cell(dev(np.zeros(a)), dev(np.zeros(s)))


@pytest.mark.parametrize(
    ("x", "s"),
    [((3, 2), (3, 5)), ((3, 2), (3, 0)), ((3,), (3, 4)), ((3, 2, 1), (3, 4)), ((3, 2), (2, 4)), ((3, 2), (4,))],
    ids=str,
)
def test_inputs_of_the_wrong_shape(x, s):
    message = re.escape(f"lstm_input of shapes {x}, {s}: x {x} does not match the state {s}: expected x (N, n_in)")
    with pytest.raises(ValueError, match=message):
        lstm_input(dev(np.zeros(x)), dev(np.zeros(s)))


@host_only
def test_a_step_keeps_what_its_maps_need(rng):
    """(x h), and six coefficients of each cell: the gates themselves, and the state, are forgotten."""
    net, N, H = lstm(1, 64, 1), 64, 64
    theta, kept = dev(net.init(rng, "float64")), []
    for T in (2, 12):
        x = dev(np.ones((N, T, 1)))
        tracemalloc.start()
        _, J = linearize(lambda theta, x=x: net.apply(theta, x), theta)
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert J.y_shape == (N, 1)
    assert 7.0 < (kept[1] - kept[0]) / (10 * 8 * N * H) < 7.5

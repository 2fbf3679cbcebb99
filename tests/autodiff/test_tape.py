"""The tape: run once, swept many times, nested without confusion, written in place, and clear about mistakes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from minigrad import backend
from minigrad.autodiff import (
    PRIMITIVES,
    Linear,
    Var,
    check,
    grad,
    jacobian,
    linearize,
    ops,
    primitive,
    untraced,
    value_and_grad,
)
from minigrad.autodiff.tape import Joint, keeping, view
from minigrad.backend import xp
from tests.fake_device import fake_device
from tests.helpers import close, dev, host, host_only

X = np.array([0.5, -1.2, 2.0])


def names(J):
    return [node.op.name for node in J.nodes]


# --- one run, many products -----------------------------------------------------------------------------


def test_f_runs_once_for_many_products():
    runs = []

    def f(x):
        runs.append(x)
        return ops.tanh(x) * x

    _, J = linearize(f, dev(X))
    for _ in range(5):
        J @ (J.T @ dev(X))
        J.rop(J.lop(dev(X)))
        list(J.sweep(dev(X)))
    J.dense()
    assert len(runs) == 1


def test_constants_and_dead_ends_stay_off_the_tape():
    data = dev([[1.0, 2.0, 3.0]])

    def f(x):
        ops.exp(x * 3.0)  # nobody uses it
        features = ops.tanh(data @ data.T) + ops.sum(data)
        return features * ops.sum(x)

    _, J = linearize(f, dev(X))
    assert names(J) == ["sum", "multiply"]


def test_coefficients_are_computed_while_recording(monkeypatch):
    asked = []
    op = primitive(lambda x: x * 1.0)
    monkeypatch.delitem(PRIMITIVES, op.name)

    @op.linear(0)
    def _(y, x):
        asked.append(x)
        return Linear(lambda v: v, lambda u: u)

    _, J = linearize(op, dev(X))
    J @ dev(X), J.T @ dev(X)
    assert len(asked) == 1


def test_shapes_dtype_and_counts():
    x, v, u = dev(np.ones((2, 3))), dev(np.arange(6.0)), dev(np.arange(2.0))
    y, J = linearize(lambda x: ops.sum(x * x, axis=1), x)
    assert (J.shape, J.x_shape, J.y_shape, J.dtype) == ((2, 6), (2, 3), (2,), np.float64)
    close(y, [3.0, 3.0])
    close(J.rop(v.reshape(2, 3)), [6.0, 24.0])
    close(J @ v, [6.0, 24.0])
    close(J.lop(u), [[0.0] * 3, [2.0] * 3])
    close(J.T @ u, [0.0] * 3 + [2.0] * 3)
    assert J.products == 2
    dense = J.dense()
    close(dense, np.kron(np.eye(2), [2.0, 2.0, 2.0]))
    close(J @ dense.T, dense @ dense.T)
    close(J.T @ dense, dense.T @ dense)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda J: J.rop(dev(np.ones(6))), r"R-op: the tangent must have shape \(2, 3\), got \(6,\)"),
        (lambda J: J.lop(dev(np.ones(1))), r"L-op: the cotangent must have shape \(2,\), got \(1,\)"),
        (lambda J: list(J.sweep(1.0)), r"sweep: the cotangent must have shape \(2,\), got \(\)"),
        (lambda J: J @ dev(np.ones(5)), r"J: A @ v expects a vector of shape \(6,\), got \(5,\)"),
        (lambda J: J.T @ dev(np.ones((3, 4))), r"J\.T: A @ V expects a block of shape \(2, k\), got \(3, 4\)"),
    ],
)
def test_products_of_the_wrong_shape(call, message):
    _, J = linearize(lambda x: ops.sum(x * x, axis=1), dev(np.ones((2, 3))))
    with pytest.raises(ValueError, match=message):
        call(J)


@pytest.mark.parametrize(
    ("f", "matrix"),
    [
        (lambda x: x, np.eye(3)),
        (lambda x: dev([1.0, 2.0]), np.zeros((2, 3))),
        (lambda x: 4.0, np.zeros((1, 3))),
        (lambda x: dev(4.0), np.zeros((1, 3))),
        (lambda x: x + x, 2 * np.eye(3)),
        (lambda x: dev([1.0, 0.0]) * x[0], [[1, 0, 0], [0, 0, 0]]),
    ],
)
def test_trivial_functions(f, matrix):
    y, J = linearize(f, dev(X))
    close(y, f(dev(X)))
    close(J.dense(), np.array(matrix, float))
    close(J.T.dense(), np.array(matrix, float).T)


def test_grad_value_and_grad_jacobian():
    f = lambda x: ops.sum(x**3)
    value, gradient = value_and_grad(f)(dev(X))
    close(value, (X**3).sum())
    close(gradient, 3 * X**2)
    close(grad(f)(dev(X.reshape(3, 1))), 3 * X.reshape(3, 1) ** 2)
    close(grad(lambda x: (x * x).sum(keepdims=True))(dev(X)), 2 * X)  # one number, of shape (1,)
    close(grad(lambda x: x * x)(3.0), 6.0)
    with pytest.raises(ValueError, match=r"grad: the function must return a single number, got shape \(3,\)"):
        grad(ops.exp)(dev(X))


def test_wrappers_keep_the_name():
    def loss(x):
        """A loss."""

    assert [wrap(loss).__name__ for wrap in (grad, value_and_grad, jacobian)] == ["loss"] * 3


@pytest.mark.parametrize("rows", [1, 3, 6, 7])
def test_jacobian_takes_the_fewer_sweeps(monkeypatch, rows):
    from minigrad.autodiff.tape import Jacobian

    swept = []
    for name in ("rop", "lop"):
        sweep = getattr(Jacobian, name)
        monkeypatch.setattr(Jacobian, name, lambda J, v, s=sweep, n=name: swept.append(n) or s(J, v))
    A = dev(np.arange(6.0 * rows).reshape(rows, 6))
    dense = jacobian(lambda x: ops.reshape(A @ ops.reshape(x, 6), (rows, 1)))(dev(np.ones((2, 3))))
    close(dense, host(A).reshape(rows, 1, 2, 3))
    assert swept == (["rop"] * 6 if rows >= 6 else ["lop"] * rows)


# --- nesting --------------------------------------------------------------------------------------------


def test_third_order_by_hand(device):
    x, a, b = dev(X), dev([1.0, -2.0, 0.5]), dev([0.3, 1.0, -1.0])
    f = lambda x: ops.sum(x**4) + x[0] * x[1] * x[2]
    _, H = linearize(grad(f), x)
    cross = np.array([[0, X[2], X[1]], [X[2], 0, X[0]], [X[1], X[0], 0]])
    close(H.dense(), 12 * np.diag(X**2) + cross)
    check.symmetric(H)
    _, T = linearize(lambda x: linearize(grad(f), x)[1] @ a, x)
    ha, hb = host(a), host(b)
    mixed = [ha[1] * hb[2] + ha[2] * hb[1], ha[0] * hb[2] + ha[2] * hb[0], ha[0] * hb[1] + ha[1] * hb[0]]
    close(T @ b, 24 * X * ha * hb + mixed)
    close(T.T @ b, 24 * X * ha * hb + mixed)


def test_nested_to_any_order():
    d = lambda f: lambda x: linearize(f, x)[1].rop(dev(1.0))
    f, x = ops.tanh, dev(0.7)
    t = np.tanh(0.7)
    for exact in (t, 1 - t**2, -2 * t * (1 - t**2), (1 - t**2) * (6 * t**2 - 2), (1 - t**2) * (16 * t - 24 * t**3)):
        close(f(x), exact)
        f = d(f)
    for mode in (grad, d):
        f = ops.exp
        for _ in range(4):
            f = mode(f)
            close(f(x), np.exp(0.7))


def test_gradients_take_complex_steps():
    f = lambda x: ops.sum(ops.softplus(x) * ops.log_softmax(x) + ops.sigmoid(x[0] * x))
    x = dev(X)
    _, H = linearize(grad(f), x)
    for v in np.eye(3):
        close(check.complex_step(grad(f), x, dev(v)), H @ dev(v))


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (lambda x: x * grad(lambda y: x + y)(dev(1.0)), 1.0),
        (lambda x: x * grad(lambda y: x * y)(dev(2.0)), 6.0),
        (lambda x: x * grad(lambda y: x * y * y)(dev(2.0)), 24.0),
        (lambda x: grad(lambda y: x * y * y)(x), 4 * 3.0),
        (lambda x: grad(lambda y: grad(lambda z: x * y * z)(y) * x)(x), 2 * 3.0),
        (lambda x: linearize(lambda y: x * x * x, dev(1.0))[1].rop(dev(1.0)), 0.0),
        (lambda x: linearize(lambda y: y * y, dev(5.0))[1].rop(x), 10.0),
        (lambda x: linearize(lambda y: y * y, dev(5.0))[1].lop(x), 10.0),
        (lambda x: linearize(lambda y: y * x, x)[0], 6.0),
        (lambda x: linearize(lambda y: x, dev(1.0))[0] * x, 6.0),
        (lambda x: linearize(lambda y: y, x)[1].lop(x) * x, 6.0),
    ],
)
def test_no_perturbation_confusion(f, derivative):
    """d/dx at x = 3 of functions whose inner derivative closes over x, with either sweep outside."""
    _, J = linearize(f, dev(3.0))
    close(J.rop(dev(1.0)), derivative)
    close(J.lop(dev(1.0)), derivative)


def test_gradient_of_a_gradient_with_views():
    """The inner gradient is joined by a traced `assemble`; theta is used through views and directly."""

    def loss(theta):
        W, b = view(theta, start=0, shape=(2, 2), name="W"), view(theta, start=4, shape=(2,), name="b")
        return ops.sum(ops.tanh(W @ b) ** 2) + ops.sum(theta**3)

    theta = dev(np.linspace(-1, 1, 7))
    check.derivatives(loss, theta)
    _, H = linearize(grad(loss), theta)
    for e in np.eye(7):
        close(H @ dev(e), check.complex_step(grad(loss), theta, dev(e)))
    check.symmetric(H)


def test_a_sweep_of_plain_cotangents_through_traced_coefficients():
    """J's coefficients depend on an outer variable, its input does not."""
    theta = dev(np.arange(1.0, 5.0))

    def f(x):
        inner = lambda t: view(t, start=1, shape=(3,), name="w") * x
        return linearize(inner, theta)[1].lop(dev([1.0, 2.0, 3.0]))

    y, J = linearize(f, dev(X))
    close(y, [0, *(X * [1, 2, 3])])
    close(J.dense(), np.vstack([np.zeros(3), np.diag([1.0, 2.0, 3.0])]))


def test_jacobian_of_a_jacobian(device):
    """Columns that are traced can be joined, on a device too."""
    f = lambda x: ops.reshape(x[0] * x * x, (3, 1))
    second = host(jacobian(jacobian(f))(dev(X)))
    expected = np.zeros((3, 1, 3, 3))
    for i in range(3):
        expected[i, 0, i, i] += 2 * X[0]
        expected[i, 0, 0, i] += 2 * X[i]
        expected[i, 0, i, 0] += 2 * X[i]
    close(second, expected)
    close(jacobian(grad(lambda x: ops.sum(x**3)))(dev(X)), np.diag(6 * X))
    wide = jacobian(jacobian(lambda x: ops.sum(x * x, keepdims=True)))(dev(X))
    close(wide, 2 * np.eye(3).reshape(1, 3, 3))
    block = lambda x: linearize(lambda z: z**3, x)[1] @ (x.reshape(3, 1) * dev(np.eye(3)))
    close(jacobian(block)(dev(X))[1, 1], [0.0, 9 * X[1] ** 2, 0.0])


def test_a_traced_value_may_not_outlive_its_run():
    kept = []
    linearize(lambda x: kept.append(x) or x * x, dev(X))
    with pytest.raises(
        RuntimeError, match=r"exp: a traced value was used after its linearize\(\) had ended; return it"
    ):
        ops.exp(kept[0])
    with pytest.raises(ValueError, match="inner"):  # also when f fails
        linearize(lambda x: kept.append(x) or (_ for _ in ()).throw(ValueError("inner")), dev(X))
    with pytest.raises(RuntimeError, match="multiply"):
        kept[1] * 2.0


def test_threads_do_not_share_tapes():
    meet = Barrier(2)

    def work(c):
        def f(x):
            meet.wait(10)  # both are recording now
            y = ops.exp(x * c)
            meet.wait(10)
            return y * grad(lambda z: z * z * x[0])(dev(c))

        _, J = linearize(f, dev(X))
        return host(J.dense())

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, [0.5, -2.0]))
    for c, matrix in zip([0.5, -2.0], found, strict=True):
        e = np.exp(c * X)
        expected = np.diag(2 * c * c * X[0] * e)
        expected[:, 0] += 2 * c * e
        close(matrix, expected)


# --- parameters as views of one vector ------------------------------------------------------------------


def cut(theta, *spans):
    """Views of theta: (start, shape) each."""
    return [view(theta, start=start, shape=shape, name=f"p{i}") for i, (start, shape) in enumerate(spans)]


def _lop_by_columns(J, u):
    """J' u, one entry of theta after the other, from R-ops."""
    return [dev(e * host((J.rop(dev(e)) * u).sum())) for e in np.eye(7)]


def _recurrent(theta):
    (W,) = cut(theta, (0, (2, 2)))
    h = dev([[0.3, -0.5]])
    for _ in range(3):
        h = ops.tanh(h @ W) @ W.T + ops.sum(W, axis=1)
    return h


def _layers(theta):
    W1, W2 = cut(theta, (0, (3, 2)), (6, (3, 2)))
    h = ops.tanh(ops.affine(dev([[0.3, -0.5], [1.0, 0.2]]), W1, "one"))
    return ops.affine(h, W2, "two")


def _tied(theta):
    (W,) = cut(theta, (2, (3, 2)))
    h = dev([[0.3, -0.5], [1.0, 0.2]])
    return ops.affine(ops.tanh(ops.affine(ops.affine(h, W), W)), W) * W[0]


def _late_affine(theta):
    """The first cotangent to reach W is elementwise, the next from products that can write in place."""
    (W,) = cut(theta, (0, (3, 2)))
    h = dev([[0.3, -0.5], [1.0, 0.2]])
    a = ops.affine(h, W) @ (dev(np.ones((2, 3))) @ W)
    return a * ops.sum(W)


def _products(theta):
    V, W = cut(theta, (0, (2, 3)), (6, (2, 3)))
    x = dev([[0.3, -0.5], [1.0, 0.2], [0.1, 0.4], [-2.0, 1.0]])
    return (x @ V)[:2] @ W.T + ops.sum(x.reshape(2, 2, 2) @ W)


def _same_twice(theta):
    a, b = cut(theta, (1, (2, 2)), (1, (2, 2)))
    return a * b + a


def _overlapping(theta):
    a, b = cut(theta, (0, (4,)), (3, (2, 2)))
    return ops.sum(a * a) * b + a[0]


def _touching(theta):
    a, b, c = cut(theta, (0, (4,)), (4, (3,)), (7, (5,)))
    return ops.concatenate([a * 2.0, b * b, ops.exp(c)])


def _directly(theta):
    (a,) = cut(theta, (2, (3,)))
    return theta[:3] * a + ops.sum(theta * theta)


def _view_of_view(theta):
    (a,) = cut(theta, (2, (6,)))
    (b,) = cut(a, (1, (2, 2)))
    return b @ b + ops.sum(a)


def _out_of_order(theta):
    b, a = cut(theta, (6, (2,)), (0, (3,)))
    return ops.exp(a[:2]) * b


VIEWS = [
    _recurrent,
    _layers,
    _tied,
    _late_affine,
    _products,
    _same_twice,
    _overlapping,
    _touching,
    _directly,
    _view_of_view,
    _out_of_order,
    lambda theta: cut(theta, (2, (2, 3)))[0],
    lambda theta: cut(theta, (0, (12,)))[0],
    lambda theta: cut(theta, (0, (0,)), (0, (3,)))[1] * 2.0,
    lambda theta: ops.sum(cut(theta, (4, ()))[0] * theta),
    lambda theta: cut(theta, (0, (2,)), (5, (2,)))[0] * 3.0,
]


@pytest.mark.parametrize("f", VIEWS)
def test_gradients_through_views(f, device):
    theta = dev(np.linspace(-1.0, 1.2, 12))
    check.derivatives(f, theta)
    y, J = linearize(f, theta)
    u = check.direction(J.y_shape)
    kept = host(u).copy()
    first = J.lop(u)
    saved = host(first).copy()
    close(J.lop(2.0 * u), 2.0 * saved)
    close(first, saved)  # another sweep has its own memory
    close(u, kept)  # and leaves the cotangent alone
    close(theta, np.linspace(-1.0, 1.2, 12))
    assert first.shape == (12,) and y.shape == J.y_shape


@host_only
def test_cotangents_are_written_in_their_place(monkeypatch):
    """Matrix products of layers land in slices of one vector: no copy, no zeros first."""
    _layers_and_product = lambda theta: _layers(theta) + dev([[0.3, -0.5]]) @ cut(theta, (12, (2, 2)))[0]
    _, J = linearize(_layers_and_product, dev(np.linspace(-1.0, 1.2, 16)))
    written = []
    for node in J.nodes:
        for _, linear in node.inputs:
            if linear.into is not None:
                into = linear.into
                linear.into = lambda u, out, into=into: written.append(out) or into(u, out)
    monkeypatch.setattr(xp, "zeros", lambda *shape: pytest.fail("nothing needs to be zero first"))
    g = J.lop(np.ones((2, 2)))
    assert [np.shares_memory(out, g) for out in written] == [True] * 3
    assert sorted(out.shape for out in written) == [(2, 2), (3, 2), (3, 2)]


# --- the sweep ------------------------------------------------------------------------------------------


def test_sweep_yields_every_op_with_its_cotangent(device):
    theta, x = dev(np.linspace(-1.0, 1.2, 12)), dev([[0.3, -0.5], [1.0, 0.2]])
    parameters = []

    def net(theta, e1=0.0, e2=0.0, e3=0.0):
        W1, W2 = cut(theta, (0, (3, 2)), (6, (3, 2)))
        a1 = ops.affine(x, W1, "one") + e1
        h = ops.tanh(a1) + e2
        return ops.affine(h, W2, "two") + e3

    f = lambda theta: ops.affine(ops.tanh(ops.affine(x, cut(theta, (0, (3, 2)))[0], "one")), cut(theta, (6, (3, 2)))[0])
    _, J = linearize(f, theta)
    for node in J.nodes:
        if node.op.name == "affine":
            (linear,) = [linear for i, linear in node.inputs if linear.factor is not None]
            lop = linear.lop
            linear.lop = lambda u, lop=lop: parameters.append(u) or lop(u)
            linear.into = lambda u, out: parameters.append(u)
    u = dev([[1.0, -2.0], [0.5, 3.0]])
    swept = list(J.sweep(u))
    assert [node.op.name for node, _ in swept] == ["affine", "tanh", "affine"]
    assert parameters == []  # their products were not computed
    loss = lambda e, name: ops.sum(net(theta, **{name: e}) * u)
    for (_, found), name in zip(swept, ["e3", "e2", "e1"], strict=True):
        close(found, grad(lambda e, name=name: loss(e, name))(dev(np.zeros((2, 2)))))
    g = grad(lambda t: ops.sum(net(t) * u))(theta)
    for (node, delta), block in zip((swept[2], swept[0]), (g[:6], g[6:]), strict=True):
        ((h, _),) = [linear.factor for _, linear in node.inputs if linear.factor is not None]
        homogeneous = np.column_stack([host(h), np.ones(2)])
        close(homogeneous.T @ host(delta), host(block).reshape(3, 2))


def test_sweep_adds_up_what_branches_and_stops_at_the_input():
    reached = []
    f = lambda x: (lambda h: ops.exp(h) * h)(x * 2.0)
    _, J = linearize(f, dev(X))
    ((_, linear),) = J.nodes[0].inputs
    linear.lop = lambda u: reached.append(u)
    swept = {node.op.name: (node, host(u)) for node, u in J.sweep(dev(X))}
    assert next(J.sweep(dev(X)))[0].op.name == "multiply"
    node, found = swept["multiply"]  # the last of that name: x * 2, the first on the tape
    assert node is J.nodes[0] and reached == []
    close(found, X * np.exp(2 * X) * (1 + 2 * X))


def test_sweep_when_the_output_is_a_parameter():
    _, J = linearize(lambda t: cut(t, (1, (2,)))[0], dev(X))
    assert list(J.sweep(dev([1.0, 2.0]))) == []


# --- reading the tape -----------------------------------------------------------------------------------

TAPE = """\
J: R^12 -> R^4, the linear maps of
x(12,)
p0 = x[0:6]  (3, 2)
p1 = x[6:12]  (3, 2)
t3 = affine(const(2, 2), p0)  (2, 2)
t4 = tanh(t3)  (2, 2)
t5 = affine(t4, p1)  (2, 2)
y = t5"""


def test_print_shows_the_tape():
    _, J = linearize(_layers, dev(np.ones(12)))
    assert str(J) == TAPE
    assert J.tape() == TAPE.split("\n", 1)[1]
    assert repr(J) == "J  (4 x 12)"
    assert repr(J.T @ J) == "J.T @ J  (12 x 12, psd)"


def test_print_of_plain_and_constant_functions():
    _, J = linearize(lambda x: 2.0 * x[1:] - dev([1.0, 1.0]), dev(X))
    assert J.tape().split("\n") == [
        "x(3,)",
        "t1 = getitem(x)  (2,)",
        "t2 = multiply(const(), t1)  (2,)",
        "t3 = subtract(t2, const(2,))  (2,)",
        "y = t3",
    ]
    assert linearize(lambda x: 1.0, dev(X))[1].tape() == "x(3,)\ny = constant"
    assert linearize(lambda x: x, dev(X))[1].tape() == "x(3,)\ny = x"
    assert repr(ops.exp) == "<primitive exp>"
    seen = []
    linearize(lambda x: seen.append(repr(x * 2.0)) or x, dev(X))
    assert seen[0].startswith("Var(t1 (3,), level ")


# --- mistakes, and what is said about them --------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0, 2.0], "x must be a float array of the active backend, got list"),
        (3, "x must be a float array of the active backend, got int"),
        (None, "x must be a float array of the active backend, got NoneType"),
        (np.arange(3), "x must hold floating-point numbers, got dtype int64"),
        (np.array([True]), "x must hold floating-point numbers, got dtype bool"),
        (np.array([1.0, None]), "x must hold floating-point numbers, got dtype object"),
    ],
    ids=str,
)
@host_only
def test_inputs_that_are_refused(x, message):
    with pytest.raises(TypeError, match=message):
        linearize(lambda x: x, x)


def test_host_input_on_a_device():
    with fake_device(), pytest.raises(TypeError, match="of the active backend, got ndarray"):
        linearize(lambda x: x, np.ones(3))


@pytest.mark.parametrize("x", [2.0, np.float64(2.0), np.float32(2.0), np.array(2.0)])
@host_only
def test_numbers_are_arrays_without_axes(x):
    close(grad(lambda x: x * x)(x), 4.0)


@pytest.mark.parametrize("result", [(1.0, 2.0), [1.0], None, 3, "y"])
def test_outputs_that_are_refused(result):
    with pytest.raises(TypeError, match=f"must return one array, got {type(result).__name__}; concatenate"):
        linearize(lambda x: result, dev(X))


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (
            lambda x: ops.affine(dev(np.ones((2, 5, 7))) * x[0], dev(np.ones((4, 1))), "enc0"),
            ValueError,
            r"affine 'enc0' of shapes \(2, 5, 7\), \(4, 1\): h .* does not match W .*: expected h \(2, 5, 3\)",
        ),
        (
            lambda x: ops.affine(x, x),
            ValueError,
            r"affine of shapes \(3,\), \(3,\): .* expected h \(\.\.\., in\) with W",
        ),
        (lambda x: ops.affine(x[0], dev(np.ones((1, 2)))), ValueError, r"affine of shapes \(\), \(1, 2\): h \(\)"),
        (lambda x: x + dev([1.0, 2.0]), ValueError, r"add of shapes \(3,\), \(2,\): .*broadcast"),
        (lambda x: x @ dev(np.ones((2, 2))), ValueError, r"matmul of shapes \(1, 3\), \(2, 2\): "),
        (lambda x: x @ 2.0, ValueError, r"matmul: needs vectors or matrices, got shapes \(3,\) and \(\); use \*"),
        (lambda x: ops.matmul(2.0, x), ValueError, r"got shapes \(\) and \(3,\); use \*"),
        (lambda x: x[5], IndexError, r"getitem of shapes \(3,\): "),
        (lambda x: ops.reshape(x, (2, 2)), ValueError, r"reshape of shapes \(3,\): "),
        (lambda x: cut(x, (2, (2,)))[0], ValueError, r"view 'p0' of shapes \(3,\): "),
        (lambda x: ops.split(x, 2), ValueError, r"split: axis 0 of shape \(3,\) does not divide into 2 parts"),
        (lambda x: ops.split(x, 0), ValueError, r"does not divide into 0 parts"),
        (lambda x: ops.pad(x, [(1, -1)]), ValueError, r"pad: needs a pair .* of \(3,\), got \[\(1, -1\)\]"),
        (lambda x: ops.pad(x, [(1, 1), (0, 0)]), ValueError, "pad: needs a pair"),
        (lambda x: ops.pad(x, [(1,)]), ValueError, "pad: needs a pair"),
        (lambda x: ops.sum(x, axis=1), ValueError, "axis 1 is out of range for 1 dimensions"),
        (lambda x: ops.sum(x, axis=-2), ValueError, "axis -2 is out of range for 1 dimensions"),
        (lambda x: ops.transpose(x, (1,)), ValueError, "axis 1 is out of range for 1 dimensions"),
        (lambda x: ops.softmax(x, (0,)), TypeError, "'tuple' object cannot be interpreted as an integer"),
        (lambda x: ops.log_softmax(x, None), TypeError, "'NoneType' object cannot be interpreted as an integer"),
        (lambda x: ops.mean(x[:0]), ValueError, r"mean: nothing to average over axes \(0,\) of shape \(0,\)"),
        (lambda x: ops.max(x[:0]), ValueError, r"max of shapes \(0,\): zero-size"),
        (
            lambda x: ops.take_along_axis(x, dev([[0]]), 0),
            ValueError,
            r"index \(1, 1\) must have as many axes as x \(3,\)",
        ),
        (
            lambda x: ops.concatenate([x, ops.reshape(x, (1, 3))]),
            ValueError,
            r"concatenate of shapes \(3,\), \(1, 3\): ",
        ),
    ],
)
def test_mistakes_inside_a_function(f, error, message):
    with pytest.raises(error, match=message):
        linearize(f, dev(X))


@host_only
def test_errors_whose_class_cannot_be_called_with_a_message():
    with pytest.raises(TypeError, match=r"multiply of shapes \(3,\), \(3,\): .*did not contain a loop"):
        linearize(lambda x: x * np.array(["a", "b", "c"]), X)


def test_a_missing_rule_names_itself(monkeypatch):
    def half_done(x, y):
        return x * y

    op = primitive(half_done)
    monkeypatch.delitem(PRIMITIVES, "half_done")
    op.linear(0)(lambda z, x, y: ops.spread(y, x, z))
    close(grad(lambda x: ops.sum(op(x, dev(X))))(dev(X)), X)
    with pytest.raises(
        NotImplementedError, match=r"half_done: no derivative rule for argument 1; add one with @half_done.linear\(1\)"
    ):
        linearize(lambda x: op(dev(X), x), dev(X))
    assert op.__name__ == "half_done"


def test_rules_for_all_arguments_yield_to_those_for_one(monkeypatch):
    op = primitive(lambda x, y, z: x + y + z)
    monkeypatch.delitem(PRIMITIVES, op.name)
    op.linear()(lambda i, value, x, y, z: ops.diagonal(10.0 * i))
    op.linear(2)(lambda value, x, y, z: ops.diagonal(-1.0))
    close(jacobian(lambda x: op(x[0], x[1], x[2]))(dev(X)), [0.0, 10.0, -1.0])


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: ops.log(ops.affine(x[None], dev(np.zeros((4, 2))), "enc0") * 1.0), r"out of log of shapes \(1, 2\)"),
        (
            lambda x: ops.affine(x[None], dev(np.full((4, 2), np.inf)), "enc0"),
            r"non-finite value out of affine 'enc0' of shapes \(1, 3\), \(4, 2\)",
        ),
        (lambda x: x * np.nan, r"out of multiply of shapes \(3,\), \(\)"),
    ],
)
def test_check_finite_names_the_first_culprit(f, message, device):
    with np.errstate(all="ignore"):
        _, J = linearize(f, dev(X))  # by default nobody looks
        with pytest.raises(FloatingPointError, match=message):
            linearize(f, dev(X), check_finite=True)
    _, J = linearize(lambda x: x * 2.0, dev(X), check_finite=True)
    close(J @ dev(X), 2 * X)


# --- NumPy's syntax -------------------------------------------------------------------------------------

A = np.array([[1.0, -2.0, 0.5], [0.3, 1.0, 2.0], [4.0, 0.1, -1.0]])
SYNTAX = [
    lambda x, A: x + A,
    lambda x, A: A + x,
    lambda x, A: x - A,
    lambda x, A: A - x,
    lambda x, A: x * A,
    lambda x, A: A * x,
    lambda x, A: x / A,
    lambda x, A: A / x,
    lambda x, A: x @ A,
    lambda x, A: A @ x,
    lambda x, A: A[0] @ x,
    lambda x, A: x**2,
    lambda x, A: abs(A) ** x,
    lambda x, A: 2.0**x,
    lambda x, A: -x,
    lambda x, A: abs(x),
    lambda x, A: 2.0 - x,
    lambda x, A: 2.0 / x,
    lambda x, A: x[1:, ::-1],
    lambda x, A: x.T @ A,
    lambda x, A: x.transpose() @ A,
    lambda x, A: x.reshape(9, 1)[None].transpose(1, 0, 2),
    lambda x, A: x.reshape(9, 1)[None].transpose((2, 0, 1)),
    lambda x, A: x.reshape((1, 9)),
    lambda x, A: x.reshape(-1),
    lambda x, A: x.ravel() * 2.0,
    lambda x, A: x.sum(),
    lambda x, A: x.sum(axis=1, keepdims=True),
    lambda x, A: x.mean(0),
    lambda x, A: x.max(axis=1),
    lambda x, A: x.min(1, keepdims=True),
    lambda x, A: x.real + len(x) + x.ndim + x.size + x.shape[1],
    lambda x, A: x * (x > 0) + x * (x <= -1) + x * (A < x) + x * (x >= A) + x * (x == x) + x * (x != x),
    lambda x, A: sum(row @ row for row in x),
    lambda x, A: np.sum(np.multiply(x, A), axis=0),
]
NUMPY_FUNCTIONS = [
    lambda x, A: np.exp(x) + np.expm1(x) + np.tanh(x),
    lambda x, A: np.log(x * x) + np.log1p(x * x) + np.sqrt(x * x),
    lambda x, A: np.add(x, A) - np.subtract(A, x) * np.multiply(x, x) / np.divide(x, A),
    lambda x, A: np.true_divide(x, A) + np.negative(x) + np.positive(x) + np.square(x) + np.power(x, 2),
    lambda x, A: np.abs(x) + np.maximum(x, A) + np.minimum(x, A) + np.matmul(x, A) + np.dot(x, A),
    lambda x, A: np.mean(x, axis=0) + np.max(x, 0) + np.amax(x, 0) + np.min(x, 0) + np.amin(x, 0) + np.sum(x, 0),
    lambda x, A: np.concatenate([x, A, x], axis=1),
    lambda x, A: np.stack([x, A], axis=-1),
    lambda x, A: np.split(x, 3, axis=1)[2],
    lambda x, A: np.reshape(x, (1, 9)) @ np.reshape(np.transpose(x), (9, 1)),
    lambda x, A: np.broadcast_to(x, (2, 3, 3)) + np.transpose(x, (1, 0)),
    lambda x, A: np.where(A > 0, x, 0.0) + np.clip(x, -1.0, 1.5),
    lambda x, A: np.take_along_axis(x, np.array([[0], [2], [1]]), axis=1),
    lambda x, A: np.pad(x, ((1, 0), (0, 2))),
    lambda x, A: x * (np.isfinite(x) & ~np.isnan(x) & ~np.isinf(x)) + np.sign(x) * x,
    lambda x, A: np.greater(x, A) * x + np.less_equal(A, x) * A * x,
    lambda x, A: np.float64(2.0) * x + x / np.float64(3.0) - np.float64(1.0),
]


@pytest.mark.parametrize("f", SYNTAX)
def test_numpy_syntax_on_traced_values(f, device):
    """The same expression on a traced value and on plain arrays."""
    x, a = dev(A.T + 0.37), dev(A)
    y, J = linearize(lambda x: f(x, a), x)
    close(y, f(host(x), A))
    v = check.direction(x.shape)
    close(J.rop(v), check.central_difference(lambda x: f(x, a), x, v), rtol=1e-8)


@host_only
@pytest.mark.parametrize("f", NUMPY_FUNCTIONS)
def test_numpy_functions_on_traced_values(f):
    test_numpy_syntax_on_traced_values(f, None)


def test_kernels_of_the_device_on_traced_values():
    """cupy.exp(var), cupy_array * var, cupy.greater(cupy_array, var)."""
    with fake_device():
        f = lambda x: xp.exp(x) * xp.add(dev(X), x) * xp.greater(dev([9.0, -9.0, 9.0]), x)
        y, J = linearize(f, dev(X))
        close(y, np.exp(X) * 2 * X * [1, 0, 1])
        close(J.dense(), np.diag(np.exp(X) * (2 * X + 1) * [1, 0, 1]))
        for wrong in (lambda x: xp.sin(x), lambda x: xp.exp(x, dtype=np.float32), lambda x: xp.less(x, x, dtype=bool)):
            with pytest.raises(TypeError, match=r"cupy\.(sin|exp|less) does not know traced values"):
                linearize(wrong, dev(X))


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (np.sin, "np.sin"),
        (np.cumsum, "np.cumsum"),
        (np.linalg.norm, "np.norm"),
        (np.zeros_like, "np.zeros_like"),
        (lambda x: np.exp(x, out=np.empty(3)), "np.exp"),
        (lambda x: np.isfinite(x, out=np.empty(3, bool)), "np.isfinite"),
        (lambda x: np.add.reduce(x), "np.add.reduce"),
        (lambda x: np.add.outer(x, x), "np.add.outer"),
    ],
)
@host_only
def test_functions_that_do_not_trace_say_what_to_call(f, name):
    with pytest.raises(TypeError, match=rf"^{name} does not know traced values; use the operations of .*softmax|sum.*"):
        linearize(f, X)


def _assign(x):
    x[0] = 1.0


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (float, r"float\(\) of a traced value would lose its derivative; use minigrad.autodiff.untraced"),
        (int, r"int\(\) of a traced value would lose its derivative; use minigrad.autodiff.untraced"),
        (bool, r"the truth of a traced value would lose its derivative; compare it .* or use ops.where"),
        (np.asarray, "the NumPy array of a traced value would lose its derivative"),
        (_assign, "assignment into an element of a traced value .* build the array with where, concatenate or pad"),
    ],
)
def test_conversions_are_refused(f, message):
    with pytest.raises(TypeError, match=message):
        linearize(lambda x: f(x[:1]), dev(X))


def test_traced_values_are_not_changed_in_place():
    def f(x):
        y = x
        y += 1.0
        y *= x
        return y

    close(linearize(f, dev(X))[1].dense(), np.diag(2 * X + 1))
    with pytest.raises(TypeError):
        linearize(lambda x: np.ones(3).__iadd__(x), dev(X))


def test_untraced_reaches_the_array_through_every_level():
    seen = []
    grad(lambda x: grad(lambda y: seen.append(untraced(x * y)) or ops.sum(y * x * x))(x)[0])(dev(X))
    assert backend.is_array(seen[0])
    close(seen[0], X * X)
    assert untraced(3.0) == 3.0


def test_traced_values_can_be_told_apart_and_kept_in_sets():
    def f(x):
        assert len({x, x, x * 1.0}) == 2 and isinstance(x, Var)
        return x

    linearize(f, dev(X))


@pytest.fixture
def joined(monkeypatch):
    """(op, calls): 2 x + 3 y by one map of both, which tells of each pass."""
    calls = []
    op = primitive(lambda x, y: 2.0 * x + 3.0 * y)
    monkeypatch.delitem(PRIMITIVES, op.name)

    @op.linear("jointly")
    def _(z, x, y):
        def rop(v, w):
            calls.append("rop")
            return 2.0 * v + 3.0 * w

        def lop(u):
            calls.append("lop")
            return 2.0 * u, 3.0 * u

        return Joint(rop, lop)

    return op, calls


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda op, x: op(x, dev(X)), 2.0),
        (lambda op, x: op(dev(X), x), 3.0),
        (lambda op, x: op(x, x), 5.0),
        (lambda op, x: op(x, op(x, dev(X))), 8.0),
        (lambda op, x: op(op(x, x), 1.0 * x), 13.0),
    ],
)
def test_one_map_of_all_arguments(joined, f, slope):
    """A pass asks it once for all traced arguments; of those that are constants the tangents are zero."""
    op, calls = joined
    y, J = linearize(lambda x: f(op, x), dev(X))
    ops_run = sum(node.op is op for node in J.nodes)
    close(J.rop(dev(X)), slope * X)
    close(J.lop(dev(X)), slope * X)
    assert calls == ["rop"] * ops_run + ["lop"] * ops_run
    close(J.dense(), slope * np.eye(3))
    close(J.T.dense(), slope * np.eye(3))


def test_an_argument_of_a_joint_map_is_no_layers(joined):
    _, J = linearize(lambda x: joined[0](x, 1.0 * x), dev(X))
    assert [(i, linear.factor) for i, linear in J.nodes[-1].inputs] == [(0, None), (1, None)]


def test_named_parameters_of_a_joint_map_get_their_gradient_in_place(joined):
    theta = dev(np.arange(6.0))

    def f(theta):
        first, second = (view(theta, start=i, shape=(3,), name=str(i)) for i in (0, 3))
        return joined[0](joined[0](first, second), second)

    _, J = linearize(f, theta)
    close(J.lop(dev(X)), np.concatenate([4.0 * X, 9.0 * X]))
    assert [node.op.name for node, _ in J.sweep(dev(X))] == ["<lambda>"] * 2


def test_what_a_value_keeps_reaches_its_rule_once(monkeypatch):
    """Plain values come without it; where an outer tape records too, the rule gets None for what is not its own."""
    seen = []
    op = keeping(lambda x: (x * x, 2.0 * x))
    monkeypatch.delitem(PRIMITIVES, op.name)

    @op.linear(0)
    def _(y, x, *, kept):
        seen.append(kept)
        return ops.diagonal(2.0 * x if kept is None else kept)

    close(op(dev(X)), X * X)
    assert not seen
    close(grad(lambda x: ops.sum(op(x)))(dev(X)), 2.0 * X)
    close(seen.pop(), 2.0 * X)
    close(jacobian(grad(lambda x: ops.sum(op(x))))(dev(X)), 2.0 * np.eye(3))
    assert [kept is None for kept in seen] == [False, True]

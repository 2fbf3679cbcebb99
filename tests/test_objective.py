"""Objective: value, gradient and Jacobian of the mean loss; a batch is the sum of its slices."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import Objective, backend, objective
from minigrad.autodiff import check, grad, jacobian, linearize, ops, value_and_grad
from minigrad.curvature import fisher
from minigrad.linalg import cg, identity
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import BatchNorm, Layout, autoencoder, mlp
from tests.fake_device import fake_device
from tests.helpers import Recording, close, dev, host, host_only
from tests.nets.reference import complex_jacobian, distribution, forward, sample_losses, targets_for

N = 8
CASES = {
    "Gaussian": (mlp([4, 5, 3]), Gaussian(0.7)),
    "Gaussian relu": (mlp([4, 5, 3], activation="relu"), Gaussian()),
    "Gaussian after sigmoid": (autoencoder([4, 3, 2], output="sigmoid"), Gaussian()),
    "Bernoulli": (autoencoder([4, 3, 2], code="linear"), Bernoulli()),
    "Categorical": (mlp([4, 3, 3], activation="sigmoid"), Categorical()),
}
each_case = pytest.mark.parametrize(("net", "loss"), CASES.values(), ids=CASES)
each_decay = pytest.mark.parametrize("decay", [0.0, 0.3])


def problem(net, loss, n=N, seed=0):
    """theta, x, t on the host."""
    rng = np.random.default_rng(seed)
    theta, x = 0.7 * rng.standard_normal(net.layout.size), rng.standard_normal((n, net.sizes[0]))
    return theta, x, targets_for(loss, forward(net, theta, x), rng)


def on_device(theta, x, t):
    return dev(theta), (dev(x), dev(t))


def reference(net, loss, decay, x, t):
    """theta -> the objective, in plain NumPy."""
    return lambda theta: sample_losses(loss, forward(net, theta, x), t).mean() + decay / 2 * (theta @ theta)


@pytest.fixture
def three_threads(monkeypatch):
    """Every batch is worth three slices."""
    monkeypatch.setattr(objective, "WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: 3)


# --- value and gradient -----------------------------------------------------------------------------------


@each_case
@each_decay
def test_value_and_gradient(net, loss, decay):
    theta, x, t = problem(net, loss)
    f = reference(net, loss, decay, x, t)
    value, g = Objective(net, loss, weight_decay=decay).value_and_grad(*on_device(theta, x, t))
    assert isinstance(value, float)
    close(value, f(theta))
    close(g, complex_jacobian(f, theta))
    alone = Objective(net, loss, weight_decay=decay).value(*on_device(theta, x, t))
    assert isinstance(alone, float)
    close(alone, f(theta))


@each_case
@each_decay
def test_the_traced_objective_has_the_same_derivatives(net, loss, decay):
    theta, x, t = problem(net, loss)
    J, (z, batch) = Objective(net, loss, weight_decay=decay), on_device(theta, x, t)
    value, g = J.value_and_grad(z, batch)
    traced_value, traced_g = value_and_grad(lambda theta: J.value(theta, batch))(z)
    close(traced_value, value)
    close(traced_g, g)
    close(grad(lambda theta: J.value_and_grad(theta, batch)[0])(z), g)
    check.rop(lambda theta: J.value(theta, batch), z)  # complex steps: value takes complex theta too
    check.rop(lambda theta: J.value_and_grad(theta, batch)[1], z)
    np.testing.assert_allclose(host(J.value(z + 0j, batch)), value)


@each_case
@each_decay
def test_hessian(net, loss, decay):
    """By nesting grad; by tracing value_and_grad; by central differences of complex steps in plain NumPy."""
    theta, x, t = problem(net, loss)
    J, (z, batch) = Objective(net, loss, weight_decay=decay), on_device(theta, x, t)
    _, H = linearize(grad(lambda theta: J.value(theta, batch)), z)
    f, h = reference(net, loss, decay, x, t), 1e-5
    gradient = lambda theta: complex_jacobian(f, theta)
    expected = [(gradient(theta + h * e) - gradient(theta - h * e)) / (2 * h) for e in np.eye(theta.size)]
    dense = host(H.dense())
    close(dense, dense.T)
    close(dense, np.array(expected), rtol=1e-8)
    close(jacobian(lambda theta: J.value_and_grad(theta, batch)[1])(z), dense)


def test_descent_lowers_the_objective():
    net, loss = CASES["Categorical"]
    J, (theta, batch) = Objective(net, loss, weight_decay=0.01), on_device(*problem(net, loss))
    value, g = J.value_and_grad(theta, batch)
    assert J.value(theta - 0.1 * g, batch) < value < J.value(theta + 0.1 * g, batch)


@each_case
def test_predict(net, loss):
    theta, x, _ = problem(net, loss)
    close(Objective(net, loss).predict(dev(theta), dev(x)), distribution(loss, forward(net, theta, x)))


@pytest.mark.parametrize("decay", [0.0, 0.1, np.float64(0.1)])
def test_float32_stays_float32(decay):
    net, loss = CASES["Bernoulli"]
    J = Objective(net, loss, weight_decay=decay)
    theta, x, t = (dev(array, "float32") for array in problem(net, loss))
    value, g = J.value_and_grad(theta, (x, t))
    r, A = J.linearize(theta, x)
    arrays = (g, r, A @ theta, A.T @ r.reshape(-1), J.predict(theta, x))
    assert {array.dtype.name for array in arrays} == {"float32"}
    close(g, J.value_and_grad(*on_device(*problem(net, loss)))[1], rtol=1e-5)


class Line:
    """A net of one's own: r = x w for numbers x (N,)."""

    layout = Layout({"w": (1, 2)})

    def apply(self, theta, x):
        return x.reshape(-1, 1) * self.layout.views(theta)["w"]


def test_any_net_with_layout_and_apply():
    theta, x, t = np.array([0.5, -2.0]), np.array([1.0, 2.0, -3.0]), np.ones((3, 2))
    e = x[:, None] * theta - t
    value, g = Objective(Line(), Gaussian()).value_and_grad(*on_device(theta, x, t))
    close(value, (e**2).sum() / 6)
    close(g, x @ e / 3)
    close(fisher(Objective(Line(), Gaussian()), dev(theta), dev(x)).dense(), np.eye(2) * (x @ x) / 3)


# --- the linearized net -----------------------------------------------------------------------------------


@each_case
def test_linearize(net, loss):
    theta, x, _ = problem(net, loss)
    r, J = Objective(net, loss).linearize(dev(theta), dev(x))
    expected = complex_jacobian(lambda theta: forward(net, theta, x), theta)
    close(r, forward(net, theta, x))
    close(J.dense(), expected.reshape(-1, theta.size))
    close(J.T.dense(), expected.reshape(-1, theta.size).T)


@pytest.mark.parametrize("kind", ["exact", "mc", "empirical"])
def test_any_number_of_cg_iterations_costs_one_forward_pass(kind):
    net, loss = CASES["Categorical"]
    theta, (x, t) = on_device(*problem(net, loss))
    recording = Recording(net)
    data = (x, t) if kind == "empirical" else x
    G = fisher(Objective(recording, loss), theta, data, kind, rng=np.random.default_rng(0)) + 0.1 * identity(theta.size)
    _, info = cg(G, theta, rtol=0.0, maxiter=12)
    assert info.iterations == 12
    assert G.products == 12
    assert recording.passes == [N]


def test_a_gradient_costs_one_forward_pass():
    net, loss = CASES["Gaussian"]
    recording = Recording(net)
    Objective(recording, loss).value_and_grad(*on_device(*problem(net, loss)))
    assert recording.passes == [N]


@each_case
@each_decay
def test_value_gradient_and_jacobian_of_one_forward_pass(net, loss, decay):
    theta, batch = on_device(*problem(net, loss))
    recording, J = Recording(net), Objective(net, loss, decay)
    value, g, r, A = Objective(recording, loss, decay).value_grad_and_linearize(theta, batch)
    assert recording.passes == [N] and isinstance(value, float)
    expected, expected_g = J.value_and_grad(theta, batch)
    expected_r, expected_A = J.linearize(theta, batch[0])
    for found, wanted in ((value, expected), (g, expected_g), (r, expected_r), (A.dense(), expected_A.dense())):
        close(found, wanted)


def test_value_gradient_and_jacobian_keep_float32():
    net, loss = CASES["Bernoulli"]
    theta, x, t = problem(net, loss)
    value, g, r, A = Objective(net, loss, 0.1).value_grad_and_linearize(dev(theta, "float32"), (dev(x), dev(t)))
    assert {g.dtype.name, r.dtype.name, (A @ dev(theta, "float32")).dtype.name} == {"float32"}
    wide = Objective(net, loss, 0.1).value_and_grad(*on_device(theta, x, t))
    close(value, wide[0], rtol=1e-6)
    close(g, wide[1], rtol=1e-5)


# --- nets that couple samples, nets with statistics -------------------------------------------------------


class Centred:
    """A net that subtracts its batch's mean output, or, once settled, the mean that it had there."""

    couples_samples = True

    def __init__(self, net, mean=None):
        self.net, self.layout, self.mean = net, net.layout, mean

    def apply(self, theta, x):
        r = self.net.apply(theta, x)
        return r - (ops.mean(r, axis=0) if self.mean is None else self.mean)

    def settled(self, theta, x):
        return Centred(self.net, ops.mean(self.net.apply(theta, x), axis=0))


def test_a_batch_is_one_slice_where_samples_are_coupled(monkeypatch):
    monkeypatch.setattr(objective, "WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: 3)
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss)
    recording = Recording(Centred(net))
    J = Objective(recording, loss, rows=2)
    assert len(J.slices(dev(theta), N, 2)) > 1
    recording.couples_samples = True
    assert J.slices(dev(theta), N) == J.slices(dev(theta), N, 2) == [slice(None)]
    z, batch = on_device(theta, x, t)
    value, g = J.value_and_grad(z, batch)
    _, A = J.linearize(z, batch[0])
    J.predict(z, batch[0])
    assert recording.passes == [N] * 3 and J.value(z, batch) == value
    centred = lambda theta: (lambda r: r - r.mean(axis=0))(forward(net, theta, x))
    f = lambda theta: sample_losses(loss, centred(theta), t).mean()
    close(value, f(theta))
    close(g, complex_jacobian(f, theta))
    close(A.dense(), complex_jacobian(centred, theta).reshape(-1, theta.size))


def test_settled_is_the_net_as_it_is_used():
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss)
    z, (x_, t_) = on_device(theta, x, t)
    J = Objective(Centred(net), loss, 0.3, rows=5)
    there = J.settled(z, x_)
    assert (there.loss, there.weight_decay, there.rows) == (loss, 0.3, 5)
    mean = forward(net, theta, x).mean(axis=0)
    close(there.predict(z, x_[:3]), forward(net, theta, x[:3]) - mean)
    plain = Objective(net, loss)
    assert plain.settled(z, x_).net is net


# --- slices -----------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, None])
def test_rows_bounds_the_slices_and_changes_nothing(net, loss, rows):
    theta, batch = on_device(*problem(net, loss))
    recording = Recording(net)
    whole, sliced = Objective(net, loss, 0.3), Objective(recording, loss, 0.3, rows=rows)
    value, g = sliced.value_and_grad(theta, batch)
    expected, expected_g = whole.value_and_grad(theta, batch)
    close(value, expected)
    close(g, expected_g)
    close(sliced.value(theta, batch), expected)
    close(sliced.predict(theta, batch[0]), whole.predict(theta, batch[0]))
    count = -(-N // (rows or N))
    assert len(recording.passes) == 3 * count
    assert sum(recording.passes) == 3 * N
    assert max(recording.passes) - min(recording.passes) <= 1 and min(recording.passes) >= 1


@host_only
@each_case
@pytest.mark.parametrize("n", [2, 8])
def test_slices_on_threads_change_nothing(net, loss, n, three_threads, monkeypatch):
    theta, x, t = problem(net, loss, n)
    recording = Recording(net)
    sliced = Objective(recording, loss, 0.3)
    value, g = sliced.value_and_grad(theta, (x, t))
    assert sorted(recording.passes) == ([1, 1] if n == 2 else [2, 3, 3])
    r, J = sliced.linearize(theta, x)
    together = sliced.value_grad_and_linearize(theta, (x, t))
    alone, y = sliced.value(theta, (x, t)), sliced.predict(theta, x)
    exact, empirical = fisher(sliced, theta, x), fisher(sliced, theta, (x, t), kind="empirical")
    mc = fisher(sliced, theta, x, kind="mc", rng=np.random.default_rng(0), samples=2)
    assert len(exact.terms) == len(J.parts) == min(n, 3)

    monkeypatch.setattr(objective, "WORTH_A_SLICE", 1 << 60)
    whole = Objective(net, loss, 0.3)
    expected, expected_g = whole.value_and_grad(theta, (x, t))
    r1, J1 = whole.linearize(theta, x)
    assert not hasattr(J1, "parts")
    for a, b in ((value, expected), (alone, expected), (g, expected_g), (r, r1), (y, whole.predict(theta, x))):
        close(a, b)
    for a, b in zip(together[:3], (expected, expected_g, r1), strict=True):
        close(a, b)
    assert len(together[3].parts) == min(n, 3)
    close(together[3].dense(), J1.dense())
    close(J.dense(), J1.dense())
    close(J.T.dense(), J1.T.dense())
    close(exact.dense(), fisher(whole, theta, x).dense())
    close(empirical.dense(), fisher(whole, theta, (x, t), kind="empirical").dense())
    close(mc.dense(), fisher(whole, theta, x, kind="mc", rng=np.random.default_rng(0), samples=2).dense())


@host_only
def test_the_sliced_jacobian_is_a_jacobian(three_threads, monkeypatch, rng):
    net, loss = CASES["Gaussian"]
    theta, x, _ = problem(net, loss)
    _, J = Objective(net, loss).linearize(theta, x)
    monkeypatch.setattr(objective, "WORTH_A_SLICE", 1 << 60)
    _, J1 = Objective(net, loss).linearize(theta, x)
    assert [part.y_shape[0] for part in J.parts] == [2, 3, 3]
    assert J.slices == [slice(0, 2), slice(2, 5), slice(5, 8)]
    for attribute in ("shape", "dtype", "x_shape", "y_shape", "symmetric", "psd"):
        assert getattr(J, attribute) == getattr(J1, attribute)
    v, u = rng.standard_normal(theta.size), rng.standard_normal((N, 3))
    close(J.rop(v), J1.rop(v))
    close(J.lop(u), J1.lop(u))
    close(J.matvec(v), J1.rop(v).reshape(-1))
    close(J.rmatvec(u.reshape(-1)), J1.lop(u))
    close(_moments(J.sweep(u)), _moments(J1.sweep(u)))
    for shape in ((N * 3,), (7, 3), (N, 4)):
        with pytest.raises(ValueError, match=r"L-op: the cotangent must have shape \(8, 3\), got"):
            J.lop(np.zeros(shape))
    with pytest.raises(ValueError, match="vector of shape"):
        J.rop(v[:-1])


def _moments(sweep):
    """sum_n h u' of each affine layer, from what a sweep yields: the gradient, less the biases."""
    sums = {}
    for node, u in sweep:
        if node.op.name == "affine":
            h, _ = next(linear.factor for _, linear in node.inputs if linear.factor is not None)
            sums[node.name] = sums.get(node.name, 0.0) + h.T @ u
    return np.concatenate([sums[name].ravel() for name in sorted(sums)])


@host_only
def test_moments_of_a_sweep_are_the_gradient(three_threads):
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss)
    r, J = Objective(net, loss).linearize(theta, x)
    g = Objective(net, loss).value_and_grad(theta, (x, t))[1]
    weights = [layer[:-1].ravel() for layer in net.layout.views(g).values()]
    close(_moments(J.sweep(loss.gradient(r, t))), np.concatenate(weights))


@host_only
@each_case
def test_same_bits_when_repeated(net, loss, three_threads):
    theta, x, t = problem(net, loss, n=50)

    def bits():
        J = Objective(net, loss, 0.1, rows=7)
        r, A = J.linearize(theta, x)
        arrays = J.value_and_grad(theta, (x, t))[1], r, A @ theta, fisher(J, theta, x) @ theta
        return J.value(theta, (x, t)), *(array.tobytes() for array in arrays)

    assert all(bits() == first for first in [bits()] for _ in range(5))


@host_only
def test_no_slice_is_empty(three_threads):
    net, loss = CASES["Categorical"]
    for n in range(1, 12):
        theta, x, t = problem(net, loss, n)
        for rows in (1, 2, 3, None):
            recording = Recording(net)
            close(Objective(recording, loss, rows=rows).value(theta, (x, t)), Objective(net, loss).value(theta, (x, t)))
            assert sum(recording.passes) == n
            assert 1 <= min(recording.passes) and max(recording.passes) <= (rows or n)


@host_only
@pytest.mark.parametrize(
    ("n", "rows", "count"),
    [(8, None, 3), (9, 3, 3), (10, 3, 6), (8, 2, 6), (20, 2, 12), (8, 1, 8), (2, 1, 2), (20, 30, 3)],
)
def test_rows_and_threads_together(n, rows, count, three_threads):
    """As many slices as threads, or the least multiple of it that keeps them short enough."""
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss, n)
    recording = Recording(net)
    Objective(recording, loss, rows=rows).value(theta, (x, t))
    assert len(recording.passes) == count


SECOND_OF_TWO = SimpleNamespace(size=2, total=None, share=lambda n: slice(n // 2, n))


@host_only
@pytest.mark.parametrize(("n", "rows", "count"), [(4, None, 2), (12, None, 3), (12, 1, 6), (20, 2, 6), (2, None, 1)])
@pytest.mark.parametrize("normalization", [None, BatchNorm()], ids=["plain", "coupling"])
def test_slices_are_those_of_a_rank_s_own_rows(n, rows, count, normalization, three_threads):
    """As many as its rows are worth, wherever these begin; those that meet are on threads, never more."""
    net = mlp([4, 3, 3], normalization=normalization)
    the = Objective(net, Gaussian(), rows=rows, ranks=SECOND_OF_TWO)
    _, slices, _ = the.cut(np.zeros(net.layout.size), n, rows)
    assert np.concatenate([np.arange(n)[part] for part in slices]).tolist() == list(range(n // 2, n))
    assert len(slices) == (count if normalization is None else min(count, 3))


def test_default_rows():
    assert Objective(*CASES["Gaussian"]).rows == 1024


@host_only
def test_small_batches_are_not_sliced(monkeypatch):
    monkeypatch.setattr(backend, "_cores", lambda: 3)
    net = mlp([4, 5, 3])  # 43 parameters
    assert net.layout.size == 43
    for worth, slices in ((43 * 8 + 1, 1), (43 * 4 + 1, 1), (43 * 4, 2), (43 * 2, 3), (43, 3)):
        monkeypatch.setattr(objective, "WORTH_A_SLICE", worth)
        recording = Recording(net)
        Objective(recording, Gaussian()).linearize(np.zeros(43), np.ones((8, 4)))
        assert len(recording.passes) == slices


@host_only
def test_an_error_in_a_slice_arrives(three_threads):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    for worse, error, message in (
        ((x, np.where(np.arange(N) == N - 1, 3, t)), ValueError, r"labels must lie in 0..2 for 3 outputs, got \d..3"),
        ((x[:, 1:], t), ValueError, "affine 'layer0'"),
        ((np.where(np.arange(N)[:, None] == N - 1, np.nan, x), t), FloatingPointError, "first in sample 7"),
    ):
        with pytest.raises(error, match=message):
            Objective(net, loss).value(theta, worse)
        for method in (Objective(net, loss).value_and_grad, Objective(net, loss).value_grad_and_linearize):
            with pytest.raises(error, match=message):
                method(theta, worse)


# --- bad input --------------------------------------------------------------------------------------------

ERRORS = {  # what becomes of theta w, x and t
    "empty batch": (lambda w, x, t: (w, x[:0], t[:0]), ValueError, r"empty batch: x has shape \(0, 4\)"),
    "theta too short": (lambda w, x, t: (w[1:], x, t), ValueError, r"theta must have shape \(43,\), got \(42,\)"),
    "integer theta": (lambda w, x, t: (w.astype(int), x, t), TypeError, "theta must hold floating-point numbers"),
    "integer x": (lambda w, x, t: (w, x.astype(int), t), TypeError, "x must hold floating-point numbers, got int"),
    "x too narrow": (lambda w, x, t: (w, x[:, 1:], t), ValueError, r"'layer0' of shapes \(8, 3\), \(5, 5\)"),
    "x no array": (lambda w, x, t: (w, [[0.0] * 4] * 8, t), TypeError, "array of the active backend, got list"),
    "x a number": (lambda w, x, t: (w, x[0, 0].reshape(()), t), ValueError, r"empty batch: x has shape \(\)"),
    "one target missing": (lambda w, x, t: (w, x, t[1:]), ValueError, "got 8 inputs and 7 targets"),
    "targets too narrow": (lambda w, x, t: (w, x, t[:, 1:]), ValueError, r"outputs' shape \(8, 3\), got \(8, 2\)"),
    "integer targets": (lambda w, x, t: (w, x, t.astype(int)), TypeError, "targets must be floating-point"),
    "NaN target": (lambda w, x, t: (w, x, spoiled(t, -1)), ValueError, "targets must be finite"),
    "NaN in theta": (lambda w, x, t: (spoiled(w, 25), x, t), FloatingPointError, "1 of 43 numbers, first in 'layer1'"),
    "inf in theta": (
        lambda w, x, t: (spoiled(spoiled(w, 24, np.inf), -1), x, t),
        FloatingPointError,
        "theta is not finite: 2 of 43 numbers, first in 'layer0'",
    ),
    "NaN in x": (lambda w, x, t: (w, spoiled(x, 21), t), FloatingPointError, "x is not finite, first in sample 5"),
    "inf in x": (lambda w, x, t: (w, spoiled(x, 3, np.inf), t), FloatingPointError, "first in sample 0"),
    "overflow": (
        lambda w, x, t: (abs(w) * 1e200, abs(x), t),
        FloatingPointError,
        r"non-finite value out of affine 'layer1' of shapes \(8, 5\), \(6, 3\)",
    ),
    "large loss": (
        lambda w, x, t: (w * 1e90, x, t),
        FloatingPointError,
        "the objective is inf; parameters, inputs and outputs are finite",
    ),
}
WITHOUT_TARGETS = list(ERRORS)[:7]


def spoiled(array, i, number=np.nan):
    array = array.copy()
    array.ravel()[i] = number
    return array


def bad(change):
    net = mlp([4, 5, 3], activation="relu")
    arrays = change(*problem(net, Gaussian()))
    theta, x, t = (dev(array) if isinstance(array, (np.ndarray, np.generic)) else array for array in arrays)
    return Objective(net, Gaussian()), theta, x, t


@pytest.mark.parametrize(("change", "error", "message"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("method", ["value", "value_and_grad", "value_grad_and_linearize"])
def test_bad_batches(method, change, error, message):
    J, theta, x, t = bad(change)
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        getattr(J, method)(theta, (x, t))


@pytest.mark.parametrize("name", WITHOUT_TARGETS)
@pytest.mark.parametrize("method", ["linearize", "predict", "fisher"])
def test_bad_inputs(method, name):
    change, error, message = ERRORS[name]
    J, theta, x, _ = bad(change)
    function = (lambda *args: fisher(J, *args)) if method == "fisher" else getattr(J, method)
    with pytest.raises(error, match=message):
        function(theta, x)


@pytest.mark.parametrize("batch", ["x alone", "list", "triple"])
def test_a_batch_is_a_pair(batch):
    net, loss = CASES["Gaussian"]
    theta, (x, t) = on_device(*problem(net, loss))
    batch = {"x alone": x, "list": [x, t], "triple": (x, t, t)}[batch]
    J = Objective(net, loss)
    for call in (J.value, J.value_and_grad, J.value_grad_and_linearize):
        with pytest.raises(TypeError, match=rf"a batch is a pair \(x, t\), got {type(batch).__name__}"):
            call(theta, batch)


def test_traced_objectives_check_too():
    net, loss = CASES["Categorical"]
    theta, (x, t) = on_device(*problem(net, loss))
    bad_batches = {"labels must lie in": (x, t + 3), "empty batch": (x[:0], t[:0]), "7 targets": (x, t[1:])}
    for message, batch in bad_batches.items():
        with pytest.raises(ValueError, match=message):
            grad(lambda theta, batch=batch: Objective(net, loss).value(theta, batch))(theta)


@pytest.mark.parametrize("decay", [-1e-9, -1.0, float("nan")])
def test_weight_decay_must_not_be_negative(decay):
    with pytest.raises(ValueError, match=f"weight_decay must not be negative, got {decay}"):
        Objective(*CASES["Gaussian"], weight_decay=decay)


@pytest.mark.parametrize("rows", [0, -1])
def test_rows_must_be_positive(rows):
    with pytest.raises(ValueError, match=f"rows must be at least 1, got {rows}"):
        Objective(*CASES["Gaussian"], rows=rows)


# --- another device ---------------------------------------------------------------------------------------


@each_case
def test_the_device_does_the_same(net, loss):
    theta, x, t = problem(net, loss)

    def everything():
        z, batch = on_device(theta, x, t)
        J = Objective(net, loss, 0.3, rows=3)
        r, A = J.linearize(z, batch[0])
        value, g = J.value_and_grad(z, batch)
        arrays = [g, r, A @ z, A.T @ r.reshape(-1), J.predict(z, batch[0]), fisher(J, z, batch[0]) @ z]
        arrays += [fisher(J, z, batch, kind="empirical") @ z]
        arrays += [fisher(J, z, batch[0], kind="mc", rng=np.random.default_rng(0), samples=2) @ z]
        with pytest.raises(FloatingPointError, match="first in sample 2"):
            J.value(z, (dev(spoiled(x, 8)), batch[1]))
        return [np.asarray(value), np.asarray(J.value(z, batch)), *(host(array) for array in arrays)]

    expected = everything()
    with fake_device():
        found = everything()
    for a, b in zip(found, expected):
        close(a, b)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_dtype_follows_theta(kind):
    """Data of another precision is converted, so nothing of a float32 net is computed in float64, nor the reverse."""
    rng = np.random.default_rng(0)
    net = mlp([3, 4, 2])
    theta = net.init(rng, kind)
    other = {"float32": "float64", "float64": "float32"}[kind]
    x, t = dev(rng.random((5, 3)), other), dev(rng.random((5, 2)), other)
    objective = Objective(net, Gaussian())
    r, J = objective.linearize(theta, x)
    assert r.dtype == J.rop(theta).dtype == objective.value_and_grad(theta, (x, t))[1].dtype == np.dtype(kind)
    assert objective.predict(theta, x).dtype == np.dtype(kind)

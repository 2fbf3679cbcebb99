"""Batch normalization against the thesis' formula in plain NumPy (complex steps included), and the net once settled."""

import numpy as np
import pytest

import minigrad
from minigrad import Objective, backend
from minigrad.autodiff import check, linearize
from minigrad.autodiff.normalization import batch_norm
from minigrad.curvature import fisher, gauss_newton, hessian, input_moments, kronecker_factors, per_sample_gradients
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import (
    BatchNorm,
    Convolution,
    Dense,
    MaxPool,
    MeanOnly,
    WhitenedNet,
    autoencoder,
    convnet,
    mlp,
    whitening,
)
from minigrad.optimizers import SGD
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import ACTIVATIONS, complex_jacobian

SIZES = [4, 5, 3, 2]
PARTS = {"batch": BatchNorm(0.1), "mean only": MeanOnly()}
each_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)


def numbers(rng, net, n=7):
    """theta with no entry at its start, x; on the host."""
    return 0.6 * rng.standard_normal(net.layout.size) + 0.2, rng.standard_normal((n, net.sizes[0]))


def standard(a, statistics, epsilon):
    """(a - mu) / sqrt(var + epsilon), or a - mu if epsilon is None."""
    mean, variance = statistics
    return a - mean if epsilon is None else (a - mean) / np.sqrt(variance + epsilon)


def of_batch(a):
    mean = a.mean(axis=0)
    return mean, ((a - mean) ** 2).mean(axis=0)


def forward(net, theta, x, statistics=None):
    """r, and the (mu, var) of each hidden layer, which are the batch's unless they are given."""
    epsilon, h, left, found = getattr(net.normalization, "epsilon", None), x, theta, []
    for layer, activation in enumerate(net.activations):
        n_in, n_out = net.sizes[layer : layer + 2]
        W, b, left = np.split(left, [n_in * n_out, (n_in + 1) * n_out])
        a = h @ W.reshape(n_in, n_out) + b
        if layer < len(net.activations) - 1:
            found.append(of_batch(a) if statistics is None else statistics[layer])
            a = standard(a, found[-1], epsilon)
            if epsilon is not None:
                a, left = a * left[:n_out], left[n_out:]
            a, left = a + left[:n_out], left[n_out:]
        h = ACTIVATIONS[activation](a)
    assert left.size == 0
    return h, found


@each_part
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_forward(part, activation, rng):
    net = mlp(SIZES, activation, normalization=part)
    theta, x = numbers(rng, net)
    close(net.apply(dev(theta), dev(x)), forward(net, theta, x)[0])


def test_a_hidden_unit_has_mean_beta_and_variance_gamma_squared(rng):
    """Exactly gamma^2 var / (var + epsilon): the linear activation of one hidden layer, seen through the identity."""
    net = mlp([4, 3, 3], "linear", normalization=BatchNorm(0.5))
    theta, x = numbers(rng, net, n=9)
    W = np.vstack([np.eye(3), np.zeros(3)])
    theta[-W.size :] = W.ravel()
    p = net.layout.views(theta)
    h = host(net.apply(dev(theta), dev(x)))
    variance = (x @ p["layer0"][:-1]).var(axis=0)
    close(h.mean(axis=0), p["layer0.shift"])
    close(h.var(axis=0), p["layer0.scale"] ** 2 * variance / (variance + 0.5))


def test_names_shapes_and_order():
    shapes = mlp([4, 5, 3], normalization=BatchNorm()).layout.shapes
    assert list(shapes.items()) == [
        ("layer0", (5, 5)), ("layer0.scale", (5,)), ("layer0.shift", (5,)), ("layer1", (6, 3))
    ]  # fmt: skip
    assert mlp([4, 5, 3], normalization=MeanOnly()).layout.names == ("layer0", "layer0.shift", "layer1")
    names = autoencoder([4, 3, 2], normalization=MeanOnly()).layout.names
    assert names == ("enc0", "enc0.shift", "enc1", "enc1.shift", "dec0", "dec0.shift", "dec1")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_start_is_the_plain_nets_with_gamma_1_and_beta_0(dtype):
    plain, net = mlp(SIZES), mlp(SIZES, normalization=BatchNorm())
    theta = net.init(np.random.default_rng(3), dtype)
    expected, found = plain.layout.views(plain.init(np.random.default_rng(3), dtype)), net.layout.views(theta)
    assert theta.dtype == dtype
    for name in net.layout.names:
        kind = name.partition(".")[2]
        close(found[name], expected[name] if not kind else np.full(found[name].shape, kind == "scale", dtype), rtol=0)


# --- derivatives ------------------------------------------------------------------------------------------


@each_part
def test_the_jacobian_goes_through_mean_and_variance(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = numbers(rng, net)
    _, J = linearize(lambda theta: net.apply(theta, dev(x)), dev(theta))
    close(J.dense(), complex_jacobian(lambda z: forward(net, z, x)[0].reshape(-1), theta))
    f = lambda theta: net.apply(theta, dev(x))
    check.rop(f, dev(theta))
    check.adjoint(f, dev(theta))
    check.taylor(f, dev(theta))
    check.derivatives(f, dev(theta))


@each_part
def test_gradient_and_hessian_of_the_objective(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = numbers(rng, net)
    t = rng.standard_normal((7, 2))
    value = lambda z: ((forward(net, z, x)[0] - t) ** 2).sum() / 2 / 7
    objective, batch = Objective(net, Gaussian()), (dev(x), dev(t))
    found, g = objective.value_and_grad(dev(theta), batch)
    close(found, value(theta))
    close(g, complex_jacobian(value, theta))
    h = 1e-5
    gradients = lambda z: host(objective.value_and_grad(dev(z), batch)[1])
    expected = np.array([(gradients(theta + h * e) - gradients(theta - h * e)) / (2 * h) for e in np.eye(theta.size)])
    close(hessian(objective, dev(theta), batch).dense(), expected, rtol=1e-7)


@each_part
def test_the_bias_before_it_has_no_effect_and_no_gradient(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = (dev(array) for array in numbers(rng, net))
    objective = Objective(net, Bernoulli())
    batch = (x, dev(rng.random((7, 2))))
    value, g = objective.value_and_grad(theta, batch)
    views = net.layout.views(g)
    for name in ("layer0", "layer1"):
        close(views[name][-1], np.zeros(views[name].shape[1]), atol=1e-15)
        assert abs(host(views[name][:-1])).max() > 1e-3
    net.layout.views(theta)["layer0"][-1] += 3.0
    assert objective.value(theta, batch) == pytest.approx(value, rel=1e-13)


@each_part
def test_the_fisher_information_of_a_net_that_couples_samples(part, rng):
    """J' M J, with the J of the whole batch; for squared error M is I / N, and Gauss-Newton is the same."""
    net = mlp(SIZES, normalization=part)
    theta, x = numbers(rng, net)
    J = complex_jacobian(lambda z: forward(net, z, x)[0].reshape(-1), theta)
    objective = Objective(net, Gaussian())
    close(fisher(objective, dev(theta), dev(x)).dense(), J.T @ J / 7)
    close(gauss_newton(objective, dev(theta), (dev(x), dev(np.ones((7, 2))))).dense(), J.T @ J / 7)


# --- coupled samples --------------------------------------------------------------------------------------


@each_part
def test_a_batch_is_not_sliced(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = (dev(array) for array in numbers(rng, net))
    batch = (x, dev(np.zeros((7, 2))))
    whole, sliced = Objective(net, Gaussian(), rows=None), Objective(net, Gaussian(), rows=2)
    assert net.couples_samples and sliced.couples_samples
    assert whole.value(theta, batch) == sliced.value(theta, batch)
    close(sliced.value_and_grad(theta, batch)[1], whole.value_and_grad(theta, batch)[1], rtol=0)
    close(sliced.predict(theta, x), net.apply(theta, x), rtol=0)


@each_part
def test_a_batch_of_one_sample_is_refused(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = (dev(array) for array in numbers(rng, net, n=1))
    message = "batch normalization of 'layer0' needs at least two samples, got a batch of 1"
    with pytest.raises(ValueError, match=message):
        net.apply(theta, x)
    with pytest.raises(ValueError, match=message):
        Objective(net, Gaussian()).value_and_grad(theta, (x, dev(np.zeros((1, 2)))))


@each_part
def test_layerwise_curvature_refuses_coupled_samples(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = (dev(array) for array in numbers(rng, net))
    with pytest.raises(NotImplementedError, match="the net couples the samples of a batch"):
        kronecker_factors(Objective(net, Gaussian()), theta, x)
    with pytest.raises(NotImplementedError, match="the net couples the samples of a batch"):
        per_sample_gradients(Objective(net, Gaussian()), theta, (x, dev(np.zeros((7, 2))))).gram()
    with pytest.raises(NotImplementedError, match=r"'layer0.*' is used by"):
        kronecker_factors(Objective(net, Gaussian()).settled(theta, x), theta, x)


@each_part
def test_moments_of_layers_inputs_pass_over_other_parameters(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = numbers(rng, net)
    moments = input_moments(Objective(net, Gaussian()).linearize(dev(theta), dev(x))[1])
    assert [m.name for m in moments] == ["layer0", "layer1", "layer2"]
    assert [m.span for m in moments] == [(s.start, s.stop) for s in map(net.layout.slices.get, net.names)]
    p = net.layout.views(theta)
    a = x @ p["layer0"][:-1]
    h = np.tanh(standard(a, of_batch(a), getattr(part, "epsilon", None)) * p.get("layer0.scale", 1) + p["layer0.shift"])
    close(moments[1].mean, h.mean(axis=0))
    close(moments[1].second, h.T @ h / 7)


def test_epsilon_is_checked_and_a_dead_unit_stays_finite(rng):
    for epsilon in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="BatchNorm: epsilon must be a positive finite number, got"):
            BatchNorm(epsilon)
    net = mlp(SIZES, "relu", normalization=BatchNorm())
    theta, x = numbers(rng, net)
    net.layout.views(theta)["layer0"][:, 1] = 0.0  # a unit that says the same to every sample: variance 0
    r = net.apply(dev(theta), dev(x))
    close(r, forward(net, theta, x)[0])


# --- slices that meet -------------------------------------------------------------------------------------

NETS = {
    "batch": mlp(SIZES, normalization=BatchNorm(0.1)),
    "mean only": mlp(SIZES, normalization=MeanOnly()),
    "images": convnet((4, 4, 1), [Convolution(3, 2), MaxPool(2), Dense(4), Dense(2)], normalization=BatchNorm(0.1)),
    "centred images": convnet((2, 2, 1), [Convolution(3, 2), Dense(2)], "tanh", normalization=MeanOnly()),
    "whitened": "of the first",
}


@pytest.fixture(params=NETS)
def net_to_slice(request, rng):
    """(net, theta, x) of seven samples."""
    net = NETS["batch" if request.param == "whitened" else request.param]
    theta = 0.6 * rng.standard_normal(net.layout.size) + 0.2
    x = rng.standard_normal((7, *getattr(net, "image", SIZES[:1])))
    if request.param == "whitened":
        J = Objective(net, Gaussian()).linearize(dev(theta), dev(x))[1]
        net = WhitenedNet(net, tuple(whitening(m.name, m.span, m.covariance, m.mean, 0.1) for m in input_moments(J)))
    return net, dev(theta), dev(x)


@host_only
@pytest.mark.parametrize("count", [2, 3])
def test_slices_that_meet_change_nothing(net_to_slice, count, rng, monkeypatch):
    """Value, gradient, R-op, L-op and curvature, although each slice has a tape of its own."""
    net, theta, x = net_to_slice
    objective, t = Objective(net, Gaussian(), 0.3, rows=2), rng.standard_normal((7, 2))
    v, u = rng.standard_normal(theta.size), rng.standard_normal((7, 2))

    def results():
        r, J = objective.linearize(theta, x)
        _, g, _, again = objective.value_grad_and_linearize(theta, (x, t))
        G, F = gauss_newton(objective, theta, (x, t)), fisher(objective, theta, x)
        empirical = fisher(objective, theta, (x, t), kind="empirical")
        value_and_grad = objective.value_and_grad(theta, (x, t))
        products = [J.rop(v), J.lop(u), again.rop(v), again.lop(u), G @ v, F @ v, empirical @ v]
        plain = [objective.value(theta, (x, t)), objective.predict(theta, x), *value_and_grad, g, r]
        return J, [*plain, *products, hessian(objective, theta, (x, t)) @ v]

    J, whole = results()
    assert not hasattr(J, "parts")
    monkeypatch.setattr("minigrad.objective.WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: count)
    J, sliced = results()
    assert [part.y_shape[0] for part in J.parts] == {2: [3, 4], 3: [2, 2, 3]}[count]
    for found, expected in zip(sliced, whole, strict=True):
        close(found, expected, rtol=1e-11, atol=1e-13)
    for found, expected in zip(results()[1], sliced, strict=True):
        close(found, expected, rtol=0)  # the same bits, whichever slice comes first
    with pytest.raises(NotImplementedError, match="the net couples the samples of a batch"):
        kronecker_factors(objective, theta, x)


@host_only
@each_part
def test_slices_that_meet_in_float32(part, rng, monkeypatch):
    """Rounding of one slice or of three: a few units in the last of seven digits."""
    monkeypatch.setattr(backend, "_cores", lambda: 3)
    net = mlp(SIZES, normalization=part)
    theta, x = (array.astype("float32") for array in numbers(rng, net, n=50))
    objective, batch = Objective(net, Gaussian()), (x, np.zeros((50, 2), "float32"))
    value, g = objective.value_and_grad(theta, batch)
    monkeypatch.setattr("minigrad.objective.WORTH_A_SLICE", 1)
    sliced, sliced_g = objective.value_and_grad(theta, batch)
    J = objective.linearize(theta, x)[1]
    assert sliced_g.dtype == J.rop(theta).dtype == np.float32 and len(J.parts) == 3
    assert sliced == pytest.approx(value, rel=1e-6)
    close(sliced_g, g, rtol=1e-5, atol=1e-6 * abs(g).max())


@host_only
def test_slices_of_one_sample_each_are_a_batch(monkeypatch, rng):
    monkeypatch.setattr("minigrad.objective.WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: 3)
    net = mlp(SIZES, normalization=BatchNorm())
    theta, x = numbers(rng, net, n=2)
    r, J = Objective(net, Gaussian()).linearize(theta, x)
    assert len(J.parts) == 2
    close(r, forward(net, theta, x)[0])
    with pytest.raises(ValueError, match="needs at least two samples, got a batch of 1"):
        Objective(net, Gaussian()).linearize(theta, x[:1])


@host_only
def test_errors_in_slices_that_meet(monkeypatch, rng):
    """What is wrong with one slice is said as ever, and nobody waits for it."""
    monkeypatch.setattr("minigrad.objective.WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: 2)
    net = mlp(SIZES, normalization=BatchNorm())
    theta, x = numbers(rng, net)
    objective = Objective(net, Categorical())
    with pytest.raises(ValueError, match="label"):
        objective.value_and_grad(theta, (x, np.array([0, 1, 0, 1, 0, 1, 2])))
    x[5, 1] = np.nan
    with pytest.raises(FloatingPointError, match="x is not finite, first in sample 5"):
        objective.value_and_grad(theta, (x, np.zeros(7, int)))


@host_only
def test_a_coupling_net_that_cannot_meet_is_one_slice(monkeypatch, rng):
    """Whitened or not: `among` is the net's to offer."""
    monkeypatch.setattr("minigrad.objective.WORTH_A_SLICE", 1)
    monkeypatch.setattr(backend, "_cores", lambda: 2)

    class Own:
        net = mlp(SIZES, normalization=BatchNorm())
        layout, couples_samples = net.layout, True

        def __call__(self, p, x):
            return self.net(p, x)

        def apply(self, theta, x):
            return self(self.layout.views(theta), x)

    theta, x = numbers(rng, Own.net)
    for net, sliced in ((Own(), False), (WhitenedNet(Own(), ()), False), (WhitenedNet(Own.net, ()), True)):
        assert hasattr(Objective(net, Gaussian()).linearize(theta, x)[1], "parts") == sliced
        assert hasattr(net, "among") == sliced


# --- settled ----------------------------------------------------------------------------------------------


@each_part
def test_settled_has_the_statistics_of_its_samples(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = numbers(rng, net, n=20)
    settled = net.settled(dev(theta), dev(x))
    r, statistics = forward(net, theta, x)
    assert not settled.couples_samples and settled.layout.shapes == net.layout.shapes and net.couples_samples
    assert list(settled.normalization.population) == ["layer0", "layer1"]
    for found, expected in zip(settled.normalization.population.values(), statistics, strict=True):
        for mine, theirs in zip(found, expected):
            close(mine, theirs)
    close(settled.apply(dev(theta), dev(x)), r)
    other = rng.standard_normal((3, 4))
    for rows in (slice(0, 3), slice(1, 2)):
        close(settled.apply(dev(theta), dev(other[rows])), forward(net, theta, other[rows], statistics)[0])
    again = settled.settled(dev(theta), dev(other))
    close(again.apply(dev(theta), dev(other)), forward(net, theta, other)[0])


@each_part
def test_a_settled_nets_gradient_takes_the_statistics_for_constants(part, rng):
    net = mlp(SIZES, normalization=part)
    theta, x = numbers(rng, net, n=20)
    _, statistics = forward(net, theta, x)
    objective = Objective(net, Gaussian(), rows=2).settled(dev(theta), dev(x))
    value = lambda z: (forward(net, z, x[:5], statistics)[0] ** 2).sum() / 2 / 5
    close(objective.value_and_grad(dev(theta), (dev(x[:5]), dev(np.zeros((5, 2)))))[1], complex_jacobian(value, theta))


def test_a_net_without_normalization_is_settled():
    net = mlp(SIZES)
    assert not net.couples_samples and net.settled(None, None) is net


@each_part
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_theta(part, dtype, device):
    net = mlp(SIZES, normalization=part)
    objective, x = Objective(net, Gaussian()), dev(np.random.default_rng(1).standard_normal((6, 4)))
    theta = net.init(np.random.default_rng(0), dtype)
    batch = (x, dev(np.zeros((6, 2)), dtype))
    assert objective.value_and_grad(theta, batch)[1].dtype == dtype
    settled = objective.settled(theta, dev(x, dtype))
    assert settled.predict(theta, x).dtype == dtype
    close(settled.predict(theta, x), net.apply(theta, dev(x, dtype)), rtol=1e-5 if dtype == "float32" else 1e-13)


@each_part
def test_fit_trains_on_batches_and_evaluates_settled(part):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((40, 4)), rng.integers(0, 2, 40)
    objective = Objective(mlp(SIZES, normalization=part), Categorical())
    validation = (x[:1], t[:1])  # a batch of one: nothing but a settled net can be evaluated on it
    h = minigrad.fit(
        objective, SGD(0.5), (x, t), updates=30, batch_size=10, validation=validation, train_samples=40, progress=False
    )
    settled = objective.settled(h.theta, dev(x))
    assert h.curves["loss"][-1] == pytest.approx(settled.value(h.theta, (dev(x), dev(t))), rel=1e-12)
    one = (dev(x[:1]), dev(t[:1]))
    assert h.curves["validation_loss"][-1] == pytest.approx(settled.value(h.theta, one), rel=1e-12)
    assert h.curves["loss"][-1] < h.curves["loss"][0] - 0.05


def test_a_checkpoint_knows_the_normalization():
    assert "BatchNorm(epsilon=0.1)" in repr(mlp(SIZES, normalization=BatchNorm(0.1)))


@pytest.mark.parametrize(("scale", "shift"), [((2,), (3,)), ((3,), (1,)), ((1, 3), (1, 3)), ((), ())])
def test_scale_and_shift_of_other_shapes_are_refused(scale, shift):
    """They would be broadcast without a word."""
    with pytest.raises(ValueError, match=r"batch_norm of shapes \(4, 3\), .* do not match a \(4, 3\): expected \(3,\)"):
        batch_norm(dev(np.ones((4, 3))), dev(np.ones(scale)), dev(np.ones(shift)))

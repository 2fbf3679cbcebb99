"""Whitened layers: the function stays, the inputs are white, B B' is the inverse that the thesis writes in blocks."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import linearize
from minigrad.curvature import factors_of, input_moments, scores
from minigrad.curvature.layers import affine_layers
from minigrad.linalg.kronecker import homogeneous_inverse
from minigrad.losses import Bernoulli, Gaussian
from minigrad.nets import BatchNorm, Layout, WhitenedNet, autoencoder, from_whitened, mlp, to_whitened, whitening
from minigrad.nets.whitening import Whitening
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import complex_jacobian

NETS = {
    "deep tanh": mlp([5, 6, 4, 4, 3], "tanh"),
    "deep relu": mlp([5, 6, 4, 4, 3], "relu"),
    "sigmoid autoencoder": autoencoder([5, 4, 2], "sigmoid"),
    "one layer": mlp([5, 3]),
    "batch norm": mlp([5, 4, 3, 2], "tanh", normalization=BatchNorm()),
}
each_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
each_dtype = pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 2e-4)], ids=["f64", "f32"])
EPSILON = 0.05


def setting(net, dtype="float64", seed=0, n=50):
    """(objective, theta, x): inputs are correlated and not centred, biases not zero."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, net.sizes[0])) @ rng.standard_normal((net.sizes[0],) * 2) + 1.5
    return Objective(net, Bernoulli()), dev(0.5 * rng.standard_normal(net.layout.size), dtype), dev(x, dtype)


def measured(objective, theta, x, epsilon=EPSILON, signal=None):
    """The Whitenings of every layer, on x; signal: the epsilon of the deltas'."""
    r, J = objective.linearize(theta, x)
    S = {}
    if signal is not None:
        S = {f.name: f.S for f in factors_of(J, scores(objective.loss, r, kind="exact"))}
    return tuple(
        whitening(m.name, m.span, m.covariance, m.mean, epsilon, S.get(m.name), signal) for m in input_moments(J)
    )


def inputs(net, layers, omega, x):
    """{layer: what V sees in the whitened net, on the host}."""
    _, J = linearize(lambda omega: WhitenedNet(net, layers).apply(omega, x), omega)
    return {m.name: (host(m.mean), host(m.covariance)) for m in input_moments(J)}


# --- the function stays -----------------------------------------------------------------------------------


@each_net
@each_dtype
def test_projection_leaves_the_function_unchanged(net, dtype, rtol):
    """Eq. 6 at Omega = P(theta) is the plain net at theta, also on samples that nothing was measured on."""
    objective, theta, x = setting(net, dtype)
    layers = measured(objective, theta, x)
    omega = to_whitened(layers, theta.size) @ theta
    assert omega.dtype == theta.dtype == to_whitened(layers, theta.size).dtype
    _, _, other = setting(net, dtype, seed=1)
    for inputs in (x, other):
        close(WhitenedNet(net, layers).apply(omega, inputs), net.apply(theta, inputs), rtol=rtol)
    close(from_whitened(layers, theta.size) @ omega, theta, rtol=rtol)
    assert not np.allclose(host(omega), host(theta), rtol=0, atol=0.1)


@pytest.mark.parametrize("name", [name for name in NETS if name != "batch norm"])
@each_dtype
def test_with_the_signal_whitened_too(name, dtype, rtol):
    objective, theta, x = setting(NETS[name], dtype)
    layers = measured(objective, theta, x, signal=0.01)
    omega = to_whitened(layers, theta.size) @ theta
    close(WhitenedNet(NETS[name], layers).apply(omega, x), NETS[name].apply(theta, x), rtol=rtol)
    close(from_whitened(layers, theta.size) @ omega, theta, rtol=rtol)


@each_net
def test_b_and_its_inverse_are_the_chain_rule(net, rng):
    """dtheta/dOmega is B: the gradient in Omega is B' g, and B^-1 is the inverse, on both sides."""
    objective, theta, x = setting(net)
    layers = measured(objective, theta, x)
    B, inverse = (operator(layers, theta.size) for operator in (from_whitened, to_whitened))
    dense = host(B.dense())
    close(inverse.dense(), np.linalg.inv(dense), rtol=1e-10)
    t = dev(rng.random((50, net.sizes[-1])))
    _, g = objective.value_and_grad(theta, (x, t))
    _, in_omega = Objective(WhitenedNet(net, layers), Bernoulli()).value_and_grad(inverse @ theta, (x, t))
    close(in_omega, dense.T @ host(g), rtol=1e-10)
    close(B.T @ g, dense.T @ host(g))


def test_numbers_that_belong_to_no_affine_layer_stay():
    net = NETS["batch norm"]
    objective, theta, x = setting(net)
    layers = measured(objective, theta, x)
    B = from_whitened(layers, theta.size)
    omega = to_whitened(layers, theta.size) @ theta
    assert [layer.name for layer in layers] == ["layer0", "layer1", "layer2"]
    for name in ("layer0.scale", "layer0.shift", "layer1.scale", "layer1.shift"):
        where = net.layout.slices[name]
        close(omega[where], theta[where], rtol=0)
        close((B @ theta)[where], theta[where], rtol=0)
    close(from_whitened((), theta.size) @ theta, theta, rtol=0)


def test_a_second_derivative_goes_through_a_whitened_layer(rng):
    objective, theta, x = setting(NETS["deep tanh"])
    layers = measured(objective, theta, x, signal=0.1)
    net = WhitenedNet(objective.net, layers)
    omega = to_whitened(layers, theta.size) @ theta
    _, J = linearize(lambda omega: net.apply(omega, x[:2]), omega)
    close(J.dense(), complex_jacobian(lambda z: host(net.apply(z, x[:2])).reshape(-1), host(omega)))


def test_the_whitened_net_says_what_the_net_says():
    for net in NETS.values():
        whitened = WhitenedNet(net, ())
        assert whitened.layout is net.layout and whitened.couples_samples == net.couples_samples
    assert not WhitenedNet(object(), ()).couples_samples


# --- the inputs are white ---------------------------------------------------------------------------------


@each_net
@each_dtype
def test_whitened_inputs_have_mean_0_and_covariance_1_but_for_epsilon(net, dtype, rtol):
    """Eq. 7: diag(lam / (lam + epsilon)), lam the eigenvalues of the centred covariance."""
    objective, theta, x = setting(net, dtype)
    layers = measured(objective, theta, x)
    _, J = objective.linearize(theta, x)
    lam = {m.name: np.linalg.eigvalsh(host(m.covariance)) for m in input_moments(J)}
    found = inputs(net, layers, to_whitened(layers, theta.size) @ theta, x)
    for name, (mean, covariance) in found.items():
        close(mean, np.zeros_like(mean), atol=rtol)
        close(covariance, np.diag(lam[name] / (lam[name] + EPSILON)), rtol=rtol, atol=rtol)  # of entries up to 1


def test_without_epsilon_they_are_white_exactly():
    objective, theta, x = setting(NETS["deep tanh"])
    layers = measured(objective, theta, x, epsilon=0.0)
    for mean, covariance in inputs(objective.net, layers, to_whitened(layers, theta.size) @ theta, x).values():
        close(mean, np.zeros_like(mean), atol=1e-10)
        close(covariance, np.eye(len(mean)), rtol=1e-9)


def test_the_homogeneous_second_moment_is_the_identity():
    """George, section 3.5.2: E[(h_e 1)(h_e 1)'] = I; a net's Fisher block is then I kron S, at epsilon = 0."""
    net = mlp([4, 5, 3], "tanh")
    objective, theta, x = setting(net)
    layers = measured(objective, theta, x, epsilon=0.0)
    omega = to_whitened(layers, theta.size) @ theta
    _, J = linearize(lambda omega: WhitenedNet(net, layers).apply(omega, x), omega)
    for layer in affine_layers(J, dev(np.ones((50, 3)))):
        h1 = np.hstack([host(layer.h), np.ones((50, 1))])
        close(h1.T @ h1 / 50, np.eye(h1.shape[1]), rtol=1e-9)


def test_whitened_deltas_have_second_moment_1_but_for_epsilon():
    """Footnote 4: with R' R = (S + epsilon)^-1, the cotangents of (h~ V + d), R delta, have E[] = s / (s + epsilon)."""
    objective, theta, x = setting(NETS["deep tanh"])
    loss = objective.loss
    layers = measured(objective, theta, x, signal=0.01)
    omega = to_whitened(layers, theta.size) @ theta
    r, J = Objective(WhitenedNet(objective.net, layers), loss).linearize(omega, x)
    found = factors_of(J, scores(loss, r, kind="exact"))
    plain = factors_of(objective.linearize(theta, x)[1], scores(loss, r, kind="exact"))
    for mine, theirs in zip(found, plain, strict=True):
        s = np.linalg.eigvalsh(host(theirs.S))
        close(mine.S, np.diag(s / (s + 0.01)), rtol=1e-10)


def test_whitening_e_hh_with_a_centre_is_not_white():
    """Desjardins et al., section 3.1: U of Sigma = E[hh'] (their definition), applied to h - c, leaves a part out.

    U (Sigma - c c') U' = I - (U c)(U c)'; with U of the centred covariance it is I.
    """
    rng = np.random.default_rng(0)
    h = rng.standard_normal((2000, 3)) @ np.diag([1.0, 0.5, 2.0]) + np.array([1.0, -2.0, 0.5])
    c, covariance = h.mean(axis=0), np.cov(h.T, bias=True)
    as_printed = whitening("h", (0, 4), dev(h.T @ h / 2000), dev(c), 0.0)
    Uc = host(as_printed.U) @ c
    white = (h - c) @ host(as_printed.U).T
    close(white.T @ white / 2000, np.eye(3) - np.outer(Uc, Uc), rtol=1e-10)
    assert Uc @ Uc > 0.9
    ours = whitening("h", (0, 4), dev(covariance), dev(c), 0.0)
    white = (h - c) @ host(ours.U).T
    close(white.T @ white / 2000, np.eye(3), rtol=1e-10)


def test_epsilon_counts_once():
    """Line 9 decomposes Sigma + epsilon I, eq. 7 adds epsilon to the eigenvalues: both together would add 2 epsilon."""
    C = np.diag([0.0, 1.0, 3.0])
    U = host(whitening("h", (0, 4), dev(C), dev(np.zeros(3)), 0.5).U)
    close(1 / (U**2).sum(axis=1), np.array([0.5, 1.5, 3.5]))


# --- B B' -------------------------------------------------------------------------------------------------


@each_net
def test_b_b_transposed_is_the_thesis_block_inverse_with_a_damped_covariance(net):
    """B B' = (E[(h 1)(h 1)'] + epsilon diag(1, ..., 1, 0))^-1: epsilon is added everywhere but at the bias."""
    objective, theta, x = setting(net)
    layers = measured(objective, theta, x)
    _, J = objective.linearize(theta, x)
    for layer, m in zip(layers, input_moments(J), strict=True):
        n, outputs = m.mean.size, (m.span[1] - m.span[0]) // (m.mean.size + 1)
        A = np.block([[host(m.second), host(m.mean)[:, None]], [host(m.mean)[None], np.ones((1, 1))]])
        A[:n, :n] += EPSILON * np.eye(n)
        found = host((layer.forth @ layer.forth.T).dense())
        close(found, np.kron(np.linalg.inv(A), np.eye(outputs)), rtol=1e-10)
        damped = homogeneous_inverse(m.second + EPSILON * dev(np.eye(n)), m.mean)
        close(found, np.kron(host(damped), np.eye(outputs)), rtol=1e-10)


def test_with_the_signal_it_is_kfacs_inverse():
    objective, theta, x = setting(NETS["deep tanh"])
    r, J = objective.linearize(theta, x)
    factors = factors_of(J, scores(objective.loss, r, kind="exact"))
    for layer, f in zip(measured(objective, theta, x, signal=0.02), factors, strict=True):
        n, outputs = f.A.shape[0] - 1, f.S.shape[0]
        A, S = host(f.A) + EPSILON * np.diag([1.0] * n + [0.0]), host(f.S) + 0.02 * np.eye(outputs)
        close((layer.forth @ layer.forth.T).dense(), np.kron(np.linalg.inv(A), np.linalg.inv(S)), rtol=1e-10)


# --- bad input --------------------------------------------------------------------------------------------


def test_a_dead_unit_needs_epsilon(rng):
    h = rng.standard_normal((20, 3))
    h[:, 1] = 0.7
    C, mean = dev(np.cov(h.T, bias=True)), dev(h.mean(axis=0))
    with pytest.raises(ArithmeticError, match="the covariance of the input of 'enc1' is singular"):
        whitening("enc1", (0, 8), C, mean, 0.0)
    layer = whitening("enc1", (0, 8), C, mean, 1e-3)
    norms = np.sort((host(layer.U) ** 2).sum(axis=1))
    assert norms[-1] == pytest.approx(1e3)  # the dead direction's multiplier: 1 / epsilon, and no more


def test_singular_is_relative_to_the_largest_eigenvalue():
    """Small as a whole is not singular; what lies below the rounding of the largest eigenvalue is."""
    U = host(whitening("h", (0, 4), dev(np.diag([1e-20, 2e-20, 3e-20])), dev(np.zeros(3)), 0.0).U)
    close(np.sort((U**2).sum(axis=1)), 1 / np.array([3e-20, 2e-20, 1e-20]))
    with pytest.raises(ArithmeticError, match="is singular"):
        whitening("h", (0, 4), dev(np.diag([5e-16, 1.0, 1.0])), dev(np.zeros(3)), 0.0)
    whitening("h", (0, 4), dev(np.diag([1e-15, 1.0, 1.0])), dev(np.zeros(3)), 0.0)


def test_fewer_samples_than_units_need_epsilon(rng):
    h = rng.standard_normal((5, 9))
    C, mean = dev(np.cov(h.T, bias=True)), dev(h.mean(axis=0))
    with pytest.raises(ArithmeticError, match="fewer samples than units"):
        whitening("layer0", (0, 20), C, mean, 0.0)
    white = (h - h.mean(axis=0)) @ host(whitening("layer0", (0, 20), C, mean, 1e-6).U).T
    lam = np.sort(np.linalg.eigvalsh(np.cov(h.T, bias=True)))[-4:]
    close(np.sort(white.var(axis=0))[-4:], lam / (lam + 1e-6), rtol=1e-8)


def test_a_singular_signal_needs_an_epsilon_of_its_own():
    S = dev(np.diag([1.0, 0.0]))
    with pytest.raises(ArithmeticError, match="the second moment of the deltas of 'layer0' is singular"):
        whitening("layer0", (0, 6), dev(np.eye(2)), dev(np.zeros(2)), 0.0, S, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_moments_that_are_not_finite_are_named(bad):
    with pytest.raises(FloatingPointError, match="the covariance of the input of 'layer0' is not finite"):
        whitening("layer0", (0, 6), dev(np.diag([1.0, bad])), dev(np.zeros(2)), 0.1)


@host_only
def test_a_net_that_is_no_mlp_is_whitened_too(rng):
    """Whatever is built of `ops.affine`: here a net of two branches, and a parameter that is no matrix."""
    from minigrad.autodiff import ops

    class Branches:
        layout = Layout({"left": (4, 3), "gain": (3,), "right": (4, 3)})

        def apply(self, theta, x):
            return self(self.layout.views(theta), x)

        def __call__(self, p, x):
            return p["gain"] * ops.tanh(ops.affine(x, p["left"])) + ops.affine(x, p["right"])

    net, x = Branches(), rng.standard_normal((30, 3)) + 1.0
    theta = rng.standard_normal(net.layout.size)
    layers = measured(Objective(net, Gaussian()), theta, x)
    assert [layer.name for layer in layers] == ["left", "right"]
    omega = to_whitened(layers, theta.size) @ theta
    close(WhitenedNet(net, layers).apply(omega, x), net.apply(theta, x), rtol=1e-12)


def test_a_row_is_one_pixel_unless_it_is_said_to_be_more():
    U, c = np.diag([2.0, 0.5]), np.array([1.0, -1.0])
    B = np.vstack([np.column_stack([U.T, [0, 0]]), [*(-c @ U.T), 1]])
    close(Whitening("w", (0, 9), dev(U), dev(c)).forth.dense(), np.kron(B, np.eye(3)))

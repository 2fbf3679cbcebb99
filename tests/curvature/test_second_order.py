"""Rung 4: Hessian and Gauss-Newton matrix, cut at r and at y, against matrices assembled from complex steps."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import check, linearize
from minigrad.curvature import fisher, gauss_newton, gradient_covariance, hessian
from minigrad.curvature.gauss_newton import through_y
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import mlp
from tests.curvature.cases import CASES, N, cut_into_two_slices, each_case, made, on_device, problem, second_derivative
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import complex_jacobian, distribution, forward, sample_losses

each_cut = pytest.mark.parametrize("cut", ["r", "y"])


def losses_in_y(loss, y, t):
    """Each sample's loss as a function of the output distribution's parameters y."""
    if isinstance(loss, Gaussian):
        return sample_losses(loss, y, t)
    if isinstance(loss, Bernoulli):
        return -(t * np.log(y) + (1 - t) * np.log(1 - y)).sum(-1)
    return -np.log(y[np.arange(len(t)), t])


def outputs(net, loss, x, cut):
    """The function of theta that the composition is cut behind, and each sample's loss as one of its value."""
    if cut == "r":
        return lambda theta: forward(net, theta, x), lambda r, t: sample_losses(loss, r, t)
    return lambda theta: distribution(loss, forward(net, theta, x)), lambda y, t: losses_in_y(loss, y, t)


def brute_force(net, loss, theta, x, t, cut):
    """(G, remainder): the two terms of the chain rule."""
    z_of, losses = outputs(net, loss, x, cut)
    z, J = z_of(theta), complex_jacobian(z_of, theta)
    total = lambda flat: losses(flat.reshape(z.shape), t).mean()
    J = J.reshape(-1, theta.size)
    u = complex_jacobian(total, z.ravel())
    bent = second_derivative(lambda theta: u @ z_of(theta).ravel(), theta)
    return J.T @ second_derivative(total, z.ravel(), h=1e-3 * np.abs(z).min()) @ J, bent


# --- against brute force ----------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_hessian(net, loss, decay):
    theta, x, t = problem(net, loss)
    H = made(hessian, net, loss, theta, x, t, weight_decay=decay)
    expected = second_derivative(lambda theta: sample_losses(loss, forward(net, theta, x), t).mean(), theta)
    close(H.dense(), expected + decay * np.eye(theta.size), rtol=1e-10)
    assert H.symmetric and not H.psd
    assert H.T is H
    check.symmetric(H)


@each_case
@each_cut
def test_gauss_newton(net, loss, cut):
    theta, x, t = problem(net, loss)
    expected, _ = brute_force(net, loss, theta, x, t, cut)
    G = made(gauss_newton, net, loss, theta, x, t, at=cut)
    close(G.dense(), expected, rtol=1e-10)
    assert G.psd
    decayed = made(gauss_newton, net, loss, theta, x, t, at=cut, weight_decay=0.3)
    close(decayed.dense(), expected + 0.3 * np.eye(theta.size), rtol=1e-10)


@each_case
@each_cut
def test_the_hessian_splits(net, loss, cut):
    """H = G + sum_k dL/dz_k d2 z_k, with another G and another remainder at each cut."""
    theta, x, t = problem(net, loss)
    H, G = (host(made(build, net, loss, theta, x, t, **options).dense())
            for build, options in ((hessian, {}), (gauss_newton, {"at": cut})))  # fmt: skip
    _, remainder = brute_force(net, loss, theta, x, t, cut)
    np.testing.assert_allclose(H - G, remainder, rtol=0, atol=1e-10 * abs(H).max())
    assert abs(remainder).max() > 1e-2 * abs(H).max()


# --- where the remainder vanishes -------------------------------------------------------------------------

LOSSES = {"Gaussian": Gaussian(beta=0.4), "Bernoulli": Bernoulli(), "Categorical": Categorical()}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def remainder(net, loss, theta, x, t, cut):
    """|H - G| / |H|."""
    H, G = (host(made(build, net, loss, theta, x, t, **options).dense())
            for build, options in ((hessian, {}), (gauss_newton, {"at": cut})))  # fmt: skip
    return abs(H - G).max() / abs(H).max()


@each_loss
def test_at_r_the_remainder_vanishes_for_a_net_linear_in_theta(loss):
    net = mlp([4, 3])
    theta, x, t = problem(net, loss)
    assert remainder(net, loss, theta, x, t, "r") < 1e-15
    y_is_linear = isinstance(loss, Gaussian)
    assert (remainder(net, loss, theta, x, t, "y") < 1e-15) == y_is_linear


@each_loss
def test_zero_residuals(loss):
    """y = t makes dL/dr zero, and dL/dy too, but for Categorical, whose labels a softmax only approaches."""
    net = mlp([4, 3, 2])
    theta, x, t = problem(net, loss)
    if isinstance(loss, Categorical):
        theta[-2:] = [40.0, 0.0]  # biases of the two logits: class 0 is certain
        t[:] = 0
    else:
        t = distribution(loss, forward(net, theta, x))
    r = forward(net, theta, x)
    assert abs(complex_jacobian(lambda r: sample_losses(loss, r.reshape(N, 2), t).mean(), r.ravel())).max() < 1e-15
    if isinstance(loss, Categorical):
        slope = complex_jacobian(lambda y: losses_in_y(loss, y.reshape(N, 2), t).mean(), distribution(loss, r).ravel())
        close(slope.reshape(N, 2), [[-1 / N, 0]] * N, rtol=1e-14)
    else:
        assert remainder(net, loss, theta, x, t, "r") < 1e-14
        assert remainder(net, loss, theta, x, t, "y") < 1e-14


@each_case
def test_the_cut_at_r_does_not_see_the_targets(net, loss):
    """The thesis (3.2.5) has the Gauss-Newton matrix depend on them: it does when cut at y, unless y is r."""
    theta, x, t = problem(net, loss)
    other = (t + 1) % net.sizes[-1] if isinstance(loss, Categorical) else 1 - t
    for cut in "ry":
        a, b = (host(made(gauss_newton, net, loss, theta, x, target, at=cut).dense()) for target in (t, other))
        if cut == "r" or isinstance(loss, Gaussian):
            np.testing.assert_array_equal(a, b)
        else:
            assert abs(a - b).max() > 0.1 * abs(a).max()


@each_case
def test_cut_at_r_it_is_the_exact_fisher(net, loss):
    theta, x, t = problem(net, loss)
    close(made(gauss_newton, net, loss, theta, x, t).dense(), fisher(Objective(net, loss), dev(theta), dev(x)).dense())


def test_cut_at_y_cross_entropy_gives_the_empirical_fisher():
    """-log y_t bends in y_t alone, by 1 / y_t^2, which is the square of its slope. So it is for one binary output."""
    for net, loss in (CASES["Categorical"], CASES["Categorical, two layers"], (mlp([4, 3, 1]), Bernoulli())):
        theta, x, t = problem(net, loss)
        t = (t > 0.5).astype(float) if isinstance(loss, Bernoulli) else t
        G = made(gauss_newton, net, loss, theta, x, t, at="y")
        close(G.dense(), made(gradient_covariance, net, loss, theta, x, t).dense())


def test_averaged_over_the_models_targets_both_cuts_agree():
    """E_t over p(t | x) of the Hessian in y is the metric in y: the two matrices differ by chance alone."""
    net, loss = mlp([2, 3, 1]), Bernoulli()
    theta, x, _ = problem(net, loss, n=1)
    y = distribution(loss, forward(net, theta, x))[0, 0]
    zero, one = (host(made(gauss_newton, net, loss, theta, x, np.full((1, 1), t), at="y").dense()) for t in (0.0, 1.0))
    close((1 - y) * zero + y * one, made(gauss_newton, net, loss, theta, x, np.full((1, 1), 0.5)).dense())


# --- what they promise ------------------------------------------------------------------------------------

BUILDS = {
    "hessian": hessian,
    "at r": gauss_newton,
    "at y": lambda objective, theta, batch: gauss_newton(objective, theta, batch, at="y"),
}
each_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


@host_only
@each_case
@each_build
def test_slices_on_threads_change_nothing(net, loss, build, monkeypatch):
    theta, x, t = problem(net, loss, n=5)
    whole = made(build, net, loss, theta, x, t).dense()
    cut_into_two_slices(monkeypatch)
    G = made(build, net, loss, theta, x, t)
    assert len(G.terms) == 2 and G.symmetric
    close(G.dense(), whole)
    decayed = made(build, net, loss, theta, x, t, weight_decay=0.3)
    close(decayed.dense(), host(whole) + 0.3 * np.eye(theta.size))


@pytest.mark.parametrize("case", ["Gaussian beta", "Bernoulli", "Categorical"])
@each_build
def test_float32_stays_float32(case, build):
    net, loss = CASES[case]
    theta, x, t = problem(net, loss)
    narrow, wide = (made(build, net, loss, theta, x, t, dtype, weight_decay=0.1) for dtype in ("float32", "float64"))
    product = narrow @ dev(theta, "float32")
    assert narrow.dtype == product.dtype == "float32"
    close(product, wide @ dev(theta), rtol=1e-5)


@each_build
def test_no_pass_is_repeated(build):
    """However many products are taken, the net is not run again."""
    net, loss = CASES["Bernoulli"]
    theta, x, t = problem(net, loss)
    runs = []

    class Counting:
        layout = net.layout

        def apply(self, theta, x):
            runs.append(1)
            return net.apply(theta, x)

    G = build(Objective(Counting(), loss), *on_device(loss, theta, x, t))
    before = len(runs)
    assert before <= 2  # the Hessian looks at the value first
    for _ in range(5):
        G @ dev(theta)
    assert len(runs) == before


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_metric_of_y_pulled_through_the_activation(loss):
    """S' M S, with S = dy/dr written out."""
    r = np.random.default_rng(0).standard_normal((N, 3))
    S = complex_jacobian(lambda r: distribution(loss, r.reshape(N, 3)).ravel(), r.ravel())
    M = np.diag(np.random.default_rng(1).random(3 * N))
    found = through_y(loss, dev(r), lambda y: linearize(lambda z: z * dev(np.diag(M).reshape(N, 3)), y)[1])
    close(found.dense(), S.T @ M @ S)


def test_the_device_does_the_same(device):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    G, _ = brute_force(net, loss, theta, x, t, "y")
    v = np.linspace(-1, 1, theta.size)
    close(made(gauss_newton, net, loss, theta, x, t, at="y") @ dev(v), G @ v, rtol=1e-9)
    H = made(hessian, net, loss, theta, x, t, weight_decay=0.1)
    close(dev(v) @ (H @ dev(v)), host(H.T @ dev(v)) @ v)


# --- bad input --------------------------------------------------------------------------------------------


@each_build
def test_bad_batches(build):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    J = Objective(net, loss)
    for batch, error, message in [
        ((x, t + 4), ValueError, "labels must lie in 0..3"),
        ((x, t[1:]), ValueError, "got 3 inputs and 2 targets"),
        ((x[:0], t[:0]), ValueError, "empty batch"),
    ]:
        with pytest.raises(error, match=message):
            build(J, dev(theta), tuple(dev(a) for a in batch))
    with pytest.raises(TypeError, match=r"a batch is a pair \(x, t\), got"):
        build(J, dev(theta), dev(x))
    with pytest.raises(ValueError, match="theta must have shape"):
        build(J, dev(theta[1:]), (dev(x), dev(t)))


def test_an_unknown_cut():
    net, loss = CASES["Categorical"]
    with pytest.raises(ValueError, match=r"unknown cut 'a'\. Known: r, y"):
        made(gauss_newton, net, loss, *problem(net, loss), at="a")


def test_what_is_not_finite_is_named():
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    theta[0] = np.nan
    with pytest.raises(FloatingPointError, match="theta is not finite: 1 of 49 numbers, first in 'layer0'"):
        made(hessian, net, loss, theta, x, t)

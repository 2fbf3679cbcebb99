"""Rung 4: Kronecker factors of each layer's block, against brute force from each sample's J_a; where they are exact."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.curvature import (
    Moments,
    affine_layers,
    block_diagonal,
    factors_of,
    fisher,
    input_means,
    input_moments,
    kronecker_factors,
    scores,
)
from minigrad.linalg import Kronecker, Matrix, factored_damping
from minigrad.linalg.kronecker import shifted
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from tests.curvature.cases import CASES, N, cut_into_two_slices, each_case, on_device, problem
from tests.curvature.test_fisher import KINDS
from tests.curvature.test_samples import REFUSALS, Refused
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import ACTIVATIONS, all_targets, complex_jacobian, forward, sample_losses

each_kind = pytest.mark.parametrize("kind", KINDS)


def pre_activations(net, theta, x):
    """[(h, a, rest)]: each layer's input, its pre-activation, and the function a -> r that is the rest of the net."""
    layers, h, start = [], x, 0
    for k, (n_in, n_out) in enumerate(zip(net.sizes[:-1], net.sizes[1:], strict=True)):
        W = theta[start : start + (n_in + 1) * n_out].reshape(n_in + 1, n_out)
        start += W.size
        a = h @ W[:-1] + W[-1]
        layers.append((h, a, lambda a, k=k, start=start: tail(net, theta[start:], k, a)))
        h = ACTIVATIONS[net.activations[k]](a)
    return layers


def tail(net, theta, k, a):
    """r, from layer k's pre-activation."""
    h, start = ACTIVATIONS[net.activations[k]](a), 0
    for n_in, n_out, activation in zip(
        net.sizes[k + 1 : -1], net.sizes[k + 2 :], net.activations[k + 1 :], strict=True
    ):
        W = theta[start : start + (n_in + 1) * n_out].reshape(n_in + 1, n_out)
        start += W.size
        h = ACTIVATIONS[activation](h @ W[:-1] + W[-1])
    return h


def h_one(h):
    return np.hstack([h, np.ones((len(h), 1))])


def sample_jacobians(rest, a):
    """J_a of every sample, (N, O, out), by complex steps."""
    return np.array([complex_jacobian(lambda z: rest(z[None])[0], row) for row in a])


def target_scores(loss, r, targets):
    """d/dr log p(t | r) at K targets a sample, (K, N, O), by complex steps."""
    step = lambda k, n: complex_jacobian(lambda z: -sample_losses(loss, z[None], targets[k, n : n + 1])[0], r[n])
    return np.array([[step(k, n) for n in range(len(r))] for k in range(len(targets))])


def sample_metrics(kind, loss, r, t, rng=None, samples=1):
    """M of every sample, (N, O, O): E[u u'] over all targets, over drawn ones, or at the data's."""
    if kind == "exact":
        targets, p = all_targets(loss, r)
    elif kind == "mc":
        targets = np.stack([host(loss.sample(dev(r), rng)) for _ in range(samples)])
        p = np.full(targets.shape[:2], 1 / samples)
    else:
        targets, p = t[None], np.ones((1, len(r)))
    u = target_scores(loss, r, targets)
    return np.einsum("kn,kni,knj->nij", p, u, u)


def brute_force(kind, net, loss, theta, x, t, **options):
    """[(A, S, block)] from each sample's J_a: block is the true one, E[(h 1)(h 1)' kron J_a' M J_a]."""
    M = sample_metrics(kind, loss, forward(net, theta, x), t, **options)
    found = []
    for h, a, rest in pre_activations(net, theta, x):
        J_a, h1 = sample_jacobians(rest, a), h_one(h)
        D = np.einsum("noi,nop,npj->nij", J_a, M, J_a)
        block = sum(np.kron(np.outer(row, row), d) for row, d in zip(h1, D, strict=True)) / len(x)
        found.append((h1.T @ h1 / len(x), D.mean(axis=0), block))
    return found


def made(kind, net, loss, theta, x, t, dtype="float64", **options):
    theta, (x, t) = on_device(loss, theta, x, t, dtype)
    options = {"rng": np.random.default_rng(5)} | options if kind == "mc" else options
    return kronecker_factors(Objective(net, loss), theta, (x, t) if kind == "empirical" else x, kind, **options)


# --- against brute force ----------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize(("kind", "samples"), [("exact", 1), ("mc", 1), ("mc", 3), ("empirical", 1)])
def test_factors_are_means_over_samples(net, loss, kind, samples):
    theta, x, t = problem(net, loss, n=4)
    options = {"samples": samples} if kind == "mc" else {}
    layers = made(kind, net, loss, theta, x, t, **options)
    if kind == "mc":
        options["rng"] = np.random.default_rng(5)
    expected = brute_force(kind, net, loss, theta, x, t, **options)
    assert [layer.name for layer in layers] == list(net.layout.names)
    for layer, where, (A, S, _) in zip(layers, net.layout.slices.values(), expected, strict=True):
        assert slice(*layer.span) == where
        close(layer.A, A, rtol=1e-10)
        close(layer.S, S, rtol=1e-10)
        close(layer.block.dense(), np.kron(A, S), rtol=1e-10)
        assert layer.block.psd and layer.block.shape[0] == where.stop - where.start


@each_case
@each_kind
def test_the_device_does_the_same(net, loss, kind, device):
    theta, x, t = problem(net, loss)
    options = {"rng": np.random.default_rng(5)} if kind == "mc" else {}
    expected = brute_force(kind, net, loss, theta, x, t, **options)
    for layer, (A, S, _) in zip(made(kind, net, loss, theta, x, t), expected, strict=True):
        close(layer.A, A, rtol=1e-10)
        close(layer.S, S, rtol=1e-10)


@each_case
def test_mc_converges_to_exact(net, loss):
    """Within six deviations of a mean over 4000 draws, for the entries of S."""
    theta, x, t = problem(net, loss)
    draws = 4000
    exact = brute_force("exact", net, loss, theta, x, t)
    r = forward(net, theta, x)
    targets, p = all_targets(loss, r)
    u = target_scores(loss, r, targets)
    found = made("mc", net, loss, theta, np.repeat(x, draws, axis=0), t)
    for layer, (A, S, _), (_, a, rest) in zip(found, exact, pre_activations(net, theta, x), strict=True):
        delta = np.einsum("kno,noi->kni", u, sample_jacobians(rest, a))
        second = np.einsum("kn,kni,knj->nij", p, delta**2, delta**2)  # three nodes know fourth moments
        mean = np.einsum("kn,kni,knj->nij", p, delta, delta)
        sigma = np.sqrt(np.maximum(second - mean**2, 0).sum(axis=0)) / N
        assert (abs(host(layer.S) - S) <= 6 * sigma / np.sqrt(draws) + 1e-12).all()
        assert abs(host(layer.S) - S).max() > 1e-6  # it is a sample
        close(layer.A, A, rtol=1e-10)


def test_kinds_differ():
    args = (*CASES["Bernoulli"], *problem(*CASES["Bernoulli"]))
    exact, empirical = made("exact", *args)[0].S, made("empirical", *args)[0].S
    assert abs(host(exact) - host(empirical)).max() > 0.1 * abs(host(exact)).max()


# --- George's equations -----------------------------------------------------------------------------------


@each_case
def test_george_equation_3_3_1_the_jacobian_of_a_layer_is_a_kronecker_product(net, loss):
    """For one sample, J_theta = (h 1)' kron J_a. Printed for columns: ours is the vec by rows of W (in + 1, out)."""
    theta, x, _ = problem(net, loss)
    dense = host(Objective(net, loss).linearize(dev(theta), dev(x))[1].dense()).reshape(N, -1, theta.size)
    layers = zip(pre_activations(net, theta, x), net.layout.slices.values(), strict=True)
    for (h, a, rest), where in layers:
        for n, (row, J_a) in enumerate(zip(h_one(h), sample_jacobians(rest, a), strict=True)):
            close(dense[n][:, where], np.kron(row[None], J_a), rtol=1e-10)


@each_case
@pytest.mark.parametrize("kind", ["exact", "empirical"])
def test_george_equation_3_3_2_a_block_is_the_mean_of_kronecker_products(net, loss, kind):
    """E[(h 1)(h 1)' kron J_a' M J_a] are the diagonal blocks of G = J' M J, formed by products with G."""
    theta, x, t = problem(net, loss, n=4)
    z, batch = on_device(loss, theta, x, t)
    G = fisher(Objective(net, loss), z, batch if kind == "empirical" else batch[0], kind)
    expected = brute_force(kind, net, loss, theta, x, t)
    for block, (_, _, true) in zip(block_diagonal(G, net.layout).blocks, expected, strict=True):
        close(block.dense(), true, rtol=1e-10)


def test_george_3_5_1_the_jacobian_is_the_outputs_in_the_pre_activation():
    """S = E[J_a' D J_a] with J_a = dy/da, where da/dy is printed. For a sigmoid, D = 1 / (y (1 - y)): S = y (1 - y)."""
    net, loss = mlp([3, 2]), Bernoulli()
    theta, x, t = problem(net, loss, n=5)
    y = 1 / (1 + np.exp(-forward(net, theta, x)))
    S = np.diag(host(made("exact", net, loss, theta, x, t)[0].S))
    close(S, (y * (1 - y)).mean(axis=0))
    assert ((1 / (y * (1 - y)) ** 3).mean(axis=0) > 60 * S).all()


def test_george_3_5_1_a_factor_may_be_singular():
    """Softmax does not see what is added to all its inputs: S of the last layer has no inverse without damping."""
    net, loss = CASES["Categorical"]
    last = made("exact", net, loss, *problem(net, loss, n=20))[-1]
    close(last.S @ dev(np.ones(4)), np.zeros(4), atol=1e-15)
    with pytest.raises(ArithmeticError, match="is not positive definite"):
        Kronecker(Matrix(last.A), Matrix(last.S)).inverse()
    lam_A, lam_S = factored_damping(last.A, last.S, 1e-3)
    inverse = Kronecker(shifted(last.A, lam_A), shifted(last.S, lam_S)).inverse()
    exact = last.block.eigen().damped_inverse(1e-3)
    assert np.linalg.norm(host(inverse.dense() - exact.dense())) > 0.1 * np.linalg.norm(host(exact.dense()))


# --- where A kron S is the block itself -------------------------------------------------------------------


def assert_exact(net, loss, theta, x, t, kind, differ=False):
    """A kron S against the true block of every layer."""
    expected = brute_force(kind, net, loss, theta, x, t)
    for layer, (_, _, true) in zip(made(kind, net, loss, theta, x, t), expected, strict=True):
        gap = np.linalg.norm(host(layer.block.dense()) - true) / np.linalg.norm(true)
        assert gap > 1e-2 if differ else gap < 1e-10


@each_case
@pytest.mark.parametrize("kind", ["exact", "empirical"])
def test_exact_for_one_sample(net, loss, kind):
    assert_exact(net, loss, *problem(net, loss, n=1), kind)


@pytest.mark.parametrize("sizes", [[4, 3], [4, 3, 2], [3, 4, 2, 3]])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_exact_for_linear_nets_with_squared_error(sizes, beta):
    """However deep: J_a is a product of weights and M = I / beta^2, neither of which depends on the sample."""
    net, loss = mlp(sizes, activation="linear"), Gaussian(beta)
    assert_exact(net, loss, *problem(net, loss, n=6), "exact")


@pytest.mark.parametrize("loss", [Bernoulli(), Categorical()], ids=["Bernoulli", "Categorical"])
def test_not_exact_for_linear_nets_where_the_metric_depends_on_the_output(loss):
    net = mlp([3, 4, 3], activation="linear")
    assert_exact(net, loss, *problem(net, loss, n=6), "exact", differ=True)


def test_not_exact_for_linear_nets_with_the_empirical_fisher():
    """The residual depends on the sample."""
    net = mlp([3, 4, 3], activation="linear")
    assert_exact(net, Gaussian(), *problem(net, Gaussian(), n=6), "empirical", differ=True)


def test_exact_for_the_last_layer_alone_with_squared_error():
    """There J_a = I, whatever lies below; the layers below it are factored only in approximation."""
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss, n=6)
    (_, _, first), (_, _, last) = brute_force("exact", net, loss, theta, x, t)
    found = [host(layer.block.dense()) for layer in made("exact", net, loss, theta, x, t)]
    close(found[1], last, rtol=1e-10)
    assert np.linalg.norm(found[0] - first) > 1e-2 * np.linalg.norm(first)


# --- moments of inputs ------------------------------------------------------------------------------------


@each_case
def test_input_moments(net, loss, device):
    theta, x, _ = problem(net, loss, n=6)
    _, J = Objective(net, loss).linearize(dev(theta), dev(x))
    found = input_moments(J)
    for layer, (h, _, _), where in zip(found, pre_activations(net, theta, x), net.layout.slices.values(), strict=True):
        assert slice(*layer.span) == where
        close(layer.second, h.T @ h / 6)
        close(layer.mean, h.mean(axis=0))
        close(layer.covariance, np.cov(h.T, bias=True), rtol=1e-10)
        close(input_means(J)[layer.name], h.mean(axis=0))
    assert [layer.name for layer in found] == list(net.layout.names)


def test_covariance():
    m = Moments("a", (0, 6), dev([[5.0, 2.0], [2.0, 3.0]]), dev([2.0, -1.0]))
    close(m.covariance, [[1.0, 4.0], [4.0, 2.0]])


def test_inputs_need_no_sweep():
    net, loss = CASES["Categorical, two layers"]
    theta, x, _ = problem(net, loss)
    _, J = Objective(net, loss).linearize(dev(theta), dev(x))
    J.sweep = None
    assert [layer.second.shape for layer in input_moments(J)] == [(3, 3), (4, 4), (4, 4)]


# --- sweeps and slices ------------------------------------------------------------------------------------


@each_case
def test_a_sweep_for_each_cotangent(net, loss):
    """Their mean, whatever the cotangents are."""
    theta, x, _ = problem(net, loss)
    _, J = Objective(net, loss).linearize(dev(theta), dev(x))
    u = np.random.default_rng(2).standard_normal((3, N, net.sizes[-1]))
    for count in (1, 2, 3):
        deltas = [[host(layer.delta) for layer in affine_layers(J, dev(one))] for one in u[:count]]
        for layer, delta in zip(factors_of(J, [dev(one) for one in u[:count]]), zip(*deltas, strict=True), strict=True):
            delta = np.concatenate(delta)
            close(layer.S, delta.T @ delta / len(delta))


@pytest.mark.parametrize(("kind", "sweeps"), [("exact", 4), ("mc", 2), ("empirical", 1)])
def test_how_many_sweeps_a_kind_needs(kind, sweeps):
    """One an output, one a draw, one."""
    net, loss = CASES["Categorical"]
    theta, (x, t) = on_device(loss, *problem(net, loss))
    r, _ = Objective(net, loss).linearize(theta, x)
    options = {"rng": np.random.default_rng(0), "samples": 2} if kind == "mc" else {}
    assert len(scores(loss, r, t, kind, **options)) == sweeps
    assert len(scores(loss, r, kind="mc", rng=np.random.default_rng(0))) == 1


@host_only
@each_case
@each_kind
def test_slices_on_threads_change_nothing(net, loss, kind, monkeypatch):
    theta, x, t = problem(net, loss, n=5)
    whole = made(kind, net, loss, theta, x, t)
    cut_into_two_slices(monkeypatch)
    _, J = Objective(net, loss).linearize(theta, x)
    assert len(J.parts) == 2
    sliced = made(kind, net, loss, theta, x, t)
    for one, other in zip(sliced, whole, strict=True):
        assert (one.name, one.span) == (other.name, other.span)
        close(one.A, other.A)
        close(one.S, other.S)
        np.testing.assert_array_equal(one.A, one.A.T)
        np.testing.assert_array_equal(one.S, one.S.T)
    for one, (h, _, _) in zip(input_moments(J), pre_activations(net, theta, x), strict=True):
        close(one.second, h.T @ h / 5)
        close(one.mean, h.mean(axis=0))


@each_kind
def test_float32_stays_float32(kind):
    """Good to 1e-5, which float32 sums of a few products of numbers near 1 are."""
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    narrow, wide = (made(kind, net, loss, theta, x, t, dtype) for dtype in ("float32", "float64"))
    for one, other in zip(narrow, wide, strict=True):
        assert {one.A.dtype, one.S.dtype, one.block.dtype} == {np.dtype("float32")}
        close(one.A, other.A, rtol=1e-5)
        if kind != "mc":  # float32 draws are others
            close(one.S, other.S, rtol=1e-5)


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "function", "why"), REFUSALS.values(), ids=REFUSALS)
def test_nets_that_are_not_made_of_affine_layers(layout, function, why):
    net = Refused(layout, function)
    rng = np.random.default_rng(0)
    theta, x = dev(rng.standard_normal(net.layout.size)), dev(rng.standard_normal((3, 2)))
    with pytest.raises(NotImplementedError, match=f"each parameter must be one affine layer's matrix; {why}"):
        kronecker_factors(Objective(net, Gaussian()), theta, x)


def test_a_net_without_an_affine_layer():
    class Line:
        layout = Layout({"w": (1, 2)})

        def apply(self, theta, x):
            return x.reshape(-1, 1) * self.layout.views(theta)["w"]

    with pytest.raises(NotImplementedError, match="one affine layer's matrix; 'w' is used by multiply"):
        kronecker_factors(Objective(Line(), Gaussian()), dev([1.0, 2.0]), dev([1.0, 2.0, 3.0]))


generator = np.random.default_rng
ERRORS = {
    "unknown kind": (lambda x, t: (x, {"kind": "exakt"}), ValueError, "did you mean 'exact'"),
    "mc without rng": (lambda x, t: (x, dict(kind="mc")), ValueError, "mc needs an rng and samples >= 1, got rng=None"),
    "no samples": (lambda x, t: (x, dict(kind="mc", rng=generator(0), samples=0)), ValueError, "samples=0"),
    "batch for exact": (lambda x, t: ((x, t), {}), TypeError, "x must be an array of the active backend, got tuple"),
    "inputs for empirical": (lambda x, t: (x, dict(kind="empirical")), TypeError, r"a batch is a pair \(x, t\), got "),
    "labels out of range": (lambda x, t: ((x, t + 4), dict(kind="empirical")), ValueError, "labels must lie in 0..3"),
    "empty": (lambda x, t: (x[:0], {}), ValueError, "empty batch"),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_input(call, error, message):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    data, options = call(dev(x), dev(t))
    with pytest.raises(error, match=message):
        kronecker_factors(Objective(net, loss), dev(theta), data, **options)
